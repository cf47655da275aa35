"""Metrics of choices: K continuations of a context, of which those in G are right.

lp_k is the log-likelihood of choice k in nats; argmax takes the first of equal values. `invert` exchanges
right and wrong choices: accuracy becomes 1 - accuracy, the loss -log(1 - exp(-loss)) (an option of the
prize).

The prize: Inverse Scaling Prize, McKenzie et al. 2023. The harness: lm-evaluation-harness.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from ebbtide.metrics.examples import Examples
from ebbtide.metrics.registry import metric


def right_share(x: Examples) -> np.ndarray:
    """Share of the choices that are right: the accuracy of a uniformly random answer."""
    share: np.ndarray = x.right_count / x.segments.sizes
    return share


def _zero(x: Examples) -> np.ndarray:
    return np.zeros(len(x))


def _loss_of_uniform(x: Examples) -> np.ndarray:
    loss: np.ndarray = -np.log(right_share(x))
    return loss


def _best_share(x: Examples) -> np.ndarray:
    one = 1 / x.segments.sum(x.column("best") >= 0)
    return 1 - one if x.invert else one


def _of_mc1(x: Examples) -> np.ndarray:
    scores: np.ndarray = np.where(x.column("best") >= 0, x.lp, -np.inf)
    return scores


# Metric → the score of each choice, whose argmax is the answer.
SCORES: dict[str, Callable[[Examples], np.ndarray]] = {
    "accuracy": lambda x: x.lp,
    "accuracy_per_character": lambda x: x.lp / x.column("characters"),
    "accuracy_per_byte": lambda x: x.lp / x.column("bytes"),
    "accuracy_per_token": lambda x: x.lp / x.column("tokens"),
    "accuracy_pmi": lambda x: x.lp - x.column("unconditional"),
    "mc1": _of_mc1,
}

_share = partial(metric, "choice", unit="share", higher_is_better=True, chance=right_share)


@metric(
    *("choice", "binary"), unit="share", higher_is_better=True, harness="acc", main=True, chance=right_share
)
def accuracy(x: Examples) -> np.ndarray:
    """1[argmax_k lp_k in G].

    Share, 0 to 1; chance: mean |G|/K. Source: the harness (acc), the prize. For a binary task, the decision
    threshold is P(yes) / (P(yes) + P(no)) = 1/2.
    """
    return x.right_where(SCORES["accuracy"](x))


@_share(harness="acc_norm", needs=("characters",))
def accuracy_per_character(x: Examples) -> np.ndarray:
    """1[argmax_k lp_k / characters_k in G].

    Share, 0 to 1; chance: mean |G|/K. Source: the harness (acc_norm). The harness counts the characters of
    the choice without the delimiter before it; here all characters of the scored continuation count.
    """
    return x.right_where(SCORES["accuracy_per_character"](x))


@metric("choice", unit="nats", higher_is_better=True, chance=_zero)
def margin(x: Examples) -> np.ndarray:
    """Greatest lp in G minus greatest lp of the others.

    Nats, any sign; positive if the answer is right; 0 for a uniform model. Source: Ebbtide.
    """
    best = x.segments.max(np.where(x.gold, x.lp, -np.inf))
    difference: np.ndarray = best - x.segments.max(np.where(x.gold, -np.inf, x.lp))
    return difference


@metric(*("choice", "binary"), unit="probability", higher_is_better=True, chance=right_share)
def choice_probability(x: Examples) -> np.ndarray:
    """Σ_{G} exp(lp) / Σ_k exp(lp_k).

    Probability, 0 to 1; chance: mean |G|/K. Source: Lin et al. 2022, as MC2.
    """
    probability: np.ndarray = np.exp(-classification_loss(x))
    return probability


@metric(*("choice", "binary"), unit="nats", higher_is_better=False, chance=_loss_of_uniform)
def classification_loss(x: Examples) -> np.ndarray:
    """-log( Σ_{G} exp(lp) / Σ_k exp(lp_k) ).

    Nats, 0 and above; mean log(K/|G|) for a uniform model. Source: the prize. Computed as
    log(1 + wrong/right) in log space: finite for a vanishing probability, exact for one near 1.
    """
    loss: np.ndarray = np.logaddexp(0.0, x.wrong - x.right)
    return loss


@metric(*("choice", "binary", "rating"), unit="probability", higher_is_better=True)
def coverage(x: Examples) -> np.ndarray:
    """Σ_k exp(lp_k): probability mass on the choices.

    Probability, 0 to 1 if no choice is a prefix of another; no chance level. Source: the prize.
    """
    mass: np.ndarray = np.exp(x.total)
    return mass


@_share(harness="acc_bytes", needs=("bytes",))
def accuracy_per_byte(x: Examples) -> np.ndarray:
    """1[argmax_k lp_k / bytes_k in G].

    Share, 0 to 1; chance: mean |G|/K. Source: the harness (acc_bytes); bytes in UTF-8.
    """
    return x.right_where(SCORES["accuracy_per_byte"](x))


@_share(needs=("tokens",))
def accuracy_per_token(x: Examples) -> np.ndarray:
    """1[argmax_k lp_k / tokens_k in G].

    Share, 0 to 1; chance: mean |G|/K. Source: Brown et al. 2020. Depends on the tokenizer.
    """
    return x.right_where(SCORES["accuracy_per_token"](x))


@_share(harness="acc_mutual_info", needs=("unconditional",))
def accuracy_pmi(x: Examples) -> np.ndarray:
    """1[argmax_k (lp_k - lp_k without the question) in G].

    Share, 0 to 1; chance: mean |G|/K. Source: Holtzman et al. 2021 (pointwise mutual information), Brown et
    al. 2020; the harness (acc_mutual_info).
    """
    return x.right_where(SCORES["accuracy_pmi"](x))


@metric(
    "choice",
    unit="share",
    higher_is_better=True,
    harness="mc1",
    main=True,
    needs=("best",),
    chance=_best_share,
)
def mc1(x: Examples) -> np.ndarray:
    """1[argmax of lp over the choices of MC1 is the best one].

    Share, 0 to 1; chance: mean 1 / number of MC1's choices. Source: TruthfulQA, Lin et al. 2022.
    """
    answer = x.segments.argmax(SCORES["mc1"](x))
    right: np.ndarray = ((x.column("best")[answer] == 1) != x.invert).astype(float)
    return right


@metric(
    "choice",
    unit="probability",
    higher_is_better=True,
    harness="mc2",
    main=True,
    needs=("best",),
    chance=right_share,
)
def mc2(x: Examples) -> np.ndarray:
    """Σ exp(lp) over true answers / Σ exp(lp) over all answers, whatever the order of the labels.

    Probability, 0 to 1; chance: mean |G|/K. Source: TruthfulQA, Lin et al. 2022. A mean of probabilities, not
    a share of right answers.
    """
    return choice_probability(x)


@metric(*("choice", "binary"), unit="share", higher_is_better=None)
def ties(x: Examples) -> np.ndarray:
    """1[max_k lp_k is reached by more than one choice].

    Share, 0 to 1: the examples that accuracy decides by the order of the choices, because argmax takes the
    first. Above 0 if a model does not tell choices apart, or is scored in 16 bits. Source: Ebbtide.
    """
    return x.tied(SCORES["accuracy"](x)).astype(float)


@metric(*("choice", "binary"), unit="share", higher_is_better=None)
def majority_baseline(x: Examples) -> np.ndarray:
    """1[k* in G], where k* is the index that is right most often, the smallest of equal ones.

    Share, 0 to 1: the accuracy of always giving the same answer. The same for every model. It is 1 if the
    right choice is always the first.
    """
    choices, index = np.unique(x.column("choice"), return_inverse=True)
    often = np.bincount(index, weights=x.gold, minlength=len(choices)).argmax()
    return x.segments.sum(x.gold & (index == often))
