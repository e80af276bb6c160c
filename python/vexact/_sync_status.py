"""Results of a sync, and the state of replication."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SyncResult:
    """The outcome of a sync: changes applied, rows that really changed, changes removed from the log (None: none was)."""

    events_processed: int
    rows_inserted: int
    rows_updated: int
    rows_deleted: int
    pruned_count: int | None = None


@dataclass(frozen=True)
class TableStatus:
    """The state of one replica: its rows, changes not yet applied, `ready`, `not-loaded` or `failed`, and why it failed. `warning`:
    columns that a migration took from a replica that follows, rows of a source whose time cannot be right."""

    name: str
    rows: int
    lag: int
    state: str
    last_error: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class LogPosition:
    """The position of one engine in the change log: its name, the last row that it has applied, the rows after it, the folder of its
    replicas (None: in memory), and whether it runs, in any process."""

    id: str
    applied_seq: int
    lag: int
    folder: str | None
    is_running: bool


@dataclass(frozen=True)
class SyncStatus:
    """The state of replication: changes not yet applied, the last position of the log that was applied (None before the first
    sync), the last error, and each table by its name; the rows of the change log, and the engines that it is kept for."""

    lag: int
    last_synced_seq: int | None
    last_error: str | None
    tables: dict[str, TableStatus]
    log_rows: int = field(default=0, repr=False)
    positions: list[LogPosition] = field(default_factory=list, repr=False)
