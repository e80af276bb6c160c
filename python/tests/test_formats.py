"""Files of earlier formats open and go on, and those of later ones are refused with both versions."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import vexact
from vexact import TableSchema

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
DOCS = TableSchema("docs", [("id", "int64"), ("title", "utf8"), ("score", "float64"), ("embedding", "vector(2)")], pk=["id"])

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "format-1", tmp_path / "files"))


def rows(batches: list[pa.RecordBatch]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


NOW = [(1, "title 1", 20.5, [1, -1]), (2, "later", 1, [2, -2]), (9, "title 3", None, None)]


@pytest.mark.parametrize("storage", ["arrow_ipc", "inmemory"])
async def test_a_database_of_format_1_is_followed(files: Path, storage: str) -> None:
    folder = files / storage if storage != "inmemory" else None
    async with await vexact.open(files / "app.db", storage_mode=storage, storage_path=folder) as engine:
        status = await engine.sync_status()
        found = {name: (table.state, table.rows) for name, table in status.tables.items()}
        assert found == {"docs": ("ready", 3), "tags": ("ready", 2)}
        assert rows(await engine.query_olap("SELECT * FROM docs ORDER BY id")) == NOW
        assert rows(await engine.query_olap("SELECT * FROM tags ORDER BY doc")) == [(1, "b"), (2, "é")]
        await engine.register_table(DOCS)
        await engine.execute("REPLACE INTO docs VALUES (10, 'title 3', 3, vector('[7,8]'))")
        await engine.sync_all()
        assert rows(await engine.query_olap("SELECT id FROM docs ORDER BY id")) == [(1,), (2,), (10,)]
    assert await vexact.uninstall(files / "app.db")
    with sqlite3.connect(files / "app.db") as app:
        assert app.execute("SELECT name FROM sqlite_master WHERE type <> 'index' ORDER BY name").fetchall() == [("docs",), ("own",), ("tags",)]


async def test_a_history_of_format_1_goes_on(files: Path) -> None:
    async with await vexact.open(
        files / "app.db", storage_mode="parquet", storage_path=files / "parquet", sync_mode="temporal"
    ) as engine:
        history = "SELECT id, title, score, _operation, _valid_to IS NULL FROM docs WHERE id IN (1, 2, 3) ORDER BY id, _valid_from, _valid_to"
        assert rows(await engine.query_olap(history)) == [
            (1, "title 1", 10.5, "I", False),
            (1, "title 1", 20.5, "U", True),
            (2, "title 2", 1, "I", False),
            (2, "later", 1, "U", True),
            (3, "title 3", 1.5, "I", False),
            (3, "title 3", 1.5, "D", False),
        ]


def test_a_checkpoint_of_version_2_goes_on(files: Path) -> None:
    session = vexact.Session()
    key = pa.array(["x", "y"]), pa.array(["x", "z"])
    value = pa.array([1, 2], pa.int64()), pa.array([3, 4], pa.int64())
    batches = [pa.record_batch({"key": key[at], "value": value[at]}) for at in range(2)]
    session.create_temp_view("s", session.create_stream_from_arrow(batches))
    sink = session.create_realtime_stream_sink()
    session.create_temp_view("out", sink)
    query = session.start_stream_sql(
        "INSERT INTO out SELECT key, sum(value) AS total FROM s GROUP BY key", checkpoint_path=files / "checkpoint"
    )
    assert query.progress()["status"] == "restored"
    query.await_termination()
    assert [batch.to_pylist() for batch in sink] == [[{"key": "x", "total": 4}, {"key": "z", "total": 4}]]


async def test_later_versions_are_refused_with_both(files: Path) -> None:
    async with await vexact.open(files / "app.db"):
        pass
    with sqlite3.connect(files / "app.db") as app:
        assert app.execute("SELECT value FROM _vexact_meta WHERE key = 'format'").fetchall() == [(2,)]
        app.execute("UPDATE _vexact_meta SET value = 97 WHERE key = 'format'")
    for path in (files / "app.db", f"file:{files}/app.db?mode=ro"):
        with pytest.raises(vexact.EngineError, match=r"app\.db has format version 97, .* reads up to version 2: open it with the version"):
            await vexact.open(path)

    def later(name: str, version: int) -> None:
        text = (files / name).read_text()
        assert f'"version":{version}' in text
        (files / name).write_text(text.replace(f'"version":{version}', '"version":97'))

    later("arrow_ipc/manifest.json", 1)
    with pytest.raises(vexact.EngineError, match=r"manifest\.json: .* have format version 97, .* reads version 1: open them"):
        await vexact.open(files / "new.db", storage_mode="arrow_ipc", storage_path=files / "arrow_ipc")
    later("checkpoint/checkpoint.json", 2)
    session = vexact.Session()
    session.create_temp_view("s", session.create_stream_from_arrow([pa.record_batch({"key": ["x"]})]))
    session.create_temp_view("out", session.create_realtime_stream_sink())
    with pytest.raises(vexact.VexactError, match=r"checkpoint\.json: .* has format version 97, .* reads version 2: go on with the version"):
        session.start_stream_sql("INSERT INTO out SELECT key FROM s", checkpoint_path=files / "checkpoint")
