"""All rows decide on the types of a file's columns: a late value widens its column, and never makes rows unreadable."""

import csv
import datetime
import gzip
import io
import json
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import vexact

ROWS = 3000
LATE = [
    ("1", "1.5", 1.5),
    ("1", "9223372036854775808", "9223372036854775808"),
    ("1", "n/a", "n/a"),
    ("1", "007", "007"),
    ("", "5", 5),
    ("", "x", "x"),
    ("true", "maybe", "maybe"),
    ("2024-01-01", "2024-01-02 13:45:00", datetime.datetime(2024, 1, 2, 13, 45)),
    ("2024-01-01 00:00:00", "2024-01-02 00:00:00.5", datetime.datetime(2024, 1, 2, microsecond=500000)),
    ("2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00+03:00", "2024-01-01T00:00:00+03:00"),
    ("", "[1 2]", [1.0, 2.0]),
    ('"a, b"', '"c ""d"""', 'c "d"'),
]


def text_of(first: str, late: str, header: str = "id,c\n") -> str:
    return header + "".join(f"{row},{first}\n" for row in range(ROWS)) + f"{ROWS},{late}\n"


@pytest.mark.parametrize(("first", "late", "expected"), LATE)
def test_a_late_cell_widens_its_column_however_the_file_is_stored(
    session: vexact.Session, tmp_path: Path, first: str, late: str, expected: Any
) -> None:
    text = text_of(first, late)
    plain, packed, folder = tmp_path / "a.csv", tmp_path / "b.csv.gz", tmp_path / "folder"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    folder.mkdir()
    (folder / "1.csv").write_text(f"id,c\n1,{first}\n")
    (folder / "2.csv").write_text(f"id,c\n2,{late}\n")
    bare = tmp_path / "bare.csv"
    bare.write_text(text_of(first, late, ""))
    session.sql(f"CREATE TABLE t USING csv OPTIONS(path: '{plain}')").to_rows()
    for name, frame in {
        "read_csv": session.read_csv(plain),
        "read": session.read(plain),
        "compressed": session.read_csv(packed),
        "folder": session.read_csv(folder),
        "without a header": session.read_csv(bare, header=False, names=["id", "c"]),
        "CREATE TABLE": session.sql("SELECT * FROM t"),
        "path in SQL": session.sql(f"SELECT * FROM '{plain}'"),
    }.items():
        table = frame.to_arrow()
        assert table["c"].to_pylist()[-1] == expected, name
        assert pa.types.is_integer(table.schema.field("id").type), name


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes")
def test_a_pipe_is_read_once_and_typed_by_all_rows(session: vexact.Session, tmp_path: Path) -> None:
    import os

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(text_of("1", "1.5")))
    writer.start()
    table = session.read_csv(pipe).to_arrow()
    writer.join()
    assert table["c"].to_pylist()[-1] == 1.5 and table.num_rows == ROWS + 1


def test_given_types_are_kept_and_a_misfit_of_them_is_named(session: vexact.Session, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text_of("1", "1.5"))
    assert session.read_csv(path, dtypes={"c": str}).to_arrow()["c"].to_pylist()[-1] == "1.5"
    with pytest.raises(vexact.InvalidRequestError, match=rf'line {ROWS + 2}, column "c": expected Int64, got "1.5"'):
        session.read_csv(path, dtypes={"c": int}).to_arrow()


def test_rows_behind_a_defect_decide_nothing_and_the_defect_is_named(session: vexact.Session, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,c\n" + "1,1\n" * 20_000 + "2,2,3\n" + "4,x\n")
    frame = session.read_csv(path)
    session.create_temp_view("t", frame)
    assert session.sql("SELECT c FROM t LIMIT 1").to_rows()["rows"] == [[1]]
    with pytest.raises(vexact.InvalidRequestError, match="line 20002.*expected 2 cells"):
        frame.to_arrow()


@pytest.mark.parametrize(
    ("first", "late", "expected"),
    [
        ("1", '"x"', "x"),
        ('"x"', "1", "1"),
        ("1", "[1,2]", "[1,2]"),
        ("true", "1.50", "1.50"),
        ("1", "1.5", 1.5),
        ("1", '{"a":1}', '{"a":1}'),
        ("[1]", '["x"]', ["x"]),
        ('{"a":1}', '{"a":"x"}', {"a": "x"}),
        ("1", "18446744073709551616", 18446744073709551616),
    ],
)
def test_a_late_json_value_widens_its_column(session: vexact.Session, tmp_path: Path, first: str, late: str, expected: Any) -> None:
    lines = [f'{{"id":{row},"c":{first}}}' for row in range(ROWS)] + [f'{{"id":{ROWS},"c":{late}}}']
    for form, text in {"json_lines": "\n".join(lines), "json_array": f"[{','.join(lines)}]"}.items():
        path = tmp_path / form
        path.write_text(text)
        assert session.read_json(path, format=form).to_arrow()["c"].to_pylist()[-1] == expected
        session.sql(f"CREATE OR REPLACE TABLE t USING json OPTIONS(path: '{path}', format: '{form}')").to_rows()
        assert session.sql("SELECT c FROM t ORDER BY id DESC LIMIT 1").to_rows()["rows"] == [[expected]]


def test_a_late_line_widens_its_field(session: vexact.Session, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1,2\n" * ROWS + "x,2.5\n")
    assert session.read_line_file(path, [("a", 0), ("b", 1), ("c", 1, "STRING")]).to_arrow().slice(ROWS).to_pylist() == [
        {"a": "x", "b": 2.5, "c": "2.5"}
    ]


def test_all_rows_of_the_first_file_type_a_stream(session: vexact.Session, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text_of("1", "1.5"))
    (tmp_path / "b.csv").write_text("id,c\n1,2\n")
    source = session.read_stream_csv_dir(tmp_path)
    session.create_temp_view("source", source)
    sink = tmp_path / "out" / "sink.csv"
    sink.parent.mkdir()
    session.sql(f"CREATE SINK TABLE sink USING csv OPTIONS(path: '{sink}')")
    session.start_stream_sql("INSERT INTO sink SELECT c FROM source").await_termination(max_batches=1)
    with sink.open(newline="") as file:
        assert {row[0] for row in csv.reader(file)} >= {"c", "1.5"}


FORMS: list[Callable[[random.Random], str]] = [
    lambda chance: str(chance.randint(-(10**6), 10**6)),
    lambda chance: f"{chance.uniform(-1e3, 1e3):.3f}",
    lambda chance: chance.choice(["true", "false"]),
    lambda chance: f"2024-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}",
    lambda chance: f"2024-01-{chance.randint(1, 28):02} 0{chance.randint(0, 9)}:00:{chance.randint(0, 59):02}",
    lambda chance: "",
    lambda chance: chance.choice(["a,b", 'q"q', "line\nend", "é", "1e5", "0x1", "-0", "nan"]),
]


@pytest.mark.parametrize("seed", range(30))
def test_columns_are_those_of_the_rows_in_any_order(session: vexact.Session, tmp_path: Path, seed: int) -> None:
    """The type of a column is that of its set of cells: neither their order nor their number decides."""
    chance = random.Random(seed)
    columns = [[chance.choice(forms)(chance) for _ in range(1500)] for forms in (chance.choices(FORMS, weights=[9, 9, 3, 3, 3, 5, 1], k=2) for _ in range(6))]
    rows = [list(row) for row in zip(*columns, strict=True)]
    types = []
    for turn in range(3):
        buffer = io.StringIO()
        csv.writer(buffer, quoting=csv.QUOTE_ALL if turn == 2 else csv.QUOTE_MINIMAL).writerows([list("abcdef"), *rows])
        path = tmp_path / f"{turn}.csv"
        path.write_text(buffer.getvalue(), newline="")
        table = session.read_csv(path).to_arrow()
        assert table.num_rows == len(rows)
        types.append(table.schema.types)
        chance.shuffle(rows)
    assert types[0] == types[1] == types[2], json.dumps(columns)[:500]
