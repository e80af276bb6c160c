//! Columns of text lines: each line is split at a delimiter, or matched by a regular expression.

use arrow::array::StringBuilder;
use arrow::datatypes::DataType;
use regex::Regex;
use vexact_core::error::{Error, Result};

/// Method by which a line is divided into fields.
#[derive(Debug, Clone)]
pub enum LineMode {
    /// Splits the line at a delimiter.
    Split(String),
    /// Matches a regular expression, which has to match somewhere in the line; its groups are the
    /// fields.
    Regex(Regex),
}

impl LineMode {
    /// Creates a mode by its name: `split` or `regex`.
    ///
    /// # Errors
    /// Another name, an empty delimiter, an invalid pattern.
    pub fn new(mode: &str, split_delimiter: &str, regex_pattern: &str) -> Result<Self> {
        match mode.to_ascii_lowercase().as_str() {
            "split" if split_delimiter.is_empty() => {
                Err(Error::InvalidArgument("split_delimiter: expected a text, got an empty one".into()))
            }
            "split" => Ok(Self::Split(split_delimiter.into())),
            "regex" if regex_pattern.is_empty() => {
                Err(Error::InvalidArgument("regex_pattern: expected a regular expression, got an empty one".into()))
            }
            "regex" => Regex::new(regex_pattern)
                .map(Self::Regex)
                .map_err(|error| Error::InvalidArgument(format!("regex_pattern: {error}"))),
            _ => Err(Error::InvalidArgument(format!("mode: expected split or regex, got {mode:?}"))),
        }
    }
}

/// Position of a column's value in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineField {
    /// Index of a field, from 0, or number of a group, where 0 is the whole match.
    Index(usize),
    /// A named group.
    Group(String),
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct LineColumn {
    /// Name of the column.
    pub name: String,
    /// Position of the column's value in a line.
    pub field: LineField,
    /// Type of the column's values; `None` to infer it from the first lines, as in a CSV file.
    pub data_type: Option<DataType>,
}

/// Parses columns from one text: `name:field, name:field:TYPE`, where a field is a number or a
/// group's name.
///
/// # Errors
/// Text of another form, an unknown type.
pub fn parse_mappings(text: &str) -> Result<Vec<LineColumn>> {
    let column = |written: &str| {
        let refuse = |problem: &str| Error::InvalidArgument(format!("mapping {:?}: {problem}", written.trim()));
        let mut parts = written.splitn(3, ':').map(str::trim);
        let (Some(name), Some(field)) = (parts.next().filter(|name| !name.is_empty()), parts.next()) else {
            return Err(refuse("expected name:field or name:field:TYPE"));
        };
        let field = field.parse().map_or_else(|_| LineField::Group(field.into()), LineField::Index);
        let data_type = parts.next().map(super::sql_type::parse).transpose().map_err(|problem| refuse(&problem))?;
        Ok(LineColumn { name: name.into(), field, data_type })
    };
    outside_parentheses(text).map(column).collect()
}

/// Splits a text at the commas that are not in parentheses: `DECIMAL(10, 2)` is one part.
fn outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth <= 0
    })
}

/// Position of a column's value.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldOfLine {
    /// Index of a field, or number of a group.
    pub number: usize,
    /// True if the type was inferred from the first lines.
    pub is_inferred: bool,
}

impl LineMode {
    /// Returns the number of a column's field or group.
    pub(super) fn field(&self, column: &LineColumn) -> Result<usize> {
        let refuse = |problem: String| Err(Error::InvalidArgument(format!("column {:?}: {problem}", column.name)));
        match (self, &column.field) {
            (Self::Split(_), LineField::Index(index)) => Ok(*index),
            (Self::Split(_), LineField::Group(name)) => {
                refuse(format!("expected the number of a field, as the mode is split, got {name:?}"))
            }
            (Self::Regex(regex), LineField::Index(index)) if *index < regex.captures_len() => Ok(*index),
            (Self::Regex(regex), LineField::Index(index)) => {
                let last = regex.captures_len() - 1;
                refuse(format!("expected a group of the pattern, 0 to {last}, got {index}"))
            }
            (Self::Regex(regex), LineField::Group(name)) => {
                match regex.capture_names().position(|group| group == Some(name)) {
                    Some(group) => Ok(group),
                    None => {
                        let groups: Vec<&str> = regex.capture_names().flatten().collect();
                        refuse(format!("expected a named group of the pattern [{}], got {name:?}", groups.join(", ")))
                    }
                }
            }
        }
    }

    /// Appends the values of some fields of a line, or returns the line's error.
    pub(super) fn take_apart(
        &self,
        line: &str,
        fields: &[FieldOfLine],
        texts: &mut [StringBuilder],
    ) -> Result<(), String> {
        match self {
            Self::Split(delimiter) => {
                let found: Vec<&str> = line.split(delimiter.as_str()).collect();
                for (field, text) in fields.iter().zip(texts) {
                    let Some(value) = found.get(field.number) else {
                        return Err(format!("expected at least {} fields, got {}", field.number + 1, found.len()));
                    };
                    text.append_option(Some(value).filter(|value| !value.is_empty()));
                }
            }
            Self::Regex(regex) => {
                let Some(groups) = regex.captures(line) else { return Err("the pattern does not match".into()) };
                for (field, text) in fields.iter().zip(texts) {
                    text.append_option(
                        groups.get(field.number).map(|group| group.as_str()).filter(|value| !value.is_empty()),
                    );
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read_from_text() {
        let columns = parse_mappings("host:0, price:2:DECIMAL(10, 2), at : time : TIMESTAMP").unwrap();
        let fields: Vec<_> = columns.iter().map(|column| (column.name.as_str(), column.field.clone())).collect();
        let group = LineField::Group("time".into());
        assert_eq!(fields, [("host", LineField::Index(0)), ("price", LineField::Index(2)), ("at", group)]);
        assert_eq!(columns[0].data_type, None);
        assert_eq!(columns[1].data_type, Some(DataType::Decimal128(10, 2)));
        assert_eq!(
            parse_mappings("a").unwrap_err().to_string(),
            "mapping \"a\": expected name:field or name:field:TYPE"
        );
        assert!(
            parse_mappings("a:0:BLUB").unwrap_err().to_string().starts_with("mapping \"a:0:BLUB\": unknown type BLUB")
        );
    }
}
