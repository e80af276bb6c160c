//! Arguments of the replication engine's statements: Python values as SQLite stores them.

use std::cell::OnceCell;
use std::fmt::{self, Display, Formatter};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyFloat, PyFrozenSet, PyInt, PyMapping, PyMemoryView, PyRange, PySequence, PySet,
    PyString, PyType,
};
use vexact::QueryVectors;
use vexact::htap::{Argument, Param, Params, Statement};
use vexact::router::InLists;

use crate::convert::{is_scalar, is_vector, sequence, text};
use crate::errors::invalid;
use crate::query::{got, query};

/// Position of an argument in a call; numbers count from 1.
struct ArgumentPosition<'a> {
    part: Part,
    slot: Slot<'a>,
}

/// The part of a call that has arguments of its own.
#[derive(Clone, Copy)]
enum Part {
    Call,
    Function,
    Row(usize),
    Statement(usize),
}

enum Slot<'a> {
    Position(usize),
    Name(&'a str),
    /// The result of a SQL function.
    Result,
    /// An item of the list at a position or name.
    Item(&'a Slot<'a>, usize),
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Part::Call | Part::Function => Ok(()),
            Part::Row(row) => write!(f, "rows_of_params: row {row}: "),
            Part::Statement(statement) => write!(f, "statements: statement {statement}: "),
        }
    }
}

impl Display for Slot<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Slot::Position(position) => write!(f, "parameter {position}"),
            Slot::Name(name) => write!(f, "parameter {name:?}"),
            Slot::Result => write!(f, "its result"),
            Slot::Item(list, item) => write!(f, "{list}: item {item}"),
        }
    }
}

impl Display for ArgumentPosition<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.part, self.slot)
    }
}

/// Converts a statement's arguments: a sequence by position, or a mapping by name. A list in `IN
/// (?)` is a list of values, elsewhere a vector.
pub fn arguments(sql: &str, params: Option<&Bound<'_, PyAny>>) -> PyResult<Params> {
    arguments_of(Part::Call, &Lists::of(sql), params, "a sequence or a mapping")
}

/// Converts rows of arguments of one statement.
pub fn rows(sql: &str, rows: &Bound<'_, PyAny>) -> PyResult<Vec<Params>> {
    let lists = Lists::of(sql);
    let row = |(at, row): (usize, PyResult<Bound<'_, PyAny>>)| {
        arguments_of(Part::Row(at + 1), &lists, Some(&row?), "a sequence of parameters or a mapping")
    };
    rows.try_iter()?.enumerate().map(row).collect()
}

/// Converts statements, each with its arguments.
pub fn statements(statements: Vec<(String, Option<Bound<'_, PyAny>>)>) -> PyResult<Vec<Statement>> {
    let statement = |(at, (sql, params)): (usize, (String, Option<Bound<'_, PyAny>>))| {
        let params =
            arguments_of(Part::Statement(at + 1), &Lists::of(&sql), params.as_ref(), "a sequence or a mapping")?;
        Ok(Statement { sql, params })
    };
    statements.into_iter().enumerate().map(statement).collect()
}

/// Converts the result of a SQL function to a parameter.
pub fn result(value: &Bound<'_, PyAny>) -> PyResult<Param> {
    parameter(&ArgumentPosition { part: Part::Function, slot: Slot::Result }, value)
}

/// The placeholders of a statement that take a list, found when the first list comes.
struct Lists<'s> {
    sql: &'s str,
    found: OnceCell<InLists>,
}

impl<'s> Lists<'s> {
    fn of(sql: &'s str) -> Self {
        Self { sql, found: OnceCell::new() }
    }

    fn take(&self, slot: &Slot<'_>) -> bool {
        let found = self.found.get_or_init(|| InLists::of(self.sql));
        match slot {
            Slot::Position(position) => found.has_position(*position),
            Slot::Name(name) => found.has_name(name),
            Slot::Item(..) | Slot::Result => false,
        }
    }
}

fn arguments_of(part: Part, lists: &Lists<'_>, params: Option<&Bound<'_, PyAny>>, expected: &str) -> PyResult<Params> {
    let Some(params) = params else { return Ok(Params::NONE) };
    if let Ok(named) = params.cast::<PyMapping>() {
        let named = named.items()?.into_iter().map(|item| {
            let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            let Ok(name) = name.cast::<PyString>() else {
                return Err(PyTypeError::new_err(format!("{part}params: a name: expected a str, got {}", got(&name))));
            };
            let name = text(&"params: a name", name)?;
            let argument = argument(part, Slot::Name(&name), lists, &value)?;
            Ok((name, argument))
        });
        return Ok(Params::Named(named.collect::<PyResult<_>>()?));
    }
    let Some(values) = sequence(params) else {
        let what = if matches!(part, Part::Row(_)) { "" } else { "params: " };
        return Err(PyTypeError::new_err(format!("{part}{what}expected {expected}, got {}", got(params))));
    };
    let values = values.try_iter()?.enumerate();
    let values = values.map(|(at, value)| argument(part, Slot::Position(at + 1), lists, &value?));
    Ok(Params::Positional(values.collect::<PyResult<_>>()?))
}

fn argument(part: Part, slot: Slot<'_>, lists: &Lists<'_>, value: &Bound<'_, PyAny>) -> PyResult<Argument> {
    if is_several(value) && lists.take(&slot) {
        let item = |(at, item): (usize, PyResult<Bound<'_, PyAny>>)| {
            parameter(&ArgumentPosition { part, slot: Slot::Item(&slot, at + 1) }, &item?)
        };
        return Ok(Argument::List(value.try_iter()?.enumerate().map(item).collect::<PyResult<_>>()?));
    }
    parameter(&ArgumentPosition { part, slot }, value).map(Argument::Value)
}

/// Returns true for a list, a set or an array, which are several values, and not for text or bytes.
fn is_several(value: &Bound<'_, PyAny>) -> bool {
    let is_set = value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>();
    let is_array = || {
        value.hasattr("__array__").unwrap_or(false) && !is_scalar(value).unwrap_or(false)
            || value.cast::<PySequence>().is_ok() && !value.is_instance_of::<PyMemoryView>()
    };
    let is_text = value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>();
    is_set || value.is_instance_of::<PyRange>() || (!is_text && is_array())
}

fn parameter(place: &ArgumentPosition<'_>, value: &Bound<'_, PyAny>) -> PyResult<Param> {
    if value.is_none() {
        return Ok(Param::Null);
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(Param::Boolean(value.extract()?));
    }
    let refused = |problem: &str| Err(invalid(value.py(), format!("{place}: {problem}")));
    if value.is_instance_of::<PyInt>() {
        // SQLite has no larger integers; a NUMERIC column keeps such a text.
        return match value.extract::<i64>() {
            Ok(number) => Ok(Param::Integer(number)),
            Err(_) => match value.str() {
                Ok(digits) => Ok(Param::Text(digits.to_string())),
                Err(_) => refused("expected an int that Python writes in digits, got a longer one"),
            },
        };
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(Param::Real(value.extract()?));
    }
    if let Ok(value) = value.cast::<PyString>() {
        return text(place, value).map(Param::Text);
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Param::Bytes(bytes.as_bytes().to_vec()));
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Param::Bytes(bytes.to_vec()));
    }
    if value.is_instance_of::<PyMemoryView>() {
        return Ok(Param::Bytes(value.call_method0("tobytes")?.extract()?));
    }
    if let Some(param) = adapted(value)? {
        return Ok(param);
    }
    if is_scalar(value)? {
        return scalar(place, value);
    }
    if is_vector(value)? {
        return match query(place, value, invalid)? {
            QueryVectors::One(vector) if !vector.is_empty() => {
                let narrowed = vector.iter().map(|x| *x as f32).collect::<Vec<_>>();
                let mut both = vector.iter().zip(&narrowed);
                match both.position(|(x, narrow)| x.is_finite() && !narrow.is_finite()) {
                    Some(at) => {
                        refused(&format!("component {at}: expected a number within float32, got {:e}", vector[at]))
                    }
                    None => Ok(Param::Vector(narrowed)),
                }
            }
            QueryVectors::One(_) => refused("expected a vector, got no components"),
            QueryVectors::Many(_) => refused("expected a vector, got a two-dimensional array"),
        };
    }
    no_parameter(place, value)
}

fn no_parameter(place: &ArgumentPosition<'_>, value: &Bound<'_, PyAny>) -> PyResult<Param> {
    let expected = "None, bool, int, float, str, bytes, a vector, a datetime, a date, a Decimal or a UUID";
    Err(PyTypeError::new_err(format!("{place}: expected {expected}, got {}", got(value))))
}

/// Converts a scalar of numpy.
fn scalar(place: &ArgumentPosition<'_>, value: &Bound<'_, PyAny>) -> PyResult<Param> {
    let kind = value.getattr("dtype").and_then(|dtype| dtype.getattr("kind")?.extract::<String>());
    match kind.as_deref() {
        // `item` of a numpy time in nanoseconds is an int, so the time is converted to microseconds
        // first. NaT becomes NULL.
        Ok("M") => parameter(place, &value.call_method1("astype", ("datetime64[us]",))?.call_method0("item")?),
        Ok("m") => no_parameter(place, value),
        _ => parameter(place, &value.call_method0("item")?),
    }
}

/// Returns times, decimals and UUIDs as text: dates and times as the adapters of Python's `sqlite3`
/// write them, the others as `str` does.
fn adapted(value: &Bound<'_, PyAny>) -> PyResult<Option<Param>> {
    static DATETIME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static DATE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static UUID: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = value.py();
    let is = |class: &'static PyOnceLock<Py<PyType>>, module: &str, name: &str| {
        value.is_instance(class.import(py, module, name)?)
    };
    let text = |text: Bound<'_, PyAny>| Ok(Some(Param::Text(text.extract()?)));
    if is(&DATETIME, "datetime", "datetime")? {
        // NaT of pandas is NULL, as NaN is.
        return if value.ne(value)? { Ok(Some(Param::Null)) } else { text(value.call_method1("isoformat", (" ",))?) };
    }
    if is(&DATE, "datetime", "date")? {
        return text(value.call_method0("isoformat")?);
    }
    if is(&DECIMAL, "decimal", "Decimal")? || is(&UUID, "uuid", "UUID")? {
        return text(value.str()?.into_any());
    }
    Ok(None)
}
