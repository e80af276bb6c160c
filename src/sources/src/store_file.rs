//! Writes a file of rows into an object store. The object appears when it is complete: a small one
//! is sent by one request, a larger one in parts, which are discarded if anything fails.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::{Bytes, BytesMut};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::path::Path as StorePath;
use object_store::{MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use url::Url;
use vexact_core::error::{Error, Result};

use super::object_stores::{Location, is_remote, own};
use super::row_file::{RowEncoder, RowFile, RowFileOptions, RowFormat};

/// Size of a part. Stores take 10 000 parts at most: an object of 80 GB.
const PART_BYTES: usize = 8 << 20;
/// Number of parts that are sent at a time.
const PARTS: usize = 4;
/// Time in which cancelled parts end.
const SENDING_TIME: Duration = Duration::from_secs(1);
/// Time for discarding the parts of a failed upload.
const ABORT_TIME: Duration = Duration::from_secs(5);

/// A file of rows that is being written: on this machine or in a store.
#[derive(Debug)]
pub enum OutputFile {
    /// A file on this machine.
    Local(Box<RowFile>),
    /// An object in a store.
    Store(Box<StoreFile>),
}

impl OutputFile {
    /// Creates a file of a path or URL.
    ///
    /// # Errors
    /// As [`RowFile::create`] and [`StoreFile::create`].
    pub fn create(
        stores: &dyn ObjectStoreRegistry,
        path: &Path,
        form: RowFormat,
        schema: &SchemaRef,
        options: &RowFileOptions,
    ) -> Result<Self> {
        match is_remote(path) {
            true => {
                Ok(Self::Store(Box::new(StoreFile::create(stores, &Location::parse(path)?, form, schema, options)?)))
            }
            false => Ok(Self::Local(Box::new(RowFile::create_with(path, form, schema, options)?))),
        }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// A full disk or a failed request; values that the format cannot hold.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Local(file) => file.write(batch),
            Self::Store(file) => file.write(batch).await,
        }
    }

    /// Completes the file, which then replaces one of its name.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn finish(self) -> Result<()> {
        match self {
            Self::Local(file) => file.finish(),
            Self::Store(file) => file.finish().await,
        }
    }
}

/// A file of rows in a store. Unless it is finished, nothing of it remains.
pub struct StoreFile {
    encoder: RowEncoder<Encoded>,
    form: RowFormat,
    encoded: Encoded,
    upload: Upload,
}

impl fmt::Debug for StoreFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreFile({})", self.upload.url.display())
    }
}

impl StoreFile {
    /// Creates a file. No request is sent yet.
    ///
    /// # Errors
    /// A URL of HTTP or of a folder; columns that the format cannot hold.
    pub fn create(
        stores: &dyn ObjectStoreRegistry,
        location: &Location,
        form: RowFormat,
        schema: &SchemaRef,
        options: &RowFileOptions,
    ) -> Result<Self> {
        form.check_schema(schema)?;
        let refused = |problem: &str| Err(Error::InvalidArgument(format!("{location}: {problem}")));
        if location.is_http() {
            return refused("expected a path, or a URL of s3, gs or az: servers of HTTP take no files");
        }
        if location.key().is_empty() || location.key().ends_with('/') {
            return refused("expected a file to write, got a folder");
        }
        let url: &Url = location.store().as_ref();
        let store = stores.get_store(url).map_err(Error::Query)?;
        let path = PathBuf::from(location.to_string());
        let encoded = Encoded::default();
        let encoder = RowEncoder::begin(&|| encoded.clone(), &path, form, schema, options)?;
        let upload = Upload { store, path: location.path()?, url: path, begun: None, rest: BytesMut::new() };
        Ok(Self { encoder, form, encoded, upload })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// A failed request; values that the format cannot hold.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.form.check_values(batch)?;
        self.encoder.write(batch)?;
        self.upload.add(self.encoded.take()).await
    }

    /// Completes the object.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn finish(self) -> Result<()> {
        let Self { encoder, encoded, mut upload, .. } = self;
        encoder.finish()?;
        upload.add(encoded.take()).await?;
        upload.finish().await
    }
}

/// Bytes that were encoded and not sent yet.
#[derive(Clone, Default)]
struct Encoded(Arc<Mutex<Vec<u8>>>);

impl Encoded {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Write for Encoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An object that is being sent. Its parts are discarded when it is dropped unfinished.
struct Upload {
    store: Arc<dyn ObjectStore>,
    path: StorePath,
    url: PathBuf,
    begun: Option<Parts>,
    rest: BytesMut,
}

struct Parts {
    upload: Box<dyn MultipartUpload>,
    /// Parts on their way.
    sending: JoinSet<object_store::Result<()>>,
}

impl Upload {
    async fn add(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.rest.extend_from_slice(&bytes);
        while self.rest.len() > PART_BYTES {
            let part = self.rest.split_to(PART_BYTES).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> Result<()> {
        let url = self.url.clone();
        let failed = |error| own(&url, error);
        if self.begun.is_none() {
            let options = PutMultipartOptions::default();
            let upload = self.store.put_multipart_opts(&self.path, options).await.map_err(failed)?;
            self.begun = Some(Parts { upload, sending: JoinSet::new() });
        }
        let Some(parts) = &mut self.begun else { return Ok(()) };
        while parts.sending.len() >= PARTS {
            sent(parts.sending.join_next().await, &url)?;
        }
        parts.sending.spawn(parts.upload.put_part(part.into()));
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.rest).freeze();
        let url = self.url.clone();
        let failed = |error| own(&url, error);
        if self.begun.is_none() {
            let put = self.store.put_opts(&self.path, rest.into(), PutOptions::default()).await;
            return put.map(drop).map_err(failed);
        }
        self.send(rest).await?;
        let Some(parts) = &mut self.begun else { return Ok(()) };
        while let Some(part) = parts.sending.join_next().await {
            sent(Some(part), &url)?;
        }
        parts.upload.complete().await.map_err(failed)?;
        self.begun = None;
        Ok(())
    }
}

/// Returns the error of a part that was sent.
fn sent(part: Option<std::result::Result<object_store::Result<()>, tokio::task::JoinError>>, url: &Path) -> Result<()> {
    match part {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(own(url, error)),
        Some(Err(error)) => Err(own(url, error.into())),
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(Parts { mut upload, mut sending }) = self.begun.take() else { return };
        sending.abort_all();
        let discard = async move {
            // A part that arrives after the others were discarded would remain.
            let ended = async { while sending.join_next().await.is_some() {} };
            // The earlier error is the one to report, also if this fails.
            let _ = tokio::time::timeout(SENDING_TIME, ended).await;
            let _ = tokio::time::timeout(ABORT_TIME, upload.abort()).await;
        };
        // The caller's runtime may be shutting down: the request has one of its own.
        let thread = std::thread::Builder::new().name("vexact-abort".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(discard))
        });
        if let Ok(thread) = thread {
            let _ = thread.join();
        }
    }
}
