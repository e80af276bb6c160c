//! Which rows a scan reads, and how their components come to be `f32`.

use std::ops::Range;

use arrow_buffer::BooleanBuffer;
use half::slice::HalfFloatSliceExt;

use super::MORSEL_BYTES;
use super::sketched::Sketched;
use crate::column::{ChunkedColumn, Components, VectorColumn};

/// Rows of one chunk that a thread claims at once.
pub(super) struct Morsel {
    pub chunk: usize,
    rows: Range<usize>,
}

/// The selected, valid rows of each chunk, cut into morsels.
pub(super) struct Scan<'a> {
    column: &'a ChunkedColumn<'a>,
    /// For each chunk, a bit for each row to read; `None`: all.
    selected: Vec<Option<BooleanBuffer>>,
    pub morsels: Vec<Morsel>,
    /// Those of the chunks whose sketch is read.
    pub sketched: Vec<Morsel>,
    /// Bytes of the rows to read, of codes where there is a sketch.
    pub bytes: usize,
}

impl<'a> Scan<'a> {
    /// `sketched` has the chunks whose sketch is read.
    pub fn new(
        column: &'a ChunkedColumn<'a>,
        selection: Option<&BooleanBuffer>,
        sketched: Option<&Sketched<'_>>,
    ) -> Self {
        let mut scan = Self { column, selected: Vec::new(), morsels: Vec::new(), sketched: Vec::new(), bytes: 0 };
        for (ordinal, chunk) in column.chunks().iter().enumerate() {
            let selection = selection.map(|bits| bits.slice(column.start(ordinal), chunk.len()));
            let selected = match (chunk.valid(), selection) {
                (Some(valid), Some(selection)) => Some(valid & &selection),
                (valid, selection) => selection.or(valid.cloned()),
            };
            let count = selected.as_ref().map_or(chunk.len(), BooleanBuffer::count_set_bits);
            let by_codes = sketched.filter(|sketched| sketched.covers(ordinal));
            let (row_bytes, at_once) = match by_codes {
                Some(sketched) => (sketched.row_bytes(), sketched.morsel_rows()),
                None => (chunk.row_bytes(), (MORSEL_BYTES / chunk.row_bytes()).max(64)),
            };
            scan.bytes += count * row_bytes;
            // Morsels are equal in bytes to read, about, so a sparse selection makes longer ones.
            if let Some(rows) = at_once.saturating_mul(chunk.len()).checked_div(count) {
                let starts = (0..chunk.len()).step_by(rows);
                let morsels = starts.map(|start| Morsel { chunk: ordinal, rows: start..chunk.len().min(start + rows) });
                if by_codes.is_some() { scan.sketched.extend(morsels) } else { scan.morsels.extend(morsels) }
            }
            scan.selected.push(selected);
        }
        scan
    }

    pub fn chunk(&self, morsel: &Morsel) -> &'a VectorColumn<'a> {
        &self.column.chunks()[morsel.chunk]
    }

    /// Position of a row of a morsel's chunk.
    pub fn position(&self, morsel: &Morsel, row: u32) -> u64 {
        (self.column.start(morsel.chunk) + row as usize) as u64
    }

    /// Calls `block` with the ordinals within the chunk of the rows to read, up to `size` at a
    /// time.
    pub fn for_each_block(&self, morsel: &Morsel, size: usize, block: impl FnMut(&[u32])) {
        let mut blocks = Blocks::new(size, block);
        match &self.selected[morsel.chunk] {
            None => in_streams(morsel.rows.clone()).for_each(|row| blocks.push(row)),
            Some(bits) => {
                let of_morsel = bits.slice(morsel.rows.start, morsel.rows.len());
                // Where most rows are read, the streams are still streams.
                if 2 * of_morsel.count_set_bits() > morsel.rows.len() {
                    in_streams(morsel.rows.clone()).filter(|row| bits.value(*row)).for_each(|row| blocks.push(row));
                } else {
                    of_morsel.set_indices().for_each(|i| blocks.push(morsel.rows.start + i));
                }
            }
        }
        blocks.finish();
    }

    /// As [`Self::for_each_block`], in ascending order.
    pub fn for_each_block_in_order(&self, morsel: &Morsel, size: usize, block: impl FnMut(&[u32])) {
        let rows = morsel.rows.clone();
        let mut blocks = Blocks::new(size, block);
        match &self.selected[morsel.chunk] {
            None => blocks.extend(rows),
            Some(bits) => {
                bits.slice(rows.start, rows.len()).set_indices().for_each(|i| blocks.push(rows.start + i));
            }
        }
        blocks.finish();
    }
}

/// Gathers rows, and calls `block` with up to `size` of them.
struct Blocks<F> {
    ids: Vec<u32>,
    size: usize,
    block: F,
}

impl<F: FnMut(&[u32])> Blocks<F> {
    fn new(size: usize, block: F) -> Self {
        Self { ids: Vec::with_capacity(size), size, block }
    }

    #[inline(always)]
    fn push(&mut self, id: usize) {
        self.ids.push(id as u32);
        if self.ids.len() == self.size {
            (self.block)(&self.ids);
            self.ids.clear();
        }
    }

    /// Pushes consecutive rows.
    fn extend(&mut self, rows: Range<usize>) {
        for start in rows.clone().step_by(self.size) {
            self.ids.clear();
            self.ids.extend(start as u32..rows.end.min(start + self.size) as u32);
            (self.block)(&self.ids);
        }
        self.ids.clear();
    }

    fn finish(mut self) {
        if !self.ids.is_empty() {
            (self.block)(&self.ids);
        }
    }
}

/// Streams of memory that a thread reads at a time: as many as the kernels take rows at once.
const STREAMS: usize = 4;

/// The rows of a range, one in turn from each of [`STREAMS`] consecutive parts: long streams are
/// what hardware prefetchers recognise, where rows that follow each other would begin a new short
/// one each.
fn in_streams(rows: Range<usize>) -> impl Iterator<Item = usize> {
    let each = rows.len() / STREAMS;
    let rest = rows.start + each * STREAMS..rows.end;
    let start = rows.start;
    (0..each).flat_map(move |i| (0..STREAMS).map(move |stream| start + stream * each + i)).chain(rest)
}

/// A buffer in which `f16` and `f64` rows become `f32`; `f32` rows are read where they are.
#[derive(Default)]
pub(super) struct Staging {
    floats: Vec<f32>,
    ids: Vec<u32>,
}

impl Staging {
    /// The components and the ordinals of the rows within them.
    pub fn stage<'s>(&'s mut self, chunk: &VectorColumn<'s>, ids: &'s [u32]) -> (&'s [f32], &'s [u32]) {
        let dim = chunk.dim();
        let rows = |id: &u32| *id as usize * dim..(*id as usize + 1) * dim;
        let wide = match chunk.components() {
            Components::F32(floats) => return (floats, ids),
            wide => wide,
        };
        self.floats.resize(ids.len() * dim, 0.0);
        for (out, id) in self.floats.chunks_exact_mut(dim).zip(ids) {
            match wide {
                Components::F16(halves) => halves[rows(id)].convert_to_f32_slice(out),
                Components::F64(doubles) => {
                    out.iter_mut().zip(&doubles[rows(id)]).for_each(|(out, x)| *out = *x as f32)
                }
                Components::F32(floats) => out.copy_from_slice(&floats[rows(id)]),
                Components::I8(numbers) => {
                    out.iter_mut().zip(&numbers[rows(id)]).for_each(|(out, x)| *out = f32::from(*x))
                }
                Components::U8(numbers) => {
                    out.iter_mut().zip(&numbers[rows(id)]).for_each(|(out, x)| *out = f32::from(*x))
                }
                // Bits are compared as they are.
                Components::Bits(_) => {}
            }
        }
        self.ids.clear();
        self.ids.extend(0..ids.len() as u32);
        (&self.floats, &self.ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_give_every_row_once() {
        for range in [0..0, 3..4, 5..12, 7..107] {
            let mut rows: Vec<usize> = in_streams(range.clone()).collect();
            rows.sort_unstable();
            assert_eq!(rows, range.collect::<Vec<_>>());
        }
    }
}
