//! `sum(vectors)` and `avg(vectors)`, component by component, beside DataFusion's aggregates of
//! numbers of these names.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err, utils::take_function_args};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, GroupsAccumulator, Operator, SetMonotonicity, Signature,
    StatisticsArgs, Volatility,
};

use super::builder::VectorBuilder;
use super::rows::{VectorRows, argument_type};
use crate::vector::is_list_of_numbers;

/// An aggregate of numbers that takes vectors too.
///
/// Components are summed in `Float64`, and the result has `Float64` components. NULL vectors and
/// vectors with a NULL component are skipped; without any vector the result is NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WithVectors {
    /// DataFusion's aggregate of numbers.
    numbers: Arc<AggregateUDF>,
    signature: Signature,
}

/// The aggregate of numbers `numbers`, which must be `sum` or `avg`, made to take vectors too.
pub(crate) fn with_vectors(numbers: Arc<AggregateUDF>) -> AggregateUDF {
    AggregateUDF::from(WithVectors { numbers, signature: Signature::user_defined(Volatility::Immutable) })
}

/// Names of the aggregates that take vectors.
pub(crate) const AGGREGATES: [&str; 2] = [SUM, AVG];
const SUM: &str = "sum";
const AVG: &str = "avg";

impl WithVectors {
    fn sums(&self, args: &AccumulatorArgs) -> ComponentSums {
        ComponentSums {
            function: self.name().to_owned(),
            is_average: self.name() == AVG,
            data_type: args.return_field.data_type().clone(),
            sums: None,
            count: 0,
        }
    }
}

fn refuse_options(name: &str, args: &AccumulatorArgs) -> Result<()> {
    if args.is_distinct {
        return plan_err!("{name}: DISTINCT vectors are not supported: select them DISTINCT in a subquery");
    }
    Ok(())
}

fn of_vectors(args: &AccumulatorArgs) -> bool {
    args.expr_fields.first().is_some_and(|field| is_list_of_numbers(field.data_type()))
}

/// The type of the result for a type of vectors.
fn vectors_of_float64(data_type: &DataType) -> DataType {
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    match data_type {
        DataType::FixedSizeList(_, dim) => DataType::FixedSizeList(item, *dim),
        DataType::LargeList(_) => DataType::LargeList(item),
        _ => DataType::List(item),
    }
}

impl AggregateUDFImpl for WithVectors {
    crate::delegate_to_aggregate!(
        numbers: name aliases reverse_expr order_sensitivity default_value documentation
    );

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [data_type] if is_list_of_numbers(data_type) => return Ok(vec![argument_type(self.name(), data_type)?]),
            [DataType::Null] => return Ok(vec![DataType::Float64]),
            _ => {}
        }
        let fields: Vec<FieldRef> =
            arg_types.iter().map(|data_type| Arc::new(Field::new("", data_type.clone(), true))).collect();
        let coerced = fields_with_udf(&fields, self.numbers.as_ref())?;
        Ok(coerced.iter().map(|field| field.data_type().clone()).collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [data_type] if is_list_of_numbers(data_type) => Ok(vectors_of_float64(data_type)),
            _ => self.numbers.return_type(arg_types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !of_vectors(&args) {
            return self.numbers.accumulator(args);
        }
        refuse_options(self.name(), &args)?;
        Ok(Box::new(self.sums(&args)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !args.input_fields.first().is_some_and(|field| is_list_of_numbers(field.data_type())) {
            return self.numbers.state_fields(args);
        }
        let sums = Field::new(format!("{}[sums]", args.name), args.return_field.data_type().clone(), true);
        let count = Field::new(format!("{}[count]", args.name), DataType::UInt64, false);
        Ok(vec![Arc::new(sums), Arc::new(count)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !of_vectors(&args) && self.numbers.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.numbers.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !of_vectors(&args) {
            return self.numbers.create_sliding_accumulator(args);
        }
        refuse_options(self.name(), &args)?;
        Ok(Box::new(SlidingSums { sums: self.sums(&args), frame: VecDeque::new() }))
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        literal: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.numbers.inner().simplify_expr_op_literal(function, arg, op, literal, arg_is_left)
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs) -> Option<ScalarValue> {
        if is_list_of_numbers(statistics.return_type) { None } else { self.numbers.value_from_stats(statistics) }
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        if is_list_of_numbers(data_type) {
            SetMonotonicity::NotMonotonic
        } else {
            self.numbers.inner().set_monotonicity(data_type)
        }
    }
}

/// Sums of the components of vectors, and their number.
#[derive(Debug)]
struct ComponentSums {
    function: String,
    is_average: bool,
    data_type: DataType,
    sums: Option<Vec<f64>>,
    count: u64,
}

impl ComponentSums {
    fn add(&mut self, vector: &[f64]) -> Result<()> {
        let sums = self.sums.get_or_insert_with(|| vec![0.0; vector.len()]);
        if sums.len() != vector.len() {
            return exec_err!(
                "{}: dimension mismatch: expected {} components, got {}",
                self.function,
                sums.len(),
                vector.len()
            );
        }
        sums.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        Ok(())
    }

    fn add_all(&mut self, vectors: &ArrayRef) -> Result<u64> {
        let rows = VectorRows::try_new(vectors)?;
        let (mut vector, mut added) = (Vec::new(), 0);
        for row in 0..vectors.len() {
            if rows.read(row, &mut vector) {
                self.add(&vector)?;
                added += 1;
            }
        }
        Ok(added)
    }

    fn value(&self, sums: Option<&[f64]>) -> Result<ScalarValue> {
        let mut vectors = VectorBuilder::new(&self.function, &self.data_type);
        vectors.push(sums)?;
        ScalarValue::try_from_array(&vectors.finish()?, 0)
    }
}

impl Accumulator for ComponentSums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [vectors] = take_function_args(&self.function, values)?;
        self.count += self.add_all(vectors)?;
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let divisor = if self.is_average { self.count as f64 } else { 1.0 };
        let value: Option<Vec<f64>> = self.sums.as_ref().map(|sums| sums.iter().map(|sum| sum / divisor).collect());
        self.value(value.as_deref())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.as_ref().map_or(0, |sums| sums.capacity() * size_of::<f64>())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value(self.sums.as_deref())?, ScalarValue::UInt64(Some(self.count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [sums, counts] = take_function_args(&self.function, states)?;
        self.add_all(sums)?;
        self.count += counts.as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
        Ok(())
    }
}

/// Sums over a frame that moves forward. They are recomputed for each row, because subtracting
/// earlier rows from a sum is neither exact nor free of NaN.
#[derive(Debug)]
struct SlidingSums {
    sums: ComponentSums,
    /// The vectors of the frame, first in, first out; `None` for those that are skipped.
    frame: VecDeque<Option<Vec<f64>>>,
}

impl Accumulator for SlidingSums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [vectors] = take_function_args(&self.sums.function, values)?;
        let rows = VectorRows::try_new(vectors)?;
        for row in 0..vectors.len() {
            let mut vector = Vec::new();
            self.frame.push_back(rows.read(row, &mut vector).then_some(vector));
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [vectors] = take_function_args(&self.sums.function, values)?;
        self.frame.drain(..vectors.len().min(self.frame.len()));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        (self.sums.sums, self.sums.count) = (None, 0);
        for vector in self.frame.iter().flatten() {
            self.sums.add(vector)?;
            self.sums.count += 1;
        }
        self.sums.evaluate()
    }

    fn size(&self) -> usize {
        let vector =
            |vector: &Option<Vec<f64>>| vector.as_ref().map_or(0, |vector| vector.capacity() * size_of::<f64>());
        self.sums.size() + self.frame.iter().map(|x| size_of_val(x) + vector(x)).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.evaluate()?;
        self.sums.state()
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("{}: the frame of a window is one partition", self.sums.function)
    }
}
