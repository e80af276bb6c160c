"""Which data sets meet which workloads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from protocol import Workload
from terms import BUCKETS, GROUPS, METRICS


@dataclass(frozen=True)
class Source:
    """Where vectors come from: `rows` x `dim` synthetic ones, or the real file when `rows` is None."""

    rows: int | None = None
    dim: int | None = None


@dataclass(frozen=True)
class Section:
    """One group on one source."""

    group: str
    source: Source
    workloads: list[Workload]


@dataclass(frozen=True)
class Options:
    """What the command line chose; None means the default set."""

    groups: tuple[str, ...] = GROUPS
    data: str = "both"
    rows: tuple[int, ...] | None = None
    dims: tuple[int, ...] | None = None
    batches: tuple[int, ...] | None = None
    metrics: tuple[str, ...] | None = None
    selectivities: tuple[int, ...] | None = None
    k: int = 10
    quick: bool = False

    @property
    def largest_batch(self) -> int:
        """The most queries that any workload may ask at once."""
        return max(self.batches or (1, 16, 256))


_DEFAULT_KERNEL = {Source(100_000, 384): (1, 16, 256), Source(1_000_000, 384): (1,), Source(100_000, 768): (16, 256)}
_QUICK_KERNEL = {Source(100_000, 384): (1, 16)}
_DEFAULT_SQL = (Source(100_000, 384),)
_WAYS_SOURCES = (Source(1_000, 384), Source(100_000, 384))


def _chosen_sources(options: Options) -> list[Source] | None:
    """The synthetic sources named by --rows and --dims; None when neither was given."""
    if options.rows is None and options.dims is None:
        return None
    return [Source(rows, dim) for rows in options.rows or (100_000,) for dim in options.dims or (384,)]


def _kernel_batches(options: Options) -> dict[Source, tuple[int, ...]]:
    """Batch sizes for each source of the kernel group."""
    batches: dict[Source, tuple[int, ...]] = {}
    if options.data != "real":
        chosen = _chosen_sources(options)
        defaults = _QUICK_KERNEL if options.quick else _DEFAULT_KERNEL
        batches |= defaults if chosen is None else dict.fromkeys(chosen, (1, 16, 256))
    if options.data != "synthetic":
        batches[Source()] = (1, 16) if options.quick else (1, 16, 256)
    return batches if options.batches is None else dict.fromkeys(batches, options.batches)


def _sql_sources(options: Options) -> list[Source]:
    """Sources of the SQL group."""
    sources: list[Source] = []
    if options.data != "real":
        sources += _chosen_sources(options) or _DEFAULT_SQL
    if options.data != "synthetic":
        sources.append(Source())
    return sources


def _ways_sources(options: Options) -> list[Source]:
    """Sources of the ways group: tables so small that what is around the kernel shows."""
    return [Source()] if options.data == "real" else _chosen_sources(options) or list(_WAYS_SOURCES)


def sections(options: Options) -> Iterator[Section]:
    """All sections, those of one source together, so that it is loaded once."""
    metrics = options.metrics or (("cosine",) if options.quick else METRICS)
    buckets = [None if share == 100 else share * BUCKETS // 100 for share in options.selectivities or (100, 10, 1)]
    kernel = _kernel_batches(options) if "kernel" in options.groups else {}
    sql = _sql_sources(options) if "sql" in options.groups else []
    ways = _ways_sources(options) if "ways" in options.groups else []
    for source in dict.fromkeys([*kernel, *sql, *ways]):
        if source in kernel:
            yield Section("kernel", source, [Workload(m, b, options.k) for m in metrics for b in kernel[source]])
        if source in sql:
            yield Section("sql", source, [Workload(m, 1, options.k, b) for m in metrics for b in buckets])
        if source in ways:
            yield Section("ways", source, [Workload(m, 1, options.k) for m in metrics])
