"""Sketches in Parquet files: the same answers from fewer bytes, and none of a sketch that does not belong to the vectors."""

from __future__ import annotations

import json
import pathlib
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact

DIM = 64
METRICS = ("cosine", "dot", "l2")


def table(rows: int, seed: int, nulls: float = 0.0) -> pa.Table:
    """Vectors of falling spectrum around some centres, with NULL, zero and repeated ones, and columns to filter by."""
    random_numbers = np.random.default_rng(seed)
    spectrum = 1 / (1 + np.arange(DIM) / 4)
    values = (random_numbers.normal(size=(rows, DIM)) + random_numbers.normal(size=(9, DIM))[np.arange(rows) % 9]) * spectrum
    values[rows // 3] = values[rows // 2]
    values[rows // 5] = 0
    valid = random_numbers.random(rows) >= nulls
    vectors = [row if keep else None for row, keep in zip(values.astype("f4").tolist(), valid, strict=True)]
    return pa.table(
        {
            "id": pa.array(np.arange(rows) + 1000 * seed),
            "embedding": pa.array(vectors, pa.list_(pa.float32(), DIM)),
            "lang": pa.array([("en", "de", None)[i % 3] for i in range(rows)]),
        }
    )


def write(path: pathlib.Path, rows: pa.Table, sketch: str | tuple[str, ...] = "embedding") -> pathlib.Path:
    vexact.Session().create_dataframe_from_arrow(rows).write_parquet(path, sketch=sketch)
    return path


def open_table(path: str | pathlib.Path, tier: str = "auto") -> vexact.Session:
    session = vexact.Session()
    session.create_temp_view("t", session.read_parquet(path))
    session.sql(f"SET vexact.tier = '{tier}'")
    return session


def strategy(session: vexact.Session, query: list[float]) -> dict[str, str]:
    explained = session.explain_vector_search("t", "embedding", query, top_k=10)
    return dict(line.split("=", 1) for line in explained.strategy.splitlines() if "=" in line)


def answers(session: vexact.Session, query: list[float]) -> list[object]:
    text = json.dumps(query)
    found: list[object] = []
    for metric in METRICS:
        for filter in (None, "lang = 'de'", "id % 97 = 3", "id < 0"):
            rows = session.vector_search("t", "embedding", query, top_k=10, metric=metric, filter=filter, columns=["id", "lang"])
            found.append(rows.to_arrow().to_pylist())
    for order in (f"cosine_distance(embedding, '{text}')", f"l2_distance(embedding, '{text}')", f"embedding <#> '{text}'"):
        for where in ("", "WHERE lang IS NOT NULL"):
            found.append(session.sql(f"SELECT id, {order} AS d FROM t {where} ORDER BY {order} LIMIT 7").to_arrow().to_pylist())
            found.append(session.sql(f"SELECT id FROM t {where} ORDER BY {order} NULLS FIRST LIMIT 7").to_arrow().to_pylist())
    found.append(session.sql(f"SELECT * FROM vector_search('t', 'embedding', '{text}', 5)").to_arrow().to_pylist())
    found.append(session.sql(f"SELECT id FROM t WHERE l2_distance(embedding, '{text}') < 3 ORDER BY id").to_arrow().to_pylist())
    return found


def check(path: str | pathlib.Path, query: list[float]) -> None:
    expected = answers(open_table(path, "off"), query)
    assert answers(open_table(path), query) == expected
    for tier in ("i8", "pca4"):
        assert answers(open_table(path, tier), query) == expected


def test_answers_are_those_of_the_vectors(tmp_path: pathlib.Path) -> None:
    for seed in range(3):
        rows = table(3000 + 500 * seed, seed, nulls=0.1 * seed)
        path = write(tmp_path / f"{seed}.parquet", rows)
        stored = rows["embedding"][7].as_py() or [1.0] * DIM
        for query in (stored, np.random.default_rng(seed).normal(size=DIM).tolist()):
            check(path, query)
        assert strategy(open_table(path), stored)["tier"] in ("i8", "pca4")


def test_a_folder_may_have_files_with_and_without_a_sketch(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "a.parquet", table(3000, 1))
    write(tmp_path / "b.parquet", table(2500, 2), sketch=())
    write(tmp_path / "c.parquet", table(2800, 3))
    query = np.random.default_rng(5).normal(size=DIM).tolist()
    check(tmp_path, query)
    found = strategy(open_table(tmp_path), query)
    assert found["tier"] in ("i8", "pca4") and "1 of 3 chunks have none: a file has none" in found["reason"], found
    assert int(found["candidate_rows"]) == 8300 and int(found["rows_left"]) < 500


def test_the_column_is_hidden_and_other_programs_see_it(tmp_path: pathlib.Path) -> None:
    rows = table(3000, 1)
    path = write(tmp_path / "a.parquet", rows)
    session = open_table(path)
    assert session.sql("SELECT * FROM t").to_arrow().column_names == rows.column_names
    assert list(session.read_parquet(path).to_pandas().columns) == rows.column_names
    other = pq.read_table(path)
    assert other.column_names == [*rows.column_names, "embedding$sketch"]
    assert other.select(rows.column_names).to_pylist() == rows.to_pylist()
    with pytest.raises(vexact.VexactError):
        session.sql('SELECT "embedding$sketch" FROM t').to_arrow()
    write(tmp_path / "b.parquet", rows, sketch=())
    assert session.read_parquet([path, tmp_path / "b.parquet"]).count() == 6000


def test_a_file_that_was_written_anew_has_no_sketch(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "a.parquet", table(3000, 1))
    copied = pq.read_table(path).replace_schema_metadata(pq.read_metadata(path).metadata)
    moved = pa.array(np.roll(np.array(copied["embedding"].to_pylist()), 1, axis=0).tolist(), copied["embedding"].type)
    edited = copied.set_column(1, copied.schema.field("embedding"), moved)
    pq.write_table(edited, tmp_path / "b.parquet")
    assert b"vexact.sketch.embedding" in pq.read_metadata(tmp_path / "b.parquet").metadata
    query = edited["embedding"][5].as_py()
    check(tmp_path / "b.parquet", query)
    found = strategy(open_table(tmp_path / "b.parquet"), query)
    assert found["tier"] == "f32" and "the file was written anew by parquet-cpp-arrow" in found["reason"], found
    assert open_table(tmp_path / "b.parquet").sql("SELECT * FROM t").to_arrow().column_names == ["id", "embedding", "lang"]


def test_a_damaged_sketch_is_ignored(tmp_path: pathlib.Path) -> None:
    rows = table(2000, 1)
    path = write(tmp_path / "a.parquet", rows)
    whole = path.read_bytes()
    metadata = pq.read_metadata(path)
    group = metadata.row_group(0)
    names = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    sketch = names["embedding$sketch"]
    stored = json.loads(metadata.metadata[b"vexact.sketch.embedding"])
    start, length, _ = stored["basis"]
    description = whole.index(b'{"version":1')
    query = rows["embedding"][1].as_py()
    expected = answers(open_table(path, "off"), query)
    choose = random.Random(3)
    data = range(sketch.data_page_offset + 64, sketch.data_page_offset + sketch.total_compressed_size)
    places = [*choose.sample(data, 12), *choose.sample(range(start, start + length), 6)]
    places += choose.sample(range(description, description + 150), 6)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << choose.randrange(7)
        path.write_bytes(damaged)
        found = strategy(open_table(path), query)
        assert found["tier"] == "f32", (place, found)
        assert answers(open_table(path), query) == expected, place
    path.write_bytes(whole)
    assert strategy(open_table(path), query)["tier"] != "f32"


def cli(*arguments: str) -> dict[str, Any]:
    run = subprocess.run([sys.executable, "-m", "vexact", *arguments], capture_output=True, text=True, check=False)
    answer: dict[str, Any] = json.loads(run.stdout)
    assert answer["ok"], answer
    return answer


def test_a_sketch_is_added_to_a_file(tmp_path: pathlib.Path) -> None:
    rows = table(3000, 1).replace_schema_metadata({"made by": "a test"})
    path = tmp_path / "a.parquet"
    pq.write_table(rows, path, compression="snappy", row_group_size=700)
    path.chmod(0o640)
    answer = cli("sketch", str(path))
    assert answer["sketches"][0]["column"] == "embedding" and answer["sketches"][0]["tier"] in ("i8", "pca4")
    after = pq.read_table(path)
    assert after.select(rows.column_names).to_pylist() == rows.to_pylist()
    assert after.schema.metadata[b"made by"] == b"a test"
    assert pq.read_metadata(path).row_group(0).column(0).compression == "SNAPPY"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    check(path, rows["embedding"][9].as_py())
    cli("sketch", str(path), "--tier", "i8")
    assert strategy(open_table(path), [1.0] * DIM)["tier"] == "i8"


HOSTILE = {
    "equal": lambda n, numbers: np.ones((n, DIM)),
    "one-hot": lambda n, numbers: np.eye(DIM)[numbers.integers(0, DIM, n)],
    "a huge component": lambda n, numbers: numbers.normal(size=(n, DIM)) * np.where(np.arange(DIM) == 3, 1e18, 1),
    "heavy tails": lambda n, numbers: numbers.standard_cauchy((n, DIM)) ** 3,
    "a mean": lambda n, numbers: numbers.normal(size=(n, DIM)) * 0.1 + 5,
    "not finite": lambda n, numbers: np.where(numbers.random((n, DIM)) < 0.001, np.inf, numbers.normal(size=(n, DIM))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_vectors_have_the_answers_of_the_reference(name: str, tmp_path: pathlib.Path) -> None:
    numbers = np.random.default_rng(4)
    values = HOSTILE[name](4000, numbers).astype("f4")
    rows = table(4000, 1).set_column(1, "embedding", pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DIM))
    path = tmp_path / "a.parquet"
    vexact.Session().create_dataframe_from_arrow(rows).write_parquet(tmp_path / "plain.parquet")
    cli("sketch", str(tmp_path / "plain.parquet"), "--output", str(path), "--tier", "pca4")
    found = {}
    for tier in ("off", "auto", "pca4"):
        session = open_table(path, tier)
        searches = []
        for query in (np.nan_to_num(values[5], posinf=1.0).tolist(), list(range(1, DIM + 1))):
            for top_k in (1, 10, 500, 5000):
                for metric in METRICS:
                    rows_found = session.vector_search("t", "embedding", query, top_k=top_k, metric=metric, columns=["id"])
                    searches.append(rows_found.to_arrow())
            grouped = session.vector_search("t", "embedding", query, top_k=3, group_by="lang", columns=["id"])
            bounded = session.vector_search("t", "embedding", query, top_k=3, min_score=0.1, columns=["id"])
            batch = session.vector_search("t", "embedding", [query, query[::-1]], top_k=3, columns=["id"])
            searches += [frame.to_arrow() for frame in (grouped, bounded, batch)]
        found[tier] = searches
    assert all(one.equals(other) for one, other in zip(found["off"], found["auto"], strict=True))
    assert all(one.equals(other) for one, other in zip(found["off"], found["pca4"], strict=True))


def test_several_row_groups_are_one_table(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "a.parquet", pa.concat_tables([table(50_000, seed) for seed in range(3)]))
    assert pq.read_metadata(path).num_row_groups == 2
    query = np.random.default_rng(8).normal(size=DIM).tolist()
    check(path, query)
    found = strategy(open_table(path), query)
    assert int(found["candidate_rows"]) == 150_000 and int(found["rows_left"]) < 15_000, found


def test_lists_of_one_length_get_a_sketch(tmp_path: pathlib.Path) -> None:
    rows = table(3000, 1, nulls=0.1)
    lists = pa.array(rows["embedding"].to_pylist(), pa.list_(pa.float32()))
    path = tmp_path / "a.parquet"
    pq.write_table(rows.set_column(1, "embedding", lists), path)
    cli("sketch", str(path), "--column", "embedding")
    assert pq.read_table(path)["embedding"].to_pylist() == lists.to_pylist()
    query = np.random.default_rng(1).normal(size=DIM).tolist()
    check(path, query)
    assert strategy(open_table(path), query)["tier"] in ("i8", "pca4")


def test_copy_writes_a_sketch_and_an_empty_table_has_none(tmp_path: pathlib.Path) -> None:
    session = vexact.Session()
    session.create_temp_view("docs", session.create_dataframe_from_arrow(table(3000, 1)))
    path = tmp_path / "a.parquet"
    session.sql(f"COPY docs TO '{path}' OPTIONS ('format.sketch' 'embedding')").to_arrow()
    assert strategy(open_table(path), [1.0] * DIM)["tier"] in ("i8", "pca4")
    session.sql("SELECT * FROM docs WHERE id < 0").write_parquet(path, sketch="embedding")
    assert pq.read_schema(path).names == ["id", "embedding", "lang"]
    assert open_table(path).vector_search("t", "embedding", [1.0] * DIM, top_k=3).count() == 0


def test_wrong_columns_are_refused_by_name(tmp_path: pathlib.Path) -> None:
    frame = vexact.Session().create_dataframe_from_arrow(table(100, 1))
    for sketch, expected in (("lang", "expected vectors of floats"), ("other", "expected one of"), (("embedding",) * 2, "once")):
        with pytest.raises(vexact.InvalidRequestError, match=expected):
            frame.write_parquet(tmp_path / "a.parquet", sketch=sketch)
    assert not (tmp_path / "a.parquet").exists()
    with pytest.raises(TypeError, match="sketch: expected a str or a list of str, got int"):
        frame.write_parquet(tmp_path / "a.parquet", sketch=3)  # type: ignore[arg-type]


class Counted(BaseHTTPRequestHandler):
    """Serves files by ranges and counts the bytes."""

    protocol_version = "HTTP/1.1"
    folder: pathlib.Path
    sent = 0

    def log_message(self, *_: object) -> None:
        return None

    def do_GET(self) -> None:
        body = (self.folder / self.path.lstrip("/")).read_bytes()
        size, status, headers = len(body), 200, []
        if (given := self.headers.get("Range")) is not None:
            first, last = given.removeprefix("bytes=").split("-")
            start, end = (int(first), int(last or size - 1) + 1) if first else (size - int(last), size)
            body, status = body[start:end], 206
            headers = [("Content-Range", f"bytes {start}-{min(end, size) - 1}/{size}")]
        self.send_response(status)
        for name, value in [*headers, ("Content-Length", str(len(body))), ("ETag", '"1"'), ("Accept-Ranges", "bytes")]:
            self.send_header(name, value)
        self.send_header("Last-Modified", "Mon, 01 Jun 2026 10:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            Counted.sent += len(body)
            self.wfile.write(body)

    do_HEAD = do_GET


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[str]:
    Counted.folder = tmp_path
    with ThreadingHTTPServer(("127.0.0.1", 0), Counted) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


def test_a_store_gives_up_several_times_fewer_bytes(tmp_path: pathlib.Path, server: str) -> None:
    rows = pa.concat_tables([table(20_000, seed) for seed in range(3)])
    path = write(tmp_path / "a.parquet", rows)
    query = rows["embedding"][77].as_py()
    sent = {}
    found = {}
    for tier in ("off", "auto"):
        session = vexact.Session(object_stores={server: {"allow_http": True}})
        session.create_temp_view("t", session.read_parquet(f"{server}/a.parquet"))
        session.sql(f"SET vexact.tier = '{tier}'")
        Counted.sent = 0
        found[tier] = session.vector_search("t", "embedding", query, top_k=5, columns=["id"]).to_arrow().to_pylist()
        sent[tier] = Counted.sent
    assert found["auto"] == found["off"]
    assert sent["auto"] * 2 < sent["off"] < path.stat().st_size, sent
