//! Vector search of a replica by call.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::ParamValues;
use vexact_core::error::{Error, Result};
use vexact_core::param::{Params, to_olap};
use vexact_core::sql::within;
use vexact_router::{self as router, OlapTable, Owner};
use vexact_session::{DataFrame, VectorSearch};

use super::HtapEngine;

/// Returns the search with the placeholders of its filter bound.
///
/// # Errors
/// A placeholder without a value; a list that is not alone in `IN (?)`; values without a filter.
pub fn bind_filter(search: VectorSearch, params: impl Into<Params>) -> Result<VectorSearch> {
    let Some(filter) = &search.filter else {
        return Err(Error::InvalidArgument("params: expected none without a filter, got some".into()));
    };
    let (filter, params) = bound_filter(filter, params)?;
    Ok(VectorSearch { filter: Some(filter), params, ..search })
}

/// Returns a filter with numbered placeholders, and their values.
///
/// # Errors
/// As [`bind_filter`].
pub fn bound_filter(filter: &str, params: impl Into<Params>) -> Result<(String, Option<ParamValues>)> {
    let (filter, params) = router::all_by_number(filter, params.into()).map_err(|error| within(error, "filter"))?;
    Ok((filter, to_olap(&params)))
}

impl HtapEngine {
    /// Returns the rows of a replica that are closest to a query, best first: the key's columns,
    /// `score` (Float64), then the search's `columns`. With `is_fresh`, it first syncs up to the
    /// log's end at the time of the call.
    ///
    /// # Errors
    /// A table that is not registered; as [`vexact_session::Session::vector_search`].
    pub async fn vector_search(&self, search: &VectorSearch, is_fresh: bool) -> Result<Vec<RecordBatch>> {
        let search = self.prepared(search, is_fresh).await?;
        let _foreground = self.session.scheduler().begin_query();
        self.until_end(async { self.key_first(&search, &self.session.vector_search(&search).await?).await }).await
    }

    /// As [`Self::vector_search`], with the three sections of its explain.
    ///
    /// # Errors
    /// As [`Self::vector_search`].
    pub async fn vector_search_explained(
        &self,
        search: &VectorSearch,
        is_fresh: bool,
    ) -> Result<(Vec<RecordBatch>, vexact_sql::Explained)> {
        let search = self.prepared(search, is_fresh).await?;
        let _foreground = self.session.scheduler().begin_query();
        let (found, explained) = self.session.vector_search_explained(&search, None, None).await?;
        Ok((self.key_first(&search, &found).await?, explained))
    }

    /// Returns the rows that were found, with the key's columns before the score.
    async fn key_first(&self, search: &VectorSearch, found: &DataFrame) -> Result<Vec<RecordBatch>> {
        let key = search.columns.len() - self.own_columns(search);
        // `row_id`, `score`, then the key and the other columns.
        let order: Vec<usize> = (2..2 + key).chain([1]).chain(2 + key..2 + search.columns.len()).collect();
        let batches = found.collect().await?;
        batches.iter().map(|batch| batch.project(&order).map_err(Error::arrow)).collect()
    }

    fn own_columns(&self, search: &VectorSearch) -> usize {
        let snapshot = self.replicas.snapshot();
        let key = snapshot.table(&search.table).map_or(0, |state| state.version.definition().key.len());
        search.columns.len() - key.min(search.columns.len())
    }

    /// Explains a search after running it: the three sections of its EXPLAIN.
    ///
    /// # Errors
    /// As [`Self::vector_search`].
    pub async fn explain_vector_search(&self, search: &VectorSearch, is_fresh: bool) -> Result<vexact_sql::Explained> {
        let search = self.prepared(search, is_fresh).await?;
        self.session.explain_vector_search(&search).await
    }

    /// Returns the search with the columns of the result.
    async fn prepared(&self, search: &VectorSearch, is_fresh: bool) -> Result<VectorSearch> {
        // Otherwise the replicas would still answer.
        if *self.ended.borrow() {
            return Err(Error::shut_down());
        }
        if is_fresh {
            self.sync_all().await?;
        }
        let snapshot = self.replicas.snapshot();
        let Some(state) = snapshot.table(&search.table) else {
            return Err(Error::Engine(format!(
                "table {:?} is not replicated: register_table makes a replica of it",
                search.table
            )));
        };
        self.check_followed(std::slice::from_ref(&search.table))?;
        self.check_loaded(&state.version.definition().name)?;
        let definition = state.version.definition();
        let names = |columns: &[usize]| -> Vec<String> {
            columns.iter().map(|column| definition.schema.field(*column).name().clone()).collect()
        };
        let spelled = |name: &String| {
            let stored = state.version.schema().fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
            stored.map_or_else(|| name.clone(), |field| field.name().clone())
        };
        let key = names(&definition.key);
        let wanted: Vec<String> = match search.columns.iter().any(|name| name == "*") {
            true => state.version.schema().fields().iter().map(|field| field.name().clone()).collect(),
            false => search.columns.iter().map(spelled).collect(),
        };
        let group_by = search.group_by.as_ref().map(spelled);
        let grouped = group_by.iter().filter(|group| !wanted.contains(group)).cloned();
        let wanted: Vec<String> = grouped.chain(wanted.iter().cloned()).collect();
        let others = wanted.into_iter().filter(|name| !key.contains(name));
        let columns = key.iter().cloned().chain(others).collect();
        let table = OlapTable {
            name: definition.name.clone(),
            schema: Arc::clone(state.version.schema()),
            owner: Owner::Replica,
            // A filter does not contain `*`.
            row_id: None,
        };
        let filter = search.filter.as_ref().map(|filter| router::filter_for_olap(filter, &table)).transpose()?;
        Ok(VectorSearch {
            table: table.name,
            columns,
            column: spelled(&search.column),
            filter,
            group_by,
            ..search.clone()
        })
    }
}
