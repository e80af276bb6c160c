//! `WINDOW BY time EVERY ms [SLIDE ms] [LATENESS ms] AS name` assigns rows to windows and decides
//! when a window is closed.
//!
//! A window begins at a multiple of SLIDE since the epoch (UTC) and lasts EVERY; without SLIDE
//! windows follow each other. Its name is a column: its start time. With LATENESS a window is
//! closed once the newest event time is that much past its end.
//!
//! Windows that overlap share *panes*, the pieces between any two of their borders, of gcd(EVERY,
//! SLIDE) milliseconds. If a query only groups by its windows, rows are aggregated by pane, and the
//! result of a pane is merged into each of its windows: that costs the same as windows that do not
//! overlap.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{CastOptions, cast, cast_with_options, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, *};
use vexact_core::error::{Error, Result};

use super::source::columns;

/// Maximum EVERY and LATENESS. With [`LATEST_MS`], no sum of times and lengths overflows 64 bits.
pub(super) const LONGEST_MS: i64 = 1 << 60;

/// Maximum absolute value of an event time: 73 million years.
const LATEST_MS: i64 = 1 << 61;

/// Window definition. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WindowBy {
    /// The column of event times.
    pub time: String,
    /// Index of the column of event times.
    time_at: usize,
    /// The type of the window's column.
    data_type: DataType,
    pub every_ms: i64,
    pub slide_ms: i64,
    pub lateness_ms: Option<i64>,
    /// The window's column.
    pub name: String,
    /// True if each row is assigned to its pane instead of its windows.
    pub is_by_pane: bool,
}

/// `WINDOW BY` clause as it is written in SQL.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WindowClause {
    /// Name of the column, preceded by the relation's name if it is given.
    pub time: Vec<String>,
    pub every_ms: i64,
    pub slide_ms: Option<i64>,
    pub lateness_ms: Option<i64>,
    pub name: String,
}

/// Rows of a micro-batch, assigned to windows.
pub(super) struct Assigned {
    /// Rows with the window's column at the end. A row of several windows occurs once for each,
    /// unless the windows are panes; rows of only closed windows are dropped.
    pub rows: RecordBatch,
    /// Number of rows of only closed windows.
    pub late_rows: u64,
    /// The newest event time.
    pub newest: Option<i64>,
}

impl WindowBy {
    /// Creates the windows over a relation.
    ///
    /// # Errors
    /// A column that is missing or has no times; a name that is used already.
    pub fn try_new(clause: &WindowClause, schema: &Schema) -> Result<Self> {
        let time = clause.time.last().cloned().unwrap_or_default();
        let Ok(time_at) = schema.index_of(&time) else {
            let problem = format!("WINDOW BY: column {time:?} not found: expected one of ({})", columns(schema));
            return Err(Error::InvalidArgument(problem));
        };
        if schema.index_of(&clause.name).is_ok() {
            let name = &clause.name;
            let problem = format!("WINDOW BY ... AS {name}: the stream has a column {name:?}: expected another name");
            return Err(Error::InvalidArgument(problem));
        }
        let data_type = match schema.field(time_at).data_type() {
            // Windows may begin within a second, so milliseconds are needed.
            DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
            timestamp @ DataType::Timestamp(..) => timestamp.clone(),
            DataType::Date32 | DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
            DataType::Int64 | DataType::Int32 | DataType::UInt32 => DataType::Int64,
            // Texts are ISO 8601 times, as in CSV and JSON; without an offset they are UTC.
            text if is_text(text) => DataType::Timestamp(TimeUnit::Millisecond, None),
            other => {
                return Err(Error::InvalidArgument(format!(
                    "WINDOW BY {time}: expected a timestamp, a date, ISO 8601 text or milliseconds since the epoch as an \
                     integer, got {other}"
                )));
            }
        };
        Ok(Self {
            time,
            time_at,
            data_type,
            every_ms: clause.every_ms,
            slide_ms: clause.slide_ms.unwrap_or(clause.every_ms),
            lateness_ms: clause.lateness_ms,
            name: clause.name.clone(),
            is_by_pane: false,
        })
    }

    /// Returns the window's column.
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.data_type.clone(), true)
    }

    /// Returns true if windows overlap.
    pub fn is_sliding(&self) -> bool {
        self.slide_ms != self.every_ms
    }

    /// Returns the start of the newest closed window: it, and those that begin before it, are
    /// closed.
    pub fn horizon(&self, newest: Option<i64>) -> Option<i64> {
        newest?.checked_sub(self.lateness_ms?)?.checked_sub(self.every_ms)
    }

    fn pane_ms(&self) -> i64 {
        let (mut a, mut b) = (self.every_ms, self.slide_ms);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// Returns the start of the last window that contains a time.
    fn last(&self, time: i64) -> i64 {
        time - time.rem_euclid(self.slide_ms)
    }

    /// Returns the start of the first window that contains a time, or a pane that begins then.
    fn first(&self, time: i64) -> i64 {
        self.last(time - self.every_ms) + self.slide_ms
    }

    /// Returns the open windows that contain a time.
    fn open(&self, time: i64, horizon: Option<i64>) -> impl Iterator<Item = i64> {
        let first = self.first(time);
        let windows = (self.last(time) - first) / self.slide_ms + 1;
        let slide = self.slide_ms;
        (0..windows).map(move |i| first + i * slide).filter(move |begin| horizon.is_none_or(|horizon| *begin > horizon))
    }

    /// Assigns rows to their windows. `newest` is the newest event time of the previous
    /// micro-batches: it decides which windows are closed.
    ///
    /// # Errors
    /// Times that milliseconds cannot hold.
    pub fn assign(&self, schema: &SchemaRef, batch: &RecordBatch, newest: Option<i64>) -> Result<Assigned> {
        let times = millis(batch.column(self.time_at)).map_err(|error| match error {
            Error::InvalidArgument(problem) => Error::InvalidArgument(format!("WINDOW BY {}: {problem}", self.time)),
            other => other,
        })?;
        if let Some(far) = times.iter().flatten().find(|time| !(-LATEST_MS..=LATEST_MS).contains(time)) {
            return Err(Error::InvalidArgument(format!(
                "WINDOW BY {}: expected an event time within {LATEST_MS} ms of the epoch, got {far} ms",
                self.time
            )));
        }
        let here = arrow::compute::max(&times);
        let horizon = self.horizon(newest);
        let late = |time: &i64| horizon.is_some_and(|horizon| self.first(*time) <= horizon);
        let late_rows = match horizon {
            Some(_) => times.iter().flatten().filter(late).count() as u64,
            None => 0,
        };
        let newest = newest.max(here);
        let is_one = self.is_by_pane || !self.is_sliding();
        let (rows, windows) = if is_one && late_rows == 0 {
            let pane = self.pane_ms();
            (None, times.unary::<_, Int64Type>(|time| time - time.rem_euclid(pane)))
        } else {
            let (mut rows, mut windows) = (Vec::new(), Vec::new());
            for (row, time) in times.iter().enumerate() {
                let before = windows.len();
                match time {
                    None => windows.push(None),
                    Some(time) if is_one => {
                        let is_open = self.open(time, horizon).next().is_some();
                        windows.extend(is_open.then(|| Some(time - time.rem_euclid(self.pane_ms()))));
                    }
                    Some(time) => windows.extend(self.open(time, horizon).map(Some)),
                }
                rows.extend(std::iter::repeat_n(row as u32, windows.len() - before));
            }
            (Some(UInt32Array::from(rows)), Int64Array::from(windows))
        };
        let taken = match rows {
            Some(rows) => take_record_batch(batch, &rows).map_err(Error::arrow)?,
            None => batch.clone(),
        };
        let mut arrays = taken.columns().to_vec();
        arrays.push(of_millis(windows, &self.data_type)?);
        let rows = RecordBatch::try_new(Arc::clone(schema), arrays).map_err(Error::arrow)?;
        Ok(Assigned { rows, late_rows, newest })
    }

    /// Converts results of panes to results of windows; the column of their start times is at index
    /// `place`.
    ///
    /// # Errors
    /// Errors of Arrow only.
    pub fn spread(&self, panes: &RecordBatch, place: usize, newest: Option<i64>) -> Result<RecordBatch> {
        let begins = millis(panes.column(place))?;
        let horizon = self.horizon(newest);
        let (mut rows, mut windows) = (Vec::new(), Vec::new());
        for (row, begin) in begins.iter().enumerate() {
            let before = windows.len();
            match begin {
                None => windows.push(None),
                Some(begin) => windows.extend(self.open(begin, horizon).map(Some)),
            }
            rows.extend(std::iter::repeat_n(row as u32, windows.len() - before));
        }
        let taken = take_record_batch(panes, &UInt32Array::from(rows)).map_err(Error::arrow)?;
        let mut arrays = taken.columns().to_vec();
        arrays[place] = of_millis(Int64Array::from(windows), &self.data_type)?;
        RecordBatch::try_new(panes.schema(), arrays).map_err(Error::arrow)
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        other => other.is_string(),
    }
}

/// Converts times to milliseconds since the epoch, rounded down.
///
/// # Errors
/// Times that 64 bits of milliseconds cannot hold; a type without times.
pub(super) fn millis(times: &ArrayRef) -> Result<Int64Array> {
    let units = |per: i64| {
        let ticks = cast(times, &DataType::Int64).map_err(Error::arrow)?;
        Ok(ticks.as_primitive::<Int64Type>().unary(|tick| tick.div_euclid(per)))
    };
    match times.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            let seconds = cast(times, &DataType::Int64).map_err(Error::arrow)?;
            seconds.as_primitive::<Int64Type>().try_unary(|second| {
                let overflow =
                    || Error::InvalidArgument(format!("event time {second} s: expected one within milliseconds"));
                second.checked_mul(1000).ok_or_else(overflow)
            })
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => units(1000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => units(1_000_000),
        text if is_text(text) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
            let read = cast_with_options(times, &utc, &options).map_err(|error| {
                Error::InvalidArgument(format!("expected ISO 8601 text such as 2024-01-31T10:00:00Z: {error}"))
            })?;
            Ok(read.as_primitive::<TimestampMillisecondType>().reinterpret_cast::<Int64Type>())
        }
        DataType::Date32 => {
            let days = times.as_primitive::<Date32Type>();
            Ok(days.unary(|day| i64::from(day) * 86_400_000))
        }
        _ => units(1),
    }
}

/// Converts start times of windows to the type of their column.
fn of_millis(millis: Int64Array, data_type: &DataType) -> Result<ArrayRef> {
    let per = match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000,
        _ => 1,
    };
    let ticks = millis.try_unary::<_, Int64Type, _>(|milli| {
        let overflow =
            || Error::InvalidArgument(format!("a window that begins at {milli} ms: expected one within {data_type}"));
        milli.checked_mul(per).ok_or_else(overflow)
    })?;
    cast(&ticks, data_type).map_err(Error::arrow)
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampNanosecondArray;
    use proptest::prelude::*;

    use super::*;

    fn clause(every_ms: i64, slide_ms: Option<i64>, lateness_ms: Option<i64>) -> WindowClause {
        WindowClause { time: vec!["t".into()], every_ms, slide_ms, lateness_ms, name: "w".into() }
    }

    fn batch(times: Vec<Option<i64>>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("t", Arc::new(Int64Array::from(times)) as ArrayRef, true)]).unwrap()
    }

    fn schema(window: &WindowBy) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("t", DataType::Int64, true), window.field()]))
    }

    /// A time and its window.
    type Assigned = (Option<i64>, Option<i64>);

    fn assigned(window: &WindowBy, times: Vec<Option<i64>>, newest: Option<i64>) -> (Vec<Assigned>, u64) {
        let assigned = window.assign(&schema(window), &batch(times), newest).unwrap();
        let column = |at| assigned.rows.column(at).as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
        (column(0).into_iter().zip(column(1)).collect(), assigned.late_rows)
    }

    #[test]
    fn windows_are_aligned_to_the_epoch_before_and_after_it() {
        let window = WindowBy::try_new(&clause(10, None, None), batch(vec![]).schema().as_ref()).unwrap();
        let (rows, late) = assigned(&window, vec![Some(0), Some(9), Some(10), Some(-1), None], None);
        let expected =
            [(Some(0), Some(0)), (Some(9), Some(0)), (Some(10), Some(10)), (Some(-1), Some(-10)), (None, None)];
        assert_eq!((rows.as_slice(), late), (&expected[..], 0));
    }

    #[test]
    fn a_window_is_closed_once_the_newest_time_is_past_its_end_by_the_lateness() {
        let window = WindowBy::try_new(&clause(10, None, Some(5)), batch(vec![]).schema().as_ref()).unwrap();
        // The window 0..10 is open at 14 and closed at 15.
        assert_eq!(assigned(&window, vec![Some(3)], Some(14)), (vec![(Some(3), Some(0))], 0));
        assert_eq!(assigned(&window, vec![Some(3), Some(12)], Some(15)), (vec![(Some(12), Some(10))], 1));
        let sliding = WindowBy::try_new(&clause(10, Some(5), Some(0)), batch(vec![]).schema().as_ref()).unwrap();
        // The row at 7 is in 0..10, which is closed, and in 5..15, which is open; -5..5 does not
        // contain it.
        assert_eq!(assigned(&sliding, vec![Some(7)], Some(10)), (vec![(Some(7), Some(5))], 1));
    }

    #[test]
    fn columns_without_times_are_refused_by_name_and_type() {
        let flags = Schema::new(vec![Field::new("t", DataType::Boolean, true)]);
        let error = WindowBy::try_new(&clause(10, None, None), &flags).unwrap_err().to_string();
        assert!(error.contains("WINDOW BY t") && error.contains("Boolean"), "{error}");
        let missing = Schema::new(vec![Field::new("x", DataType::Int64, true)]);
        assert!(WindowBy::try_new(&clause(10, None, None), &missing).unwrap_err().to_string().contains("x Int64"));
    }

    #[test]
    fn texts_of_times_are_instants() {
        let texts = |texts: Vec<Option<&str>>| {
            let column = Arc::new(arrow::array::StringArray::from(texts)) as ArrayRef;
            RecordBatch::try_from_iter_with_nullable([("t", column, true)]).unwrap()
        };
        let batch =
            texts(vec![Some("1970-01-01T00:00:01.500"), Some("1970-01-01 02:00:02+02:00"), Some("1970-01-01"), None]);
        let window = WindowBy::try_new(&clause(1000, None, None), batch.schema().as_ref()).unwrap();
        let schema = Arc::new(Schema::new(vec![batch.schema().field(0).clone(), window.field()]));
        let rows = window.assign(&schema, &batch, None).unwrap().rows;
        let begins = rows.column(1).as_primitive::<TimestampMillisecondType>();
        assert_eq!(begins.iter().collect::<Vec<_>>(), [Some(1000), Some(2000), Some(0), None]);
        let error = window.assign(&schema, &texts(vec![Some("soon")]), None).err().unwrap().to_string();
        assert!(error.contains("WINDOW BY t: expected ISO 8601 text") && error.contains("'soon'"), "{error}");
    }

    #[test]
    fn times_at_the_ends_of_64_bits_are_refused_and_none_overflows() {
        for (every, slide) in [(10, None), (LONGEST_MS, None), (LONGEST_MS, Some(LONGEST_MS / 2)), (7, Some(3))] {
            let window = WindowBy::try_new(&clause(every, slide, Some(LONGEST_MS)), &batch(vec![]).schema()).unwrap();
            for time in [i64::MIN, i64::MIN + 1, i64::MAX, -LATEST_MS - 1] {
                let assigned = window.assign(&schema(&window), &batch(vec![Some(time)]), None);
                assert!(assigned.err().unwrap().to_string().contains(&format!("got {time} ms")));
            }
            for time in [-LATEST_MS, LATEST_MS] {
                for newest in [None, Some(-LATEST_MS), Some(LATEST_MS)] {
                    let (rows, _) = assigned(&window, vec![Some(time)], newest);
                    assert!(
                        rows.iter().all(|(_, begin)| begin.is_some_and(|begin| begin <= time && time - begin < every))
                    );
                }
            }
        }
    }

    #[test]
    fn nanoseconds_keep_their_type() {
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![-1, 1_500_000_000]));
        let batch = RecordBatch::try_from_iter([("t", times)]).unwrap();
        let window = WindowBy::try_new(&clause(1000, None, None), batch.schema().as_ref()).unwrap();
        let schema = Arc::new(Schema::new(vec![batch.schema().field(0).clone(), window.field()]));
        let rows = window.assign(&schema, &batch, None).unwrap().rows;
        let begins = rows.column(1).as_primitive::<TimestampNanosecondType>();
        assert_eq!(begins.values(), &[-1_000_000_000, 1_000_000_000]);
    }

    proptest! {
        /// Panes that are spread equal the windows of the rows.
        #[test]
        fn panes_spread_to_the_windows_of_their_rows(
            times in prop::collection::vec(prop::option::of(-200_i64..200), 0..40),
            (every, slide) in (1_i64..40).prop_flat_map(|every| (Just(every), 1..=every)),
            lateness in prop::option::of(0_i64..30),
            newest in prop::option::of(-100_i64..100),
        ) {
            let by_row = WindowBy::try_new(&clause(every, Some(slide), lateness), batch(vec![]).schema().as_ref()).unwrap();
            let by_pane = WindowBy { is_by_pane: true, ..by_row.clone() };
            let rows = by_row.assign(&schema(&by_row), &batch(times.clone()), newest).unwrap();
            let panes = by_pane.assign(&schema(&by_row), &batch(times.clone()), newest).unwrap();
            prop_assert_eq!(rows.late_rows, panes.late_rows);
            let spread = by_pane.spread(&panes.rows, 1, newest).unwrap();
            prop_assert_eq!(&spread, &rows.rows);
            for (time, begin) in assigned(&by_row, times, newest).0 {
                if let (Some(time), Some(begin)) = (time, begin) {
                    prop_assert!(begin.rem_euclid(slide) == 0 && begin <= time && time < begin + every);
                    prop_assert!(by_row.horizon(newest).is_none_or(|horizon| begin > horizon));
                }
            }
        }
    }
}
