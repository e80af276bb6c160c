//! Prunes the chunks whose bounds prove that no row passes a predicate.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowNativeTypeOp, BooleanArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::physical_expr::expressions::{CastExpr, NegativeExpr, TryCastExpr};
use datafusion::physical_expr::{DynamicFilterTracking, PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_expr_common::physical_expr::{is_volatile, snapshot_physical_expr};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use super::Chunks;
use super::bounds::ColumnBounds;

/// Columns of chunks, as a predicate sees them.
#[derive(Debug, Clone)]
pub(crate) struct Pruner {
    pub chunks: Arc<Chunks>,
    /// The ordinal in the chunks of each column of `schema`.
    pub columns: Vec<usize>,
    pub schema: SchemaRef,
}

impl Pruner {
    /// Returns for each chunk whether it may have rows that pass the predicate; returns `None` if
    /// no chunk can be pruned.
    ///
    /// # Errors
    /// A predicate that cannot be evaluated yet, or that cannot be evaluated over bounds.
    pub fn kept(&self, predicate: &Arc<dyn PhysicalExpr>) -> Result<Option<Vec<bool>>> {
        if self.chunks.batches().is_empty() || !has_names_apart(&self.schema) {
            return Ok(None);
        }
        let predicate = snapshot_physical_expr(Arc::clone(predicate))?;
        let usable = split_conjunction(&predicate).into_iter().filter(|part| is_usable(part, &self.schema)).cloned();
        let pruning =
            PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.schema)).try_build(conjunction(usable))?;
        if pruning.always_true() {
            return Ok(None);
        }
        let kept = pruning.prune(self)?;
        Ok(kept.contains(&false).then_some(kept))
    }

    fn each(&self, column: &Column, of: impl Fn(&ColumnBounds) -> ScalarValue) -> Option<ArrayRef> {
        let place = self.columns[self.schema.index_of(&column.name).ok()?];
        let chunks = 0..self.chunks.batches().len();
        ScalarValue::iter_to_array(chunks.map(|chunk| of(self.chunks.bounds(chunk, place)))).ok()
    }

    fn ends(&self, column: &Column, is_least: bool) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        let unknown = ScalarValue::try_from(field.data_type()).ok()?;
        self.each(column, |bounds| {
            let bound = if is_least { &bounds.min } else { &bounds.max };
            bound.value().map_or_else(|| unknown.clone(), |value| with_zero(value, is_least))
        })
    }
}

/// A bound that holds whether the two zeros are one number or two.
fn with_zero(value: &ScalarValue, is_least: bool) -> ScalarValue {
    fn zero<T: ArrowNativeTypeOp>(is_least: bool) -> Option<T> {
        Some(if is_least { T::ZERO.neg_wrapping() } else { T::ZERO })
    }
    match value {
        ScalarValue::Float64(Some(0.0)) => ScalarValue::Float64(zero(is_least)),
        ScalarValue::Float32(Some(0.0)) => ScalarValue::Float32(zero(is_least)),
        ScalarValue::Float16(Some(half)) if half.is_zero() => ScalarValue::Float16(zero(is_least)),
        other => other.clone(),
    }
}

impl PruningStatistics for Pruner {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, true)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, false)
    }

    fn num_containers(&self) -> usize {
        self.chunks.batches().len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.each(column, |bounds| (bounds.nulls as u64).into())
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        // Dead ones included, as the NULLs are.
        let rows = self.chunks.batches().iter().map(|batch| batch.num_rows() as u64);
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// DataFusion finds the bounds of a column by its name.
fn has_names_apart(schema: &SchemaRef) -> bool {
    let mut names = HashSet::new();
    schema.fields().iter().all(|field| names.insert(field.name()))
}

/// Returns true if the bounds of a predicate can be derived from those of its columns. DataFusion
/// assumes that every cast between types other than text keeps the order, and that every negation
/// reverses it. Both are wrong in places: a cast to bool or to a time of day does not keep the
/// order, and the least integer is its own negative.
fn is_usable(predicate: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
    let keeps_order = |from: &Arc<dyn PhysicalExpr>, to: &DataType| {
        from.data_type(schema).is_ok_and(|from| {
            &from == to || (from.is_numeric() && to.is_numeric()) || (from.is_string() && to.is_string())
        })
    };
    let mut is_usable = !is_volatile(predicate);
    let walked = predicate.apply(|expr| {
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            is_usable &= keeps_order(cast.expr(), cast.cast_type());
        } else if let Some(cast) = expr.downcast_ref::<TryCastExpr>() {
            is_usable &= keeps_order(cast.expr(), cast.cast_type());
        } else if expr.downcast_ref::<NegativeExpr>().is_some() {
            is_usable = false;
        }
        Ok(if is_usable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    walked.is_ok() && is_usable
}

/// A predicate that is known, or changes, while a scan runs: that of a join, of a top k or with a
/// subquery.
#[derive(Debug)]
pub(super) struct RuntimePruner {
    pruner: Pruner,
    predicate: Arc<dyn PhysicalExpr>,
    tracking: DynamicFilterTracking,
    kept: Option<Vec<bool>>,
    is_asked: bool,
}

impl RuntimePruner {
    pub fn new(pruner: Pruner, predicate: Arc<dyn PhysicalExpr>) -> Self {
        let tracking = DynamicFilterTracking::classify(&predicate);
        Self { pruner, predicate, tracking, kept: None, is_asked: false }
    }

    /// Returns true if the predicate, as known now, excludes every row of the chunk.
    pub fn rules_out(&mut self, chunk: usize) -> bool {
        let is_known = std::mem::replace(&mut self.is_asked, true);
        if !is_known || self.tracking.watcher().is_some_and(|watcher| watcher.changed()) {
            // A predicate that cannot be evaluated prunes nothing.
            self.kept = self.pruner.kept(&self.predicate).unwrap_or_default();
        }
        self.kept.as_ref().is_some_and(|kept| !kept[chunk])
    }
}
