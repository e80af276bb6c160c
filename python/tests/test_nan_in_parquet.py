"""NaN in Parquet files, whose bounds leave it out: queries over a file answer as over the same rows in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact

PREDICATES = (
    "f > 2.5", "f >= 4", "f < 2", "f <> 1.0", "f <> 5.0", "f NOT IN (1.0, 5.0)", "NOT (f < 100)", "f <= 100", "isnan(f)",
    "NOT isnan(f)", "f IS NOT NULL", "f = f", "f > 1 OR id = 0", "f > 1 AND id > 3", "f = CAST('NaN' AS DOUBLE)", "abs(f) > 10",
    "f BETWEEN 1 AND 1", "id >= 6",
)
QUERIES = (
    "SELECT min(f), max(f), count(f), count(*) FROM {}",
    "SELECT id, f FROM {} ORDER BY f DESC, id LIMIT 4",
    "SELECT id, f FROM {} ORDER BY f, id LIMIT 4",
    "SELECT max(f) FROM {} WHERE id > 5",
)


def texts(frame: vexact.DataFrame) -> list[list[str]]:
    return [[str(value) for value in row.values()] for row in frame.to_arrow().to_pylist()]


@pytest.mark.parametrize("push", ["false", "true"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_file_answers_as_its_rows_in_memory(tmp_path: Path, dtype: str, push: str) -> None:
    random = np.random.default_rng(7)
    for run in range(12):
        values = random.choice([1.0, 2.0, 5.0, 5.0, 0.0, 0.0, -np.inf, np.inf, np.nan, np.nan], 24).astype(dtype)
        nulls = random.random(24) < 0.1
        table = pa.table({"id": range(24), "f": pa.array(values, mask=nulls), "v": pa.FixedSizeListArray.from_arrays(
            pa.array(random.random(48, np.float32)), 2)})
        path = tmp_path / f"{run}.parquet"
        pq.write_table(table, path, row_group_size=int(random.integers(1, 8)), write_page_index=True)
        session = vexact.Session(target_partitions=int(random.integers(1, 4)))
        session.sql(f"SET datafusion.execution.parquet.pushdown_filters = {push}")
        session.create_temp_view("mem", session.create_dataframe_from_arrow(table))
        session.create_temp_view("file", session.read_parquet(path))
        queries = [f"SELECT id, f FROM {{}} WHERE {predicate} ORDER BY id" for predicate in PREDICATES]
        queries += [f"SELECT count(*) FROM {{}} WHERE {predicate}" for predicate in PREDICATES]
        queries += [f"SELECT id FROM vector_search('{{}}', 'v', '[1 1]', 5, 'l2', '{predicate}')"
                    for predicate in PREDICATES if "'" not in predicate]
        for query in (*queries, *QUERIES):
            assert texts(session.sql(query.format("file"))) == texts(session.sql(query.format("mem"))), (run, query)


def test_a_column_of_one_number_and_nan_is_no_constant(tmp_path: Path) -> None:
    pq.write_table(pa.table({"f": [1.0, float("nan")]}), tmp_path / "t.parquet")
    session = vexact.Session()
    assert str(session.read_parquet(tmp_path / "t.parquet").to_arrow()["f"].to_pylist()) == "[1.0, nan]"


def test_other_columns_keep_their_bounds(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": range(100), "f": [0.5] * 100}), tmp_path / "t.parquet", row_group_size=10)
    session = vexact.Session()
    session.create_temp_view("t", session.read_parquet(tmp_path / "t.parquet"))
    plan = session.explain_sql("SELECT id FROM t WHERE id = 55 AND f > 0.1").physical
    assert "pruning_predicate=" in plan and "f_max" not in plan and "id_max" in plan
