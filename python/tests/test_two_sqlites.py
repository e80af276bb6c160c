"""Python's sqlite3 beside an engine in one process, on one file: nothing is lost, and the replica equals the table.

`VEXACT_SOAK_SECONDS` is how long each of the random tests goes on; without it they take some seconds. A failure prints its seed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vexact
import two_sqlites
from two_sqlites import CREATE, STORAGE_MODES, Checker, Writer, connect, open_engine, replica_ids, run, storage

pytestmark = pytest.mark.skipif(not vexact._native.has_isolated_locks(), reason="the system has no open-file-description locks")

SOAK_SECONDS = float(os.environ.get("VEXACT_SOAK_SECONDS", "0"))


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    with Checker() as checker:
        yield checker


def seeds(at_least: int) -> Iterator[int]:
    """Seeds of random runs: new ones each time, printed by pytest where one fails."""
    start = time.monotonic()
    for ordinal in itertools.count():
        if ordinal >= at_least and time.monotonic() - start >= SOAK_SECONDS:
            return
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"seed {seed}")
        yield seed


async def check(engine: vexact.HtapEngine, checker: Checker, path: Path, expected: set[int]) -> None:
    ids = checker.ids(path)
    lost, unknown = expected - set(ids), set(ids) - expected
    assert not lost and not unknown, f"of {len(expected)} rows {len(lost)} are lost; {len(unknown)} were never committed"
    assert await replica_ids(engine) == ids


@pytest.mark.parametrize("mode", STORAGE_MODES)
def test_connections_close_in_every_order(tmp_path: Path, checker: Checker, mode: str) -> None:
    async def close_in(order: tuple[str, ...], path: Path) -> None:
        expected: set[int] = set()

        def note(row: int) -> int:
            expected.add(row)
            return row

        before = connect(path)
        before.execute("PRAGMA journal_mode = WAL")
        before.execute(CREATE)
        before.execute("INSERT INTO notes VALUES (?, 'before')", (note(0),))
        engine = await open_engine(path, mode)
        during = connect(path)
        row = itertools.count(1)
        connections = {"before": before, "during": during}
        for name in order:
            for connection in connections.values():
                connection.execute("INSERT INTO notes VALUES (?, 'autocommit')", (note(next(row)),))
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO notes VALUES (?, 'transaction')", (note(next(row)),))
                connection.execute("COMMIT")
                connection.execute("BEGIN")
                assert connection.execute("SELECT count(*) FROM notes").fetchone() == (len(expected),)
            await engine.execute("INSERT INTO notes VALUES (?, 'engine')", [note(next(row))])
            for connection in connections.values():
                connection.execute("COMMIT")
            await check(engine, checker, path, expected)
            if name in connections:
                connections.pop(name).close()
                await check(engine, checker, path, expected)
            else:
                engine.shutdown()
                # Right after it, beside connections that were open before it, and new ones.
                connections["after"] = connect(path)
                connections["after"].execute("INSERT INTO notes VALUES (?, 'after')", (note(next(row)),))
                engine = await open_engine(path, mode)
        for connection in connections.values():
            connection.execute("INSERT INTO notes VALUES (?, 'last')", (note(next(row)),))
        await check(engine, checker, path, expected)
        engine.shutdown()
        for connection in connections.values():
            connection.execute("INSERT INTO notes VALUES (?, 'very last')", (note(next(row)),))
            connection.close()
        assert set(checker.ids(path)) == expected

    for ordinal, order in enumerate(itertools.permutations(["before", "engine", "during"])):
        run(close_in(order, tmp_path / f"{ordinal}.db"))


class Interleaving:
    """One random run. Rows are acknowledged, or failed, or of a transaction or a call that goes on."""

    def __init__(self, seed: int, path: Path) -> None:
        self.random, self.path = random.Random(seed), path
        self.mode = self.random.choice(STORAGE_MODES)
        self.engine: vexact.HtapEngine | None = None
        self.connections: list[sqlite3.Connection] = []
        self.pending: dict[sqlite3.Connection, list[int]] = {}
        self.calls: list[asyncio.Task[None]] = []
        self.acknowledged: set[int] = set()
        self.ids = itertools.count()

    def rows(self) -> list[tuple[int, str]]:
        texts = ["x", "x" * 300, "x" * 2000]
        return [(next(self.ids), self.random.choice(texts)) for _ in range(self.random.randint(1, 8))]

    async def write_through_engine(self, rows: list[tuple[int, str]]) -> None:
        assert self.engine is not None
        await self.engine.execute_many("INSERT INTO notes VALUES (?, ?)", rows)
        self.acknowledged.update(row for row, _ in rows)

    def other_step(self, connection: sqlite3.Connection) -> None:
        """One operation of the other library, whose connections wait for nobody."""
        step = self.random.random()
        if step < 0.15:
            self.connections.remove(connection)
            self.pending.pop(connection, None)
            connection.close()
        elif step < 0.25 and not connection.in_transaction:
            connection.execute(self.random.choice(["BEGIN", "BEGIN IMMEDIATE"]))
        elif step < 0.45 and connection.in_transaction:
            ends = self.random.choice(["COMMIT", "COMMIT", "ROLLBACK"])
            connection.execute(ends)
            rows = self.pending.pop(connection, [])
            self.acknowledged.update(rows if ends == "COMMIT" else [])
        elif step < 0.7:
            is_transaction, rows = connection.in_transaction, self.rows()
            if is_transaction:
                connection.executemany("INSERT INTO notes VALUES (?, ?)", rows)
            else:
                values = ", ".join(["(?, ?)"] * len(rows))
                connection.execute(f"INSERT INTO notes VALUES {values}", [value for row in rows for value in row])
            ids = [row for row, _ in rows]
            if is_transaction:
                self.pending.setdefault(connection, []).extend(ids)
            else:
                self.acknowledged.update(ids)
        elif step < 0.85 and not connection.in_transaction:
            (seen,) = connection.execute("SELECT count(*) FROM notes").fetchone()
            assert seen >= len(self.acknowledged), f"sees {seen} of {len(self.acknowledged)} rows"
        elif step < 0.95:
            kind = self.random.choice(["TRUNCATE", "PASSIVE", "RESTART"])
            connection.execute(f"PRAGMA wal_checkpoint({kind})").fetchall()
        elif not connection.in_transaction:
            connection.execute("VACUUM")

    async def end_transactions(self) -> None:
        for connection in self.connections:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        self.pending.clear()
        await asyncio.gather(*self.calls)
        self.calls.clear()

    async def step(self) -> None:
        step = self.random.random()
        if self.engine is None and step < 0.5:
            await self.end_transactions()
            self.engine = await open_engine(self.path, self.mode)
        elif step < 0.15 and len(self.connections) < 5:
            self.connections.append(connect(self.path, timeout=0))
        elif step < 0.35 and self.engine is not None:
            # It waits while another connection has a transaction.
            self.calls.append(asyncio.ensure_future(self.write_through_engine(self.rows())))
        elif step < 0.43 and self.engine is not None:
            await self.end_transactions()
            await self.engine.sync_all()
        elif step < 0.46 and self.engine is not None:
            await self.end_transactions()
            self.engine.shutdown()
            self.engine = None
        elif self.connections:
            self.other_step(self.random.choice(self.connections))
        await asyncio.sleep(0)

    async def run(self, checker: Checker) -> None:
        self.connections.append(connect(self.path, timeout=0))
        self.connections[0].execute("PRAGMA journal_mode = WAL")
        self.connections[0].execute(CREATE)
        for _ in range(self.random.randint(15, 60)):
            try:
                await self.step()
            except sqlite3.OperationalError as error:
                assert "locked" in str(error), error
                for connection in self.connections:
                    if not connection.in_transaction:
                        self.pending.pop(connection, None)
        await self.end_transactions()
        if self.engine is None:
            self.engine = await open_engine(self.path, self.mode)
        await check(self.engine, checker, self.path, self.acknowledged)
        closing = [*(connection.close for connection in self.connections), self.engine.shutdown]
        self.random.shuffle(closing)
        for close in closing:
            close()
        assert set(checker.ids(self.path)) == self.acknowledged


def test_random_interleavings_lose_nothing(tmp_path: Path, checker: Checker) -> None:
    for seed in seeds(at_least=80):
        run(Interleaving(seed, tmp_path / f"{seed}.db").run(checker))


@pytest.mark.parametrize("mode", STORAGE_MODES)
def test_a_pool_of_connections_and_four_threads_beside_background_sync(tmp_path: Path, checker: Checker, mode: str) -> None:
    path, threads, transactions = tmp_path / "app.db", 4, 400
    # As web frameworks do: the pool is there before the engine, and stays after it.
    pool: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
    connections = [connect(path) for _ in range(3)]
    connections[0].execute("PRAGMA journal_mode = WAL")
    connections[0].execute(CREATE)
    for connection in connections:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (0,)
        pool.put(connection)
    expected: set[int] = set()
    failures: list[BaseException] = []

    def serve(thread: int) -> None:
        try:
            for transaction in range(transactions):
                ids = [thread * 1_000_000 + transaction * 2 + ordinal for ordinal in range(2)]
                connection = pool.get()
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany("INSERT INTO notes VALUES (?, 'pool')", [(row,) for row in ids])
                    connection.execute("COMMIT")
                    expected.update(ids)
                finally:
                    pool.put(connection)
        except BaseException as failure:
            failures.append(failure)

    async def beside() -> None:
        engine = await open_engine(path, mode)
        engine.start_sync(0.005)
        served = [asyncio.to_thread(serve, thread) for thread in range(1, threads + 1)]
        serving = asyncio.gather(*served)
        row = itertools.count(100_000_000)
        while not serving.done():
            expected.add(written := next(row))
            await engine.execute("INSERT INTO notes VALUES (?, 'engine')", [written])
            await engine.query("SELECT count(*) FROM notes")
            # Requests that open and close a connection of their own.
            own = connect(path)
            assert own.execute("SELECT count(*) FROM notes").fetchone()[0] > 0
            own.close()
        await serving
        assert not failures, failures
        assert (await engine.sync_status()).last_error is None
        await check(engine, checker, path, expected)
        engine.shutdown()

    run(beside())
    for ordinal, connection in enumerate(connections, start=1):
        connection.execute("INSERT INTO notes VALUES (?, 'after')", (ordinal,))
        connection.close()
    assert set(checker.ids(path)) == expected | {1, 2, 3}


def test_threads_of_both_libraries_lose_nothing(tmp_path: Path, checker: Checker) -> None:
    async def threads(seed: int, path: Path) -> None:
        engine = await open_engine(path, random.Random(seed).choice(STORAGE_MODES))
        engine.start_sync(0.01)
        lock, expected = threading.Lock(), set()

        def report(writer: Writer, ids: list[int]) -> bool:
            with lock:
                expected.update(ids)
            return writer.written < 1000

        writers = [Writer(path, engine, seed + ordinal, (ordinal + 1) * 1_000_000, report) for ordinal in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            await asyncio.to_thread(writer.join)
            assert writer.failure is None, writer.failure
        await check(engine, checker, path, expected)
        engine.shutdown()

    for seed in seeds(at_least=4):
        run(threads(seed, tmp_path / f"{seed}.db"))


def test_a_kill_loses_nothing_that_was_committed(tmp_path: Path, checker: Checker) -> None:
    for seed in seeds(at_least=5):
        chosen = random.Random(seed)
        path, mode = tmp_path / f"{seed}.db", chosen.choice(STORAGE_MODES)
        program = [sys.executable, two_sqlites.__file__, path, mode, str(seed)]
        child = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(chosen.randint(1, 300))]
        child.send_signal(signal.SIGKILL)
        # The last line may be cut.
        lines += [line for line in child.stdout if line.endswith("\n")]
        assert child.wait() == -signal.SIGKILL
        assert not any(line.startswith("failed") for line in lines), lines[-4:]
        acknowledged = {int(row) for line in lines for row in line.split()}

        async def opens_again() -> set[int]:
            engine = await open_engine(path, mode)
            ids = await replica_ids(engine)
            engine.shutdown()
            return set(ids)

        ids = set(checker.ids(path))
        assert acknowledged <= ids, f"{len(acknowledged - ids)} of {len(acknowledged)} committed rows are lost"
        assert run(opens_again()) == ids


def test_a_source_that_a_sidecar_follows(tmp_path: Path, checker: Checker) -> None:
    async def follow() -> None:
        path = tmp_path / "shop.db"
        first = connect(path)
        first.execute("PRAGMA journal_mode = WAL")
        first.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, created_at TEXT, updated_at TEXT)")
        insert = "INSERT INTO notes VALUES (?, datetime('now'), datetime('now'))"
        config = vexact.HtapConfig(sidecar_source=path, sidecar_tables=[vexact.TimestampTableConfig("notes", ["id"])])
        engine = await vexact.HtapEngine.create(config)
        for row in range(0, 60, 2):
            second = connect(path)
            first.execute(insert, (row,))
            second.execute(insert, (row + 1,))
            await engine.sync_all()
            second.close()
        first.close()
        ids = checker.ids(path)
        assert ids == list(range(60)) and await replica_ids(engine) == ids
        engine.shutdown()

    run(follow())


def test_a_child_holds_no_lock_of_its_parent(tmp_path: Path) -> None:
    program = """
import asyncio, os, signal, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import two_sqlites
from pathlib import Path
engine = two_sqlites.run(two_sqlites.open_engine(Path(sys.argv[1]), "inmemory"))
if os.fork() == 0:
    # The child has given up the descriptors of its parent once it returns from the fork.
    print("forked", os.getppid(), flush=True)
    sys.stdin.read()
    os._exit(0)
signal.pause()
"""
    path = tmp_path / "app.db"
    pipe = subprocess.PIPE
    arguments = [sys.executable, "-c", program, path]
    parent = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parent)
    assert parent.stdout is not None and parent.stdin is not None
    assert parent.stdout.readline() == f"forked {parent.pid}\n"
    parent.kill()
    assert parent.wait() == -signal.SIGKILL
    # It needs the file for itself, which a lock of the child would refuse.
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    connection.close()
    parent.stdin.close()


def test_a_database_that_is_open_is_not_read_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    engine = run(open_engine(path, "inmemory"))
    session = vexact.Session()
    for read in (session.read, session.read_csv, session.read_parquet, session.read_arrow_file):
        with pytest.raises(vexact.VexactError, match="got a SQLite database that is open in this process"):
            read(path)
    engine.shutdown()
    with pytest.raises(vexact.VexactError, match="Invalid Parquet file"):
        session.read_parquet(path)
