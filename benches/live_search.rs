//! Search over live data: the copy of a table of vectors, a search right after a sync, and the
//! effect of a sync on readers.
//!
//! `VEXACT_BENCH_ROWS` (default 100 000): rows of 384 components.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::runtime::Runtime;
use vexact::htap::{HtapConfig, HtapEngine, Param};
use vexact::kernel::Metric;
use vexact::{QueryVectors, TableSchema, VectorSearch};

const DIM: usize = 384;

fn vector(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    (0..DIM).map(|_| uniform() + uniform() + uniform()).collect()
}

fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize]
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn search() -> VectorSearch {
    VectorSearch {
        table: "docs".into(),
        column: "v".into(),
        query: QueryVectors::one(&vector(7)),
        top_k: 10,
        metric: Metric::Cosine,
        filter: None,
        params: None,
        min_score: None,
        group_by: None,
        columns: vec![],
    }
}

/// Returns the median time of a search by SQL with varying query vectors, as parameters or in the
/// text.
fn by_sql(runtime: &Runtime, engine: &HtapEngine, is_text: bool) -> Duration {
    let run = |seed: u64| {
        let query = vector(seed);
        let (query, params) = match is_text {
            true => (format!("'{query:?}'"), vec![]),
            false => ("$1".into(), vec![Param::Vector(query)]),
        };
        let sql = format!("SELECT id, cosine_distance(v, {query}) AS d FROM docs ORDER BY d LIMIT 10");
        let started = Instant::now();
        let found = runtime.block_on(engine.query_olap(&sql, &params)).unwrap();
        assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>(), 10);
        started.elapsed()
    };
    quantile(&mut (0..200).map(run).collect::<Vec<_>>(), 0.5)
}

fn searches(runtime: &Runtime, engine: &HtapEngine, count: usize) -> Vec<Duration> {
    let run = |_| {
        let started = Instant::now();
        let found = runtime.block_on(engine.vector_search(&search(), false)).unwrap();
        assert_eq!(found.iter().map(|batch| batch.num_rows()).sum::<usize>(), 10);
        started.elapsed()
    };
    (0..count).map(run).collect()
}

/// Returns the times of short queries, run in sequence with a pause between them.
fn short_queries(runtime: &Runtime, engine: &HtapEngine, count: usize, pause: Duration) -> Vec<Duration> {
    let run = |at: usize| {
        std::thread::sleep(pause);
        let started = Instant::now();
        let sql = format!("SELECT count(*) FROM docs WHERE id = {}", at * 7919 % 1000);
        runtime.block_on(engine.query_olap(&sql, &[])).unwrap();
        started.elapsed()
    };
    (0..count).map(run).collect()
}

fn main() {
    let rows: usize = std::env::var("VEXACT_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("live.db");
    // The number of threads is that of the Python package.
    let threads = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    let config = HtapConfig { oltp_path: path.clone(), sync_batch_size: 100_000, ..HtapConfig::default() };
    let engine = Arc::new(runtime.block_on(HtapEngine::open(config)).unwrap());
    let create = "CREATE TABLE docs(id INTEGER PRIMARY KEY, v BLOB)";
    runtime.block_on(engine.execute(create, &[])).unwrap();
    for start in (0..rows).step_by(10_000) {
        let ids = start..rows.min(start + 10_000);
        let values: Vec<Vec<Param>> =
            ids.map(|id| vec![Param::Integer(id as i64), Param::Vector(vector(id as u64 + 1))]).collect();
        runtime.block_on(engine.execute_many("INSERT INTO docs VALUES (?, ?)", &values)).unwrap();
    }
    let columns = [("id".to_owned(), "int64".to_owned()), ("v".to_owned(), format!("vector({DIM})"))];
    let schema = TableSchema::try_new("docs", &columns, &["id".into()]).unwrap();
    runtime.block_on(engine.register_table(schema, true)).unwrap();

    let bare = Connection::open(&path).unwrap();
    let (mut scans, mut copies) = (vec![], vec![]);
    for _ in 0..15 {
        let started = Instant::now();
        let mut statement = bare.prepare_cached("SELECT id, v FROM docs").unwrap();
        let mut found = statement.query([]).unwrap();
        let (mut bytes, mut vector) = (0, vec![0; DIM * 4]);
        while let Some(row) = found.next().unwrap() {
            vector.copy_from_slice(row.get_ref(1).unwrap().as_blob().unwrap());
            bytes += std::hint::black_box(&vector).len();
        }
        assert_eq!(bytes, rows * DIM * 4);
        scans.push(started.elapsed());
        let started = Instant::now();
        assert_eq!(runtime.block_on(engine.initial_sync("docs")).unwrap(), rows as u64);
        copies.push(started.elapsed());
    }
    let (scan, copy) = (quantile(&mut scans, 0.5), quantile(&mut copies, 0.5));
    println!(
        "{rows} rows of vector({DIM}): bare scan {:.1} ms, initial copy {:.1} ms, {:.2} of its speed",
        us(scan) / 1e3,
        us(copy) / 1e3,
        us(scan) / us(copy)
    );

    let changed = rows / 100;
    let mut ratios = vec![];
    for round in 0..7 {
        runtime.block_on(engine.initial_sync("docs")).unwrap();
        let mut fresh = searches(&runtime, &engine, 60);
        let values: Vec<Vec<Param>> = (0..changed)
            .map(|at| {
                let id = (at * 7919 + round) % rows;
                vec![Param::Vector(vector((round * rows + id) as u64)), Param::Integer(id as i64)]
            })
            .collect();
        runtime.block_on(engine.execute_many("UPDATE docs SET v = ? WHERE id = ?", &values)).unwrap();
        runtime.block_on(engine.sync_all()).unwrap();
        let mut synced = searches(&runtime, &engine, 60);
        ratios.push(Duration::from_secs_f64(
            quantile(&mut synced, 0.5).as_secs_f64() / quantile(&mut fresh, 0.5).as_secs_f64(),
        ));
        if round == 6 {
            println!(
                "search of {rows} rows: {:.0} us freshly loaded, {:.0} us after a sync of {changed} updates",
                us(fresh[30]),
                us(synced[30])
            );
        }
    }
    println!("after a sync of 1 %: {:.2} x, median of the rounds", quantile(&mut ratios, 0.5).as_secs_f64());

    let compared = |plans: &str| {
        let call = quantile(&mut searches(&runtime, &engine, 200), 0.5);
        let (param, text) = (by_sql(&runtime, &engine, false), by_sql(&runtime, &engine, true));
        println!(
            "search by call {:.0} us; by SQL, {plans}: {:.0} us with its vector as a parameter, {:.0} us in the text",
            us(call),
            us(param),
            us(text)
        );
    };
    compared("plans kept");

    // A client that never pauses is one of the loads that share the cores; a client that pauses is
    // served when it comes.
    for (pause, count) in [(Duration::ZERO, 4000), (Duration::from_millis(2), 2000)] {
        let mut alone = short_queries(&runtime, &engine, count, pause);
        let is_over = Arc::new(AtomicBool::new(false));
        let busy = {
            let (engine, is_over, runtime) = (Arc::clone(&engine), Arc::clone(&is_over), runtime.handle().clone());
            std::thread::spawn(move || {
                let mut changes = 0;
                for round in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let ids = (0..changed)
                        .map(|at| vec![Param::Integer(((at * 7919 + round) % rows) as i64)])
                        .collect::<Vec<_>>();
                    runtime.block_on(engine.execute_many("UPDATE docs SET v = v WHERE id = ?", &ids)).unwrap();
                    changes += runtime.block_on(engine.sync_all()).unwrap().events_processed;
                }
                changes
            })
        };
        let long = {
            let (engine, is_over, runtime) = (Arc::clone(&engine), Arc::clone(&is_over), runtime.handle().clone());
            std::thread::spawn(move || {
                let mut queries = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let sql = "SELECT sum(l2_norm(v)) FROM docs";
                    runtime.block_on(engine.query_olap(sql, &[])).unwrap();
                    queries += 1;
                }
                queries
            })
        };
        let mut beside = short_queries(&runtime, &engine, count, pause);
        is_over.store(true, Ordering::Relaxed);
        let (changes, queries) = (busy.join().unwrap(), long.join().unwrap());
        let (a, b) = (quantile(&mut alone, 0.99), quantile(&mut beside, 0.99));
        println!(
            "short query {} ms after the last: p50 {:.0} us, p99 {:.0} us alone; p50 {:.0} us, p99 {:.0} us ({:.1} x) beside syncs of {changes} changes and {queries} scans",
            pause.as_millis(),
            us(alone[alone.len() / 2]),
            us(a),
            us(beside[beside.len() / 2]),
            us(b),
            us(b) / us(a)
        );
    }
    // Access to a session's context disables its plan cache.
    engine.session().context();
    compared("planned anew");
}
