//! What messages of PostgreSQL hold: the types of a result, its rows in binary form, a server's problem.

use std::io;

use bytes::Bytes;
use rusqlite::types::Value;

use super::client::malformed;

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCH: i64 = 946_684_800_000_000;
const DAY: i64 = 86_400_000_000;

/// The body of a message, read from its beginning.
pub(super) struct Body {
    bytes: Bytes,
}

impl Body {
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    fn take(&mut self, count: usize) -> io::Result<Bytes> {
        if self.bytes.len() < count {
            return Err(malformed(format!("expected {count} bytes more in a message, got {}", self.bytes.len())));
        }
        Ok(self.bytes.split_to(count))
    }

    pub fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|at| bytes[at]))
    }

    pub fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn u16(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A text that ends with a zero.
    pub fn text(&mut self) -> io::Result<String> {
        let end = self.bytes.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| malformed("expected the end of a text in a message, got none"))?;
        let text = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        self.take(end + 1)?;
        Ok(text)
    }

    pub fn rest(&self) -> &[u8] {
        &self.bytes
    }
}

/// A server's problem: `ERROR: relation "t" does not exist (42P01)`.
pub(super) fn problem(mut body: Body) -> String {
    let (mut severity, mut message, mut code, mut detail) =
        (String::new(), String::new(), String::new(), String::new());
    while let Ok([kind]) = body.array::<1>()
        && kind != 0
        && let Ok(text) = body.text()
    {
        match kind {
            b'S' => severity = text,
            b'M' => message = text,
            b'C' => code = text,
            b'D' => detail = format!(" ({text})"),
            _ => {}
        }
    }
    format!("{severity}: {message}{detail} ({code})")
}

/// The types of a result's columns, by their numbers in `pg_type`.
pub(super) fn types(body: &mut Body) -> io::Result<Vec<u32>> {
    let count = body.u16()?;
    (0..count)
        .map(|_| {
            body.text()?;
            // Its table, and its place there.
            body.take(6)?;
            let number = body.array().map(u32::from_be_bytes)?;
            // Size, modifier, format.
            body.take(8)?;
            Ok(number)
        })
        .collect()
}

/// A row; in it, a problem with a value.
pub(super) fn row(body: &mut Body, types: &[u32]) -> io::Result<Result<Vec<Value>, String>> {
    let count = usize::from(body.u16()?);
    if count != types.len() {
        return Err(malformed(format!("expected a row of {} columns, got {count}", types.len())));
    }
    let mut values = Vec::with_capacity(count);
    let mut problem = None;
    for column in types {
        let length = body.i32()?;
        if length == -1 {
            values.push(Value::Null);
            continue;
        }
        let length = usize::try_from(length).map_err(|_| malformed("a value of negative length"))?;
        match value(*column, body.take(length)?)? {
            Ok(value) => values.push(value),
            Err(unfit) => problem = problem.or(Some(unfit)),
        }
    }
    Ok(problem.map_or(Ok(values), Err))
}

/// A value in binary form. Booleans are the integers 0 and 1; times are microseconds since the Unix epoch; arrays of float4 are their
/// components, little-endian; what is none of these is text.
fn value(column: u32, bytes: Bytes) -> io::Result<Result<Value, String>> {
    let mut body = Body::new(bytes);
    Ok(Ok(match column {
        16 => Value::Integer(i64::from(body.array::<1>()?[0])),
        17 => Value::Blob(body.bytes.to_vec()),
        20 => Value::Integer(body.array().map(i64::from_be_bytes)?),
        21 => Value::Integer(body.array().map(i16::from_be_bytes)?.into()),
        23 => Value::Integer(body.i32()?.into()),
        26 => Value::Integer(body.array().map(u32::from_be_bytes)?.into()),
        700 => Value::Real(body.array().map(f32::from_be_bytes)?.into()),
        701 => Value::Real(body.array().map(f64::from_be_bytes)?),
        // An infinite time is the last or the first.
        1114 | 1184 => Value::Integer(match body.array().map(i64::from_be_bytes)? {
            infinite @ (i64::MAX | i64::MIN) => infinite,
            micros => micros.saturating_add(EPOCH),
        }),
        1082 => Value::Integer(match body.i32()? {
            i32::MAX => i64::MAX,
            i32::MIN => i64::MIN,
            days => i64::from(days) * DAY + EPOCH,
        }),
        1021 => return components(&mut body),
        _ => match std::str::from_utf8(&body.bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => return Ok(Err("expected text in UTF-8".into())),
        },
    }))
}

fn components(body: &mut Body) -> io::Result<Result<Value, String>> {
    let dimensions = body.i32()?;
    body.take(8)?;
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = body.i32()?;
            body.take(4)?;
            count
        }
        more => return Ok(Err(format!("expected an array of one dimension as a vector, got {more} dimensions"))),
    };
    let mut blob = Vec::new();
    for at in 0..count {
        if body.i32()? == -1 {
            return Ok(Err(format!("expected numbers as the components of a vector, got NULL at {}", at + 1)));
        }
        blob.extend_from_slice(&body.array().map(f32::from_be_bytes)?.to_le_bytes());
    }
    Ok(Ok(Value::Blob(blob)))
}
