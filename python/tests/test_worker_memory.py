"""A worker scans files that are larger than its memory limit, row group by row group."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import Worker, opened, strategy

DIM = 384
FILES_MB = int(os.environ.get("VEXACT_TEST_SCAN_MB", "160"))
LIMIT_MB = int(os.environ.get("VEXACT_TEST_LIMIT_MB", "32"))


def resident_mb(pid: int, field: str) -> float:
    """VmRSS, or VmHWM for the most so far."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1)) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_scans_more_than_its_memory_limit(tmp_path: Path) -> None:
    rows_of_file = (16 << 20) // (DIM * 4)
    count = FILES_MB // 16
    random = np.random.default_rng(3)
    values = random.standard_normal((rows_of_file, DIM)).astype(np.float32)
    for number in range(count):
        values[0] = number
        rows = pa.FixedSizeListArray.from_arrays(values.ravel(), DIM)
        table = pa.table({"id": np.arange(rows_of_file) + number * rows_of_file, "v": rows})
        options = {"compression": "none", "use_dictionary": False, "row_group_size": 4000}
        pq.write_table(table, tmp_path / f"{number:04}.parquet", **options)
    query = values[0].tolist()
    with Worker("--memory", f"{LIMIT_MB}m") as worker:
        session = opened(tmp_path, [worker])
        assert session.sql("SELECT count(*) FROM docs WHERE id < 0").to_rows()["rows"] == [[0]]
        begin = resident_mb(worker.process.pid, "VmRSS")
        explained = session.explain_vector_search("docs", "v", query, metric="l2", columns=["id"], top_k=3)
        found = strategy(explained.strategy)
        assert int(found["rows_scanned"]) == rows_of_file * count
        assert int(found["bytes_read"]) >= rows_of_file * count * DIM * 4
        best = session.vector_search("docs", "v", query, metric="l2", columns=["id"], top_k=1).to_arrow()
        assert best.column("id").to_pylist() == [(count - 1) * rows_of_file]
        # Decoded batches and the allocator's rest are beside the limit.
        most = resident_mb(worker.process.pid, "VmHWM") - begin
        print(f"{rows_of_file * count * DIM * 4 >> 20} MB scanned, {begin:.0f} MB at first, at most {most:.0f} MB more")
        assert most < 1.5 * LIMIT_MB + 64 < FILES_MB
