//! Makes `min` and `max` of floating-point numbers use one total order: -Infinity, numbers,
//! Infinity, NaN.
//!
//! In its grouped `min` and `max`, DataFusion treats nothing as less or greater than NaN, so the
//! result depends on the order of the values. It also starts from the greatest or least finite
//! number, which infinities exceed. Without groups it uses the total order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, PrimitiveArray};
use arrow::compute::nullif;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion::prelude::SessionContext;

/// Replaces DataFusion's functions.
pub(super) fn register(ctx: &SessionContext) {
    for (function, is_max) in [(min_udaf(), false), (max_udaf(), true)] {
        ctx.register_udaf(AggregateUDF::from(Extreme { function, is_max }));
    }
}

/// DataFusion's function, with its own accumulators for groups of floating-point numbers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    function: Arc<AggregateUDF>,
    is_max: bool,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.function.inner().return_type(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.function.inner().accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<arrow::datatypes::FieldRef>> {
        self.function.inner().state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.function.inner().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(match args.return_field.data_type() {
            DataType::Float16 => Box::new(Groups::<Float16Type>::new(self.is_max)),
            DataType::Float32 => Box::new(Groups::<Float32Type>::new(self.is_max)),
            DataType::Float64 => Box::new(Groups::<Float64Type>::new(self.is_max)),
            _ => self.function.inner().create_groups_accumulator(args)?,
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.function.inner().create_sliding_accumulator(args)
    }

    fn is_descending(&self) -> Option<bool> {
        self.function.inner().is_descending()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.function.inner().order_sensitivity()
    }

    fn coerce_types(&self, args: &[DataType]) -> Result<Vec<DataType>> {
        self.function.inner().coerce_types(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.function.inner().value_from_stats(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.inner().documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.function.inner().set_monotonicity(data_type)
    }
}

/// Least or greatest value of each group so far; NULL if the group has none.
struct Groups<T: ArrowPrimitiveType> {
    values: Vec<Option<T::Native>>,
    is_max: bool,
}

impl<T: ArrowPrimitiveType> Groups<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn new(is_max: bool) -> Self {
        Self { values: Vec::new(), is_max }
    }

    fn add(&mut self, group: usize, value: T::Native) {
        let known = &mut self.values[group];
        let is_nearer = known.is_none_or(|known| if self.is_max { value.is_gt(known) } else { value.is_lt(known) });
        if is_nearer {
            *known = Some(value);
        }
    }
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for Groups<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        let [values] = values else { return internal_err!("expected one column, got {}", values.len()) };
        self.values.resize(group_count, None);
        let is_kept = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, (group, value)) in groups.iter().zip(values.as_primitive::<T>()).enumerate() {
            if let Some(value) = value
                && is_kept(row)
            {
                self.add(*group, value);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], group_count: usize) -> Result<()> {
        self.update_batch(values, groups, None, group_count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let values = emit_to.take_needed(&mut self.values);
        Ok(Arc::new(PrimitiveArray::<T>::from_iter(values)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(filter) = filter else { return Ok(values.to_vec()) };
        let left_out = filter.iter().map(|is_kept| Some(is_kept != Some(true))).collect::<BooleanArray>();
        values.iter().map(|values| Ok(nullif(values, &left_out)?)).collect()
    }

    fn size(&self) -> usize {
        self.values.capacity() * size_of::<Option<T::Native>>()
    }
}
