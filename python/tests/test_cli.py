"""The command `vexact` as Python installs it. What it does is tested with the Rust program (src/cli/tests/cli)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vexact

SCRIPT = [str(Path(sys.executable).with_name("vexact"))]
MODULE = [sys.executable, "-m", "vexact"]


def run(command: list[str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=120)


@pytest.mark.parametrize("command", [SCRIPT, MODULE], ids=["script", "module"])
def test_a_database_from_the_shell(command: list[str], tmp_path: Path) -> None:
    def ok(name: str, *arguments: str) -> dict:
        done = run(command, "db", name, "--db", "app.db", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        return json.loads(done.stdout)

    ok("exec", "--create", "CREATE TABLE docs(id INTEGER PRIMARY KEY, title TEXT, embedding BLOB)")
    insert = ["--param", "1", "--param", "Käfer", "--param", "[1, 0]", "INSERT INTO docs VALUES (?, ?, ?)"]
    assert ok("exec", *insert) == {"ok": True, "rows_affected": 1}
    columns = ["--column", "id:int64", "--column", "title:utf8", "--column", "embedding:vector(2)"]
    assert ok("register", "--table", "docs", *columns, "--key", "id", "--initial-sync")["rows"] == 1
    assert ok("query", "SELECT title, embedding FROM docs")["rows"] == [{"title": "Käfer", "embedding": [1.0, 0.0]}]
    found = ok("search", "--table", "docs", "--column", "embedding", "--query-vector", "0,2", "--metric", "l2")
    assert found["rows"] == [{"id": 1, "score": 5**0.5}]
    assert ok("sync")["events_processed"] == 0
    assert ok("status")["tables"][0]["state"] == "ready"


def test_a_table_is_registered_without_its_columns(tmp_path: Path) -> None:
    def answer(*arguments: str) -> dict:
        return json.loads(run(SCRIPT, "db", arguments[0], "--db", "app.db", *arguments[1:], cwd=tmp_path).stdout)

    answer("exec", "--create", "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, v FLOAT[2], w BLOB)")
    unsure = answer("register", "--table", "notes")
    assert unsure["ok"] is False and unsure["phase"] == "register"
    assert unsure["error"] == (
        'table "notes": expected a declaration or values that say the type of each column, which these have not: "w" (declared BLOB, no '
        "values); --vector NAME:DIM or NAME:bytes says what a BLOB is, or all of it: --column 'id:int64' --column 'body:utf8' --column "
        "'v:vector(2)' --column 'w:binary' --key 'id'"
    )
    done = answer("register", "--table", "notes", "--vector", "w:3")
    assert [(column["name"], column["type"]) for column in done["columns"]] == [
        ("id", "int64"), ("body", "utf8"), ("v", "vector(2)"), ("w", "vector(3)"),
    ]
    assert done["key"] == ["id"]
    assert answer("register", "--table", "notes", "--vector", "w")["error_type"] == "usage_error"
    assert answer("register", "--table", "notes", "--key", "id")["error_type"] == "usage_error"


@pytest.mark.parametrize("command", [SCRIPT, MODULE], ids=["script", "module"])
def test_failures_exit_with_one(command: list[str], tmp_path: Path) -> None:
    done = run(command, "db", "status", "--db", "none.db", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    failure = json.loads(done.stdout)
    assert (failure["ok"], failure["error_type"], failure["phase"]) == (False, "file_not_found", "open")
    assert json.loads(run(command, "nope", cwd=tmp_path).stdout)["error_type"] == "usage_error"


def test_help_and_version(tmp_path: Path) -> None:
    assert run(SCRIPT, "--version", cwd=tmp_path).stdout == f"vexact {vexact.__version__}\n"
    help = run(SCRIPT, "db", "query", "--help", cwd=tmp_path)
    assert help.returncode == 0
    assert "vexact db query --db app.db" in help.stdout


def test_a_large_answer_is_whole(tmp_path: Path) -> None:
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
    run(SCRIPT, "db", "exec", "--create", "--db", "app.db", f"CREATE TABLE t(i INTEGER); {rows} INSERT INTO t SELECT i FROM n", cwd=tmp_path)
    done = run(SCRIPT, "db", "query", "--db", "app.db", "SELECT i FROM t", cwd=tmp_path)
    assert [row["i"] for row in json.loads(done.stdout)["rows"]] == list(range(1, 200001))


def test_ctrl_c_ends_a_query(tmp_path: Path) -> None:
    run(SCRIPT, "db", "exec", "--create", "--db", "app.db", "CREATE TABLE t(i INTEGER)", cwd=tmp_path)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    process = subprocess.Popen([*SCRIPT, "db", "query", "--db", "app.db", endless], cwd=tmp_path, stdout=subprocess.PIPE)
    # The database's memory of readers is there once the command has opened it.
    while not (tmp_path / "app.db-shm").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (-signal.SIGINT, b"")


DOCS = "id,title,embedding\n1,Ants,[0.5 0.25]\n2,Bees,[1 0]\n3,Käfer,[0 1]\n"
ENDLESS = "SELECT count(*) FROM generate_series(1, 10000000) AS a, generate_series(1, 10000000) AS b"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `docs.csv`, and a workspace within it."""
    monkeypatch.setenv("VEXACT_HOME", str(tmp_path / "home"))
    (tmp_path / "docs.csv").write_text(DOCS, encoding="utf-8")
    return tmp_path


def answer(folder: Path, *arguments: str) -> dict:
    done = run(SCRIPT, *arguments, cwd=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return json.loads(done.stdout)


def test_files_from_the_shell(workspace: Path) -> None:
    found = answer(workspace, "csv-sql", "--csv", "docs.csv", "--query", "SELECT count(*) AS n FROM input_table")
    assert found["rows"] == [{"n": 3}]
    search = ["--csv", "docs.csv", "--vector-column", "embedding", "--query-vector", "0.1,0.2", "--columns", "title"]
    found = answer(workspace, "vector-search", *search, "--where-column", "title", "--where-op", "ne", "--where-value", "Ants")
    session = vexact.Session()
    session.create_temp_view("docs", session.read_csv(workspace / "docs.csv"))
    same = session.vector_search("docs", "embedding", [0.1, 0.2], top_k=5, filter="title <> 'Ants'", columns=["title"])
    assert found["rows"] == same.to_arrow().to_pylist()
    table = run(SCRIPT, "csv-sql", "--csv", "docs.csv", "--query", "SELECT 1 AS one", "--format", "table", cwd=workspace)
    assert table.stdout == "+-----+\n| one |\n+-----+\n| 1   |\n+-----+\n(1 row)\n"


def test_a_result_of_a_run_is_a_file_that_others_read(workspace: Path) -> None:
    import pyarrow.parquet

    query = ["csv-sql", "--csv", "docs.csv", "--query", "SELECT id, embedding FROM input_table ORDER BY id"]
    started = answer(workspace, "run", "start", "--tag", "t", "--", *query)
    result = pyarrow.parquet.read_table(started["artifacts"][0]["path"])
    assert result.column("id").to_pylist() == [1, 2, 3]
    assert result.column("embedding").to_pylist()[1] == [1.0, 0.0]
    assert answer(workspace, "run", "result", "--run-id", started["run_id"])["result"]["rows"] == started["result"]["rows"]
    arrow = answer(workspace, *query, "--output-path", "out.arrow")
    with pyarrow.OSFile(str(workspace / "out.arrow")) as file:
        assert pyarrow.ipc.open_file(file).read_all().to_pylist() == arrow["rows"]


def test_a_run_that_is_killed_is_orphaned(workspace: Path) -> None:
    start = [*SCRIPT, "run", "start", "--", "csv-sql", "--csv", "docs.csv", "--query", ENDLESS]
    process = subprocess.Popen(start, cwd=workspace, stdout=subprocess.PIPE)
    while not (runs := answer(workspace, "run", "list", "--status", "running")["runs"]):
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    status = answer(workspace, "run", "status", "--run-id", runs[0]["run_id"])
    assert (status["status"], status["error"]["error_type"]) == ("failed", "orphaned")


def test_ctrl_c_cancels_a_run(workspace: Path) -> None:
    start = [*SCRIPT, "run", "start", "--", "csv-sql", "--csv", "docs.csv", "--query", ENDLESS]
    process = subprocess.Popen(start, cwd=workspace, stdout=subprocess.PIPE)
    while not (runs := answer(workspace, "run", "list", "--status", "running")["runs"]):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    failure = json.loads(out)
    assert (process.returncode, failure["run_id"], failure["error"]) == (1, runs[0]["run_id"], "cancelled by SIGINT")
    assert answer(workspace, "run", "status", "--run-id", runs[0]["run_id"])["status"] == "cancelled"


def test_ctrl_c_ends_a_stream_and_what_it_wrote_is_kept(workspace: Path) -> None:
    (workspace / "in").mkdir()
    (workspace / "in" / "a.csv").write_text("key,value\nx,1\ny,2\nx,3\n")
    query = "INSERT INTO output_sink SELECT key, sum(value) AS value_sum FROM input_stream GROUP BY key"
    schema = ["--sink-schema", "key STRING, value_sum INT"]
    stream = ["stream-sql-once", "--source-csv-dir", "in", "--sink-path", "out.csv", "--query", query, *schema]
    rows = [{"key": "x", "value_sum": 4}, {"key": "y", "value_sum": 2}]
    assert answer(workspace, *stream)["rows"] == rows
    sink = workspace / "out.csv"
    for start, code in [(["run", "start", "--"], "cancelled"), ([], "")]:
        sink.unlink()
        process = subprocess.Popen([*SCRIPT, *start, *stream, "--max-batches", "0"], cwd=workspace, stdout=subprocess.PIPE)
        while not sink.exists() or not sink.read_text().endswith("y,2\n"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        failure = json.loads(out)
        assert (process.returncode, failure["error"]) == (1, "cancelled by SIGINT")
        if code:
            assert answer(workspace, "run", "show", "--run-id", failure["run_id"])["run"]["status"] == code
            assert answer(workspace, "run", "result", "--run-id", failure["run_id"])["result"]["rows"] == rows


def test_processes_share_a_workspace(workspace: Path) -> None:
    start = [*SCRIPT, "run", "start", "--", "csv-sql", "--csv", "docs.csv", "--query", "SELECT 1 AS one"]
    processes = [subprocess.Popen(start, cwd=workspace, stdout=subprocess.PIPE) for _ in range(3)]
    started = [json.loads(process.communicate(timeout=120)[0])["run_id"] for process in processes]
    runs = answer(workspace, "run", "list", "--status", "succeeded")["runs"]
    assert sorted(run["run_id"] for run in runs) == sorted(started)
