"""Streams over a source whose columns have names and no types yet. The first rows determine the
types; waiting queries are opened then."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

from . import _arguments as check
from . import _native
from .errors import InvalidRequestError
from .stream import RealtimeStreamSource, StreamingDataFrame, StreamingQuery


class UntypedStream(StreamingDataFrame):
    """The stream of a source without types."""

    def __init__(self, source: RealtimeStreamSource, open_frame: Callable[[], _native.StreamFrame]) -> None:
        self.source = source
        self._open = open_frame
        self._frame: _native.StreamFrame | None = None

    @property
    def _native(self) -> _native.StreamFrame:  # type: ignore[override]
        if self._frame is None:
            if self.source._is_untyped:
                raise InvalidRequestError("columns: their types are those of the first rows: expected rows to be pushed, got none")
            self._frame = self._open()
        return self._frame

    def __repr__(self) -> str:
        return "StreamingDataFrame(of types that the first rows will say)" if self.source._is_untyped else super().__repr__()


class UntypedQuery(StreamingQuery):
    """A query over a stream without types. It is opened with the first rows; `await_termination`
    raises its errors."""

    def __init__(self, source: RealtimeStreamSource, open_query: Callable[[], _native.StreamingQuery]) -> None:
        self._open = open_query
        self._changed = threading.Condition()
        self._query: StreamingQuery | None = None
        self._error: Exception | None = None
        self._is_started = self._is_stopped = False
        source._when_typed(self._typed)

    def _typed(self) -> None:
        with self._changed:
            if self._is_stopped:
                return
            try:
                self._query = StreamingQuery(self._open())
                if self._is_started:
                    self._query.start()
            except Exception as error:  # The waiter for the end is told, and not who pushes rows.
                self._error = error
            self._changed.notify_all()

    def start(self) -> None:
        with self._changed:
            self._is_started = True
            if self._query is not None:
                self._query.start()

    def await_termination(self, max_batches: int = 0) -> int:
        check.whole("max_batches", max_batches, 0)
        with self._changed:
            # Not before it is known after how many micro-batches it ends.
            self._is_started = self._is_started or max_batches == 0
            while self._query is None and self._error is None and not self._is_stopped:
                self._changed.wait(0.1)  # Ctrl-C is heard between two waits.
        if self._error is not None:
            raise self._error
        return 0 if self._query is None else self._query.await_termination(max_batches)

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            if self._query is not None:
                self._query.stop()
            self._changed.notify_all()

    def progress(self) -> dict[str, Any]:
        if self._query is not None:
            return self._query.progress()
        status = "failed" if self._error else "stopped" if self._is_stopped else "running" if self._is_started else "created"
        return {"query_id": "", "status": status, "batches_pulled": 0, "batches_processed": 0, "rows_processed": 0}

    def snapshot_json(self) -> str:
        return json.dumps(self.progress())


def mentions(sql: str, name: str) -> bool:
    """Returns true if a statement may read a view of this name."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql, re.IGNORECASE) is not None
