"""The lock is for checkpoints from a hub only."""

from pathlib import Path

import pytest

from ebbtide.errors import ConfigError
from ebbtide.study.lock import lock_checkpoints
from workspace import write_small_study


def test_a_study_without_checkpoints_from_a_hub_has_nothing_to_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="models: found none from a hub, so there is nothing to lock"):
        lock_checkpoints(["config.yaml"])
    assert not list(tmp_path.glob("*.lock.json"))
