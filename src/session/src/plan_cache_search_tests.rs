//! Tests that cached search plans return the same rows as a session that plans each search anew.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field};
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::{ParamValues, ScalarValue};
use vexact_sql::scalar_of_vector;

use super::plan_cache::BoundPlan;
use super::*;

pub(super) const DIM: usize = 24;

pub(super) fn vector(seed: i64) -> Vec<f64> {
    (0..DIM as i64).map(|i| ((seed * 31 + i * 17) % 19 - 9) as f64 / 4.0).collect()
}

fn docs(ids: std::ops::Range<i64>) -> RecordBatch {
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let values: Float32Array = ids.clone().flat_map(vector).map(|x| Some(x as f32)).collect();
    let embedding: ArrayRef = Arc::new(FixedSizeListArray::new(item, DIM as i32, Arc::new(values), None));
    let id: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.clone()));
    let bucket: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.map(|id| id % 5)));
    RecordBatch::try_from_iter([("id", id), ("bucket", bucket), ("embedding", embedding)]).unwrap()
}

fn session() -> Session {
    let session = Session::new().unwrap();
    name_docs(&session, 0..60);
    session
}

fn name_docs(session: &Session, ids: std::ops::Range<i64>) {
    let batch = docs(ids);
    let frame = session.create_dataframe_from_arrow(batch.schema(), vec![batch]).unwrap();
    session.create_temp_view("docs", &frame).unwrap();
}

/// Returns the columns and rows of a frame, or its error.
pub(super) async fn shown(frame: Result<DataFrame>) -> String {
    let frame = match frame {
        Ok(frame) => frame,
        Err(error) => return error.to_string(),
    };
    let schema = frame.schema();
    match frame.collect().await {
        Ok(batches) => format!("{schema}\n{}", pretty_format_batches(&batches).unwrap()),
        Err(error) => error.to_string(),
    }
}

async fn answer(session: &Session, query: &str, params: &[ScalarValue]) -> String {
    let params = (!params.is_empty()).then(|| ParamValues::from(params.to_vec()));
    shown(session.sql(query, params).await).await
}

async fn is_planned(session: &Session, query: &str, params: &[ScalarValue]) -> bool {
    let prepared = session.cached_plan(query).await.unwrap();
    BoundPlan::new(prepared, Arc::new(session.state()), ParamValues::from(params.to_vec())).search().is_some()
}

#[tokio::test]
async fn parameters_decide_as_in_a_plan_of_their_own() {
    let session = session();
    let int = |n: i64| ScalarValue::Int64(Some(n));
    let text = |components: &[f64]| ScalarValue::Utf8(Some(format!("{components:?}")));
    let query = "SELECT id, 1 - cosine_distance(embedding, $1) AS s FROM docs
        WHERE bucket <> $2 ORDER BY cosine_distance(embedding, $1) LIMIT $3";
    let mut not_a_number = vector(3);
    not_a_number[7] = f64::NAN;
    let mut was_planned = 0;
    for params in [
        vec![scalar_of_vector(vector(1)), int(2), int(7)],
        vec![scalar_of_vector(vector(2)), int(2), int(7)],
        vec![text(&vector(3)), int(2), int(7)],
        vec![text(&vector(3)[1..]), int(2), int(7)],
        vec![scalar_of_vector(vector(4)), int(3), int(7)],
        vec![scalar_of_vector(vector(4)), int(2), int(3)],
        vec![scalar_of_vector(vec![0.0; DIM]), int(2), int(7)],
        vec![scalar_of_vector(not_a_number), int(2), int(7)],
        vec![scalar_of_vector(vec![1e300; DIM]), int(2), int(7)],
        vec![ScalarValue::Null, int(2), int(7)],
        vec![ScalarValue::Utf8(Some("[1, x]".into())), int(2), int(7)],
        vec![scalar_of_vector(vector(5)), int(2)],
        vec![scalar_of_vector(vector(5)), int(2), int(7), int(9)],
    ] {
        let own = self::session();
        assert_eq!(answer(&session, query, &params).await, answer(&own, query, &params).await, "{params:?}");
        was_planned += usize::from(is_planned(&session, query, &params).await);
    }
    // The vectors 1 to 3, and the one that float32 does not hold.
    assert_eq!(was_planned, 4);
}

#[tokio::test]
async fn a_vector_in_the_text_is_as_a_parameter() {
    let session = session();
    let query = |vector: &[f64]| {
        format!("SELECT id, l2_distance(embedding, '{vector:?}') AS d FROM docs WHERE id > 3 ORDER BY d LIMIT 4")
    };
    for vector in [vector(1), vector(2), vector(3)[2..].to_vec(), vec![0.0; DIM], vector(4)] {
        let own = self::session();
        assert_eq!(answer(&session, &query(&vector), &[]).await, answer(&own, &query(&vector), &[]).await);
    }
    let kept = "SELECT id, l2_distance(embedding, $1) AS d FROM docs WHERE id > 3 ORDER BY d LIMIT 4";
    assert!(is_planned(&session, kept, &[scalar_of_vector(vector(9))]).await);
    // A search by table function, with a filter and a query over its rows.
    let search = "SELECT id, score FROM vector_search('docs', 'embedding', $1, 5, 'l2', 'id > 3') WHERE bucket < 3";
    for seed in 1..4 {
        let (own, params) = (self::session(), [scalar_of_vector(vector(seed))]);
        assert_eq!(answer(&session, search, &params).await, answer(&own, search, &params).await);
        assert!(is_planned(&session, search, &params).await);
    }
    let by_text = |vector: &[f64]| search.replace("$1", &format!("'{vector:?}'"));
    for vector in [vector(4), vec![0.0; DIM], vector(5)[1..].to_vec(), vec![1e300; DIM], vector(6)] {
        let own = self::session();
        assert_eq!(answer(&session, &by_text(&vector), &[]).await, answer(&own, &by_text(&vector), &[]).await);
    }
    // The default name of the column is unchanged.
    let unnamed = query(&vector(1)).replace(" AS d", "").replace("ORDER BY d ", "");
    assert!(answer(&session, &unnamed, &[]).await.contains("Utf8("));
}

#[tokio::test]
async fn rows_that_change_are_seen() {
    let session = session();
    let query = "SELECT id FROM docs ORDER BY l2_distance(embedding, $1) LIMIT 1";
    let nearest = |session, id| async move { answer(session, query, &[scalar_of_vector(vector(id))]).await };
    for id in [5, 8] {
        assert!(nearest(&session, id).await.contains(&format!("| {id} ")));
    }
    name_docs(&session, 6..20);
    assert!(!nearest(&session, 5).await.contains("| 5 "));
    assert!(nearest(&session, 8).await.contains("| 8 "));
    session.sql(&format!("CREATE TABLE notes (id BIGINT, v VECTOR({DIM}))"), None).await.unwrap();
    let query = "SELECT id FROM notes ORDER BY l2_distance(v, $1) LIMIT 1";
    for id in [1_i64, 2, 3] {
        let params = ParamValues::from(vec![ScalarValue::Int64(Some(id)), scalar_of_vector(vector(id))]);
        session.sql("INSERT INTO notes VALUES ($1, $2)", Some(params)).await.unwrap().collect().await.unwrap();
        assert!(answer(&session, query, &[scalar_of_vector(vector(id))]).await.contains(&format!("| {id} ")), "{id}");
    }
}

#[tokio::test]
async fn a_name_that_comes_closer_later_is_searched_then() {
    let session = session();
    let query = "SELECT id FROM vector_search('Docs', 'embedding', $1, 1)";
    let params = [scalar_of_vector(vector(5))];
    for _ in 0..2 {
        assert!(answer(&session, query, &params).await.contains("| 5 "));
    }
    let batch = docs(7..9);
    let frame = session.create_dataframe_from_arrow(batch.schema(), vec![batch]).unwrap();
    session.create_temp_view("Docs", &frame).unwrap();
    assert!(!answer(&session, query, &params).await.contains("| 5 "));
}

#[tokio::test]
async fn a_query_that_needs_its_vector_elsewhere_is_planned_each_time() {
    let session = session();
    let params = [scalar_of_vector(vector(1))];
    for query in [
        "SELECT id, l2_distance(embedding, $1) AS d FROM docs ORDER BY cosine_distance(embedding, $1) LIMIT 2",
        "SELECT id FROM docs WHERE cosine_distance(embedding, $1) < 0.9 ORDER BY cosine_distance(embedding, $1) LIMIT 2",
        "SELECT id FROM docs WHERE vector_dims($1) = 24 ORDER BY cosine_distance(embedding, $1) LIMIT 2",
        "SELECT id, $1 AS q FROM docs ORDER BY cosine_distance(embedding, $1) LIMIT 2",
        "SELECT id FROM docs ORDER BY cosine_distance(embedding, $1) DESC LIMIT 2",
        "SELECT id FROM docs ORDER BY cosine_distance($1, $1) LIMIT 2",
    ] {
        for seed in [1, 2] {
            let own = self::session();
            let params = [scalar_of_vector(vector(seed))];
            assert_eq!(answer(&session, query, &params).await, answer(&own, query, &params).await, "{query}");
        }
        assert!(!is_planned(&session, query, &params).await, "{query}");
    }
}
