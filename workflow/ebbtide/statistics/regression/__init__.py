"""Does an ability grow or ebb with size and training? One regression per task, over all cells.

Two forms of *Emergent inabilities?* (Michaelov & Bergen):

    standardised (final version)   z(y) ~ z(log10 N) * z(log10 D)
    raw (first version)              y  ~   log10 N  *   log10 D

N is the number of parameters, D of training tokens, z(x) = (x - mean) / sd; the interaction is the
product of the two predictors as they stand in the formula. Ordinary least squares, two-sided t tests
with (cells - 4) degrees of freedom. p is adjusted over all tests of the table: by Benjamini-Hochberg in the
final version, not at all in the first.

The t of the interaction is the same in both forms. The main effects of the raw form are the slopes
at N = 1 and D = 1, far outside the data: their sign says nothing about models of any size.
"""

from ebbtide.statistics.multiplicity import Adjust, adjusted
from ebbtide.statistics.regression.design import TERMS, Form, Size
from ebbtide.statistics.regression.fit import COLUMNS, regress
from ebbtide.statistics.regression.paper import as_tex, as_text, caption, paper_table
from ebbtide.statistics.regression.published import read_published, with_published
from ebbtide.statistics.regression.robustness import ROBUSTNESS_COLUMNS, robustness, surviving
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
    "surviving",
    "verdicts",
    "with_published",
]
