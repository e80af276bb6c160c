"""Files in object stores through workers, which have credentials of their own: from their environment, or from a file. The
credentials are in no plan, error, repr or log. S3 is a server of another project; Google's and Azure's stores are ours."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from cluster import Worker, addresses, strategy
from reference import vectors
from store_server import StoreServer, azure, google

SECRET = "marker-of-a-secret"
KEY = base64.b64encode(SECRET.encode()).decode()
QUERY = [1.0] * 8
SQL = [
    "SELECT id, text FROM t ORDER BY l2_distance(vec, [1, 1, 1, 1, 1, 1, 1, 1]) LIMIT 300",
    "SELECT text, count(*) AS n, sum(id) AS s FROM t GROUP BY text ORDER BY text",
    "SELECT id FROM t WHERE l2_distance(vec, [1, 1, 1, 1, 1, 1, 1, 1]) < 200 AND id % 7 = 1 ORDER BY id",
    "SELECT id FROM t WHERE id > 880",
]


def table(start: int, end: int) -> pa.Table:
    ids = np.arange(start, end)
    rows = ((ids[:, None] * 31 + np.arange(8) * 17) % 101).astype(np.float32)
    rows[ids % 3 == 0] = 1
    texts = [None if id % 7 == 0 else f"text {id % 5}" for id in ids]
    return pa.table({"id": ids, "text": texts, "vec": vectors(rows)})


FILES = {"data/a.parquet": (0, 400), "data/b.parquet": (400, 401), "data/c.parquet": (401, 900)}


def encoded(start: int, end: int) -> bytes:
    file = io.BytesIO()
    pq.write_table(table(start, end), file, row_group_size=100)
    return file.getvalue()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> vexact.Session:
    folder = tmp_path_factory.mktemp("files")
    for name, rows in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(encoded(*rows))
    session = vexact.Session()
    session.create_temp_view("t", session.read_parquet(folder / "data"))
    return session


def plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_", "AZURE_"))}


def check(local: vexact.Session, remote: vexact.Session, url: str) -> None:
    """The answers are those over local files, and nothing shows the credentials."""
    remote.create_temp_view("t", remote.read_parquet(url))
    for sql in SQL:
        assert remote.sql(sql).to_arrow() == local.sql(sql).to_arrow(), sql
    options: dict[str, Any] = {"top_k": 20, "metric": "l2", "filter": "id > 150", "columns": ["id"]}
    expected = local.vector_search("t", "vec", QUERY, **options).to_arrow()
    assert remote.vector_search("t", "vec", QUERY, **options).to_arrow() == expected
    explained = remote.explain_vector_search("t", "vec", QUERY, **options)
    found = strategy(explained.strategy)
    assert int(found["tasks"]) == 2 and int(found["bytes_over_network"]) < 64 * 1024
    shown = f"{explained} {explained.physical} {explained.logical} {remote!r} {vars(remote)!r} {remote.explain_sql(SQL[0])}"
    assert SECRET not in shown and KEY not in shown
    assert url.partition("://")[2].partition("/")[2].rstrip("/") in explained.physical


class S3:
    """A bucket with the files."""

    def __init__(self, endpoint: str) -> None:
        self.options = {"access_key_id": "id", "secret_access_key": SECRET, "region": "us-east-1"}
        self.options |= {"endpoint": endpoint, "allow_http": True, "max_retries": 1, "retry_timeout": "2s"}
        self.environment = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        self.environment |= {"AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true"}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server_module, boto3 = pytest.importorskip("moto.server"), pytest.importorskip("boto3")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    store = S3(f"http://{host}:{port}")
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key=SECRET
    )
    client.create_bucket(Bucket="vectors")
    for name, rows in FILES.items():
        client.put_object(Bucket="vectors", Key=name, Body=encoded(*rows))
    yield store
    server.stop()


def stores_file(path: Path, stores: Mapping[str, Mapping[str, object]]) -> str:
    path.write_text(json.dumps(stores))
    return str(path)


@pytest.mark.parametrize("of_worker", ["environment", "file"])
def test_s3_through_workers(local: vexact.Session, s3: S3, tmp_path: Path, of_worker: str) -> None:
    log, environment, options = tmp_path / "log", plain_environment(), []
    if of_worker == "environment":
        environment |= s3.environment
    else:
        options = ["--object-stores", stores_file(tmp_path / "stores.json", {"s3://vectors": s3.options})]
    with Worker(*options, env=environment, log=log) as one, Worker(*options, env=environment) as two:
        check(local, vexact.Session(workers=addresses([one, two]), object_stores={"s3://": s3.options}), "s3://vectors/data/")
    assert SECRET not in log.read_text()


def test_a_worker_without_credentials_says_what_is_missing(s3: S3, tmp_path: Path) -> None:
    log = tmp_path / "log"
    wrong = {**s3.options, "endpoint": "http://127.0.0.1:9"}
    options = ["--object-stores", stores_file(tmp_path / "stores.json", {"s3://": wrong})]
    with Worker(*options, env=plain_environment(), log=log) as worker:
        session = vexact.Session(workers=addresses([worker]), object_stores={"s3://": s3.options})
        session.create_temp_view("t", session.read_parquet("s3://vectors/data/"))
        with pytest.raises(vexact.SourceIOError, match=r"s3://vectors/data/\w.parquet: expected an answer") as caught:
            session.sql(SQL[0]).to_arrow()
        assert SECRET not in str(caught.value)
        # The coordinator's own credentials are never sent.
        assert SECRET not in log.read_text()


def test_only_allowed_buckets_are_read(s3: S3) -> None:
    with Worker("--allow", "s3://other", env=plain_environment() | s3.environment) as worker:
        session = vexact.Session(workers=addresses([worker]), object_stores={"s3://": s3.options})
        session.create_temp_view("t", session.read_parquet("s3://vectors/data/"))
        with pytest.raises(vexact.InvalidRequestError, match=r"--allow, got s3://vectors/data/[abc].parquet"):
            session.sql(SQL[0]).to_arrow()


def test_errors_of_the_file_of_stores_have_no_values(tmp_path: Path) -> None:
    for stores, expected in [
        ({"s3://vectors": {"secret": SECRET}}, "stores.json: object_stores: s3://vectors: unknown option"),
        ({"s3://vectors": SECRET}, "stores.json: s3://vectors: expected a JSON object"),
    ]:
        path = stores_file(tmp_path / "stores.json", stores)  # type: ignore[arg-type]
        done = subprocess.run([sys.executable, "-m", "vexact", "worker", "--object-stores", path], capture_output=True, text=True)
        assert expected in json.loads(done.stdout)["error"] and SECRET not in done.stdout + done.stderr


@pytest.fixture
def server() -> Iterator[StoreServer]:
    with StoreServer() as server:
        for bucket in ("docs",):
            server.objects |= {f"{bucket}/{name}": encoded(*rows) for name, rows in FILES.items()}
        yield server


STORES = pytest.mark.parametrize("scheme", ["gs", "az"])


def options_of(scheme: str, endpoint: str) -> dict[str, object]:
    options = google(endpoint, SECRET) if scheme == "gs" else azure(endpoint, KEY)
    return {**options, "max_retries": 3, "retry_timeout": "5s"}


@STORES
def test_other_stores_are_read_and_written(local: vexact.Session, server: StoreServer, scheme: str) -> None:
    stores = {f"{scheme}://": options_of(scheme, server.endpoint)}
    session = vexact.Session(object_stores=stores)
    for path in ("data/", "data/*.parquet"):
        session.create_temp_view("t", session.read_parquet(f"{scheme}://docs/{path}"))
        for sql in SQL:
            assert session.sql(sql).to_arrow() == local.sql(sql).to_arrow(), sql
    session.sql(f"COPY t TO '{scheme}://docs/out/t.parquet'")
    assert pq.read_table(io.BytesIO(server.objects["docs/out/t.parquet"])) == local.sql("SELECT * FROM t").to_arrow()
    # Uncompressed and of more than 16 MB, it is sent in parts.
    wide = session.create_dataframe_from_arrow({"id": range(40_000), "v": vectors(np.ones((40_000, 128), np.float32))})
    session.create_temp_view("wide", wide)
    session.sql(f"COPY wide TO '{scheme}://docs/out/w.arrow' STORED AS arrow")
    assert session.read(f"{scheme}://docs/out/w.arrow").count() == 40_000 and server.parts == {}
    with pytest.raises(vexact.SourceNotFoundError, match=f"{scheme}://docs/missing.parquet"):
        session.read_parquet(f"{scheme}://docs/missing.parquet")
    if scheme == "az":
        # Requests are signed: with the key, not by it.
        signatures = {signature for _, _, signature in server.requests}
        assert all(signature and signature.startswith("SharedKey box:") and KEY not in signature for signature in signatures)


@STORES
def test_other_stores_are_read_through_workers(
    local: vexact.Session, server: StoreServer, tmp_path: Path, scheme: str
) -> None:
    stores = {f"{scheme}://docs": options_of(scheme, server.endpoint)}
    log, options = tmp_path / "log", ["--object-stores", stores_file(tmp_path / "stores.json", stores)]
    with Worker(*options, env=plain_environment(), log=log) as one, Worker(*options, env=plain_environment()) as two:
        check(local, vexact.Session(workers=addresses([one, two]), object_stores=stores), f"{scheme}://docs/data/")
    assert SECRET not in log.read_text() and KEY not in log.read_text()


@STORES
def test_failures_of_other_stores_are_retried_and_named(local: vexact.Session, server: StoreServer, scheme: str) -> None:
    session = vexact.Session(object_stores={f"{scheme}://": options_of(scheme, server.endpoint)})
    # Every third request fails, and every fifth answer is cut.
    server.fault = lambda method, path, number: 503 if number % 3 == 0 else None
    session.create_temp_view("t", session.read_parquet(f"{scheme}://docs/data/"))
    for sql in SQL:
        assert session.sql(sql).to_arrow() == local.sql(sql).to_arrow(), sql
    server.fault = lambda method, path, number: 403
    with pytest.raises(vexact.SourceIOError, match=rf"{scheme}://docs.*expected access, got 403") as caught:
        session.sql(SQL[0]).to_arrow()
    assert KEY not in str(caught.value) and SECRET not in str(caught.value)
    server.fault = lambda method, path, number: 0 if path.endswith(".parquet") else None
    with pytest.raises(vexact.VexactError, match=rf"{scheme}://docs/data/\w.parquet") as caught:
        vexact.Session(object_stores={f"{scheme}://": options_of(scheme, server.endpoint)}).read_parquet(f"{scheme}://docs/data/")
    assert KEY not in str(caught.value)
