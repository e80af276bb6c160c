//! Vectors as the text of a cell: `[1,2,3]`, read also as `[1 2 3]`.
//!
//! Numbers are written with the fewest digits that read back as the same number, and values that
//! are not numbers as `NaN`, `inf` and `-inf`. No other spelling of these is read: any other word
//! in a vector is an error.

use std::fmt::Display;

use vexact_sql::{VectorError, parse_vector};

const BRACKETS: [char; 2] = ['[', ']'];

/// Evidence of a cell for the type of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Empty text, or brackets without content.
    Empty,
    /// `[`, a number, any content, `]`.
    Vector,
    /// `[` and something else.
    Bracket,
    /// Any other text.
    Other,
}

/// Classifies a cell, which need not be a valid vector: `[1 x]` has the shape of one.
pub(super) fn shape(cell: &str) -> Shape {
    let cell = cell.trim();
    let is_bracket_or_space = |c: char| c.is_whitespace() || BRACKETS.contains(&c);
    if cell.trim_matches(is_bracket_or_space).is_empty() {
        return Shape::Empty;
    }
    let Some(rest) = cell.strip_prefix('[') else { return Shape::Other };
    let Some(inner) = rest.strip_suffix(']').filter(|inner| !inner.contains(BRACKETS)) else { return Shape::Bracket };
    let first = inner.trim_start();
    let is_number = first.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    if is_number || first.starts_with("NaN") || first.starts_with("inf") { Shape::Vector } else { Shape::Bracket }
}

/// Parses the components of a cell.
///
/// # Errors
/// Text that is not a vector, with the component.
pub(super) fn parse(cell: &str) -> Result<Vec<f64>, VectorError> {
    if let Ok(vector) = parse_vector(cell) {
        return Ok(vector);
    }
    // The same text with a number for each word for a non-finite value shows if the rest is a
    // vector.
    let is_separator = |c: char| c.is_whitespace() || c == ',' || BRACKETS.contains(&c);
    let mut words = Vec::new();
    let mut finite = String::with_capacity(cell.len());
    for piece in cell.split_inclusive(is_separator) {
        let word = piece.trim_end_matches(is_separator);
        let value = match word {
            "NaN" => Some(f64::NAN),
            "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            _ => None,
        };
        if !word.is_empty() {
            words.push(value);
        }
        finite.push_str(if value.is_some() { "0" } else { word });
        finite.push_str(&piece[word.len()..]);
    }
    let mut vector = parse_vector(&finite)?;
    for (component, value) in vector.iter_mut().zip(words) {
        *component = value.unwrap_or(*component);
    }
    Ok(vector)
}

/// Writes components as a cell.
pub(super) fn write<T: Display>(components: &[T]) -> String {
    let words: Vec<String> = components.iter().map(T::to_string).collect();
    format!("[{}]", words.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_shape_is_that_of_the_text_and_not_of_its_components() {
        for (cell, expected) in [
            ("", Shape::Empty),
            (" [ ] ", Shape::Empty),
            (" [1 2]", Shape::Vector),
            ("[-.5,x]", Shape::Vector),
            ("[NaN 1]", Shape::Vector),
            ("[1 2", Shape::Bracket),
            ("[1] see [2]", Shape::Bracket),
            ("[draft] of 3", Shape::Bracket),
            ("[\"a\"]", Shape::Bracket),
            ("1 2", Shape::Other),
            ("x [1 2]", Shape::Other),
        ] {
            assert_eq!(shape(cell), expected, "{cell:?}");
        }
    }

    #[test]
    fn words_that_are_no_numbers_are_read_as_they_are_written_only() {
        let vector = parse("[NaN, inf -inf,1]").unwrap();
        assert!(vector[0].is_nan());
        assert_eq!(vector[1..], [f64::INFINITY, f64::NEG_INFINITY, 1.0]);
        for cell in ["[nan 1]", "[Infinity 1]", "[1inf]", "[NaNinf]", "[--inf]", "[inf,,1]", "[NaN", "NaN", "[NaN x]"] {
            assert!(parse(cell).is_err(), "{cell}");
        }
        assert!(parse("[NaN x]").unwrap_err().to_string().ends_with("component 1: \"x\""));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_to_the_bit(bits in prop::collection::vec(any::<u32>(), 1..20)) {
            let vector: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let text = write(&vector);
            prop_assert_eq!(shape(&text), Shape::Vector);
            let back: Vec<f32> = parse(&text).unwrap().iter().map(|x| *x as f32).collect();
            for (written, read) in vector.iter().zip(&back) {
                prop_assert!(written.to_bits() == read.to_bits() || written.is_nan() && read.is_nan());
            }
        }
    }
}
