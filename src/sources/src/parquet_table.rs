//! Parquet tables: a file, or a folder of files of the same columns. INSERT adds a file to a
//! folder, so that a reader sees all rows of a statement or none, and writers need not wait for
//! each other.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::sink::DataSink;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::errors::ParquetError;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::TryStreamExt;
use parking_lot::Mutex;
use vexact_core::atomic_file::AtomicFile;
use vexact_core::error::{Error, Result};
use vexact_core::rows::conform;

use super::file_form::FileForm;
use super::input::{CHANGED, Input, Version};
use super::inputs::{PARQUET as SUFFIXES, files_of_folder};
use super::parquet::ParquetFile;
use super::parquet_reader::of_files;
use super::scan::{Records, check_columns, external, insert};
use super::{bad_file, file_url};

/// A table over Parquet files.
#[derive(Debug, Clone)]
pub(super) struct ParquetTable {
    path: PathBuf,
    place: Origin,
    schema: SchemaRef,
    /// Files that were checked to have these columns, with their sizes and modification times.
    checked: Arc<Mutex<HashSet<(PathBuf, u64, SystemTime)>>>,
}

/// Location of the rows.
#[derive(Debug, Clone)]
enum Origin {
    /// A folder, to which each INSERT adds a file.
    Folder,
    /// The given files.
    Files(Arc<[PathBuf]>),
}

impl ParquetTable {
    /// Creates a table of a file with its own columns, which are checked if columns are declared.
    pub fn of_file(input: &Input, declared: Option<&SchemaRef>) -> Result<Self> {
        let file = ParquetFile::open(input)?;
        if let Some(declared) = declared {
            check_columns(input.path(), declared, file.schema())?;
        }
        Self::of_files(std::slice::from_ref(input), &[file])
    }

    /// Creates a table of files of the same columns.
    pub fn of_files(inputs: &[Input], files: &[ParquetFile]) -> Result<Self> {
        let schema = Arc::clone(files[0].schema());
        for (input, file) in inputs.iter().zip(files).skip(1) {
            check_columns(input.path(), &schema, file.schema())?;
        }
        let paths = inputs.iter().map(|input| input.path().to_owned()).collect();
        Ok(Self { path: inputs[0].path().into(), place: Origin::Files(paths), schema, checked: Arc::default() })
    }

    /// Creates a table of a folder, which need not exist yet if columns are declared. Each file in
    /// it has these columns.
    pub fn of_folder(path: &Path, declared: Option<SchemaRef>) -> Result<Self> {
        let files = if path.exists() { files_of_folder(path, &SUFFIXES)? } else { Vec::new() };
        let schema = match (files.first(), declared) {
            (None, Some(declared)) => declared,
            (None, None) => return Err(bad_file(path, &"expected files *.parquet in the folder, or declared columns")),
            (Some(first), declared) => {
                let found = Arc::clone(ParquetFile::open(&Input::open(first)?)?.schema());
                check_columns(first, &declared.unwrap_or_else(|| Arc::clone(&found)), &found)?;
                found
            }
        };
        let table = Self { path: path.into(), place: Origin::Folder, schema, checked: Arc::default() };
        table.check(&files)?;
        Ok(table)
    }

    /// Returns the files, all of which have the columns: a file that was added or changed is
    /// checked.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let files = match &self.place {
            Origin::Files(files) => files.to_vec(),
            Origin::Folder if self.path.exists() => files_of_folder(&self.path, &SUFFIXES)?,
            Origin::Folder => Vec::new(),
        };
        self.check(&files)?;
        Ok(files)
    }

    /// The error of a plan with the file's name: a file was changed meanwhile, or its metadata is damaged.
    fn blame(versions: &[(PathBuf, Option<Version>)], error: DataFusionError) -> DataFusionError {
        let is_changed = |(file, version): &&(PathBuf, Option<Version>)| {
            fs::metadata(file).ok().map(|now| Version::of(&now)) != *version
        };
        match versions.iter().find(is_changed) {
            Some((file, _)) => external(bad_file(file, &CHANGED)),
            None => of_files(&versions.iter().map(|(file, _)| file.clone()).collect::<Vec<_>>(), error),
        }
    }

    fn check(&self, files: &[PathBuf]) -> Result<()> {
        for file in files {
            let metadata = std::fs::metadata(file).map_err(|error| Error::io(file, error))?;
            let version = (file.clone(), metadata.len(), metadata.modified().unwrap_or(UNIX_EPOCH));
            let is_known = |version| self.checked.lock().contains(version);
            if !is_known(&version) {
                check_columns(file, &self.schema, ParquetFile::open(&Input::open(file)?)?.schema())?;
                self.checked.lock().insert(version);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::common::Result<Vec<TableProviderFilterPushDown>> {
        // Filters prune row groups; the remaining rows are filtered above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let files = self.files().map_err(external)?;
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }
        // As they are before their footers are read for the plan.
        let versions: Vec<_> =
            files.iter().map(|file| (file.clone(), fs::metadata(file).ok().map(|now| Version::of(&now)))).collect();
        let url = |path: &PathBuf| ListingTableUrl::parse(file_url(path).map_err(external)?);
        let urls = files.iter().map(url).collect::<datafusion::common::Result<Vec<_>>>()?;
        let options =
            ListingOptions::new(Arc::new(ParquetFormat::default().with_skip_metadata(false))).with_file_extension("");
        let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options);
        let table = ListingTable::try_new(config.with_schema(Arc::clone(&self.schema)))?;
        // With a limit, the listing would take the files whose footers happen to be read first.
        let scan = table.scan(state, projection, filters, None).await;
        let scan = scan.map_err(|error| Self::blame(&versions, error))?;
        Ok(limit.and_then(|limit| scan.with_fetch(Some(limit))).unwrap_or(scan))
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let sink: Result<Arc<dyn DataSink>, String> = match self.place {
            Origin::Folder => Ok(Arc::new(self.clone())),
            Origin::Files(_) => {
                Err("a Parquet file is whole: expected the path of a folder, to which INSERT adds files".into())
            }
        };
        insert(input, operation, sink)
    }
}

impl DisplayAs for ParquetTable {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParquetFolder(path={})", self.path.display())
    }
}

#[async_trait]
impl DataSink for ParquetTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(
        &self,
        mut rows: SendableRecordBatchStream,
        _: &Arc<TaskContext>,
    ) -> datafusion::common::Result<u64> {
        FileForm::Parquet.check_schema(&self.schema).map_err(external)?;
        fs::create_dir_all(&self.path).map_err(|error| external(Error::io(&self.path, error)))?;
        let target = self.path.join(part_name());
        let file = AtomicFile::create(&target).map_err(external)?;
        let failed = |error: ParquetError| external(file.error(bad_file(&target, &error)));
        let mut writer = ArrowWriter::try_new(file.writer(), Arc::clone(&self.schema), None).map_err(failed)?;
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            count += batch.num_rows() as u64;
            writer.write(&conform(batch, &self.schema)?).map_err(failed)?;
        }
        writer.close().map_err(failed)?;
        if count > 0 && !file.commit_new().map_err(external)? {
            return Err(external(bad_file(&target, &"another INSERT has taken this name: expected a new one")));
        }
        Ok(count)
    }
}

/// Returns a unique file name. Later names sort later, as far as clocks are accurate.
pub(super) fn part_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("part-{:017}-{}-{count:06}.parquet", since.as_micros(), std::process::id())
}
