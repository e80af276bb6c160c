//! Reads files as data frames.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use vexact_core::error::{Error, Result};
use vexact_sources as sources;
use vexact_sources::csv::CsvOptions;
use vexact_sources::input::Input;
use vexact_sources::inputs::Paths;
use vexact_sources::json::JsonFormat;
use vexact_sources::line_columns::{LineColumn, LineField, LineMode};
use vexact_sources::object_stores::{ObjectStores, is_remote};
use vexact_sources::probe::{Format, Probe};

use super::{DataFrame, Session};

impl Session {
    /// Reads delimited text with a header line. Cells `[1 2 3]` or `[1,2,3]` of one length become
    /// `FixedSizeList<Float32>`. Each path is a file, which may be compressed, a folder or a
    /// pattern; files have the same columns.
    ///
    /// # Errors
    /// A missing or empty file, a delimiter that is not one ASCII character, a vector cell of
    /// another length or without a vector (with its line).
    pub async fn read_csv(&self, paths: impl Into<Paths>, delimiter: char) -> Result<DataFrame> {
        self.read_csv_with(paths, CsvOptions::delimited(delimiter)?).await
    }

    /// As [`Self::read_csv`], with options for other formats.
    ///
    /// # Errors
    /// As [`Self::read_csv`]; options that contradict each other.
    pub async fn read_csv_with(&self, paths: impl Into<Paths>, options: CsvOptions) -> Result<DataFrame> {
        let inputs = self.inputs(paths, Format::Csv(char::from(options.dialect.delimiter))).await?;
        Ok(self.table_frame(sources::csv::open(inputs, options).await?))
    }

    /// Reads JSON files: objects, one a line or each over several lines, or one array of objects.
    /// Lists of numbers of one length become vectors; lists of only integers stay lists.
    ///
    /// # Errors
    /// A missing or empty file, or content that is not JSON of that format.
    pub async fn read_json(
        &self,
        paths: impl Into<Paths>,
        columns: Option<&[String]>,
        format: JsonFormat,
    ) -> Result<DataFrame> {
        let provider = sources::json::open(self.inputs(paths, Format::Json(format)).await?, format).await?;
        let frame = self.table_frame(provider);
        match columns {
            None => Ok(frame),
            Some(columns) => frame.select(columns),
        }
    }

    /// Reads Parquet files, on demand: paths, or URLs of one object store. Folders `name=value` are
    /// columns of the files in them.
    ///
    /// # Errors
    /// A missing or empty file, or one that is not Parquet; files of different columns; a request
    /// that failed.
    pub async fn read_parquet(&self, paths: impl Into<Paths>) -> Result<DataFrame> {
        Ok(self.table_frame(sources::parquet::open_paths(&self.stores, paths.into()).await?))
    }

    /// Reads Arrow IPC files, in the file or the stream format, on demand.
    ///
    /// # Errors
    /// A missing or empty file, or one in neither format; compressed buffers.
    pub async fn read_arrow_file(&self, paths: impl Into<Paths>) -> Result<DataFrame> {
        let inputs = self.inputs(paths, Format::Arrow { is_stream: false }).await?;
        Ok(self.table_frame(sources::ipc::open(&inputs)?))
    }

    /// Reads files whose lines are rows, on demand (see [`sources::line_file::open`]). A pattern
    /// with named groups needs no columns: they are these groups.
    ///
    /// # Errors
    /// A missing or empty file, columns that the mode cannot have. An invalid line is an error of
    /// the query, with its number.
    pub async fn read_line_file(
        &self,
        paths: impl Into<Paths>,
        columns: Vec<LineColumn>,
        mode: LineMode,
        skip_empty_lines: bool,
    ) -> Result<DataFrame> {
        let inputs = self.inputs(paths, Format::Line).await?;
        Ok(self.table_frame(sources::line_file::open(inputs, columns, mode, skip_empty_lines)?))
    }

    /// Reads text files whose lines are the column `line`.
    pub async fn read_lines(&self, paths: impl Into<Paths>) -> Result<DataFrame> {
        Ok(self.table_frame(open_lines(Paths::Open(self.inputs(paths, Format::Line).await?))?))
    }

    /// Returns the inputs of paths and URLs; files in object stores are downloaded.
    async fn inputs(&self, paths: impl Into<Paths>, format: Format) -> Result<Vec<Input>> {
        sources::download::inputs(&self.stores, paths.into(), format).await
    }

    /// Detects the format of a file and its columns, by its content and name.
    ///
    /// # Errors
    /// A missing or unreadable file. An unusual property of the file is a warning.
    pub async fn probe(&self, path: impl AsRef<Path>) -> Result<Probe> {
        match is_remote(&path) {
            true => sources::download::probe_remote(&self.stores, path.as_ref()).await,
            false => sources::probe::probe(&Input::open(path)?),
        }
    }

    /// Reads files in the format of the first, which its content and name determine: Parquet, Arrow
    /// IPC, CSV, TSV, JSON lines, a JSON array, or lines of text, which are the column `line`.
    ///
    /// # Errors
    /// As the method that reads the format; a file of an unknown format, or an Excel sheet; files
    /// of several formats.
    pub async fn read(&self, paths: impl Into<Paths>) -> Result<DataFrame> {
        Ok(self.table_frame(open(&self.stores, paths.into()).await?))
    }
}

/// Opens files in the format of the first, as [`Session::read`] does.
pub(super) async fn open(stores: &Arc<ObjectStores>, paths: Paths) -> Result<Arc<dyn TableProvider>> {
    if let Paths::Given(given) = &paths {
        let is_parquet = match given.first().filter(|first| is_remote(first)) {
            Some(first) => sources::download::is_parquet(stores, first).await?,
            None => sources::parquet::is_partitioned(given),
        };
        if is_parquet {
            return sources::parquet::open_paths(stores, paths).await;
        }
    }
    let inputs = sources::download::any_inputs(stores, paths).await?;
    match sources::probe::detect(&inputs[0])? {
        Format::Parquet => sources::parquet::open(&Paths::from(inputs).inputs(Format::Parquet)?),
        format @ Format::Arrow { .. } => sources::ipc::open(&Paths::from(inputs).inputs(format)?),
        Format::Csv(delimiter) => {
            let inputs = Paths::from(inputs).inputs(Format::Csv(delimiter))?;
            sources::csv::open(inputs, CsvOptions::delimited(delimiter)?).await
        }
        Format::Json(format) => sources::json::open(Paths::from(inputs).inputs(Format::Json(format))?, format).await,
        Format::Line => open_lines(Paths::from(inputs)),
        Format::Excel => Err(Error::InvalidArgument(format!(
            "{}: expected another form than an Excel sheet, which Python reads (vexact.read_excel)",
            inputs[0].path().display()
        ))),
    }
}

fn open_lines(paths: Paths) -> Result<Arc<dyn TableProvider>> {
    let line = LineColumn { name: "line".into(), field: LineField::Index(0), data_type: Some(DataType::Utf8) };
    // No line holds a line end: it is one field.
    sources::line_file::open(paths.inputs(Format::Line)?, vec![line], LineMode::Split("\n".into()), false)
}
