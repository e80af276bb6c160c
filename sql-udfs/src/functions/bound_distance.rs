//! A distance to one query, which the function holds instead of taking it as an argument. Every
//! pass of the planner hashes, compares and prints a literal of hundreds of numbers; for a bound
//! query this work is done once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{ParamValues, Result, ScalarValue, internal_err, utils::take_function_args};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::distance::coerce_distance;
use super::{Distance, VectorScore};
use crate::vector::{bytes_of_scalar, scalar_of_vector, vector_of_scalar};

/// Minimum number of components to bind a query: shorter queries stay arguments, which are cheap
/// and appear in plans.
const BOUND_LEN: usize = 16;

/// Number of components in the displayed name.
const SHOWN_LEN: usize = 3;

/// `distance(_, query)`.
#[derive(Debug)]
pub(crate) struct BoundDistance {
    /// The function of two vectors.
    pub function: Arc<ScalarUDF>,
    /// The query, as a literal.
    pub query: ScalarValue,
    components: Vec<f64>,
    hash: u64,
    name: String,
    signature: Signature,
}

impl PartialEq for BoundDistance {
    fn eq(&self, other: &Self) -> bool {
        let bits = |x: &f64| x.to_bits();
        self.hash == other.hash
            && self.function == other.function
            && self.query.data_type() == other.query.data_type()
            && self.components.iter().map(bits).eq(other.components.iter().map(bits))
    }
}

impl Eq for BoundDistance {}

impl Hash for BoundDistance {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl BoundDistance {
    /// `query`: the literal that `components` are of.
    fn new(function: Arc<ScalarUDF>, query: &ScalarValue, components: Vec<f64>) -> Self {
        // Bits stay bits, so that the function can refuse them.
        let query = match bytes_of_scalar(query) {
            Some(bytes) => ScalarValue::FixedSizeBinary(bytes.len() as i32, Some(bytes.to_vec())),
            None => scalar_of_vector(components.clone()),
        };
        let mut hasher = DefaultHasher::new();
        function.name().hash(&mut hasher);
        components.iter().for_each(|x| hasher.write_u64(x.to_bits()));
        let shown: Vec<String> = components[..SHOWN_LEN].iter().map(f64::to_string).collect();
        Self {
            name: format!("{}([{}, ... {} components])", function.name(), shown.join(", "), components.len()),
            hash: hasher.finish(),
            query,
            signature: Signature::user_defined(Volatility::Immutable),
            function,
            components,
        }
    }
}

impl ScalarUDFImpl for BoundDistance {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [column] = take_function_args(self.name(), arg_types)?;
        let inner = self.function.inner();
        let (name, metric) = match (inner.downcast_ref::<VectorScore>(), inner.downcast_ref::<Distance>()) {
            (Some(score), _) => ("vector_search", score.metric),
            (None, Some(distance)) => (self.function.name(), distance.function.metric()),
            (None, None) => return internal_err!("{} is no distance", self.function.name()),
        };
        Ok(coerce_distance(name, metric, &[column.clone(), self.query.data_type()])?[..1].to_vec())
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        args.args.push(ColumnarValue::Scalar(self.query.clone()));
        args.arg_fields.push(Arc::new(Field::new("query", self.query.data_type(), false)));
        self.function.inner().invoke_with_args(args)
    }
}

/// Returns a distance to a long constant as a call with a bound query. The constant is a literal,
/// or a parameter whose value is known.
pub(crate) fn bind_query(expr: &Expr, params: Option<&ParamValues>) -> Option<Expr> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let udf = call.func.inner();
    if !udf.is::<Distance>() && !udf.is::<VectorScore>() {
        return None;
    }
    let [a, b] = call.args.as_slice() else { return None };
    let constant = |expr: &Expr| match (expr, params) {
        (Expr::Literal(value, _), _) => Some(value.clone()),
        (Expr::Placeholder(placeholder), Some(params)) => {
            params.get_placeholders_with_values(&placeholder.id).ok().map(|found| found.value)
        }
        _ => None,
    };
    let (stored, query) = match (constant(a), constant(b)) {
        (None, Some(query)) => (a, query),
        (Some(query), None) => (b, query),
        _ => return None,
    };
    // A value that is no vector is not bound: the function itself rejects it.
    let components = vector_of_scalar(&query).ok().flatten().filter(|query| query.len() >= BOUND_LEN)?;
    Some(ScalarUDF::from(BoundDistance::new(Arc::clone(&call.func), &query, components)).call(vec![stored.clone()]))
}
