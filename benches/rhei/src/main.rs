//! The workload of `benches/replication.rs` on the crate rhei 2.0: the same table, rows and
//! statements, so that `make bench-rhei` shows both in one run. A figure is the median of its
//! rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use rhei::{HtapConfig, HtapEngine, OlapEngine, TableSchema};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const INSERT: &str = "INSERT INTO t VALUES (?, ?, ?, ?)";

struct Engine {
    runtime: Runtime,
    engine: HtapEngine,
    _folder: TempDir,
}

fn row(id: i64) -> Vec<Value> {
    vec![json!(id), json!(format!("name-{}", id % 10_007)), json!(id * 7919 % 1_000_003), json!(id as f64 / 7.0)]
}

impl Engine {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let oltp_path = folder.path().join("bench.db").display().to_string();
        let config = HtapConfig { oltp_path, sync_batch_size: 100_000, ..HtapConfig::default() };
        let engine = runtime.block_on(HtapEngine::new(config)).unwrap();
        let create = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, quantity INTEGER, price REAL)";
        runtime.block_on(engine.execute(create, &[])).unwrap();
        Self { runtime, engine, _folder: folder }
    }

    fn register(&self) {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("quantity", DataType::Int64, true),
            Field::new("price", DataType::Float64, true),
        ]);
        let schema = TableSchema::new("t", Arc::new(schema), vec!["id".into()]);
        self.runtime.block_on(self.engine.register_table(schema)).unwrap();
    }

    fn batch(&self, statements: Vec<(String, Vec<Value>)>) -> Duration {
        let started = Instant::now();
        for part in statements.chunks(1000) {
            self.runtime.block_on(self.engine.execute_batch(part)).unwrap();
        }
        started.elapsed()
    }

    fn insert(&self, ids: std::ops::Range<i64>) -> Duration {
        self.batch(ids.map(|id| (INSERT.to_owned(), row(id))).collect())
    }

    fn sync(&self) -> Duration {
        let started = Instant::now();
        while self.runtime.block_on(self.engine.sync_now()).unwrap().events_processed > 0 {}
        started.elapsed()
    }

    fn assert_rows(&self, rows: i64) {
        let found = self.runtime.block_on(self.engine.olap().query("SELECT count(*) FROM t")).unwrap();
        assert_eq!(found[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0), rows);
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn rate(name: &str, count: i64, took: Duration) {
    let per_second = count as f64 / took.as_secs_f64();
    println!(
        "rhei: {name:<42} {:>10.1} k/s {:>9.3} us each",
        per_second / 1e3,
        took.as_secs_f64() * 1e6 / count as f64
    );
}

fn main() {
    const BATCH: i64 = 100_000;
    let engine = Engine::open();
    engine.register();
    let (mut written, mut synced) = (vec![], vec![]);
    for round in 0..3 {
        written.push(engine.insert(round * BATCH..(round + 1) * BATCH));
        synced.push(engine.sync());
        engine.assert_rows((round + 1) * BATCH);
    }
    rate("write 100 k rows, 1 000 a transaction", BATCH, median(written));
    rate("sync 100 k inserts", BATCH, median(synced));
    let started = Instant::now();
    for id in 0..2_000 {
        engine.runtime.block_on(engine.engine.execute(INSERT, &row(10_000_000 + id))).unwrap();
    }
    rate("single inserts", 2_000, started.elapsed());

    for rows in [10_000, 100_000, 300_000] {
        let engine = Engine::open();
        engine.insert(0..rows);
        engine.register();
        let started = Instant::now();
        engine.runtime.block_on(engine.engine.initial_sync("t")).unwrap();
        rate(&format!("{rows} rows: initial copy"), rows, started.elapsed());
        engine.assert_rows(rows);
        const CHANGES: i64 = 100;
        let (mut updates, mut inserts) = (vec![], vec![]);
        for round in 0..3 {
            let update = "UPDATE t SET quantity = quantity + 1 WHERE id = ?".to_owned();
            let ids = (0..CHANGES).map(|i| (i * 7919 + round * 104_729) % rows);
            engine.batch(ids.map(|id| (update.clone(), vec![json!(id)])).collect());
            updates.push(engine.sync());
        }
        for round in 0..51 {
            engine.insert(rows + round * 10..rows + round * 10 + 10);
            inserts.push(engine.sync());
        }
        engine.assert_rows(rows + 510);
        rate(&format!("{rows} rows: sync {CHANGES} updates"), CHANGES, median(updates));
        println!(
            "rhei: {:<42} {:>10.0} us",
            format!("{rows} rows: sync 10 inserts, p50"),
            median(inserts).as_secs_f64() * 1e6
        );
    }
}
