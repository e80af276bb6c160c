"""A file's path in single quotes is a table of a session, and none of an engine's queries."""

import asyncio
import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact

ROWS = pa.table({"id": [1, 2, 3], "s": ["a", "b", None]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(ROWS, tmp_path / "a.parquet")
    pq.write_table(ROWS, tmp_path / "b.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, ROWS.schema) as writer:
        writer.write_table(ROWS)
    text = "id,s\n1,a\n2,b\n3,\n"
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.jsonl").write_text('{"id": 1, "s": "a"}\n{"id": 2, "s": "b"}\n{"id": 3, "s": null}\n')
    return tmp_path


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv", "a.csv.gz", "a.jsonl"])
def test_a_file_is_a_table(folder: Path, name: str) -> None:
    session = vexact.Session()
    expected = session.read(folder / name).to_arrow()
    assert session.sql(f"SELECT * FROM '{folder / name}'").to_arrow() == expected
    joined = session.sql(f"SELECT count(*) FROM '{folder / name}' x JOIN '{folder / 'a.parquet'}' y ON x.id = y.id")
    assert joined.to_rows()["rows"] == [[3]]
    assert session.tables() == []


def test_a_pattern_is_a_table_of_its_files(folder: Path) -> None:
    got = vexact.Session().sql(f"SELECT count(*), sum(id) FROM '{folder}/*.parquet'")
    assert got.to_rows()["rows"] == [[6, 12]]


def test_a_file_is_read_as_it_is_now(folder: Path) -> None:
    session, sql = vexact.Session(), f"SELECT sum(id) FROM '{folder / 'a.csv'}' WHERE id > $1"
    assert session.sql(sql, params=[1]).to_rows()["rows"] == [[5]]
    (folder / "a.csv").write_text("id,s\n7,a\n")
    assert session.sql(sql, params=[1]).to_rows()["rows"] == [[7]]


def test_a_missing_file_is_named(folder: Path) -> None:
    session = vexact.Session()
    with pytest.raises(vexact.SourceNotFoundError, match=r"none\.csv"):
        session.sql(f"SELECT * FROM '{folder / 'none.csv'}'").to_arrow()
    with pytest.raises(vexact.InvalidRequestError, match="not found"):
        session.sql("SELECT * FROM 'docs'")


def test_an_engine_reads_no_files(folder: Path) -> None:
    async def ask() -> None:
        async with await vexact.open(folder / "app.db") as engine:
            for name in ("a.csv", "a.parquet"):
                for call in (engine.query, engine.query_olap):
                    with pytest.raises(vexact.VexactError, match=name.replace(".", r"\.")):
                        await call(f"SELECT * FROM '{folder / name}'")

    asyncio.run(ask())
