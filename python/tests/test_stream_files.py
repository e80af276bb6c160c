"""Streams from folders of CSV files, Python iterables and Bitable, into files and Python functions."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from bitable_server import Bitable, records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "input"
    folder.mkdir()
    return folder


def write_old(path: Path, text: str) -> None:
    """A file that was written long ago, so that it is read at once."""
    path.write_text(text, encoding="utf-8")
    long_ago = time.time() - 60
    os.utime(path, (long_ago, long_ago))


def run_over(session: vexact.Session, sql: str, rows: int, **options: Any) -> dict[str, Any]:
    """Runs a query until it has processed so many rows; its progress then."""
    query = session.start_stream_sql(sql, trigger_interval_ms=0, **options)
    query.start()
    deadline = time.monotonic() + 60
    while (progress := query.progress())["rows_processed"] < rows and progress["status"] not in ("failed", "stopped"):
        assert time.monotonic() < deadline, progress
        time.sleep(0.005)
    query.stop()
    query.await_termination()
    return progress


SINKS = {"csv": "out.csv", "json": "out.json", "parquet": "out.parquet"}


@pytest.mark.parametrize("form", SINKS)
def test_a_folder_goes_into_a_file_of_each_form(session: vexact.Session, folder: Path, tmp_path: Path, form: str) -> None:
    write_old(folder / "b.csv", "id,name,vec\n3,c,[5 6]\n")
    write_old(folder / "a.csv", 'id,name,vec\n1,"x, ""y""",[1 2]\n2,,[3 4]\n')
    path = tmp_path / SINKS[form]
    session.sql(f"CREATE SOURCE TABLE input (id BIGINT, name STRING, vec VECTOR(2)) USING csv OPTIONS(path: '{folder}')")
    session.sql(f"CREATE SINK TABLE output (id BIGINT, name STRING, d DOUBLE) USING {form} OPTIONS(path: '{path}')")
    run_over(session, "INSERT INTO output SELECT id, name, l2_distance(vec, '[1 2]') FROM input", 3)
    expected = [(1, 'x, "y"', 0.0), (2, None, 8**0.5), (3, "c", 32**0.5)]
    if form == "csv":
        assert path.read_text() == f'id,name,d\n1,"x, ""y""",0.0\n2,,{8**0.5}\n3,c,{32**0.5}\n'
    elif form == "json":
        assert [tuple(json.loads(line).values()) for line in path.read_text().splitlines()] == expected
    else:
        assert [tuple(row.values()) for row in pq.read_table(path).to_pylist()] == expected


def test_a_folder_by_call_has_the_columns_of_its_files(session: vexact.Session, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(vexact.InvalidRequestError, match="expected at least one CSV file"):
        session.read_stream_csv_dir(folder)
    write_old(folder / "a.csv", "key;value\na;1\nb;2\na;3\n")
    stream = session.read_stream_csv_dir(folder, delimiter=";")
    assert stream.schema == pa.schema([("key", pa.string()), ("value", pa.int64())])
    assert not stream.is_bounded
    session.create_temp_view("input", stream)
    session.sql(f"CREATE SINK TABLE output USING csv OPTIONS(path: '{tmp_path}/out.csv')")
    run_over(session, "INSERT INTO output SELECT key, sum(value) AS total FROM input GROUP BY key", 3)
    assert (tmp_path / "out.csv").read_text() == "key,total\na,4\nb,2\n"
    for missing in (tmp_path / "no", tmp_path / "out.csv"):
        with pytest.raises((vexact.SourceNotFoundError, vexact.InvalidRequestError)):
            session.read_stream_csv_dir(missing)


def test_an_exactly_once_query_goes_on_where_it_was_stopped(session: vexact.Session, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_old(folder / "b.csv", "k,v\na,1\nb,2\n")
    session.sql(f"CREATE SOURCE TABLE input (k STRING, v BIGINT) USING csv OPTIONS(path: '{folder}')")
    session.sql(f"CREATE SINK TABLE output (k STRING, total BIGINT) USING csv OPTIONS(path: '{path}')")
    sql = "INSERT INTO output SELECT k, sum(v) FROM input GROUP BY k"
    options = {"checkpoint_path": tmp_path / "checkpoint", "checkpoint_delivery_mode": "exactly-once"}
    run_over(session, sql, 2, **options)
    with path.open("a") as file:
        file.write("half a li")  # As a killed process leaves it.
    write_old(folder / "a.csv", "k,v\na,10\n")
    progress = run_over(session, sql, 3, **options)
    assert path.read_text() == "k,total\na,1\nb,2\na,11\n"
    assert json.loads(progress["last_source_offset"]) == {"a.csv": 9, "b.csv": 12}
    with pytest.raises(vexact.InvalidRequestError, match="a sink that can be cut back"):
        session.sql(f"CREATE SINK TABLE p (k STRING, total BIGINT) USING parquet OPTIONS(path: '{tmp_path}/p')")
        other = {**options, "checkpoint_path": tmp_path / "other"}
        session.start_stream_sql("INSERT INTO p SELECT k, sum(v) FROM input GROUP BY k", **other)


def test_columns_that_do_not_match_are_an_error_at_the_start(session: vexact.Session, folder: Path, tmp_path: Path) -> None:
    write_old(folder / "a.csv", "key,value\na,x\n")
    session.sql(f"CREATE SOURCE TABLE names (key STRING, v BIGINT) USING csv OPTIONS(path: '{folder}')")
    session.sql(f"CREATE SOURCE TABLE types (key STRING, value BIGINT) USING csv OPTIONS(path: '{folder}')")
    session.sql(f"CREATE SINK TABLE output (key STRING) USING json OPTIONS(path: '{tmp_path}/o')")
    for source, problem in [
        ("names", r"a\.csv: columns: declared are \[key, v\], the file has \[key, value\]"),
        ("types", r"a\.csv: line 2, column \"value\": expected Int64, got \"x\""),
    ]:
        with pytest.raises(vexact.InvalidRequestError, match=problem):
            session.start_stream_sql(f"INSERT INTO output SELECT key FROM {source}")


def collect(session: vexact.Session, stream: vexact.StreamingDataFrame) -> list[dict[str, Any]]:
    """All rows of a stream that ends."""
    sink = session.create_realtime_stream_sink()
    query = stream.write_stream(sink, trigger_interval_ms=0)
    query.start()
    rows = [row for batch in sink for row in batch.to_pylist()]
    query.await_termination()
    return rows


def test_an_iterable_is_a_stream_of_its_rows(session: vexact.Session) -> None:
    rows = [{"k": "ab"[i % 2], "v": i} for i in range(10)]
    stream = vexact.create_stream_from_custom_source(session, rows, emit_rows=4)
    assert stream.is_bounded
    session.create_temp_view("input", stream)
    found = collect(session, session.stream_sql("SELECT k, sum(v) AS s FROM input GROUP BY k"))
    assert {row["k"]: row["s"] for row in found} == {"a": 20, "b": 25}
    with pytest.raises(vexact.InvalidRequestError, match="an iterable is read once"):
        session.stream_sql("SELECT k FROM input").write_stream(session.create_realtime_stream_sink())
    with pytest.raises(vexact.InvalidRequestError, match="expected at least one, to know the columns"):
        vexact.create_stream_from_custom_source(session, [])
    schema = pa.schema([("n", pa.int32())])
    assert collect(session, vexact.create_stream_from_custom_source(session, [], schema=schema)) == []


def test_an_endless_iterable_is_read_at_the_querys_pace(session: vexact.Session) -> None:
    read = []
    endless = ({"n": read.append(n) or n} for n in itertools.count())
    schema = pa.schema([("n", pa.int64())])
    stream = vexact.create_stream_from_custom_source(session, endless, schema=schema, emit_rows=10)
    assert read == [], "nothing is read before it runs"
    sink = session.create_realtime_stream_sink(high_watermark=2)
    query = stream.write_stream(sink, trigger_interval_ms=0)
    assert query.await_termination(max_batches=1) == 1
    batch = sink.poll_arrow(None)
    assert batch is not None and batch["n"].to_pylist() == list(range(10))
    assert len(read) <= 100
    query.stop()


def test_a_query_that_waits_for_an_iterable_stops_at_once(session: vexact.Session) -> None:
    import threading

    is_over = threading.Event()

    def silent() -> Iterator[dict[str, int]]:
        is_over.wait(60)
        yield {"n": 1}

    stream = vexact.create_stream_from_custom_source(session, silent(), schema=pa.schema([("n", pa.int64())]))
    query = stream.write_stream(session.create_realtime_stream_sink())
    query.start()
    query.stop()
    assert query.await_termination() == 0
    assert not is_over.is_set()
    is_over.set()


def test_what_an_iterable_raises_fails_the_query_with_it_as_the_cause(session: vexact.Session) -> None:
    def broken() -> Iterator[dict[str, int]]:
        yield {"n": 1}
        raise LookupError("the well is dry")

    stream = vexact.create_stream_from_custom_source(session, broken(), emit_interval_seconds=0)
    sink = session.create_realtime_stream_sink()
    query = stream.write_stream(sink, trigger_interval_ms=0)
    with pytest.raises(vexact.VexactError, match="LookupError: the well is dry") as error:
        query.await_termination()
    assert isinstance(error.value.__cause__, LookupError)
    assert query.progress()["status"] == "failed"
    batch = sink.poll_arrow()
    assert batch is not None and batch.to_pylist() == [{"n": 1}]


def test_a_function_is_a_sink_by_name(session: vexact.Session) -> None:
    tables: list[pa.Table] = []
    sink = vexact.CustomArrowStreamSink(tables.append, emit_interval_seconds=1000, emit_rows=4)
    session.create_temp_view("output", sink)
    batches = [pa.record_batch({"n": list(range(start, start + 3))}) for start in (0, 3, 6)]
    session.create_temp_view("input", session.create_stream_from_arrow(pa.Table.from_batches(batches)))
    session.start_stream_sql("INSERT INTO output SELECT n * 2 AS n FROM input", trigger_interval_ms=0).await_termination()
    assert [table.num_rows for table in tables] == [4, 4, 1]
    assert [n for table in tables for n in table["n"].to_pylist()] == [2 * n for n in range(9)]

    def refuse(table: pa.Table) -> None:
        raise PermissionError(f"{table.num_rows} rows")

    session.create_temp_view("refused", vexact.CustomArrowStreamSink(refuse))
    query = session.start_stream_sql("INSERT INTO refused SELECT n FROM input", trigger_interval_ms=0)
    with pytest.raises(vexact.VexactError, match="PermissionError: 9 rows") as error:
        query.await_termination()
    assert isinstance(error.value.__cause__, PermissionError)


@pytest.fixture
def server() -> Iterator[Bitable]:
    bitable = Bitable()
    yield bitable
    bitable.close()


URL = "https://example.feishu.cn/base/app?table=tbl"


def test_a_bitable_streams_its_pages(session: vexact.Session, server: Bitable) -> None:
    server.records = records(25)
    client = vexact.bitable.BitableClient("id", "secret", base_url=server.url)
    # The fields cannot be read: the first page says the columns.
    stream = vexact.bitable.create_stream_from_bitable(session, client, URL, page_size=10)
    assert stream.schema.names == ["record_id", "Owner", "Points"]
    assert server.paths().count("records") == 1
    assert [row["Points"] for row in collect(session, stream)] == list(range(25))

    server.fields = [{"field_name": "Owner", "type": 11}, {"field_name": "Points", "type": 2}, {"field_name": "Due", "type": 5}]
    server.records[3]["fields"]["Due"] = 1_675_440_000_000
    rows = collect(session, vexact.bitable.create_stream_from_bitable(session, client, URL, page_size=10))
    assert rows[3]["Due"].isoformat() == "2023-02-03T16:00:00+00:00" and rows[4]["Due"] is None
    assert rows[4] == {"record_id": "rec4", "Owner": ["Bob"], "Points": 4.0, "Due": None}

    schema = pa.schema([("Owner", pa.string()), ("Points", pa.int64())])
    session.create_temp_view("tasks", vexact.bitable.create_stream_from_bitable(session, client, URL, schema=schema))
    by_owner = session.stream_sql('SELECT "Owner", count(*) AS n FROM tasks GROUP BY "Owner"')
    assert {row["Owner"]: row["n"] for row in collect(session, by_owner)} == {"Ann": 9, "Bob": 8, "Cid": 8}


def test_a_bitable_that_fails_ends_its_query_with_the_cause(session: vexact.Session, server: Bitable) -> None:
    server.records = records(25)
    client = vexact.bitable.BitableClient("id", "secret", base_url=server.url, max_retries=0)
    stream = vexact.bitable.create_stream_from_bitable(session, client, URL, page_size=10)
    server.answers = [(500, {}, b"oops")]
    query = stream.write_stream(session.create_realtime_stream_sink(), trigger_interval_ms=0)
    with pytest.raises(vexact.VexactError, match="HTTP 500") as error:
        query.await_termination()
    assert isinstance(error.value.__cause__, vexact.BitableClientError)
