"""A value is kept whole or refused, and so is a file: random files, read by the session and by readers that it does not use."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import json
import os
import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import vexact

DAY = [f"20{year:02}-{month:02}-{day:02}" for year, month, day in [(24, 1, 1), (24, 2, 29), (24, 2, 30), (99, 12, 31)]]
TIMES = [f"{DAY[0]}{tail}" for tail in (" 10:00:00", "T10:00:00.5", " 10:00:00.123456", "T10:00:00Z", "T10:00:00+02:00", " 24:00:00", " 10:00:60")]
NUMBERS = ["0", "-0", "7", "-12", "1.5", "1e3", ".5", "5.", "007", "9007199254740993", "9223372036854775807", "9223372036854775808",
           "18446744073709551616", "1e400", "1e-400", "NaN", "0.1", "123456789012345678901234567890"]
OTHERS = ["true", "FALSE", "x", "", "N/A", "1,5", "12:30", "[1 2]", "é", " 1"]


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except vexact.InvalidRequestError:
        return None


def is_whole(cell: str, value: Any) -> bool:
    """Returns true if a value is all that a cell says."""
    if value is None:
        return cell == ""
    if isinstance(value, bool):
        return cell.lower() == str(value).lower()
    if isinstance(value, int):
        return cell == str(value)
    if isinstance(value, float):
        # The value, of an integer too: and no number that became infinite or zero.
        exact = decimal.Decimal(cell) if cell not in ("NaN", "inf") else None
        is_in_range = exact is None or (np.isinf(value) or exact == 0) == (exact == value == 0)
        return str(value) == str(float(cell)) and is_in_range and (set(cell) & set(".eNn") != set() or int(cell) == value)
    if isinstance(value, datetime.datetime):
        written = datetime.datetime.fromisoformat(cell)
        return written == value and written.utcoffset() == value.utcoffset()
    if isinstance(value, datetime.date):
        return cell == value.isoformat()
    return isinstance(value, str) and cell == value


@pytest.mark.parametrize("seed", range(40))
def test_a_csv_cell_is_whole_or_refused_whatever_the_first_rows_were(session: vexact.Session, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    pool = chance.choice([NUMBERS, TIMES + DAY, DAY, NUMBERS[:5], OTHERS + NUMBERS, NUMBERS + TIMES])
    early = chance.sample(pool, chance.randint(1, min(3, len(pool))))
    cells = [chance.choice(early) for _ in range(chance.choice([1, 5, 1000]))] + [chance.choice(pool) for _ in range(chance.randint(0, 3))]
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "c"], *([str(row), cell] for row, cell in enumerate(cells))])
    with path.open(newline="") as file:
        expected = [row[1] for row in csv.reader(file)][1:]
    assert expected == cells
    got = outcome(lambda: session.read_csv(path).to_arrow()["c"].to_pylist())
    if len(cells) <= 1000:
        # Rows that decide on a type are read in it; they may be vectors, which are checked elsewhere.
        assert got is not None or "[1 2]" in cells
    for cell, value in zip(expected, got or []):
        assert is_whole(cell, value) or isinstance(value, list), (cell, value)


DECLARED: dict[str, Callable[[str], Any]] = {
    "INT": lambda text: int(text) if text.lstrip("-").isdigit() and -(2**31) <= int(text) < 2**31 else None,
    "BIGINT": lambda text: int(text) if text.lstrip("-").isdigit() and -(2**63) <= int(text) < 2**63 else None,
    "DECIMAL(10, 2)": lambda text: quantized(text, 10, 2),
    "DECIMAL(38, 0)": lambda text: quantized(text, 38, 0),
    "DATE": lambda text: datetime.date.fromisoformat(text) if len(text) == 10 else None,
    "TIMESTAMP(0)": lambda text: moment(text, 0),
    "TIMESTAMP(3)": lambda text: moment(text, 3),
    "TIMESTAMP(6)": lambda text: moment(text, 6),
    "BOOLEAN": lambda text: {"true": True, "false": False}.get(text.lower()),
    "STRING": lambda text: text,
}


def quantized(text: str, precision: int, scale: int) -> decimal.Decimal | None:
    number = decimal.Decimal(text)
    if text != text.strip() or not number.is_finite():
        return None
    with decimal.localcontext(decimal.Context(prec=1000, Emin=-9999, Emax=9999)):
        rounded = number.quantize(decimal.Decimal(1).scaleb(-scale), decimal.ROUND_HALF_UP)
    return rounded if abs(rounded).scaleb(scale) < 10**precision else None


def moment(text: str, digits: int) -> datetime.datetime | None:
    at = datetime.datetime.fromisoformat(text)
    if at.utcoffset():
        return None
    return at.replace(tzinfo=None) if at.microsecond * 10**digits % 10**6 == 0 and ":60" not in text else None


@pytest.mark.parametrize("kind", DECLARED)
def test_a_declared_type_keeps_a_cell_whole_or_refuses_it(session: vexact.Session, tmp_path: Path, kind: str) -> None:
    def expected(text: str) -> Any:
        try:
            return DECLARED[kind](text)
        except (ValueError, decimal.InvalidOperation):
            return None

    for number, cell in enumerate(cell for cell in NUMBERS + TIMES + DAY + OTHERS if cell.strip() == cell != ""):
        path = tmp_path / f"{number}.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["c", "d"], [cell, "x"]])

        def read() -> Any:
            session.sql(f"CREATE OR REPLACE TABLE t (c {kind}, d STRING) USING csv OPTIONS (path: '{path}')")
            return session.sql("SELECT c FROM t").to_rows()["rows"][0][0]

        assert outcome(read) == expected(cell), cell


def json_value(chance: random.Random, depth: int) -> Any:
    kinds = [
        lambda: chance.choice([0, 1, -7, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, 10**37, -(10**40), 10**80]),
        lambda: chance.choice([0.5, -0.0, 1e300, 5e-324, 0.1]),
        lambda: chance.choice(["", "x", "é\n\"\\", "007", "1", "true", "2024-01-01"]),
        lambda: chance.random() < 0.5,
        lambda: None,
    ]
    if depth:
        kinds += [
            lambda: [json_value(chance, depth - 1) for _ in range(chance.randint(0, 3))],
            lambda: {name: json_value(chance, depth - 1) for name in chance.sample("xyz", chance.randint(0, 3))},
        ]
    return chance.choice(kinds)()


def is_same(written: Any, value: Any) -> bool:
    """Returns true if a value is what was written; values of several kinds are the text of their JSON."""
    if isinstance(value, str):
        return written == value or not isinstance(written, str) and json.loads(value) == written
    if isinstance(written, dict) and isinstance(value, dict):
        return written.keys() <= value.keys() and all(is_same(written.get(name), item) for name, item in value.items())
    if isinstance(written, list) and isinstance(value, list):
        return len(written) == len(value) and all(map(is_same, written, value))
    if isinstance(written, bool) or isinstance(value, bool) or written is None:
        return written is value
    return written == value and (written != 0 or str(float(written)) == str(float(value)))


@pytest.mark.parametrize("seed", range(60))
def test_a_json_value_is_whole_or_refused(session: vexact.Session, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = "abcde"
    early = [{name: json_value(chance, 2) for name in chance.sample(names, chance.randint(1, 3))} for _ in range(3)]
    rows = [chance.choice(early) for _ in range(chance.choice([0, 3, 1000]))]
    rows += [{name: json_value(chance, 2) for name in chance.sample(names, chance.randint(1, 5))} for _ in range(chance.randint(1, 3))]
    forms = {
        "json_lines": "".join(json.dumps(row) + "\n" for row in rows),
        "json_array": json.dumps(rows),
    }
    answers = []
    for form, text in forms.items():
        path = tmp_path / form
        path.write_text(text)
        got = outcome(lambda: session.read_json(path, format=form).to_arrow().to_pylist())
        answers.append(got)
        if len(rows) <= 1000:
            assert got is not None, rows
        for written, row in zip(rows, got or [], strict=got is not None):
            # A key that an object lacks is NULL in its row.
            assert is_same(written, row), (written, row)
    assert repr(answers[0]) == repr(answers[1])


@pytest.mark.parametrize("seed", range(30))
def test_csv_text_is_read_as_by_python_or_refused(session: vexact.Session, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        body = "".join(chance.choice(["a", "b", ",", '"', "\n", "\r\n", "é", "1"]) for _ in range(chance.randint(0, 20)))
        text = f"x,y\n{body}"
        path = tmp_path / "a.csv"
        path.write_text(text, newline="")
        got = outcome(lambda: session.read_csv(path, dtypes={"x": str, "y": str}).to_arrow().to_pylist())
        if got is None:
            continue
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row][1:]
        except csv.Error:
            # Text after a closing quote, which the reader takes for a part of the cell.
            continue
        assert [[row["x"] or "", row["y"] or ""] for row in got] == rows, text


def test_a_file_is_the_same_however_it_is_stored(session: vexact.Session, tmp_path: Path) -> None:
    table = pandas.DataFrame({"id": range(3000), "s": [f"é{i}" for i in range(3000)], "x": np.arange(3000) / 7})
    text = table.to_csv(index=False)
    expected = pa.Table.from_pandas(pandas.read_csv(io.StringIO(text), float_precision="round_trip"), preserve_index=False).to_pylist()
    rows = json.dumps(expected)
    zstd = pa.compress(text.encode(), codec="zstd", asbytes=True)
    for name, content, options in [
        ("a.csv", text.encode(), {}),
        ("mark.csv", b"\xef\xbb\xbf" + text.encode(), {}),
        ("a.csv.gz", gzip.compress(text[:20000].encode()) + gzip.compress(text[20000:].encode()), {}),
        ("a.csv.zst", zstd, {}),
        ("utf16.csv", text.encode("utf-16"), {"encoding": "utf-16"}),
        ("be.csv", text.encode("utf-16-be"), {"encoding": "utf-16be"}),
        ("latin.csv", text.encode("latin-1"), {"encoding": "latin-1"}),
        ("ansi.csv", text.encode("cp1252"), {"encoding": "windows-1252"}),
        ("a.json", rows.encode(), {}),
        ("mark.json", b"\xef\xbb\xbf" + rows.encode(), {}),
        ("a.json.gz", gzip.compress(rows.encode()), {}),
        ("pretty.json", "\n".join(json.dumps(row, indent=2) for row in expected).encode(), {}),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        frame = session.read_csv(path, **options) if options else session.read(path)
        assert frame.to_arrow().select(["id", "s", "x"]).to_pylist() == expected, name
        if not options:
            assert session.probe(path)["suggested_table_name"] == name.split(".")[0]
    for name in ("a.csv.gz", "a.csv.zst"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut{name}").write_bytes(content[: len(content) // 2])
        with pytest.raises(vexact.InvalidRequestError, match=f"cut{name}"):
            session.read(tmp_path / f"cut{name}").to_arrow()


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
def test_folders_patterns_and_lists_are_their_files(session: vexact.Session, tmp_path: Path, form: str) -> None:
    def write(name: str, table: pa.Table) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "parquet":
            pq.write_table(table, path)
        elif form == "arrow":
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
        elif form == "csv":
            table.to_pandas().to_csv(path, index=False)
        else:
            table.to_pandas().to_json(path, orient="records", lines=True)

    read = {"csv": session.read_csv, "json": session.read_json, "parquet": session.read_parquet, "arrow": session.read_arrow_file}[form]
    for number, name in enumerate([f"a.{form}", f"b.{form.upper()}", f"sub/c.{form}"]):
        write(name, pa.table({"n": [number * 2, number * 2 + 1], "s": ["x", "y"]}))
    (tmp_path / "notes.md").write_text("no data")
    for paths, expected in [
        (tmp_path, 6), (str(tmp_path / f"*.{form}"), 2), ([tmp_path / f"sub/c.{form}", str(tmp_path / f"a.{form}")], 4),
        ((tmp_path / f"a.{form}").as_uri(), 2),
    ]:
        rows = read(paths).to_arrow()["n"].to_pylist()
        assert len(rows) == expected == session.read(paths).count()
    rows = read([tmp_path / f"sub/c.{form}", tmp_path / f"a.{form}"]).to_arrow()["n"].to_pylist()
    # Parquet files are read in the order of their names.
    assert rows == ([0, 1, 4, 5] if form == "parquet" else [4, 5, 0, 1])
    with pytest.raises(vexact.SourceNotFoundError):
        read(str(tmp_path / f"no*.{form}"))
    if form != "json":
        write(f"sub/d.{form}", pa.table({"other": [1]}))
        with pytest.raises(vexact.InvalidRequestError, match=f"d.{form}: columns: declared are"):
            read(tmp_path).to_arrow()


def test_columns_of_one_name_are_refused_by_every_reader(session: vexact.Session, tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "a.csv").write_text("a,a\n1,2\n")
    (tmp_path / "a.jsonl").write_text('{"a": 1, "a": 2}\n')
    for name in ("a.parquet", "a.arrow", "a.csv", "a.jsonl"):
        with pytest.raises(vexact.InvalidRequestError, match=rf'{name}: .*"a": expected one'):
            session.read(tmp_path / name).to_arrow()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("form", ["csv", "json", "parquet", "line"])
def test_a_pipe_is_read_once_and_its_rows_as_often_as_wanted(session: vexact.Session, tmp_path: Path, form: str) -> None:
    rows = [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    content = {
        "csv": b"n,s\n1,x\n2,y\n", "json": b'{"n": 1, "s": "x"}\n{"n": 2, "s": "y"}\n', "parquet": sink.getvalue().to_pybytes(),
        "line": b"1 x\n2 y\n",
    }[form]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[content])
    writer.start()
    frame = session.read_line_file(pipe, [("n", 0), ("s", 1)], split_delimiter=" ") if form == "line" else session.read(pipe)
    writer.join()
    for _ in range(2):
        assert frame.to_arrow().to_pylist() == rows


@pytest.mark.parametrize("seed", range(10))
def test_a_sum_is_exact_or_refused(session: vexact.Session, seed: int) -> None:
    chance = random.Random(seed)
    values = [chance.choice([2**63 - 1, -(2**63), 1, -1, 0, None, 2**62]) for _ in range(chance.randint(0, 12))]
    groups = [chance.randint(0, 2) for _ in values]
    table = pa.table({"g": pa.array(groups, pa.int64()), "x": pa.array(values, pa.int64())})
    session.create_temp_view("t", session.create_dataframe_from_arrow(table))
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (g, x)")
    database.executemany("INSERT INTO t VALUES (?, ?)", zip(groups, values))

    def checked(numbers: list[int | None]) -> int | None:
        total = sum(number for number in numbers if number is not None)
        return None if all(number is None for number in numbers) else total

    total = checked(values)
    try:
        assert database.execute("SELECT sum(x) FROM t").fetchall() == [(total,)]
    except sqlite3.OperationalError:
        pass
    for sql, expected in [
        ("SELECT sum(x) FROM t", total),
        ("SELECT sum(DISTINCT x) FROM t", checked(list(set(values)))),
        ("SELECT max(s) FROM (SELECT sum(x) OVER (ORDER BY g) AS s FROM t WHERE g = 0)", checked([x for g, x in zip(groups, values) if g == 0])),
    ]:
        try:
            got = session.sql(sql).to_rows()["rows"]
        except vexact.ExecutionError as error:
            assert "sum: expected a sum within" in str(error)
            continue
        assert got == [[expected]], sql
    try:
        rows = dict(session.sql("SELECT g, sum(x) FROM t GROUP BY g").to_rows()["rows"])
    except vexact.ExecutionError as error:
        assert "sum: expected a sum within" in str(error)
    else:
        assert rows == {group: checked([x for g, x in zip(groups, values) if g == group]) for group in set(groups)}


def test_parts_of_times_are_those_of_python(session: vexact.Session) -> None:
    times = [datetime.datetime(1969, 12, 31, 23, 59, 58), datetime.datetime(2021, 1, 3, 4, 5, 6), datetime.datetime(2024, 12, 30)]
    session.create_temp_view("t", session.create_dataframe_from_arrow({"id": range(3), "at": times}))
    names = "year, month, day, hour, minute, second, iso_year, iso_week, week, unix_timestamp".split(", ")
    rows = session.sql(f"SELECT {', '.join(f'{name}(at)' for name in names)} FROM t ORDER BY id").to_rows()["rows"]
    for at, row in zip(times, rows):
        year, week, _ = at.isocalendar()
        seconds = int(at.replace(tzinfo=datetime.timezone.utc).timestamp())
        assert row == [at.year, at.month, at.day, at.hour, at.minute, at.second, year, week, week, seconds]
    assert session.sql("SELECT year('2024-02-29'), month(DATE '2024-02-29')").to_rows()["rows"] == [[2024, 2]]
    with pytest.raises(vexact.InvalidRequestError, match="year: expected a date, a time or text of one, got Int64"):
        session.sql("SELECT year(5)").to_rows()


def test_arrays_of_every_byte_order_and_values_that_are_missing_are_kept(session: vexact.Session) -> None:
    masked = np.ma.masked_array(np.arange(6, dtype=">f4").reshape(2, 3), mask=[[0, 1, 0], [1, 1, 1]])
    frame = session.create_dataframe_from_arrow({
        "big": np.array([1.5, -2], ">f8"), "v": np.array([[1, 2], [3, 4]], ">f4"), "m": masked,
        "n": [1, pandas.NA], "t": [pandas.Timestamp("2024-01-01"), pandas.NaT], "i": np.array([1, 2**40], ">i8"),
    })
    assert frame.to_rows()["rows"] == [
        [1.5, [1.0, 2.0], [0.0, None, 2.0], 1, datetime.datetime(2024, 1, 1), 1], [-2.0, [3.0, 4.0], None, None, None, 2**40],
    ]


def test_the_index_and_the_types_of_pandas_come_back(session: vexact.Session, tmp_path: Path) -> None:
    table = pandas.DataFrame(
        {"n": pandas.array([1, None], "Int64"), "s": pandas.array(["x", None], "string"), "c": pandas.Categorical(["a", "b"])},
        index=pandas.Index(["p", "q"], name="key"),
    )
    table.to_parquet(tmp_path / "a.parquet")
    for frame in (session.read_parquet(tmp_path / "a.parquet"), session.read(tmp_path / "a.parquet")):
        back = frame.to_pandas()
        assert list(back.index) == ["p", "q"] and back["n"].dtype == "Int64"
        assert back["n"].isna().tolist() == [False, True]
    assert pc.sum(frame.to_arrow()["n"]).as_py() == 1
