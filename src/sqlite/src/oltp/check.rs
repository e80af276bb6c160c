//! Type checks of registered columns in SQL, for triggers; [`super::column::check`] is the same
//! check in Rust.

use vexact_core::schema::{ColumnType, TableSchema};
use vexact_core::sql::literal;

use super::column::EXACT_INTEGER;

/// Numbers from here on round to infinity in float32: 2^128 − 2^103.
const FLOAT32_END: &str = "3.4028235677973366e38";
/// The same in float16.
const FLOAT16_END: i64 = 65520;

/// Returns a condition that the type can hold the SQL expression `x`, which is evaluated several
/// times. It is not true for NULL. Text that is not UTF-8 passes, because SQL cannot check it.
pub(super) fn fits(column_type: ColumnType, x: &str) -> String {
    match column_type {
        ColumnType::Int64 => format!("typeof({x}) = 'integer'"),
        ColumnType::Utf8 => format!("typeof({x}) = 'text'"),
        ColumnType::Binary => format!("typeof({x}) = 'blob'"),
        ColumnType::Vector { element, dim } => {
            format!("typeof({x}) = 'blob' AND length({x}) = {}", element.stored_bytes(dim))
        }
        ColumnType::Float64 => {
            format!(
                "typeof({x}) = 'real' OR typeof({x}) = 'integer' AND {x} BETWEEN -{EXACT_INTEGER} AND {EXACT_INTEGER}"
            )
        }
        ColumnType::Float32 => rounding(x, FLOAT32_END, EXACT_INTEGER),
        ColumnType::Float16 => rounding(x, &format!("{FLOAT16_END}.0"), FLOAT16_END - 1),
        integers => {
            let (least, greatest) = integers.integer_range().unwrap_or((i64::MIN, i64::MAX));
            format!("typeof({x}) = 'integer' AND {x} BETWEEN {least} AND {greatest}")
        }
    }
}

fn rounding(x: &str, end: &str, greatest: i64) -> String {
    format!(
        "typeof({x}) = 'real' AND ({x} > -{end} AND {x} < {end} OR {x} = 9e999 OR {x} = -9e999) \
         OR typeof({x}) = 'integer' AND {x} BETWEEN -{greatest} AND {greatest}"
    )
}

/// Returns SQL for the body of a trigger: it gives `x`, or rejects the statement that wrote it.
pub(super) fn checked(schema: &TableSchema, at: usize, x: &str) -> String {
    let fits = fits(schema.columns()[at].column_type, x);
    format!("CASE WHEN {fits} OR {x} IS NULL THEN {x} ELSE {} END", refusal(schema, at, ""))
}

/// `RAISE` with a message that names the column and what it expects.
pub(super) fn refusal(schema: &TableSchema, at: usize, got: &str) -> String {
    let column = &schema.columns()[at];
    let message = format!("{PREFIX}{}.{}: expected {}{got}", schema.name(), column.name, column.column_type.expected());
    format!("RAISE(ABORT, {})", literal(&message))
}

/// Prefix of the messages of rejected values.
pub(super) const PREFIX: &str = "vexact: ";

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use rusqlite::types::Value;

    use super::*;
    use crate::oltp::column::{ColumnBuilder, check};

    #[test]
    fn sql_and_rust_agree_on_what_fits() {
        let types = "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 utf8 bool binary vector(2) float16[2]";
        let mut values: Vec<Value> = vec![Value::Null, Value::Text("a".into()), Value::Text(String::new())];
        for bits in [0, 1, 7, 8, 15, 16, 24, 31, 32, 53, 62] {
            for near in [-1, 0, 1] {
                let integer = (1i64 << bits) + near;
                values.extend([Value::Integer(integer), Value::Integer(-integer), Value::Real(integer as f64)]);
            }
        }
        values.extend([i64::MIN, i64::MAX, 65519, 65520, -65519, -65520].map(Value::Integer));
        let edge = 2f64.powi(128) - 2f64.powi(103);
        for real in [
            0.5,
            65519.99,
            65520f64.next_down(),
            65520.0,
            f32::MAX.into(),
            edge,
            edge.next_down(),
            1e300,
            f64::INFINITY,
            5e-324,
        ] {
            values.extend([Value::Real(real), Value::Real(-real)]);
        }
        values.extend([0, 4, 8, 9].map(|length| Value::Blob(vec![1; length])));

        let conn = Connection::open_in_memory().unwrap();
        for column_type in types.split(' ').map(|text| ColumnType::parse(text).unwrap()) {
            let mut sql =
                conn.prepare(&format!("SELECT x IS NULL OR {} FROM (SELECT ?1 AS x)", fits(column_type, "x"))).unwrap();
            for value in &values {
                let in_sql: bool = sql.query_row([value], |row| row.get(0)).unwrap();
                let in_rust = check(column_type, value.into());
                assert_eq!(in_sql, in_rust.is_ok(), "{column_type} {value:?} {in_rust:?}");
                let mut builder = ColumnBuilder::new(column_type);
                assert_eq!(builder.append(value.into()), in_rust);
                assert_eq!(builder.finish().len(), usize::from(in_sql));
            }
        }
    }
}
