"""Bitable tables: paging, tokens, retries, refusals, and cells as plain values. No request leaves this machine, and none sleeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

import vexact
from bitable_server import Bitable, records


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def server() -> Iterator[Bitable]:
    bitable = Bitable()
    yield bitable
    bitable.close()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def client(server: Bitable, time: Time) -> vexact.bitable.BitableClient:
    return vexact.bitable.BitableClient("id", "secret", base_url=server.url, clock=lambda: time.now, sleep=time.sleep)


def refused(code: int, message: str = "no", status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {}, json.dumps({"code": code, "msg": message}).encode()


def test_all_pages_come_in_their_order(server: Bitable, client: vexact.bitable.BitableClient) -> None:
    server.records = records(25)
    pages: list[tuple[int, int]] = []
    rows = client.list_records("app", "tbl", page_size=10, on_page=lambda number, page: pages.append((number, len(page))))
    assert [row["Points"] for row in rows] == list(range(25))
    assert rows[4] == {"record_id": "rec4", "Owner": ["Bob"], "Points": 4}
    assert pages == [(1, 10), (2, 10), (3, 5)]
    assert server.paths() == ["internal", "records", "records", "records"]


def test_a_table_without_records_has_no_rows(client: vexact.bitable.BitableClient) -> None:
    assert client.list_records("app", "tbl") == []
    assert list(client.iter_record_pages("app", "tbl")) == []


def test_pages_are_fetched_when_they_are_asked_for(server: Bitable, client: vexact.bitable.BitableClient) -> None:
    server.records = records(30)
    pages = client.iter_record_pages("app", "tbl", page_size=10)
    assert server.requests == []
    next(pages)
    assert server.paths() == ["internal", "records"]
    assert len(client.list_records("app", "tbl", page_size=10, max_rows=15)) == 15
    assert server.paths().count("records") == 3, "no page beyond max_rows"
    assert client.list_records("app", "tbl", max_rows=0) == []
    assert server.paths().count("records") == 3


def test_a_url_says_the_table_and_the_view(server: Bitable, client: vexact.bitable.BitableClient) -> None:
    server.records = records(3)
    url = "https://example.feishu.cn/base/app?table=tbl&view=vew1#x"
    assert vexact.bitable.parse_bitable_url(url) == ("app", "tbl", "vew1", False)
    assert len(client.list_records_from_url(url, page_size=2)) == 3
    assert server.requests[-1][1] == {"view_id": "vew1", "page_size": "2", "page_token": "2"}
    wiki = "https://example.larksuite.com/wiki/page?table=tbl"
    inner = "https://example.com/base/app/tables/tbl?view=vew1"
    assert vexact.bitable.parse_bitable_url(inner) == ("app", "tbl", "vew1", False)
    assert vexact.bitable.parse_bitable_url(wiki) == ("page", "tbl", None, True)
    assert len(client.list_records_from_url(wiki)) == 3
    for bad in ("", "app", "https://example.feishu.cn/base/app", "https://x/docs/a?table=b", "ftp://x/base/a?table=b"):
        with pytest.raises(ValueError, match="url: expected"):
            vexact.bitable.parse_bitable_url(bad)


def test_a_token_is_kept_until_shortly_before_its_end(server: Bitable, client: vexact.bitable.BitableClient, time: Time) -> None:
    server.records = records(1)
    client.list_records("app", "tbl")
    time.now += 7200 - 61
    client.list_records("app", "tbl")
    assert server.tokens == 1
    time.now += 2
    client.list_records("app", "tbl")
    assert server.tokens == 2


def test_a_token_that_the_server_ended_is_fetched_anew_once(server: Bitable, client: vexact.bitable.BitableClient) -> None:
    server.records = records(20)
    pages = client.iter_record_pages("app", "tbl", page_size=10)
    next(pages)
    server.is_token_ended = True
    assert len(next(pages)) == 10
    assert server.tokens == 2
    server.answers = [refused(99991663, "ended", 400)] * 2
    with pytest.raises(vexact.BitableClientError, match="code 99991663: ended") as error:
        client.list_records("app", "tbl")
    assert error.value.code == 99991663
    assert server.tokens == 3


def test_throttled_requests_wait_as_long_as_the_server_asks(
    server: Bitable, client: vexact.bitable.BitableClient, time: Time
) -> None:
    server.records = records(1)
    frequency = json.dumps({"code": 99991400, "msg": "request trigger frequency limit"}).encode()
    server.answers = [
        (429, {"Retry-After": "7"}, b"slow down"),
        (400, {"x-ogw-ratelimit-reset": "52"}, frequency),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""),
    ]
    assert len(client.list_records("app", "tbl")) == 1
    assert 7 <= time.slept[0] < 8 and 52 <= time.slept[1] < 54 and 0 <= time.slept[2] < 2
    server.answers = [(429, {"Retry-After": "3600"}, frequency)]
    with pytest.raises(vexact.BitableClientError, match="asks to wait for 3600 seconds"):
        client.list_records("app", "tbl")
    assert len(time.slept) == 3


def test_failures_that_may_pass_are_tried_again_with_longer_waits(
    server: Bitable, client: vexact.bitable.BitableClient, time: Time
) -> None:
    server.records = records(1)
    server.answers = [(500, {}, b"oops"), (200, {}, None), (503, {}, b""), refused(1254607, "not ready"), (502, {}, b"")]
    assert len(client.list_records("app", "tbl")) == 1
    assert all(wait / 2 <= slept <= wait for wait, slept in zip([0.5, 1, 2, 4, 8], time.slept, strict=True))
    server.answers = [(503, {}, b"down")] * 6
    with pytest.raises(vexact.BitableClientError, match=r"HTTP 503: 'down' \(6 times\)") as error:
        client.list_records("app", "tbl")
    assert (error.value.status, error.value.code) == (503, None)
    assert server.answers == []


def test_a_server_that_is_not_there_is_named(time: Time) -> None:
    nobody = Bitable()
    nobody.close()
    client = vexact.bitable.BitableClient("id", "secret", base_url=nobody.url, max_retries=1, sleep=time.sleep)
    with pytest.raises(vexact.BitableClientError, match=r"tenant_access_token/internal failed: .*refused.* \(2 times\)") as error:
        client.list_records("app", "tbl")
    assert isinstance(error.value.__cause__, OSError)
    assert len(time.slept) == 1


def test_refusals_have_the_servers_code_and_words(server: Bitable, client: vexact.bitable.BitableClient, time: Time) -> None:
    with pytest.raises(vexact.BitableClientError, match="code 1254041: TableIdNotFound .HTTP 404") as error:
        client.list_records("app", "other")
    assert (error.value.code, error.value.status) == (1254041, 404)
    wrong = vexact.bitable.BitableClient("id", "wrong", base_url=server.url, sleep=time.sleep)
    with pytest.raises(vexact.BitableClientError, match="code 10014: app secret invalid") as error:
        wrong.list_records("app", "tbl")
    assert "wrong" not in str(error.value) + repr(wrong), "a secret is not shown"
    assert time.slept == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>hello", "expected a JSON object with a code, got '<html>hello'"),
        (b"[1]", "expected a JSON object"),
        (b"{}", "expected a JSON object with a code"),
        (b'{"code": 0}', "expected an object under data, got None"),
        (b'{"code": 0, "data": {"items": 3}}', "expected a list of items, got 3"),
        (b'{"code": 0, "data": {"items": [{"record_id": "r"}]}}', "record 'r': expected an object under fields"),
        (b'{"code": 0, "data": {"items": [], "has_more": true}}', "got no page_token"),
    ],
)
def test_rubbish_is_refused_with_what_was_expected(
    server: Bitable, client: vexact.bitable.BitableClient, time: Time, body: bytes, problem: str
) -> None:
    server.answers = [(200, {}, body)]
    with pytest.raises(vexact.BitableClientError, match=problem):
        client.list_records("app", "tbl")
    assert time.slept == []


def test_pages_in_a_circle_end(server: Bitable, client: vexact.bitable.BitableClient) -> None:
    page = json.dumps({"code": 0, "data": {"items": [], "has_more": True, "page_token": "same"}}).encode()
    server.answers = [(200, {}, page)] * 2
    with pytest.raises(vexact.BitableClientError, match="page_token that came before"):
        client.list_records("app", "tbl")


def test_bad_arguments_are_refused_before_any_request(server: Bitable, client: vexact.bitable.BitableClient) -> None:
    for arguments in ({"page_size": 0}, {"page_size": 501}, {"max_rows": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))}: expected"):
            client.list_records("app", "tbl", **arguments)
    with pytest.raises(ValueError, match="table_id: expected"):
        client.list_records("app", "")
    for bad in ({"request_timeout_seconds": 0}, {"max_retries": -1}, {"base_url": "feishu"}, {"app_secret": ""}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            vexact.bitable.BitableClient(**{"app_id": "id", "app_secret": "secret", **bad})
    assert server.requests == []


@pytest.mark.parametrize(
    ("cell", "plain"),
    [
        ("text", "text"),
        ([{"text": "see ", "type": "text"}, {"text": "docs", "type": "url", "link": "https://x"}], "see docs"),
        ([{"text": "@Ann", "type": "mention", "mentionType": "User", "token": "ou_1"}], "@Ann"),
        (3.5, 3.5),
        (True, True),
        (1675440000000, 1675440000000),
        (["red", "blue"], ["red", "blue"]),
        ([{"id": "ou_1", "name": "Ann", "en_name": "A", "email": "a@x"}, {"id": "ou_2", "name": "Bob"}], ["Ann", "Bob"]),
        ({"id": "ou_1", "name": "Ann"}, "Ann"),
        ({"link": "https://x", "text": "site"}, "https://x"),
        ([{"file_token": "f", "name": "a.png", "size": 3, "type": "image/png", "url": "https://f"}], ["a.png"]),
        ([{"record_ids": ["r1", "r2"], "table_id": "t", "text": "x", "text_arr": ["x"], "type": "text"}], ["r1", "r2"]),
        ({"link_record_ids": ["r1"]}, ["r1"]),
        ({"location": "1,2", "name": "Office", "full_address": "Office, Main Street"}, "Office, Main Street"),
        ([{"avatar_url": "https://a", "id": "oc_1", "name": "Team"}], ["Team"]),
        ({"type": 1, "value": [{"text": "ok", "type": "text"}]}, "ok"),
        ({"type": 2, "value": [4.5]}, 4.5),
        ({"type": 11, "value": [{"id": "ou_1", "name": "Ann"}]}, ["Ann"]),
        ({"type": 4, "value": ["red"]}, ["red"]),
        ([], None),
        (None, None),
    ],
)
def test_cells_become_plain_values(server: Bitable, client: vexact.bitable.BitableClient, cell: Any, plain: Any) -> None:
    server.records = [{"record_id": "r", "fields": {"F": cell}}]
    assert client.list_records("app", "tbl") == [{"record_id": "r", "F": plain}]


def test_rows_are_grouped_by_each_of_their_values() -> None:
    rows = [{"o": ["Ann", "Bob"], "n": 1}, {"o": ["Bob"], "n": 2}, {"n": 3}, {"o": "", "n": 4}, {"o": [], "n": 5}]
    groups = vexact.bitable.group_rows_by_field(rows, "o")
    assert {name: [row["n"] for row in group] for name, group in groups.items()} == {
        "Ann": [1],
        "Bob": [1, 2],
        None: [3, 4, 5],
    }
    assert list(vexact.bitable.group_rows_count_by_field(rows, "o").items()) == [(None, 3), ("Bob", 2), ("Ann", 1)]
    assert vexact.bitable.group_rows_count_by_field([{"o": {"a": 1}}, {"o": {"a": 1}}], "o") == {'{"a": 1}': 2}


def test_fields_say_the_columns_types(server: Bitable, client: vexact.bitable.BitableClient) -> None:
    kinds = {"Text": 1, "N": 2, "One": 3, "Many": 4, "At": 5, "Ok": 7, "Who": 11, "Url": 15, "File": 17, "Next": 18}
    kinds |= {"Press": 3001, "Made": 1001, "By": 1003, "No": 1005, "Place": 22, "New": 9999}
    server.fields = [{"field_name": name, "type": kind} for name, kind in kinds.items()]
    server.fields.append({"field_name": "Sum", "type": 20, "property": {"type": {"data_type": 2}}})
    server.fields.append({"field_name": "Formula", "type": 20, "property": {"formatter": ""}})
    texts, at = pa.list_(pa.string()), pa.timestamp("ms", "UTC")
    types = {"N": pa.float64(), "Many": texts, "At": at, "Ok": pa.bool_(), "Who": texts, "File": texts, "Next": texts}
    types |= {"Made": at, "By": texts, "Sum": pa.float64()}
    schema = client.table_schema("app", "tbl")
    names = ["record_id", *(name for name in kinds if name != "Press"), "Sum", "Formula"]
    assert schema == pa.schema([(name, types.get(name, pa.string())) for name in names])


@pytest.mark.parametrize("name", sorted(vexact._MOVED_TO_BITABLE))
def test_moved_names_stay_importable_with_a_warning(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"vexact\.{name} moved: use vexact\.bitable\.{name}"):
        assert getattr(vexact, name) is getattr(vexact.bitable, name)


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'BitableClients'"):
        vexact.BitableClients  # noqa: B018
