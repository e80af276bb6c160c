"""Every argument of another type, shape or size is refused with a typed error that names it, what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vexact
from refusals import BROKEN, NO_FLAG, NO_INT, NO_LIST, NO_NUMBER, NO_PATH, NO_TEXT, NO_THING, THING, got, refused, refused_types
from vexact import HtapConfig, HtapEngine, TableSchema, TimestampTableConfig

# Tables and settings.

ID = [("id", "int64")]


@pytest.mark.parametrize("pk", ["id", ["id"], ("id",)], ids=repr)
def test_columns_are_pairs_or_a_mapping_and_a_key_of_one_column_may_be_its_name(pk: Any) -> None:
    listed = [("id", "int64"), ("v", "vector(3)")]
    for columns in (listed, dict(listed), [list(pair) for pair in listed], iter(listed)):
        schema = TableSchema("t", columns, pk)
        assert (schema.name, schema.columns, schema.pk) == ("t", listed, ["id"])
        assert schema == TableSchema("t", listed, ["id"])


def test_a_schema_of_other_types_is_a_type_error() -> None:
    refused_types(lambda v: TableSchema(v, ID, ["id"]), "name", NO_TEXT)
    refused_types(lambda v: TableSchema("t", v, ["id"]), "columns", [None, 3, b"x", "id int64", THING])
    refused_types(lambda v: TableSchema("t", ID, v), "pk", [None, *NO_LIST])
    refused_types(lambda v: TableSchema("t", ID, [v]), "pk", [None, 3, b"x"])
    for pair in ("id", b"id", 3, None, pa.field("id", pa.int64())):
        refused(lambda: TableSchema("t", [pair], ["id"]), "columns: expected (name, type) pairs", got(pair), kind=TypeError)
    refused(lambda: TableSchema("t", [(1, "int64")], ["id"]), "columns: a name: expected a str, got int", kind=TypeError)
    refused(lambda: TableSchema("t", {"id": int}, ["id"]), "columns: type of 'id': expected a str, got the class int", kind=TypeError)
    for pair in (("id",), ("id", "int64", "no null"), ()):
        refused(lambda: TableSchema("t", [pair], ["id"]), "columns: expected (name, type) pairs", repr(pair))
    refused(lambda: TableSchema(BROKEN, ID, ["id"]), "name: expected text")
    refused(lambda: TableSchema("t", [(BROKEN, "int64")], ["id"]), "columns: a name: expected text")
    refused(lambda: TableSchema("a\0b", ID, ["id"]), r'table "a\0b": expected a name without NUL characters')
    refused(lambda: TableSchema("t", [("a\0b", "int64")], ["id"]), r'column "a\0b": expected a name without NUL characters')


def test_a_followed_table_of_other_types_is_a_type_error() -> None:
    refused_types(lambda v: TimestampTableConfig(v, ["id"]), "table_name", NO_TEXT)
    for name in ("primary_key", "columns"):
        refused_types(lambda v: TimestampTableConfig(**{"table_name": "t", "primary_key": "id", name: v}), name, [None, *NO_LIST])
    for name in ("created_at_column", "updated_at_column"):
        refused_types(lambda v: TimestampTableConfig("t", "id", **{name: v}), name, NO_TEXT)
        refused(lambda: TimestampTableConfig("t", "id", **{name: ""}), f"{name}: expected a name, got an empty text")
    refused(lambda: TimestampTableConfig("", "id"), "table_name: expected a name, got an empty text")
    for name in ("primary_key", "columns"):
        twice = lambda v: TimestampTableConfig(**{"table_name": "t", "primary_key": "id", name: v})  # noqa: E731
        refused(lambda: twice(["a", "A"]), f"{name} of table 't': expected each column once, got 'A' twice")
        refused(lambda: twice([""]), f"{name} of table 't': expected names, got an empty text")
    refused(lambda: TimestampTableConfig("t", []), "primary_key of table 't': expected at least one column")
    assert TimestampTableConfig("t", "id", columns="name").columns == ["name"]


def test_settings_of_other_types_are_named() -> None:
    for name in ("sync_mode", "olap_backend", "storage_mode", "sidecar_delete_detection"):
        refused_types(lambda v: HtapConfig(**{name: v}), name, NO_TEXT)
        refused(lambda: HtapConfig(**{name: BROKEN}), name)
    for name in ("prune_after_sync", "sidecar_enable_oltp"):
        refused_types(lambda v: HtapConfig(**{name: v}), name, NO_FLAG)
    refused_types(lambda v: HtapConfig(oltp_path=v), "oltp_path", NO_PATH)
    for name in ("storage_path", "sidecar_source"):
        refused_types(lambda v: HtapConfig(**{name: v}), name, NO_PATH[1:])
    refused_types(lambda v: HtapConfig(sidecar_tables=v), "sidecar_tables", [*NO_LIST, "docs", TimestampTableConfig("t", "id")])
    for name in ("sync_batch_size", "read_pool_size", "sidecar_poll_batch_size"):
        for value in (*NO_INT, -1, 0, 2**31):
            refused(lambda: HtapConfig(**{name: value}), f"{name}: expected a whole number of at least 1", f"got {value!r}")
        assert getattr(HtapConfig(**{name: np.int64(7)}), name) == 7


def test_a_config_of_another_type_is_a_type_error() -> None:
    refused_types(HtapEngine, "config", ["app.db", {"oltp_path": "app.db"}, 3, [], THING, HtapConfig])


# Engines.


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine(tmp_path: Path) -> Any:
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT, v BLOB)")
        await engine.register_table(TableSchema("docs", {"id": "int64", "title": "utf8", "v": "vector(2)"}, "id"))
        yield engine


async def refused_later(call: Callable[[Any], Any], name: str, values: list[Any], kind: type[Exception] = TypeError) -> None:
    for value in values:
        with pytest.raises(kind) as caught:
            await call(value)
        assert name in str(caught.value) and "expected" in str(caught.value), str(caught.value)
        assert kind is not TypeError or got(value) in str(caught.value), str(caught.value)


@pytest.mark.anyio
async def test_arguments_of_engines_are_named(engine: HtapEngine) -> None:
    for call in (engine.execute, engine.query, engine.query_olap, lambda v: engine.execute_many(v, [])):
        await refused_later(call, "sql: ", NO_TEXT)
        await refused_later(call, "sql: ", [BROKEN], ValueError)
    refused_types(engine.explain_route, "sql: ", NO_TEXT)
    await refused_later(engine.execute_batch, "statements: ", [None, *NO_LIST, "DELETE FROM docs"])
    with pytest.raises(TypeError, match="statements: statement 2: expected a SQL text or a pair of it and its parameters, got int"):
        await engine.execute_batch(["DELETE FROM docs", 3])  # type: ignore[list-item]
    many = lambda v: engine.execute_many("INSERT INTO docs(id) VALUES (?)", v)  # noqa: E731
    await refused_later(many, "rows_of_params: ", [None, *NO_LIST, "12"])
    for row in (2, "2", None):
        with pytest.raises(TypeError, match=f"rows_of_params: row 2: expected a sequence of parameters or a mapping, {got(row)}"):
            await many([[1], row])
    await refused_later(engine.register_table, "schema: ", [None, {"name": "docs"}, ("docs", ID, ["id"]), TableSchema])
    await refused_later(lambda v: engine.register_table(TableSchema("docs", ID, ["id"]), v), "initial_sync: ", [flag for flag in NO_FLAG if flag is not None])
    for call in (engine.initial_sync, lambda v: engine.add_column(v, "c", "int8"), lambda v: engine.drop_column(v, "title")):
        await refused_later(call, "table_name: ", NO_TEXT)
    for call in (lambda v: engine.add_column("docs", v, "int8"), lambda v: engine.drop_column("docs", v)):
        await refused_later(call, "column_name: ", NO_TEXT)
    await refused_later(lambda v: engine.add_column("docs", "c", v), "data_type: ", NO_TEXT)
    refused_types(engine.start_sync, "interval_seconds: ", NO_NUMBER)
    for bad in (0, -1, float("nan"), float("inf"), 2**70, 10**400):
        refused(lambda: engine.start_sync(bad), "interval_seconds: expected a number")
    assert (await engine.query("SELECT id FROM docs"))[0].num_rows == 0


@pytest.mark.anyio
async def test_arguments_of_an_engines_search_are_named(engine: HtapEngine) -> None:
    good: dict[str, Any] = {"table": "docs", "column": "v", "query": [1.0, 0.0], "top_k": 3, "metric": "l2"}
    for search in (engine.vector_search, engine.explain_vector_search):
        for name in ("table", "column", "metric"):
            await refused_later(lambda v: search(**{**good, name: v}), f"{name}: ", NO_TEXT)
        await refused_later(lambda v: search(**{**good, "top_k": v}), "top_k: ", NO_INT)
        await refused_later(lambda v: search(**good, filter=v), "filter: ", NO_TEXT[1:])
        await refused_later(lambda v: search(**good, columns=v), "columns: ", NO_LIST)
        await refused_later(lambda v: search(**good, columns=["id", v]), "columns: ", [None, 3, b"id"])
        await refused_later(lambda v: search(**good, fresh=v), "fresh: ", NO_FLAG)


@pytest.mark.anyio
async def test_a_statement_is_not_cut_at_a_nul(engine: HtapEngine) -> None:
    await engine.execute_many("INSERT INTO docs(id) VALUES (?)", [(1,), (2,)])
    cut = "DELETE FROM docs\0 WHERE id = 1"
    for call in (engine.execute, engine.query, lambda sql: engine.execute_batch([sql]), lambda sql: engine.execute_many(sql, [()])):
        with pytest.raises(vexact.EngineError, match="expected text without NUL characters, got one at position 16"):
            await call(cut)
    refused(lambda: engine.explain_route(cut), "expected text without NUL characters", kind=vexact.EngineError)
    # Whichever side would answer.
    with pytest.raises(vexact.EngineError, match="expected text without NUL characters, got one at position 39"):
        await engine.query("SELECT count(*) FROM docs WHERE title='\0'")
    with pytest.raises(vexact.EngineError, match="column \"a.*: expected a name without NUL characters"):
        await engine.add_column("docs", "a\0b", "int8")
    assert (await engine.query("SELECT id FROM docs"))[0].num_rows == 2


@pytest.mark.anyio
async def test_every_call_of_an_engine_that_was_shut_down_is_an_error(engine: HtapEngine) -> None:
    engine.shutdown()
    calls: list[Callable[[], Any]] = [
        lambda: engine.execute("DELETE FROM docs"),
        lambda: engine.execute_batch(["DELETE FROM docs"]),
        lambda: engine.execute_many("DELETE FROM docs WHERE id = ?", [(1,)]),
        lambda: engine.query("SELECT 1"),
        lambda: engine.query_olap("SELECT 1"),
        lambda: engine.register_table(TableSchema("docs", ID, ["id"])),
        lambda: engine.initial_sync("docs"),
        engine.sync_now,
        engine.sync_all,
        engine.sync_status,
        lambda: engine.add_column("docs", "c", "int8"),
        lambda: engine.drop_column("docs", "title"),
        lambda: engine.vector_search("docs", "v", [1, 0]),
        lambda: engine.explain_vector_search("docs", "v", [1, 0]),
        engine.__aenter__,
    ]
    for call in calls:
        with pytest.raises(vexact.EngineError, match="the engine was shut down"):
            await call()
    for now in (lambda: engine.explain_route("SELECT 1"), lambda: engine.start_sync(1), engine.session):
        refused(now, "the engine was shut down", kind=vexact.EngineError)
    engine.stop_sync()
    engine.shutdown()


@pytest.mark.anyio
async def test_a_parameter_that_no_column_can_hold_is_named_and_nothing_is_written(engine: HtapEngine) -> None:
    """Nothing of it becomes another value: half a character no replacement, a NULL in a vector no NaN."""
    insert = "INSERT INTO docs(title, v) VALUES (?, ?)"
    for bad, says, kind in (
        (BROKEN, r"expected text of Unicode characters, got '\\ud800'", vexact.InvalidRequestError),
        ([1.0, None], "component 1: expected a number, got NoneType", TypeError),
        (["a", 1.0], "component 0: expected a number, got str", TypeError),
        ([10**400, 1], "component 0: expected a number within float64, got a larger one", vexact.InvalidRequestError),
        ([1.0, 1e39], "component 1: expected a number within float32, got 1e39", vexact.InvalidRequestError),
        ([True, False], "component 0: expected a number, got bool", TypeError),
        (pa.array([1.0, None]), "component 1: expected a number, got NoneType", vexact.InvalidRequestError),
        (np.ma.array([1.0, 2.0], mask=[False, True]), "component 1: expected a number, got NoneType", vexact.InvalidRequestError),
        (np.zeros((2, 2)), "expected a vector, got a two-dimensional array", vexact.InvalidRequestError),
        (10**5000, "expected an int that Python writes in digits", vexact.InvalidRequestError),
        (THING, "expected None, bool, int, float, str, bytes, a vector, a datetime, a date, a Decimal or a UUID, got object", TypeError),
    ):
        with pytest.raises(kind, match=f"^parameter 2: {says}"):
            await engine.execute(insert, ["a", bad])
        with pytest.raises(kind, match=f"^rows_of_params: row 3: parameter 2: {says}"):
            await engine.execute_many(insert, [("a", None), ("b", None), ("c", bad)])
        for query in (engine.query, engine.query_olap):
            with pytest.raises(kind, match=f"^parameter 1: {says}"):
                await query("SELECT count(*) FROM docs WHERE title = $1", [bad])
    assert (await engine.query("SELECT id FROM docs"))[0].num_rows == 0


@pytest.mark.anyio
async def test_a_query_of_a_wrong_shape_is_one_error_of_an_engine(engine: HtapEngine) -> None:
    for query in (np.zeros((1, 1, 2)), np.zeros((2, 2)), [[1.0, 2.0]], [1.0], [], [[[1.0]]], [[1.0, 2.0], 3]):
        for search in (engine.vector_search, engine.explain_vector_search):
            with pytest.raises(vexact.EngineError, match="quer"):
                await search("docs", "v", query)


@pytest.mark.anyio
async def test_a_top_k_beyond_all_tables_is_all_rows(engine: HtapEngine) -> None:
    explained = await engine.explain_vector_search("docs", "v", [1, 0], top_k=2**70)
    assert f"fetch={2**63 - 1}" in explained.logical and "-1" not in explained


# Sessions.


def test_options_of_sessions_are_whole_numbers() -> None:
    for name in ("memory_limit_bytes", "target_partitions"):
        refused_types(lambda v: vexact.Session(**{name: v}), f"{name}: expected an int or None", NO_INT[1:])


def test_paths_of_sessions_are_named(session: vexact.Session, write: Callable[..., Path]) -> None:
    frame = session.sql("SELECT 1 AS a")
    excel = lambda path: vexact.read_excel(session, path)  # noqa: E731
    reads = (session.read, session.read_csv, session.read_json, session.read_parquet, session.read_arrow_file)
    for call in (*reads, session.probe, session.read_stream_csv_dir, excel, frame.write_csv, frame.write_parquet):
        # A list is of several paths, where a session reads them.
        others = [value for value in NO_PATH if call not in reads or not isinstance(value, list)]
        refused_types(call, "path: expected a str or os.PathLike", others)
        refused(lambda: call(BROKEN), "path: expected characters that a file's name can have")
    lines = [value for value in NO_PATH if not isinstance(value, list)]
    refused_types(lambda v: session.read_line_file(v, [("a", 0)]), "path", lines)
    path = write("a,b\n1,2\n")
    for read in (session.read_csv, session.read_stream_csv_dir, lambda path, v: session.read(path, delimiter=v)):
        refused_types(lambda v: read(path, v), "delimiter: expected a str", NO_TEXT)
        for bad in ("", ",,"):
            refused(lambda: read(path, bad), "delimiter: expected one character", repr(bad))
    json = write('{"a": 1, "bc": 2}\n', "a.json")
    refused_types(lambda v: session.read_json(json, None, v), "format: expected a str", NO_TEXT)
    refused_types(lambda v: session.read_json(json, v), "columns: expected a str or a list of str", NO_LIST)
    refused(lambda: session.read_json(json, ["a", "bc", "a"]), "columns: expected each column once, got \"a\" twice")
    assert session.read_json(json, "bc").to_rows() == {"schema": ["bc"], "rows": [[2]]}


def test_arguments_of_read_line_file_are_named(session: vexact.Session, write: Callable[..., Path]) -> None:
    path = write("1,a\n", "a.log")

    def read(**options: Any) -> Any:
        return session.read_line_file(path, **{"mappings": [("n", 0)], **options})

    for name in ("mode", "split_delimiter", "regex_pattern"):
        refused_types(lambda v: read(**{name: v}), f"{name}: expected a str", NO_TEXT)
    refused_types(lambda v: read(skip_empty_lines=v), "skip_empty_lines: expected a bool", NO_FLAG)
    for mappings in (None, 3, "n", b"n", THING, ["n"], [None], [3]):
        refused(lambda: read(mappings=mappings), "mappings: expected (column, field)", kind=TypeError)
    for bad in (None, 1.5, True, b"x", [], THING):
        refused(lambda: read(mappings=[("n", bad)]), "mappings: column 'n': expected a field's number", got(bad), kind=TypeError)
    for bad in (3, b"int", []):
        refused(lambda: read(mappings=[("n", 0, bad)]), "mappings: column 'n': type: expected int, float", got(bad), kind=TypeError)
    refused(lambda: read(mappings=[(1, 0)]), "mappings: a column's name: expected a str, got int", kind=TypeError)
    refused(lambda: read(mappings=[("n", 0, int, 4)]), "mappings: column 'n'", "got 4 items")
    refused(lambda: read(mappings=[("n",)]), "mappings: column 'n'", "got 1 items")
    refused(lambda: read(mappings=[()]), "mappings: expected (column, field)", "got ()")
    refused(lambda: read(mappings=[("n", 0, dict)]), "mappings: column 'n'", "got dict")
    assert read(mappings=[("n", np.int64(0), int)]).to_rows()["rows"] == [[1]]


def test_data_that_makes_no_table_is_named(session: vexact.Session) -> None:
    make = session.create_dataframe_from_arrow
    for value in (3, None, "xyz", b"xyz", {"x": 1}, THING):
        refused(lambda: make({"a": value}), "data: column 'a': expected a list or an array of values", got(value), kind=TypeError)
    refused(lambda: make({1: [1]}), "data: a column's name: expected a str, got int", kind=TypeError)
    for mixed in ([1, "x"], [THING], [2**70], [BROKEN], np.zeros((2, 2, 2))):
        refused(lambda: make({"a": mixed}), "data: column 'a': expected values of one type", kind=vexact.InvalidRequestError)
    refused(lambda: make({"a": [1, 2], "b": [1]}), "data: column 'b': expected 2 values, as the first column has, got 1")
    refused(lambda: make({"a": np.zeros((2, 0))}), "data: column 'a': expected vectors of at least one component")
    batches = [pa.record_batch({"a": [1]}), pa.record_batch({"b": [1]})]
    refused(lambda: make(batches), "data: expected record batches of one schema")
    assert make({"a": range(2), "b": (x for x in "xy")}).to_rows()["rows"] == [[0, "x"], [1, "y"]]


def test_arguments_of_sql_are_named(session: vexact.Session) -> None:
    for call in (session.sql, session.explain_sql, session.stream_sql):
        refused_types(call, "query: expected a str", NO_TEXT)
        refused(lambda: call(BROKEN), "query: expected text of Unicode characters")
    for call in (session.start_stream_sql, session.explain_stream_sql):
        refused_types(call, "sql: expected a str", NO_TEXT)
    for ask in (session.sql, session.explain_sql):
        one, named = (lambda v: ask("SELECT $1 AS a", [v])), (lambda v: ask("SELECT $a AS a", {"a": v}))  # noqa: E731
        for call, name in ((one, "params: $1"), (named, "params: $a")):
            refused(lambda: call(2**63), f"{name}: expected an int within int64, got 9223372036854775808")
            refused(lambda: call(BROKEN), f"{name}: expected text of Unicode characters")
            refused(lambda: call([1.0, None]), f"{name}: component 1: expected a number, got NoneType", kind=TypeError)
            refused(lambda: call(pa.array([1.0, None])), f"{name}: component 1: expected a number, got NoneType")
            refused(lambda: call([10**400]), f"{name}: component 0: expected a number within float64, got a larger one")
            refused(lambda: call([]), f"{name}: empty vector")
            for bad in (THING, int):
                refused(lambda: call(bad), f"{name}: expected None, bool, int", got(bad), kind=TypeError)
        refused(lambda: ask("SELECT $a AS a", {1: 1}), "params: a name: expected a str, got int", kind=TypeError)
        refused(lambda: session.explain_sql("SELECT $1 AS a"), "params: expected a value for $1, got none", kind=vexact.InvalidRequestError)
        refused(lambda: ask("SELECT $a AS a", {BROKEN: 1}), "params: a name: expected text of Unicode characters")
        for bad in ("x", b"x", 3, {1, 2}):
            refused(lambda: ask("SELECT $1 AS a", bad), "params: expected a sequence or a mapping", got(bad), kind=TypeError)


def test_arguments_of_searches_are_named(docs: vexact.Session) -> None:
    good: dict[str, Any] = {"table": "docs", "vector_column": "vec", "query_vector": [1.0, 2.0, 3.0, 4.0], "top_k": 3, "metric": "l2"}
    for method in ("vector_search", "explain_vector_search", "hybrid_search", "explain_hybrid_search"):
        search = getattr(docs, method)
        for name in ("table", "vector_column", "metric"):
            refused_types(lambda v: search(**{**good, name: v}), f"{name}: expected a str", NO_TEXT)
        refused_types(lambda v: search(**{**good, "top_k": v}), "top_k: expected an int", NO_INT)
        refused_types(lambda v: search(**good, filter=v), "filter: expected a str or None", NO_TEXT[1:])
        if "hybrid" in method:
            refused_types(lambda v: search(**good, score_threshold=v), "score_threshold: expected a number", NO_NUMBER[1:])
        else:
            refused_types(lambda v: search(**good, columns=v), "columns: expected a str or a list of str", NO_LIST)


def test_names_and_sheets_are_named(session: vexact.Session) -> None:
    frame = session.sql("SELECT 1 AS a")
    refused_types(lambda v: session.create_temp_view(v, frame), "name: expected a str", NO_TEXT)
    refused_types(lambda v: session.create_temp_view("v", v), "frame: expected a vexact.DataFrame, StreamingDataFrame", NO_THING)
    refused_types(frame.show, "max_rows: expected an int", NO_INT)
    refused(lambda: frame.show(-1), "max_rows: expected a whole number of at least 0, got -1")
    refused_types(lambda v: vexact.read_excel(v, "a.xlsx"), "session: expected a vexact.Session", NO_THING)
    for name, bad in (("sheet_name", None), ("sheet_name", True), ("date_format", None), ("coerce_datetime_to_string", "no")):
        refused(lambda: vexact.read_excel(session, "a.xlsx", **{name: bad}), f"{name}: expected", got(bad), kind=TypeError)
    for kind in (vexact.DataFrame, vexact.StreamingDataFrame, vexact.StreamingQuery):
        refused_types(kind, f"{kind.__name__}: expected what", NO_THING)
