"""The engine: requests → tokens → forwards → log-likelihoods. Knows tensors, not cells, not Snakemake.

    from ebbtide.scoring.engine import load_scorer, score_requests

`recipe` (the version of the maths) is lean; `engine` loads tables; `encoding` → `trie` → `walk` do the
work, and `padded` is the plain form of the same.
"""
