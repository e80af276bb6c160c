//! Delete bitmaps as files: one file holds all bitmaps that changed since the previous save.

use arrow::buffer::{BooleanBuffer, Buffer};

use super::manifest::BitmapEntry;

/// Bytes of the bitmap of some rows.
pub(super) fn bytes_of(rows: usize) -> usize {
    rows.div_ceil(8)
}

/// A bitmap file that is being built.
#[derive(Debug)]
pub(super) struct BitmapFile {
    pub name: String,
    pub content: Vec<u8>,
}

impl BitmapFile {
    pub fn push(&mut self, live: &BooleanBuffer, live_rows: usize) -> BitmapEntry {
        let entry = BitmapEntry { rows: live_rows, file: self.name.clone(), offset: self.content.len() };
        self.content.extend_from_slice(&live.sliced()[..bytes_of(live.len())]);
        entry
    }
}

/// Returns the bitmap of a segment with `rows` rows; returns a description of the problem if the
/// file does not have it.
pub(super) fn read(content: &[u8], entry: &BitmapEntry, rows: usize) -> Result<BooleanBuffer, String> {
    let bytes = bytes_of(rows);
    let found = content.get(entry.offset..).and_then(|rest| rest.get(..bytes)).ok_or_else(|| {
        format!("expected a bitmap of {bytes} bytes at {}, got a file of {} bytes", entry.offset, content.len())
    })?;
    // A copy, so that no version keeps the whole file.
    let live = BooleanBuffer::new(Buffer::from(found), 0, rows);
    let live_rows = live.count_set_bits();
    if live_rows != entry.rows {
        return Err(format!("expected {} live rows in the bitmap at {}, got {live_rows}", entry.rows, entry.offset));
    }
    Ok(live)
}
