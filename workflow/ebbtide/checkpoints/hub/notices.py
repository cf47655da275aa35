"""Notices about checkpoints from the hub: what the audit could not see, and defaults.

The findings themselves are in the table of the audit.
"""

from collections.abc import Iterator, Sequence

from ebbtide.checkpoints.hub.catalogue import HubModel, Wanted
from ebbtide.checkpoints.hub.completeness import FORMATS, locked_of
from ebbtide.checkpoints.hub.contents import may_be_pointer
from ebbtide.checkpoints.hub.lock import CONFIG, INDICES, MAIN, STEMS, Lock
from ebbtide.notices import Notice, listed

_LOCK_AGAIN = "Run `snakemake lock --cores 1` with the same --configfile."


def hub_notices(models: Sequence[HubModel], lock: Lock) -> list[Notice]:
    """Return the notices about the models of a study that come from a hub.

    `models` are `Study.hub`, `lock` is the study's lock.
    """
    notices: list[Notice] = []
    for model in models:
        if model.is_listed(lock):
            there = [w for w in model.wanted(lock) if w.locked]
            notices += [*_formats(model, there), *_unseen(model, there, lock)]
    return notices


def _formats(model: HubModel, there: Sequence[Wanted]) -> Iterator[Notice]:
    """The choice between weights that a revision has more than once."""
    other = next(format for format in FORMATS if format != model.format)
    both = [w for w in there if locked_of(w).weights(model.format) and locked_of(w).weights(other)]
    if both:
        yield Notice(
            "note",
            "defaulted",
            f"{_have(both, model)} weights in both formats; {model.format} is used, and the "
            "tensors of the two are not compared.",
            f"To use the others, set format: {other} in the row of {model.name}.",
            model.name,
            count=len(both),
        )
    whole = f"{STEMS[model.format]}.{model.format}"
    beside = [w for w in there if whole in locked_of(w).files and INDICES[model.format] in locked_of(w).files]
    if beside:
        yield Notice(
            "note",
            "defaulted",
            f"{_have(beside, model)} {whole} and shards with an index; {whole} is used.",
            "",
            model.name,
            count=len(beside),
        )


def _unseen(model: HubModel, there: Sequence[Wanted], lock: Lock) -> Iterator[Notice]:
    """What the audit could not check, with the reason."""
    held = lock.models[model.name]
    steps = {c.step for c in held.checkpoints.values()}
    beyond = [step for offered in held.offered.values() for step in offered if step not in steps]
    if beyond:
        yield Notice(
            "note",
            "not_audited",
            f"The hub lists {len(beyond)} more steps of {model.name} that are not in the lock, so weights "
            "equal to theirs are not found.",
            "Lock once with steps: all to compare them too; the lock keeps them.",
            model.name,
            count=len(beyond),
        )
    if model.fixed is None and there and MAIN not in held.checkpoints:
        yield Notice(
            "note",
            "not_audited",
            f"{model.repo or 'Each repository'} of {model.name} has no branch main to compare with, so final "
            "weights at an early step are found only if the last step has them.",
            "",
            model.name,
        )
    no_sha256 = [
        w
        for w in there
        if any(
            locked_of(w).files[name].digest.startswith("git:") for name in locked_of(w).weights(model.format)
        )
    ]
    if no_sha256:
        yield Notice(
            "warning",
            "not_audited",
            f"The hub states no sha256 for weights of {_count(no_sha256, model)}, because they are "
            "in git instead of large-file storage; they are compared by their git digest, and only to others "
            "that have one.",
            "",
            model.name,
            no_sha256[0].name if len(no_sha256) == 1 else "",
            count=len(no_sha256),
        )
    unread = [w for w in there if _has_unread(w, model, lock)]
    if unread:
        yield Notice(
            "warning",
            "not_audited",
            f"The lock does not contain the indices of weights of {_count(unread, model)}, or does "
            "not say whether small files are pointers; missing shards would be found only when fetching.",
            _LOCK_AGAIN,
            model.name,
            count=len(unread),
        )


def _has_unread(wanted: Wanted, model: HubModel, lock: Lock) -> bool:
    """Whether the lock lacks the content of an index, or does not say whether a small file is a pointer."""
    for name in locked_of(wanted).needed(model.format):
        file = locked_of(wanted).files[name]
        if name in INDICES.values() and file.digest not in lock.indices:
            return True
        if may_be_pointer(name, file) and name != CONFIG and file.digest not in lock.pointers:
            return True
    return False


def _count(group: Sequence[Wanted], model: HubModel) -> str:
    many = "s" if len(group) > 1 else ""
    return f"{len(group)} checkpoint{many} of {model.name} ({listed([w.name for w in group])})"


def _have(group: Sequence[Wanted], model: HubModel) -> str:
    return f"{_count(group, model)} {'have' if len(group) > 1 else 'has'}"
