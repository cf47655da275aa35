"""The files of a checkpoint that only the generation of texts reads: end tokens and the chat template.

Their identity is in the cells of generated texts only, so that they rescore nothing else. A lean module.
"""

from collections.abc import Mapping

from ebbtide.files import digest

TEMPLATE = "chat_template.jinja"  # beside the tokenizer
GENERATION = ("generation_config.json", TEMPLATE)


def generation_identity(digests: Mapping[str, str]) -> str:
    """Identity of such files from their digests by name; empty without files."""
    return digest(dict(digests)) if digests else ""
