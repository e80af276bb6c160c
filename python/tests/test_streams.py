"""Streaming SQL through the public API."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import vexact


def batches(count: int = 4, rows: int = 5) -> list[pa.RecordBatch]:
    def batch(number: int) -> pa.RecordBatch:
        first = number * rows
        values = list(range(first, first + rows))
        keys = [f"k{value % 3}" for value in values]
        times = pa.array([value * 100 for value in values], pa.timestamp("ms"))
        return pa.record_batch({"key": keys, "value": values, "ts": times})

    return [batch(number) for number in range(count)]


@pytest.fixture
def session() -> vexact.Session:
    session = vexact.Session()
    session.create_temp_view("s", session.create_stream_from_arrow(batches()))
    return session


def run(session: vexact.Session, select: str, **options: Any) -> tuple[list[pa.RecordBatch], vexact.StreamingQuery]:
    sink = session.create_realtime_stream_sink()
    session.create_temp_view("out", sink)
    query = session.start_stream_sql(f"INSERT INTO out {select}", **options)
    query.await_termination()
    return list(sink), query


def last(results: list[pa.RecordBatch], keys: int = 1) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for batch in results:
        for row in batch.to_pylist():
            values = tuple(row.values())
            found[values[:keys]] = values[keys:]
    return found


def test_one_record_batch_is_one_micro_batch(session: vexact.Session) -> None:
    results, query = run(session, "SELECT value * 2 AS twice FROM s WHERE value % 2 = 0")
    assert [batch.num_rows for batch in results] == [3, 2, 3, 2]
    assert pa.Table.from_batches(results)["twice"].to_pylist() == [value * 2 for value in range(0, 20, 2)]
    progress = query.progress()
    assert (progress["status"], progress["batches_processed"], progress["rows_processed"]) == ("stopped", 4, 20)
    assert json.loads(query.snapshot_json()) == query.progress()


def test_each_micro_batch_gives_the_groups_that_it_touched(session: vexact.Session) -> None:
    results, query = run(session, "SELECT key, sum(value) AS total, count(*) AS n FROM s GROUP BY key")
    expected = {(f"k{k}",): (sum(range(k, 20, 3)), len(range(k, 20, 3))) for k in range(3)}
    assert last(results) == expected
    assert len(results) == 4
    assert query.progress()["has_stateful_ops"]


@pytest.mark.parametrize("slide", ["", "SLIDE 500 "])
def test_windows(session: vexact.Session, slide: str) -> None:
    select = f"SELECT w, count(*) AS n FROM s WINDOW BY ts EVERY 1000 {slide}AS w GROUP BY w"
    results, query = run(session, select)
    step = 500 if slide else 1000
    begins = range(-500 if slide else 0, 2000, step)
    inside = {begin: sum(begin <= value * 100 < begin + 1000 for value in range(20)) for begin in begins}
    epoch = pa.scalar(0, pa.timestamp("ms")).as_py()
    got = {int((w - epoch).total_seconds() * 1000): n for (w,), (n,) in last(results).items()}
    assert got == {begin: count for begin, count in inside.items() if count}
    assert query.progress()["has_window"]


def test_vectors_of_a_table_are_searched_once_and_joined(session: vexact.Session) -> None:
    docs = session.create_dataframe_from_arrow({"id": [1, 2, 3], "e": pa.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])})
    session.create_temp_view("docs", docs)
    select = "SELECT s.value, h.score FROM s JOIN vector_search('docs', 'e', '[1 0]', 2) h ON s.value = h.id"
    results, _ = run(session, select)
    assert sorted(row["value"] for batch in results for row in batch.to_pylist()) == [1, 3]


def test_a_realtime_source_flows_through_a_query_into_a_sink() -> None:
    session = vexact.Session()
    source = session.create_realtime_stream_source([("key", "string"), ("value", pa.int64())])
    sink = session.create_realtime_stream_sink()
    session.create_temp_view("s", session.read_realtime_stream_source(source))
    query = session.stream_sql("SELECT key, sum(value) AS total FROM s GROUP BY key").write_stream(sink)
    assert query.progress()["status"] == "created"
    query.start()
    query.start()
    source.push_arrow(pa.record_batch({"value": [1, 2], "key": ["a", "b"]}))
    first = sink.poll_arrow(30)
    assert first is not None and first.to_pylist() == [{"key": "a", "total": 1}, {"key": "b", "total": 2}]
    assert sink.poll_arrow() is None and not sink.closed
    source.push_rows([{"key": "a", "value": 10}, ["c", 5]])
    second = sink.poll_arrow(None)
    assert second is not None and second.to_pylist() == [{"key": "a", "total": 11}, {"key": "c", "total": 5}]
    source.close()
    assert query.await_termination() == 2
    assert sink.poll_arrow(None) is None and sink.closed and source.closed
    with pytest.raises(vexact.InvalidRequestError, match="closed"):
        source.push_rows([["d", 1]])


def test_rows_that_do_not_fit_a_source_are_refused() -> None:
    source = vexact.Session().create_realtime_stream_source({"key": "string", "value": "int32"})
    pushes: list[tuple[Any, str]] = [
        (lambda: source.push_arrow(pa.record_batch({"key": ["a"]})), "expected .key Utf8, value Int32., got .key Utf8"),
        (lambda: source.push_rows([{"key": "a", "other": 1}]), "got 'other'"),
        (lambda: source.push_rows([["a"]]), "expected 2 values, got 1"),
        (lambda: source.push_rows([["a", "b"]]), "column 'value': expected int32"),
        (lambda: source.push_rows([["a", 2**40]]), "column 'value': expected int32"),
    ]
    for push, match in pushes:
        with pytest.raises(vexact.InvalidRequestError, match=match):
            push()
    with pytest.raises(TypeError, match="pairs"):
        vexact.Session().create_realtime_stream_source(["key", 3])


def test_a_query_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    results: list[pa.RecordBatch] = []
    for first in (1, 2, 0):
        session = vexact.Session()
        session.create_temp_view("s", session.create_stream_from_arrow(batches()))
        sink = session.create_realtime_stream_sink()
        session.create_temp_view("out", sink)
        query = session.start_stream_sql(
            "INSERT INTO out SELECT key, sum(value) AS total FROM s GROUP BY key", checkpoint_path=tmp_path / "c"
        )
        assert query.progress()["status"] == ("created" if first == 1 else "restored")
        query.await_termination(max_batches=first)
        results.extend(sink)
        del query
    assert len(results) == 4
    assert last(results) == {(f"k{k}",): (sum(range(k, 20, 3)),) for k in range(3)}


def test_refusals_name_the_reason(session: vexact.Session) -> None:
    live = session.create_realtime_stream_source({"x": "int64"})
    session.create_temp_view("live", session.read_realtime_stream_source(live))
    session.create_temp_view("out", session.create_realtime_stream_sink())
    for sql, match in [
        ("INSERT INTO out SELECT x FROM live ORDER BY x", "ORDER BY needs a bounded source"),
        ("INSERT INTO s SELECT * FROM s", "s is a source, which cannot be written to"),
        ("INSERT INTO out SELECT * FROM out", "out is a sink, which cannot be read"),
        ("SELECT x FROM live", "expected INSERT INTO sink SELECT"),
        ("INSERT INTO out SELECT nothing FROM s", "nothing"),
    ]:
        with pytest.raises(vexact.InvalidRequestError, match=match):
            session.start_stream_sql(sql)
    insert = "INSERT INTO out SELECT x FROM live"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"execution_mode": "cluster"}, "single-process or local-workers, got \"cluster\""),
        ({"checkpoint_delivery_mode": "twice"}, "at-least-once"),
        ({"checkpoint_delivery_mode": "exactly-once"}, "exactly-once"),
        ({"trigger_interval_ms": -1}, "trigger_interval_ms"),
        ({"local_workers": 0}, "local_workers"),
    ]
    for options, match in wrong:
        with pytest.raises(ValueError, match=match):
            session.start_stream_sql(insert, **options)
    with pytest.raises(TypeError):
        session.create_temp_view("x", object())  # type: ignore[arg-type]
    with pytest.raises(vexact.InvalidRequestError, match="stream_sql"):
        session.sql("SELECT * FROM s").to_arrow()


def test_a_failing_query_reports_its_error_and_the_process_lives(session: vexact.Session) -> None:
    sink = session.create_realtime_stream_sink()
    query = session.stream_sql("SELECT 1 / (value - 7) AS x FROM s").write_stream(sink)
    for _ in range(2):
        with pytest.raises(vexact.ExecutionError, match="(?i)divide by zero"):
            query.await_termination()
    assert query.progress()["status"] == "failed"
    assert run(session, "SELECT key FROM s")[1].progress()["status"] == "stopped"


def test_stop_from_another_thread_ends_an_idle_query() -> None:
    session = vexact.Session()
    source = session.create_realtime_stream_source({"x": "int64"})
    stream = session.read_realtime_stream_source(source)
    query = stream.write_stream(session.create_realtime_stream_sink())
    query.start()
    stopping = threading.Timer(0.05, query.stop)
    stopping.start()
    assert query.await_termination() == 0
    assert query.progress()["status"] == "stopped"


def test_ctrl_c_ends_the_waiting_and_the_query_goes_on() -> None:
    session = vexact.Session()
    source = session.create_realtime_stream_source({"x": "int64"})
    sink = session.create_realtime_stream_sink()
    query = session.read_realtime_stream_source(source).write_stream(sink)
    interrupt = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        query.await_termination()
    assert time.monotonic() - started < 30
    source.push_rows([[1]])
    batch = sink.poll_arrow(None)
    assert batch is not None and batch.num_rows == 1
    query.stop()


def test_local_workers_give_the_same_rows_and_say_what_they_do() -> None:
    session = vexact.Session()
    wide = pa.table({"k": pa.array([i % 1000 for i in range(200_000)]), "v": pa.array(range(200_000))})
    session.create_temp_view("s", session.create_stream_from_arrow(wide.to_batches(max_chunksize=50_000)))
    select = "SELECT k, sum(v) AS total FROM s GROUP BY k"
    expected, _ = run(session, select)
    got, query = run(session, select, execution_mode="local-workers", local_workers=2)
    assert got == expected
    progress = query.progress()
    assert progress["requested_execution_mode"] == "local-workers"
    assert progress["execution_mode"] in ("local-workers", "single-process")
    assert "threads" in progress["execution_reason"] or "one" in progress["execution_reason"]


def test_explain_has_three_sections(session: vexact.Session) -> None:
    explain = session.explain_stream_sql("SELECT key, sum(value) AS total FROM s GROUP BY key")
    assert "Aggregate" in explain.logical
    assert "MicroBatchExec" in explain.physical
    assert "mode=stream" in explain.strategy and "aggregate_impl=merged-states" in explain.strategy


def test_groups_beyond_the_session_s_memory_end_the_query() -> None:
    session = vexact.Session(memory_limit_bytes=1 << 20)
    batches = [pa.record_batch({"k": pa.array(range(n * 4000, (n + 1) * 4000))}) for n in range(16)]
    session.create_temp_view("s", session.create_stream_from_arrow(batches))
    sink = session.create_realtime_stream_sink()
    session.create_temp_view("out", sink)
    query = session.start_stream_sql("INSERT INTO out SELECT k, count(*) AS n FROM s GROUP BY k")
    with pytest.raises(vexact.ResourcesExhaustedError, match="memory_limit_bytes of 1048576"):
        query.await_termination()
    assert query.progress()["status"] == "failed"
    assert 0 < sum(batch.num_rows for batch in sink) < 16 * 4000
