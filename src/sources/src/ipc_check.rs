//! Detects damaged Arrow IPC files: the lengths in them are checked against the file size before
//! any memory is allocated for them.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::{Block, MessageHeader, root_as_footer, root_as_message};
use vexact_core::error::{Error, Result};

use super::bad_file;
use super::input::InputBytes;
use super::ipc::{CONTINUATION, MAGIC};

/// Maximum number of rows of a batch. A column of only NULLs has no buffers that bound the number.
const MAX_ROWS: i64 = i32::MAX as i64;
/// Length, in bytes, of the footer's length field and [`MAGIC`] at the end of a file.
const TRAILER: u64 = 10;

/// Rejects a file whose messages are longer than the file, or not consecutive.
///
/// # Errors
/// The position of the first invalid message, expected and got.
pub(super) fn check_lengths(path: &Path, bytes: &InputBytes, is_stream: bool) -> Result<()> {
    let len = bytes.len().map_err(|error| Error::io(path, error))?;
    let mut messages = Messages { path, input: BufReader::new(bytes.from(0)), len };
    let checked = match is_stream {
        true => messages.check_stream(),
        false => messages.check_blocks(),
    };
    checked.map_err(|error| bytes.blame(path, error))
}

struct Messages<'a> {
    path: &'a Path,
    input: BufReader<InputBytes>,
    len: u64,
}

impl Messages<'_> {
    fn bad(&self, at: u64, problem: &str) -> Error {
        bad_file(self.path, &format!("damaged Arrow IPC, byte {at}: {problem}"))
    }

    /// Reads bytes of the file, after checking that it has them.
    fn read(&mut self, at: u64, bytes: u64) -> Result<Vec<u8>> {
        if at.checked_add(bytes).is_none_or(|end| end > self.len) {
            return Err(self.bad(at, &format!("expected {bytes} bytes, got {}", self.len.saturating_sub(at))));
        }
        let mut found = Vec::new();
        self.input.seek(SeekFrom::Start(at)).map_err(|error| Error::io(self.path, error))?;
        self.input.by_ref().take(bytes).read_to_end(&mut found).map_err(|error| Error::io(self.path, error))?;
        match found.len() as u64 == bytes {
            true => Ok(found),
            false => Err(self.bad(at, &format!("expected {bytes} bytes, got {}", found.len()))),
        }
    }

    fn number(&mut self, at: u64) -> Result<i32> {
        let bytes = self.read(at, 4)?;
        Ok(i32::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    /// Checks a message's metadata at a position, and returns the length of its body.
    fn check_message(&mut self, at: u64, metadata: u64) -> Result<u64> {
        let bytes = self.read(at, metadata)?;
        let message = root_as_message(&bytes).map_err(|error| self.bad(at, &error.to_string()))?;
        let rows = match message.header_type() {
            MessageHeader::RecordBatch => message.header_as_record_batch().map(|batch| batch.length()),
            MessageHeader::DictionaryBatch => {
                message.header_as_dictionary_batch().and_then(|batch| batch.data()).map(|batch| batch.length())
            }
            _ => Some(0),
        };
        match (rows, u64::try_from(message.bodyLength())) {
            (Some(0..=MAX_ROWS), Ok(body)) => Ok(body),
            (Some(0..=MAX_ROWS), Err(_)) => {
                Err(self.bad(at, &format!("expected the length of a body, got {}", message.bodyLength())))
            }
            (Some(rows), _) => Err(self.bad(at, &format!("expected at most {MAX_ROWS} rows, got {rows}"))),
            (None, _) => Err(self.bad(at, "expected a batch, got none")),
        }
    }

    fn check_stream(&mut self) -> Result<()> {
        let mut at = 0;
        // A stream may end without an end marker.
        while at + 4 <= self.len {
            let mut metadata = self.number(at)?;
            at += 4;
            if metadata.to_le_bytes() == CONTINUATION {
                metadata = self.number(at)?;
                at += 4;
            }
            let Ok(metadata) = u64::try_from(metadata) else {
                return Err(self.bad(at, &format!("expected the length of a message, got {metadata}")));
            };
            if metadata == 0 {
                return Ok(());
            }
            let body = self.check_message(at, metadata)?;
            at += metadata;
            if body > self.len - at {
                return Err(self.bad(at, &format!("expected a body of {body} bytes, got {}", self.len - at)));
            }
            at += body;
        }
        Ok(())
    }

    fn check_blocks(&mut self) -> Result<()> {
        let Some(end) = self.len.checked_sub(TRAILER) else { return Err(self.bad(0, "expected a footer, got none")) };
        if self.read(end + 4, MAGIC.len() as u64)? != MAGIC {
            return Err(self.bad(end, "expected the end of a footer, got other bytes: the file may be cut off"));
        }
        let footer = self.number(end)?;
        let start = u64::try_from(footer).ok().and_then(|footer| end.checked_sub(footer));
        let Some(start) = start else {
            return Err(self.bad(end, &format!("expected a footer of at most {end} bytes, got {footer}")));
        };
        let bytes = self.read(start, end - start)?;
        let footer = root_as_footer(&bytes).map_err(|error| self.bad(start, &error.to_string()))?;
        if footer.schema().is_none() {
            return Err(self.bad(start, "expected a schema, got none"));
        }
        let blocks = footer.recordBatches().into_iter().chain(footer.dictionaries()).flatten();
        blocks.into_iter().try_for_each(|block| self.check_block(block))
    }

    fn check_block(&mut self, block: &Block) -> Result<()> {
        let (offset, metadata, body) = (block.offset(), i64::from(block.metaDataLength()), block.bodyLength());
        let refused = |this: &Self| {
            let problem = format!("a block of {metadata} and {body} bytes at {offset}: expected one within the file");
            Err(this.bad(this.len, &problem))
        };
        let (Ok(at), Ok(metadata_bytes), Ok(body)) =
            (u64::try_from(offset), u64::try_from(metadata), u64::try_from(body))
        else {
            return refused(self);
        };
        let end = at.checked_add(metadata_bytes).and_then(|end| end.checked_add(body));
        if end.is_none_or(|end| end > self.len) || metadata_bytes < 8 {
            return refused(self);
        }
        // A message is preceded by its length, and usually a marker.
        let marked = self.read(at, 4)? == CONTINUATION;
        let before = if marked { 8 } else { 4 };
        self.check_message(at + before, metadata_bytes - before).map(|_| ())
    }
}

/// Runs a step of arrow-ipc, which panics at unexpected content of a damaged file
/// (apache/arrow-rs#9705 and others).
pub(super) fn undamaged<T>(step: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(ArrowError::IpcError(format!("the file is damaged: {}", text.unwrap_or("its content contradicts itself"))))
    })
}

/// The batches of a reader; `None` once it has failed.
pub(super) struct Undamaged<R>(pub Option<R>);

impl<R: Iterator<Item = Result<RecordBatch, ArrowError>>> Iterator for Undamaged<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.0.as_mut()?;
        // The reader returns a valid batch or an error: its buffers match its lengths, its texts
        // are UTF-8.
        let batch = undamaged(|| reader.next().transpose()).transpose();
        if matches!(batch, Some(Err(_))) {
            self.0 = None;
        }
        batch
    }
}
