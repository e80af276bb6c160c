"""A worker that is killed, or hangs, before a query is planned, after that, and while the query runs: a clear error that names
it within 15 seconds, or the answer of the other workers."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from cluster import Worker, addresses, opened, strategy, wait_for_tasks

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="signals of POSIX")

ROWS = 12_000
SLOW = "SELECT count(*) AS n FROM docs WHERE levenshtein(t, reverse(t)) < 0"
PLAIN = "SELECT id FROM docs WHERE id % 1000 = 7 ORDER BY id"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose scan with the filter of SLOW takes seconds."""
    text = "".join(chr(97 + i * i % 23) for i in range(400))
    folder = tmp_path_factory.mktemp("slow")
    pq.write_table(pa.table({"t": [text] * ROWS, "id": range(ROWS)}), folder / "a.parquet", row_group_size=500)
    return folder


@pytest.fixture(scope="module")
def other() -> Iterator[Worker]:
    """A worker that is never lost."""
    with Worker() as worker:
        yield worker


@pytest.fixture
def lost() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def session_of(folder: Path, workers: list[Worker], retries: int) -> vexact.Session:
    session = opened(folder, workers, retries=retries)
    # A task notices that it is cancelled after each batch.
    session.sql("SET datafusion.execution.batch_size = 256")
    return session


Lose = Callable[[Worker], None]
LOSSES = pytest.mark.parametrize("lose", [Worker.kill, Worker.pause], ids=["killed", "stopped"])
RETRIES = pytest.mark.parametrize("retries", [0, 1])


def check(run: Callable[[], list[list[object]]], lost: Worker, retries: int, expected: list[list[object]]) -> None:
    if retries:
        assert run() == expected
        return
    begun = time.monotonic()
    with pytest.raises(vexact.SourceIOError, match=re.escape(f"worker {lost.address}: ")):
        run()
    assert time.monotonic() - begun < 15


@RETRIES
@LOSSES
def test_a_worker_that_is_lost_before_planning(folder: Path, other: Worker, lost: Worker, lose: Lose, retries: int) -> None:
    session = session_of(folder, [other, lost], retries)
    lose(lost)
    check(lambda: session.sql(PLAIN).to_rows()["rows"], lost, retries, [[i] for i in range(7, ROWS, 1000)])


@RETRIES
@LOSSES
def test_a_worker_that_is_lost_after_planning(folder: Path, other: Worker, lost: Worker, lose: Lose, retries: int) -> None:
    session = session_of(folder, [other, lost], retries)
    frame = session.sql(PLAIN)
    # A connection to the worker is open.
    assert frame.count() == ROWS // 1000
    lose(lost)
    check(lambda: frame.to_rows()["rows"], lost, retries, [[i] for i in range(7, ROWS, 1000)])


@RETRIES
@LOSSES
def test_a_worker_that_is_lost_while_it_works(folder: Path, other: Worker, lost: Worker, lose: Lose, retries: int) -> None:
    session = session_of(folder, [other, lost], retries)
    times: list[float] = []

    def lose_when_busy() -> None:
        wait_for_tasks(lost.address)
        times.append(time.monotonic())
        lose(lost)

    thread = threading.Thread(target=lose_when_busy)
    thread.start()
    try:
        if retries:
            assert session.sql(SLOW).to_rows()["rows"] == [[0]]
        else:
            with pytest.raises(vexact.SourceIOError, match=re.escape(f"worker {lost.address}: ")):
                session.sql(SLOW).to_rows()
            assert time.monotonic() - times[0] < 15
    finally:
        thread.join()


def test_a_worker_that_starts_again_on_its_port_is_used(folder: Path, other: Worker) -> None:
    with Worker() as first:
        session = session_of(folder, [other, first], 0)
        expected = session.sql(PLAIN).to_rows()["rows"]
        first.kill()
        with pytest.raises(vexact.SourceIOError, match=re.escape(first.address)):
            session.sql(PLAIN).to_rows()
    with Worker(listen=first.address) as again:
        frame = session.sql(PLAIN)
        assert frame.to_rows()["rows"] == expected
        assert len(expected) == ROWS // 1000
        again.kill()
        # Between planning and running, with the same port.
        with Worker(listen=first.address):
            assert frame.to_rows()["rows"] == expected


def test_a_worker_that_hung_is_used_once_it_goes_on(folder: Path, other: Worker, lost: Worker) -> None:
    session = session_of(folder, [other, lost], 1)
    expected = session.sql(PLAIN).to_rows()["rows"]
    lost.pause()
    assert session.sql(PLAIN).to_rows()["rows"] == expected
    os.kill(lost.process.pid, signal.SIGCONT)
    wait_for_tasks(lost.address, 0)
    strict = session_of(folder, [other, lost], 0)
    assert strict.sql(PLAIN).to_rows()["rows"] == expected


def test_all_workers_that_are_lost_are_named(folder: Path) -> None:
    with Worker() as one, Worker() as two:
        session = session_of(folder, [one, two], 3)
        assert session.sql(PLAIN).count() == ROWS // 1000
        one.kill()
        two.kill()
        with pytest.raises(vexact.SourceIOError) as caught:
            session.sql(PLAIN).to_rows()
        assert one.address in str(caught.value) and two.address in str(caught.value)


def test_attempts_and_lost_workers_are_in_the_strategy(folder: Path, other: Worker, lost: Worker) -> None:
    session = opened(folder, [other, lost], retries=1)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([float(i % 7) for i in range(800)], pa.float32()), 4)
    path = folder.parent / "vectors.parquet"
    pq.write_table(pa.table({"id": range(200), "v": vectors}), path, row_group_size=50)
    session.create_temp_view("v", session.read_parquet(path))
    lost.kill()
    found = strategy(session.explain_vector_search("v", "v", [1.0, 2.0, 3.0, 4.0], columns=["id"]).strategy)
    assert (found["attempts"], found["lost_workers"], found["workers"]) == ("1", lost.address, other.address)
