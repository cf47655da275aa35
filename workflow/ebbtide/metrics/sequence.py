"""Metrics of one continuation per example.

All examples have equal weight. `invert` replaces the loss by -log(1 - exp(-loss)), as in the Inverse Scaling
Prize.
"""

import numpy as np

from ebbtide.metrics.errors_of_means import EXPONENTIAL
from ebbtide.metrics.examples import Examples
from ebbtide.metrics.registry import metric


@metric("sequence", unit="nats", higher_is_better=False, main=True)
def sequence_loss(x: Examples) -> np.ndarray:
    """-lp of the whole continuation.

    Nats, 0 and above. Source: Inverse Scaling Prize, McKenzie et al. 2023. With `invert` it is infinite if
    the continuation is certain.
    """
    if not x.invert:
        return -x.lp
    lp = np.minimum(x.lp, 0.0)  # rounding may give a certain continuation a value above 0
    with np.errstate(divide="ignore"):
        improbable: np.ndarray = -np.log(-np.expm1(lp))
    return improbable


@metric("sequence", unit="nats per token", higher_is_better=False, needs=("tokens",))
def sequence_loss_per_token(x: Examples) -> np.ndarray:
    """Loss of the continuation / its tokens.

    Nats per token, 0 and above; the mean over examples is not weighted by length. Depends on the tokenizer.
    """
    loss: np.ndarray = sequence_loss(x) / x.column("tokens")
    return loss


@metric("sequence", unit="nats per byte", higher_is_better=False, needs=("bytes",))
def sequence_loss_per_byte(x: Examples) -> np.ndarray:
    """Loss of the continuation / its bytes in UTF-8.

    Nats per byte, 0 and above; the mean over examples is not weighted by length.
    """
    loss: np.ndarray = sequence_loss(x) / x.column("bytes")
    return loss


@metric("sequence", unit="", higher_is_better=False, harness="perplexity", transform=EXPONENTIAL)
def sequence_perplexity(x: Examples) -> np.ndarray:
    """exp of the mean loss, per continuation and not per token.

    1 and above. Source: the harness, for LAMBADA and other tasks of single continuations (perplexity).
    stderr: delta method; the harness bootstraps.
    """
    return sequence_loss(x)


@metric("sequence", unit="share", higher_is_better=True, harness="acc", needs=("greedy",))
def greedy_accuracy(x: Examples) -> np.ndarray:
    """1[every token of the continuation is the most probable one].

    Share, 0 to 1. Source: the harness (acc of tasks of single continuations).
    """
    greedy: np.ndarray = ((x.column("greedy") > 0) != x.invert).astype(float)
    return greedy


@metric("sequence", unit="share", higher_is_better=True, needs=("greedy", "stop_greedy"))
def greedy_exact_match(x: Examples) -> np.ndarray:
    """1[greedy generation would give exactly the completion]: it is greedy, and the model then stops.

    Share, 0 to 1, without generating: every token of the completion is the most probable one, and so is,
    after it, a token that begins with the field `stop` or ends the text. Needs the field `stop`. Differs from
    generation only if the model writes the same text in other tokens than the tokenizer.
    """
    exact = (x.column("greedy") > 0) & (x.column("stop_greedy") > 0)
    found: np.ndarray = (exact != x.invert).astype(float)
    return found
