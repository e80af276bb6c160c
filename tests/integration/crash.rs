//! Kills the engine with SIGKILL, at random instants and at every operation of the storage, then
//! opens it again and compares it with SQLite row by row: no row is lost or doubled.
//!
//! The child process runs this program. `VEXACT_KILLS` (default 200) is the number of kills.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use vexact::disk::{Disk, DiskFile, DiskLock, FileSystem};
use vexact::oltp::{Oltp, OltpOptions, ResultTypes};
use vexact::replica::{Replicas, StorageFormat, Store, SyncMode};
use vexact::replication::{ReplicationOptions, Replicator};
use vexact::{Session, SessionOptions, TableSchema};

const TABLES: [&str; 2] = ["orders", "items"];

/// A disk that kills the process, as `kill -9` does, after a number of operations.
#[derive(Debug)]
struct Deadly {
    left: AtomicI64,
    disk: FileSystem,
}

impl Deadly {
    fn step(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
            std::process::abort();
        }
    }
}

struct DeadlyFile(Box<dyn DiskFile>, Arc<Deadly>);

impl Write for DeadlyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DiskFile for DeadlyFile {
    fn sync(&mut self) -> io::Result<()> {
        self.1.step();
        self.0.sync()
    }
}

#[derive(Debug, Clone)]
struct DeadlyDisk(Arc<Deadly>);

impl Disk for DeadlyDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.disk.create_folder(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.0.disk.lock(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.step();
        Ok(Box::new(DeadlyFile(self.0.disk.create(path)?, Arc::clone(&self.0))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step();
        self.0.disk.rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.step();
        self.0.disk.sync_folder(folder)
    }

    fn read(&self, path: &Path) -> io::Result<Buffer> {
        self.0.disk.read(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.0.disk.list(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.step();
        self.0.disk.remove(path)
    }
}

struct Engine {
    oltp: Arc<Oltp>,
    replicator: Replicator,
    session: Session,
}

/// Sync mode and storage format of the replicas in a folder.
#[derive(Clone, Copy)]
struct Kind {
    mode: SyncMode,
    format: Option<StorageFormat>,
}

fn kind(ordinal: u64) -> Kind {
    let format = [Some(StorageFormat::ArrowIpc), Some(StorageFormat::Parquet), None][ordinal as usize % 3];
    Kind { mode: if ordinal.is_multiple_of(2) { SyncMode::Destructive } else { SyncMode::Temporal }, format }
}

async fn open(folder: &Path, kind: Kind, disk: Arc<dyn Disk>) -> Engine {
    let oltp = Arc::new(Oltp::open(folder.join("app.db"), OltpOptions::default()).unwrap());
    let store = kind.format.map(|format| Arc::new(Store::open(&folder.join("replicas"), format, disk).unwrap()));
    let options = ReplicationOptions { mode: kind.mode, prunes: true, batch_size: 20, log_limit: None, store };
    let replicas = Arc::new(Replicas::default());
    let replicator = Replicator::start(Arc::clone(&oltp), Arc::clone(&replicas), options).await.unwrap();
    let session = Session::over_replicas(&SessionOptions::default(), replicas).unwrap();
    Engine { oltp, replicator, session }
}

fn schema(table: &str) -> TableSchema {
    let columns = [("id", "int64"), ("name", "utf8"), ("amount", "float64"), ("v", "vector(2)")];
    let columns: Vec<(String, String)> = columns.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
    TableSchema::try_new(table, &columns, &["id".into()]).unwrap()
}

/// A small generator, so that a seed determines a run (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

fn statement(random: &mut Random) -> String {
    let table = TABLES[random.below(2) as usize];
    let (id, amount) = (random.below(60), random.below(1000) as f64 / 8.0);
    match random.below(6) {
        0 | 1 => format!("REPLACE INTO {table} VALUES ({id}, 'n{amount}', {amount}, vector('[{id},{amount}]'))"),
        2 => format!("UPDATE {table} SET amount = amount + 1 WHERE id % 7 = {}", id % 7),
        3 => format!("UPDATE OR REPLACE {table} SET id = id + 1 WHERE id = {id}"),
        4 => format!("DELETE FROM {table} WHERE id = {id}"),
        _ => format!("INSERT OR IGNORE INTO {table}(id, name) VALUES ({id}, 'new')"),
    }
}

/// Writes and syncs until it is killed; prints a line on stdout for each round.
async fn work(folder: &Path, kind: Kind, seed: u64, operations: i64) {
    let disk = DeadlyDisk(Arc::new(Deadly { left: AtomicI64::new(operations), disk: FileSystem }));
    let engine = open(folder, kind, Arc::new(disk)).await;
    for table in TABLES {
        let create =
            format!("CREATE TABLE IF NOT EXISTS {table}(id INTEGER PRIMARY KEY, name TEXT, amount REAL, v BLOB)");
        engine.oltp.execute(create, vec![]).await.unwrap();
        engine.replicator.register(schema(table), true).await.unwrap();
    }
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for round in 0.. {
        let count = 1 + random.below(8);
        engine.oltp.execute_batch((0..count).map(|_| (statement(&mut random), vec![])).collect()).await.unwrap();
        match random.below(4) {
            0 => {}
            1 => drop(engine.replicator.sync_now().await.unwrap()),
            2 => drop(engine.replicator.sync_all().await.unwrap()),
            _ => {
                engine.replicator.initial_sync(TABLES[random.below(2) as usize]).await.unwrap();
            }
        }
        println!("{round}");
    }
}

fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")),
        );
    }
    rows.sort();
    rows
}

/// Opens the folder that a killed process left, and compares it.
async fn check(folder: &Path, kind: Kind) {
    let engine = open(folder, kind, Arc::new(FileSystem)).await;
    engine.replicator.sync_all().await.unwrap();
    let status = engine.replicator.status().await.unwrap();
    assert_eq!((status.lag, status.last_error), (0, None));
    for table in status.tables.iter().map(|table| table.name.clone()) {
        let registered = Arc::new(schema(&table));
        let types = ResultTypes {
            registered: Some(Arc::new(move |_: &str| Some(Arc::clone(&registered)))),
            expressions: vec![],
        };
        let sql = format!("SELECT id, name, amount, v FROM {table}");
        let expected = texts(&engine.oltp.query(sql.clone(), vec![], types).await.unwrap());
        let is_open = if kind.mode == SyncMode::Temporal { " WHERE _valid_to IS NULL" } else { "" };
        let found = engine.session.sql(&format!("{sql}{is_open}"), None).await.unwrap().collect().await.unwrap();
        assert_eq!(texts(&found), expected, "{table} in {}", folder.display());
        if kind.mode == SyncMode::Temporal {
            // The version of a key ends at the start of the next one, or at a delete.
            let gaps = format!(
                "SELECT a.id FROM {table} a WHERE a._valid_to IS NOT NULL AND a._operation <> 'D' AND NOT EXISTS \
                 (SELECT 1 FROM {table} b WHERE b.id = a.id AND b._valid_from = a._valid_to)"
            );
            let gaps = engine.session.sql(&gaps, None).await.unwrap().collect().await.unwrap();
            assert_eq!(texts(&gaps), Vec::<String>::new(), "gaps in the history of {table}");
        }
    }
    engine.replicator.shutdown().await;
    engine.oltp.shutdown().await;
}

fn child(folder: &Path, ordinal: u64, seed: u64, operations: i64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::the_child", "--ignored", "--nocapture"]);
    command.env("VEXACT_CRASH", format!("{ordinal} {seed} {operations} {}", folder.display()));
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

#[test]
#[ignore = "is run by the other tests, to be killed"]
fn the_child() {
    let text = std::env::var("VEXACT_CRASH").expect("run by the other tests");
    let mut words = text.splitn(4, ' ');
    let mut number = || words.next().unwrap().parse::<i64>().unwrap();
    let (ordinal, seed, operations) = (number() as u64, number() as u64, number());
    let folder = PathBuf::from(words.next().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(&folder, kind(ordinal), seed, operations));
}

fn kills() -> u64 {
    std::env::var("VEXACT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200)
}

/// Runs a child until it has died. With `lines`, kills it after that many rounds.
fn run(folder: &Path, ordinal: u64, seed: u64, operations: i64, lines: Option<u64>) {
    let mut process = child(folder, ordinal, seed, operations).spawn().unwrap();
    let stdout = BufReader::new(process.stdout.take().unwrap());
    let mut rounds = 0;
    let mut last = String::new();
    for line in stdout.lines() {
        last = line.unwrap();
        rounds += u64::from(last.parse::<u64>().is_ok());
        if lines.is_some_and(|lines| rounds >= lines) {
            break;
        }
    }
    // SIGKILL, at any point of its work.
    let _ = process.kill();
    let status = process.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "the child ended itself: {last}");
}

fn kill_again_and_again(kills: u64, one: impl Fn(&Path, u64, u64)) {
    let folders: Vec<tempfile::TempDir> = (0..6).map(|_| tempfile::tempdir().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for seed in 0..kills {
        let ordinal = seed % 6;
        let folder = folders[ordinal as usize].path();
        one(folder, ordinal, seed);
        runtime.block_on(check(folder, kind(ordinal)));
    }
}

#[test]
fn kills_at_random_instants_lose_and_double_nothing() {
    kill_again_and_again(kills() / 2, |folder, ordinal, seed| {
        let mut random = Random(seed + 77);
        random.below(2);
        run(folder, ordinal, seed, i64::MAX, Some(random.below(25)));
    });
}

#[test]
fn kills_at_every_operation_of_the_storage_lose_and_double_nothing() {
    // Two of the six kinds are in memory and have no storage.
    kill_again_and_again(kills() / 2, |folder, ordinal, seed| {
        let operations = (seed / 6) as i64;
        let lines = kind(ordinal).format.is_none().then_some(seed % 9);
        run(folder, ordinal, seed, operations, lines);
    });
}
