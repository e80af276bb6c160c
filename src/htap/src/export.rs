//! Writes replicas as files, so that other processes read live data.

use std::path::Path;

use vexact_core::entry::entry;
use vexact_core::error::{Error, Result};
use vexact_core::sql::ident;
use vexact_sql::deep::stack_of_text;

use super::HtapEngine;

impl HtapEngine {
    /// Writes the rows of one version of a replica, or of a table of the session, as a Parquet file.
    /// The file gets its name when it is complete, and replaces a file of that name.
    ///
    /// # Errors
    /// An unknown table, one whose rows are not loaded, a path that is not `*.parquet`, a missing
    /// folder, a failure of writing.
    pub async fn export(&self, table: &str, path: &Path) -> Result<()> {
        let is_parquet = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("parquet"));
        if !is_parquet {
            let got = path.display();
            return Err(Error::InvalidArgument(format!("export: expected the path of a file *.parquet, got {got}")));
        }
        let query = format!("SELECT * FROM {}", ident(table));
        let written = async {
            let rows = self.session.sql(&query, None).await?;
            rows.write_parquet(path).await
        };
        entry(stack_of_text(&query), &query, self.until_end(written)).await
    }
}
