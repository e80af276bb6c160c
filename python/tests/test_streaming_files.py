"""Files larger than what a query may hold are read in bounded memory; Arrow data is taken without a copy; progress is shown at
a terminal alone."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

ROWS, BLOCK_ROWS = 1_500_000, 10_000
GROWTH_BYTES = 48 << 20

MEASURE = """
import json
import sys

import vexact


def bytes_of(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))


"""

SUMS = MEASURE + """
kind, small, large = sys.argv[1:]


def ask(session, path):
    read = {
        "csv": session.read_csv,
        "json": session.read_json,
        "line": lambda path: session.read_line_file(path, [("id", 0, int), ("x", 1, int)]),
    }[kind]
    session.create_temp_view("t", read(path))
    return session.sql("SELECT count(*), sum(id), sum(x) FROM t").to_rows()["rows"][0]


ask(vexact.Session(), small)
before = bytes_of("VmHWM")
found = ask(vexact.Session(), large)
print(json.dumps({"found": found, "growth": bytes_of("VmHWM") - before}))
"""


@pytest.fixture(scope="module", params=["csv", "json", "line"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Path]]:
    """The same form, small and some 100 MB large: ids from 0 on, x of 0 to 9999, and a text."""
    folder, kind = tmp_path_factory.mktemp("large"), request.param
    text = "t" * 50
    if kind == "json":
        block = "".join(f'{{"id": {i}, "x": {i}, "text": "{text}"}}\n' for i in range(BLOCK_ROWS))
    else:
        block = "".join(f"{i},{i},{text}\n" for i in range(BLOCK_ROWS))
    header = "id,x,text\n" if kind == "csv" else ""
    small, large = folder / "small", folder / "large"
    small.write_text(header + block)
    with large.open("w") as file:
        file.write(header)
        for _ in range(ROWS // BLOCK_ROWS):
            file.write(block)
    assert large.stat().st_size > 1.8 * GROWTH_BYTES
    yield kind, small, large
    large.unlink()


def test_a_large_file_is_read_in_bounded_memory(files: tuple[str, Path, Path]) -> None:
    command = [sys.executable, "-c", SUMS, *map(str, files)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    total = ROWS // BLOCK_ROWS * (BLOCK_ROWS * (BLOCK_ROWS - 1) // 2)
    assert result["found"] == [ROWS, total, total]
    assert result["growth"] < GROWTH_BYTES


NO_COPY = MEASURE + """
import numpy as np
import pyarrow as pa

rows, dim = int(sys.argv[1]), 384
vectors = np.zeros((rows, dim), np.float32)
vectors[:, 0] = np.arange(rows)
vectors[:, 1] = 1
session = vexact.Session()
session.create_temp_view("warm", session.create_dataframe_from_arrow({"v": vectors[:9]}))
session.vector_search("warm", "v", vectors[3], 1)

before = bytes_of("VmRSS")
column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)
frame = session.create_dataframe_from_arrow(pa.table({"v": column}))
session.create_temp_view("t", frame)
back = frame.to_arrow()["v"].chunk(0)
same = back.values.buffers()[1].address == vectors.ctypes.data
found = session.sql("SELECT count(*) FROM t").to_rows()["rows"][0][0]
print(json.dumps({"growth": bytes_of("VmHWM") - before, "same": same, "found": found, "bytes": vectors.nbytes}))
"""


def test_a_million_vectors_of_arrow_are_taken_without_a_copy() -> None:
    command = [sys.executable, "-c", NO_COPY, "1000000"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert result["bytes"] == 1_536_000_000 and result["found"] == 1_000_000
    assert result["same"]
    assert result["growth"] < 64 << 20


LONG = """
import vexact
import vexact.progress

vexact.progress._LONG_SECONDS = 0.0
session = vexact.Session()
frame = session.sql("SELECT value FROM generate_series(1, 20000000) WHERE value % 1000 = 0")
assert frame.to_arrow().num_rows == 20000
"""


def test_progress_is_shown_at_a_terminal_alone(tmp_path: Path) -> None:
    quiet = subprocess.run([sys.executable, "-c", LONG], check=True, capture_output=True, text=True)
    assert (quiet.stdout, quiet.stderr) == ("", "")
    leader, follower = pty.openpty()
    # A terminal of no columns shows nothing.
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([sys.executable, "-c", LONG], stderr=follower) as child:
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 4096):
                shown += part
        except OSError:
            # The other end is closed.
            pass
        assert child.wait() == 0
    os.close(leader)
    assert b"rows" in shown
