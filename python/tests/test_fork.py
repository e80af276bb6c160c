"""A child of `fork` is refused where its parent used vexact, the parent goes on, and what other children open works."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vexact
from vexact import TableSchema

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork"),
    # Python warns since 3.12: this is what is tested.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
DOCS = TableSchema("docs", {"id": "int64", "v": "vector(2)"}, "id")
SAYS = "opened before fork: open it in the worker"


def in_child(work: Callable[[], None]) -> None:
    """Runs it in a child of `fork`, which ends without what an exit would do."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(vexact.EngineError, match=SAYS):
        call()


def count(engine: vexact.HtapEngine) -> int:
    return asyncio.run(engine.query("SELECT count(*) FROM docs"))[0].column(0)[0].as_py()


def opened(path: Path) -> vexact.HtapEngine:
    engine = vexact.HtapEngine(vexact.HtapConfig(oltp_path=path))

    async def fill() -> None:
        await engine.execute("CREATE TABLE IF NOT EXISTS docs (id INTEGER PRIMARY KEY, v BLOB)")
        await engine.register_table(DOCS, initial_sync=True)
        await engine.execute("INSERT INTO docs(v) VALUES (?)", [[1, 2]])
        await engine.sync_all()

    asyncio.run(fill())
    return engine


def large(session: vexact.Session) -> int:
    """The nearest row of a table that several threads search, by a call and by a filter."""
    vectors = pa.FixedSizeListArray.from_arrays(np.arange(800_000, dtype=np.float32), 8)
    session.create_temp_view("large", session.create_dataframe_from_arrow(pa.table({"id": range(100_000), "v": vectors})))
    found = session.vector_search("large", "v", np.arange(8000, 8008), 1, "l2", filter="id % 2 = 0")
    return found.to_arrow()["row_id"][0].as_py()


def test_calls_in_a_child_raise_at_once_and_the_parent_goes_on(tmp_path: Path) -> None:
    engine = opened(tmp_path / "app.db")
    engine.start_sync(0.001)
    session = vexact.Session()
    frame, view = session.sql("SELECT 1 AS a"), engine.session()
    stream = session.create_stream_from_arrow(pa.table({"a": [1]}))
    source, sink = vexact.RealtimeStreamSource({"a": "int64"}), vexact.RealtimeStreamSink()
    query = stream.write_stream(sink)

    def child() -> None:
        nonlocal engine, session, frame
        for call in (
            lambda: engine.execute("DELETE FROM docs"),
            lambda: engine.execute_batch([]),
            lambda: engine.execute_many("DELETE FROM docs", []),
            lambda: engine.execute_returning("DELETE FROM docs RETURNING id"),
            lambda: engine.query("SELECT 1"),
            lambda: engine.query_olap("SELECT 1"),
            lambda: engine.register_table(DOCS),
            lambda: engine.initial_sync("docs"),
            engine.sync_now,
            engine.sync_all,
            engine.sync_status,
            lambda: engine.vector_search("docs", "v", [1, 2], fresh=True),
            lambda: engine.explain_vector_search("docs", "v", [1, 2]),
        ):
            refused(lambda: asyncio.run(call()))
        for call in (
            lambda: engine.explain_route("SELECT 1"),
            engine.last_insert_rowid,
            engine.session,
            lambda: engine.start_sync(1),
            engine.stop_sync,
            lambda: session.sql("SELECT 1"),
            lambda: view.sql("SELECT count(*) FROM docs"),
            lambda: session.create_dataframe_from_arrow(pa.table({"a": [1]})),
            lambda: frame.schema,
            frame.to_arrow,
            stream.explain,
            query.start,
            query.stop,
            lambda: query.await_termination(1),
            lambda: source.push_arrow(pa.table({"a": [1]})),
            source.close,
            lambda: sink.poll_arrow(0),
        ):
            refused(call)
        # Of the parent's locks and files nothing is released.
        engine.shutdown()
        del engine, session, frame

    large(session)
    for _ in range(10):
        in_child(child)
    assert count(engine) == 1 and frame.to_arrow().num_rows == 1
    asyncio.run(engine.execute("INSERT INTO docs(v) VALUES (?)", [[3, 4]]))
    assert count(engine) == 2
    assert large(session) == 1000
    query.await_termination(1)
    assert sink.poll_arrow(1) is not None
    engine.shutdown()


def test_a_child_of_a_process_that_used_vexact_is_refused_at_once(tmp_path: Path) -> None:
    engine = opened(tmp_path / "app.db")
    assert large(vexact.Session()) == 1000

    def child() -> None:
        calls: tuple[Callable[[], Any], ...] = (
            lambda: vexact.Session().sql("SELECT 1").to_arrow(),
            lambda: large(vexact.Session()),
            lambda: opened(tmp_path / "app.db"),
            lambda: vexact.connect(tmp_path / "app.db").query("SELECT 1"),
        )
        for call in calls:
            with pytest.raises(vexact.EngineError, match="in this process's parent before fork.*'spawn' or 'forkserver'"):
                call()

    for _ in range(10):
        in_child(child)
    asyncio.run(engine.execute("INSERT INTO docs(v) VALUES (?)", [[3, 4]]))
    asyncio.run(engine.sync_all())
    assert count(engine) == 2
    engine.shutdown()

    def check() -> None:
        conn = sqlite3.connect(tmp_path / "app.db")
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert conn.execute("SELECT count(*) FROM docs").fetchone() == (2,)

    in_child(check)


def children_open_their_own(path: Path) -> None:
    """Uses vexact in children only. The last child counts the rows of all."""

    def child() -> None:
        session = vexact.Session()
        assert large(session) == 1000
        assert session.sql("SELECT sum(id) AS s FROM large").to_arrow()["s"][0].as_py() == 4999950000
        own = opened(path)
        assert asyncio.run(own.vector_search("docs", "v", [1, 2], metric="l2"))[0].num_rows >= 1
        own.shutdown()

    for _ in range(5):
        in_child(child)

    def last() -> None:
        engine = opened(path)
        assert count(engine) == 6
        engine.shutdown()

    in_child(last)


def test_children_of_a_process_that_did_not_use_vexact_open_their_own(tmp_path: Path) -> None:
    program = "import pathlib, sys, test_fork; test_fork.children_open_their_own(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "app.db")], cwd=Path(__file__).parent, check=True)


def _write(path: Path, number: int) -> int:
    engine = vexact.HtapEngine(vexact.HtapConfig(oltp_path=path))

    async def write() -> int:
        for _ in range(number):
            await engine.execute("INSERT INTO docs(v) VALUES (?)", [[1, 2]])
        return number

    written = asyncio.run(write())
    engine.shutdown()
    return written


def test_workers_of_multiprocessing_open_their_own(tmp_path: Path) -> None:
    engine = opened(tmp_path / "app.db")
    with multiprocessing.get_context("forkserver").Pool(3) as pool:
        engine.start_sync(0.001)
        assert sum(pool.starmap(_write, [(tmp_path / "app.db", 20)] * 6)) == 120
    asyncio.run(engine.sync_all())
    assert count(engine) == 121
    engine.shutdown()


def test_a_child_of_a_killed_process_holds_neither_lease_nor_storage(tmp_path: Path) -> None:
    program = """
import asyncio, os, signal, sys, warnings, vexact
warnings.simplefilter("ignore", DeprecationWarning)
path, folder = sys.argv[1:]
in_memory = vexact.HtapEngine(vexact.HtapConfig(oltp_path=path))
async def register():
    await in_memory.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, v BLOB)")
    await in_memory.register_table(vexact.TableSchema("docs", {"id": "int64", "v": "vector(2)"}, "id"))
asyncio.run(register())
in_files = vexact.HtapEngine(vexact.HtapConfig(oltp_path=path, storage_mode="arrow_ipc", storage_path=folder))
reader = vexact.HtapEngine(vexact.HtapConfig(oltp_path=f"file:{path}?mode=ro"))
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()
    os._exit(0)
signal.pause()
"""
    path, folder = tmp_path / "app.db", tmp_path / "replicas"
    pipe = subprocess.PIPE
    parent = subprocess.Popen([sys.executable, "-c", program, path, folder], stdin=pipe, stdout=pipe, text=True)
    assert parent.stdin is not None and parent.stdout is not None
    assert parent.stdout.readline() == "forked\n"

    async def running(**settings: Any) -> int:
        async with await vexact.open(path, **settings) as engine:
            await engine.execute("INSERT INTO docs(v) VALUES (NULL)")
            await engine.sync_all()
            return sum(position.is_running for position in (await engine.sync_status()).positions)

    assert asyncio.run(running()) == 4
    with pytest.raises(vexact.EngineError, match="in use by another engine"):
        asyncio.run(running(storage_mode="arrow_ipc", storage_path=folder))
    parent.kill()
    assert parent.wait() != 0
    # The child lives, until its stdin ends.
    assert asyncio.run(running()) == 1
    assert asyncio.run(running(storage_mode="arrow_ipc", storage_path=folder)) == 1
    assert not [name for name in os.listdir(tmp_path) if "-vexact-" in name]
    parent.stdin.close()
    assert parent.stdout.read() == ""
    parent.stdout.close()
