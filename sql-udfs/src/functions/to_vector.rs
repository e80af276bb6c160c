//! `to_vector(text)`: a stored vector, `List<Float32>`, from `'[1 2 3]'` or `'[1,2,3]'`; `CAST` makes a `FixedSizeList` of it where
//! a table wants one. NULL for NULL; an error for text that is no vector or a component beyond `Float32`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Builder, ListBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err, utils::take_function_args};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use crate::vector::parse_vector;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToVector {
    signature: Signature,
}

impl ToVector {
    pub fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn floats(text: &str) -> Result<Vec<f32>> {
    let vector = parse_vector(text)?;
    let floats: Vec<f32> = vector.iter().map(|x| *x as f32).collect();
    match floats.iter().position(|x| !x.is_finite()) {
        Some(i) => exec_err!("to_vector: component {i}: expected a number within Float32, got {:e}", vector[i]),
        None => Ok(floats),
    }
}

impl ScalarUDFImpl for ToVector {
    fn name(&self) -> &str {
        "to_vector"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))))
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
        let mut lists = ListBuilder::new(Float32Builder::new());
        for text in texts.as_string::<i32>() {
            if let Some(text) = text {
                lists.values().append_slice(&floats(text)?);
            }
            lists.append(text.is_some());
        }
        let lists: ArrayRef = Arc::new(lists.finish());
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&lists, 0)?));
        }
        Ok(ColumnarValue::Array(lists))
    }
}
