//! Reads parts of an object, all of one version of it.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, coalesce_ranges};
use vexact_core::error::{Error, Result};

use super::failure::own;
use crate::bad_file;
use crate::input::CHANGED;

/// Ranges closer to each other than this are read by one request: reading the gap takes no longer
/// than another request.
pub(crate) const GAP_BYTES: u64 = 1 << 20;
/// Size of one request of a longer range, which is bounded in time.
const PART_BYTES: u64 = 8 << 20;
/// Number of requests of a longer range at a time.
const PARTS: usize = 4;

/// One version of an object.
#[derive(Debug, Clone)]
pub(crate) struct ObjectVersion {
    pub store: Arc<dyn ObjectStore>,
    /// URL of the object, for errors.
    pub url: String,
    pub meta: ObjectMeta,
}

impl ObjectVersion {
    /// Reads ranges of the object; close ones are read together.
    ///
    /// # Errors
    /// A failed request; an object that was changed since its metadata were read.
    pub async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read_apart(ranges, GAP_BYTES).await
    }

    /// As [`Self::read`], where ranges are close that are at most so many bytes apart.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_apart(&self, ranges: &[Range<u64>], gap_bytes: u64) -> Result<Vec<Bytes>> {
        coalesce_ranges(ranges, |range| self.read_long(range), gap_bytes).await
    }

    async fn read_long(&self, range: Range<u64>) -> Result<Bytes> {
        if range.end.saturating_sub(range.start) <= PART_BYTES {
            return self.read_part(range).await;
        }
        let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
        let mut parts = futures::stream::iter(parts(range)).map(|part| self.read_part(part)).buffered(PARTS);
        while let Some(part) = parts.try_next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }

    /// Returns the bytes of the object, part by part, in order. A small object is read whole, which
    /// servers without support for ranges can answer.
    pub fn read_all(&self) -> futures::stream::BoxStream<'_, Result<Bytes>> {
        if self.meta.size <= PART_BYTES {
            return futures::stream::once(self.get(GetOptions::default(), self.meta.size)).boxed();
        }
        futures::stream::iter(parts(0..self.meta.size)).map(move |part| self.read_part(part)).buffered(PARTS).boxed()
    }

    async fn read_part(&self, range: Range<u64>) -> Result<Bytes> {
        let expected = range.end.saturating_sub(range.start);
        if expected == 0 {
            return Ok(Bytes::new());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        self.get(options, expected).await
    }

    async fn get(&self, options: GetOptions, expected: u64) -> Result<Bytes> {
        let failed = |error| self.failed(own(self.url.as_ref(), error));
        let got = self.store.get_opts(&self.meta.location, options).await.map_err(failed)?;
        if !is_same(&self.meta, &got.meta) {
            return Err(bad_file(self.url.as_ref(), &CHANGED));
        }
        let bytes = got.bytes().await.map_err(failed)?;
        match bytes.len() as u64 == expected {
            true => Ok(bytes),
            false => Err(bad_file(self.url.as_ref(), &format!("expected {expected} bytes, got {}", bytes.len()))),
        }
    }

    /// An object that was there when it was listed was changed if it is missing now.
    fn failed(&self, error: Error) -> Error {
        match error {
            Error::FileNotFound { .. } => bad_file(self.url.as_ref(), &CHANGED),
            error => error,
        }
    }
}

fn parts(range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send {
    let count = (range.end - range.start).div_ceil(PART_BYTES);
    (0..count).map(move |part| {
        let start = range.start + part * PART_BYTES;
        start..range.end.min(start + PART_BYTES)
    })
}

/// Returns true if metadata are of one version of an object: it has one tag or, if a server sends no
/// tags, one size and time.
fn is_same(planned: &ObjectMeta, now: &ObjectMeta) -> bool {
    let tag = |meta: &ObjectMeta| {
        let tag = meta.e_tag.as_deref()?;
        Some(tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned())
    };
    match (tag(planned), tag(now)) {
        (Some(planned), Some(now)) => planned == now,
        // Listings have fractions of seconds, answers have none.
        _ => planned.size == now.size && planned.last_modified.timestamp() == now.last_modified.timestamp(),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;

    async fn version(bytes: Vec<u8>) -> ObjectVersion {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("a");
        store.put(&path, PutPayload::from(bytes)).await.unwrap();
        let meta = store.head(&path).await.unwrap();
        ObjectVersion { store, url: "s3://b/a".into(), meta }
    }

    #[tokio::test]
    async fn ranges_of_any_length_are_read() {
        let bytes: Vec<u8> = (0..(3 * PART_BYTES + 5)).map(|i| (i % 251) as u8).collect();
        let object = version(bytes.clone()).await;
        let end = bytes.len() as u64;
        let ranges = [0..end, 5..5, 7..9, end - 3..end, 1..PART_BYTES + 2];
        for range in ranges {
            let read = object.read(std::slice::from_ref(&range)).await.unwrap();
            assert!(read[0] == bytes[range.start as usize..range.end as usize], "{range:?}");
        }
        let all: Vec<Bytes> = object.read_all().try_collect().await.unwrap();
        assert!(all.concat() == bytes);
    }

    #[tokio::test]
    async fn another_version_is_refused() {
        let object = version(vec![1; 10]).await;
        object.store.put(&object.meta.location, vec![2; 10].into()).await.unwrap();
        let part = 0..3;
        let error = object.read(std::slice::from_ref(&part)).await.unwrap_err().to_string();
        assert_eq!(error, format!("s3://b/a: {CHANGED}"));
        object.store.delete(&object.meta.location).await.unwrap();
        let error = object.read_all().try_collect::<Vec<_>>().await.unwrap_err().to_string();
        assert_eq!(error, format!("s3://b/a: {CHANGED}"));
    }
}
