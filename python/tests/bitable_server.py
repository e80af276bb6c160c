"""A Feishu open API on this machine, as far as the tests need it: it pages, ends tokens, throttles, fails and answers rubbish."""

from __future__ import annotations

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKENS = "/open-apis/auth/v3/tenant_access_token/internal"
RECORDS = "/open-apis/bitable/v1/apps/app/tables/tbl/records"
FIELDS = "/open-apis/bitable/v1/apps/app/tables/tbl/fields"
NODES = "/open-apis/wiki/v2/spaces/get_node"


class Bitable:
    """Its table has `records`; `answers` are given before anything else: (status, headers, body), one a request."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.fields: list[dict[str, Any]] | None = None
        self.answers: list[tuple[int, dict[str, str], bytes | None]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.tokens = 0
        self.token_seconds = 7200
        self.is_token_ended = False
        bitable = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                bitable._answer(self)

            def do_POST(self) -> None:
                bitable._answer(self)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def paths(self) -> list[str]:
        """The requests' last words."""
        return [path.rsplit("/", 1)[1] for path, _ in self.requests]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urllib.parse.urlsplit(handler.path)
        query = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.requests.append((parts.path, query))
        if self.answers and parts.path != TOKENS:
            status, headers, content = self.answers.pop(0)
            if content is None:  # Hangs up.
                handler.close_connection = True
                handler.connection.close()
                return
        else:
            status, value = self._content(parts.path, query, body, handler.headers.get("Authorization"))
            headers, content = {}, json.dumps(value).encode()
        handler.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, text)
        handler.end_headers()
        handler.wfile.write(content)

    def _content(self, path: str, query: dict[str, str], body: bytes, token: str | None) -> tuple[int, dict[str, Any]]:
        if path == TOKENS:
            if json.loads(body) != {"app_id": "id", "app_secret": "secret"}:
                return 200, {"code": 10014, "msg": "app secret invalid"}
            self.tokens += 1
            self.is_token_ended = False
            return 200, {"code": 0, "msg": "ok", "tenant_access_token": f"t-{self.tokens}", "expire": self.token_seconds}
        if self.is_token_ended or token != f"Bearer t-{self.tokens}":
            return 400, {"code": 99991663, "msg": "Invalid access token for authorization"}
        if path == NODES:
            return 200, {"code": 0, "data": {"node": {"obj_token": "app", "obj_type": "bitable"}}}
        if path == FIELDS and self.fields is not None:
            return 200, {"code": 0, "data": {"has_more": False, "items": self.fields}}
        if path != RECORDS:
            return 404, {"code": 1254041, "msg": "TableIdNotFound"}
        start, size = int(query.get("page_token", "0")), int(query["page_size"])
        end = min(start + size, len(self.records))
        data: dict[str, Any] = {"has_more": end < len(self.records), "total": len(self.records)}
        data["items"] = self.records[start:end] or None
        if end < len(self.records):
            data["page_token"] = str(end)
        return 200, {"code": 0, "msg": "success", "data": data}


def records(count: int) -> list[dict[str, Any]]:
    """Records with an owner, one of three people, and a number."""
    people = [{"id": f"ou_{name}", "name": name, "en_name": name, "email": ""} for name in ("Ann", "Bob", "Cid")]
    return [
        {"record_id": f"rec{i}", "fields": {"Owner": [people[i % 3]], "Points": i}, "id": f"rec{i}"} for i in range(count)
    ]
