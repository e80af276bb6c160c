"""The app's own migrations under an engine, and the way out. The app is another process, as ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import vexact

pytestmark = pytest.mark.anyio

DOCS = vexact.TableSchema("docs", [("id", "int64"), ("title", "utf8"), ("extra", "utf8")], pk=["id"])


def app(path: Path, sql: str) -> None:
    script = "import sqlite3, sys; conn = sqlite3.connect(sys.argv[1]); conn.executescript(sys.argv[2]); conn.close()"
    done = subprocess.run([sys.executable, "-c", script, str(path), sql], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def rows(batches: list[pa.RecordBatch]) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


async def opened(path: Path) -> vexact.HtapEngine:
    app(path, "CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT, extra TEXT); INSERT INTO docs VALUES (1, 'a', 'x'), (2, 'b', 'y')")
    engine = await vexact.open(path)
    await engine.register_table(DOCS, initial_sync=True)
    return engine


async def test_a_table_is_registered_again_with_other_columns_and_another_key(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with await opened(path) as engine:
        with pytest.raises(vexact.EngineError, match=r"expected docs\(.*unregister_table"):
            await engine.register_table(vexact.TableSchema("docs", [("title", "utf8")], pk=["title"]))
        await engine.unregister_table("docs")
        with pytest.raises(vexact.EngineError, match="'?\"docs\" is not registered"):
            await engine.unregister_table("docs")
        app(path, "CREATE UNIQUE INDEX by_title ON docs(title)")
        await engine.register_table(vexact.TableSchema("docs", [("title", "utf8")], pk=["title"]), initial_sync=True)
        app(path, "UPDATE docs SET title = 'c' WHERE id = 2")
        await engine.sync_all()
        assert rows(await engine.query_olap("SELECT * FROM docs ORDER BY title")) == [("a",), ("c",)]


async def test_what_vexact_made_is_taken_out_under_an_engine(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with await opened(path) as engine:
        dropped = await vexact.uninstall(path)
        assert "_vexact_log" in dropped and "_vexact_1_insert" in dropped
        assert await vexact.uninstall(path) == []
        await engine.sync_all()
        assert (await engine.sync_status()).tables == {}
        assert rows(await engine.query("SELECT name FROM sqlite_master")) == [("docs",)]
    with pytest.raises(vexact.VexactError, match="file not found"):
        await vexact.uninstall(tmp_path / "none.db")
    with pytest.raises(TypeError, match="oltp_path"):
        await vexact.uninstall(7)  # type: ignore[arg-type]


async def test_like_of_queries_is_case_sensitive_and_that_of_the_schema_is_not(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with await opened(path) as engine:
        app(path, "CREATE TABLE m (mail TEXT, own INT AS (mail LIKE '%@x.com')); CREATE INDEX i ON m(mail) WHERE mail LIKE 'a%'")
        app(path, "INSERT INTO m(mail) VALUES ('A@X.com'), ('a@x.com'); CREATE VIEW v AS SELECT * FROM m WHERE mail LIKE 'a%'")
        assert rows(await engine.query("SELECT mail, own FROM m WHERE mail LIKE 'a%'")) == [("a@x.com", 1)]
        assert rows(await engine.query("SELECT mail, own FROM m WHERE mail LIKE ?", ["A%"])) == [("A@X.com", 1)]
        assert rows(await engine.query("SELECT mail FROM v ORDER BY mail")) == [("A@X.com",), ("a@x.com",)]
        (batch,) = await engine.query("SELECT mail LIKE 'a%' FROM m LIMIT 1")
        assert batch.schema.names == ["mail LIKE 'a%'"]
        await engine.sync_all()
        assert rows(await engine.query_olap("SELECT title FROM docs WHERE title LIKE 'A'")) == []
