//! A top k by floating-point numbers keeps `-0.0`, which sorts before `0.0`.
//!
//! DataFusion drops rows that are not less than the k-th one so far, and treats the two zeros as
//! equal there. So each such key is followed by a key that distinguishes them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, Int8Array, PrimitiveArray, RecordBatch};
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary};

/// Adds the keys to sorts with a limit.
#[derive(Debug)]
pub(crate) struct OrderZeros;

impl PhysicalOptimizerRule for OrderZeros {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        ordered(plan)
    }

    fn name(&self) -> &str {
        "vexact_order_zeros"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn ordered(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
        let input = ordered(Arc::clone(merge.input()))?;
        if let Some(sort) = input.downcast_ref::<SortExec>().filter(|sort| sort.expr() != merge.expr()) {
            let merge = SortPreservingMergeExec::new(sort.expr().clone(), Arc::clone(&input)).with_fetch(merge.fetch());
            return Ok(Arc::new(merge));
        }
        return replace_children_if_necessary(plan, vec![input]);
    }
    let required = plan.required_input_ordering();
    let mut inputs = Vec::new();
    for (input, required) in plan.children().into_iter().zip(required) {
        let changed = ordered(Arc::clone(input))?;
        let is_in_order = match required {
            Some(required) => changed.equivalence_properties().ordering_satisfy_requirement(required.into_single())?,
            None => true,
        };
        // An operator that asks for the keys alone does not take them with others between.
        inputs.push(if is_in_order { changed } else { limited_after_sort(Arc::clone(input))? });
    }
    let plan = replace_children_if_necessary(plan, inputs)?;
    match plan.downcast_ref::<SortExec>().map(with_zeros).transpose()?.flatten() {
        Some(sort) => Ok(Arc::new(sort)),
        None => Ok(plan),
    }
}

/// Moves the limit of the sort of an input above it, so that no row is dropped before it is sorted.
/// Looks below merges and projections.
fn limited_after_sort(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(sort) = plan.downcast_ref::<SortExec>() {
        let (Some(fetch), true) = (sort.fetch(), with_zeros(sort)?.is_some()) else { return ordered(plan) };
        let all = SortExec::new(sort.expr().clone(), ordered(Arc::clone(sort.input()))?)
            .with_preserve_partitioning(sort.preserve_partitioning());
        return Ok(match sort.preserve_partitioning() {
            true => Arc::new(LocalLimitExec::new(Arc::new(all), fetch)),
            false => Arc::new(GlobalLimitExec::new(Arc::new(all), 0, Some(fetch))),
        });
    }
    let [input] = plan.children()[..] else { return Ok(plan) };
    let input = limited_after_sort(Arc::clone(input))?;
    replace_children_if_necessary(plan, vec![input])
}

/// Returns a sort with a limit with the keys added; returns `None` if it needs none.
fn with_zeros(sort: &SortExec) -> Result<Option<SortExec>> {
    let schema = sort.input().schema();
    let is_float = |key: &PhysicalSortExpr| key.expr.data_type(&schema).is_ok_and(|of| of.is_floating());
    if sort.fetch().is_none() || !sort.expr().iter().any(is_float) {
        return Ok(None);
    }
    let keys = sort.expr().iter().flat_map(|key| {
        let zeros = is_float(key)
            .then(|| PhysicalSortExpr { expr: Arc::new(ZeroSign(Arc::clone(&key.expr))), options: key.options });
        [key.clone()].into_iter().chain(zeros)
    });
    let Some(keys) = LexOrdering::new(keys) else { return internal_err!("a sort has a key") };
    let ordered = SortExec::new(keys, Arc::clone(sort.input()))
        .with_preserve_partitioning(sort.preserve_partitioning())
        .with_fetch(sort.fetch());
    Ok(Some(ordered))
}

/// 0 for `-0.0`, 1 for any other number and for NULL.
#[derive(Debug, Eq)]
pub(crate) struct ZeroSign(Arc<dyn PhysicalExpr>);

impl PartialEq for ZeroSign {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref() == other.0.as_ref()
    }
}

impl Hash for ZeroSign {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for ZeroSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zero_sign({})", self.0)
    }
}

/// `None`: there is no negative zero. What NULL is stored as is no number.
fn signs<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    is_negative_zero: impl Fn(T::Native) -> bool,
) -> Option<Int8Array> {
    // Without a branch, so that it is vectorized.
    let is_found = values.values().iter().fold(false, |is_found, x| is_found | is_negative_zero(*x));
    let sign = |x: Option<T::Native>| Some(i8::from(!x.is_some_and(&is_negative_zero)));
    is_found.then(|| values.iter().map(sign).collect())
}

impl PhysicalExpr for ZeroSign {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Int8)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let values = self.0.evaluate(batch)?.into_array(batch.num_rows())?;
        let signs = match values.data_type() {
            DataType::Float16 => signs(values.as_primitive::<Float16Type>(), |x| x.to_bits() == 0x8000),
            DataType::Float32 => signs(values.as_primitive::<Float32Type>(), |x| x.to_bits() == (-0.0_f32).to_bits()),
            DataType::Float64 => signs(values.as_primitive::<Float64Type>(), |x| x.to_bits() == (-0.0_f64).to_bits()),
            other => return internal_err!("expected floating-point numbers, got {other}"),
        };
        Ok(match signs {
            Some(signs) => ColumnarValue::Array(Arc::new(signs) as ArrayRef),
            // Looking for a negative zero is much faster than making an array.
            None => ColumnarValue::Scalar(ScalarValue::Int8(Some(1))),
        })
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.0]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([number]) => Ok(Arc::new(Self(number))),
            Err(others) => internal_err!("a number's sign has one child, got {}", others.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zero_sign(")?;
        self.0.fmt_sql(f)?;
        write!(f, ")")
    }
}
