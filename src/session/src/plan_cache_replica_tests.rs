//! Tests that cached plans over replicas return, on each version, the same rows as a session that
//! plans each query anew.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use vexact_replica::{Change, ChangeBatch, Definition, KeyState, SyncMode, Update};
use vexact_sql::scalar_of_vector;

use super::plan_cache::BoundPlan;
use super::plan_cache_search_tests::{DIM, shown, vector};
use super::*;

fn schema(extra: &[Field]) -> SchemaRef {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let own = [
        Field::new("id", DataType::Int64, false),
        Field::new("bucket", DataType::Int64, true),
        Field::new("v", DataType::FixedSizeList(item, DIM as i32), true),
    ];
    Arc::new(Schema::new(own.iter().chain(extra).cloned().collect::<Vec<_>>()))
}

/// Rows of ids, whose vectors are those of other seeds.
fn rows(schema: &SchemaRef, ids: std::ops::Range<i64>, moved: i64) -> RecordBatch {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let values: Float32Array = ids.clone().flat_map(|id| vector(id + moved)).map(|x| Some(x as f32)).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(Int64Array::from_iter_values(ids.clone().map(|id| id % 5))),
        Arc::new(FixedSizeListArray::new(item, DIM as i32, Arc::new(values), None)),
    ];
    for _ in columns.len()..schema.fields().len() {
        columns.push(Arc::new(Int64Array::from_iter_values(ids.clone())));
    }
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

fn update(replicas: &Replicas, update: Update<'_>) {
    for (_, result) in replicas.update(vec![("docs".to_owned(), update)], 1) {
        result.unwrap();
    }
}

fn replace(replicas: &Replicas, schema: &SchemaRef, ids: std::ops::Range<i64>) {
    let definition =
        Definition { name: "docs".into(), schema: Arc::clone(schema), key: vec![0], mode: SyncMode::Destructive };
    update(replicas, Update::Replace(Arc::new(definition), vec![rows(schema, ids, 0)], 0));
}

fn change(replicas: &Replicas, schema: &SchemaRef, ids: std::ops::Range<i64>, moved: i64) {
    let rows = rows(schema, ids, moved);
    let changes = (0..rows.num_rows() as u32).map(|row| Change { time: 0, state: KeyState::Row(row) }).collect();
    let gone = RecordBatch::new_empty(Arc::new(schema.project(&[0]).unwrap()));
    update(replicas, Update::Apply(&ChangeBatch { changes, rows, gone }));
}

fn session(replicas: &Arc<Replicas>) -> Session {
    Session::over_replicas(&SessionOptions::default(), Arc::clone(replicas)).unwrap()
}

/// Creates a session without a plan cache.
fn forgetful(replicas: &Arc<Replicas>) -> Session {
    let session = session(replicas);
    session.context();
    session
}

/// Returns the columns and rows, or the error, of the query as text and as a statement.
async fn answers(session: &Session, query: &str, params: &[ScalarValue]) -> [String; 2] {
    let params = Some(ParamValues::from(params.to_vec()));
    let by_text = session.sql(query, params.clone()).await;
    let by_statement = session.statement(query, session.parse(query).unwrap(), params, None).await;
    [shown(by_text).await, shown(by_statement).await]
}

/// Returns true if the query needs no planning.
async fn is_planned(session: &Session, query: &str, params: &[ScalarValue]) -> bool {
    let bound = |cached| BoundPlan::new(cached, Arc::new(session.state()), params.to_vec().into());
    session.cached_plan(query).await.is_some_and(|cached| bound(cached).search().is_some())
}

const SEARCHES: [&str; 3] = [
    "SELECT id, cosine_distance(v, $1) AS d FROM docs ORDER BY d LIMIT 6",
    "SELECT bucket, id FROM docs WHERE bucket <> 2 AND id > 3 ORDER BY l2_distance(v, $1) LIMIT 5",
    "SELECT id, score FROM vector_search('docs', 'v', $1, 7, 'dot', 'bucket < 4') WHERE id < 70",
];

#[tokio::test]
async fn one_plan_searches_every_version() {
    let replicas = Arc::new(Replicas::default());
    let schema = schema(&[]);
    replace(&replicas, &schema, 0..60);
    let kept = session(&replicas);
    for round in 0..5 {
        for query in SEARCHES {
            let params = [scalar_of_vector(vector(round))];
            let expected = answers(&forgetful(&replicas), query, &params).await;
            assert_eq!(answers(&kept, query, &params).await, expected, "{query}, round {round}");
            assert!(is_planned(&kept, query, &params).await, "{query}, round {round}");
        }
        let seen = {
            let snapshot = replicas.snapshot();
            Arc::downgrade(&snapshot.table("docs").unwrap().version.chunks().unwrap())
        };
        match round {
            0 => change(&replicas, &schema, 20..90, 7),
            1 => replace(&replicas, &schema, 0..0),
            2 => replace(&replicas, &schema, 40..50),
            _ => change(&replicas, &schema, 0..200, -round),
        }
        assert!(seen.upgrade().is_none(), "a version that nobody reads is held, round {round}");
    }
}

#[tokio::test]
async fn other_queries_see_every_version() {
    let replicas = Arc::new(Replicas::default());
    let schema = schema(&[]);
    replace(&replicas, &schema, 0..60);
    let kept = session(&replicas);
    let int = |n: i64| ScalarValue::Int64(Some(n));
    for round in 0..4 {
        for (query, params) in [
            ("SELECT count(*), min(id), max(bucket) FROM docs WHERE id >= $1", vec![int(round * 20)]),
            ("SELECT bucket FROM Docs WHERE id = $1", vec![int(round * 25)]),
            ("SELECT a.id FROM docs a JOIN docs b ON a.id = b.bucket WHERE b.id > $1 ORDER BY 1", vec![int(50)]),
            // A search among the rows of one key.
            (
                "SELECT id FROM docs WHERE id = $2 ORDER BY l2_distance(v, $1) LIMIT 3",
                vec![scalar_of_vector(vector(1)), int(30)],
            ),
            // A value computed during planning is not valid for the next execution.
            (
                "SELECT id FROM docs WHERE datetime('now') > '2020' ORDER BY l2_distance(v, $1) LIMIT 3",
                vec![scalar_of_vector(vector(2))],
            ),
        ] {
            let expected = answers(&forgetful(&replicas), query, &params).await;
            assert_eq!(answers(&kept, query, &params).await, expected, "{query}, round {round}");
            assert!(!is_planned(&kept, query, &params).await, "{query}");
        }
        change(&replicas, &schema, 10 * round..20 * round + 50, round);
    }
}

#[tokio::test]
async fn a_table_that_became_another_is_planned_anew() {
    let replicas = Arc::new(Replicas::default());
    replace(&replicas, &schema(&[]), 0..60);
    let kept = session(&replicas);
    let params = [scalar_of_vector(vector(3))];
    let all = "SELECT * FROM docs ORDER BY l2_distance(v, $1) LIMIT 2";
    let as_fresh = async |query: &str| {
        let expected = answers(&forgetful(&replicas), query, &params).await;
        assert_eq!(answers(&kept, query, &params).await, expected, "{query}");
        expected
    };
    as_fresh(all).await;
    replace(&replicas, &schema(&[Field::new("more", DataType::Int64, true)]), 0..60);
    assert!(as_fresh(all).await[0].contains("more"));
    update(&replicas, Update::Fail("it broke".into()));
    for query in SEARCHES.into_iter().chain([all]) {
        assert!(as_fresh(query).await[0].contains("it broke"), "{query}");
    }
    update(&replicas, Update::Drop);
    assert!(as_fresh(all).await[1].contains("not found"));
    // A table of the session that has the name now.
    replace(&replicas, &schema(&[]), 0..60);
    as_fresh(all).await;
    let own = rows(&schema(&[]), 500..501, 0);
    let frame = kept.create_dataframe_from_arrow(own.schema(), vec![own]).unwrap();
    kept.create_temp_view("docs", &frame).unwrap();
    for answer in answers(&kept, all, &params).await {
        assert!(answer.contains("| 500"), "{answer}");
    }
}
