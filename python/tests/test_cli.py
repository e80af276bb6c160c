"""The command `vexact` as Python installs it. What it does is tested with the Rust program (tests/cli.rs)."""

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

    ok("exec", "CREATE TABLE docs(id INTEGER PRIMARY KEY, title TEXT, embedding BLOB)")
    insert = ["--param", "1", "--param", "Käfer", "--param", "[1, 0]", "INSERT INTO docs VALUES (?, ?, ?)"]
    assert ok("exec", *insert) == {"ok": True, "rows_affected": 1}
    columns = ["--column", "id:int64", "--column", "title:utf8", "--column", "embedding:vector(2)"]
    assert ok("register", "--table", "docs", *columns, "--key", "id", "--initial-sync")["rows"] == 1
    assert ok("query", "SELECT title, embedding FROM docs")["rows"] == [{"title": "Käfer", "embedding": [1.0, 0.0]}]
    found = ok("search", "--table", "docs", "--column", "embedding", "--query-vector", "0,2", "--metric", "l2")
    assert found["rows"] == [{"id": 1, "score": 5**0.5}]
    assert ok("sync")["events_processed"] == 0
    assert ok("status")["tables"][0]["state"] == "ready"


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
    run(SCRIPT, "db", "exec", "--db", "app.db", f"CREATE TABLE t(i INTEGER); {rows} INSERT INTO t SELECT i FROM n", cwd=tmp_path)
    done = run(SCRIPT, "db", "query", "--db", "app.db", "SELECT i FROM t", cwd=tmp_path)
    assert [row["i"] for row in json.loads(done.stdout)["rows"]] == list(range(1, 200001))


def test_ctrl_c_ends_a_query(tmp_path: Path) -> None:
    run(SCRIPT, "db", "exec", "--db", "app.db", "CREATE TABLE t(i INTEGER)", cwd=tmp_path)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    process = subprocess.Popen([*SCRIPT, "db", "query", "--db", "app.db", endless], cwd=tmp_path, stdout=subprocess.PIPE)
    # The database's memory of readers is there once the command has opened it.
    while not (tmp_path / "app.db-shm").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (-signal.SIGINT, b"")
