//! Files that grow line by line: csv and json.
//!
//! A file is replaced with its first rows, at a checkpoint or at the end: a query that fails before
//! leaves the old file. The position of a checkpoint has the checksum of the file up to it, so that
//! a file of another program is never truncated.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::writer::LineDelimited;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use vexact_core::error::{Error, Result};
use vexact_core::locked_file::LockedFile;
use vexact_sources::csv::delimiter_byte;
use vexact_sources::csv_part::last_record;
use vexact_sources::csv_write::CsvEncoder;
use vexact_sources::file_form::FileForm;

use super::{blocking, open_locked, sync_folder_of};
use crate::sink::{Position, Sink};

/// Encoder of rows as text.
enum Encoder {
    Csv { encoder: CsvEncoder, header: String },
    Json,
}

impl Encoder {
    fn csv(schema: &SchemaRef, delimiter: u8) -> Self {
        let encoder = CsvEncoder::new("csv sink", schema, delimiter);
        Self::Csv { header: encoder.header(schema), encoder }
    }

    /// Returns the bytes before the first row.
    fn header(&self) -> &[u8] {
        match self {
            Self::Csv { header, .. } => header.as_bytes(),
            Self::Json => &[],
        }
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        match self {
            Self::Csv { encoder, .. } => {
                FileForm::Csv.check_values(batch)?;
                Ok(encoder.encode(batch)?.into_bytes())
            }
            Self::Json => {
                let mut text = Vec::new();
                FileForm::Json.check_values(batch)?;
                FileForm::Json.check_numbers(batch)?;
                let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                let mut writer = builder.build::<_, LineDelimited>(&mut text);
                writer.write(batch).and_then(|()| writer.finish()).map_err(Error::arrow)?;
                Ok(text)
            }
        }
    }
}

/// Length and checksum of a file's written part.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    bytes: u64,
    /// Checksum of these bytes.
    xxh64: String,
}

/// An open file.
pub(super) struct LinesFile {
    path: PathBuf,
    file: Arc<LockedFile>,
    encoder: Encoder,
    len: u64,
    /// Hasher of these bytes.
    hasher: XxHash64,
    /// True if the file's content belongs to this sink.
    is_begun: bool,
    /// True if the file did not exist.
    is_new: bool,
    /// True if another writer wrote the file, which may have been stopped within a line.
    may_be_cut: bool,
}

impl std::fmt::Debug for LinesFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinesFile({}, {} bytes)", self.path.display(), self.len)
    }
}

impl LinesFile {
    pub fn csv(path: &Path, schema: &SchemaRef, delimiter: char, is_restored: bool) -> Result<Self> {
        // Columns that cannot be written in a cell are rejected here, before the file is changed.
        FileForm::Csv.check_schema(schema)?;
        let encoder = Encoder::csv(schema, delimiter_byte(delimiter)?);
        Self::open(path, encoder, is_restored)
    }

    pub fn json(path: &Path, schema: &SchemaRef, is_restored: bool) -> Result<Self> {
        FileForm::Json.check_schema(schema)?;
        Self::open(path, Encoder::Json, is_restored)
    }

    fn open(path: &Path, encoder: Encoder, is_restored: bool) -> Result<Self> {
        let is_new = !path.exists();
        let file = open_locked(path)?;
        let len = file.metadata().map_err(|error| Error::io(path, error))?.len();
        let mut opened = Self {
            path: path.into(),
            file: Arc::new(file),
            encoder,
            len: 0,
            hasher: XxHash64::with_seed(0),
            is_begun: false,
            is_new,
            may_be_cut: false,
        };
        if is_restored && len > 0 {
            opened.hasher = hash_of(path, len)?;
            (opened.len, opened.is_begun, opened.may_be_cut) = (len, true, true);
        }
        Ok(opened)
    }

    /// Starts the file anew, unless that has been done.
    async fn begin(&mut self) -> Result<()> {
        if self.is_begun {
            return Ok(());
        }
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        blocking(move || {
            file.set_len(0).map_err(|error| Error::io(&path, error))?;
            sync_folder_of(&path)
        })
        .await?;
        (self.len, self.hasher, self.is_begun) = (0, XxHash64::with_seed(0), true);
        self.append(self.encoder.header().to_vec()).await
    }

    /// Appends text, all of it or nothing.
    async fn append(&mut self, text: Vec<u8>) -> Result<()> {
        let (file, path, len) = (Arc::clone(&self.file), self.path.clone(), self.len);
        let text = blocking(move || {
            let mut output: &File = &file;
            match output.write_all(&text) {
                Ok(()) => Ok(text),
                Err(error) => {
                    // The disk may be full: no partial line may remain.
                    let _ = file.set_len(len);
                    Err(Error::io(&path, error))
                }
            }
        })
        .await?;
        self.hasher.write(&text);
        self.len += text.len() as u64;
        Ok(())
    }

    /// Returns the length of the complete lines.
    fn whole(&self) -> Result<u64> {
        let io = |error| Error::io(&self.path, error);
        let file = File::open(&self.path).map_err(io)?;
        match &self.encoder {
            Encoder::Csv { encoder, .. } => last_record(BufReader::new(file), encoder.delimiter()).map_err(io),
            Encoder::Json => last_line_end(file, self.len).map_err(io),
        }
    }

    async fn cut(&mut self, len: u64) -> Result<()> {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        self.hasher = blocking(move || {
            file.set_len(len).and_then(|()| file.sync_all()).map_err(|error| Error::io(&path, error))?;
            hash_of(&path, len)
        })
        .await?;
        (self.len, self.may_be_cut) = (len, false);
        Ok(())
    }
}

impl Drop for LinesFile {
    fn drop(&mut self) {
        if self.is_new && !self.is_begun {
            // The query failed before it wrote anything; its error is the one to report.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns the checksum of the first bytes of a file.
fn hash_of(path: &Path, len: u64) -> Result<XxHash64> {
    let hash = || {
        let (mut file, mut hasher) = (File::open(path)?.take(len), XxHash64::with_seed(0));
        let mut block = vec![0; 1 << 20];
        loop {
            match file.read(&mut block)? {
                0 => return Ok(hasher),
                read => hasher.write(&block[..read]),
            }
        }
    };
    hash().map_err(|error: io::Error| Error::io(path, error))
}

/// Returns the length up to the last line end.
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
        let mut text = self.encoder.rows(&batch)?;
        self.begin().await?;
        if self.may_be_cut {
            let whole = self.whole()?;
            self.cut(whole).await?;
        }
        if self.len == 0 {
            text.splice(..0, self.encoder.header().iter().copied());
        }
        self.append(text).await
    }

    async fn flush(&mut self) -> Result<()> {
        self.begin().await?;
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        blocking(move || file.sync_all().map_err(|error| Error::io(&path, error))).await
    }

    fn position(&self) -> Option<Position> {
        let written = Written { bytes: self.len, xxh64: format!("{:016x}", self.hasher.finish()) };
        serde_json::to_value(written).ok()
    }

    async fn truncate(&mut self, position: &Position) -> Result<()> {
        let bad = |expected: &str, got: &str| Error::BadFile {
            path: self.path.clone(),
            problem: format!("sink position of a checkpoint: expected {expected}, got {got}"),
        };
        let written: Written = serde_json::from_value(position.clone())
            .map_err(|_| bad("a number of bytes and their checksum", &position.to_string()))?;
        let is = self.file.metadata().map_err(|error| Error::io(&self.path, error))?.len();
        if is < written.bytes {
            return Err(bad(&format!("a file of at least {} bytes", written.bytes), &is.to_string()));
        }
        let (path, bytes) = (self.path.clone(), written.bytes);
        let found = blocking(move || hash_of(&path, bytes)).await?.finish();
        if format!("{found:016x}") != written.xxh64 {
            let problem = format!("the {bytes} bytes that the query wrote");
            return Err(bad(&problem, "others: the file was written anew"));
        }
        self.is_begun = true;
        self.cut(bytes).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.flush().await
    }
}
