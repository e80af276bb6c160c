//! Groups of a streaming aggregate: their keys, and the states of their aggregates as Arrow
//! columns.
//!
//! States are stored in *segments*, immutable batches, youngest last; a slot has, for each group,
//! the row of its state. A micro-batch merges the states of the groups that it touched, and the
//! result is a new segment; the rows that it replaced are dead. Segments are merged like the runs
//! of a log-structured merge tree: several of about one size, and all of them once more rows are
//! dead than live. So a micro-batch costs the touched groups, times a logarithm, and a checkpoint
//! writes only the new segments.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{interleave, take, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use vexact_core::error::{Error, Result};

use super::aggregate::Aggregates;
use super::window::millis;

/// Maximum number of dead rows, and of removed groups, that are not worth a copy of the others.
const FEW_ROWS: usize = 4096;
/// Maximum number of segments of about one size that are not worth a merge.
const FEW_SEGMENTS: usize = 3;

/// Immutable rows of states.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Unique within a query and its checkpoints.
    pub serial: u64,
    /// Keys and states of the groups.
    pub rows: RecordBatch,
    /// Group of each row.
    groups: Vec<u32>,
    /// Number of rows that slots refer to.
    live: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Slot {
    segment: u32,
    row: u32,
}

/// The groups.
pub(super) struct GroupState {
    aggregates: Aggregates,
    /// Maps each key to its group, a number.
    keys: Box<dyn GroupValues>,
    /// Slot of each group; `None` if the group has been removed.
    slots: Vec<Option<Slot>>,
    segments: Vec<Segment>,
    live: usize,
    next_serial: u64,
    /// Index of the key that is a window, and the groups of each open window by its start.
    window: Option<(usize, BTreeMap<i64, Vec<u32>>)>,
    /// For each group, its number among those that a micro-batch touched; unset between
    /// micro-batches.
    touched: Vec<u32>,
}

const UNTOUCHED: u32 = u32::MAX;

impl fmt::Debug for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupState({} groups, {} segments)", self.live, self.segments.len())
    }
}

fn key_index(aggregates: &Aggregates) -> Result<Box<dyn GroupValues>> {
    let fields = aggregates.state_schema.fields()[..aggregates.keys].to_vec();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    Ok(new_group_values(schema, &GroupOrdering::None)?)
}

impl GroupState {
    /// Creates an empty state. `window` is the index of the key that is a window.
    ///
    /// # Errors
    /// Keys of types that cannot be grouped by.
    pub fn try_new(aggregates: Aggregates, window: Option<usize>) -> Result<Self> {
        Ok(Self {
            keys: key_index(&aggregates)?,
            aggregates,
            slots: Vec::new(),
            segments: Vec::new(),
            live: 0,
            next_serial: 0,
            window: window.map(|key| (key, BTreeMap::new())),
            touched: Vec::new(),
        })
    }

    /// Returns the number of groups.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Returns the segments, for a checkpoint.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the size in bytes.
    pub fn size_bytes(&self) -> usize {
        let segments =
            self.segments.iter().map(|segment| segment.rows.get_array_memory_size() + 4 * segment.groups.len());
        segments.sum::<usize>() + self.keys.size() + self.slots.len() * (size_of::<Option<Slot>>() + 4)
    }

    /// Returns the group of each row.
    fn intern(&mut self, rows: &RecordBatch) -> Result<Vec<usize>> {
        let mut groups = Vec::with_capacity(rows.num_rows());
        match self.aggregates.keys {
            0 => groups.resize(rows.num_rows(), 0),
            keys => self.keys.intern(&rows.columns()[..keys], &mut groups)?,
        }
        let count = groups.iter().max().map_or(0, |last| last + 1).max(self.slots.len());
        self.slots.resize(count, None);
        self.touched.resize(count, UNTOUCHED);
        Ok(groups)
    }

    /// Returns the aggregates of the groups.
    pub fn aggregates(&self) -> &Aggregates {
        &self.aggregates
    }

    /// Merges the result of a micro-batch, as [`Self::take_in`], and returns the new results of the
    /// groups that it touched, in the same order.
    ///
    /// # Errors
    /// An error of an accumulator.
    pub fn merge(&mut self, partial: &RecordBatch) -> Result<RecordBatch> {
        let rows = self.take_in(partial)?;
        self.results_of(&rows)
    }

    fn results_of(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let (keys, states) = rows.columns().split_at(self.aggregates.keys);
        self.aggregates.results(keys, states, rows.num_rows())
    }

    /// Merges the result of a micro-batch: rows of keys and states, of which several may have one
    /// key. Returns the keys and new states of the groups that it touched, in the order of their
    /// first rows.
    ///
    /// # Errors
    /// An error of an accumulator.
    pub fn take_in(&mut self, partial: &RecordBatch) -> Result<RecordBatch> {
        let groups = self.intern(partial)?;
        // The touched groups are numbered by their first row.
        let (mut touched, mut first) = (Vec::new(), Vec::new());
        let mut own = Vec::with_capacity(groups.len());
        for (row, group) in groups.iter().enumerate() {
            if self.touched[*group] == UNTOUCHED {
                self.touched[*group] = touched.len() as u32;
                touched.push(*group as u32);
                first.push(row as u32);
            }
            own.push(self.touched[*group] as usize);
        }
        touched.iter().for_each(|group| self.touched[*group as usize] = UNTOUCHED);

        let keys = self.aggregates.keys;
        let (mut places, mut olds) = (Vec::new(), Vec::new());
        for (number, group) in touched.iter().enumerate() {
            if let Some(slot) = self.slots[*group as usize] {
                places.push((slot.segment as usize, slot.row as usize));
                olds.push(number);
            }
        }
        let (mut columns, states): (Vec<ArrayRef>, Vec<ArrayRef>) = if places.is_empty() && touched.len() == own.len() {
            (partial.columns()[..keys].to_vec(), partial.columns()[keys..].to_vec())
        } else {
            let first = UInt32Array::from(first);
            let taken = partial.columns()[..keys].iter().map(|column| take(column, &first, None));
            let taken = taken.collect::<Result<_, _>>().map_err(Error::arrow)?;
            let old = self.gather(keys..self.aggregates.state_schema.fields().len(), &places)?;
            let parts = [(old.as_slice(), olds.as_slice()), (&partial.columns()[keys..], own.as_slice())];
            (taken, self.aggregates.merge(&parts, touched.len())?)
        };
        columns.extend(states);
        let rows = self.batch(columns, touched.len())?;
        self.place(rows.clone(), touched)?;
        self.compact()?;
        Ok(rows)
    }

    /// Returns all results, in batches.
    ///
    /// # Errors
    /// An error of an accumulator.
    pub fn results(&self) -> Result<Vec<RecordBatch>> {
        let of_segment = |(at, segment): (usize, &Segment)| {
            let live = self.live_rows(at, segment);
            let rows = take_record_batch(&segment.rows, &UInt32Array::from(live)).map_err(Error::arrow)?;
            self.results_of(&rows)
        };
        self.segments.iter().enumerate().map(of_segment).collect()
    }

    /// Removes the groups of windows that begin at `horizon` or before.
    ///
    /// # Errors
    /// Errors of Arrow only.
    pub fn close(&mut self, horizon: i64) -> Result<()> {
        let Some((_, open)) = &mut self.window else { return Ok(()) };
        let closed = match horizon.checked_add(1) {
            Some(next) => {
                let still_open = open.split_off(&next);
                std::mem::replace(open, still_open)
            }
            None => std::mem::take(open),
        };
        for group in closed.into_values().flatten() {
            if let Some(slot) = self.slots[group as usize].take() {
                self.segments[slot.segment as usize].live -= 1;
                self.live -= 1;
            }
        }
        self.compact()
    }

    /// Restores the states of a checkpoint: segments in their order, of which the younger replace
    /// rows of the older.
    ///
    /// # Errors
    /// Rows of another query.
    pub fn restore(&mut self, segments: Vec<(u64, RecordBatch)>) -> Result<()> {
        for (serial, rows) in segments {
            let expected = &self.aggregates.state_schema;
            let types = |schema: &Schema| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
            if types(rows.schema().as_ref()) != types(expected) {
                return Err(Error::InvalidArgument(format!(
                    "the checkpoint is of another query: expected a state of ({}), got ({})",
                    super::source::columns(expected),
                    super::source::columns(rows.schema().as_ref())
                )));
            }
            let rows = self.batch(rows.columns().to_vec(), rows.num_rows())?;
            let groups = self.intern(&rows)?.into_iter().map(|group| group as u32).collect();
            self.next_serial = serial;
            self.place(rows, groups)?;
        }
        Ok(())
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.aggregates.state_schema);
        RecordBatch::try_new_with_options(schema, columns, &options).map_err(Error::arrow)
    }

    /// Gathers columns of rows from segments.
    fn gather(&self, columns: std::ops::Range<usize>, places: &[(usize, usize)]) -> Result<Vec<ArrayRef>> {
        // Segments without a wanted row are skipped, because interleaving inspects all of its
        // inputs.
        let mut used = vec![usize::MAX; self.segments.len()];
        let mut sources = Vec::new();
        let mut dense = Vec::with_capacity(places.len());
        for (segment, row) in places {
            if used[*segment] == usize::MAX {
                used[*segment] = sources.len();
                sources.push(*segment);
            }
            dense.push((used[*segment], *row));
        }
        let column = |column: usize| {
            if sources.is_empty() {
                return Ok(arrow::array::new_empty_array(self.aggregates.state_schema.field(column).data_type()));
            }
            let arrays: Vec<&dyn Array> =
                sources.iter().map(|segment| self.segments[*segment].rows.column(column).as_ref()).collect();
            interleave(&arrays, &dense).map_err(Error::arrow)
        };
        columns.map(column).collect()
    }

    fn live_rows(&self, at: usize, segment: &Segment) -> Vec<u32> {
        let is_live = |row: &u32| {
            self.slots[segment.groups[*row as usize] as usize] == Some(Slot { segment: at as u32, row: *row })
        };
        (0..segment.groups.len() as u32).filter(is_live).collect()
    }

    /// Adds a segment, whose rows replace those of their groups.
    fn place(&mut self, rows: RecordBatch, groups: Vec<u32>) -> Result<()> {
        if groups.is_empty() {
            return Ok(());
        }
        let begins = match &self.window {
            Some((key, _)) => Some(millis(rows.column(*key))?),
            None => None,
        };
        let segment = self.segments.len() as u32;
        for (row, group) in groups.iter().enumerate() {
            match self.slots[*group as usize].replace(Slot { segment, row: row as u32 }) {
                Some(old) if old.segment < segment => self.segments[old.segment as usize].live -= 1,
                Some(_) => {}
                None => {
                    self.live += 1;
                    if let (Some((_, open)), Some(begins)) = (&mut self.window, &begins)
                        && begins.is_valid(row)
                    {
                        open.entry(begins.value(row)).or_default().push(*group);
                    }
                }
            }
        }
        let live = groups.len();
        self.segments.push(Segment { serial: self.next_serial, rows, groups, live });
        self.next_serial += 1;
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        let has_left = self.slots.len() - self.live.min(self.slots.len());
        if has_left > self.live + FEW_ROWS {
            return self.rebuild();
        }
        let rows: usize = self.segments.iter().map(|segment| segment.groups.len()).sum();
        if rows > 2 * self.live + FEW_ROWS {
            return self.join(0);
        }
        // The youngest segments are merged while they have together at least half the size of the
        // one before them.
        let mut first = self.segments.len().saturating_sub(1);
        let mut live = self.segments.last().map_or(0, |youngest| youngest.live);
        while first > 0 && 2 * live >= self.segments[first - 1].live {
            first -= 1;
            live += self.segments[first].live;
        }
        if self.segments.len() - first > FEW_SEGMENTS { self.join(first) } else { Ok(()) }
    }

    /// Merges the live rows of the segments from `first` on into one segment.
    fn join(&mut self, first: usize) -> Result<()> {
        let live = |at: usize| self.live_rows(at, &self.segments[at]);
        let rows: Vec<(usize, Vec<u32>)> = (first..self.segments.len()).map(|at| (at, live(at))).collect();
        let mut alive = rows.iter().filter(|(_, rows)| !rows.is_empty());
        let joined = match (alive.next(), alive.next()) {
            (None, _) => None,
            // All rows are live.
            (Some((at, rows)), None) if rows.len() == self.segments[*at].groups.len() => {
                Some(self.segments[*at].clone())
            }
            _ => Some(self.copied(&rows)?),
        };
        self.segments.truncate(first);
        if let Some(segment) = joined {
            for (row, group) in segment.groups.iter().enumerate() {
                self.slots[*group as usize] = Some(Slot { segment: first as u32, row: row as u32 });
            }
            self.segments.push(segment);
        }
        Ok(())
    }

    /// Copies rows of other segments into a new segment.
    fn copied(&mut self, rows: &[(usize, Vec<u32>)]) -> Result<Segment> {
        let live = rows.iter().map(|(_, rows)| rows.len()).sum();
        let (mut places, mut groups) = (Vec::with_capacity(live), Vec::with_capacity(live));
        for (at, rows) in rows {
            places.extend(rows.iter().map(|row| (*at, *row as usize)));
            groups.extend(rows.iter().map(|row| self.segments[*at].groups[*row as usize]));
        }
        let columns = self.gather(0..self.aggregates.state_schema.fields().len(), &places)?;
        let rows = self.batch(columns, groups.len())?;
        self.next_serial += 1;
        Ok(Segment { serial: self.next_serial - 1, rows, groups, live })
    }

    /// Merges all segments into one, and renumbers the groups without the removed ones.
    fn rebuild(&mut self) -> Result<()> {
        self.join(0)?;
        let rows = self.segments.pop().map(|segment| segment.rows);
        let next_serial = self.next_serial;
        let window = self.window.as_ref().map(|(key, _)| *key);
        *self = Self::try_new(self.aggregates.clone(), window)?;
        self.next_serial = next_serial;
        let Some(rows) = rows else { return Ok(()) };
        let groups = self.intern(&rows)?.into_iter().map(|group| group as u32).collect();
        self.place(rows, groups)
    }
}
