"""Workers behind TLS: certificates that are made here by openssl, and what a client says of wrong ones."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vexact
from cluster import Worker

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")

SECRET = "s3cret-token"
SQL = "SELECT count(*) AS n FROM docs WHERE id > 5"


def openssl(*arguments: object) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", self.key, "-out", self.certificate,
        )  # fmt: skip

    def issue(self, name: str, alternatives: str, *, ends: str | None = None) -> tuple[Path, Path]:
        """Returns a certificate and its key for these names."""
        certificate, key, request = (self.folder / f"{name}.{suffix}" for suffix in ("crt", "key", "csr"))
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        names = self.folder / f"{name}.names"
        names.write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
        days = ["-days", "-1"] if ends == "past" else ["-days", "2"]
        openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", *days,
            "-extfile", names, "-out", certificate,
        )  # fmt: skip
        return certificate, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "authority")


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "docs.parquet"
    pq.write_table(pa.table({"id": range(1000)}), path, row_group_size=100)
    return path


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(SECRET + "\n")
    return path


@pytest.fixture(scope="module")
def worker(authority: Authority, token_file: Path) -> Iterator[Worker]:
    certificate, key = authority.issue("worker", "IP:127.0.0.1,DNS:localhost")
    with Worker("--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(token_file)) as worker:
        yield worker


def count(docs: Path, address: str, **options: object) -> int:
    session = vexact.Session(workers=address, **options)  # type: ignore[arg-type]
    session.create_temp_view("docs", session.read_parquet(docs))
    return session.sql(SQL).to_rows()["rows"][0][0]


def refusal(docs: Path, address: str, **options: object) -> str:
    """The error of a query, which comes at once and names the worker."""
    begun = time.monotonic()
    with pytest.raises(vexact.SourceIOError) as caught:
        count(docs, address, **options)
    assert time.monotonic() - begun < 15
    text = str(caught.value)
    assert SECRET not in text and re.search(r"worker (127\.0\.0\.1|localhost):\d+", text), text
    return text


def test_a_query_runs_over_tls(docs: Path, worker: Worker, authority: Authority) -> None:
    assert worker.answer["listening"].startswith("https://")
    port = worker.address.rpartition(":")[2]
    trusted = {"tls_ca": authority.certificate, "token": SECRET}
    for address in (worker.address, f"https://{worker.address}", f"https://localhost:{port}", f"dns:localhost:{port}"):
        assert count(docs, address, **trusted) == 994, address


def test_the_commands_run_over_tls(docs: Path, worker: Worker, authority: Authority, token_file: Path) -> None:
    access = ["--workers", worker.address, "--tls-ca", str(authority.certificate), "--token-file", str(token_file)]

    def answer(*arguments: str) -> dict[str, object]:
        done = subprocess.run([sys.executable, "-m", "vexact", *arguments, *access], capture_output=True, text=True)
        assert SECRET not in done.stdout + done.stderr
        return json.loads(done.stdout)

    assert answer("file-sql", "--input-path", str(docs), "--query", SQL.replace("docs", "input_table"))["rows"] == [{"n": 994}]
    assert answer("cluster", "status")["ready"] == 1


def test_a_certificate_of_another_authority_is_refused(
    docs: Path, worker: Worker, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    for retries in (0, 1):
        assert "TLS: " in refusal(docs, worker.address, tls_ca=other.certificate, token=SECRET, retries=retries)
    # Without a file, the system's certificates are those that are trusted.
    assert "TLS: " in refusal(docs, f"https://{worker.address}", token=SECRET)


@pytest.mark.parametrize("flaw", ["another name", "expired"])
def test_a_certificate_that_does_not_fit_is_refused(docs: Path, authority: Authority, flaw: str) -> None:
    names, ends = ("DNS:elsewhere.example", None) if flaw == "another name" else ("IP:127.0.0.1", "past")
    certificate, key = authority.issue(flaw.replace(" ", "-"), names, ends=ends)
    with Worker("--tls-cert", str(certificate), "--tls-key", str(key)) as worker:
        text = refusal(docs, worker.address, tls_ca=authority.certificate)
        assert "TLS: " in text and ("NotValidForName" in text or "not valid for name" in text or "xpired" in text), text


def test_tls_and_plain_connections_do_not_mix(docs: Path, worker: Worker, authority: Authority) -> None:
    plain = refusal(docs, f"http://{worker.address}", token=SECRET, retries=0)
    assert "it was lost" in plain
    with Worker() as open_worker:
        assert refusal(docs, open_worker.address, tls_ca=authority.certificate, retries=0)


def test_a_token_is_checked_over_tls(docs: Path, worker: Worker, authority: Authority) -> None:
    trusted = {"tls_ca": authority.certificate}
    assert "another token" in refusal(docs, worker.address, token="wrong", **trusted)
    assert "a token, got none" in refusal(docs, worker.address, **trusted)


def test_files_of_tls_are_checked_at_the_start(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    certificate, key = authority.issue("checked", "IP:127.0.0.1")
    for files, expected in [
        ((tmp_path / "text.pem", key), "text.pem: expected a PEM certificate and key"),
        ((tmp_path / "missing.pem", key), "missing.pem"),
    ]:
        command = ["worker", "--listen", "127.0.0.1:0", "--tls-cert", str(files[0]), "--tls-key", str(files[1])]
        answer = json.loads(subprocess.run([sys.executable, "-m", "vexact", *command], capture_output=True).stdout)
        assert not answer["ok"] and expected in answer["error"], answer
    with pytest.raises(vexact.SourceNotFoundError, match="missing.pem"):
        vexact.Session(workers="127.0.0.1:1", tls_ca=tmp_path / "missing.pem")
    assert certificate.exists()
