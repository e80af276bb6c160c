//! Range search: `distance(column, constant) < radius`, anywhere in a filter, becomes an expression
//! that the kernel evaluates with its bounds, so that the exact distance of most rows is never
//! computed.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, MutableBuffer, NullBuffer};
use arrow::datatypes::{DataType, Schema};
use arrow::util::bit_util;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::repartition::RepartitionExec;
use vexact_kernel::{Acceleration, RankedBy, Report, ScanInput, Search, Tier, VectorColumn};

use super::call::monotone;
use crate::chunks::{ChunkScanExec, Range};
use crate::exec::Scoring;
use crate::vector::vector_of_scalar;

/// `metric(column, query)` within a radius: true, false, or NULL if there is no distance.
#[derive(Debug, Clone)]
pub(crate) struct WithinRadius {
    column: Arc<dyn PhysicalExpr>,
    query: Vec<f64>,
    scoring: Scoring,
    /// The farthest value of the metric that is within.
    radius: f64,
    /// The sign of the NaNs that satisfy the comparison: in Arrow's total order one sorts before
    /// all numbers, one after.
    holds_negative_nan: bool,
    /// The comparison as it was written, for EXPLAIN.
    original: Arc<dyn PhysicalExpr>,
}

impl WithinRadius {
    /// Returns the comparison that it replaces.
    pub fn original(&self) -> &Arc<dyn PhysicalExpr> {
        &self.original
    }
}

impl PartialEq for WithinRadius {
    fn eq(&self, other: &Self) -> bool {
        self.original.as_ref() == other.original.as_ref()
    }
}

impl Eq for WithinRadius {}

impl Hash for WithinRadius {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.original.hash(state);
    }
}

impl fmt::Display for WithinRadius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "within_radius({}, {}, [{} components], {})",
            self.scoring.metric(),
            self.column,
            self.query.len(),
            self.radius
        )
    }
}

impl PhysicalExpr for WithinRadius {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array: ArrayRef = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        let external = |error| datafusion::common::DataFusionError::External(Box::new(error));
        let column = VectorColumn::try_new(&array).map_err(external)?;
        let hits = Search::new(self.scoring.metric(), &self.query)
            .map_err(external)?
            .sql_distances()
            .radius(self.radius)
            .rows_only()
            .threads(1)
            .run(&column)
            .map_err(external)?;
        let mut within = MutableBuffer::from_len_zeroed(batch.num_rows().div_ceil(8));
        let is_held = |row: &&u64| {
            let distance = column.distance(self.scoring.metric(), **row as usize, &self.query);
            distance.is_some_and(|x| x.is_sign_negative() == self.holds_negative_nan)
        };
        let nans = hits.nan_rows.iter().filter(is_held);
        for row in hits.rows.iter().chain(nans) {
            bit_util::set_bit(within.as_slice_mut(), *row as usize);
        }
        let mut valid = MutableBuffer::from_len_zeroed(batch.num_rows().div_ceil(8))
            .with_bitset(batch.num_rows().div_ceil(8), true);
        for row in &hits.null_rows {
            bit_util::unset_bit(valid.as_slice_mut(), *row as usize);
        }
        let bits = |buffer: MutableBuffer| BooleanBuffer::new(buffer.into(), 0, batch.num_rows());
        let nulls = NullBuffer::new(bits(valid));
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(bits(within), Some(nulls)))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([column]) => Ok(Arc::new(Self { column, ..Self::clone(&self) })),
            Err(_) => datafusion::common::internal_err!("within_radius has one child"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.original.fmt_sql(f)
    }
}

/// The strategies of the range searches in a filter.
pub(crate) fn range_strategy(filter: &FilterExec, tier: Tier) -> Vec<Report> {
    let mut strategies = Vec::new();
    // The closure never fails.
    let _ = filter.predicate().apply(|expr| {
        let node: &dyn PhysicalExpr = expr.as_ref();
        if let Some(within) = node.downcast_ref::<WithinRadius>() {
            let mut report = Report {
                radius: Some(within.radius),
                acceleration: Acceleration::new(ScanInput::BatchStream, RankedBy::Range),
                ..Report::planned(within.scoring.metric(), Some(within.query.len()), None, tier)
            };
            if let Some(scan) = scan_below(filter.input())
                && let Some(range) = scan.range()
            {
                scan.chunks().plan_sketch(range.column, tier, 1, &mut report);
            }
            strategies.push(report);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    strategies
}

/// Replaces the comparisons in the predicate of a filter.
pub(super) fn rewrite(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let node: &dyn ExecutionPlan = plan.as_ref();
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        let replaced = within_radius(Arc::clone(filter.predicate()), &filter.input().schema())?;
        if replaced.transformed {
            let input = match filter.fetch() {
                None => in_range(filter.input(), &replaced.data)?,
                // A few rows may be found long before all are searched.
                Some(_) => None,
            };
            let mut filter = FilterExecBuilder::from(filter).with_predicate(replaced.data);
            if let Some(input) = input {
                filter = filter.with_input(input);
            }
            return Ok(Transformed::yes(Arc::new(filter.build()?)));
        }
    }
    Ok(Transformed::no(plan))
}

/// Returns the scan of chunks below a filter, which leaves out the rows beyond the radius of one of
/// the conditions. Returns `None` if there is no such scan or condition.
fn in_range(
    input: &Arc<dyn ExecutionPlan>,
    predicate: &Arc<dyn PhysicalExpr>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(scan) = scan_below(input) else { return Ok(None) };
    let within = split_conjunction(predicate).into_iter().find_map(|part| {
        let part: &dyn PhysicalExpr = part.as_ref();
        part.downcast_ref::<WithinRadius>()
    });
    let Some(within) = within else { return Ok(None) };
    let column: &dyn PhysicalExpr = within.column.as_ref();
    let Some(column) = column.downcast_ref::<Column>().map(Column::index) else { return Ok(None) };
    let range = Range {
        column: scan.columns()[column],
        metric: within.scoring.metric(),
        query: within.query.clone(),
        radius: within.radius,
    };
    let scan = Arc::new(scan.within(range));
    let replaced = Arc::clone(input).transform_down(|node| match node.is::<ChunkScanExec>() {
        true => Ok(Transformed::yes(Arc::clone(&scan) as Arc<dyn ExecutionPlan>)),
        false => Ok(Transformed::no(node)),
    })?;
    Ok(Some(replaced.data))
}

/// Returns the scan of chunks of a plan with the same columns.
fn scan_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&ChunkScanExec> {
    let node: &dyn ExecutionPlan = plan.as_ref();
    if let Some(scan) = node.downcast_ref::<ChunkScanExec>() {
        return Some(scan);
    }
    let passes = node.is::<CooperativeExec>() || node.is::<RepartitionExec>();
    match &plan.children()[..] {
        [input] if passes => scan_below(input),
        _ => None,
    }
}

/// Replaces the comparisons in an expression over `schema`.
pub(super) fn within_radius(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    expr.transform_up(|expr| {
        Ok(match comparison(&expr, schema) {
            Some(within) => Transformed::yes(Arc::new(within) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(expr),
        })
    })
}

/// A comparison of a value with a number: `value op number`.
pub(super) struct Comparison<'e> {
    pub value: &'e Arc<dyn PhysicalExpr>,
    pub number: f64,
    /// True if it holds for small values.
    pub wants_small: bool,
    pub holds: fn(f64, f64) -> bool,
}

impl<'e> Comparison<'e> {
    /// Returns `None` if the expression is none, or if its number is not finite.
    pub fn of(expr: &'e Arc<dyn PhysicalExpr>) -> Option<Self> {
        let node: &dyn PhysicalExpr = expr.as_ref();
        let binary = node.downcast_ref::<BinaryExpr>()?;
        let literal = |expr: &Arc<dyn PhysicalExpr>| {
            let node: &dyn PhysicalExpr = expr.as_ref();
            match node.downcast_ref::<Literal>()?.value() {
                ScalarValue::Float64(Some(x)) if x.is_finite() => Some(*x),
                _ => None,
            }
        };
        let (value, number, op) = match (literal(binary.left()), literal(binary.right())) {
            (None, Some(number)) => (binary.left(), number, *binary.op()),
            (Some(number), None) => (binary.right(), number, binary.op().swap()?),
            _ => return None,
        };
        let holds: fn(f64, f64) -> bool = match op {
            Operator::Lt => |x, y| x < y,
            Operator::LtEq => |x, y| x <= y,
            Operator::Gt => |x, y| x > y,
            Operator::GtEq => |x, y| x >= y,
            _ => return None,
        };
        Some(Self { value, number, wants_small: matches!(op, Operator::Lt | Operator::LtEq), holds })
    }
}

/// Returns the range search that replaces an expression.
fn comparison(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<WithinRadius> {
    let Comparison { value, number: bound, wants_small, holds } = Comparison::of(expr)?;
    let (call, direction) = monotone(value)?;
    let is_falling = direction.is_falling;
    let Scoring::Sql(_) = call.scoring else { return None };
    // The side that is a ball around the query; the other side is nearly everything.
    if call.is_larger_closer() != (wants_small == is_falling) {
        return None;
    }
    let on_column = call.on_column(schema).ok()?;
    on_column.check_literal(schema).ok()?;
    let query: &dyn PhysicalExpr = on_column.query.as_ref();
    let query = vector_of_scalar(query.downcast_ref::<Literal>()?.value()).ok()??;
    let field = schema.field(on_column.column);
    // Rows of a list may differ in length: plain evaluation then errs only for the rows that it
    // meets.
    if !matches!(field.data_type(), DataType::FixedSizeList(..) | DataType::FixedSizeBinary(_)) {
        return None;
    }
    let scoring = call.scoring;
    let replaced_value = |distance: f64| value_at(value, &call.expr, scoring.value(distance));
    let is_within = |distance: f64| replaced_value(distance).is_some_and(|x| holds(x, bound));
    let (radius, _) = boundary(scoring.metric().is_larger_closer(), is_within)?;
    Some(WithinRadius {
        column: Arc::new(Column::new(field.name(), on_column.column)),
        query,
        scoring,
        radius,
        holds_negative_nan: wants_small != direction.is_negated,
        original: Arc::clone(expr),
    })
}

/// Returns the value of an expression in which the call has the value `x`.
pub(super) fn value_at(expr: &Arc<dyn PhysicalExpr>, call: &Arc<dyn PhysicalExpr>, x: f64) -> Option<f64> {
    let replaced = Arc::clone(expr).transform_down(|expr| {
        Ok(if expr.as_ref() == call.as_ref() {
            Transformed::yes(Arc::new(Literal::new(ScalarValue::from(x))) as Arc<dyn PhysicalExpr>)
        } else {
            Transformed::no(expr)
        })
    });
    let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
    match replaced.ok()?.data.evaluate(&empty).ok()? {
        ColumnarValue::Scalar(ScalarValue::Float64(x)) => x,
        _ => None,
    }
}

/// Returns the farthest number for which `is_within` holds, if it holds for all closer ones, and
/// the next one. The search bisects the ordered floats, so that rounding within the comparison is
/// respected to the last bit. Returns `None` if `is_within` holds for no number, or for all.
pub(super) fn boundary(is_larger_closer: bool, is_within: impl Fn(f64) -> bool) -> Option<(f64, f64)> {
    let sign = if is_larger_closer { -1.0 } else { 1.0 };
    let ordered = |x: f64| {
        let bits = x.to_bits() as i64;
        if bits < 0 { i64::MIN - bits } else { bits }
    };
    let float = |n: i64| f64::from_bits(if n < 0 { i64::MIN - n } else { n } as u64);
    let (mut within, mut beyond) = (ordered(f64::MIN), ordered(f64::MAX));
    if !is_within(sign * float(within)) || is_within(sign * float(beyond)) {
        return None;
    }
    while i128::from(beyond) - i128::from(within) > 1 {
        let middle = ((i128::from(within) + i128::from(beyond)) / 2) as i64;
        if is_within(sign * float(middle)) { within = middle } else { beyond = middle }
    }
    Some((sign * float(within), sign * float(beyond)))
}
