//! The components of a column of vectors while it is read.

use arrow::buffer::{Buffer, MutableBuffer};
use bytes::Bytes;
use memmap2::MmapMut;

/// Minimum size of a mapping with huge pages, in bytes: the unused rest of the last page is then
/// small in comparison.
const MAPPED_BYTES: usize = 16 << 20;

/// Rows of one length in bytes.
///
/// A copy of many vectors is bound by the memory that it fills: the system allocates each page of 4
/// KiB when it is first written. So a large column has its own mapping, for which the system uses
/// huge pages if it can.
pub(super) struct Components {
    row_bytes: usize,
    storage: Storage,
}

enum Storage {
    Heap(MutableBuffer),
    Mapped { map: MmapMut, used: usize },
}

impl Components {
    /// Creates an empty buffer for about `expected_rows` rows.
    pub fn new(row_bytes: usize, expected_rows: usize) -> Self {
        let heap = || Storage::Heap(MutableBuffer::new(0));
        let storage = match row_bytes.checked_mul(expected_rows) {
            Some(bytes) if bytes >= MAPPED_BYTES => {
                mapped(bytes).map_or_else(heap, |map| Storage::Mapped { map, used: 0 })
            }
            _ => heap(),
        };
        Self { row_bytes, storage }
    }

    /// A row of zeros after the others, to be written.
    pub fn next_row(&mut self) -> &mut [u8] {
        if let Storage::Mapped { map, used } = &self.storage
            && map.len() - used < self.row_bytes
        {
            self.storage = Storage::Heap(copied(&map[..*used]));
        }
        match &mut self.storage {
            Storage::Heap(heap) => {
                let start = heap.len();
                heap.resize(start + self.row_bytes, 0);
                &mut heap.as_slice_mut()[start..]
            }
            Storage::Mapped { map, used } => {
                let start = *used;
                *used += self.row_bytes;
                &mut map[start..*used]
            }
        }
    }

    /// All rows, one after the other.
    pub fn finish(self) -> Buffer {
        match self.storage {
            Storage::Heap(heap) => heap.into(),
            Storage::Mapped { map, used } if used < MAPPED_BYTES => copied(&map[..used]).into(),
            Storage::Mapped { map, used } => Bytes::from_owner(map).slice(..used).into(),
        }
    }
}

fn copied(bytes: &[u8]) -> MutableBuffer {
    let mut heap = MutableBuffer::with_capacity(bytes.len());
    heap.extend_from_slice(bytes);
    heap
}

/// Returns zeroed memory that is allocated when it is written; returns `None` if the system does
/// not have enough.
fn mapped(bytes: usize) -> Option<MmapMut> {
    let map = MmapMut::map_anon(bytes).ok()?;
    // Without huge pages it is ordinary memory.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that are their number, and each third untouched.
    fn filled(expected_rows: usize, rows: usize) -> (Buffer, Vec<u8>) {
        let mut components = Components::new(1024, expected_rows);
        let mut expected = Vec::new();
        for row in 0..rows {
            let value = if row % 3 == 0 { 0 } else { row as u8 };
            let bytes = components.next_row();
            assert!(bytes.len() == 1024 && bytes.iter().all(|byte| *byte == 0));
            if value > 0 {
                bytes.fill(value);
            }
            expected.resize(expected.len() + 1024, value);
        }
        (components.finish(), expected)
    }

    #[test]
    fn rows_come_back_wherever_they_were_kept() {
        let mapped = MAPPED_BYTES / 1024;
        for (expected_rows, rows) in [(0, 0), (0, 9), (mapped, 0), (mapped, 9), (mapped, mapped), (mapped, mapped + 9)]
        {
            let (buffer, expected) = filled(expected_rows, rows);
            assert_eq!(buffer.as_slice(), expected, "{rows} of {expected_rows} rows");
        }
        let (buffer, expected) = filled(mapped + 100, mapped + 50);
        assert_eq!((buffer.as_slice(), buffer.capacity()), (expected.as_slice(), expected.len()));
    }
}
