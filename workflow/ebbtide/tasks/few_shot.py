"""Few-shot examples before a prompt, drawn as in the Inverse Scaling Prize.

Shots are drawn without replacement from the distinct examples of the task, except those with the same prompt.
A shot is a prompt followed by its answer, and a separator follows each shot. The draw depends on the seed,
the prompt and the set of examples, but not on the order or the repetition of rows in the file.

With `same`, one draw precedes all prompts, as in Ganguli et al. (2022). Examples with the prompt of a shot
are then not asked, because their answer stands above them.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.corpus.draw import Draw
from ebbtide.errors import ConfigError
from ebbtide.files import file_sha256
from ebbtide.tasks.kinds import Kind
from ebbtide.tasks.render import BadRow


@dataclass(frozen=True, order=True)
class Shot:
    """An example with its answer: `text`, which the model reads. `prompt` identifies the example."""

    prompt: str
    text: str


class Shots:
    """The pool of examples from which shots are drawn, for each prompt, or once for all (`same`)."""

    def __init__(
        self, shots: Sequence[Shot], k: int, separator: str, seed: int, *, same: bool = False
    ) -> None:
        self._pool = sorted(set(shots))
        self._with = Counter(shot.prompt for shot in self._pool)
        self._k, self._separator, self._seed = k, separator, seed
        self._same = self._for_all() if same else None

    def before(self, prompt: str) -> list[str]:
        """Return the texts before `prompt`: the shots, each followed by the separator.

        Raises `BadRow` if there are fewer than k other examples.
        """
        drawn = self._drawn(prompt) if self._same is None else self._same
        return [shot.text + self._separator for shot in drawn]

    def is_asked(self, prompt: str) -> bool:
        """Whether a prompt is asked: not if it is one of the shots that precede all."""
        return self._same is None or all(shot.prompt != prompt for shot in self._same)

    def _for_all(self) -> list[Shot]:
        if len(self._with) <= self._k:
            raise BadRow(
                f"few_shot.k is {self._k}, but there are only {len(self._with)} different prompts, of which "
                "one at least must be asked"
            )
        return Draw("few-shot", self._seed, "same").shuffled(self._pool)[: self._k]

    def _drawn(self, prompt: str) -> dict[Shot, None]:
        others = len(self._pool) - self._with[prompt]
        if others < self._k:
            raise BadRow(f"few_shot.k is {self._k}, but there are only {others} other examples to draw from")
        draw = Draw("few-shot", self._seed, hashlib.sha256(prompt.encode()).hexdigest())
        drawn: dict[Shot, None] = {}
        while len(drawn) < self._k:
            shot = draw.pick(self._pool)
            if shot.prompt != prompt:
                drawn[shot] = None
        return drawn


def check_few_shot(kind: Kind, few_shot: Mapping[str, Any], path: Path) -> None:
    """Raise `ConfigError` for the key `few_shot` of a definition that its schema cannot refuse."""
    ways = [key for key in ("k", "prefix", "prefix_file") if key in few_shot]
    if len(ways) != 1:
        found = " and ".join(ways) or "none of them"
        raise ConfigError(f"{path}: few_shot: found {found}; allowed: one of k, prefix, prefix_file.")
    if "same" in few_shot and ways != ["k"]:
        raise ConfigError(f"{path}: few_shot.same: only with few_shot.k.")
    if "prefix_sha256" in few_shot and ways != ["prefix_file"]:
        raise ConfigError(f"{path}: few_shot.prefix_sha256: only with few_shot.prefix_file.")
    if not kind.few_shot:
        raise ConfigError(
            f"{path}: few_shot: kind {kind.name!r} has no answers for few-shot examples; remove the key."
        )


def with_prefix(definition: dict[str, Any], path: Path) -> dict[str, Any]:
    """Replace the name of the prefix file by its text. Raises `ConfigError` for an unexpected file."""
    few_shot = dict(definition.get("few_shot", {}))
    if "prefix_file" not in few_shot:
        return definition
    file = path.parent / few_shot.pop("prefix_file")
    expected = few_shot.pop("prefix_sha256", None)
    if not file.is_file():
        wanted = f" with sha256 {expected}" if expected else ""
        raise ConfigError(
            f"{path}: few_shot.prefix_file: {file} does not exist; save the text{wanted} there."
        )
    if expected is not None and (found := file_sha256(file)) != expected:
        raise ConfigError(f"{path}: few_shot.prefix_file: {file} has sha256 {found}, expected {expected}.")
    try:
        few_shot["prefix"] = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: few_shot.prefix_file: {file} is not UTF-8 text: {error}.") from None
    return {**definition, "few_shot": few_shot}
