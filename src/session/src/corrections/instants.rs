//! Compares dates and timestamps with constants exactly, for all years.
//!
//! DataFusion compares them as nanoseconds, which reach from 1677 to 2262 (apache/datafusion#8336),
//! so that a constant of another year is an error. Here the constant is converted to the column's
//! own unit, or to the end of its range. The comparison still has the plain column, so row groups
//! are pruned by it.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, InList};
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, and, binary_expr, lit, not, or,
};
use datafusion::optimizer::AnalyzerRule;

use super::instant_text::parse_instant;
use super::rewrite::{is_comparison, rewrite_exprs};

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const NANOS_PER_DAY: i128 = 86_400 * NANOS_PER_SECOND;

/// Replaces the constants. It runs before type coercion.
#[derive(Debug)]
pub(super) struct ExactInstants;

impl AnalyzerRule for ExactInstants {
    fn name(&self) -> &str {
        "vexact_exact_instants"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_exprs(plan, is_candidate, exact)
    }
}

/// Returns true if an expression compares an instant and has a constant that may be one.
fn is_candidate(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            is_comparison(*op) && (is_constant(left) || is_constant(right))
        }
        Expr::Between(Between { expr, low, high, .. }) => [expr, low, high].into_iter().any(|side| is_constant(side)),
        Expr::InList(InList { list, .. }) => list.iter().any(is_constant),
        Expr::Case(case) => case.expr.is_some() && case.when_then_expr.iter().any(|(when, _)| is_constant(when)),
        Expr::ScalarFunction(call) => call.func.name() == "nullif" && call.args.get(1).is_some_and(is_constant),
        Expr::Cast(_) => far_timestamp(expr).is_some(),
        _ => false,
    }
}

/// Returns a text that is cast to a timestamp outside the range of nanoseconds, as the finest
/// timestamp that holds it.
fn far_timestamp(expr: &Expr) -> Option<ScalarValue> {
    let Expr::Cast(Cast { expr, field }) = expr else { return None };
    let (Expr::Literal(value, _), DataType::Timestamp(TimeUnit::Nanosecond, zone)) = (expr.as_ref(), field.data_type())
    else {
        return None;
    };
    let named = Unit::of(field.data_type())?;
    let instant = parse_instant(value.try_as_str()??, &named.zone()?)?;
    if named.exactly(instant).is_some() {
        return None;
    }
    let coarser = [TimeUnit::Microsecond, TimeUnit::Millisecond, TimeUnit::Second];
    coarser.into_iter().find_map(|unit| Unit::of(&DataType::Timestamp(unit, zone.clone()))?.exactly(instant))
}

/// Returns true for a literal that is text, a date or a timestamp, also under a cast to one of
/// these.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.data_type().is_string() || Unit::of(&value.data_type()).is_some(),
        Expr::Cast(Cast { expr, field }) => {
            matches!(expr.as_ref(), Expr::Literal(..)) && Unit::of(field.data_type()).is_some() && is_constant(expr)
        }
        _ => false,
    }
}

fn exact(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if !is_candidate(&expr) {
        return Ok(Transformed::no(expr));
    }
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match compared(&left, op, &right, schema) {
            Some(compared) => Transformed::yes(compared),
            None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
        },
        Expr::Between(between) => {
            let Between { expr, negated, low, high } = &between;
            let (from, to) =
                (compared(expr, Operator::GtEq, low, schema), compared(expr, Operator::LtEq, high, schema));
            if (from.is_none() && to.is_none()) || expr.is_volatile() {
                return Ok(Transformed::no(Expr::Between(between)));
            }
            let from = from.unwrap_or_else(|| binary_expr(*expr.clone(), Operator::GtEq, *low.clone()));
            let to = to.unwrap_or_else(|| binary_expr(*expr.clone(), Operator::LtEq, *high.clone()));
            let within = and(from, to);
            Transformed::yes(if *negated { not(within) } else { within })
        }
        Expr::InList(list) => in_list(list, schema),
        Expr::Case(mut case) => {
            let Some(unit) = case.expr.as_ref().and_then(|operand| Unit::of_variable(operand, schema)) else {
                return Ok(Transformed::no(Expr::Case(case)));
            };
            let mut is_changed = false;
            for (when, _) in &mut case.when_then_expr {
                if let Some(instant) = unit.instant(when) {
                    // NULL is equal to nothing.
                    let value = unit.exactly(instant).or_else(|| ScalarValue::try_from(&unit.data_type).ok());
                    if let Some(value) = value {
                        **when = lit(value);
                        is_changed = true;
                    }
                }
            }
            if is_changed { Transformed::yes(Expr::Case(case)) } else { Transformed::no(Expr::Case(case)) }
        }
        Expr::ScalarFunction(mut call) => {
            let [value, other] = &call.args[..] else { return Ok(Transformed::no(Expr::ScalarFunction(call))) };
            let unit = Unit::of_variable(value, schema);
            match unit.as_ref().and_then(|unit| Some((unit, unit.instant(other)?))) {
                None => Transformed::no(Expr::ScalarFunction(call)),
                Some((unit, instant)) => Transformed::yes(match unit.exactly(instant) {
                    Some(constant) => {
                        call.args[1] = lit(constant);
                        Expr::ScalarFunction(call)
                    }
                    // It is never equal.
                    None => {
                        call.args[1] = lit(ScalarValue::try_from(&unit.data_type)?);
                        Expr::ScalarFunction(call)
                    }
                }),
            }
        }
        other => match far_timestamp(&other) {
            Some(value) => Transformed::yes(lit(value)),
            None => Transformed::no(other),
        },
    })
}

fn in_list(list: InList, schema: &DFSchema) -> Transformed<Expr> {
    let Some(unit) = Unit::of_variable(&list.expr, schema) else { return Transformed::no(Expr::InList(list)) };
    let InList { expr, list, negated } = list;
    let (count, mut items) = (list.len(), Vec::with_capacity(list.len()));
    let mut is_changed = false;
    for item in list {
        match unit.instant(&item).map(|instant| unit.exactly(instant)) {
            None => items.push(item),
            Some(value) => {
                is_changed = true;
                items.extend(value.map(lit));
            }
        }
    }
    if items.is_empty() && count > 0 {
        return Transformed::yes(if_known(*expr, negated, Some(schema)));
    }
    let list = Expr::InList(InList { expr, list: items, negated });
    if is_changed { Transformed::yes(list) } else { Transformed::no(list) }
}

/// Returns the comparison with its constant in the unit of the other side; `None` if there is no
/// such constant.
fn compared(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Option<Expr> {
    match (is_constant(left), is_constant(right)) {
        (false, true) => Unit::of_variable(left, schema)?.compared(left.clone(), op, right, Some(schema)),
        (true, false) => Unit::of_variable(right, schema)?.compared(right.clone(), op.swap()?, left, Some(schema)),
        (true, true) => {
            let unit = [left, right].into_iter().find_map(|side| Unit::of(&side.get_type(schema).ok()?))?;
            let (left, right) = (unit.instant(left)?, unit.instant(right)?);
            Some(lit(match op {
                Operator::Eq | Operator::IsNotDistinctFrom => left == right,
                Operator::NotEq | Operator::IsDistinctFrom => left != right,
                Operator::Lt => left < right,
                Operator::LtEq => left <= right,
                Operator::Gt => left > right,
                Operator::GtEq => left >= right,
                _ => return None,
            }))
        }
        (false, false) => None,
    }
}

/// NULL where an expression is NULL, else a truth. It may be NULL where the expression may be, as
/// far as that is known.
pub(super) fn if_known(expr: Expr, truth: bool, schema: Option<&DFSchema>) -> Expr {
    if schema.is_some_and(|schema| !expr.nullable(schema).unwrap_or(true)) {
        return lit(truth);
    }
    let unknown = lit(ScalarValue::Boolean(None));
    if truth { or(expr.is_not_null(), unknown) } else { and(expr.is_null(), unknown) }
}

/// The unit of a type of instants.
struct Unit {
    data_type: DataType,
    nanos: i128,
    zone: Option<Arc<str>>,
}

impl Unit {
    fn of(data_type: &DataType) -> Option<Self> {
        let (nanos, zone) = match data_type {
            DataType::Date32 => (NANOS_PER_DAY, None),
            DataType::Date64 => (1_000_000, None),
            DataType::Timestamp(unit, zone) => (nanos_of(*unit), zone.clone()),
            _ => return None,
        };
        Some(Self { data_type: data_type.clone(), nanos, zone })
    }

    /// Returns the unit of an expression that is not a constant.
    fn of_variable(expr: &Expr, schema: &DFSchema) -> Option<Self> {
        if is_constant(expr) { None } else { Self::of(&expr.get_type(schema).ok()?) }
    }

    /// Returns a constant in nanoseconds since the epoch, if this type is compared with it as an
    /// instant.
    fn instant(&self, constant: &Expr) -> Option<i128> {
        match constant {
            Expr::Literal(value, _) if value.data_type().is_string() => {
                let text = value.try_as_str()??;
                // A text that is compared with a date is a date: its time of day is dropped.
                match self.is_date() {
                    false => parse_instant(text, &self.zone()?),
                    true if value.cast_to(&self.data_type).is_ok() => None,
                    true => Some(parse_instant(text, &self.zone()?)?.div_euclid(NANOS_PER_DAY) * NANOS_PER_DAY),
                }
            }
            Expr::Literal(value, _) => self.instant_of(value),
            Expr::Cast(Cast { expr, field }) => {
                let Expr::Literal(value, _) = expr.as_ref() else { return None };
                match (value.try_as_str(), field.data_type()) {
                    (Some(text), DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
                        let named = Self::of(&DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()))?;
                        self.of_zone(parse_instant(text?, &named.zone()?)?, zone.is_some())
                    }
                    (_, to) => self.instant_of(&value.cast_to(to).ok()?),
                }
            }
            _ => None,
        }
    }

    fn instant_of(&self, value: &ScalarValue) -> Option<i128> {
        let unit = Self::of(&value.data_type())?;
        let count = match value {
            ScalarValue::Date32(days) => i128::from((*days)?),
            ScalarValue::Date64(millis) => i128::from((*millis)?),
            ScalarValue::TimestampSecond(count, _)
            | ScalarValue::TimestampMillisecond(count, _)
            | ScalarValue::TimestampMicrosecond(count, _)
            | ScalarValue::TimestampNanosecond(count, _) => i128::from((*count)?),
            _ => return None,
        };
        self.of_zone(count * unit.nanos, unit.zone.is_some())
    }

    /// Converts an instant with or without a zone to one of this type.
    fn of_zone(&self, nanos: i128, has_zone: bool) -> Option<i128> {
        match (&self.zone, has_zone) {
            (None, false) | (Some(_), true) => Some(nanos),
            // The time of day in this type's zone.
            (Some(zone), false) => {
                let seconds = i64::try_from(nanos.div_euclid(NANOS_PER_SECOND)).ok()?;
                let to = DataType::Timestamp(TimeUnit::Second, Some(Arc::clone(zone)));
                match ScalarValue::TimestampSecond(Some(seconds), None).cast_to(&to).ok()? {
                    ScalarValue::TimestampSecond(Some(seconds), _) => {
                        Some(i128::from(seconds) * NANOS_PER_SECOND + nanos.rem_euclid(NANOS_PER_SECOND))
                    }
                    _ => None,
                }
            }
            // In this case the variable is converted to the zone.
            (None, true) => None,
        }
    }

    fn is_date(&self) -> bool {
        matches!(self.data_type, DataType::Date32 | DataType::Date64)
    }

    fn zone(&self) -> Option<Tz> {
        self.zone.as_deref().unwrap_or("+00:00").parse().ok()
    }

    fn range(&self) -> (i128, i128) {
        match self.data_type {
            DataType::Date32 => (i32::MIN.into(), i32::MAX.into()),
            _ => (i64::MIN.into(), i64::MAX.into()),
        }
    }

    fn value(&self, count: i128) -> Option<ScalarValue> {
        let zone = self.zone.clone();
        if self.data_type == DataType::Date32 {
            return Some(ScalarValue::Date32(Some(i32::try_from(count).ok()?)));
        }
        let count = Some(i64::try_from(count).ok()?);
        Some(match self.data_type {
            DataType::Date64 => ScalarValue::Date64(count),
            DataType::Timestamp(TimeUnit::Second, _) => ScalarValue::TimestampSecond(count, zone),
            DataType::Timestamp(TimeUnit::Millisecond, _) => ScalarValue::TimestampMillisecond(count, zone),
            DataType::Timestamp(TimeUnit::Microsecond, _) => ScalarValue::TimestampMicrosecond(count, zone),
            _ => ScalarValue::TimestampNanosecond(count, zone),
        })
    }

    /// Returns the value of this type that equals the instant; `None` if there is none.
    fn exactly(&self, instant: i128) -> Option<ScalarValue> {
        if instant.rem_euclid(self.nanos) == 0 { self.value(instant.div_euclid(self.nanos)) } else { None }
    }

    fn compared(&self, variable: Expr, op: Operator, constant: &Expr, schema: Option<&DFSchema>) -> Option<Expr> {
        let instant = self.instant(constant)?;
        let (least, greatest) = self.range();
        let floor = instant.div_euclid(self.nanos);
        let ceil = floor + i128::from(instant.rem_euclid(self.nanos) != 0);
        let (op, count) = match op {
            Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => {
                let Some(value) = self.exactly(instant) else {
                    return Some(match op {
                        Operator::Eq => if_known(variable, false, schema),
                        Operator::NotEq => if_known(variable, true, schema),
                        // The comparison is known, and DataFusion takes it for one that may be
                        // NULL.
                        Operator::IsDistinctFrom => or(lit(true), if_known(variable, true, schema)),
                        _ => and(lit(false), if_known(variable, false, schema)),
                    });
                };
                return Some(binary_expr(variable, op, lit(value)));
            }
            Operator::Lt if ceil > greatest => (Operator::LtEq, greatest),
            Operator::Lt => (Operator::Lt, ceil.max(least)),
            Operator::LtEq if floor < least => (Operator::Lt, least),
            Operator::LtEq => (Operator::LtEq, floor.min(greatest)),
            Operator::Gt if floor < least => (Operator::GtEq, least),
            Operator::Gt => (Operator::Gt, floor.min(greatest)),
            Operator::GtEq if ceil > greatest => (Operator::Gt, greatest),
            Operator::GtEq => (Operator::GtEq, ceil.max(least)),
            _ => return None,
        };
        Some(binary_expr(variable, op, lit(self.value(count)?)))
    }
}

fn nanos_of(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => NANOS_PER_SECOND,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each comparison of each unit's values around and at the ends of its range with each instant,
    /// against that of `i128`.
    #[test]
    fn a_comparison_is_that_of_nanoseconds_without_an_end() {
        use Operator::{Eq, Gt, GtEq, IsDistinctFrom, Lt, LtEq, NotEq};

        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let types = units.map(|unit| DataType::Timestamp(unit, None));
        let mut compared = 0;
        for data_type in types.iter().chain([&DataType::Date32, &DataType::Date64]) {
            let unit = Unit::of(data_type).unwrap();
            let (least, greatest) = unit.range();
            let counts = [least, least + 1, -1_000, -1, 0, 1, 999, 1_000, greatest - 1, greatest];
            for constant_unit in units {
                let (low, high) = (i128::from(i64::MIN), i128::from(i64::MAX));
                let around = counts.iter().flat_map(|count| {
                    let scale = unit.nanos / nanos_of(constant_unit).min(unit.nanos);
                    [count * scale - 1, count * scale, count * scale + 1]
                });
                for constant in around.map(|count| count.clamp(low, high)) {
                    let value = Unit::of(&DataType::Timestamp(constant_unit, None)).unwrap().value(constant).unwrap();
                    let instant = constant * nanos_of(constant_unit);
                    for op in [Eq, NotEq, Lt, LtEq, Gt, GtEq, IsDistinctFrom] {
                        for count in counts {
                            let holds = match op {
                                Eq => count * unit.nanos == instant,
                                NotEq | IsDistinctFrom => count * unit.nanos != instant,
                                Lt => count * unit.nanos < instant,
                                LtEq => count * unit.nanos <= instant,
                                Gt => count * unit.nanos > instant,
                                _ => count * unit.nanos >= instant,
                            };
                            let column = lit(unit.value(count).unwrap());
                            let answer = unit.compared(column, op, &lit(value.clone()), None).unwrap();
                            assert_eq!(evaluated(&answer), Some(holds), "{data_type} {count} {op} {instant}: {answer}");
                            compared += 1;
                        }
                        let null = lit(ScalarValue::try_from(data_type).unwrap());
                        let answer = unit.compared(null, op, &lit(value.clone()), None).unwrap();
                        assert_eq!(evaluated(&answer), (op == IsDistinctFrom).then_some(true), "{answer}");
                    }
                }
            }
        }
        assert!(compared > 10_000, "{compared}");
    }

    fn evaluated(expr: &Expr) -> Option<bool> {
        use datafusion::logical_expr::execution_props::ExecutionProps;
        use datafusion::physical_expr::create_physical_expr;

        let physical =
            create_physical_expr(expr, &DFSchema::empty(), &ExecutionProps::new(), &Default::default()).unwrap();
        let schema = Arc::new(arrow::datatypes::Schema::empty());
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
        let row = arrow::array::RecordBatch::try_new_with_options(schema, vec![], &options).unwrap();
        let value = physical.evaluate(&row).unwrap().into_array(1).unwrap();
        match ScalarValue::try_from_array(&value, 0).unwrap() {
            ScalarValue::Boolean(value) => value,
            other => panic!("{other}"),
        }
    }
}
