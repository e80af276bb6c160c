"""Metadata of tables from the ADBC driver, and ingestion of Arrow data by it."""

from __future__ import annotations

from pathlib import Path

import adbc_driver_manager
import numpy as np
import pyarrow as pa
import pytest

import vexact
import vexact.dbapi
from reference import vectors
from test_adbc import app, engine, rows  # noqa: F401 (fixtures)


def tables_of(connection, **filters) -> dict:
    catalogs = connection.adbc_get_objects(**filters).read_all().to_pylist()
    return {
        (catalog["catalog_name"], schema["db_schema_name"], table["table_name"]): table
        for catalog in catalogs
        for schema in catalog["catalog_db_schemas"] or []
        for table in schema["db_schema_tables"] or []
    }


def test_metadata_describes_tables_columns_and_keys(tmp_path: Path) -> None:
    with vexact.dbapi.connect(tmp_path / "meta.db") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE b(x INTEGER, y TEXT, PRIMARY KEY (y, x))")
        cursor.execute("CREATE TABLE a_1(z REAL)")
        cursor.execute("CREATE VIEW v AS SELECT x FROM b")
        found = tables_of(connection)
        assert [(key, table["table_type"]) for key, table in found.items()] == [
            (("main", "", "a_1"), "TABLE"),
            (("main", "", "b"), "TABLE"),
            (("main", "", "v"), "VIEW"),
        ]
        b = found["main", "", "b"]
        assert [(c["column_name"], c["ordinal_position"]) for c in b["table_columns"]] == [("x", 1), ("y", 2)]
        [key] = b["table_constraints"]
        assert (key["constraint_type"], key["constraint_column_names"]) == ("PRIMARY KEY", ["y", "x"])
        assert list(tables_of(connection, table_name_filter="a\\_1")) == []
        assert [name for _, _, name in tables_of(connection, table_name_filter="a%")] == ["a_1"]
        assert [name for _, _, name in tables_of(connection, table_types_filter=["VIEW"])] == ["v"]
        assert tables_of(connection, catalog_filter="other") == {}
        columns = tables_of(connection, table_name_filter="b", column_name_filter="_")["main", "", "b"]
        assert [c["column_name"] for c in columns["table_columns"]] == ["x", "y"]
        assert tables_of(connection, depth="tables")["main", "", "b"]["table_columns"] is None
        [catalog] = connection.adbc_get_objects(depth="db_schemas").read_all().to_pylist()
        assert catalog["catalog_db_schemas"] == [{"db_schema_name": "", "db_schema_tables": None}]
        [catalog] = connection.adbc_get_objects(depth="catalogs").read_all().to_pylist()
        assert catalog["catalog_db_schemas"] is None
        assert connection.adbc_get_table_types() == ["TABLE", "VIEW"]
        assert connection.adbc_get_table_schema("b").names == ["x", "y"]
        assert (connection.adbc_current_catalog, connection.adbc_current_db_schema) == ("main", "")
        with pytest.raises(vexact.dbapi.ProgrammingError, match="table \"nowhere\" not found") as caught:
            connection.adbc_get_table_schema("nowhere")
        assert caught.value.status_code == adbc_driver_manager.AdbcStatusCode.NOT_FOUND
        with pytest.raises(vexact.dbapi.NotSupportedError, match="statistics"):
            connection.adbc_get_statistics()


def test_the_engines_own_tables_are_not_listed(engine) -> None:
    assert [name for _, _, name in tables_of(engine)] == ["docs"]


# --- ingestion


@pytest.mark.parametrize("kind", ["engine", "session"])
def test_ingestion_creates_appends_and_replaces(tmp_path: Path, kind: str) -> None:
    table = pa.table({"id": pa.array(range(3000)), "name": [f"n{i}" for i in range(3000)], "v": vectors(np.eye(3000, 2, dtype=np.float32))})
    with vexact.dbapi.connect(tmp_path / "in.db" if kind == "engine" else None) as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("t", table) == 3000
        with pytest.raises(vexact.dbapi.ProgrammingError, match="exists already") as caught:
            cursor.adbc_ingest("t", table)
        assert caught.value.status_code == adbc_driver_manager.AdbcStatusCode.ALREADY_EXISTS
        assert cursor.adbc_ingest("t", table.slice(0, 10), mode="append") == 10
        assert rows(connection, "SELECT count(*), max(id) FROM t") == [(3010, 2999)]
        assert cursor.adbc_ingest("t", table.to_reader(100), mode="replace") == 3000
        assert cursor.adbc_ingest("u", table.slice(5, 1), mode="create_append") == 1
        assert rows(connection, "SELECT name FROM u") == [("n5",)]
        with pytest.raises(vexact.dbapi.ProgrammingError, match="does not exist") as caught:
            cursor.adbc_ingest("nowhere", table, mode="append")
        assert caught.value.status_code == adbc_driver_manager.AdbcStatusCode.NOT_FOUND
        with pytest.raises(vexact.dbapi.NotSupportedError, match="temporary"):
            cursor.adbc_ingest("x", table, temporary=True)
        assert [name for _, _, name in tables_of(connection)] == ["t", "u"]


def test_a_failed_ingestion_leaves_nothing(tmp_path: Path) -> None:
    with vexact.dbapi.connect(tmp_path / "in.db") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
        with pytest.raises(vexact.dbapi.IntegrityError):
            cursor.adbc_ingest("t", pa.table({"id": [*range(5000), 7]}), mode="append")
        assert rows(connection, "SELECT count(*) FROM t") == [(0,)]
        with pytest.raises(vexact.dbapi.ProgrammingError, match=r'column "s": SQLite has no type for Struct'):
            cursor.adbc_ingest("s", pa.table({"s": [{"a": 1}]}))
