//! Reads a table's columns from PostgreSQL's catalog, and maps their types to those of a replica:
//!
//! | in PostgreSQL | in the replica |
//! |---|---|
//! | smallint, integer, bigint | int16, int32, int64 |
//! | real, double precision | float32, float64 |
//! | numeric | float64, rounded; in a key utf8, exact |
//! | boolean, bytea | bool, binary |
//! | timestamp (taken as UTC), timestamptz, date | int64: microseconds since the Unix epoch; infinity is the last or first |
//! | real[], double precision[], pgvector's vector and halfvec | a vector, where all have one length |
//! | everything else | utf8: PostgreSQL's own text of it |

use rusqlite::types::Value;
use vexact_core::error::{Error, Result};
use vexact_core::schema::{Column, ColumnType, TableSchema, VectorElement};
use vexact_core::sql::ident;

use super::PostgresSource;
use crate::clock::{Clock, Unit};
use crate::columns::{check_types, find, wanted};
use crate::config::{DeleteDetection, TimestampTableConfig};
use crate::source::{Described, Placeholder, Plan, sample};

/// A column as the server describes it.
struct Known {
    name: String,
    /// The type's short name: `int4`, `timestamptz`, `_float4`.
    type_name: String,
    /// The type as it is written, with its modifier: `character varying(5)`.
    written: String,
}

const COLUMNS: &str = "SELECT a.attname::text, b.typname::text,
        format_type(b.oid, CASE WHEN t.typbasetype <> 0 THEN t.typtypmod ELSE a.atttypmod END)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        JOIN pg_type b ON b.oid = CASE WHEN t.typbasetype <> 0 THEN t.typbasetype ELSE t.oid END
    WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

impl Known {
    fn of(&self) -> String {
        format!("r.{}", ident(&self.name))
    }

    /// Returns true if the column is read without a cast.
    fn is_plain(&self) -> bool {
        matches!(
            self.type_name.as_str(),
            "bool"
                | "int2"
                | "int4"
                | "int8"
                | "float4"
                | "float8"
                | "text"
                | "varchar"
                | "bytea"
                | "timestamp"
                | "timestamptz"
                | "date"
        )
    }

    fn is_text(&self) -> bool {
        matches!(self.type_name.as_str(), "text" | "varchar" | "bpchar")
    }

    /// Returns the SQL that reads an expression of this type.
    fn read(&self, expression: &str, is_key: bool) -> String {
        match self.type_name.as_str() {
            _ if self.is_plain() => expression.to_owned(),
            "numeric" if !is_key => format!("({expression})::float8"),
            "_float4" | "_float8" | "vector" | "halfvec" => format!("({expression})::real[]"),
            _ => format!("({expression})::text"),
        }
    }

    /// Returns the column's type in a replica; returns `None` for a vector whose length is not
    /// declared.
    fn column_type(&self, is_key: bool) -> Option<ColumnType> {
        Some(match self.type_name.as_str() {
            "bool" => ColumnType::Boolean,
            "int2" => ColumnType::Int16,
            "int4" => ColumnType::Int32,
            "int8" | "timestamp" | "timestamptz" | "date" => ColumnType::Int64,
            "float4" => ColumnType::Float32,
            "float8" => ColumnType::Float64,
            "numeric" if !is_key => ColumnType::Float64,
            "bytea" => ColumnType::Binary,
            "vector" => ColumnType::parse(&self.written).ok()?,
            "halfvec" => match ColumnType::parse(&self.written.replacen("halfvec", "vector", 1)).ok()? {
                ColumnType::Vector { dim, .. } => ColumnType::Vector { element: VectorElement::Float16, dim },
                _ => return None,
            },
            "_float4" | "_float8" => return None,
            _ => ColumnType::Utf8,
        })
    }

    /// Returns the type to which a text is cast when it is compared with this column.
    fn cast(&self) -> String {
        // A cast to the declared type would truncate the text before the comparison.
        if self.is_text() { "text".into() } else { self.written.clone() }
    }
}

/// The name of a table in quotes, with its schema if it has one.
fn quoted(table: &str) -> String {
    table.split('.').map(ident).collect::<Vec<_>>().join(".")
}

/// The columns that a table has, as the server describes them.
pub(super) fn known(source: &mut PostgresSource, table: &TimestampTableConfig) -> Result<Vec<Vec<Value>>> {
    source.query_catalog(COLUMNS, &[Value::Text(quoted(&table.table_name))])
}

pub(super) fn describe(
    source: &mut PostgresSource,
    table: &TimestampTableConfig,
    name: &str,
    deletes: &DeleteDetection,
) -> Result<Described> {
    let from = quoted(&table.table_name);
    let rows = known(source, table)?;
    if rows.is_empty() {
        return Err(Error::Engine(format!("no such table in the source: {}", table.table_name)));
    }
    let text = |value: Option<Value>| match value {
        Some(Value::Text(text)) => text,
        _ => String::new(),
    };
    let known = |row: Vec<Value>| {
        let mut row = row.into_iter();
        Known { name: text(row.next()), type_name: text(row.next()), written: text(row.next()) }
    };
    let known: Vec<Known> = rows.into_iter().map(known).collect();
    let names: Vec<&str> = known.iter().map(|column| column.name.as_str()).collect();
    check_types(table, &names)?;
    let key: Vec<usize> = table.primary_key.iter().map(|key| find(table, &names, key)).collect::<Result<_>>()?;
    let (mut columns, mut select) = (Vec::new(), Vec::new());
    for at in wanted(table, &names)? {
        let column = &known[at];
        let is_key = key.contains(&at);
        let by_hand = table.column_type(&column.name);
        let column_type = match by_hand.or_else(|| column.column_type(is_key)) {
            Some(column_type) => column_type,
            None => by_lengths(source, table, &from, column)?,
        };
        columns.push(Column { name: column.name.clone(), column_type });
        select.push(match by_hand {
            // The server writes everything as text.
            Some(ColumnType::Utf8) if column.type_name != "bytea" => format!("({})::text", column.of()),
            _ => column.read(&column.of(), is_key),
        });
    }
    let created = &known[find(table, &names, &table.created_at_column)?];
    select.push(created.read(&created.of(), false));
    let clock = &known[find(table, &names, &table.updated_at_column)?];
    select.push(clock.read(&clock.of(), false));
    if let DeleteDetection::SoftDelete(column) = deletes {
        let column = &known[find(table, &names, column)?];
        select.push(column.read(&column.of(), false));
    }
    let kind = match clock.type_name.as_str() {
        "timestamp" | "timestamptz" | "date" => Clock::of(Unit::Microseconds),
        "int2" | "int4" | "int8" | "float4" | "float8" | "numeric" | "text" | "varchar" | "bpchar" => Clock::default(),
        _ => {
            return Err(Error::Engine(format!(
                "table {:?} of the source, clock column {:?}: expected a timestamp, a date, a number or text, got {}",
                table.table_name, clock.name, clock.written
            )));
        }
    };
    // As texts that bounds are compared with: by their bytes.
    let ordered = if clock.is_text() { format!("{} COLLATE \"C\"", clock.of()) } else { clock.of() };
    let names: Vec<String> = key.iter().map(|at| known[*at].name.clone()).collect();
    let schema = TableSchema::of_columns(name, columns, &names)?;
    let keys = || key.iter().map(|at| &known[*at]);
    let exact = |column: &Known| if column.is_plain() { column.of() } else { format!("{}::text", column.of()) };
    let mut values = Vec::new();
    for sql in sample(&from, &clock.read(&clock.of(), false), &ordered) {
        values.extend(source.query(&sql, &[])?.concat());
    }
    Ok(Described {
        schema,
        clock: kind,
        sample: values,
        plan: Plan {
            from,
            select,
            order: std::iter::once(ordered).chain(keys().map(Known::of)).collect(),
            cursor: std::iter::once(clock).chain(keys()).map(exact).collect(),
            placeholder: Placeholder::Postgres(std::iter::once(clock).chain(keys()).map(Known::cast).collect()),
        },
    })
}

/// The type of vectors whose length is not declared: that of all of them.
fn by_lengths(
    source: &mut PostgresSource,
    table: &TimestampTableConfig,
    from: &str,
    column: &Known,
) -> Result<ColumnType> {
    let (of, read) = (column.of(), column.read(&column.of(), false));
    let sql = format!("SELECT DISTINCT cardinality({read})::int8 FROM {from} AS r WHERE {of} IS NOT NULL LIMIT 2");
    let lengths = source.query(&sql, &[])?;
    let got = match lengths.concat()[..] {
        [Value::Integer(dim)] if dim > 0 => {
            let element = if column.type_name == "halfvec" { VectorElement::Float16 } else { VectorElement::Float32 };
            return Ok(ColumnType::Vector { element, dim: dim.unsigned_abs() as usize });
        }
        [] => "no rows that could tell it".to_owned(),
        [Value::Integer(0)] => "empty arrays".to_owned(),
        _ => "several lengths".to_owned(),
    };
    Err(Error::Engine(format!(
        "table {:?} of the source, column {:?} ({}): expected arrays of one length, got {got}; sidecar_tables' columns=[..] can leave it out",
        table.table_name, column.name, column.written
    )))
}
