//! `MaxSimTopKExec`: the first k rows in the order of `max_sim`, most of which the kernel's bounds
//! rule out before they are computed exactly.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, CardinalityEffect, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::once;
use vexact_kernel::{MaxSim, MaxSimHits, TokenColumn};

use super::in_place::select;
use super::ranked::external;
use super::top_k::constant;
use crate::chunks::{self, InPlace};
use crate::config::VexactOptions;
use crate::functions::query_tokens;

/// A top-k by `max_sim` over the rows of an input.
#[derive(Debug, Clone)]
pub(crate) struct MaxSimTopK {
    /// Predicate that selects the rows to search, over the input's columns.
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Ordinal of the column of tokens in the input.
    pub tokens: usize,
    /// The query: an expression without columns, evaluated once.
    pub query: Arc<dyn PhysicalExpr>,
    /// Number of rows.
    pub k: usize,
    /// Columns of the input that the output needs.
    pub columns: Vec<usize>,
    /// The output, over `columns` and the score (`Float64`).
    pub output: Vec<ProjectionExpr>,
}

/// Runs a [`MaxSimTopK`] over chunks in memory, in parallel. Other columns are fetched only for the
/// rows of the result. One output partition.
#[derive(Debug)]
pub struct MaxSimTopKExec {
    input: Arc<dyn ExecutionPlan>,
    top_k: Arc<MaxSimTopK>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl MaxSimTopKExec {
    /// `input`: a scan of chunks in memory. `schema`: that of the output; `ordering`: the order of
    /// the output.
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        top_k: MaxSimTopK,
        schema: SchemaRef,
        ordering: Option<LexOrdering>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, ordering),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            input,
            top_k: Arc::new(top_k),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    fn of(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self {
            input,
            top_k: Arc::clone(&self.top_k),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for MaxSimTopKExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let input = self.input.schema();
        let (column, k) = (input.field(self.top_k.tokens).name(), self.top_k.k);
        if matches!(t, DisplayFormatType::TreeRender) {
            writeln!(f, "column={column}")?;
            return writeln!(f, "k={k}");
        }
        write!(f, "MaxSimTopKExec: column={column}, k={k}")?;
        if let Some(predicate) = &self.top_k.predicate {
            write!(f, ", filter={predicate}")?;
        }
        let names: Vec<&str> = self.top_k.output.iter().map(|output| output.alias.as_str()).collect();
        write!(f, ", output=[{}]", names.join(", "))
    }
}

impl ExecutionPlan for MaxSimTopKExec {
    crate::one_child_plan!(
        MaxSimTopKExec,
        input,
        |self, input| self.of(input),
        [&self.top_k.query]
            .into_iter()
            .chain(&self.top_k.predicate)
            .chain(self.top_k.output.iter().map(|output| &output.expr))
    );

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("MaxSimTopKExec has one partition, got {partition}");
        }
        let Some(scan) = chunks::in_place(&self.input) else {
            return internal_err!("MaxSimTopKExec has an input in memory, got {}", self.input.name());
        };
        let count = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, 0);
        let (refined, skipped) = (count("rows_refined"), count("rows_skipped"));
        let rows = MetricBuilder::new(&self.metrics).output_rows(0);
        let run = Run {
            scan,
            top_k: Arc::clone(&self.top_k),
            input: self.input.schema(),
            schema: self.schema(),
            threads: VexactOptions::of(context.session_config().options()).threads,
        };
        let search = async move {
            let searched = SpawnedTask::spawn_blocking(move || run.search()).join().await;
            let (output, hits) = searched.map_err(|error| DataFusionError::External(Box::new(error)))??;
            rows.add(output.num_rows());
            if let Some(hits) = hits {
                refined.add(hits.refined_rows as usize);
                skipped.add(hits.skipped_rows as usize);
            }
            Ok(output)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), once(search))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn fetch(&self) -> Option<usize> {
        Some(self.top_k.k)
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::LowerEqual
    }
}

/// One execution.
struct Run {
    scan: InPlace,
    top_k: Arc<MaxSimTopK>,
    /// Schema of the input.
    input: SchemaRef,
    /// Schema of the output.
    schema: SchemaRef,
    threads: usize,
}

impl Run {
    fn search(&self) -> Result<(RecordBatch, Option<MaxSimHits>)> {
        let Self { scan, top_k, .. } = self;
        let selection = match &top_k.predicate {
            Some(predicate) => Some(select(predicate, &self.input, scan)?.rows),
            None => scan.chunks.selection(),
        };
        let column = scan.columns[top_k.tokens];
        let batches = scan.chunks.batches();
        let hits = match query_tokens(&constant(&top_k.query)?)? {
            // No row has a score.
            None => None,
            Some(query) => {
                let of_column = |error| {
                    external(error).context(format!("max_sim on column {:?}", self.input.field(top_k.tokens).name()))
                };
                let tokens = batches.iter().map(|batch| TokenColumn::try_new(batch.column(column).as_ref()));
                let tokens = tokens.collect::<Result<Vec<_>, _>>().map_err(of_column)?;
                let mut search = MaxSim::new(&query).map_err(of_column)?.top_k(top_k.k).threads(self.threads);
                if let Some(selection) = &selection {
                    search = search.selection(selection);
                }
                Some(search.run(&tokens).map_err(of_column)?)
            }
        };
        let scored = hits.iter().flat_map(|hits| hits.rows.iter().zip(&hits.scores));
        let mut rows: Vec<(u64, Option<f64>)> = scored.map(|(row, score)| (*row, Some(*score))).collect();
        if rows.len() < top_k.k {
            // All rows with a score were found: the others come after them.
            let mut found: Vec<u64> = rows.iter().map(|(row, _)| *row).collect();
            found.sort_unstable();
            let all: usize = batches.iter().map(RecordBatch::num_rows).sum();
            let is_selected = |row: &u64| selection.as_ref().is_none_or(|bits| bits.value(*row as usize));
            let others = (0..all as u64).filter(|row| is_selected(row) && found.binary_search(row).is_err());
            rows.extend(others.take(top_k.k - rows.len()).map(|row| (row, None)));
        }
        Ok((self.output(&rows)?, hits))
    }

    /// The output of rows by their positions and scores.
    fn output(&self, rows: &[(u64, Option<f64>)]) -> Result<RecordBatch> {
        let batches = self.scan.chunks.batches();
        let mut starts = vec![0];
        for batch in batches {
            starts.push(starts[starts.len() - 1] + batch.num_rows());
        }
        let place = |position: u64| {
            let batch = starts.partition_point(|start| *start <= position as usize) - 1;
            (batch, position as usize - starts[batch])
        };
        let places: Vec<(usize, usize)> = rows.iter().map(|(row, _)| place(*row)).collect();
        let gather = |column: &usize| -> Result<ArrayRef> {
            if batches.is_empty() {
                return Ok(new_empty_array(self.input.field(*column).data_type()));
            }
            let column = self.scan.columns[*column];
            let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            Ok(interleave(&arrays, &places)?)
        };
        let mut arrays = self.top_k.columns.iter().map(gather).collect::<Result<Vec<_>>>()?;
        arrays.push(Arc::new(rows.iter().map(|(_, score)| *score).collect::<Float64Array>()));
        let mut fields: Vec<_> = self.input.project(&self.top_k.columns)?.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("value", DataType::Float64, true)));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let gathered = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        let output = self.top_k.output.iter().map(|output| output.expr.evaluate(&gathered)?.into_array(rows.len()));
        let output = output.collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), output, &options)?)
    }
}
