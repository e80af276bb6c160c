"""Sums of sales by shop and minute: the sales arrive as CSV files, and a restart neither loses nor
doubles one.

Run by `make examples`. A folder receives files; a streaming query with a tumbling window writes its results into a CSV file,
exactly-once. It is stopped in the midst, a process that was killed is imitated by a torn line at the end of the output, and it goes
on from its checkpoint.
"""

import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import vexact

MINUTE_MS = 60_000
START_MS = 1_767_225_600_000  # 2026-01-01, UTC
SHOPS = ["Bern", "Köln", "Graz"]

home = Path(tempfile.mkdtemp(prefix="vexact-stream-"))
folder, output = home / "sales", home / "by_minute.csv"
folder.mkdir()
rng = random.Random(7)
expected: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
written = 0


def sell(name: str, minute: int, count: int) -> None:
    """Writes a file of sales under a name that the stream ignores, then renames it, so that it
    appears whole."""
    global written
    lines = ["at,shop,cents"]
    for _ in range(count):
        at, shop, cents = START_MS + minute * MINUTE_MS + rng.randrange(2 * MINUTE_MS), rng.choice(SHOPS), rng.randrange(1, 9999)
        lines.append(f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at // 1000))}.{at % 1000:03},{shop},{cents}")
        group = expected[shop, at // MINUTE_MS]
        group[0] += 1
        group[1] += cents
    unfinished = folder / f".{name}.tmp"
    unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
    unfinished.rename(folder / name)
    written += count


def run_until_read(session: vexact.Session) -> None:
    query = session.start_stream_sql(
        "INSERT INTO by_minute SELECT shop, minute, count(*), sum(cents) FROM sales"
        f" WINDOW BY at EVERY {MINUTE_MS} AS minute GROUP BY shop, minute",
        trigger_interval_ms=0,
        checkpoint_path=home / "checkpoint",
        checkpoint_delivery_mode="exactly-once",
    )
    print(f"  {query}")
    query.start()
    while (progress := query.progress())["rows_processed"] < written and progress["status"] != "failed":
        time.sleep(0.01)
    query.stop()
    query.await_termination()
    print(f"  {progress['rows_processed']} rows in {progress['batches_processed']} micro-batches, offset {progress['last_source_offset']}")


def session_with_tables() -> vexact.Session:
    session = vexact.Session()
    session.sql(f"CREATE SOURCE TABLE sales (at TIMESTAMP(3), shop STRING, cents BIGINT) USING csv OPTIONS(path: '{folder}')")
    session.sql(
        "CREATE SINK TABLE by_minute (shop STRING, minute TIMESTAMP(3), sales BIGINT, cents BIGINT)"
        f" USING csv OPTIONS(path: '{output}')"
    )
    return session


print("two files, and the query")
sell("b.csv", 0, 200)
sell("c.csv", 1, 200)
run_until_read(session_with_tables())

print("a torn line at the end of the output, a late file that sorts first, and the query again, in another session")
with output.open("a") as file:
    file.write('"Bern",2026-01-0')
sell("a.csv", 0, 100)
sell("d.csv", 2, 100)
session = session_with_tables()
run_until_read(session)

print("\neach micro-batch gave the new values of its groups; the last of each:")
session.create_temp_view("results", session.read_csv(output))
final = session.sql(
    "SELECT shop, minute, max(sales) AS sales, max(cents) AS cents FROM results GROUP BY shop, minute ORDER BY minute, shop"
)
final.show()
found = {(row[0], round(row[1].timestamp() * 1000) // MINUTE_MS): row[2:] for row in final.to_rows()["rows"]}
assert found == expected, (found, dict(expected))
print(f"{written} sales, each counted once; output: {output}")
