"""Files that others write to while they are read: each read gives one state of the file, or the error that says so."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

import vexact

ROWS = {1: 50_000, 222: 40_000}
READS = 40


def content(form: str, value: int, path: Path) -> bytes:
    rows = ROWS[value]
    table = pa.table({"a": [value] * rows, "b": [f"text {value}"] * rows, "c": [value / 2] * rows})
    if form == "csv":
        pyarrow.csv.write_csv(table, path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps({"a": value, "b": f"text {value}", "c": value / 2}) + "\n" for _ in range(rows)))
    elif form == "parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=5000)
    else:
        pyarrow.feather.write_feather(table, path, compression="uncompressed", chunksize=5000)
    return path.read_bytes()


@pytest.mark.parametrize("how", ["replaced", "written over"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "arrow"])
def test_a_file_is_read_as_it_was_at_one_time_or_refused(form: str, how: str, tmp_path: Path) -> None:
    path, other = tmp_path / f"a.{form}", tmp_path / f"other.{form}"
    contents = [content(form, value, other) for value in ROWS]
    path.write_bytes(contents[0])
    is_over = threading.Event()

    def write() -> None:
        turn = 0
        while not is_over.wait(0.003):
            turn += 1
            data = contents[turn % 2]
            if how == "replaced":
                other.write_bytes(data)
                os.replace(other, path)
            else:
                with path.open("r+b") as file:
                    file.write(data)
                    file.truncate(len(data))

    writer = threading.Thread(target=write)
    writer.start()
    session = vexact.Session(target_partitions=2)
    read = {"csv": session.read_csv, "jsonl": session.read_json, "parquet": session.read_parquet, "arrow": session.read_arrow_file}[form]
    whole = [[[value, f"text {value}", value / 2, rows]] for value, rows in ROWS.items()]
    try:
        for _ in range(READS):
            try:
                session.create_temp_view("t", read(str(path)))
                found = session.sql("SELECT a, b, c, count(*) FROM t GROUP BY a, b, c").to_rows()["rows"]
            except vexact.InvalidRequestError as error:
                # A file that is cut off or half written when it is opened is a damaged one.
                assert str(path) in str(error), error
            else:
                assert found in whole
    finally:
        is_over.set()
        writer.join()
