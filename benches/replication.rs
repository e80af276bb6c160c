//! Cost of replication: capture, syncs of inserts, updates and deletes at several table sizes,
//! short syncs and initial copies. Each figure is the median of its rounds. The replicas are
//! checked against SQLite's count of rows only after the rounds: the check reads the whole table,
//! which evicts everything else from the caches.
//!
//! `VEXACT_BENCH_ROWS` (default 1 000 000): rows of the large table.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use tokio::runtime::Runtime;
use vexact::TableSchema;
use vexact::oltp::{Oltp, OltpOptions};
use vexact::replica::{Replicas, SyncMode};
use vexact::replication::{ReplicationOptions, Replicator};

const COLUMNS: &str = "(id INTEGER PRIMARY KEY, name TEXT, quantity INTEGER, price REAL)";

struct Engine {
    runtime: Runtime,
    oltp: Arc<Oltp>,
    replicator: Replicator,
}

fn schema() -> TableSchema {
    let columns = [("id", "int64"), ("name", "utf8"), ("quantity", "int64"), ("price", "float64")];
    let columns: Vec<(String, String)> = columns.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
    TableSchema::try_new("t", &columns, &["id".into()]).unwrap()
}

fn open(path: &Path) -> Engine {
    let runtime = Runtime::new().unwrap();
    let oltp = Arc::new(Oltp::open(path, OltpOptions::default()).unwrap());
    let options = ReplicationOptions {
        mode: SyncMode::Destructive,
        prunes: true,
        batch_size: 100_000,
        log_limit: None,
        store: None,
    };
    let replicator =
        runtime.block_on(Replicator::start(Arc::clone(&oltp), Arc::new(Replicas::default()), options)).unwrap();
    Engine { runtime, oltp, replicator }
}

fn row(id: i64) -> Vec<Value> {
    vec![
        Value::Integer(id),
        Value::Text(format!("name-{}", id % 10_007)),
        Value::Integer(id * 7919 % 1_000_003),
        Value::Real(id as f64 / 7.0),
    ]
}

impl Engine {
    fn insert(&self, ids: std::ops::Range<i64>) -> Duration {
        let rows: Vec<Vec<Value>> = ids.map(row).collect();
        let started = Instant::now();
        self.runtime.block_on(self.oltp.execute_many("INSERT INTO t VALUES (?, ?, ?, ?)", rows)).unwrap();
        started.elapsed()
    }

    fn many(&self, sql: &str, rows: Vec<Vec<Value>>) {
        self.runtime.block_on(self.oltp.execute_many(sql, rows)).unwrap();
    }

    fn sync(&self) -> Duration {
        let started = Instant::now();
        self.runtime.block_on(self.replicator.sync_all()).unwrap();
        started.elapsed()
    }

    fn checked_sync(&self) -> Duration {
        let took = self.sync();
        let count = "SELECT count(*) FROM t";
        let rows = self
            .runtime
            .block_on(self.oltp.read(move |conn| Ok(conn.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap())));
        let snapshot = self.replicator.replicas().snapshot();
        assert_eq!(snapshot.table("t").unwrap().version.num_rows() as i64, rows.unwrap());
        took
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn rate(name: &str, count: i64, took: Duration) {
    let per_second = count as f64 / took.as_secs_f64();
    println!("{name:<48} {:>10.0} k/s {:>9.3} us each", per_second / 1e3, took.as_secs_f64() * 1e6 / count as f64);
}

/// Returns ids that are spread over all of them.
fn scattered(count: i64, rows: i64, round: i64) -> impl Iterator<Item = i64> {
    (0..count).map(move |i| (i * 7919 + round * 104_729) % rows)
}

fn main() {
    let large: i64 = std::env::var("VEXACT_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().unwrap();

    let plain = open(&folder.path().join("plain.db"));
    plain.runtime.block_on(plain.oltp.execute(format!("CREATE TABLE t{COLUMNS}"), vec![])).unwrap();
    let engine = open(&folder.path().join("captured.db"));
    engine.runtime.block_on(engine.oltp.execute(format!("CREATE TABLE t{COLUMNS}"), vec![])).unwrap();
    engine.runtime.block_on(engine.replicator.register(schema(), false)).unwrap();

    const BATCH: i64 = 100_000;
    let (mut without, mut with, mut synced) = (vec![], vec![], vec![]);
    for round in 0..3 {
        without.push(plain.insert(round * BATCH..(round + 1) * BATCH));
        with.push(engine.insert(round * BATCH..(round + 1) * BATCH));
        synced.push(engine.checked_sync());
    }
    rate("write 100 k rows in a transaction, plain", BATCH, median(without.clone()));
    rate("write 100 k rows in a transaction, captured", BATCH, median(with.clone()));
    let mut small = vec![];
    for round in 0..3 {
        let first = 1_000_000 + round * BATCH;
        let parts = (first..first + BATCH).step_by(1000).map(|start| engine.insert(start..start + 1000));
        small.push(parts.sum());
        engine.checked_sync();
    }
    rate("write 100 k rows, 1 000 a transaction, captured", BATCH, median(small));
    println!("{:<48} {:>10.2} x", "capture", median(with).as_secs_f64() / median(without).as_secs_f64());
    rate("sync 100 k inserts", BATCH, median(synced));
    for (name, engine) in [("plain", &plain), ("captured", &engine)] {
        let started = Instant::now();
        for id in 0..2_000 {
            let sql = "INSERT INTO t VALUES (?, ?, ?, ?)";
            engine.runtime.block_on(engine.oltp.execute(sql, row(10_000_000 + id))).unwrap();
        }
        rate(&format!("single inserts, {name}"), 2_000, started.elapsed());
    }
    engine.sync();
    drop((plain, engine));

    for rows in [10_000, 100_000, large] {
        let engine = open(&folder.path().join(format!("{rows}.db")));
        engine.runtime.block_on(engine.oltp.execute(format!("CREATE TABLE t{COLUMNS}"), vec![])).unwrap();
        engine.insert(0..rows);
        engine.runtime.block_on(engine.replicator.register(schema(), false)).unwrap();
        let mut copies = vec![];
        for _ in 0..3 {
            let started = Instant::now();
            assert_eq!(engine.runtime.block_on(engine.replicator.initial_sync("t")).unwrap(), rows as u64);
            copies.push(started.elapsed());
        }
        rate(&format!("{rows} rows: initial copy"), rows, median(copies));

        let changes = 10_000.min(rows / 2);
        let (mut updates, mut deletes, mut short, mut one) = (vec![], vec![], vec![], vec![]);
        for round in 0..5 {
            let ids = scattered(changes, rows, round).map(|id| vec![Value::Integer(id)]).collect();
            engine.many("UPDATE t SET quantity = quantity + 1 WHERE id = ?", ids);
            updates.push(engine.sync());
        }
        engine.checked_sync();
        for round in 0..101 {
            let ids = scattered(10, rows, round).map(|id| vec![Value::Integer(id)]).collect();
            engine.many("UPDATE t SET quantity = quantity + 1 WHERE id = ?", ids);
            short.push(engine.sync());
            engine.many("UPDATE t SET quantity = 0 WHERE id = ?", vec![vec![Value::Integer(round)]]);
            one.push(engine.sync());
        }
        engine.checked_sync();
        for round in 0..5 {
            let ids: Vec<i64> = scattered(changes, rows, round).collect();
            engine.many("DELETE FROM t WHERE id = ?", ids.iter().map(|id| vec![Value::Integer(*id)]).collect());
            deletes.push(engine.sync());
            let again = ids.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().map(row).collect();
            engine.many("INSERT OR IGNORE INTO t VALUES (?, ?, ?, ?)", again);
            engine.sync();
        }
        engine.checked_sync();
        rate(&format!("{rows} rows: sync {changes} updates"), changes, median(updates));
        rate(&format!("{rows} rows: sync {changes} deletes"), changes, median(deletes));
        println!("{:<48} {:>10.0} us", format!("{rows} rows: sync 10 updates, p50"), median(short).as_secs_f64() * 1e6);
        println!("{:<48} {:>10.0} us", format!("{rows} rows: sync 1 update, p50"), median(one).as_secs_f64() * 1e6);
        let replicas = engine.replicator.replicas();
        while replicas.compact(true).unwrap() {}
        let snapshot = replicas.snapshot();
        let version = &snapshot.table("t").unwrap().version;
        let columns: usize = version
            .chunks()
            .unwrap()
            .batches()
            .iter()
            .flat_map(|batch| batch.columns())
            .map(|c| c.get_buffer_memory_size())
            .sum();
        println!(
            "{:<48} {:>10.2} x the {:.1} bytes a row of its columns",
            format!("{rows} rows: memory, index included"),
            version.size_bytes() as f64 / columns as f64,
            columns as f64 / rows as f64
        );
    }
}
