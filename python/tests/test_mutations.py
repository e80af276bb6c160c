"""Damaged files and SQL: whatever a byte is changed to, a file is read or refused, and the process goes on.

Each case runs in a child, so that an abort is seen, with its memory bounded. A failure prints the seed and keeps the input.
`VEXACT_SOAK_SECONDS` makes the run longer, with new seeds.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

SOAK = float(os.environ.get("VEXACT_SOAK_SECONDS", "0"))
CASES = 60
TABLE = pa.table(
    {
        "i": pa.array([1, None, 3] * 10, pa.int64()),
        "s": pa.array(["a", "é", None] * 10),
        "v": pa.array([[1.0, 2.0]] * 30, pa.list_(pa.float32(), 2)),
        "l": pa.array([[1], [], None] * 10, pa.list_(pa.int32())),
        "d": pa.array(["x", "y", "x"] * 10).dictionary_encode(),
    }
)


def ipc(kind: Callable[..., pa.ipc.RecordBatchStreamWriter]) -> bytes:
    sink = io.BytesIO()
    with kind(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=10)
    return sink.getvalue()


def parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(TABLE, sink, row_group_size=10)
    return sink.getvalue()


def excel() -> bytes:
    book = openpyxl.Workbook()
    for row in [["a", "b"], [1, "x"], [2.5, None]]:
        book.active.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {
    "csv": lambda: b'i,s,v\n1,"a ""b""\nc",[1 2]\n2,\xc3\xa9,[3 4]\n' * 20,
    "jsonl": lambda: b'{"i": 1, "s": "a\\n\\u00e9", "l": [1, 2.5], "o": {"x": [{}]}}\n' * 20,
    "parquet": parquet,
    "arrow": lambda: ipc(pa.ipc.new_file),
    "arrows": lambda: ipc(pa.ipc.new_stream),
    "xlsx": excel,
}

# Each line of its input is a path; each line of its output what became of it.
READ = """
import sys, vexact
try:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
except ImportError:
    pass
for line in sys.stdin:
    path = line.rstrip("\\n")
    session = vexact.Session(memory_limit_bytes=1 << 30, target_partitions=2, timeout=20)
    for read in (lambda: session.read(path), lambda: getattr(session, {"csv": "read_csv", "jsonl": "read_json", "parquet": "read_parquet"}.get(path.rsplit(".", 1)[1], "read_arrow_file"))(path)):
        try:
            frame = read()
            frame.to_arrow()
            frame.count()
            session.create_temp_view("t", frame)
            session.vector_search("t", "v", [1.0, 2.0], 3, filter="i > 1").count()
        except vexact.InternalError as error:
            print("internal", str(error).replace("\\n", " "), flush=True)
            break
        except (vexact.VexactError, TypeError, ImportError):
            pass
    else:
        print("fine", flush=True)
"""

QUERY = """
import sys, vexact, pyarrow as pa
session = vexact.Session(memory_limit_bytes=1 << 28, target_partitions=2, timeout=5)
session.create_temp_view("t", session.create_dataframe_from_arrow(pa.table({"id": range(5), "s": list("abcde"), "v": pa.array([[1.0, 2.0]] * 5, pa.list_(pa.float32(), 2))})))
for line in sys.stdin:
    for call in (lambda: session.sql(eval(line)).to_arrow(), lambda: session.explain_sql(eval(line))):
        try:
            call()
        except vexact.InternalError as error:
            print("internal", str(error).replace("\\n", " "), flush=True)
            break
        except vexact.VexactError:
            pass
    else:
        print("fine", flush=True)
"""


class Child:
    """A process that works on inputs one after the other, and is replaced when it dies."""

    def __init__(self, code: str) -> None:
        self.command = [sys.executable, "-c", code]
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        if answer := self.process.stdout.readline():
            return answer.strip()
        died = f"died: {self.process.wait()}: {self.process.stderr.read()[-300:] if self.process.stderr else ''}"
        self.process = self.start()
        return died

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Truncated, with bits flipped, bytes set to what lengths are made of, or parts doubled, moved or lost."""
    changed = bytearray(data)
    match chance.randrange(6):
        case 0:
            return bytes(changed[: chance.randrange(len(changed))])
        case 1 | 2:
            for _ in range(chance.choice([1, 1, 1, 3, 20])):
                at = chance.randrange(len(changed))
                changed[at] ^= 1 << chance.randrange(8)
        case 3:
            at = chance.randrange(max(len(changed) - 8, 1))
            width = chance.choice([1, 2, 4, 8])
            changed[at : at + width] = chance.choice([b"\xff" * width, b"\x00" * width, b"\xff" * (width - 1) + b"\x7f"])
        case 4:
            start, stop = sorted(chance.randrange(len(changed)) for _ in range(2))
            changed[start:start] = changed[start:stop]
        case _:
            start, stop = sorted(chance.randrange(len(changed)) for _ in range(2))
            del changed[start : min(stop, start + 16)]
    return bytes(changed)


def seeds() -> list[int]:
    """The seeds of a short run are the same each time; those of a long one are new."""
    return list(range(CASES)) if not SOAK else [random.randrange(2**63) for _ in range(CASES)]


def until_over(work: Callable[[int], None]) -> None:
    over = time.monotonic() + SOAK
    while True:
        for seed in seeds():
            work(seed)
        if time.monotonic() >= over:
            return


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_read_or_refused(form: str, tmp_path: Path) -> None:
    data = FORMS[form]()
    path = tmp_path / f"a.{form}"
    with Child(READ) as child:

        def work(seed: int) -> None:
            path.write_bytes(mutated(data, random.Random(seed)))
            answer = child.ask(str(path))
            assert answer == "fine", f"seed {seed} of {form}: {answer}; the file is {path}"

        until_over(work)


PARTS = """
SELECT id s v * DISTINCT ON (id) FROM t t a JOIN LEFT JOIN t b ON a.id = b.id USING (id) WHERE id = 1 AND OR NOT s LIKE 'a%' IN (1, 2)
IN (SELECT id FROM t) EXISTS (SELECT 1) GROUP BY id ROLLUP(id, s) HAVING count(*) > 1 ORDER BY id DESC NULLS FIRST LIMIT 3 OFFSET 1 UNION ALL
INTERSECT EXCEPT WITH c AS (SELECT 1 AS id) VALUES (1), (2) CASE WHEN id > 1 THEN s ELSE NULL END CAST(id AS VARCHAR) CAST(s AS INT) id::text
sum(id) avg(id) min(s) max(v) count(DISTINCT s) array_agg(id ORDER BY s) first_value(id ORDER BY s) row_number() OVER (PARTITION BY s ORDER BY id)
lag(id, 1) OVER () l2_distance(v, [1.0, 2.0]) cosine_distance(v, '[1 2]') vector_search('t', 'v', [1.0, 2.0], 3) generate_series(1, 3)
approx_percentile_cont(id, 0.5) median(id) string_agg(s, ',') repeat(s, 3) substr(s, 2, 1) extract(year FROM now()) date_trunc('day', now())
INTERVAL '1 day' DATE '2020-01-01' NULL TRUE 1 -1 0 9223372036854775807 1e308 'x' '' [1, 2] {a: 1} $1 ( ) , + - * / % || = <> < >= IS NULL BETWEEN 1 AND 2
LATERAL UNNEST([1, 2]) EXPLAIN ANALYZE SET vexact.tier = 'f32' SHOW ALL CREATE TABLE z AS INSERT INTO z DROP TABLE z information_schema.tables
""".split()
WHOLE = [
    "SELECT id, s FROM t WHERE id > 1 ORDER BY s LIMIT 2",
    "SELECT s, count(*), sum(id) FROM t GROUP BY s HAVING count(*) > 0 ORDER BY 2",
    "SELECT a.id, b.s FROM t a JOIN t b ON a.id = b.id WHERE a.s LIKE '%a%'",
    "SELECT id FROM t ORDER BY l2_distance(v, [1.0, 2.0]) LIMIT 3",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT sum(n) FROM r",
    "SELECT DISTINCT ON (s) s, id FROM t ORDER BY s, id",
    "SELECT id, row_number() OVER (PARTITION BY s ORDER BY id) FROM t",
    "SELECT (SELECT max(id) FROM t b WHERE b.s = t.s) FROM t",
]


def statement(chance: random.Random) -> str:
    words = chance.choice(WHOLE).split(" ")
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(words))
        match chance.randrange(4):
            case 0:
                words[at] = chance.choice(PARTS)
            case 1:
                words.insert(at, " ".join(chance.choice(PARTS) for _ in range(chance.randrange(1, 4))))
            case 2:
                del words[at]
            case _:
                other = chance.choice(WHOLE).split(" ")
                start = chance.randrange(len(other))
                words[at:at] = ["(", *other[start:], ")"]
        words = words or ["SELECT"]
    return " ".join(words)


def test_a_mutated_statement_is_answered_or_refused() -> None:
    with Child(QUERY) as child:

        def work(seed: int) -> None:
            sql = statement(random.Random(seed))
            answer = child.ask(repr(sql))
            assert answer == "fine", f"seed {seed}: {sql!r}: {answer}"

        for round in range(5):
            until_over(lambda seed: work(seed + 1_000_000 * round))
