"""Failures that were found once: each test names what went wrong."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact

QUERY = [1.0, 2.0, 3.0, 4.0]
SCHEMA = pa.schema({"id": pa.int8(), "vec": pa.list_(pa.float32(), 4)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_query_batch_in_another_memory_order_searches_its_rows(docs: vexact.Session, dtype: type) -> None:
    batch = np.array([[1, 2.5, -3, 4], [4, 3, 2, 1]], dtype)
    expected = docs.vector_search("docs", "vec", batch, 3).to_rows()
    assert docs.vector_search("docs", "vec", np.asfortranarray(batch), 3).to_rows() == expected
    assert docs.vector_search("docs", "vec", np.ascontiguousarray(batch.T).T, 3).to_rows() == expected


@pytest.mark.parametrize("statement", ["DELETE FROM made", "UPDATE made SET id = 7"])
def test_a_prepared_change_is_refused_too(docs: vexact.Session, statement: str) -> None:
    docs.sql("CREATE TABLE made AS SELECT id FROM docs")
    before = docs.sql("SELECT * FROM made").to_rows()
    with pytest.raises(vexact.InvalidRequestError, match="is refused"):
        docs.sql(f"PREPARE change AS {statement}")
    assert docs.sql("SELECT * FROM made").to_rows() == before


def test_a_parquet_view_is_searched_without_further_columns(docs: vexact.Session, tmp_path: Path) -> None:
    docs.sql("SELECT * FROM docs").write_parquet(tmp_path / "docs.parquet")
    docs.create_temp_view("file", docs.read_parquet(tmp_path / "docs.parquet"))
    expected = docs.vector_search("docs", "vec", QUERY, 3).to_rows()
    assert docs.vector_search("file", "vec", QUERY, 3).to_rows() == expected


@pytest.mark.parametrize("columns", ["id", "vec", "*"])
@pytest.mark.parametrize("query", [QUERY, [QUERY]], ids=["one", "batch"])
def test_an_empty_table_gives_an_empty_result_with_its_columns(
    session: vexact.Session, columns: str, query: list[float]
) -> None:
    session.create_temp_view("empty", session.create_dataframe_from_arrow(SCHEMA.empty_table()))
    found = session.vector_search("empty", "vec", query, columns=columns).to_arrow()
    assert found.num_rows == 0
    assert found.column_names[-1] == ("vec" if columns == "*" else columns)
    assert session.hybrid_search("empty", "vec", QUERY).count() == 0


def test_an_empty_vector_parameter_is_refused(session: vexact.Session) -> None:
    with pytest.raises(ValueError, match="expected at least one component, got none"):
        session.sql("SELECT $1", [[]])


@pytest.mark.parametrize("value", [np.float32(1.5), np.int64(3), np.int32(3), np.uint8(3), np.bool_(True)])
def test_scalars_of_numpy_are_parameters(session: vexact.Session, value: np.generic) -> None:
    assert session.sql("SELECT $1 AS x", [value]).to_rows()["rows"] == [[value.item()]]


def test_a_huge_top_k_returns_all_rows(docs: vexact.Session) -> None:
    assert docs.vector_search("docs", "vec", QUERY, 2**63).count() == docs.vector_search("docs", "vec", QUERY, 100).count()


@pytest.mark.parametrize("query", [np.array([1 + 2j, 0, 0, 0]), b"1234", "1234"])
def test_a_query_that_is_no_array_of_real_numbers_is_a_type_error(docs: vexact.Session, query: object) -> None:
    with pytest.raises(TypeError, match="query_vector: expected"):
        docs.vector_search("docs", "vec", query)


def test_a_csv_cell_beyond_float32_is_refused_with_its_line(session: vexact.Session, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,vec\n1,[1e39 2]\n")
    with pytest.raises(vexact.InvalidRequestError, match="line 2, column 'vec'|line 2, column \"vec\""):
        session.read_csv(tmp_path / "a.csv")


def test_writing_a_csv_over_its_own_source_keeps_the_rows(session: vexact.Session, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("id,name\n1,a\n2,b\n")
    session.read_csv(path).write_csv(path)
    assert path.read_text() == "id,name\n1,a\n2,b\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_query_that_fails_leaves_the_old_csv(session: vexact.Session, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("x\n1\n")
    with pytest.raises(vexact.VexactError):
        session.sql("SELECT 1 / (value - 5) AS x FROM generate_series(1, 9)").write_csv(path)
    assert path.read_text() == "x\n1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_ragged_file_names_the_column(session: vexact.Session, tmp_path: Path) -> None:
    table = pa.table({"id": range(3), "vec": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0]])})
    pq.write_table(table, tmp_path / "ragged.parquet")
    session.create_temp_view("ragged", session.read_parquet(tmp_path / "ragged.parquet"))
    with pytest.raises(vexact.InvalidRequestError, match='"vec".*row 2 has 1 components, expected 2'):
        session.vector_search("ragged", "vec", [1, 2], columns="id")
