//! JSON: one object a line, or one array of objects.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::prelude::{JsonReadOptions, SessionContext};

use super::{arrow, bad_file, location};
use crate::error::{Error, Result};

/// How objects follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonFormat {
    /// One object a line.
    Lines,
    /// One array.
    Array,
}

impl FromStr for JsonFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "json_lines" | "jsonl" | "ndjson" => Ok(Self::Lines),
            "json_array" | "json" => Ok(Self::Array),
            _ => Err(Error::InvalidArgument(format!("format: expected one of json_lines, json_array, got {name:?}"))),
        }
    }
}

/// A JSON file as a table. It is read as queries need it, unless it holds lists of numbers: then it is read once, and those of one
/// length become vectors.
///
/// # Errors
/// A missing file, or content of another form.
pub async fn open(ctx: &SessionContext, path: &Path, format: JsonFormat) -> Result<Arc<dyn TableProvider>> {
    let (location, extension) = location(path)?;
    let bad = |error: datafusion::error::DataFusionError| bad_file(path, &error.strip_backtrace());
    let options = JsonReadOptions { newline_delimited: format == JsonFormat::Lines, ..JsonReadOptions::default() }
        .file_extension(&extension);
    let frame = ctx.read_json(location, options).await.map_err(bad)?;
    let has_lists = frame.schema().fields().iter().any(|field| field.data_type().is_list());
    if !has_lists {
        return Ok(frame.into_view());
    }
    let schema = Arc::clone(frame.schema().inner());
    arrow::open(schema, frame.collect().await.map_err(bad)?)
}
