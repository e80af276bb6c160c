//! `sum` of integers with SQLite's semantics: overflow beyond 64 bits is an error, where
//! DataFusion's `sum` wraps around.
//!
//! SQLite fails if a partial sum overflows 64 bits, in an order of its own. The positive and the
//! negative summands are summed separately: while neither sum overflows, no order of them does.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

/// Returns the aggregate function for DataFusion.
pub(crate) fn sum() -> AggregateUDF {
    AggregateUDF::from(CheckedSum(sum_udaf()))
}

/// DataFusion's sum, except for integers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum(Arc<AggregateUDF>);

fn is_of_integers(return_type: &DataType) -> bool {
    *return_type == DataType::Int64
}

fn overflow<T>() -> Result<T> {
    exec_err!("integer overflow: expected a sum of integers within 64 bits")
}

impl AggregateUDFImpl for CheckedSum {
    vexact_sql::delegate_to_aggregate!(
        0: name signature return_type groups_accumulator_supported reverse_expr order_sensitivity
    );

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match (is_of_integers(args.return_field.data_type()), args.is_distinct) {
            (true, false) => Ok(Box::<IntegerSum>::default()),
            (true, true) => Ok(Box::<DistinctSum>::default()),
            (false, _) => self.0.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if args.is_distinct || !is_of_integers(args.return_type()) {
            return self.0.state_fields(args);
        }
        let field = |part| Arc::new(Field::new(format_state_name(args.name, part), DataType::Int64, true));
        Ok(vec![field("positive"), field("negative")])
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match is_of_integers(args.return_field.data_type()) {
            true => Ok(Box::new(IntegerSums::new())),
            false => self.0.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match is_of_integers(args.return_field.data_type()) && !args.is_distinct {
            true => Ok(Box::<IntegerSum>::default()),
            false => self.0.create_sliding_accumulator(args),
        }
    }
}

/// The sum of some integers.
#[derive(Debug, Default)]
struct IntegerSum {
    positive: i128,
    negative: i128,
    count: u64,
}

impl IntegerSum {
    fn add(&mut self, summand: i64) {
        self.positive += i128::from(summand.max(0));
        self.negative += i128::from(summand.min(0));
        self.count += 1;
    }

    /// Returns a part as 64 bits, clamped to the range.
    fn part(&self, part: i128) -> ScalarValue {
        let part = part.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        ScalarValue::Int64((self.count > 0).then_some(part))
    }
}

impl Accumulator for IntegerSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Int64Type>().iter().flatten().for_each(|summand| self.add(summand));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for summand in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.positive -= i128::from(summand.max(0));
            self.negative -= i128::from(summand.min(0));
            self.count -= 1;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.positive > i128::from(i64::MAX) || self.negative < i128::from(i64::MIN) {
            return overflow();
        }
        Ok(self.part(self.positive + self.negative))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        // An overflowed part stays so: it is at the end of the range, and no order of other
        // summands reaches that exactly.
        Ok(vec![self.part(self.positive), self.part(self.negative)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [positive, negative] = [0, 1].map(|part| states[part].as_primitive::<Int64Type>());
        for (positive, negative) in positive.iter().zip(negative).filter_map(|(a, b)| a.zip(b)) {
            for (part, bound) in [(positive, i64::MAX), (negative, i64::MIN)] {
                self.add(part);
                if part == bound {
                    // The sum overflows, or is so close that SQLite has to decide.
                    self.add(part);
                }
            }
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// Sum of the distinct values of some integers.
#[derive(Debug, Default)]
struct DistinctSum(HashSet<i64>);

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.extend(values[0].as_primitive::<Int64Type>().iter().flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum = IntegerSum::default();
        self.0.iter().for_each(|summand| sum.add(*summand));
        sum.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<ScalarValue> = self.0.iter().map(|value| ScalarValue::Int64(Some(*value))).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Int64))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.update_batch(&[values]))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.capacity() * size_of::<i64>()
    }
}

type Parts = PrimitiveGroupsAccumulator<Int64Type, fn(&mut i64, i64)>;

/// The sums of groups. A part that reaches the end of the range stays there.
struct IntegerSums {
    positive: Parts,
    negative: Parts,
}

impl IntegerSums {
    fn new() -> Self {
        let parts = |add: fn(&mut i64, i64)| Parts::new(&DataType::Int64, add);
        Self {
            positive: parts(|sum, summand| *sum = sum.saturating_add(summand.max(0))),
            negative: parts(|sum, summand| *sum = sum.saturating_add(summand.min(0))),
        }
    }
}

impl GroupsAccumulator for IntegerSums {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.positive.update_batch(values, groups, filter, count)?;
        self.negative.update_batch(values, groups, filter, count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let [positive, negative] = [self.positive.evaluate(emit_to)?, self.negative.evaluate(emit_to)?];
        let [positive, negative] = [positive.as_primitive::<Int64Type>(), negative.as_primitive::<Int64Type>()];
        let is_beyond = |row: usize| positive.value(row) == i64::MAX || negative.value(row) == i64::MIN;
        if (0..positive.len()).any(|row| positive.is_valid(row) && is_beyond(row)) {
            return overflow();
        }
        // The two parts have opposite signs.
        let sums = positive.values().iter().zip(negative.values()).map(|(positive, negative)| positive + negative);
        Ok(Arc::new(Int64Array::new(sums.collect(), positive.nulls().cloned())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok([self.positive.state(emit_to)?, self.negative.state(emit_to)?].concat())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.positive.merge_batch(&states[..1], groups, count)?;
        self.negative.merge_batch(&states[1..], groups, count)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        Ok([self.positive.convert_to_state(values, filter)?, self.negative.convert_to_state(values, filter)?].concat())
    }

    fn size(&self) -> usize {
        self.positive.size() + self.negative.size()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn answers(sql: &str) -> Result<Vec<String>> {
        let ctx = SessionContext::new();
        ctx.register_udaf(sum());
        let batches = ctx.sql(sql).await?.collect().await?;
        let rows = batches.iter().flat_map(|batch| {
            let column = batch.column(0);
            (0..column.len()).map(|row| ScalarValue::try_from_array(column, row).unwrap().to_string())
        });
        Ok(rows.collect())
    }

    #[tokio::test]
    async fn sums_are_right_or_an_error() {
        const VALUES: &str = "(VALUES (1, 9223372036854775806), (1, 2), (2, -5), (2, 7), (3, NULL)) AS t(g, v)";
        for (call, expected) in [
            ("sum(v) FROM t WHERE g = 2", vec!["2"]),
            ("sum(v) FROM t WHERE g = 3", vec!["NULL"]),
            ("sum(DISTINCT v) FROM t WHERE g = 2", vec!["2"]),
            ("sum(v) FROM t WHERE g > 1 GROUP BY g ORDER BY g", vec!["2", "NULL"]),
            ("sum(v) FILTER (WHERE v < 0) FROM t WHERE g = 2 GROUP BY g", vec!["-5"]),
            ("sum(v) OVER (ORDER BY v ROWS 1 PRECEDING) AS s FROM t WHERE g = 2 ORDER BY s", vec!["-5", "2"]),
            ("sum(v) + 0 FROM t WHERE g < 0", vec!["NULL"]),
        ] {
            let sql = format!("WITH t AS (SELECT * FROM {VALUES}) SELECT {call}");
            assert_eq!(answers(&sql).await.unwrap(), expected, "{sql}");
        }
        for call in [
            "sum(v + 1) FROM t",
            "sum(v) FROM t WHERE g = 1",
            "sum(v) FROM t GROUP BY g",
            "sum(DISTINCT v) FROM t WHERE g = 1",
            "sum(v) OVER (ORDER BY v) FROM t WHERE g = 1",
            "sum(v) OVER (ORDER BY v DESC ROWS 1 PRECEDING) FROM t WHERE g = 1",
        ] {
            let sql = format!("WITH t AS (SELECT * FROM {VALUES}) SELECT {call}");
            let error = answers(&sql).await.map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains("overflow")), "{sql}: {error:?}");
        }
    }
}
