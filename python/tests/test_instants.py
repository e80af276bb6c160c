"""Dates and timestamps against constants of any year, in every form of comparison, compared with whole numbers of Python."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

import vexact

SECOND = 10**9
UNITS = {"s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
DAY = 86_400 * SECOND
# The first of January of the years 1, 1970, 2020, 2262, 9999 and 20000, in seconds.
YEARS = [-62_135_596_800, 0, 1_577_836_800, 9_214_646_400, 253_370_764_800, 568_971_820_800]
INSTANTS = sorted({(year * SECOND) + shift for year in YEARS for shift in (-1, 0, 1, 1_500, DAY, 12 * 3_600 * SECOND)})
OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}
# Texts, and their nanoseconds since the epoch.
CONSTANTS = {
    "0001-01-01": YEARS[0] * SECOND,
    "0001-01-01T12:00:00": YEARS[0] * SECOND + 12 * 3_600 * SECOND,
    "1970-01-01 00:00:00.000001500": 1_500,
    "2020-01-01": YEARS[2] * SECOND,
    "2262-01-01T00:00:00": YEARS[3] * SECOND,
    "9999-01-01": YEARS[4] * SECOND,
    "9999-01-02 00:00:00": YEARS[4] * SECOND + DAY,
    "9999-12-31T23:59:59.999999999": 253_402_300_800 * SECOND - 1,
    "20000-01-01T00:00:00": YEARS[5] * SECOND,
    "-0001-06-01": -62_185_881_600 * SECOND,
    "292278-01-01": 9_161_236_992_000 * SECOND,
}


def columns() -> dict[str, list[int | None]]:
    """Of each column the instants that it holds, in nanoseconds."""
    held: dict[str, list[int | None]] = {}
    for unit, nanos in UNITS.items():
        floors = [at // nanos * nanos for at in INSTANTS]
        held[unit] = [None, *sorted({at for at in floors if -(2**63) <= at // nanos < 2**63})]
    held["d"] = [None, *sorted({at // DAY * DAY for at in INSTANTS})]
    return held


HELD = columns()


def array(name: str) -> pa.Array:
    if name == "d":
        days = [None if at is None else at // DAY for at in HELD[name]]
        return pa.array(days, pa.int32()).cast(pa.date32())
    counts = [None if at is None else at // UNITS[name] for at in HELD[name]]
    return pa.array(counts, pa.int64()).cast(pa.timestamp(name))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> vexact.Session:
    made, folder = vexact.Session(), tmp_path_factory.mktemp("instants")
    for name, held in HELD.items():
        vectors = pa.array([[float(at)] for at in range(len(held))], pa.list_(pa.float32(), 1))
        table = pa.table({"id": range(len(held)), "at": array(name), "e": vectors})
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet", row_group_size=2)
        made.create_temp_view(f"{name}_mem", made.create_dataframe_from_arrow(table))
        made.create_temp_view(f"{name}_file", made.read_parquet(folder / f"{name}.parquet"))
    return made


def written(column: str, text: str) -> list[str]:
    """A constant in every form; a date is compared with text as a date."""
    forms = [f"TIMESTAMP '{text}'", f"CAST('{text}' AS TIMESTAMP)"]
    if column != "d":
        forms.append(f"'{text}'")
    if len(text) == 10:
        forms.append(f"DATE '{text}'")
    return forms


@pytest.mark.parametrize("column", HELD)
@pytest.mark.parametrize("text", CONSTANTS)
def test_instants_are_compared_with_constants_of_any_year(session: vexact.Session, column: str, text: str) -> None:
    held, constant = HELD[column], CONSTANTS[text]

    def expected(holds: Callable[[int], bool]) -> list[int]:
        return [id for id, at in enumerate(held) if at is not None and holds(at)]

    for written_as in written(column, text):
        for table in (f"{column}_mem", f"{column}_file"):
            def ids(condition: str, table: str = table) -> list[int]:
                return sorted(session.sql(f"SELECT id FROM {table} WHERE {condition}").to_arrow()["id"].to_pylist())

            for sign, holds in OPERATORS.items():
                exact = expected(lambda at, holds=holds: holds(at, constant))
                assert ids(f"at {sign} {written_as}") == exact, (table, sign, written_as)
                assert ids(f"NOT (NOT (at {sign} {written_as}))") == exact
                found = session.vector_search(table, "e", [0.0], 100, "l2", filter=f"at {sign} {written_as}", columns=["id"])
                assert sorted(found.to_arrow()["id"].to_pylist()) == exact
            assert ids(f"{written_as} < at") == expected(lambda at: constant < at)
            assert ids(f"at BETWEEN {written_as} AND TIMESTAMP '9999-06-01 00:00:00'") == expected(lambda at: constant <= at <= 253_383_811_200 * SECOND)
            assert ids(f"at NOT BETWEEN TIMESTAMP '0001-01-01 00:00:00' AND {written_as}") == expected(lambda at: not YEARS[0] * SECOND <= at <= constant)
            assert ids(f"at IN ({written_as}, TIMESTAMP '2020-01-01 00:00:00')") == expected(lambda at: at in (constant, YEARS[2] * SECOND))
            assert ids(f"at NOT IN ({written_as})") == expected(lambda at: at != constant)
            assert ids(f"CASE at WHEN {written_as} THEN 1 ELSE 2 END = 1") == expected(lambda at: at == constant)
            assert ids(f"nullif(at, {written_as}) IS NOT NULL") == expected(lambda at: at != constant)
            assert ids(f"at IS NOT DISTINCT FROM {written_as}") == expected(lambda at: at == constant)
            joined = f"SELECT a.id FROM {table} a JOIN {table} b ON a.id = b.id AND a.at >= {written_as}"
            assert sorted(session.sql(joined).to_arrow()["id"].to_pylist()) == expected(lambda at: at >= constant)


def test_a_far_timestamp_is_a_value(session: vexact.Session) -> None:
    row = session.sql("SELECT TIMESTAMP '9999-12-31 00:00:00' AS a, TIMESTAMP '2020-01-01' AS b, TIMESTAMP '0001-01-01' < TIMESTAMP '9999-12-31' AS c").to_arrow()
    assert [str(field.type) for field in row.schema] == ["timestamp[us]", "timestamp[ns]", "bool"]
    assert row["a"].cast(pa.int64())[0].as_py() == 253_402_214_400 * 10**6 and row["c"][0].as_py()
    open_ended = session.sql("SELECT count(*) AS n FROM us_mem WHERE coalesce(at, TIMESTAMP '9999-12-31') >= TIMESTAMP '9999-12-31'").to_arrow()
    assert open_ended["n"][0].as_py() == 1 + sum(at is not None and at >= 253_402_214_400 * SECOND for at in HELD["us"])


def test_zones_are_those_of_the_column(tmp_path: Path) -> None:
    session = vexact.Session()
    far = pa.array([0, 253_402_300_800 * 10**6 - 3_600 * 10**6], pa.int64()).cast(pa.timestamp("us", "+01:00"))
    session.create_temp_view("t", session.create_dataframe_from_arrow(pa.table({"id": [0, 1], "at": far})))
    for sql, expected in [
        ("at >= '9999-12-31T23:59:59+00:00'", []),
        ("at >= '9999-12-31T23:00:00Z'", [1]),
        ("at = '10000-01-01T00:00:00'", [1]),
        ("at > '1970-01-01 01:00:00'", [1]),
        ("at = '1970-01-01T01:00:00'", [0]),
    ]:
        assert session.sql(f"SELECT id FROM t WHERE {sql}").to_arrow()["id"].to_pylist() == expected, sql
