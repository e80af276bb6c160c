from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import vexact
from reference import vectors

# Haystack reports its use to its makers unless this says otherwise; it is read when it is imported.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

# Tests interrupt themselves; a shell starts what runs in the background without a handler.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def session() -> vexact.Session:
    return vexact.Session()


@pytest.fixture
def docs(session: vexact.Session) -> vexact.Session:
    """A session with the view `docs` of ten rows: id, lang (en, de in turn) and a vector of four components."""
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    table = pa.table({"id": range(10), "lang": ["en", "de"] * 5, "vec": vectors(rows)})
    session.create_temp_view("docs", session.create_dataframe_from_arrow(table))
    return session


@pytest.fixture
def write(tmp_path: Path):
    """Writes a text into a file of its own."""

    def write(text: str, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write


FOREIGN = {"TestLangChainsOwn": "LangChain's own suite", "TestHaystacksOwn": "Haystack's own suite", "TestHaystacksOwnAsync": "Haystack's own suite, async"}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says how many tests of each framework's suite ran."""
    for name, suite in FOREIGN.items():
        counts = {
            outcome: sum(f"::{name}::" in getattr(report, "nodeid", "") for report in terminalreporter.stats.get(outcome, []))
            for outcome in ("passed", "failed", "skipped")
        }
        if any(counts.values()):
            terminalreporter.write_line(f"{suite}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
