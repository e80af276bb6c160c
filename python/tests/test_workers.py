"""Queries on worker processes: the answers of a session without workers, and failures that name the worker."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from cluster import Worker, addresses, opened, strategy, wait_for_tasks
from reference import vectors

ROOT = Path(__file__).parents[2]
DIM = 64
ROWS = 24_000


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    started = [Worker() for _ in range(3)]
    yield started
    for worker in started:
        worker.__exit__()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five files of different sizes, 6 MB: id, g, x with NULL and NaN, and vectors, many of them equal, some NULL."""
    folder = tmp_path_factory.mktemp("docs")
    random = np.random.default_rng(7)
    values = random.standard_normal((ROWS, DIM)).astype(np.float32)
    values[::3] = values[0]
    values[5::997] = 0
    starts = [0, 100, 9_000, 9_001, 20_000, ROWS]
    for name, start, end in zip("abcde", starts, starts[1:]):
        ids = np.arange(start, end)
        x = pa.array([None if i % 11 == 0 else math.nan if i % 13 == 0 else i / 7 for i in ids], pa.float64())
        vec = vectors(values[start:end])
        vec = pa.FixedSizeListArray.from_arrays(vec.flatten(), DIM, mask=pa.array(ids % 17 == 3))
        table = pa.table({"id": ids, "g": [f"g{i % 5}" for i in ids], "x": x, "vec": vec})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=1000)
    return folder


def same(got: pa.Table, expected: pa.Table) -> bool:
    """Equal to the bit: also the sign of a zero, and NaN is NaN."""
    return got.schema == expected.schema and repr(got.to_pylist()) == repr(expected.to_pylist())


QUERY = [round(math.sin(i), 3) for i in range(DIM)]
SQL = [
    "SELECT id, cosine_distance(vec, $1) AS d FROM docs ORDER BY d LIMIT 20",
    "SELECT id FROM docs ORDER BY l2_distance(vec, $1) LIMIT 3000",
    "SELECT id, x FROM docs WHERE g = 'g1' AND x > 100 ORDER BY inner_product(vec, $1) DESC LIMIT 7",
    "SELECT id FROM docs ORDER BY cosine_distance(vec, $1) NULLS FIRST LIMIT 1500",
    "SELECT id FROM docs ORDER BY cosine_distance(vec, $1) LIMIT 10 OFFSET 5",
    "SELECT g, count(*) FROM (SELECT g FROM docs ORDER BY l2_distance(vec, $1) LIMIT 500) GROUP BY g ORDER BY g",
    "SELECT g, count(*), min(x), max(id) FROM docs WHERE id % 3 = 1 GROUP BY g ORDER BY g",
    "SELECT count(*), count(x), sum(id), count(DISTINCT g) FROM docs",
    "SELECT id FROM docs WHERE cosine_distance(vec, $1) < 0.85 ORDER BY id",
    "SELECT id, l2_distance(vec, $1) FROM docs WHERE id < 40",
    "SELECT id, x FROM docs WHERE TRY_CAST(x AS BIGINT) = 300 OR CAST(id AS VARCHAR) LIKE '%777'",
    "SELECT id FROM docs LIMIT 15",
    "SELECT id FROM (SELECT id FROM docs LIMIT 50) WHERE id % 2 = 0",
    "SELECT id FROM docs ORDER BY x DESC NULLS LAST, id LIMIT 12",
    "SELECT id FROM docs ORDER BY l2_distance(vec, $1), id DESC LIMIT 40",
    "SELECT id FROM docs WHERE x > 3 ORDER BY cosine_distance(vec, $1) DESC, id LIMIT 6",
    "SELECT a.id, b.id FROM docs a JOIN docs b ON a.id = b.id + 10 WHERE a.id < 60 ORDER BY a.id",
    "SELECT id FROM docs WHERE id < 3 UNION ALL SELECT id FROM docs WHERE id > 23990",
    "SELECT id FROM docs WHERE vec IS NULL AND id < 300",
    "SELECT id, score FROM vector_search('docs', 'vec', $1, 9)",
    "SELECT g, count(*) FROM vector_search('docs', 'vec', $1, 400) GROUP BY g ORDER BY g",
    "SELECT id FROM docs WHERE id = (SELECT max(id) FROM docs WHERE g = 'g2')",
    "SELECT id, row_number() OVER (PARTITION BY g ORDER BY id) AS n FROM docs WHERE id < 30 ORDER BY id",
]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_answers_are_those_of_a_session_without_workers(folder: Path, workers: list[Worker], count: int) -> None:
    local, remote = opened(folder), opened(folder, workers[:count])
    for sql in SQL:
        params = [QUERY] if "$1" in sql else None
        expected, got = local.sql(sql, params).to_arrow(), remote.sql(sql, params).to_arrow()
        assert same(got, expected), f"{sql}\n{got}\n{expected}"
        assert got.num_rows > 0, sql


def test_aggregates_take_the_rows_of_one_partition_in_their_order(folder: Path, workers: list[Worker]) -> None:
    sql = "SELECT array_agg(id), first_value(g), max(x) FROM docs WHERE id % 1000 = 1"
    expected = opened(folder, target_partitions=1).sql(sql).to_arrow()
    for count in (1, 2, 3):
        assert same(opened(folder, workers[:count], target_partitions=1).sql(sql).to_arrow(), expected)


@pytest.mark.parametrize("count", [1, 3])
def test_searches_by_call_have_the_same_rows_scores_and_ordinals(
    folder: Path, workers: list[Worker], count: int
) -> None:
    local, remote = opened(folder), opened(folder, workers[:count])
    random = np.random.default_rng(3)
    batch = random.standard_normal((5, DIM)).astype(np.float32)
    for options in (
        {},
        {"metric": "dot", "top_k": 50},
        {"metric": "l2", "columns": ["id", "g"], "filter": "g <> 'g0' AND id > 50"},
        {"columns": "*", "group_by": "g", "top_k": 3},
        {"min_score": 0.9, "top_k": 4},
    ):
        for query in (QUERY, batch):
            expected = local.vector_search("docs", "vec", query, **options).to_arrow()
            got = remote.vector_search("docs", "vec", query, **options).to_arrow()
            assert same(got, expected), f"{options}\n{got}\n{expected}"
    expected = local.hybrid_search("docs", "vec", QUERY, top_k=6).to_arrow()
    assert same(remote.hybrid_search("docs", "vec", QUERY, top_k=6).to_arrow(), expected)


def test_random_searches_have_the_same_answers(folder: Path, workers: list[Worker]) -> None:
    local, remotes = opened(folder), [opened(folder, workers[:count]) for count in (2, 3)]
    random = np.random.default_rng(11)
    for _ in range(40):
        function = random.choice(["cosine_distance", "l2_distance", "inner_product", "cosine_similarity"])
        is_larger = function in ("inner_product", "cosine_similarity")
        condition = random.choice(["true", "id % 7 = 2", "x > 1000", "g IN ('g1', 'g4')", "x IS NULL OR id < 500"])
        k, offset = int(random.integers(1, 60)), int(random.integers(0, 5))
        order = f"{function}(vec, $1) {'DESC' if is_larger else ''} {random.choice(['', 'NULLS FIRST', 'NULLS LAST'])}"
        inner = f"SELECT id, g FROM docs WHERE {condition} ORDER BY {order} LIMIT {k} OFFSET {offset}"
        sql = random.choice([inner, f"SELECT g, count(*) AS n FROM ({inner}) GROUP BY g ORDER BY g"])
        query = random.standard_normal(DIM).round(2).tolist()
        expected = local.sql(sql, [query]).to_arrow()
        for remote in remotes:
            assert same(remote.sql(sql, [query]).to_arrow(), expected), sql


def test_joins_of_vectors_have_the_same_pairs(folder: Path, workers: list[Worker]) -> None:
    queries = pa.table({"q": [1, 2, 3, 4], "v": vectors(np.random.default_rng(5).standard_normal((4, DIM)).astype(np.float32))})
    answers = []
    for count in (0, 1, 3):
        session = opened(folder, workers[:count])
        session.create_temp_view("queries", session.create_dataframe_from_arrow(queries))
        pairs = "SELECT q, id, g, rank, score FROM vector_join('queries', 'v', 'docs', 'vec', 5)"
        near = "SELECT q, id FROM vector_join('queries', 'v', 'docs', 'vec', NULL, 'cosine', 0.8) ORDER BY q, id"
        answers.append([session.sql(sql).to_arrow() for sql in (pairs, near)])

    for got in answers[1:]:
        for one, expected in zip(got, answers[0]):
            assert same(one, expected), f"{one}\n{expected}"
    assert answers[0][0].num_rows == 20


def statements(path: Path) -> list[str]:
    """The queries and statements of a file of sqllogictest."""
    found = []
    for block in re.split(r"\n\s*\n", path.read_text()):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if lines and re.match(r"(query|statement)\b", lines[0]):
            sql = "\n".join(lines[1:]).split("\n----")[0]
            found.append(sql)
    return found


SLT = sorted(path.name for path in (ROOT / "tests" / "sql").glob("*.slt"))


@pytest.mark.parametrize("name", SLT)
def test_sql_files_have_the_same_answers_over_parquet(name: str, tmp_path: Path, workers: list[Worker]) -> None:
    rows = [[1, 0], [0, 1], None, [0.6, 0.8], [0, 0], [3, 4], [-1, 0], [0.8, 0.6]]
    columns = {
        "id": range(1, 9),
        "lang": ["en", "en", "de", "de", "en", "en", "de", "en"],
        "title": ["east", "north", "nowhere", "north-east", "origin", "far north-east", "west", "east-north"],
    }
    fixed, listed = pa.list_(pa.float32(), 2), pa.list_(pa.float32())
    pq.write_table(pa.table({**columns, "embedding": pa.array(rows, fixed)}), tmp_path / "fixed.parquet")
    pq.write_table(pa.table({**columns, "embedding": pa.array(rows, listed)}), tmp_path / "list.parquet")

    def answer(session: vexact.Session, sql: str) -> tuple[object, object]:
        try:
            table = session.sql(sql).to_arrow()
        except Exception as error:
            # Some errors of planning end with the addresses and settings of a plan.
            return type(error), str(error).split("\n")[0][:100]
        return table.schema, [repr(row) for row in table.to_pylist()]

    sessions = []
    for count in range(4):
        session = vexact.Session(workers=addresses(workers[:count]) if count else None, target_partitions=1)
        for view, file in (("docs", "fixed"), ("docs_mem", "fixed"), ("docs_parquet", "fixed"), ("docs_list", "list")):
            session.create_temp_view(view, session.read_parquet(tmp_path / f"{file}.parquet"))
        sessions.append(session)
    local, *remotes = sessions
    for sql in statements(ROOT / "tests" / "sql" / name):
        if re.match(r"\s*EXPLAIN", sql, re.IGNORECASE):
            continue
        expected = answer(local, sql)
        for count, remote in enumerate(remotes, 1):
            one, got = expected, answer(remote, sql)
            if "ORDER BY" not in sql.upper() and isinstance(one[1], list) and isinstance(got[1], list):
                one, got = (one[0], sorted(one[1])), (got[0], sorted(got[1]))
            assert got == one, f"{count} workers: {sql}\n{got}\n{one}"


def test_no_vector_crosses_the_network(folder: Path, workers: list[Worker]) -> None:
    session = opened(folder, workers)
    found = strategy(session.explain_vector_search("docs", "vec", QUERY, top_k=10, columns=["id"]).strategy)
    assert found["workers"] == ",".join(addresses(workers)) or set(found["workers"].split(",")) == set(addresses(workers))
    assert (found["stages"], found["tasks"], found["attempts"], found["lost_workers"]) == ("1", "3", "1", "none")
    # Ten rows of a task, and the number of rows of its one partition.
    assert int(found["rows_over_network"]) == 3 * (10 + 1)
    assert 0 < int(found["bytes_over_network"]) <= 3 * 10 * 200 + 64 * 1024
    assert int(found["candidate_rows"]) == ROWS
    assert int(found["rows_scanned"]) > ROWS * 0.9
    for options in ({"min_score": 0.2}, {"filter": "-x < -100"}):
        few = strategy(session.explain_vector_search("docs", "vec", QUERY, columns=["id"], **options).strategy)
        assert 0 < int(few["bytes_over_network"]) <= 16 * 1024, options
    explained = session.explain_vector_search("docs", "vec", QUERY)
    assert "Stage 1" in explained.physical and "PartialTopKExec" in explained.physical


def test_an_explain_has_the_stages_as_a_tree(folder: Path, workers: list[Worker]) -> None:
    explained = opened(folder, workers).explain_vector_search("docs", "vec", QUERY, columns=["id"])
    found = strategy(explained.strategy)
    stages = explained.physical.split("DistributedExec\n")[1].splitlines()
    assert [line for line in stages if "Stage 1" in line] == [f"  Stage 1: tasks=3, partitions={found['threads']}"]
    tasks = [line.strip() for line in stages if re.match(r" +t\d: ", line)]
    assert len(tasks) == 3 and all(task.startswith(f"t{number}: DataSourceExec: ") for number, task in enumerate(tasks))
    metrics = [re.search(r"metrics=\[worker=(\S+), elapsed_us=(\d+), rows=11\]$", task) for task in tasks]
    assert {metric and metric.group(1) for metric in metrics} == set(addresses(workers))
    times = [int(metric.group(2)) for metric in metrics if metric]
    assert (int(found["slowest_task_us"]), int(found["fastest_task_us"])) == (max(times), min(times))
    # The page shows it as a tree that can be folded, without the frames of a terminal.
    page = explained._repr_html_()
    assert "┌" not in page and "<b>Stage</b>" in page and page.count("elapsed_us <b>") == 3


def test_a_query_without_files_says_that_it_runs_here(workers: list[Worker]) -> None:
    session = vexact.Session(workers=addresses(workers))
    found = strategy(session.explain_sql("SELECT 1").strategy)
    assert found["workers"] == "none" and "no Parquet files" in found["workers_reason"]


def slow_folder(path: Path) -> Path:
    """A file whose scan with the filter of SLOW takes seconds."""
    text = "".join(chr(97 + i * i % 23) for i in range(400))
    table = pa.table({"t": [text] * 30_000, "id": range(30_000)})
    pq.write_table(table, path / "a.parquet", row_group_size=500)
    return path


SLOW = "SELECT count(*) FROM docs WHERE levenshtein(t, reverse(t)) < 0"


def slow_session(path: Path, workers: list[Worker], **options: object) -> vexact.Session:
    session = opened(path, workers, **options)
    # A task notices that it is cancelled after each batch.
    session.sql("SET datafusion.execution.batch_size = 256")
    return session


def test_a_cancelled_query_leaves_no_task(tmp_path: Path, workers: list[Worker]) -> None:
    session = slow_session(slow_folder(tmp_path), workers[:2], timeout=3.0)
    with pytest.raises(vexact.QueryTimeoutError):
        session.sql(SLOW).to_arrow()
    for worker in workers[:2]:
        wait_for_tasks(worker.address, 0)
    assert session.sql("SELECT count(*) FROM docs").to_arrow().column(0).to_pylist() == [30_000]


def test_a_token_is_checked_and_never_shown(folder: Path, tmp_path: Path) -> None:
    secret = "s3cret-token"
    (tmp_path / "token").write_text(secret + "\n")
    with Worker("--token-file", str(tmp_path / "token")) as worker:
        session = opened(folder, [worker], token=secret)
        assert session.sql("SELECT count(*) FROM docs WHERE id > 5").to_arrow().column(0).to_pylist() == [ROWS - 6]
        explained = session.explain_sql("SELECT count(*) FROM docs WHERE id > 5")
        assert secret not in explained and secret not in repr(session)
        for token, problem in (("other", "another token"), (None, "a token, got none")):
            with pytest.raises(vexact.SourceIOError, match=problem) as caught:
                opened(folder, [worker], token=token).sql("SELECT count(*) FROM docs WHERE id > 5").to_arrow()
            assert worker.address in str(caught.value) and secret not in str(caught.value)


def test_errors_are_those_of_a_session_without_workers(folder: Path, tmp_path: Path, workers: list[Worker]) -> None:
    lists = pa.array([[1.0, 2.0], [1.0, 2.0, 3.0], [4.0, 5.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": [1, 2, 3], "vec": lists}), tmp_path / "ragged.parquet")
    sql = (
        "SELECT id FROM docs ORDER BY cosine_distance(vec, [1.0, 2.0]) LIMIT 3",
        "SELECT id FROM docs WHERE 1 / (id - 2) > 5",
        "SELECT id FROM docs WHERE CAST(substr(g, 1, 1) AS INT) > 1",
        "SELECT nothing FROM docs",
    )
    for path in (folder, tmp_path):
        local, remote = opened(path), opened(path, workers[:2])
        for text in sql:
            errors = []
            for session in (local, remote):
                try:
                    session.sql(text).to_arrow()
                    errors.append(None)
                except vexact.VexactError as error:
                    errors.append((type(error), str(error)))
            assert errors[0] == errors[1], text


@pytest.mark.parametrize("fault", ["missing", "of another schema", "cut"])
def test_a_file_that_changes_after_planning_is_the_same_error(
    folder: Path, tmp_path: Path, workers: list[Worker], fault: str
) -> None:
    errors = []
    for count in (0, 2):
        for name in "abcde":
            (tmp_path / f"{name}.parquet").write_bytes((folder / f"{name}.parquet").read_bytes())
        frame = opened(tmp_path, workers[:count]).sql("SELECT id FROM docs ORDER BY l2_distance(vec, $1) LIMIT 3", [QUERY])
        changed = tmp_path / "d.parquet"
        if fault == "missing":
            changed.unlink()
        elif fault == "cut":
            changed.write_bytes(changed.read_bytes()[:-100])
        else:
            pq.write_table(pa.table({"id": ["x"], "g": ["y"], "x": [1.0], "vec": [1]}), changed)
        with pytest.raises(vexact.VexactError, match="d.parquet") as caught:
            frame.to_arrow()
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


def test_a_file_that_a_worker_may_not_read_is_refused(folder: Path, tmp_path: Path) -> None:
    with Worker("--allow", str(tmp_path)) as worker:
        with pytest.raises(vexact.InvalidRequestError, match="--allow"):
            opened(folder, [worker]).sql("SELECT count(*) FROM docs WHERE id > 5").to_arrow()


def test_a_damaged_file_is_refused_by_name(folder: Path, tmp_path: Path, workers: list[Worker]) -> None:
    content = bytearray((folder / "e.parquet").read_bytes())
    content[1000:1200] = bytes(200)
    (tmp_path / "damaged.parquet").write_bytes(content)
    with pytest.raises(vexact.VexactError, match="damaged.parquet"):
        opened(tmp_path, workers[:2]).vector_search("docs", "vec", QUERY, columns=["id"]).to_arrow()


def test_a_listener_beyond_this_machine_needs_a_token() -> None:
    command = [sys.executable, "-m", "vexact", "worker", "--listen", "0.0.0.0:0"]
    answer = json.loads(subprocess.run(command, capture_output=True).stdout)
    assert not answer["ok"] and "token" in answer["error"]


def test_sigterm_ends_an_idle_worker(folder: Path) -> None:
    with Worker() as worker:
        session = opened(folder, [worker])
        assert session.sql("SELECT count(*) FROM docs WHERE id > 5").count() == 1
        assert worker.stop() == 0


def test_commands_take_workers(folder: Path, workers: list[Worker]) -> None:
    def answer(*arguments: str) -> dict[str, object]:
        result = subprocess.run([sys.executable, "-m", "vexact", *arguments], capture_output=True)
        return json.loads(result.stdout)

    path = ["--input-path", str(folder)]
    query = ["--query", "SELECT g, count(*) AS n FROM input_table WHERE x > 5 GROUP BY g ORDER BY g"]
    on_workers = ["--workers", ",".join(addresses(workers))]
    assert answer("file-sql", *path, *query, *on_workers) == answer("file-sql", *path, *query)
    search = ["--vector-column", "vec", "--query-vector", ",".join(map(str, QUERY)), "--columns", "id"]
    local, remote = answer("vector-search", *path, *search), answer("vector-search", *path, *search, *on_workers)
    assert remote["rows"] == local["rows"] and len(local["rows"]) == 5
    assert "tasks=3" in remote["explain"]["strategy"]
    failed = answer("file-sql", *path, *query, "--workers", "127.0.0.1:1", "--retries", "0")
    assert not failed["ok"] and "127.0.0.1:1" in failed["error"]
    assert answer("file-sql", *path, *query, "--workers", "nowhere")["error"].startswith("workers: expected host:port")


def test_arguments_are_checked() -> None:
    with pytest.raises(vexact.InvalidRequestError, match="host:port"):
        vexact.Session(workers=["nowhere"])
    with pytest.raises(vexact.InvalidRequestError, match="at least one"):
        vexact.Session(workers=[])
    with pytest.raises(vexact.InvalidRequestError, match="token"):
        vexact.Session(token="t")
    with pytest.raises(vexact.InvalidRequestError, match="retries"):
        vexact.Session(workers="a:1", retries=-1)
    with pytest.raises(TypeError, match="workers"):
        vexact.Session(workers=[1])  # type: ignore[list-item]
    with pytest.raises(vexact.InvalidRequestError, match="without a user"):
        vexact.Session(workers="http://me:hunter2@w:1")
