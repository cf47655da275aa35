"""What a scoring job asks for grows with the weights, the second opinion and the attempt."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ebbtide.grid import Checkpoint
from ebbtide.jobs.resources import memory_mb, minutes

GIB = 2**30
LARGE = Checkpoint("m", "step1", 1, 1, "w", "t", "marker", 4 * GIB, "float32")


def study(tasks: int, rescore_examples: int = 0) -> SimpleNamespace:
    config = {"scoring": {"rescore_examples": rescore_examples}}
    return SimpleNamespace(config=config, tasks=dict.fromkeys(range(tasks)))


def test_memory_holds_the_weights_in_float32_and_in_float64_for_a_second_opinion() -> None:
    small = replace(LARGE, size_bytes=0)
    assert memory_mb(study(1), small, 1) == 2000
    assert memory_mb(study(1), LARGE, 1) == 2000 + 3 * 4096
    assert memory_mb(study(1, rescore_examples=5), LARGE, 1) == 2000 + 7 * 4096
    assert memory_mb(study(1), LARGE, 2) == 2 * memory_mb(study(1), LARGE, 1)


@pytest.mark.parametrize(("tasks", "expected"), [(1, 100), (10, 10), (100, 5)])
def test_minutes_are_a_share_of_an_hour_and_more_for_large_weights(tasks: int, expected: int) -> None:
    assert minutes(study(tasks), LARGE, 1) == expected
    assert minutes(study(tasks), LARGE, 3) == 3 * expected
