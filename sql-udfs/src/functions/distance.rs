//! `cosine_distance`, `cosine_similarity`, `inner_product` (`dot_product`), `l2_distance`,
//! `l2_distance_squared`, `l1_distance` of numbers; `hamming_distance` and `jaccard_distance` of
//! bits.
//!
//! Formula and rounding are those of [`vexact_kernel::reference::distance`], which answers bit for
//! bit as DataFusion's own functions of these names do. NULL, a NULL component, and under cosine a
//! zero vector give NULL; NaN stays NaN.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err, utils::take_function_args};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use vexact_kernel::{Element, Metric, reference};

use super::bits::{coerce_bits, evaluate_bits};
use super::rows::{VectorRows, VisitRows, fixed_dim, type_of_rows};
use crate::vector::{VectorError, is_bits, is_element, vector_of_scalar};

/// A distance or similarity by its SQL name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    CosineDistance,
    CosineSimilarity,
    InnerProduct,
    L2Distance,
    L2DistanceSquared,
    L1Distance,
    HammingDistance,
    JaccardDistance,
}

impl Function {
    pub const ALL: [Function; 8] = [
        Function::CosineDistance,
        Function::CosineSimilarity,
        Function::InnerProduct,
        Function::L2Distance,
        Function::L2DistanceSquared,
        Function::L1Distance,
        Function::HammingDistance,
        Function::JaccardDistance,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Function::CosineDistance => "cosine_distance",
            Function::CosineSimilarity => "cosine_similarity",
            Function::InnerProduct => "inner_product",
            Function::L2Distance => "l2_distance",
            Function::L2DistanceSquared => "l2_distance_squared",
            Function::L1Distance => "l1_distance",
            Function::HammingDistance => "hamming_distance",
            Function::JaccardDistance => "jaccard_distance",
        }
    }

    pub fn metric(self) -> Metric {
        match self {
            Function::CosineDistance | Function::CosineSimilarity => Metric::Cosine,
            Function::InnerProduct => Metric::Dot,
            Function::L2Distance => Metric::L2,
            Function::L2DistanceSquared => Metric::L2Squared,
            Function::L1Distance => Metric::L1,
            Function::HammingDistance => Metric::Hamming,
            Function::JaccardDistance => Metric::Jaccard,
        }
    }

    /// Returns the function's value for a metric value of `distance`.
    pub fn of_distance(self, distance: f64) -> f64 {
        match self {
            Function::CosineSimilarity => 1.0 - distance,
            _ => distance,
        }
    }

    /// Returns true if a larger value is closer.
    pub fn is_larger_closer(self) -> bool {
        matches!(self, Function::CosineSimilarity | Function::InnerProduct)
    }
}

/// One of the functions, for DataFusion.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Distance {
    pub function: Function,
    signature: Signature,
    aliases: Vec<String>,
}

impl Distance {
    pub fn new(function: Function) -> Self {
        let aliases = if function == Function::InnerProduct { vec!["dot_product".into()] } else { vec![] };
        Self { function, signature: Signature::user_defined(Volatility::Immutable), aliases }
    }
}

impl ScalarUDFImpl for Distance {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_distance(self.name(), self.function.metric(), arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (metric, function) = (self.function.metric(), self.function);
        if metric.is_of_bits() {
            return evaluate_bits(self.name(), metric, args);
        }
        evaluate(self.name(), args, |row, query| {
            struct One<'q>(Metric, (usize, usize), &'q [f64]);
            impl VisitRows for One<'_> {
                type Output = Option<f64>;
                fn visit<T: Element>(self, values: &[T]) -> Option<f64> {
                    reference::distance(self.0, &values[self.1.0..][..self.1.1], self.2)
                }
            }
            row.0.visit(One(metric, row.1, query)).map(|distance| function.of_distance(distance))
        })
    }
}

/// Returns the argument types of a metric; rejects types of different dimensions and those that the
/// metric does not compare. Lists of bytes stay as they are.
pub(super) fn coerce_distance(name: &str, metric: Metric, arg_types: &[DataType]) -> Result<Vec<DataType>> {
    if metric.is_of_bits() {
        return coerce_bits(name, metric, arg_types);
    }
    if let Some(bits) = arg_types.iter().find(|data_type| is_bits(data_type)) {
        return plan_err!("{name}: metric {metric} compares vectors of numbers, got bits ({bits})");
    }
    coerce(name, arg_types, is_element)
}

/// Returns the argument types of a function of two vectors; rejects types of different dimensions.
pub(super) fn coerce_pair(name: &str, arg_types: &[DataType]) -> Result<Vec<DataType>> {
    coerce(name, arg_types, DataType::is_floating)
}

fn coerce(name: &str, arg_types: &[DataType], is_kept: fn(&DataType) -> bool) -> Result<Vec<DataType>> {
    let [a, b] = take_function_args(name, arg_types)?;
    let types = vec![type_of_rows(name, a, is_kept)?, type_of_rows(name, b, is_kept)?];
    if let (Some(expected), Some(got)) = (fixed_dim(&types[0]), fixed_dim(&types[1]))
        && expected != got
    {
        return plan_err!("{name}: dimension mismatch: expected {expected} components, got {got}");
    }
    Ok(types)
}

/// Evaluates a function of two vectors row by row. `one` gets a row (the array, and start and
/// length in its values) and the other vector; it is not called where either is NULL or contains
/// one.
pub(super) fn evaluate(
    name: &str,
    args: ScalarFunctionArgs,
    one: impl Fn((&VectorRows, (usize, usize)), &[f64]) -> Option<f64>,
) -> Result<ColumnarValue> {
    let number_rows = args.number_rows;
    let names: Vec<&str> = args.arg_fields.iter().map(|field| field.name().as_str()).collect();
    let [a, b] = take_function_args(name, args.args)?;
    let column = if matches!(a, ColumnarValue::Scalar(_)) { names.last() } else { names.first() };
    // The constant, if there is one, goes last: all of these functions are symmetric.
    let (a, b) = if matches!(a, ColumnarValue::Scalar(_)) { (b, a) } else { (a, b) };
    let is_constant = matches!(a, ColumnarValue::Scalar(_));
    let array = a.to_array(if is_constant { 1 } else { number_rows })?;
    let rows = VectorRows::try_new(&array)?;
    let mismatch = |expected: usize, got: usize| {
        let column = column.copied().unwrap_or_default().to_owned();
        Err(VectorError::Dimension { function: name.into(), column, expected, got }.into())
    };
    let values: Float64Array = match b {
        ColumnarValue::Scalar(query) => {
            let Some(query) = vector_of_scalar(&query)? else {
                return Ok(ColumnarValue::Scalar(ScalarValue::Float64(None)));
            };
            let value = |row| match rows.range(row) {
                None => Ok(None),
                Some((_, dim)) if dim != query.len() => mismatch(dim, query.len()),
                Some(range) if rows.has_null(range) => Ok(None),
                Some(range) => Ok(one((&rows, range), &query)),
            };
            (0..array.len()).map(value).collect::<Result<_>>()?
        }
        ColumnarValue::Array(other) => {
            let others = VectorRows::try_new(&other)?;
            let mut query = Vec::new();
            let value = |row| match (rows.range(row), others.range(row)) {
                (Some((_, dim)), Some((_, got))) if dim != got => mismatch(dim, got),
                (Some(a), Some(b)) if !rows.has_null(a) && !others.has_null(b) => {
                    others.widened(b, &mut query);
                    Ok(one((&rows, a), &query))
                }
                _ => Ok(None),
            };
            (0..array.len()).map(value).collect::<Result<_>>()?
        }
    };
    let values: ArrayRef = Arc::new(values);
    if is_constant {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?));
    }
    Ok(ColumnarValue::Array(values))
}
