"""Statistics of Parquet files decide about nothing that they do not cover: each query answers as over the same rows in memory."""

from __future__ import annotations

import datetime
import decimal
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact

LONG = "x" * 80
VALUES: dict[str, tuple[pa.DataType, list]] = {
    "float64": (pa.float64(), [float("nan"), -float("nan"), 0.0, -0.0, 1.5, -1.5, float("inf"), float("-inf"), None]),
    "float32": (pa.float32(), [float("nan"), 0.0, -0.0, 2.5, None]),
    # Statistics of texts are cut: these differ only beyond.
    "text": (pa.string(), ["", "a", "ä", "z", LONG, LONG + "a", LONG + "b", LONG + "\U0010ffff", "\U0010ffff" * 30, None]),
    "bytes": (pa.binary(), [b"", b"\x00", b"\x7f", b"\x80", b"\xff" * 80, b"\xff" * 81, None]),
    "uint64": (pa.uint64(), [0, 1, 2**63 - 1, 2**63, 2**64 - 1, None]),
    "uint8": (pa.uint8(), [0, 127, 128, 255, None]),
    "int64": (pa.int64(), [-(2**63), -1, 0, 1, 2**63 - 1, None]),
    "decimal": (pa.decimal128(30, 2), [decimal.Decimal(text) for text in ("-1.01", "0", "9.99", "1e20", "-1e20")] + [None]),
    "bool": (pa.bool_(), [True, False, None]),
    "day": (pa.date32(), [datetime.date(1969, 12, 31), datetime.date(2024, 1, 1), None]),
    "time": (pa.timestamp("us"), [datetime.datetime(1969, 12, 31, 23), datetime.datetime(2024, 1, 1), None]),
}


def literals(kind: str) -> list[str]:
    cast = {"float64": "DOUBLE", "float32": "FLOAT", "uint64": "BIGINT UNSIGNED", "uint8": "TINYINT UNSIGNED", "int64": "BIGINT"}
    found = []
    for value in VALUES[kind][1]:
        if value is None:
            continue
        if kind == "bytes":
            found.append(f"X'{value.hex()}'")
        elif kind in cast:
            found.append(f"CAST('{value}' AS {cast[kind]})")
        elif kind == "decimal":
            found.append(f"CAST('{value:f}' AS DECIMAL(30, 2))")
        elif kind == "day":
            found.append(f"DATE '{value}'")
        elif kind == "time":
            found.append(f"TIMESTAMP '{value}'")
        else:
            found.append(str(value) if kind == "bool" else f"'{value}'")
    return found


def answers(session: vexact.Session, table: str, kind: str, literal: str) -> list:
    queries = [f"SELECT id FROM {table} WHERE x {op} {literal} ORDER BY id" for op in ("<", "<=", "=", "<>", ">=", ">")]
    queries += [f"SELECT id FROM {table} WHERE NOT (x > {literal}) ORDER BY id", f"SELECT id FROM {table} WHERE x IS NULL"]
    queries += [f"SELECT id FROM {table} WHERE x IN ({literal}) OR x IS DISTINCT FROM {literal} ORDER BY id"]
    queries += [f"SELECT min(x), max(x), count(x), count(*) FROM {table}"]
    queries += [f"SELECT x FROM {table} ORDER BY x {order} LIMIT 3" for order in ("ASC", "DESC NULLS LAST")]
    if kind == "text":
        queries += [f"SELECT id FROM {table} WHERE x LIKE '{LONG}%' ORDER BY id", f"SELECT id FROM {table} WHERE starts_with(x, 'x')"]
    # Zeros of both signs are one value, in either order.
    return [repr(session.sql(query).to_rows()["rows"]).replace("-0.0", "0.0") for query in queries]


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("writer", ["1.0", "2.6", "vexact"])
def test_a_file_answers_as_its_rows_in_memory(session: vexact.Session, tmp_path: Path, kind: str, writer: str) -> None:
    data_type, values = VALUES[kind]
    random_values = random.Random(kind + writer)
    for size in (1, 3, 40):
        rows = [random_values.choice(values) for _ in range(size)]
        table = pa.table({"id": range(size), "x": pa.array(rows, data_type, from_pandas=False)})
        frame = session.create_dataframe_from_arrow(table)
        path = tmp_path / f"{size}.parquet"
        if writer == "vexact":
            frame.write_parquet(path)
        else:
            # Small row groups and pages, with statistics of each.
            pq.write_table(table, path, version=writer, row_group_size=7, data_page_size=1, write_page_index=writer != "1.0")
        session.create_temp_view("m", frame)
        session.create_temp_view("p", session.read_parquet(path))
        for literal in literals(kind):
            assert answers(session, "p", kind, literal) == answers(session, "m", kind, literal), (rows, literal)


def test_casts_that_do_not_keep_the_order_leave_no_rows_out(session: vexact.Session, tmp_path: Path) -> None:
    chance = random.Random(3)
    table = pa.table({
        "id": range(60),
        "at": [datetime.datetime(2024, 1, 1 + i % 3, chance.randint(0, 23), chance.randint(0, 59)) for i in range(60)],
        "i": pa.array([chance.choice([-(2**63), 2**63 - 1, 0, 1, -1, 300]) for _ in range(60)], pa.int64()),
        "j": pa.array([chance.choice([0, 1, -1, 2]) for _ in range(60)], pa.int32()),
        "n": [chance.choice(["10", "9", "100", "-1"]) for _ in range(60)],
    })
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    session.create_temp_view("m", session.create_dataframe_from_arrow(table))
    session.create_temp_view("p", session.read_parquet(tmp_path / "a.parquet"))
    for where in (
        "CAST(at AS TIME) < TIME '10:00:00'", "CAST(at AS TIME) > TIME '10:00:00'", "CAST(j AS BOOLEAN) < true", "-i < 0", "-i > 0",
        "CAST(n AS INT) > 9", "CAST(i AS VARCHAR) > '2'", "TRY_CAST(i AS SMALLINT) < 200", "TRY_CAST(i AS INT) IS NULL",
        "CAST(at AS DATE) = DATE '2024-01-02'", "CAST(i AS DOUBLE) = 9223372036854775807", "date_part('hour', at) < 5", "abs(j) > 1",
    ):
        rows = [session.sql(f"SELECT id FROM {table} WHERE {where} ORDER BY id").to_arrow()["id"].to_pylist() for table in "mp"]
        assert rows[0] == rows[1], where
