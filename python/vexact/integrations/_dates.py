"""Comparison of ISO 8601 dates in SQLite's SQL, to the microsecond.

Two dates with an offset are compared as instants; if one has none, the offset of the other is taken for both, so that what the clock
showed is compared.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from ._conditions import Condition, Field

_EPOCH = datetime(1970, 1, 1)

# Of the text `v`: its offset, what is before it, the seconds of that and its microseconds.
_PARTS = """
    SELECT z, CASE WHEN has_fraction THEN substr(b, 1, 19) ELSE b END AS s,
        CASE WHEN has_fraction THEN CAST(substr(substr(b, 21) || '000000', 1, 6) AS INTEGER) ELSE 0 END AS micros
    FROM (SELECT z, substr(v, 1, length(v) - length(z)) AS b, substr(v, 20, 1) IN ('.', ',') AS has_fraction FROM (
        SELECT v, CASE WHEN v GLOB '*[Zz]' THEN substr(v, -1)
            WHEN length(v) > 15 AND substr(v, -6) GLOB '[+-][0-9][0-9]:[0-9][0-9]' THEN substr(v, -6) ELSE '' END AS z
        FROM (SELECT {value} AS v WHERE {kind} = 'text' AND {value} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*')))
"""


def compares_dates(field: Field, operator: str, date: datetime) -> Condition:
    """`operator`: one of `=`, `<`, `<=`, `>`, `>=`. False where the field is not the text of a date."""
    parts = " ".join(_PARTS.format(value=field.value, kind=field.kind).split())
    wall = _since_epoch(date.replace(tzinfo=None))
    shown = f"(unixepoch(s), micros) {operator} (?, ?)"
    values: tuple[int, ...] = wall
    if date.tzinfo is not None:
        instant = _since_epoch(date.astimezone(timezone.utc).replace(tzinfo=None))
        shown = f"CASE WHEN z = '' THEN {shown} ELSE (unixepoch(s || z), micros) {operator} (?, ?) END"
        values = (*wall, *instant)
    return Condition(f"coalesce((SELECT {shown} FROM ({parts})), 0)", (*values, *field.params * 3))


def _since_epoch(date: datetime) -> tuple[int, int]:
    since = date - _EPOCH
    seconds = since // timedelta(seconds=1)
    return seconds, (since - timedelta(seconds=seconds)) // timedelta(microseconds=1)
