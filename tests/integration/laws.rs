//! Laws of the SQL surface: the rewrite changes no answer, `vector_search` equals the reference,
//! and no text causes a panic.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;
use tokio::runtime::Runtime;
use vexact_kernel::{Metric, reference};
use vexact_sql::chunks::ChunkTable;

const DIM: usize = 3;

/// A table and statements over it.
#[derive(Debug, Clone)]
struct Case {
    rows: Vec<Option<[f32; DIM]>>,
    chunk_rows: usize,
    query: [f32; DIM],
    k: usize,
    offset: usize,
    filter: &'static str,
    order: &'static str,
}

const FILTERS: [&str; 7] = [
    "true",
    "id % 3 = 0",
    "id < 0",
    "id > 5 AND embedding IS NOT NULL",
    "CASE WHEN id % 2 = 0 THEN NULL ELSE true END",
    "l2_distance(embedding, QUERY) < 1.5",
    "NOT (1.0 - cosine_distance(embedding, QUERY) > 0.3) OR inner_product(embedding, QUERY) >= 0.25",
];

const ORDERS: [&str; 10] = [
    "cosine_distance(embedding, QUERY)",
    "cosine_distance(embedding, QUERY) ASC NULLS FIRST",
    "cosine_similarity(embedding, QUERY) DESC",
    "cosine_similarity(embedding, QUERY) DESC NULLS LAST",
    "inner_product(embedding, QUERY) DESC NULLS LAST",
    "-dot_product(embedding, QUERY)",
    "l2_distance(embedding, QUERY)",
    "l2_distance_squared(embedding, QUERY) NULLS FIRST",
    "1.0 - l2_distance(embedding, QUERY) DESC",
    "array_distance(embedding, QUERY)",
];

fn component() -> impl Strategy<Value = f32> {
    prop_oneof![10 => prop::sample::select(vec![-1.0_f32, -0.5, 0.0, 0.5, 1.0]), 10 => -2.0..2.0_f32]
}

fn case() -> impl Strategy<Value = Case> {
    let row = prop_oneof![8 => [component(), component(), component()].prop_map(Some), 1 => Just(None)];
    // A search rejects the zero query, and SQL answers it.
    let query = prop_oneof![9 => [component(), component(), component()], 1 => Just([0.0; DIM])];
    (
        (prop::collection::vec(row, 0..60), 1..30_usize, query),
        (1..12_usize, 0..4_usize, prop::sample::select(&FILTERS[..]), prop::sample::select(&ORDERS[..])),
    )
        .prop_map(|((rows, chunk_rows, query), (k, offset, filter, order))| Case {
            rows,
            chunk_rows,
            query,
            k,
            offset,
            filter,
            order,
        })
}

impl Case {
    fn batches(&self) -> Vec<RecordBatch> {
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let batch = |start: usize| {
            let rows = &self.rows[start..self.rows.len().min(start + self.chunk_rows)];
            let values = Float32Array::from_iter_values(rows.iter().flat_map(|row| row.unwrap_or([7.0; DIM])));
            let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
            let vectors = FixedSizeListArray::new(Arc::clone(&item), DIM as i32, Arc::new(values), Some(nulls));
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((start..start + rows.len()).map(|id| id as i64)));
            RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("embedding", Arc::new(vectors), true)])
                .unwrap()
        };
        (0..self.rows.len().max(1)).step_by(self.chunk_rows).map(batch).collect()
    }

    fn session(&self) -> SessionContext {
        let ctx = SessionContext::new();
        vexact_sql::register(&ctx).unwrap();
        let batches = self.batches();
        let schema = batches[0].schema();
        let chunks = ChunkTable::try_new(Arc::clone(&schema), batches.clone()).unwrap();
        ctx.register_table("docs", Arc::new(chunks)).unwrap();
        let memory = MemTable::try_new(schema, vec![batches]).unwrap();
        ctx.register_table("docs_mem", Arc::new(memory)).unwrap();
        ctx
    }

    fn sql(&self, statement: &str) -> String {
        let numbers: Vec<String> = self.query.iter().map(|x| format!("{:?}", f64::from(*x))).collect();
        statement.replace("QUERY", &format!("[{}]", numbers.join(", ")))
    }
}

type Rows = Vec<(i64, Option<f64>)>;

/// Runs a statement that returns an id and a value for each row.
async fn run(ctx: &SessionContext, statement: &str) -> Result<Rows, DataFusionError> {
    Ok(rows(&ctx.sql(statement).await?.collect().await?))
}

/// Runs a statement as [`run`] does, with a session's planner.
async fn run_planned(ctx: &SessionContext, statement: &str) -> Result<Rows, DataFusionError> {
    let (state, plan) = ctx.sql(statement).await?.into_parts();
    let (_, physical) = vexact_sql::create_physical_plan(&state, &plan).await?;
    Ok(rows(&datafusion::physical_plan::collect(physical, state.task_ctx()).await?))
}

fn rows(batches: &[RecordBatch]) -> Rows {
    let mut rows = Vec::new();
    for batch in batches {
        let (ids, values) =
            (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Float64Type>());
        rows.extend((0..batch.num_rows()).map(|row| (ids.value(row), values.is_valid(row).then(|| values.value(row)))));
    }
    rows
}

/// Returns a value's bits, also for NULL.
fn bits(value: Option<f64>) -> Option<u64> {
    value.map(f64::to_bits)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rewrite_changes_no_answer_up_to_ties(case in case()) {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let ctx = case.session();
            for table in ["docs", "docs_mem"] {
                let value = case.order.split(" ASC").next().unwrap().split(" DESC").next().unwrap().split(" NULLS").next().unwrap();
                let statement = case.sql(&format!(
                    "SELECT id, {value} AS d FROM {table} WHERE {} ORDER BY {} LIMIT {} OFFSET {}",
                    case.filter, case.order, case.k, case.offset
                ));
                let all = case.sql(&format!("SELECT id, {value} AS d FROM {table} WHERE {}", case.filter));
                let rewritten = run(&ctx, &statement).await.unwrap();
                let planned = run_planned(&ctx, &statement).await.unwrap();
                ctx.sql("SET vexact.rewrite = false").await.unwrap().collect().await.unwrap();
                let plain = run(&ctx, &statement).await.unwrap();
                let all = run(&ctx, &all).await.unwrap();
                ctx.sql("SET vexact.rewrite = true").await.unwrap().collect().await.unwrap();

                let values = |rows: &[(i64, Option<f64>)]| rows.iter().map(|row| bits(row.1)).collect::<Vec<_>>();
                prop_assert_eq!(values(&rewritten), values(&plain), "{}", statement);
                let bits_of = |rows: &[(i64, Option<f64>)]| rows.iter().map(|row| (row.0, bits(row.1))).collect::<Vec<_>>();
                prop_assert_eq!(bits_of(&planned), bits_of(&rewritten), "{}", statement);
                // Ties may be broken differently, but each row is one of the table with that value,
                // and no row occurs twice.
                for row in &rewritten {
                    let stored = all.iter().find(|stored| stored.0 == row.0).map(|stored| bits(stored.1));
                    prop_assert_eq!(stored, Some(bits(row.1)), "{}", statement);
                }
                let distinct: HashSet<i64> = rewritten.iter().map(|row| row.0).collect();
                prop_assert_eq!(distinct.len(), rewritten.len(), "{}", statement);
            }
            Ok(())
        })?;
    }

    #[test]
    fn vector_search_equals_the_reference(case in case(), metric in prop::sample::select(vec![Metric::Cosine, Metric::Dot, Metric::L2])) {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let ctx = case.session();
            let statement = case.sql(&format!("SELECT id, score FROM vector_search('docs', 'embedding', QUERY, {}, '{metric}')", case.k));
            let found = run(&ctx, &statement).await;
            let query = case.query.map(f64::from);
            if metric == Metric::Cosine && query == [0.0; DIM] {
                prop_assert!(found.unwrap_err().to_string().contains("zero query under cosine"));
                return Ok(());
            }
            let rows: Vec<Option<&[f32]>> = case.rows.iter().map(|row| row.as_ref().map(|row| &row[..])).collect();
            let expected = reference::search(metric, &rows, &query, case.k);
            let expected: Vec<(i64, Option<f64>)> = expected.iter().map(|(row, score)| (*row as i64, Some(*score))).collect();
            prop_assert_eq!(found.unwrap(), expected, "{}", statement);
            Ok(())
        })?;
    }

    #[test]
    fn no_statement_panics(words in prop::collection::vec(prop::sample::select(vec![
        "SELECT", "*", "FROM", "docs", "vector_search", "vector_join", "(", ")", ",", "'docs'", "'embedding'", "'[1 2 3]'", "'[1'", "[1.0, 2.0, 3.0]",
        "[]", "NULL", "10", "-1", "0", "1e400", "'cosine'", "'l2'", "'x'", "WHERE", "ORDER BY", "LIMIT", "cosine_distance", "l2_distance",
        "to_vector", "vector_dims", "l2_norm", "embedding", "id", "<", "0.5", "DESC", "EXPLAIN", "ANALYZE", "AS", "d", "$1", "(SELECT embedding FROM docs LIMIT 1)",
    ]), 1..24)) {
        no_panic(&words.join(" "));
    }

    #[test]
    fn no_argument_panics(arguments in prop::collection::vec("[-+0-9a-z'\\[\\], .$]{0,12}", 0..7), function in prop::sample::select(vec![
        "vector_search", "vector_join", "cosine_distance", "to_vector", "l2_norm",
    ])) {
        no_panic(&format!("SELECT * FROM {function}({})", arguments.join(", ")));
        no_panic(&format!("SELECT {function}({}) FROM docs", arguments.join(", ")));
    }
}

/// Runs any statement; an error is an answer.
fn no_panic(statement: &str) {
    let case = Case {
        rows: vec![Some([1.0, 2.0, 3.0]), None, Some([0.0; DIM])],
        chunk_rows: 2,
        query: [1.0; DIM],
        k: 1,
        offset: 0,
        filter: "true",
        order: "",
    };
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        if let Ok(frame) = case.session().sql(statement).await {
            let _ = frame.collect().await;
        }
    });
}
