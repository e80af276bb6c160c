"""`HtapEngine.export`: one version of a replica as a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_an_export_has_the_rows_of_the_replica(tmp_path: Path) -> None:
    async with await vexact.open(str(tmp_path / "app.db")) as engine:
        await engine.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT)")
        await engine.register_table(vexact.TableSchema("docs", [("id", "int64"), ("title", "utf8")], ["id"]))
        await engine.execute_many("INSERT INTO docs VALUES (?, ?)", [(1, "a"), (2, None)])
        await engine.sync_now()
        path = tmp_path / "docs.parquet"
        await engine.export("docs", path)
        assert pq.read_table(path).to_pylist() == [{"id": 1, "title": "a"}, {"id": 2, "title": None}]
        await engine.execute("DELETE FROM docs WHERE id = 1")
        await engine.sync_now()
        await engine.export("docs", path)
        assert pq.read_table(path).column("id").to_pylist() == [2]
        assert isinstance(pq.read_schema(path).field("id").type, pa.DataType)
        with pytest.raises(vexact.EngineError, match="parquet"):
            await engine.export("docs", tmp_path / "docs.csv")
        with pytest.raises(vexact.EngineError, match="nothing"):
            await engine.export("nothing", tmp_path / "other.parquet")
        assert sorted(file.name for file in tmp_path.glob("*.parquet")) == ["docs.parquet"]
