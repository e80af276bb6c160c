//! A replica as a table function of DuckDB: several threads read one version of the replica, and
//! only the columns that a query needs.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use duckdb::arrow as theirs;
use duckdb::core::{DataChunkHandle, LogicalTypeHandle, LogicalTypeId};
use duckdb::vtab::{BindInfo, InitInfo, TableFunctionInfo, VTab};
use duckdb::vtab::{record_batch_to_duckdb_data_chunk, to_duckdb_logical_type_for_field};
use parking_lot::{Mutex, MutexGuard};
use vexact_core::error::Result;
use vexact_replica::TableVersion;
use vexact_sql::chunks::Chunks;

use super::bridge::to_duckdb;

/// Name of the function. Its argument is the number of a [`Ticket`].
pub(super) const NAME: &str = "vexact_replica";

/// Number of rows that DuckDB takes at a time.
const VECTOR_ROWS: usize = 2048;

type Failed = Box<dyn StdError>;

/// A table version that queries can read.
#[derive(Debug)]
struct Source {
    fields: Vec<theirs::datatypes::Field>,
    chunks: Arc<Chunks>,
    /// For each chunk, the number of windows up to its end. A window is a range of rows of one
    /// chunk that DuckDB takes at a time.
    windows: Vec<usize>,
    /// For each chunk, its converted columns, filled on demand.
    columns: Vec<Vec<OnceLock<Result<theirs::array::ArrayRef, String>>>>,
    rows: usize,
}

/// DuckDB has no half precision.
fn taken(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Float16 => DataType::Float32,
        DataType::FixedSizeList(item, dim) if item.data_type() == &DataType::Float16 => {
            let item = item.as_ref().clone().with_data_type(DataType::Float32);
            DataType::FixedSizeList(Arc::new(item), *dim)
        }
        other => other.clone(),
    }
}

impl Source {
    fn try_new(version: &TableVersion) -> Result<Self> {
        let chunks = version.chunks()?;
        let field =
            |field: &Arc<Field>| to_duckdb::field(&field.as_ref().clone().with_data_type(taken(field.data_type())));
        let fields = version.schema().fields().iter().map(field).collect::<Result<Vec<_>, _>>();
        let mut windows = Vec::with_capacity(chunks.batches().len());
        for batch in chunks.batches() {
            windows.push(windows.last().unwrap_or(&0) + batch.num_rows().div_ceil(VECTOR_ROWS));
        }
        let columns = |batch: &RecordBatch| batch.columns().iter().map(|_| OnceLock::new()).collect();
        Ok(Self {
            fields: fields.map_err(vexact_core::error::Error::Engine)?,
            columns: chunks.batches().iter().map(columns).collect(),
            windows,
            rows: version.num_rows(),
            chunks,
        })
    }

    fn column(&self, chunk: usize, column: usize) -> Result<theirs::array::ArrayRef, String> {
        let read = || {
            let array: &ArrayRef = self.chunks.batches()[chunk].column(column);
            match taken(array.data_type()) {
                same if &same == array.data_type() => to_duckdb::array(array),
                wider => to_duckdb::array(&cast(array, &wider).map_err(|error| error.to_string())?),
            }
        };
        self.columns[chunk][column].get_or_init(read).clone()
    }

    /// Returns the live rows of a window; `None` if there is no such window.
    fn window(&self, window: usize, columns: &[usize]) -> Option<Result<theirs::array::RecordBatch, Failed>> {
        let chunk = self.windows.partition_point(|end| *end <= window);
        let before = if chunk == 0 { 0 } else { self.windows[chunk - 1] };
        let batch = self.chunks.batches().get(chunk)?;
        let offset = (window - before) * VECTOR_ROWS;
        let len = VECTOR_ROWS.min(batch.num_rows() - offset);
        Some(self.rows(chunk, offset, len, columns))
    }

    fn rows(
        &self,
        chunk: usize,
        offset: usize,
        len: usize,
        columns: &[usize],
    ) -> Result<theirs::array::RecordBatch, Failed> {
        let live = self.chunks.live(chunk, offset, len).filter(|live| live.count_set_bits() < len);
        let live = live.map(|live| theirs::array::BooleanArray::from(live.iter().collect::<Vec<bool>>()));
        let mut arrays = Vec::with_capacity(columns.len());
        let mut fields = Vec::with_capacity(columns.len());
        for column in columns {
            let Some(field) = self.fields.get(*column) else {
                // DuckDB requests the row number, which no replica has, if it reads no column, to
                // count rows.
                arrays.push(Arc::new(theirs::array::Int64Array::from(vec![0; len])) as theirs::array::ArrayRef);
                fields.push(theirs::datatypes::Field::new("rowid", theirs::datatypes::DataType::Int64, false));
                continue;
            };
            arrays.push(self.column(chunk, *column)?.slice(offset, len));
            fields.push(field.clone());
        }
        let options = theirs::array::RecordBatchOptions::new().with_row_count(Some(len));
        let schema = Arc::new(theirs::datatypes::Schema::new(fields));
        let rows = theirs::array::RecordBatch::try_new_with_options(schema, arrays, &options)?;
        Ok(match live {
            Some(live) => theirs::compute::filter_record_batch(&rows, &live)?,
            None => rows,
        })
    }
}

static SOURCES: LazyLock<Mutex<HashMap<u64, Arc<Source>>>> = LazyLock::new(Mutex::default);

fn sources() -> MutexGuard<'static, HashMap<u64, Arc<Source>>> {
    SOURCES.lock()
}

/// Registers a version under a number while it is in use, because DuckDB's functions take only
/// values.
#[derive(Debug)]
pub(super) struct Ticket(u64);

impl Ticket {
    /// # Errors
    /// A column of a type that DuckDB lacks.
    pub fn of(version: &TableVersion) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let source = Arc::new(Source::try_new(version)?);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        sources().insert(number, source);
        Ok(Self(number))
    }

    pub fn number(&self) -> u64 {
        self.0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let gone = sources().remove(&self.0);
        drop(gone);
    }
}

/// The table function.
pub(super) struct ReplicaScan;

/// State of one scan: its columns and its position.
pub(super) struct Position {
    columns: Vec<usize>,
    next: AtomicUsize,
}

/// Source that a query has bound.
pub(super) struct Bound(Arc<Source>);

impl VTab for ReplicaScan {
    type InitData = Position;
    type BindData = Bound;

    fn bind(bind: &BindInfo) -> Result<Bound, Failed> {
        let number = bind.get_parameter(0).to_uint64();
        let source = sources().get(&number).cloned().ok_or_else(|| format!("there is no replica {number}"))?;
        for field in &source.fields {
            bind.add_result_column(field.name(), to_duckdb_logical_type_for_field(field)?);
        }
        bind.set_cardinality(source.rows as u64, true);
        Ok(Bound(source))
    }

    fn init(init: &InitInfo) -> Result<Position, Failed> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        init.set_max_threads(threads as u64);
        // A number that is not a column's means the row number.
        let column = |column: u64| usize::try_from(column).unwrap_or(usize::MAX);
        Ok(Position { columns: init.get_column_indices().into_iter().map(column).collect(), next: AtomicUsize::new(0) })
    }

    fn func(scan: &TableFunctionInfo<Self>, output: &mut DataChunkHandle) -> Result<(), Failed> {
        let (source, position) = (&scan.get_bind_data().0, scan.get_init_data());
        // An empty result would mean the end, so a window without live rows is skipped.
        while let Some(rows) = source.window(position.next.fetch_add(1, Ordering::Relaxed), &position.columns) {
            let rows = rows?;
            if rows.num_rows() > 0 {
                return record_batch_to_duckdb_data_chunk(&rows, output);
            }
        }
        output.set_len(0);
        Ok(())
    }

    fn supports_pushdown() -> bool {
        true
    }

    fn parameters() -> Option<Vec<LogicalTypeHandle>> {
        Some(vec![LogicalTypeHandle::from(LogicalTypeId::UBigint)])
    }
}
