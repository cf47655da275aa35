"""Generation by vLLM, an optional package: its batches and cache, but our own choice of every token.

before it is loaded    package (versions, environment)
weights to an engine   load, engine (arguments, steps)
logits to tokens       choice (a logits processor)
tokens to results      samples (generation), prompt_scores (texts of the load proof), scorer (both)
"""
