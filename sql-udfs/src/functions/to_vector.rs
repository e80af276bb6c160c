//! `to_vector(text)`: a stored vector, `List<Float32>`, from `'[1 2 3]'` or `'[1,2,3]'`, and CAST
//! of a text as any type of vectors. NULL for NULL; an error for text that is no vector, of another
//! length, or with a component beyond the type.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, plan_err, utils::take_function_args};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::builder::VectorBuilder;
use crate::vector::parse_vector;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToVector {
    target: DataType,
    /// NULL for what is an error.
    is_try: bool,
    signature: Signature,
}

impl ToVector {
    pub fn new() -> Self {
        Self::of(DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))), false)
    }

    fn of(target: DataType, is_try: bool) -> Self {
        Self { target, is_try, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The cast of texts as vectors of a type, a list of floats; with `is_try` one that gives NULL for
/// what is no such vector.
pub fn vector_of_text(target: &DataType, is_try: bool) -> ScalarUDF {
    ScalarUDF::from(ToVector::of(target.clone(), is_try))
}

impl ScalarUDFImpl for ToVector {
    fn name(&self) -> &str {
        "to_vector"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.target.clone())
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [text] = take_function_args(self.name(), arg_types)?;
        match text {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Ok(vec![DataType::Utf8]),
            other => plan_err!("to_vector: expected text '[1 2 3]', got {other}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text] = take_function_args(self.name(), args.args)?;
        let is_constant = matches!(text, ColumnarValue::Scalar(_));
        let texts = cast(&text.to_array(if is_constant { 1 } else { args.number_rows })?, &DataType::Utf8)?;
        let mut vectors = VectorBuilder::new(self.name(), &self.target);
        for text in texts.as_string::<i32>() {
            let vector = match text.map(parse_vector).transpose() {
                Err(_) if self.is_try => None,
                vector => vector?,
            };
            match vectors.push(vector.as_deref()) {
                Err(_) if self.is_try => vectors.push(None)?,
                pushed => pushed?,
            }
        }
        let vectors = vectors.finish()?;
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&vectors, 0)?));
        }
        Ok(ColumnarValue::Array(vectors))
    }
}
