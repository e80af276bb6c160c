"""Exact vector search inside SQL analytics.

    import vexact

    session = vexact.Session()
    docs = session.read_parquet("docs.parquet")
    session.create_temp_view("docs", docs)
    session.vector_search("docs", "embedding", query, top_k=5, columns=["title"]).show()
"""

from . import errors
from ._native import __version__
from .errors import (
    ExecutionError,
    InvalidRequestError,
    ResourcesExhaustedError,
    SourceIOError,
    SourceNotFoundError,
    VexactError,
)
from .explain import Explain
from .frame import DataFrame
from .session import Session

__all__ = [
    "DataFrame",
    "ExecutionError",
    "Explain",
    "InvalidRequestError",
    "ResourcesExhaustedError",
    "Session",
    "SourceIOError",
    "SourceNotFoundError",
    "VexactError",
    "__version__",
    "errors",
]
