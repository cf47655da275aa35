"""Two checkpoints on the same examples: p of the change, exact or nearly so far into the tails.

Both tests ask how likely the change would be if each example (or cluster) were as likely to have its two
values the other way round. Both count half of the probability of what was observed (mid-p): the exact test of
0/1 values rejects too seldom, since few discordant pairs have few possible outcomes.
"""

import numpy as np
from scipy.special import gammaln, log_ndtr

SMALLEST = float(np.finfo(float).tiny)  # p below it, 2e-308, are reported as this
ENUMERATED = 12  # terms whose signs are all tried: 4096 patterns
_STEPS = 100


def mcnemar(lost: np.ndarray, gained: np.ndarray) -> np.ndarray:
    """Two-sided mid-p of McNemar's test, for many pairs at once.

    Of m = lost + gained discordant examples the lost are Binomial(m, 1/2) if nothing changed; with k the
    smaller count, p = 2 P(X < k) + P(X = k). Fagerland, Lydersen & Laake (2013), BMC Medical Research
    Methodology 13:91.

    Parameters
    ----------
    lost, gained
        Examples that went from right to wrong, and from wrong to right; whole numbers.
    """
    m = np.asarray(lost, float) + gained
    k = np.minimum(lost, gained).astype(float)
    log_mass = gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1) - m * np.log(2)
    # P(X ≤ k) / P(X = k) = 1 + k/(m-k+1) + k(k-1)/((m-k+1)(m-k+2)) + …; nothing underflows that way.
    term, total = np.ones_like(m), np.ones_like(m)
    j = 0
    while (going := (term > 1e-17 * total) & (k > j)).any():
        term = np.where(going, term * (k - j) / (m - k + 1 + j), 0.0)
        total += term
        j += 1
    p = np.exp(np.maximum(log_mass + np.log(2 * total - 1), np.log(SMALLEST)))
    return np.where(lost == gained, 1.0, np.minimum(p, 1.0))


def sign_flip(sums: np.ndarray) -> np.ndarray:
    """Two-sided mid-p of the paired permutation test, for many pairs of checkpoints at once.

    The statistic Σ_g d_g, under random signs of its terms. All patterns of signs are tried where up to
    `ENUMERATED` terms differ from 0, else the tail is approximated by its saddlepoint (Lugannani & Rice 1980,
    Advances in Applied Probability 12:475) with the cumulants K(θ) = Σ log cosh(θ d_g); the relative error is
    1 to 3 per cent as a rule, and up to a third where fewer than about twenty terms differ from 0.

    Parameters
    ----------
    sums
        (pairs, G): differences of examples, or their sums over clusters.
    """
    # Scaled, so that tolerances mean something; a row of zeros stays one.
    scale = np.abs(sums).max(axis=1, initial=0.0)
    scaled = sums / np.where(scale > 0, scale, 1.0)[:, None]
    few = np.count_nonzero(scaled, axis=1) <= ENUMERATED  # zeros have no sign
    p = np.empty(len(scaled))
    p[~few] = _saddlepoint(scaled[~few])
    # Zeros last: the few terms that count stand in the first columns.
    first = np.argsort(scaled[few] == 0, axis=1, kind="stable")[:, :ENUMERATED]
    p[few] = _enumerated(np.take_along_axis(scaled[few], first, axis=1))
    clipped: np.ndarray = np.clip(p, SMALLEST, 1.0)
    return clipped


def _enumerated(d: np.ndarray) -> np.ndarray:
    groups = d.shape[1]
    patterns = 1.0 - 2.0 * (np.arange(2**groups)[:, None] >> np.arange(groups) & 1)  # (2^G, G)
    null = np.abs(d @ patterns.T)
    observed = np.abs(d.sum(axis=1))[:, None]
    equal = np.abs(null - observed) < 1e-9
    p: np.ndarray = ((null > observed) & ~equal).mean(axis=1) + 0.5 * equal.mean(axis=1)
    return np.where(observed[:, 0] < 1e-9, 1.0, p)


def _saddlepoint(d: np.ndarray) -> np.ndarray:
    size = np.abs(d)
    s, most = np.abs(d.sum(axis=1)), size.sum(axis=1)
    p = np.ones(len(d))
    # All signs equal: one pattern of 2^m on each side, half of it counted.
    one_way = (s > most - 1e-9) & (most > 0)
    p[one_way] = np.exp2(-np.minimum((size[one_way] > 0).sum(axis=1), 1074))
    inner = (s > 1e-9) & ~one_way
    if inner.any():
        p[inner] = 2 * np.exp(_log_tail(size[inner], s[inner]))
    return p


def _log_tail(size: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Log of P(Σ ±d ≥ s), (pairs,)."""
    theta = s / (size**2).sum(axis=1)
    for _ in range(
        _STEPS
    ):  # K' is concave, and we start below the root: Newton's steps only ever go up to it
        slope = np.tanh(theta[:, None] * size)
        missing = s - (size * slope).sum(axis=1)
        curvature = (size**2 * (1 - slope**2)).sum(axis=1)
        step = missing / np.maximum(curvature, SMALLEST)
        if (np.abs(step) <= 1e-10 * theta).all():
            break
        theta += np.minimum(step, theta)  # at most doubled, where the curvature is all but gone
    x = theta[:, None] * size
    cumulants = (x + np.log1p(np.exp(-2 * x)) - np.log(2)).sum(axis=1)
    curvature = (size**2 / np.cosh(np.minimum(x, 300)) ** 2).sum(axis=1)
    w = np.sqrt(np.maximum(2 * (theta * s - cumulants), 0.0))
    u = theta * np.sqrt(curvature)
    far = w > 1e-3  # nearer to 0 the correction vanishes, and its two terms cancel
    w_far, u_far = np.where(far, w, 1.0), np.where(far, np.maximum(u, SMALLEST), 1.0)
    mills = np.exp(-0.5 * w_far**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(-w_far))
    correction = np.where(far, mills * (1 / u_far - 1 / w_far), 0.0)
    log_tail: np.ndarray = log_ndtr(-w) + np.log1p(correction)
    return log_tail
