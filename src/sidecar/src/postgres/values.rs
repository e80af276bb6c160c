//! Values between the server and a replica: parameters go as text, results come in binary form.

use std::error::Error as StdError;

use bytes::BytesMut;
use rusqlite::types::Value;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type};

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCH: i64 = 946_684_800_000_000;
const DAY: i64 = 86_400_000_000;

type Failed = Box<dyn StdError + Sync + Send>;

/// A text or NULL, which the server reads as the type that the statement casts it to.
#[derive(Debug)]
pub(super) struct Parameter<'v>(pub &'v Value);

impl ToSql for Parameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        match self.0 {
            Value::Text(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
            _ => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A value that the server sent, or the reason why a replica cannot hold it. Booleans are the
/// integers 0 and 1; times are microseconds since the Unix epoch; arrays of float4 are their
/// components, little-endian; all other values are text.
pub(super) struct Cell(pub Result<Value, String>);

impl<'r> FromSql<'r> for Cell {
    fn from_sql(column: &Type, bytes: &'r [u8]) -> Result<Self, Failed> {
        let read = |value: Value| Ok(Self(Ok(value)));
        match *column {
            Type::BOOL => read(Value::Integer(bool::from_sql(column, bytes)?.into())),
            Type::BYTEA => read(Value::Blob(bytes.to_vec())),
            Type::INT2 => read(Value::Integer(i16::from_sql(column, bytes)?.into())),
            Type::INT4 => read(Value::Integer(i32::from_sql(column, bytes)?.into())),
            Type::INT8 => read(Value::Integer(i64::from_sql(column, bytes)?)),
            Type::OID => read(Value::Integer(u32::from_sql(column, bytes)?.into())),
            Type::FLOAT4 => read(Value::Real(f32::from_sql(column, bytes)?.into())),
            Type::FLOAT8 => read(Value::Real(f64::from_sql(column, bytes)?)),
            // An infinite time is the last or the first.
            Type::TIMESTAMP | Type::TIMESTAMPTZ => read(Value::Integer(match i64::from_sql(column, bytes)? {
                infinite @ (i64::MAX | i64::MIN) => infinite,
                micros => micros.saturating_add(EPOCH),
            })),
            Type::DATE => read(Value::Integer(match i32::from_sql(column, bytes)? {
                i32::MAX => i64::MAX,
                i32::MIN => i64::MIN,
                days => i64::from(days) * DAY + EPOCH,
            })),
            Type::FLOAT4_ARRAY => Ok(Self(components(column, bytes))),
            _ => Ok(Self(match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Value::Text(text.to_owned())),
                Err(_) => Err("expected text in UTF-8".into()),
            })),
        }
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failed> {
        Ok(Self(Ok(Value::Null)))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn components(column: &Type, bytes: &[u8]) -> Result<Value, String> {
    let components = Vec::<Option<f32>>::from_sql(column, bytes)
        .map_err(|error| format!("expected an array of one dimension as a vector: {error}"))?;
    let mut blob = Vec::with_capacity(4 * components.len());
    for (at, component) in components.into_iter().enumerate() {
        let Some(component) = component else {
            return Err(format!("expected numbers as the components of a vector, got NULL at {}", at + 1));
        };
        blob.extend_from_slice(&component.to_le_bytes());
    }
    Ok(Value::Blob(blob))
}
