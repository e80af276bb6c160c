//! A store whose errors name the URL, and whose `Debug` shows nothing else.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::failure;
use super::options::Secrets;

/// A store with its URL.
pub(super) struct NamedStore {
    name: Arc<Name>,
    inner: Arc<dyn ObjectStore>,
}

struct Name {
    /// Scheme and authority, without a slash at the end.
    url: String,
    secrets: Secrets,
}

impl Name {
    fn error(&self, location: &Path, error: &Error) -> Error {
        let own = failure::named(&format!("{}/{location}", self.url), error, &self.secrets);
        failure::wrapped(error, own)
    }
}

impl NamedStore {
    pub fn new(url: &str, inner: Arc<dyn ObjectStore>, secrets: Secrets) -> Self {
        Self { name: Arc::new(Name { url: url.to_owned(), secrets }), inner }
    }

    fn listed<T: 'static>(
        &self,
        prefix: Option<&Path>,
        listed: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let (name, prefix) = (Arc::clone(&self.name), prefix.cloned().unwrap_or_default());
        listed.map(move |found| found.map_err(|error| name.error(&prefix, &error))).boxed()
    }
}

impl fmt::Debug for NamedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectStore({})", self.name.url)
    }
}

impl fmt::Display for NamedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.url)
    }
}

#[async_trait]
impl ObjectStore for NamedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, options).await;
        put.map_err(|error| self.name.error(location, &error))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let begun = self.inner.put_multipart_opts(location, options).await;
        let inner = begun.map_err(|error| self.name.error(location, &error))?;
        Ok(Box::new(NamedUpload { name: Arc::clone(&self.name), location: location.clone(), inner }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.inner.get_opts(location, options).await;
        let mut got = got.map_err(|error| self.name.error(location, &error))?;
        if let GetResultPayload::Stream(bytes) = got.payload {
            got.payload = GetResultPayload::Stream(self.listed(Some(location), bytes));
        }
        Ok(got)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.listed(None, self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await;
        listed.map_err(|error| self.name.error(&prefix.cloned().unwrap_or_default(), &error))
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await.map_err(|error| self.name.error(to, &error))
    }
}

struct NamedUpload {
    name: Arc<Name>,
    location: Path,
    inner: Box<dyn MultipartUpload>,
}

impl fmt::Debug for NamedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({}/{})", self.name.url, self.location)
    }
}

#[async_trait]
impl MultipartUpload for NamedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (name, location) = (Arc::clone(&self.name), self.location.clone());
        let part = self.inner.put_part(data);
        part.map(move |put| put.map_err(|error| name.error(&location, &error))).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await.map_err(|error| self.name.error(&self.location, &error))
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await.map_err(|error| self.name.error(&self.location, &error))
    }
}
