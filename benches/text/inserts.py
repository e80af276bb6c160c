"""Inserts into a replicated table with a text index on and off: rows in SQLite, and the sync that
applies them.

    python benches/text/inserts.py [--rows 10000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

import vexact
from glosses import Glosses, glosses, timed, words


def measured(data: Glosses, path: Path, has_index: bool, at_once: int) -> tuple[float, float]:
    """Returns the microseconds a row of the inserts and of the sync."""
    with vexact.connect(path) as connection:
        connection.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, gloss TEXT, embedding BLOB)")
        connection.register_table(
            vexact.TableSchema("docs", [("id", "int64"), ("gloss", "utf8"), ("embedding", "vector(384)")], ["id"]), initial_sync=True
        )
        if has_index:
            connection.register_text("docs", "gloss")
        rows = list(zip(data.ids, data.texts, data.vectors))

        def insert() -> None:
            for start in range(0, len(rows), at_once):
                connection.execute_many("INSERT INTO docs VALUES (?, ?, ?)", rows[start : start + at_once])

        written, _ = timed(insert)
        applied, _ = timed(connection.sync_all)
        assert connection.query_olap("SELECT count(*) AS n FROM docs").to_pylist() == [{"n": len(rows)}]
        if has_index:
            found = connection.text_search("docs", "gloss", "animal", None).to_pylist()
            assert len(found) == sum("animal" in words(text) for text in data.texts)
        return written / len(rows) * 1e6, applied / len(rows) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    data = glosses(arguments.rows)
    for at_once in (1000, 1):
        best = {False: (math.inf, math.inf), True: (math.inf, math.inf)}
        for number in range(arguments.rounds):
            for has_index in (False, True):
                with tempfile.TemporaryDirectory() as folder:
                    written, applied = measured(data, Path(folder) / "app.db", has_index, at_once)
                best[has_index] = (min(best[has_index][0], written), min(best[has_index][1], applied))
        for has_index, (written, applied) in best.items():
            print(json.dumps({"rows_a_transaction": at_once, "text_index": has_index, "insert_us": round(written, 1), "sync_us": round(applied, 1)}))


if __name__ == "__main__":
    main()
