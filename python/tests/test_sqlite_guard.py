"""Where the locks of two copies of SQLite in one process are not isolated, Python's sqlite3 on an engine's file is warned of and refused."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import vexact
from vexact import _native

WARNING = "another copy of SQLite"
REFUSED = "expected a file that this process does not have open"


@pytest.fixture
def is_not_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without open-file-description locks."""
    monkeypatch.setattr(_native, "has_isolated_locks", lambda: False)


def connects_quietly(path: object) -> bool:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sqlite3.connect(path, uri=str(path).startswith("file:")).close()
    return not any(WARNING in str(warning.message) for warning in warned)


def test_it_warns_while_the_file_is_open_in_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_not_isolated: None) -> None:
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


def test_an_engine_that_is_collected_is_forgotten(tmp_path: Path, is_not_isolated: None) -> None:
    engine = vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db"))
    assert not connects_quietly(tmp_path / "app.db")
    del engine
    gc.collect()
    assert connects_quietly(tmp_path / "app.db")


def test_the_source_of_a_sidecar_counts_and_its_own_file_only_if_it_is_opened(tmp_path: Path, is_not_isolated: None) -> None:
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


def test_a_warning_that_is_an_error_keeps_the_file_closed(tmp_path: Path, is_not_isolated: None) -> None:
    engine = vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(RuntimeWarning, match=WARNING):
            sqlite3.connect(tmp_path / "app.db")
    engine.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_another(tmp_path: Path, is_not_isolated: None) -> None:
    engine = vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0 if connects_quietly(tmp_path / "app.db") else 1)
    assert os.waitpid(child, 0)[1] == 0 and not connects_quietly(tmp_path / "app.db")
    engine.shutdown()


def test_other_processes_are_not_warned(tmp_path: Path, is_not_isolated: None) -> None:
    engine = vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db"))
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE t(x)')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program, tmp_path / "app.db"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    engine.shutdown()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="has no such locks")
def test_isolated_locks_need_no_warning(tmp_path: Path) -> None:
    assert _native.has_isolated_locks()
    before = sqlite3.connect(tmp_path / "app.db")
    before.execute("CREATE TABLE t(x)")
    engine = vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db"))
    assert connects_quietly(tmp_path / "app.db")
    engine.shutdown()
    before.close()


def test_a_file_that_sqlite3_has_open_is_refused(tmp_path: Path, is_not_isolated: None) -> None:
    # The folder of another path to the file.
    (tmp_path / "x").mkdir()
    before = sqlite3.connect(tmp_path / "app.db")
    before.execute("CREATE TABLE t(x)")
    for path in (tmp_path / "app.db", tmp_path / "x/../app.db"):
        with pytest.raises(vexact.EngineError, match=f"{REFUSED}, got one that it has open as descriptor [0-9]+"):
            vexact.HtapEngine(vexact.HtapConfig(path))
    config = vexact.HtapConfig(tmp_path / "own.db", sidecar_source=tmp_path / "app.db", sidecar_tables=[vexact.TimestampTableConfig("t", ["x"])])
    with pytest.raises(vexact.EngineError, match=REFUSED):
        vexact.HtapEngine(config)
    before.close()
    # The engine's own descriptors are not another library's.
    first, second = (vexact.HtapEngine(vexact.HtapConfig(tmp_path / "app.db")) for _ in range(2))
    first.shutdown()
    second.shutdown()


PRELOADED = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
static int replaced(const char *name, int fd, int cmd, void *arg) {
  if (cmd >= 36 && cmd <= 38) { errno = EINVAL; return -1; }
  int (*call)(int, int, ...) = dlsym(RTLD_NEXT, name);
  return call(fd, cmd, arg);
}
int fcntl64(int fd, int cmd, ...) {
  va_list list; va_start(list, cmd); void *arg = va_arg(list, void *); va_end(list);
  return replaced("fcntl64", fd, cmd, arg);
}
int fcntl(int fd, int cmd, ...) {
  va_list list; va_start(list, cmd); void *arg = va_arg(list, void *); va_end(list);
  return replaced("fcntl", fd, cmd, arg);
}
"""

WITHOUT_LOCKS = f"""
import sqlite3, sys, warnings
import vexact
from vexact import _native

assert not _native.has_isolated_locks()
before = sqlite3.connect(sys.argv[1])
before.execute("CREATE TABLE t(x)")
try:
    vexact.HtapEngine(vexact.HtapConfig(sys.argv[1]))
except vexact.EngineError as error:
    assert {REFUSED!r} in str(error)
else:
    raise AssertionError("opened")
before.close()
for _ in range(3):
    engine = vexact.HtapEngine(vexact.HtapConfig(sys.argv[1]))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sqlite3.connect(sys.argv[1]).close()
    assert len(warned) == 1 and {WARNING!r} in str(warned[0].message)
    engine.shutdown()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or not shutil.which("cc"), reason="needs Linux and a C compiler")
def test_a_kernel_without_such_locks(tmp_path: Path) -> None:
    (tmp_path / "preloaded.c").write_text(PRELOADED)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "preloaded.so", "preloaded.c", "-ldl"], cwd=tmp_path, check=True)
    arguments = [sys.executable, "-c", WITHOUT_LOCKS, tmp_path / "app.db"]
    environment = {**os.environ, "LD_PRELOAD": str(tmp_path / "preloaded.so")}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
