"""Statements that nest one form deeply are answered or refused: parsing and planning them does not double per level."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import vexact


def nested(opening: str, inner: str, closing: str, levels: int) -> str:
    return opening * levels + inner + closing * levels


ANSWERED = [
    ("coalesce(", "x", ", 2)", 1),
    ("nvl(", "x", ", 2)", 1),
    ("nvl2(", "x", ", 1, 2)", 1),
    ("pow(", "x", ", 1)", 1),
    ("make_array(", "x", ")[1]", 1),
    ("greatest(", "x", ", 0)", 1),
    ("CASE WHEN x > 0 THEN ", "x", " ELSE 2 END", 1),
    ("CAST(", "x", " AS BIGINT)", 1),
]


@pytest.mark.parametrize(("opening", "inner", "closing", "expected"), ANSWERED)
def test_a_form_within_itself_is_answered(opening: str, inner: str, closing: str, expected: int) -> None:
    session = vexact.Session()
    query = f"SELECT {nested(opening, inner, closing, 24)} AS y FROM (SELECT 1 AS x)"
    assert session.sql(query).to_arrow()["y"].to_pylist() == [expected]


def test_rows_within_rows_are_answered() -> None:
    value = vexact.Session().sql(f"SELECT {nested('row(', 'x', ')', 24)} AS y FROM (SELECT 1 AS x)").to_arrow()["y"][0].as_py()
    for _ in range(24):
        value = value["c0"]
    assert value == 1


REFUSED = [
    (f"SELECT {nested('coalesce(-', 'x', ', 2)', 22)} FROM (SELECT 1 AS x)", "coalesce: expected calls"),
    (f"SELECT {nested('array_transform([1], y -> ', '1', ')', 16)}", "expected at most 12 lambdas"),
    (f"SELECT {nested('(SELECT ', '1', ')', 22)}", "expected at most 14 subqueries"),
    (f"SELECT 1 WHERE {nested('EXISTS (SELECT 1 WHERE ', 'true', ')', 20)}", "expected at most 14 subqueries"),
    (f"SELECT 1 WHERE {nested('1 IN (SELECT 1 WHERE ', 'true', ')', 20)}", "expected at most 14 subqueries"),
]


@pytest.mark.parametrize(("query", "problem"), REFUSED)
def test_what_would_double_at_each_level_is_refused(query: str, problem: str) -> None:
    session = vexact.Session()
    with pytest.raises(vexact.InvalidRequestError, match=problem):
        session.sql(query).to_arrow()
    with pytest.raises(vexact.InvalidRequestError, match=problem):
        session.explain_sql(query)


WRONG = ["OVERLAY({} PLACING 'x' FROM 1)", "OVERLAY({}, 'x', 1)", "POSITION({} IN 'x')", "TRIM({})", "STRUCT({})",
         "1 IN ({})", "1 IN (SELECT {})", "f(x -> {})", "EXISTS(SELECT {})", "CASE WHEN {} THEN 1 END"]


@pytest.mark.parametrize("form", WRONG)
def test_an_error_below_nested_forms_is_found(form: str) -> None:
    opening, closing = form.split("{}")
    query = f"SELECT {nested(opening, '1 1', closing, 40)}"
    with pytest.raises(vexact.InvalidRequestError, match="SQL error"):
        vexact.Session().sql(query)


def test_an_engine_rejects_such_statements(tmp_path: Path) -> None:
    async def engine() -> None:
        async with await vexact.open(tmp_path / "a.db") as engine:
            for form in WRONG:
                opening, closing = form.split("{}")
                with pytest.raises(vexact.VexactError):
                    await engine.query(f"SELECT {nested(opening, '1 1', closing, 40)}")

    asyncio.run(engine())
