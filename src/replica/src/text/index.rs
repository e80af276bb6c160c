//! Definition of a text index, and how the keys of its rows are stored.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use vexact_core::error::{Error, Result};

use crate::version::{Definition, SyncMode};

/// How text is split into the terms of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tokenizer {
    /// Words of Unicode letters and digits, without case and diacritics.
    #[default]
    Unicode61,
    /// As [`Self::Unicode61`], reduced to English stems.
    Porter,
    /// All sequences of three characters: substrings, and languages without spaces.
    Trigram,
}

impl Tokenizer {
    const ALL: [Self; 3] = [Self::Unicode61, Self::Porter, Self::Trigram];

    /// Returns the name that users give.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unicode61 => "unicode61",
            Self::Porter => "porter",
            Self::Trigram => "trigram",
        }
    }

    /// Returns the definition for FTS5.
    pub(super) fn fts5(self) -> &'static str {
        match self {
            Self::Unicode61 => "unicode61 remove_diacritics 2",
            Self::Porter => "porter unicode61 remove_diacritics 2",
            Self::Trigram => "trigram",
        }
    }
}

impl fmt::Display for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Tokenizer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|tokenizer| tokenizer.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::InvalidArgument(format!("tokenizer: expected unicode61, porter or trigram, got {name:?}"))
        })
    }
}

/// A column whose text is indexed. Names are compared as SQLite does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextColumn {
    /// Name of the table.
    pub table: String,
    /// Name of the column.
    pub column: String,
    /// How its text is split into terms.
    pub tokenizer: Tokenizer,
}

impl TextColumn {
    /// Returns true if it is this column of this table.
    pub fn is(&self, table: &str, column: &str) -> bool {
        self.table.eq_ignore_ascii_case(table) && self.column.eq_ignore_ascii_case(column)
    }
}

/// A text index in a file.
#[derive(Debug, Clone)]
pub(super) struct TextIndex {
    /// Its number in the file.
    pub id: i64,
    pub column: TextColumn,
    /// Columns of the replica that the content was made of; `None` if there is no content.
    pub source: Option<Source>,
}

impl TextIndex {
    /// Name of the FTS5 table.
    pub fn terms(&self) -> String {
        format!("terms_{}", self.id)
    }

    /// Name of the table of keys.
    pub fn keys(&self) -> String {
        format!("keys_{}", self.id)
    }
}

/// Columns of a replica that an index is made of.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Ordinal of the text column.
    pub text: usize,
    /// Ordinals of the key's columns.
    pub key: Vec<usize>,
    /// The key's columns.
    pub fields: SchemaRef,
    /// Encodes keys as BLOBs that sort as keys do; `None` if the key is one integer, which is the
    /// row id of the index.
    encoder: Option<Arc<RowConverter>>,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        (self.text, &self.key, &self.fields) == (other.text, &other.key, &other.fields)
    }
}

/// Number or bytes by which an index knows a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum DocumentKey {
    Integer(i64),
    Bytes(Box<[u8]>),
}

impl Source {
    /// Returns the columns of a replica for an index.
    ///
    /// # Errors
    /// A column that does not exist or is not text; a history.
    pub fn of(definition: &Definition, column: &str) -> Result<Self> {
        let refused = |problem: String| Err(Error::InvalidArgument(problem));
        if definition.mode == SyncMode::Temporal {
            return refused(format!(
                "table {:?}: a text index needs sync_mode \"destructive\", got \"temporal\"",
                definition.name
            ));
        }
        let fields = definition.schema.fields();
        let Some(text) = fields.iter().position(|field| field.name().eq_ignore_ascii_case(column)) else {
            let texts = fields.iter().filter(|field| field.data_type() == &DataType::Utf8);
            let texts: Vec<&str> = texts.map(|field| field.name().as_str()).collect();
            return refused(format!(
                "column {column:?} not found in table {:?}: expected one of its text columns [{}]",
                definition.name,
                texts.join(", ")
            ));
        };
        if fields[text].data_type() != &DataType::Utf8 {
            return refused(format!(
                "column {column:?} of table {:?}: expected text, got {}",
                definition.name,
                fields[text].data_type()
            ));
        }
        let key = definition.key.clone();
        let own: Vec<Arc<Field>> = key.iter().map(|column| Arc::clone(&fields[*column])).collect();
        let encoder = match &own[..] {
            [field] if field.data_type().is_integer() => None,
            own => {
                let sorted = own.iter().map(|field| SortField::new(field.data_type().clone())).collect();
                Some(Arc::new(RowConverter::new(sorted).map_err(Error::arrow)?))
            }
        };
        Ok(Self { text, key, fields: Arc::new(Schema::new(own)), encoder })
    }

    /// Returns true if the key is the row id of the index.
    pub fn is_by_row_id(&self) -> bool {
        self.encoder.is_none()
    }

    /// Encodes keys: the key's columns, in the key's order.
    pub fn encode(&self, keys: &[ArrayRef]) -> Result<Vec<DocumentKey>> {
        match &self.encoder {
            None => {
                let ids = cast(&keys[0], &DataType::Int64).map_err(Error::arrow)?;
                Ok(ids.as_primitive::<Int64Type>().values().iter().map(|id| DocumentKey::Integer(*id)).collect())
            }
            Some(encoder) => {
                let keys: Vec<ArrayRef> = keys.iter().map(one_zero).collect();
                let rows = encoder.convert_columns(&keys).map_err(Error::arrow)?;
                Ok(rows.iter().map(|row| DocumentKey::Bytes(row.as_ref().into())).collect())
            }
        }
    }

    /// Decodes keys into the key's columns.
    pub fn decode(&self, keys: &[DocumentKey]) -> Result<RecordBatch> {
        let columns = match &self.encoder {
            None => {
                let ids = keys.iter().map(|key| match key {
                    DocumentKey::Integer(id) => Some(*id),
                    DocumentKey::Bytes(_) => None,
                });
                let ids: ArrayRef = Arc::new(ids.collect::<arrow::array::Int64Array>());
                vec![cast(&ids, self.fields.field(0).data_type()).map_err(Error::arrow)?]
            }
            Some(encoder) => {
                let parser = encoder.parser();
                let rows = keys.iter().filter_map(|key| match key {
                    DocumentKey::Bytes(bytes) => Some(parser.parse(bytes)),
                    DocumentKey::Integer(_) => None,
                });
                encoder.convert_rows(rows).map_err(Error::arrow)?
            }
        };
        RecordBatch::try_new(Arc::clone(&self.fields), columns).map_err(Error::arrow)
    }
}

/// A key has one zero, as in SQLite.
fn one_zero(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            Arc::new(values.iter().map(|value| value.map(|value| value + 0.0)).collect::<Float64Array>())
        }
        _ => Arc::clone(column),
    }
}
