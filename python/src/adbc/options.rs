//! Options of databases, connections and statements: their values, and the errors of wrong ones.

use std::time::Duration;

use adbc_core::error::{Error, Result, Status};
use adbc_core::options::OptionValue;

use super::status::{error, invalid};

/// A statement's option, and a database's for all statements: the time limit in seconds.
pub const TIMEOUT: &str = "vexact.timeout_seconds";

/// Returns the value of an option as text.
pub fn text(key: &str, value: OptionValue) -> Result<String> {
    match value {
        OptionValue::String(text) => Ok(text),
        OptionValue::Int(number) => Ok(number.to_string()),
        OptionValue::Double(number) => Ok(number.to_string()),
        OptionValue::Bytes(bytes) => String::from_utf8(bytes)
            .map_err(|_| invalid(format!("option {key}: expected text, got bytes that are not UTF-8"))),
        _ => Err(invalid(format!("option {key}: expected text"))),
    }
}

/// Returns the value of an option that is `true` or `false`.
pub fn boolean(key: &str, value: OptionValue) -> Result<bool> {
    match text(key, value)?.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        got => Err(invalid(format!("option {key}: expected \"true\" or \"false\", got {got:?}"))),
    }
}

/// Returns the value of an option that is a whole number of at least 1.
pub fn whole_number(key: &str, value: OptionValue) -> Result<usize> {
    let got = text(key, value)?;
    match got.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(invalid(format!("option {key}: expected a whole number of at least 1, got {got:?}"))),
    }
}

/// Returns the value of an option that is a time in seconds, more than 0.
pub fn seconds(key: &str, value: OptionValue) -> Result<Duration> {
    let got = text(key, value)?;
    match got.parse::<f64>().ok().filter(|seconds| *seconds > 0.0).map(Duration::try_from_secs_f64) {
        Some(Ok(time)) => Ok(time),
        _ => Err(invalid(format!("option {key}: expected a number of seconds above 0, got {got:?}"))),
    }
}

/// Returns the error of an option that is not known here. The driver manager expects this status.
pub fn unknown(of: &str, key: &str, known: &str) -> Error {
    error(Status::NotImplemented, format!("unknown option {key:?} of a {of}: expected {known}"))
}

/// Returns the error of reading an option that has no value.
pub fn not_found(of: &str, key: &str) -> Error {
    error(Status::NotFound, format!("option {key:?} of a {of} has no value"))
}
