"""An engine that only reads a file follows what another program's engine captures in it, and never writes it."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import vexact
from vexact import EngineError, TableSchema

pytestmark = pytest.mark.anyio

DOCS = TableSchema("docs", [("id", "int64"), ("title", "utf8"), ("v", "vector(2)")], pk=["id"])

WRITER = """
import asyncio, json, sys, vexact
async def main():
    schema = vexact.TableSchema("docs", [("id", "int64"), ("title", "utf8"), ("v", "vector(2)")], pk=["id"])
    async with await vexact.open(sys.argv[1], storage_mode="inmemory") as engine:
        await engine.execute("CREATE TABLE IF NOT EXISTS docs(id INTEGER PRIMARY KEY, title TEXT, v BLOB)")
        await engine.register_table(schema, initial_sync=True)
        print("ready", flush=True)
        for line in sys.stdin:
            sql = json.loads(line)
            if sql is None:
                await engine.sync_all()
            else:
                await engine.execute(sql)
            print("done", flush=True)
asyncio.run(main())
"""


class Writer:
    """An engine in another process, which writes and prunes."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, sql: str | None) -> None:
        assert self.process.stdin is not None
        print(json.dumps(sql), file=self.process.stdin, flush=True)
        assert self._line() == "done"

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my app.db"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    writer = Writer(path)
    yield writer
    writer.close()


def uri(path: Path) -> str:
    return path.as_uri() + "?mode=ro"


def rows(batches: list[pa.RecordBatch]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def content(path: Path) -> list[bytes]:
    files = [path, path.with_name(path.name + "-wal")]
    return [file.read_bytes() if file.exists() else b"" for file in files]


async def test_it_equals_the_file_at_each_sync_while_another_process_writes_and_prunes(path: Path, writer: Writer) -> None:
    rng = random.Random(7)
    app = sqlite3.connect(path, isolation_level=None)
    async with await vexact.open(uri(path)) as engine:
        for step in range(150):
            key = rng.randrange(30)
            sql = rng.choice(
                [
                    f"REPLACE INTO docs VALUES ({key}, 't{step}', NULL)",
                    f"UPDATE docs SET title = title || '{step}' WHERE id < {key}",
                    f"DELETE FROM docs WHERE id = {key}",
                    f"INSERT OR IGNORE INTO docs VALUES ({key}, NULL, x'0000803f00000040')",
                ]
            )
            if rng.random() < 0.5:
                writer.tell(sql)
            else:
                app.execute(sql)
            if rng.random() < 0.3:
                writer.tell(None)
            if rng.random() < 0.3:
                before = content(path)
                await engine.sync_all()
                found = rows(await engine.query_olap("SELECT id, title, v IS NULL FROM docs ORDER BY id"))
                status = await engine.sync_status()
                assert content(path) == before
                assert found == app.execute("SELECT id, title, v IS NULL FROM docs ORDER BY id").fetchall()
                assert status.lag == 0 and sum(position.is_running for position in status.positions) == 2
                assert rows(await engine.query("SELECT count(*) FROM docs")) == app.execute("SELECT count(*) FROM docs").fetchall()
    app.close()


async def test_a_fresh_search_finds_what_was_just_written(path: Path, writer: Writer) -> None:
    async with await vexact.open(uri(path)) as engine:
        writer.tell("INSERT INTO docs VALUES (1, 'a', vector('[1,0]')), (2, 'b', vector('[0,1]'))")
        found = await engine.vector_search("docs", "v", [0, 1], 1, columns="title", fresh=True)
        assert rows(found) == [(2, 0.0, "b")]
        assert engine.explain_route("SELECT count(*) FROM docs").startswith("olap")


async def test_what_writes_is_refused_and_says_what_to_do(path: Path, writer: Writer) -> None:
    writer.tell("CREATE TABLE other(id INTEGER PRIMARY KEY)")
    async with await vexact.open(uri(path)) as engine:
        other = TableSchema("other", [("id", "int64")], pk=["id"])
        calls: dict[str, Any] = {
            "execute": lambda: engine.execute("DELETE FROM docs"),
            "execute_batch": lambda: engine.execute_batch(["DELETE FROM docs"]),
            "execute_many": lambda: engine.execute_many("DELETE FROM docs WHERE id = ?", [[1]]),
            "execute_returning": lambda: engine.execute_returning("DELETE FROM docs RETURNING id"),
            "register_table": lambda: engine.register_table(other),
            "unregister_table": lambda: engine.unregister_table("docs"),
            "add_column": lambda: engine.add_column("docs", "x", "int64"),
            "drop_column": lambda: engine.drop_column("docs", "v"),
            "drop_position": lambda: engine.drop_position("x"),
        }
        for name, call in calls.items():
            with pytest.raises(EngineError, match=rf"^{name} is refused: .*my app.db is opened read-only \(mode=ro\): "):
                await call()
        await engine.register_table(DOCS, initial_sync=True)
        engine.create_collation("app", lambda a, b: (a > b) - (a < b))
    with pytest.raises(ValueError, match="'mode=rw'|\"mode=rw\""):
        await vexact.open(path.as_uri() + "?mode=rw")
    with pytest.raises(EngineError, match="file not found: /nowhere/app.db"):
        await vexact.open("file:/nowhere/app.db?mode=ro")
    with pytest.raises(EngineError, match="got the URI"):
        await vexact.uninstall(uri(path))


async def test_commands_read_a_file_by_its_uri(path: Path, writer: Writer) -> None:
    writer.tell("INSERT INTO docs VALUES (1, 'a', vector('[1,0]'))")

    def run(*arguments: str) -> dict[str, Any]:
        done = subprocess.run([sys.executable, "-m", "vexact", "db", *arguments, "--db", uri(path)], capture_output=True, text=True)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    before = content(path)
    assert run("query", "SELECT id, count(*) AS n FROM docs GROUP BY id")["rows"] == [{"id": 1, "n": 1}]
    assert run("search", "--table", "docs", "--column", "v", "--query-vector", "1,0")["rows"][0]["id"] == 1
    assert run("status")["tables"][0]["state"] == "ready"
    assert run("sync")["ok"]
    for refused in [["exec", "DELETE FROM docs"], ["unregister", "--table", "docs"], ["drop-position", "--position", "x"]]:
        answer = run(*refused)
        assert not answer["ok"] and "opened read-only (mode=ro)" in answer["error"], answer
    assert not run("uninstall")["ok"]
    assert content(path) == before


async def test_a_limit_is_kept_in_the_file(path: Path) -> None:
    async with await vexact.open(path, log_limit=40) as engine:
        await engine.execute("CREATE TABLE docs(id INTEGER PRIMARY KEY, title TEXT, v BLOB)")
        await engine.register_table(DOCS)
    app = sqlite3.connect(path, isolation_level=None)
    for at in range(300):
        app.execute("REPLACE INTO docs VALUES (?, ?, NULL)", (at % 7, f"t{at}"))
    assert app.execute("SELECT count(*) FROM _vexact_log").fetchone()[0] <= 42
    for name in (path, uri(path)):
        # The second finds a log that the first began anew.
        async with await vexact.open(name) as engine:
            assert rows(await engine.query_olap("SELECT id, title FROM docs ORDER BY id")) == app.execute(
                "SELECT id, title FROM docs ORDER BY id"
            ).fetchall()
            app.execute("UPDATE docs SET title = 'x' WHERE id = 1")
            assert (await engine.sync_all()).events_processed == 1
    app.close()
    for limit, problem in [(0, "at least 1"), (True, "log_limit"), (1.5, "log_limit")]:
        with pytest.raises(ValueError, match=problem):
            await vexact.open(path, log_limit=limit)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prune_after_sync"):
        await vexact.open(path, log_limit=5, prune_after_sync=False)
