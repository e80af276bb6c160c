//! The correspondence of types in SQLite, in Arrow and in the type strings of [`TableSchema`].

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::{Error, Result};

/// Names that the temporal mode adds to every table.
const RESERVED: [&str; 3] = ["_valid_from", "_valid_to", "_operation"];

/// Type of a vector's components.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VectorElement {
    /// Little-endian float32, in SQLite and in the replica.
    Float32,
    /// Little-endian float32 in SQLite, rounded to 16 bits in the replica.
    Float16,
    /// A byte with a sign, in SQLite and in the replica.
    Int8,
    /// A byte without a sign, in SQLite and in the replica.
    UInt8,
    /// A bit, in SQLite and in the replica: component `i` is bit `i % 8`, counted from the least
    /// significant, of byte `i / 8`.
    Bit,
}

impl VectorElement {
    /// Returns the length of the BLOB of `dim` components in SQLite.
    pub fn stored_bytes(self, dim: usize) -> usize {
        match self {
            Self::Float32 | Self::Float16 => 4 * dim,
            Self::Int8 | Self::UInt8 => dim,
            Self::Bit => dim / 8,
        }
    }
}

/// The type of a registered column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// −128 to 127.
    Int8,
    /// 16 bits, signed.
    Int16,
    /// 32 bits, signed.
    Int32,
    /// 64 bits, signed: every SQLite integer.
    Int64,
    /// 0 to 255.
    UInt8,
    /// 16 bits, unsigned.
    UInt16,
    /// 32 bits, unsigned.
    UInt32,
    /// 64 bits, unsigned; SQLite's integers end at 2^63 − 1.
    UInt64,
    /// SQLite's REAL rounded to 16 bits.
    Float16,
    /// SQLite's REAL rounded to 32 bits.
    Float32,
    /// SQLite's REAL.
    Float64,
    /// Text in UTF-8.
    Utf8,
    /// The integers 0 and 1.
    Boolean,
    /// A BLOB.
    Binary,
    /// A BLOB of `dim` components; in Arrow a `FixedSizeList` of `dim`, or a `FixedSizeBinary` of
    /// `dim` bits.
    Vector {
        /// Type of the components.
        element: VectorElement,
        /// Number of components, at least 1; of bits a multiple of 8.
        dim: usize,
    },
}

impl ColumnType {
    /// Reads a type string, in any case: `int8`, `int16`, `int32|int`, `int64|bigint`, `uint8`,
    /// `uint16`, `uint32`, `uint64`, `float16|half`, `float32|float`, `float64|double`,
    /// `utf8|string|text`, `bool|boolean`, `binary|bytes`, and the vectors `vector(N)|float32[N]`,
    /// `float16[N]`, `int8[N]`, `uint8[N]`, `bit[N]`.
    ///
    /// # Errors
    /// `unknown type: X`; a vector without components, or with more than Arrow can count; bits that
    /// do not fill whole bytes.
    pub fn parse(text: &str) -> Result<Self> {
        let lower = text.trim().to_ascii_lowercase();
        Ok(match lower.as_str() {
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" | "int" => Self::Int32,
            "int64" | "bigint" => Self::Int64,
            "uint8" => Self::UInt8,
            "uint16" => Self::UInt16,
            "uint32" => Self::UInt32,
            "uint64" => Self::UInt64,
            "float16" | "half" => Self::Float16,
            "float32" | "float" => Self::Float32,
            "float64" | "double" => Self::Float64,
            "utf8" | "string" | "text" => Self::Utf8,
            "bool" | "boolean" => Self::Boolean,
            "binary" | "bytes" => Self::Binary,
            _ => return Self::parse_vector(&lower, text),
        })
    }

    fn parse_vector(lower: &str, text: &str) -> Result<Self> {
        let unknown = || Error::InvalidArgument(format!("unknown type: {text}"));
        let bracketed = |element, name: &str, open, close| {
            let dim = lower.strip_prefix(name)?.trim_start().strip_prefix(open)?.strip_suffix(close)?.trim();
            (!dim.is_empty() && dim.bytes().all(|byte| byte.is_ascii_digit())).then_some((element, dim))
        };
        let (element, dim) = bracketed(VectorElement::Float32, "vector", '(', ')')
            .or_else(|| bracketed(VectorElement::Float32, "float32", '[', ']'))
            .or_else(|| bracketed(VectorElement::Float16, "float16", '[', ']'))
            .or_else(|| bracketed(VectorElement::Int8, "int8", '[', ']'))
            .or_else(|| bracketed(VectorElement::UInt8, "uint8", '[', ']'))
            .or_else(|| bracketed(VectorElement::Bit, "bit", '[', ']'))
            .ok_or_else(unknown)?;
        match dim.parse::<i32>() {
            Ok(dim) if element == VectorElement::Bit && dim % 8 != 0 => {
                Err(Error::InvalidArgument(format!("type {text}: expected a multiple of 8 bits, got {dim}")))
            }
            Ok(dim) if dim > 0 => Ok(Self::Vector { element, dim: dim as usize }),
            _ => Err(Error::InvalidArgument(format!(
                "type {text}: expected a dimension from 1 to {}, got {dim}",
                i32::MAX
            ))),
        }
    }

    /// Returns the SQLite declaration of a column of this type.
    pub fn sqlite(&self) -> &'static str {
        match self {
            Self::Float16 | Self::Float32 | Self::Float64 => "REAL",
            Self::Utf8 => "TEXT",
            Self::Boolean => "BOOLEAN",
            Self::Binary | Self::Vector { .. } => "BLOB",
            _ => "INTEGER",
        }
    }

    /// Returns the Arrow type, which is the same on both routes of a query.
    pub fn arrow(&self) -> DataType {
        match self {
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float16 => DataType::Float16,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Utf8 => DataType::Utf8,
            Self::Boolean => DataType::Boolean,
            Self::Binary => DataType::Binary,
            Self::Vector { element, dim } => {
                let item = match element {
                    VectorElement::Float32 => DataType::Float32,
                    VectorElement::Float16 => DataType::Float16,
                    VectorElement::Int8 => DataType::Int8,
                    VectorElement::UInt8 => DataType::UInt8,
                    VectorElement::Bit => return DataType::FixedSizeBinary((*dim / 8) as i32),
                };
                DataType::FixedSizeList(Arc::new(Field::new_list_field(item, true)), *dim as i32)
            }
        }
    }

    /// Returns the type that has this Arrow type ([`Self::arrow`]), ignoring list fields' names and
    /// nullability. Returns `None` for other types of Arrow.
    pub fn of_arrow(arrow: &DataType) -> Option<Self> {
        Some(match arrow {
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::UInt8 => Self::UInt8,
            DataType::UInt16 => Self::UInt16,
            DataType::UInt32 => Self::UInt32,
            DataType::UInt64 => Self::UInt64,
            DataType::Float16 => Self::Float16,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Utf8 => Self::Utf8,
            DataType::Boolean => Self::Boolean,
            DataType::Binary => Self::Binary,
            DataType::FixedSizeList(item, dim) if *dim > 0 => {
                let element = match item.data_type() {
                    DataType::Float32 => VectorElement::Float32,
                    DataType::Float16 => VectorElement::Float16,
                    DataType::Int8 => VectorElement::Int8,
                    DataType::UInt8 => VectorElement::UInt8,
                    _ => return None,
                };
                Self::Vector { element, dim: *dim as usize }
            }
            DataType::FixedSizeBinary(bytes) if *bytes > 0 => {
                Self::Vector { element: VectorElement::Bit, dim: 8 * *bytes as usize }
            }
            _ => return None,
        })
    }

    /// Returns the least and greatest integer of an integer type, within the range of SQLite's
    /// integers.
    pub fn integer_range(&self) -> Option<(i64, i64)> {
        Some(match self {
            Self::Int8 => (i8::MIN.into(), i8::MAX.into()),
            Self::Int16 => (i16::MIN.into(), i16::MAX.into()),
            Self::Int32 => (i32::MIN.into(), i32::MAX.into()),
            Self::Int64 => (i64::MIN, i64::MAX),
            Self::UInt8 => (0, u8::MAX.into()),
            Self::UInt16 => (0, u16::MAX.into()),
            Self::UInt32 => (0, u32::MAX.into()),
            Self::UInt64 => (0, i64::MAX),
            Self::Boolean => (0, 1),
            _ => return None,
        })
    }

    /// Returns the type and the values it takes, for messages: `int8 (-128 to 127)`.
    pub fn expected(&self) -> String {
        match self {
            Self::Int64 => "int64 (an integer)".into(),
            Self::Boolean => "bool (the integer 0 or 1)".into(),
            Self::Float16 => "float16 (a number within 65519)".into(),
            Self::Float32 => "float32 (a number within 3.4028235e38)".into(),
            Self::Float64 => "float64 (a number)".into(),
            Self::Utf8 => "utf8 (text)".into(),
            Self::Binary => "binary (a BLOB)".into(),
            Self::Vector { element: VectorElement::Float32 | VectorElement::Float16, dim } => format!(
                "{self} (a BLOB of {dim} little-endian float32, {} bytes, as the SQL function vector('[1,2,3]') makes)",
                4 * dim
            ),
            Self::Vector { element, dim } => format!("{self} (a BLOB of {} bytes)", element.stored_bytes(*dim)),
            integer => match integer.integer_range() {
                Some((least, greatest)) => format!("{integer} (an integer from {least} to {greatest})"),
                None => integer.to_string(),
            },
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::UInt8 => "uint8",
            Self::UInt16 => "uint16",
            Self::UInt32 => "uint32",
            Self::UInt64 => "uint64",
            Self::Float16 => "float16",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Utf8 => "utf8",
            Self::Boolean => "bool",
            Self::Binary => "binary",
            Self::Vector { element: VectorElement::Float32, dim } => return write!(f, "vector({dim})"),
            Self::Vector { element: VectorElement::Float16, dim } => return write!(f, "float16[{dim}]"),
            Self::Vector { element: VectorElement::Int8, dim } => return write!(f, "int8[{dim}]"),
            Self::Vector { element: VectorElement::UInt8, dim } => return write!(f, "uint8[{dim}]"),
            Self::Vector { element: VectorElement::Bit, dim } => return write!(f, "bit[{dim}]"),
        })
    }
}

/// Returns the type of a SQLite column that is not registered, by its declaration: a vector's type
/// string, `BOOL..`, else SQLite's affinity (integer, text, BLOB, real). Returns `None` for NUMERIC
/// (DECIMAL, DATE, ...) and without a declaration: the type then depends on the values.
pub fn declared(declaration: Option<&str>) -> Option<ColumnType> {
    let declaration = declaration?;
    if let Ok(vector @ ColumnType::Vector { .. }) = ColumnType::parse(declaration) {
        return Some(vector);
    }
    let upper = declaration.to_ascii_uppercase();
    let has = |part: &str| upper.contains(part);
    // The order is SQLite's: "FLOATING POINT" is an integer.
    if has("INT") {
        Some(ColumnType::Int64)
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Some(ColumnType::Utf8)
    } else if has("BLOB") {
        Some(ColumnType::Binary)
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Some(ColumnType::Float64)
    } else {
        upper.trim_start().starts_with("BOOL").then_some(ColumnType::Boolean)
    }
}

/// A registered column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    /// Name in SQLite, ignoring ASCII case.
    pub name: String,
    /// Type of the column's values.
    pub column_type: ColumnType,
}

/// Returns true if a name is one of SQLite's names for the row id. A column of the same name hides
/// the row id.
pub fn is_row_id_name(name: &str) -> bool {
    ["rowid", "oid", "_rowid_"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The replicated part of a table: its columns, in order, and the key that identifies a row. Names
/// compare as in SQLite, ignoring ASCII case. Key columns are never NULL; the others may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableSchema {
    name: String,
    columns: Vec<Column>,
    key: Vec<usize>,
}

impl TableSchema {
    /// Creates a schema of `(name, type string)` columns, see [`ColumnType::parse`], and the names
    /// of the key columns. The key `rowid`, `oid` or `_rowid_` that is no column is SQLite's row
    /// id, which becomes a column after the others.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: an empty or reserved name, one with a NUL character, an unknown type, no columns, a duplicate column, no key, a key
    /// column that is unknown, named twice, or of a type that rounds (float16, float32, vectors):
    /// distinct keys must stay so.
    pub fn try_new(name: &str, columns: &[(String, String)], key: &[String]) -> Result<Self> {
        let typed = columns.iter().map(|(column, text)| {
            let column_type = ColumnType::parse(text).map_err(|error| match error {
                Error::InvalidArgument(problem) => Error::InvalidArgument(format!("{name}.{column}: {problem}")),
                other => other,
            })?;
            Ok(Column { name: column.clone(), column_type })
        });
        let mut columns = typed.collect::<Result<Vec<Column>>>()?;
        if let [key] = key
            && is_row_id_name(key)
            && !columns.iter().any(|column| column.name.eq_ignore_ascii_case(key))
        {
            columns.push(Column { name: key.to_ascii_lowercase(), column_type: ColumnType::Int64 });
        }
        Self::of_columns(name, columns, key)
    }

    /// Creates a schema of typed columns.
    ///
    /// # Errors
    /// As [`Self::try_new`].
    pub fn of_columns(name: &str, columns: Vec<Column>, key: &[String]) -> Result<Self> {
        let refused = |problem: String| Err(Error::InvalidArgument(format!("table {name:?}: {problem}")));
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || lower.starts_with("_vexact_") || lower.starts_with("sqlite_") {
            return refused("expected a name that is not empty and does not begin with _vexact_ or sqlite_".into());
        }
        if name.contains('\0') {
            return refused("expected a name without NUL characters".into());
        }
        if columns.is_empty() {
            return refused("expected at least one column, got none".into());
        }
        for (at, column) in columns.iter().enumerate() {
            if column.name.is_empty() || RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(&column.name)) {
                return refused(format!("column name {:?} is reserved", column.name));
            }
            if column.name.contains('\0') {
                return refused(format!("column {:?}: expected a name without NUL characters", column.name));
            }
            if columns[..at].iter().any(|before| before.name.eq_ignore_ascii_case(&column.name)) {
                return refused(format!("duplicate column {:?}", column.name));
            }
        }
        if key.is_empty() {
            return refused("expected at least one key column, got none".into());
        }
        let mut positions = Vec::with_capacity(key.len());
        for wanted in key {
            let Some(at) = columns.iter().position(|column| column.name.eq_ignore_ascii_case(wanted)) else {
                let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
                return refused(format!("unknown key column {wanted:?}: expected one of [{}]", names.join(", ")));
            };
            if positions.contains(&at) {
                return refused(format!("duplicate key column {wanted:?}"));
            }
            let column_type = columns[at].column_type;
            if matches!(column_type, ColumnType::Float16 | ColumnType::Float32 | ColumnType::Vector { .. }) {
                return refused(format!(
                    "key column {wanted:?}: expected a type that keeps keys apart, got {column_type}"
                ));
            }
            positions.push(at);
        }
        Ok(Self { name: name.into(), columns, key: positions })
    }

    /// Returns the table's name, as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the columns, in the order given.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Returns the positions of the key columns in [`Self::columns`], in the key's order; never
    /// empty.
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// Returns the key columns, in the key's order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().map(|at| &self.columns[*at])
    }

    /// Returns the position of a column, ignoring ASCII case.
    pub fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|known| known.name.eq_ignore_ascii_case(column))
    }

    /// Returns the replica's Arrow schema; key columns are not nullable.
    pub fn arrow(&self) -> SchemaRef {
        let field = |(at, column): (usize, &Column)| {
            Field::new(&column.name, column.column_type.arrow(), !self.key.contains(&at))
        };
        Arc::new(Schema::new(self.columns.iter().enumerate().map(field).collect::<Vec<_>>()))
    }

    /// Returns true if both describe the same table, ignoring the ASCII case of names.
    pub fn is_same(&self, other: &TableSchema) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            && self.key == other.key
            && self.columns.len() == other.columns.len()
            && self.columns.iter().zip(&other.columns).all(|(left, right)| {
                left.name.eq_ignore_ascii_case(&right.name) && left.column_type == right.column_type
            })
    }
}

/// `docs(id int64, body utf8; key id)`.
impl fmt::Display for TableSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> =
            self.columns.iter().map(|column| format!("{} {}", column.name, column.column_type)).collect();
        let key: Vec<_> = self.key_columns().map(|column| column.name.as_str()).collect();
        write!(f, "{}({}; key {})", self.name, columns.join(", "), key.join(", "))
    }
}

#[cfg(test)]
mod tests;
