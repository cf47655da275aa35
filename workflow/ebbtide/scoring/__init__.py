"""The engine: requests → tokens → forward passes → log-likelihoods. Independent of cells and Snakemake.

    from ebbtide.scoring.engine import load_scorer, score_requests

text to tokens         tokenizer, encoding (requests), rolling (long documents)
back ends              scorer (protocol), model_scorer (with weights), fake (without)
tokens to chunks       trie (each unique token once), chunks (tokens of one forward pass)
chunks to scores       walk (chunk after chunk), head (hidden states → log-likelihoods), memory
models                 families + weights → decoder + attention; hugging_face (others); body (protocol)
new texts              generation (prompts → samples)
entry points           engine (requests), documents, rescore; padded is the simple reference
"""
