"""Addresses of Bitable tables: in a browser, and in the open API."""

from __future__ import annotations

import urllib.parse
from typing import NamedTuple

from . import _arguments as check


class BitableUrl(NamedTuple):
    """The location of a table. With `is_wiki`, `app_token` is the token of a wiki page, from which
    the client looks up the app."""

    app_token: str
    table_id: str
    view_id: str | None
    is_wiki: bool = False


def parse_bitable_url(url: str) -> BitableUrl:
    """Parses the address of a table from the browser: `https://HOST/base/APP?table=TABLE&view=VIEW`
    or `/wiki/PAGE?table=...`; `https://HOST/base/APP/tables/TABLE?view=VIEW` is the same.

    `ValueError`: an address of another form, or without a table.
    """
    check.text("url", url)
    try:
        parts = urllib.parse.urlsplit(url.strip())
    except ValueError as error:
        raise ValueError(f"url: expected an address, got {url!r}: {error}") from error
    path = [part for part in parts.path.split("/") if part]
    query = urllib.parse.parse_qs(parts.query)
    has_table = len(path) == 4 and path[2] == "tables"
    is_known = (len(path) == 2 or has_table) and path[0] in ("base", "wiki")
    if parts.scheme not in ("http", "https") or not parts.netloc or not is_known:
        raise ValueError(f"url: expected https://HOST/base/APP?table=TABLE or https://HOST/wiki/PAGE?table=TABLE, got {url!r}")
    table = path[3] if has_table else query.get("table", [""])[0]
    if not table:
        raise ValueError(f"url: expected a table (?table=tbl...), got {url!r}")
    return BitableUrl(path[1], table, query.get("view", [None])[0], path[0] == "wiki")


def table_path(app_token: str, table_id: str) -> str:
    for name, value in (("app_token", app_token), ("table_id", table_id)):
        if not check.text(name, value):
            raise ValueError(f"{name}: expected a text that is not empty")
    app, table = (urllib.parse.quote(value, safe="") for value in (app_token, table_id))
    return f"/open-apis/bitable/v1/apps/{app}/tables/{table}"
