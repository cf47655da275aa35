"""Preparation `toy_ratings`: ratings of the toy language, for pairs that its corpus leaves out."""

from itertools import accumulate
from pathlib import Path

from ebbtide.corpus import World
from ebbtide.corpus.draw import Draw
from ebbtide.corpus.ratings import RATINGS, prompt_of, ratings_of
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, register
from ebbtide.tasks.rows import Rows


def rows_of(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return `count` rows: `user`, `item`, `prompt`, `rating`, and the predictions of baselines.

    These are `bayes`, the expected rating of the pair, which is the best prediction; `item_mean` and
    `global_mean`, the expected means of the ratings in the corpus.
    """
    del path, where
    ratings = ratings_of(World(**arguments["world"]))
    items, overall = ratings.item_means(), ratings.global_mean()
    draw = Draw("toy ratings", arguments["seed"])
    rows = []
    for _ in range(arguments["count"]):
        pair = draw.pick(ratings.held_out)
        rows.append(
            {
                "user": pair[0],
                "item": pair[1],
                "prompt": " ".join(prompt_of(pair)),
                "rating": RATINGS[draw.weighted(tuple(accumulate(ratings.chances[pair])))],
                "bayes": ratings.mean(pair),
                "item_mean": items[pair[1]],
                "global_mean": overall,
            }
        )
    return rows


TOY_RATINGS = register(
    Preparation(
        "toy_ratings",
        "ratings of the toy language, of pairs that its corpus leaves out; without a file",
        1,
        rows_of,
        arguments={
            "world": {
                "description": "Facts of the toy world; must equal the world of the corpus",
                "type": "object",
                "additionalProperties": False,
                "required": ["seed", "proverbs", "zipf"],
                "properties": {
                    "seed": {"description": "Seed", "type": "integer", "minimum": 0},
                    "proverbs": {"description": "Number of proverbs", "type": "integer", "minimum": 1},
                    "zipf": {"description": "Exponent of their frequencies", "type": "number", "minimum": 0},
                },
            },
            "count": {"description": "Number of ratings", "type": "integer", "minimum": 1},
            "seed": {"description": "Seed of the draw", "type": "integer", "minimum": 0, "default": 0},
        },
        required=("world", "count"),
        reads_file=False,
    )
)
