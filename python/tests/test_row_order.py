"""Rows of files come in the files' order wherever SQL leaves the order open, on any number of threads, in every run.

The oracle is pyarrow, which reads the same files from their beginning to their end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

import vexact

ROWS, GROUP = 60_000, 1_000
RUNS = 5


def table(start: int) -> pa.Table:
    """Rows whose ids are shuffled, so that no statistics order them; all vectors are equal."""
    ids = np.random.default_rng(start).permutation(ROWS) + start
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(2 * ROWS, np.float32)), 2)
    return pa.table({"id": pa.array(ids), "v": vectors})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for number in range(3):
        pq.write_table(table(number * ROWS), folder / f"part-{number}.parquet", row_group_size=GROUP)
    return folder


def session(files: Path, partitions: int) -> vexact.Session:
    session = vexact.Session(target_partitions=partitions)
    session.create_temp_view("t", session.read_parquet(files / "part-0.parquet"))
    session.sql(f"CREATE TABLE folder USING parquet OPTIONS (path: '{files}')")
    return session


def ids(frame: vexact.DataFrame | pa.Table) -> list[int]:
    rows = frame if isinstance(frame, pa.Table) else frame.to_arrow()
    return rows["id"].to_pylist()


def of_file(files: Path, *numbers: int) -> list[int]:
    return [id for number in numbers for id in pq.read_table(files / f"part-{number}.parquet")["id"].to_pylist()]


@pytest.mark.parametrize("partitions", [1, 2, 3, 8])
def test_open_orders_are_those_of_the_files(files: Path, partitions: int) -> None:
    ours, first = session(files, partitions), of_file(files, 0)
    everything = of_file(files, 0, 1, 2)
    for _ in range(RUNS):
        assert ids(ours.sql("SELECT id FROM t")) == first
        assert ids(ours.sql("SELECT id, v FROM t WHERE id % 3 = 1")) == [id for id in first if id % 3 == 1]
        assert ids(ours.sql("SELECT id + 1 AS id FROM t LIMIT 7")) == [id + 1 for id in first[:7]]
        assert ids(ours.sql("SELECT id FROM t LIMIT 5 OFFSET 40000")) == first[40_000:40_005]
        assert ids(ours.sql("SELECT id FROM t WHERE id > 59000 LIMIT 3")) == [id for id in first if id > 59_000][:3]
        assert ids(ours.sql("SELECT id FROM folder")) == everything
        assert ids(ours.sql("SELECT id FROM folder LIMIT 3 OFFSET 150000")) == everything[150_000:150_003]
        both = ours.sql("SELECT id FROM t UNION ALL SELECT id FROM folder WHERE id >= 170000")
        assert ids(both) == first + [id for id in everything if id >= 170_000]


@pytest.mark.parametrize("partitions", [2, 8])
def test_row_ids_are_the_positions_of_the_frame(files: Path, partitions: int) -> None:
    ours, first = session(files, partitions), of_file(files, 0)
    for _ in range(RUNS):
        found = ours.vector_search("t", "v", [1, 1], top_k=5, columns=["id"]).to_arrow()
        assert found["row_id"].to_pylist() == [0, 1, 2, 3, 4]
        assert ids(found) == first[:5]
        found = ours.vector_search("t", "v", [1, 1], top_k=5, filter="id % 7 = 3", columns=["id"]).to_arrow()
        expected = [(row, id) for row, id in enumerate(first) if id % 7 == 3][:5]
        assert list(zip(found["row_id"].to_pylist(), ids(found))) == expected


@pytest.mark.parametrize("partitions", [1, 2, 3, 8])
def test_ties_come_by_position(files: Path, partitions: int) -> None:
    ours, first, everything = session(files, partitions), of_file(files, 0), of_file(files, 0, 1, 2)
    for _ in range(RUNS):
        for source, rows in (("t", first), ("folder", everything)):
            assert ids(ours.sql(f"SELECT id FROM {source} ORDER BY cosine_distance(v, '[1 1]') LIMIT 5")) == rows[:5]
            assert ids(ours.sql(f"SELECT id FROM vector_search('{source}', 'v', '[1 1]', 5)")) == rows[:5]
            filtered = ours.sql(f"SELECT id FROM {source} WHERE id % 7 = 3 ORDER BY l2_distance(v, '[0 1]') LIMIT 4")
            assert ids(filtered) == [id for id in rows if id % 7 == 3][:4]


def test_files_are_written_in_the_order_of_their_rows(files: Path, tmp_path: Path) -> None:
    ours, everything = session(files, 4), of_file(files, 0, 1, 2)
    frame = ours.sql("SELECT id FROM folder")
    for run in range(RUNS):
        frame.write_parquet(tmp_path / f"{run}.parquet")
        assert ids(pq.read_table(tmp_path / f"{run}.parquet")) == everything
        frame.write_csv(tmp_path / f"{run}.csv")
        assert ids(csv.read_csv(tmp_path / f"{run}.csv")) == everything
