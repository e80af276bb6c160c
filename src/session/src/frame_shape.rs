//! Frames made of a frame: some of its columns, its first rows, its rows in memory.

use vexact_core::error::{Error, Result};
use vexact_sources as sources;

use super::DataFrame;

impl DataFrame {
    /// The frame of some of its columns.
    ///
    /// # Errors
    /// A column that it does not have, or one that is named twice.
    pub fn select(&self, columns: &[String]) -> Result<DataFrame> {
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        if let Some(missing) = columns.iter().find(|column| !names.contains(&column.as_str())) {
            return Err(Error::InvalidArgument(format!(
                "column {missing:?} not found: expected one of [{}]",
                names.join(", ")
            )));
        }
        if let Some((_, twice)) = columns.iter().enumerate().find(|(at, column)| columns[..*at].contains(column)) {
            return Err(Error::InvalidArgument(format!("columns: expected each column once, got {twice:?} twice")));
        }
        let columns: Vec<_> = columns.iter().map(|name| datafusion::logical_expr::ident(name.as_str())).collect();
        self.enter(|| Ok(Self::of_query(self.query()?.select(columns)?)))
    }

    /// The frame of its first `rows` rows, in the order in which it gives them.
    ///
    /// # Errors
    /// A plan that cannot be made of it.
    pub fn limit(&self, rows: usize) -> Result<DataFrame> {
        self.enter(|| Ok(Self::of_query(self.query()?.limit(0, Some(rows))?)))
    }

    /// A frame of the same rows in memory: the query runs now, and not again.
    ///
    /// # Errors
    /// As [`Self::collect`].
    pub async fn cache(&self) -> Result<DataFrame> {
        let (schema, batches) = (self.schema(), self.collect().await?);
        let (state, _) = self.query()?.into_parts();
        let rows = sources::arrow::as_it_is(schema, batches)?;
        Ok(Self::of_table(&datafusion::prelude::SessionContext::new_with_state(state), rows))
    }
}
