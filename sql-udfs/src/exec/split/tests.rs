//! Searches in parts have the rows of whole ones: with ties, NULL and NaN, for any number of tasks
//! and partitions.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal, lit};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionConfig;
use proptest::prelude::*;
use vexact_kernel::{Metric, Report, Tier};

use super::super::{Join, JoinColumn, Scoring, SqlFunction, TopK, VectorJoinExec, VectorTopKExec};
use super::{MergeJoinExec, MergeTopKExec, PartialJoinExec, PartialTopKExec, TaskIndex};
use crate::vector::scalar_of_vector;

fn rows(vectors: &[Option<[f32; 2]>]) -> RecordBatch {
    let values = Float32Array::from_iter_values(vectors.iter().flat_map(|vector| vector.unwrap_or_default()));
    let nulls = NullBuffer::from_iter(vectors.iter().map(Option::is_some));
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, Arc::new(values), Some(nulls)));
    let count = vectors.len() as i64;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let groups: ArrayRef =
        Arc::new(StringArray::from_iter((0..count).map(|id| (id % 4 > 0).then(|| format!("g{}", id % 4)))));
    RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("g", groups, true), ("v", vectors, true)]).unwrap()
}

fn scan(partitions: &[Vec<RecordBatch>], schema: &SchemaRef) -> Arc<dyn ExecutionPlan> {
    MemorySourceConfig::try_new_exec(partitions, Arc::clone(schema), None).unwrap()
}

/// Splits a batch at places, into `tasks` of `partitions` each.
fn tasks(batch: &RecordBatch, tasks: usize, partitions: usize) -> Vec<Vec<Vec<RecordBatch>>> {
    let (rows, parts) = (batch.num_rows(), tasks * partitions);
    let at = |part: usize| part * rows / parts;
    let part = |part: usize| {
        let (start, end) = (at(part), at(part + 1));
        let middle = (start + end) / 2;
        vec![batch.slice(start, middle - start), batch.slice(middle, end - middle)]
    };
    (0..tasks).map(|task| (0..partitions).map(|partition| part(task * partitions + partition)).collect()).collect()
}

fn context(task: usize) -> Arc<TaskContext> {
    let config = SessionConfig::new().with_extension(Arc::new(TaskIndex(task)));
    Arc::new(TaskContext::default().with_session_config(config))
}

async fn rows_of(plan: Arc<dyn ExecutionPlan>, task: usize) -> Vec<RecordBatch> {
    collect(plan, context(task)).await.unwrap()
}

/// Merges the rows of all tasks in an order that is not that of the tasks.
fn arrived(mut batches: Vec<Vec<RecordBatch>>, schema: &SchemaRef) -> Arc<dyn ExecutionPlan> {
    batches.reverse();
    scan(&[batches.concat()], schema)
}

fn top_k(scoring: Scoring, k: usize, is_grouped: bool, has_filter: bool, nulls_first: bool) -> TopK {
    let column = |name: &str, place| Arc::new(Column::new(name, place)) as Arc<dyn PhysicalExpr>;
    let project = |name: &str, place| ProjectionExpr { expr: column(name, place), alias: name.into() };
    let predicate = BinaryExpr::new(column("id", 0), Operator::NotEq, lit(3_i64));
    TopK {
        predicate: has_filter.then(|| Arc::new(predicate) as _),
        bounds: None,
        vector: 2,
        query: Arc::new(Literal::new(scalar_of_vector(vec![1.0, 0.5]))),
        scoring,
        negative_nans_first: false,
        nulls_first,
        k,
        group_by: is_grouped.then_some(1),
        columns: vec![0],
        output: vec![project("id", 0), project("value", 1), project("ordinal", 2)],
    }
}

async fn check_top_k(batch: RecordBatch, top_k: TopK, count: usize, partitions: usize) {
    let schema = batch.schema();
    let output = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("value", DataType::Float64, true),
        Field::new("ordinal", DataType::UInt64, false),
    ]));
    let search = |input| VectorTopKExec::try_new(input, top_k.clone(), Arc::clone(&output), None).unwrap();
    let whole = Arc::new(search(scan(&[vec![batch.clone()]], &schema)));
    let expected = rows_of(Arc::clone(&whole) as _, 0).await;
    let executed = whole.report(Tier::default());
    let mut found = Vec::new();
    let mut partial_schema = None;
    for (task, parts) in tasks(&batch, count, partitions).into_iter().enumerate() {
        let part = PartialTopKExec::of(&whole, scan(&parts, &schema)).unwrap();
        partial_schema = Some(part.schema());
        found.push(rows_of(Arc::new(part), task).await);
    }
    let again = search(scan(&[vec![batch]], &schema));
    let merged = MergeTopKExec::of(&again, arrived(found, &partial_schema.unwrap())).unwrap();
    let got = rows_of(Arc::new(merged), 0).await;
    let text = |batches: &[RecordBatch]| arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string();
    assert_eq!(text(&got), text(&expected));
    let report = again.report(Tier::default());
    assert_eq!(report.candidate_rows, executed.candidate_rows);
    assert_eq!(report.skipped_rows, executed.skipped_rows);
    let input_rows = |report: &Report| report.filter.as_ref().and_then(|filter| filter.input_rows);
    assert_eq!(input_rows(&report), input_rows(&executed));
    assert_eq!(report.threads, Some(count * partitions));
}

async fn check_join(batch: RecordBatch, k: Option<usize>, radius: Option<f64>, count: usize, partitions: usize) {
    let schema = batch.schema();
    let queries = batch.slice(0, batch.num_rows().min(5));
    let columns =
        vec![JoinColumn::Query(0), JoinColumn::Found(0), JoinColumn::Ordinal, JoinColumn::Rank, JoinColumn::Score];
    let join = Join { metric: Metric::L2, vectors: (2, 2), predicate: None, k, radius, columns };
    let field = |name: &str, data_type| Field::new(name, data_type, false);
    let output = Arc::new(Schema::new(vec![
        field("q", DataType::Int64),
        field("id", DataType::Int64),
        field("ordinal", DataType::Int64),
        field("rank", DataType::Int64),
        field("score", DataType::Float64),
    ]));
    let input = |batch: RecordBatch| scan(&[vec![batch]], &schema);
    let search =
        || VectorJoinExec::new(input(queries.clone()), input(batch.clone()), join.clone(), Arc::clone(&output));
    let expected = rows_of(Arc::new(search()), 0).await;
    let whole = search();
    let mut found = Vec::new();
    let mut partial_schema = None;
    for (task, parts) in tasks(&batch, count, partitions).into_iter().enumerate() {
        let part = PartialJoinExec::of(&whole, &queries, scan(&parts, &schema)).unwrap();
        partial_schema = Some(part.schema());
        found.push(rows_of(Arc::new(part), task).await);
    }
    let merged = MergeJoinExec::of(&whole, queries, arrived(found, &partial_schema.unwrap()));
    let got = rows_of(Arc::new(merged), 0).await;
    let text = |batches: &[RecordBatch]| arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string();
    assert_eq!(text(&got), text(&expected));
}

fn vectors() -> impl Strategy<Value = Vec<Option<[f32; 2]>>> {
    let component = prop_oneof![Just(0.0_f32), Just(-0.0), Just(1.0), Just(0.5), Just(f32::NAN), Just(-f32::NAN)];
    let vector = prop_oneof![1 => Just(None), 5 => [component.clone(), component].prop_map(Some)];
    proptest::collection::vec(vector, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_search_in_parts_has_the_rows_of_the_whole(
        vectors in vectors(),
        (k, count, partitions) in (1_usize..12, 1_usize..5, 1_usize..4),
        (is_grouped, has_filter, nulls_first) in any::<(bool, bool, bool)>(),
        function in prop_oneof![Just("cosine_distance"), Just("l2_distance"), Just("inner_product")],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let scoring = match is_grouped {
            true => Scoring::Search(Metric::L2),
            false => Scoring::Sql(SqlFunction::of_name(function).unwrap()),
        };
        let top_k = top_k(scoring, k, is_grouped, has_filter, nulls_first);
        runtime.block_on(check_top_k(rows(&vectors), top_k, count, partitions));
    }

    #[test]
    fn a_join_in_parts_has_the_pairs_of_the_whole(
        vectors in vectors(),
        (k, radius) in prop_oneof![Just((Some(3), None)), Just((None, Some(0.8))), Just((Some(4), Some(0.6)))],
        (count, partitions) in (1_usize..5, 1_usize..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check_join(rows(&vectors), k, radius, count, partitions));
    }
}

#[test]
fn tasks_without_rows_change_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let top_k = top_k(Scoring::Search(Metric::L2), 3, false, false, false);
    runtime.block_on(check_top_k(rows(&[Some([1.0, 0.0])]), top_k, 4, 3));
}
