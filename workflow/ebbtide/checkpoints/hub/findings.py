"""Findings about the hub checkpoints in a lock, one function per class (see `hub.audit`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

from ebbtide.checkpoints.findings import WARN, Finding
from ebbtide.checkpoints.hub.catalogue import HubModel, Wanted
from ebbtide.checkpoints.hub.lock import CONFIG, INDICES, MAIN, SHARD, Lock, Locked
from ebbtide.parameters import count

FORMATS = ("safetensors", "bin")

_IRRELEVANT_KEYS = {
    "transformers_version",
    "_name_or_path",
    "use_cache",
    "architectures",
}  # do not change numbers


def findings_of(model: HubModel, lock: Lock) -> Iterator[Finding]:
    """Yield all findings about the requested checkpoints of a model, without severity and action."""
    wanted = list(model.wanted(lock))
    there = [w for w in wanted if w.locked]
    yield from _missing(model, [w for w in wanted if w.locked is None and not w.offered])
    yield from _incomplete(model, there)
    for format in FORMATS:
        yield from _repeated(model, there, lock, format)
    yield from _dates(model, there)
    yield from _changes(model, there, lock)
    yield from _shape(model, there, lock)
    yield from _code(model, there, lock)
    yield from _moved(model, there)
    yield from _defects(model, there)


def _finding(finding: str, model: HubModel, wanted: Sequence[Wanted], detail: str, **more: str) -> Finding:
    checkpoints = tuple(w.name for w in wanted)
    return Finding(finding, model.name, checkpoints, tuple(w.step for w in wanted), detail, **more)


def _missing(model: HubModel, absent: Sequence[Wanted]) -> Iterator[Finding]:
    if absent:
        known = [w.step for w in absent if w.step in model.gaps]
        detail = f"{len(absent)} steps of the series have no branch or tag"
        detail += f" (known gaps: {' '.join(map(str, known))})" if known else ""
        yield _finding("missing", model, absent, detail)


def _incomplete(model: HubModel, there: Sequence[Wanted]) -> Iterator[Finding]:
    bare = [w for w in there if not _locked(w).weights(model.format)]
    if bare:
        others = sorted({f for w in bare for f in FORMATS if _locked(w).weights(f)})
        detail = f"no {model.format} weights; available: {' and '.join(others) or 'none'}"
        yield _finding("no_weights", model, bare, detail)
    for w in there:
        lacks = [*_lacking_shards(_locked(w).weights(model.format))]
        lacks += [n for n in _needed_beside(_locked(w), model.format) if n not in _locked(w).files]
        if lacks:
            yield _finding("incomplete", model, [w], f"the revision lacks {', '.join(lacks)}")
    without = [w for w in there if "tokenizer.json" not in _locked(w).files]
    if without:
        yield _finding("no_tokenizer", model, without, "the revision has no tokenizer.json")


def _needed_beside(locked: Locked, format: str) -> list[str]:
    """Files that loading needs in addition to the weights."""
    sharded = any(match and match["of"] for match in map(SHARD.fullmatch, locked.weights(format)))
    return [CONFIG, *([INDICES[format]] if sharded else [])]


def _lacking_shards(names: Sequence[str]) -> Iterator[str]:
    """Yield the shards that are missing according to the numbering of the others."""
    parts = [match for name in names if (match := SHARD.fullmatch(name)) and match["of"]]
    for stem, of in sorted({(m["stem"], m["of"]) for m in parts}):
        have = {int(m["number"]) for m in parts if (m["stem"], m["of"]) == (stem, of)}
        yield from (f"shard {number} of {int(of)}" for number in range(1, int(of) + 1) if number not in have)


def _repeated(model: HubModel, there: Sequence[Wanted], lock: Lock, format: str) -> Iterator[Finding]:
    """Find checkpoints and single shards that are equal at different steps, or equal to `main`."""
    known = {n: c for n, c in lock.models[model.name].checkpoints.items() if c.step is not None}
    weights = {name: _digests(locked, format) for name, locked in known.items() if locked.weights(format)}
    main = _digests(_main(model, lock), format)
    finals = {w.name for w in there if w.step == _last(model, w, lock)}
    groups: dict[tuple[str, ...], list[Wanted]] = {}
    for w in there:
        if w.name in weights:
            groups.setdefault(weights[w.name], []).append(w)
    for digests, group in groups.items():
        if digests == main:
            early = [w for w in group if w.name not in finals]
            if len(early) == 1 and not _main_is_last(model, lock, format):
                detail = "main equals this step; the last step has other weights"
                yield _finding("equal_to_main", model, early, detail, format=format, severity="note")
            elif early:
                yield _finding(
                    "equal_to_main", model, early, "the weights are equal to those of main", format=format
                )
        else:
            others = [name for name, held in weights.items() if held == digests]
            if len(others) > 1:
                shown = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
                detail = f"the same weights at {len(others)} steps ({shown})"
                yield _finding("duplicate", model, group, detail, format=format)
    early = [w for w in there if w.name in weights and w.name not in finals]
    for w, detail in _mixed(early, {**weights, MAIN: main}, format):
        yield _finding("mixed_shards", model, [w], detail, format=format)


def _mixed(
    early: Sequence[Wanted], weights: Mapping[str, tuple[str, ...]], format: str
) -> Iterator[tuple[Wanted, str]]:
    """Find checkpoints that share some but not all shards with another checkpoint or `main`."""
    holders: dict[str, list[str]] = {}  # digest of a shard → checkpoints
    for name, digests in weights.items():
        for digest in digests:
            holders.setdefault(digest, []).append(name)
    for w in early:
        own = weights[w.name]
        for name, digest in zip(_locked(w).weights(format), own, strict=True):
            others = [o for o in holders[digest] if o != w.name and weights[o] != own]
            if len(own) > 1 and others:
                yield w, f"{name} is equal to that of {' and '.join(others[:3])}, but the other shards differ"
                break


def _dates(model: HubModel, there: Sequence[Wanted]) -> Iterator[Finding]:
    apart = []
    for w in there:
        dates = [[_locked(w).files[n].date for n in _locked(w).weights(format)] for format in FORMATS]
        if all(dates) and all(map(all, dates)):
            newest = [max(map(date.fromisoformat, days)) for days in dates]
            if abs((newest[0] - newest[1]).days) > 1:
                apart.append((w, newest))
    if apart:
        (first, (safetensors, pickled)) = apart[0]
        detail = f"safetensors and bin have different dates ({first.name}: {safetensors}, {pickled})"
        yield _finding("formats_disagree", model, [w for w, _ in apart], detail)


def _changes(model: HubModel, there: Sequence[Wanted], lock: Lock) -> Iterator[Finding]:
    tokenizers = {
        w.name: _locked(w).tokenizer_identity() for w in there if "tokenizer.json" in _locked(w).files
    }
    yield from _changed(
        "tokenizer_changed", model, there, tokenizers, "the tokenizer files differ from those of"
    )
    configs = {
        w.name: repr(sorted((k, v) for k, v in lock.config(_locked(w)).items() if k not in _IRRELEVANT_KEYS))
        for w in there
        if CONFIG in _locked(w).files
    }
    yield from _changed("config_changed", model, there, configs, "config.json differs from that of")


def _changed(
    finding: str, model: HubModel, there: Sequence[Wanted], content: Mapping[str, str], what: str
) -> Iterator[Finding]:
    """Find the checkpoints whose content differs from that of the last one."""
    ordered = [w for w in there if w.name in content]
    if len(set(content.values())) > 1:
        last = ordered[-1]
        other = [w for w in ordered if content[w.name] != content[last.name]]
        yield _finding(finding, model, other, f"{what} {last.name}")


def _shape(model: HubModel, there: Sequence[Wanted], lock: Lock) -> Iterator[Finding]:
    stated = count(model.architecture) if model.architecture else None
    if stated is None:
        return
    for w in there:
        held = count(lock.config(_locked(w))) if lock.config(_locked(w)) else None
        if held and (held.total, held.non_embedding) != (stated.total, stated.non_embedding):
            detail = (
                f"config.json implies {held.total:,} parameters ({held.non_embedding:,} without embeddings), "
                f"the catalogue implies {stated.total:,} ({stated.non_embedding:,})"
            )
            yield _finding("shape", model, [w], detail)


def _code(model: HubModel, there: Sequence[Wanted], lock: Lock) -> Iterator[Finding]:
    carrying = [w for w in there if lock.config(_locked(w)).get("auto_map")]
    if model.needs_code:
        carrying = list(there)
    if not carrying:
        return
    first = _locked(carrying[0])
    files = ", ".join(first.code()) or "none in the repository"
    if model.remote_code:
        detail = f"code from {first.repo} at {first.commit[:12]} may run: {files}"
        yield _finding("remote_code", model, carrying, detail, severity="warning", action=WARN)
    elif model.needs_code:
        yield _finding("remote_code", model, carrying, f"loading needs code from the repository ({files})")
    else:
        detail = f"the repository contains code ({files}), which is neither fetched nor run"
        yield _finding("remote_code", model, carrying, detail, severity="note", action=WARN)


def _moved(model: HubModel, there: Sequence[Wanted]) -> Iterator[Finding]:
    moved = [w for w in there if _locked(w).moved]
    if moved:
        now = str(_locked(moved[0]).moved)
        where = "no longer exists" if now == "gone" else f"now points to {now[:12]}"
        detail = f"{moved[0].name} was locked at {_locked(moved[0]).commit[:12]} and {where}"
        yield _finding("moved", model, moved, detail)


def _defects(model: HubModel, there: Sequence[Wanted]) -> Iterator[Finding]:
    for defect in model.defects:
        hit = [w for w in there if defect.steps is None or w.step in defect.steps]
        if hit:
            yield replace(_finding("defect", model, hit, defect.note), reason=defect.thread)


def _locked(wanted: Wanted) -> Locked:
    if wanted.locked is None:
        raise ValueError(f"{wanted.name} is not locked")
    return wanted.locked


def _digests(locked: Locked | None, format: str) -> tuple[str, ...]:
    return tuple(locked.files[name].digest for name in locked.weights(format)) if locked else ()


def _main(model: HubModel, lock: Lock) -> Locked | None:
    found = lock.models.get(model.name)
    return found.checkpoints.get(MAIN) if found and model.fixed is None else None


def _main_is_last(model: HubModel, lock: Lock, format: str) -> bool:
    """Whether `main` has the weights of a last step; assumed if no last step is locked."""
    found = lock.models[model.name]
    names = [
        stage.checkpoint(max(steps)) for stage in model.stages if (steps := found.offered.get(stage.name))
    ]
    lasts = [found.checkpoints[name] for name in names if name in found.checkpoints]
    main = _digests(_main(model, lock), format)
    return not lasts or any(_digests(last, format) == main for last in lasts)


def _last(model: HubModel, wanted: Wanted, lock: Lock) -> int:
    """The last step of a stage on the hub; `main` may equal it."""
    return max(lock.models[model.name].offered.get(wanted.stage.name, ()), default=0)
