"""Embedding functions: `embed` in SQL is folded once a statement, `embed_column` fills what changed."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import vexact
from vexact._embeddings import Embeddings

pytestmark = pytest.mark.anyio


class Model:
    """Counts letters; keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(texts)
        return [[float(text.count(letter)) for letter in "abc"] for text in texts]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def db(tmp_path: Path, model: Model) -> Iterator[vexact.Connection]:
    with vexact.connect(tmp_path / "app.db") as db:
        db.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, v F32_BLOB(3))")
        db.register_table("docs")
        db.register_embedding("letters", model, dim=3, batch=4)
        yield db


@pytest.mark.parametrize(
    ("sql", "params", "folded", "bound"),
    [
        ("SELECT embed('m', 'a')", None, "SELECT $1", ["<a>"]),
        ("SELECT embed('m', 'it''s')", None, "SELECT $1", ["<it's>"]),
        ("SELECT EMBED ( 'm' , $1 ), $2", ["x", 5], "SELECT $3, $2", ["x", 5, "<x>"]),
        ("SELECT embed('m', $2), embed('m', $2)", ["x", "y"], "SELECT $3, $4", ["x", "y", "<y>", "<y>"]),
        ("SELECT ?, embed('m', ?), ?", [1, "x", 2], "SELECT ?, ?, ?", [1, "<x>", 2]),
        ("SELECT ?, embed('m', 'q')", [1], "SELECT ?, ?", [1, "<q>"]),
        ("SELECT embed('m', $text), $k", {"text": "x", "k": 1}, "SELECT $vexact_embedded_1, $k", {"text": "x", "k": 1, "vexact_embedded_1": "<x>"}),
        ("SELECT embed('m', :text)", {"text": "x"}, "SELECT $vexact_embedded_1", {"text": "x", "vexact_embedded_1": "<x>"}),
        ("SELECT embed('m', $1) -- embed(body)\n", ["x"], "SELECT $2 -- embed(body)\n", ["x", "<x>"]),
        ("SELECT 'embed(''m'', 1)', x::int, embed('m', 'a') /* ? */", None, "SELECT 'embed(''m'', 1)', x::int, $1 /* ? */", ["<a>"]),
        ("INSERT INTO embed (a, b) VALUES (1, embed('m', ?))", ["x"], "INSERT INTO embed (a, b) VALUES (1, ?)", ["<x>"]),
        ("SELECT embed, embedding FROM t", [1], "SELECT embed, embedding FROM t", [1]),
    ],
)
def test_calls_become_parameters(sql: str, params: Any, folded: str, bound: Any) -> None:
    embeddings = Embeddings()
    words: list[str] = []

    def number(texts: list[str]) -> np.ndarray:
        words.extend(texts)
        return np.arange(len(words) - len(texts), len(words), dtype=np.float32)[:, None]

    embeddings.register("m", number, 1, 64)
    shown, values = embeddings.folded(sql, params)

    def text(value: Any) -> Any:
        return f"<{words[int(value[0])]}>" if isinstance(value, np.ndarray) else value

    shown_values = {key: text(value) for key, value in values.items()} if isinstance(values, dict) else [text(value) for value in values]
    assert (shown, shown_values) == (folded, bound)
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("sql", "params", "problem"),
    [
        ("SELECT embed(body) FROM docs", None, "expected embed\\('name', text\\).*embed_column"),
        ("SELECT embed('m', body) FROM docs", None, "got embed\\('m', body\\) FROM docs.*embed_column"),
        ("SELECT embed('other', $1)", ["x"], "embedding 'other': expected a registered one \\('m'\\)"),
        ("SELECT embed('m', $2)", ["x"], "embed\\('m', \\$2\\): expected a value of this parameter, got none"),
        ("SELECT embed('m', $1), $2", ["x"], "params: expected 2 values, got 1"),
        ("SELECT embed('m', ?), $2", ["x"], "placeholders of one kind"),
        ("SELECT embed('m', $1)", [5], "embed\\('m', \\$1\\): expected a str, got int"),
    ],
)
def test_what_cannot_be_folded_is_refused(sql: str, params: Any, problem: str) -> None:
    embeddings = Embeddings()
    embeddings.register("m", lambda texts: [[0.0]] * len(texts), 1, 64)
    with pytest.raises((ValueError, TypeError), match=problem):
        embeddings.folded(sql, params)


def test_a_session_calls_the_function_once_a_statement(docs: vexact.Session) -> None:
    calls: list[list[str]] = []

    def first_axis(texts: list[str]) -> np.ndarray:
        calls.append(texts)
        return np.tile(np.array([0, 0, 0, 1]), (len(texts), 1))

    docs.register_embedding("axis", first_axis, dim=4)
    sql = "SELECT id FROM vector_search('docs', 'vec', embed('axis', $1), 3) ORDER BY score"
    by_hand = docs.sql(sql.replace("embed('axis', $1)", "$1"), [[0.0, 0, 0, 1]]).to_rows()["rows"]
    assert docs.sql(sql, ["question"]).to_rows()["rows"] == by_hand
    near = "SELECT id FROM docs ORDER BY cosine_distance(vec, embed('axis', $q)) LIMIT 3"
    assert docs.sql(near, {"q": "question"}).to_rows()["rows"] == by_hand
    assert "mode=" in docs.explain_sql(near, {"q": "question"}).strategy
    assert calls == [["question"]] * 3
    np.testing.assert_array_equal(docs.embed("axis", "x"), [0, 0, 0, 1])
    assert docs.embed("axis", ["x", "y"]).shape == (2, 4)


def test_an_object_embeds_queries_and_documents_apart() -> None:
    class Asymmetric:
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0]] * len(texts)

        def embed_query(self, text: str) -> list[float]:
            return [2.0]

    session = vexact.Session()
    session.register_embedding("m", Asymmetric(), dim=1)
    assert session.sql("SELECT embed('m', 'x') AS v").to_rows()["rows"] == [[[2.0]]]
    assert session.embed("m", "x").tolist() == [2.0]
    assert session.embed("m", ["x"]).tolist() == [[1.0]]


def test_what_a_function_raises_comes_through(db: vexact.Connection) -> None:
    def broken(texts: list[str]) -> list[list[float]]:
        raise LookupError("the model is gone")

    db.register_embedding("broken", broken, dim=3)
    db.execute("INSERT INTO docs VALUES (1, 'a', NULL)")
    for call in (
        lambda: db.query("SELECT embed('broken', 'x')"),
        lambda: db.session().sql("SELECT embed('broken', 'x')"),
        lambda: db.embed_column("docs", "body", "v", with_="broken"),
    ):
        with pytest.raises(LookupError, match="the model is gone") as raised:
            call()
        assert "in broken" in "".join(traceback.format_tb(raised.value.__traceback__))


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ([[1.0, 2.0]], "expected 1 vectors of 3 components, got 1 x 2"),
        ([1.0, 2.0, 3.0], "expected 1 vectors of 3 components, got 3"),
        ([["a", "b", "c"]], "expected 1 vectors of 3 components: could not convert"),
        (None, "expected 1 vectors of 3 components"),
    ],
)
def test_a_result_of_another_shape_is_refused(db: vexact.Connection, result: Any, problem: str) -> None:
    db.register_embedding("odd", lambda texts: result, dim=3)
    with pytest.raises(ValueError, match=f"embedding 'odd': {problem}"):
        db.embed("odd", "x")


def test_arguments_are_checked(db: vexact.Connection) -> None:
    async def later(texts: list[str]) -> list[list[float]]:
        return [[0.0]]

    db.register_embedding("later", later, dim=1)
    with pytest.raises(TypeError, match="embedding 'later': expected a function that returns vectors, got a coroutine function"):
        db.embed("later", "x")
    with pytest.raises(TypeError, match="function: expected a function, got str"):
        db.register_embedding("m", "model", dim=3)
    with pytest.raises(ValueError, match="dim: expected a whole number of at least 1, got 0"):
        db.register_embedding("m", len, dim=0)
    with pytest.raises(ValueError, match="text_column: expected a column of table 'docs' \\(id, body, v\\), got 'text'"):
        db.embed_column("docs", "text", "v", with_="letters")
    with pytest.raises(ValueError, match="embedding 'x': expected a registered one"):
        db.embed_column("docs", "body", "v", with_="x")


def test_statements_write_and_read_by_text(db: vexact.Connection, model: Model) -> None:
    db.execute("INSERT INTO docs VALUES (1, $1, embed('letters', $1))", ["aab"])
    db.execute_many("INSERT INTO docs VALUES (?, ?, embed('letters', ?))", [(2, "bb", "bb"), (3, "c", "c"), (4, "c", "c")])
    added = db.execute_returning("INSERT INTO docs VALUES (5, 'abc', embed('letters', 'abc')) RETURNING id")
    assert added.to_pylist() == [{"id": 5}] and model.calls == [["aab"], ["bb", "c"], ["abc"]]
    db.sync_all()
    sql = "SELECT id FROM vector_search('docs', 'v', embed('letters', ?), ?) ORDER BY score, id"
    assert [row["id"] for row in db.query(sql, ["b", 2]).to_pylist()] == [2, 5]
    assert db.explain_route(sql).startswith("olap")
    assert len(model.calls) == 4


def test_a_column_is_filled_in_batches_and_again_after_changes(db: vexact.Connection, model: Model) -> None:
    texts = ["a", "b", None, "ab", "c", "abc", "", "cc", "aa", "bb"]
    db.execute_many("INSERT INTO docs VALUES (?, ?, NULL)", list(enumerate(texts)))
    told: list[tuple[int, int]] = []
    assert db.embed_column("docs", "body", "v", with_="letters", progress=lambda done, total: told.append((done, total))) == 9
    assert told == [(4, 9), (8, 9), (9, 9)] and [len(call) for call in model.calls] == [4, 4, 1]
    assert db.embed_column("docs", "body", "v", with_="letters") == 0
    stored = {row["id"]: row["v"] for row in db.query("SELECT id, v FROM docs").to_pylist()}
    assert stored[5] == [1, 1, 1] and stored[2] is None

    db.execute("UPDATE docs SET body = 'ccc' WHERE id = 0")
    db.execute("UPDATE docs SET body = body WHERE id = 1")
    db.execute("UPDATE docs SET body = 'mine', v = ? WHERE id = 3", [[9.0, 9.0, 9.0]])
    found = [row["id"] for row in db.vector_search("docs", "v", [0, 0, 1], top_k=10, fresh=True).to_pylist()]
    assert 0 not in found
    assert db.embed_column("docs", "body", "v", with_="letters") == 1
    stored = {row["id"]: row["v"] for row in db.query("SELECT id, v FROM docs").to_pylist()}
    assert stored[0] == [0, 0, 3] and stored[3] == [9, 9, 9]


def test_a_fill_that_ended_early_is_taken_up(db: vexact.Connection, model: Model) -> None:
    db.execute_many("INSERT INTO docs VALUES (?, ?, NULL)", [(n, "a" * n) for n in range(1, 11)])

    def stops(texts: list[str]) -> list[list[float]]:
        if len(model.calls) == 2:
            raise KeyboardInterrupt
        return model(texts)

    db.register_embedding("stops", stops, dim=3, batch=3)
    with pytest.raises(KeyboardInterrupt):
        db.embed_column("docs", "body", "v", with_="stops")
    assert db.query("SELECT id FROM docs WHERE v IS NOT NULL").num_rows == 6
    assert db.embed_column("docs", "body", "v", with_="letters") == 4
    assert db.embed_column("docs", "body", "v", with_="letters", overwrite=True) == 10


async def test_texts_that_change_while_they_are_embedded_are_embedded_again(tmp_path: Path) -> None:
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.execute("CREATE TABLE t (a TEXT, b TEXT, body TEXT, v BLOB, PRIMARY KEY (a, b)) WITHOUT ROWID")
        await engine.execute_many("INSERT INTO t VALUES (?, ?, 'old', NULL)", [("x", "1"), ("x", "2"), ("y", "1")])
        seen: list[str] = []

        def changes(texts: list[str]) -> list[list[float]]:
            if not seen:
                vexact.Connection(engine).execute("UPDATE t SET body = 'new' WHERE a = 'x' AND b = '1'")
            seen.extend(texts)
            return [[float(text == "new")] for text in texts]

        engine.register_embedding("m", changes, dim=1)
        assert await engine.embed_column("t", "body", "v", with_="m") == 3
        assert seen == ["old", "old", "old", "new"]
        rows = await engine.query("SELECT a, b, v FROM t WHERE body = 'new'")
        assert rows.to_pylist() == [{"a": "x", "b": "1", "v": np.float32(1).tobytes()}]


async def test_a_fill_whose_task_is_cancelled_ends_after_its_batch(tmp_path: Path, model: Model) -> None:
    async with await vexact.open(tmp_path / "app.db") as engine:
        await engine.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, v BLOB)")
        await engine.execute_many("INSERT INTO docs(body) VALUES (?)", [("a",)] * 10)
        engine.register_embedding("letters", model, dim=3, batch=2)
        with anyio.CancelScope() as scope:
            await engine.embed_column("docs", "body", "v", with_="letters", progress=lambda done, total: done == 4 and scope.cancel())
        assert scope.cancelled_caught and len(model.calls) == 2
        assert await engine.embed_column("docs", "body", "v", with_="letters") == 6
