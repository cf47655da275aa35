"""The engine: requests → tokens → forwards → log-likelihoods. Knows tensors, not cells, not Snakemake.

    from ebbtide.scoring.engine import load_scorer, score_requests

texts to tokens        tokenizer, encoding (requests), rolling (long documents)
back ends              scorer (their protocol), model_scorer (with weights), fake (without)
tokens to work         trie (each unique token once), chunks (what is forwarded together)
work to numbers        walk (chunk after chunk), head (hidden states → log-likelihoods), memory
models                 families + weights → decoder + attention; hugging_face (others); body (what both are)
what is offered        engine (requests), documents, rescore; padded is the plain form
"""
