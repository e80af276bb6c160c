"""The blocking connection has the engine's methods, all of them, and the results of queries become tables of any kind."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import connection_stub
import vexact
from vexact import Connection, HtapEngine


@pytest.fixture
def db(tmp_path: Path):
    with vexact.connect(tmp_path / "app.db") as db:
        db.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT, v BLOB)")
        db.register_table(vexact.TableSchema("docs", {"id": "int64", "title": "utf8", "v": "vector(2)"}, ["id"]))
        db.execute_many("INSERT INTO docs VALUES (?, ?, ?)", [(1, "a", [1.0, 0.0]), (2, "b", [0.0, 1.0]), (3, "c", [1.0, 1.0])])
        yield db


def test_every_method_of_the_engine_is_there_with_its_signature() -> None:
    engine = {name for name, _ in inspect.getmembers(HtapEngine, inspect.isfunction) if not name.startswith("_")}
    connection = {name for name, method in vars(Connection).items() if inspect.isfunction(method) and not name.startswith("_")}
    assert engine - connection == set()
    assert connection - engine == {"close"}
    for name in engine:
        ours, theirs = getattr(Connection, name), getattr(HtapEngine, name)
        assert inspect.signature(ours) == inspect.signature(theirs), name
        assert ours.__doc__ == theirs.__doc__ and not inspect.iscoroutinefunction(ours), name


def test_the_stub_is_that_of_the_engine() -> None:
    stub = Path(vexact.__file__).with_name("connection.pyi").read_text(encoding="utf-8")
    assert stub == connection_stub.connection(), "run python python/tests/connection_stub.py"


def test_settings_are_those_of_open() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        vexact.connect("app.db", no_such_setting=1)
    with pytest.raises(ValueError, match="sync_mode"):
        vexact.connect("app.db", sync_mode="sideways")


def test_a_script_writes_searches_and_queries(db: Connection) -> None:
    assert db.sync_all().rows_inserted == 3
    assert [row["id"] for row in db.vector_search("docs", "v", [1, 0], top_k=2, fresh=True).to_pylist()] == [1, 3]
    assert db.query("SELECT count(*) AS n FROM docs").to_pylist() == [{"n": 3}]
    assert db.explain_route("SELECT title FROM docs WHERE id = 1").startswith("sqlite")
    assert db.explain_vector_search("docs", "v", [1, 0]).strategies()[0]["mode"]
    with db.session() as session:
        assert session.sql("SELECT count(*) FROM docs").to_rows()["rows"] == [[3]]
    assert db.sync_status().tables["docs"].rows == 3


def test_it_works_where_an_event_loop_runs(db: Connection) -> None:
    async def notebook() -> list[dict[str, object]]:
        direct = db.query("SELECT id FROM docs ORDER BY id").to_pylist()
        assert (await db.engine.query("SELECT id FROM docs ORDER BY id")).to_pylist() == direct
        return direct

    assert asyncio.run(notebook()) == [{"id": 1}, {"id": 2}, {"id": 3}]


def test_threads_share_it(db: Connection) -> None:
    found: list[int] = []

    def work() -> None:
        for _ in range(20):
            found.extend(row["id"] for row in db.query("SELECT id FROM docs WHERE id = 2").to_pylist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 80


def test_a_function_of_python_may_be_called_within_a_blocking_call(db: Connection) -> None:
    def shout(text: str) -> str:
        return asyncio.run(later(text))

    async def later(text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()

    db.create_function("shout", 1, shout)
    assert db.query("SELECT shout(title) AS t FROM docs WHERE id = 1").to_pylist() == [{"t": "A"}]


def test_closed_is_closed(tmp_path: Path) -> None:
    db = vexact.connect(tmp_path / "app.db")
    db.close()
    db.close()
    with pytest.raises(vexact.EngineError, match="shut down"):
        db.query("SELECT 1")
    with pytest.raises(vexact.EngineError, match="shut down"), db:
        pass


def test_a_result_is_a_list_of_batches_and_every_kind_of_table(db: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    result = db.query("SELECT id, title, v FROM docs ORDER BY id")
    assert isinstance(result, list) and all(isinstance(batch, pa.RecordBatch) for batch in result)
    assert result.num_rows == 3 and result.schema.names == ["id", "title", "v"]
    assert result.to_arrow().equals(pa.Table.from_batches(result))
    assert result.to_arrow().equals(pa.RecordBatchReader.from_stream(result).read_all())
    assert isinstance(result.to_pandas(), pd.DataFrame) and result.to_pandas()["title"].tolist() == ["a", "b", "c"]
    polars = result.to_polars()
    assert polars["v"].dtype == pl.Array(pl.Float32, 2) and polars["id"].to_list() == [1, 2, 3]
    np.testing.assert_array_equal(np.stack(polars["v"].to_numpy())[2], [1, 1])
    result.show(2)
    assert capsys.readouterr().out.count("\n") >= 5
    assert "<table" in result._repr_html_()
    empty = db.query("SELECT id FROM docs WHERE id > 9")
    assert empty.schema.names == ["id"] and empty.to_pandas().shape == (0, 1) and empty.to_pylist() == []


@pytest.mark.parametrize(
    ("module", "hidden", "extra"),
    [("langchain", "langchain_core", "langchain"), ("haystack", "haystack", "haystack"), ("llama_index", "llama_index", "llama-index")],
)
def test_a_framework_that_is_not_installed_is_named(module: str, hidden: str, extra: str) -> None:
    code = (
        f"import importlib.util as u, vexact; find = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {hidden!r} else find(name, *rest)\n"
        f"try: import vexact.integrations.{module}\n"
        f"except vexact.MissingDependencyError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install 'vexact[{extra}]'" in done.stdout
