//! Merges small segments and segments with many deleted rows, concurrently with readers and between
//! changes.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use vexact_core::error::{Error, Result};

use super::version::{Part, SEGMENT_ROWS, TableVersion};

/// Number of segments of one size class that are merged together. A row is copied once for each
/// class that it passes.
const MERGED: usize = 8;

/// Maximum number of rows of the smallest class.
const SMALL_ROWS: usize = 1 << 10;

/// Returns true if a part is large enough and has more deleted than live rows, so that a copy is
/// worthwhile.
fn is_mostly_dead(part: &Part) -> bool {
    let rows = part.segment.rows.num_rows();
    rows > SMALL_ROWS && part.live_rows < rows / 2
}

fn class(rows: usize) -> u32 {
    (rows / SMALL_ROWS).checked_ilog(MERGED).map_or(0, |class| class + 1)
}

/// Returns the slots of segments that are worth merging into one; returns `None` if there are none.
pub(super) fn choose(version: &TableVersion) -> Option<Vec<usize>> {
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (slot, part) in version.parts.iter().enumerate() {
        let Some(part) = part else { continue };
        if is_mostly_dead(part) {
            return Some(vec![slot]);
        }
        if part.live_rows < SEGMENT_ROWS / 2 {
            classes.entry(class(part.live_rows)).or_default().push(slot);
        }
    }
    let slots = classes.into_values().find(|slots| slots.len() >= MERGED)?;
    let mut rows = 0;
    let fits = |slot: &usize| {
        rows += version.parts[*slot].as_ref().map_or(0, |part| part.live_rows);
        rows <= SEGMENT_ROWS
    };
    let chosen: Vec<usize> = slots.into_iter().take_while(fits).collect();
    (chosen.len() > 1).then_some(chosen)
}

/// All segments, in groups that make full ones.
pub(super) fn choose_all(version: &TableVersion) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![Vec::new()];
    let mut rows = 0;
    let is_whole = |part: &Part| part.live.is_none() && part.live_rows == SEGMENT_ROWS;
    for (slot, part) in version.parts.iter().enumerate() {
        let Some(part) = part.as_ref().filter(|part| !is_whole(part)) else { continue };
        rows += part.live_rows;
        if rows > SEGMENT_ROWS {
            rows = part.live_rows;
            groups.push(Vec::new());
        }
        if let Some(group) = groups.last_mut() {
            group.push(slot);
        }
    }
    groups.retain(|group| {
        group.len() > 1
            || group.iter().any(|slot| version.parts[*slot].as_ref().is_some_and(|part| part.live.is_some()))
    });
    groups
}

/// The live rows of some segments, in order.
pub(super) fn merge(version: &TableVersion, slots: &[usize]) -> Result<RecordBatch> {
    let live = |part: &Part| match &part.live {
        Some(live) => filter_record_batch(&part.segment.rows, &BooleanArray::new(live.clone(), None)),
        None => Ok(part.segment.rows.clone()),
    };
    let parts = slots.iter().filter_map(|slot| version.parts[*slot].as_ref());
    let live: Vec<RecordBatch> = parts.map(live).collect::<Result<_, _>>().map_err(Error::arrow)?;
    concat_batches(&version.stored_schema, &live).map_err(Error::arrow)
}
