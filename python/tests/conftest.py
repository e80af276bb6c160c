from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import vexact
from reference import vectors

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
