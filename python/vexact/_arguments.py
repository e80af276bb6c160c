"""Checks of arguments. An error names the argument, the expected value and the actual one.

What is of another type is a `TypeError`, a value that cannot be used an `InvalidRequestError`, which is a `ValueError`.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from .errors import InvalidRequestError

T = TypeVar("T")
SearchArguments = tuple[str, str, Any, int, str, str | None, list[str], Any, float | None, str | None]
TextArguments = tuple[str, str, str, int | None, str | None, list[str], Any, str]
FusionArguments = tuple[str, str, str, float, int | None, float, list[str] | None]


def wrong(name: str, expected: str, value: object) -> TypeError:
    """Returns the error for an argument of a wrong type."""
    got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    return TypeError(f"{name}: expected {expected}, got {got}")


def instance(name: str, value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        module = "vexact.bitable" if kind.__module__ == "vexact.bitable" else "vexact"
        raise wrong(name, f"a {module}.{kind.__name__}", value)
    return value


def text(name: str, value: object, expected: str = "a str") -> str:
    if not isinstance(value, str):
        raise wrong(name, expected, value)
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{name}: expected text of Unicode characters, got {value!a:.100}") from None
    return value


def one_character(name: str, value: object) -> str:
    character = text(name, value)
    if len(character) != 1:
        raise InvalidRequestError(f"{name}: expected one character, got {character!r:.100}")
    return character


def path(name: str, value: object) -> str:
    given = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(given, str):
        raise wrong(name, "a str or os.PathLike", value)
    try:
        os.fsencode(given)
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{name}: expected characters that a file's name can have, got {given!a:.100}") from None
    return given


def paths(name: str, value: object) -> list[str]:
    """Checks one path, or several."""
    if isinstance(value, (str, os.PathLike)):
        return [path(name, value)]
    expected = "a str or os.PathLike, or a list of these"
    if value is None or isinstance(value, (bytes, bytearray)):
        raise wrong(name, expected, value)
    return [path(name, item) for item in items(name, value, expected)]


def object_stores(name: str, value: object) -> list[tuple[str, list[tuple[str, str]]]]:
    """Checks options of object stores. Their values are in no message."""
    expected = "a mapping of URLs to mappings of options"
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise wrong(name, expected, value)
    stores = []
    for url, options in value.items():
        text(f"{name}: a URL", url)
        if not isinstance(options, Mapping):
            raise wrong(f"{name}: {url}", "a mapping of options", options)
        stores.append((url, [(text(f"{name}: {url}: an option", key), _option(name, url, key, of)) for key, of in options.items()]))
    return stores


def _option(name: str, url: str, key: str, value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise wrong(f"{name}: {url}: {key}", "a str, bool or int", value)
    return value


def flag(name: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise wrong(name, "a bool", value)
    return bool(value)


def integer(name: str, value: Any, expected: str = "an int") -> int:
    """Checks a whole number of any size, also one of numpy."""
    if not isinstance(value, (bool, np.bool_, type)):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise wrong(name, expected, value)


def whole(name: str, value: object, least: int, most: int = 2**63 - 1) -> int:
    number = integer(name, value)
    if not least <= number <= most:
        limit = f"of at least {least}" if number < least else f"of at most {most}"
        raise InvalidRequestError(f"{name}: expected a whole number {limit}, got {number}")
    return number


def number(name: str, value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise wrong(name, "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise InvalidRequestError(f"{name}: expected a number within float64, got a larger one") from None


def seconds(name: str, value: object) -> float | None:
    """Checks a time above 0; None is no limit."""
    if value is None:
        return None
    time = number(name, value)
    if not 0 < time < 1e9:
        raise InvalidRequestError(f"{name}: expected a number of seconds above 0 and below 1e9, got {value!r}")
    return time


def items(name: str, value: Any, of: str) -> Iterable[Any]:
    """Checks an iterable of several things. Text and mappings are rejected: iterating over them is
    never intended."""
    kind = type(value)
    is_iterable = hasattr(kind, "__iter__") or (hasattr(kind, "__getitem__") and hasattr(kind, "__len__"))
    if not is_iterable or isinstance(value, (str, bytes, bytearray, Mapping, type)):
        raise wrong(name, of, value)
    iterable: Iterable[Any] = value
    return iterable


def mapping(name: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise wrong(name, "a mapping", value)
    return value


def texts(name: str, value: object) -> list[str]:
    """Checks a list of texts; a single text is a list of one."""
    if isinstance(value, str):
        return [text(name, value)]
    expected = "a str or a list of str"
    return [text(name, item, expected) for item in items(name, value, expected)]


def function(name: str, value: Callable[..., Any]) -> Callable[..., Any]:
    if not callable(value):
        raise wrong(name, "a function", value)
    return value


def statement(name: str, value: object) -> tuple[str, Any]:
    """Checks a statement and its parameters, which are None for a text alone."""
    expected = "a SQL text or a pair of it and its parameters"
    if not isinstance(value, (tuple, list)):
        return text(name, value, expected), None
    if len(value) != 2:
        raise InvalidRequestError(f"{name}: expected {expected}, got {len(value)} items")
    return text(name, value[0], expected), value[1]


def search(
    table: object,
    column_name: str,
    column: object,
    query: Any,
    top_k: object,
    metric: object,
    filter: object,
    params: Any,
    columns: object,
    min_score: object,
    group_by: object,
) -> SearchArguments:
    """Checks the arguments of a vector search and returns them as the native module takes them."""
    return (
        text("table", table),
        text(column_name, column),
        query,
        integer("top_k", top_k),
        text("metric", metric),
        None if filter is None else text("filter", filter, "a str or None"),
        [] if columns is None else texts("columns", columns),
        params,
        None if min_score is None else number("min_score", min_score),
        None if group_by is None else text("group_by", group_by, "a str or None"),
    )


def text_search(
    table: object,
    column: object,
    words: object,
    top_k: object,
    filter: object,
    params: Any,
    columns: object,
    query_syntax: object,
) -> TextArguments:
    """Checks the arguments of a text search and returns them as the native module takes them."""
    return (
        text("table", table),
        text("column", column),
        text("words", words),
        None if top_k is None else whole("top_k", top_k, 1),
        None if filter is None else text("filter", filter, "a str or None"),
        [] if columns is None else texts("columns", columns),
        params,
        text("query_syntax", query_syntax),
    )


def fusion(
    column_name: str,
    column: object,
    words_name: str,
    words: object,
    query_syntax: object,
    rrf_k: object,
    depth: object,
    weight: object,
    key: object,
) -> FusionArguments:
    """Checks the arguments of a fusion and returns them as the native module takes them."""
    return (
        text(column_name, column),
        text(words_name, words),
        text("query_syntax", query_syntax),
        number("rrf_k", rrf_k),
        None if depth is None else whole("depth", depth, 1),
        number("weight", weight),
        None if key is None else texts("key", key),
    )
