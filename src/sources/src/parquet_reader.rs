//! Reads the bytes of Parquet files for DataFusion: what is damaged, or was changed since the query was planned, is refused with
//! the file's name before anything is decoded or allocated for it.

use std::fmt;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use vexact_core::error::Error;

use super::bad_file;
use super::input::CHANGED;
use super::parquet_pages::{check_metadata, check_pages, chunk};

/// Lets scans of Parquet files read through checks.
#[derive(Debug)]
pub struct CheckParquet;

impl PhysicalOptimizerRule for CheckParquet {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let checked = plan.transform_up(|plan| {
            let scan = plan.downcast_ref::<DataSourceExec>().and_then(|scan| {
                let config = scan.data_source().downcast_ref::<FileScanConfig>()?;
                let source = config.file_source().downcast_ref::<ParquetSource>()?;
                let factory = Arc::new(CheckedFactory(Arc::clone(source.parquet_file_reader_factory()?)));
                let source = Arc::new(source.clone().with_parquet_file_reader_factory(factory));
                Some(FileScanConfigBuilder::from(config.clone()).with_source(source).build())
            });
            Ok(match scan {
                Some(config) => Transformed::yes(DataSourceExec::from_data_source(config) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(plan),
            })
        })?;
        Ok(checked.data)
    }

    fn name(&self) -> &str {
        "vexact_check_parquet"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct CheckedFactory(Arc<dyn ParquetFileReaderFactory>);

impl ParquetFileReaderFactory for CheckedFactory {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let inner = self.0.create_reader(partition, file.clone(), metadata_size_hint, metrics)?;
        Ok(Box::new(CheckedReader { inner, file, metadata: None }))
    }
}

/// A file that a query reads.
struct CheckedReader {
    inner: Box<dyn AsyncFileReader + Send>,
    /// As it was when the query was planned.
    file: PartitionedFile,
    metadata: Option<Arc<ParquetMetaData>>,
}

impl fmt::Debug for CheckedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckedReader({})", self.path().display())
    }
}

impl CheckedReader {
    /// The file's path: scans read files of this machine alone.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/{}", self.file.object_meta.location))
    }

    /// Refuses a file that is another one than the query was planned for.
    fn check_version(&self) -> Result<(), Error> {
        let path = self.path();
        let planned = &self.file.object_meta;
        let now = std::fs::metadata(&path).map_err(|error| Error::io(&path, error))?;
        let modified = now.modified().map_err(|error| Error::io(&path, error))?;
        match now.len() == planned.size && planned.last_modified == DateTime::<Utc>::from(modified) {
            true => Ok(()),
            false => Err(bad_file(&path, &CHANGED)),
        }
    }

    /// A failure to read the file: it was changed, or is damaged.
    fn failed(&self, problem: &dyn fmt::Display) -> ParquetError {
        let error = self.check_version().err().unwrap_or_else(|| bad_file(&self.path(), problem));
        ParquetError::External(Box::new(error))
    }

    async fn metadata(&mut self, options: Option<&ArrowReaderOptions>) -> ParquetResult<Arc<ParquetMetaData>> {
        // The reader panics at a footer that contradicts itself (apache/arrow-rs#9705).
        let read = AssertUnwindSafe(self.inner.get_metadata(options)).catch_unwind().await;
        let metadata = match read {
            Ok(Ok(metadata)) => metadata,
            Ok(Err(error)) => return Err(self.failed(&error)),
            Err(_) => return Err(self.failed(&"the Parquet file is damaged: its footer contradicts itself")),
        };
        let checked = check_metadata(&metadata, self.file.object_meta.size);
        checked.map_err(|problem| self.failed(&damaged(&problem)))?;
        self.metadata = Some(Arc::clone(&metadata));
        Ok(metadata)
    }

    /// Checks the pages in parts of the file, each of which is whole pages of a column chunk, or none.
    fn check(&self, metadata: &ParquetMetaData, ranges: &[Range<u64>], parts: &[Bytes]) -> Result<(), String> {
        for (range, bytes) in ranges.iter().zip(parts) {
            let is_there = |pages: &Range<u64>| pages.start <= range.start && range.end <= pages.end;
            let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
            let Some(column) = columns.into_iter().find(|column| chunk(column).is_some_and(|pages| is_there(&pages)))
            else {
                continue;
            };
            check_pages(column, range.clone(), |part| {
                let (start, end) = ((part.start - range.start) as usize, (part.end - range.start) as usize);
                if end > bytes.len() {
                    return Err(format!(
                        "expected {} bytes from {}, got {}",
                        range.end - range.start,
                        range.start,
                        bytes.len()
                    ));
                }
                Ok(bytes.slice(start..end))
            })?;
        }
        Ok(())
    }
}

fn damaged(problem: &str) -> String {
    format!("the Parquet file is damaged: {problem}")
}

impl AsyncFileReader for CheckedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move {
            match self.inner.get_bytes(range).await {
                Ok(bytes) => Ok(bytes),
                Err(error) => Err(self.failed(&error)),
            }
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        async move {
            let metadata = match &self.metadata {
                Some(metadata) => Arc::clone(metadata),
                None => self.metadata(None).await?,
            };
            let parts = match self.inner.get_byte_ranges(ranges.clone()).await {
                Ok(parts) => parts,
                Err(error) => return Err(self.failed(&error)),
            };
            self.check_version().map_err(|error| ParquetError::External(Box::new(error)))?;
            self.check(&metadata, &ranges, &parts).map_err(|problem| self.failed(&damaged(&problem)))?;
            Ok(parts)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        self.metadata(options).boxed()
    }
}
