"""Engines and what happens to their files: writes that fire no trigger, paths, tables that are not loaded, positions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vexact

DOCS = vexact.TableSchema("docs", [("id", "int64"), ("title", "utf8"), ("v", "vector(2)")], pk=["id"])
CREATE = "CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT, v BLOB)"


def other_program(path: Path, code: str) -> None:
    """Runs code with a connection of Python's own SQLite, in another process."""
    lines = f"import sqlite3, struct; db = sqlite3.connect({str(path)!r}, isolation_level=None)\n{code}\ndb.close()"
    subprocess.run([sys.executable, "-c", lines], check=True)


async def column(engine: vexact.HtapEngine, sql: str) -> list[object]:
    return [value for batch in await engine.query_olap(sql) for value in batch.column(0).to_pylist()]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="blobopen is of Python 3.11")
@pytest.mark.anyio
async def test_an_update_after_an_incremental_blob_write_tells_the_log(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with await vexact.open(path) as engine:
        await engine.execute(CREATE)
        await engine.register_table(DOCS)
        await engine.execute("INSERT INTO docs VALUES (1, 'a', zeroblob(8))")
        await engine.sync_all()
        write = "b = db.blobopen('docs', 'v', 1); b.write(struct.pack('<2f', 1, 2)); b.close()"
        other_program(path, f"db.execute('BEGIN'); {write}; db.execute('UPDATE docs SET v = v WHERE id = 1'); db.execute('COMMIT')")
        await engine.sync_all()
        assert await column(engine, "SELECT v FROM docs") == [[1.0, 2.0]]


@pytest.mark.anyio
async def test_a_uri_is_not_taken_for_the_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ["file:app.db", "file:app.db?mode=rwc", "sqlite:///app.db"]:
        with pytest.raises((ValueError, RuntimeError), match="expected the path of a file, or .*, got the URI"):
            await vexact.open(uri)
    with pytest.raises(vexact.EngineError, match="file not found: .*app.db"):
        await vexact.open("file:app.db?mode=ro")
    assert os.listdir(tmp_path) == []
    async with await vexact.open("./file:app.db") as engine:
        assert engine.config.oltp_path == "./file:app.db"
    assert "file:app.db" in os.listdir(tmp_path)


@pytest.mark.anyio
async def test_a_search_of_a_table_that_was_never_loaded_says_what_to_call(tmp_path: Path) -> None:
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.execute(CREATE)
        await engine.execute("INSERT INTO docs VALUES (1, 'a', vector('[1,2]'))")
        with pytest.warns(UserWarning, match="initial_sync"):
            await engine.register_table(DOCS)
        refused = r'table "docs" was registered without its rows, .* initial_sync\("docs"\) loads them'
        with pytest.raises(vexact.EngineError, match=refused):
            await engine.vector_search("docs", "v", [1, 2], fresh=True)
        for sql in ["SELECT id FROM vector_search('docs', 'v', [1.0, 2.0], 1)", "SELECT id FROM docs ORDER BY l2_distance(v, '[1 2]') LIMIT 1"]:
            for query in [engine.query, engine.query_olap]:
                with pytest.raises(vexact.EngineError, match=refused):
                    await query(sql)
        await engine.initial_sync("docs")
        assert (await engine.vector_search("docs", "v", [1, 2]))[0]["id"].to_pylist() == [1]


@pytest.mark.anyio
async def test_rows_without_a_distance_come_last_on_every_route(tmp_path: Path) -> None:
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.execute(CREATE)
        await engine.register_table(DOCS)
        await engine.execute("INSERT INTO docs VALUES (1, NULL, NULL), (2, 'b', vector('[3,4]')), (3, 'c', vector('[1,2]'))")
        await engine.sync_all()
        for sql in [
            "SELECT id FROM docs ORDER BY l2_distance(v, '[1 2]')",
            "SELECT id FROM docs ORDER BY l2_distance(v, '[1 2]') LIMIT 3",
            "SELECT id, l2_distance(v, '[1 2]') AS d FROM docs ORDER BY d LIMIT 3",
            "SELECT id FROM (SELECT id, l2_distance(v, '[1 2]') AS d FROM docs) ORDER BY d",
        ]:
            assert await column(engine, sql) == [3, 2, 1], sql
            assert engine.session().sql(sql).to_arrow()["id"].to_pylist() == [3, 2, 1], sql
        assert await column(engine, "SELECT id FROM docs ORDER BY l2_distance(v, '[1 2]') NULLS FIRST") == [1, 3, 2]
        assert await column(engine, "SELECT id FROM docs ORDER BY title, id") == [1, 2, 3]


@pytest.mark.anyio
async def test_positions_are_shown_and_dropped(tmp_path: Path) -> None:
    path, store = tmp_path / "app.db", tmp_path / "store"
    async with await vexact.open(path, storage_mode="parquet", storage_path=store, sync_mode="temporal") as engine:
        await engine.execute(CREATE)
        await engine.register_table(DOCS)
        await engine.sync_all()
    async with await vexact.open(path) as engine:
        for title in "abc":
            await engine.execute("REPLACE INTO docs(id, title) VALUES (1, ?)", [title])
            await engine.sync_all()
        status = await engine.sync_status()
        absent = [position for position in status.positions if not position.is_running]
        assert [position.folder for position in absent] == [str(store)] and status.log_rows > 3
        with pytest.raises(vexact.EngineError, match='got "nobody"'):
            await engine.drop_position("nobody")
        assert await engine.drop_position(absent[0].id) == 3
        assert [position.is_running for position in (await engine.sync_status()).positions] == [True]


@pytest.mark.anyio
async def test_tables_may_have_sqlites_mathematical_functions(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    async with await vexact.open(path) as engine:
        await engine.execute("CREATE TABLE m (id INTEGER PRIMARY KEY, x REAL CHECK (sqrt(x) < 10), y REAL AS (pow(x, 2)) STORED)")
        await engine.execute("CREATE UNIQUE INDEX by_log ON m (ln(x))")
        await engine.register_table(vexact.TableSchema("m", [("id", "int64"), ("x", "float64"), ("y", "float64")], pk=["id"]))
        await engine.execute("INSERT INTO m(x) VALUES (2.0), (3.0)")
        await engine.execute("REPLACE INTO m(id, x) VALUES (3, 2.0)")
        await engine.sync_all()
        assert await column(engine, "SELECT y FROM m ORDER BY y") == [4.0, 9.0]
        with pytest.raises(vexact.EngineError, match="CHECK constraint failed"):
            await engine.execute("INSERT INTO m(x) VALUES (100.0)")


@pytest.mark.anyio
async def test_a_table_with_collations_of_the_app_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    collation = "db.create_collation('mine', lambda a, b: (a.lower() > b.lower()) - (a.lower() < b.lower()))"
    create = """
db.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT COLLATE mine UNIQUE, v BLOB)")
db.execute("CREATE INDEX by_title ON docs(title COLLATE mine)")
db.execute("INSERT INTO docs(title) VALUES ('b'), ('A')")
"""
    other_program(path, collation + create)
    async with await vexact.open(path) as engine:
        await engine.register_table(DOCS, initial_sync=True)
        other_program(path, collation + "\ndb.execute(\"REPLACE INTO docs(title) VALUES ('B'), ('c')\")")
        await engine.sync_all()
        assert await column(engine, "SELECT title FROM docs ORDER BY id") == ["A", "B", "c"]
        with pytest.raises(vexact.EngineError, match="no such collation sequence: mine"):
            await engine.execute("INSERT INTO docs(title) VALUES ('d')")
