//! `sum` of integers that rejects a result beyond 64 bits. DataFusion's own `sum` wraps around, so
//! that a sum of positive numbers may be negative; the rest is delegated to DataFusion.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef, Int64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_datafusion_err};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator};

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct CheckedSum(Arc<AggregateUDF>);

impl CheckedSum {
    pub fn new() -> Self {
        Self(sum_udaf())
    }
}

fn beyond(data_type: &DataType) -> datafusion::error::DataFusionError {
    exec_datafusion_err!(
        "sum: expected a sum within {data_type}, got one beyond it (CAST(... AS DECIMAL(38, 0)) is wider)"
    )
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::UInt64)
}

impl AggregateUDFImpl for CheckedSum {
    vexact_sql::delegate_to_aggregate!(
        0: name signature return_type groups_accumulator_supported reverse_expr order_sensitivity documentation
           set_monotonicity
    );

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_type().clone();
        match (is_integer(&data_type), args.is_distinct) {
            (false, _) => self.0.accumulator(args),
            (true, true) => Ok(Box::new(DistinctSum { values: self.0.accumulator(args)?, data_type })),
            (true, false) => Ok(Box::new(Sum { data_type, sum: 0, count: 0 })),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_type().clone();
        match is_integer(&data_type) && !args.is_distinct {
            false => self.0.create_sliding_accumulator(args),
            true => Ok(Box::new(Sum { data_type, sum: 0, count: 0 })),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match args.return_type() {
            DataType::Int64 => Ok(Box::new(GroupSums::<Int64Type>::default())),
            DataType::UInt64 => Ok(Box::new(GroupSums::<UInt64Type>::default())),
            _ => self.0.create_groups_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.0.state_fields(args)
    }
}

/// Sum of 64-bit integers. 128 bits hold it for any number of summands.
#[derive(Debug)]
struct Sum {
    data_type: DataType,
    sum: i128,
    /// Number of values that are not NULL.
    count: u64,
}

impl Sum {
    fn of(&self, values: &ArrayRef) -> Result<(i128, u64)> {
        fn sum<T: ArrowPrimitiveType>(values: &ArrayRef) -> (i128, u64)
        where
            i128: From<T::Native>,
        {
            let values = values.as_primitive::<T>();
            let sum = match values.null_count() {
                0 => values.values().iter().map(|value| i128::from(*value)).sum(),
                _ => values.iter().flatten().map(i128::from).sum(),
            };
            (sum, (values.len() - values.null_count()) as u64)
        }
        match values.data_type() {
            DataType::Int64 => Ok(sum::<Int64Type>(values)),
            DataType::UInt64 => Ok(sum::<UInt64Type>(values)),
            other => Err(internal_datafusion_err!("sum: expected {}, got {other}", self.data_type)),
        }
    }

    fn value(&self) -> Result<ScalarValue> {
        let is_null = self.count == 0;
        let beyond = || beyond(&self.data_type);
        Ok(match self.data_type {
            DataType::UInt64 if is_null => ScalarValue::UInt64(None),
            DataType::UInt64 => ScalarValue::UInt64(Some(self.sum.try_into().map_err(|_| beyond())?)),
            _ if is_null => ScalarValue::Int64(None),
            _ => ScalarValue::Int64(Some(self.sum.try_into().map_err(|_| beyond())?)),
        })
    }
}

impl Accumulator for Sum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = self.of(&values[0])?;
        (self.sum, self.count) = (self.sum + sum, self.count + count);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (sum, count) = self.of(&values[0])?;
        (self.sum, self.count) = (self.sum - sum, self.count - count);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.value()
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// A sum of different values, which DataFusion collects.
#[derive(Debug)]
struct DistinctSum {
    values: Box<dyn Accumulator>,
    data_type: DataType,
}

impl Accumulator for DistinctSum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.values.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.values.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum = Sum { data_type: self.data_type.clone(), sum: 0, count: 0 };
        for state in self.values.state()? {
            if let ScalarValue::List(list) = state {
                sum.update_batch(&[Arc::clone(list.values())])?;
            }
        }
        sum.value()
    }

    fn size(&self) -> usize {
        self.values.size()
    }
}

/// The sums of groups.
#[derive(Debug)]
struct GroupSums<T: ArrowPrimitiveType> {
    sums: Vec<T::Native>,
    /// True for each group that has a value that is not NULL.
    has_value: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Default for GroupSums<T> {
    fn default() -> Self {
        Self { sums: Vec::new(), has_value: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType + Send> GroupsAccumulator for GroupSums<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.sums.resize(count, T::default_value());
        self.has_value.resize(count, false);
        let values = values[0].as_primitive::<T>();
        let is_left_out =
            |row: usize| values.is_null(row) || filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row));
        let has_all = values.null_count() == 0 && filter.is_none();
        for (row, (group, value)) in groups.iter().zip(values.values()).enumerate() {
            if has_all || !is_left_out(row) {
                self.sums[*group] = self.sums[*group].add_checked(*value).map_err(|_| beyond(&T::DATA_TYPE))?;
                self.has_value[*group] = true;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.update_batch(values, groups, None, count)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let sums = emit.take_needed(&mut self.sums);
        let nulls = NullBuffer::from(emit.take_needed(&mut self.has_value));
        Ok(Arc::new(PrimitiveArray::<T>::new(sums.into(), Some(nulls))))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(filter) = filter else { return Ok(values.to_vec()) };
        let (kept, nulls) = filter.clone().into_parts();
        let kept = nulls.map_or(kept.clone(), |nulls| nulls.inner() & &kept);
        let values = values[0].as_primitive::<T>();
        let nulls = NullBuffer::union(values.nulls(), Some(&NullBuffer::new(kept)));
        Ok(vec![Arc::new(PrimitiveArray::<T>::new(values.values().clone(), nulls))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<T::Native>() + self.has_value.capacity()
    }
}
