//! Cache of the footers of Parquet files in stores.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::common::DataFusionError;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use futures::FutureExt;
use parking_lot::Mutex;
use vexact_core::error::{Error, Result};

use super::ranges::ObjectVersion;
use crate::bad_file;
use crate::parquet_pages::check_metadata;

/// Number of bytes at the end of a file that are read first: they have the whole footer of most
/// files.
const HINT_BYTES: usize = 1 << 16;
/// Memory of the cached footers.
const MOST_BYTES: usize = 256 << 20;

/// URL, size, tag and time of a version of an object. The cache of DataFusion has no URL of the
/// store in its key, so that two stores could be mixed up.
type Key = (String, u64, Option<String>, DateTime<Utc>);

#[derive(Default)]
pub(crate) struct Footers(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    footers: HashMap<Key, Arc<ParquetMetaData>>,
    /// Oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Footers {
    /// Returns the footer of a file, with its page index if it has one.
    ///
    /// # Errors
    /// A failed request; a file that is not Parquet, or is damaged.
    pub async fn get(&self, object: &ObjectVersion) -> Result<Arc<ParquetMetaData>> {
        let meta = &object.meta;
        let key = (object.url.clone(), meta.size, meta.e_tag.clone(), meta.last_modified);
        if let Some(footer) = self.0.lock().footers.get(&key) {
            return Ok(Arc::clone(footer));
        }
        let footer = read(object).await?;
        self.0.lock().insert(key, &footer);
        Ok(footer)
    }
}

impl Cached {
    fn insert(&mut self, key: Key, footer: &Arc<ParquetMetaData>) {
        if self.footers.insert(key.clone(), Arc::clone(footer)).is_some() {
            return;
        }
        self.order.push_back(key);
        self.bytes += footer.memory_size();
        while self.bytes > MOST_BYTES && self.order.len() > 1 {
            let oldest = self.order.pop_front().and_then(|oldest| self.footers.remove(&oldest));
            self.bytes -= oldest.map_or(0, |footer| footer.memory_size());
        }
    }
}

async fn read(object: &ObjectVersion) -> Result<Arc<ParquetMetaData>> {
    let bad = |problem: &dyn std::fmt::Display| bad_file(object.url.as_ref(), problem);
    if object.meta.size == 0 {
        return Err(bad(&"expected a Parquet file, got an empty file"));
    }
    if object.meta.size < 12 {
        let size = object.meta.size;
        return Err(bad(&format!("Invalid Parquet file: expected a footer, got a file of {size} bytes")));
    }
    let reader = DFParquetMetadata::new(object.store.as_ref(), &object.meta)
        .with_metadata_size_hint(Some(HINT_BYTES))
        .with_page_index_policy(Some(PageIndexPolicy::Optional));
    // The reader panics at an inconsistent footer (apache/arrow-rs#9705).
    let footer = match AssertUnwindSafe(reader.fetch_metadata()).catch_unwind().await {
        Ok(Ok(footer)) => footer,
        Ok(Err(error)) if matches!(error.find_root(), DataFusionError::ObjectStore(_)) => {
            return Err(Error::Query(error));
        }
        Ok(Err(error)) => return Err(bad(&Error::Query(error))),
        Err(_) => return Err(bad(&"the Parquet file is damaged: its footer contradicts itself")),
    };
    let checked = check_metadata(&footer, object.meta.size);
    checked.map_err(|problem| bad(&format!("the Parquet file is damaged: {problem}")))?;
    Ok(footer)
}
