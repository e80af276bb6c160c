//! Which rows one cycle reads of one table.
//!
//! The *main read* goes up, row by row in the order of (clock, key), and never back: its place is the watermark. What it passed by
//! is found by *sweeps*. A sweep reads again, in the same order, from some time before the watermark up to where the main read was
//! when the sweep began. The main read goes first; sweeps have the rest of a cycle's rows, over as many cycles as they need.
//!
//! A sweep goes back to `overlap` before the newest time that was known when the sweep before it *began*. So a row that is committed at
//! most `overlap` later than its clock says is read: the first sweep that no longer covers its time begins after a row was seen that
//! is more than `overlap` newer, so after it was committed, and the one before that covered it.

use rusqlite::types::Value;
use serde::{Deserialize, Serialize};
use vexact_core::error::{Error, Result};

use super::Settings;
use super::clock::Clock;
use super::config::DeleteDetection;
use super::source::{Cursor, Plan, Range, Source};

/// A clock that is written in seconds, or compared as text, is exact to no more than this, microseconds.
const OVERLAP_SLACK: i64 = 1_000_000;

/// How far a table was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub clock: Clock,
    /// The watermark: the last row of the main read.
    pub after: Option<Cursor>,
    /// The newest time that was read, microseconds.
    pub newest: Option<i64>,
    /// What `newest` was when the last sweep that ended began; before any, the newest time when the table was first looked at.
    pub swept: Option<i64>,
    /// The sweep that is under way: in another process it begins anew.
    #[serde(skip)]
    pub sweep: Option<Sweep>,
}

/// A sweep that is under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sweep {
    after: Option<Cursor>,
    through: Cursor,
    newest: Option<i64>,
}

/// A row as it is in the source.
#[derive(Debug)]
pub(super) struct Row {
    /// The replicated columns.
    pub values: Vec<Value>,
    /// Microseconds.
    pub time: i64,
    /// Its two times are one.
    pub is_new: bool,
    pub is_deleted: bool,
}

/// What was read of a table.
#[derive(Debug)]
pub(super) struct Polled {
    pub rows: Vec<Row>,
    pub progress: Progress,
    /// Nothing more is there: the main read and a sweep came to their ends.
    pub is_complete: bool,
    /// The main read may have more.
    pub is_behind: bool,
}

/// Reads at most `poll_batch_size` rows.
pub(super) fn poll(
    source: &mut dyn Source,
    plan: &Plan,
    table: &str,
    progress: &Progress,
    settings: &Settings,
) -> Result<Polled> {
    let mut next = progress.clone();
    let mut reader = Reader { source, plan, table, deletes: &settings.deletes };
    let limit = settings.batch_size;
    let range = Range { after: progress.after.as_ref(), ..Range::default() };
    let (mut rows, last) = reader.read(&range, limit, &mut next.clock)?;
    next.newest = rows.iter().map(|row| row.time).chain(next.newest).max();
    next.after = last.or(next.after);
    let left = limit - rows.len() as u32;
    if left == 0 {
        return Ok(Polled { rows, progress: next, is_complete: false, is_behind: true });
    }
    // What was behind the main read before this cycle; the rows of this one are read as they are.
    let begun = || Some(Sweep { after: None, through: progress.after.clone()?, newest: progress.newest });
    let Some(sweep) = next.sweep.take().or_else(begun) else {
        return Ok(Polled { rows, progress: next, is_complete: true, is_behind: false });
    };
    let from = next.swept.and_then(|swept| {
        let overlap = i64::try_from(settings.overlap.as_micros()).unwrap_or(i64::MAX);
        next.clock.bound(swept.checked_sub(overlap)?.checked_sub(OVERLAP_SLACK)?)
    });
    let range = Range { after: sweep.after.as_ref(), through: Some(&sweep.through), from };
    let (swept, last) = reader.read(&range, left, &mut next.clock)?;
    next.newest = swept.iter().map(|row| row.time).chain(next.newest).max();
    let is_complete = (swept.len() as u32) < left;
    match is_complete {
        true => next.swept = sweep.newest.or(next.swept),
        false => next.sweep = Some(Sweep { after: last.or(sweep.after.clone()), ..sweep }),
    }
    rows.extend(swept);
    Ok(Polled { rows, progress: next, is_complete, is_behind: false })
}

/// All rows that there are, read as one poll without an end would; how far that was.
pub(super) fn read_all(
    source: &mut dyn Source,
    plan: &Plan,
    table: &str,
    progress: &Progress,
    settings: &Settings,
) -> Result<Polled> {
    let mut next = Progress { after: None, sweep: None, swept: progress.newest, ..progress.clone() };
    let mut reader = Reader { source, plan, table, deletes: &settings.deletes };
    let mut rows = Vec::new();
    loop {
        let range = Range { after: next.after.as_ref(), ..Range::default() };
        let (read, last) = reader.read(&range, COPY_ROWS, &mut next.clock)?;
        let is_end = read.len() < COPY_ROWS as usize;
        rows.extend(read);
        next.after = last.or(next.after);
        if is_end {
            next.newest = rows.iter().map(|row| row.time).chain(next.newest).max();
            return Ok(Polled { rows, progress: next, is_complete: true, is_behind: false });
        }
    }
}

/// Rows that one SELECT of a copy reads.
const COPY_ROWS: u32 = 1 << 16;

/// Reads ranges of one table.
struct Reader<'r> {
    source: &'r mut dyn Source,
    plan: &'r Plan,
    table: &'r str,
    deletes: &'r DeleteDetection,
}

impl Reader<'_> {
    /// The rows of a range, and where the last one stands.
    fn read(&mut self, range: &Range<'_>, limit: u32, clock: &mut Clock) -> Result<(Vec<Row>, Option<Cursor>)> {
        let read = self.source.select(&self.plan.rows(range, limit))?;
        let has_deletes = *self.deletes != DeleteDetection::Disabled;
        // The last row has the greatest value, which tells best what the clock counts.
        if clock.kind.is_none()
            && let Some(last) = read.last()
        {
            let clock_at = last.len() - self.plan.cursor.len() - usize::from(has_deletes) - 1;
            clock.read(&last[clock_at]).map_err(|problem| self.refused(problem))?;
        }
        let mut rows = Vec::with_capacity(read.len());
        let mut cursor = None;
        for mut values in read {
            let order = values.split_off(values.len() - self.plan.cursor.len());
            let is_deleted = has_deletes && values.pop().as_ref().is_some_and(is_set);
            let (updated, created) = (values.pop().unwrap_or(Value::Null), values.pop().unwrap_or(Value::Null));
            let time = clock.read(&updated).map_err(|problem| self.refused(problem))?;
            // Its kind is no matter of the clock's, and neither is a time that cannot be read.
            let is_new = created == updated || Clock::default().read(&created).is_ok_and(|created| created == time);
            rows.push(Row { values, time, is_new, is_deleted });
            cursor = Some(Cursor { values: order });
        }
        Ok((rows, cursor))
    }

    fn refused(&self, problem: String) -> Error {
        Error::Engine(format!("table {:?} of the source, its clock {}: {problem}", self.table, self.plan.order[0]))
    }
}

/// Whether a column marks its row as deleted.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Integer(integer) => *integer != 0,
        Value::Real(real) => *real != 0.0,
        Value::Text(text) => !matches!(text.trim(), "" | "0") && !text.trim().eq_ignore_ascii_case("false"),
        Value::Blob(bytes) => !bytes.is_empty(),
    }
}
