"""Streams: unbounded rows, the queries over them, and queues into and out of them."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from . import _arguments as check
from . import _native
from ._process import OfProcess
from ._rows import column_array
from .errors import InvalidRequestError
from .explain import Explain

_Options: TypeAlias = tuple[float, str | os.PathLike[str] | None, str, str, int, int]
Columns: TypeAlias = pa.Schema | Mapping[str, str | pa.DataType] | Sequence[tuple[str, str | pa.DataType]]


def _options(
    trigger_interval_ms: float,
    checkpoint_path: str | os.PathLike[str],
    checkpoint_delivery_mode: str,
    execution_mode: str,
    local_workers: int,
    max_inflight_partitions: int,
) -> _Options:
    return (
        check.number("trigger_interval_ms", trigger_interval_ms),
        (None if checkpoint_path is None else check.path("checkpoint_path", checkpoint_path)) or None,
        check.text("checkpoint_delivery_mode", checkpoint_delivery_mode),
        check.text("execution_mode", execution_mode),
        check.whole("local_workers", local_workers, 0),
        check.whole("max_inflight_partitions", max_inflight_partitions, 0),
    )

# A class that has an attribute `_native` cannot name the module in its annotations.
_StreamFrame: TypeAlias = _native.StreamFrame
_StreamingQuery: TypeAlias = _native.StreamingQuery


class StreamingDataFrame:
    """A stream of rows: of a source, or of a SELECT over one (`Session.stream_sql`).

    It runs when it is written to a sink: by `write_stream`, or by SQL, where `Session.create_temp_view` gives it a name.
    """

    _native = OfProcess[_native.StreamFrame]()

    def __init__(self, native: _StreamFrame) -> None:
        if not isinstance(native, _native.StreamFrame):
            raise check.wrong("StreamingDataFrame", "what a method of vexact.Session makes", native)
        self._native = native

    @property
    def schema(self) -> pa.Schema:
        """The columns' names and types."""
        return self._native.schema()

    @property
    def is_bounded(self) -> bool:
        """True if the input ends. ORDER BY, LIMIT and window functions need that."""
        return self._native.is_bounded()

    def write_stream(
        self,
        sink: RealtimeStreamSink,
        trigger_interval_ms: float = 1000,
        checkpoint_path: str | os.PathLike[str] = "",
        checkpoint_delivery_mode: str = "at-least-once",
        execution_mode: str = "single-process",
        local_workers: int = 1,
        max_inflight_partitions: int = 0,
    ) -> StreamingQuery:
        """Creates a query that writes the stream's rows into `sink`, not started. Options and
        errors are those of `Session.start_stream_sql`."""
        check.instance("sink", sink, RealtimeStreamSink)
        mode = (checkpoint_delivery_mode, execution_mode, local_workers, max_inflight_partitions)
        options = _options(trigger_interval_ms, checkpoint_path, *mode)
        return StreamingQuery(self._native.write(sink._native, options))

    def explain(self) -> Explain:
        """Returns the plan of a query over the stream without running it."""
        return Explain(*self._native.explain(_options(1000, "", "at-least-once", "single-process", 1, 0)))

    def __repr__(self) -> str:
        columns = ", ".join(f"{field.name}: {field.type}" for field in self.schema)
        return f"StreamingDataFrame({columns})"


class StreamingQuery:
    """A running INSERT of a stream into a sink. It works in threads of its own; the methods may be called from any thread.

    Dropping the last reference to it stops it.
    """

    _native = OfProcess[_native.StreamingQuery]()

    def __init__(self, native: _StreamingQuery) -> None:
        if not isinstance(native, _native.StreamingQuery):
            raise check.wrong("StreamingQuery", "what start_stream_sql or write_stream makes", native)
        self._native = native

    def start(self) -> None:
        """Starts the query. Harmless to repeat, also after its end."""
        self._native.start()

    def await_termination(self, max_batches: int = 0) -> int:
        """Starts the query unless it was started, and waits for its end: the end of its input,
        `stop`, or an error, which every call raises.

        `max_batches` above 0: it ends once it has processed that many micro-batches in all. Returns the number of micro-batches
        processed since it was opened. Ctrl-C ends the waiting at once with `KeyboardInterrupt`; the query goes on. An event time
        that is more than a day ahead of the clock, and closes all windows before it, is a `RuntimeWarning`.
        """
        processed = self._native.await_termination(check.whole("max_batches", max_batches, 0))
        if warning := self.progress().get("warning"):
            warnings.warn(warning, RuntimeWarning, stacklevel=2)
        return processed

    def stop(self) -> None:
        """Stops the query, also while it waits for input or for its sink. Returns at once; harmless
        to repeat."""
        self._native.stop()

    def progress(self) -> dict[str, Any]:
        """The progress of the query: `status` (`created`, `running`, `backpressure`, `restored`,
        `stopped`, `failed`), counters of micro-batches and rows, latencies in milliseconds, the
        size of its state, and the mode of its execution with the reason."""
        progress: dict[str, Any] = json.loads(self._native.snapshot_json())
        return progress

    def snapshot_json(self) -> str:
        """`progress` as JSON."""
        return self._native.snapshot_json()

    def __repr__(self) -> str:
        progress = self.progress()
        return f"StreamingQuery({progress['query_id']}, {progress['status']})"


class RealtimeStreamSource:
    """A queue into a streaming query: each record batch that is pushed is a micro-batch. Columns
    that are given by name alone get the types of the first rows.

    A push waits while `high_watermark` batches wait, until the query has brought them down to `low_watermark`. One query reads it
    at a time. Rows that a query has taken are gone: after a restart it goes on with the next ones.
    """

    _native = OfProcess[_native.RealtimeSource]()

    def __init__(
        self, columns: Columns | Sequence[str], *, high_watermark: int = 1024, low_watermark: int | None = None
    ) -> None:
        self._watermarks = _watermarks(high_watermark, low_watermark)
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []
        self._names = _names(columns)
        if self._names is None:
            self._native = _native.RealtimeSource(_schema(columns), *self._watermarks)

    @property
    def _is_untyped(self) -> bool:
        """True if the columns have names alone: the first rows that are pushed determine their
        types."""
        return self._names is not None

    def _when_typed(self, work: Callable[[], None]) -> None:
        """Calls a function once the types are known, at once if they are."""
        with self._lock:
            if self._names is not None:
                self._waiting.append(work)
                return
        work()

    def _typed(self, schema: pa.Schema) -> None:
        """Sets the types of the columns from the first rows."""
        with self._lock:
            if self._names is None:
                return
            # A column of NULLs alone has text.
            fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in schema]
            self._native = _native.RealtimeSource(_schema(pa.schema(fields)), *self._watermarks)
            self._names = None
            waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()

    @property
    def schema(self) -> pa.Schema:
        """The columns that rows must have. `InvalidRequestError` if they have names alone and no
        rows were pushed yet."""
        if self._names is not None:
            raise InvalidRequestError(f"columns {self._names}: their types are those of the first rows: expected rows, got none")
        return self._native.schema()

    def push_arrow(self, data: Any) -> None:
        """Pushes Arrow data (a record batch, a table, anything with `__arrow_c_stream__` or `__arrow_c_array__`): the columns by
        name and type, in any order, or `InvalidRequestError` with those expected and got; also after `close`."""
        if self._names is not None:
            if not isinstance(data, (pa.Table, pa.RecordBatch)):
                data = pa.table(data)
            if sorted(data.schema.names) != sorted(self._names):
                raise InvalidRequestError(f"columns: expected {self._names}, got {data.schema.names}")
            self._typed(pa.schema([data.schema.field(name) for name in self._names]))
        self._native.push(data)

    def push_rows(self, rows: Sequence[Mapping[str, Any] | Sequence[Any]]) -> None:
        """Pushes rows, as one micro-batch: mappings by column name (a missing one is NULL), or values in the columns' order.
        `InvalidRequestError` for a column or a value that does not fit."""
        names = self._names if self._names is not None else self.schema.names
        values: dict[str, list[Any]] = {name: [] for name in names}
        for place, row in enumerate(check.items("rows", rows, "a list of rows")):
            is_sequence = isinstance(row, (Sequence, np.ndarray)) and not isinstance(row, (str, bytes, bytearray))
            if not is_sequence and not isinstance(row, Mapping):
                raise check.wrong(f"rows: row {place}", "a mapping or a sequence of values", row)
            if isinstance(row, Mapping):
                if unknown := [name for name in row if name not in values]:
                    raise InvalidRequestError(f"rows: row {place}: expected columns of {names}, got {unknown[0]!r}")
                cells = [row.get(name) for name in names]
            elif len(row) == len(names):
                cells = list(row)
            else:
                raise InvalidRequestError(f"rows: row {place}: expected {len(names)} values, got {len(row)}")
            for name, cell in zip(names, cells, strict=True):
                values[name].append(cell)
        if self._names is not None:
            if not any(values.values()):
                return
            found = [column_array(name, column, None) for name, column in values.items()]
            self._typed(pa.schema([(name, array.type) for name, array in zip(values, found)]))
        schema = self.schema
        arrays = [column_array(field.name, values[field.name], field.type) for field in schema]
        self._native.push(pa.RecordBatch.from_arrays(arrays, schema=schema))

    def close(self) -> None:
        """Closes the input: a query ends once it has read all pushed rows. Harmless to repeat."""
        if self._names is not None:
            self._typed(pa.schema([(name, pa.null()) for name in self._names]))
        self._native.close()

    @property
    def closed(self) -> bool:
        """True if `close` was called."""
        return self._names is None and self._native.is_closed()

    def __len__(self) -> int:
        """Returns the number of batches that wait to be read."""
        return 0 if self._names is not None else len(self._native)


class RealtimeStreamSink:
    """A queue out of a streaming query. It has one record batch for each micro-batch that has rows.

    The query waits (`backpressure`) while `high_watermark` batches wait, until they are down to `low_watermark`.
    """

    _native = OfProcess[_native.RealtimeSink]()

    def __init__(self, *, high_watermark: int = 1024, low_watermark: int | None = None) -> None:
        self._native = _native.RealtimeSink(*_watermarks(high_watermark, low_watermark))

    def poll_arrow(self, timeout_seconds: float | None = 0) -> pa.RecordBatch | None:
        """Returns the next batch, waiting for it up to the timeout in seconds (None: without a
        limit). Returns None if no batch came in that time, and once the query has ended and all is
        read (`closed`)."""
        return self._native.poll(None if timeout_seconds is None else check.number("timeout_seconds", timeout_seconds))

    @property
    def closed(self) -> bool:
        """True if no more batches will come: the query has ended, and all is read."""
        return self._native.is_drained()

    def __iter__(self) -> RealtimeStreamSink:
        return self

    def __next__(self) -> pa.RecordBatch:
        """Returns the next batch, waiting for it; stops with the query."""
        batch = self._native.poll(None)
        if batch is None:
            raise StopIteration
        return batch

    def __len__(self) -> int:
        """Returns the number of batches that wait to be read."""
        return len(self._native)


def _watermarks(high: int, low: int | None) -> tuple[int, int | None]:
    return check.whole("high_watermark", high, 1), None if low is None else check.whole("low_watermark", low, 0)


_COLUMNS = "(name, type) pairs, a mapping or a pyarrow.Schema"


def _names(columns: Columns | Sequence[str]) -> list[str] | None:
    """Returns the columns' names if they are given without types."""
    if isinstance(columns, (str, bytes, pa.Schema, Mapping)) or not isinstance(columns, Sequence):
        return None
    names = [name for name in columns if isinstance(name, str)]
    if not names or len(names) != len(columns):
        return None
    _schema(pa.schema([(name, pa.null()) for name in names]))
    return names


def _schema(columns: Columns) -> pa.Schema:
    if not isinstance(columns, pa.Schema):
        pairs = columns.items() if isinstance(columns, Mapping) else check.items("columns", columns, _COLUMNS)
        columns = pa.schema([_field(pair) for pair in pairs])
    names = columns.names
    if not names:
        raise InvalidRequestError("columns: expected at least one, got none")
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise InvalidRequestError(f"columns: expected each name once, got {twice!r} twice")
    return columns


def _field(pair: Any) -> pa.Field:
    """Returns a column of a name and a type."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"columns: expected {_COLUMNS}, got {pair!r:.100}")
    name, data_type = check.text("columns: a name", pair[0]), pair[1]
    if isinstance(data_type, pa.DataType):
        return pa.field(name, data_type)
    of = f"columns: type of {name!r}"
    kind = check.text(of, data_type, "a pyarrow.DataType or the name of a type")
    try:
        return pa.field(name, pa.type_for_alias(kind.lower()))
    except ValueError:
        pass
    try:
        return pa.field(name, _native.column_type(kind))
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{of}: {error}") from None
