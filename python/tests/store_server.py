"""A server on loopback with the requests of Google's and Azure's stores that clients send for objects,
listings and uploads in parts. It records the requests and injects faults.
"""

from __future__ import annotations

import base64
import email.utils
import json
import re
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 2
"""Number of objects in a page of a listing."""

Fault = Callable[[str, str, int], int | None]
"""Method, path and number of a request -> a status to answer, 0 to cut the connection in the answer, or None."""


class StoreServer:
    """Objects by `bucket/key`. `requests` are (method, path, credentials), in their order."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.fault: Fault | None = None
        self.lock = threading.Lock()
        store = self

        class Handler(_Handler):
            server_store = store

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> StoreServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that ends its connection, as it does after a fault, is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*_)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_store: StoreServer

    def log_message(self, *_: object) -> None:
        return None

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_request(self) -> None:
        store = self.server_store
        parts = urlsplit(self.path)
        name = unquote(parts.path).lstrip("/")
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with store.lock:
            store.requests.append((self.command, name, self.headers.get("Authorization")))
            number = len(store.requests)
        fault = store.fault and store.fault(self.command, name, number)
        if fault:
            # As some stores do, the body repeats the headers of the request.
            self.answer(fault, f"<Error><Code>Faulty</Code>{self.headers}</Error>".encode())
        elif fault == 0:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"cut")
            self.close_connection = True
        else:
            with store.lock:
                getattr(self, f"do_one_{self.command.lower()}")(name, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request

    def do_one_get(self, name: str, query: dict[str, str], _: bytes) -> None:
        if query.get("list-type") == "2" or query.get("comp") == "list":
            return self.list(name.rstrip("/"), query)
        content = self.server_store.objects.get(name)
        if content is None:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        headers = {
            "ETag": f'"{hash(content)}"',
            "Last_Modified": email.utils.formatdate(0, usegmt=True),
            "Accept_Ranges": "bytes",
        }
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if found is None or self.command == "HEAD":
            return self.answer(200, content, Content_Length=str(len(content)), **headers)
        first, last = found.groups()
        start = int(first) if first else max(len(content) - int(last), 0)
        end = min(int(last) + 1, len(content)) if first and last else len(content)
        part = content[start:end]
        return self.answer(206, part, Content_Range=f"bytes {start}-{end - 1}/{len(content)}", **headers)

    do_one_head = do_one_get

    def list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, after = query.get("prefix", ""), query.get("continuation-token") or query.get("marker") or ""
        keys = sorted(name.removeprefix(f"{bucket}/") for name in self.server_store.objects if name.startswith(f"{bucket}/"))
        keys = [key for key in keys if key.startswith(prefix) and key > after]
        page, more = keys[:PAGE], keys[PAGE:]
        size = {key: len(self.server_store.objects[f"{bucket}/{key}"]) for key in page}
        mark = {key: f'"{hash(self.server_store.objects[f"{bucket}/{key}"])}"' for key in page}
        if "list-type" in query:
            items = [
                f"<Contents><Key>{escape(key)}</Key><Size>{size[key]}</Size><LastModified>1970-01-01T00:00:00Z</LastModified>"
                f"<ETag>{mark[key]}</ETag></Contents>"
                for key in page
            ]
            token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
            text = f"<ListBucketResult>{''.join(items)}{token}</ListBucketResult>"
        else:
            items = [
                f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{email.utils.formatdate(0, usegmt=True)}"
                f"</Last-Modified><Content-Length>{size[key]}</Content-Length><Content-Type>application/octet-stream"
                f"</Content-Type><Etag>{mark[key]}</Etag></Properties></Blob>"
                for key in page
            ]
            token = escape(page[-1]) if more else ""
            text = f"<EnumerationResults><Blobs>{''.join(items)}</Blobs><NextMarker>{token}</NextMarker></EnumerationResults>"
        self.answer(200, text.encode())

    def do_one_put(self, name: str, query: dict[str, str], body: bytes) -> None:
        store = self.server_store
        part = query.get("partNumber") or query.get("blockid")
        if part is not None:
            store.parts.setdefault(query.get("uploadId", name), {})[part] = body
            return self.answer(201 if "blockid" in query else 200, ETag=f'"{part}"')
        if query.get("comp") == "blocklist":
            ids = re.findall(r"<Uncommitted>(.*?)</Uncommitted>", body.decode())
            staged = store.parts.pop(name)
            body = b"".join(staged[found] for found in ids)
            assert all(base64.b64decode(found) for found in ids)
        store.objects[name] = body
        return self.answer(201, ETag=f'"{hash(body)}"', Last_Modified=email.utils.formatdate(0, usegmt=True))

    def do_one_post(self, name: str, query: dict[str, str], _: bytes) -> None:
        store = self.server_store
        if "uploads" in query:
            upload = f"upload-{len(store.requests)}"
            store.parts[upload] = {}
            return self.answer(200, f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode())
        staged = store.parts.pop(query["uploadId"])
        store.objects[name] = b"".join(staged[part] for part in sorted(staged, key=int))
        return self.answer(200, b'<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>')

    def do_one_delete(self, name: str, query: dict[str, str], _: bytes) -> None:
        if "uploadId" in query:
            self.server_store.parts.pop(query["uploadId"], None)
        else:
            self.server_store.objects.pop(name, None)
        self.answer(204)


def google(endpoint: str, key: str) -> dict[str, Any]:
    """The options of Google's store on this server, with a key that is not exchanged for a token."""
    account = {"private_key": key, "private_key_id": "id", "client_email": "a@b.example", "disable_oauth": True}
    return {"base_url": endpoint, "service_account_key": json.dumps(account), "allow_http": True}


def azure(endpoint: str, key: str) -> dict[str, Any]:
    """The options of Azure's store on this server; `key` is a secret in base64."""
    return {"endpoint": endpoint, "account_name": "box", "account_key": key, "allow_http": True}
