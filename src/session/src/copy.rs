//! `COPY query TO 'file'`: the file is replaced when all rows are written, and it is created even
//! if the query returns no rows (apache/datafusion#18073).

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::file_options::parquet_writer::parse_compression_string;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::dml::CopyTo;
use vexact_core::error::{Error, Result};
use vexact_sources::csv::delimiter_byte;
use vexact_sources::local_file;
use vexact_sources::object_stores::is_remote;
use vexact_sources::parquet_sketch::SketchColumn;
use vexact_sources::row_file::{RowFileOptions, RowFormat};

use super::DataFrame;

/// Target file of a COPY, with its format and options.
pub(super) struct CopyTarget {
    path: PathBuf,
    form: RowFormat,
    options: RowFileOptions,
}

impl CopyTarget {
    /// Reads the target file and its options from a statement.
    ///
    /// # Errors
    /// A path that is not a file; an unknown format or option.
    pub fn of(copy: &CopyTo) -> Result<Self> {
        if !copy.partition_by.is_empty() {
            return Err(refused("PARTITIONED BY is not supported: expected one file"));
        }
        let form = match copy.file_type.get_ext().to_ascii_lowercase().trim_start_matches('.') {
            "parquet" => RowFormat::Parquet,
            "arrow" => RowFormat::Arrow,
            "csv" => RowFormat::Csv,
            "json" => RowFormat::Json,
            other => return Err(refused(&format!("expected parquet, arrow, csv or json, got {other}"))),
        };
        let mut options = RowFileOptions::default();
        for (key, value) in &copy.options {
            set(&mut options, form, key, value)?;
        }
        let path = match is_remote(&copy.output_url) {
            true => PathBuf::from(&copy.output_url),
            false => local_file(&copy.output_url)?,
        };
        Ok(Self { path, form, options })
    }

    /// Writes the rows of a query and returns their number.
    ///
    /// # Errors
    /// A failure of the query or of writing, which leaves the old file unchanged.
    pub async fn write(&self, frame: &DataFrame) -> Result<u64> {
        frame.write_file(&self.path, self.form, &self.options).await
    }
}

fn refused(problem: &str) -> Error {
    Error::InvalidArgument(format!("COPY: {problem}"))
}

fn set(options: &mut RowFileOptions, form: RowFormat, key: &str, value: &str) -> Result<()> {
    let name = key.strip_prefix("format.").unwrap_or(key).to_ascii_lowercase();
    let wrong = |expected: &str| refused(&format!("option {key:?}: expected {expected}, got {value:?}"));
    match (form, name.as_str()) {
        (RowFormat::Csv, "has_header" | "header") => {
            options.has_header = value.to_ascii_lowercase().parse().map_err(|_| wrong("true or false"))?;
        }
        (RowFormat::Csv, "delimiter") => {
            let mut characters = value.chars();
            let one = match (value, characters.next(), characters.next()) {
                ("\\t", ..) => Some('\t'),
                (_, Some(one), None) => Some(one),
                _ => None,
            };
            options.delimiter = delimiter_byte(one.ok_or_else(|| wrong("one character"))?)?;
        }
        (RowFormat::Parquet, "compression") => {
            let text = value.trim_matches('\'');
            options.compression = parse_compression_string(text).map_err(|error| wrong(&error.strip_backtrace()))?;
        }
        (RowFormat::Parquet, "sketch") => {
            let names = value.trim_matches('\'').split(',').map(str::trim);
            options.sketches = names.map(SketchColumn::auto).collect();
        }
        _ => {
            let known = match form {
                RowFormat::Csv => "format.delimiter, format.has_header",
                RowFormat::Parquet => "format.compression, format.sketch",
                RowFormat::Arrow | RowFormat::Json => "none",
            };
            return Err(refused(&format!("unknown option {key:?}: expected {known}")));
        }
    }
    Ok(())
}

/// Returns the query of a COPY, as a frame.
pub(super) fn query_of(state: Arc<SessionState>, copy: CopyTo) -> DataFrame {
    DataFrame::of_plan(state, Arc::<LogicalPlan>::unwrap_or_clone(copy.input))
}
