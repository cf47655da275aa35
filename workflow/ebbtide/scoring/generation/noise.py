"""Counter-based noise: the noise of a token depends on its prompt, sample, position and id alone.

Philox (Salmon et al. 2011) is a function from a key and a counter to random bits, so that no generator has a
state that a batch, an order or a restart could change. Only raw bits of NumPy are used, which it guarantees
across versions.
"""

import hashlib

import numpy as np

_BITS = 53  # of a uniform number; a float64 has as many


class Noise:
    """The noise of all samples of one prompt.

    Parameters
    ----------
    key
        16 bytes, of the prompt and its cell.
    seed
        Seed of the decoding.
    """

    def __init__(self, key: bytes, seed: int) -> None:
        mixed = hashlib.sha256(key + seed.to_bytes(8, "little")).digest()[:16]
        self._key = np.frombuffer(mixed, dtype="<u8").astype(np.uint64)

    def bits(self, sample: int, position: int, count: int) -> np.ndarray:
        """Random bits (n,) uint64 of the first n = `count` tokens at a position of a sample."""
        counter = np.array([0, position, sample, 0], dtype=np.uint64)
        bits: np.ndarray = np.random.Philox(key=self._key, counter=counter).random_raw(count)
        return bits


def uniforms(bits: np.ndarray) -> np.ndarray:
    """Uniform numbers of [0, 1), float64, from random bits."""
    found: np.ndarray = (bits >> np.uint64(64 - _BITS)) * 2.0**-_BITS
    return found


def gumbels(bits: np.ndarray) -> np.ndarray:
    """Standard Gumbel numbers from random bits; -inf from zero bits.

    The argmax of log p + Gumbel noise is distributed as p.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(-np.log(uniforms(bits))))
