"""Live data: write to SQLite, search and query the columnar replica beside it, kill the process, go on. Run by `make demo`."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import vexact
from vexact import TableSchema

DATA = Path(__file__).parent / "data"
SCHEMA = TableSchema(
    "glosses",
    [("id", "int64"), ("word", "utf8"), ("domain", "utf8"), ("gloss", "utf8"), ("embedding", "vector(384)")],
    pk=["id"],
)
CREATE = "CREATE TABLE glosses (id INTEGER PRIMARY KEY, word TEXT, domain TEXT, gloss TEXT, embedding BLOB)"
INSERT = "INSERT INTO glosses VALUES (?, ?, ?, ?, ?)"


def show(batches: list[pa.RecordBatch]) -> None:
    for row in pa.Table.from_batches(batches).to_pylist():
        print("   ", ", ".join(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))


class timed:
    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        print(f"{self.what}: {(time.perf_counter() - self.started) * 1e3:.2f} ms")


async def main(folder: Path) -> None:
    rows = pq.read_table(DATA / "wordnet-sample-4k-minilm-384.parquet").to_pylist()
    queries = {row["text"]: row for row in pq.read_table(DATA / "wordnet-queries-minilm-384.parquet").to_pylist()}
    dog = queries["a young dog"]
    settings = {"storage_mode": "parquet", "storage_path": folder / "replicas"}

    async with await vexact.open(folder / "app.db", **settings) as engine:
        await engine.execute(CREATE)
        await engine.register_table(SCHEMA)
        values = [(row["id"], row["word"], row["domain"], row["gloss"], row["embedding"]) for row in rows]
        with timed(f"\n{len(values)} rows written to SQLite, in 4 transactions"):
            for start in range(0, len(values), 1000):
                await engine.execute_many(INSERT, values[start : start + 1000])
        with timed("synced into the replica, and made durable"):
            print(await engine.sync_all())

        with timed(f"search {dog['text']!r}"):
            found = await engine.vector_search("glosses", "embedding", dog["embedding"], 3, columns=["word", "gloss"])
        show(found)
        best = [row["id"] for row in pa.Table.from_batches(found).to_pylist()]
        assert best == dog["sample_top10"][:3], best

        sql = (
            "SELECT domain, count(*) AS n, min(score) AS closest"
            " FROM vector_search('glosses', 'embedding', $1, 100) GROUP BY domain ORDER BY n DESC LIMIT 3"
        )
        with timed("the domains of the 100 closest, in SQL"):
            domains = await engine.query(sql, [dog["embedding"]])
        show(domains)
        for question in ["SELECT word FROM glosses WHERE id = 7", "SELECT domain, count(*) FROM glosses GROUP BY domain"]:
            print(f"  {question}\n    -> {engine.explain_route(question)}")

        # Changes in SQLite change the answers: the best row is deleted, the second one is updated.
        await engine.execute("DELETE FROM glosses WHERE id = ?", [best[0]])
        await engine.execute("UPDATE glosses SET word = 'renamed' WHERE id = ?", [best[1]])
        with timed("\none row deleted and one renamed: search again, with all writes before the call"):
            found = await engine.vector_search(
                "glosses", "embedding", dog["embedding"], 3, columns=["word", "gloss"], fresh=True
            )
        show(found)
        again = pa.Table.from_batches(found).to_pylist()
        assert [row["id"] for row in again] == dog["sample_top10"][1:4] and again[0]["word"] == "renamed"

    # Another process writes, and is killed in the middle of it.
    writer = subprocess.Popen([sys.executable, __file__, str(folder)], stdout=subprocess.PIPE)
    assert writer.stdout is not None and writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    print("\na process that wrote and synced was killed")
    started = time.perf_counter()
    async with await vexact.open(folder / "app.db", **settings) as engine:
        await engine.sync_all()
        print(f"reopened and caught up: {(time.perf_counter() - started) * 1e3:.1f} ms")
        counts = [
            pa.Table.from_batches(await query("SELECT count(*) AS n, sum(id) AS ids FROM glosses")).to_pylist()
            for query in (engine.query_olap, sqlite_only(folder))
        ]
        assert counts[0] == counts[1], counts
        print(f"replica and SQLite agree: {counts[0][0]['n']} rows")


def sqlite_only(folder: Path):
    """Asks SQLite itself, through Python's own driver. In another process: two copies of SQLite in one do not see each other's locks."""

    async def query(sql: str) -> list[pa.RecordBatch]:
        program = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())"
        done = subprocess.run([sys.executable, "-c", program, folder / "app.db", sql], capture_output=True, text=True, check=True)
        n, ids = map(int, done.stdout.split())
        return [pa.RecordBatch.from_pydict({"n": [n], "ids": [ids]})]

    return query


async def write_for_ever(folder: Path) -> None:
    settings = {"storage_mode": "parquet", "storage_path": folder / "replicas"}
    async with await vexact.open(folder / "app.db", **settings) as engine:
        number = 1_000_000
        while True:
            await engine.execute_many(INSERT, [(number + i, "new", "test", "", [0.5] * 384) for i in range(10)])
            await engine.sync_now()
            number += 10
            if number == 1_000_100:
                print("written", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(write_for_ever(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory(prefix="vexact-live-") as folder:
            asyncio.run(main(Path(folder)))
