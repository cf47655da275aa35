"""Audit checkpoints on disk before they are scored, from what planning has read of them.

The classes of findings are those of the hub (see `checkpoints.findings`). Weights are compared by the digests
of their files, or of a sample of large ones, so equal weights are found and nothing else is read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from ebbtide.checkpoints.facts import Facts
from ebbtide.checkpoints.findings import Allowance, Finding, judged
from ebbtide.checkpoints.formats.planning import folder_of
from ebbtide.checkpoints.on_disk import Directory, DiskModel
from ebbtide.checkpoints.weight_files import INDEX, WHOLE
from ebbtide.grid import Checkpoint, Model
from ebbtide.notices import listed

_RESTORE = "leave these steps out, or restore their files"


def audit_directories(
    models: Sequence[DiskModel], actions: Mapping[str, str], allow: Sequence[Allowance] = ()
) -> list[Finding]:
    """All findings about the requested directories; the parameters are those of `findings.judged`."""
    return [finding for model in models for finding in judged(_findings_of(model), actions, allow)]


def equal_across_models(
    models: Mapping[str, Model],
    on_disk: Sequence[DiskModel],
    actions: Mapping[str, str],
    allow: Sequence[Allowance],
) -> list[Finding]:
    """Findings about equal weights of two models of a study, whatever their origin."""
    own = {(m.name, d.name): facts.weights for m in on_disk for d, facts in _known(m)}
    holders: dict[str, list[Checkpoint]] = {}
    for checkpoint in (c for model in models.values() for c in model.checkpoints):
        key = own.get((checkpoint.model, checkpoint.name), checkpoint.weights)
        holders.setdefault(key, []).append(checkpoint)
    pairs: dict[tuple[str, str], list[tuple[Checkpoint, Checkpoint]]] = {}
    for group in holders.values():
        first = group[0]
        for other in group:
            if other.model != first.model:
                pairs.setdefault((other.model, first.model), []).append((other, first))
    found = (
        Finding(
            "duplicate_models",
            model,
            tuple(own.name for own, _ in same),
            tuple(own.step for own, _ in same),
            f"the same weights as {other} ({listed(first.name for _, first in same)})",
        )
        for (model, other), same in pairs.items()
    )
    return list(judged(found, actions, allow))


def _findings_of(model: DiskModel) -> Iterator[Finding]:
    yield from _broken(model)
    yield from _gone(model)
    yield from _tokenizers(model)
    yield from _ignored_shards(model)
    yield from _duplicates(model)
    yield from _mixed(model)
    yield from _tensors(model)
    yield from _changes(model)


def _finding(
    finding: str,
    model: DiskModel,
    found: Sequence[Directory],
    detail: str,
    remedy: str = "",
    *,
    key: str = "path",
) -> Finding:
    return Finding(
        finding,
        model.name,
        tuple(d.name for d in found),
        tuple(d.step for d in found),
        detail,
        remedy=remedy,
        where=f"{model.where}.{key}",
    )


def _known(model: DiskModel) -> list[tuple[Directory, Facts]]:
    """The directories with facts."""
    return [(d, d.located.facts) for d in model.directories if d.located and d.located.facts]


def _broken(model: DiskModel) -> Iterator[Finding]:
    without_tokenizer = [d for d in model.directories if d.error and d.error.finding == "no_tokenizer"]
    if without_tokenizer:
        detail = _sentence(without_tokenizer[0])
        remedy = "set `tokenizer:` to the directory that has it"
        key = "tokenizer" if model.tokenizer else "path"
        yield _finding("no_tokenizer", model, without_tokenizer, detail, remedy, key=key)
    for directory in model.directories:
        if directory.error and directory not in without_tokenizer:
            remedy = "" if directory.error.finding == "not_converted" else _RESTORE
            yield _finding(directory.error.finding, model, [directory], _sentence(directory), remedy)


def _sentence(directory: Directory) -> str:
    return str(directory.error.args[0]).rstrip(".") if directory.error else ""


def _gone(model: DiskModel) -> Iterator[Finding]:
    gone = [d for d in model.directories if d.located and d.located.gone]
    if gone:
        detail = f"weights have been deleted ({listed(str(d.path) for d in gone)}); earlier results are used"
        unaudited = sum(d.located is not None and d.located.facts is None for d in gone)
        detail += f"; no audit has seen {unaudited} of them" if unaudited else ""
        yield _finding("gone", model, gone, detail)


def _tokenizers(model: DiskModel) -> Iterator[Finding]:
    if model.tokenizer is not None:
        return
    elsewhere = [
        d
        for d in model.directories
        if d.located and d.located.tokenizer_directory == str(folder_of(d.path).resolve().parent)
    ]
    if elsewhere:
        where = folder_of(elsewhere[0].path).parent
        detail = f"no tokenizer.json beside the weights; that of the parent directory is used ({where})"
        yield _finding("tokenizer_of_parent", model, elsewhere, detail)


def _ignored_shards(model: DiskModel) -> Iterator[Finding]:
    both = [d for d, _ in _known(model) if (d.path / WHOLE).exists() and (d.path / INDEX).exists()]
    if both:
        detail = f"{WHOLE} is used; the shards of {INDEX} beside it are ignored ({both[0].path})"
        remedy = f"delete {WHOLE}, or {INDEX} and its shards, whichever is not of this step"
        yield _finding("index_disagrees", model, both, detail, remedy)


def _duplicates(model: DiskModel) -> Iterator[Finding]:
    groups: dict[str, list[Directory]] = {}
    for directory, facts in _known(model):
        groups.setdefault(facts.weights, []).append(directory)
    for group in groups.values():
        if len(group) > 1:
            detail = f"the same weights at {len(group)} steps ({listed(str(d.path) for d in group)})"
            yield _finding("duplicate", model, group, detail, _RESTORE)


def _mixed(model: DiskModel) -> Iterator[Finding]:
    """Find directories that share some but not all files with others, as interrupted copies do."""
    known = _known(model)
    holders: dict[tuple[str, str], list[Directory]] = {}
    for directory, facts in known:
        for item in facts.files.items():
            holders.setdefault(item, []).append(directory)
    weights = {directory.name: facts.weights for directory, facts in known}
    for directory, facts in known:
        for name, digest in facts.files.items():
            others = [
                str(d.path) for d in holders[name, digest] if weights[d.name] != weights[directory.name]
            ]
            if others:
                detail = f"{name} is equal to that of {listed(others)}, but the other files differ"
                yield _finding(
                    "mixed_shards", model, [directory], detail, "copy the files of these steps again"
                )
                break


def _tensors(model: DiskModel) -> Iterator[Finding]:
    twice = [(d, facts) for d, facts in _known(model) if facts.repeated]
    if twice:
        first, facts = twice[0]
        detail = f"{first.path}: several files contain the same tensors: {listed(facts.repeated)}"
        yield _finding("repeated_tensor", model, [d for d, _ in twice], detail)
    heads = [(d, facts) for d, facts in _known(model) if facts.lone_head]
    if heads:
        first, facts = heads[0]
        detail = f"{first.path}: {facts.lone_head} differs from the embedding to which config.json ties it"
        yield _finding("lone_head", model, [d for d, _ in heads], detail)


def _changes(model: DiskModel) -> Iterator[Finding]:
    located = [(d, d.located.tokenizer) for d in model.directories if d.located]
    known = _known(model)
    yield from _changed(
        "tokenizer_changed", model, located, lambda last: f"the tokenizer differs from that of {last}"
    )
    configs = [(d, repr(sorted(facts.config.items()))) for d, facts in known]
    keys = _differing([facts.config for _, facts in known])
    yield from _changed(
        "config_changed", model, configs, lambda last: f"config.json differs from that of {last} ({keys})"
    )
    shapes = [(d, facts.shapes) for d, facts in known]
    values = {d.name: facts.values for d, facts in known}

    def describe(last: str) -> str:
        other = next(d.name for d, held in shapes if held != shapes[-1][1])
        sizes = f"({values[other]:,} and {values[last]:,} values)"
        return f"the tensors of {other} and {last} have different shapes {sizes}"

    yield from _changed(
        "shape", model, shapes, describe, "these are different models: give each a row of its own"
    )


def _changed(
    finding: str,
    model: DiskModel,
    content: Sequence[tuple[Directory, str]],
    describe: Callable[[str], str],
    remedy: str = "",
) -> Iterator[Finding]:
    """Find the directories whose content differs from that of the last one."""
    if len({held for _, held in content}) > 1:
        last, expected = content[-1]
        other = [d for d, held in content if held != expected]
        yield _finding(finding, model, other, describe(last.name), remedy)


def _differing(configs: Sequence[Mapping[str, str]]) -> str:
    """The keys in which some configuration differs from the last one."""
    pairs = ((held, key) for held in configs for key in {*held, *configs[-1]})
    return listed(sorted({repr(key) for held, key in pairs if held.get(key) != configs[-1].get(key)}))
