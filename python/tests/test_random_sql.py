"""Random queries over random tables have one answer: whatever holds the rows, whatever the plan, and as SQLite gives it.

`VEXACT_SOAK_SECONDS` is how long each law is tried; without it they take some seconds. A failure prints its seed.
"""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import vexact
from random_sql import KINDS, PORTABLE, Queries, multiset, table

SOAK_SECONDS = float(os.environ.get("VEXACT_SOAK_SECONDS", "0"))
QUERIES = 12


def seeds(at_least: int) -> Iterator[int]:
    """Seeds of random runs: new ones each time, printed by pytest where one fails."""
    start = time.monotonic()
    for ordinal in itertools.count():
        if ordinal >= at_least and time.monotonic() - start >= SOAK_SECONDS:
            return
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"seed {seed}")
        yield seed


class World:
    """Two random tables in every kind of source: `t_mem`, `t_many` (batches of a few rows), `t_file` (row groups of a few rows)
    and, if `portable`, `t_csv` and SQLite."""

    def __init__(self, seed: int, folder: Path, portable: bool) -> None:
        self.random = random.Random(seed)
        self.tables = {name: table(self.random, self.random.choice([0, 1, 9, 30, 60]), portable) for name in "tu"}
        self.folder, self.portable = folder, portable
        self.queries = Queries(self.random, portable)
        for name, rows in self.tables.items():
            pyarrow.parquet.write_table(rows, folder / f"{name}.parquet", row_group_size=7, write_page_index=True)
            if portable:
                pyarrow.csv.write_csv(rows.select(PORTABLE), folder / f"{name}.csv")

    def session(self, **settings: object) -> vexact.Session:
        session = vexact.Session()
        for name, value in settings.items():
            session.sql(f"SET {name.replace('__', '.')} = {value}")
        for name, rows in self.tables.items():
            pieces = [rows.slice(at, 4) for at in range(0, max(rows.num_rows, 1), 4)]
            session.create_temp_view(f"{name}_mem", session.create_dataframe_from_arrow(rows))
            session.create_temp_view(f"{name}_many", session.create_dataframe_from_arrow(pa.concat_tables(pieces)))
            session.create_temp_view(f"{name}_file", session.read_parquet(self.folder / f"{name}.parquet"))
            if self.portable:
                types = {"int": "BIGINT", "real": "DOUBLE", "text": "VARCHAR"}
                columns = ", ".join(f"{column} {types[KINDS[column]]}" for column in PORTABLE)
                path = self.folder / f"{name}.csv"
                session.sql(f"CREATE TABLE {name}_csv ({columns}) USING csv OPTIONS (path: '{path}')")
        return session

    def sqlite(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:")
        connection.execute("PRAGMA case_sensitive_like = ON")
        affinities = {"int": "INTEGER", "real": "REAL", "text": "TEXT"}
        columns = ", ".join(f"{column} {affinities[KINDS[column]]}" for column in PORTABLE)
        for name, rows in self.tables.items():
            connection.execute(f"CREATE TABLE {name}_mem ({columns})")
            values = zip(*(rows[column].to_pylist() for column in PORTABLE), strict=True)
            connection.executemany(f"INSERT INTO {name}_mem VALUES ({', '.join('?' * len(PORTABLE))})", values)
        return connection

    def over(self, sql: str, source: str) -> str:
        """The query over another source."""
        return sql.replace("t_mem", f"t_{source}").replace("u_mem", f"u_{source}")

    def query(self) -> str:
        return self.queries.query({"t": "t_mem", "u": "u_mem"})


def answer(session: vexact.Session, sql: str) -> list[Any] | str:
    """The rows as a multiset, or the error."""
    try:
        return multiset(session.sql(sql).to_rows()["rows"])
    except vexact.VexactError as error:
        return str(error)


def test_a_query_has_one_answer_whatever_holds_the_rows_and_whatever_the_plan(tmp_path: Path) -> None:
    for seed in seeds(at_least=8):
        world = World(seed, tmp_path, portable=False)
        plain = world.session()
        others = {
            "pushed into scans": world.session(datafusion__execution__parquet__pushdown_filters="true"),
            "small batches": world.session(datafusion__execution__batch_size=3, datafusion__execution__target_partitions=3),
            "one partition": world.session(datafusion__execution__target_partitions=1, vexact__rewrite="false"),
        }
        unoptimized = world.session(datafusion__optimizer__max_passes=0)
        for _ in range(QUERIES):
            sql = world.query()
            expected = answer(plain, sql)
            if isinstance(expected, str):
                continue
            for name, session in [("plain", plain), *others.items()]:
                for source in ("many", "file"):
                    assert answer(session, world.over(sql, source)) == expected, f"seed {seed}: {name}, {source}: {sql}"
            # Some functions and subqueries run only once they are optimized.
            without = answer(unoptimized, sql)
            assert isinstance(without, str) or without == expected, f"seed {seed}: not optimized: {sql}"


def test_a_query_has_the_answer_that_sqlite_gives(tmp_path: Path) -> None:
    has_all_joins = sqlite3.sqlite_version_info >= (3, 39)
    for seed in seeds(at_least=10):
        world = World(seed, tmp_path, portable=True)
        session, sqlite = world.session(), world.sqlite()
        for _ in range(QUERIES):
            sql = world.query()
            if not has_all_joins and ("RIGHT JOIN" in sql or "FULL JOIN" in sql):
                continue
            expected = multiset(sqlite.execute(sql).fetchall())
            for source in ("mem", "file", "csv"):
                got = answer(session, world.over(sql, source))
                assert got == expected or is_refused(got), f"seed {seed}: {source}: {sql}"


def test_a_query_has_the_same_columns_in_every_way_out(tmp_path: Path) -> None:
    """Plans of one query differ in their nullability: no way out of a frame, and none into a table, may fail because of it."""
    for seed in seeds(at_least=5):
        world = World(seed, tmp_path, portable=False)
        session = world.session()
        for _ in range(QUERIES):
            sql = world.query()
            try:
                frame = session.sql(sql)
                table = frame.to_arrow()
            except vexact.VexactError:
                continue
            said = f"seed {seed}: {sql}"
            assert frame.schema == table.schema and frame.to_reader().read_all().schema == table.schema, said
            assert frame.cache().to_arrow().num_rows == table.num_rows, said
            # A count needs the groups alone: DataFusion's top k of groups of reals panics for NaN.
            assert "GROUP BY t.f" in sql or frame.count() == table.num_rows, said
            if len(set(table.column_names)) < table.num_columns:
                continue
            frame.write_parquet(tmp_path / "out.parquet")
            assert pyarrow.parquet.read_table(tmp_path / "out.parquet").num_rows == table.num_rows, said
            session.sql(f"CREATE OR REPLACE TABLE out AS {sql}")
            session.sql(f"INSERT INTO out {sql}")
            session.sql(f"INSERT INTO out VALUES ({', '.join(['NULL'] * table.num_columns)})")
            assert answer(session, "SELECT count(*) FROM out") == [[str(2 * table.num_rows + 1)]], said


def is_refused(got: list[Any] | str) -> bool:
    """A query that DataFusion has no plan for is an error, and no wrong answer."""
    known = ("not implemented", "not supported", "unique expression names", "must be aggregated")
    return isinstance(got, str) and any(part in got for part in known)


@pytest.mark.parametrize("source", ["mem", "many", "file"])
def test_a_predicate_keeps_the_rows_for_which_it_is_true(tmp_path: Path, source: str) -> None:
    """In WHERE, in the filters of searches and in parts: where it is true, where it is false and where it is NULL."""
    for seed in seeds(at_least=8):
        world = World(seed, tmp_path, portable=False)
        session, k = world.session(), 100
        t = f"t_{source}"
        for _ in range(QUERIES):
            predicate, what = world.queries.predicate("t", 3), "l2_distance(t.v, [1.0, 1.0])"
            every = answer(session, f"SELECT t.id, ({predicate}) AS p FROM t_mem t")
            if isinstance(every, str):
                continue
            said = f"seed {seed}: {predicate}"
            parts = {"1": predicate, "0": f"NOT ({predicate})", None: f"({predicate}) IS NULL"}
            for truth, part in parts.items():
                kept = [[row] for row, is_true in every if is_true == truth]
                assert answer(session, f"SELECT t.id FROM {t} t WHERE {part}") == kept, f"{said}: {truth}"
            count = sum(is_true == "1" for _, is_true in every)
            assert answer(session, f"SELECT count(*) FROM {t} t WHERE {predicate}") == [[str(count)]], said

            # Positions are the order of ties; a row without a distance is not found by a search.
            rows = session.sql(f"SELECT t.id, {what} AS d, ({predicate}) AS p FROM t_mem t").to_rows()["rows"]
            true = [(d, at, row) for at, (row, d, is_true) in enumerate(rows) if is_true]
            found = [row for _, _, row in sorted(part for part in true if part[0] is not None and part[0] == part[0])]
            filter = predicate.replace("t.", "")
            got = session.vector_search(t, "v", [1.0, 1.0], k, "l2", filter=filter, columns="id")
            assert [row[-1] for row in got.to_rows()["rows"]] == found, f"{said}: by call"
            quoted = filter.replace("'", "''")
            got = session.sql(f"SELECT id FROM vector_search('{t}', 'v', '[1 1]', {k}, 'l2', '{quoted}')")
            assert [row for (row,) in got.to_rows()["rows"]] == found, f"{said}: by function"
            got = session.sql(f"SELECT t.id FROM {t} t WHERE {predicate} ORDER BY {what} LIMIT {len(found)}")
            assert [row for (row,) in got.to_rows()["rows"]] == found, f"{said}: by ORDER BY"
