//! Decides which side answers a query: by its names and shape, and by its plan.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use vexact_core::entry::entry;
use vexact_core::error::{Error, Result};
use vexact_router as router;
use vexact_router::{Reason, Route, Side};
use vexact_sql::deep::stack_of_text;

use super::HtapEngine;
use super::fallback::should_fall_back;

impl HtapEngine {
    /// Returns the side that answers a query, and the reason.
    ///
    /// # Errors
    /// As [`router::route`].
    pub async fn route(&self, sql: &str) -> Result<Route> {
        let sql = &*router::numbered(sql);
        entry(stack_of_text(sql), sql, self.route_by_number(sql)).await
    }

    async fn route_by_number(&self, sql: &str) -> Result<Route> {
        let query = self.resolve(sql).await?;
        let route = self.route_of(&query)?;
        if !route.can_fall_back || route.side == Side::Sqlite {
            return Ok(route);
        }
        let reason = match self.plan(&query, &[]).await {
            Ok(frame) => self.semantic_gap(&query, &frame, &route.tables).await,
            Err(error) => self.unplannable(&error),
        };
        Ok(match reason {
            Some(reason) => Route { side: Side::Sqlite, reason, tables: Vec::new(), ..route },
            None => route,
        })
    }

    /// Returns the reason why SQLite answers a query that DataFusion cannot plan, unless another
    /// engine may.
    fn unplannable(&self, error: &Error) -> Option<Reason> {
        #[cfg(feature = "duckdb-linked")]
        if self.duckdb.is_some() {
            return None;
        }
        should_fall_back(error).then(|| Reason::NotPlanned(error.to_string()))
    }

    /// Rejects a query that names a followed table whose replication has failed: its rows and
    /// columns are not read.
    pub(super) fn check_followed(&self, tables: &[String]) -> Result<()> {
        let Some(sidecar) = &self.followers.sidecar else { return Ok(()) };
        let snapshot = self.replicas.snapshot();
        for table in tables.iter().filter(|table| sidecar.follows(table)) {
            if let Some(error) = snapshot.table(table).and_then(|state| state.failed.as_ref()) {
                return Err(not_read(table, error));
            }
        }
        Ok(())
    }
}

impl HtapEngine {
    /// Rejects a search of a replica that lacks the rows which its table had before replication
    /// started, because the result would be wrong.
    ///
    /// # Errors
    /// The call that loads the rows.
    pub fn check_loaded(&self, table: &str) -> Result<()> {
        let unloaded = self.followers.unloaded();
        match unloaded.into_iter().find(|unloaded| unloaded.name.eq_ignore_ascii_case(table)) {
            Some(unloaded) => Err(Error::Engine(unloaded.refusal)),
            None => Ok(()),
        }
    }

    /// As [`Self::check_loaded`], for the tables of a query, if it is a search.
    pub(super) fn check_searched(&self, route: &Route) -> Result<()> {
        match route.reason {
            Reason::VectorFunction(_) => route.tables.iter().try_for_each(|table| self.check_loaded(table)),
            _ => Ok(()),
        }
    }
}

/// Adds to an explain the side that answers, and the reason, as its last section.
pub(super) fn with_route(route: &Route, mut batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(batches) };
    let is_explain = schema.fields().len() == 2 && schema.fields().iter().all(|field| field.data_type().is_string());
    if is_explain {
        let text = |text: String| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let columns = vec![text("route".into()), text(format!("olap: {}", route.reason))];
        batches.push(RecordBatch::try_new(schema, columns).map_err(Error::arrow)?);
    }
    Ok(batches)
}

pub(super) fn not_read(table: &str, error: &str) -> Error {
    Error::Engine(format!("table {table:?} does not follow its source and is not read: {error}"))
}
