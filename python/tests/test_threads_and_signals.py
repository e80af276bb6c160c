"""One session in many threads answers right; Ctrl-C ends a query and leaves the session usable."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

import vexact
from reference import METRICS, hits, search, vectors


def test_threads_share_a_session(session: vexact.Session) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((3_000, 24)).astype(np.float32)
    table = pa.table({"id": range(3_000), "part": np.arange(3_000) % 3, "vec": vectors(rows)})
    session.create_temp_view("t", session.create_dataframe_from_arrow(table))
    selection = np.arange(3_000) % 3 == 1
    queries = rng.standard_normal((40, 24))
    together = threading.Barrier(8)

    def work(worker: int) -> None:
        together.wait()
        for number in range(worker, len(queries), 8):
            query, metric = queries[number], METRICS[number % 3]
            assert hits(session.vector_search("t", "vec", query, 9, metric)) == search(metric, rows, query, 9)
            called = session.sql(f"SELECT id FROM vector_search('t', 'vec', $1, 9, '{metric}', 'part = 1')", [query])
            expected = [row for row, _ in search(metric, rows, query, 9, selection)]
            assert called.to_arrow()["id"].to_pylist() == expected
            session.create_temp_view(f"mine{worker}", session.sql("SELECT vec FROM t WHERE part = 1"))
            mine = session.vector_search(f"mine{worker}", "vec", query, 1, metric, columns="vec")
            assert hits(mine) == search(metric, rows[selection], query, 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


INTERRUPTED = """
import os
import sys
import threading

import numpy as np

import vexact

session = vexact.Session()
rows = np.random.default_rng(1).standard_normal((100_000, 64), dtype=np.float32)
session.create_temp_view("t", session.create_dataframe_from_arrow({"vec": rows}))
session.vector_search("t", "vec", rows[0], 1).to_rows()  # What a first call imports is there.
main = threading.main_thread().ident


def tell():
    # Says so once the main thread is in a call of the package.
    while os.path.dirname(sys._current_frames()[main].f_code.co_filename) != os.path.dirname(vexact.__file__):
        pass
    print("running", flush=True)


try:
    threading.Thread(target=tell, daemon=True).start()
    QUERY
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
found = session.vector_search("t", "vec", rows[77], 1, "l2").to_rows()["rows"]
print(found, session.sql("SELECT count(*) AS n FROM t").to_rows()["rows"], flush=True)
"""

ENDLESS = [
    "SELECT max(a.value * b.value) FROM generate_series(1, 1000) a CROSS JOIN generate_series(1, 1000000000000) b",
    "SELECT value % 7 AS k, count(*) FROM generate_series(1, 1000000000000) GROUP BY 1",
    "SELECT value FROM generate_series(1, 1000000000000) WHERE value < 0",
]


# A file of many rows, 20 000 times.
MANY_FILES = """
    import os, tempfile
    import pyarrow as pa, pyarrow.feather, pyarrow.parquet
    path = os.path.join(tempfile.mkdtemp(), "a")
    pa.WRITE(pa.table({"x": np.zeros(1_000_000)}), path, compression="SMALL")
    session.create_temp_view("many", session.READ([path] * 20_000))
    session.sql("SELECT max(x + sqrt(x)) FROM many").to_arrow()
"""
# A pipe that nobody writes to.
SILENT_PIPE = """
    import os, tempfile
    path = os.path.join(tempfile.mkdtemp(), "a")
    os.mkfifo(path)
    session.READ(path).to_arrow()
"""
READS = {
    "parquet files": MANY_FILES.replace("WRITE", "parquet.write_table").replace("READ", "read_parquet").replace("SMALL", "snappy"),
    "arrow files": MANY_FILES.replace("WRITE", "feather.write_feather").replace("READ", "read_arrow_file").replace("SMALL", "uncompressed"),
    **{f"pipe of {name}": SILENT_PIPE.replace("READ", name) for name in ("read_parquet", "read_arrow_file", "read_csv")},
}


@pytest.mark.parametrize(
    "query",
    [
        *READS.values(),
        *(f"session.sql({sql!r}).to_arrow()" for sql in ENDLESS),
        "session.vector_search('t', 'vec', np.repeat(rows, 2, axis=0), 1, 'l2')",
        "session.sql(\"SELECT count(*) FROM vector_join('t', 'vec', 't', 'vec', 3, 'l2')\").to_arrow()",
    ],
    ids=[*READS, "cross join", "aggregate", "filter", "query batch", "vector_join"],
)
def test_ctrl_c_interrupts_a_query_and_leaves_the_session_usable(query: str) -> None:
    script = INTERRUPTED.replace("QUERY", query)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "running\n"
            child.send_signal(signal.SIGINT)
            out, errors = child.communicate(timeout=60)
        finally:
            child.kill()
    assert (out.splitlines(), child.returncode) == (["interrupted", "[[77, 0.0]] [[100000]]"], 0), errors
