"""Shots before a prompt: other examples with their answers, as the Inverse Scaling Prize drew them.

Shots are drawn without replacement from the task's distinct examples, leaving out all with the prompt at
hand; prompt and answer of each are joined, and the shots, by a separator. The draw depends on the seed, the
prompt, and the set of examples: not on the order of the file, nor on how often an example occurs in it.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ebbtide.corpus.draw import Draw
from ebbtide.tasks.render import BadRow


@dataclass(frozen=True, order=True)
class Shot:
    """An example with its answer: `text` is what a model sees, and begins with `prompt`."""

    prompt: str
    text: str


class Shots:
    """The examples that shots are drawn from."""

    def __init__(self, shots: Sequence[Shot], k: int, separator: str, seed: int) -> None:
        self._pool = sorted(set(shots))
        self._with = Counter(shot.prompt for shot in self._pool)
        self._k, self._separator, self._seed = k, separator, seed

    def before(self, prompt: str) -> str:
        """The text before `prompt`: the shots, each followed by a separator.

        Raises `BadRow` if fewer than k other examples exist.
        """
        others = len(self._pool) - self._with[prompt]
        if others < self._k:
            raise BadRow(f"few_shot.k is {self._k}, but there are only {others} other examples to draw from")
        draw = Draw("few-shot", self._seed, hashlib.sha256(prompt.encode()).hexdigest())
        drawn: dict[Shot, None] = {}
        while len(drawn) < self._k:
            shot = draw.pick(self._pool)
            if shot.prompt != prompt:
                drawn[shot] = None
        return "".join(shot.text + self._separator for shot in drawn)
