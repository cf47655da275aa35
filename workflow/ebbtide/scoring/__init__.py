"""The engine: requests → tokens → forwards → log-likelihoods. Knows tensors, not cells, not Snakemake."""

from ebbtide.scoring.engine import RECIPE_VERSION, Scored, Scorer, load_scorer, score_requests

__all__ = ["RECIPE_VERSION", "Scored", "Scorer", "load_scorer", "score_requests"]
