"""Regressions of a metric on model size and training tokens: one per task, over all cells.

Two forms, both from *Emergent inabilities?* (Michaelov & Bergen):

    standardised (final version)   z(y) ~ z(log10 N) * z(log10 D)
    raw (first version)              y  ~   log10 N  *   log10 D

N is the number of parameters, D the number of training tokens, and z(x) = (x - mean) / sd. The interaction is
the product of the two predictors of the formula. Ordinary least squares, two-sided t tests with (cells - 4)
degrees of freedom. p is adjusted over all tests of the table: by Benjamini-Hochberg in the final version of
the paper, not at all in the first.

The interaction has the same t in both forms. The main effects of the raw form are slopes at N = 1 and D = 1,
far outside the data, so their signs are not interpretable.
"""

from ebbtide.statistics.multiplicity import Adjust, adjusted
from ebbtide.statistics.regression.design import TERMS, Form, Size
from ebbtide.statistics.regression.fit import COLUMNS, regress
from ebbtide.statistics.regression.paper import as_tex, as_text, caption, paper_table
from ebbtide.statistics.regression.published import read_published, with_published
from ebbtide.statistics.regression.robustness import ROBUSTNESS_COLUMNS, robustness, robustness_verdicts
from ebbtide.statistics.regression.verdicts import verdicts

__all__ = [
    "COLUMNS",
    "ROBUSTNESS_COLUMNS",
    "TERMS",
    "Adjust",
    "Form",
    "Size",
    "adjusted",
    "as_tex",
    "as_text",
    "caption",
    "paper_table",
    "read_published",
    "regress",
    "robustness",
    "robustness_verdicts",
    "verdicts",
    "with_published",
]
