"""Exact vector search inside SQL analytics.

    import vexact

    session = vexact.Session()
    docs = session.read_parquet("docs.parquet")
    session.create_temp_view("docs", docs)
    session.vector_search("docs", "embedding", query, top_k=5, columns=["title"]).show()
"""

from . import errors
from ._native import __version__
from .engine import (
    HtapConfig,
    HtapEngine,
    SyncResult,
    SyncStatus,
    TableSchema,
    TableStatus,
    TimestampTableConfig,
    open,
)
from .errors import (
    EngineError,
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
    "EngineError",
    "ExecutionError",
    "Explain",
    "HtapConfig",
    "HtapEngine",
    "InvalidRequestError",
    "ResourcesExhaustedError",
    "Session",
    "SourceIOError",
    "SourceNotFoundError",
    "SyncResult",
    "SyncStatus",
    "TableSchema",
    "TableStatus",
    "TimestampTableConfig",
    "VexactError",
    "__version__",
    "errors",
    "open",
]
