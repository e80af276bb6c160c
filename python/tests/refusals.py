"""Values that an argument does not take, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vexact

THING = object()
# What is no text, no whole number, no number, no flag, no path, no list; each with some that are nearly one.
NO_TEXT = [None, 3, 2.5, True, b"x", ["x"], {"x": "y"}, THING, np.int64(3), str]
NO_INT = [None, 2.5, True, "3", b"3", [3], {}, THING, np.float64(3.0), np.array([1, 2]), np.bool_(True), int]
NO_NUMBER = [None, True, "3", b"3", [3], THING, np.array([1.0, 2.0]), float]
NO_FLAG = [None, 1, 0.0, "yes", [], THING, np.int64(1)]
NO_PATH = [None, 3, 2.5, True, b"x", ["x"], {}, THING, Path]
NO_LIST = [3, 2.5, True, b"x", {"x": 1}, THING, np.int64(3), list]
NO_THING = [None, 3, "x", b"x", [], {}, THING, np.array([1]), type]
BROKEN = "\ud800"
"""Half of a character, which no UTF-8 has."""


def got(value: Any) -> str:
    return f"got the class {value.__name__}" if isinstance(value, type) else f"got {type(value).__name__}"


def refused(call: Callable[[], Any], *says: str, kind: type[Exception] = ValueError) -> None:
    """The call raises an error of the package or a built-in one for bad arguments; its message has each of the words."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is TypeError or isinstance(caught.value, (ValueError, vexact.VexactError))
    assert not isinstance(caught.value, UnicodeError)
    for word in says:
        assert word in str(caught.value), str(caught.value)


def refused_types(call: Callable[[Any], Any], name: str, values: list[Any]) -> None:
    """A call with each of these values for the argument is a TypeError."""
    for value in values:
        refused(lambda: call(value), f"{name}", "expected", got(value), kind=TypeError)
