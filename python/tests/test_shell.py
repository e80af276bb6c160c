"""`vexact sql` at a terminal: a real pseudo-terminal, typed at as a person does."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="the system has no pseudo-terminals")

VEXACT = [sys.executable, "-m", "vexact"]
PROMPT = "vexact> "


class Terminal:
    """A process at a terminal."""

    def __init__(self, arguments: list[str], cwd: Path) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "VEXACT_HOME": str(cwd / "home"), "TERM": "xterm", "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [*VEXACT, *arguments], cwd=cwd, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.shown = ""

    def read_until(self, part: str, limit: float = 60) -> str:
        """Reads until this text is shown; returns what was shown, without the terminal's control sequences."""
        end = time.monotonic() + limit
        while part not in self.shown:
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"expected {part!r}, got {self.shown!r}"
            try:
                read = os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                read = ""
            assert read or part in self.shown, f"expected {part!r}, got the end after {self.shown!r}"
            self.shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", read)
        before, _, self.shown = self.shown.partition(part)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Waits for the process, reading what it still shows."""
        while True:
            ready, _, _ = select.select([self.master], [], [], 60)
            assert ready, f"expected the end of the process, got {self.shown!r}"
            try:
                read = os.read(self.master, 65536)
            except OSError:
                break
            if not read:
                break
            self.shown += read.decode(errors="replace")
        os.close(self.master)
        return self.process.wait(timeout=30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs.csv").write_text("id,title,embedding\n1,Ants,[0.1 0.2]\n2,Bees,[1 0]\n3,Cats,[0 1]\n")
    return tmp_path


@pytest.fixture
def shell(folder: Path) -> Iterator[Terminal]:
    terminal = Terminal(["sql", "docs.csv"], folder)
    terminal.read_until(PROMPT)
    yield terminal
    if terminal.process.poll() is None:
        terminal.process.kill()
        terminal.process.wait()


def test_statements_are_answered_with_tables_and_errors_do_not_end_the_shell(shell: Terminal) -> None:
    shell.type("SELECT title FROM docs\n")
    shell.type("WHERE id > 1 ORDER BY id;\n")
    shell.read_until("| Bees  |")
    shell.read_until("(2 rows)")
    shell.read_until(PROMPT)
    shell.type("SELECT nope FROM docs;\n")
    shell.read_until("nope")
    shell.read_until(PROMPT)
    shell.type("SELECT title FROM vector_search('docs', 'embedding', '[0 1]', 1);\n")
    shell.read_until("| Cats  |")
    # Input before the prompt may be lost when the terminal changes its mode.
    shell.read_until(PROMPT)
    shell.type("\x04")
    assert shell.end() == 0


def test_tab_completes_and_dots_are_commands(shell: Terminal) -> None:
    shell.type("SELECT tit\t FROM doc\t;\n")
    shell.read_until("| Ants  |")
    shell.read_until(PROMPT)
    shell.type(".tables\n")
    shell.read_until("| docs  |")
    shell.type(".schema docs\n")
    shell.read_until("embedding")
    shell.read_until(PROMPT)
    shell.type(".format json\n")
    shell.read_until(PROMPT)
    shell.type("SELECT count(*) AS n FROM docs;\n")
    shell.read_until('"rows":[{"n":3}]')
    shell.read_until(PROMPT)
    shell.type(".tabels\n")
    shell.read_until("unknown command .tabels")
    shell.type("exit\n")
    assert shell.end() == 0


def test_ctrl_c_cancels_a_statement_and_not_the_shell(shell: Terminal) -> None:
    shell.type("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 10000000) b WHERE (a.value * b.value) % 7 = 8;\n")
    shell.read_until("7 = 8;\n")
    # The statement runs once the terminal is no longer raw: then Ctrl-C is a signal.
    import termios

    while not termios.tcgetattr(shell.master)[3] & termios.ISIG:
        pass
    shell.type("\x03")
    shell.read_until("cancelled by SIGINT")
    shell.read_until(PROMPT)
    assert shell.process.poll() is None


def test_the_history_is_kept(folder: Path, shell: Terminal) -> None:
    shell.type("SELECT 'first' AS x;\n")
    shell.read_until("| first |")
    shell.read_until(PROMPT)
    shell.type("\x04")
    assert shell.end() == 0
    again = Terminal(["sql", "docs.csv"], folder)
    again.read_until(PROMPT)
    again.type("\x1b[A\n")
    again.read_until("| first |")
    again.read_until(PROMPT)
    again.type("\x04")
    assert again.end() == 0


def test_a_terminal_gets_tables_and_a_pipe_json(folder: Path) -> None:
    query = ["csv-sql", "--csv", "docs.csv", "--query", "SELECT id FROM input_table ORDER BY id"]
    terminal = Terminal(query, folder)
    terminal.read_until("| 1  |")
    terminal.read_until("(3 rows)")
    assert terminal.end() == 0
    asked = Terminal([*query, "--format", "json"], folder)
    asked.read_until('"rows":[{"id":1}')
    assert asked.end() == 0
    piped = subprocess.run([*VEXACT, *query], cwd=folder, capture_output=True, text=True, check=True)
    assert json.loads(piped.stdout)["rows"] == [{"id": 1}, {"id": 2}, {"id": 3}]
    failed = Terminal([*query, "--table", "x"], folder)
    failed.read_until("error: ")
    assert failed.end() == 1


def test_the_command_alone_prints_its_help(folder: Path) -> None:
    alone = subprocess.run(VEXACT, cwd=folder, capture_output=True, text=True, check=True)
    assert "Usage: vexact" in alone.stdout and "vexact sql docs.parquet" in alone.stdout and alone.stderr == ""


def sql(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VEXACT, "sql", *arguments], cwd=folder, input=stdin, capture_output=True, text=True, timeout=120)


def test_statements_come_from_options_and_from_stdin(folder: Path) -> None:
    done = sql(folder, "words=docs.csv", "-q", "CREATE TABLE t AS SELECT id FROM words", "-q", "SELECT sum(id) AS s FROM t")
    assert [json.loads(line) for line in done.stdout.splitlines()][-1]["rows"] == [{"s": 6}]
    done = sql(folder, "docs.csv", "--format", "csv", stdin="SELECT 1 AS a;\n-- a comment;\nSELECT ';' AS b;\n")
    assert (done.returncode, done.stdout) == (0, "a\n1\nb\n;\n")
    done = sql(folder, "docs.csv", stdin="SELECT 1; SELECT nope; SELECT 3;")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(lines), lines[0]["ok"], lines[1]["ok"]) == (1, 2, True, False)
    assert json.loads(sql(folder, "docs.csv").stdout)["error"] == "expected a statement, got none"
    assert json.loads(sql(folder, "none.csv", "-q", "SELECT 1").stdout)["error_type"] == "file_not_found"
    assert json.loads(sql(folder, "--db", "none.db", "-q", "SELECT 1").stdout)["error_type"] == "file_not_found"


def test_a_database_is_written_and_searched(folder: Path) -> None:
    create = "CREATE TABLE notes(id INTEGER PRIMARY KEY, v BLOB)"
    subprocess.run([*VEXACT, "db", "exec", "--db", "app.db", "--create", create], cwd=folder, check=True, capture_output=True)
    register = ["db", "register", "--db", "app.db", "--table", "notes", "--column", "id:int64", "--column", "v:vector(2)", "--key", "id"]
    subprocess.run([*VEXACT, *register], cwd=folder, check=True, capture_output=True)
    statements = """
        INSERT INTO notes VALUES (1, vector('[1,0]')), (2, vector('[0,1]'));
        INSERT INTO notes VALUES (3, vector('[5,5]')) RETURNING id;
        SELECT id FROM vector_search('notes', 'v', '[0,2]', 1, 'l2');
        PRAGMA user_version;
    """
    done = sql(folder, "--db", "app.db", stdin=statements)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout
    assert answers[0]["rows_affected"] == 2 and answers[1]["rows"] == [{"id": 3}] and answers[2]["rows"] == [{"id": 2}]


def test_a_statement_ends_at_its_timeout(folder: Path) -> None:
    began = time.monotonic()
    endless = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 10000000) b WHERE (a.value * b.value) % 7 = 8"
    done = sql(folder, "--timeout-ms", "300", "-q", endless)
    assert json.loads(done.stdout)["error_type"] == "timeout"
    assert time.monotonic() - began < 60
