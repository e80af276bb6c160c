//! Reads the bytes of Parquet files for DataFusion. Data that is damaged, or was changed since the
//! query was planned, is rejected with the file's name before it is decoded or memory is allocated
//! for it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::error::ArrowError;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use object_store::path::Path as StorePath;
use vexact_core::entry::caught_message;
use vexact_core::error::Error;

use super::bad_file;
use super::input::CHANGED;
use super::object_stores::ObjectStores;
use super::object_stores::ranges::GAP_BYTES;
use super::parquet_pages::{check_metadata, check_pages, chunk};
use super::scan::external;
use super::store_reader::StoreReaders;

/// Makes scans of Parquet files read through checks: files of this machine by DataFusion's own
/// reader, objects of these stores by one that reads one version of them and caches their footers.
#[derive(Debug, Default)]
pub struct CheckParquet(pub Arc<ObjectStores>);

impl CheckParquet {
    /// Returns the readers of a scan's files.
    fn readers(&self, config: &FileScanConfig, source: &ParquetSource) -> Result<CheckedFactory> {
        let store = config.object_store_url.clone();
        let inner: Arc<dyn ParquetFileReaderFactory> = match source.parquet_file_reader_factory() {
            _ if !is_local(&store) => {
                Arc::new(StoreReaders { stores: Arc::clone(&self.0), store: store.clone(), gap_bytes: GAP_BYTES })
            }
            Some(factory) => Arc::clone(factory),
            // A plan that came from another machine has no reader.
            None => Arc::new(DefaultParquetFileReaderFactory::new(self.0.store(&store).map_err(external)?)),
        };
        Ok(CheckedFactory { inner, store })
    }
}

/// Returns true if a store is the files of this machine.
pub fn is_local(store: &ObjectStoreUrl) -> bool {
    store.as_str() == "file:///"
}

impl PhysicalOptimizerRule for CheckParquet {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let checked = plan.transform_up(|plan| {
            let scan = plan.downcast_ref::<DataSourceExec>().and_then(|scan| {
                let config = scan.data_source().downcast_ref::<FileScanConfig>()?;
                Some((config, config.file_source().downcast_ref::<ParquetSource>()?))
            });
            let Some((config, source)) = scan else { return Ok(Transformed::no(plan)) };
            let factory = Arc::new(self.readers(config, source)?);
            let source = Arc::new(source.clone().with_parquet_file_reader_factory(factory));
            let config = FileScanConfigBuilder::from(config.clone()).with_source(source).build();
            Ok(Transformed::yes(DataSourceExec::from_data_source(config) as Arc<dyn ExecutionPlan>))
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

/// Returns the rows of a plan. An error of the Parquet reader in them, or a panic, becomes the
/// error of a damaged file, with its name.
pub fn named(plan: &Arc<dyn ExecutionPlan>, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let files = files(plan);
    if files.is_empty() {
        return rows;
    }
    let schema = rows.schema();
    let rows = AssertUnwindSafe(rows).catch_unwind().map(move |batch| match batch {
        Ok(batch) => batch.map_err(|error| of_files(&files, error)),
        Err(payload) => match caught_message().filter(|message| is_of_reader(message)) {
            Some(problem) => Err(unreadable(&files, &problem)),
            None => resume_unwind(payload),
        },
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Returns the Parquet files that a plan reads.
fn files(plan: &Arc<dyn ExecutionPlan>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let looked = plan.apply(|plan| {
        let config = plan.downcast_ref::<DataSourceExec>().and_then(|scan| scan.data_source().downcast_ref());
        if let Some(config) = config.filter(|config: &&FileScanConfig| config.file_source().is::<ParquetSource>()) {
            let scanned = config.file_groups.iter().flat_map(|group| group.iter());
            files.extend(scanned.map(|file| file_path(&config.object_store_url, file)));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    // The walk never fails.
    let _ = looked;
    files.dedup();
    files
}

/// Names the files in an error that the Parquet reader reports, and returns other errors unchanged.
pub(super) fn of_files(files: &[PathBuf], error: DataFusionError) -> DataFusionError {
    match reader_problem(&error) {
        Some(problem) => unreadable(files, &problem),
        None => error,
    }
}

/// Returns the message of an error that the Parquet reader reports; `None` for other errors.
fn reader_problem(error: &DataFusionError) -> Option<String> {
    match error.find_root() {
        DataFusionError::ParquetError(error) => match error.as_ref() {
            // This is our own error, which has the file's name.
            ParquetError::External(source) if source.is::<Error>() => None,
            error => Some(error.to_string()),
        },
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::ParquetError(problem) => Some(problem.clone()),
            _ => None,
        },
        DataFusionError::ExecutionJoin(error) if error.is_panic() => caught_message().filter(|text| is_of_reader(text)),
        _ => None,
    }
}

/// Returns true if a panic occurred in the reader or in the libraries that it uses for
/// decompression and buffers.
fn is_of_reader(message: &str) -> bool {
    ["/parquet-", "/bytes-", "/snap-", "/lz4_flex-", "/brotli", "/arrow-"].iter().any(|place| message.contains(place))
}

fn unreadable(files: &[PathBuf], problem: &str) -> DataFusionError {
    let which = match files.len() {
        1 => "the Parquet file is damaged".to_owned(),
        count => format!("it, or another of the {count} Parquet files of the query, is damaged"),
    };
    let first = files.first().map_or(Path::new(""), PathBuf::as_path);
    external(bad_file(first, &format!("{which}: {problem}")))
}

/// Returns the path of a file of this machine, or the URL of an object.
fn file_path(store: &ObjectStoreUrl, file: &PartitionedFile) -> PathBuf {
    let store = if is_local(store) { "/" } else { store.as_str() };
    PathBuf::from(format!("{store}{}", file.object_meta.location))
}

#[derive(Debug)]
struct CheckedFactory {
    inner: Arc<dyn ParquetFileReaderFactory>,
    store: ObjectStoreUrl,
}

impl ParquetFileReaderFactory for CheckedFactory {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let inner = self.inner.create_reader(partition, file.clone(), metadata_size_hint, metrics)?;
        Ok(Box::new(CheckedReader { inner, store: self.store.clone(), file, metadata: None, is_known: false }))
    }
}

/// Ranges closer than this are read by one request where single rows are read: few bytes are to be
/// read, and many requests are sent at a time.
const ROW_GAP_BYTES: u64 = 1 << 16;

/// Creates readers of files whose footers, with their page indexes, were read.
#[derive(Debug)]
pub(super) struct KnownReaders {
    inner: Arc<dyn ParquetFileReaderFactory>,
    store: ObjectStoreUrl,
    footers: HashMap<StorePath, Arc<ParquetMetaData>>,
}

impl KnownReaders {
    /// `footers`: those of the files of a store.
    ///
    /// # Errors
    /// A store that cannot be had.
    pub fn new(
        stores: &Arc<ObjectStores>,
        store: &ObjectStoreUrl,
        footers: HashMap<StorePath, Arc<ParquetMetaData>>,
    ) -> Result<Self, Error> {
        let (stores, gap_bytes) = (Arc::clone(stores), ROW_GAP_BYTES);
        let inner: Arc<dyn ParquetFileReaderFactory> = match is_local(store) {
            true => Arc::new(DefaultParquetFileReaderFactory::new(stores.store(store)?)),
            false => Arc::new(StoreReaders { stores, store: store.clone(), gap_bytes }),
        };
        Ok(Self { inner, store: store.clone(), footers })
    }

    /// Returns the footer of a file; `None` for a file whose footer is not known.
    pub fn footer(&self, file: &PartitionedFile) -> Option<Arc<ParquetMetaData>> {
        self.footers.get(&file.object_meta.location).map(Arc::clone)
    }

    /// Returns the path of a file of this machine, or the URL of an object.
    pub fn url(&self, file: &PartitionedFile) -> String {
        file_path(&self.store, file).to_string_lossy().into_owned()
    }

    /// Returns a reader of a file.
    ///
    /// # Errors
    /// A store that cannot be had.
    pub fn reader(&self, file: &PartitionedFile) -> Result<CheckedReader> {
        self.checked(0, file.clone(), None, &ExecutionPlanMetricsSet::new())
    }

    fn checked(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<CheckedReader> {
        let inner = self.inner.create_reader(partition, file.clone(), metadata_size_hint, metrics)?;
        let metadata = self.footer(&file);
        let is_known = metadata.is_some();
        Ok(CheckedReader { inner, store: self.store.clone(), file, metadata, is_known })
    }
}

impl ParquetFileReaderFactory for KnownReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        Ok(Box::new(self.checked(partition, file, metadata_size_hint, metrics)?))
    }
}

/// A file that a query reads.
pub(super) struct CheckedReader {
    inner: Box<dyn AsyncFileReader + Send>,
    store: ObjectStoreUrl,
    /// The file as it was when the query was planned.
    file: PartitionedFile,
    metadata: Option<Arc<ParquetMetaData>>,
    /// True if the metadata were read and checked before, with the page index.
    is_known: bool,
}

impl fmt::Debug for CheckedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckedReader({})", self.path().display())
    }
}

impl CheckedReader {
    fn path(&self) -> PathBuf {
        file_path(&self.store, &self.file)
    }

    /// Rejects a file that has changed since the query was planned. The reader of objects does this
    /// itself.
    fn check_version(&self) -> Result<(), Error> {
        if !is_local(&self.store) {
            return Ok(());
        }
        let path = self.path();
        let planned = &self.file.object_meta;
        let now = std::fs::metadata(&path).map_err(|error| Error::io(&path, error))?;
        let modified = now.modified().map_err(|error| Error::io(&path, error))?;
        match now.len() == planned.size && planned.last_modified == DateTime::<Utc>::from(modified) {
            true => Ok(()),
            false => Err(bad_file(&path, &CHANGED)),
        }
    }

    /// Builds the error of a failed read: our own, or that the file was changed or is damaged.
    fn failed_read(&self, error: ParquetError) -> ParquetError {
        match &error {
            // This is our own error, which has the file's name.
            ParquetError::External(source) if source.is::<Error>() => error,
            _ => self.failed(&error),
        }
    }

    /// Builds the error of a problem: the file was changed, or is damaged.
    fn failed(&self, problem: &dyn fmt::Display) -> ParquetError {
        let error = self.check_version().err().unwrap_or_else(|| bad_file(&self.path(), problem));
        ParquetError::External(Box::new(error))
    }

    async fn metadata(&mut self, options: Option<&ArrowReaderOptions>) -> ParquetResult<Arc<ParquetMetaData>> {
        if let Some(known) = self.metadata.as_ref().filter(|_| self.is_known) {
            return Ok(Arc::clone(known));
        }
        // The reader panics at an inconsistent footer (apache/arrow-rs#9705).
        let read = AssertUnwindSafe(self.inner.get_metadata(options)).catch_unwind().await;
        let metadata = match read {
            Ok(Ok(metadata)) => metadata,
            Ok(Err(error)) => return Err(self.failed_read(error)),
            Err(_) => return Err(self.failed(&"the Parquet file is damaged: its footer contradicts itself")),
        };
        let checked = check_metadata(&metadata, self.file.object_meta.size);
        checked.map_err(|problem| self.failed(&damaged(&problem)))?;
        self.metadata = Some(Arc::clone(&metadata));
        Ok(metadata)
    }

    /// Checks the pages in parts of the file. Each part is either whole pages of a column chunk, or
    /// has none.
    fn check(&self, metadata: &ParquetMetaData, ranges: &[Range<u64>], parts: &[Bytes]) -> Result<(), String> {
        let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
        let mut chunks: Vec<_> = columns.filter_map(|column| Some((chunk(column)?, column))).collect();
        chunks.sort_unstable_by_key(|(pages, _)| pages.start);
        for (range, bytes) in ranges.iter().zip(parts) {
            let is_there = |pages: &Range<u64>| pages.start <= range.start && range.end <= pages.end;
            let last = chunks.partition_point(|(pages, _)| pages.start <= range.start);
            // The chunk that begins last has the range, unless chunks of a damaged file overlap.
            let Some((_, column)) = chunks[..last].iter().rev().find(|(pages, _)| is_there(pages)) else { continue };
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
                Err(error) => Err(self.failed_read(error)),
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
                Err(error) => return Err(self.failed_read(error)),
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

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::physical_plan::{collect, execute_stream};
    use datafusion::prelude::{ParquetReadOptions, SessionContext};
    use futures::TryStreamExt;

    use super::super::input::Input;
    use super::super::parquet::ParquetFile;
    use super::*;

    fn write(path: &Path, rows: i64) {
        let texts = StringArray::from_iter_values((0..rows).map(|row| format!("text {}", row % 10)));
        let columns: [(&str, ArrayRef); 2] =
            [("i", Arc::new(Int64Array::from_iter_values(0..rows))), ("s", Arc::new(texts))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    async fn planned(ctx: &SessionContext, path: &Path) -> Arc<dyn ExecutionPlan> {
        let frame = ctx.read_parquet(path.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
        CheckParquet::default()
            .optimize(frame.create_physical_plan().await.unwrap(), &ConfigOptions::default())
            .unwrap()
    }

    #[tokio::test]
    async fn a_file_that_is_changed_or_replaced_after_it_was_planned_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
        for is_replaced in [false, true] {
            write(&path, 1000);
            let ctx = SessionContext::new();
            let plan = planned(&ctx, &path).await;
            let rows: usize =
                collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap().iter().map(|b| b.num_rows()).sum();
            assert_eq!(rows, 1000);
            let plan = planned(&SessionContext::new(), &path).await;
            match is_replaced {
                true => {
                    write(&other, 500);
                    std::fs::rename(&other, &path).unwrap();
                }
                false => write(&path, 500),
            }
            let error = Error::from(collect(plan, SessionContext::new().task_ctx()).await.unwrap_err()).to_string();
            assert!(error.contains(CHANGED) && error.contains("a.parquet"), "{error}");
        }
    }

    #[tokio::test]
    async fn every_damaged_byte_is_read_or_refused_by_name() {
        vexact_core::entry::keep_panics();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(&path, 20);
        let whole = std::fs::read(&path).unwrap();
        for (place, bit) in (4..whole.len()).flat_map(|place| [(place, 0), (place, 6), (place, 7)]) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << bit;
            std::fs::write(&path, &damaged).unwrap();
            // A defect of the footer is an error when a file is opened.
            if let Err(error) = Input::open(&path).and_then(|input| ParquetFile::open(&input)) {
                assert!(error.to_string().contains("a.parquet"), "byte {place}, bit {bit}: {error}");
                continue;
            }
            let ctx = SessionContext::new();
            let Ok(frame) = ctx.read_parquet(path.to_str().unwrap(), ParquetReadOptions::default()).await else {
                continue;
            };
            let Ok(plan) = frame.create_physical_plan().await else { continue };
            let plan = CheckParquet::default().optimize(plan, &ConfigOptions::default()).unwrap();
            let rows = execute_stream(Arc::clone(&plan), ctx.task_ctx()).unwrap();
            let read = named(&plan, rows).try_collect::<Vec<_>>().await;
            if let Err(error) = read {
                let error = Error::from(error).to_string();
                assert!(error.contains("a.parquet"), "byte {place}, bit {bit}: {error}");
            }
        }
    }
}
