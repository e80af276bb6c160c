//! Arrow IPC files and streams of record batches, as Arrow writes them.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use datafusion::catalog::TableProvider;
use vexact_core::error::{Error, Result};

use super::input::{CHANGED, Input, InputBytes};
use super::ipc_check::{Undamaged, check_lengths, undamaged};
use super::many::one_after_the_other;
use super::scan::{Batches, FileTable, Records};
use super::struct_nulls::with_null_fields;
use super::{READ_ONLY, bad_file};

/// First bytes of a file in the file format; one in the stream format begins with [`CONTINUATION`].
pub(super) const MAGIC: &[u8] = b"ARROW1";
/// First bytes of each message of a stream.
pub(super) const CONTINUATION: [u8; 4] = [0xff; 4];

/// Opens Arrow IPC files of the same columns as a table, in the file or the stream format. They are
/// read on demand, batch by batch.
///
/// # Errors
/// An empty file, or one in neither format; columns that differ from those of the first file.
pub fn open(inputs: &[Input]) -> Result<Arc<dyn TableProvider>> {
    let files = inputs.iter().map(|input| Ok(Arc::new(IpcFile::open(input)?) as Arc<dyn Records>));
    let records = one_after_the_other(inputs, files.collect::<Result<_>>()?)?;
    Ok(FileTable::read_only(records, READ_ONLY))
}

/// A file of record batches.
#[derive(Debug)]
pub(super) struct IpcFile {
    input: Input,
    schema: SchemaRef,
    is_stream: bool,
}

impl IpcFile {
    pub fn open(input: &Input) -> Result<Self> {
        let path = input.path();
        let mut start = Vec::new();
        let bytes = input.full_bytes("an Arrow IPC file")?;
        bytes.from(0).take(MAGIC.len() as u64).read_to_end(&mut start).map_err(|error| Error::io(path, error))?;
        let is_stream = start.starts_with(&CONTINUATION);
        if start != MAGIC && !is_stream {
            return Err(bad_file(path, &"expected an Arrow IPC file, or stream, got a file that begins otherwise"));
        }
        check_lengths(path, &bytes, is_stream)?;
        let content = BufReader::new(bytes.from(0));
        let schema = undamaged(|| match is_stream {
            true => StreamReader::try_new(content, None).map(|reader| reader.schema()),
            false => FileReader::try_new(content, None).map(|reader| reader.schema()),
        });
        let schema = schema.map_err(|error| bytes.blame(path, bad_file(path, &error)))?;
        check_unique(path, schema.fields())?;
        Ok(Self { input: input.clone(), schema, is_stream })
    }

    pub fn path(&self) -> &Path {
        self.input.path()
    }
}

impl Records for IpcFile {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches> {
        let bytes = self.input.bytes()?;
        let bad = |error: ArrowError| bytes.blame(self.path(), bad_file(self.path(), &error));
        // Another file may have replaced it.
        check_lengths(self.path(), &bytes, self.is_stream)?;
        let input = BufReader::new(bytes.from(0));
        // A reader returns the columns in the order of the file, each once.
        let mut read = columns.to_vec();
        read.sort_unstable();
        read.dedup();
        let order = columns.iter().filter_map(|column| read.binary_search(column).ok()).collect();
        let reader: Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send> = match self.is_stream {
            true => Box::new(undamaged(|| StreamReader::try_new(input, Some(read))).map_err(bad)?),
            false => {
                Box::new(undamaged(|| FileReader::<BufReader<InputBytes>>::try_new(input, Some(read))).map_err(bad)?)
            }
        };
        Ok(in_order(self.path().into(), bytes, reader, order, batch_rows))
    }
}

/// Rejects two columns of one name.
pub(super) fn check_unique(path: &Path, fields: &Fields) -> Result<()> {
    let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
    super::csv::check_unique(path, &names)
}

/// Reads the batches of a file: with their columns in the requested order, and of at most
/// `batch_rows` rows.
pub(super) fn in_order(
    path: PathBuf,
    bytes: InputBytes,
    reader: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
    order: Vec<usize>,
    batch_rows: usize,
) -> Batches {
    let (end_path, end_bytes) = (path.clone(), bytes.clone());
    let end =
        std::iter::once_with(move || end_bytes.is_changed().then(|| Err(bad_file(&end_path, &CHANGED)))).flatten();
    let batches = Undamaged(Some(reader)).flat_map(move |batch| {
        let batch = match batch.and_then(|batch| batch.project(&order)).and_then(with_null_fields) {
            Ok(batch) => batch,
            Err(error) => return vec![Err(bytes.blame(&path, bad_file(&path, &error)))],
        };
        let rows = batch.num_rows();
        let firsts = (0..rows).step_by(batch_rows.max(1));
        firsts.map(|first| Ok(batch.slice(first, batch_rows.min(rows - first)))).collect()
    });
    Box::new(batches.chain(end))
}
