//! Partition columns: folders `name=value` are columns of the files in them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef};
use chrono::NaiveDate;
use datafusion::common::ScalarValue;
use vexact_core::error::{Error, Result};

use super::bad_file;

/// Value of a folder that is NULL.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The names and values of the folders of a file; `None` is NULL.
pub(crate) type Texts = Vec<(String, Option<String>)>;

/// Returns true if a folder's name is the value of a column.
pub(crate) fn is_partition(folder: &str) -> bool {
    folder.split_once('=').is_some_and(|(name, _)| !name.is_empty())
}

/// Returns the columns in the folders of a file, which slashes separate. Names and values are
/// percent-decoded, as other programs write them.
pub(crate) fn texts(folders: &str) -> Texts {
    let column = |folder: &str| {
        let (name, value) = folder.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((decoded(name), (value != NULL).then(|| decoded(value))))
    };
    folders.split('/').filter_map(column).collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

/// Returns the partition columns of files: BIGINT if all values are whole numbers as SQL writes
/// them, DATE if all are dates `2026-01-31`, else text.
///
/// # Errors
/// A file in other folders than the first, with its name.
pub(crate) fn columns<'a>(files: impl Iterator<Item = (&'a str, &'a Texts)> + Clone) -> Result<Vec<FieldRef>> {
    let Some((first_name, first)) = files.clone().next() else { return Ok(Vec::new()) };
    let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(**name)) {
        return Err(bad_file(Path::new(first_name), &format!("expected one folder of {twice}=, got two")));
    }
    for (name, texts) in files.clone() {
        check_names(name, &names, texts)?;
    }
    let column = |(place, name): (usize, &&str)| {
        let values = files.clone().filter_map(move |(_, texts)| texts[place].1.as_deref());
        Arc::new(Field::new(*name, type_of(values), true))
    };
    Ok(names.iter().enumerate().map(column).collect())
}

fn check_names(file: &str, names: &[&str], texts: &Texts) -> Result<()> {
    if texts.iter().map(|(name, _)| name.as_str()).eq(names.iter().copied()) {
        return Ok(());
    }
    let shown = |names: &mut dyn Iterator<Item = &str>| match names.collect::<Vec<_>>().as_slice() {
        [] => "no folders name=value".to_owned(),
        names => format!("folders {}=", names.join("=, ")),
    };
    let expected = shown(&mut names.iter().copied());
    let got = shown(&mut texts.iter().map(|(name, _)| name.as_str()));
    Err(bad_file(Path::new(file), &format!("expected {expected}, as the first file has, got {got}")))
}

fn type_of<'a>(values: impl Iterator<Item = &'a str> + Clone) -> DataType {
    let is_number = |text: &str| text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    let is_date = |text: &str| text.len() == 10 && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok();
    match values.clone().next() {
        Some(_) if values.clone().all(is_number) => DataType::Int64,
        Some(_) if values.clone().all(is_date) => DataType::Date32,
        _ => DataType::Utf8,
    }
}

/// Returns the values of the partition columns in a file.
///
/// # Errors
/// Other folders than the columns; a value that is not of its column's type.
pub(crate) fn values(file: &str, columns: &[FieldRef], texts: &Texts) -> Result<Vec<ScalarValue>> {
    let names: Vec<&str> = columns.iter().map(|column| column.name().as_str()).collect();
    check_names(file, &names, texts)?;
    let value = |(column, (_, text)): (&FieldRef, &(String, Option<String>))| {
        let array: ArrayRef = Arc::new(StringArray::from(vec![text.as_deref()]));
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let typed = cast_with_options(&array, column.data_type(), &options);
        let typed = typed.map_err(|_| {
            let (name, data_type) = (column.name(), column.data_type());
            let problem =
                format!("folder {name}=: expected {data_type}, got {:?}", text.as_deref().unwrap_or_default());
            bad_file(Path::new(file), &problem)
        })?;
        ScalarValue::try_from_array(&typed, 0).map_err(Error::Query)
    };
    columns.iter().zip(texts).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(folders: &[&str]) -> Result<String> {
        let files: Vec<(String, Texts)> =
            folders.iter().enumerate().map(|(place, folders)| (format!("file {place}"), texts(folders))).collect();
        let columns = columns(files.iter().map(|(name, texts)| (name.as_str(), texts)))?;
        for (name, texts) in &files {
            values(name, &columns, texts)?;
        }
        let shown = columns.iter().map(|column| format!("{} {}", column.name(), column.data_type()));
        Ok(shown.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn columns_have_the_narrowest_type_that_keeps_each_value() {
        for (folders, expected) in [
            (&["year=2026/month=1", "year=-1/month=12"][..], "year Int64, month Int64"),
            (&["month=01", "month=12"], "month Utf8"),
            (&["day=2026-01-31", "day=2024-02-29"], "day Date32"),
            (&["day=2026-01-31", "day=2026-02-30"], "day Utf8"),
            (&["a/x=1/b", "x=__HIVE_DEFAULT_PARTITION__"], "x Int64"),
            (&["x=__HIVE_DEFAULT_PARTITION__"], "x Utf8"),
            (&["a b=%C3%A9%2F=", "a b="], "a b Utf8"),
            (&["x=9223372036854775808"], "x Utf8"),
            (&["a", ""], ""),
        ] {
            assert_eq!(types(folders).unwrap(), expected, "{folders:?}");
        }
        assert_eq!(texts("x=%C3%A9%2F=%zz"), [("x".to_owned(), Some("é/=%zz".to_owned()))]);
    }

    #[test]
    fn the_file_in_other_folders_is_named() {
        for (folders, expected) in [
            (&["x=1", "y=1"][..], "file 1: expected folders x=, as the first file has, got folders y="),
            (&["x=1/y=1", ""], "file 1: expected folders x=, y=, as the first file has, got no folders name=value"),
            (&["x=1/x=2"], "file 0: expected one folder of x=, got two"),
        ] {
            assert_eq!(types(folders).unwrap_err().to_string(), expected);
        }
        let columns = [Arc::new(Field::new("x", DataType::Int64, true))];
        let error = values("f", &columns, &texts("x=a")).unwrap_err().to_string();
        assert_eq!(error, "f: folder x=: expected Int64, got \"a\"");
    }
}
