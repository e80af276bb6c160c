//! Parquet tables in an object store, and tables whose folders are columns (`year=2026/`). The plan
//! of a scan is DataFusion's own over the files, so that it can run on any machine that reads the
//! store.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, ScalarValue, Statistics, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::sink::DataSink;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path as StorePath;
use vexact_core::error::{Error, Result};

use super::dataset_statistics::{with_statistics, with_values};
use super::hive::{self, Texts};
use super::inputs::{PARQUET as SUFFIXES, local_files};
use super::ipc::check_unique;
use super::object_stores::files::{FoundFile, list};
use super::object_stores::{Location, ObjectStores, is_remote};
use super::parquet_sink::StoreSink;
use super::parquet_sketch::without_sketches;
use super::scan::{check_columns, external, insert};
use super::{READ_ONLY, bad_file};

/// Number of footers that are read at a time.
const FOOTERS: usize = 32;

/// A table over the Parquet files of one store.
#[derive(Debug)]
pub(crate) struct ParquetDataset {
    stores: Arc<ObjectStores>,
    store: ObjectStoreUrl,
    roots: Vec<Root>,
    /// Files of the table, unless it has those that are in its folder at the time of a query.
    files: Option<HashSet<StorePath>>,
    schema: TableSchema,
    /// Folder to which each INSERT adds a file.
    folder: Option<Location>,
}

/// A file, a folder or a pattern.
#[derive(Debug, Clone)]
enum Root {
    Url(Location),
    Local(PathBuf),
}

/// A file with its footer.
struct DatasetFile {
    /// URL or path, for errors.
    name: String,
    meta: ObjectMeta,
    texts: Texts,
    footer: Arc<ParquetMetaData>,
}

impl DatasetFile {
    fn schema(&self) -> Result<SchemaRef> {
        let described = self.footer.file_metadata();
        let schema = parquet_to_arrow_schema(described.schema_descr(), described.key_value_metadata());
        let schema = schema.map_err(|error| bad_file(Path::new(&self.name), &error))?;
        check_unique(Path::new(&self.name), schema.fields())?;
        Ok(without_sketches(&Arc::new(schema)))
    }
}

/// Properties of a table besides its files.
#[derive(Default)]
pub(crate) struct Declared {
    pub columns: Option<SchemaRef>,
    /// True if the table has the files that are in the folder at the time of each query, and
    /// INSERT adds files to it.
    pub is_folder: bool,
}

impl ParquetDataset {
    /// Opens files, folders and patterns of one store. Only footers are read.
    ///
    /// # Errors
    /// Paths in several stores; a missing file; a file that is not Parquet, or has other columns
    /// than the first, with its name.
    pub async fn open(stores: &Arc<ObjectStores>, paths: &[PathBuf], declared: Declared) -> Result<Self> {
        let roots = paths.iter().map(Root::of).collect::<Result<Vec<_>>>()?;
        let store = roots.first().map_or_else(ObjectStoreUrl::local_filesystem, Root::store);
        if let Some(other) = roots.iter().find(|root| root.store() != store) {
            let (first, other) = (roots[0].to_string(), other.to_string());
            return Err(Error::InvalidArgument(format!("path: expected files of one store, got {first} and {other}")));
        }
        let folder = match roots.as_slice() {
            [Root::Url(location)] if declared.is_folder && !location.is_http() => Some(location.clone()),
            _ => None,
        };
        let none = TableSchema::from(Arc::new(Schema::empty()));
        let mut table =
            Self { stores: Arc::clone(stores), store, roots, files: None, schema: none, folder: folder.clone() };
        let found = match table.found().await {
            // The first INSERT makes the folder.
            Err(Error::FileNotFound { .. } | Error::BadFile { .. })
                if folder.is_some() && declared.columns.is_some() =>
            {
                Vec::new()
            }
            found => found?,
        };
        if let Some(folder) = &table.folder
            && found.iter().any(|file| file.meta.location.as_ref() == folder.key())
        {
            table.folder = None;
        }
        let files = table.with_footers(found).await?;
        table.schema = table.schema_of(&files, declared.columns.as_ref())?;
        table.check(&files)?;
        if !declared.is_folder {
            table.files = Some(files.into_iter().map(|file| file.meta.location).collect());
        }
        Ok(table)
    }

    /// Returns the files that there are now.
    async fn found(&self) -> Result<Vec<FoundFile>> {
        let mut found = Vec::new();
        for root in &self.roots {
            match root {
                Root::Url(location) => found.extend(list(&self.stores.store(&self.store)?, location, &SUFFIXES).await?),
                Root::Local(path) => found.extend(local(path)?),
            }
        }
        let mut seen = HashSet::new();
        found.retain(|file| seen.insert(file.meta.location.clone()));
        Ok(found)
    }

    /// Returns the files of the table, as they are now.
    async fn current(&self) -> Result<Vec<DatasetFile>> {
        let mut found = match self.found().await {
            Err(Error::FileNotFound { .. } | Error::BadFile { .. }) if self.folder.is_some() => Vec::new(),
            found => found?,
        };
        if let Some(files) = &self.files {
            found.retain(|file| files.contains(&file.meta.location));
            if found.len() < files.len() {
                let is_found = |path: &&StorePath| found.iter().any(|file| file.meta.location == **path);
                let missing = files.iter().filter(|path| !is_found(path)).min();
                let path = missing.map(|path| self.name(path)).unwrap_or_default();
                return Err(Error::FileNotFound { path: path.into() });
            }
        }
        let files = self.with_footers(found).await?;
        self.check(&files)?;
        Ok(files)
    }

    fn name(&self, location: &StorePath) -> String {
        match self.store.as_str() {
            "file:///" => format!("/{location}"),
            store => format!("{store}{location}"),
        }
    }

    async fn with_footers(&self, found: Vec<FoundFile>) -> Result<Vec<DatasetFile>> {
        let read = found.into_iter().map(|file| async move {
            let footer = self.stores.footer(&self.store, &file.meta).await?;
            let texts = hive::texts(&file.folders);
            Ok::<_, Error>(DatasetFile { name: self.name(&file.meta.location), meta: file.meta, texts, footer })
        });
        futures::stream::iter(read).buffered(FOOTERS).try_collect().await
    }

    /// Returns the columns: those of the first file, then those of the folders.
    fn schema_of(&self, files: &[DatasetFile], declared: Option<&SchemaRef>) -> Result<TableSchema> {
        let Some(first) = files.first() else {
            let declared = declared.cloned().unwrap_or_else(|| Arc::new(Schema::empty()));
            return Ok(TableSchema::from(declared));
        };
        let found = first.schema()?;
        let mut partitions = hive::columns(files.iter().map(|file| (file.name.as_str(), &file.texts)))?;
        if let Some(column) = partitions.iter().find(|column| found.field_with_name(column.name()).is_ok()) {
            let name = column.name();
            let problem = format!("column {name:?}: expected it in the file or in its folder's name, got it in both");
            return Err(bad_file(Path::new(&first.name), &problem));
        }
        if let Some(declared) = declared {
            // Declared types of the folders' columns hold for their values.
            for column in &mut partitions {
                if let Ok(declared) = declared.field_with_name(column.name()) {
                    *column = Arc::new(Field::new(column.name(), declared.data_type().clone(), true));
                }
            }
            check_columns(Path::new(&first.name), declared, &with_partitions(&found, &partitions))?;
        }
        Ok(TableSchema::builder(found).with_table_partition_cols(partitions).build())
    }

    /// Rejects files of other columns than the table's.
    fn check(&self, files: &[DatasetFile]) -> Result<()> {
        for file in files {
            check_columns(Path::new(&file.name), self.schema.file_schema(), &file.schema()?)?;
        }
        Ok(())
    }

    /// Returns the files of a scan, without those that the filters of the folders' columns rule out.
    fn planned(&self, state: &dyn Session, filters: &[Expr], files: Vec<DatasetFile>) -> Result<Vec<PartitionedFile>> {
        let partitions = self.schema.table_partition_cols();
        let mut planned = Vec::with_capacity(files.len());
        for file in files {
            let values = hive::values(&file.name, partitions, &file.texts)?;
            let rows = DFParquetMetadata::statistics_from_parquet_metadata(&file.footer, self.schema.file_schema())?;
            let statistics = with_values(rows, &values);
            let mut planned_file = PartitionedFile::new_from_meta(file.meta).with_partition_values(values);
            planned_file.statistics = Some(Arc::new(statistics));
            planned.push(planned_file);
        }
        if partitions.is_empty() {
            return Ok(planned);
        }
        let schema = Arc::new(Schema::new(partitions.iter().cloned().collect::<Fields>()));
        let described = DFSchema::try_from(Arc::clone(&schema))?;
        let is_of_folders = |filter: &&Expr| {
            let columns = filter.column_refs();
            !columns.is_empty()
                && !filter.is_volatile()
                && columns.iter().all(|column| schema.index_of(&column.name).is_ok())
        };
        for filter in filters.iter().filter(is_of_folders) {
            let filter = state.create_physical_expr(unqualified(filter)?, &described)?;
            let mut kept = Vec::with_capacity(planned.len());
            for file in planned {
                let columns = file.partition_values.iter().map(ScalarValue::to_array);
                let columns = columns.collect::<datafusion::common::Result<Vec<_>>>()?;
                let row = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(Error::arrow)?;
                // A filter that fails for a value fails for the rows, and not for files without any.
                let is_kept = match filter.evaluate(&row).and_then(|value| value.into_array(1)) {
                    Ok(value) => value.as_boolean_opt().is_none_or(|value| value.is_valid(0) && value.value(0)),
                    Err(_) => true,
                };
                if is_kept {
                    kept.push(file);
                }
            }
            planned = kept;
        }
        Ok(planned)
    }
}

/// Returns an expression whose columns have no table name.
fn unqualified(filter: &Expr) -> Result<Expr> {
    use datafusion::common::Column;
    use datafusion::common::tree_node::{Transformed, TreeNode};

    let plain = filter.clone().transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    });
    Ok(plain?.data)
}

fn with_partitions(schema: &SchemaRef, partitions: &[FieldRef]) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().chain(partitions).cloned().collect::<Fields>()))
}

impl Root {
    fn of(path: &PathBuf) -> Result<Self> {
        match is_remote(path) {
            true => Ok(Self::Url(Location::parse(path)?)),
            false => Ok(Self::Local(super::input::local_path(path)?)),
        }
    }

    fn store(&self) -> ObjectStoreUrl {
        match self {
            Self::Url(location) => location.store().clone(),
            Self::Local(_) => ObjectStoreUrl::local_filesystem(),
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(location) => location.fmt(f),
            Self::Local(path) => path.display().fmt(f),
        }
    }
}

/// Returns the files of a path on this machine.
fn local(path: &Path) -> Result<Vec<FoundFile>> {
    let found = local_files(path, &SUFFIXES)?.into_iter().map(|(path, folders)| {
        let absolute = std::path::absolute(&path).map_err(|error| Error::io(&path, error))?;
        let metadata = std::fs::metadata(&absolute).map_err(|error| Error::io(&path, error))?;
        let modified = metadata.modified().map_err(|error| Error::io(&path, error))?;
        let location = StorePath::from_absolute_path(&absolute)
            .map_err(|error| Error::InvalidArgument(format!("{}: {error}", path.display())))?;
        let meta =
            ObjectMeta { location, last_modified: modified.into(), size: metadata.len(), e_tag: None, version: None };
        Ok(FoundFile { meta, folders })
    });
    found.collect()
}

#[async_trait]
impl TableProvider for ParquetDataset {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        // Filters prune files and row groups; the remaining rows are filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let files = self.current().await.map_err(external)?;
        let files = self.planned(state, filters, files).map_err(external)?;
        let schema = self.schema();
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&schema, projection)?)));
        }
        let (groups, statistics) = match state.config().collect_statistics() {
            true => with_statistics(files, state.config().target_partitions(), &schema)?,
            false => {
                let groups = FileGroup::new(files).split_files(state.config().target_partitions());
                (groups, Statistics::new_unknown(&schema))
            }
        };
        let source = Arc::new(ParquetSource::new(self.schema.clone()));
        let scan = FileScanConfigBuilder::new(self.store.clone(), source)
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        ParquetFormat::default().with_skip_metadata(false).create_physical_plan(state, scan).await
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let sink: Result<Arc<dyn DataSink>, String> = match &self.folder {
            _ if !self.schema.table_partition_cols().is_empty() => {
                Err("its folders are columns: expected a folder whose files have all columns".to_owned())
            }
            Some(folder) => Ok(Arc::new(StoreSink {
                stores: Arc::clone(&self.stores),
                folder: folder.clone(),
                schema: self.schema(),
            })),
            None => Err(READ_ONLY.to_owned()),
        };
        insert(input, operation, sink)
    }
}
