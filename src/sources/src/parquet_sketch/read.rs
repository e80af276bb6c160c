//! Reads the sketches of scans of Parquet files, and the rows that they leave open.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use async_trait::async_trait;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector};
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::scalar::ScalarValue;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use parking_lot::Mutex;
use vexact_kernel::{Sketch, SketchBasis};
use vexact_sql::sketches::files::{OpenSketches, PartRows, ScanPart, SketchedScan};

use super::StoredSketch;
use crate::object_stores::ObjectStores;
use crate::parquet_pages::check_metadata;
use crate::parquet_reader::{KnownReaders, is_local};
use crate::scan::external;

/// Footers that are read at a time.
const FOOTERS: usize = 32;
/// Bases that stay in memory: their certificates take longer to compute than to read.
const BASES: usize = 32;
/// The reason of a sketch that is ignored.
const IGNORED: &str = "the file's sketch is ignored";

/// The sketches in the Parquet files of a session's scans.
#[derive(Debug)]
pub struct ParquetSketches {
    stores: Arc<ObjectStores>,
    bases: Mutex<VecDeque<(BasisKey, Arc<SketchBasis>)>>,
}

/// Location, size, time and tag of a file, and the position, length and checksum of the basis.
type BasisKey = (String, u64, i64, Option<String>, (u64, u64, u64));

impl ParquetSketches {
    /// Creates an empty cache of bases.
    pub fn new(stores: Arc<ObjectStores>) -> Self {
        Self { stores, bases: Mutex::default() }
    }

    /// Returns the footer of a file, with its page index.
    async fn footer(
        &self,
        config: &FileScanConfig,
        file: &PartitionedFile,
        context: &TaskContext,
    ) -> Result<Option<Arc<ParquetMetaData>>> {
        let store = &config.object_store_url;
        if !is_local(store) {
            return self.stores.footer(store, &file.object_meta).await.map(Some).map_err(external);
        }
        let runtime = context.runtime_env();
        let local = self.stores.store(store).map_err(external)?;
        let read = DFParquetMetadata::new(local.as_ref(), &file.object_meta)
            .with_file_metadata_cache(Some(runtime.cache_manager.get_file_metadata_cache()))
            .with_page_index_policy(Some(PageIndexPolicy::Optional));
        // The reader panics at an inconsistent footer (apache/arrow-rs#9705). The scan itself
        // reports what is wrong with a file.
        let footer = match AssertUnwindSafe(read.fetch_metadata()).catch_unwind().await {
            Ok(Ok(footer)) => footer,
            Ok(Err(_)) | Err(_) => return Ok(None),
        };
        Ok(check_metadata(&footer, file.object_meta.size).is_ok().then_some(footer))
    }

    async fn with_footer(
        &self,
        config: &FileScanConfig,
        file: PartitionedFile,
        context: &TaskContext,
    ) -> Result<(PartitionedFile, Option<Arc<ParquetMetaData>>)> {
        let footer = self.footer(config, &file, context).await?;
        Ok((file, footer))
    }

    async fn basis(
        &self,
        readers: &KnownReaders,
        file: &PartitionedFile,
        stored: &StoredSketch,
    ) -> Result<Arc<SketchBasis>, String> {
        let meta = &file.object_meta;
        let modified = meta.last_modified.timestamp_micros();
        let key = (readers.url(file), meta.size, modified, meta.e_tag.clone(), stored.basis);
        if let Some((_, basis)) = self.bases.lock().iter().find(|(known, _)| *known == key) {
            return Ok(Arc::clone(basis));
        }
        let (position, length, checksum) = stored.basis;
        let end = position.checked_add(length).filter(|end| *end <= meta.size).ok_or("its basis is not in the file")?;
        let mut reader = readers.reader(file).map_err(|error| error.to_string())?;
        let bytes = reader.get_bytes(position..end).await.map_err(|error| error.to_string())?;
        if SketchBasis::checksum(&bytes) != checksum {
            return Err("the checksum of its basis differs".into());
        }
        let basis = SketchBasis::from_bytes(&bytes).map_err(|error| error.to_string())?;
        let mut bases = self.bases.lock();
        if bases.len() == BASES {
            bases.pop_front();
        }
        bases.push_back((key, Arc::clone(&basis)));
        Ok(basis)
    }
}

/// Returns the scan of Parquet files of a plan, if the plan returns its rows as they are.
fn parquet_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    if plan.is::<CooperativeExec>() {
        return match plan.children().as_slice() {
            [input] => parquet_scan(input),
            _ => None,
        };
    }
    let config = plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()?;
    let source = config.file_source().downcast_ref::<ParquetSource>()?;
    // A scan that evaluates a filter itself returns other rows.
    let has_filter = config.file_source().filter().is_some() && source.table_parquet_options().global.pushdown_filters;
    (config.limit.is_none() && !has_filter).then_some(config)
}

/// Returns the name in the file of a column of a scan.
fn file_column(config: &FileScanConfig, column: usize) -> Option<String> {
    let table = config.file_source().table_schema().table_schema();
    match config.file_source().projection() {
        None => table.fields().get(column).map(|field| field.name().clone()),
        Some(projection) => {
            let expr = &projection.as_ref().get(column)?.expr;
            expr.downcast_ref::<Column>().map(|column| column.name().to_owned())
        }
    }
}

#[async_trait]
impl OpenSketches for ParquetSketches {
    async fn open(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        column: usize,
        context: &Arc<TaskContext>,
    ) -> Result<Option<Arc<dyn SketchedScan>>> {
        let Some(config) = parquet_scan(plan) else { return Ok(None) };
        let Some(column) = file_column(config, column) else { return Ok(None) };
        let mut unique: HashMap<StorePath, PartitionedFile> = HashMap::new();
        for file in config.file_groups.iter().flat_map(|group| group.iter()) {
            unique.entry(file.object_meta.location.clone()).or_insert_with(|| file.clone());
        }
        let read = unique.into_values().map(|file| self.with_footer(config, file, context).boxed());
        let footers: Vec<_> = futures::stream::iter(read).buffer_unordered(FOOTERS).try_collect().await?;
        let mut known = HashMap::new();
        for (file, footer) in &footers {
            // The scan reports what is wrong with a file.
            let Some(footer) = footer else { return Ok(None) };
            known.insert(file.object_meta.location.clone(), Arc::clone(footer));
        }
        let readers = KnownReaders::new(&self.stores, &config.object_store_url, known).map_err(external)?;
        let mut sketches = HashMap::new();
        for (file, footer) in &footers {
            let Some(footer) = footer else { continue };
            let sketch = match StoredSketch::of(footer, &column) {
                None => continue,
                Some(Ok((stored, leaf))) => match self.basis(&readers, file, &stored).await {
                    Ok(basis) => Ok(FileSketch { stored, leaf, basis }),
                    Err(reason) => Err(format!("{IGNORED}: {reason}")),
                },
                Some(Err(reason)) => Err(format!("{IGNORED}: {reason}")),
            };
            sketches.insert(file.object_meta.location.clone(), sketch);
        }
        if sketches.is_empty() {
            return Ok(None);
        }
        let Some(parts) = parts(config, &readers, &sketches) else { return Ok(None) };
        let (parts, places) = parts.into_iter().unzip();
        let (config, readers) = (config.clone(), Arc::new(readers));
        Ok(Some(Arc::new(ParquetScan { config, readers, sketches, parts, places })))
    }
}

/// The sketch of one file.
#[derive(Debug)]
struct FileSketch {
    stored: StoredSketch,
    /// Ordinal of the leaf of the sketch.
    leaf: usize,
    basis: Arc<SketchBasis>,
}

type Sketches = HashMap<StorePath, std::result::Result<FileSketch, String>>;

/// The row group of a part.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Partition, and the file's ordinal in it.
    partition: usize,
    file: usize,
    group: usize,
}

/// Returns the row groups that a scan reads, in its order. Returns `None` if it reads only some
/// rows of one.
fn parts(config: &FileScanConfig, readers: &KnownReaders, sketches: &Sketches) -> Option<Vec<(ScanPart, Place)>> {
    let mut parts = Vec::new();
    for (partition, files) in config.file_groups.iter().enumerate() {
        for (ordinal, file) in files.iter().enumerate() {
            let footer = readers.footer(file)?;
            let access = match (file.extension::<ParquetAccessPlan>(), file.extensions.is_empty()) {
                (Some(access), _) => Some(access.inner()),
                (None, true) => None,
                (None, false) => return None,
            };
            for (number, group) in footer.row_groups().iter().enumerate() {
                match access.map(|access| access.get(number)) {
                    None | Some(Some(RowGroupAccess::Scan)) => {}
                    Some(Some(RowGroupAccess::Skip)) => continue,
                    Some(Some(RowGroupAccess::Selection(_)) | None) => return None,
                }
                // As the reader chooses the row groups of a part of a file.
                let first = group.columns().first()?;
                let offset = first.dictionary_page_offset().unwrap_or_else(|| first.data_page_offset());
                if file.range.as_ref().is_some_and(|range| !range.contains(offset)) {
                    continue;
                }
                let basis = match sketches.get(&file.object_meta.location) {
                    Some(Ok(sketch)) => Ok(Arc::clone(&sketch.basis)),
                    Some(Err(reason)) => Err(reason.clone()),
                    None => Err("a file has none".to_owned()),
                };
                let part = ScanPart { partition, rows: usize::try_from(group.num_rows()).ok()?, basis };
                parts.push((part, Place { partition, file: ordinal, group: number }));
            }
        }
    }
    Some(parts)
}

/// A scan of Parquet files, some of which have a sketch.
#[derive(Debug)]
struct ParquetScan {
    config: FileScanConfig,
    readers: Arc<KnownReaders>,
    sketches: Sketches,
    parts: Vec<ScanPart>,
    places: Vec<Place>,
}

impl ParquetScan {
    fn file(&self, place: Place) -> Option<&PartitionedFile> {
        self.config.file_groups.get(place.partition)?.files().get(place.file)
    }

    /// Returns the scan of other parts of its files, which prunes nothing.
    fn scan(&self, groups: Vec<FileGroup>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(source) = self.config.file_source().downcast_ref::<ParquetSource>() else {
            return internal_err!("a scan of Parquet files reads Parquet files");
        };
        let source = source
            .with_predicate(Arc::new(Literal::new(ScalarValue::Boolean(Some(true)))))
            .with_parquet_file_reader_factory(Arc::clone(&self.readers) as _);
        let schema = self.config.file_source().table_schema().table_schema();
        let config = FileScanConfigBuilder::from(self.config.clone())
            .with_source(Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(Statistics::new_unknown(schema));
        Ok(DataSourceExec::from_data_source(config.build()))
    }

    async fn rows_of_sketch(&self, place: Place, sketch: &FileSketch) -> std::result::Result<RecordBatch, String> {
        let file = self.file(place).ok_or("the file is no longer scanned")?;
        let footer = self.readers.footer(file).ok_or("the file is no longer scanned")?;
        let said = |error: datafusion::parquet::errors::ParquetError| error.to_string();
        // The types of other columns do not matter.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(&footer), options).map_err(said)?;
        let reader = self.readers.reader(file).map_err(|error| error.to_string())?;
        let mask = ProjectionMask::leaves(footer.file_metadata().schema_descr(), [sketch.leaf]);
        let rows = usize::try_from(footer.row_group(place.group).num_rows()).unwrap_or(usize::MAX);
        let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata)
            .with_row_groups(vec![place.group])
            .with_projection(mask)
            .with_batch_size(rows.max(1))
            .build()
            .map_err(said)?;
        let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(said)?;
        match <[RecordBatch; 1]>::try_from(batches) {
            Ok([batch]) if batch.num_rows() == rows => Ok(batch),
            _ => Err(format!("expected {rows} rows of it")),
        }
    }

    async fn read_sketch(&self, place: Place, sketch: &FileSketch) -> std::result::Result<Sketch, String> {
        let read = AssertUnwindSafe(self.rows_of_sketch(place, sketch)).catch_unwind().await;
        let batch = read.unwrap_or_else(|_| Err("it is damaged".into()))?;
        let stored = sketch.stored.groups.get(place.group).ok_or("it has fewer row groups")?;
        let width = sketch.basis.stored_row_bytes();
        let array = batch.column(0).as_fixed_size_binary_opt().filter(|array| array.null_count() == 0);
        let array = array.filter(|array| array.value_length() as usize == width);
        let array = array.ok_or_else(|| format!("expected {width} bytes a row"))?;
        let bytes = array.values();
        let bytes = bytes.get(..array.len() * width).ok_or("it is too short")?;
        if array.offset() != 0 || SketchBasis::checksum(bytes) != stored.checksum {
            return Err(format!("the checksum of row group {} differs", place.group));
        }
        Sketch::from_rows(&sketch.basis, bytes).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl SketchedScan for ParquetScan {
    fn parts(&self) -> &[ScanPart] {
        &self.parts
    }

    async fn sketch(&self, part: usize) -> std::result::Result<Sketch, String> {
        let place = *self.places.get(part).ok_or("the part is no longer scanned")?;
        let file = self.file(place).ok_or("the file is no longer scanned")?;
        match self.sketches.get(&file.object_meta.location) {
            Some(Ok(sketch)) => self.read_sketch(place, sketch).await.map_err(|reason| format!("{IGNORED}: {reason}")),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("a file has none".into()),
        }
    }

    fn of_columns(&self, columns: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = self.scan(self.config.file_groups.clone())?;
        let schema = scan.schema();
        let column = |ordinal: &usize| {
            let name = schema.field(*ordinal).name();
            ProjectionExpr { expr: Arc::new(Column::new(name, *ordinal)), alias: name.clone() }
        };
        let projection = ProjectionExec::try_new(columns.iter().map(column).collect::<Vec<_>>(), Arc::clone(&scan))?;
        match scan.try_swapping_with_projection(&projection)? {
            Some(swapped) => Ok(swapped),
            None => Ok(Arc::new(projection)),
        }
    }

    fn of_rows(&self, rows: &[PartRows]) -> Result<Arc<dyn ExecutionPlan>> {
        if rows.len() != self.parts.len() {
            return internal_err!("a scan of {} parts: expected rows of each, got {}", self.parts.len(), rows.len());
        }
        let mut access: HashMap<(usize, usize), ParquetAccessPlan> = HashMap::new();
        for ((rows, part), place) in rows.iter().zip(&self.parts).zip(&self.places) {
            if rows.count(part.rows) == 0 {
                continue;
            }
            let Some(footer) = self.file(*place).and_then(|file| self.readers.footer(file)) else {
                return internal_err!("a part of a scan has a file");
            };
            let plan = access.entry((place.partition, place.file));
            let plan = plan.or_insert_with(|| ParquetAccessPlan::new_none(footer.num_row_groups()));
            plan.set(
                place.group,
                match rows {
                    PartRows::All => RowGroupAccess::Scan,
                    PartRows::Some(_) => RowGroupAccess::Selection(selection(rows, part.rows)),
                },
            );
        }
        let groups = self.config.file_groups.iter().enumerate().map(|(partition, files)| {
            let files = files.iter().enumerate().filter_map(|(ordinal, file)| {
                let plan = access.remove(&(partition, ordinal))?;
                let mut file = file.clone().with_extension(plan);
                (file.statistics, file.range) = (None, None);
                Some(file)
            });
            FileGroup::new(files.collect())
        });
        let groups = groups.collect();
        self.scan(groups)
    }
}

fn selection(rows: &PartRows, of: usize) -> RowSelection {
    let (mut selectors, mut end) = (Vec::new(), 0);
    rows.for_each_range(of, |start, len| {
        if start > end {
            selectors.push(RowSelector::skip(start - end));
        }
        selectors.push(RowSelector::select(len));
        end = start + len;
    });
    if end < of {
        selectors.push(RowSelector::skip(of - end));
    }
    RowSelection::from(selectors)
}
