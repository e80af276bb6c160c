"""As `test_arguments.py`, of streams, of Python iterables as streams and of Bitable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

import vexact
from refusals import BROKEN, NO_INT, NO_NUMBER, NO_TEXT, NO_THING, THING, got, refused, refused_types

# Streams.


def test_columns_of_a_queue_are_named_typed_and_different(session: vexact.Session) -> None:
    make = session.create_realtime_stream_source
    refused_types(make, "columns: expected (name, type) pairs, a mapping or a pyarrow.Schema", [None, 3, "ab", b"ab", THING])
    for pair in (("a",), ("a", "int64", 1), 3, None):
        refused(lambda: make([pair]), "columns: expected (name, type) pairs", repr(pair), kind=TypeError)
    refused(lambda: make({1: "int64"}), "columns: a name: expected a str, got int", kind=TypeError)
    for bad in (None, int, 3, pa.field("a", pa.int8())):
        refused(lambda: make({"a": bad}), "columns: type of 'a': expected a pyarrow.DataType", got(bad), kind=TypeError)
    refused(lambda: make({"a": "nope"}), "columns: type of 'a': unknown type: nope")
    for none in ({}, [], pa.schema([])):
        refused(lambda: make(none), "columns: expected at least one, got none")
    for twice in ([("a", "int64"), ("a", "utf8")], pa.schema([("a", pa.int64()), ("a", pa.int64())])):
        refused(lambda: make(twice), "columns: expected each name once, got 'a' twice")


def test_watermarks_and_waits_are_numbers(session: vexact.Session) -> None:
    source = lambda **options: session.create_realtime_stream_source({"a": "int64"}, **options)  # noqa: E731
    for make in (source, session.create_realtime_stream_sink):
        refused_types(lambda v: make(high_watermark=v), "high_watermark: expected an int", NO_INT)
        refused_types(lambda v: make(low_watermark=v), "low_watermark: expected an int", NO_INT[1:])
        refused(lambda: make(high_watermark=0), "high_watermark: expected a whole number of at least 1, got 0")
        for name in ("high_watermark", "low_watermark"):
            refused(lambda: make(**{name: -1}), f"{name}: expected a whole number of at least", "got -1")
            refused(lambda: make(**{name: 2**70}), f"{name}: expected a whole number of at most")
    refused_types(session.create_realtime_stream_sink().poll_arrow, "timeout_seconds: expected a number", NO_NUMBER[1:])
    refused_types(session.read_realtime_stream_source, "source: expected a vexact.RealtimeStreamSource", NO_THING)


def test_rows_that_do_not_fit_are_refused_and_none_is_pushed(session: vexact.Session) -> None:
    source = session.create_realtime_stream_source({"a": "int64", "b": "string", "c": "timestamp[ms]"})
    refused_types(source.push_rows, "rows: expected a list of rows", [None, 3, "ab", b"ab", {"a": 1}, THING])
    for row in ("abc", b"abc", 3, None, {1, 2, 3}):
        refused(lambda: source.push_rows([[1, "b", 0], row]), "rows: row 1: expected a mapping or a sequence", got(row), kind=TypeError)
    refused(lambda: source.push_rows([[1, "b"]]), "row 0: expected 3 values, got 2")
    refused(lambda: source.push_rows([{"d": 1}]), "row 0: expected columns of ['a', 'b', 'c'], got 'd'")
    refused(lambda: source.push_rows([{"b": BROKEN}]), "column 'b': expected string")
    for bad in ({"a": 1.5}, {"a": np.float32(1.5)}, {"c": 0.5}):
        (name,) = bad
        refused(lambda: source.push_rows([{"a": 1}, bad]), f"column '{name}': expected", f"got {bad[name]!r}")
    assert len(source) == 0
    source.push_rows([{"a": 2.0}, [np.int64(3), "x", 0], np.array([4, None, None], object)])
    assert len(source) == 1


def test_options_of_streaming_queries_are_named(session: vexact.Session) -> None:
    session.create_temp_view("i", session.create_stream_from_arrow({"a": [1, 2]}))
    session.create_temp_view("o", session.create_realtime_stream_sink())
    insert, stream = "INSERT INTO o SELECT a FROM i", session.create_stream_from_arrow({"a": [1]})
    calls = (
        lambda **options: session.start_stream_sql(insert, **options),
        lambda **options: session.explain_stream_sql(insert, **options),
        lambda **options: stream.write_stream(session.create_realtime_stream_sink(), **options),
    )
    for call in calls:
        refused_types(lambda v: call(trigger_interval_ms=v), "trigger_interval_ms: expected a number", NO_NUMBER)
        for bad in (-1, float("nan"), float("inf")):
            refused(lambda: call(trigger_interval_ms=bad), "trigger_interval_ms: expected a number")
        refused_types(lambda v: call(checkpoint_path=v), "checkpoint_path: expected a str or os.PathLike", [0, False, [], {}, b""])
        for name in ("checkpoint_delivery_mode", "execution_mode"):
            refused_types(lambda v: call(**{name: v}), f"{name}: expected a str", NO_TEXT)
            refused(lambda: call(**{name: "some"}), "some")
        for name in ("local_workers", "max_inflight_partitions"):
            refused_types(lambda v: call(**{name: v}), f"{name}: expected an int", NO_INT)
            refused(lambda: call(**{name: -1}), f"{name}: expected a whole number of at least 0, got -1")
            refused(lambda: call(**{name: 2**70}), f"{name}: expected a whole number of at most")
    refused_types(stream.write_stream, "sink: expected a vexact.RealtimeStreamSink", NO_THING)
    query = stream.write_stream(session.create_realtime_stream_sink())
    refused_types(query.await_termination, "max_batches: expected an int", NO_INT)
    refused(lambda: query.await_termination(-1), "max_batches: expected a whole number of at least 0, got -1")


# Python iterables as streams.


def test_arguments_of_custom_streams_are_named(session: vexact.Session) -> None:
    refused_types(lambda v: vexact.CustomStreamEmitOptions(v), "emit_interval_seconds: expected a number", NO_NUMBER)
    for value in NO_INT:
        refused(lambda: vexact.CustomStreamEmitOptions(emit_rows=value), "emit_rows: expected a whole number", f"got {value!r}")
    refused_types(vexact.CustomArrowStreamSource, "schema: expected a pyarrow.Schema or None", NO_THING[1:])
    refused_types(vexact.CustomArrowStreamSink, "on_emit: expected a function", NO_THING[:-1])
    refused_types(vexact.CustomArrowStreamSource().batches, "rows: expected an iterable of rows", [None, 3, "ab", b"ab", {"a": 1}, THING])
    refused_types(lambda v: vexact.create_stream_from_custom_source(v, [{"a": 1}]), "session: expected a vexact.Session", NO_THING)
    sink = vexact.CustomArrowStreamSink(lambda table: None)
    consume = vexact.consume_arrow_batches_with_custom_sink
    refused_types(lambda v: consume([], v), "sink: expected a vexact.CustomArrowStreamSink", NO_THING)
    refused_types(lambda v: consume(v, sink), "batches: expected an iterable of record batches", [None, 3, "ab", {"a": 1}, THING])
    refused(lambda: consume([pa.record_batch({"a": [1]}), pa.record_batch({"b": [1]})], sink), "batches: expected record batches of one schema")


def test_a_number_with_a_fraction_is_not_cut(session: vexact.Session) -> None:
    for kind, bad in ((pa.int64(), 1.5), (pa.list_(pa.int32()), [1, 2.5]), (pa.date32(), 0.5)):
        source = vexact.CustomArrowStreamSource(pa.schema([("a", kind)]))
        refused(lambda: list(source.batches([{"a": None}, {"a": bad}])), f"column 'a': expected {kind}", "got")
    whole = vexact.CustomArrowStreamSource(pa.schema([("a", pa.int64()), ("b", pa.float32())]))
    assert next(whole.batches([[2.0, 1.5]])).to_pylist() == [{"a": 2, "b": 1.5}]


# Bitable.


def test_arguments_of_bitable_are_named(session: vexact.Session) -> None:
    client = vexact.bitable.BitableClient("id", "secret", base_url="http://127.0.0.1:9", max_retries=0)
    for name in ("app_id", "app_secret", "base_url"):
        refused_types(lambda v: vexact.bitable.BitableClient(**{"app_id": "i", "app_secret": "s", name: v}), f"{name}: expected a str", NO_TEXT)
    refused_types(lambda v: vexact.bitable.BitableClient("i", "s", v), "request_timeout_seconds: expected a number", NO_NUMBER)
    for bad in (float("nan"), float("inf"), -1):
        refused(lambda: vexact.bitable.BitableClient("i", "s", bad), "request_timeout_seconds: expected more than 0")
    refused_types(lambda v: vexact.bitable.BitableClient("i", "s", max_retries=v), "max_retries: expected an int", NO_INT)
    for name in ("clock", "sleep"):
        refused_types(lambda v: vexact.bitable.BitableClient("i", "s", **{name: v}), f"{name}: expected a function", NO_THING[:-1])
    table: dict[str, Any] = {"app_token": "a", "table_id": "t"}
    for call in (client.list_records, client.iter_record_pages):
        for name in table:
            refused_types(lambda v: call(**{**table, name: v}), f"{name}: expected a str", NO_TEXT)
        refused_types(lambda v: call(**table, view_id=v), "view_id: expected a str or None", NO_TEXT[1:])
        refused_types(lambda v: call(**table, page_size=v), "page_size: expected an int", NO_INT)
        refused_types(lambda v: call(**table, max_rows=v), "max_rows: expected an int", NO_INT[1:])
    refused_types(lambda v: client.list_records(**table, on_page=v), "on_page: expected a function", NO_THING[1:-1])
    for call in (vexact.bitable.parse_bitable_url, client.list_records_from_url, lambda v: vexact.bitable.create_stream_from_bitable(session, client, v)):
        refused_types(call, "url: expected a str", NO_TEXT)
    refused(lambda: vexact.bitable.parse_bitable_url("https://[::1"), "url: expected an address", "[::1")
    url = "https://example.feishu.cn/base/a?table=t"
    refused_types(lambda v: vexact.bitable.create_stream_from_bitable(v, client, url), "session: expected a vexact.Session", NO_THING)
    refused_types(lambda v: vexact.bitable.create_stream_from_bitable(session, v, url), "client: expected a vexact.bitable.BitableClient", NO_THING)
    schema = lambda v: vexact.bitable.create_stream_from_bitable(session, client, url, schema=v)  # noqa: E731
    refused_types(schema, "schema: expected a pyarrow.Schema or None", NO_THING[1:])


def test_rows_that_are_no_mappings_are_not_grouped() -> None:
    for group in (vexact.bitable.group_rows_by_field, vexact.bitable.group_rows_count_by_field):
        refused_types(lambda v: group(v, "a"), "rows: expected an iterable of mappings", [None, 3, "ab", b"ab", {"a": 1}, THING])
        for row in (3, None, "a", [1]):
            refused(lambda: group([{"a": 1}, row], "a"), "rows: row 1: expected a mapping", got(row), kind=TypeError)
        refused_types(lambda v: group([{"a": 1}], v), "field: expected a str", NO_TEXT)
