"""Embedding functions by name, and `embed('name', $1)` in SQL.

A call of `embed` is replaced by a parameter with the vector before the statement is planned, so a function is called once for a
statement, with all texts of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arguments as check
from .errors import InvalidRequestError

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Function:
    """A function of texts: a callable, or an object with `embed_documents` and `embed_query`."""

    def __init__(self, name: str, function: Any, dim: int, batch: int) -> None:
        self.name, self.dim, self.batch = name, dim, batch
        self._documents: Callable[[list[str]], Any]
        self._query: Callable[[str], Any] | None = None
        if callable(getattr(function, "embed_documents", None)):
            self._documents = function.embed_documents
            self._query = getattr(function, "embed_query", None)
        else:
            self._documents = check.function("function", function)

    def documents(self, texts: Sequence[str]) -> Vectors:
        """Returns a vector for each text; calls the function with at most `batch` texts at a time."""
        vectors = np.empty((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), self.batch):
            some = list(texts[start : start + self.batch])
            vectors[start : start + len(some)] = self._checked(self._documents(some), len(some))
        return vectors

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Returns a vector for each text of a query."""
        if self._query is None:
            return self.documents(texts)
        return self._checked([self._query(text) for text in texts], len(texts))

    def _checked(self, result: Any, count: int) -> Vectors:
        of = f"embedding {self.name!r}"
        if hasattr(result, "__await__"):
            close = getattr(result, "close", None)
            if close is not None:
                close()
            raise TypeError(f"{of}: expected a function that returns vectors, got a coroutine function")
        try:
            vectors = np.asarray(result, np.float32)
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"{of}: expected {count} vectors of {self.dim} components: {error}") from error
        if vectors.shape != (count, self.dim):
            got = " x ".join(map(str, vectors.shape)) or "a number"
            raise InvalidRequestError(f"{of}: expected {count} vectors of {self.dim} components, got {got}")
        return vectors


class Embeddings:
    """The embedding functions of a session or an engine, by name."""

    def __init__(self) -> None:
        self._functions: dict[str, Function] = {}

    def register(self, name: object, function: Any, dim: object, batch: object) -> None:
        """Adds a function, or replaces the one of this name."""
        known = check.text("name", name)
        if not known:
            raise InvalidRequestError("name: expected a name, got an empty text")
        self._functions[known] = Function(known, function, check.whole("dim", dim, 1), check.whole("batch", batch, 1))

    def find(self, name: object) -> Function:
        found = self._functions.get(check.text("name", name))
        if found is None:
            known = ", ".join(map(repr, self._functions)) or "none is"
            raise InvalidRequestError(f"embedding {name!r}: expected a registered one ({known}): register_embedding adds it")
        return found

    def embed(self, name: object, texts: object) -> Vectors:
        """Returns the vector of a text, or one for each of several texts."""
        function = self.find(name)
        if isinstance(texts, str):
            vector: Vectors = function.queries([check.text("texts", texts)])[0]
            return vector
        return function.documents([check.text("texts", text, "a str or a list of str") for text in check.items("texts", texts, "a str or a list of str")])

    def folded(self, sql: str, params: Any) -> tuple[str, Any]:
        """Returns a statement and its parameters with each `embed('name', text)` replaced by a parameter, its vector."""
        statement = self.statement(sql)
        return (sql, params) if statement is None else (statement.sql, statement.bind([params])[0])

    def statement(self, sql: str) -> FoldedStatement | None:
        """Returns a statement without its calls of `embed`; None if there is none."""
        if not self._functions or "embed" not in sql.lower():
            return None
        return _fold(self, sql)


# SQL

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<text>'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*"|`[^`]*`|[^\W\d]\w*)
    |(?P<number>\d\w*)
    |(?P<cast>::)
    |(?P<parameter>\?\d*|[$:@]\w+)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
#: A word before `embed(...)` that makes it the name of a table.
_NAMES_FOLLOW = {"into", "table", "references", "on", "."}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def _tokens(sql: str) -> list[_Token]:
    found: Iterator[re.Match[str]] = _TOKEN.finditer(sql)
    return [_Token(str(match.lastgroup), match.group(), match.start(), match.end()) for match in found if match.lastgroup != "space"]


@dataclass(frozen=True)
class _Call:
    """`embed('function', argument)`: the argument is a text, or the parameter of this position or name."""

    function: str
    text: str | None
    parameter: int | str | None


@dataclass(frozen=True)
class FoldedStatement:
    """A statement whose calls of `embed` are parameters."""

    sql: str
    _embeddings: Embeddings
    _calls: list[_Call]
    #: The number of its parameters by position.
    _count: int
    #: For `?`: the new parameters in order, each an old position from 0 or a call. None: the vectors follow the old parameters.
    _order: list[int | _Call] | None

    def bind(self, rows: Sequence[Any]) -> list[Any]:
        """Returns the parameters of each row with the vectors."""
        texts: dict[str, dict[str, int]] = {}
        wanted = [[(call, self._text(call, params)) for call in self._calls] for params in rows]
        for calls in wanted:
            for call, text in calls:
                known = texts.setdefault(call.function, {})
                known.setdefault(text, len(known))
        vectors = {name: self._embeddings.find(name).queries(list(known)) for name, known in texts.items()}
        return [
            self._bound(params, {call: vectors[call.function][texts[call.function][text]] for call, text in calls})
            for params, calls in zip(rows, wanted)
        ]

    def _text(self, call: _Call, params: Any) -> str:
        if call.text is not None:
            return call.text
        of = f"embed({call.function!r}, {_shown(call.parameter)})"
        try:
            if params is None:
                raise LookupError
            value = params[call.parameter] if isinstance(call.parameter, str) else params[(call.parameter or 0) - 1]
        except (LookupError, TypeError):
            raise InvalidRequestError(f"{of}: expected a value of this parameter, got none") from None
        return check.text(of, value)

    def _bound(self, params: Any, vectors: Mapping[_Call, Vectors]) -> Any:
        if isinstance(params, Mapping):
            return {**params, **{_new_name(place): vectors[call] for place, call in enumerate(self._calls)}}
        given = [] if params is None else list(check.items("params", params, "a sequence or a mapping"))
        if len(given) < self._count:
            raise InvalidRequestError(f"params: expected {self._count} values, got {len(given)}")
        if self._order is None:
            bound = [*given[: self._count], *(vectors[call] for call in self._calls)]
        else:
            bound = [vectors[item] if isinstance(item, _Call) else given[item] for item in self._order]
        return bound + given[self._count :]


def _shown(parameter: int | str | None) -> str:
    return f"${parameter}"


def _new_name(place: int) -> str:
    return f"vexact_embedded_{place + 1}"


def _fold(embeddings: Embeddings, sql: str) -> FoldedStatement | None:
    tokens = _tokens(sql)
    parameters = [token for token in tokens if token.kind == "parameter"]
    is_bare = bool(parameters) and all(token.text == "?" for token in parameters)
    bare = {token.start: place for place, token in enumerate(parameters, start=1)} if is_bare else {}
    calls: list[tuple[int, int, _Call]] = []
    for at, token in enumerate(tokens[:-1]):
        is_call = token.kind == "name" and token.text.lower() == "embed" and tokens[at + 1].text == "("
        if is_call and not (at > 0 and tokens[at - 1].text.lower() in _NAMES_FOLLOW):
            calls.append((token.start, *_call(embeddings, sql, tokens, at, bare)))
    if not calls:
        return None
    found = [call for _, _, call in calls]
    if is_bare:
        order = _bare_order(parameters, calls)
        return FoldedStatement(_replaced(sql, calls, ["?"] * len(calls)), embeddings, found, len(parameters), order)
    numbers = [int(token.text[1:]) for token in parameters if token.text[1:].isdigit()]
    most = max(numbers, default=0)
    is_named = len(numbers) < len(parameters)
    marks = [f"${_new_name(place)}" if is_named else f"${most + place + 1}" for place in range(len(calls))]
    return FoldedStatement(_replaced(sql, calls, marks), embeddings, found, most, None)


def _call(embeddings: Embeddings, sql: str, tokens: list[_Token], at: int, bare: Mapping[int, int]) -> tuple[int, _Call]:
    """Returns the end of a call of `embed`, and the call."""
    parts = tokens[at + 2 : at + 6]
    shape = [part.kind if part.kind in ("text", "parameter") else part.text for part in parts]
    if len(parts) < 4 or shape[0] != "text" or shape[1] != "," or shape[2] not in ("text", "parameter") or shape[3] != ")":
        got = sql[tokens[at].start : tokens[at].start + 60].split("\n")[0]
        raise InvalidRequestError(
            f"embed: expected embed('name', text) with a text or a parameter, got {got}...: the texts of a column are embedded once, by "
            "HtapEngine.embed_column, and not by a query"
        )
    name = parts[0].text[1:-1].replace("''", "'")
    embeddings.find(name)
    argument = parts[2]
    if argument.kind == "text":
        return parts[3].end, _Call(name, argument.text[1:-1].replace("''", "'"), None)
    if argument.start in bare:
        return parts[3].end, _Call(name, None, bare[argument.start])
    if argument.text == "?":
        raise InvalidRequestError("embed: expected placeholders of one kind in a statement, got ? and others")
    known = argument.text[1:]
    return parts[3].end, _Call(name, None, int(known) if known.isdigit() else known)


def _bare_order(parameters: list[_Token], calls: list[tuple[int, int, _Call]]) -> list[int | _Call]:
    """Returns what each `?` of the folded statement takes: the parameter of a position from 0, or a call."""
    order: list[tuple[int, int | _Call]] = [(start, call) for start, _, call in calls]
    for place, token in enumerate(parameters):
        if not any(start <= token.start < end for start, end, _ in calls):
            order.append((token.start, place))
    return [item for _, item in sorted(order, key=lambda pair: pair[0])]


def _replaced(sql: str, calls: list[tuple[int, int, _Call]], marks: list[str]) -> str:
    pieces, end = [], 0
    for (start, stop, _), mark in zip(calls, marks):
        pieces += [sql[end:start], mark]
        end = stop
    return "".join([*pieces, sql[end:]])
