"""Python iterables as batches, and batches to Python functions: by number or time, never drained beforehand."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

import vexact
from vexact import CustomArrowStreamSink, CustomArrowStreamSource, CustomStreamEmitOptions
from vexact import consume_arrow_batches_with_custom_sink as consume

FOR_EVER = float("inf")
LIMIT_SECONDS = 60


def numbers(count: int) -> Iterator[dict[str, int]]:
    return ({"n": n} for n in range(count))


def test_batches_have_the_number_of_rows_and_the_last_one_what_is_left() -> None:
    source = CustomArrowStreamSource(emit_interval_seconds=FOR_EVER, emit_rows=4)
    batches = list(source.batches(numbers(10)))
    assert [batch.num_rows for batch in batches] == [4, 4, 2]
    assert pa.Table.from_batches(batches)["n"].to_pylist() == list(range(10))
    assert list(source.batches([])) == []


def test_an_endless_iterable_is_read_as_far_as_it_is_asked_for() -> None:
    read = []
    endless = ({"n": read.append(n) or n} for n in itertools.count())
    batches = CustomArrowStreamSource(emit_interval_seconds=FOR_EVER, emit_rows=10).batches(endless)
    taken = list(itertools.islice(batches, 3))
    assert [batch["n"][0].as_py() for batch in taken] == [0, 10, 20]
    assert len(read) <= 40
    batches.close()
    assert list(batches) == []


def test_rows_go_on_after_the_interval_while_the_next_are_awaited() -> None:
    is_seen = threading.Event()

    def slow() -> Iterator[dict[str, int]]:
        yield {"n": 0}
        yield {"n": 1}
        assert is_seen.wait(LIMIT_SECONDS), "the first rows never went on"
        yield {"n": 2}

    batches = CustomArrowStreamSource(emit_interval_seconds=0.01, emit_rows=1000).batches(slow())
    first: list[int] = []
    while len(first) < 2:
        first += next(batches)["n"].to_pylist()
    is_seen.set()
    assert first == [0, 1]
    assert [n for batch in batches for n in batch["n"].to_pylist()] == [2]


def test_closing_ends_a_taker_that_waits() -> None:
    is_over, is_waiting = threading.Event(), threading.Event()

    def silent() -> Iterator[dict[str, int]]:
        is_waiting.set()
        is_over.wait(LIMIT_SECONDS)
        yield {"n": 0}

    batches = CustomArrowStreamSource().batches(silent())
    taken: list[Any] = []
    taker = threading.Thread(target=lambda: taken.append(list(batches)))
    taker.start()
    assert is_waiting.wait(LIMIT_SECONDS)
    batches.close()
    taker.join(LIMIT_SECONDS)
    assert taken == [[]]
    is_over.set()


def test_an_error_of_the_iterable_comes_after_its_rows() -> None:
    def broken() -> Iterator[dict[str, int]]:
        yield {"n": 0}
        raise LookupError("no more")

    batches = CustomArrowStreamSource(emit_interval_seconds=FOR_EVER, emit_rows=10).batches(broken())
    assert next(batches).to_pylist() == [{"n": 0}]
    with pytest.raises(LookupError, match="no more"):
        next(batches)
    assert list(batches) == []
    with pytest.raises(TypeError, match="rows: expected an iterable of rows, got int"):
        next(CustomArrowStreamSource().batches(3))  # type: ignore[arg-type]


def test_a_schema_types_the_columns_and_takes_sequences_too() -> None:
    schema = pa.schema([("id", pa.int32()), ("name", pa.string()), ("vec", pa.list_(pa.float32(), 2))])
    source = CustomArrowStreamSource(schema, emit_rows=10)
    rows = [{"id": 1, "vec": [1, 2]}, (2, "b", None), [3, None, (0.5, 1.5)]]
    (batch,) = CustomArrowStreamSource(schema, emit_interval_seconds=FOR_EVER).batches(rows)
    assert batch.schema == schema
    assert batch.to_pylist() == [
        {"id": 1, "name": None, "vec": [1, 2]},
        {"id": 2, "name": "b", "vec": None},
        {"id": 3, "name": None, "vec": [0.5, 1.5]},
    ]
    for row, problem in [
        ({"id": "x"}, "column 'id': expected int32"),
        ({"id": 2**40}, "column 'id': expected int32"),
        ({"vec": [1, 2, 3]}, "column 'vec'"),
        ({"other": 1}, r"column 'other': expected one of \[id, name, vec\]"),
        ((1, 2), "rows: expected 3 values, got 2"),
    ]:
        with pytest.raises(ValueError, match=problem):
            list(source.batches([row]))
    with pytest.raises(TypeError, match="rows: expected mappings or sequences of values, got str"):
        list(source.batches(["abc"]))


def test_without_a_schema_the_first_batch_decides() -> None:
    source = CustomArrowStreamSource(emit_interval_seconds=FOR_EVER, emit_rows=2)
    batches = source.batches([{"a": 1}, {"b": "x"}, {"a": None}, {"b": "y"}, {"c": 1}])
    assert batches.schema == pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert next(batches).to_pylist() == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    assert next(batches).num_rows == 2
    with pytest.raises(ValueError, match=r"column 'c': expected one of \[a, b\]; give the stream a schema"):
        next(batches)
    with pytest.raises(ValueError, match="column 'a': expected int64"):
        list(source.batches([{"a": 1}, {"a": 2}, {"a": "x"}]))
    with pytest.raises(TypeError, match="a schema, for sequences"):
        list(source.batches([(1, 2)]))


@pytest.mark.parametrize("rows", [0, -1, 1.5, True])
def test_options_that_cannot_be_are_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match="emit_rows: expected a whole number of at least 1"):
        CustomStreamEmitOptions(emit_rows=rows)
    for seconds in (-1, float("nan")):
        with pytest.raises(ValueError, match="emit_interval_seconds: expected at least 0"):
            CustomArrowStreamSource(emit_interval_seconds=seconds)
    with pytest.raises(TypeError, match="on_emit"):
        CustomArrowStreamSink(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="schema"):
        CustomArrowStreamSource({"a": "int"})  # type: ignore[arg-type]


def test_asking_without_waiting_says_when_to_ask_again() -> None:
    is_asked, is_more, is_woken = threading.Event(), threading.Event(), threading.Event()

    def slow() -> Iterator[dict[str, int]]:
        assert is_asked.wait(LIMIT_SECONDS)
        yield {"n": 0}
        assert is_more.wait(LIMIT_SECONDS)
        yield {"n": 1}

    batches = CustomArrowStreamSource(emit_interval_seconds=1000, emit_rows=2).batches(slow())
    assert batches.poll(is_woken.set) == FOR_EVER
    is_asked.set()
    assert is_woken.wait(LIMIT_SECONDS)
    left = batches.poll(is_woken.set)
    assert isinstance(left, float) and 0 < left <= 1000
    is_woken.clear()
    is_more.set()
    assert is_woken.wait(LIMIT_SECONDS)
    batch = batches.poll(is_woken.set)
    assert isinstance(batch, pa.RecordBatch) and batch["n"].to_pylist() == [0, 1]
    while (rest := batches.poll(is_woken.set)) is not None:
        assert rest == FOR_EVER and is_woken.wait(LIMIT_SECONDS)
        is_woken.clear()


def batch_of(*values: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(values, pa.int64())})


def test_a_sink_gets_all_rows_in_tables_of_at_most_its_number() -> None:
    tables: list[pa.Table] = []
    sink = CustomArrowStreamSink(tables.append, emit_interval_seconds=FOR_EVER, emit_rows=4)
    batches = [batch_of(0), batch_of(1, 2), batch_of(), batch_of(*range(3, 20)), pa.table({"n": [20]})]
    assert consume(batches, sink) == 21
    assert [n for table in tables for n in table["n"].to_pylist()] == list(range(21))
    assert all(1 <= table.num_rows <= 4 for table in tables)
    reader = pa.RecordBatchReader.from_batches(batch_of().schema, [batch_of(7)])
    assert consume(reader, sink) == 1
    assert consume([], sink) == 0


def test_a_sink_gets_what_waits_after_its_interval() -> None:
    is_seen = threading.Event()

    def slow() -> Iterator[pa.RecordBatch]:
        yield batch_of(1)
        assert is_seen.wait(LIMIT_SECONDS), "the first row never came"
        yield batch_of(2)

    sink = CustomArrowStreamSink(lambda _table: is_seen.set(), emit_interval_seconds=0.01, emit_rows=1000)
    assert consume(slow(), sink) == 2


def test_what_a_sink_or_its_batches_raise_is_raised() -> None:
    def refuse(table: pa.Table) -> None:
        raise PermissionError(f"{table.num_rows} rows")

    with pytest.raises(PermissionError, match="2 rows"):
        consume([batch_of(1, 2)], CustomArrowStreamSink(refuse))

    def broken() -> Iterator[pa.RecordBatch]:
        yield batch_of(1)
        raise LookupError("gone")

    tables: list[pa.Table] = []
    with pytest.raises(LookupError, match="gone"):
        consume(broken(), CustomArrowStreamSink(tables.append))
    assert [table.to_pylist() for table in tables] == [[{"n": 1}]]
    with pytest.raises(TypeError, match="batches: expected pyarrow record batches"):
        consume([{"n": 1}], CustomArrowStreamSink(tables.append))
    with pytest.raises(TypeError, match="sink: expected a vexact.CustomArrowStreamSink"):
        consume([batch_of(1)], tables.append)  # type: ignore[arg-type]
    assert vexact.CustomArrowStreamSink is CustomArrowStreamSink
