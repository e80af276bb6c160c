//! Reads Parquet objects of a store for DataFusion: one version of each, and footers from the cache.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use vexact_core::error::Error;

use super::object_stores::ObjectStores;
use super::object_stores::ranges::ObjectVersion;
use super::scan::external;

/// Creates readers of the objects of a store.
pub(super) struct StoreReaders {
    pub stores: Arc<ObjectStores>,
    pub store: ObjectStoreUrl,
    /// Ranges that are at most so many bytes apart are read by one request.
    pub gap_bytes: u64,
}

impl fmt::Debug for StoreReaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreReaders({})", self.store)
    }
}

impl ParquetFileReaderFactory for StoreReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let metrics = ParquetFileMetrics::new(partition, file.object_meta.location.as_ref(), metrics);
        let object = self.stores.object(&self.store, &file.object_meta).map_err(external)?;
        let (stores, store, gap_bytes) = (Arc::clone(&self.stores), self.store.clone(), self.gap_bytes);
        Ok(Box::new(StoreReader { stores, store, object, metrics, gap_bytes }))
    }
}

struct StoreReader {
    stores: Arc<ObjectStores>,
    store: ObjectStoreUrl,
    object: ObjectVersion,
    metrics: ParquetFileMetrics,
    gap_bytes: u64,
}

fn failed(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for StoreReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            let mut read = self.get_byte_ranges(vec![range]).await?;
            Ok(read.pop().unwrap_or_default())
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.metrics.bytes_scanned.add(bytes as usize);
        async move { self.object.read_apart(&ranges, self.gap_bytes).await.map_err(failed) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move { self.stores.footer(&self.store, &self.object.meta).await.map_err(failed) }.boxed()
    }
}
