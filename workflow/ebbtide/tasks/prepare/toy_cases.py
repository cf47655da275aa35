"""Preparation `toy_cases`: cases of the toy language (`corpus.cases`), drawn at random."""

from pathlib import Path

from ebbtide.corpus.cases import draw_case, risk
from ebbtide.corpus.draw import Draw
from ebbtide.tasks.prepare.preparation import Arguments, Preparation, register
from ebbtide.tasks.rows import Rows


def cases(path: Path, arguments: Arguments, where: str) -> Rows:
    """Return `count` cases: `group`, `words` (what is said of them), `repeats` (0, 1), `best` (yes, no).

    `best` is the answer of the best rule: yes if the risk is above ½.
    """
    del path, where
    draw = Draw("toy_cases", arguments["seed"])
    drawn = [draw_case(draw) for _ in range(arguments["count"])]
    return [
        {
            "group": one.group,
            "words": one.words,
            "repeats": int(one.repeats),
            "best": "yes" if risk(one.look, one.number) > 0.5 else "no",
        }
        for one in drawn
    ]


TOY_CASES = register(
    Preparation(
        "toy_cases",
        "cases of the toy language, with a known risk; without a file",
        1,
        cases,
        arguments={
            "count": {"description": "Number of cases", "type": "integer", "minimum": 1},
            "seed": {"description": "Seed of the draw", "type": "integer", "minimum": 0, "default": 0},
        },
        required=("count",),
        reads_file=False,
    )
)
