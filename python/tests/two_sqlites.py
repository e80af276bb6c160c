"""An engine and Python's sqlite3, another copy of SQLite, in one process on one file; and another process that checks the file.

Run as a program it is the process that is killed: threads of both write until then, and it prints each row that is committed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import vexact

T = TypeVar("T")

STORAGE_MODES = ["inmemory", "arrow_ipc", "parquet"]
NOTES = vexact.TableSchema("notes", [("id", "int64"), ("text", "utf8")], pk=["id"])
CREATE = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)"

CHECK = """
import json, sqlite3, sys
for path in sys.stdin:
    connection = sqlite3.connect(path.rstrip("\\n"), timeout=30)
    integrity = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    rows = [row[0] for row in connection.execute("SELECT id FROM notes ORDER BY id")]
    connection.close()
    print(json.dumps([integrity, rows]), flush=True)
"""


class Checker:
    """Another process that reads files."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, "-c", CHECK], stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ids(self, path: Path) -> list[int]:
        """The rows of `notes`, of a file whose integrity is checked."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"{path} cannot be read by another process"
        integrity, ids = json.loads(line)
        assert integrity == ["ok"], integrity
        return ids


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def connect(path: Path, timeout: float = 30) -> sqlite3.Connection:
    """A connection of the other library, in autocommit."""
    connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def storage(path: Path, mode: str) -> Path | None:
    return None if mode == "inmemory" else path.with_suffix(".replicas")


async def open_engine(path: Path, mode: str) -> vexact.HtapEngine:
    engine = await vexact.open(path, storage_mode=mode, storage_path=storage(path, mode))
    await engine.execute(CREATE)
    await engine.register_table(NOTES, initial_sync=True)
    return engine


async def replica_ids(engine: vexact.HtapEngine) -> list[int]:
    """The rows of the replica, after a sync."""
    await engine.sync_all()
    batches = await engine.query_olap("SELECT id FROM notes ORDER BY id")
    return [row for batch in batches for row in batch.column("id").to_pylist()]


class Writer(threading.Thread):
    """Writes rows of its own through connections of both libraries, each for some statements, and checks that it sees them all."""

    def __init__(self, path: Path, engine: vexact.HtapEngine, seed: int, first: int, report: Any) -> None:
        super().__init__()
        self.random, self.path, self.engine, self.next, self.report = random.Random(seed), path, engine, first, report
        self.first, self.written, self.failure = first, 0, None

    def run(self) -> None:
        try:
            while self.step():
                pass
        except BaseException as failure:
            self.failure = failure

    def step(self) -> bool:
        """Whether there is more to do."""
        if self.random.random() < 0.2:
            run(self.through_engine())
            return self.report(self, [])
        connection = connect(self.path)
        for _ in range(self.random.randint(1, 10)):
            ids = [self.next + ordinal for ordinal in range(self.random.randint(1, 5))]
            self.next += len(ids)
            rows = [(row, "x" * self.random.choice([1, 500, 3000])) for row in ids]
            is_transaction = len(ids) > 1
            if is_transaction:
                connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO notes VALUES (?, ?)", rows)
            if is_transaction and self.random.random() < 0.2:
                connection.execute("ROLLBACK")
                continue
            if is_transaction:
                connection.execute("COMMIT")
            self.written += len(ids)
            if not self.report(self, ids):
                connection.close()
                return False
        if self.random.random() < 0.3:
            connection.execute(f"PRAGMA wal_checkpoint({self.random.choice(['PASSIVE', 'TRUNCATE', 'RESTART'])})").fetchall()
        sql = "SELECT count(*) FROM notes WHERE id BETWEEN ? AND ?"
        (seen,) = connection.execute(sql, (self.first, self.next)).fetchone()
        assert seen == self.written, f"a connection sees {seen} of the {self.written} rows that its thread committed"
        connection.close()
        return True

    async def through_engine(self) -> None:
        row, self.next = self.next, self.next + 1
        await self.engine.execute("INSERT INTO notes VALUES (?, ?)", [row, "engine"])
        self.written += 1
        assert self.report(self, [row]) is not None


def write_until_killed(path: Path, mode: str, seed: int) -> None:
    """Prints the rows that are committed, one transaction a line."""
    engine = run(open_engine(path, mode))
    engine.start_sync(0.01)
    lock = threading.Lock()

    def report(_: Writer, ids: list[int]) -> bool:
        with lock:
            print(*ids, flush=True)
        return True

    writers = [Writer(path, engine, seed * 10 + ordinal, (ordinal + 1) * 1_000_000, report) for ordinal in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    # They end by an error only.
    for writer in writers:
        print(f"failed: {writer.failure!r}", flush=True)
    sys.exit(1)


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
