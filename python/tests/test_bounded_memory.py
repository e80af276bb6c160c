"""A search of a Parquet file larger than the session's memory limit stays within the limit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reference import vectors

LIMIT_BYTES = 64 << 20
GROUPS, GROUP_ROWS, DIM = 80, 2_000, 256
PLANTED = 123_456

CHILD = """
import json
import sys

import numpy as np

import vexact


def peak_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


path, limit, search = sys.argv[1], int(sys.argv[2]), sys.argv[3]
# What a first query loads and starts, searched once on something small.
warm = vexact.Session(memory_limit_bytes=limit)
warm.create_temp_view("t", warm.create_dataframe_from_arrow({"id": np.arange(9), "vec": np.ones((9, 256), np.float32)}))
session, query = warm, np.ones(256)
eval(search).to_arrow()

before = peak_bytes()
session = vexact.Session(memory_limit_bytes=limit)
session.create_temp_view("t", session.read_parquet(path))
found = eval(search).to_arrow()
print(json.dumps({"growth": peak_bytes() - before, "ids": found["id"].to_pylist()}))
"""

SEARCHES = {
    "vector_search": "session.vector_search('t', 'vec', query, 3, columns='id')",
    "filtered": "session.vector_search('t', 'vec', query, 3, 'l2', filter='id % 2 = 0', columns='id')",
    "query batch": "session.vector_search('t', 'vec', np.stack([query] * 40), 3, columns='id')",
    "hybrid": "session.hybrid_search('t', 'vec', query, 3, 'dot', filter='id > 10')",
    "table function": "session.sql(\"SELECT id FROM vector_search('t', 'vec', $1, 3)\", [query])",
    "order by": "session.sql('SELECT id FROM t ORDER BY cosine_distance(vec, $1) LIMIT 3', [query])",
}


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Row groups of 2 MB, 164 MB in all, none alike; row PLANTED is the query of the searches itself."""
    path = tmp_path_factory.mktemp("large") / "large.parquet"
    schema = pa.schema({"id": pa.int64(), "vec": pa.list_(pa.float32(), DIM)})
    rng = np.random.default_rng(1)
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for group in range(GROUPS):
            rows = rng.standard_normal((GROUP_ROWS, DIM), dtype=np.float32) / 4
            ids = np.arange(GROUP_ROWS) + group * GROUP_ROWS
            rows[ids == PLANTED] = 1
            writer.write_table(pa.table([pa.array(ids), vectors(rows)], schema=schema))
    assert path.stat().st_size > 2 * LIMIT_BYTES
    yield path
    path.unlink()


@pytest.mark.parametrize("name", SEARCHES)
def test_the_peak_grows_by_less_than_the_limit(large_file: Path, name: str) -> None:
    command = [sys.executable, "-c", CHILD, str(large_file), str(LIMIT_BYTES), SEARCHES[name]]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert result["ids"][0] == PLANTED
    assert result["growth"] < LIMIT_BYTES


READ = """
import json
import sys

import vexact


def peak_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


small, large, limit, method = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
session = vexact.Session(memory_limit_bytes=limit, target_partitions=2)


def read(path):
    session.create_temp_view("t", getattr(session, method)(path))
    return session.sql("SELECT count(*), sum(id), max(name), sum(price) FROM t").to_rows()["rows"]


read(small)
before = peak_bytes()
rows = read(large)
print(json.dumps({"growth": peak_bytes() - before, "rows": rows}))
"""


@pytest.mark.parametrize("form", ["csv", "jsonl", "arrow", "parquet"])
def test_a_file_is_read_in_less_memory_than_it_has_bytes(form: str, tmp_path: Path) -> None:
    small, large = tmp_path / f"small.{form}", tmp_path / f"large.{form}"
    rows, repeats = 20_000, 100
    names = [f"a name of some length, number {row}" for row in range(rows)]
    table = pa.table({"id": range(rows), "name": names, "price": [row / 4 for row in range(rows)]})
    if form in ("arrow", "parquet"):
        for path, count in ((small, 1), (large, repeats)):
            arrow = pa.ipc.new_file if form == "arrow" else lambda *given: pq.ParquetWriter(*given, compression="none", use_dictionary=False)
            with arrow(str(path), table.schema) as writer:
                for _ in range(count):
                    writer.write_table(table)
    else:
        line = (lambda row: f"{row},{names[row]!r},{row / 4}\n") if form == "csv" else lambda row: json.dumps({"id": row, "name": names[row], "price": row / 4}) + "\n"
        header, text = ("id,name,price\n" if form == "csv" else ""), "".join(map(line, range(rows))).replace("'", '"')
        for path, count in ((small, 1), (large, repeats)):
            path.write_text(header + text * count)
    assert large.stat().st_size > 90e6
    method = {"csv": "read_csv", "jsonl": "read_json", "arrow": "read_arrow_file", "parquet": "read_parquet"}[form]
    command = [sys.executable, "-c", READ, str(small), str(large), str(LIMIT_BYTES), method]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert result["rows"] == [[rows * repeats, repeats * rows * (rows - 1) // 2, max(names), repeats * sum(range(rows)) / 4]]
    assert result["growth"] < 48 << 20, f"{form} of {large.stat().st_size} bytes: {result['growth'] / 1e6:.0f} MB"
