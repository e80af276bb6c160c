//! Sequential scans of files: rows are read in order, in bounded memory.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, not_impl_err};
use datafusion::datasource::TableType;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::TryStreamExt;
use vexact_core::error::{Error, Result};

use super::keep_expr::keep_cast;

/// Number of batches that are buffered for the query, besides the one that is being read.
const WAITING_BATCHES: usize = 2;
/// Default number of rows of a batch.
const BATCH_ROWS: usize = 8192;

/// The rows of a file, batch by batch. An error is the last item.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// A file whose rows can be read repeatedly.
pub(crate) trait Records: fmt::Debug + Send + Sync {
    /// Returns the columns.
    fn schema(&self) -> &SchemaRef;

    /// Reads these columns of all rows, in the order of the file. It blocks.
    ///
    /// # Errors
    /// A file that cannot be opened. A defect in it is an error of the batches, with its position.
    fn read(&self, columns: &[usize], batch_rows: usize) -> Result<Batches>;
}

/// Reads all rows of a file into memory.
///
/// # Errors
/// A file that cannot be opened, or its first defect.
pub(crate) async fn collect(records: &Arc<dyn Records>) -> Result<Vec<RecordBatch>> {
    let columns = (0..records.schema().fields().len()).collect();
    let scan = FileScan { records: Arc::clone(records), columns, schema: Arc::clone(records.schema()) };
    Ok(scan.stream(BATCH_ROWS).try_collect().await?)
}

/// A file as a table.
#[derive(Debug)]
pub(crate) struct FileTable {
    records: Arc<dyn Records>,
    /// Sink of the rows of an INSERT, or the reason why the table accepts none.
    sink: Result<Arc<dyn DataSink>, String>,
}

impl FileTable {
    /// Creates a read-only table.
    pub fn read_only(records: Arc<dyn Records>, reason: &str) -> Arc<Self> {
        Arc::new(Self { records, sink: Err(reason.into()) })
    }

    /// Creates a table that INSERT can write to.
    pub fn with_sink(records: Arc<dyn Records>, sink: Arc<dyn DataSink>) -> Arc<Self> {
        Arc::new(Self { records, sink: Ok(sink) })
    }
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.records.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.records.schema().fields().len()).collect());
        let schema = Arc::new(self.records.schema().project(&columns)?);
        let scan = FileScan { records: Arc::clone(&self.records), columns, schema: Arc::clone(&schema) };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(scan)], None, [], false, limit)?))
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        insert(input, operation, self.sink.clone())
    }
}

/// Returns the plan of an INSERT into a sink, or rejects it.
pub fn insert(
    input: Arc<dyn ExecutionPlan>,
    operation: InsertOp,
    sink: Result<Arc<dyn DataSink>, String>,
) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
    match sink {
        Err(reason) => not_impl_err!("INSERT is refused: {reason}"),
        Ok(_) if operation != InsertOp::Append => {
            not_impl_err!("{operation} is refused: expected INSERT INTO, which adds rows")
        }
        Ok(sink) => Ok(Arc::new(DataSinkExec::new(cast(input, sink.schema())?, sink, None))),
    }
}

/// Casts the rows to the types of a table. A parameter may have another type, which is known only
/// when it is bound.
fn cast(input: Arc<dyn ExecutionPlan>, table: &SchemaRef) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let is_same = |(given, field): (&FieldRef, &FieldRef)| given.data_type() == field.data_type();
    if schema.fields().iter().zip(table.fields()).all(is_same) {
        return Ok(input);
    }
    let columns = schema.fields().iter().zip(table.fields()).enumerate().map(|(place, (given, field))| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(given.name(), place));
        let expr = match given.data_type() == field.data_type() {
            true => column,
            false => {
                let cast = keep_cast(field.name(), field.data_type());
                let options = Arc::new(ConfigOptions::default());
                Arc::new(ScalarFunctionExpr::try_new(cast, vec![column], &schema, options)?)
            }
        };
        Ok(ProjectionExpr { expr, alias: field.name().clone() })
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<datafusion::common::Result<Vec<_>>>()?, input)?))
}

/// Some columns of a file.
#[derive(Debug)]
struct FileScan {
    records: Arc<dyn Records>,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl FileScan {
    fn stream(&self, batch_rows: usize) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), WAITING_BATCHES);
        let (rows, records, columns) = (builder.tx(), Arc::clone(&self.records), self.columns.clone());
        builder.spawn_blocking(move || {
            for batch in records.read(&columns, batch_rows).map_err(external)? {
                // A query that has ended receives no more rows.
                if rows.blocking_send(Ok(batch.map_err(external)?)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        builder.build()
    }
}

impl PartitionStream for FileScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.stream(ctx.session_config().batch_size())
    }
}

/// Wraps our error in one of DataFusion.
pub(crate) fn external(error: Error) -> DataFusionError {
    match error {
        Error::Query(error) => error,
        error => DataFusionError::External(Box::new(error)),
    }
}

/// Rejects declared columns that are not those of the file.
///
/// # Errors
/// The first difference, and both lists.
pub(crate) fn check_names(path: &Path, declared: &[&str], found: &[&str]) -> Result<()> {
    if declared == found {
        return Ok(());
    }
    let hint = case_hint(declared, found);
    Err(super::bad_file(
        path,
        &format!("columns: declared are [{}], the file has [{}]{hint}", declared.join(", "), found.join(", ")),
    ))
}

/// Returns a hint if a declared name differs from the file's only by its case.
pub(crate) fn case_hint<T: AsRef<str>>(declared: &[T], found: &[&str]) -> String {
    let is_declared = |name: &str| declared.iter().any(|declared| declared.as_ref() == name);
    match found.iter().find(|name| !is_declared(name) && is_declared(&name.to_lowercase())) {
        Some(name) => format!("; a name with upper case is declared in quotes, as \"{name}\""),
        None => String::new(),
    }
}

/// Rejects declared columns whose names or types are not those of the file. All layouts of text
/// count as one type, and all units of timestamps; the table has the types of the file.
///
/// # Errors
/// The first difference.
pub(crate) fn check_columns(path: &Path, declared: &SchemaRef, found: &SchemaRef) -> Result<()> {
    let expected: Vec<&str> = declared.fields().iter().map(|field| field.name().as_str()).collect();
    let got: Vec<&str> = found.fields().iter().map(|field| field.name().as_str()).collect();
    check_names(path, &expected, &got)?;
    for (declared, found) in declared.fields().iter().zip(found.fields()) {
        if !is_same(declared.data_type(), found.data_type()) {
            let (name, expected, got) = (declared.name(), declared.data_type(), found.data_type());
            return Err(super::bad_file(path, &format!("column {name:?}: declared is {expected}, the file has {got}")));
        }
    }
    Ok(())
}

fn is_same(declared: &DataType, found: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, FixedSizeList, LargeBinary, LargeList, LargeUtf8, List, Timestamp, Utf8, Utf8View,
    };

    match (declared, found) {
        (Utf8, Utf8 | LargeUtf8 | Utf8View) | (Binary, Binary | LargeBinary | BinaryView) => true,
        (Timestamp(_, declared), Timestamp(_, found)) => declared.is_some() == found.is_some(),
        (FixedSizeList(declared, dim), FixedSizeList(found, got)) => {
            dim == got && is_same(declared.data_type(), found.data_type())
        }
        (List(declared), List(found) | LargeList(found)) => is_same(declared.data_type(), found.data_type()),
        (declared, found) => declared == found,
    }
}
