"""Text indexes of tables that an engine follows: at the replica's position, after a restart and after SIGKILL."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vexact
from test_sidecar import postgres  # noqa: F401
from vexact import TimestampTableConfig

NOTES = [TimestampTableConfig("notes", ["id"])]
WORDS = ["amber", "birch", "cedar", "delta"]
#: Where the definitions last: beside the stored replicas, in the engine's own file, and in both.
PLACES: list[dict[str, Any]] = [
    {"storage_mode": "arrow_ipc"},
    {"storage_mode": "parquet"},
    {"sidecar_enable_oltp": True},
    {"storage_mode": "parquet", "sidecar_enable_oltp": True},
]


def settings(folder: Path, place: dict[str, Any]) -> dict[str, Any]:
    stored = {"storage_path": folder / "replicas"} if "storage_mode" in place else {}
    followed = {"sidecar_source": folder / "source.db", "sidecar_tables": NOTES}
    return {"path": folder / "app.db", **followed, **place, **stored}


def source_of(folder: Path) -> sqlite3.Connection:
    source = sqlite3.connect(folder / "source.db", isolation_level=None)
    source.execute("CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, body TEXT, created_at INTEGER, updated_at INTEGER)")
    return source


def put(source: sqlite3.Connection, id: str, body: str) -> None:
    clock = "(SELECT ifnull(max(updated_at), 0) + 1 FROM notes)"
    source.execute(f"REPLACE INTO notes VALUES (?, ?, 1, {clock})", (id, body))


def found(engine: vexact.Connection, words: str) -> list[str]:
    return sorted(row["id"] for row in engine.text_search("notes", "body", words, None).to_pylist())


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "-".join(map(str, place.values())))
def test_indexes_survive_a_restart_at_the_position_of_the_replica(tmp_path: Path, place: dict[str, Any]) -> None:
    source = source_of(tmp_path)
    put(source, "a", "solar cells")
    put(source, "b", "wind")
    with vexact.connect(**settings(tmp_path, place)) as engine:
        engine.sync_all()
        engine.register_text("notes", "body", "porter")
        assert found(engine, "cell") == ["a"]
    put(source, "c", "a cell")
    put(source, "a", "nothing")
    with vexact.connect(**settings(tmp_path, place)) as engine:
        assert engine.text_columns() == [("notes", "body", "porter")]
        if "storage_mode" in place:
            # The replica lags, and so does its index.
            assert found(engine, "cell") == ["a"]
        engine.sync_all()
        assert found(engine, "cell") == ["c"]
        engine.unregister_text("notes")
    with vexact.connect(**settings(tmp_path, place)) as engine:
        assert engine.text_columns() == []
        with pytest.raises(vexact.EngineError, match="text index|never read from its source"):
            found(engine, "cell")
    source.close()


CHILD = """
import pathlib, random, sys
import vexact
from test_followed_text import PLACES, WORDS, put, settings, source_of

folder, place, seed = pathlib.Path(sys.argv[1]), PLACES[int(sys.argv[2])], int(sys.argv[3])
source, chosen = source_of(folder), random.Random(seed)
with vexact.connect(**settings(folder, place)) as engine:
    engine.sync_all()
    engine.register_text("notes", "body")
    while True:
        for _ in range(chosen.randrange(1, 12)):
            put(source, f"k{chosen.randrange(60)}", " ".join(chosen.choices(WORDS, k=chosen.randrange(4))))
        if chosen.randrange(3):
            engine.sync_all()
        print("round", flush=True)
"""


@pytest.mark.parametrize("place", range(len(PLACES)), ids=["arrow_ipc", "parquet", "own-file", "both"])
def test_killed_engines_have_the_right_matches_when_they_open_again(tmp_path: Path, place: int) -> None:
    for seed in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(place), str(seed)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
        )
        assert child.stdout is not None
        for _ in range(random.Random(seed).randrange(1, 15)):
            assert child.stdout.readline() == "round\n"
        child.kill()
        child.communicate()
        with vexact.connect(**settings(tmp_path, PLACES[place])) as engine:
            assert engine.text_columns() == [("notes", "body", "unicode61")]
            for is_synced in (False, True):
                if is_synced:
                    engine.sync_all()
                elif "storage_mode" not in PLACES[place]:
                    continue
                rows = engine.query_olap("SELECT id, body FROM notes").to_pylist()
                for word in WORDS:
                    assert found(engine, word) == sorted(row["id"] for row in rows if word in row["body"].split()), (seed, word)
            source = source_of(tmp_path)
            assert sorted(map(tuple, (row.values() for row in rows))) == source.execute("SELECT id, body FROM notes ORDER BY id").fetchall()
            source.close()


def test_text_of_a_followed_postgresql_table_is_searched(postgres: Any, tmp_path: Path) -> None:  # noqa: F811
    address, sql = postgres
    sql(
        "CREATE TABLE articles (id bigint PRIMARY KEY, body text, v real[], created_at timestamptz, updated_at timestamptz);"
        "INSERT INTO articles VALUES (1, 'Solar cells', '{1,0}', now(), now()), (2, 'wind', '{0,1}', now(), now()),"
        " (3, NULL, '{1,1}', now(), now())"
    )
    options: dict[str, Any] = {
        "sidecar_source": address,
        "sidecar_tables": [TimestampTableConfig("articles", ["id"])],
        "storage_mode": "parquet",
        "storage_path": tmp_path / "replicas",
    }

    def cells(engine: vexact.Connection) -> list[int]:
        return sorted(row["id"] for row in engine.text_search("articles", "body", "cell", None).to_pylist())

    with vexact.connect(**options) as engine:
        engine.sync_all()
        engine.register_text("articles", "body", "porter")
        assert cells(engine) == [1]
        both = engine.hybrid_search("articles", "v", [0, 1], "body", "cell", 2, filter="id < 3").to_pylist()
        assert [(row["id"], row["vector_rank"], row["text_rank"]) for row in both] == [(1, 2, 1), (2, 1, None)]
    sql("UPDATE articles SET body = 'a cell', updated_at = now() WHERE id = 2")
    with vexact.connect(**options) as engine:
        assert cells(engine) == [1]
        engine.sync_all()
        assert cells(engine) == [1, 2]
