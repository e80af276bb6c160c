from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import vexact
from reference import vectors


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
