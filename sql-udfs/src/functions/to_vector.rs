//! `to_vector(text)`: a stored vector from `'[1 2 3]'` or `'[1,2,3]'`; `FixedSizeList<Float32>` for a constant, `List<Float32>`
//! for a column of texts. NULL for NULL; an error for text that is no vector or a component beyond `Float32`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float32Builder, ListBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{
    DataFusionError, Result, ScalarValue, exec_err, internal_err, plan_err, utils::take_function_args,
};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

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

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float32, true))
}

fn floats(text: &str) -> Result<Vec<f32>> {
    let vector = parse_vector(text).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let floats: Vec<f32> = vector.iter().map(|x| *x as f32).collect();
    match floats.iter().position(|x| !x.is_finite()) {
        Some(i) => exec_err!("to_vector: component {i}: expected a number within Float32, got {}", vector[i]),
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
        internal_err!("to_vector's type depends on its argument's value")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let constant = args.scalar_arguments.first().copied().flatten().and_then(|value| value.try_as_str().flatten());
        let data_type = match constant {
            Some(text) => DataType::FixedSizeList(item(), floats(text)?.len() as i32),
            None => DataType::List(item()),
        };
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
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
        if let ColumnarValue::Scalar(text) = &text {
            return Ok(ColumnarValue::Scalar(match text.try_as_str().flatten() {
                Some(text) => {
                    let floats = Float32Array::from(floats(text)?);
                    let dim = floats.len() as i32;
                    let list = arrow::array::FixedSizeListArray::new(item(), dim, Arc::new(floats), None);
                    ScalarValue::FixedSizeList(Arc::new(list))
                }
                None => ScalarValue::try_from(args.return_field.data_type())?,
            }));
        }
        let texts = cast(&text.to_array(args.number_rows)?, &DataType::Utf8)?;
        let mut lists = ListBuilder::new(Float32Builder::new());
        for text in texts.as_string::<i32>() {
            if let Some(text) = text {
                lists.values().append_slice(&floats(text)?);
            }
            lists.append(text.is_some());
        }
        let lists: ArrayRef = Arc::new(lists.finish());
        debug_assert_eq!(lists.len(), args.number_rows);
        Ok(ColumnarValue::Array(lists))
    }
}
