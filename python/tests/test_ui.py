"""`vexact ui`: the real command, walked by urllib and, where there is a Chromium, by a browser.

The browser is the one that `VEXACT_CHROMIUM` names, else `chromium` or `google-chrome` of the path, else playwright's own.
"""

from __future__ import annotations

import fcntl
import http.cookiejar
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

import vexact
from parts import skip_without

START = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
EXPLAIN = {
    "logical": "Limit: skip=0, fetch=3\n  TableScan: docs",
    "physical": "ProjectionExec: expr=[id@0 as id]\n  VectorTopKExec: k=3, metrics=[output_rows=3]\n    DataSourceExec: partitions=1",
    "strategy": "mode=exact-scan\nmetric=cosine\ntop_k=3\ncandidate_rows=10\nreason=no sketch, so the vectors themselves",
}


def iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Workspace:
    """A workspace with runs, made as the engine makes them: the index is made of their files when it is opened."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.made = 0

    def run(self, name: str | None, status: str = "succeeded", action: str = "csv-sql", **fields: Any) -> Path:
        self.made += 1
        start = START + timedelta(minutes=self.made)
        run_id = f"{start:%Y%m%dT%H%M%SZ}_{self.made:08x}"
        folder = self.home / "runs" / run_id
        (folder / "artifacts").mkdir(parents=True)
        inputs = fields.pop("inputs", {"query": f"SELECT '{name}'"})
        run = {
            "run_id": run_id,
            "run_name": name,
            "description": None,
            "action": action,
            "status": status,
            "tags": [],
            "started_at": iso(start),
            "finished_at": None if status == "running" else iso(start + timedelta(seconds=2)),
            "duration_ms": 2000,
            "timeout_ms": None,
            "pid": os.getpid(),
            "version": "0.1.0",
            "row_count": None,
            "error": None,
            "artifacts": [],
            **fields,
        }
        (folder / "run.json").write_text(json.dumps(run), "utf-8")
        (folder / "inputs.json").write_text(json.dumps(inputs), "utf-8")
        return folder


class Snapshots:
    """The progress of a run that this process runs: it holds the run's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = (folder / "lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.rows = 0
        self.start = datetime.fromisoformat(json.loads((folder / "run.json").read_text())["started_at"].replace("Z", "+00:00"))

    def add(self, rows: int, latency_ms: float, backlog: int) -> None:
        self.rows += rows
        self.start += timedelta(milliseconds=500)
        snapshot = {
            "at": iso(self.start),
            "status": "running",
            "rows_processed": self.rows,
            "last_batch_latency_ms": latency_ms,
            "inflight_batches": backlog,
        }
        with (self.folder / "progress.jsonl").open("a") as file:
            file.write(json.dumps(snapshot) + "\n")

    def end(self) -> None:
        """As the engine ends a run: its file, then the lock."""
        path = self.folder / "run.json"
        run = json.loads(path.read_text("utf-8"))
        path.with_suffix(".tmp").write_text(json.dumps({**run, "status": "succeeded", "finished_at": iso(self.start)}), "utf-8")
        path.with_suffix(".tmp").replace(path)
        self.lock.close()
        (self.folder / "lock").unlink()


class Served:
    """The command, and a client that keeps its cookie."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vexact", "ui", *arguments],
            env={**os.environ, "VEXACT_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        said = json.loads(line)
        assert set(said) == {"ok", "url"} and said["ok"] is True
        self.url: str = said["url"]
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/\?token=([0-9a-f]{32})", self.url)
        assert found is not None, self.url
        self.base, self.token = found[1], found[2]
        self.client = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def get(self, path: str) -> str:
        with self.client.open(self.base + path, timeout=60) as answer:
            text: str = answer.read().decode()
        return text

    def status(self, request: urllib.request.Request | str) -> int:
        """Without the cookie."""
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code

    def stop(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        out, error = self.process.communicate(timeout=60)
        return self.process.returncode, out, error


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def serve(workspace: Workspace) -> Iterator[Any]:
    started: list[Served] = []

    def start(*arguments: str) -> Served:
        started.append(Served(workspace.home, *arguments))
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.communicate()


def test_it_serves_who_has_the_url_until_ctrl_c(serve: Any) -> None:
    served = serve()
    assert served.status(served.base) == 401
    assert served.status(f"{served.base}/?token={'0' * 32}") == 401
    assert served.status(urllib.request.Request(served.url, headers={"Host": "evil.example"})) == 421
    page = served.get(f"/?token={served.token}")
    assert "There are no runs yet" in page and served.token not in page
    with pytest.raises(urllib.error.HTTPError, match="404"):
        served.get("/runs/none")
    assert served.stop() == (0, "", "Ctrl-C ends it\n")


def test_a_port_that_is_taken_is_an_error(serve: Any, tmp_path: Path) -> None:
    port = serve().base.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "vexact", "ui", "--port", port]
    done = subprocess.run(command, env={**os.environ, "VEXACT_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    failure = json.loads(done.stdout)
    assert (done.returncode, failure["ok"], failure["phase"]) == (1, False, "start")
    assert failure["error"].startswith(f"port {port}: expected a free one")


def test_runs_and_their_pages(workspace: Workspace, serve: Any) -> None:
    error = {"error": "column <x> not found", "error_type": "value_error", "phase": "query", "details": {"table": "t"}}
    broken = workspace.run("broken", "failed", tags=["nightly"], error=error)
    good = workspace.run("good", action="vector-search", description="a & b", row_count=1234567)
    (good / "explain.json").write_text(json.dumps(EXPLAIN))
    (good / "stderr.log").write_text("".join(f"remark {n}\n" for n in range(10_000)))
    orphan = workspace.run(None, "running")
    served = serve()
    served.get(f"/?token={served.token}")

    page = served.get("/")
    assert page.index(orphan.name) < page.index("good") < page.index("broken")
    assert "running" not in re.findall(r'data-status="(\w+)"', page)
    assert re.findall(r'data-status="(\w+)"', served.get("/?status=failed")) == ["failed", "failed"]
    assert "good" not in served.get("/?tag=nightly") and "broken" in served.get("/?tag=nightly")
    assert "good" in served.get("/?q=select+%27GOOD") and "broken" not in served.get("/?q=select+%27GOOD")

    page = served.get(f"/runs/{good.name}")
    for text in ("a &amp; b", "1\u202f234\u202f567", "VectorTopKExec", "Exact vector search: cosine, top 3", "remark 9999"):
        assert text in page, text
    assert "remark 1\n" not in page and len(page) < 100_000
    assert "column &lt;x&gt; not found" in served.get(f"/runs/{broken.name}")
    assert "orphaned" in served.get(f"/runs/{orphan.name}")


def browser_path() -> str | None:
    named = os.environ.get("VEXACT_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        path = browser_path() or playwright.chromium.executable_path
        if not Path(path).exists():
            skip_without("browser", "expected chromium, google-chrome or a path in VEXACT_CHROMIUM, got none")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that has nothing to complain of: no error, no refused content."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # A refresh that is under way when another page is opened is given up.
    page.on("requestfailed", lambda request: complaints.append(request.url) if request.failure != "net::ERR_ABORTED" else None)
    yield page
    assert complaints == []
    context.close()


def test_a_browser_filters_runs_and_folds_plans(workspace: Workspace, serve: Any, page: Any) -> None:
    workspace.run("<img src=x onerror=alert(1)>", "failed", tags=["nightly"])
    good = workspace.run("good", action="vector-search")
    (good / "explain.json").write_text(json.dumps(EXPLAIN))
    served = serve()
    page.goto(served.url)
    assert page.url == f"{served.base}/"
    assert page.locator("table.runs tbody tr").count() == 2
    assert page.locator("img[src=x]").count() == 0
    page.get_by_label("Status").select_option("succeeded")
    page.wait_for_url("**status=succeeded**")
    assert page.locator("table.runs td.name > a").all_inner_texts() == ["good"]
    page.get_by_role("link", name="Clear").click()
    page.get_by_role("link", name="nightly").click()
    assert page.locator("table.runs tbody tr").count() == 1
    page.get_by_label("Text").fill("good")
    page.get_by_role("button", name="Filter").click()
    assert "No run fits" in page.inner_text("main")
    page.get_by_role("link", name="Show all runs").click()
    page.get_by_role("link", name="good").click()

    page.wait_for_selector(".vexact-explain")
    scan = page.get_by_text("DataSourceExec").first
    assert scan.is_visible()
    page.get_by_text("ProjectionExec").first.click()
    assert not scan.is_visible()
    page.get_by_text("ProjectionExec").first.click()
    assert scan.is_visible()
    assert not page.get_by_text("TableScan").first.is_visible()
    page.get_by_text("Logical plan").click()
    assert page.get_by_text("TableScan").first.is_visible()


def test_live_plots_move_until_the_run_ends(workspace: Workspace, serve: Any, page: Any) -> None:
    folder = workspace.run("stream", "running", action="stream-sql-once")
    progress = Snapshots(folder)
    for number in range(10):
        progress.add(rows=1000, latency_ms=5 + number, backlog=number % 3)
    served = serve()
    served.get(f"/?token={served.token}")
    page.goto(f"{served.base}/runs/{folder.name}?token={served.token}")
    rate, latency = page.locator("#rate"), page.locator("#latency")
    assert rate.locator("output").inner_text() == "2000 rows/s"
    assert latency.locator("output").inner_text() == "14 ms"
    before = rate.locator("path.line").get_attribute("d")
    progress.add(rows=4000, latency_ms=40, backlog=5)
    expect(rate.locator("output")).to_have_text("8000 rows/s", timeout=60_000)
    assert rate.locator("path.line").get_attribute("d") != before
    assert page.locator("#backlog output").inner_text() == "5"
    # Pointed at, a plot tells the value of the place.
    box = latency.locator("svg").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + box["height"] / 2)
    assert re.fullmatch(r"\S+ ms at \S+ s", latency.locator("output").inner_text())
    page.mouse.move(0, 0)
    progress.end()
    page.wait_for_selector("h1 [data-status=succeeded]", timeout=60_000)
    assert page.locator(".offline").inner_text() == ""


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "app.db"
    with vexact.connect(path) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, embedding BLOB)")
        rows = [(n, f"note {n} about {'cats' if n % 3 else 'a very-long-word-' * 9}", [1.0, float(n)]) for n in range(60)]
        connection.execute_many("INSERT INTO notes VALUES (?, ?, ?)", rows)
        connection.register_table("notes", vectors={"embedding": 2})
        connection.register_text("notes", "body")
    return str(path)


def test_a_browser_queries_and_searches_the_tables_of_a_file(database: str, serve: Any, page: Any) -> None:
    served = serve("--db", database)
    page.goto(served.url)
    page.get_by_role("link", name="Tables").click()
    page.get_by_label("Query").fill("SELECT count(*) AS n FROM notes")
    page.get_by_role("button", name="Run").click()
    assert page.locator("#result td").all_inner_texts() == ["60"]
    page.get_by_label("Query").fill("SELECT nope FROM notes")
    page.get_by_role("button", name="Run").click()
    assert "nope" in page.locator("#result [role=alert]").inner_text()
    page.get_by_role("link", name="Clear").click()
    with sqlite3.connect(database) as other:
        other.execute("INSERT INTO notes VALUES (100, 'unicorns', NULL)")
    # The replica follows what another program writes.
    expect(page.locator("td.rows")).to_have_text("61 rows", timeout=60_000)
    page.get_by_role("link", name="notes").click()
    page.get_by_label("Words").fill("unicorns")
    page.get_by_role("button", name="Search").first.click()
    assert page.locator("#result tbody tr").count() == 1 and "unicorns" in page.locator("#result").inner_text()
    page.get_by_label("Close to the row where").fill("id = 7")
    page.get_by_role("button", name="Search").last.click()
    found = page.locator("#result tbody tr")
    assert found.count() == 20 and found.first.locator("td").all_inner_texts()[:2] == ["0.0", "7"]
    assert served.stop() == (0, "", "Ctrl-C ends it\n")


def test_tables_are_queried_and_searched_and_errors_stand_in_place(tmp_path: Path, serve: Any) -> None:
    with vexact.connect(tmp_path / "app.db") as connection:
        for sql in ("CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT, v BLOB)", "CREATE TABLE \"odd 'name'\" (id INTEGER PRIMARY KEY)"):
            connection.execute(sql)
        rows = [(1, "a <b> cat", [1.0, 0.0]), (2, "dog", [0.0, 1.0]), (3, "dogs", None)]
        connection.execute_many("INSERT INTO docs VALUES (?, ?, ?)", rows)
        connection.register_table("docs", vectors={"v": 2})
        connection.register_table("odd 'name'")
        connection.register_text("docs", "body")
    served = serve("--db", str(tmp_path / "app.db"))
    served.get(f"/?token={served.token}")

    def alert(path: str) -> str:
        found = re.search(r'role="alert"><pre>(.*?)</pre>', served.get(path), re.DOTALL)
        assert found is not None, path
        return found[1]

    page = served.get("/tables")
    for text in ('href="/tables/docs"', "up to date", 'href="/tables/odd%20%27name%27"'):
        assert text in page, text
    page = served.get("/tables?sql=SELECT+id+FROM+docs+WHERE+id+%3C+3+ORDER+BY+id+DESC%3B")
    assert "2 rows" in page and "WHERE id &lt; 3" in page and "data-refresh" not in page
    numbers = "WITH+RECURSIVE+n(x)+AS+(SELECT+1+UNION+ALL+SELECT+x+%2B+1+FROM+n+WHERE+x+%3C+90)+SELECT+x+FROM+n"
    assert "first 50 rows" in served.get(f"/tables?sql={numbers}")
    assert "nope" in alert("/tables?sql=SELECT+nope+FROM+docs")
    assert "expected one statement, got 2" in alert("/tables?sql=SELECT+1%3B+SELECT+2")
    assert "DELETE FROM docs" in alert("/tables?sql=DELETE+FROM+docs")

    page = served.get("/tables/docs")
    for text in ("a &lt;b&gt; cat", "3 rows", "<dt>Columns</dt><dd>3</dd>", 'name="words"', 'name="like"'):
        assert text in page, text

    def found(path: str) -> str:
        return served.get(path).split("Found, best first")[1].split("</table>")[0]

    assert "a &lt;b&gt; cat" in found("/tables/docs?column=body&words=CAT") and "dog" not in found("/tables/docs?column=body&words=CAT")
    near = found("/tables/docs?column=v&like=id+%3D+2")
    assert near.index("dog") < near.index("cat")
    for asked in ("column=v&like=id+%3D+3", "column=v&like=id+%3D+99", "column=body&like=id+%3D+1"):
        assert "expected a row that has a vector" in alert(f"/tables/docs?{asked}")
    assert "nothing" in alert("/tables/docs?column=nothing&words=x")
    assert "0 rows" in served.get("/tables/odd%20%27name%27")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        served.get("/tables/none")
    with vexact.connect(tmp_path / "app.db") as connection:
        assert connection.query("SELECT count(*) AS n FROM docs").to_pylist() == [{"n": 3}]


def test_without_a_database_the_tables_say_how_to_get_one(serve: Any) -> None:
    served = serve()
    served.get(f"/?token={served.token}")
    for path in ("/tables", "/tables/docs"):
        assert "vexact ui --db app.db" in served.get(path)


def test_a_running_stream_shows_its_totals_and_its_newest_rows(tmp_path: Path, workspace: Workspace, serve: Any) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("k,value\n" + "".join(f"k{n % 7},{n}\n" for n in range(500)))
    sql = "SELECT k, sum(value) AS total FROM input_stream GROUP BY k"
    arguments = ["stream-sql-once", "--source-csv-dir", str(tmp_path / "in"), "--max-batches", "0", "--query", sql]
    running = subprocess.Popen(
        [sys.executable, "-m", "vexact", "run", "start", "--", *arguments],
        env={**os.environ, "VEXACT_HOME": str(workspace.home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        served = serve()
        served.get(f"/?token={served.token}")
        page = ""
        while "Latest output" not in page:
            assert running.poll() is None
            path = re.search(r'href="(/runs/[^"]+)"', served.get("/"))
            page = "" if path is None else served.get(path[1])
        assert "<dt>Rows processed</dt><dd>500</dd>" in page and "the newest 7 rows" in page
        assert f"<td>k6</td><td class=\"vexact-number\">{sum(range(6, 500, 7))}</td>" in page
        assert "_ms<" not in page and re.search(r"<dt>last_batch_latency</dt><dd>\d+ ms</dd>", page)
        assert "options.trigger_interval</dt><dd>1.0 s</dd>" in page
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(60)
    assert "Latest output" not in served.get(path[1])


def test_a_database_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vexact", "ui", "--db", str(tmp_path / "none.db")]
    done = subprocess.run(command, env={**os.environ, "VEXACT_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60)
    failure = json.loads(done.stdout)
    assert (done.returncode, failure["ok"], failure["phase"]) == (1, False, "open")
    assert "none.db" in failure["error"] and not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_pages_fit_their_window(
    workspace: Workspace, database: str, serve: Any, page: Any, scheme: Any, width: int
) -> None:
    long = workspace.run("a-name-without-any-space-" * 8, inputs={"query": "SELECT " + "x" * 500}, tags=["t" * 90])
    (long / "explain.json").write_text(json.dumps({**EXPLAIN, "physical": "FilterExec: " + "y" * 800}))
    served = serve("--db", database)
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto(served.url)
    for path in ("/", "/artifacts", f"/runs/{long.name}", "/?status=failed&q=zzz", "/tables", "/tables?sql=SELECT+*+FROM+notes", "/tables/notes", "/tables/notes?column=body&words=very"):
        page.goto(served.base + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
