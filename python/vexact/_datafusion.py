"""The door into contexts of the PyPI package `datafusion`: functions, and the replicas of engines as tables."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _native
from .errors import MissingDependencyError
from .session import Session

if TYPE_CHECKING:
    import datafusion


def _package() -> Any:
    """Returns the package `datafusion`.

    Raises `MissingDependencyError` if it is not installed, `ImportError` for another major version.
    """
    expected = _native.datafusion_version()
    try:
        import datafusion
    except ImportError as error:
        raise MissingDependencyError(
            f"the package datafusion is missing: expected version {expected} (pip install 'vexact[datafusion]')"
        ) from error
    got = str(datafusion.__version__)
    if got.partition(".")[0] != str(expected):
        raise ImportError(
            f"vexact fits datafusion {expected}: expected the package datafusion in that major version, got {got}"
        )
    return datafusion


def register(ctx: datafusion.SessionContext) -> None:
    """Registers the vector functions with a context of the package `datafusion`: the table functions `vector_search` and
    `vector_join`, and the distance functions. Idempotent.

    A table function reads its tables into memory and runs when a statement that calls it is planned.

    Raises `ImportError` if the package's major version is not the one that this build fits, or if it is missing.
    """
    package = _package()
    if not isinstance(ctx, package.SessionContext):
        raise TypeError(f"ctx: expected a datafusion.SessionContext, got {type(ctx).__name__}")
    for scalar in _native.datafusion_functions():
        ctx.register_udf(package.udf(scalar))
    for name, tables in (("vector_search", (0,)), ("vector_join", (0, 2))):
        # DataFusion does not fold the case of a table function's name.
        for spelled in (name, name.upper()):
            ctx.register_udtf(package.udtf(_table_function(name, tables), spelled, with_session=True))


def _table_function(name: str, tables: tuple[int, ...]) -> Callable[..., Any]:
    """Returns a table function for a context: its result is a table in memory."""

    def function(*arguments: Any, session: Any) -> Any:
        values = [_value(name, argument) for argument in arguments]
        # The calling thread plans a statement of the context, and cannot run another one.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: session.from_arrow(_answer(session, name, tables, values)).into_view()).result()

    return function


def _value(name: str, argument: Any) -> Any:
    """Returns the value of an argument."""
    expression = argument if hasattr(argument, "python_value") else _package().Expr(argument)
    try:
        value = expression.python_value()
    except Exception as error:
        raise ValueError(
            f"{name}: expected a value, got {expression}: DataFusion calls table functions before parameters have values "
            f"(vexact.{name}(ctx, ...) takes values)"
        ) from error
    return value.as_py() if hasattr(value, "as_py") else value


def _answer(ctx: Any, name: str, tables: tuple[int, ...], values: list[Any]) -> pa.Table:
    """Runs a table function over tables of a context, in a session of its own."""
    session = Session()
    for position in tables:
        if position < len(values) and isinstance(values[position], str):
            table = values[position]
            session.create_temp_view(table, session.create_dataframe_from_arrow(ctx.table(table)))
    while values and values[-1] is None:
        values.pop()
    vectors = [value for value in values if _is_vector(value)]
    count = iter(range(1, len(vectors) + 1))
    given = ", ".join(f"${next(count)}" if _is_vector(value) else _literal(value) for value in values)
    return session.sql(f"SELECT * FROM {name}({given})", vectors or None).to_arrow()


def _is_vector(value: Any) -> bool:
    return not isinstance(value, str | bytes) and hasattr(value, "__len__")


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def vector_search(
    ctx: datafusion.SessionContext,
    table: str,
    column: str,
    query: Any,
    top_k: int = 10,
    metric: str = "cosine",
    *,
    filter: str | None = None,
    min_score: float | None = None,
    group_by: str | None = None,
) -> datafusion.DataFrame:
    """Searches a table of a context of the package `datafusion`, as the table function `vector_search` does, which
    `register` registers. The table is read into memory, and the search runs before the call returns.

    table, column: the names of the table and of its vector column.
    query: one vector, a sequence of numbers or an array.
    filter: a predicate on the table's columns, with DataFusion's and vexact's own functions.
    min_score: only rows whose score is at least this.
    group_by: the best `top_k` of each value of this column.

    Returns a `datafusion.DataFrame`: the table's columns and `score`, best first.
    """
    _package()
    values = [table, column, query, int(top_k), metric, filter, min_score, group_by]
    return ctx.from_arrow(_answer(ctx, "vector_search", (0,), values))


def vector_join(
    ctx: datafusion.SessionContext,
    queries: str,
    query_column: str,
    table: str,
    column: str,
    top_k: int = 10,
    metric: str = "cosine",
) -> datafusion.DataFrame:
    """Searches a table of a context of the package `datafusion` with the vector of each row of another, as the table
    function `vector_join` does. Returns a `datafusion.DataFrame`."""
    _package()
    values = [queries, query_column, table, column, int(top_k), metric]
    return ctx.from_arrow(_answer(ctx, "vector_join", (0, 2), values))


class ReplicaTable:
    """A table of an engine, for other programs: a context of `datafusion` registers it (`ctx.register_table(name, table)`),
    and everything that reads the Arrow C stream reads it."""

    def __init__(self, provider: _native.ReplicaProvider) -> None:
        self._provider = provider

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self._provider.schema()

    def to_arrow(self) -> pa.Table:
        """The rows, as a `pyarrow.Table`."""
        return pa.Table.from_batches(self._provider.batches(), self.schema)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __datafusion_table_provider__(self, session: object) -> object:
        _package()
        return self._provider.__datafusion_table_provider__(session)

    def __repr__(self) -> str:
        return f"ReplicaTable({', '.join(self.schema.names)})"


class ReplicaSnapshot:
    """All tables of an engine at one version, for other programs: `ctx.register_catalog_provider("app", snapshot)` makes
    them `app.public.NAME`. Later writes are not seen."""

    def __init__(self, catalog: _native.ReplicaCatalog) -> None:
        self._catalog = catalog

    def tables(self) -> list[str]:
        """The names of the tables."""
        return self._catalog.names()

    def table(self, name: str) -> ReplicaTable:
        """One table at this version."""
        return ReplicaTable(self._catalog.table(name))

    def __datafusion_catalog_provider__(self, session: object) -> object:
        _package()
        return self._catalog.__datafusion_catalog_provider__(session)

    def __datafusion_schema_provider__(self, session: object) -> object:
        _package()
        return self._catalog.__datafusion_schema_provider__(session)

    def __repr__(self) -> str:
        return f"ReplicaSnapshot({', '.join(self.tables())})"
