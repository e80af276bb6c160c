//! Parquet files: read as queries need them, row group by row group.

use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::prelude::{ParquetReadOptions, SessionContext};

use super::{bad_file, location};
use crate::error::Result;

/// A Parquet file as a table. Nothing but its footer is read.
///
/// # Errors
/// A missing file, or one that is not Parquet.
pub async fn open(ctx: &SessionContext, path: &Path) -> Result<Arc<dyn TableProvider>> {
    let location = location(path, "a Parquet file")?;
    let options = ParquetReadOptions::default().file_extension("");
    let frame = ctx.read_parquet(location, options).await.map_err(|error| bad_file(path, &error.strip_backtrace()))?;
    Ok(frame.into_view())
}
