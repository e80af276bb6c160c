//! Selection of the rows that one cycle reads from one table.
//!
//! The *main read* goes up, row by row in the order of (clock, key), and never back: its position
//! is the watermark. *Sweeps* find rows that it missed. A sweep reads again, in the same order,
//! from some time before the watermark up to where the main read was when the sweep began. The main
//! read goes first; sweeps use the rest of a cycle's rows, over as many cycles as they need.
//!
//! A sweep goes back to `overlap` before the newest time that was known when the sweep before it
//! *began*. So a row that is committed at most `overlap` later than its clock says is read: the
//! first sweep that no longer covers its time begins after a row was seen that is more than
//! `overlap` newer, so after it was committed, and the one before that covered it.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::types::Value;
use serde::{Deserialize, Serialize};
use vexact_core::error::{Error, Result};

use super::Settings;
use super::calendar::DAY;
use super::clock::Clock;
use super::config::DeleteDetection;
use super::source::{Cursor, Plan, Range, Source};

/// A clock that is written in seconds, or compared as text, is exact to no more than this,
/// microseconds.
const OVERLAP_SLACK: i64 = 1_000_000;

/// Read position of a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub clock: Clock,
    /// The watermark: the last row of the main read.
    pub after: Option<Cursor>,
    /// The newest time that was read, microseconds.
    pub newest: Option<i64>,
    /// Value of `newest` at the start of the last finished sweep; before the first sweep, the
    /// newest time when the table was first described.
    pub swept: Option<i64>,
    /// The running sweep; after a restart of the process it begins again.
    #[serde(skip)]
    pub sweep: Option<Sweep>,
    /// The last row read of the rows beyond the horizon; `None` if the next pass reads them from
    /// the start.
    #[serde(skip)]
    pub ahead: Option<Cursor>,
    #[serde(skip)]
    pub untimely: Untimely,
}

/// Rows whose clock is no time or lies beyond the horizon.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Untimely {
    /// Number of such rows that the main read passed.
    passed: u64,
    /// Number of rows beyond the horizon, at the end of the last pass over them.
    ahead: u64,
    /// Rows found so far by the running pass.
    ahead_so_far: u64,
    /// One of their clocks.
    example: String,
}

impl Untimely {
    /// Their number and one of their clocks; `None` if there are none.
    pub fn found(&self) -> Option<(u64, &str)> {
        let rows = self.passed + self.ahead.max(self.ahead_so_far);
        (rows > 0).then_some((rows, &self.example))
    }

    /// Counts a part of a pass over the rows beyond the horizon.
    fn count_ahead(&mut self, found: u64, (is_first, is_end): (bool, bool)) {
        self.ahead_so_far = if is_first { found } else { self.ahead_so_far + found };
        if is_end {
            (self.ahead, self.ahead_so_far) = (self.ahead_so_far, 0);
        }
    }
}

/// A running sweep.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sweep {
    after: Option<Cursor>,
    through: Cursor,
    newest: Option<i64>,
}

/// A row of the source.
#[derive(Debug)]
pub(super) struct Row {
    /// The replicated columns.
    pub values: Vec<Value>,
    /// Microseconds.
    pub time: i64,
    /// True if `created_at` and `updated_at` are equal.
    pub is_new: bool,
    pub is_deleted: bool,
}

/// Result of reading a table.
#[derive(Debug)]
pub(super) struct Polled {
    pub rows: Vec<Row>,
    pub progress: Progress,
    /// True if the main read and a sweep are both finished.
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
    let mut reader = Reader { source, plan, table, deletes: &settings.deletes, horizon: horizon() };
    let limit = settings.batch_size;
    let below = next.clock.beyond(reader.horizon);
    let range = Range { after: progress.after.as_ref(), below: below.clone(), ..Range::default() };
    let Read { mut rows, last, last_timely, count, newest, untimely } = reader.read(&range, limit, &mut next)?;
    next.newest = newest.max(next.newest);
    // If the kind of the clock was not known, the read did not end at the horizon.
    next.after = if below.is_some() { last } else { last_timely }.or(next.after);
    if below.is_some() {
        next.untimely.passed += untimely;
    }
    let mut left = limit - count;
    if left == 0 {
        return Ok(Polled { rows, progress: next, is_complete: false, is_behind: true });
    }
    if below.is_some() {
        let ahead = next.ahead.take();
        let range = Range { after: ahead.as_ref(), at_least: below, ..Range::default() };
        let Read { rows: found, last, count, untimely, .. } = reader.read(&range, left, &mut next)?;
        rows.extend(found);
        next.untimely.count_ahead(untimely, (ahead.is_none(), count < left));
        if count == left {
            next.ahead = last.or(ahead);
            return Ok(Polled { rows, progress: next, is_complete: false, is_behind: false });
        }
        left -= count;
    }
    // The sweep covers the rows behind the main read before this cycle; rows of this cycle were
    // just read.
    let begun = || Some(Sweep { after: None, through: progress.after.clone()?, newest: progress.newest });
    let Some(sweep) = next.sweep.take().or_else(begun) else {
        return Ok(Polled { rows, progress: next, is_complete: true, is_behind: false });
    };
    let from = next.swept.and_then(|swept| {
        let overlap = i64::try_from(settings.overlap.as_micros()).unwrap_or(i64::MAX);
        next.clock.bound(swept.checked_sub(overlap)?.checked_sub(OVERLAP_SLACK)?)
    });
    let range = Range { after: sweep.after.as_ref(), through: Some(&sweep.through), from, ..Range::default() };
    let Read { rows: swept, last, count, newest, .. } = reader.read(&range, left, &mut next)?;
    next.newest = newest.max(next.newest);
    let is_complete = count < left;
    match is_complete {
        true => next.swept = sweep.newest.or(next.swept),
        false => next.sweep = Some(Sweep { after: last.or(sweep.after.clone()), ..sweep }),
    }
    rows.extend(swept);
    Ok(Polled { rows, progress: next, is_complete, is_behind: false })
}

/// Reads all rows of a table, as one poll without a limit; returns the rows and the read position.
pub(super) fn read_all(
    source: &mut dyn Source,
    plan: &Plan,
    table: &str,
    progress: &Progress,
    settings: &Settings,
) -> Result<Polled> {
    let untimely = Untimely::default();
    let mut next =
        Progress { after: None, ahead: None, sweep: None, swept: progress.newest, untimely, ..progress.clone() };
    let mut reader = Reader { source, plan, table, deletes: &settings.deletes, horizon: horizon() };
    let below = next.clock.beyond(reader.horizon);
    let mut rows = Vec::new();
    loop {
        let range = Range { after: next.after.as_ref(), below: below.clone(), ..Range::default() };
        let mut learned = next.clone();
        let Read { rows: read, last, last_timely, count, newest, untimely } =
            reader.read(&range, COPY_ROWS, &mut learned)?;
        rows.extend(read);
        (next.clock, next.untimely.example) = (learned.clock, learned.untimely.example);
        next.newest = newest.max(next.newest);
        let is_end = count < COPY_ROWS;
        match below {
            Some(_) => next.untimely.passed += untimely,
            None => next.untimely.count_ahead(untimely, (false, is_end)),
        }
        next.after = if below.is_none() && is_end { last_timely } else { last }.or(next.after);
        if is_end {
            break;
        }
    }
    let mut ahead = None;
    while below.is_some() {
        let range = Range { after: ahead.as_ref(), at_least: below.clone(), ..Range::default() };
        let Read { rows: read, last, count, untimely, .. } = reader.read(&range, COPY_ROWS, &mut next)?;
        rows.extend(read);
        next.untimely.count_ahead(untimely, (ahead.is_none(), count < COPY_ROWS));
        ahead = last.or(ahead);
        if count < COPY_ROWS {
            break;
        }
    }
    Ok(Polled { rows, progress: next, is_complete: true, is_behind: false })
}

/// Rows that one SELECT of a copy reads.
const COPY_ROWS: u32 = 1 << 16;

/// A time that no correct clock has reached yet, in microseconds since the Unix epoch.
pub(super) fn horizon() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX).saturating_add(DAY)
}

/// Reads ranges of one table.
struct Reader<'r> {
    source: &'r mut dyn Source,
    plan: &'r Plan,
    table: &'r str,
    deletes: &'r DeleteDetection,
    horizon: i64,
}

/// Result of reading a range.
struct Read {
    rows: Vec<Row>,
    /// Cursor of the last row.
    last: Option<Cursor>,
    /// Cursor of the last row with a plausible time.
    last_timely: Option<Cursor>,
    count: u32,
    /// The newest plausible time.
    newest: Option<i64>,
    /// Rows whose clock is no time or lies beyond the horizon.
    untimely: u64,
}

impl Reader<'_> {
    /// The rows of a range. A row whose clock is no time has the newest time that is known: it must
    /// not stop its table.
    fn read(&mut self, range: &Range<'_>, limit: u32, progress: &mut Progress) -> Result<Read> {
        let read = self.source.select(&self.plan.rows(range, limit))?;
        let count = read.len() as u32;
        let has_deletes = *self.deletes != DeleteDetection::Disabled;
        let clock = &mut progress.clock;
        if clock.kind.is_none() {
            let clock_at = |row: &[Value]| row.len() - self.plan.cursor.len() - usize::from(has_deletes) - 1;
            // The last row has the greatest value, which identifies the unit of the clock best.
            let values: Vec<Value> = read.iter().rev().map(|row| row[clock_at(row)].clone()).collect();
            clock.learn(&values).map_err(|problem| self.refused(problem))?;
        }
        let mut rows = Vec::with_capacity(read.len());
        let (mut last, mut last_timely) = (None, None);
        let (mut newest, mut untimely): (Option<i64>, u64) = (None, 0);
        for mut values in read {
            let order = values.split_off(values.len() - self.plan.cursor.len());
            let is_deleted = has_deletes && values.pop().as_ref().is_some_and(is_set);
            let (updated, created) = (values.pop().unwrap_or(Value::Null), values.pop().unwrap_or(Value::Null));
            let told = clock.read(&updated).ok();
            let timely = told.filter(|time| *time <= self.horizon);
            newest = timely.max(newest);
            if timely.is_none() {
                untimely += 1;
                progress.untimely.example = clock.written(&updated);
            }
            let time = told.or(newest).or(progress.newest).unwrap_or_default();
            // The kind of `created_at` is independent of the clock's kind, and an unreadable
            // `created_at` is no error.
            let is_new = created == updated || Clock::default().read(&created).is_ok_and(|created| created == time);
            rows.push(Row { values, time, is_new, is_deleted });
            last = Some(Cursor { values: order });
            if timely.is_some() {
                last_timely = last.clone();
            }
        }
        Ok(Read { rows, last, last_timely, count, newest, untimely })
    }

    fn refused(&self, problem: String) -> Error {
        Error::Engine(format!("table {:?} of the source, its clock {}: {problem}", self.table, self.plan.order[0]))
    }
}

/// Returns true if the value of the delete column marks its row as deleted.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Integer(integer) => *integer != 0,
        Value::Real(real) => *real != 0.0,
        Value::Text(text) => {
            let text = text.trim();
            let is_no = ["", "false", "f", "no", "n", "off"].iter().any(|no| text.eq_ignore_ascii_case(no));
            !is_no && text.parse::<f64>() != Ok(0.0)
        }
        Value::Blob(bytes) => bytes.iter().any(|byte| *byte != 0),
    }
}
