"""Outputs: files replace others when they are complete, and values are kept whole or refused."""

import csv
import datetime
import decimal
import json
import os
import pathlib
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import vexact

VEXACT = str(pathlib.Path(sys.executable).parent / "vexact")
FAILS = "SELECT 1 / (value - 5) AS a FROM generate_series(1, 9)"


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def session() -> vexact.Session:
    return vexact.Session()


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet", "arrow"])
def test_copy_replaces_a_file_when_all_rows_are_written(session: vexact.Session, tmp_path: pathlib.Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    assert session.sql(f"COPY (SELECT value AS a FROM generate_series(1, 3)) TO '{path}'").to_rows()["rows"] == [[3]]
    before = path.read_bytes()
    with pytest.raises(vexact.VexactError):
        session.sql(f"COPY ({FAILS}) TO '{path}'")
    assert (path.read_bytes(), names(tmp_path)) == (before, [path.name])
    session.sql(f"COPY (SELECT 1 AS a WHERE false) TO '{path}'")
    assert path.exists() and path.read_bytes() != before
    if suffix != "json":
        assert session.read(path).count() == 0


def test_copy_takes_options_and_refuses_others(session: vexact.Session, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.txt"
    session.sql(f"COPY (SELECT 1 AS a, 'x' AS b) TO '{path}' STORED AS CSV OPTIONS ('format.delimiter' ';', 'format.has_header' 'false')")
    assert path.read_text() == "1;x\n"
    session.sql(f"COPY (SELECT 1 AS a) TO '{path}' STORED AS PARQUET OPTIONS ('format.compression' 'snappy')")
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "SNAPPY"
    for options, problem in [("'format.quote' 'x'", "unknown option"), ("'format.delimiter' 'ab'", "one character")]:
        with pytest.raises(vexact.InvalidRequestError, match=problem):
            session.sql(f"COPY (SELECT 1 AS a) TO '{path}' STORED AS CSV OPTIONS ({options})")


WRITERS: dict[str, Callable[[vexact.DataFrame, pathlib.Path], object]] = {
    "csv": lambda frame, path: frame.write_csv(path),
    "parquet": lambda frame, path: frame.write_parquet(path),
}


@pytest.mark.parametrize("form", WRITERS)
def test_a_file_that_is_replaced_keeps_its_link_and_permissions(session: vexact.Session, tmp_path: pathlib.Path, form: str) -> None:
    (tmp_path / "deep").mkdir()
    real, link = tmp_path / "deep" / f"real.{form}", tmp_path / f"link.{form}"
    link.symlink_to(real)
    real.write_text("old")
    real.chmod(0o640)
    WRITERS[form](session.sql("SELECT 1 AS a"), link)
    assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert session.read(real).to_rows()["rows"] == [[1]]
    assert (names(tmp_path), names(tmp_path / "deep")) == (["deep", link.name], [real.name])
    with pytest.raises(vexact.ExecutionError):
        WRITERS[form](session.sql(FAILS), link)
    assert session.read(real).to_rows()["rows"] == [[1]]
    assert names(tmp_path / "deep") == [real.name]


@pytest.mark.parametrize("form", WRITERS)
def test_one_of_two_writers_wins_whole(session: vexact.Session, tmp_path: pathlib.Path, form: str) -> None:
    path = tmp_path / f"a.{form}"
    rows = 3000

    def write(number: int) -> None:
        for _ in range(5):
            WRITERS[form](session.sql(f"SELECT {number} AS n FROM generate_series(1, {rows})"), path)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            table = pa.csv.read_csv(path) if form == "csv" else pq.read_table(path)
            assert (table.num_rows, len(set(table["n"].to_pylist()))) == (rows, 1)
    for thread in threads:
        thread.join()
    assert names(tmp_path) == [path.name]


def test_frames_of_arrow_keep_the_order_of_their_rows(tmp_path: pathlib.Path) -> None:
    session = vexact.Session(target_partitions=8)
    batches = [pa.record_batch({"n": range(first, first + 1000)}) for first in range(0, 64_000, 1000)]
    frame = session.create_dataframe_from_arrow(pa.Table.from_batches(batches))
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_csv(tmp_path / "a.csv")
    assert pq.read_table(tmp_path / "a.parquet")["n"].to_pylist() == list(range(64_000))
    assert pa.csv.read_csv(tmp_path / "a.csv")["n"].to_pylist() == list(range(64_000))


KILLED = """
import sys, vexact
vexact.Session().sql("SELECT value FROM generate_series(1, 1000000000)").write_csv(sys.argv[1])
"""


def unfinished(folder: pathlib.Path) -> bool:
    return any(path.suffix == ".tmp" and path.stat().st_size > 0 for path in folder.iterdir())


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_a_killed_writer_left_goes_with_the_next_one(session: vexact.Session, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    with subprocess.Popen([sys.executable, "-c", KILLED, path]) as killed:
        wait_until(lambda: unfinished(tmp_path))
        session.sql("SELECT 1 AS a").write_csv(tmp_path / "b.csv")
        assert len(names(tmp_path)) == 2, "one that is being written stays"
        killed.kill()
    session.sql("SELECT 1 AS a").write_csv(path)
    assert names(tmp_path) == ["a.csv", "b.csv"]


def test_ctrl_c_leaves_nothing_of_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with subprocess.Popen([sys.executable, "-c", KILLED, path], stderr=subprocess.DEVNULL) as interrupted:
        wait_until(lambda: unfinished(tmp_path))
        interrupted.send_signal(signal.SIGINT)
    assert interrupted.returncode != 0
    assert (names(tmp_path), path.read_text()) == (["a.csv"], "old")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended_leaves_the_old_file(tmp_path: pathlib.Path, sign: signal.Signals) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "a.csv").write_text("a\n1\n")
    (folder / "x.csv").write_text("old")
    query = "SELECT value FROM generate_series(1, 1000000000)"
    command = [VEXACT, "file-sql", "--input-path", tmp_path / "a.csv", "--query", query, "--output-path", folder / "x.csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        wait_until(lambda: unfinished(folder))
        process.send_signal(sign)
        out, _ = process.communicate()
    assert process.returncode != 0 and json.loads(out)["error"] == f"cancelled by {sign.name}"
    assert (names(folder), (folder / "x.csv").read_text()) == (["x.csv"], "old")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named(session: vexact.Session) -> None:
    for write in WRITERS.values():
        with pytest.raises(vexact.SourceIOError, match="/dev/full.*No space left"):
            write(session.sql("SELECT value FROM generate_series(1, 100000)"), pathlib.Path("/dev/full"))
    with pytest.raises(vexact.SourceIOError, match="No space left"):
        session.sql("COPY (SELECT 1 AS a) TO '/dev/full' STORED AS JSON")


# Type, what is inserted, and the value that is there then: None if it is refused.
KEPT: list[tuple[str, str, Any]] = [
    ("INT", "1.5", None),
    ("INT", "2.0", 2),
    ("INT", "3000000000", None),
    ("INT", "'12'", 12),
    ("INT", "'007'", None),
    ("INT", "CAST(1.5 AS INT)", 1),
    ("INT", "CAST(CAST(1.5 AS DOUBLE) AS INT)", 1),
    ("INT", "CAST(1.5 AS DOUBLE)", None),
    ("BIGINT", "1e300", None),
    ("DOUBLE", "9007199254740993", None),
    ("DOUBLE", "9007199254740992", 9007199254740992.0),
    ("FLOAT", "0.5", 0.5),
    ("FLOAT", "1e300", None),
    ("DECIMAL(5,2)", "'1.005'", decimal.Decimal("1.01")),
    ("DECIMAL(5,2)", "CAST('1.995' AS DECIMAL(10,3))", decimal.Decimal("2.00")),
    ("DECIMAL(5,2)", "12345.6", None),
    ("DATE", "'2024-01-01'", datetime.date(2024, 1, 1)),
    ("DATE", "'2024-01-01 23:00:00'", None),
    ("DATE", "timestamp '2024-01-01 23:00:00'", None),
    ("DATE", "timestamp '2024-01-01 00:00:00'", datetime.date(2024, 1, 1)),
    ("TIMESTAMP(0)", "timestamp '2024-01-01 00:00:00.5'", None),
    ("TIMESTAMP(0)", "'2024-01-01 00:00:00.5'", None),
    ("TIMESTAMP(3)", "'2024-01-01 00:00:00.5'", datetime.datetime(2024, 1, 1, 0, 0, 0, 500_000)),
    ("TIMESTAMP", "'2024-01-01T00:00:00+02:00'", None),
    ("TIME", "timestamp '2024-01-01 23:00:00'", None),
    ("BOOLEAN", "2", None),
    ("VECTOR(2)", "[0.5, 1.5]", [0.5, 1.5]),
    ("VECTOR(2)", "[0.5, 1.5, 2.5]", None),
]


@pytest.mark.parametrize(("kind", "value", "expected"), KEPT)
def test_an_insert_keeps_a_value_whole_or_refuses_it(
    session: vexact.Session, tmp_path: pathlib.Path, kind: str, value: str, expected: Any
) -> None:
    session.sql(f"CREATE TABLE memory (a {kind})")
    session.sql(f"CREATE TABLE parquet (a {kind}) USING parquet OPTIONS(path '{tmp_path}/folder')")
    session.sql(f"CREATE TABLE csv (a {kind}) USING csv OPTIONS(path '{tmp_path}/a.csv')")
    for table in ("memory", "parquet", "csv"):
        for statement in (f"INSERT INTO {table} VALUES ({value})", f"INSERT INTO {table} SELECT {value}"):
            if expected is None:
                with pytest.raises(vexact.VexactError):
                    session.sql(statement)
            else:
                session.sql(statement)
        if expected is not None and table != "csv":
            assert session.sql(f"SELECT a FROM {table}").to_arrow()["a"].to_pylist() == [expected] * 2
    assert expected is not None or names(tmp_path) in ([], ["folder"])


def test_parameters_are_kept_whole_too(session: vexact.Session) -> None:
    session.sql("CREATE TABLE t (a INT, d DATE)")
    session.sql("INSERT INTO t VALUES ($1, $2)", [7, datetime.date(2024, 1, 1)])
    for params in ([1.5, None], [1 << 40, None], [1, datetime.datetime(2024, 1, 1, 23)]):
        with pytest.raises(vexact.VexactError):
            session.sql("INSERT INTO t VALUES ($1, $2)", params)
    session.sql("PREPARE p AS INSERT INTO t VALUES ($1, NULL)")
    with pytest.raises(vexact.VexactError, match='column "a"'):
        session.sql("EXECUTE p(1.5)").to_rows()
    assert session.sql("EXECUTE p(8)").to_rows()["rows"] == [[1]]
    assert session.sql("SELECT a FROM t").to_rows()["rows"] == [[7], [8]]


def test_what_a_form_lacks_is_refused_before_it_is_written(session: vexact.Session, tmp_path: pathlib.Path) -> None:
    for query, suffix, problem in [
        ("SELECT interval '1 month' AS a", "parquet", "Interval"),
        ("SELECT named_struct('x', 1) AS a", "csv", "Struct"),
        ("SELECT ['x'] AS a", "csv", "List"),
    ]:
        path = tmp_path / f"a.{suffix}"
        with pytest.raises(vexact.InvalidRequestError, match=f'column "a".*{problem}'):
            session.sql(f"COPY ({query}) TO '{path}'")
    assert names(tmp_path) == []
    session.sql(f"CREATE TABLE t (a DOUBLE) USING json OPTIONS(path '{tmp_path}/a.json')")
    with pytest.raises(vexact.VexactError, match='column "a".*NaN or an infinity'):
        session.sql("INSERT INTO t VALUES ('NaN'::DOUBLE)")
    assert names(tmp_path) == []
    session.sql(f"COPY (SELECT 'NaN'::DOUBLE AS a, [1.5, '-inf'::DOUBLE] AS b) TO '{tmp_path}/b.json'")
    assert json.loads((tmp_path / "b.json").read_text()) == {"a": "NaN", "b": [1.5, "-Infinity"]}


def test_rows_that_are_pushed_lose_nothing() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    for kind, value in [
        ("date32", datetime.datetime(2024, 1, 1, 23)),
        ("timestamp[s]", datetime.datetime(2024, 1, 1, 0, 0, 0, 5)),
        ("timestamp[us]", datetime.datetime(2024, 1, 1, tzinfo=zone)),
        ("time32[s]", datetime.time(1, 2, 3, 4)),
        ("float", 1e300),
        ("int64", 1.5),
    ]:
        source = vexact.RealtimeStreamSource({"a": kind})
        with pytest.raises(vexact.InvalidRequestError, match="column 'a'"):
            source.push_rows([{"a": value}])
        assert len(source) == 0


def test_names_alone_have_the_types_of_the_first_rows(session: vexact.Session) -> None:
    source = session.create_realtime_stream_source(["ts", "key", "value"])
    session.create_temp_view("events", session.read_realtime_stream_source(source))
    sink = session.create_realtime_stream_sink()
    session.create_temp_view("totals", sink)
    sql = "INSERT INTO totals SELECT w, key, sum(value) AS total FROM events WINDOW BY ts EVERY 60000 AS w GROUP BY w, key"
    query = session.start_stream_sql(sql)
    query.start()
    assert query.progress()["status"] == "running"
    source.push_rows([("2024-01-01T00:00:01Z", "a", 1), ("2024-01-01T00:01:02+00:00", "a", 2)])
    source.push_rows([{"ts": "2024-01-01 00:00:03", "key": "a", "value": 5}])
    source.close()
    assert query.await_termination() == 2
    rows = [row for batch in sink for row in batch.to_pylist()]
    minutes = [datetime.datetime(2024, 1, 1, 0, minute) for minute in (0, 1)]
    assert sorted((row["w"], row["total"]) for row in rows) == [(minutes[0], 1), (minutes[0], 6), (minutes[1], 2)]
    assert source.schema == pa.schema([("ts", pa.string()), ("key", pa.string()), ("value", pa.int64())])
    with pytest.raises(vexact.InvalidRequestError, match="column 'value'"):
        source.push_rows([("", "a", "x")])


def test_a_query_over_names_alone_fails_where_it_is_waited_for(session: vexact.Session) -> None:
    source = session.create_realtime_stream_source(["key"])
    session.create_temp_view("events", session.read_realtime_stream_source(source))
    with pytest.raises(vexact.InvalidRequestError, match="first rows"):
        _ = session.read_realtime_stream_source(source).schema
    sink = session.create_realtime_stream_sink()
    session.create_temp_view("out", sink)
    query = session.start_stream_sql("INSERT INTO out SELECT nothing FROM events")
    source.push_rows([["a"]])
    with pytest.raises(vexact.VexactError, match="nothing"):
        query.await_termination()
    assert query.progress()["status"] == "failed"
    other = session.create_realtime_stream_source(["key"])
    session.create_temp_view("others", session.read_realtime_stream_source(other))
    stopped = session.start_stream_sql("INSERT INTO out SELECT key FROM others")
    stopped.stop()
    assert stopped.await_termination() == 0


def test_wrong_requests_are_value_and_runtime_errors(session: vexact.Session) -> None:
    for kind in (ValueError, RuntimeError, vexact.VexactError):
        with pytest.raises(kind):
            session.sql("SELECT nothing")


def test_an_event_far_ahead_of_the_clock_is_a_warning(session: vexact.Session) -> None:
    batch = pa.record_batch({"at": pa.array([253402214400000], pa.int64())})
    session.create_temp_view("ticks", session.create_stream_from_arrow(batch))
    sink = session.create_realtime_stream_sink()
    session.create_temp_view("out", sink)
    sql = "INSERT INTO out SELECT w, count(*) FROM ticks WINDOW BY at EVERY 1000 LATENESS 0 AS w GROUP BY w"
    with pytest.warns(RuntimeWarning, match="days ahead of the clock"):
        session.start_stream_sql(sql).await_termination()


def test_a_closed_stdout_is_a_failure(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    command = f"{VEXACT} file-sql --input-path {tmp_path}/a.csv --query 'SELECT * FROM input_table'"
    closed = subprocess.run(["bash", "-c", f"{command} >&-"], capture_output=True, text=True)
    assert closed.returncode == 1 and "closed" in closed.stderr
    assert subprocess.run(["bash", "-c", f"{command} >/dev/null"], capture_output=True).returncode == 0


def test_a_value_that_cannot_be_shown_costs_no_other_one(session: vexact.Session, capsys: pytest.CaptureFixture[str]) -> None:
    frame = session.create_dataframe_from_arrow({"id": [7, 8], "d": pa.array([2_000_000_000, 0], pa.date32())})
    rows = frame.to_rows()["rows"]
    assert (rows[0][0], rows[1]) == (7, [8, datetime.date(1970, 1, 1)])
    assert rows[0][1].startswith("ERROR: column 'd', row 0")
    html = frame._repr_html_()
    assert ">7<" in html and "1970-01-01" in html and "ERROR: " in html
    frame.show()
    shown = capsys.readouterr().out
    assert "1970-01-01" in shown and "ERROR: " in shown


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_text_has_no_times_beyond_the_calendar(session: vexact.Session, tmp_path: pathlib.Path, suffix: str) -> None:
    with pytest.raises(vexact.InvalidRequestError, match='column "d", row 0'):
        session.sql(f"COPY (SELECT arrow_cast(2000000000, 'Date32') AS d) TO '{tmp_path}/a.{suffix}'")
    assert names(tmp_path) == []


def random_table(seed: int) -> pa.Table:
    """Rows of many types with NULLs, extremes, and texts that need quotes."""
    source = random.Random(seed)
    rows = source.randrange(0, 40)
    texts = ["", "a", 'say "x"', "a,b", "line\nbreak", " space ", "é", "007", "NaN", "null"]
    epoch = datetime.datetime(1970, 1, 1)

    def column(value: Callable[[], Any], kind: pa.DataType) -> pa.Array:
        return pa.array([None if source.random() < 0.2 else value() for _ in range(rows)], kind)

    return pa.table({
        "i": column(lambda: source.choice([0, -1, 2**63 - 1, -(2**63), source.randrange(-1000, 1000)]), pa.int64()),
        "u": column(lambda: source.choice([0, 2**64 - 1]), pa.uint64()),
        "f": column(lambda: source.choice([0.1, -0.0, 1e300, 5e-324, source.random()]), pa.float64()),
        "g": column(lambda: source.choice([0.5, 0.25, 1e30]), pa.float32()),
        "b": column(lambda: source.random() < 0.5, pa.bool_()),
        "s": column(lambda: source.choice(texts), pa.string()),
        "d": column(lambda: (epoch + datetime.timedelta(days=source.randrange(-9000, 90000))).date(), pa.date32()),
        "t": column(lambda: epoch + datetime.timedelta(microseconds=source.randrange(-(10**15), 10**15)), pa.timestamp("us")),
        "n": column(lambda: decimal.Decimal(source.randrange(-(10**9), 10**9)) / 1000, pa.decimal128(20, 3)),
    })


def float32(digits: Any) -> float:
    """The float32 that a number's digits mean."""
    return float(np.float32(str(digits)))


@pytest.mark.parametrize("seed", range(20))
def test_random_rows_are_written_as_pyarrow_and_python_read_them(session: vexact.Session, tmp_path: pathlib.Path, seed: int) -> None:
    table = random_table(seed)
    session.create_temp_view("t", session.create_dataframe_from_arrow(table))
    frame = session.sql("SELECT * FROM t")
    frame.write_parquet(tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").to_pydict() == table.to_pydict()
    session.sql(f"COPY t TO '{tmp_path}/a.arrow'")
    with pa.ipc.open_file(tmp_path / "a.arrow") as file:
        assert file.read_all().to_pydict() == table.to_pydict()

    session.sql(f"COPY t TO '{tmp_path}/a.json'")
    lines = [json.loads(line, parse_float=decimal.Decimal) for line in (tmp_path / "a.json").read_text().splitlines()]
    for line, row in zip(lines, table.to_pylist(), strict=True):
        assert list(line) == table.column_names
        assert (line["i"], line["u"], line["b"], line["s"]) == (row["i"], row["u"], row["b"], row["s"])
        for name, cast in [("f", float), ("g", float32), ("n", decimal.Decimal)]:
            assert (None if line[name] is None else cast(line[name])) == row[name]
        assert (line["d"] and datetime.date.fromisoformat(line["d"])) == row["d"]
        assert (line["t"] and datetime.datetime.fromisoformat(line["t"])) == row["t"]

    frame.write_csv(tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        header, *lines = list(csv.reader(file))
    assert header == table.column_names
    casts: list[Callable[[str], Any]] = [
        int, int, float, float32, lambda text: text == "true", str, datetime.date.fromisoformat, datetime.datetime.fromisoformat,
        decimal.Decimal,
    ]
    for cells, row in zip(lines, table.to_pylist(), strict=True):
        read = [cast(cell) if cell else None for cast, cell in zip(casts, cells)]
        # CSV has one empty cell for NULL and the empty text.
        assert read == [value if value != "" else None for value in row.values()]
