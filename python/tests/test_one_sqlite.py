"""Python's sqlite3 on an engine's file, in the engine's process, is warned of: two copies of SQLite in one process destroy files."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import vexact

WARNING = "another copy of SQLite"


def connects_quietly(path: object) -> bool:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sqlite3.connect(path, uri=str(path).startswith("file:")).close()
    return not any(WARNING in str(warning.message) for warning in warned)


def test_it_warns_while_the_file_is_open_in_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert connects_quietly("app.db")
    first, second = (vexact.HtapEngine(vexact.HtapConfig("app.db")) for _ in range(2))
    for path in ("app.db", tmp_path / "app.db", b"app.db", "./x/../app.db", f"file:{tmp_path}/app.db?mode=ro"):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert not connects_quietly(path), path
    assert connects_quietly("other.db") and connects_quietly(":memory:")
    first.shutdown()
    first.shutdown()
    assert not connects_quietly("app.db")
    second.shutdown()
    assert connects_quietly("app.db")


def test_an_engine_that_is_collected_is_forgotten(tmp_path: Path) -> None:
    engine = vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db"))
    assert not connects_quietly(tmp_path / "app.db")
    del engine
    gc.collect()
    assert connects_quietly(tmp_path / "app.db")


def test_the_source_of_a_sidecar_counts_and_its_own_file_only_if_it_is_opened(tmp_path: Path) -> None:
    source = tmp_path / "shop.db"
    with sqlite3.connect(source) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, created_at TEXT, updated_at TEXT)")
    shop.close()
    orders = [vexact.TimestampTableConfig("orders", ["id"])]
    config = vexact.HtapConfig(tmp_path / "own.db", sidecar_source=source, sidecar_tables=orders)
    engine = vexact.HtapEngine(config)
    assert not connects_quietly(source) and connects_quietly(tmp_path / "own.db")
    engine.shutdown()
    assert connects_quietly(source)


def test_a_warning_that_is_an_error_keeps_the_file_closed(tmp_path: Path) -> None:
    engine = vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(RuntimeWarning, match=WARNING):
            sqlite3.connect(tmp_path / "app.db")
    engine.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_another(tmp_path: Path) -> None:
    engine = vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0 if connects_quietly(tmp_path / "app.db") else 1)
    assert os.waitpid(child, 0)[1] == 0 and not connects_quietly(tmp_path / "app.db")
    engine.shutdown()


def test_other_processes_are_not_warned(tmp_path: Path) -> None:
    engine = vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db"))
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE t(x)')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, tmp_path / "app.db"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    engine.shutdown()
