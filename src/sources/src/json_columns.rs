//! Converts JSON objects to rows of columns.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Fields, SchemaRef};
use vexact_core::error::{Error, Result};

use super::describe;
use super::json_scan::{Cursor, Kind, Raw};
use super::json_shape::Names;
use super::json_values::{Column, column, push};

/// The members of objects as columns.
pub(super) struct Members {
    /// Names of all possible members.
    names: Names,
    /// Index of each name's column; `None` if it is not read.
    places: Vec<Option<usize>>,
    pub columns: Vec<Box<dyn Column>>,
    /// For each name, the number of the last object that had it.
    last: Vec<u64>,
    count: u64,
    /// True if objects may have other members, which are not read.
    is_open: bool,
}

/// Defect of an object.
pub(super) enum Bad {
    /// The text is not an object.
    Text,
    /// A member that is not one of the columns.
    Unknown(String),
    /// A member that occurs twice.
    Twice(String),
    /// A value of another type than its column; the column's index.
    Value(usize),
}

impl Members {
    /// Adds the object at the cursor.
    pub fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Bad> {
        self.count += 1;
        cursor.open(b'{').ok_or(Bad::Text)?;
        let (mut is_first, mut guess) = (true, 0);
        while cursor.has_next(&mut is_first, b'}').ok_or(Bad::Text)? {
            let place = match self.names.pass(cursor, guess).ok_or(Bad::Text)? {
                Ok(place) => place,
                Err(name) => {
                    cursor.value().filter(|_| self.is_open).ok_or_else(|| Bad::Unknown(name.into_owned()))?;
                    continue;
                }
            };
            guess = place + 1;
            if std::mem::replace(&mut self.last[place], self.count) == self.count {
                return Err(Bad::Twice(self.names.iter().nth(place).cloned().unwrap_or_default()));
            }
            match self.places[place] {
                None => cursor.value().map(|_| ()).ok_or(Bad::Text)?,
                Some(column) => push(self.columns[column].as_mut(), cursor).ok_or(Bad::Value(place))?,
            }
        }
        for (place, last) in self.last.iter().enumerate() {
            if let (true, Some(column)) = (*last != self.count, self.places[place]) {
                self.columns[column].push_null();
            }
        }
        Ok(())
    }
}

/// Rows that are being read, as builders of columns.
pub(super) struct JsonRows {
    members: Members,
    all: SchemaRef,
    schema: SchemaRef,
    rows: usize,
}

impl JsonRows {
    /// Creates rows with some columns of a table. Objects may have other members if `is_open`.
    pub fn new(all: &SchemaRef, columns: &[usize], is_open: bool) -> Result<Self> {
        let schema = Arc::new(all.project(columns).map_err(Error::arrow)?);
        let mut members = members(all.fields(), is_open)?;
        let mut read: Vec<Option<Box<dyn Column>>> = members.columns.drain(..).map(Some).collect();
        members.places.fill(None);
        for (place, column) in columns.iter().enumerate() {
            members.places[*column] = Some(place);
            members.columns.extend(read[*column].take());
        }
        Ok(Self { members, all: Arc::clone(all), schema, rows: 0 })
    }

    /// Returns the number of rows so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Adds an object.
    ///
    /// # Errors
    /// The defect of the object; `None` if the text is not an object.
    pub fn push(&mut self, text: &str) -> Result<(), Option<String>> {
        self.rows += 1;
        let mut cursor = Cursor::new(text);
        let bad = match self.members.push(&mut cursor) {
            Ok(()) if cursor.is_at_end() => return Ok(()),
            Ok(()) => Bad::Text,
            Err(bad) => bad,
        };
        // A text that is not valid JSON is reported before any other defect.
        if !Cursor::whole(text).is_some_and(|value| value.kind == Kind::Object) {
            return Err(None);
        }
        Err(match bad {
            Bad::Text => None,
            Bad::Unknown(name) => {
                Some(format!("column {name:?}: expected a column of the file as it was, got another one"))
            }
            Bad::Twice(name) => Some(format!("column {name:?}: expected one value, got two")),
            Bad::Value(place) => {
                let field = self.all.field(place);
                let got = member(text, field.name()).map_or("another", |value| value.text);
                Some(format!("column {:?}: expected {}, got {}", field.name(), field.data_type(), describe::cut(got)))
            }
        })
    }

    /// Returns the rows so far, and clears them.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let columns = self.members.columns.iter_mut().map(|column| column.finish()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(Error::arrow)
    }
}

/// Returns the value of a member of an object.
fn member<'a>(text: &'a str, expected: &str) -> Option<Raw<'a>> {
    let mut cursor = Cursor::new(text);
    cursor.open(b'{')?;
    let mut is_first = true;
    while cursor.has_next(&mut is_first, b'}')? {
        let is_it = cursor.name()?.string()? == expected;
        let value = cursor.value()?;
        if is_it {
            return Some(value);
        }
    }
    None
}

/// Creates the members that have these fields.
pub(super) fn members(fields: &Fields, is_open: bool) -> Result<Members> {
    let mut names = Names::default();
    fields.iter().for_each(|field| names.push(field.name()));
    let columns = fields.iter().map(|field| column(field.data_type())).collect::<Result<Vec<_>>>()?;
    let places = (0..fields.len()).map(Some).collect();
    Ok(Members { names, places, columns, last: vec![0; fields.len()], count: 0, is_open })
}
