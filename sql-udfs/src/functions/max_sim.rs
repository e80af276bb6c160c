//! `max_sim(tokens, query)`: late interaction. For each token vector of `query` the largest inner
//! product with a token vector of `tokens`, summed in the order of the query, `Float64`; larger is
//! closer.
//!
//! Formula and rounding are those of [`vexact_kernel::reference::max_sim`]. NULL where an argument
//! is NULL, has no token, or a token that is NULL or has a NULL, NaN or infinite component.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err, utils::take_function_args};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use vexact_kernel::{MaxSim, TokenColumn, reference};

use crate::exec::external;

const NAME: &str = "max_sim";

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MaxSimFunction {
    signature: Signature,
}

/// Returns true if a function is `max_sim`.
pub(crate) fn is_max_sim(function: &ScalarUDF) -> bool {
    function.inner().is::<MaxSimFunction>()
}

/// The vectors of a query as the function takes it; `None` where no row has a score.
///
/// # Errors
/// A value that is no list of vectors.
pub(crate) fn query_tokens(query: &ScalarValue) -> Result<Option<Vec<Vec<f64>>>> {
    Ok(vectors(&query.cast_to(&lists())?.to_array()?, 0))
}

impl MaxSimFunction {
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for MaxSimFunction {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [tokens, query] = take_function_args(NAME, arg_types)?;
        check_type(tokens)?;
        check_type(query)?;
        if let (Some(expected), Some(got)) = (dim(tokens), dim(query))
            && expected != got
        {
            return plan_err!("{NAME}: dimension mismatch: expected {expected} components, got {got}");
        }
        Ok(vec![if is_token_column(tokens) { tokens.clone() } else { lists() }, lists()])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let number_rows = args.number_rows;
        let [tokens, query] = take_function_args(NAME, args.args)?;
        let is_constant = matches!((&tokens, &query), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let count = if is_constant { 1 } else { number_rows };
        let tokens = tokens.to_array(count)?;
        let values: Float64Array = match query {
            ColumnarValue::Scalar(query) => match vectors(&query.to_array()?, 0) {
                None => (0..count).map(|_| None::<f64>).collect(),
                Some(query) => of_query(&tokens, &query)?,
            },
            ColumnarValue::Array(queries) => {
                let value = |row: usize| match vectors(&queries, row) {
                    None => Ok(None),
                    Some(query) => Ok(of_query(&tokens.slice(row, 1), &query)?.iter().next().flatten()),
                };
                (0..count).map(value).collect::<Result<_>>()?
            }
        };
        let values: ArrayRef = Arc::new(values);
        Ok(if is_constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)
        } else {
            ColumnarValue::Array(values)
        })
    }
}

/// The values of rows of tokens for one query, which is not empty and finite.
fn of_query(tokens: &ArrayRef, query: &[Vec<f64>]) -> Result<Float64Array> {
    let search = MaxSim::new(query).map_err(external)?;
    let check_dim = |got: usize| match search.dim() {
        expected if expected == got => Ok(()),
        expected => exec_err!("{NAME}: dimension mismatch: expected {expected} components, got {got}"),
    };
    if is_token_column(tokens.data_type()) {
        let column = TokenColumn::try_new(tokens).map_err(external)?;
        check_dim(column.dim())?;
        return Ok((0..column.len()).map(|row| search.score(&column, row)).collect());
    }
    let query: Vec<&[f64]> = query.iter().map(Vec::as_slice).collect();
    let value = |row: usize| {
        let Some(row) = vectors(tokens, row) else { return Ok(None) };
        row.iter().try_for_each(|token| check_dim(token.len()))?;
        Ok(reference::max_sim(&row.iter().map(Vec::as_slice).collect::<Vec<_>>(), &query))
    };
    (0..tokens.len()).map(value).collect()
}

/// Returns true if the kernel reads such tokens as they are.
pub(crate) fn is_token_column(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => match item.data_type() {
            DataType::FixedSizeList(item, dim) => item.data_type().is_floating() && *dim > 0,
            _ => false,
        },
        _ => false,
    }
}

/// The type that other rows of tokens are given as.
fn lists() -> DataType {
    let numbers = DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)));
    DataType::List(Arc::new(Field::new_list_field(numbers, true)))
}

fn item(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Some(item.data_type()),
        _ => None,
    }
}

fn check_type(data_type: &DataType) -> Result<()> {
    let is_rows = match item(data_type) {
        Some(tokens) => match item(tokens) {
            Some(component) => component.is_numeric() || component.is_null(),
            None => tokens.is_null(),
        },
        None => data_type.is_null(),
    };
    if is_rows {
        return Ok(());
    }
    plan_err!("{NAME}: expected lists of vectors (FixedSizeList or List of numbers), got {data_type}")
}

/// Components of the tokens, if all have the same number.
fn dim(data_type: &DataType) -> Option<i32> {
    match item(data_type)? {
        DataType::FixedSizeList(_, dim) => Some(*dim),
        _ => None,
    }
}

/// The vectors of a row of [`lists`]; `None` where it is NULL or empty, or a vector is NULL or has
/// a NULL, NaN or infinite component.
fn vectors(lists: &ArrayRef, row: usize) -> Option<Vec<Vec<f64>>> {
    let lists = lists.as_list_opt::<i32>()?;
    if lists.is_null(row) {
        return None;
    }
    let row = lists.value(row);
    let vectors = row.as_list::<i32>();
    let vector = |i: usize| {
        let components = vectors.is_valid(i).then(|| vectors.value(i))?;
        let components = components.as_primitive::<Float64Type>();
        let is_whole = components.null_count() == 0 && components.values().iter().all(|x| x.is_finite());
        (is_whole && !components.is_empty()).then(|| components.values().to_vec())
    };
    let vectors: Option<Vec<Vec<f64>>> = (0..vectors.len()).map(vector).collect();
    vectors.filter(|vectors| !vectors.is_empty())
}
