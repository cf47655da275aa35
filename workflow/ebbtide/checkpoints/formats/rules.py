"""Maps: the YAML files that say which tensors of a source become which of a Hugging Face model.

See `workflow/schemas/map.schema.yaml` and docs/checkpoints.md; `mapping` applies them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ebbtide.checkpoints.formats.patterns import variables
from ebbtide.errors import ConfigError, nearest
from ebbtide.files import digest
from ebbtide.schema import catalogue_file, check, load_schema, read_yaml

CATALOGUE = Path(__file__).parents[3] / "formats"
IDENTITY = "huggingface"  # the map for names that are those of transformers already
RANKS = "ranks"  # a number of groups: that of the ranks of the source


@dataclass(frozen=True)
class Rule:
    """One rule: tensors of the source, tensors of the model, and how the latter are made.

    Attributes
    ----------
    families
        `model_type`s for which the rule applies; empty is all.
    transpose
        Whether the two axes of each source are exchanged first.
    axis
        Along which several sources are joined, or several targets are split.
    groups
        Number of groups in which parts take turns along the axis, as the heads of a fused QKV: a number, or a
        key of the configuration.
    ranks, ranks_axis
        Variable of `from` that numbers the ranks of tensor parallelism, and the axis along which they are
        joined; without the axis, ranks must be equal.
    stacked
        Variable of `to` that is the first axis of the source, which has a model's layers in one tensor.
    parts
        Number of equal parts of the source that are joined; 1: it is used as a whole.
    padded
        Whether the source may have more rows than the model, such as a padded vocabulary.
    rotary
        Number of heads (or a key) whose rows are pairs of neighbours, which become two halves: one for each
        target, or one for all.
    add
        A constant that is added to the values.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    families: tuple[str, ...] = ()
    transpose: bool = False
    axis: int = 0
    groups: int | str = 1
    ranks: str = ""
    ranks_axis: int | None = None
    stacked: str = ""
    parts: int = 1
    padded: bool = False
    rotary: int | str | tuple[int | str, ...] = 0
    add: float = 0.0


@dataclass(frozen=True)
class Map:
    """A map: prefixes that wrappers add to all names, names to ignore with the reason, and the rules."""

    file: str
    title: str
    wrappers: tuple[str, ...]
    ignored: Mapping[str, str]
    zeros: tuple[str, ...]  # targets that are zero if the source lacks them
    rules: tuple[Rule, ...]
    identity: str  # digest of what determines tensors

    @property
    def name(self) -> str:
        """Return the name of a map of the catalogue, or the path of another one."""
        path = Path(self.file)
        return path.stem if path.absolute().parent == CATALOGUE else self.file


def read_map(name: str, where: str) -> Map:
    """Read a map of `workflow/formats` by its name, or a file of one's own by its path.

    Raises `ConfigError` for an unknown name or key, or a rule that contradicts itself; `where` is the key.
    """
    file = catalogue_file(CATALOGUE, name, where)
    status = file.stat()
    return _read(file, (str(file.resolve()), status.st_mtime_ns, status.st_size))


@cache
def _read(file: Path, version: tuple[str, int, int]) -> Map:
    """The map in a file; every checkpoint of a row has the same one. `version` is that of the file."""
    del version
    content = check(read_yaml(file), load_schema("map"), str(file))
    rules = tuple(_rule(rule, f"{file}: tensors[{number}]") for number, rule in enumerate(content["tensors"]))
    relevant = {key: content[key] for key in ("wrappers", "ignore", "zeros", "tensors")}
    return Map(
        str(file),
        content["title"],
        tuple(content["wrappers"]),
        content["ignore"],
        tuple(content["zeros"]),
        rules,
        digest(relevant),
    )


def _rule(rule: Mapping[str, Any], where: str) -> Rule:
    sources, targets = _texts(rule["from"]), _texts(rule["to"])
    made = Rule(
        sources,
        targets,
        tuple(rule["families"]),
        rule["transpose"],
        rule["axis"],
        rule["groups"],
        rule.get("ranks", {}).get("over", ""),
        rule.get("ranks", {}).get("axis"),
        rule["stacked"],
        rule["parts"],
        rule["padded"],
        tuple(rule["rotary"]) if isinstance(rule["rotary"], list) else rule["rotary"],
        rule["add"],
    )
    if len(sources) > 1 and len(targets) > 1:
        raise ConfigError(f"{where}: found lists in both from and to; allowed: one of them is a list.")
    known = set.intersection(*(set(variables(text)) for text in targets))
    for text in sources:
        for variable in variables(text):
            if variable not in (*known, made.ranks):
                raise ConfigError(
                    f"{where}.from: found {{{variable}}} in {text!r}, which is not in each `to`"
                    f"{nearest(variable, sorted(known)) or '.'}"
                )
        for text_to in targets:
            lost = set(variables(text_to)) - set(variables(text)) - {made.stacked}
            if lost:
                raise ConfigError(f"{where}.to: found {{{min(lost)}}} in {text_to!r}, which `from` lacks.")
    if isinstance(made.rotary, tuple) and len(made.rotary) != len(targets):
        raise ConfigError(
            f"{where}.rotary: found a list of {len(made.rotary)}; allowed: one number, or {len(targets)}, "
            "one for each `to`."
        )
    if made.ranks and made.ranks not in variables(sources[0]):
        raise ConfigError(f"{where}.ranks.over: found {made.ranks!r}; allowed: a variable of `from`.")
    if made.stacked and (made.stacked not in known or made.stacked in variables(sources[0])):
        raise ConfigError(f"{where}.stacked: found {made.stacked!r}; allowed: a variable of `to` alone.")
    return made


def _texts(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
