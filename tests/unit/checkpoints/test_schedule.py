"""Schedules: which steps a study takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.checkpoints.schedule import pick
from ebbtide.errors import ConfigError

PYTHIA = [0, *(2**k for k in range(10)), *range(1000, 144_000, 1000)]


def taken(schedule: object, offered: list[int] = PYTHIA, unit: int = 1) -> list[int]:
    return pick(schedule, offered, "s.yaml: models[0].steps", "pythia.yaml", unit=unit)  # type: ignore[arg-type]


def test_pythia_offers_154_steps() -> None:
    assert len(taken("all")) == 154


def test_log2_is_the_schedule_of_the_paper() -> None:
    thousands = [2, 4, 8, 16, 32, 64, 128, 143]
    assert taken("log2", unit=1000) == [1000 * n for n in thousands]


def test_log2_of_a_last_step_that_is_a_power_takes_it_once() -> None:
    assert taken("log2", [0, 16, 32, 64]) == [16, 32, 64]


def test_log2_of_one_step_is_that_step() -> None:
    assert taken("log2", [7], unit=1000) == [7]


def test_last_and_every() -> None:
    assert taken("last") == [143_000]
    assert taken({"every": 50_000}) == [0, 50_000, 100_000]


def test_a_list_comes_in_order() -> None:
    assert taken([4000, 1, 2000]) == [1, 2000, 4000]


def test_a_step_that_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        taken([2000, 2600])
    assert "found 2600, but pythia.yaml has no such step; nearest: 2000 and 3000" in str(caught.value)
    assert "s.yaml: models[0].steps" in str(caught.value)
    assert "(154 steps)" in str(caught.value)  # and not all of them


def test_every_without_a_multiple() -> None:
    with pytest.raises(
        ConfigError, match=r"found 7, but pythia\.yaml has no multiple of it; available: 1, 2, 3"
    ):
        taken({"every": 7}, [1, 2, 3])


@given(
    st.one_of(st.sampled_from(["all", "log2", "last"]), st.builds(lambda n: {"every": n}, st.just(1))),
    st.lists(st.integers(0, 10**6), min_size=1),
    st.integers(1, 2000),
)
def test_schedules_take_offered_steps_in_order(schedule: object, offered: list[int], unit: int) -> None:
    steps = taken(schedule, offered, unit)
    assert set(steps) <= set(offered)
    assert steps == sorted(set(steps))
    assert max(offered) in steps
