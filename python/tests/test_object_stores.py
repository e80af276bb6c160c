"""Files in S3, as a server of another project serves it: the same answers as over local files, and no credentials anywhere."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from reference import vectors

moto_server = pytest.importorskip("moto.server")
boto3 = pytest.importorskip("boto3")

SECRET = "marker-of-a-secret"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def bucket(endpoint: str):
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key=SECRET
    )
    client.create_bucket(Bucket="docs")
    return client


@pytest.fixture
def stores(endpoint: str, bucket: object) -> dict[str, dict[str, object]]:
    options = {"access_key_id": "id", "secret_access_key": SECRET, "region": "us-east-1"}
    return {"s3://": {**options, "endpoint": endpoint, "allow_http": True, "max_retries": 1, "retry_timeout": "2s"}}


@pytest.fixture
def environment(endpoint: str, bucket: object) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    given = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
    return {**plain, **given, "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true"}


def table(start: int, end: int) -> pa.Table:
    ids = np.arange(start, end)
    rows = ((ids[:, None] * 31 + np.arange(8) * 17) % 101).astype(np.float32)
    rows[ids % 3 == 0] = 1
    texts = [None if id % 7 == 0 else f"text {id % 5}" for id in ids]
    return pa.table({"id": ids, "text": texts, "vec": vectors(rows)})


@pytest.fixture
def folder(tmp_path: pathlib.Path, bucket) -> pathlib.Path:
    """Files of a folder, which are in the bucket too."""
    parts = {"year=2025/a.parquet": (0, 400), "year=2025/b.parquet": (400, 401), "year=2026/a.parquet": (401, 900)}
    for name, (start, end) in parts.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(start, end), path, row_group_size=100)
        bucket.upload_file(str(path), "docs", f"data/{name}")
    return tmp_path / "data"


QUERIES = [
    "SELECT * FROM t",
    "SELECT id FROM t LIMIT 5 OFFSET 398",
    "SELECT year, text, count(*), sum(id), min(id) FROM t GROUP BY year, text ORDER BY year, text",
    "SELECT id, year FROM t WHERE year = 2026 AND id % 100 = 0",
    "SELECT id FROM t ORDER BY l2_distance(vec, [1, 1, 1, 1, 1, 1, 1, 1]) LIMIT 300",
    "SELECT count(*), count(text), min(year), max(year) FROM t",
]


def test_answers_equal_those_over_local_files(folder: pathlib.Path, stores: dict[str, dict[str, object]]) -> None:
    for path in ("", "/", "/**/*.parquet", "/year=2025", "/year=2026/a.parquet"):
        here, there = vexact.Session(), vexact.Session(object_stores=stores)
        here.create_temp_view("t", here.read_parquet(f"{folder}{path}"))
        there.create_temp_view("t", there.read_parquet(f"s3://docs/data{path}"))
        queries = QUERIES if path in ("", "/", "/**/*.parquet") else [sql for sql in QUERIES if "year" not in sql]
        for sql in queries:
            assert there.sql(sql).to_arrow() == here.sql(sql).to_arrow(), (path, sql)
        found = [
            session.vector_search("t", "vec", [1.0] * 8, top_k=350, metric="l2", filter="id > 150", columns="*").to_arrow()
            for session in (here, there)
        ]
        assert found[0] == found[1] and found[0].num_rows == (350 if path != "/year=2025" else 250)


def test_folders_are_columns_as_in_pyarrow(folder: pathlib.Path) -> None:
    session = vexact.Session()
    session.create_temp_view("t", session.read_parquet(folder))
    expected = pq.read_table(folder).to_pydict()
    found = session.sql("SELECT id, year FROM t").to_arrow().to_pydict()
    assert found["id"] == expected["id"] and [str(year) for year in found["year"]] == [str(y) for y in expected["year"]]
    assert session.read(folder).count() == 900
    assert session.read(f"{folder}/year=2025").columns == ["id", "text", "vec"]


def test_what_is_written_is_read_by_others(stores: dict[str, dict[str, object]], bucket, tmp_path: pathlib.Path) -> None:
    session = vexact.Session(object_stores=stores)
    rows = table(0, 60_000)
    frame = session.create_dataframe_from_arrow(rows)
    session.create_temp_view("t", frame)
    frame.write_parquet("s3://docs/out/a.parquet")
    bucket.download_file("docs", "out/a.parquet", str(tmp_path / "a.parquet"))
    assert pq.read_table(tmp_path / "a.parquet") == rows
    # Uncompressed, it is sent in parts.
    wide = session.create_dataframe_from_arrow({"id": range(40_000), "v": vectors(np.ones((40_000, 128), np.float32))})
    session.create_temp_view("wide", wide)
    session.sql("COPY wide TO 's3://docs/out/w.arrow' STORED AS arrow")
    head = bucket.head_object(Bucket="docs", Key="out/w.arrow")
    assert head["ContentLength"] > 16 << 20 and head["ETag"].strip('"').endswith("-3")
    assert session.read("s3://docs/out/w.arrow").count() == 40_000
    session.sql("CREATE TABLE kept (id BIGINT) USING parquet OPTIONS (path: 's3://docs/kept/')")
    session.sql("INSERT INTO kept SELECT id FROM t WHERE id < 10")
    session.sql("INSERT INTO kept VALUES (10)")
    assert session.sql("SELECT count(*), sum(id) FROM kept").to_rows()["rows"] == [[11, 55]]
    assert bucket.list_multipart_uploads(Bucket="docs").get("Uploads", []) == []


def test_errors_are_of_their_kind_and_have_no_credentials(
    stores: dict[str, dict[str, object]], monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    session = vexact.Session(object_stores=stores)
    assert SECRET not in repr(session) + repr(vars(session))
    for path in ("s3://docs/missing.parquet", "s3://nobody/missing.parquet", "s3://docs/*.missing"):
        with pytest.raises(vexact.SourceNotFoundError, match="file not found: s3://") as found:
            session.read_parquet(path)
        assert SECRET not in str(found.value)
    nothing = {"s3://": {**stores["s3://"], "endpoint": "http://127.0.0.1:9"}}
    with pytest.raises(vexact.SourceIOError, match="s3://docs/a.parquet: expected an answer, got: .*refused") as refused:
        vexact.Session(object_stores=nothing).read_parquet("s3://docs/a.parquet")
    assert SECRET not in str(refused.value)
    for given, error, message in [
        ({"s3://docs": {"secret": SECRET}}, vexact.InvalidRequestError, "object_stores: s3://docs: unknown option 'secret'|\"secret\""),
        ({"docs": {"region": SECRET}}, vexact.InvalidRequestError, "object_stores: docs: expected the URL of a store"),
        ({"s3://docs": SECRET}, TypeError, "object_stores: s3://docs: expected a mapping of options, got str"),
        ({"s3://docs": {"region": [SECRET]}}, TypeError, "object_stores: s3://docs: region: expected a str, bool or int"),
        ([SECRET], TypeError, "object_stores: expected a mapping of URLs"),
    ]:
        with pytest.raises(error, match=message) as wrong:
            vexact.Session(object_stores=given)  # type: ignore[arg-type]
        assert SECRET not in str(wrong.value)
    for url in (f"https://host/a.parquet?X-Amz-Signature={SECRET}", f"https://id:{SECRET}@host/a.parquet"):
        with pytest.raises(vexact.InvalidRequestError, match="expected a URL without a user or query") as wrong:
            session.read_parquet(url)
        assert SECRET not in str(wrong.value)
    # Options by value are not those of the environment, which stays as it is.
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    before = dict(os.environ)
    assert vexact.Session(object_stores=stores).read_parquet("s3://docs/data/").count() == 900
    assert dict(os.environ) == before


def test_the_command_reads_and_writes_stores_and_records_no_credentials(
    folder: pathlib.Path, environment: dict[str, str], tmp_path: pathlib.Path, bucket
) -> None:
    home = tmp_path / "home"
    environment = {**environment, "VEXACT_HOME": str(home)}

    def run(*arguments: str, fails: bool = False) -> dict:
        command = [sys.executable, "-m", "vexact", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr
        return json.loads(done.stdout)

    sql = "SELECT year, count(*) AS n FROM input_table GROUP BY year ORDER BY year"
    for path in (str(folder), "s3://docs/data/"):
        rows = run("file-sql", "--input-path", path, "--query", sql)["rows"]
        assert rows == [{"year": 2025, "n": 401}, {"year": 2026, "n": 499}]
    search = ("--vector-column", "vec", "--query-vector", "1,1,1,1,1,1,1,1", "--columns", "id", "--top-k", "4")
    found = [run("vector-search", "--input-path", path, *search)["rows"] for path in (str(folder), "s3://docs/data")]
    assert found[0] == found[1] and [row["id"] for row in found[0]] == [0, 3, 6, 9]
    copied = ("--query", "SELECT id FROM input_table", "--output-path", "s3://docs/cli/ids.parquet")
    answer = run("file-sql", "--input-path", "s3://docs/data/", *copied)
    assert (answer["row_count"], answer["output_path"]) == (900, "s3://docs/cli/ids.parquet")
    bucket.download_file("docs", "cli/ids.parquet", str(tmp_path / "ids.parquet"))
    assert pq.read_table(tmp_path / "ids.parquet")["id"].to_pylist() == list(range(900))

    started = run("run", "start", "--", "file-sql", "--input-path", "s3://docs/data/", "--query", sql)
    inputs = json.loads((home / "runs" / started["run_id"] / "inputs.json").read_text())
    assert inputs["input_file"]["path"] == "s3://docs/data/"
    missing = run("run", "start", "--", "file-sql", "--input-path", "s3://docs/no.parquet", "--query", sql, fails=True)
    assert (missing["error"], missing["error_type"]) == ("file not found: s3://docs/no.parquet", "file_not_found")
    signed = f"https://host/a.parquet?X-Amz-Signature={SECRET}"
    refused = run("run", "start", "--", "file-sql", "--input-path", signed, "--query", sql, fails=True)
    assert refused["details"]["input_path"] == "https://host/a.parquet?***"
    recorded = [path for path in home.rglob("*") if path.is_file()]
    assert len(recorded) > 6
    for path in recorded:
        assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a process")
def test_ctrl_c_ends_a_query_that_waits_for_a_store() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        options = {"endpoint": f"http://127.0.0.1:{port}", "allow_http": True, "skip_signature": True}
        session = vexact.Session(object_stores={"s3://docs": options})

        def interrupt() -> None:
            # The request has come: the query waits for the answer.
            silent.accept()
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            session.read_parquet("s3://docs/a.parquet")
        thread.join()
        assert session.sql("SELECT 1 AS n").to_rows()["rows"] == [[1]]


def test_a_sheet_is_read_from_a_store(stores: dict[str, dict[str, object]], bucket, tmp_path: pathlib.Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["id", "text"], [1, "007"], [2, None]):
        book.active.append(row)
    book.save(tmp_path / "book.xlsx")
    bucket.upload_file(str(tmp_path / "book.xlsx"), "docs", "sheets/book.xlsx")
    session = vexact.Session(object_stores=stores)
    expected = vexact.read_excel(session, tmp_path / "book.xlsx").to_arrow()
    url = "s3://docs/sheets/book.xlsx"
    assert vexact.read_excel(session, url).to_arrow() == expected and expected.num_rows == 2
    assert vexact.read_excel(session, url, nrows=1).to_arrow() == expected.slice(0, 1)
    assert session.read(url).to_arrow() == expected
    assert session.probe(url)["kind"] == "excel"
    with pytest.raises(vexact.SourceNotFoundError, match="s3://docs/sheets/none.xlsx"):
        vexact.read_excel(session, "s3://docs/sheets/none.xlsx")
    with pytest.raises(vexact.InvalidRequestError, match="s3://docs/data/x.xlsx: "):
        bucket.put_object(Bucket="docs", Key="data/x.xlsx", Body=b"no workbook")
        vexact.read_excel(session, "s3://docs/data/x.xlsx")
