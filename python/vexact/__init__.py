"""Exact vector search inside SQL analytics.

    import vexact

    session = vexact.Session()
    docs = session.read_parquet("docs.parquet")
    session.create_temp_view("docs", docs)
    session.vector_search("docs", "embedding", query, top_k=5, columns=["title"]).show()
"""

import atexit as _atexit

from . import _native, errors
from ._native import __version__
from .bitable import (
    BitableClient,
    BitableUrl,
    create_stream_from_bitable,
    group_rows_by_field,
    group_rows_count_by_field,
    parse_bitable_url,
)
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
from .session import Session
from .stream import RealtimeStreamSink, RealtimeStreamSource, StreamingDataFrame, StreamingQuery

# Writers end with the interpreter, and would leave their files.
_atexit.register(_native.discard_unfinished)

__all__ = [
    "BitableClient",
    "BitableClientError",
    "BitableUrl",
    "CustomArrowStreamSink",
    "CustomArrowStreamSource",
    "CustomStreamEmitOptions",
    "DataFrame",
    "EngineError",
    "ExecutionError",
    "Explain",
    "HtapConfig",
    "HtapEngine",
    "InternalError",
    "InvalidRequestError",
    "LogPosition",
    "MissingDependencyError",
    "QueryTimeoutError",
    "RealtimeStreamSink",
    "RealtimeStreamSource",
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
    "consume_arrow_batches_with_custom_sink",
    "create_stream_from_bitable",
    "create_stream_from_custom_source",
    "errors",
    "group_rows_by_field",
    "group_rows_count_by_field",
    "open",
    "parse_bitable_url",
    "read_excel",
    "uninstall",
]
