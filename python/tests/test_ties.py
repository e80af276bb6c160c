"""Rows of one distance come by position, or by key in replicas, in every plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import vexact

N = 60


def ids(frame: vexact.DataFrame) -> list[Any]:
    return [row[0] for row in frame.to_rows()["rows"]]


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> vexact.Session:
    """Tables of equal vectors, in one batch, in many, in a file of many row groups and computed."""
    session = vexact.Session()
    table = pa.table({
        "id": range(N),
        "floats": pa.array([[1.0, 1.0]] * N, pa.list_(pa.float32(), 2)),
        "ints": pa.array([[1, 1]] * N, pa.list_(pa.int8(), 2)),
        "text": ["[1,1]"] * N,
    })
    path = tmp_path_factory.mktemp("ties") / "tied.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=7)
    session.create_temp_view("one", session.create_dataframe_from_arrow(table))
    session.create_temp_view("many", session.create_dataframe_from_arrow(pa.concat_tables([table.slice(i, 1) for i in range(N)])))
    session.create_temp_view("file", session.read_parquet(path))
    for source in ("one", "file"):
        session.sql(f"CREATE VIEW computed_{source} AS SELECT id, to_vector(text) AS floats, ints, text FROM {source}")
    return session


@pytest.mark.parametrize("rewrite", ["true", "false"])
@pytest.mark.parametrize("table", ["one", "many", "file", "computed_one", "computed_file"])
def test_rows_of_one_distance_come_by_position_in_every_plan(tied: vexact.Session, table: str, rewrite: str) -> None:
    tied.sql(f"SET vexact.rewrite = {rewrite}")
    for partitions in (1, 2, 5):
        tied.sql(f"SET datafusion.execution.target_partitions = {partitions}")
        for column in ("floats", "ints"):
            found = f"vector_search('{table}', '{column}', '[1 2]', 9, 'l2')"
            assert ids(tied.sql(f"SELECT id FROM {found}")) == list(range(9))
            # The order is not seen, and decides which rows there are.
            assert tied.sql(f"SELECT sum(id) FROM {found}").to_rows()["rows"] == [[36]]
        distance = "l2_distance(floats, [1.0, 2.0])"
        for order in (distance, f"{distance} DESC", f"-{distance}", f"{distance} * 2", f"id * 0, {distance}"):
            assert ids(tied.sql(f"SELECT id FROM {table} ORDER BY {order} LIMIT 9")) == list(range(9)), order
        assert ids(tied.sql(f"SELECT id FROM {table} ORDER BY {distance}")) == list(range(N))
        assert ids(tied.sql(f"SELECT id FROM {table} WHERE id % 7 = 3 ORDER BY -{distance} LIMIT 3")) == [3, 10, 17]
        ranked = f"SELECT id FROM (SELECT id, row_number() OVER (ORDER BY {distance}) AS r FROM {table}) WHERE r <= 4"
        assert sorted(ids(tied.sql(ranked))) == [0, 1, 2, 3]
    tied.sql("SET vexact.rewrite = true")


def test_the_rows_of_a_limit_below_an_aggregate_are_the_first_ones(tied: vexact.Session) -> None:
    tied.sql("SET datafusion.execution.target_partitions = 4")
    for table in ("one", "many", "file"):
        assert tied.sql(f"SELECT sum(id) FROM (SELECT id FROM {table} LIMIT 9)").to_rows()["rows"] == [[36]]
        assert tied.sql(f"SELECT sum(id) FROM (SELECT id FROM {table} WHERE id % 2 = 1 LIMIT 3)").to_rows()["rows"] == [[9]]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_sort_by_distance_and_key_is_a_search_of_a_replica(tmp_path: Path, anyio_backend: str) -> None:
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.execute("CREATE TABLE docs (b INTEGER, a INTEGER, n INTEGER, v BLOB, PRIMARY KEY (a, b))")
        schema = vexact.TableSchema("docs", [("b", "int64"), ("a", "int64"), ("n", "int64"), ("v", "vector(2)")], pk=["a", "b"])
        await engine.register_table(schema)
        rng = np.random.default_rng(7)
        keys = [(b, a) for a in range(6) for b in range(6)]
        rng.shuffle(keys)
        rows = [(int(b), int(a), int(rng.integers(3)), [float(rng.integers(2)), 1.0]) for b, a in keys]
        await engine.execute_many("INSERT INTO docs VALUES (?, ?, ?, ?)", rows)
        await engine.sync_all()
        order = sorted(((v[0] != 0.0, a, b) for b, a, _, v in rows))
        by_key = [(a, b) for _, a, b in order][:20]
        distance = "l2_distance(v, '[0 1]')"
        for keys_after, reason in [("", None), (", a", None), (", a, b", None), (", a, b, n DESC", None), (", b", "second-sort-key"),
                                   (", a DESC", "second-sort-key"), (", n", "second-sort-key")]:
            sql = f"SELECT a, b FROM docs ORDER BY {distance}{keys_after} LIMIT 20"
            got = [(row["a"], row["b"]) for batch in await engine.query_olap(sql) for row in batch.to_pylist()]
            if reason is None:
                assert got == by_key, keys_after
            plan = str([batch.to_pylist() for batch in await engine.query_olap(f"EXPLAIN {sql}")])
            assert ("VectorTopKExec" in plan) == (reason is None), plan
            assert reason is None or reason in plan, plan
        # As a sort too, rows of one distance come by key.
        for sql in (f"SELECT a, b FROM docs ORDER BY {distance} * 2 LIMIT 20", f"SELECT a, b FROM docs ORDER BY {distance} + 0 * n LIMIT 20"):
            got = [(row["a"], row["b"]) for batch in await engine.query_olap(sql) for row in batch.to_pylist()]
            assert got == by_key, sql
