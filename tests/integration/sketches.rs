//! Searches by sketches return what searches without them return, to the bit: over Arrow tables and
//! over replicas, while rows come and go and sketches are being built.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;
use tokio::runtime::Runtime;
use vexact::replica::{Change, ChangeBatch, Definition, KeyState, Replicas, SyncMode, Update};
use vexact::session::{Session, SessionOptions};
use vexact_sql::chunks::ChunkTable;

const DIM: usize = 32;

/// Directions that the vectors are made of, so that they have principal components.
const DIRECTIONS: usize = 3;

/// A row as numbers from which its vector is made.
#[derive(Debug, Clone, Copy)]
enum Vector {
    Null,
    Zero,
    NotANumber,
    Infinite,
    /// A mixture of directions; few different seeds make many equal rows.
    Mixture(u64),
}

/// Pseudo-random numbers from -1 to 1.
fn numbers(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    })
    .skip(4)
}

fn mixture(seed: u64) -> Vec<f32> {
    let parts: Vec<f32> = numbers(seed).take(DIRECTIONS).collect();
    let noise = numbers(seed ^ 0xABCD).map(|x| x * 0.02);
    let value = |(i, noise): (usize, f32)| {
        let directions = parts.iter().enumerate();
        noise + directions.map(|(j, part)| part * ((i * (j + 2)) as f32).sin()).sum::<f32>()
    };
    noise.take(DIM).enumerate().map(value).collect()
}

impl Vector {
    fn components(self) -> Vec<f32> {
        match self {
            Vector::Null | Vector::Zero => vec![0.0; DIM],
            Vector::NotANumber => (0..DIM).map(|i| if i == 3 { f32::NAN } else { 1.0 }).collect(),
            Vector::Infinite => (0..DIM).map(|i| if i == 5 { f32::INFINITY } else { 1.0 }).collect(),
            Vector::Mixture(seed) => mixture(seed),
        }
    }
}

fn vector() -> impl Strategy<Value = Vector> {
    prop_oneof![
        30 => any::<u64>().prop_map(Vector::Mixture),
        10 => (0..12_u64).prop_map(Vector::Mixture),
        1 => Just(Vector::Null),
        1 => Just(Vector::Zero),
        1 => Just(Vector::NotANumber),
        1 => Just(Vector::Infinite),
    ]
}

fn schema() -> SchemaRef {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("v", DataType::FixedSizeList(item, DIM as i32), true),
    ]))
}

fn vectors(rows: &[Vector]) -> ArrayRef {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let values = Float32Array::from_iter_values(rows.iter().flat_map(|row| row.components()));
    let nulls = NullBuffer::from_iter(rows.iter().map(|row| !matches!(row, Vector::Null)));
    Arc::new(FixedSizeListArray::new(item, DIM as i32, Arc::new(values), Some(nulls)))
}

fn batch(rows: &[(i64, Vector)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id)));
    let values: Vec<Vector> = rows.iter().map(|(_, vector)| *vector).collect();
    RecordBatch::try_new(schema(), vec![ids, vectors(&values)]).unwrap()
}

async fn run(session: &Session, sql: &str) -> Vec<RecordBatch> {
    let frame = session.sql(sql, None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    frame.collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn set_tier(session: &Session, tier: &str) {
    run(session, &format!("SET vexact.tier = '{tier}'")).await;
}

/// The rows as text, reals as their bits.
async fn answer(session: &Session, sql: &str) -> String {
    let mut text = String::new();
    for batch in run(session, sql).await {
        for row in 0..batch.num_rows() {
            for column in batch.columns() {
                match column.data_type() {
                    DataType::Float64 if column.is_valid(row) => {
                        write!(text, "{:x} ", column.as_primitive::<Float64Type>().value(row).to_bits()).unwrap();
                    }
                    _ => write!(text, "{} ", array_value_to_string(column, row).unwrap()).unwrap(),
                }
            }
            text.push('\n');
        }
    }
    text
}

async fn strategy(session: &Session, sql: &str) -> String {
    let rows = run(session, &format!("EXPLAIN {sql}")).await;
    rows.iter()
        .map(|batch| {
            (0..batch.num_rows()).map(|row| array_value_to_string(batch.column(1), row).unwrap()).collect::<String>()
        })
        .collect()
}

fn literal(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(|x| format!("{:?}", f64::from(*x))).collect();
    format!("[{}]", numbers.join(", "))
}

fn search(k: usize) -> String {
    format!("SELECT id, score FROM vector_search('t', 'v', {}, {k}, 'cosine')", literal(&mixture(5)))
}

/// Statements over a table `t`, whose order is defined.
fn statements(query: &[f32], k: usize) -> Vec<String> {
    let q = literal(query);
    let mut statements = Vec::new();
    for metric in ["cosine", "dot", "l2"] {
        statements.push(format!("SELECT id, score FROM vector_search('t', 'v', {q}, {k}, '{metric}')"));
        statements.push(format!("SELECT id, score FROM vector_search('t', 'v', {q}, {k}, '{metric}', 'id % 3 = 1')"));
        statements.push(format!(
            "SELECT o, id, rank, score FROM vector_join('queries', 'w', 't', 'v', {k}, '{metric}') ORDER BY o, rank"
        ));
    }
    for distance in ["l2_distance", "cosine_distance", "l2_distance_squared"] {
        statements.push(format!("SELECT id, {distance}(v, {q}) d FROM t ORDER BY {distance}(v, {q}), id LIMIT {k}"));
        statements.push(format!("SELECT id, {distance}(v, {q}) d FROM t WHERE {distance}(v, {q}) < 0.8 ORDER BY id"));
    }
    statements.push(format!("SELECT id FROM t ORDER BY l2_distance(v, {q}) NULLS FIRST, id LIMIT {k}"));
    statements.push(format!("SELECT id FROM t WHERE inner_product(v, {q}) >= 2 AND id % 2 = 0 ORDER BY id"));
    statements.push(format!("SELECT count(*) FROM t WHERE l2_distance(v, {q}) <= 1.5"));
    statements.push(format!("SELECT count(*) FROM t WHERE NOT l2_distance(v, {q}) <= 1.5 OR id < 5"));
    statements.push(
        "SELECT o, id, score FROM vector_join('queries', 'w', 't', 'v', NULL, 'l2', 1.0) ORDER BY o, rank".into(),
    );
    statements
}

fn name_queries(session: &Session) {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![0, 1, 2]));
    let rows = vectors(&[Vector::Mixture(3), Vector::Mixture(77), Vector::Null]);
    let batch = RecordBatch::try_from_iter([("o", ids), ("w", rows)]).unwrap();
    let frame = session.create_dataframe_from_arrow(batch.schema(), vec![batch]).unwrap();
    session.create_temp_view("queries", &frame).unwrap();
}

/// Compares the answers of all tiers. `wait`: waits for the builder between two statements.
async fn check(session: &Session, query: &[f32], k: usize, wait: &dyn Fn()) -> Result<(), TestCaseError> {
    for statement in statements(query, k) {
        set_tier(session, "off").await;
        let expected = answer(session, &statement).await;
        for tier in ["i8", "auto", "pca4", "auto"] {
            set_tier(session, tier).await;
            prop_assert_eq!(&answer(session, &statement).await, &expected, "{}: {}", tier, statement);
            wait();
            prop_assert_eq!(&answer(session, &statement).await, &expected, "{} again: {}", tier, statement);
        }
    }
    Ok(())
}

fn arrow_table(rows: &[Vector], chunk_rows: usize) -> (Session, Arc<ChunkTable>) {
    let rows: Vec<(i64, Vector)> = rows.iter().enumerate().map(|(id, row)| (id as i64, *row)).collect();
    let table = Arc::new(ChunkTable::try_new(schema(), rows.chunks(chunk_rows).map(batch).collect()).unwrap());
    let options = SessionOptions { target_partitions: Some(2), ..SessionOptions::default() };
    let session = Session::with_options(&options).unwrap();
    session.name_table("t", Arc::clone(&table) as _).unwrap();
    name_queries(&session);
    (session, table)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn searches_of_arrow_tables_by_sketches_equal_those_by_vectors(
        rows in prop::collection::vec(vector(), 1..700),
        chunk_rows in 1..400_usize,
        query in (0..20_u64).prop_map(mixture),
        k in 1..20_usize,
    ) {
        Runtime::new().unwrap().block_on(async {
            let (session, table) = arrow_table(&rows, chunk_rows);
            check(&session, &query, k, &|| table.chunks().table_sketches().wait()).await
        })?;
    }

    #[test]
    fn searches_of_replicas_by_sketches_equal_those_by_vectors(
        first in prop::collection::vec(vector(), 1..500),
        syncs in prop::collection::vec((prop::collection::vec((0..600_i64, vector(), any::<bool>()), 1..80), any::<bool>(), any::<bool>()), 1..4),
        query in (0..20_u64).prop_map(mixture),
        k in 1..20_usize,
    ) {
        Runtime::new().unwrap().block_on(async {
            let replicas = Arc::new(Replicas::default());
            let session = replica(&replicas, &first);
            let wait = || replicas.snapshot().table("t").unwrap().version.sketches().wait();
            check(&session, &query, k, &wait).await?;
            for (changes, is_compacted, waits) in &syncs {
                sync(&replicas, changes);
                if *is_compacted {
                    replicas.compact(true).unwrap();
                }
                // Without a wait, sketches are built while the statements run.
                check(&session, &query, k, &|| if *waits { wait() }).await?;
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}

fn update(replicas: &Replicas, update: Update<'_>) {
    for (_, result) in replicas.update(vec![("t".to_owned(), update)], 1) {
        result.unwrap();
    }
}

fn replica(replicas: &Arc<Replicas>, rows: &[Vector]) -> Session {
    let definition = Definition { name: "t".into(), schema: schema(), key: vec![0], mode: SyncMode::Destructive };
    let rows: Vec<(i64, Vector)> = rows.iter().enumerate().map(|(id, row)| (id as i64, *row)).collect();
    update(replicas, Update::Replace(Arc::new(definition), vec![batch(&rows)], 0));
    let options = SessionOptions { target_partitions: Some(2), ..SessionOptions::default() };
    let session = Session::over_replicas(&options, Arc::clone(replicas)).unwrap();
    name_queries(&session);
    session
}

/// Upserts rows, and deletes those whose flag is set.
fn sync(replicas: &Replicas, changes: &[(i64, Vector, bool)]) {
    let (mut rows, mut gone, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for (id, vector, is_deleted) in changes {
        if *is_deleted {
            gone.push(*id);
            states.push(KeyState::Gone(gone.len() as u32 - 1));
        } else {
            rows.push((*id, *vector));
            states.push(KeyState::Row(rows.len() as u32 - 1));
        }
    }
    let key = Arc::new(schema().project(&[0]).unwrap());
    let gone = RecordBatch::try_new(key, vec![Arc::new(Int64Array::from(gone))]).unwrap();
    let changes = states.into_iter().map(|state| Change { time: 0, state }).collect();
    update(replicas, Update::Apply(&ChangeBatch { changes, rows: batch(&rows), gone }));
}

fn mixtures(rows: usize) -> Vec<Vector> {
    (0..rows as u64).map(Vector::Mixture).collect()
}

#[test]
fn sketch_is_built_once_searches_have_read_what_it_costs() {
    Runtime::new().unwrap().block_on(async {
        let (session, table) = arrow_table(&mixtures(9000), 4000);
        let sketches = table.chunks().table_sketches();
        let expected = answer(&session, &search(10)).await;
        assert!(strategy(&session, &search(10)).await.contains("searches have read 0 % of the bytes"));
        for searches in 1.. {
            assert_eq!(answer(&session, &search(10)).await, expected);
            sketches.wait();
            if sketches.has_basis() {
                // 9000 rows are a sample of 8192, which costs 500 times its bytes, and encoding 50.
                assert!((450..=550).contains(&searches), "{searches}");
                break;
            }
        }
        let planned = strategy(&session, &search(10)).await;
        assert!(!planned.contains("tier=f32") && planned.contains("\ncomponents="), "{planned}");
        assert!(planned.contains("sketch reads") && !planned.contains("bytes_planned=unknown"), "{planned}");
        assert_eq!(answer(&session, &search(10)).await, expected);
        assert!(table.chunks().sketch_bytes() > 0);
        set_tier(&session, "off").await;
        let planned = strategy(&session, &search(10)).await;
        assert!(planned.contains("tier=f32\nreason=tier f32 asked for"), "{planned}");
    });
}

#[test]
fn forced_tier_is_built_at_once() {
    Runtime::new().unwrap().block_on(async {
        let (session, table) = arrow_table(&mixtures(2000), 700);
        for tier in ["i8", "pca4"] {
            set_tier(&session, tier).await;
            let expected = answer(&session, &search(10)).await;
            table.chunks().table_sketches().wait();
            let planned = strategy(&session, &search(10)).await;
            assert!(planned.contains(&format!("tier={tier}\ncomponents=")), "{planned}");
            assert_eq!(answer(&session, &search(10)).await, expected);
        }
    });
}

#[test]
fn memory_limit_leaves_no_room_for_a_sketch() {
    Runtime::new().unwrap().block_on(async {
        let (_, table) = arrow_table(&mixtures(2000), 700);
        let options = SessionOptions { memory_limit_bytes: Some(60_000), ..SessionOptions::default() };
        let session = Session::with_options(&options).unwrap();
        session.name_table("t", Arc::clone(&table) as _).unwrap();
        let expected = answer(&session, &search(10)).await;
        set_tier(&session, "i8").await;
        assert_eq!(answer(&session, &search(10)).await, expected);
        table.chunks().table_sketches().wait();
        assert_eq!(answer(&session, &search(10)).await, expected);
        let planned = strategy(&session, &search(10)).await;
        // Some batches have their sketch, or none has.
        assert!(planned.contains("the memory limit has no room") || planned.contains("chunks have none"), "{planned}");
        assert!(table.chunks().sketch_bytes() < 60_000);
    });
}

#[test]
fn sync_and_compaction_keep_a_replica_sketched() {
    Runtime::new().unwrap().block_on(async {
        let replicas = Arc::new(Replicas::default());
        let session = replica(&replicas, &mixtures(5000));
        let version = || Arc::clone(&replicas.snapshot().table("t").unwrap().version);
        set_tier(&session, "pca4").await;
        answer(&session, &search(10)).await;
        version().sketches().wait();
        let bytes = version().size_bytes();
        set_tier(&session, "auto").await;
        let changes: Vec<_> = (0..50).map(|id| (id * 7, Vector::Mixture(id as u64 + 9_000), id % 5 == 0)).collect();
        sync(&replicas, &changes);
        let planned = strategy(&session, &search(10)).await;
        assert!(planned.contains("tier=pca4") && planned.contains("1 of 2 chunks have none"), "{planned}");
        replicas.compact(true).unwrap();
        version().sketches().wait();
        let planned = strategy(&session, &search(10)).await;
        assert!(planned.contains("tier=pca4") && !planned.contains("have none"), "{planned}");
        // The sketch of the merged segment is counted.
        let rows = version().num_rows();
        assert!(version().size_bytes() > rows * DIM * 4 + rows * 20 && bytes > 0, "{}", version().size_bytes());
    });
}

#[test]
fn inserted_rows_leave_the_sketches_of_the_others() {
    Runtime::new().unwrap().block_on(async {
        let session = Session::new().unwrap();
        run(&session, &format!("CREATE TABLE t (id BIGINT, v FLOAT[{DIM}])")).await;
        let insert = |ids: std::ops::Range<u64>| {
            let rows: Vec<String> = ids.map(|id| format!("({id}, {})", literal(&mixture(id)))).collect();
            format!("INSERT INTO t VALUES {}", rows.join(", "))
        };
        run(&session, &insert(0..300)).await;
        let before = answer(&session, &search(400)).await;
        run(&session, &insert(300..350)).await;
        let after = answer(&session, &search(400)).await;
        assert_eq!((before.lines().count(), after.lines().count()), (300, 350));
    });
}
