//! The results of a frame's query: its count, its first rows, and files of all rows.

use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::lit;
use futures::TryStreamExt;
use vexact_core::error::Result;
use vexact_core::rows::{concat, shortened};
use vexact_sources::parquet_sketch::SketchColumn;
use vexact_sources::row_file::{RowFileOptions, RowFormat};
use vexact_sources::store_file::OutputFile;

use super::{DataFrame, as_schema};

impl DataFrame {
    /// Runs the query and returns the number of rows.
    ///
    /// # Errors
    /// A failure of the query.
    pub async fn count(&self) -> Result<usize> {
        match self.is_statement() {
            true => Ok(self.collect().await?.iter().map(RecordBatch::num_rows).sum()),
            false => {
                let counted = async {
                    let counted = self.query()?.aggregate(vec![], vec![count(lit(1_i64))])?;
                    match Self::of_query_on_workers(counted) {
                        Some(counted) => {
                            let rows = counted.collect().await?;
                            let count = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().value(0);
                            Ok(rows.first().map_or(0, count) as usize)
                        }
                        None => Ok(self.query()?.count().await?),
                    }
                };
                self.entry(counted).await
            }
        }
    }

    /// Formats the first rows as a readable table, with the total number of rows if there are more.
    ///
    /// # Errors
    /// A failure of the query.
    pub async fn show(&self, max_rows: usize) -> Result<String> {
        let rows = self.head(max_rows).await?;
        let more = if rows.num_rows() > max_rows { format!("\n(first {max_rows} rows)") } else { String::new() };
        let shown = shortened(&rows.slice(0, rows.num_rows().min(max_rows)))?;
        let table = pretty_format_batches(&[shown]).map_err(DataFusionError::from)?;
        Ok(format!("{table}{more}"))
    }

    /// Returns the first rows, and one more if there is one.
    ///
    /// # Errors
    /// A failure of the query.
    pub async fn head(&self, max_rows: usize) -> Result<RecordBatch> {
        let wanted = max_rows.saturating_add(1);
        let batches = match self.is_statement() {
            true => self.collect().await?,
            false => {
                let first = async {
                    let first = self.query()?.limit(0, Some(wanted))?;
                    match Self::of_query_on_workers(first.clone()) {
                        Some(first) => first.collect().await,
                        None => Ok(first.collect().await?),
                    }
                };
                self.entry(first).await?
            }
        };
        let schema = self.schema();
        let rows = concat(&schema, &as_schema(batches, &schema)?)?;
        Ok(rows.slice(0, rows.num_rows().min(wanted)))
    }

    /// Runs the query and writes a Parquet file, in the order of its rows.
    ///
    /// # Errors
    /// A missing folder; a type that Parquet lacks; a failure of the query or of writing.
    pub async fn write_parquet(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write_file(path.as_ref(), RowFormat::Parquet, &RowFileOptions::default()).await.map(drop)
    }

    /// As [`Self::write_parquet`], with a sketch beside each of these columns of vectors, by which
    /// searches read fewer bytes of the file. A column of which a sketch would not save enough gets
    /// none.
    ///
    /// # Errors
    /// As [`Self::write_parquet`]; a column that is missing or holds no vectors of floats.
    pub async fn write_parquet_with_sketches(&self, path: impl AsRef<Path>, columns: &[String]) -> Result<()> {
        let sketches = columns.iter().map(SketchColumn::auto).collect();
        let options = RowFileOptions { sketches, ..RowFileOptions::default() };
        self.write_file(path.as_ref(), RowFormat::Parquet, &options).await.map(drop)
    }

    /// Runs the query and writes a CSV file with a header, in the order of its rows. Lists of
    /// numbers are written as `[1,2,3]`, which [`Session::read_csv`](super::Session::read_csv)
    /// reads.
    ///
    /// # Errors
    /// A missing folder; lists of different lengths or with NULL components, which could not be
    /// read back; a failure of the query or of writing.
    pub async fn write_csv(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write_file(path.as_ref(), RowFormat::Csv, &RowFileOptions::default()).await.map(drop)
    }

    /// Runs the query and writes a file, which gets its name when it is complete; returns the
    /// number of rows.
    ///
    /// # Errors
    /// As [`Self::write_parquet`].
    pub async fn write_file(&self, path: &Path, form: RowFormat, options: &RowFileOptions) -> Result<u64> {
        let schema = self.schema();
        let mut file = OutputFile::create(self.object_stores().as_ref(), path, form, &schema, options)?;
        let written = async {
            let mut rows = self.stream().await?;
            let mut count = 0;
            while let Some(batch) = rows.try_next().await? {
                count += batch.num_rows() as u64;
                for batch in as_schema(vec![batch], &schema)? {
                    file.write(&batch).await?;
                }
                // A query that is always ready would never notice that it is cancelled.
                tokio::task::coop::consume_budget().await;
            }
            Ok(count)
        };
        let count = self.entry(written).await?;
        file.finish().await?;
        Ok(count)
    }
}
