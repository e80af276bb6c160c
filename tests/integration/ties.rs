//! Among rows with equal distances in a replica, those with the least keys come first, whatever
//! their positions. The oracle is a sort by the distance and the key over DataFusion's own table of
//! the live rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::datasource::MemTable;
use proptest::prelude::*;
use tokio::runtime::Runtime;
use vexact::replica::{Change, ChangeBatch, Definition, KeyState, Replicas, SyncMode, Update};
use vexact::session::{Session, SessionOptions};

type Key = (i64, String);
type Vector = Option<[f32; 2]>;

/// The key's columns are in another order than the table's.
fn schema() -> SchemaRef {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    Arc::new(Schema::new(vec![
        Field::new("part", DataType::Utf8, false),
        Field::new("v", DataType::FixedSizeList(item, 2), true),
        Field::new("id", DataType::Int64, false),
    ]))
}

fn batch(rows: &[(Key, Vector)]) -> RecordBatch {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let values = Float32Array::from_iter_values(rows.iter().flat_map(|(_, v)| v.unwrap_or([7.0; 2])));
    let nulls = NullBuffer::from_iter(rows.iter().map(|(_, v)| v.is_some()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|((_, part), _)| part))),
        Arc::new(FixedSizeListArray::new(item, 2, Arc::new(values), Some(nulls))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|((id, _), _)| *id))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn replica(syncs: &[Vec<(Key, Vector)>]) -> Session {
    let replicas = Arc::new(Replicas::default());
    let definition = Definition { name: "t".into(), schema: schema(), key: vec![2, 0], mode: SyncMode::Destructive };
    let update = |update: Update<'_>| {
        for (_, result) in replicas.update(vec![("t".to_owned(), update)], 1) {
            result.unwrap();
        }
    };
    update(Update::Replace(Arc::new(definition), vec![RecordBatch::new_empty(schema())], 0));
    for rows in syncs {
        let rows = batch(rows);
        let changes = (0..rows.num_rows() as u32).map(|row| Change { time: 0, state: KeyState::Row(row) });
        let gone = RecordBatch::new_empty(Arc::new(schema().project(&[2, 0]).unwrap()));
        update(Update::Apply(&ChangeBatch { changes: changes.collect(), rows, gone }));
    }
    session(replicas)
}

fn session(replicas: Arc<Replicas>) -> Session {
    let options = SessionOptions { target_partitions: Some(2), ..SessionOptions::default() };
    let session = Session::over_replicas(&options, replicas).unwrap();
    let queries = RecordBatch::try_from_iter([
        ("q", Arc::new(Int64Array::from(vec![0, 1])) as ArrayRef),
        (
            "w",
            batch(&[((0, String::new()), Some([0.0, 1.0])), ((1, String::new()), Some([1.0, 1.0]))]).column(1).clone(),
        ),
    ]);
    let queries = queries.unwrap();
    let table = MemTable::try_new(queries.schema(), vec![vec![queries]]).unwrap();
    session.context().register_table("queries", Arc::new(table)).unwrap();
    session
}

/// Returns the last state of each key, sorted by DataFusion.
fn oracle(syncs: &[Vec<(Key, Vector)>]) -> Session {
    let live: BTreeMap<Key, Vector> = syncs.iter().flatten().cloned().collect();
    let session = session(Arc::default());
    let rows = batch(&live.into_iter().collect::<Vec<_>>());
    session.context().register_table("t", Arc::new(MemTable::try_new(schema(), vec![vec![rows]]).unwrap())).unwrap();
    session
}

fn keys(runtime: &Runtime, session: &Session, sql: &str) -> Vec<String> {
    let batches = runtime.block_on(async { session.sql(sql, None).await.unwrap().collect().await.unwrap() });
    let rows_of = |batch: &RecordBatch| -> Vec<String> {
        let row = |row: usize| {
            batch
                .columns()
                .iter()
                .map(|column| array_value_to_string(column, row).unwrap())
                .collect::<Vec<_>>()
                .join("|")
        };
        (0..batch.num_rows()).map(row).collect()
    };
    batches.iter().flat_map(rows_of).collect()
}

fn row() -> impl Strategy<Value = (Key, Vector)> {
    let component = || prop::sample::select(vec![0.0_f32, 1.0, -1.0]);
    let vector = prop_oneof![8 => [component(), component()].prop_map(Some), 1 => Just(None)];
    ((0..9_i64, prop::sample::select(vec!["", "a", "B", "ü"]).prop_map(String::from)), vector)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ties_in_replicas_go_by_key(
        syncs in prop::collection::vec(prop::collection::vec(row(), 1..20), 0..5),
        k in 1..9_usize,
        offset in 0..3_usize,
        filter in prop::sample::select(vec!["true", "id > 3", "part <> 'a'", "l2_distance(v, [1, 0]) < 2"]),
    ) {
        let runtime = Runtime::new().unwrap();
        let (replica, plain) = (replica(&syncs), oracle(&syncs));
        for order in [
            "l2_distance(v, [1, 0]) NULLS LAST",
            "l2_distance(v, [1, 0]) NULLS FIRST",
            "inner_product(v, [1, 1]) DESC NULLS LAST",
            // The distance of a row of zeros is NaN.
            "cosine_distance(v, [0, 1])",
            "cosine_similarity(v, [0, 1]) DESC",
        ] {
            let limit = format!("LIMIT {k} OFFSET {offset}");
            let sorted = |by: &str| format!("SELECT id, part FROM t WHERE {filter} ORDER BY {order}{by} {limit}");
            prop_assert_eq!(keys(&runtime, &replica, &sorted("")), keys(&runtime, &plain, &sorted(", id, part")), "{}", order);
        }
        let search = format!("SELECT id, part FROM vector_search('t', 'v', [1, 0], {k}, 'l2') ORDER BY score");
        let found = format!("SELECT id, part FROM t WHERE v IS NOT NULL ORDER BY l2_distance(v, [1, 0]), id, part LIMIT {k}");
        prop_assert_eq!(keys(&runtime, &replica, &search), keys(&runtime, &plain, &found));

        for (limit, radius) in [(k.to_string(), ""), (k.to_string(), ", 1.0"), ("NULL".into(), ", 1.0")] {
            let join = format!(
                "SELECT q, rank, id, part FROM vector_join('queries', 'w', 't', 'v', {limit}, 'l2'{radius}) ORDER BY q, rank"
            );
            let within = if radius.is_empty() { 9 } else { 1 };
            let most = if limit == "NULL" { 999 } else { k };
            let ranked = format!(
                "SELECT q, rank, id, part FROM (SELECT q, id, part, row_number() OVER
                     (PARTITION BY q ORDER BY l2_distance(v, w), id, part) AS rank
                     FROM queries JOIN t ON l2_distance(v, w) <= {within}) WHERE rank <= {most} ORDER BY q, rank"
            );
            prop_assert_eq!(keys(&runtime, &replica, &join), keys(&runtime, &plain, &ranked), "{}", join);
        }
    }
}
