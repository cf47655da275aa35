"""Likelihood of the right choices: smooth metrics that move before accuracy does.

lp_k is the log-likelihood of choice k in nats, G the right choices among K. With several right choices, a
metric of the right choices alone is the mean of theirs, each with equal weight. `invert` exchanges right and
wrong choices. Lengths are those of the scored continuation.

OLMES: Gu et al. 2024 and its evaluation code. OLMo's in-loop evaluations: the metrics during OLMo's training.
DataDecide: Magnusson et al. 2025. The harness: lm-evaluation-harness 0.5.
"""

import numpy as np

from ebbtide.metrics.choice import right_share
from ebbtide.metrics.examples import LEADING_SPACE, Examples
from ebbtide.metrics.registry import metric


def _of_right(x: Examples, values: np.ndarray) -> np.ndarray:
    """Return the mean over the right choices of each example."""
    mean: np.ndarray = x.segments.sum(np.where(x.gold, values, 0.0)) / x.right_count
    return mean


def _share_of_right(x: Examples, score: np.ndarray) -> np.ndarray:
    """Return Σ_{G} exp(score) / Σ_k exp(score)."""
    odds = np.exp(score - x.segments.max(score)[x.segments.of])
    share: np.ndarray = x.segments.sum(np.where(x.gold, odds, 0.0)) / x.segments.sum(odds)
    return share


@metric("choice", unit="bits per byte", higher_is_better=False, harness="bpb", needs=("bytes",))
def gold_bits_per_byte(x: Examples) -> np.ndarray:
    """Mean over G of -lp_k / bytes_k / log 2.

    Bits per byte of UTF-8, 0 and above; a leading space counts. Source: OLMES (bits_per_byte_corr), OLMo's
    in-loop evaluations (bpb_v2), the harness (bpb). A mean over examples, as there; olmo-eval weights
    examples by their bytes.
    """
    return _of_right(x, -x.lp / x.column("bytes") / np.log(2))


@metric("choice", unit="bits per byte", higher_is_better=False, needs=("bytes", LEADING_SPACE))
def gold_bits_per_byte_without_space(x: Examples) -> np.ndarray:
    """Mean over G of -lp_k / max(bytes_k - 1[choice k begins with a space], 1) / log 2.

    Bits per byte of UTF-8, 0 and above. Only the length leaves out the space: its log-likelihood counts.
    Source: OLMo's in-loop evaluations (bpb_v1), which leave out the first character, whatever it is.
    """
    size = np.maximum(x.column("bytes") - x.column(LEADING_SPACE), 1)
    return _of_right(x, -x.lp / size / np.log(2))


@metric("choice", unit="probability", higher_is_better=True)
def gold_probability(x: Examples) -> np.ndarray:
    """Mean over G of exp(lp_k).

    Probability, 0 to 1; no chance level. Source: OLMES, DataDecide (correct_prob).
    """
    return _of_right(x, np.exp(x.lp))


@metric("choice", unit="probability", higher_is_better=True, needs=("characters",))
def gold_probability_per_character(x: Examples) -> np.ndarray:
    """Mean over G of exp(lp_k / characters_k).

    Probability, 0 to 1; no chance level. Source: DataDecide (correct_prob_per_char).
    """
    return _of_right(x, np.exp(x.lp / x.column("characters")))


@metric("choice", unit="probability", higher_is_better=True, needs=("bytes",))
def gold_probability_per_byte(x: Examples) -> np.ndarray:
    """Mean over G of exp(lp_k / bytes_k).

    Probability, 0 to 1; no chance level. As DataDecide's correct_prob_per_char, by bytes of UTF-8. For one
    right choice it is 2^-gold_bits_per_byte, example by example.
    """
    return _of_right(x, np.exp(x.lp / x.column("bytes")))


@metric("choice", unit="probability", higher_is_better=True, needs=("tokens",))
def gold_probability_per_token(x: Examples) -> np.ndarray:
    """Mean over G of exp(lp_k / tokens_k).

    Probability, 0 to 1; no chance level. Source: DataDecide (correct_prob_per_token). Depends on the
    tokenizer.
    """
    return _of_right(x, np.exp(x.lp / x.column("tokens")))


@metric("choice", unit="probability", higher_is_better=True, needs=("characters",), chance=right_share)
def choice_probability_per_character(x: Examples) -> np.ndarray:
    """Σ_{G} exp(lp_k / characters_k) / Σ_k exp(lp_k / characters_k).

    Probability, 0 to 1; chance: mean |G|/K. Source: DataDecide (norm_correct_prob_per_char).
    """
    return _share_of_right(x, x.lp / x.column("characters"))


@metric(
    "choice",
    unit="probability",
    higher_is_better=True,
    harness="choice_prob_norm",
    needs=("bytes",),
    chance=right_share,
)
def choice_probability_per_byte(x: Examples) -> np.ndarray:
    """Σ_{G} exp(lp_k / bytes_k) / Σ_k exp(lp_k / bytes_k).

    Probability, 0 to 1; chance: mean |G|/K. Source: the harness (choice_prob_norm).
    """
    return _share_of_right(x, x.lp / x.column("bytes"))


@metric("choice", unit="probability", higher_is_better=True, needs=("tokens",), chance=right_share)
def choice_probability_per_token(x: Examples) -> np.ndarray:
    """Σ_{G} exp(lp_k / tokens_k) / Σ_k exp(lp_k / tokens_k).

    Probability, 0 to 1; chance: mean |G|/K. Source: DataDecide (norm_correct_prob_per_token). Depends on the
    tokenizer.
    """
    return _share_of_right(x, x.lp / x.column("tokens"))


def _rank_of_uniform(x: Examples) -> np.ndarray:
    rank: np.ndarray = 1 + (x.segments.sizes - x.right_count) / (x.right_count + 1)
    return rank


@metric("choice", unit="rank", higher_is_better=False, chance=_rank_of_uniform)
def gold_rank(x: Examples) -> np.ndarray:
    """1 + the number of wrong choices with a greater lp than the best right one; ties in random order.

    1 and above, at most 1 + K - |G|: 1 if the answer is right. A tie of g right and w wrong choices adds
    w / (g + 1), its expectation. Chance: mean 1 + (K - |G|) / (|G| + 1), which is (K + 1)/2 for one right
    choice. Source: Ebbtide.
    """
    best = x.segments.max(np.where(x.gold, x.lp, -np.inf))[x.segments.of]
    tied = x.lp == best
    above, equal = x.segments.sum(x.lp > best), x.segments.sum(tied & ~x.gold)
    rank: np.ndarray = 1 + above + equal / (x.segments.sum(tied & x.gold) + 1)
    return rank
