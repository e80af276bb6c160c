//! NaN and the infinities in JSON are written as the texts `"NaN"`, `"Infinity"` and `"-Infinity"`,
//! where Arrow's writer has null.

use std::fmt::Debug;
use std::io::Write;

use arrow::array::{Array, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder};

/// Encodes columns of floats that contain values that are not finite.
#[derive(Debug)]
pub(super) struct FloatTexts;

impl EncoderFactory for FloatTexts {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let is_finite = super::file_form::is_finite(array);
        let encoder: Option<Box<dyn Encoder + 'a>> = match array.data_type() {
            _ if is_finite => None,
            DataType::Float16 => Some(Box::new(Floats(array.as_primitive::<Float16Type>()))),
            DataType::Float32 => Some(Box::new(Floats(array.as_primitive::<Float32Type>()))),
            DataType::Float64 => Some(Box::new(Floats(array.as_primitive::<Float64Type>()))),
            _ => None,
        };
        Ok(encoder.map(|encoder| NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Floats<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType<Native: Debug + Copy + Into<f64>>> Encoder for Floats<'_, T> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0.value(row);
        let wide: f64 = value.into();
        // Writing to a vector never fails. The shortest digits that represent the float are valid
        // JSON.
        let _ = match wide {
            wide if wide.is_nan() => out.write_all(b"\"NaN\""),
            f64::INFINITY => out.write_all(b"\"Infinity\""),
            f64::NEG_INFINITY => out.write_all(b"\"-Infinity\""),
            _ => write!(out, "{value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float32Array, ListArray, RecordBatch};
    use arrow::json::writer::LineDelimited;

    use super::*;

    #[test]
    fn what_is_no_number_is_text_at_any_depth() {
        let floats: ArrayRef = Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::NAN), None, Some(1e30)]));
        let items = |items: &[f64]| Some(items.iter().map(|item| Some(*item)).collect::<Vec<_>>());
        let lists = [items(&[f64::INFINITY, 1.0]), None, items(&[f64::NEG_INFINITY]), items(&[])];
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists));
        let batch = RecordBatch::try_from_iter_with_nullable([("f", floats, true), ("l", lists, true)]).unwrap();
        let mut out = Vec::new();
        let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.with_encoder_factory(Arc::new(FloatTexts)).build::<_, LineDelimited>(&mut out);
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let expected = "{\"f\":0.1,\"l\":[\"Infinity\",1.0]}\n{\"f\":\"NaN\",\"l\":null}\n\
                        {\"f\":null,\"l\":[\"-Infinity\"]}\n{\"f\":1e30,\"l\":[]}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
