"""What an app writes through an engine: its statements bind what `sqlite3` binds, and both routes answer alike."""

from __future__ import annotations

import datetime
import decimal
import sqlite3
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vexact
from vexact import EngineError, HtapEngine, TableSchema

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[HtapEngine]:
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT, price NUMERIC, v BLOB)")
        await engine.register_table(TableSchema("docs", {"id": "int64", "title": "utf8", "v": "vector(2)"}, "id"))
        yield engine


def rows(batches: list[pa.RecordBatch]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in pa.Table.from_batches(batches).to_pylist()]


async def test_names_bind_on_every_call_and_both_routes(engine: HtapEngine) -> None:
    insert = "INSERT INTO docs(id, title) VALUES (:id, @title)"
    assert await engine.execute(insert, {"id": 1, "title": "a", "unused": 0}) == 1
    assert await engine.execute_many(insert, [{"id": 2, "title": "b"}, {"title": "c", "id": 3}]) == 2
    await engine.execute_batch([(insert, {"id": 4, "title": "d"}), "UPDATE docs SET price = id", ("DELETE FROM docs WHERE id = ?", [4])])
    await engine.sync_all()
    on_sqlite, on_replicas = "SELECT id FROM docs WHERE id >= $low ORDER BY id", "SELECT count(*), :low FROM docs WHERE id >= $low"
    assert engine.explain_route(on_sqlite).startswith("sqlite") and engine.explain_route(on_replicas).startswith("olap")
    assert rows(await engine.query(on_sqlite, {"low": 2})) == [(2,), (3,)]
    assert rows(await engine.query(on_replicas, {"low": 2})) == [(2, 2)]
    assert rows(await engine.query_olap(on_replicas, {"low": 2})) == [(2, 2)]
    for call in (engine.execute, engine.query, engine.query_olap):
        with pytest.raises(EngineError, match=r"parameter :b: expected a value of this name, got \[a\]"):
            await call("SELECT :a, :b", {"a": 1})
        with pytest.raises(EngineError, match="parameter \\?: expected a sequence of values, got a mapping"):
            await call("SELECT ?", {"a": 1})
    with pytest.raises(EngineError, match=r"statement 2 of 2 \(SELECT :a\): parameter :a: expected a value of this name, got \[\]"):
        await engine.execute_batch(["DELETE FROM docs", ("SELECT :a", {})])
    with pytest.raises(EngineError, match="row 2: parameter @title"):
        await engine.execute_many(insert, [{"id": 5, "title": "e"}, {"id": 6}])
    with pytest.raises(vexact.InvalidRequestError, match="statements: statement 1: expected a SQL text or a pair of it and its parameters, got 3"):
        await engine.execute_batch([("DELETE FROM docs", [], [])])  # type: ignore[list-item]
    with pytest.raises(TypeError, match='^statements: statement 2: parameter "a": expected None'):
        await engine.execute_batch(["DELETE FROM docs", ("SELECT :a", {"a": object()})])
    assert rows(await engine.query("SELECT id, price FROM docs ORDER BY id")) == [(1, 1), (2, 2), (3, 3)]


async def test_a_batch_of_pairs_is_one_transaction(engine: HtapEngine) -> None:
    insert = "INSERT INTO docs(id, title) VALUES (?, ?)"
    with pytest.raises(EngineError, match=r"statement 3 of 3 \(INSERT .*UNIQUE"):
        await engine.execute_batch([(insert, (1, "a")), (insert, (2, "b")), (insert, (1, "c"))])
    assert rows(await engine.query("SELECT * FROM docs")) == []
    await engine.execute_batch([(insert, (1, "a")), ("UPDATE docs SET title = :t", {"t": "b"}), "UPDATE docs SET price = 3"])
    assert rows(await engine.query("SELECT id, title, price FROM docs")) == [(1, "b", 3)]


async def test_returning_gives_rows_and_the_last_row_id(engine: HtapEngine) -> None:
    assert engine.last_insert_rowid() == 0
    insert = "INSERT INTO docs(title, v) VALUES (?, ?) RETURNING id, title, v, id * 2 AS twice"
    batch = (await engine.execute_returning(insert, ["a", [1, 2]]))[0]
    assert batch.schema.field("id").type == pa.int64() and batch.schema.field("v").type == pa.list_(pa.float32(), 2)
    assert rows([batch]) == [(1, "a", [1.0, 2.0], 2)]
    assert engine.last_insert_rowid() == 1
    changed = await engine.execute_returning("UPDATE docs SET title = :t WHERE id IN (:ids) RETURNING title", {"t": "é", "ids": [1, 9]})
    assert rows(changed) == [("é",)]
    none = (await engine.execute_returning("DELETE FROM docs WHERE id > 5 RETURNING id"))[0]
    assert none.num_rows == 0 and none.schema.field("id").type == pa.int64()
    # After an update and a sync, which write too.
    await engine.execute("INSERT INTO docs(id) VALUES (7), (9)")
    await engine.execute("UPDATE docs SET title = 'x'")
    await engine.sync_all()
    assert engine.last_insert_rowid() == 9
    assert rows(await engine.query("SELECT last_insert_rowid(), changes()")) == [(9, 3)]
    await engine.execute("INSERT INTO docs(id, price) VALUES (20, last_insert_rowid())")
    assert rows(await engine.query("SELECT price FROM docs WHERE id = 20")) == [(9,)]
    [(total,)] = rows(await engine.query("SELECT total_changes()"))
    await engine.execute("UPDATE docs SET price = 1 WHERE id IN (9, 20)")
    assert rows(await engine.query("SELECT total_changes(), changes()")) == [(total + 2, 2)]
    for sql in ("SELECT 1", "PRAGMA user_version", "INSERT INTO docs(id) VALUES (30)", "DELETE FROM docs"):
        with pytest.raises(EngineError, match="execute_returning takes INSERT, UPDATE or DELETE with RETURNING"):
            await engine.execute_returning(sql)
    with pytest.raises(EngineError, match="execute_returning those of RETURNING"):
        await engine.execute("DELETE FROM docs RETURNING id")
    with pytest.raises(EngineError, match="UNIQUE"):
        await engine.execute_returning("INSERT INTO docs(id) VALUES (31), (7) RETURNING id")
    # A refusal of the capture names the value, and nothing is written.
    with pytest.raises(EngineError, match="expected .*got text .*parameter 1"):
        await engine.execute_returning("INSERT INTO docs(id, v) VALUES (32, ?) RETURNING id", ["no vector"])
    await engine.sync_all()
    assert rows(await engine.query("SELECT count(*) FROM docs")) == [(4,)]


VALUES = [
    datetime.datetime(2024, 1, 31, 12, 5, 6, 789),
    datetime.datetime(2024, 1, 31),
    datetime.datetime(2024, 1, 31, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=-3))),
    datetime.date(1, 2, 3),
]


@pytest.mark.filterwarnings("ignore:The default date:DeprecationWarning", "ignore:The default datetime:DeprecationWarning")
async def test_times_are_stored_as_sqlite3_stores_them(engine: HtapEngine) -> None:
    other = sqlite3.connect(":memory:")
    for value in VALUES:
        stored = other.execute("SELECT ?, typeof(?)", (value, value)).fetchone()
        assert rows(await engine.query("SELECT ?, typeof(?)", [value, value])) == [stored]
        assert rows(await engine.execute_returning("INSERT INTO docs(title) VALUES (?) RETURNING title", [value])) == [stored[:1]]
    await engine.sync_all()
    for value in VALUES:
        assert rows(await engine.query("SELECT count(*) FROM docs WHERE title = ?", [value])) == [(1,)]
        assert rows(await engine.query_olap("SELECT count(*) FROM docs WHERE title = ?", [value])) == [(1,)]
    number = uuid.UUID(int=2**100 + 7)
    for value, text in [
        (decimal.Decimal("12345678901234567890.10"), "12345678901234567890.10"),
        (number, str(number)),
        (np.datetime64("2024-01-31T12:05:06.789", "ns"), "2024-01-31 12:05:06.789000"),
        (np.datetime64("2024-01-31", "D"), "2024-01-31 00:00:00"),
        (np.datetime64("NaT"), None),
        (memoryview(b"ab"), b"ab"),
    ]:
        assert rows(await engine.query("SELECT ?", [value])) == [(text,)]
    for value in (np.timedelta64(3, "s"), datetime.timedelta(3), {"a": 1}, datetime.time(3)):
        with pytest.raises(TypeError, match="^parameter 1: expected None, bool, int, .*, a Decimal or a UUID, got "):
            await engine.query("SELECT ?", [value])
    # A column of numbers takes a decimal as a number.
    await engine.execute("INSERT INTO docs(id, price) VALUES (100, :p)", {"p": decimal.Decimal("9.5")})
    assert rows(await engine.query("SELECT typeof(price), price FROM docs WHERE id = 100")) == [("real", 9.5)]


async def test_a_list_alone_in_in_is_so_many_values(engine: HtapEngine) -> None:
    await engine.execute_many("INSERT INTO docs(id, title) VALUES (?, ?)", [(1, "a"), (2, "b"), (3, None)])
    await engine.sync_all()
    on_sqlite, on_replicas = "SELECT id FROM docs WHERE {} ORDER BY id", "SELECT count(*), sum(id) FROM docs WHERE {}"
    everything = [(1,), (2,), (3,)]
    for condition, params, expected in [
        ("id IN (?)", [[1, 3]], [(1,), (3,)]),
        ("id in ( ? ) AND id > ?", [(1, 2, 9), 1], [(2,)]),
        ("id NOT IN (:ids)", {"ids": {2}}, [(1,), (3,)]),
        ("title IN ($names)", {"names": ["a", "é", None]}, [(1,)]),
        ("id IN (?)", [np.array([2, 3])], [(2,), (3,)]),
        ("id IN (?)", [range(2, 4)], [(2,), (3,)]),
        ("id IN (?1) OR id IN (?1)", [[2]], [(2,)]),
        ("id IN (?)", [[]], []),
        ("title NOT IN (?)", [[]], everything),
        ("NOT title IN (?) AND title NOT IN ( ? ) OR id IN (?)", [[], (), [7]], everything),
        ("id IN (?)", [2], [(2,)]),
        ("v IN (?, ?)", [[1.0, 2.0], None], []),
    ]:
        assert rows(await engine.query(on_sqlite.format(condition), params)) == expected, (condition, params)
        ids = [row[0] for row in expected]
        sums = [(len(ids), sum(ids) if ids else None)]
        assert rows(await engine.query(on_replicas.format(condition), params)) == sums, (condition, params)
        if "v IN" not in condition:
            assert rows(await engine.query_olap(on_replicas.format(condition), params)) == sums, (condition, params)
    assert await engine.execute("UPDATE docs SET price = 1 WHERE id IN (?)", [[1, 2]]) == 2
    with pytest.raises(EngineError, match="row 1: expected values, got a list"):
        await engine.execute_many("DELETE FROM docs WHERE id IN (?)", [[[1, 2]]])
    with pytest.raises(TypeError, match="^parameter 1: item 2: expected None"):
        await engine.query("SELECT 1 IN (?)", [[1, object()]])
    # Anywhere else a list is a vector.
    with pytest.raises(TypeError, match="^parameter 1: component 0: expected a number, got str"):
        await engine.query("SELECT ?", [["a"]])


async def test_a_filter_binds_values(engine: HtapEngine) -> None:
    insert = "INSERT INTO docs(id, title, v) VALUES (?, ?, ?)"
    await engine.execute_many(insert, [(1, "a", [1, 0]), (2, "b' OR 1", [2, 0]), (3, "c", [3, 0]), (4, None, [4, 0])])
    await engine.sync_all()

    async def found(filter: str, params: Any) -> list[int]:
        return [row[0] for row in rows(await engine.vector_search("docs", "v", [0, 0], metric="l2", filter=filter, params=params))]

    for filter, params, expected in [
        ("title = ?", ["b' OR 1"], [2]),
        ("id > ? AND id < ?2", [1, 4], [2, 3]),
        ("id > $2 AND title <> $1", ["c", 1], [2]),
        ("id IN (:ids) OR title = :t", {"ids": [3, 4], "t": "a"}, [1, 3, 4]),
        ("id IN (?)", [[]], []),
        ("title IS NULL OR title = ?", [None], [4]),
    ]:
        assert await found(filter, params) == expected, (filter, params)
        explain = await engine.explain_vector_search("docs", "v", [0, 0], metric="l2", filter=filter, params=params)
        assert "filter" in explain.strategy
    for filter, params, says in [
        ("id = ?", [], "expected 1 parameters, got 0"),
        ("id = ?", [1, 2], "expected 1 parameters, got 2"),
        ("id = :a", {"b": 1}, r"parameter :a: expected a value of this name, got \[b\]"),
        ("id = $1", None, "parameter \\$1: expected a value, got none"),
    ]:
        with pytest.raises(EngineError, match=says):
            await found(filter, params)
    with pytest.raises(EngineError, match="params: expected none without a filter, got some"):
        await engine.vector_search("docs", "v", [0, 0], params=[1])


async def test_a_filter_of_a_session_binds_values(docs: vexact.Session) -> None:
    query = [0.0, 0.0, 0.0, 1.0]
    for call in (docs.vector_search, docs.hybrid_search):
        named = call("docs", "vec", query, filter="lang = $lang AND id > $low", params={"lang": "de", "low": 5})
        placed = call("docs", "vec", query, filter="lang = $1 AND id > $2", params=["de", 5])
        plain = call("docs", "vec", query, filter="lang = 'de' AND id > 5")
        assert named.to_arrow() == plain.to_arrow() == placed.to_arrow() and plain.to_arrow().num_rows == 2
        with pytest.raises(vexact.InvalidRequestError, match="params: expected none without a filter, got some"):
            call("docs", "vec", query, params=[1])
        with pytest.raises(vexact.InvalidRequestError, match="expected 1 parameters, got 2"):
            call("docs", "vec", query, filter="id = $1", params=[1, 2])
        with pytest.raises(vexact.InvalidRequestError, match="expected a value, got none"):
            call("docs", "vec", query, filter="id = $1")
    assert "filter" in docs.explain_vector_search("docs", "vec", query, filter="id = $1", params=[1]).strategy
