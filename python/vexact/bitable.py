"""Feishu (Lark) Bitable tables as rows and as streams.

    client = vexact.bitable.BitableClient(app_id, app_secret)
    rows = client.list_records_from_url("https://example.feishu.cn/base/bascn...?table=tbl...&view=vew...")
    print(vexact.bitable.group_rows_count_by_field(rows, "Owner"))

Over the open API's list of records (`GET /open-apis/bitable/v1/apps/:app_token/tables/:table_id/records`), with the standard
library alone. A row is a dict of plain values, see `plain_value`.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _arguments as check
from ._bitable_url import BitableUrl, parse_bitable_url, table_path
from ._bitable_values import (
    Row,
    arrow_type,
    fit,
    found_schema,
    group_rows_by_field,
    group_rows_count_by_field,
    plain_row,
    plain_value,
)
from ._searches import SearchSession, check_session
from .custom_stream import CustomArrowStreamSource, _stream
from .errors import BitableClientError

if TYPE_CHECKING:
    from .stream import StreamingDataFrame

__all__ = [
    "FEISHU",
    "BitableClient",
    "BitableUrl",
    "Row",
    "create_stream_from_bitable",
    "group_rows_by_field",
    "group_rows_count_by_field",
    "parse_bitable_url",
    "plain_value",
]

FEISHU = "https://open.feishu.cn"
"""The open API of Feishu; that of Lark, outside China, is `https://open.larksuite.com`."""

_MAX_PAGE_SIZE = 500
_LONGEST_BODY_BYTES = 64 << 20
# A token is fetched anew this long before its end, so that it does not expire on the way.
_TOKEN_MARGIN_SECONDS = 60.0
_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 30.0
# A server that asks for a longer wait is reported, not waited for.
_LONGEST_WAIT_SECONDS = 300.0
# "tenant access token invalid" and what else a token that ended is answered with.
_TOKEN_CODES = {99991661, 99991663, 99991664, 99991668, 99991671, 99991677}
# Too many requests (of the gateway, of Bitable), data not ready.
_RETRY_CODES = {99991400, 1254290, 1254607}
# No such thing to be read by this app: fields may be forbidden where records are allowed.
_FORBIDDEN_CODES = {91403, 99991672, 99991679, 1254302}


class BitableClient:
    """A client for the tables of one Feishu app, with the app's own rights (a tenant access token). Safe from several threads.

    `request_timeout_seconds`: of each request. `base_url`: the open API's address (`https://open.larksuite.com` for Lark).
    `max_retries`: how often a request is sent again after 429, 5xx, a lost connection or a time-out, each time after a wait that
    doubles, with jitter, or that the server asks for (`Retry-After`, `x-ogw-ratelimit-reset`). `clock` (seconds, monotonic) and
    `sleep` can be replaced, as tests do.

    The token is kept until shortly before its end, and fetched anew once if the server says that it ended.
    """

    parse_bitable_url = staticmethod(parse_bitable_url)
    group_rows_by_field = staticmethod(group_rows_by_field)
    group_rows_count_by_field = staticmethod(group_rows_count_by_field)

    def __init__(
        self,
        app_id: str,
        app_secret: str,
        request_timeout_seconds: float = 10,
        *,
        base_url: str = FEISHU,
        max_retries: int = 5,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not check.text("app_id", app_id) or not check.text("app_secret", app_secret):
            raise ValueError("app_id, app_secret: expected those of a Feishu app, got an empty text")
        timeout = check.number("request_timeout_seconds", request_timeout_seconds)
        if not 0 < timeout < 1e9:
            raise ValueError(f"request_timeout_seconds: expected more than 0 and less than 1e9, got {request_timeout_seconds}")
        for name, function in (("clock", clock), ("sleep", sleep)):
            if not callable(function):
                raise check.wrong(name, "a function", function)
        check.text("base_url", base_url)
        if urllib.parse.urlsplit(base_url).scheme not in ("http", "https"):
            raise ValueError(f"base_url: expected an http or https address, got {base_url!r}")
        self._credentials = {"app_id": app_id, "app_secret": app_secret}
        self._timeout = timeout
        self._base_url = base_url.rstrip("/")
        self._max_retries = check.whole("max_retries", max_retries, 0)
        self._clock = clock
        self._sleep = sleep
        self._token = ("", 0.0)
        self._token_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"BitableClient({self._credentials['app_id']!r}, base_url={self._base_url!r})"

    def list_records(
        self,
        app_token: str,
        table_id: str,
        *,
        view_id: str | None = None,
        page_size: int = 100,
        on_page: Callable[[int, list[Row]], None] | None = None,
        max_rows: int | None = None,
    ) -> list[Row]:
        """Returns all records, or the first `max_rows`. Arguments, rows and errors are those of
        `iter_record_pages`.

        `on_page(number, rows)` is called with each page as it comes, counted from 1.
        """
        if on_page is not None and not callable(on_page):
            raise check.wrong("on_page", "a function of a page's number and rows", on_page)
        rows: list[Row] = []
        pages = self.iter_record_pages(app_token, table_id, view_id=view_id, page_size=page_size, max_rows=max_rows)
        for number, page in enumerate(pages, start=1):
            if on_page is not None:
                on_page(number, page)
            rows += page
        return rows

    def list_records_from_url(
        self,
        url: str,
        *,
        page_size: int = 100,
        on_page: Callable[[int, list[Row]], None] | None = None,
        max_rows: int | None = None,
    ) -> list[Row]:
        """Returns the records as `list_records` does, for a table's address in the browser (see
        `parse_bitable_url`). The address's view determines the rows."""
        table = self._locate(url)
        return self.list_records(
            table.app_token, table.table_id, view_id=table.view_id, page_size=page_size, on_page=on_page, max_rows=max_rows
        )

    def iter_record_pages(
        self,
        app_token: str,
        table_id: str,
        *,
        view_id: str | None = None,
        page_size: int = 100,
        max_rows: int | None = None,
    ) -> Iterator[list[Row]]:
        """Yields the records page by page. A page is fetched when it is needed, and empty pages are
        skipped.

        A row is a dict of the fields that the record has a value for, as `plain_value` makes it, and `record_id` (but for a table
        with a field of that name). `page_size`: 1 to 500. Only the view's records if `view_id` is given.

        Raises `BitableClientError` where the server refuses, cannot be reached or answers rubbish; `ValueError` for a bad argument.
        """
        query = {"page_size": str(check.whole("page_size", page_size, 1, _MAX_PAGE_SIZE))}
        if view_id is not None and check.text("view_id", view_id, "a str or None"):
            query["view_id"] = view_id
        most = None if max_rows is None else check.whole("max_rows", max_rows, 0)
        return self._rows(self._items(f"{table_path(app_token, table_id)}/records", query), most)

    def table_schema(self, app_token: str, table_id: str) -> pa.Schema:
        """Returns the columns of a table by its fields' types, `record_id` first.

        Text, single selects, phone numbers, links, locations and formulas of text are string; numbers double; checkboxes bool;
        times timestamp[ms, UTC]; multiple selects, people, chats, attachments and linked records list<string>.
        """
        fields = [pa.field("record_id", pa.string())]
        for page in self._items(f"{table_path(app_token, table_id)}/fields", {"page_size": "100"}):
            for item in page:
                name, data_type = item.get("field_name"), arrow_type(item)
                if not isinstance(name, str):
                    raise BitableClientError(f"fields of table {table_id}: expected a field_name, got {item!r:.200}")
                if data_type is not None:
                    fields = [field for field in fields if field.name != name] + [pa.field(name, data_type)]
        return pa.schema(fields)

    def _locate(self, url: str) -> BitableUrl:
        table = parse_bitable_url(url)
        if not table.is_wiki:
            return table
        path = "/open-apis/wiki/v2/spaces/get_node?" + urllib.parse.urlencode({"token": table.app_token})
        node = self._call(path).get("node")
        kind = node.get("obj_type") if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or kind != "bitable" or not node.get("obj_token"):
            raise BitableClientError(f"{url}: expected a wiki page that is a bitable, got {kind!r}")
        return BitableUrl(str(node["obj_token"]), table.table_id, table.view_id)

    def _rows(self, pages: Iterator[list[Mapping[str, Any]]], max_rows: int | None) -> Iterator[list[Row]]:
        left = max_rows
        while left is None or left > 0:
            page = next(pages, None)
            if page is None:
                return
            rows = [plain_row(record) for record in page[:left]]
            left = None if left is None else left - len(rows)
            if rows:
                yield rows

    def _items(self, path: str, query: Mapping[str, str]) -> Iterator[list[Mapping[str, Any]]]:
        """Yields the items of a list that comes in pages."""
        token = ""
        seen: set[str] = set()
        while True:
            data = self._call(f"{path}?{urllib.parse.urlencode({**query, **({'page_token': token} if token else {})})}")
            items = data.get("items") or []
            if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
                raise BitableClientError(f"GET {path}: expected a list of items, got {items!r:.200}")
            yield items
            if not data.get("has_more"):
                return
            token = data.get("page_token") or ""
            if not token or token in seen:
                got = "a page_token that came before" if token else "no page_token"
                raise BitableClientError(f"GET {path}: expected the next page's page_token with has_more, got {got}")
            seen.add(token)

    def _call(self, path: str) -> Mapping[str, Any]:
        """Returns the data of a GET with the token. Retries once with a new token if the server
        reports that the token has expired."""
        token = self._access_token("")
        try:
            answer = self._send("GET", path, token, None)
        except BitableClientError as error:
            if error.code not in _TOKEN_CODES and error.status != 401:
                raise
            answer = self._send("GET", path, self._access_token(token), None)
        data = answer.get("data")
        if not isinstance(data, Mapping):
            raise BitableClientError(f"GET {_without_query(path)}: expected an object under data, got {data!r:.200}", code=0)
        return data

    def _access_token(self, ended: str) -> str:
        """Returns the token. Fetches a new one if there is none, or if the current one is the
        expired one."""
        with self._token_lock:
            token, end = self._token
            if token and token != ended and self._clock() < end:
                return token
            path = "/open-apis/auth/v3/tenant_access_token/internal"
            answer = self._send("POST", path, None, self._credentials)
            new, seconds = answer.get("tenant_access_token"), answer.get("expire")
            if not isinstance(new, str) or not new or not isinstance(seconds, (int, float)):
                raise BitableClientError(f"POST {path}: expected tenant_access_token and expire, got {sorted(answer)}")
            # One that lives shorter than the margin is used half its time.
            self._token = (new, self._clock() + max(seconds - _TOKEN_MARGIN_SECONDS, seconds / 2))
            return new

    def _send(self, method: str, path: str, token: str | None, body: Mapping[str, str] | None) -> Mapping[str, Any]:
        """Sends one request, and retries it if that may help."""
        request = urllib.request.Request(self._base_url + path, method=method)
        request.add_header("Content-Type", "application/json; charset=utf-8")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.data = json.dumps(body).encode()
        name = f"{method} {_without_query(path)}"
        backoff = _FIRST_BACKOFF_SECONDS
        for attempt in range(self._max_retries + 1):
            try:
                return self._once(request, name)
            except _AgainError as error:
                if attempt == self._max_retries:
                    tries = f" ({attempt + 1} times)" if attempt else ""
                    raise BitableClientError(f"{error}{tries}", code=error.code, status=error.status) from error.__cause__
                wait = random.uniform(backoff / 2, backoff)
                if error.wait_seconds is not None:
                    if error.wait_seconds > _LONGEST_WAIT_SECONDS:
                        problem = f"{error}: the server asks to wait for {error.wait_seconds:.0f} seconds"
                        raise BitableClientError(problem, code=error.code, status=error.status) from None
                    wait = error.wait_seconds + random.uniform(0, backoff / 2)
                backoff = min(2 * backoff, _LONGEST_BACKOFF_SECONDS)
                self._sleep(wait)
        raise AssertionError("the loop returns or raises")

    def _once(self, request: urllib.request.Request, name: str) -> Mapping[str, Any]:
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                status, headers = response.status, response.headers
                text = response.read(_LONGEST_BODY_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                status, headers = error.code, error.headers
                try:
                    text = error.read(_LONGEST_BODY_BYTES)
                except (OSError, http.client.HTTPException):
                    text = b""
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise _AgainError(f"{name} failed: {reason or type(error).__name__}") from error
        answer = _json_object(text)
        code = answer.get("code") if answer is not None else None
        code = code if isinstance(code, int) else None
        if status < 400 and answer is not None and code == 0:
            return answer
        message = answer.get("msg") or answer.get("message") if answer is not None else None
        got = repr(text[:200].decode(errors="replace"))
        if code is not None:
            problem = f"{name} was refused: code {code}: {message} (HTTP {status})"
        elif status >= 400:
            problem = f"{name} failed: HTTP {status}: {got}"
        else:
            problem = f"{name}: expected a JSON object with a code, got {got}"
        if status == 429 or status >= 500 or code in _RETRY_CODES:
            raise _AgainError(problem, code=code, status=status, wait_seconds=_asked_wait(headers))
        raise BitableClientError(problem, code=code, status=status)


def create_stream_from_bitable(
    session: SearchSession, client: BitableClient, url: str, *, page_size: int = 100, schema: pa.Schema | None = None
) -> StreamingDataFrame:
    """Creates a stream of the records of a table (its address as in `parse_bitable_url`). It ends
    with the last record; each page is a micro-batch.

    `schema`: the columns to take, by the fields' names. Without it they are those of `BitableClient.table_schema`; where the app
    may not read the fields, those of the first page's rows. Cells are made to fit: a list of several values is text with commas in
    a string column, and one value a list in a list column. Pages are fetched as the query takes them.

    Raises `BitableClientError` and `ValueError` as `BitableClient.list_records_from_url` does; what fails later ends the query.
    """
    check_session(session)
    table = check.instance("client", client, BitableClient)._locate(url)
    pages = client.iter_record_pages(table.app_token, table.table_id, view_id=table.view_id, page_size=page_size)
    if schema is not None and not isinstance(schema, pa.Schema):
        raise check.wrong("schema", "a pyarrow.Schema or None", schema)
    if schema is None:
        try:
            schema = client.table_schema(table.app_token, table.table_id)
        except BitableClientError as error:
            if error.code not in _FORBIDDEN_CODES and error.status not in (403, 404):
                raise
            first = next(pages, [])
            schema = found_schema(first)
            pages = itertools.chain([first], pages)
    rows = ({field.name: fit(row.get(field.name), field.type) for field in schema} for page in pages for row in page)
    source = CustomArrowStreamSource(schema, emit_interval_seconds=math.inf, emit_rows=page_size)
    return _stream(session, source.batches(rows), True)


class _AgainError(BitableClientError):
    """A failure that may be temporary, so that the request is retried."""

    def __init__(
        self, message: str, *, code: int | None = None, status: int | None = None, wait_seconds: float | None = None
    ) -> None:
        super().__init__(message, code=code, status=status)
        self.wait_seconds = wait_seconds


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that a server asks to wait: `Retry-After` as seconds or a date, or the
    gateway's own header."""
    text = headers.get("Retry-After") or headers.get("x-ogw-ratelimit-reset")
    if not text:
        return None
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _json_object(text: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _without_query(path: str) -> str:
    return path.split("?", 1)[0]
