"""Values in and out of Arrow: the same as pyarrow's own conversions give."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide.arrow import array_of, first_repeat, key_codes, metrics_in_memory, metrics_on_disk, numbers

LISTS = {
    pa.string(): st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    pa.large_string(): st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    pa.int64(): st.lists(st.integers(-(2**63), 2**63 - 1)),
    pa.float64(): st.lists(st.floats(allow_nan=False)),
    pa.bool_(): st.lists(st.booleans()),
}


@pytest.mark.parametrize("type_", LISTS, ids=str)
@given(data=st.data())
def test_an_array_holds_the_values_of_its_list(type_: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(LISTS[type_])
    assert array_of(values, type_).equals(pa.array(values, type_))


@pytest.mark.parametrize(
    ("values", "type_"),
    [([0.5], pa.int64()), ([None], pa.float64()), ([2], pa.bool_()), ([300], pa.uint8())],
)
def test_a_value_that_does_not_fit_is_refused(values: list[object], type_: pa.DataType) -> None:
    with pytest.raises(TypeError):
        array_of(values, type_)


TYPES = [pa.bool_(), pa.int8(), pa.uint16(), pa.int64(), pa.float16(), pa.float32(), pa.float64()]
TYPES += [pa.timestamp("us"), pa.duration("s")]


@pytest.mark.parametrize("type_", TYPES, ids=str)
@given(
    values=st.lists(st.integers(0, 1), max_size=9),
    cuts=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    gap=st.booleans(),
)
def test_numbers_are_those_of_pyarrow(
    type_: pa.DataType, values: list[int], cuts: tuple[int, int], gap: bool
) -> None:
    holes: list[int | None] = [*values, *([None] if gap and pa.types.is_floating(type_) else [])]
    first, last = sorted(cuts)
    whole = pa.array(holes, pa.int64()).cast(type_)
    column = pa.chunked_array([whole.slice(0, first), whole.slice(first, last), whole[1:]], type_)
    assert numbers(column).dtype == column.to_numpy().dtype
    assert numbers(column).tobytes() == column.to_numpy().tobytes()


@given(rows=st.lists(st.tuples(st.sampled_from(["a", "b", "é", ""]), st.integers(-2, 2), st.booleans())))
def test_codes_are_equal_exactly_where_keys_are(rows: list[tuple[str, int, bool]]) -> None:
    frame = pd.DataFrame(rows, columns=["s", "i", "b"])
    frame = frame.astype({"s": str, "i": "int64", "b": bool})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    codes = key_codes(pa.concat_tables([table.slice(0, 3), table.slice(3)]), ["s", "i", "b"])
    assert np.array_equal(codes[:, None] == codes, [[a == b for b in rows] for a in rows] or np.empty((0, 0)))
    repeats = [i for i, row in enumerate(rows) if row in rows[:i]]
    assert first_repeat(table, ["s", "i", "b"]) == (repeats[0] if repeats else None)


def test_codes_of_many_columns_of_many_values_stay_apart() -> None:
    """The product of the numbers of values of these columns exceeds 64 bits."""
    columns = {f"c{i}": np.random.default_rng(i).permutation(3000) for i in range(6)}
    codes = key_codes(pa.table(columns), list(columns))
    assert len(np.unique(codes)) == 3000
    assert (codes >= 0).all()
    twice = {name: np.r_[values, values[7]] for name, values in columns.items()}
    assert first_repeat(pa.table(twice), list(twice)) == 3000


def test_metrics_on_disk_have_what_is_in_brackets_as_a_column() -> None:
    """The way to the rows about all examples of a task: those whose `group` is missing."""
    names = ["accuracy", "accuracy[part=1]", "exact_match[filter=strict-match]", "accuracy[of=a[b]]"]
    table = pa.table({"metric": names, "value": [0.5] * 4})
    stored = metrics_on_disk(table)
    assert stored.column("group").to_pylist() == [None, "part=1", "filter=strict-match", "of=a[b]"]
    assert metrics_in_memory(stored).equals(table)
