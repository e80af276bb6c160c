//! The interface of a source database: describe a table, and read its rows in the order of its
//! clock.

use rusqlite::types::Value;
use serde::{Deserialize, Serialize};
use vexact_core::error::Result;
use vexact_core::schema::TableSchema;

use super::calendar::Civil;
use super::clock::{Bound, Clock};
use super::config::{DeleteDetection, TimestampTableConfig};

/// A database that is followed. Only one thread uses it; calls block. Nothing in it is ever
/// written.
pub(super) trait Source: Send {
    /// Returns the name of the source for messages, without a password.
    fn name(&self) -> &str;

    /// Begins a snapshot: what is read until [`Self::end`] is one state. Connects if there is no
    /// connection.
    fn begin(&mut self) -> Result<()>;

    /// Ends the snapshot.
    fn end(&mut self);

    /// Returns true if the last error was a lost connection, not an error of a table.
    fn is_lost(&self) -> bool;

    /// Describes a table as it is now.
    fn describe(&mut self, table: &TimestampTableConfig, name: &str, deletes: &DeleteDetection) -> Result<Described>;

    /// Returns a fingerprint of the schema: it changes whenever the result of [`Self::describe`]
    /// may change. It is cheap to read.
    fn mark(&mut self, table: &TimestampTableConfig) -> Result<Vec<Vec<Value>>>;

    /// Rows, in the order of the query's columns.
    fn select(&mut self, query: &Query) -> Result<Vec<Vec<Value>>>;
}

/// Description of a table.
#[derive(Debug)]
pub(super) struct Described {
    /// The schema of the replica.
    pub schema: TableSchema,
    /// The clock, as far as the declared type of its column determines it.
    pub clock: Clock,
    /// Some values of the clock, the greatest ones first, from which its kind is detected.
    pub sample: Vec<Value>,
    pub plan: Plan,
}

/// The expressions of the queries that read a table's rows.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The table, quoted.
    pub from: String,
    /// Expressions that are read of each row: the replicated columns, then `created_at`, the clock,
    /// and with soft deletes their column.
    pub select: Vec<String>,
    /// The clock and the key, by which rows are ordered, as they are compared.
    pub order: Vec<String>,
    /// The same, as they are read and bound again.
    pub cursor: Vec<String>,
    /// Syntax of the parameters that these are compared with.
    pub placeholder: Placeholder,
}

#[derive(Debug, Clone)]
pub(super) enum Placeholder {
    /// `?1`.
    Sqlite,
    /// `$1::type`, for each column of the order.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only a PostgreSQL source makes it"))]
    Postgres(Vec<String>),
}

/// Values of each of the two parts of a sample: the greatest ones, and any.
const SAMPLE: usize = 100;

/// The SELECT of a sample of a clock, which is read as `read` and compared as `clock`.
pub(super) fn sample(from: &str, read: &str, clock: &str) -> [String; 2] {
    let values = format!("SELECT {read} FROM {from} AS r WHERE {clock} IS NOT NULL");
    [format!("{values} ORDER BY {clock} DESC LIMIT {SAMPLE}"), format!("{values} LIMIT {SAMPLE}")]
}

/// One SELECT.
#[derive(Debug)]
pub(super) struct Query {
    pub sql: String,
    pub params: Vec<Value>,
}

/// Position of a row in the order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cursor {
    /// The clock, then the key.
    pub values: Vec<Value>,
}

/// A range of rows to read.
#[derive(Debug, Default)]
pub(super) struct Range<'r> {
    pub after: Option<&'r Cursor>,
    pub through: Option<&'r Cursor>,
    pub from: Option<Bound>,
    /// The clock's value is below this one.
    pub below: Option<Value>,
    /// The clock's value is at least this one.
    pub at_least: Option<Value>,
}

impl Plan {
    /// Returns the query for at most `limit` rows of a range, in order: the selected columns, then
    /// the cursor.
    pub fn rows(&self, range: &Range<'_>, limit: u32) -> Query {
        let (condition, params) = self.condition(range);
        let order = self.order.join(", ");
        let sql = format!(
            "SELECT {} FROM {} AS r WHERE {condition} ORDER BY {order} LIMIT {limit}",
            self.select.iter().chain(&self.cursor).cloned().collect::<Vec<_>>().join(", "),
            self.from
        );
        Query { sql, params }
    }

    /// The number of rows of a range.
    pub fn count(&self, range: &Range<'_>) -> Query {
        let (condition, params) = self.condition(range);
        Query { sql: format!("SELECT count(*) FROM {} AS r WHERE {condition}", self.from), params }
    }

    fn condition(&self, range: &Range<'_>) -> (String, Vec<Value>) {
        let mut params: Vec<Value> = Vec::new();
        let mut mark = |column: usize, value: &Value| match &self.placeholder {
            Placeholder::Sqlite => {
                params.push(value.clone());
                format!("?{}", params.len())
            }
            Placeholder::Postgres(types) => {
                params.push(postgres_parameter(value, &types[column]));
                format!("${}::{}", params.len(), types[column])
            }
        };
        let clock = &self.order[0];
        let mut conditions = vec![format!("{clock} IS NOT NULL")];
        for (cursor, comparison) in [(range.after, ">"), (range.through, "<=")] {
            let Some(cursor) = cursor else { continue };
            let marks: Vec<String> = cursor.values.iter().enumerate().map(|(at, value)| mark(at, value)).collect();
            conditions.push(format!("({}) {comparison} ({})", self.order.join(", "), marks.join(", ")));
        }
        for (value, comparison) in [(&range.below, "<"), (&range.at_least, ">=")] {
            if let Some(value) = value {
                conditions.push(format!("{clock} {comparison} {}", mark(0, value)));
            }
        }
        if let Some(bound) = &range.from {
            let mut any = vec![format!("{clock} >= {}", mark(0, &bound.at_least))];
            if let Some((low, high)) = &bound.or_between {
                any.push(format!("{clock} > {} AND {clock} < {}", mark(0, low), mark(0, high)));
            }
            if matches!((&bound.at_least, &self.placeholder), (Value::Text(_), Placeholder::Sqlite)) {
                // Numbers sort before texts and are invalid in a text clock: they are read and
                // rejected.
                any.push(format!("{clock} < ''"));
            }
            conditions.push(format!("({})", any.join(" OR ")));
        }
        (conditions.join(" AND "), params)
    }
}

/// A value as JSON, with reals exact to the bit.
#[derive(Serialize, Deserialize)]
enum Stored {
    Null,
    Integer(i64),
    RealBits(u64),
    Text(String),
    Blob(Vec<u8>),
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let stored = |value: &Value| match value {
            Value::Null => Stored::Null,
            Value::Integer(integer) => Stored::Integer(*integer),
            Value::Real(real) => Stored::RealBits(real.to_bits()),
            Value::Text(text) => Stored::Text(text.clone()),
            Value::Blob(bytes) => Stored::Blob(bytes.clone()),
        };
        self.values.iter().map(stored).collect::<Vec<_>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = |stored| match stored {
            Stored::Null => Value::Null,
            Stored::Integer(integer) => Value::Integer(integer),
            Stored::RealBits(bits) => Value::Real(f64::from_bits(bits)),
            Stored::Text(text) => Value::Text(text),
            Stored::Blob(bytes) => Value::Blob(bytes),
        };
        Ok(Self { values: Vec::<Stored>::deserialize(deserializer)?.into_iter().map(value).collect() })
    }
}

/// A value as the text that PostgreSQL casts to a type.
fn postgres_parameter(value: &Value, column_type: &str) -> Value {
    let is_time = column_type.starts_with("timestamp") || column_type.starts_with("date");
    Value::Text(match value {
        Value::Null => return Value::Null,
        Value::Integer(i64::MAX) if is_time => "infinity".into(),
        Value::Integer(i64::MIN) if is_time => "-infinity".into(),
        Value::Integer(micros) if is_time => Civil::at(*micros).timestamp(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) if real.is_infinite() => if *real > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_as_text() {
        let values = vec![
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Real(0.1),
            Value::Real(f64::INFINITY),
            Value::Text("é\"".into()),
            Value::Blob(vec![0, 255]),
        ];
        let cursor = Cursor { values };
        let text = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
    }
}
