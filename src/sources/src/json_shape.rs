//! Infers the type of a JSON column from all of its values.
//!
//! | values | type |
//! |---|---|
//! | integers | BIGINT; beyond int64 the first of unsigned BIGINT, DECIMAL(38, 0), DECIMAL(76, 0) that holds them all, else text |
//! | numbers | DOUBLE; text where that would change an integer, or a number would become infinite or zero |
//! | lists | a list of the type of their items |
//! | objects | a struct of all members that any of them has |
//! | several kinds, objects without members | text: any other value is its JSON as it is written |
//! | only null | NULL |

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};

use super::cell::float64;
use super::json_scan::{Cursor, Kind, Raw};

/// Integers up to here are exact in float64.
const EXACT_IN_FLOAT: u64 = 1 << 53;

/// Names in their order; lookup is fast for members in this order.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    names: Vec<String>,
    /// Each name in its usual quoted form.
    quoted: Vec<String>,
    positions: HashMap<String, usize>,
}

impl Names {
    /// Skips the name of the next member, which is expected to be the one at `guess`. Returns its
    /// index, or the name if it is unknown; `None` if the text is not valid JSON.
    #[inline]
    pub fn pass<'a>(&self, cursor: &mut Cursor<'a>, guess: usize) -> Option<Result<usize, Cow<'a, str>>> {
        if self.quoted.get(guess).is_some_and(|quoted| cursor.pass_name(quoted)) {
            return Some(Ok(guess));
        }
        let name = cursor.name()?.string()?;
        Some(self.positions.get(name.as_ref()).copied().ok_or(name))
    }

    /// Adds a name at the end.
    pub fn push(&mut self, name: &str) {
        self.positions.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        // A name with characters that have to be escaped never occurs in this form.
        self.quoted.push(format!("\"{name}\""));
    }

    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.names.iter()
    }
}

/// Common kind of the values of a column.
#[derive(Debug, Clone, Default)]
pub(super) enum Shape {
    /// Only null.
    #[default]
    Null,
    Bool,
    Number(Numbers),
    Text,
    List(Box<Shape>),
    Object(Members),
    /// Values of several kinds.
    Mixed,
}

/// The members of objects.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    names: Names,
    shapes: Vec<Shape>,
}

/// The numbers of a column.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    has_float: bool,
    /// True if a float64 would change one of the integers.
    has_large: bool,
    has_negative: bool,
    is_beyond_int64: bool,
    is_beyond_uint64: bool,
    /// Maximum number of digits of an integer that is larger.
    digits: usize,
    /// True if a float64 cannot represent one of the floats.
    has_unfit: bool,
}

impl Members {
    /// Adds the members of the next object. If `is_open` is false, a value of another kind does not
    /// change a type. Returns `None` if the text is not an object.
    pub fn add(&mut self, cursor: &mut Cursor<'_>, is_open: bool) -> Option<()> {
        cursor.open(b'{')?;
        let (mut is_first, mut guess) = (true, 0);
        while cursor.has_next(&mut is_first, b'}')? {
            let position = self.names.pass(cursor, guess)?.unwrap_or_else(|name| {
                self.names.push(&name);
                self.shapes.push(Shape::Null);
                self.shapes.len() - 1
            });
            self.shapes[position].add(cursor, is_open)?;
            guess = position + 1;
        }
        Some(())
    }

    /// Returns the members as columns.
    pub fn fields(&self) -> Fields {
        let field = |(name, shape): (&String, &Shape)| Field::new(name, shape.data_type(), true);
        self.names.iter().zip(&self.shapes).map(field).collect()
    }
}

impl Shape {
    /// Adds the next value.
    #[inline]
    fn add(&mut self, cursor: &mut Cursor<'_>, is_open: bool) -> Option<()> {
        let first = cursor.first()?;
        if matches!(self, Self::Null) {
            *self = match first {
                b'n' => Self::Null,
                b't' | b'f' => Self::Bool,
                b'"' => Self::Text,
                b'[' => Self::List(Box::default()),
                b'{' => Self::Object(Members::default()),
                _ => Self::Number(Numbers::default()),
            };
        }
        match (&mut *self, first) {
            (Self::List(item), b'[') => {
                cursor.open(b'[')?;
                let mut is_first = true;
                while cursor.has_next(&mut is_first, b']')? {
                    item.add(cursor, is_open)?;
                }
                return Some(());
            }
            (Self::Object(members), b'{') => return members.add(cursor, is_open),
            _ => {}
        }
        let value = cursor.value()?;
        match (&mut *self, value.kind) {
            (_, Kind::Null) | (Self::Mixed, _) | (Self::Bool, Kind::Bool) | (Self::Text, Kind::Text { .. }) => {}
            (Self::Number(numbers), Kind::Integer | Kind::Float) => numbers.add(&value),
            _ if is_open => *self = Self::Mixed,
            // The reader rejects the value, with its line.
            _ => {}
        }
        Some(())
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Number(numbers) => numbers.data_type(),
            Self::List(item) => DataType::List(Arc::new(Field::new_list_field(item.data_type(), true))),
            Self::Object(members) if !members.shapes.is_empty() => DataType::Struct(members.fields()),
            Self::Text | Self::Mixed | Self::Object(_) => DataType::Utf8,
        }
    }
}

impl Numbers {
    fn add(&mut self, value: &Raw<'_>) {
        if value.kind == Kind::Float {
            self.has_float = true;
            // Without an exponent, only numbers of hundreds of digits exceed a float64.
            let may_be_unfit = value.text.len() > 300 || value.text.bytes().any(|byte| matches!(byte, b'e' | b'E'));
            self.has_unfit |= may_be_unfit && float64(value.text).is_none();
            return;
        }
        let digits = value.text.strip_prefix('-').unwrap_or(value.text);
        self.has_negative |= digits.len() < value.text.len();
        // Most integers are short.
        if digits.len() < 16 {
            return;
        }
        if value.text.parse::<i64>().is_ok_and(|number| number.unsigned_abs() <= EXACT_IN_FLOAT) {
            return;
        }
        self.has_large = true;
        if value.text.parse::<i64>().is_err() {
            self.is_beyond_int64 = true;
            self.is_beyond_uint64 |= value.text.parse::<u64>().is_err();
            self.digits = self.digits.max(digits.len());
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self { has_unfit: true, .. } | Self { has_float: true, has_large: true, .. } => DataType::Utf8,
            Self { has_float: true, .. } => DataType::Float64,
            Self { is_beyond_int64: false, .. } => DataType::Int64,
            Self { is_beyond_uint64: false, has_negative: false, .. } => DataType::UInt64,
            Self { digits: ..=38, .. } => DataType::Decimal128(38, 0),
            Self { digits: ..=76, .. } => DataType::Decimal256(76, 0),
            _ => DataType::Utf8,
        }
    }
}
