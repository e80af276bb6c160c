//! Selects the parts of the files that form the next micro-batch.

use std::collections::BTreeMap;
use std::time::Duration;

use vexact_core::error::{Error, Result};
use vexact_sources::csv_part::{CsvColumns, ends_in_quotes, read_bytes, whole_records};

use super::Positions;
use super::files::Seen;

/// Time without a change after which a file's whole records are read …
const SETTLED: Duration = Duration::from_millis(200);
/// … after which its last record is read, even without a line end …
const LAST_RECORD: Duration = Duration::from_secs(1);
/// … and after which a file that ends within quotes is rejected.
const OPEN_QUOTES: Duration = Duration::from_secs(60);
/// Maximum size of a record, in bytes; a longer one is rejected.
const LONGEST_RECORD_BYTES: u64 = 256 << 20;

/// Returns the positions after the next micro-batch, of about `bytes` of text; `None` if there is
/// nothing to read.
pub(super) fn next(
    files: &BTreeMap<String, Seen>,
    positions: &Positions,
    columns: &CsvColumns,
    bytes: u64,
) -> Result<Option<Positions>> {
    let mut next: Positions = positions.clone();
    next.retain(|name, _| files.contains_key(name));
    let mut taken = 0;
    for (name, file) in files {
        let start = next.get(name).copied().unwrap_or(0);
        if file.len < start {
            let problem = format!("expected a file that only grows: {start} bytes of it were read, got {}", file.len);
            return Err(Error::BadFile { path: file.path.clone(), problem });
        }
        if file.len == start || file.quiet() < SETTLED {
            continue;
        }
        let left = bytes - taken;
        let end = end_of_part(file, start, columns.delimiter(), left)?;
        if end > start {
            next.insert(name.clone(), end);
            taken += end - start;
        }
        // A file is read to its end before the next one is started.
        if file.len - start > left || taken >= bytes {
            break;
        }
    }
    Ok((taken > 0).then_some(next))
}

/// Returns true if all files with unread bytes can be read to their ends.
pub(super) fn are_settled(files: &BTreeMap<String, Seen>, positions: &Positions) -> Result<bool> {
    for (name, file) in files {
        let start = positions.get(name).copied().unwrap_or(0);
        if file.len <= start || file.quiet() >= LAST_RECORD {
            continue;
        }
        if file.quiet() < SETTLED {
            return Ok(false);
        }
        let last = read_bytes(&file.path, file.len - 1, file.len)?;
        if !last.first().is_some_and(is_line_end) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_line_end(byte: &u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Returns the end of the part of a file that begins at `start`: the position after as many whole
/// records as fit in `bytes`, at least one.
fn end_of_part(file: &Seen, start: u64, delimiter: u8, bytes: u64) -> Result<u64> {
    let mut end = file.len.min(start + bytes);
    loop {
        let text = read_bytes(&file.path, start, end)?;
        check_start(file, start, &text)?;
        let whole = whole_records(&text, delimiter);
        let rest = &text[whole..];
        if end == file.len && !rest.is_empty() && file.quiet() >= LAST_RECORD {
            if !ends_in_quotes(rest, delimiter) {
                return Ok(end);
            }
            if file.quiet() >= OPEN_QUOTES {
                let at = start + whole as u64;
                let problem = format!("expected the closing quote of the record that begins at byte {at}, got none");
                return Err(Error::BadFile { path: file.path.clone(), problem });
            }
        }
        if whole > 0 || end == file.len {
            return Ok(start + whole as u64);
        }
        let got = end - start;
        if got > LONGEST_RECORD_BYTES {
            let problem = format!("expected records of up to {LONGEST_RECORD_BYTES} bytes, got {got} at byte {start}");
            return Err(Error::BadFile { path: file.path.clone(), problem });
        }
        end = file.len.min(start + got.max(1) * 2);
    }
}

/// Rejects a file that continues in the middle of a record: its last record had no line end, or the
/// file was rewritten.
fn check_start(file: &Seen, start: u64, text: &[u8]) -> Result<()> {
    if start == 0 || text.first().is_some_and(is_line_end) {
        return Ok(());
    }
    let before = read_bytes(&file.path, start - 1, start)?;
    if before.first().is_some_and(is_line_end) {
        return Ok(());
    }
    let problem =
        format!("expected a line end where reading goes on, at byte {start}: was it written anew after it was read?");
    Err(Error::BadFile { path: file.path.clone(), problem })
}
