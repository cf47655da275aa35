"""Findings about single revisions in a lock: files that are missing, empty, pointers, or otherwise unusable.

They come from the listing of a revision and from the small files that were read when it was locked.
"""

from collections.abc import Iterator, Sequence

from ebbtide.checkpoints.findings import Finding
from ebbtide.checkpoints.hub.catalogue import HubModel, Wanted
from ebbtide.checkpoints.hub.lock import CONFIG, INDICES, SHARD, Index, Lock, Locked
from ebbtide.notices import listed

FORMATS = ("safetensors", "bin")
_SHOWN = 3  # missing shards in a sentence
_SLACK = 1 << 20  # bytes of a file that are not tensors: header and padding
_SLACK_SHARE = 0.02  # of all tensors


def finding(kind: str, model: HubModel, wanted: Sequence[Wanted], detail: str, **more: str) -> Finding:
    """A finding about these checkpoints of a model, without severity and action."""
    checkpoints = tuple(w.name for w in wanted)
    return Finding(kind, model.name, checkpoints, tuple(w.step for w in wanted), detail, **more)


def locked_of(wanted: Wanted) -> Locked:
    """The lock's entry of a checkpoint that has one."""
    if wanted.locked is None:
        raise ValueError(f"{wanted.name} is not locked")
    return wanted.locked


def incomplete(model: HubModel, there: Sequence[Wanted], lock: Lock) -> Iterator[Finding]:
    """Find revisions that cannot be loaded."""
    bare = [w for w in there if not locked_of(w).weights(model.format)]
    if bare:
        others = sorted({f for w in bare for f in FORMATS if locked_of(w).weights(f)})
        detail = f"no {model.format} weights under their usual names in the top directory; "
        detail += f"available: {' and '.join(others) or 'none'}"
        yield finding("no_weights", model, bare, detail)
    for w in there:
        if faults := list(_faults(locked_of(w), lock, model.format)):
            yield finding("incomplete", model, [w], "; ".join(faults))
    without = [w for w in there if "tokenizer.json" not in locked_of(w).files]
    if without:
        yield finding("no_tokenizer", model, without, "the revision has no tokenizer.json")


def index_disagrees(model: HubModel, there: Sequence[Wanted], lock: Lock) -> Iterator[Finding]:
    """Find indices of weights that do not fit the files beside them."""
    unnamed: list[tuple[Wanted, str]] = []
    sizes: list[tuple[Wanted, str]] = []
    for w in there:
        locked = locked_of(w)
        index, names = lock.index(locked, model.format), locked.weights(model.format)
        if index is None or not index.files or not _is_sharded(names):
            continue
        if extra := [name for name in names if name not in index.files]:
            unnamed.append(
                (w, f"{INDICES[model.format]} does not name {listed(extra)}, so loading ignores it")
            )
        if detail := _size_difference(locked, index, model.format):
            sizes.append((w, detail))
    for found in (unnamed, sizes):
        if found:
            first, detail = found[0]
            detail += f" (at {first.name})" if len(found) > 1 else ""
            yield finding("index_disagrees", model, [w for w, _ in found], detail)


def _faults(locked: Locked, lock: Lock, format: str) -> Iterator[str]:
    """Yield the reasons why a revision cannot be loaded, as parts of a sentence."""
    weights, files = locked.weights(format), locked.files
    beside = [CONFIG, *([INDICES[format]] if _is_sharded(weights) else [])]
    lacks = [*_lacking_shards(weights), *(name for name in beside if name not in files)]
    index = lock.index(locked, format) if _is_sharded(weights) else None
    if lacks:
        yield f"the revision lacks {', '.join(lacks)}"
    elif index and (missing := [name for name in index.files if name not in files]):
        yield f"{INDICES[format]} names {listed(missing)}, which the revision lacks"
    needed = locked.needed(format)
    pointers = [name for name in needed if lock.pointers.get(files[name].digest)]
    for name in pointers:
        yield f"{name} is a pointer of Git LFS ({files[name].size} bytes) instead of the file"
    if empty := [name for name in needed if not files[name].size]:
        yield f"{listed(empty)} {'is' if len(empty) == 1 else 'are'} empty"
    if index and not index.files and not {INDICES[format]} & {*pointers, *empty}:
        yield f"{INDICES[format]} is not an index of weights"
    unread = CONFIG not in {*pointers, *empty} and CONFIG in files
    if unread and lock.configs.get(files[CONFIG].digest) == {}:
        yield f"{CONFIG} is not the configuration of a model"
    for same in _equal_files(locked, weights):
        yield f"{' and '.join(same)} have the same bytes, so the tensors of one of them are missing"


def _is_sharded(names: Sequence[str]) -> bool:
    return any(match and match["of"] for match in map(SHARD.fullmatch, names))


def _lacking_shards(names: Sequence[str]) -> Iterator[str]:
    """Yield the shards that are missing according to the numbering of the others."""
    parts = [match for name in names if (match := SHARD.fullmatch(name)) and match["of"]]
    for stem, of in sorted({(m["stem"], m["of"]) for m in parts}):
        have = {int(m["number"]) for m in parts if (m["stem"], m["of"]) == (stem, of)}
        lacking = [number for number in range(1, int(of) + 1) if number not in have]
        yield from (f"shard {number} of {int(of)}" for number in lacking[:_SHOWN])
        if len(lacking) > _SHOWN:
            yield f"{len(lacking) - _SHOWN} more shards"


def _equal_files(locked: Locked, names: Sequence[str]) -> list[list[str]]:
    """Groups of weight files of one revision with the same bytes."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(locked.files[name].digest, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _size_difference(locked: Locked, index: Index, format: str) -> str:
    """How the size that an index states differs from that of the files that it names; empty if it fits."""
    held = [locked.files[name].size for name in index.files if name in locked.files]
    if not index.total_size or len(held) < len(index.files):
        return ""
    total, stated = sum(held), index.total_size
    if stated <= total <= stated * (1 + _SLACK_SHARE) + _SLACK * len(held):
        return ""
    return f"{INDICES[format]} states {stated:,} bytes of tensors, but its files have {total:,} bytes"
