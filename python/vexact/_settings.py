"""Settings of an engine, of the tables that it replicates, and of those that a sidecar follows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any

import pyarrow as pa

from . import _arguments as check
from . import _native
from .errors import InvalidRequestError

Path = str | os.PathLike[str]


@dataclass(frozen=True, init=False)
class TableSchema:
    """A replicated table: its columns, as `(name, type)` pairs or a mapping of names to types, and
    the names of its key's columns, or the name of one. The key `rowid`, if no column has that name,
    is SQLite's row id, for tables without a key.

    Types, in any case: int8, int16, int32|int, int64|bigint, uint8, uint16, uint32, uint64, float16|half, float32|float,
    float64|double, utf8|string|text, bool|boolean, binary|bytes, `vector(N)` (`float32[N]`), `float16[N]`, `int8[N]`, `uint8[N]`
    and `bit[N]`. In SQLite a vector is a BLOB of N little-endian float32, of N bytes (`int8[N]`, `uint8[N]`), or of N / 8 bytes
    (`bit[N]`, bit i of byte i // 8 counted from the least significant; N a multiple of 8).

    `ValueError`: an unknown type, a column named twice, a key that is missing or not among the columns. `TypeError`: what is no
    name, type or pair.
    """

    name: str
    columns: list[tuple[str, str]]
    pk: list[str]

    def __init__(self, name: str, columns: Iterable[tuple[str, str]] | Mapping[str, str], pk: Iterable[str]) -> None:
        pairs = columns.items() if isinstance(columns, Mapping) else check.items("columns", columns, _PAIRS)
        object.__setattr__(self, "name", check.text("name", name))
        object.__setattr__(self, "columns", [_pair(pair) for pair in pairs])
        object.__setattr__(self, "pk", check.texts("pk", pk))
        _native.check_table_schema(self.name, self.columns, self.pk)


@dataclass(frozen=True, init=False, repr=False)
class InferredSchema(TableSchema):
    """A `TableSchema` that `HtapEngine.infer_schema` read from SQLite. `reasons`: for each column where its type comes from. Its `repr` is
    the Python code of the schema with the reasons as comments."""

    reasons: dict[str, str]

    def __init__(self, name: str, columns: list[tuple[str, str]], pk: list[str], reasons: dict[str, str]) -> None:
        super().__init__(name, columns, pk)
        object.__setattr__(self, "reasons", reasons)

    def __repr__(self) -> str:
        return schema_code(self.name, self.columns, self.pk, self.reasons)


def schema_code(name: str, columns: Iterable[tuple[str, str]], pk: list[str], comments: Mapping[str, str]) -> str:
    """Returns the Python code of a schema, a column a line, each with a comment."""
    lines = [f"    {column!r}: {kind!r}," for column, kind in columns]
    width = max(map(len, lines), default=0)
    commented = [f"{line:<{width}}  # {comments[column]}" for line, (column, _) in zip(lines, columns)]
    return "\n".join([f"TableSchema({name!r}, {{", *commented, f"}}, pk={pk!r})"])


_PAIRS = "(name, type) pairs or a mapping of names to types"


def _pair(pair: Any, of: str = "columns") -> tuple[str, str]:
    """Returns a column's name and type."""
    if not isinstance(pair, (tuple, list)):
        raise check.wrong(of, _PAIRS, pair)
    if len(pair) != 2:
        raise InvalidRequestError(f"{of}: expected {_PAIRS}, got {pair!r:.100}")
    name, data_type = pair
    column = check.text(f"{of}: a name", name)
    # Some of pyarrow's types are called as ours are.
    return column, str(data_type) if isinstance(data_type, pa.DataType) else check.text(f"{of}: type of {column!r}", data_type)


@dataclass(frozen=True)
class TimestampTableConfig:
    """A table that a sidecar follows by its time columns.

    `table_name`: as the source has it; in PostgreSQL it may have a schema in front (`sales.orders`), which the replica's name
    has not. `primary_key`: the columns that name a row. `updated_at_column`: when a row was last changed: integers or reals (seconds,
    milliseconds, microseconds or nanoseconds since the Unix epoch, by their size, and Julian days), ISO-8601 text, a timestamp; rows
    where it is NULL are not seen. `created_at_column` decides only what is counted as an insert. `columns`: those to replicate
    besides the key's, all if empty. `column_types`: types given by hand, as in `TableSchema`, by the names of columns: a BLOB of vectors
    is `vector(N)`; the types of other columns are found in the source.

    `ValueError`: no key, a column named twice, an empty name. `TypeError`: what is no name.
    """

    table_name: str
    primary_key: list[str]
    created_at_column: str = "created_at"
    updated_at_column: str = "updated_at"
    columns: list[str] = field(default_factory=list)
    column_types: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("table_name", "created_at_column", "updated_at_column"):
            if not check.text(name, getattr(self, name)):
                raise InvalidRequestError(f"{name}: expected a name, got an empty text")
        for name in ("primary_key", "columns"):
            columns = check.texts(name, getattr(self, name))
            of = f"{name} of table {self.table_name!r}"
            if not columns and name == "primary_key":
                raise InvalidRequestError(f"{of}: expected at least one column, got none")
            for place, column in enumerate(columns):
                if not column:
                    raise InvalidRequestError(f"{of}: expected names, got an empty text")
                if column.lower() in map(str.lower, columns[:place]):
                    raise InvalidRequestError(f"{of}: expected each column once, got {column!r} twice")
            object.__setattr__(self, name, columns)
        types = self.column_types
        pairs = types.items() if isinstance(types, Mapping) else check.items("column_types", types, _PAIRS)
        object.__setattr__(self, "column_types", [_pair(pair, "column_types") for pair in pairs])


def _without_password(source: Path | None) -> Path | None:
    """Returns the address of a server with `***` in the place of its password."""
    if not isinstance(source, str) or "://" not in source:
        return source
    source = re.sub(r"^([^:]*://[^:@/]*):.*@", r"\1:***@", source, flags=re.DOTALL)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", source, flags=re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class HtapConfig:
    """The settings of an engine.

    `oltp_path`: the SQLite file, or `file:app.db?mode=ro`, by which it is followed and never written. `sync_mode`: `destructive` (a replica equals its table) or `temporal` (it keeps history, SCD type
    2). `storage_mode`: `inmemory` (copied from SQLite when the engine opens), or `arrow_ipc` or `parquet` files in the folder
    `storage_path`. `prune_after_sync`: whether the change log is cut to what replicas still need. `log_limit`: changes that the log takes
    while no engine reads it, after which the tables are copied anew; the file keeps it (None: what the file has, at first the number
    of their rows, and at least 100 000). `sync_batch_size`: changes of one sync cycle. `read_pool_size`: readers of SQLite at one time.
    `tier`: what vector searches read first: `auto` (sketches where they pay), `off` (the vectors), `i8` or `pca4` (that form of sketch).

    `sidecar_source`: a database that is followed and never written, a SQLite file or `postgres://user:password@host:port/database`, with
    `?sslmode=verify-full&sslrootcert=FILE` where the connection is to be safe from others; `sidecar_tables`: its tables. A sync cycle reads at most `sidecar_poll_batch_size` rows of each table.
    `sidecar_delete_detection`: `disabled`, or `soft_delete:<column>`: rows are gone while the column is set. With `sidecar_enable_oltp`
    the SQLite file `oltp_path` is opened beside it, for tables of the engine's own; without, all writes are refused.

    `ValueError`: a value that is not among these, or one that this version does not have. `TypeError`: a value of another type.
    """

    oltp_path: Path = "vexact.db"
    prune_after_sync: bool = True
    sync_batch_size: int = 1000
    read_pool_size: int = 4
    sync_mode: str = "destructive"
    olap_backend: str = "datafusion"
    storage_mode: str = "inmemory"
    storage_path: Path | None = None
    sidecar_source: Path | None = None
    sidecar_tables: list[TimestampTableConfig] | None = None
    sidecar_poll_batch_size: int = 500
    sidecar_delete_detection: str = "disabled"
    sidecar_enable_oltp: bool = False
    log_limit: int | None = None
    tier: str = "auto"

    def __repr__(self) -> str:
        # The address of a server may have a password.
        shown = {item.name: getattr(self, item.name) for item in fields(self)}
        shown["sidecar_source"] = _without_password(self.sidecar_source)
        return f"HtapConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __post_init__(self) -> None:
        for name in ("sync_batch_size", "read_pool_size", "sidecar_poll_batch_size", "log_limit"):
            value = getattr(self, name)
            if name == "log_limit" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) < 2**31:
                raise ValueError(f"{name}: expected a whole number of at least 1 and at most {2**31 - 1}, got {value!r}")
            object.__setattr__(self, name, int(value))
        for name in ("oltp_path", "storage_path", "sidecar_source"):
            if name == "oltp_path" or getattr(self, name) is not None:
                check.path(name, getattr(self, name))
        for name in ("sync_mode", "olap_backend", "storage_mode", "sidecar_delete_detection", "tier"):
            check.text(name, getattr(self, name))
        for name in ("prune_after_sync", "sidecar_enable_oltp"):
            object.__setattr__(self, name, check.flag(name, getattr(self, name)))
        if self.sidecar_source is not None:
            object.__setattr__(self, "sidecar_source", check.text("sidecar_source", os.fspath(self.sidecar_source)))
        if self.sidecar_tables is not None:
            tables = list(check.items("sidecar_tables", self.sidecar_tables, "a list of TimestampTableConfig"))
            for table in tables:
                if not isinstance(table, TimestampTableConfig):
                    raise ValueError(f"sidecar_tables: expected TimestampTableConfig, got {table!r}")
            object.__setattr__(self, "sidecar_tables", tables)
        _native.check_config(self)
