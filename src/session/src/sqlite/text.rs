//! Text functions with SQLite's semantics: it stops at a NUL when it counts characters.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, StringArray, StringBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::convert::{integers, texts};

/// Converts ASCII letters to lower case.
pub(super) fn lower(args: &[ArrayRef]) -> Result<ArrayRef> {
    folded(&texts(&args[0])?, <[u8]>::make_ascii_lowercase)
}

/// Converts ASCII letters to upper case.
pub(super) fn upper(args: &[ArrayRef]) -> Result<ArrayRef> {
    folded(&texts(&args[0])?, <[u8]>::make_ascii_uppercase)
}

/// Folds the bytes of all texts at once; their offsets do not change.
fn folded(column: &StringArray, fold: fn(&mut [u8])) -> Result<ArrayRef> {
    let offsets = column.value_offsets();
    let (start, end) = (offsets[0], offsets[column.len()]);
    let mut bytes = column.value_data()[start as usize..end as usize].to_vec();
    fold(&mut bytes);
    let offsets = OffsetBuffer::new(offsets.iter().map(|offset| offset - start).collect());
    Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), column.nulls().cloned())?))
}

/// Returns the number of characters of a text before its first NUL; of a BLOB, and of a number as
/// text, the number of bytes.
pub(super) fn length(args: &[ArrayRef]) -> Result<ArrayRef> {
    let lengths: Int32Array = match args[0].data_type() {
        DataType::Binary => args[0].as_binary::<i32>().iter().map(|blob| blob.map(|blob| blob.len() as i32)).collect(),
        _ => texts(&args[0])?.iter().map(|text| text.map(|text| to_nul(text).chars().count() as i32)).collect(),
    };
    Ok(Arc::new(lengths))
}

fn to_nul(text: &str) -> &str {
    text.split_once('\0').map_or(text, |(before, _)| before)
}

/// Returns characters from a position on, which counts from 1, or from the end if it is negative.
/// The length is the maximum number of characters; if it is negative, the characters before the
/// position are returned.
pub(super) fn substr(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (column, starts) = (texts(&args[0])?, integers(&args[1])?);
    let lengths: Option<Int64Array> = args.get(2).map(integers).transpose()?;
    let at = |numbers: &Int64Array, row| numbers.is_valid(row).then(|| numbers.value(row));
    let mut parts = StringBuilder::with_capacity(column.len(), column.value_data().len());
    for (row, text) in column.iter().enumerate() {
        let length = match &lengths {
            None => Some(i64::MAX),
            Some(lengths) => at(lengths, row),
        };
        parts.append_option(match (text, at(&starts, row), length) {
            (Some(text), Some(start), Some(length)) => Some(part(to_nul(text), start, length)),
            _ => None,
        });
    }
    Ok(Arc::new(parts.finish()))
}

fn part(text: &str, start: i64, length: i64) -> &str {
    // Positions in the text count from 0 here, and may be before it.
    let from = match start {
        0 => -1,
        1.. => start - 1,
        _ => (text.chars().count() as i64).saturating_add(start),
    };
    let (from, to) = match length {
        0.. => (from, from.saturating_add(length)),
        _ if start == 0 => return "",
        _ => (from.saturating_add(length), from),
    };
    let (from, to) = (from.max(0), to.max(0));
    let end_of = |text: &str, characters: i64| match usize::try_from(characters) {
        Ok(characters) => text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at),
        Err(_) => 0,
    };
    let rest = &text[end_of(text, from)..];
    &rest[..end_of(rest, to - from)]
}

/// Replaces each occurrence of the second text in the first by the third. An empty second text has
/// no occurrence, whatever the third is.
pub(super) fn replace(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (column, old, new) = (texts(&args[0])?, texts(&args[1])?, texts(&args[2])?);
    let mut replaced = StringBuilder::with_capacity(column.len(), column.value_data().len());
    for ((text, old), new) in column.iter().zip(&old).zip(&new) {
        match (text, old, new) {
            (Some(text), Some(old), _) if old.is_empty() || old.starts_with('\0') => replaced.append_value(text),
            (Some(text), Some(old), Some(new)) => replaced.append_value(text.replace(old, new)),
            _ => replaced.append_null(),
        }
    }
    Ok(Arc::new(replaced.finish()))
}
