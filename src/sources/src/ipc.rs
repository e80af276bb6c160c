//! Arrow IPC: files and streams of record batches, as Arrow writes them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use datafusion::catalog::TableProvider;
use vexact_core::error::{Error, Result};

use super::scan::{Batches, FileTable, Records};
use super::{READ_ONLY, bad_file, open_file, open_full};

/// How a file in the file format begins; one in the stream format begins with [`CONTINUATION`].
pub(super) const MAGIC: &[u8] = b"ARROW1";
/// How each message of a stream begins.
pub(super) const CONTINUATION: [u8; 4] = [0xff; 4];

/// An Arrow IPC file as a table, in the file or the stream format. It is read batch by batch as queries need it.
///
/// # Errors
/// A missing or empty file, or one that is neither; compressed buffers, which are not read.
pub fn open(path: &Path) -> Result<Arc<dyn TableProvider>> {
    Ok(FileTable::read_only(Arc::new(IpcFile::open(path)?), READ_ONLY))
}

/// A file of record batches.
#[derive(Debug)]
pub(super) struct IpcFile {
    path: PathBuf,
    schema: SchemaRef,
    is_stream: bool,
}

impl IpcFile {
    pub fn open(path: &Path) -> Result<Self> {
        let mut start = Vec::new();
        let file = open_full(path, "an Arrow IPC file")?;
        file.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(|error| Error::io(path, error))?;
        let is_stream = start.starts_with(&CONTINUATION);
        if start != MAGIC && !is_stream {
            return Err(bad_file(path, &"expected an Arrow IPC file, or stream, got a file that begins otherwise"));
        }
        let input = BufReader::new(open_file(path)?);
        let schema = match is_stream {
            true => StreamReader::try_new(input, None).map(|reader| reader.schema()),
            false => FileReader::try_new(input, None).map(|reader| reader.schema()),
        };
        let schema = schema.map_err(|error| bad_file(path, &error))?;
        Ok(Self { path: path.into(), schema, is_stream })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Records for IpcFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let bad = |error: ArrowError| bad_file(&self.path, &error);
        let input = BufReader::new(open_file(&self.path)?);
        // A reader gives the columns in the order of the file, each once.
        let mut read = columns.to_vec();
        read.sort_unstable();
        read.dedup();
        let order = columns.iter().filter_map(|column| read.binary_search(column).ok()).collect();
        let reader: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send> = match self.is_stream {
            true => Box::new(StreamReader::try_new(input, Some(read)).map_err(bad)?),
            false => Box::new(FileReader::<BufReader<File>>::try_new(input, Some(read)).map_err(bad)?),
        };
        Ok(in_order(self.path.clone(), reader, order, batch_rows))
    }
}

/// The columns of batches in another order, and batches of at most so many rows.
pub(super) fn in_order(
    path: PathBuf,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
    order: Vec<usize>,
    batch_rows: usize,
) -> Batches {
    Box::new(batches.flat_map(move |batch| {
        let batch = match batch.and_then(|batch| batch.project(&order)) {
            Ok(batch) => batch,
            Err(error) => return vec![Err(bad_file(&path, &error))],
        };
        let rows = batch.num_rows();
        let firsts = (0..rows).step_by(batch_rows.max(1));
        firsts.map(|first| Ok(batch.slice(first, batch_rows.min(rows - first)))).collect()
    }))
}
