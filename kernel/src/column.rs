//! Vector columns, borrowed from Arrow without a copy and validated once.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int8Type, UInt8Type};
use arrow_array::{Array, ArrowPrimitiveType, FixedSizeListArray, GenericListArray, OffsetSizeTrait, PrimitiveArray};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{DataType, Field};
use half::f16;

use crate::error::{KernelError, Result};
use crate::metric::Metric;
use crate::reference::{self, Element};
use crate::sketch::Sketch;

/// The components of a column, row after row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Components<'a> {
    F16(&'a [f16]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    I8(&'a [i8]),
    U8(&'a [u8]),
    /// Eight components a byte, the least significant bit first.
    Bits(&'a [u8]),
}

/// Evaluates `$body` with `$x` bound to the slice of whichever element type the components have;
/// for bits, `$of_bits` with the bytes.
macro_rules! for_elements {
    ($components:expr, $x:ident => $body:expr, $bytes:ident => $of_bits:expr) => {
        match $components {
            Components::F16($x) => $body,
            Components::F32($x) => $body,
            Components::F64($x) => $body,
            Components::I8($x) => $body,
            Components::U8($x) => $body,
            Components::Bits($bytes) => $of_bits,
        }
    };
}

/// One Arrow array of vectors, read in place, slices and offsets included: `FixedSizeList` of
/// `Float32`, `Float16`, `Float64`, `Int8` or `UInt8`, or `FixedSizeBinary`, whose vectors are of
/// bits, the least significant bit of each byte first. A NULL row, or one with a NULL component,
/// cannot be compared and is skipped by a search.
#[derive(Debug, Clone)]
pub struct VectorColumn<'a> {
    components: Components<'a>,
    dim: usize,
    len: usize,
    /// Set for the rows that are neither NULL nor contain a NULL. `None`: all.
    valid: Option<BooleanBuffer>,
    sketch: Option<&'a Sketch>,
}

impl<'a> VectorColumn<'a> {
    /// Borrows a `FixedSizeList` or `FixedSizeBinary` array. Nothing is copied; validation reads the
    /// validity bitmaps only.
    ///
    /// # Errors
    /// [`KernelError::NotAVectorColumn`] for any other type, `List` included (see
    /// [`to_fixed_size_list`]).
    pub fn try_new(array: &'a dyn Array) -> Result<Self> {
        let not_a_vector = || KernelError::NotAVectorColumn { got: array.data_type().to_string() };
        if let Some(bits) = array.as_fixed_size_binary_opt() {
            let bytes = usize::try_from(bits.value_length()).ok().filter(|bytes| *bytes > 0);
            let bytes = bytes.ok_or_else(not_a_vector)?;
            let start = bits.offset() * bytes;
            let valid = bits.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| nulls.inner().clone());
            let components = Components::Bits(&bits.values()[start..start + bits.len() * bytes]);
            return Ok(Self { components, dim: 8 * bytes, len: bits.len(), valid, sketch: None });
        }
        let list = array.as_fixed_size_list_opt().ok_or_else(not_a_vector)?;
        let dim = usize::try_from(list.value_length()).ok().filter(|dim| *dim > 0).ok_or_else(not_a_vector)?;
        let values = list.values();
        let components = match values.data_type() {
            DataType::Float16 => Components::F16(values.as_primitive::<Float16Type>().values()),
            DataType::Float32 => Components::F32(values.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Components::F64(values.as_primitive::<Float64Type>().values()),
            DataType::Int8 => Components::I8(values.as_primitive::<Int8Type>().values()),
            DataType::UInt8 => Components::U8(values.as_primitive::<UInt8Type>().values()),
            _ => return Err(not_a_vector()),
        };
        let whole = values.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| {
            NullBuffer::from_iter((0..list.len()).map(|row| nulls.slice(row * dim, dim).null_count() == 0))
        });
        let valid = NullBuffer::union(list.nulls(), whole.as_ref())
            .filter(|nulls| nulls.null_count() > 0)
            .map(|nulls| nulls.inner().clone());
        Ok(Self { components, dim, len: list.len(), valid, sketch: None })
    }

    /// Borrows vectors of `dim` floats each, which follow each other without a gap. No row is NULL.
    ///
    /// # Errors
    /// [`KernelError::PartialRow`] if `dim` is 0 or does not divide the number of floats.
    pub fn from_floats(floats: &'a [f32], dim: usize) -> Result<Self> {
        if dim == 0 || !floats.len().is_multiple_of(dim) {
            return Err(KernelError::PartialRow { dim, got: floats.len() });
        }
        Ok(Self::of_floats(floats, dim))
    }

    /// Adds a sketch of these rows, which a search reads instead of the vectors where that is
    /// faster. It must have been encoded from the same values, which is not checked: from another
    /// column's sketch come wrong answers.
    ///
    /// # Errors
    /// [`KernelError::SketchMismatch`] for a sketch of another dim or number of rows.
    pub fn with_sketch(mut self, sketch: &'a Sketch) -> Result<Self> {
        let describe = |rows: usize, dim: usize| format!("{rows} rows of {dim} components");
        let (expected, got) = (describe(self.len, self.dim), describe(sketch.len(), sketch.basis().dim()));
        if expected != got {
            return Err(KernelError::SketchMismatch { expected, got });
        }
        self.sketch = Some(sketch);
        Ok(self)
    }

    pub(crate) fn sketch(&self) -> Option<&'a Sketch> {
        self.sketch
    }

    /// Rows of plain floats.
    pub(crate) fn of_floats(floats: &'a [f32], dim: usize) -> Self {
        Self { components: Components::F32(floats), dim, len: floats.len() / dim, valid: None, sketch: None }
    }

    /// Rows, NULL ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Components of each vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// SQL's distance of one row to a query: [`reference::distance`], `None` also where the row is
    /// NULL or holds one.
    ///
    /// # Panics
    /// If `row` is not below [`Self::len`] or the query has another dim.
    pub fn distance(&self, metric: Metric, row: usize, query: &[f64]) -> Option<f64> {
        assert_eq!(query.len(), self.dim, "components of the query");
        let is_valid = self.valid.as_ref().is_none_or(|valid| valid.value(row));
        is_valid.then(|| self.stored_distance(metric, row, query)).flatten()
    }

    /// The score of one row in a search: [`reference::score`], `None` also where the row is NULL or
    /// holds one.
    ///
    /// # Panics
    /// As [`Self::distance`].
    pub fn score(&self, metric: Metric, row: usize, query: &[f64]) -> Option<f64> {
        assert_eq!(query.len(), self.dim, "components of the query");
        let is_valid = self.valid.as_ref().is_none_or(|valid| valid.value(row));
        is_valid.then(|| self.stored_score(metric, row, query)).flatten()
    }

    pub(crate) fn stored_distance(&self, metric: Metric, row: usize, query: &[f64]) -> Option<f64> {
        for_elements!(self.components,
            x => reference::distance(metric, &x[row * self.dim..][..self.dim], query),
            _bytes => reference::distance(metric, &self.bits(row), query))
    }

    pub(crate) fn stored_score(&self, metric: Metric, row: usize, query: &[f64]) -> Option<f64> {
        for_elements!(self.components,
            x => reference::score(metric, &x[row * self.dim..][..self.dim], query),
            _bytes => reference::score(metric, &self.bits(row), query))
    }

    /// A row of bits as its components; empty for other vectors.
    fn bits(&self, row: usize) -> Vec<bool> {
        match self.components {
            Components::Bits(bytes) => reference::bits(&bytes[row * self.row_bytes()..][..self.row_bytes()]),
            _ => Vec::new(),
        }
    }

    /// Hints that a row will be read.
    pub(crate) fn prefetch(&self, row: usize) {
        for_elements!(self.components,
            x => crate::arch::prefetch(&x[row * self.dim..][..self.dim]),
            bytes => crate::arch::prefetch(&bytes[row * self.row_bytes()..][..self.row_bytes()]));
    }

    /// Writes a row's components, widened exactly.
    pub(crate) fn widen(&self, row: usize, out: &mut [f64]) {
        fn widen<T: Element>(x: &[T], out: &mut [f64]) {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = x.to_f64());
        }
        for_elements!(self.components,
            x => widen(&x[row * self.dim..][..self.dim], out),
            _bytes => widen(&self.bits(row), out));
    }

    /// Returns true unless a row is NULL or holds one.
    pub(crate) fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid.value(row))
    }

    pub(crate) fn components(&self) -> Components<'a> {
        self.components
    }

    pub(crate) fn valid(&self) -> Option<&BooleanBuffer> {
        self.valid.as_ref()
    }

    /// Bytes that a scan reads per row.
    pub(crate) fn row_bytes(&self) -> usize {
        match self.components {
            Components::F16(_) => 2 * self.dim,
            Components::F32(_) => 4 * self.dim,
            Components::F64(_) => 8 * self.dim,
            Components::I8(_) | Components::U8(_) => self.dim,
            Components::Bits(_) => self.dim / 8,
        }
    }

    /// Returns true if the components are whole numbers of one byte, or bits.
    pub(crate) fn is_of_bytes(&self) -> bool {
        matches!(self.components, Components::I8(_) | Components::U8(_) | Components::Bits(_))
    }

    /// Refuses a metric of bits over numbers, and one of numbers over bits.
    ///
    /// # Errors
    /// [`KernelError::MetricMismatch`].
    pub(crate) fn check_metric(&self, metric: Metric) -> Result<()> {
        metric.check_vectors(matches!(self.components, Components::Bits(_)), self.element_name())
    }

    pub(crate) fn element_name(&self) -> &'static str {
        match self.components {
            Components::F16(_) => "float16",
            Components::F32(_) => "float32",
            Components::F64(_) => "float64",
            Components::I8(_) => "int8",
            Components::U8(_) => "uint8",
            Components::Bits(_) => "bits",
        }
    }
}

/// Many arrays that are one column: a row's position counts the rows of all chunks before its own.
#[derive(Debug, Clone)]
pub struct ChunkedColumn<'a> {
    chunks: Vec<VectorColumn<'a>>,
    /// Position of each chunk's first row, and the number of rows at the end.
    starts: Vec<usize>,
}

impl<'a> ChunkedColumn<'a> {
    /// Joins chunks of one dim and one element type.
    ///
    /// # Errors
    /// [`KernelError::MixedChunks`], naming the first chunk that differs.
    pub fn try_new(chunks: Vec<VectorColumn<'a>>) -> Result<Self> {
        let name = |chunk: &VectorColumn| format!("{}[{}]", chunk.element_name(), chunk.dim);
        let differs = chunks.iter().position(|chunk| name(chunk) != name(&chunks[0]));
        if let Some(ordinal) = differs {
            let (expected, got) = (name(&chunks[0]), name(&chunks[ordinal]));
            return Err(KernelError::MixedChunks { chunk: ordinal, expected, got });
        }
        let mut starts = vec![0];
        starts.extend(chunks.iter().scan(0, |rows, chunk| {
            *rows += chunk.len();
            Some(*rows)
        }));
        Ok(Self { chunks, starts })
    }

    /// Rows of all chunks.
    pub fn len(&self) -> usize {
        self.starts[self.chunks.len()]
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Components of each vector; `None` without chunks.
    pub fn dim(&self) -> Option<usize> {
        self.chunks.first().map(VectorColumn::dim)
    }

    /// SQL's distance of one row to a query, as [`VectorColumn::distance`].
    ///
    /// # Panics
    /// As [`VectorColumn::distance`].
    pub fn distance(&self, metric: Metric, position: u64, query: &[f64]) -> Option<f64> {
        let (chunk, row) = self.locate(position);
        self.chunks[chunk].distance(metric, row, query)
    }

    /// The score of one row in a search, as [`VectorColumn::score`].
    ///
    /// # Panics
    /// As [`VectorColumn::distance`].
    pub fn score(&self, metric: Metric, position: u64, query: &[f64]) -> Option<f64> {
        let (chunk, row) = self.locate(position);
        self.chunks[chunk].score(metric, row, query)
    }

    /// The chunk that holds a row, and the row's ordinal within it.
    ///
    /// # Panics
    /// If `position` is not below [`Self::len`].
    pub fn locate(&self, position: u64) -> (usize, usize) {
        let position = position as usize;
        assert!(position < self.len(), "row {position} of {}", self.len());
        let chunk = self.starts.partition_point(|start| *start <= position) - 1;
        (chunk, position - self.starts[chunk])
    }

    pub(crate) fn chunks(&self) -> &[VectorColumn<'a>] {
        &self.chunks
    }

    pub(crate) fn start(&self, chunk: usize) -> usize {
        self.starts[chunk]
    }
}

impl<'a> From<&VectorColumn<'a>> for ChunkedColumn<'a> {
    fn from(column: &VectorColumn<'a>) -> Self {
        Self { chunks: vec![column.clone()], starts: vec![0, column.len()] }
    }
}

impl<'a> From<&ChunkedColumn<'a>> for ChunkedColumn<'a> {
    fn from(column: &ChunkedColumn<'a>) -> Self {
        column.clone()
    }
}

/// A `List` or `LargeList` of floats, `Int8` or `UInt8`, all of one length, as a `FixedSizeList`; NULL rows may have
/// any length. A `FixedSizeList` comes back as it is. Values are shared, not copied, where no NULL
/// row stands between them. Without any non-NULL row, `dim` decides the length (1 where it is
/// `None`).
///
/// # Errors
/// [`KernelError::RaggedRows`] with the first row whose length is not `dim`, or not that of the
/// first row; [`KernelError::NotAVectorColumn`] for any other type.
pub fn to_fixed_size_list(array: &dyn Array, dim: Option<usize>) -> Result<FixedSizeListArray> {
    let not_a_vector = || KernelError::NotAVectorColumn { got: array.data_type().to_string() };
    match array.data_type() {
        DataType::FixedSizeList(..) => Ok(array.as_fixed_size_list().clone()),
        DataType::List(item) if is_element(item.data_type()) => uniform(array.as_list::<i32>(), item, dim),
        DataType::LargeList(item) if is_element(item.data_type()) => uniform(array.as_list::<i64>(), item, dim),
        _ => Err(not_a_vector()),
    }
}

fn is_element(data_type: &DataType) -> bool {
    data_type.is_floating() || matches!(data_type, DataType::Int8 | DataType::UInt8)
}

fn uniform<O: OffsetSizeTrait>(
    list: &GenericListArray<O>,
    item: &Arc<Field>,
    dim: Option<usize>,
) -> Result<FixedSizeListArray> {
    let present = || (0..list.len()).filter(|row| list.is_valid(*row));
    let length = |row: usize| list.value_length(row).as_usize();
    let expected = dim.or_else(|| present().next().map(length)).unwrap_or(1);
    if expected == 0 {
        return Err(KernelError::NotAVectorColumn { got: format!("{} of empty vectors", list.data_type()) });
    }
    if let Some(row) = present().find(|row| length(*row) != expected) {
        return Err(KernelError::RaggedRows { row, expected, got: length(row) });
    }
    let offsets = list.value_offsets();
    let first = offsets[0].as_usize();
    let is_dense = (0..=list.len()).all(|row| offsets[row].as_usize() == first + row * expected);
    let values = if is_dense {
        list.values().slice(first, list.len() * expected)
    } else {
        let indices = (0..list.len()).flat_map(|row| {
            let start = list.is_valid(row).then(|| offsets[row].as_usize());
            (0..expected).map(move |i| start.map(|start| start + i))
        });
        match item.data_type() {
            DataType::Float16 => gather(list.values().as_primitive::<Float16Type>(), indices),
            DataType::Float32 => gather(list.values().as_primitive::<Float32Type>(), indices),
            DataType::Int8 => gather(list.values().as_primitive::<Int8Type>(), indices),
            DataType::UInt8 => gather(list.values().as_primitive::<UInt8Type>(), indices),
            _ => gather(list.values().as_primitive::<Float64Type>(), indices),
        }
    };
    // A NULL row's components are NULL themselves, so the item has to allow it.
    let item = Arc::new(item.as_ref().clone().with_nullable(true));
    Ok(FixedSizeListArray::new(item, expected as i32, values, list.nulls().cloned()))
}

fn gather<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    indices: impl Iterator<Item = Option<usize>>,
) -> Arc<dyn Array> {
    let value = |i: usize| values.is_valid(i).then(|| values.value(i));
    Arc::new(PrimitiveArray::<T>::from_iter(indices.map(|i| i.and_then(value))))
}
