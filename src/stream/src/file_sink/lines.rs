//! Files that grow line by line: csv and json.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::LineDelimited;
use async_trait::async_trait;
use vexact_core::error::{Error, Result};
use vexact_core::locked_file::LockedFile;
use vexact_sources::csv::delimiter_byte;
use vexact_sources::csv_part::last_record;
use vexact_sources::csv_write::ListTexts;

use super::{blocking, open_locked, sync_folder_of};
use crate::sink::{Position, Sink};

/// Rows as text.
enum Encoder {
    Csv { delimiter: u8, texts: ListTexts, header: Vec<u8> },
    Json,
}

impl Encoder {
    fn csv(schema: &SchemaRef, delimiter: u8) -> Result<Self> {
        let mut texts = ListTexts::new("csv sink", schema);
        let mut header = Vec::new();
        let builder = WriterBuilder::new().with_header(true).with_delimiter(delimiter);
        let none = texts.replace(&RecordBatch::new_empty(Arc::clone(schema)))?;
        builder.build(&mut header).write(&none).map_err(Error::arrow)?;
        Ok(Self::Csv { delimiter, texts, header })
    }

    /// What stands before the first row.
    fn header(&self) -> &[u8] {
        match self {
            Self::Csv { header, .. } => header,
            Self::Json => &[],
        }
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        match self {
            Self::Csv { delimiter, texts, .. } => {
                let builder = WriterBuilder::new().with_header(false).with_delimiter(*delimiter);
                builder.build(&mut text).write(&texts.replace(batch)?).map_err(Error::arrow)?;
            }
            Self::Json => {
                let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                let mut writer = builder.build::<_, LineDelimited>(&mut text);
                writer.write(batch).and_then(|()| writer.finish()).map_err(Error::arrow)?;
            }
        }
        Ok(text)
    }
}

/// An open file. Its position is its length in bytes.
pub(super) struct LinesFile {
    path: PathBuf,
    file: Arc<LockedFile>,
    encoder: Encoder,
    len: u64,
    /// It was written by another writer, which may have been stopped within a line.
    may_be_cut: bool,
}

impl std::fmt::Debug for LinesFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinesFile({}, {} bytes)", self.path.display(), self.len)
    }
}

impl LinesFile {
    pub fn csv(path: &Path, schema: &SchemaRef, delimiter: char, is_restored: bool) -> Result<Self> {
        // Columns that have no form in a cell are refused here, before the file is touched.
        let encoder = Encoder::csv(schema, delimiter_byte(delimiter)?)?;
        Self::open(path, encoder, is_restored)
    }

    pub fn json(path: &Path, is_restored: bool) -> Result<Self> {
        Self::open(path, Encoder::Json, is_restored)
    }

    fn open(path: &Path, encoder: Encoder, is_restored: bool) -> Result<Self> {
        let io = |error| Error::io(path, error);
        let file = open_locked(path)?;
        if !is_restored {
            file.set_len(0).map_err(io)?;
        }
        sync_folder_of(path)?;
        let mut len = file.metadata().map_err(io)?.len();
        let may_be_cut = len > 0;
        if len == 0 {
            append(&file, path, encoder.header())?;
            len = encoder.header().len() as u64;
        }
        Ok(Self { path: path.into(), file: Arc::new(file), encoder, len, may_be_cut })
    }

    /// The length of the whole lines.
    fn whole(&self) -> Result<u64> {
        let io = |error| Error::io(&self.path, error);
        let file = File::open(&self.path).map_err(io)?;
        match &self.encoder {
            Encoder::Csv { delimiter, .. } => last_record(BufReader::new(file), *delimiter).map_err(io),
            Encoder::Json => last_line_end(file, self.len).map_err(io),
        }
    }

    async fn cut(&mut self, len: u64) -> Result<()> {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        blocking(move || file.set_len(len).and_then(|()| file.sync_all()).map_err(|error| Error::io(&path, error)))
            .await?;
        (self.len, self.may_be_cut) = (len, false);
        Ok(())
    }
}

fn append(mut file: &File, path: &Path, text: &[u8]) -> Result<()> {
    file.write_all(text).map_err(|error| Error::io(path, error))
}

/// The length up to the last line end.
fn last_line_end(mut file: File, len: u64) -> std::io::Result<u64> {
    const BLOCK: u64 = 1 << 16;
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(last) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[async_trait]
impl Sink for LinesFile {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if self.may_be_cut {
            let whole = self.whole()?;
            self.cut(whole).await?;
        }
        let mut text = self.encoder.rows(&batch)?;
        if self.len == 0 {
            text.splice(..0, self.encoder.header().iter().copied());
        }
        let (file, path, len) = (Arc::clone(&self.file), self.path.clone(), text.len() as u64);
        blocking(move || append(&file, &path, &text)).await?;
        self.len += len;
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        blocking(move || file.sync_all().map_err(|error| Error::io(&path, error))).await
    }

    fn position(&self) -> Option<Position> {
        Some(self.len.into())
    }

    async fn truncate(&mut self, position: &Position) -> Result<()> {
        let bad = |expected: &str, got: &dyn std::fmt::Display| Error::BadFile {
            path: self.path.clone(),
            problem: format!("sink position of a checkpoint: expected {expected}, got {got}"),
        };
        let len = position.as_u64().ok_or_else(|| bad("a number of bytes", position))?;
        let is = self.file.metadata().map_err(|error| Error::io(&self.path, error))?.len();
        if is < len {
            return Err(bad(&format!("a file of at least {len} bytes"), &format!("{is}")));
        }
        self.cut(len).await
    }
}
