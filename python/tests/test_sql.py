"""SQL of a session: parameters of every type, the vector functions, and the plain ORDER BY that means the same search."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vexact
from reference import METRICS, awkward_rows, search, vectors

UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        (None, pa.null()),
        (True, pa.bool_()),
        (False, pa.bool_()),
        (1, pa.int64()),
        (-(2**63), pa.int64()),
        (2**63 - 1, pa.int64()),
        (1.5, pa.float64()),
        (float("inf"), pa.float64()),
        (np.float64(2.5), pa.float64()),
        ("", pa.string()),
        ("it's; -- ünï $1", pa.string()),
        (np.str_("x"), pa.string()),
        (b"", pa.binary()),
        (b"\x00\xff", pa.binary()),
        (datetime.date(2020, 1, 2), pa.date32()),
        (datetime.time(1, 2, 3, 4), pa.time64("us")),
        (datetime.datetime(2020, 1, 2, 3, 4, 5, 6), pa.timestamp("us")),
        (datetime.datetime(2020, 1, 2, tzinfo=UTC), pa.timestamp("us", "UTC")),
        (datetime.timedelta(days=1, microseconds=5), pa.duration("us")),
        (decimal.Decimal("1.25"), pa.decimal128(3, 2)),
        ([1.0, 2.5], pa.list_(pa.float64(), 2)),
    ],
    ids=repr,
)
def test_a_parameter_keeps_its_type_and_value(session: vexact.Session, value: Any, data_type: pa.DataType) -> None:
    for query, params in (("SELECT $1 AS x", [value]), ("SELECT $1 AS x", (value,)), ("SELECT $x AS x", {"x": value})):
        table = session.sql(query, params).to_arrow()
        assert (table.schema.field("x").type, table["x"].to_pylist()) == (data_type, [value])


@pytest.mark.parametrize(
    "vector",
    [(1, 2), np.array([1, 2], np.float32), np.array([1, 2], np.int8), np.array([1, 9, 2, 9.0])[::2], pa.array([1, 2])],
    ids=["tuple", "float32", "int8", "strided", "pyarrow"],
)
def test_any_array_of_numbers_is_a_vector_parameter(session: vexact.Session, vector: Any) -> None:
    assert session.sql("SELECT $1 AS x", [vector]).to_rows()["rows"] == [[[1.0, 2.0]]]


def test_parameters_are_numbered_from_one_in_any_order(session: vexact.Session) -> None:
    rows = session.sql("SELECT $2 AS b, $1 AS a, $2 AS c", [1, "x"]).to_rows()
    assert rows == {"schema": ["b", "a", "c"], "rows": [["x", 1, "x"]]}


def test_named_parameters(docs: vexact.Session) -> None:
    query = "SELECT id FROM docs WHERE lang = $lang AND id > $least ORDER BY l2_distance(vec, $q) LIMIT 2"
    rows = docs.sql(query, {"lang": "en", "least": 2, "q": [0, 0, 0, 0]}).to_rows()["rows"]
    assert rows == [[4], [6]]


class Numbers(Sequence):  # type: ignore[type-arg]
    """A sequence that is no list."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        return [10, 20][index]


@pytest.mark.parametrize(
    "params",
    [(10, 20), Numbers(), collections.deque([10, 20]), range(10, 30, 10), array.array("q", [10, 20])],
    ids=lambda params: type(params).__name__,
)
def test_any_sequence_holds_parameters(session: vexact.Session, params: Any) -> None:
    assert session.sql("SELECT $2 AS b, $1 AS a", params).to_rows()["rows"] == [[20, 10]]
    assert session.explain_sql("SELECT $1 + $2 AS a", params).strategy == "mode=sql"


@pytest.mark.parametrize(
    "params",
    [
        types.MappingProxyType({"a": 10, "b": 20}),
        collections.ChainMap({"a": 10}, {"b": 20}),
        collections.OrderedDict(a=10, b=20),
        collections.UserDict({"a": 10, "b": 20}),
    ],
    ids=lambda params: type(params).__name__,
)
def test_any_mapping_holds_named_parameters(session: vexact.Session, params: Any) -> None:
    assert session.sql("SELECT $b AS b, $a AS a", params).to_rows()["rows"] == [[20, 10]]


def test_text_in_a_parameter_is_never_sql(docs: vexact.Session) -> None:
    assert docs.sql("SELECT id FROM docs WHERE lang = $1", ["en' OR '1'='1"]).count() == 0


def test_missing_and_wrong_parameters_are_errors(session: vexact.Session) -> None:
    for params in ([1], {"other": 1}):
        name = "$2" if isinstance(params, list) else "$x"
        with pytest.raises(vexact.InvalidRequestError, match=f"No value .*\\{name}"):
            session.sql(f"SELECT {name} AS x", params)
    with pytest.raises(vexact.VexactError, match=r"\$1"):
        session.sql("SELECT $1 AS x").to_arrow()
    for params in (3, "x", "", b"x", bytearray(b"x"), {1}, iter([1]), object()):
        got = type(params).__name__
        with pytest.raises(TypeError, match=f"params: expected a sequence or a mapping, got {got}"):
            session.sql("SELECT $1 AS x", params)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        session.sql("SELECT $1 AS x", {1: 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"params: \$1: expected one or two dimensions, got 3"):
        session.sql("SELECT $1 AS x", [[[[1, 2], [3, 4]]]])
    with pytest.raises((TypeError, ValueError)):
        session.sql("SELECT $1 AS x", [object()])


def text(query: np.ndarray, separator: str) -> str:
    return f"[{separator.join(repr(float(x)) for x in query)}]"


ORDER = {"cosine": "cosine_distance(vec, $1)", "dot": "inner_product(vec, $1) DESC", "l2": "l2_distance(vec, $1)"}


@pytest.mark.parametrize("rewrite", ["true", "false"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_table_function_and_plain_order_by_are_vector_search(metric: str, seed: int, rewrite: str) -> None:
    session = vexact.Session()
    session.sql(f"SET vexact.rewrite = {rewrite}").to_arrow()
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((300, int(rng.integers(1, 60)))).astype(np.float32)
    table = pa.table({"id": range(300), "part": rng.integers(3, size=300), "vec": vectors(rows)})
    session.create_temp_view("t", session.create_dataframe_from_arrow(table))
    query = rng.standard_normal(rows.shape[1])
    selection = table["part"].to_numpy() == 1
    expected = [row for row, _ in search(metric, rows, query, 12)]
    filtered = [row for row, _ in search(metric, rows, query, 12, selection)]

    found = session.vector_search("t", "vec", query, 12, metric, columns="id").to_arrow()
    assert found["id"].to_pylist() == expected
    for param in (query, query.tolist(), text(query, " "), text(query, ",")):
        called = session.sql(f"SELECT * FROM vector_search('t', 'vec', $1, 12, '{metric}')", [param]).to_arrow()
        assert called["id"].to_pylist() == expected
        assert called["score"].to_pylist() == found["score"].to_pylist()
        called = session.sql(f"SELECT id FROM vector_search('t', 'vec', $1, 12, '{metric}', 'part = 1')", [param])
        assert called.to_arrow()["id"].to_pylist() == filtered
        ordered = session.sql(f"SELECT id FROM t ORDER BY {ORDER[metric]} LIMIT 12", [param])
        assert ordered.to_arrow()["id"].to_pylist() == expected
        ordered = session.sql(f"SELECT id FROM t WHERE part = 1 ORDER BY {ORDER[metric]} LIMIT 12", [param])
        assert ordered.to_arrow()["id"].to_pylist() == filtered


def test_rows_that_cannot_be_compared_have_no_distance(session: vexact.Session) -> None:
    child = pa.array([3.0, 4.0, 0.0, 0.0, 1.0, None, float("nan"), 1.0], pa.float32())
    vec = pa.FixedSizeListArray.from_arrays(child, 2)
    table = pa.table({"id": range(5), "vec": pa.chunked_array([vec, pa.nulls(1, vec.type)])})
    session.create_temp_view("t", session.create_dataframe_from_arrow(table))
    rows = session.sql("SELECT * FROM vector_search('t', 'vec', '[3 4]', 9, 'l2')").to_arrow()
    assert rows["id"].to_pylist() == [0, 1]
    rows = session.sql("SELECT * FROM vector_search('t', 'vec', '[3 4]', 9)").to_arrow()
    assert rows["id"].to_pylist() == [0]


def test_the_query_may_be_a_scalar_subquery(docs: vexact.Session) -> None:
    one = "(SELECT vec FROM docs WHERE id = 7)"
    for query in (
        f"SELECT id FROM vector_search('docs', 'vec', {one}, 3, 'l2')",
        f"SELECT id FROM docs ORDER BY l2_distance(vec, {one}) LIMIT 3",
    ):
        ids = docs.sql(query).to_arrow()["id"].to_pylist()
        assert ids[0] == 7 and sorted(ids[1:]) == [6, 8]


def test_an_outer_where_applies_after_the_search(docs: vexact.Session) -> None:
    query = "SELECT id FROM vector_search('docs', 'vec', '[0 0 0 0]', 4, 'l2') WHERE lang = 'de'"
    assert docs.sql(query).to_rows()["rows"] == [[1], [3]]


def test_a_radius_is_a_range_search(docs: vexact.Session) -> None:
    query = "SELECT id FROM docs WHERE l2_distance(vec, $1) <= $2 ORDER BY id"
    assert docs.sql(query, [[20, 21, 22, 23], 8.0]).to_rows()["rows"] == [[4], [5], [6]]


@pytest.mark.parametrize("metric", METRICS)
def test_a_join_is_a_search_for_each_query(session: vexact.Session, metric: str) -> None:
    rng = np.random.default_rng(3)
    rows, nulls = awkward_rows(rng, 200, 8, np.float32)
    queries = rng.standard_normal((5, 8)).astype(np.float32)
    docs = pa.table({"id": range(200), "vec": vectors(rows, nulls)})
    session.create_temp_view("d", session.create_dataframe_from_arrow(docs))
    session.create_temp_view("q", session.create_dataframe_from_arrow({"name": list("abcde"), "qvec": queries}))
    found = session.sql(f"SELECT name, id, rank, score FROM vector_join('q', 'qvec', 'd', 'vec', 7, '{metric}')").to_arrow()
    for name, query in zip("abcde", queries):
        mine = sorted((row for row in found.to_pylist() if row["name"] == name), key=lambda row: row["rank"])
        assert [row["rank"] for row in mine] == list(range(1, 8))
        assert [(row["id"], row["score"]) for row in mine] == search(metric, rows, query.astype(np.float64), 7)


def test_full_sql_joins_aggregates_and_windows(docs: vexact.Session) -> None:
    docs.create_temp_view("langs", docs.create_dataframe_from_arrow({"lang": ["en", "de"], "name": ["English", "German"]}))
    query = """
        SELECT name, count(*) AS n, min(score) AS best
        FROM vector_search('docs', 'vec', $1, 5, 'l2') AS found JOIN langs ON langs.lang = found.lang
        GROUP BY name ORDER BY name
    """
    rows = docs.sql(query, [[0, 1, 2, 3]]).to_rows()["rows"]
    assert rows == [["English", 3, 0.0], ["German", 2, 8.0]]


def test_tables_made_by_sql_take_inserts(docs: vexact.Session) -> None:
    docs.sql("CREATE TABLE made AS SELECT id FROM docs WHERE id < 3").to_arrow()
    inserted = docs.sql("INSERT INTO made VALUES (10), (11)").to_rows()["rows"]
    assert inserted == [[2]]
    assert docs.sql("SELECT id FROM made ORDER BY id").to_rows()["rows"] == [[0], [1], [2], [10], [11]]
    docs.sql("CREATE VIEW few AS SELECT id FROM made WHERE id > 1").to_arrow()
    assert docs.sql("SELECT * FROM few").count() == 3


def test_a_view_of_arrow_data_takes_no_inserts(docs: vexact.Session) -> None:
    with pytest.raises(vexact.InvalidRequestError, match="(?i)insert"):
        docs.sql("INSERT INTO docs VALUES (1, 'x', [1, 2, 3, 4])").to_arrow()
    assert docs.sql("SELECT * FROM docs").count() == 10


def test_lists_of_whole_numbers_are_searched_by_the_table_function(session: vexact.Session) -> None:
    table = pa.table({"id": [1, 2, 3], "v": pa.array([[1, 0], [0, 1], [3, 4]], pa.list_(pa.int64()))})
    session.create_temp_view("t", session.create_dataframe_from_arrow(table))
    found = session.sql("SELECT id, score FROM vector_search('t', 'v', '[3 4]', 2, 'l2')").to_rows()["rows"]
    called = session.vector_search("t", "v", [3, 4], 2, "l2", columns="id").to_rows()["rows"]
    assert found == [[row[2], row[1]] for row in called]
    assert found[0] == [3, 0.0]
