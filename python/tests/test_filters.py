"""The filter of a search by call is what WHERE is, and so are its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import vexact


@pytest.mark.parametrize(
    "filter",
    [
        "NOT coalesce(gone, false)", "ifnull(gone, false) = false", "nvl(id, 0) > 1", "nvl2(id, 1, 0) = 1", "arrow_cast(id, 'Int8') = 1",
        "now() > TIMESTAMP '2020-01-01'", "current_date > DATE '2020-01-01'", "greatest(id, 2) = 2", "concat(id, 'x') = '1x'",
        "nullif(id, 1) IS NULL", "at > TIMESTAMP '1969-12-31 23:59:59.9999999'", "CAST(at AS DATE) = '1970-01-01'",
        "id IN (1, 2, gone::int)", "id BETWEEN '1' AND 3", "NULL", "gone", "id % 2 = 0 AND NULL IS NULL",
    ],
)
def test_a_filter_keeps_what_where_keeps(session: vexact.Session, filter: str) -> None:
    table = pa.table({
        "id": range(5), "gone": [None, False, True, None, False], "at": pa.array([0, 10**9, None, 10**16, 5], pa.timestamp("us")),
        "v": pa.array([[float(i), 1.0] for i in range(5)], pa.list_(pa.float32(), 2)),
    })
    session.create_temp_view("t", session.create_dataframe_from_arrow(table))
    rows = session.sql(f"SELECT id, CASE WHEN {filter} THEN true END FROM t ORDER BY id").to_rows()["rows"]
    expected = [row for row, is_true in rows if is_true]
    where = session.sql(f"SELECT id FROM t WHERE {filter} ORDER BY l2_distance(v, [0.0, 1.0]) LIMIT 9").to_rows()["rows"]
    assert [row for (row,) in where] == expected
    assert session.vector_search("t", "v", [0.0, 1.0], 9, "l2", filter=filter).to_arrow()["row_id"].to_pylist() == expected
    batch = session.vector_search("t", "v", [[0.0, 1.0]], 9, "l2", filter=filter).to_arrow()
    assert batch["row_id"].to_pylist() == expected
    assert session.hybrid_search("t", "v", [0.0, 1.0], 9, "l2", filter=filter).to_arrow()["id"].to_pylist() == expected


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_names_in_a_filter_are_those_of_sqlite(tmp_path: Path, anyio_backend: str) -> None:
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.execute('CREATE TABLE Docs (Id INTEGER PRIMARY KEY, Kind TEXT, "from" TEXT, Emb BLOB)')
        fields = [("Id", "int64"), ("Kind", "utf8"), ("from", "utf8"), ("Emb", "vector(2)")]
        await engine.register_table(vexact.TableSchema("Docs", fields, pk=["Id"]))
        await engine.execute_many("INSERT INTO docs VALUES (?, ?, ?, ?)", [(1, "a", "x", [0.0, 1.0]), (2, "b", "y", [1.0, 1.0])])
        await engine.sync_all()

        def ids(batches: list[pa.RecordBatch]) -> list[Any]:
            return [row["Id"] for batch in batches for row in batch.to_pylist()]

        for filter in ("Kind = 'b'", "kind = 'b'", "KIND LIKE 'b'", '"KIND" = \'b\'', "docs.kind = 'b'", "DOCS.Kind IN ('b', kind) AND id > 1",
                       "\"FROM\" = 'y'", "docs.\"From\" = 'y'", "-id < -1", "upper(kind) = 'B'"):
            assert ids(await engine.vector_search("docs", "emb", [0.0, 1.0], filter=filter)) == [2], filter
            quoted = filter.replace("'", "''")
            sql = f"SELECT Id FROM vector_search('DOCS', 'EMB', '[0 1]', 5, 'cosine', '{quoted}')"
            assert ids(await engine.query(sql)) == [2], filter
        for wrong in ("kinds = 'b'", "kind = ", "other.kind = 'b'"):
            with pytest.raises(vexact.VexactError, match="filter|kinds|other"):
                await engine.vector_search("docs", "emb", [0.0, 1.0], filter=wrong)
        assert ids(await engine.vector_search("docs", "emb", [0.0, 1.0], filter="KIND = ?", params=["b"])) == [2]
