"""SQL functions and collations of the app, on every connection of an engine."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import vexact
from vexact import EngineError, HtapEngine, TableSchema

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def fold(text: str | None) -> str | None:
    return None if text is None else text.casefold()


def by_length(a: str, b: str) -> int:
    return (len(a), a) < (len(b), b) and -1 or int(a != b)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[HtapEngine]:
    """On a file whose table has an index, a generated column and a collation of the app."""
    app = sqlite3.connect(tmp_path / "app.db")
    app.create_function("fold", 1, fold, deterministic=True)
    app.create_collation("by_length", by_length)
    app.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT COLLATE by_length, low TEXT AS (fold(title)) STORED)")
    app.execute("CREATE INDEX by_fold ON docs(fold(title))")
    app.execute("CREATE INDEX by_title ON docs(title)")
    app.executemany("INSERT INTO docs(title) VALUES (?)", [("ÄÄ",), ("b",), ("Straße",)])
    app.commit()
    app.close()
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.create_function("fold", 1, fold, deterministic=True)
        engine.create_collation("by_length", by_length)
        await engine.register_table(TableSchema("docs", {"id": "int64", "title": "utf8", "low": "utf8"}, "id"), initial_sync=True)
        yield engine


def rows(batches: list[pa.RecordBatch]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in pa.Table.from_batches(batches).to_pylist()]


async def test_the_apps_indexes_are_written_and_read(engine: HtapEngine) -> None:
    await engine.execute("INSERT INTO docs(title) VALUES (?)", ["Éa"])
    await engine.execute("UPDATE docs SET title = 'BB' WHERE fold(title) = fold('B')")
    assert rows(await engine.query("SELECT title FROM docs ORDER BY title")) == [("BB",), ("ÄÄ",), ("Éa",), ("Straße",)]
    assert rows(await engine.query("SELECT id FROM docs WHERE fold(title) = 'strasse'")) == [(3,)]
    assert rows(await engine.query("SELECT low, count(*) FROM docs WHERE fold(title) > 'c' GROUP BY fold(title), low ORDER BY 1")) == [
        ("strasse", 1),
        ("ää", 1),
        ("éa", 1),
    ]
    await engine.sync_all()
    assert sorted(rows(await engine.query_olap("SELECT id, low FROM docs"))) == [(1, "ää"), (2, "bb"), (3, "strasse"), (4, "éa")]
    # Connections that are opened later have them too.
    many = await asyncio.gather(*(engine.query("SELECT fold('X'), 'aa' > 'b' COLLATE by_length AS longer") for _ in range(16)))
    assert all(rows(found) == [("x", 1)] for found in many)


async def test_values_come_and_go_as_they_are(engine: HtapEngine) -> None:
    await engine.create_function("same", 1, lambda value: value)
    await engine.create_function("kinds", -1, lambda *values: ",".join(type(value).__name__ for value in values))
    for value in (None, 5, -(2**63), 1.5, "é\0x", b"\0\xff", ""):
        kind = "int" if isinstance(value, bool) else type(value).__name__
        assert rows(await engine.query("SELECT same(?), kinds(?)", [value, value])) == [(value, kind)]
    assert rows(await engine.query("SELECT kinds(), kinds(1, 'a')")) == [("", "int,str")]
    # The last one of a name is called.
    await engine.create_function("same", 1, lambda value: "new")
    assert rows(await engine.query("SELECT same(1)")) == [("new",)]


async def test_what_a_function_raises_is_the_statements_error(engine: HtapEngine) -> None:
    def fails(value: Any) -> Any:
        raise KeyError(value)

    await engine.create_function("fails", 1, fails)
    for call in (engine.query("SELECT fails('k')"), engine.execute("UPDATE docs SET title = fails('k')")):
        with pytest.raises(EngineError, match=r"fails\(\): KeyError: 'k'"):
            await call
    await engine.create_function("thing", 0, object)
    with pytest.raises(EngineError, match=r"thing\(\): TypeError: its result: expected None, bool, int, .*, got object"):
        await engine.query("SELECT thing()")
    seen: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda raised: seen.append(raised.exc_value)
    try:
        engine.create_collation("broken", lambda a, b: 1 / 0)
        assert rows(await engine.query("SELECT 'b' > 'a' COLLATE broken AS later")) == [(1,)]
    finally:
        sys.unraisablehook = hook
    assert seen and isinstance(seen[0], ZeroDivisionError)


async def test_names_that_are_taken_are_refused(engine: HtapEngine) -> None:
    for name in ("lower", "COUNT", "vector", "json", "typeof"):
        with pytest.raises(EngineError, match=f"function \"{name}\": expected a name"):
            await engine.create_function(name, 1, fold)
    with pytest.raises(EngineError, match='function "levenshtein": expected a name that the queries on replicas do not have'):
        await engine.create_function("levenshtein", 2, fold)
    for name in ("nocase", "BINARY", "rtrim"):
        with pytest.raises(EngineError, match=f"collation \"{name}\": expected a name"):
            engine.create_collation(name, by_length)
    for name in ("", "a\0b", "x" * 256):
        with pytest.raises(EngineError, match="expected a name of 1 to 255 bytes without NUL characters, got"):
            await engine.create_function(name, 1, fold)
    with pytest.raises(vexact.InvalidRequestError, match="num_args: expected a whole number of at most 127, got 128"):
        await engine.create_function("f", 128, fold)
    with pytest.raises(TypeError, match="function: expected a function, got int"):
        await engine.create_function("f", 1, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="compare: expected a function, got NoneType"):
        engine.create_collation("f", None)  # type: ignore[arg-type]
