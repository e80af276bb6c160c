"""`HtapEngine.export`: one version of a replica as a Parquet file."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from store_server import StoreServer

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


SECRET = "marker-of-a-secret"


async def test_an_export_to_a_store_is_whole_or_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StoreServer() as server:
        environment = {"ENDPOINT": server.endpoint, "ACCOUNT_NAME": "box", "ACCOUNT_KEY": base64.b64encode(SECRET.encode()).decode()}
        for name, value in environment.items():
            monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
        monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
        url = "az://docs/live/docs.parquet"

        def stored() -> list[int]:
            return pq.read_table(io.BytesIO(server.objects["docs/live/docs.parquet"])).column("id").to_pylist()

        async with await vexact.open(str(tmp_path / "app.db")) as engine:
            await engine.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, noise BLOB)")
            await engine.register_table(vexact.TableSchema("docs", [("id", "int64"), ("noise", "binary")], ["id"]))
            await engine.execute("INSERT INTO docs VALUES (1, x'00')")
            await engine.sync_now()
            await engine.export("docs", url)
            assert stored() == [1]
            # A file of this size is sent in parts.
            await engine.execute_many("INSERT INTO docs VALUES (?, ?)", [(i, os.urandom(1 << 20)) for i in range(2, 20)])
            await engine.sync_now()
            puts = 0

            def fault(method: str, path: str, number: int) -> int | None:
                nonlocal puts
                puts += method == "PUT"
                return 403 if method == "PUT" and puts > 1 else None

            server.fault = fault
            with pytest.raises(vexact.VexactError, match="az://docs/live/docs.parquet: expected access, got 403") as caught:
                await engine.export("docs", url)
            assert puts > 1 and SECRET not in str(caught.value) and environment["ACCOUNT_KEY"] not in str(caught.value)
            assert stored() == [1]
            server.fault = None
            server.parts.clear()
            await engine.export("docs", url)
            assert stored() == list(range(1, 20)) and server.parts == {}
            with pytest.raises(vexact.EngineError, match="expected a path, or a URL of s3, gs or az"):
                await engine.export("docs", "https://host/docs.parquet")
