"""Exact vector search inside SQL analytics.

    import vexact

    session = vexact.Session()
    docs = session.read_parquet("docs.parquet")
    session.create_temp_view("docs", docs)
    session.vector_search("docs", "embedding", query, top_k=5, columns=["title"]).show()
"""

import atexit as _atexit
import typing as _typing
import warnings as _warnings

from . import _native, bitable, errors
from ._datafusion import ReplicaSnapshot, ReplicaTable, register, vector_join, vector_search
from ._native import __version__
from .connection import Connection, connect
from .custom_stream import (
    CustomArrowStreamSink,
    CustomArrowStreamSource,
    CustomStreamEmitOptions,
    consume_arrow_batches_with_custom_sink,
    create_stream_from_custom_source,
)
from .engine import (
    HtapConfig,
    HtapEngine,
    InferredSchema,
    LogPosition,
    SyncResult,
    SyncStatus,
    TableSchema,
    TableStatus,
    TimestampTableConfig,
    open,
    uninstall,
)
from .errors import (
    BitableClientError,
    EngineError,
    ExecutionError,
    InternalError,
    InvalidRequestError,
    MissingDependencyError,
    QueryTimeoutError,
    ResourcesExhaustedError,
    SourceIOError,
    SourceNotFoundError,
    VexactError,
)
from .excel import read_excel
from .explain import Explain
from .frame import DataFrame
from .result import QueryResult
from .session import Session
from .stream import RealtimeStreamSink, RealtimeStreamSource, StreamingDataFrame, StreamingQuery

# Writers end with the interpreter, and would leave their files.
_atexit.register(_native.discard_unfinished)

_MOVED_TO_BITABLE = {
    "BitableClient",
    "BitableUrl",
    "create_stream_from_bitable",
    "group_rows_by_field",
    "group_rows_count_by_field",
    "parse_bitable_url",
}

if not _typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Returns the names that have moved to `vexact.bitable`, with a `DeprecationWarning`."""
        if name not in _MOVED_TO_BITABLE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        _warnings.warn(f"vexact.{name} moved: use vexact.bitable.{name}", DeprecationWarning, stacklevel=2)
        return getattr(bitable, name)


__all__ = [
    "BitableClientError",
    "Connection",
    "CustomArrowStreamSink",
    "CustomArrowStreamSource",
    "CustomStreamEmitOptions",
    "DataFrame",
    "EngineError",
    "ExecutionError",
    "Explain",
    "HtapConfig",
    "HtapEngine",
    "InferredSchema",
    "InternalError",
    "InvalidRequestError",
    "LogPosition",
    "MissingDependencyError",
    "QueryResult",
    "QueryTimeoutError",
    "RealtimeStreamSink",
    "RealtimeStreamSource",
    "ReplicaSnapshot",
    "ReplicaTable",
    "ResourcesExhaustedError",
    "Session",
    "SourceIOError",
    "SourceNotFoundError",
    "StreamingDataFrame",
    "StreamingQuery",
    "SyncResult",
    "SyncStatus",
    "TableSchema",
    "TableStatus",
    "TimestampTableConfig",
    "VexactError",
    "__version__",
    "bitable",
    "connect",
    "consume_arrow_batches_with_custom_sink",
    "create_stream_from_custom_source",
    "errors",
    "open",
    "read_excel",
    "register",
    "uninstall",
    "vector_join",
    "vector_search",
]
