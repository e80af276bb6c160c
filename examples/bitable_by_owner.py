"""Who has how much to do? A Feishu Bitable of tasks, as rows in Python, as a table in SQL, and grouped by owner.

Run by `make examples`. It needs no account: a small server on this machine stands in for Feishu's open API, pages of 40 records,
with a token that ends in between and one answer of "too many requests". With an account it is:

    client = vexact.bitable.BitableClient(app_id, app_secret)
    rows = client.list_records_from_url("https://YOUR.feishu.cn/base/APP?table=TABLE")
"""

import json
import threading
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa

import vexact

OWNERS = ["Ann", "Bob", "Cid", "Dana"]
TASKS = [
    {
        "Task": [{"type": "text", "text": f"Task {i}"}],
        "Points": 1 + i % 5,
        "Due": 1_767_225_600_000 + i * 86_400_000,
        "Tags": ["urgent"] if i % 4 == 0 else ["later", "small"],
        # Every eleventh task has two owners, every seventh none.
        "Owner": [{"id": f"ou_{name}", "name": name} for name in {OWNERS[(i * i + i // 3) % 4]: 0, **({OWNERS[3]: 0} if i % 11 == 0 else {})}],
    }
    for i in range(100)
]
for task in TASKS[::7]:
    del task["Owner"]


class Feishu(BaseHTTPRequestHandler):
    """As much of the open API as a client of one table needs."""

    tokens = 0
    is_busy = True

    def do_POST(self) -> None:
        Feishu.tokens += 1
        self.answer(200, {"code": 0, "msg": "ok", "tenant_access_token": f"t-{Feishu.tokens}", "expire": 7200})

    def do_GET(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        start, size = int(query.get("page_token", ["0"])[0]), int(query["page_size"][0])
        if start >= 40 and self.headers["Authorization"] == "Bearer t-1":
            self.answer(400, {"code": 99991663, "msg": "Invalid access token for authorization"})
        elif start >= 80 and Feishu.is_busy:
            Feishu.is_busy = False
            self.answer(429, {"code": 99991400, "msg": "request trigger frequency limit"}, {"Retry-After": "0"})
        else:
            end = min(start + size, len(TASKS))
            items = [{"record_id": f"rec{i}", "fields": TASKS[i]} for i in range(start, end)]
            more = {"page_token": str(end)} if end < len(TASKS) else {}
            self.answer(200, {"code": 0, "data": {"items": items, "has_more": bool(more), "total": len(TASKS), **more}})

    def answer(self, status: int, body: dict[str, object], headers: dict[str, str] = {}) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Feishu)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = vexact.bitable.BitableClient("cli_example", "secret", base_url=f"http://127.0.0.1:{server.server_address[1]}")
url = "https://example.feishu.cn/base/bascnExample?table=tblTasks"

# 1. Rows: plain Python values, page by page.
rows = client.list_records_from_url(
    url, page_size=40, on_page=lambda number, page: print(f"page {number}: {len(page)} records")
)
print("first record:", rows[1])
assert len(rows) == 100 and Feishu.tokens == 2 and not Feishu.is_busy

# 2. By owner, in Python: a task of two people counts for both.
counts = vexact.bitable.group_rows_count_by_field(rows, "Owner")
print("\ntasks by owner:", counts)
expected = Counter(owner["name"] if owner else None for task in TASKS for owner in task.get("Owner", [None]))
assert counts == dict(expected), (counts, expected)

# 3. By owner, in SQL: the records are an Arrow table like any other.
session = vexact.Session()
columns = [("Task", pa.string()), ("Points", pa.int64()), ("Due", pa.timestamp("ms", "UTC")), ("Owner", pa.list_(pa.string()))]
tasks = session.create_dataframe_from_arrow(pa.Table.from_pylist(rows, pa.schema(columns)))
session.create_temp_view("tasks", tasks)
by_owner = session.sql(
    'SELECT owner, count(*) AS tasks, sum("Points") AS points, min("Due") AS next_due'
    ' FROM (SELECT unnest("Owner") AS owner, "Points", "Due" FROM tasks) GROUP BY owner ORDER BY points DESC, owner'
)
by_owner.show()
points = Counter()
for task in TASKS:
    for owner in task.get("Owner", []):
        points[owner["name"]] += task["Points"]
assert {row[0]: row[2] for row in by_owner.to_rows()["rows"]} == dict(points)
server.shutdown()
