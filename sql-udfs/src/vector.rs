//! Query vectors as SQL gives them: text, lists of numbers, BLOBs of bits, NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{DataFusionError, ScalarValue};
use vexact_kernel::{KernelError, Metric, reference};

/// Why a value is not a vector.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// A text of another form.
    #[error("invalid vector text: expected '[1 2 3]' or '[1,2,3]', got {problem}")]
    Text {
        /// Description of the error, with the ordinal of the component.
        problem: String,
    },
    /// Two vectors that cannot be compared.
    #[error("{function}: dimension mismatch: expected {expected} components, got {got} (column {column:?})")]
    Dimension {
        /// The function.
        function: String,
        /// Its vector column.
        column: String,
        /// Components of the column.
        expected: usize,
        /// Components of the other vector.
        got: usize,
    },
    /// A value of another type.
    #[error("expected a vector (a list of numbers or text '[1 2 3]'), got {got}")]
    Type {
        /// The type.
        got: String,
    },
}

impl From<VectorError> for DataFusionError {
    fn from(error: VectorError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

/// At most this much of a bad text is repeated in the error.
const QUOTED_CHARS: usize = 40;

fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Parses `[1 2 3]` or `[1,2,3]`: finite numbers, separated by a comma or by white space.
///
/// # Errors
/// Anything else, an empty vector included; the message names the component.
pub fn parse_vector(text: &str) -> Result<Vec<f64>, VectorError> {
    let problem = |problem: String| VectorError::Text { problem };
    let inner = text
        .trim()
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or_else(|| problem(format!("{} without brackets", quoted(text))))?
        .trim();
    if inner.is_empty() {
        return Err(problem("no components".into()));
    }
    let mut vector = Vec::new();
    for between_commas in inner.split(',') {
        let mut is_empty = true;
        for component in between_commas.split_whitespace() {
            is_empty = false;
            match component.parse::<f64>() {
                Ok(number) if number.is_finite() => vector.push(number),
                _ => return Err(problem(format!("component {}: {}", vector.len(), quoted(component)))),
            }
        }
        if is_empty {
            return Err(problem(format!("component {}: nothing between commas", vector.len())));
        }
    }
    Ok(vector)
}

/// A SQL value as a query vector: text, a list of numbers, or a BLOB of bits, which has a component
/// 0 or 1 for each. `None` for NULL and for a list that contains one.
///
/// # Errors
/// Text that is no vector, and values of other types.
pub fn vector_of_scalar(value: &ScalarValue) -> Result<Option<Vec<f64>>, VectorError> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map(|text| parse_vector(text)).transpose()
        }
        ScalarValue::FixedSizeList(list) => vector_of_row(list.is_valid(0).then(|| list.value(0))),
        ScalarValue::List(list) => vector_of_row(list.is_valid(0).then(|| list.value(0))),
        ScalarValue::LargeList(list) => vector_of_row(list.is_valid(0).then(|| list.value(0))),
        ScalarValue::Null => Ok(None),
        bits if is_bits(&bits.data_type()) => Ok(bytes_of_scalar(bits).map(components_of_bits)),
        other => Err(VectorError::Type { got: other.data_type().to_string() }),
    }
}

fn vector_of_row(row: Option<ArrayRef>) -> Result<Option<Vec<f64>>, VectorError> {
    let Some(row) = row else { return Ok(None) };
    if !row.data_type().is_numeric() && row.data_type() != &DataType::Null {
        return Err(VectorError::Type { got: format!("a list of {}", row.data_type()) });
    }
    let not_numbers = |_| VectorError::Type { got: format!("a list of {}", row.data_type()) };
    let row = cast(&row, &DataType::Float64).map_err(not_numbers)?;
    Ok((row.null_count() == 0).then(|| row.as_primitive::<Float64Type>().values().to_vec()))
}

/// A vector as a literal value: `FixedSizeList<Float64>` of one row.
pub fn scalar_of_vector(vector: Vec<f64>) -> ScalarValue {
    use arrow::array::FixedSizeListArray;
    use arrow::datatypes::Field;
    use std::sync::Arc;
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let dim = vector.len() as i32;
    ScalarValue::FixedSizeList(Arc::new(FixedSizeListArray::new(item, dim, Arc::new(Float64Array::from(vector)), None)))
}

/// The components of a vector of bits, 0 and 1.
pub(crate) fn components_of_bits(bytes: &[u8]) -> Vec<f64> {
    reference::bits(bytes).into_iter().map(|bit| f64::from(u8::from(bit))).collect()
}

/// The bytes of a BLOB; `None` for NULL and for other values.
pub(crate) fn bytes_of_scalar(value: &ScalarValue) -> Option<&[u8]> {
    match value {
        ScalarValue::Binary(bytes)
        | ScalarValue::LargeBinary(bytes)
        | ScalarValue::BinaryView(bytes)
        | ScalarValue::FixedSizeBinary(_, bytes) => bytes.as_deref(),
        ScalarValue::Dictionary(_, value) => bytes_of_scalar(value),
        _ => None,
    }
}

/// Returns true if values of this type are BLOBs, which a metric of bits compares.
pub(crate) fn is_bits(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_bits(value),
        other => other.is_binary() || matches!(other, DataType::FixedSizeBinary(_)),
    }
}

/// Refuses a column whose vectors a metric cannot compare.
pub(crate) fn check_metric(metric: Metric, column: &DataType) -> Result<(), KernelError> {
    metric.check_vectors(is_bits(column), column)
}

/// Returns true if a search is known to be one of integer arithmetic: of bits, or of bytes with a
/// query of whole numbers in their range.
pub(crate) fn is_integer_search(column: &DataType, query: Option<&[f64]>) -> bool {
    let item = match column {
        DataType::FixedSizeBinary(_) => return true,
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => item,
        _ => return false,
    };
    let range = match item.data_type() {
        DataType::Int8 => -128.0..=127.0,
        DataType::UInt8 => 0.0..=255.0,
        _ => return false,
    };
    query.is_some_and(|query| query.iter().all(|x| x.fract() == 0.0 && range.contains(x)))
}

/// Returns true if the kernel reads components of this type as they are.
pub(crate) fn is_element(data_type: &DataType) -> bool {
    data_type.is_floating() || matches!(data_type, DataType::Int8 | DataType::UInt8)
}

/// Returns the number of components of a vector column, or `Some(None)` if each row has its own.
/// Returns `None` if a column of this type cannot hold vectors.
pub fn vector_type(data_type: &DataType) -> Option<Option<usize>> {
    match data_type {
        DataType::FixedSizeList(item, dim) if is_element(item.data_type()) => Some(usize::try_from(*dim).ok()),
        DataType::List(item) | DataType::LargeList(item) if is_element(item.data_type()) => Some(None),
        DataType::FixedSizeBinary(bytes) => Some(usize::try_from(*bytes).ok().map(|bytes| 8 * bytes)),
        _ => None,
    }
}

/// Returns true if values of this type are lists of numbers, each of which a distance function
/// takes for a vector.
pub(crate) fn is_list_of_numbers(data_type: &DataType) -> bool {
    match data_type {
        DataType::FixedSizeList(item, _)
        | DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => item.data_type().is_numeric(),
        DataType::Dictionary(_, value) => is_list_of_numbers(value),
        _ => false,
    }
}

/// The type of vectors that values of another list type become by a cast: lists of whole numbers of
/// more than a byte, list views, dictionaries of vectors. Returns `None` for vectors as they are stored, and for
/// other types.
pub fn vectors_by_cast(data_type: &DataType) -> Option<DataType> {
    let floats = |item: &FieldRef| match item.data_type() {
        element if is_element(element) => Some(Arc::clone(item)),
        integer if integer.is_integer() => Some(Arc::new(item.as_ref().clone().with_data_type(DataType::Float64))),
        _ => None,
    };
    match data_type {
        _ if vector_type(data_type).is_some() => None,
        DataType::FixedSizeList(item, dim) => Some(DataType::FixedSizeList(floats(item)?, *dim)),
        DataType::List(item) | DataType::ListView(item) => Some(DataType::List(floats(item)?)),
        DataType::LargeList(item) | DataType::LargeListView(item) => Some(DataType::LargeList(floats(item)?)),
        DataType::Dictionary(_, value) if vector_type(value).is_some() => Some(value.as_ref().clone()),
        DataType::Dictionary(_, value) => vectors_by_cast(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_spellings_and_any_white_space_parse() {
        for text in ["[1,2.5,-3e2]", "[1 2.5 -3e2]", " [ 1 ,  2.5,\n-3e2 ] ", "[1, 2.5 -3e2]"] {
            assert_eq!(parse_vector(text).unwrap(), [1.0, 2.5, -300.0], "{text}");
        }
    }

    #[test]
    fn bad_text_names_the_component() {
        for (text, problem) in [
            ("", "\"\" without brackets"),
            ("1,2", "\"1,2\" without brackets"),
            ("[1", "\"[1\" without brackets"),
            ("[]", "no components"),
            ("[1,,2]", "component 1: nothing between commas"),
            ("[1,]", "component 1: nothing between commas"),
            ("[1,x]", "component 1: \"x\""),
            ("[1 nan]", "component 1: \"nan\""),
            ("[inf]", "component 0: \"inf\""),
            ("[1e999]", "component 0: \"1e999\""),
        ] {
            let expected = format!("invalid vector text: expected '[1 2 3]' or '[1,2,3]', got {problem}");
            assert_eq!(parse_vector(text).unwrap_err().to_string(), expected);
        }
        let long = parse_vector(&"é".repeat(1000)).unwrap_err().to_string();
        assert!(long.len() < 200, "{long}");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            if let Ok(vector) = parse_vector(&text) {
                prop_assert!(!vector.is_empty() && vector.iter().all(|x| x.is_finite()));
            }
        }

        #[test]
        fn text_that_looks_like_a_vector_never_panics(text in "\\[?[-+0-9eE., naif\\]\\[\t]{0,30}\\]?") {
            let _ = parse_vector(&text);
        }

        #[test]
        fn written_vectors_parse_back_to_the_bit(vector in prop::collection::vec(-1e300..1e300_f64, 1..20)) {
            let words: Vec<String> = vector.iter().map(f64::to_string).collect();
            prop_assert_eq!(&parse_vector(&format!("[{}]", words.join(" "))).unwrap(), &vector);
            prop_assert_eq!(&parse_vector(&format!("[{}]", words.join(","))).unwrap(), &vector);
        }
    }
}
