"""Sessions: isolated catalogs over the native engine."""

from __future__ import annotations

import inspect
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeAlias

import pyarrow as pa

from . import _arguments as check
from . import _native
from ._embeddings import Embeddings, Vectors
from ._inputs import LineMappings, as_arrow, csv_options, line_columns, probed
from ._searches import Frame, Params, SearchSession, T
from ._untyped import UntypedQuery, UntypedStream, mentions
from ._variables import missing_table, variable
from .custom_stream import CustomArrowStreamSink
from .errors import InvalidRequestError
from .excel import read_excel
from .explain import Explain
from .frame import DataFrame
from .stream import Columns, RealtimeStreamSink, RealtimeStreamSource, StreamingDataFrame, StreamingQuery, _options

Path = str | os.PathLike[str]
Paths = Path | Sequence[Path]
# The class has an attribute `_native`, so its annotations cannot name the module.
_NativeSession: TypeAlias = _native.Session


class Session(SearchSession):
    """One isolated catalog of views, with SQL and vector search over them. Safe from several threads; a context manager.

    `memory_limit_bytes` bounds what the operators of its queries, their results and the groups of its streams may hold (beyond,
    `ResourcesExhaustedError`; default: three quarters of the machine's memory); `target_partitions` is the number of partitions,
    so of threads, of a query (default: one per core). Both are at least 1 (else `InvalidRequestError`). `timeout`: the seconds
    that a query may run (beyond, `QueryTimeoutError`; default: as long as it takes). `scan_variables`: a table that a statement of `sql`
    names and the session lacks is looked for among the caller's variables: a frame of pandas, polars, pyarrow or vexact of that name.
    `tier`: what vector searches read first, the setting `vexact.tier`: `auto`, `off`, `i8` or `pca4`.

    `object_stores`: options of object stores by their URLs, `{"s3://bucket": {"access_key_id": ..., "secret_access_key": ...}}`,
    or `"s3://"` for all buckets. The keys are those of the kind of store: of S3 `access_key_id`, `secret_access_key`,
    `session_token`, `region`, `endpoint`, `allow_http`, `skip_signature`; of Google `service_account_key`,
    `service_account_path`; of Azure `account_name`, `account_key`, `sas_key`; of each `timeout` and `connect_timeout` of a
    request (`"30s"`), `max_retries` and `retry_timeout`. A store with options takes nothing from the environment; one without
    takes what its variables (`AWS_*`, `GOOGLE_*`, `AZURE_*`) have when it is first used. Options are in no plan, error or repr.

    `workers`: the addresses of processes `vexact worker` that read the Parquet files of its queries, under the same paths:
    `host:port`, `http://host:port`, `https://host:port`, or `dns:name:port` for all addresses of a name. Answers are those of a
    session without workers. `token` is the workers' token; `tls_ca` the path of a PEM file of the certificates that theirs are
    checked against. A query whose worker is lost starts again without it, `retries` times; then, and for a rejected token, it is
    a `SourceIOError` that names the worker. A query that searches, filters, aggregates, or sorts up to a limit a table in memory
    sends its rows to the workers; more than `ship_limit_bytes` of them are an `InvalidRequestError`.
    """

    def __init__(
        self,
        *,
        memory_limit_bytes: int | None = None,
        target_partitions: int | None = None,
        timeout: float | None = None,
        scan_variables: bool = True,
        object_stores: Mapping[str, Mapping[str, str | bool | int]] | None = None,
        tier: str = "auto",
        workers: str | Sequence[str] | None = None,
        token: str | None = None,
        tls_ca: Path | None = None,
        retries: int = 1,
        ship_limit_bytes: int = 64 << 20,
    ) -> None:
        self._scan_variables = check.flag("scan_variables", scan_variables)
        self._untyped: dict[str, RealtimeStreamSource] = {}
        self._embeddings = Embeddings()
        limits = {"memory_limit_bytes": memory_limit_bytes, "target_partitions": target_partitions}
        memory, partitions = (
            None if value is None else check.integer(name, value, "an int or None") for name, value in limits.items()
        )
        stores = check.object_stores("object_stores", object_stores)
        self._native = _native.Session(memory, partitions, check.seconds("timeout", timeout), stores, check.text("tier", tier))
        self._use_workers(workers, token, tls_ca, retries, ship_limit_bytes)

    def _use_workers(
        self,
        workers: str | Sequence[str] | None,
        token: str | None,
        tls_ca: Path | None,
        retries: int,
        ship_limit_bytes: int,
    ) -> None:
        times = check.whole("retries", retries, 0, 1000)
        limit = check.whole("ship_limit_bytes", ship_limit_bytes, 0, 1 << 40)
        if workers is None:
            for name, value in (("token", token), ("tls_ca", tls_ca)):
                if value is not None:
                    raise InvalidRequestError(f"{name}: expected it with workers, got it without")
            return
        addresses = [workers] if isinstance(workers, str) else list(workers)
        for address in addresses:
            if not isinstance(address, str):
                raise check.wrong("workers", "a str host:port, or several", address)
        if token is not None and not isinstance(token, str):
            raise check.wrong("token", "a str or None", type(token))
        certificates = None if tls_ca is None else check.path("tls_ca", tls_ca)
        self._native.use_workers(addresses, token, certificates, times, limit)

    @classmethod
    def _over(cls, native: _NativeSession, embeddings: Embeddings) -> Session:
        session = cls.__new__(cls)
        session._untyped = {}
        session._scan_variables = False
        session._embeddings = embeddings
        session._native = native
        return session

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def probe(self, path: Path) -> dict[str, Any]:
        """Detects the format of a file by its content and name. Only its beginning is read, and the
        footer of a Parquet file.

        The result has `path`; `kind` (csv, json, line, parquet, arrow, excel, or unknown) and `final_format` (csv, tsv,
        json_lines, json_array, line, parquet, arrow_file, arrow_stream, xlsx, or unknown); `delimiter` of a csv, else None;
        `score` (0 to 100) and `confidence` (high, medium, low, none); `schema`, a list of `{"name", "type"}`, or None where the
        columns are not known; `suggested_table_name`; `warnings`, what is odd in the file; and `candidates`, the forms that it
        may have, best first, each with `kind`, `final_format`, `score` and `reason`.

        What is odd in the content is a warning. `SourceNotFoundError` for a file that is not there.
        """
        found = self._native.probe(check.path("path", path))
        return probed(os.fspath(path), found)

    def read(self, path: Paths, **options: Any) -> DataFrame:
        """Reads a file by its content and name (see `probe`): Parquet, Arrow IPC, CSV, TSV, JSON
        lines, a JSON array, Excel, or lines of text, which are the column `line`. Text may be
        compressed (`.gz`, `.zst`), a pipe is read once, and a folder, a pattern or a list of these
        is its files, as `read_csv` says.

        `options` are those of the method that reads the form: of `read_csv`; `columns` and `format` of `read_json`; `mappings`
        and what else `read_line_file` takes; those of `read_excel`. `mappings` reads any text as lines. An option of another form
        is a `TypeError`.
        """
        paths = check.paths("path", path)
        if "mappings" in options:
            return self.read_line_file(path, **options)
        is_one_file = len(paths) == 1 and os.path.isfile(paths[0])
        suffix = pathlib.PurePath(paths[0]).suffix.lower()
        may_be_sheet = len(paths) == 1 and suffix in (".xlsx", ".xlsm") or is_one_file and not suffix
        if not options and not may_be_sheet:
            return DataFrame(self._native.read(paths))
        if not is_one_file and (len(paths) != 1 or os.path.exists(paths[0])):
            raise TypeError("read: expected the path of one file with options, which read_csv and the like take with any paths")
        found = self.probe(paths[0])
        if found["kind"] == "excel":
            return read_excel(self, paths[0], **options)
        if not options:
            return DataFrame(self._native.read(paths))
        if found["kind"] == "csv" and options.keys() <= _CSV_OPTIONS:
            return self.read_csv(path, **{"delimiter": found["delimiter"], **options})
        if found["kind"] == "json" and options.keys() <= {"columns", "format"}:
            return self.read_json(path, **{"format": found["final_format"], **options})
        known = {"csv": "those of read_csv", "json": "columns and format", "line": "mappings and those of read_line_file"}
        form = found["final_format"]
        raise TypeError(
            f"read: {paths[0]} is {form}, which takes {known.get(found['kind'], 'no options')}, got {', '.join(options)}"
        )

    def read_csv(
        self,
        path: Paths,
        delimiter: str = ",",
        *,
        header: bool = True,
        names: Sequence[str] | None = None,
        dtypes: Mapping[str, Any] | pa.Schema | None = None,
        null_values: str | Sequence[str] | None = None,
        quote: str | None = '"',
        escape: str | None = None,
        comment: str | None = None,
        skip_rows: int = 0,
        encoding: str = "utf-8",
        decimal: str = ".",
    ) -> DataFrame:
        """Reads delimited text, by default with a header line.

        A cell is kept whole or refused, with its line and column: the first 1000 rows of a file decide the types, and a later cell
        that is no whole value of its column's type is an `InvalidRequestError`; `dtypes` gives another. Integers beyond int64,
        numbers with leading zeros, and times of several offsets are text. An empty cell is NULL.

        A column whose cells are `[1 2 3]` or `[1,2,3]`, all of one length, becomes `FixedSizeList<float32>` (then the file is
        read at once; else it is read as queries need it). Most cells of the first 100 rows decide; empty ones are NULL, and
        components may be `NaN`, `inf` and `-inf`.

        `path`: a file, a folder (its `.csv` and `.tsv` files and those of its subfolders), a pattern (`*`, `?`, `**`), or a list of
        these, or a URL of an object store (`s3://`, `gs://`, `az://`, `https://`); all have the same columns. `.gz` and `.zst` are read as what is in them, and so is a pipe, once.

        - `delimiter`, `quote` (None: quotes are text), `escape`, `comment`: one ASCII character each;
        - `header`: whether the first row has the names; `names` gives them, or gives others; else `column_1` and so on;
        - `dtypes`: types by column, each one of SQL's by its name, one of pyarrow, or `int`, `float`, `str`, `bool`;
        - `null_values`: texts that stand for NULL besides the empty one;
        - `skip_rows`: lines in front that are left out;
        - `encoding`: `utf-8`, `utf-16`, `utf-16le`, `utf-16be`, `latin-1` or `windows-1252`;
        - `decimal`: what stands before the fraction of a number, `.` or `,`.

        An empty file is an `InvalidRequestError`: there is no header.
        """
        options = csv_options(
            delimiter, header, names, dtypes, null_values, quote, escape, comment, skip_rows, encoding, decimal
        )
        return DataFrame(self._native.read_csv(check.paths("path", path), options))

    def read_json(
        self, path: Paths, columns: Sequence[str] | None = None, format: str = "json_lines"
    ) -> DataFrame:
        """Reads JSON files of objects: one a line, or printed over several (`json_lines`), or in
        one array (`json_array`). `columns` selects; `path` is as in `read_csv`.

        The columns are those that any object has. A value is kept whole or refused: integers beyond int64 are unsigned or
        decimals; values of several kinds among the first 1000 objects are text, those that are no text as they are written; a
        later value of another kind is an `InvalidRequestError` with its line.

        A column of lists of numbers, all of one length, becomes vectors of float64 if any number in it is written with a
        fraction or an exponent. Lists of whole numbers alone stay `list<int64>`; searches take them too. A file of the other
        format and an empty one are an `InvalidRequestError`.
        """
        selected = None if columns is None else check.texts("columns", columns)
        return DataFrame(self._native.read_json(check.paths("path", path), selected, check.text("format", format)))

    def read_parquet(self, path: Paths) -> DataFrame:
        """Reads Parquet files lazily; `path` is as in `read_csv`. `InvalidRequestError` for a file
        that is not Parquet, such as an empty one.

        In an object store, footers are read now, and later the chunks of the columns that a query needs. Folders
        `name=value` below the folder or pattern are columns of the files in them.
        """
        return DataFrame(self._native.read_parquet(check.paths("path", path)))

    def read_arrow_file(self, path: Paths) -> DataFrame:
        """Reads Arrow IPC files, in the file or the stream format, lazily and batch by batch;
        `path` is as in `read_csv`.
        """
        return DataFrame(self._native.read_arrow_file(check.paths("path", path)))

    def read_line_file(
        self,
        path: Paths,
        mappings: LineMappings = (),
        mode: str = "split",
        split_delimiter: str = ",",
        regex_pattern: str = "",
        skip_empty_lines: bool = True,
    ) -> DataFrame:
        r"""Reads files whose lines are rows, lazily; `path` is as in `read_csv`.

        `mappings`: the columns, in their order: a sequence of `(column, field)` or `(column, field, type)`, or a dict
        `{column: field}` or `{column: (field, type)}`.

        - `mode="split"`: a field is a number, counting from 0, of the texts between `split_delimiter`;
        - `mode="regex"`: it is a group of `regex_pattern`, by number (0 is all that matches) or by name; without mappings, the
          named groups are the columns. The syntax is Rust's (as Python's, without look-around and back-references).

        A type is one of SQL's (`"BIGINT"`, `"DOUBLE"`, `"TIMESTAMP"`, `"STRING"`, `"VECTOR(3)"`, ...) or one of `int`, `float`,
        `str`, `bool`; without one, the first 1000 lines decide, as in a CSV file. White space around what is not text is left
        out. An empty text and a group that takes no part are NULL.

            session.read_line_file("a.log", [("at", 0, "TIMESTAMP"), ("level", 1)], split_delimiter="|")
            session.read_line_file("a.log", mode="regex", regex_pattern=r"^(?P<level>\w+) (?P<ms>\d+) ms")

        Raises `InvalidRequestError` for a line that does not match, that has too few fields, or whose value is not of its type,
        with file, line and text: when the query runs, or at once among the lines that decide the types.
        """
        options = (
            check.text("mode", mode),
            check.text("split_delimiter", split_delimiter),
            check.text("regex_pattern", regex_pattern),
            check.flag("skip_empty_lines", skip_empty_lines),
        )
        return DataFrame(self._native.read_line_file(check.paths("path", path), line_columns(mappings), *options))

    def tables(self) -> list[str]:
        """The names of the session's tables and views, in order."""
        return self._native.tables()

    def create_temp_view(
        self, name: str, frame: DataFrame | StreamingDataFrame | RealtimeStreamSink | CustomArrowStreamSink | Frame
    ) -> None:
        """Registers a name: of a frame for SQL and searches, of a stream for streaming SQL, or of a sink for its INSERT. A frame of
        pandas, polars or pyarrow is taken as it is now, as by `create_dataframe_from_arrow`. A view of the same name is replaced.
        `TypeError` for any other object.
        """
        check.text("name", name)
        self._untyped.pop(name, None)
        if isinstance(frame, UntypedStream) and frame.source._is_untyped:
            self._untyped[name] = frame.source
            frame.source._when_typed(lambda: self._name_typed(name, frame))
        elif isinstance(frame, StreamingDataFrame):
            _native.name_stream(self._native, name, frame._native)
        elif isinstance(frame, RealtimeStreamSink):
            _native.name_sink(self._native, name, frame._native)
        elif isinstance(frame, CustomArrowStreamSink):
            _native.name_python_sink(self._native, name, frame)
        elif isinstance(frame, DataFrame):
            self._native.create_temp_view(name, frame._native)
        else:
            expected = "a vexact.DataFrame, StreamingDataFrame, RealtimeStreamSink or CustomArrowStreamSink, or Arrow data"
            self._native.create_temp_view(name, self._frame_of("create_temp_view: frame", frame, expected)._native)

    def _name_typed(self, name: str, frame: UntypedStream) -> None:
        """Registers the name of a stream whose types have become known, unless the name was
        reassigned meanwhile."""
        if self._untyped.get(name) is frame.source:
            del self._untyped[name]
            _native.name_stream(self._native, name, frame._native)

    def create_stream_from_arrow(self, data: Any) -> StreamingDataFrame:
        """Creates a bounded stream of Arrow data: each record batch is a micro-batch. `data` as in
        `create_dataframe_from_arrow`."""
        return StreamingDataFrame(_native.stream_from_arrow(self._native, as_arrow(data)))

    def read_stream_csv_dir(self, path: Path, delimiter: str = ",") -> StreamingDataFrame:
        """Creates an unbounded stream of a folder of CSV files: each file that exists or arrives
        later is read once, whatever its name; waiting files are read in the order of their names.
        The first file with rows determines the columns, as in `read_csv`; `CREATE SOURCE TABLE`
        declares them.

        A file is read once it has stayed the same for 200 ms (or its time of modification is 2 s ago), as far as its records are
        whole; a last line without an end after 1 s; what is appended later as well. Names that begin with `.` or `_` or end with
        `~`, `.tmp`, `.temp`, `.part`, `.partial`, `.crdownload`, `.swp` are left alone: write a file under such a name and rename it.

        `SourceNotFoundError` for a folder that is not there; `InvalidRequestError` for one without such a file.
        """
        character = check.one_character("delimiter", delimiter)
        return StreamingDataFrame(_native.read_stream_csv_dir(self._native, check.path("path", path), character))

    def create_realtime_stream_source(
        self, columns: Columns | Sequence[str], *, high_watermark: int = 1024, low_watermark: int | None = None
    ) -> RealtimeStreamSource:
        """Creates a queue into a streaming query. `columns`: a `pyarrow.Schema`, a mapping of names
        to types, or (name, type) pairs; a type is a `pyarrow.DataType` or its name (`"int64"`,
        `"string"`, `"timestamp[ms]"`, `"vector(384)"`). Columns with names alone get the types of
        the first rows: a query over them may be started before, and is opened then."""
        return RealtimeStreamSource(columns, high_watermark=high_watermark, low_watermark=low_watermark)

    def read_realtime_stream_source(self, source: RealtimeStreamSource) -> StreamingDataFrame:
        """Returns the stream of the rows that are pushed into a source."""
        check.instance("source", source, RealtimeStreamSource)
        if source._is_untyped:
            return UntypedStream(source, lambda: _native.stream_of_source(self._native, source._native))
        return StreamingDataFrame(_native.stream_of_source(self._native, source._native))

    def create_realtime_stream_sink(
        self, *, high_watermark: int = 1024, low_watermark: int | None = None
    ) -> RealtimeStreamSink:
        """Creates a queue out of a streaming query: `create_temp_view` registers its name for
        INSERT, `StreamingDataFrame.write_stream` takes it."""
        return RealtimeStreamSink(high_watermark=high_watermark, low_watermark=low_watermark)

    def stream_sql(self, query: str) -> StreamingDataFrame:
        """Creates a stream by a SELECT over a stream: any SQL whose rows depend on a row of the
        stream (and of tables joined with it), or one aggregate with GROUP BY, and `WINDOW BY time
        EVERY ms [SLIDE ms] [LATENESS ms] AS name`. Each micro-batch yields the new results of the
        groups that it changed. It runs when it is written to a sink.

        `InvalidRequestError`, with the reason, for what cannot be done over a stream; ORDER BY, LIMIT and window functions
        need one that ends.
        """
        return StreamingDataFrame(_native.stream_sql(self._native, check.text("query", query)))

    def start_stream_sql(
        self,
        sql: str,
        trigger_interval_ms: float = 1000,
        checkpoint_path: Path = "",
        checkpoint_delivery_mode: str = "at-least-once",
        execution_mode: str = "single-process",
        local_workers: int = 1,
        max_inflight_partitions: int = 0,
    ) -> StreamingQuery:
        """Opens the query `INSERT INTO sink SELECT ...` over a stream, with its source, sink and
        checkpoint. `start` or `await_termination` runs it.

        At a trigger all input that has come is processed; `trigger_interval_ms` is the least time between two triggers.
        `checkpoint_path`: a folder, from which the same query goes on after a stop or a crash. `checkpoint_delivery_mode`:
        `at-least-once`, `best-effort` or `exactly-once` (from a CSV directory into a csv or json file). `execution_mode`:
        `single-process`, or `local-workers`, which divides a micro-batch into `local_workers` partitions, of which at most
        `max_inflight_partitions` (0: all) at a time run on threads, where that is faster.

        `InvalidRequestError` for SQL or columns that do not fit, with names and types.
        """
        mode = (checkpoint_delivery_mode, execution_mode, local_workers, max_inflight_partitions)
        options = _options(trigger_interval_ms, checkpoint_path, *mode)
        check.text("sql", sql)
        untyped = [source for name, source in self._untyped.items() if mentions(sql, name)]
        if untyped:
            return UntypedQuery(untyped[0], lambda: _native.start_stream_sql(self._native, sql, options))
        return StreamingQuery(_native.start_stream_sql(self._native, sql, options))

    def explain_stream_sql(
        self,
        sql: str,
        trigger_interval_ms: float = 1000,
        checkpoint_path: Path = "",
        checkpoint_delivery_mode: str = "at-least-once",
        execution_mode: str = "single-process",
        local_workers: int = 1,
        max_inflight_partitions: int = 0,
    ) -> Explain:
        """Returns the plan of a streaming SELECT or INSERT without running it."""
        mode = (checkpoint_delivery_mode, execution_mode, local_workers, max_inflight_partitions)
        options = _options(trigger_interval_ms, checkpoint_path, *mode)
        return Explain(*_native.explain_stream_sql(self._native, check.text("sql", sql), options))

    def sql(self, query: str, params: Params | None = None, *, timeout: float | None = None) -> DataFrame:
        """Runs one SQL statement (DataFusion's SQL and the vector functions). A SELECT runs when
        its rows are read, any other statement now.

        `CREATE TABLE t (id INT, v VECTOR(3))` and `CREATE TABLE t AS SELECT ...` are tables in memory.
        `CREATE TABLE t [(column type, ...)] USING csv OPTIONS (path: 'file.csv', delimiter: ';')` names a file: csv, tsv, json
        (`format`: json_lines or json_array), line (`mode`, `split_delimiter`, `regex_pattern`, `skip_empty_lines` and
        `mappings: 'column:field, column:field:TYPE'`), parquet (a file or a folder of files) and arrow. Declared columns have to
        be those of the file. `DROP TABLE` forgets the name and leaves the file.

        INSERT adds the rows of a statement all at once, or none: to tables in memory; to csv, tsv and json lines, by a new file
        with the rows behind in the place of the old one, so at the cost of its length; and to a folder of parquet, by one more
        file. CSV has no form for an empty text, which comes back as NULL. Arrow, line, a JSON array and a single parquet file
        take none.

        `params`: a sequence of values for `$1`, `$2`, ... or a mapping for `$name`; None, bool, int, float, str, bytes, vectors
        (lists of numbers, numpy arrays), dates and times. UPDATE, DELETE and MERGE are refused.

        `timeout`: the seconds that the statement may run, each time that its rows are asked for (beyond, `QueryTimeoutError`);
        None: as the session says.
        """
        limit = check.seconds("timeout", timeout)
        query, params = self._embeddings.folded(check.text("query", query), params)
        return self._with_variables(lambda: DataFrame(self._native.sql(query, params, limit)))

    def explain_sql(self, query: str, params: Params | None = None) -> Explain:
        """Returns the plan of a statement without running it."""
        query, params = self._embeddings.folded(check.text("query", query), params)
        return self._with_variables(lambda: Explain(*self._native.explain_sql(query, params)))

    def _with_variables(self, plan: Callable[[], T]) -> T:
        """Plans a statement; a table that the session lacks may be a frame in a variable of the caller, two calls above."""
        named: list[str] = []
        try:
            while True:
                try:
                    return plan()
                except InvalidRequestError as error:
                    name = missing_table(str(error)) if self._scan_variables else None
                    found = None if name is None or name in named else variable(sys._getframe(2), name)
                    if name is None or found is None:
                        raise
                    frame = found if isinstance(found, DataFrame) else self.create_dataframe_from_arrow(found)
                    self._native.create_temp_view(name, frame._native)
                    named.append(name)
        finally:
            # The plan has the frame.
            for name in named:
                self._native.drop_view(name)

    def register_embedding(self, name: str, function: Any, *, dim: int, batch: int = 64) -> None:
        """Adds an embedding function for `embed('name', $1)` in SQL: it is called once for a statement, before the statement is planned.

        `function`: takes a list of texts and returns as many vectors of `dim` components, as a list or an array; or an object with
        `embed_documents` and, for the texts of queries, `embed_query`, as LangChain's embeddings. It gets at most `batch` texts at a
        time. Its exceptions come through. A function of the same name is replaced.

            session.register_embedding("minilm", model.encode, dim=384)
            session.sql("SELECT title FROM vector_search('docs', 'embedding', embed('minilm', $1), 5)", ["a question"])
        """
        self._embeddings.register(name, function, dim, batch)

    def embed(self, name: str, texts: str | Sequence[str]) -> Vectors:
        """Returns the vector of a text by a registered embedding function, or those of several texts as rows (numpy, float32)."""
        return self._embeddings.embed(name, texts)


_CSV_OPTIONS = inspect.signature(Session.read_csv).parameters.keys() - {"self", "path"}
