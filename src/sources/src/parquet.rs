//! Parquet files: read as queries need them, row group by row group.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use vexact_core::error::Result;

use super::ipc::in_order;
use super::scan::{Batches, FileTable, Records};
use super::{READ_ONLY, bad_file, file_url, open_full};

/// A Parquet file as a table. Nothing but its footer is read.
///
/// # Errors
/// A missing file, or one that is not Parquet.
pub async fn open(ctx: &SessionContext, path: &Path) -> Result<Arc<dyn TableProvider>> {
    open_full(path, "a Parquet file")?;
    if has_refused_name(path) {
        return Ok(FileTable::read_only(Arc::new(ParquetFile::open(path)?), READ_ONLY));
    }
    let options = ParquetReadOptions::default().file_extension("");
    let frame = ctx.read_parquet(file_url(path)?, options).await;
    Ok(frame.map_err(|error| bad_file(path, &error.strip_backtrace()))?.into_view())
}

/// Whether DataFusion's file store refuses a name: it ends in `#` and digits, as those of its own unfinished files do.
pub(super) fn has_refused_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('#').is_some_and(|(_, suffix)| suffix.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A Parquet file that is read from its beginning to its end.
#[derive(Debug)]
pub(super) struct ParquetFile {
    path: PathBuf,
    schema: SchemaRef,
}

impl ParquetFile {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), schema: Arc::clone(builder(path)?.schema()) })
    }
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<std::fs::File>> {
    let file = open_full(path, "a Parquet file")?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| bad_file(path, &error))
}

impl Records for ParquetFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let builder = builder(&self.path)?;
        let mut read = columns.to_vec();
        read.sort_unstable();
        read.dedup();
        let order = columns.iter().filter_map(|column| read.binary_search(column).ok()).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        let reader = builder.with_projection(mask).with_batch_size(batch_rows).build();
        let reader = reader.map_err(|error| bad_file(&self.path, &error))?;
        Ok(in_order(self.path.clone(), reader, order, batch_rows))
    }
}
