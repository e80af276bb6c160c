"""Every refusal has the exception of its kind, and a message that names the thing, what was expected and what came."""

from __future__ import annotations

import re
from array import array
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import refusals
import vexact
from reference import vectors
from vexact import errors

Q = [1.0, 2.0, 3.0, 4.0]
refused = partial(refusals.refused, kind=vexact.InvalidRequestError)


def test_each_exception_is_also_the_built_in_one() -> None:
    expected = {
        errors.InvalidRequestError: ValueError,
        errors.SourceNotFoundError: FileNotFoundError,
        errors.SourceIOError: OSError,
        errors.ResourcesExhaustedError: MemoryError,
        errors.ExecutionError: RuntimeError,
    }
    for ours, built_in in expected.items():
        assert issubclass(ours, errors.VexactError) and issubclass(ours, built_in)


SEARCHES = ["vector_search", "explain_vector_search", "hybrid_search", "explain_hybrid_search"]

BAD_SEARCHES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown table": ({"table": "nope"}, ['table "nope" not found', "expected"]),
    "unknown column": ({"column": "nope"}, ['column "nope"', 'table "docs"', "vector columns [vec]"]),
    "no vector column": ({"column": "id"}, ['column "id"', 'table "docs"', "expected vectors", "got Int64"]),
    "text column": ({"column": "lang"}, ['column "lang"', "expected vectors", "got Utf8"]),
    "unknown metric": ({"metric": "manhattan"}, ["unknown metric", "cosine", "dot", "l2", 'got "manhattan"']),
    "empty metric": ({"metric": ""}, ["unknown metric", "cosine", 'got ""']),
    "too short": ({"query": [1.0, 2.0, 3.0]}, ['column "vec"', 'table "docs"', "expected 4", "got 3"]),
    "too long": ({"query": [1.0] * 5}, ['column "vec"', "expected 4", "got 5"]),
    "empty": ({"query": []}, ['column "vec"', "empty query", "expected at least one component"]),
    "empty array": ({"query": np.array([])}, ['column "vec"', "empty query"]),
    "NaN": ({"query": [1.0, float("nan"), 0.0, 0.0]}, ['column "vec"', "component 1", "got NaN"]),
    "infinity": ({"query": [1.0, 0.0, float("inf"), 0.0]}, ['column "vec"', "component 2", "got inf"]),
    "minus infinity": ({"query": np.array([-np.inf, 0, 0, 0], np.float32)}, ["component 0", "got -inf"]),
    "NULL": ({"query": pa.array([1.0, None, 3.0, 4.0])}, ["query_vector: component 1", "expected a number", "got NoneType"]),
    "zero under cosine": ({"query": [0.0] * 4}, ['column "vec"', "zero query under cosine", "all zeros"]),
    "zero under COSIN": ({"query": [0] * 4, "metric": "COSIN"}, ["zero query under cosine"]),
    "k of 0": ({"top_k": 0}, ["top_k", "at least 1"]),
    "k of -1": ({"top_k": -1}, ["top_k", "at least 1"]),
    "filter of no SQL": ({"filter": "id >"}, ['filter "id >"', "expression"]),
    "empty filter": ({"filter": ""}, ['filter ""', "expression"]),
    "filter on no column": ({"filter": "nope > 1"}, ['filter "nope > 1"', "nope", "docs.id"]),
    "filter that is no predicate": ({"filter": "id + 1"}, ['filter "id + 1"', "expected a predicate", "got Int64"]),
    "filter of two statements": ({"filter": "id > 1; DROP TABLE docs"}, ["filter", "end of expression"]),
    "filter of another function": ({"filter": "nofunction(id)"}, ["filter", "nofunction"]),
}


@pytest.mark.parametrize("method", SEARCHES)
@pytest.mark.parametrize("what", BAD_SEARCHES)
def test_a_bad_search_is_refused(docs: vexact.Session, method: str, what: str) -> None:
    changes, says = BAD_SEARCHES[what]
    arguments = {"table": "docs", "column": "vec", "query": Q, "top_k": 3, "metric": "cosine", "filter": None} | changes
    options = {"filter": arguments.pop("filter")}
    refused(lambda: getattr(docs, method)(*arguments.values(), **options), *says)


def test_a_zero_query_has_a_distance_under_dot_and_l2(docs: vexact.Session) -> None:
    for metric in ("dot", "l2"):
        assert docs.vector_search("docs", "vec", [0.0] * 4, 3, metric).count() == 3


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ([Q, [1.0, 2.0]], ["query 1", "expected 4", "got 2"]),
        (np.ones((2, 3)), ["query 0", "expected 4", "got 3"]),
        ([Q, Q, [0.0, 0.0, float("nan"), 0.0]], ["query 2", "component 2", "got NaN"]),
        ([Q, [0.0] * 4], ["query 1", "zero query under cosine"]),
        (np.zeros((0, 4)), ["empty query batch", "at least one query"]),
        (np.zeros((2, 0)), ["empty query", "at least one component"]),
    ],
    ids=["ragged", "dim", "NaN", "zero", "no queries", "no components"],
)
def test_a_bad_query_batch_is_refused_naming_the_query(docs: vexact.Session, batch: Any, says: list[str]) -> None:
    refused(lambda: docs.vector_search("docs", "vec", batch), 'column "vec"', *says)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ([1.0, None, 3.0, 4.0], "component 1: expected a number, got NoneType"),
        (["a", 2.0, 3.0, 4.0], "component 0: expected a number, got str"),
        ([1.0, 2.0, [3.0], 4.0], "component 2: expected a number, got list"),
        ([1j, 2.0, 3.0, 4.0], "component 0: expected a number, got complex"),
        ([True, False, True, False], "component 0: expected a number, got bool"),
        ([1.0, np.True_, 3.0, 4.0], "component 1: expected a number, got bool"),
        (np.array([True, False, True, False]), "expected an array of real numbers, got bool"),
        ([Q, [1.0, 2.0, None, 4.0]], "row 1: component 2: expected a number, got NoneType"),
        (bytearray(b"1234"), "expected a sequence of numbers, or a numpy or pyarrow array of one or two dimensions, got bytearray"),
        (b"1234", "expected a sequence of numbers, or a numpy or pyarrow array of one or two dimensions, got bytes"),
        (np.array([1.0, None, 3.0, 4.0], object), "component 1: expected a number, got NoneType"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_component_that_is_no_number_is_named(docs: vexact.Session, query: Any, says: str) -> None:
    for method in SEARCHES:
        with pytest.raises(TypeError, match=f"^query_vector: {says}"):
            getattr(docs, method)("docs", "vec", query)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (pa.array([1.0, None, 3.0, 4.0]), "component 1: expected a number, got NoneType"),
        (pa.chunked_array([[1.0, 2.0], [3.0, None]]), "component 3: expected a number, got NoneType"),
        (pa.array([Q, [1.0, None, 3.0, 4.0]]), "row 1: component 1: expected a number, got NoneType"),
        ([pa.array(Q), pa.array([1.0, None, 3.0, 4.0])], "row 1: component 1: expected a number, got NoneType"),
        (np.ma.array(Q, mask=[1, 0, 0, 0]), "component 0: expected a number, got NoneType"),
        (np.ma.array([Q, Q], mask=[[0] * 4, [0, 1, 0, 0]]), "row 1: component 1: expected a number, got NoneType"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_missing_in_an_array_is_named(docs: vexact.Session, query: Any, says: str) -> None:
    """It is no NaN, and not what is behind a mask."""
    for method in SEARCHES:
        refused(lambda: getattr(docs, method)("docs", "vec", query), f"query_vector: {says}")


def test_a_component_beyond_float64_is_named(docs: vexact.Session) -> None:
    for query in ([1, 2, 10**400, 4], np.array([1, 2, 10**400, 4], object)):
        refused(lambda: docs.vector_search("docs", "vec", query), "query_vector: component 2: expected a number within float64")


def test_a_query_that_holds_itself_is_refused(docs: vexact.Session) -> None:
    first: list[Any] = []
    first.append(first)
    later: list[Any] = [Q]
    later.append(later)
    refused(lambda: docs.vector_search("docs", "vec", first), "query_vector: expected one or two dimensions")
    refused(lambda: docs.vector_search("docs", "vec", later), "query_vector: row 1: expected a vector, as row 0 is")


@pytest.mark.parametrize(
    "query",
    [
        tuple(Q),
        range(1, 5),
        array("f", Q),
        [np.float32(1), np.int8(2), Decimal(3), Fraction(4)],
        np.ma.array(Q),
        pa.array(Q),
        pa.chunked_array([Q[:1], Q[1:]]),
        np.array(Q, object),
        memoryview(np.array(Q)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_query_of_any_kind_of_numbers_is_one(docs: vexact.Session, query: Any) -> None:
    assert docs.vector_search("docs", "vec", query).to_rows() == docs.vector_search("docs", "vec", Q).to_rows()
    several = docs.vector_search("docs", "vec", [query, Q]).to_rows()
    assert several == docs.vector_search("docs", "vec", [Q, Q]).to_rows()


@pytest.mark.parametrize(
    ("query", "dimensions"),
    [
        (np.zeros((2, 2, 4)), 3),
        (np.zeros((2, 2, 4), np.int32), 3),
        (np.float32(3), 0),
        (np.zeros((1, 1, 1, 4), np.float32), 4),
        ([[Q]], 3),
        (((Q, Q), (Q, Q)), 3),
        ([[[Q]]], 4),
        (pa.array([[Q], [Q]]), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_query_of_other_dimensions_is_refused(docs: vexact.Session, query: Any, dimensions: int) -> None:
    for method in SEARCHES:
        search = getattr(docs, method)
        refused(lambda: search("docs", "vec", query), "query_vector: expected one or two dimensions", f"got {dimensions}")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ([Q, [1.0, 2.0]], ["query 1", "expected 4", "got 2"]),
        ([Q, Q, [1.0] * 5], ["query 2", "expected 4", "got 5"]),
        (pa.array([Q, [1.0, 2.0]]), ["query 1", "expected 4", "got 2"]),
        (np.array([Q, [1.0]], object), ["query 1", "expected 4", "got 1"]),
        ([np.ones(4), np.ones(3)], ["query 1", "expected 4", "got 3"]),
        ([Q, 3.0], ["query_vector: row 1: expected a vector, as row 0 is, got float"]),
        (pa.array([Q, None]), ["query_vector: row 1: expected a vector, as row 0 is, got NoneType"]),
    ],
    ids=["lists", "longer", "pyarrow", "objects", "arrays", "number", "NULL"],
)
def test_a_ragged_query_is_refused_naming_the_row(docs: vexact.Session, query: Any, says: list[str]) -> None:
    refused(lambda: docs.vector_search("docs", "vec", query), *says)
    lists = pa.array([Q, Q], pa.list_(pa.float32()))
    ragged = docs.create_dataframe_from_arrow(pa.table({"vec": pa.chunked_array([lists, pa.array([[1.0]], lists.type)])}))
    docs.create_temp_view("lists", ragged)
    refused(lambda: docs.vector_search("lists", "vec", query), *says)


@pytest.mark.parametrize(
    "query", [None, 3, "[1 2 3 4]", {1: 2}, {1, 2}, object(), iter(Q)], ids=repr
)
def test_a_query_that_is_no_array_of_numbers_is_a_type_error(docs: vexact.Session, query: Any) -> None:
    for method in SEARCHES:
        got = type(query).__name__
        refused(lambda: getattr(docs, method)("docs", "vec", query), "query_vector", f"got {got}", kind=TypeError)


@pytest.mark.parametrize(
    "arguments",
    [
        (None, "vec", Q),
        ("docs", None, Q),
        (b"docs", "vec", Q),
        ("docs", "vec", Q, 2.5),
        ("docs", "vec", Q, "3"),
        ("docs", "vec", Q, None),
        ("docs", "vec", Q, 3, None),
        ("docs", "vec", Q, 3, 5),
    ],
    ids=str,
)
def test_arguments_of_other_types_are_type_errors(docs: vexact.Session, arguments: tuple[Any, ...]) -> None:
    for method in SEARCHES:
        with pytest.raises(TypeError):
            getattr(docs, method)(*arguments)


def test_options_of_other_types_are_type_errors(docs: vexact.Session) -> None:
    for options in ({"filter": 3}, {"filter": ["id = 1"]}, {"columns": 3}, {"columns": [3]}, {"colums": "id"}):
        with pytest.raises(TypeError):
            docs.vector_search("docs", "vec", Q, **options)
    with pytest.raises(TypeError):
        docs.vector_search("docs", "vec", Q, 3, "l2", "id = 1")  # type: ignore[misc]
    with pytest.raises(TypeError):
        docs.hybrid_search("docs", "vec", Q, 3, "l2", "near")  # type: ignore[arg-type]


def test_unknown_columns_of_the_result_are_refused(docs: vexact.Session) -> None:
    for columns in ("nope", ["id", "nope"], ["id", "nope", "*"]):
        refused(
            lambda: docs.vector_search("docs", "vec", Q, columns=columns),
            'column "nope"',
            'table "docs"',
            "expected one of [id, lang, vec]",
        )
    refused(lambda: docs.vector_search("docs", "vec", Q, columns="ID"), 'column "ID"')


def test_a_column_named_as_one_of_the_result_is_refused(session: vexact.Session) -> None:
    vec = vectors(np.eye(2, dtype=np.float32))
    for name in ("score", "row_id"):
        session.create_temp_view("t", session.create_dataframe_from_arrow({name: [1, 2], "vec": vec}))
        refused(lambda: session.vector_search("t", "vec", [1, 1], columns="*"), 'table "t"', f'column "{name}"')
        assert session.vector_search("t", "vec", [1, 1]).count() == 2
    session.create_temp_view("t", session.create_dataframe_from_arrow({"vector_score": [1, 2], "vec": vec}))
    refused(lambda: session.hybrid_search("t", "vec", [1, 1]), 'table "t"', 'column "vector_score"')
    session.create_temp_view("t", session.create_dataframe_from_arrow({"query_id": [1, 2], "vec": vec}))
    refused(lambda: session.vector_search("t", "vec", [[1, 1]], columns="*"), 'table "t"', 'column "query_id"')
    assert session.vector_search("t", "vec", [1, 1], columns="*").count() == 2


def test_lists_of_different_lengths_are_refused_naming_the_row(session: vexact.Session) -> None:
    column = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0], [1.0, 1.0]])
    session.create_temp_view("t", session.create_dataframe_from_arrow(pa.table({"vec": column})))
    for query in ([1.0, 2.0], [[1.0, 2.0]]):
        refused(lambda: session.vector_search("t", "vec", query), "different lengths", "row 2 has 1", "expected 2")


@pytest.mark.parametrize("item", [pa.int64(), pa.float64()], ids=str)
def test_a_list_of_another_length_in_a_later_batch_is_named(session: vexact.Session, item: pa.DataType) -> None:
    chunks = [[[1, 2], [3, 4]], [[5, 6], None, [7]], [[8, 9]]]
    for later in (chunks, [*chunks[:1], [None, None, [7]]], [*chunks[:1], [[5, 6], [7, 8], []]]):
        column = pa.chunked_array([pa.array(chunk, pa.list_(item)) for chunk in later])
        session.create_temp_view("t", session.create_dataframe_from_arrow(pa.table({"vec": column})))
        for query in ([1.0, 2.0], [[1.0, 2.0], [2.0, 1.0]]):
            refused(lambda: session.vector_search("t", "vec", query), 'column "vec"', "row 4")


def test_hybrid_search_refuses_a_batch_and_a_threshold_that_is_no_number(docs: vexact.Session) -> None:
    for method in ("hybrid_search", "explain_hybrid_search"):
        call = getattr(docs, method)
        refused(lambda: call("docs", "vec", [Q, Q]), "hybrid_search", "expected one query vector", "got a query batch")
        refused(lambda: call("docs", "vec", Q, 3, "l2", float("nan")), "score_threshold", "expected a number", "got NaN")


SQL_CALLS = {
    "vector_search('nope', 'vec', $1, 3)": ['table "nope" not found'],
    "vector_search('docs', 'nope', $1, 3)": ['column "nope" not found', "[vec]"],
    "vector_search('docs', 'id', $1, 3)": ['column "id"', "expected vectors", "got Int64"],
    "vector_search('docs', 'vec', $1, 3, 'far')": ["unknown metric", "cosine", "dot", "l2", 'got "far"'],
    "vector_search('docs', 'vec', $1, 0)": ["k: expected", "at least 1", "got 0"],
    "vector_search('docs', 'vec', $1, -1)": ["k: expected", "at least 1", "got -1"],
    "vector_search('docs', 'vec', '[1 2 x 4]', 3)": ['column "vec"', "'[1 2 3]' or '[1,2,3]'", 'component 2: "x"'],
    "vector_search('docs', 'vec', '[1 2 3]', 3)": ["expected 4", "got 3"],
    "vector_search('docs', 'vec', [1, 2, 3], 3)": ["expected 4", "got 3"],
    "vector_search('docs', 'vec', '[0 0 0 0]', 3)": ['column "vec"', "zero query under cosine"],
    "vector_search('docs', 'vec', NULL, 3)": ['column "vec"', "expected a query vector", "got NULL"],
    "vector_search('docs', 'vec', $1, 3, 'l2', 'nope > 1')": ['filter "nope > 1"', "nope"],
    "vector_search('docs', 'vec', $1, 3, 'l2', 'id >')": ['filter "id >"', "expression"],
}


@pytest.mark.parametrize("call", SQL_CALLS)
def test_a_bad_table_function_call_is_refused(docs: vexact.Session, call: str) -> None:
    params = [Q] if "$1" in call else None
    refused(lambda: docs.sql(f"SELECT id FROM {call}", params).to_arrow(), *SQL_CALLS[call])


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELCT 1", "SELCT"),
        ("SELECT (1", "EOF"),
        ("", "statement"),
        ("SELECT * FROM nope", "nope"),
        ("SELECT nope FROM docs", "nope"),
        ("SELECT nofunction(id) FROM docs", "nofunction"),
        ("SELECT 1; SELECT 2", "one SQL statement"),
    ],
)
def test_bad_sql_is_refused(docs: vexact.Session, sql: str, says: str) -> None:
    pattern = re.compile(re.escape(says), re.IGNORECASE)
    with pytest.raises(vexact.InvalidRequestError, match=pattern):
        docs.sql(sql)
    with pytest.raises(vexact.InvalidRequestError, match=pattern):
        docs.explain_sql(sql)


def test_sql_that_fails_while_it_runs_is_an_execution_error(docs: vexact.Session) -> None:
    frame = docs.sql("SELECT 1 / (id - id) AS x FROM docs")
    for ask in (frame.to_arrow, frame.to_rows, frame.show):
        refused(ask, "Divide by zero", kind=vexact.ExecutionError)


def test_a_query_over_the_memory_limit_is_a_memory_error() -> None:
    session = vexact.Session(memory_limit_bytes=1 << 20)
    frame = session.sql("SELECT value, count(*) AS c FROM generate_series(1, 3000000) GROUP BY value ORDER BY c, value")
    with pytest.raises(MemoryError):
        frame.to_arrow()
    assert session.sql("SELECT 1 AS one").count() == 1


CHANGES = {
    "UPDATE {t} SET id = 1": "UPDATE",
    "update {t} set id = 1 where id = 2": "UPDATE",
    "DELETE FROM {t}": "DELETE",
    "/* all */ DELETE FROM {t} WHERE id > 3": "DELETE",
    "MERGE INTO {t} USING {t} AS s ON {t}.id = s.id WHEN MATCHED THEN DELETE": "MERGE",
    "TRUNCATE TABLE {t}": "TRUNCATE",
}


@pytest.mark.parametrize("table", ["docs", "made"])
@pytest.mark.parametrize("prefix", ["", "EXPLAIN ", "EXPLAIN ANALYZE ", "EXPLAIN VERBOSE "])
@pytest.mark.parametrize("change", CHANGES)
def test_update_delete_and_merge_are_refused(docs: vexact.Session, change: str, prefix: str, table: str) -> None:
    docs.sql("CREATE TABLE made AS SELECT id FROM docs").to_arrow()
    ids = f"SELECT id FROM {table} ORDER BY id"
    before = docs.sql(ids).to_rows()
    statement = prefix + change.format(t=table)
    if not (prefix and "TRUNCATE" in change):
        refused(lambda: docs.sql(statement), CHANGES[change], "is refused", "replication engine")
        refused(lambda: docs.explain_sql(statement), CHANGES[change], "is refused")
    else:
        refused(lambda: docs.sql(statement))
    assert docs.sql(ids).to_rows() == before


@pytest.mark.parametrize("name", ["none.csv", "none.json", "none.parquet", "no/such/folder.csv"])
def test_a_missing_file_is_named(session: vexact.Session, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for read in (session.read, session.read_csv, session.read_json, session.read_parquet):
        for given in (path, str(path)):
            refused(lambda: read(given), "file not found", str(path), kind=vexact.SourceNotFoundError)


def test_a_folder_without_files_is_refused(session: vexact.Session, tmp_path: Path) -> None:
    for read in (session.read, session.read_csv, session.read_json, session.read_parquet):
        refused(lambda: read(tmp_path), str(tmp_path), "expected files", "got none")
    refused(lambda: session.probe(tmp_path), str(tmp_path), "expected a file", "got a folder")


def test_paths_of_other_types_are_type_errors(session: vexact.Session) -> None:
    for read in (session.read, session.read_csv, session.read_json, session.read_parquet):
        for path in (3, None, [3], b"a.csv"):
            with pytest.raises(TypeError):
                read(path)


@pytest.mark.parametrize("thing", [None, "docs", [1], {"a": [1]}], ids=repr)
def test_a_view_of_anything_but_a_frame_is_a_type_error(session: vexact.Session, thing: Any) -> None:
    expected, got = "vexact.DataFrame", f"got {type(thing).__name__}"
    refused(lambda: session.create_temp_view("t", thing), "create_temp_view", expected, got, kind=TypeError)


def test_a_view_needs_a_name(session: vexact.Session) -> None:
    frame = session.sql("SELECT 1 AS a")
    refused(lambda: session.create_temp_view("", frame), "view name", "expected a name", "empty")
    with pytest.raises(TypeError):
        session.create_temp_view(None, frame)  # type: ignore[arg-type]


def test_bad_session_options_are_refused() -> None:
    refused(lambda: vexact.Session(memory_limit_bytes=0), "memory_limit_bytes", "expected at least 1 byte", "got 0")
    refused(lambda: vexact.Session(target_partitions=0), "target_partitions", "expected at least 1", "got 0")
    for value in (-1, -(2**80), 2**80):
        for name in ("memory_limit_bytes", "target_partitions"):
            refused(lambda: vexact.Session(**{name: value}), f"{name}: expected a whole number from 1 to", f"got {value}")
    for wrong in ("1 GB", 1.5, [1]):
        for name in ("memory_limit_bytes", "target_partitions"):
            got = type(wrong).__name__
            refused(lambda: vexact.Session(**{name: wrong}), f"{name}: expected an int or None, got {got}", kind=TypeError)
    assert vexact.Session(memory_limit_bytes=np.int64(1 << 30), target_partitions=1).sql("SELECT 1").count() == 1
    with pytest.raises(TypeError):
        vexact.Session(1 << 20)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SET vexact.tier = 'fast'", ["vexact.tier", "auto, f32", '"fast"']),
        ("SET vexact.rewrite = perhaps", ["vexact.rewrite", "true, false", '"perhaps"']),
        ("SET vexact.threads = many", ["vexact.threads", "many"]),
        ("SET vexact.nothing = 1", ["vexact.nothing", "vexact.tier, vexact.threads, vexact.rewrite"]),
    ],
)
def test_unknown_settings_list_the_allowed_ones(session: vexact.Session, statement: str, says: list[str]) -> None:
    refused(lambda: session.sql(statement), *says)


def test_a_session_is_usable_after_refusals(docs: vexact.Session) -> None:
    for changes, _ in BAD_SEARCHES.values():
        arguments = {"table": "docs", "column": "vec", "query": Q, "top_k": 3, "metric": "cosine"} | changes
        filter = arguments.pop("filter", None)
        with pytest.raises(ValueError):
            docs.vector_search(*arguments.values(), filter=filter)
    assert docs.vector_search("docs", "vec", [0] * 4, 1, "l2").to_rows()["rows"] == [[0, float(np.sqrt(14.0))]]
