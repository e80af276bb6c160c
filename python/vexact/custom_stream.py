"""Python iterables as sources of streams, and Python functions as sinks. Rows are buffered until
there are enough of them or enough time has passed, whichever is first."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Generic, TypeVar

import pyarrow as pa

from . import _arguments as check
from . import _native
from ._rows import Row, record_batch
from ._searches import SearchSession, check_session
from .errors import InvalidRequestError
from .stream import StreamingDataFrame

T = TypeVar("T")


@dataclass(frozen=True)
class CustomStreamEmitOptions:
    """The condition for emitting the buffered rows: `emit_rows` rows (at least 1), or
    `emit_interval_seconds` (at least 0) after the first of them, whichever is first. With an
    interval of 0, rows wait for no others; with `math.inf`, they are emitted by their number only.

    `ValueError` for other values, `TypeError` for an interval that is no number.
    """

    emit_interval_seconds: float = 1.0
    emit_rows: int = 1024

    def __post_init__(self) -> None:
        if isinstance(self.emit_rows, bool) or not isinstance(self.emit_rows, Integral) or int(self.emit_rows) < 1:
            raise ValueError(f"emit_rows: expected a whole number of at least 1, got {self.emit_rows!r}")
        object.__setattr__(self, "emit_rows", int(self.emit_rows))
        interval = check.number("emit_interval_seconds", self.emit_interval_seconds)
        if math.isnan(interval) or interval < 0:
            raise ValueError(f"emit_interval_seconds: expected at least 0, got {self.emit_interval_seconds!r}")


class CustomArrowStreamSource:
    """Turns the rows of any iterable, an endless one as well, into Arrow record batches.

    `schema`: the columns; without it the first batch decides, and a later row that does not fit is an error. Options as in
    `CustomStreamEmitOptions`.
    """

    def __init__(
        self, schema: pa.Schema | None = None, *, emit_interval_seconds: float = 1.0, emit_rows: int = 1024
    ) -> None:
        if schema is not None and not isinstance(schema, pa.Schema):
            raise check.wrong("schema", "a pyarrow.Schema or None", schema)
        self.schema = schema
        self.options = CustomStreamEmitOptions(emit_interval_seconds, emit_rows)

    def batches(self, rows: Iterable[Row]) -> ArrowBatches:
        """Yields the rows as record batches of at most `emit_rows` rows, in their order; all have
        one schema.

        A row is a mapping of names to values (a missing one is NULL) or, with a schema, a sequence of values in the order of its
        columns. The iterable is read in a thread of its own, at most `emit_rows` rows ahead of what was taken from here: the
        taker's pace is the iterable's. An exception of the iterable is raised here, after the rows that came before it.
        """
        return ArrowBatches(check.items("rows", rows, "an iterable of rows"), self.schema, self.options)


class CustomArrowStreamSink:
    """Hands Arrow rows to a function: `on_emit(table)` with a `pyarrow.Table` of at most `emit_rows` rows, never an empty one.

    It is called from one thread at a time. An exception of it ends the stream. Options as in `CustomStreamEmitOptions`.
    """

    def __init__(
        self, on_emit: Callable[[pa.Table], object], *, emit_interval_seconds: float = 1.0, emit_rows: int = 1024
    ) -> None:
        if not callable(on_emit):
            raise check.wrong("on_emit", "a function of a pyarrow.Table", on_emit)
        self.on_emit = on_emit
        self.options = CustomStreamEmitOptions(emit_interval_seconds, emit_rows)


def consume_arrow_batches_with_custom_sink(batches: Iterable[Any], sink: CustomArrowStreamSink) -> int:
    """Reads record batches (or tables) until they end, passes their rows to a sink, and returns the
    number of rows.

    `batches` may be a `pyarrow.RecordBatchReader`, or any iterable. It is read in a thread of its own, at most `emit_rows` rows
    (and one batch) ahead, so that rows that wait go on in time while the next ones are awaited. An exception of
    the iterable is raised here, after the rows that came before it.
    """
    check.instance("sink", sink, CustomArrowStreamSink)
    check.items("batches", batches, "an iterable of record batches")
    rows = 0
    most = sink.options.emit_rows
    # A batch that is longer than one emit is cut.
    pieces = (table.slice(start, most) for table in map(_table, batches) for start in range(0, table.num_rows, most))
    gathered = _Gathered(pieces, lambda table: table.num_rows, sink.options)
    try:
        for tables in gathered:
            for table in _cut(tables, most):
                sink.on_emit(table)
                rows += table.num_rows
    finally:
        gathered.close()
    return rows


def create_stream_from_custom_source(
    session: SearchSession,
    rows: Iterable[Row],
    *,
    schema: pa.Schema | None = None,
    emit_interval_seconds: float = 1.0,
    emit_rows: int = 1024,
) -> StreamingDataFrame:
    """Creates a stream of the rows of any iterable, also an endless one. Its micro-batches are
    those of `CustomStreamEmitOptions`.

    `rows` and `schema` as in `CustomArrowStreamSource.batches`; without a schema, this waits for the first batch, to know the
    columns. One query can read it, once. The query's pace is the iterable's. An exception of the iterable ends the query after
    the rows that came before: `await_termination` raises `ExecutionError`, with that exception as its cause. After a restart the
    stream goes on with what the iterable gives then.

    `InvalidRequestError` where there is neither a schema nor a row.
    """
    check_session(session)
    source = CustomArrowStreamSource(schema, emit_interval_seconds=emit_interval_seconds, emit_rows=emit_rows)
    return _stream(session, source.batches(rows), isinstance(rows, Sized))


def _stream(session: SearchSession, batches: ArrowBatches, is_bounded: bool) -> StreamingDataFrame:
    schema = batches.schema
    if schema is None:
        raise InvalidRequestError("rows: expected at least one, to know the columns, got none; give the stream a schema")
    return StreamingDataFrame(_native.stream_from_python(session._native, batches, schema, is_bounded))


def _table(batch: Any) -> pa.Table:
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, pa.RecordBatch):
        return pa.Table.from_batches([batch])
    raise check.wrong("batches", "pyarrow record batches or tables", batch)


def _cut(tables: list[pa.Table], most: int) -> Iterator[pa.Table]:
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise InvalidRequestError(f"batches: expected record batches of one schema: {error}") from error
    for start in range(0, table.num_rows, most):
        yield table.slice(start, most)


class ArrowBatches:
    """An iterator of record batches over a custom source's rows. `close()` ends it from any thread,
    also while it waits."""

    def __init__(self, rows: Iterable[Row], schema: pa.Schema | None, options: CustomStreamEmitOptions) -> None:
        self._schema = schema
        self._gathered = _Gathered(rows, lambda _row: 1, options)
        self._first: pa.RecordBatch | None = None

    @property
    def schema(self) -> pa.Schema | None:
        """The columns. If none are given, they are those of the first batch, for which this waits.
        None if there are no rows at all."""
        if self._schema is None:
            self._first = next(self, None)
        return self._schema

    def __iter__(self) -> ArrowBatches:
        return self

    def __next__(self) -> pa.RecordBatch:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._batch(next(self._gathered))

    def poll(self, wake: Callable[[], None]) -> pa.RecordBatch | float | None:
        """Returns the next batch without waiting for it; None at the end.

        Where there is none yet: the seconds after which to ask again at the latest, unless `wake` is called before, from another
        thread. An exception of the iterable is raised.
        """
        if self._first is not None:
            first, self._first = self._first, None
            return first
        rows = self._gathered.poll(wake)
        return self._batch(rows) if isinstance(rows, list) else rows

    def _batch(self, rows: list[Row]) -> pa.RecordBatch:
        try:
            batch = record_batch(rows, self._schema)
        except BaseException:
            self.close()
            raise
        self._schema = batch.schema
        return batch

    def close(self) -> None:
        """Closes the iteration; the iterable is not read further."""
        self._gathered.close()


class _Gathered(Generic[T]):
    """Buffers the rows that a thread reads from an iterable, in lists: each has `emit_rows` rows
    (by `weigh`), or those of the interval."""

    def __init__(self, items: Iterable[T], weigh: Callable[[T], int], options: CustomStreamEmitOptions) -> None:
        self._weigh = weigh
        self._options = options
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._weight = 0
        self._since = 0.0
        self._is_read = False
        self._is_closed = False
        self._error: BaseException | None = None
        self._wake: Callable[[], None] | None = None
        # Started when something is asked for. A daemon: an iterable that waits for ever must not keep the program alive.
        self._thread: threading.Thread | None = threading.Thread(
            target=self._read, args=(items,), name="vexact-custom-stream", daemon=True
        )

    def _read(self, items: Iterable[T]) -> None:
        error: BaseException | None = None
        try:
            iterator = iter(items)
            while self._has_room():
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                with self._changed:
                    if not self._waiting:
                        self._since = time.monotonic()
                    self._waiting.append(item)
                    self._weight += self._weigh(item)
                    self._notify()
        except BaseException as raised:  # It is raised where the rows are taken, of whatever kind.
            error = raised
        with self._changed:
            self._error = error
            self._is_read = True
            self._notify()

    def _has_room(self) -> bool:
        """Waits for room in the buffer. Returns False once no more rows are needed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._weight < self._options.emit_rows)
            return not self._is_closed

    def __iter__(self) -> _Gathered[T]:
        return self

    def __next__(self) -> list[T]:
        with self._changed:
            while True:
                ready = self._ready()
                if isinstance(ready, list):
                    return ready
                if ready is None:
                    raise StopIteration
                self._changed.wait(None if ready > threading.TIMEOUT_MAX else ready)

    def poll(self, wake: Callable[[], None]) -> list[T] | float | None:
        """As `__next__`, without waiting: see `ArrowBatches.poll`."""
        with self._changed:
            self._wake = wake
            return self._ready()

    def _ready(self) -> list[T] | float | None:
        """Returns the rows to emit now, or the seconds until the buffered rows are due without
        further input; None at the end."""
        if self._is_closed:
            return None
        if self._thread is not None:
            thread, self._thread = self._thread, None
            thread.start()
        left = self._since + self._options.emit_interval_seconds - time.monotonic() if self._waiting else math.inf
        is_due = self._is_read or self._weight >= self._options.emit_rows or left <= 0
        if self._waiting and is_due:
            taken, self._waiting, self._weight = self._waiting, [], 0
            self._notify()
            return taken
        if self._is_read:
            error, self._error = self._error, None
            if error is not None:
                raise error
            return None
        return left

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._waiting = []
            self._weight = 0
            self._notify()
