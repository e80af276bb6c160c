//! Difference of two versions of a table, as the rows that an index loses and gains.

use std::sync::Arc;

use arrow::array::RecordBatch;
use vexact_core::error::{Error, Result};

use crate::index::Location;
use crate::version::{Part, TableVersion};

/// Rows that are read at once.
const BATCH_ROWS: usize = 8192;

/// Rows that only the older version has, and rows that only the newer one has.
pub(super) struct Delta {
    pub removed: Vec<Location>,
    pub added: Vec<Location>,
}

impl Delta {
    /// Compares the segments and delete bitmaps of two versions.
    pub fn between(before: &TableVersion, after: &TableVersion) -> Self {
        let mut delta = Self { removed: Vec::new(), added: Vec::new() };
        for slot in 0..before.parts.len().max(after.parts.len()) {
            let part = |version: &TableVersion| version.parts.get(slot).cloned().flatten();
            let rows = |part: &Part| part.live_ordinals().into_iter().map(move |row| Location::new(slot, row));
            match (part(before), part(after)) {
                (None, None) => {}
                (Some(old), Some(new)) if Arc::ptr_eq(&old.segment, &new.segment) => {
                    if old.live_rows != new.live_rows {
                        // Rows of a segment are only ever deleted.
                        delta.removed.extend(rows(&old).filter(|location| !new.is_live(location.row())));
                    }
                }
                (old, new) => {
                    delta.removed.extend(old.iter().flat_map(&rows));
                    delta.added.extend(new.iter().flat_map(&rows));
                }
            }
        }
        delta
    }
}

/// Calls `work` with some columns of rows, batch by batch.
pub(super) fn each_batch(
    version: &TableVersion,
    locations: &[Location],
    columns: &[usize],
    mut work: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let mut narrow: Vec<Option<RecordBatch>> = vec![None; version.parts.len()];
    for locations in locations.chunks(BATCH_ROWS) {
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut places: Vec<Option<usize>> = vec![None; version.parts.len()];
        let mut rows = Vec::with_capacity(locations.len());
        for location in locations {
            let slot = location.slot();
            let place = match places[slot] {
                Some(place) => place,
                None => {
                    let projected = match (&narrow[slot], version.part(*location)) {
                        (Some(projected), _) => projected.clone(),
                        (None, Some(part)) => part.segment.rows.project(columns).map_err(Error::arrow)?,
                        (None, None) => continue,
                    };
                    narrow[slot] = Some(projected.clone());
                    batches.push(projected);
                    *places[slot].insert(batches.len() - 1)
                }
            };
            rows.push((place, location.row()));
        }
        if rows.is_empty() {
            continue;
        }
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        work(&arrow::compute::interleave_record_batch(&batches, &rows).map_err(Error::arrow)?)?;
    }
    Ok(())
}

/// Returns the locations of all live rows.
pub(super) fn all_rows(version: &TableVersion) -> Vec<Location> {
    let parts = version.parts.iter().enumerate().filter_map(|(slot, part)| Some((slot, part.as_ref()?)));
    parts.flat_map(|(slot, part)| part.live_ordinals().into_iter().map(move |row| Location::new(slot, row))).collect()
}
