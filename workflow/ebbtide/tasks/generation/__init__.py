"""Tasks that generate: how texts are filtered, matched and measured, and the checks of a definition.

Texts are measured when they are generated, because they are not kept unless the definition says so.
"""

# Increment when the same definition, weights and prompts get other samples or measures. The identities of
# lm-eval's tasks have it only if the definition says `kind: generation`, because it is not known otherwise.
GENERATION_VERSION = 1
