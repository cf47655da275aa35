"""Few-shot examples before a prompt, drawn as in the Inverse Scaling Prize.

Shots are drawn without replacement from the distinct examples of the task, except those with the same prompt.
A shot is a prompt followed by its answer, and a separator follows each shot. The draw depends on the seed,
the prompt and the set of examples, but not on the order or the repetition of rows in the file.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ebbtide.corpus.draw import Draw
from ebbtide.tasks.render import BadRow


@dataclass(frozen=True, order=True)
class Shot:
    """An example with its answer. `text`, which the model reads, begins with `prompt`."""

    prompt: str
    text: str


class Shots:
    """The pool of examples from which shots are drawn."""

    def __init__(self, shots: Sequence[Shot], k: int, separator: str, seed: int) -> None:
        self._pool = sorted(set(shots))
        self._with = Counter(shot.prompt for shot in self._pool)
        self._k, self._separator, self._seed = k, separator, seed

    def before(self, prompt: str) -> str:
        """Return the text before `prompt`: the shots, each followed by the separator.

        Raises `BadRow` if there are fewer than k other examples.
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
