"""What the hub part chose or could not see is returned as notices, and nothing else is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import locks
from ebbtide.checkpoints.hub.catalogue import HubModel
from ebbtide.checkpoints.hub.lock import Index, Lock, LockedModel
from ebbtide.checkpoints.hub.notices import hub_notices
from ebbtide.notices import Notice

STEPS = (0, 1, 8, 16)


def lock_of(revisions: Mapping[int | str, Mapping[str, Any]], **offered: tuple[int, ...]) -> Lock:
    """A complete lock, whose indices and pointers were read."""
    lock = locks.lock(revisions)
    if offered:
        lock = replace(lock, models={"tiny": LockedModel(offered, lock.models["tiny"].checkpoints)})
    index = Index(("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"))
    digests = {f.digest for c in lock.models["tiny"].checkpoints.values() for f in c.files.values()}
    return replace(lock, indices={locks.git("index"): index}, pointers=dict.fromkeys(digests, False))


def clean(**changes: Any) -> dict[int | str, Mapping[str, Any]]:
    revisions: dict[int | str, Mapping[str, Any]] = {s: locks.files(f"{s}a", f"{s}b") for s in STEPS}
    revisions["main"] = revisions[16]
    return {**revisions, **{int(key[1:]): files for key, files in changes.items()}}


def notices(lock: Lock, model: HubModel | None = None) -> list[Notice]:
    return hub_notices([model or locks.model(STEPS)], lock)


def only(found: list[Notice]) -> Notice:
    assert len(found) == 1, found
    return found[0]


def test_a_clean_suite_has_no_notices() -> None:
    assert notices(lock_of(clean())) == []


def test_findings_of_the_audit_are_not_repeated() -> None:
    assert notices(lock_of(clean(s1=locks.files("0a", "0b")))) == []


def test_steps_of_the_hub_that_are_not_in_the_lock() -> None:
    lock = lock_of(clean(), pretraining=(0, 1, 2, 4, 8, 16))
    found = only(notices(lock, locks.model(STEPS)))
    assert (found.severity, found.kind, found.count) == ("note", "not_audited", 2)
    assert found.detail == (
        "The hub lists 2 more steps of tiny that are not in the lock, so weights equal to theirs are not "
        "found."
    )
    assert found.remedy == "Lock once with steps: all to compare them too; the lock keeps them."


def test_no_main_to_compare_with() -> None:
    revisions = clean()
    del revisions["main"]
    found = only(notices(lock_of(revisions)))
    assert found.kind == "not_audited" and found.detail.startswith("lab/tiny of tiny has no branch main to")


def test_weights_without_a_sha256() -> None:
    files = locks.files("8a", "8b")
    name = "model-00002-of-00002.safetensors"
    files[name] = replace(files[name], digest=locks.git("8b"))
    found = only(notices(lock_of(clean(s8=files))))
    assert (found.severity, found.kind, found.checkpoint) == ("warning", "not_audited", "step8")
    assert found.detail.startswith("The hub states no sha256 for weights of 1 checkpoint of tiny (step8), ")


@pytest.mark.parametrize("models", [{}, {"other": LockedModel({}, {})}])
def test_a_model_that_is_not_locked_has_no_notices(models: Mapping[str, LockedModel]) -> None:
    assert hub_notices([locks.model(STEPS)], Lock(models)) == []
