"""Merged columns of joins with USING, and copies of rows in set operations: DataFusion 55 has both wrong (see `corrections` and
`using_joins` in the session)."""

from __future__ import annotations

from typing import Any

import pytest

import vexact


def rows(session: vexact.Session, sql: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in session.sql(sql).to_rows()["rows"]), key=repr)


@pytest.fixture
def joined() -> vexact.Session:
    session = vexact.Session()
    session.sql("CREATE TABLE a AS SELECT * FROM (VALUES (1, 10), (2, 20), (3, NULL)) AS x(k, x)")
    session.sql("CREATE TABLE b AS SELECT * FROM (VALUES (1, 7), (1, 8), (4, 9)) AS x(k, y)")
    session.sql("CREATE TABLE c AS SELECT * FROM (VALUES (4, 1), (5, 2)) AS x(k, z)")
    return session


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM a RIGHT JOIN b USING (k)", [(1, 10, 7), (1, 10, 8), (4, None, 9)]),
        ("SELECT k, x, y FROM a FULL JOIN b USING (k)", [(1, 10, 7), (1, 10, 8), (2, 20, None), (3, None, None), (4, None, 9)]),
        ("SELECT k, count(*) FROM a NATURAL FULL JOIN b GROUP BY k HAVING k > 1", [(2, 1), (3, 1), (4, 1)]),
        ("SELECT k + 1, a.k, b.k FROM a FULL JOIN b USING (k) WHERE k IN (3, 4) ORDER BY k DESC", [(4, 3, None), (5, None, 4)]),
        ("SELECT * FROM a LEFT JOIN b USING (k) LEFT JOIN c USING (k)", [(1, 10, 7, None), (1, 10, 8, None), (2, 20, None, None), (3, None, None, None)]),
        ("SELECT * FROM a FULL JOIN b USING (k) JOIN c USING (k)", [(4, None, 9, 1)]),
        (
            "WITH d AS (SELECT k, x FROM a WHERE k < 3) SELECT k, x, y, z FROM d FULL JOIN (b RIGHT JOIN c USING (k)) USING (k)",
            [(1, 10, None, None), (2, 20, None, None), (4, None, 9, 1), (5, None, None, 2)],
        ),
        ("SELECT DISTINCT ON (k) k, y FROM a RIGHT JOIN b USING (k) ORDER BY k, y DESC", [(1, 8), (4, 9)]),
        ("SELECT k FROM a FULL JOIN b USING (k) UNION SELECT k FROM b RIGHT JOIN c USING (k)", [(1,), (2,), (3,), (4,), (5,)]),
        # A subquery has its own columns.
        ("SELECT k, (SELECT max(k) FROM c) FROM a RIGHT JOIN b USING (k)", [(1, 5), (1, 5), (4, 5)]),
    ],
)
def test_a_merged_column_is_that_of_the_side_that_has_the_row(joined: vexact.Session, sql: str, expected: list[Any]) -> None:
    """apache/datafusion#22881"""
    assert rows(joined, sql) == sorted(expected, key=repr)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM a FULL JOIN b USING (q)", 'column "q" of USING: expected a column of both sides, got none of that name'),
        ("SELECT k FROM (SELECT k FROM a) FULL JOIN b USING (k)", "expected an alias, as it is joined with USING"),
        ("SELECT * EXCEPT (x) FROM a FULL JOIN b USING (k)", "with options over a join with USING is not planned: name the columns"),
    ],
)
def test_a_join_that_cannot_be_merged_is_refused(joined: vexact.Session, sql: str, message: str) -> None:
    with pytest.raises(vexact.VexactError, match=message):
        joined.sql(sql)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT n, s FROM a EXCEPT ALL SELECT n, s FROM b", [(1, "x"), (1, "y"), (None, None)]),
        ("SELECT n, s FROM a INTERSECT ALL SELECT n, s FROM b", [(1, "x"), (2, "q"), (None, None)]),
        ("SELECT n FROM b EXCEPT ALL SELECT n FROM a", [(2,), (3,)]),
        ("SELECT n FROM a EXCEPT ALL SELECT n FROM a WHERE s = 'x'", [(1,), (2,), (None,), (None,)]),
        ("SELECT DISTINCT n FROM a INTERSECT ALL SELECT n FROM b", [(1,), (2,), (None,)]),
        ("SELECT n FROM a EXCEPT ALL (SELECT n FROM b INTERSECT ALL SELECT n FROM a)", [(1,), (1,), (None,)]),
        # The types of the two queries differ.
        ("SELECT 1.0 AS n UNION ALL SELECT 1.0 EXCEPT ALL SELECT 1", [(1.0,)]),
        ("SELECT n FROM a EXCEPT SELECT n FROM b", []),
    ],
)
def test_set_operations_with_all_count_the_copies_of_a_row(session: vexact.Session, sql: str, expected: list[Any]) -> None:
    """apache/datafusion#12955, #12956"""
    values = "(1, 'x'), (1, 'x'), (1, 'y'), (2, 'q'), (NULL, NULL), (NULL, NULL)"
    session.sql(f"CREATE TABLE a AS SELECT * FROM (VALUES {values}) AS t(n, s)")
    session.sql("CREATE TABLE b AS SELECT * FROM (VALUES (1, 'x'), (2, 'q'), (2, 'q'), (3, 'z'), (NULL, NULL)) AS t(n, s)")
    assert rows(session, sql) == sorted(expected, key=repr)


def test_a_merged_column_is_found_in_conditions(session: vexact.Session) -> None:
    session.sql("CREATE TABLE l AS SELECT * FROM (VALUES (2, 1), (4, 3)) AS x(u, k)")
    session.sql("CREATE TABLE r AS SELECT * FROM (VALUES (1, 5), (7, 8)) AS x(k, w)")
    cases = {
        "SELECT * FROM l JOIN r USING (k) WHERE k = 1": [[2, 1, 5]],
        "SELECT * FROM l NATURAL JOIN r WHERE k = 1": [[2, 1, 5]],
        "SELECT k FROM l LEFT JOIN r USING (k) WHERE k > 0 ORDER BY k": [[1], [3]],
        "SELECT K, count(*) FROM l JOIN r USING (K) WHERE K = 1 GROUP BY K HAVING K > 0": [[1, 1]],
        "SELECT * EXCLUDE (w) FROM l JOIN r USING (k)": [[2, 1]],
        "SELECT q.u FROM (SELECT * FROM l) AS q JOIN r USING (k) WHERE k IN (SELECT k FROM r WHERE k < 5)": [[2]],
    }
    for sql, expected in cases.items():
        assert session.sql(sql).to_rows()["rows"] == expected, sql


def test_merged_columns_do_not_depend_on_the_order_of_nulls(joined: vexact.Session) -> None:
    expected = [(1, 10, 7), (1, 10, 8), (2, 20, None), (3, None, None), (4, None, 9)]
    for ordering in ("nulls_max", "nulls_min", "nulls_first", "nulls_last"):
        joined.sql(f"SET datafusion.sql_parser.default_null_ordering = '{ordering}'")
        assert rows(joined, "SELECT k, x, y FROM a FULL JOIN b USING (k)") == expected, ordering
