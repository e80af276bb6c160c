"""Frames in the variables of a caller, found by the name of a table that a session lacks."""

from __future__ import annotations

import re
from types import FrameType
from typing import Any

from .frame import DataFrame

_MISSING = re.compile(r"""table ['"](?:datafusion\.public\.)?([^'".]+)['"] not found""")


def missing_table(problem: str) -> str | None:
    """Returns the name of the table that the error of a statement says is missing; None for another error."""
    found = _MISSING.search(problem)
    return None if found is None else found.group(1)


def variable(frame: FrameType | None, name: str) -> Any:
    """Returns the table that a variable of this name holds: of the function, or of its module; None if neither does.

    SQL has a name without quotes in lower case, so a variable is found in any case, unless two differ in that alone.
    """
    if frame is None:
        return None
    for scope in (frame.f_locals, frame.f_globals):
        if name in scope:
            return scope[name] if _is_table(scope[name]) else None
        alike = [value for key, value in scope.items() if key.lower() == name and _is_table(value)]
        if len(alike) == 1:
            return alike[0]
    return None


def _is_table(value: Any) -> bool:
    kind = type(value)
    if isinstance(value, DataFrame):
        return True
    return kind.__module__.split(".")[0] in ("pandas", "polars", "pyarrow") and hasattr(kind, "__arrow_c_stream__") and hasattr(value, "columns")
