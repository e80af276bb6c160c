"""Arrow data comes in as it is: every producer, the types kept, the buffers shared."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest

import vexact
from reference import hits, search, vectors

BATCH = pa.RecordBatch.from_pydict({"a": [1, 2], "b": ["x", None]})
TABLE = pa.Table.from_batches([BATCH])


class Stream:
    """An object with nothing but `__arrow_c_stream__`."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.data.__arrow_c_stream__(requested_schema)


class Array:
    """An object with nothing but `__arrow_c_array__`."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self.data.__arrow_c_array__(requested_schema)


@pytest.mark.parametrize(
    "data",
    [
        TABLE,
        BATCH,
        TABLE.to_reader(),
        [BATCH],
        (BATCH,),
        Stream(TABLE),
        Array(BATCH),
        {"a": [1, 2], "b": ["x", None]},
        {"a": np.array([1, 2]), "b": pa.array(["x", None])},
        pa.array([{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        polars.DataFrame({"a": [1, 2], "b": ["x", None]}),
        TABLE.to_pandas(),
    ],
    ids=lambda data: f"{type(data).__module__}.{type(data).__name__}",
)
def test_anything_that_holds_arrow_data_is_a_frame(session: vexact.Session, data: Any) -> None:
    frame = session.create_dataframe_from_arrow(data)
    assert frame.to_rows() == {"schema": ["a", "b"], "rows": [[1, "x"], [2, None]]}


def test_a_frame_of_vexact_is_arrow_data(session: vexact.Session) -> None:
    frame = vexact.Session().sql("SELECT 1 AS a")
    assert session.create_dataframe_from_arrow(frame).to_rows() == {"schema": ["a"], "rows": [[1]]}


def test_batches_keep_their_order(session: vexact.Session) -> None:
    batches = [pa.RecordBatch.from_pydict({"a": [i, -i]}) for i in range(50)]
    expected = [value for i in range(50) for value in (i, -i)]
    for data in (batches, tuple(batches), pa.Table.from_batches(batches), pa.Table.from_batches(batches).to_reader()):
        assert session.create_dataframe_from_arrow(data).to_arrow()["a"].to_pylist() == expected


TYPES: dict[str, pa.Array] = {
    "bool": pa.array([True, None, False]),
    "int8": pa.array([1, None, -3], pa.int8()),
    "int32": pa.array([1, None, -3], pa.int32()),
    "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "float16": pa.array([np.float16(1.5), None, np.float16(0)]),
    "float32": pa.array([0.1, None, 3], pa.float32()),
    "float64": pa.array([0.1, None, 3]),
    "string": pa.array(["x", None, "zß"]),
    "large_string": pa.array(["x", None, "zß"], pa.large_string()),
    "string_view": pa.array(["x", None, "a text longer than twelve bytes"], pa.string_view()),
    "binary": pa.array([b"x", None, b"\0"]),
    "date32": pa.array([datetime.date(2020, 1, 2), None, None]),
    "time64": pa.array([datetime.time(1, 2, 3), None, None]),
    "timestamp": pa.array([datetime.datetime(2020, 1, 2, 3), None, None], pa.timestamp("ns")),
    "timestamp with zone": pa.array([datetime.datetime(2020, 1, 2), None, None], pa.timestamp("ms", "Europe/Berlin")),
    "duration": pa.array([datetime.timedelta(seconds=3), None, None]),
    "decimal": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")], pa.decimal128(10, 2)),
    "list of text": pa.array([["a"], None, []]),
    "list of int": pa.array([[1, 2], None, [3, 4]]),
    "ragged list": pa.array([[1.0, 2.0], None, [3.0]], pa.list_(pa.float32())),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": None}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["x", None, "x"]).dictionary_encode(),
    "vectors": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)),
    "vectors of float64": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float64(), 2)),
    "vectors of ints": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int16(), 2)),
    "null": pa.nulls(3),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_and_values_are_kept_and_buffers_are_shared(session: vexact.Session, name: str) -> None:
    column = TYPES[name]
    frame = session.create_dataframe_from_arrow(pa.table({"c": column}))
    assert frame.schema.field("c").type == column.type
    back = frame.to_arrow()["c"].chunk(0)
    assert back.type == column.type
    assert back.to_pylist() == column.to_pylist()
    ours, theirs = addresses(back), addresses(column)
    # The fields of a NULL struct become NULL: the validity of its two fields is not the caller's.
    copied = {address for address in theirs if address} - set(ours)
    assert len(copied) == (2 if name == "struct" else 0)


def addresses(array: pa.Array) -> list[int | None]:
    return [buffer.address if buffer else None for buffer in array.buffers()]


def test_a_numpy_matrix_is_a_column_of_vectors_where_it_lies(session: vexact.Session) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        rows = np.arange(12).reshape(4, 3).astype(dtype)
        column = session.create_dataframe_from_arrow({"id": [1, 2, 3, 4], "vec": rows}).to_arrow()["vec"].chunk(0)
        assert column.type == pa.list_(pa.from_numpy_dtype(dtype), 3)
        assert addresses(column)[-1] == rows.ctypes.data
        assert np.array_equal(np.array(column.to_pylist()), rows)


def test_a_numpy_matrix_of_another_layout_has_its_own_values(session: vexact.Session) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (rows.T, np.asfortranarray(rows), rows[::-1], rows[:, 1:3]):
        column = session.create_dataframe_from_arrow({"vec": view}).to_arrow()["vec"]
        assert np.array_equal(np.array(column.to_pylist()), view)


def test_a_slice_shares_the_buffers_and_has_its_rows(session: vexact.Session) -> None:
    values = np.arange(40, dtype=np.float32).reshape(10, 4)
    table = pa.table({"id": np.arange(10), "text": [f"x{i}" for i in range(10)], "vec": vectors(values)})
    part = table.slice(3, 4)
    back = session.create_dataframe_from_arrow(part).to_arrow()
    assert back.to_pylist() == part.to_pylist()
    for name in ("id", "vec"):
        whole = table[name].chunk(0).buffers()[-1]
        shared = back[name].chunk(0).buffers()[-1]
        assert whole.address <= shared.address < whole.address + whole.size


def test_sql_over_arrow_data_shares_its_buffers(docs: vexact.Session) -> None:
    first = docs.sql("SELECT vec, id FROM docs").to_arrow()
    again = docs.sql("SELECT id, vec FROM docs").to_arrow()
    for name in ("id", "vec"):
        assert addresses(first[name].chunk(0)) == addresses(again[name].chunk(0))


def test_rows_outlive_their_session_and_source() -> None:
    def rows() -> pa.Table:
        values = np.arange(100_000, dtype=np.float32).reshape(-1, 4)
        return vexact.Session().create_dataframe_from_arrow({"vec": values}).to_arrow()

    table = rows()
    noise = [np.full((25_000, 4), 7, np.float32) for _ in range(20)]
    assert np.array_equal(table["vec"].combine_chunks().flatten().to_numpy(), np.arange(100_000, dtype=np.float32))
    del noise


@pytest.mark.parametrize("item", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("make", [pa.list_, pa.large_list])
def test_lists_of_floats_of_one_length_become_vectors(session: vexact.Session, make: Any, item: pa.DataType) -> None:
    column = pa.array([None, [1.0, 2.0], [3.0, 4.0]], make(item))
    back = session.create_dataframe_from_arrow(pa.table({"vec": column})).to_arrow()["vec"]
    assert back.type == pa.list_(item, 2)
    assert back.to_pylist() == [None, [1.0, 2.0], [3.0, 4.0]]


def test_lists_become_vectors_also_in_slices_and_chunks(session: vexact.Session) -> None:
    column = pa.array([[9.0] * 5, [1.0, 2.0], [3.0, 4.0], [9.0]])
    back = session.create_dataframe_from_arrow(pa.table({"vec": column.slice(1, 2)})).to_arrow()["vec"]
    assert (back.type, back.to_pylist()) == (pa.list_(pa.float64(), 2), [[1.0, 2.0], [3.0, 4.0]])
    chunks = pa.chunked_array([column.slice(1, 1), column.slice(0, 0), column.slice(2, 1)])
    back = session.create_dataframe_from_arrow(pa.table({"vec": chunks})).to_arrow()["vec"]
    assert (back.type, back.to_pylist()) == (pa.list_(pa.float64(), 2), [[1.0, 2.0], [3.0, 4.0]])


def test_ragged_lists_stay_lists(session: vexact.Session) -> None:
    for chunks in ([[[1.0, 2.0], [3.0]]], [[[1.0, 2.0]], [[3.0]]]):
        table = pa.table({"vec": pa.chunked_array([pa.array(chunk, pa.list_(pa.float32())) for chunk in chunks])})
        back = session.create_dataframe_from_arrow(table).to_arrow()
        assert back.schema.field("vec").type == pa.list_(pa.float32())
        assert back["vec"].to_pylist() == [[1.0, 2.0], [3.0]]


def test_empty_tables_keep_their_schema(session: vexact.Session) -> None:
    schema = pa.schema({"id": pa.int8(), "text": pa.large_string(), "vec": pa.list_(pa.float32(), 3)})
    for data in (schema.empty_table(), schema.empty_table().to_reader(), Stream(schema.empty_table())):
        frame = session.create_dataframe_from_arrow(data)
        assert (frame.count(), frame.to_arrow().schema) == (0, schema)
        session.create_temp_view("t", frame)
        assert session.vector_search("t", "vec", [1, 2, 3]).to_arrow().num_rows == 0
        assert session.sql("SELECT * FROM t").to_arrow().schema == schema
    empty = session.create_dataframe_from_arrow({"vec": np.zeros((0, 3), np.float32)})
    assert (empty.count(), empty.schema.field("vec").type) == (0, pa.list_(pa.float32(), 3))


def test_field_nullability_and_metadata_are_kept(session: vexact.Session) -> None:
    field = pa.field("a", pa.int64(), nullable=False, metadata={"unit": "m"})
    table = pa.table([pa.array([1])], schema=pa.schema([field], metadata={"made": "by hand"}))
    schema = session.create_dataframe_from_arrow(table).to_arrow().schema
    assert schema.equals(table.schema, check_metadata=True)


def test_polars_keeps_its_types(session: vexact.Session) -> None:
    frame = polars.DataFrame(
        {"i": [1, 2], "s": ["x", "y"], "v": [[1.0, 2.0], [3.0, 4.0]]},
        schema={"i": polars.Int16, "s": polars.String, "v": polars.Array(polars.Float32, 2)},
    )
    ours = session.create_dataframe_from_arrow(frame)
    assert ours.schema.field("i").type == pa.int16()
    assert ours.schema.field("v").type == pa.list_(pa.float32(), 2)
    assert ours.to_polars().equals(frame)


@pytest.mark.parametrize("data", [None, 3, "text", b"bytes", [], [1, 2], [BATCH, 3], object(), iter([BATCH])], ids=repr)
def test_anything_else_is_a_type_error(session: vexact.Session, data: Any) -> None:
    with pytest.raises(TypeError, match=f"expected Arrow data .* got {type(data).__name__}"):
        session.create_dataframe_from_arrow(data)


@pytest.mark.parametrize(
    "data",
    [
        polars.Series("a", [1, 2]),
        polars.Series([[1.0, 2.0], [3.0, 4.0]]),
        pandas.Series([1.5, 2.5], name="a"),
        pa.array([1, 2]),
        pa.chunked_array([["x"], ["y"]]),
        Stream(pa.chunked_array([[1.0]])),
        Array(pa.array([1.0])),
    ],
    ids=lambda data: f"{type(data).__module__}.{type(data).__name__}",
)
def test_a_column_is_no_table(session: vexact.Session, data: Any) -> None:
    expected = f"expected Arrow data .*a dict of columns.* got {type(data).__name__}"
    with pytest.raises(TypeError, match=expected):
        session.create_dataframe_from_arrow(data)


def test_two_columns_of_one_name_are_refused(session: vexact.Session) -> None:
    twice = pa.table([pa.array([1]), pa.array(["x"]), pa.array([2])], names=["a", "b", "a"])
    for data in (twice, twice.to_reader(), twice.to_batches()):
        with pytest.raises(vexact.InvalidRequestError, match='column "a": expected one column of each name, got two'):
            session.create_dataframe_from_arrow(data)
    other_case = pa.table([pa.array([1]), pa.array([2])], names=["a", "A"])
    assert session.create_dataframe_from_arrow(other_case).to_rows() == {"schema": ["a", "A"], "rows": [[1, 2]]}


def test_vectors_of_whole_numbers_are_searched(session: vexact.Session) -> None:
    rows = np.array([[3, 4], [-1, 0], [6, 8]], np.int8)
    session.create_temp_view("t", session.create_dataframe_from_arrow({"vec": rows}))
    found = session.vector_search("t", "vec", [3, 4], 2, "l2", columns="vec")
    assert hits(found) == search("l2", rows, np.array([3.0, 4.0]), 2)
    assert found.schema.field("vec").type == pa.list_(pa.int8(), 2)


@pytest.mark.parametrize(
    "data",
    [
        [BATCH, pa.RecordBatch.from_pydict({"b": [1]})],
        {"a": [1], "b": [1, 2]},
        {"a": np.zeros((2, 0))},
        {"a": np.zeros((2, 2, 2))},
    ],
    ids=["schemas", "lengths", "no components", "three dimensions"],
)
def test_data_that_is_no_table_is_a_value_error(session: vexact.Session, data: Any) -> None:
    with pytest.raises(ValueError):
        session.create_dataframe_from_arrow(data)


def test_a_failing_producer_says_why(session: vexact.Session) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield BATCH
        raise RuntimeError("the disk is gone")

    with pytest.raises((ValueError, RuntimeError), match="the disk is gone"):
        session.create_dataframe_from_arrow(pa.RecordBatchReader.from_batches(BATCH.schema, batches()))


def test_what_a_mask_hides_is_null(session: vexact.Session) -> None:
    mask = [[False, True], [True, True], [False, False]]
    vectors = np.ma.array([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]], mask=mask)
    objects = np.empty(3, object)
    objects[:] = list(vectors)
    columns = {
        "id": range(3), "v": vectors, "rows": list(vectors), "n": np.ma.array([1, 2, 3], mask=[0, 1, 0]),
        "one": [1.0, np.ma.masked, 3.0], "objects": objects, "whole": np.ma.array([[1, 2], [3, 4], [5, 6]], mask=False),
    }
    frame = session.create_dataframe_from_arrow(columns)
    got = frame.to_arrow()
    expected = [[1.0, None], None, [0.0, 1.0]]
    assert got["v"].to_pylist() == got["rows"].to_pylist() == got["objects"].to_pylist() == expected
    assert got["n"].to_pylist() == [1, None, 3] and got["one"].to_pylist() == [1.0, None, 3.0]
    assert got["whole"].to_pylist() == [[1, 2], [3, 4], [5, 6]]
    session.create_temp_view("masked", frame)
    assert session.vector_search("masked", "v", [0.0, 1.0], 3, "l2").to_arrow()["row_id"].to_pylist() == [2]
