//! One immutable state of a table: segments of rows, and bitmaps of their deleted rows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use vexact_core::error::{Error, Result};
use vexact_core::schema::{Column, ColumnType, TableSchema};
use vexact_sql::chunks::{Bounds, Chunks};
use vexact_sql::sketches::{BatchSketches, TableSketches};

use super::index::{KeyIndex, Location};
use super::key::Keys;

/// Maximum number of rows of a segment: its delete bitmap is 8 KiB, and a change copies no more
/// than that.
pub(super) const SEGMENT_ROWS: usize = 1 << 16;

/// Sync mode of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyncMode {
    /// The replica equals the table.
    Destructive,
    /// Rows are added and closed, never changed: SCD type 2.
    Temporal,
}

impl SyncMode {
    /// The name that settings and files have.
    pub fn name(self) -> &'static str {
        match self {
            Self::Destructive => "destructive",
            Self::Temporal => "temporal",
        }
    }
}

/// Microseconds since the epoch from which a row of a temporal replica is valid.
pub const VALID_FROM: &str = "_valid_from";
/// The time at which the row ceased to be valid; NULL while it is valid.
pub const VALID_TO: &str = "_valid_to";
/// The operation that created the row: `I`, `U` or `D`.
pub const OPERATION: &str = "_operation";

/// Definition of a replica: its table, columns, key and sync mode.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The table's name, as registered.
    pub name: String,
    /// The registered columns.
    pub schema: SchemaRef,
    /// Ordinals of the key's columns.
    pub key: Vec<usize>,
    /// The sync mode.
    pub mode: SyncMode,
}

impl Definition {
    /// Returns true if another definition of the same table has the same key columns.
    pub fn has_key_of(&self, other: &Definition) -> bool {
        let key = |definition: &Definition| -> Vec<Field> {
            definition.key.iter().map(|column| definition.schema.field(*column).clone()).collect()
        };
        key(self) == key(other)
    }

    /// Returns the registered schema; returns `None` if a column has an Arrow type that cannot be
    /// registered.
    pub fn table_schema(&self) -> Option<TableSchema> {
        let column = |field: &Arc<Field>| {
            Some(Column { name: field.name().clone(), column_type: ColumnType::of_arrow(field.data_type())? })
        };
        let columns = self.schema.fields().iter().map(column).collect::<Option<Vec<_>>>()?;
        let key: Vec<String> = self.key.iter().map(|at| self.schema.field(*at).name().clone()).collect();
        TableSchema::of_columns(&self.name, columns, &key).ok()
    }

    /// Returns the columns that order rows of equal distance: those of the key, and in a history
    /// its times.
    pub fn tie_order(&self) -> Vec<usize> {
        let registered = self.schema.fields().len();
        let times = match self.mode {
            SyncMode::Destructive => registered..registered,
            SyncMode::Temporal => registered..registered + 2,
        };
        self.key.iter().copied().chain(times).collect()
    }

    /// The columns that queries see: the registered ones, and in a temporal replica three more.
    pub fn stored_schema(&self) -> SchemaRef {
        match self.mode {
            SyncMode::Destructive => Arc::clone(&self.schema),
            SyncMode::Temporal => {
                let mut fields: Vec<_> = self.schema.fields().iter().cloned().collect();
                fields.push(Arc::new(Field::new(VALID_FROM, DataType::Int64, false)));
                fields.push(Arc::new(Field::new(VALID_TO, DataType::Int64, true)));
                fields.push(Arc::new(Field::new(OPERATION, DataType::Utf8, false)));
                Arc::new(Schema::new(fields))
            }
        }
    }
}

/// Rows that do not change any more.
#[derive(Debug)]
pub(super) struct Segment {
    /// An id that is unique in this process, by which a store recognises the segments it holds.
    pub id: u64,
    pub rows: RecordBatch,
    pub keys: Keys,
    /// Bounds by which filters prune the segment; computed at the first use.
    bounds: Arc<Bounds>,
    /// Sketches of its vectors, built in the background.
    sketches: Arc<BatchSketches>,
}

impl Segment {
    pub fn try_new(rows: RecordBatch, key: &[usize]) -> Result<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let bounds = Arc::new(Bounds::new(rows.num_columns()));
        Ok(Self { id, keys: Keys::try_new(&rows, key)?, rows, bounds, sketches: Arc::default() })
    }

    /// Bytes of the rows, whatever else is in the buffers that they share with other segments.
    /// Sketches are not included.
    pub fn size_bytes(&self) -> usize {
        let columns = self.rows.columns().iter();
        columns
            .map(|column| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()))
            .sum()
    }
}

/// A segment as one version sees it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub segment: Arc<Segment>,
    /// Bitmap of the live rows; `None` if all rows are live.
    pub live: Option<BooleanBuffer>,
    pub live_rows: usize,
}

impl Part {
    pub fn new(segment: Arc<Segment>) -> Self {
        Self { live: None, live_rows: segment.rows.num_rows(), segment }
    }

    pub fn is_live(&self, row: usize) -> bool {
        row < self.segment.rows.num_rows() && self.live.as_ref().is_none_or(|live| live.value(row))
    }

    /// The part without some more rows.
    pub fn without(&self, dead: impl IntoIterator<Item = usize>) -> Self {
        let rows = self.segment.rows.num_rows();
        let mut bits = match &self.live {
            Some(live) => live.sliced().to_vec(),
            None => vec![u8::MAX; rows.div_ceil(8)],
        };
        let mut live_rows = self.live_rows;
        for row in dead {
            let (byte, bit) = (&mut bits[row / 8], 1 << (row % 8));
            live_rows -= usize::from(*byte & bit != 0);
            *byte &= !bit;
        }
        let live = BooleanBuffer::new(Buffer::from(bits), 0, rows);
        Self { segment: Arc::clone(&self.segment), live_rows, live: Some(live) }
    }

    /// Ordinals of the live rows.
    pub fn live_ordinals(&self) -> Vec<usize> {
        match &self.live {
            Some(live) => live.set_indices().collect(),
            None => (0..self.segment.rows.num_rows()).collect(),
        }
    }
}

/// One immutable version of a table. Later changes do not affect its readers.
#[derive(Debug)]
pub struct TableVersion {
    pub(super) definition: Arc<Definition>,
    pub(super) stored_schema: SchemaRef,
    /// The segments, by slot; a slot is reused after its segment is removed.
    pub(super) parts: Vec<Option<Part>>,
    /// Versions before this one.
    pub(super) generation: u64,
    pub(super) index: Arc<KeyIndex>,
    rows: usize,
    chunks: OnceLock<Arc<Chunks>>,
    sketches: Arc<TableSketches>,
}

impl TableVersion {
    pub(super) fn new(
        definition: Arc<Definition>,
        parts: Vec<Option<Part>>,
        generation: u64,
        index: Arc<KeyIndex>,
    ) -> Self {
        let rows = parts.iter().flatten().map(|part| part.live_rows).sum();
        let stored_schema = definition.stored_schema();
        let (chunks, sketches) = (OnceLock::new(), Arc::default());
        Self { definition, stored_schema, parts, generation, index, rows, chunks, sketches }
    }

    /// Returns the version with the sketches of its table, which all versions share.
    #[must_use]
    pub(super) fn with_sketches(mut self, sketches: &Arc<TableSketches>) -> Self {
        self.sketches = Arc::clone(sketches);
        self
    }

    /// Returns the bases of the table's sketches, and their builder.
    pub fn sketches(&self) -> &Arc<TableSketches> {
        &self.sketches
    }

    /// Returns the definition of the replica.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// The columns that queries see.
    pub fn schema(&self) -> &SchemaRef {
        &self.stored_schema
    }

    /// Returns the number of live rows.
    pub fn num_rows(&self) -> usize {
        self.rows
    }

    /// Keys: live rows, in a history the open ones.
    pub fn num_current_rows(&self) -> usize {
        self.index.len()
    }

    pub(super) fn part(&self, location: Location) -> Option<&Part> {
        self.parts.get(location.slot())?.as_ref()
    }

    /// The rows, for scans and searches.
    ///
    /// # Errors
    /// None that is expected.
    pub fn chunks(&self) -> Result<Arc<Chunks>> {
        if let Some(chunks) = self.chunks.get() {
            return Ok(Arc::clone(chunks));
        }
        let chunk = |part: &Part| {
            let segment = &part.segment;
            (segment.rows.clone(), part.live.clone(), Arc::clone(&segment.bounds), Arc::clone(&segment.sketches))
        };
        let chunks = Chunks::with_live(self.parts.iter().flatten().map(chunk))?
            .with_ties_by(self.definition.tie_order())
            .with_table_sketches(Arc::clone(&self.sketches));
        let chunks = Arc::new(chunks);
        Ok(Arc::clone(self.chunks.get_or_init(|| chunks)))
    }

    /// The rows that have one of these keys, in the order of the keys. `keys` has the key's
    /// columns, in the key's order.
    ///
    /// # Errors
    /// Columns of other types than the key's.
    pub fn rows_of(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        let columns: Vec<usize> = (0..keys.num_columns()).collect();
        let wanted = Keys::try_new(keys, &columns)?;
        let mut found: Vec<Location> = (0..keys.num_rows()).filter_map(|row| self.locate(&wanted, row)).collect();
        // Both zeros are one key.
        let mut seen = hashbrown::HashSet::new();
        found.retain(|location| seen.insert(*location));
        self.take(&found)
    }

    /// Rows by their locations.
    pub(super) fn take(&self, locations: &[Location]) -> Result<RecordBatch> {
        let mut slots: Vec<usize> = locations.iter().map(|location| location.slot()).collect();
        slots.sort_unstable();
        slots.dedup();
        let batches: Vec<&RecordBatch> =
            slots.iter().filter_map(|slot| self.parts[*slot].as_ref()).map(|part| &part.segment.rows).collect();
        let place = |slot| slots.binary_search(&slot).unwrap_or_default();
        let rows: Vec<(usize, usize)> =
            locations.iter().map(|location| (place(location.slot()), location.row())).collect();
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.stored_schema)));
        }
        arrow::compute::interleave_record_batch(&batches, &rows).map_err(Error::arrow)
    }

    /// Returns true if a key's current row is at a location.
    #[inline]
    pub(super) fn is_at(&self, location: Location, keys: &Keys, row: usize) -> bool {
        self.part(location)
            .is_some_and(|part| part.is_live(location.row()) && part.segment.keys.equal(location.row(), keys, row))
    }

    /// Returns the location of a key's current row in this version.
    pub(super) fn locate(&self, keys: &Keys, row: usize) -> Option<Location> {
        let is_it = |location: Location| self.is_at(location, keys, row);
        let found = self.index.find(keys.hash(row, &self.index.hasher), is_it);
        if found.is_some() || self.index.generation() == self.generation {
            return found;
        }
        // The index is that of a later version, which may have moved or removed the row.
        let parts = self.parts.iter().enumerate();
        let mut rows = parts.flat_map(|(slot, part)| {
            let rows = part.as_ref().map_or(0, |part| part.segment.rows.num_rows());
            (0..rows).map(move |row| Location::new(slot, row))
        });
        rows.find(|location| is_it(*location))
    }

    /// The greatest absolute value in a column of numbers; 0 for a column of another type. Each
    /// segment is read once for it.
    pub fn greatest_magnitude(&self, column: usize) -> f64 {
        self.chunks().map_or(f64::INFINITY, |chunks| chunks.greatest_magnitude(column))
    }

    /// Returns true if a text of the column may contain a NUL. Each segment is read once to decide
    /// it.
    pub fn may_have_nul(&self, column: usize) -> bool {
        self.chunks().map_or(true, |chunks| chunks.may_have_nul(column))
    }

    /// Returns the bytes of the rows, deleted ones included, of the sketches and of the index.
    pub fn size_bytes(&self) -> usize {
        let segment = |part: &Part| part.segment.size_bytes() + part.segment.sketches.size_bytes();
        self.parts.iter().flatten().map(segment).sum::<usize>() + self.index.size_bytes()
    }
}
