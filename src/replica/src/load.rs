//! Loads all rows of a table at once: the initial copy replaces a replica with them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use vexact_core::error::{Error, Result};

use super::index::{Edit, KeyIndex, Location};
use super::version::{Definition, Part, SEGMENT_ROWS, Segment, SyncMode, TableVersion};
use super::writer::hash_in;

/// Makes the first version of a table with these rows, of the registered schema and with distinct
/// keys. In a temporal replica they are valid from `time` on.
pub(super) fn version(definition: Arc<Definition>, batches: &[RecordBatch], time: i64) -> Result<TableVersion> {
    let mut parts: Vec<Option<Part>> = Vec::new();
    for batch in batches {
        for start in (0..batch.num_rows()).step_by(SEGMENT_ROWS) {
            let rows = batch.slice(start, SEGMENT_ROWS.min(batch.num_rows() - start));
            let rows = match definition.mode {
                SyncMode::Destructive => rows,
                SyncMode::Temporal => opened(&definition, &rows, time)?,
            };
            if parts.len() > usize::from(u16::MAX) {
                return Err(Error::Engine(format!("table {:?}: more than {} segments", definition.name, u16::MAX)));
            }
            parts.push(Some(Part::new(Arc::new(Segment::try_new(rows, &definition.key)?))));
        }
    }
    let index = KeyIndex::with_capacity(parts.iter().flatten().map(|part| part.live_rows).sum());
    let hash_of = |location: Location| hash_in(&parts, location, &index);
    for (slot, part) in parts.iter().enumerate() {
        let rows = part.as_ref().map_or(0, |part| part.live_rows);
        let added = (0..rows).map(|row| {
            let location = Location::new(slot, row);
            Edit { hash: hash_of(location), from: None, to: Some(location) }
        });
        index.apply(0, added.collect(), hash_of);
    }
    Ok(TableVersion::new(definition, parts, 0, Arc::new(index)))
}

impl TableVersion {
    /// The first version of a table without rows.
    ///
    /// # Errors
    /// None that is expected.
    pub fn empty(definition: Arc<Definition>) -> Result<Self> {
        version(definition, &[], 0)
    }
}

/// The rows as the open ones of a history.
fn opened(definition: &Definition, rows: &RecordBatch, time: i64) -> Result<RecordBatch> {
    let count = rows.num_rows();
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_value(time, count)));
    columns.push(Arc::new(Int64Array::new_null(count)));
    columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n("I", count))));
    RecordBatch::try_new(definition.stored_schema(), columns).map_err(Error::arrow)
}
