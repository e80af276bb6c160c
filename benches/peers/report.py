"""The tables, as text and as Markdown, and the JSON record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from suite import FLOOR, Results, Row
from terms import GROUPS

Table = tuple[str, list[str], list[list[str]]]
"""Title, column names, cells."""
_FLOAT_BYTES = 4


def _ms(value: float | None) -> str:
    """Milliseconds with three significant digits or more."""
    if value is None:
        return "-"
    decimals = next((d for d, least in enumerate((1000, 100, 1)) if value >= least), 3)
    return f"{value:.{decimals}f}"


def _ratio(row: Row) -> str:
    """`2.31`, or `-` when one side has no time."""
    return "-" if row.ratio is None else f"{row.ratio:.2f}"


def _remark(row: Row) -> str:
    """What a reader must know about the row: a loss, a wrong answer, an answer that differs in ties."""
    remarks = ["LOSS"] if row.is_loss else []
    if row.subject_answer.startswith("wrong"):
        remarks.append(f"VEXACT {row.subject_answer.upper()}")
    if row.peer_answer.startswith("wrong"):
        remarks.append(f"PEER {row.peer_answer.upper()}")
    elif row.peer_answer == FLOOR:
        remarks.append("a floor: part of the work")
    return ", ".join(remarks)


def _comparison(title: str, rows: Sequence[Row]) -> Table:
    """vexact against its peers."""
    cells = [[row.workload, _ms(row.subject_ms), row.peer, _ms(row.peer_ms), _ratio(row), _remark(row)] for row in rows]
    return title, ["workload", "vexact ms", "peer", "peer ms", "ratio (peer/vexact)", ""], cells


def _ways(rows: Sequence[Row]) -> Table:
    """vexact's own ways in: how much each costs over the Python call."""
    cells = []
    for row in rows:
        extra = None if row.peer_ms is None or row.subject_ms is None else row.peer_ms - row.subject_ms
        cells.append([row.workload, _ms(row.subject_ms), row.peer, _ms(row.peer_ms),
                      "-" if extra is None else f"{extra:+.3f}", _remark(row)])
    return "vexact's ways in", ["workload", "Python call ms", "way", "ms", "extra ms", ""], cells


def _limits(results: Results) -> Table:
    """vexact against the machine: bytes per second for one query, floating-point operations per second for a batch."""
    bandwidth = max(results.bandwidths)
    cells = []
    for row in results.rows:
        if row.peer_answer != FLOOR or row.subject_ms is None or row.ratio is None:
            continue
        products = row.rows_read * row.dim * 1e3 / row.subject_ms
        if row.batch == 1:
            rate = f"{products * _FLOAT_BYTES / 1e9:.1f} GB/s"
            share = f"{products * _FLOAT_BYTES / bandwidth:.2f}"
        else:
            rate, share = f"{2 * products * row.batch / 1e9:.1f} GFLOP/s", ""
        cells.append([row.workload, _ms(row.subject_ms), rate, f"{row.ratio:.2f} of {row.peer}", share])
    header = ["workload", "vexact ms", "rate", "share of the floor, in alternation", "share of the read bandwidth"]
    return "vexact and the limits", header, cells


def _tables(results: Results) -> list[Table]:
    """All tables that have rows."""
    first = {row.workload: i for i, row in reversed(list(enumerate(results.rows)))}
    by_workload = sorted(results.rows, key=lambda row: first[row.workload])
    by_group = {group: [row for row in by_workload if row.group == group] for group in GROUPS}
    tables = [_comparison("Kernel-level peers", by_group["kernel"]), _comparison("SQL-level peers", by_group["sql"]),
              _ways(by_group["ways"]), _limits(results)]
    return [table for table in tables if table[2]]


def _summary(results: Results, machine: dict[str, object]) -> list[str]:
    """The lines above the tables."""
    bandwidths = ", ".join(f"{value / 1e9:.1f}" for value in results.bandwidths)
    comparisons = [row for row in results.rows if row.is_comparison]
    losses = sum(row.is_loss for row in comparisons)
    return [
        f"{machine['cpu_model']}, {machine['threads']} threads, Python {machine['python']}, {machine['date']}",
        f"read bandwidth: {max(results.bandwidths) / 1e9:.1f} GB/s (measured: {bandwidths})",
        f"{len(comparisons)} comparisons, {losses} lost",
        *results.skipped,
    ]


def as_text(results: Results, machine: dict[str, object]) -> str:
    """Aligned columns for a terminal."""
    parts = ["\n".join(_summary(results, machine))]
    for title, header, cells in _tables(results):
        widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in [header, *cells]]
        parts.append("\n".join([title, "-" * len(title), *lines]))
    return "\n\n".join(parts) + "\n"


def as_markdown(results: Results, machine: dict[str, object]) -> str:
    """The same as Markdown, losses in bold."""
    parts = ["\n".join(f"- {line}" for line in _summary(results, machine))]
    for title, header, cells in _tables(results):
        lines = [header, ["---"] * len(header)]
        for line in cells:
            lines.append([f"**{cell}**" if cell.startswith("LOSS") else cell.replace("|", "\\|") for cell in line])
        parts.append("\n".join([f"### {title}", "", *("| " + " | ".join(line) + " |" for line in lines)]))
    return "\n\n".join(parts) + "\n"


def write_json(path: Path, results: Results, machine: dict[str, object], settings: dict[str, object]) -> None:
    """The whole record of a run."""
    record = {"machine": machine, "settings": settings, "read_bandwidth_bytes_per_s": results.bandwidths,
              "skipped": results.skipped, "rows": [asdict(row) | {"is_loss": row.is_loss} for row in results.rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
