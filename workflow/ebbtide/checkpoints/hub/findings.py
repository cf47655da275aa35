"""Findings about the hub checkpoints in a lock, one function per class (see `hub.audit`)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

from ebbtide.checkpoints.facts import IRRELEVANT_KEYS
from ebbtide.checkpoints.findings import WARN, Finding
from ebbtide.checkpoints.hub.catalogue import HubModel, Wanted
from ebbtide.checkpoints.hub.completeness import (
    FORMATS,
    finding,
    incomplete,
    index_disagrees,
    locked_of,
)
from ebbtide.checkpoints.hub.lock import GONE, MAIN, Lock, Locked
from ebbtide.errors import EbbtideError, first_line
from ebbtide.notices import listed
from ebbtide.parameters import count


def findings_of(model: HubModel, lock: Lock) -> Iterator[Finding]:
    """Yield all findings about the requested checkpoints of a model, without severity and action."""
    wanted = list(model.wanted(lock))
    there = [w for w in wanted if w.locked]
    yield from _missing(model, [w for w in wanted if w.locked is None and not w.offered])
    yield from incomplete(model, there, lock)
    yield from index_disagrees(model, there, lock)
    for format in FORMATS:
        yield from _repeated(model, there, lock, format)
    yield from _dates(model, there)
    yield from _changes(model, there, lock)
    yield from _shape(model, there, lock)
    yield from _code(model, there, lock)
    yield from _moved(model, there)
    yield from _defects(model, there)


def _missing(model: HubModel, absent: Sequence[Wanted]) -> Iterator[Finding]:
    if absent:
        known = [w.step for w in absent if w.step in model.gaps]
        have = "step of the series has" if len(absent) == 1 else "steps of the series have"
        detail = f"{len(absent)} {have} no branch or tag"
        detail += f" (known gaps: {' '.join(map(str, known))})" if known else ""
        yield finding("missing", model, absent, detail)


def _repeated(model: HubModel, there: Sequence[Wanted], lock: Lock, format: str) -> Iterator[Finding]:
    """Find checkpoints and single shards that are equal at different steps, or equal to `main`."""
    known = {n: c for n, c in lock.models[model.name].checkpoints.items() if c.step is not None}
    files = {name: _files(locked, format) for name, locked in known.items() if locked.weights(format)}
    main = _files(_main(model, lock), format)
    finals = {w.name for w in there if w.step == _last(model, w, lock)}
    holders: dict[tuple[str, ...], list[str]] = {}
    for name, held in files.items():
        holders.setdefault(_bytes_of(held), []).append(name)
    groups: dict[tuple[str, ...], list[Wanted]] = {}
    for w in there:
        if w.name in files:
            groups.setdefault(_bytes_of(files[w.name]), []).append(w)
    for content, group in groups.items():
        if content == _bytes_of(main):
            early = [w for w in group if w.name not in finals]
            if len(early) == 1 and not _main_is_last(model, lock, format):
                detail = "main equals this step; the last step has other weights"
                yield finding("equal_to_main", model, early, detail, format=format, severity="note")
            elif early:
                detail = "the weights are equal to those of main"
                detail += _other_names([main, *(files[w.name] for w in early)])
                yield finding("equal_to_main", model, early, detail, format=format)
        else:
            others = holders[content]
            if len(others) > 1:
                detail = f"the same weights at {len(others)} steps ({listed(others, 5)})"
                detail += _other_names([files[name] for name in others])
                yield finding("duplicate", model, group, detail, format=format)
    early = [w for w in there if w.name in files and w.name not in finals]
    for w, detail in _mixed(early, {**files, MAIN: main}):
        yield finding("mixed_shards", model, [w], detail, format=format)


def _other_names(groups: Sequence[Mapping[str, str]]) -> str:
    """The end of a sentence about checkpoints with equal weights, if equal files have different names."""
    return "" if all(files == groups[0] for files in groups) else ", whose files have other names"


def _mixed(early: Sequence[Wanted], files: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[Wanted, str]]:
    """Find checkpoints that share some but not all shards with another checkpoint or `main`.

    `files` maps each checkpoint to the digests of its weight files by name.
    """
    holders: dict[str, list[str]] = {}
    for other, theirs in files.items():
        for digest in dict.fromkeys(theirs.values()):
            holders.setdefault(digest, []).append(other)
    rank = {name: i for i, name in enumerate(files)}
    for w in early:
        own = files[w.name]
        if len(own) < 2:
            continue
        shared: dict[tuple[str, ...], list[str]] = {}  # shards of this checkpoint → others that have them
        for other in sorted({o for digest in own.values() for o in holders[digest]}, key=rank.__getitem__):
            theirs = files[other]
            equal = tuple(name for name, digest in own.items() if digest in theirs.values())
            if _bytes_of(theirs) != _bytes_of(own):
                shared.setdefault(equal, []).append(other)
        most_first = sorted(shared.items(), key=lambda found: -len(found[0]))
        if most_first:
            yield w, "; ".join(_sharing(equal, others, own, files) for equal, others in most_first[:2])


def _sharing(
    equal: Sequence[str],
    others: Sequence[str],
    own: Mapping[str, str],
    files: Mapping[str, Mapping[str, str]],
) -> str:
    """A sentence about the shards `equal` of a checkpoint, which `others` have as well."""
    where = " and ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    if len(equal) == len(own):
        return f"all {len(own)} shards are equal to files of {where}, which has others besides"
    same_name = all(files[other].get(name) == own[name] for other in others for name in equal)
    rest = len(own) - len(equal)
    differ = "the other shard differs" if rest == 1 else f"the other {rest} shards differ"
    if len(equal) == 1:
        of = "that" if same_name else "a file with another name"
        return f"{equal[0]} is equal to {of} of {where}, but {differ}"
    of = "those" if same_name else "files with other names"
    return f"{len(equal)} of {len(own)} shards ({listed(equal)}) are equal to {of} of {where}, but {differ}"


def _dates(model: HubModel, there: Sequence[Wanted]) -> Iterator[Finding]:
    apart = []
    for w in there:
        dates = [[locked_of(w).files[n].date for n in locked_of(w).weights(format)] for format in FORMATS]
        if all(dates) and all(map(all, dates)):
            newest = [max(map(date.fromisoformat, days)) for days in dates]
            if abs((newest[0] - newest[1]).days) > 1:
                apart.append((w, newest))
    if apart:
        (first, (safetensors, pickled)) = apart[0]
        detail = f"safetensors and bin have different dates ({first.name}: {safetensors}, {pickled})"
        yield finding("formats_disagree", model, [w for w, _ in apart], detail)


def _changes(model: HubModel, there: Sequence[Wanted], lock: Lock) -> Iterator[Finding]:
    tokenizers = {
        w.name: {name: locked_of(w).files[name].digest for name in locked_of(w).tokenizer()}
        for w in there
        if "tokenizer.json" in locked_of(w).files
    }
    what = "the tokenizer files differ from those of"
    yield from _changed("tokenizer_changed", model, there, tokenizers, what)
    configs = {
        w.name: {k: repr(v) for k, v in lock.config(locked_of(w)).items() if k not in IRRELEVANT_KEYS}
        for w in there
        if lock.config(locked_of(w))
    }
    yield from _changed("config_changed", model, there, configs, "config.json differs from that of")


def _changed(
    kind: str, model: HubModel, there: Sequence[Wanted], content: Mapping[str, Mapping[str, str]], what: str
) -> Iterator[Finding]:
    """Find the checkpoints whose content differs from that of the last one."""
    ordered = [w for w in there if w.name in content]
    other = [w for w in ordered if content[w.name] != content[ordered[-1].name]]
    if other:
        last = content[ordered[-1].name]
        pairs = ((held, key) for w in other for held in [content[w.name]] for key in {*held, *last})
        keys = sorted({key for held, key in pairs if held.get(key) != last.get(key)})
        yield finding(kind, model, other, f"{what} {ordered[-1].name} ({listed(keys)})")


def _shape(model: HubModel, there: Sequence[Wanted], lock: Lock) -> Iterator[Finding]:
    stated = count(model.architecture) if model.architecture else None
    if stated is None:
        return
    for w in there:
        try:
            held = count(lock.config(locked_of(w))) if lock.config(locked_of(w)) else None
        except (EbbtideError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            yield finding("shape", model, [w], f"config.json has no usable shape ({_reason(error)})")
            continue
        if held and (held.total, held.non_embedding) != (stated.total, stated.non_embedding):
            detail = (
                f"config.json implies {held.total:,} parameters ({held.non_embedding:,} without embeddings), "
                f"the catalogue implies {stated.total:,} ({stated.non_embedding:,})"
            )
            yield finding("shape", model, [w], detail)


def _reason(error: Exception) -> str:
    return first_line(Exception(*error.args)) if isinstance(error, EbbtideError) else type(error).__name__


def _code(model: HubModel, there: Sequence[Wanted], lock: Lock) -> Iterator[Finding]:
    carrying = [w for w in there if lock.config(locked_of(w)).get("auto_map")]
    if model.needs_code:
        carrying = list(there)
    if not carrying:
        return
    first = locked_of(carrying[0])
    files = ", ".join(first.code())
    if model.remote_code:
        detail = f"code from {first.repo} at {first.commit[:12]} may run: {files}"
        if not files:
            detail = f"remote_code is true, but {first.repo} at {first.commit[:12]} has no Python files"
        yield finding("remote_code", model, carrying, detail, severity="warning", action=WARN)
    elif model.needs_code:
        detail = f"loading needs code from the repository ({files or 'which has no Python files'})"
        yield finding("remote_code", model, carrying, detail)
    else:
        detail = f"the repository contains code ({files}), which is neither fetched nor run"
        if not files:
            detail = "config.json names code (auto_map), but the repository has no Python files; none is run"
        yield finding("remote_code", model, carrying, detail, severity="note", action=WARN)


def _moved(model: HubModel, there: Sequence[Wanted]) -> Iterator[Finding]:
    moved = [w for w in there if locked_of(w).moved not in (None, GONE)]
    gone = [w for w in there if locked_of(w).moved == GONE]
    if moved:
        first = locked_of(moved[0])
        labels = " ".join(f"{model.name}/{w.name}" for w in moved)
        detail = (
            f"{moved[0].name} was locked at {first.commit[:12]} and now points to {str(first.moved)[:12]}"
        )
        remedy = "check what changed; to use the new commit, "
        remedy += f"ebbtide lock --study FILE --follow {labels}"
        yield finding("moved", model, moved, detail + _and_more(moved, "moved"), remedy=remedy)
    if gone:
        first = locked_of(gone[0])
        detail = f"{gone[0].name} was locked at {first.commit[:12]} and its branch or tag no longer exists"
        remedy = "nothing while the hub keeps the commit; if fetching fails, leave these steps out"
        yield finding("moved", model, gone, detail + _and_more(gone, "are gone"), remedy=remedy)


def _and_more(group: Sequence[Wanted], what: str) -> str:
    return f"; {len(group) - 1} more {what}" if len(group) > 1 else ""


def _defects(model: HubModel, there: Sequence[Wanted]) -> Iterator[Finding]:
    for defect in model.defects:
        hit = [w for w in there if defect.steps is None or w.step in defect.steps]
        if hit:
            yield replace(finding("defect", model, hit, defect.note), reason=defect.thread)


def _files(locked: Locked | None, format: str) -> dict[str, str]:
    """Digests of the weight files by name."""
    return {name: locked.files[name].digest for name in locked.weights(format)} if locked else {}


def _bytes_of(files: Mapping[str, str]) -> tuple[str, ...]:
    """The content of weight files whatever their names: shards may be numbered in another order."""
    return tuple(sorted(files.values()))


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
    main = _bytes_of(_files(_main(model, lock), format))
    return not lasts or any(_bytes_of(_files(last, format)) == main for last in lasts)


def _last(model: HubModel, wanted: Wanted, lock: Lock) -> int:
    """The last step of a stage on the hub; `main` may equal it."""
    return max(lock.models[model.name].offered.get(wanted.stage.name, ()), default=0)
