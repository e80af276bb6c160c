//! Aggregates of a group: DataFusion's accumulators, whose states are columns and can be merged.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use vexact_core::error::{Error, Result};

/// The aggregates of a query.
#[derive(Debug, Clone)]
pub(super) struct Aggregates {
    functions: Vec<Arc<AggregateFunctionExpr>>,
    /// Number of key columns, which come first.
    pub keys: usize,
    /// Column ranges of the states, one for each function.
    states: Vec<Range<usize>>,
    /// Schema of keys and states.
    pub state_schema: SchemaRef,
    /// Schema of keys and results.
    pub result_schema: SchemaRef,
}

impl Aggregates {
    /// Returns the aggregates of the plan that computes states; `result_schema` is that of the plan
    /// that would compute the results.
    ///
    /// # Errors
    /// An aggregate whose state cannot be merged: its name and the reason.
    pub fn try_new(partial: &AggregateExec, result_schema: SchemaRef) -> Result<Self> {
        let keys = partial.group_expr().num_group_exprs();
        let functions = partial.aggr_expr().to_vec();
        let state_schema = datafusion::physical_plan::ExecutionPlan::schema(partial);
        let mut states = Vec::with_capacity(functions.len());
        let mut next = keys;
        for function in &functions {
            let refused = |error: DataFusionError| {
                Error::InvalidArgument(format!(
                    "aggregate {} cannot be kept over a stream: its state cannot be merged: {}",
                    function.name(),
                    error.strip_backtrace()
                ))
            };
            let count = function.state_fields().map_err(refused)?.len();
            let columns = next..next + count;
            next += count;
            // Merges an empty state, to check that the accumulator supports merging.
            let empty: Vec<ArrayRef> =
                columns.clone().map(|column| new_empty_array(state_schema.field(column).data_type())).collect();
            let mut accumulator = accumulator(function).map_err(refused)?;
            accumulator.merge_batch(&empty, &[], 0).map_err(refused)?;
            states.push(columns);
        }
        Ok(Self { functions, keys, states, state_schema, result_schema })
    }

    /// Returns readable names of the functions.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.functions.iter().map(|function| function.name()).collect();
        names.join(", ")
    }

    /// Merges rows of states, each of which belongs to one of `groups` groups, and returns the
    /// states of the groups in their order. Earlier parts come first if an aggregate's result
    /// depends on the order of its input.
    ///
    /// # Errors
    /// An error of an accumulator.
    pub fn merge(&self, parts: &[(&[ArrayRef], &[usize])], groups: usize) -> Result<Vec<ArrayRef>> {
        let mut merged = Vec::with_capacity(self.state_schema.fields().len() - self.keys);
        for (function, columns) in self.functions.iter().zip(&self.states) {
            merged.extend(self.merged(function, columns, parts, groups)?.state(EmitTo::All)?);
        }
        Ok(merged)
    }

    /// Returns the results of groups, each of which has one row of states.
    ///
    /// # Errors
    /// An error of an accumulator.
    pub fn results(&self, keys: &[ArrayRef], states: &[ArrayRef], groups: usize) -> Result<RecordBatch> {
        let own: Vec<usize> = (0..groups).collect();
        let mut arrays = keys.to_vec();
        for (function, columns) in self.functions.iter().zip(&self.states) {
            arrays.push(self.merged(function, columns, &[(states, &own)], groups)?.evaluate(EmitTo::All)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(groups));
        RecordBatch::try_new_with_options(Arc::clone(&self.result_schema), arrays, &options).map_err(Error::arrow)
    }

    fn merged(
        &self,
        function: &Arc<AggregateFunctionExpr>,
        columns: &Range<usize>,
        parts: &[(&[ArrayRef], &[usize])],
        groups: usize,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let columns = columns.start - self.keys..columns.end - self.keys;
        let mut accumulator = accumulator(function)?;
        for (states, group_of) in parts {
            accumulator.merge_batch(&states[columns.clone()], group_of, groups)?;
        }
        Ok(accumulator)
    }
}

fn accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>, DataFusionError> {
    if function.groups_accumulator_supported() {
        return function.create_groups_accumulator();
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}
