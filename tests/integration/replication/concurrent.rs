//! Concurrent writers, syncs and readers: the changes of one transaction to two tables are visible
//! together or not at all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use rusqlite::Connection;
use vexact::htap::{HtapConfig, HtapEngine};
use vexact::replica::SyncMode;
use vexact::schema::TableSchema;

use super::random::Random;

const ACCOUNTS: usize = 20;
const TRANSACTIONS: usize = 150;
const WRITERS: u64 = 3;

/// Moves an amount from a row of one table to a row of the other, and sometimes a whole row.
fn transfer(random: &mut Random) -> Vec<String> {
    let (from, to) = if random.chance(50) { ("a", "b") } else { ("b", "a") };
    let (source, target, amount) = (random.below(ACCOUNTS), random.below(ACCOUNTS), random.below(100));
    if random.chance(30) {
        let row = format!("SELECT id FROM {from} ORDER BY id LIMIT 1 OFFSET {source}");
        return vec![
            format!("INSERT INTO {to} SELECT id, amount FROM {from} WHERE id = ({row})"),
            format!("DELETE FROM {from} WHERE id IN (SELECT id FROM {to})"),
        ];
    }
    // If one of the two has no row, neither is changed.
    let both = format!(
        "EXISTS (SELECT 1 FROM {from} LIMIT 1 OFFSET {source}) AND EXISTS (SELECT 1 FROM {to} LIMIT 1 OFFSET {target})"
    );
    let change = |table: &str, at: usize, sign: char| {
        let row = format!("SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET {at}");
        format!("UPDATE {table} SET amount = amount {sign} {amount} WHERE id = ({row}) AND {both}")
    };
    vec![change(from, source, '-'), change(to, target, '+')]
}

fn schema(name: &str) -> TableSchema {
    let columns = [("id", "int64"), ("amount", "int64")].map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    TableSchema::try_new(name, &columns, &["id".to_owned()]).unwrap()
}

/// Returns sum and count of the current rows of both tables.
async fn totals(engine: &HtapEngine, mode: SyncMode) -> (i64, i64) {
    let only = if mode == SyncMode::Temporal { "WHERE _valid_to IS NULL" } else { "" };
    let sql = format!(
        "SELECT sum(amount), count(*) FROM (SELECT amount FROM a {only} UNION ALL SELECT amount FROM b {only}) AS moved"
    );
    let batches = engine.query_olap(&sql, &[]).await.unwrap();
    let value = |column: usize| batches[0].column(column).as_primitive::<Int64Type>().value(0);
    (value(0), value(1))
}

fn write_elsewhere(path: &Path, seed: u64) {
    let mut random = Random::new(seed);
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    for _ in 0..TRANSACTIONS {
        let statements = transfer(&mut random).join("; ");
        let end = if random.chance(20) { "ROLLBACK" } else { "COMMIT" };
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {statements}; {end}")).unwrap();
    }
}

async fn run(mode: SyncMode, sync_batch_size: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let config = HtapConfig { oltp_path: path.clone(), sync_mode: mode, sync_batch_size, ..HtapConfig::default() };
    let engine = Arc::new(HtapEngine::open(config).await.unwrap());
    for (table, first) in [("a", 0), ("b", ACCOUNTS)] {
        engine
            .execute(&format!("CREATE TABLE {table}(id INTEGER PRIMARY KEY, amount INTEGER NOT NULL)"), &[])
            .await
            .unwrap();
        engine.register_table(schema(table), false).await.unwrap();
        let rows: Vec<String> = (first..first + ACCOUNTS).map(|id| format!("({id}, 1000)")).collect();
        engine.execute(&format!("INSERT INTO {table} VALUES {}", rows.join(", ")), &[]).await.unwrap();
    }
    engine.sync_all().await.unwrap();
    let whole = (2 * ACCOUNTS as i64 * 1000, 2 * ACCOUNTS as i64);
    assert_eq!(totals(&engine, mode).await, whole);

    let is_over = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for seed in 0..WRITERS {
        let engine = Arc::clone(&engine);
        writers.push(tokio::spawn(async move {
            let mut random = Random::new(seed);
            for _ in 0..TRANSACTIONS {
                let mut statements = transfer(&mut random);
                let fails = random.chance(10);
                if fails {
                    statements.push("INSERT INTO nowhere VALUES (1)".into());
                }
                assert_eq!(engine.execute_batch(statements).await.is_err(), fails);
            }
        }));
    }
    let elsewhere = path.clone();
    writers.push(tokio::task::spawn_blocking(move || write_elsewhere(&elsewhere, 99)));
    let mut others = Vec::new();
    for reader in 0..3 {
        let (engine, is_over, reads) = (Arc::clone(&engine), Arc::clone(&is_over), Arc::clone(&reads));
        others.push(tokio::spawn(async move {
            while !is_over.load(Ordering::Acquire) {
                match reader {
                    0 => drop(engine.sync_now().await.unwrap()),
                    1 if reads.load(Ordering::Relaxed) % 10 == 9 => drop(engine.initial_sync("a").await.unwrap()),
                    _ => {}
                }
                assert_eq!(totals(&engine, mode).await, whole, "half of a transaction is seen");
                reads.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    is_over.store(true, Ordering::Release);
    for other in others {
        other.await.unwrap();
    }
    assert!(reads.load(Ordering::Relaxed) > 0);
    engine.sync_all().await.unwrap();
    let only = if mode == SyncMode::Temporal { " WHERE _valid_to IS NULL" } else { "" };
    let conn = Connection::open(&path).unwrap();
    for table in ["a", "b"] {
        let mut statement = conn.prepare(&format!("SELECT id, amount FROM {table} ORDER BY id")).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let rows: Vec<(i64, i64)> = rows.collect::<rusqlite::Result<_>>().unwrap();
        let batches =
            engine.query_olap(&format!("SELECT id, amount FROM {table}{only} ORDER BY id"), &[]).await.unwrap();
        let mut replica = Vec::new();
        for batch in &batches {
            let column = |at: usize| batch.column(at).as_primitive::<Int64Type>().values().to_vec();
            replica.extend(column(0).into_iter().zip(column(1)));
        }
        assert_eq!(replica, rows, "{table}");
    }
    engine.shutdown().await;
}

#[test]
fn what_one_transaction_changed_is_never_half_visible() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    for mode in [SyncMode::Destructive, SyncMode::Temporal] {
        for sync_batch_size in [1, 7, 1000] {
            runtime.block_on(run(mode, sync_batch_size));
        }
    }
}
