"""`register_table("notes")`: columns, types and key come from SQLite, and what is not sure is refused with the code to write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vexact
from vexact import InferredSchema, TableSchema

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, at DATETIME, stars REAL, embedding BLOB)"


@pytest.fixture
def db(tmp_path: Path):
    with vexact.connect(tmp_path / "app.db") as db:
        yield db


def test_a_name_registers_copies_and_shows_what_it_took(db: vexact.Connection) -> None:
    db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, at DATETIME, embedding F32_BLOB(2))")
    db.execute("INSERT INTO notes VALUES (1, 'a', '2024-01-01', ?)", [[1.0, 0.0]])
    schema = db.register_table("NOTES")
    assert isinstance(schema, InferredSchema)
    assert (schema.name, schema.pk) == ("notes", ["id"])
    assert schema.columns == [("id", "int64"), ("body", "utf8"), ("at", "utf8"), ("embedding", "vector(2)")]
    assert repr(schema) == (
        "TableSchema('notes', {\n"
        "    'id': 'int64',             # declared INTEGER\n"
        "    'body': 'utf8',            # declared TEXT\n"
        "    'at': 'utf8',              # declared DATETIME, 1 values of class text\n"
        "    'embedding': 'vector(2)',  # declared F32_BLOB(2)\n"
        "}, pk=['id'])"
    )
    again = eval(repr(schema), {"TableSchema": TableSchema})
    assert (again.name, again.columns, again.pk) == (schema.name, schema.columns, schema.pk)
    assert [row["id"] for row in db.vector_search("notes", "embedding", [1, 0]).to_pylist()] == [1]


def test_vectors_says_what_blobs_are(db: vexact.Connection) -> None:
    db.execute(NOTES)
    db.execute("INSERT INTO notes VALUES (1, 'a', '2024-01-01', 0.5, ?)", [np.ones(4, np.float32)])
    schema = db.register_table("notes", vectors={"embedding": 4})
    assert schema.columns[-1] == ("embedding", "vector(4)")
    assert db.vector_search("notes", "embedding", [1, 0, 0, 0], fresh=True).num_rows == 1
    db.unregister_table("notes")
    assert db.infer_schema("notes", vectors={"embedding": None}).columns[-1] == ("embedding", "binary")


def test_what_is_not_sure_is_refused_with_the_code_to_write(db: vexact.Connection) -> None:
    db.execute(NOTES)
    with pytest.raises(ValueError) as refused:
        db.register_table("notes")
    assert str(refused.value) == (
        "table 'notes': expected a declaration or values that say the type of each column, which 'at', 'embedding' lacks. Say what BLOBs "
        "are with vectors={column: dimension} (None: bytes), or write the schema:\n"
        "TableSchema('notes', {\n"
        "    'id': 'int64',          # declared INTEGER\n"
        "    'body': 'utf8',         # declared TEXT\n"
        "    'at': 'utf8',           # not sure: declared DATETIME, no values\n"
        "    'stars': 'float64',     # declared REAL\n"
        "    'embedding': 'binary',  # not sure: declared BLOB, no values\n"
        "}, pk=['id'])"
    )
    db.execute("INSERT INTO notes VALUES (1, 'a', 'now', 1, zeroblob(1536))")
    with pytest.raises(ValueError, match=r"'embedding': 'vector\(384\)',  # not sure: declared BLOB, 1 BLOBs of 1536 bytes"):
        db.infer_schema("notes")
    assert db.sync_status().tables == {}


def test_a_wrong_dimension_is_refused_by_its_rows(db: vexact.Connection) -> None:
    db.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, embedding BLOB)")
    db.execute("INSERT INTO notes VALUES (1, zeroblob(12))")
    with pytest.raises(vexact.EngineError, match="expected vector\\(4\\)"):
        db.register_table("notes", vectors={"embedding": 4})
    for vectors, problem in [({"x": 4}, "expected a column of the table"), ({"embedding": 0}, "at least 1"), ([("embedding", 4)], "a mapping")]:
        with pytest.raises((ValueError, TypeError, vexact.EngineError), match=problem):
            db.register_table("notes", vectors=vectors)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="vectors: expected None with a TableSchema"):
        db.register_table(TableSchema("notes", {"id": "int64"}, "id"), vectors={"embedding": 3})


def test_tables_without_a_key_and_names_that_are_none(db: vexact.Connection) -> None:
    db.execute_batch(["CREATE TABLE plain (a INT)", "CREATE VIEW v AS SELECT 1 AS one", "INSERT INTO plain VALUES (7)"])
    assert db.register_table("plain").pk == ["rowid"]
    assert db.query("SELECT sum(a) AS s FROM plain").to_pylist() == [{"s": 7}]
    for name, problem in [("nothing", "no such table: nothing"), ("v", "expected an ordinary table, got a view")]:
        with pytest.raises(vexact.EngineError, match=problem):
            db.register_table(name)


def test_without_a_copy_it_warns_as_ever(db: vexact.Connection) -> None:
    db.execute_batch(["CREATE TABLE plain (a INT)", "INSERT INTO plain VALUES (7)"])
    with pytest.warns(UserWarning, match="1 rows that its replica lacks"):
        db.register_table("plain", initial_sync=False)
