"""The command line, process to process: its start, and SQL on a CSV file of 200 000 rows beside DuckDB's Python package.

    python benches/cli.py [--vexact PATH] [--python PATH] [--rounds N]

Each turn starts both programs, which read the file, run the query and print its rows as JSON. The answers are compared before a
time is printed. The file is made by a fixed seed. `--python` names an interpreter that has `duckdb`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = 200_000
SEED = 20_260_101
KINDS = ["book", "film", "game", "map", "song"]
QUERIES = {
    "GROUP BY": "SELECT kind, count(*) AS n, sum(quantity) AS pieces, min(day) AS first, avg(price) AS mean"
    " FROM input_table GROUP BY kind ORDER BY kind",
    "filter, sort, LIMIT": "SELECT id, name, price FROM input_table WHERE quantity > 90 AND kind <> 'map' ORDER BY price DESC, id LIMIT 20",
    "count(*)": "SELECT count(*) AS n FROM input_table",
    "join with itself": "SELECT count(*) AS n FROM input_table AS a JOIN input_table AS b ON a.id = b.quantity WHERE a.kind = 'book'",
}
DUCKDB = """
import json, sys, duckdb
path, query = sys.argv[1:]
connection = duckdb.connect()
connection.execute(f"CREATE VIEW input_table AS SELECT * FROM read_csv('{path}')")
result = connection.execute(query)
names = [column[0] for column in result.description]
print(json.dumps({"rows": [dict(zip(names, row)) for row in result.fetchall()]}, default=str))
"""


def write_rows(path: Path) -> None:
    """id, name, kind, price, quantity, day."""
    numbers = random.Random(SEED)
    with path.open("w") as file:
        file.write("id,name,kind,price,quantity,day\n")
        for row in range(ROWS):
            price, quantity = numbers.randrange(100, 100_000) / 100, numbers.randrange(1, 100)
            day = f"20{numbers.randrange(10, 25)}-{numbers.randrange(1, 13):02}-{numbers.randrange(1, 29):02}"
            file.write(f"{row},name of {row * 7919 % ROWS},{numbers.choice(KINDS)},{price},{quantity},{day}\n")


def timed(command: list[str]) -> tuple[float, str]:
    """Milliseconds from the start of a process to its end, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (time.perf_counter() - start) * 1e3, done.stdout


def is_same(ours: object, theirs: object) -> bool:
    """Floats may differ by the order in which they were added."""
    if isinstance(ours, float) or isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9)  # type: ignore[arg-type]
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(is_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(is_same, ours, theirs))
    return ours == theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vexact", default=shutil.which("vexact") or "target/release/vexact")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {ROWS} rows, seed {SEED}; medians of {options.rounds}")
    starts = [timed([options.vexact, "--help"])[0] for _ in range(options.rounds)]
    print(f"vexact --help: {statistics.median(starts):.1f} ms")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        write_rows(path)
        for name, query in QUERIES.items():
            ours, theirs = [], []
            for turn in range(options.rounds + 1):
                our_ms, our_text = timed([options.vexact, "csv-sql", "--csv", str(path), "--query", query])
                their_ms, their_text = timed([options.python, "-c", DUCKDB, str(path), query])
                our_rows, their_rows = json.loads(our_text)["rows"], json.loads(their_text)["rows"]
                if not our_rows or not is_same(our_rows, their_rows):
                    sys.exit(f"{name}: the answers differ:\n{our_rows}\n{their_rows}")
                # The first turn reads the file from the disk.
                if turn > 0:
                    ours.append(our_ms)
                    theirs.append(their_ms)
            ratio = statistics.median(their / our for our, their in zip(ours, theirs))
            print(f"{name}: vexact {statistics.median(ours):.0f} ms, DuckDB {statistics.median(theirs):.0f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
