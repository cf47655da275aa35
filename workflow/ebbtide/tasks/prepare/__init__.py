"""Preparations of data, one module each. Importing this package registers them.

preparation   rows
movielens     ratings of MovieLens to predict, with users and histories
sample        some rows of a file, drawn at random
addition      sums of two numbers, drawn at random, as questions and answers
toy_cases     cases of the toy language, with a known risk
compas        defendants, without names, and whether they were arrested again within two years
toxicity_prompts  prompts for generation, half of them toxic
toxicity_continuations  toxic and other continuations of toxic and other prompts
toy_remarks   prompts of the toy language before remarks
toy_said_remarks  remarks of the toy language, with many marked words and with few
toy_ratings   ratings of the toy language, of pairs that its corpus leaves out

A definition names one in `source.prepare`, in place of `source.format`, for data whose rows are not examples
as they are: several tables to join, a sample to draw, columns that must not go further. Rows of a preparation
are like those of a file: fields and templates read them.
"""

from ebbtide.tasks.prepare import (  # noqa: F401
    addition,
    compas,
    movielens,
    sample,
    toxicity_continuations,
    toxicity_prompts,
    toy_cases,
    toy_ratings,
    toy_remarks,
    toy_said_remarks,
)
from ebbtide.tasks.prepare.preparation import (
    PREPARATIONS,
    Preparation,
    identity_of,
    pinned_by,
    register,
    rows_of,
    with_arguments,
    with_preparations,
)

__all__ = [
    "PREPARATIONS",
    "Preparation",
    "identity_of",
    "pinned_by",
    "register",
    "rows_of",
    "with_arguments",
    "with_preparations",
]
