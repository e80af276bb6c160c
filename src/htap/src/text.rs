//! Text indexes of replicas, and text searches by call.

use std::sync::Arc;

use arrow::array::RecordBatch;
use vexact_core::error::{Error, Result};
use vexact_replica::{Replicas, TextColumn, Tokenizer};
use vexact_router::{self as router, OlapTable, Owner};
use vexact_session::{DataFrame, HybridSearch, TextSearch};
use vexact_sqlite::oltp::text;

use super::HtapEngine;
use super::followers::Followers;
use super::local::{Local, opened};

/// Makes the text indexes that are registered in the engine's own file, and keeps those of followed
/// tables that are beside the stored replicas.
pub(super) async fn resume(replicas: &Arc<Replicas>, local: Option<&Local>, followers: &Followers) -> Result<()> {
    let registered = match local {
        Some(local) => local.oltp.read(text::columns).await?,
        None => Vec::new(),
    };
    let followed: Vec<TextColumn> = replicas
        .text_definitions()
        .into_iter()
        .filter(|known| followers.sidecar.as_ref().is_some_and(|sidecar| sidecar.follows(&known.table)))
        .filter(|known| !registered.iter().any(|registered| registered.is(&known.table, &known.column)))
        .collect();
    let (replicas, columns) = (Arc::clone(replicas), [followed, registered].concat());
    opened(move || replicas.index_text(|_| columns)).await
}

/// Names of a replica's table and columns, as they are registered.
struct SearchedTable {
    table: OlapTable,
    key: Vec<String>,
}

impl SearchedTable {
    fn spelled(&self, name: &str) -> String {
        let stored = self.table.schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
        stored.map_or_else(|| name.to_owned(), |field| field.name().clone())
    }

    fn all_spelled(&self, names: &[String]) -> Vec<String> {
        names.iter().map(|name| self.spelled(name)).collect()
    }

    fn filter(&self, filter: Option<&str>) -> Result<Option<String>> {
        filter.map(|filter| router::filter_for_olap(filter, &self.table)).transpose()
    }
}

impl HtapEngine {
    /// Indexes the text of columns of a replica, and keeps the indexes up to date with it. The file
    /// of the engine remembers them, those of followed tables too; without a file that can be written
    /// they last as long as the stored replicas or, without, as the engine.
    ///
    /// # Errors
    /// A table that is not replicated, a column that is not text, a history.
    pub async fn register_text(&self, table: &str, columns: &[String], tokenizer: Tokenizer) -> Result<()> {
        let named = self.searched_table(table, false).await?;
        if columns.is_empty() {
            return Err(Error::InvalidArgument("columns: expected at least one, got none".into()));
        }
        let mut added = Vec::with_capacity(columns.len());
        for column in columns {
            self.replicas.check_text(&named.table.name, column)?;
            added.push(TextColumn { table: named.table.name.clone(), column: named.spelled(column), tokenizer });
        }
        if let Some(local) = self.writer() {
            let registered = added.clone();
            local.oltp.write(move |tx| text::register(tx, &registered)).await?;
        }
        self.edit_text(move |known| {
            let is_added = |known: &TextColumn| added.iter().any(|added| added.is(&known.table, &known.column));
            known.into_iter().filter(|known| !is_added(known)).chain(added.iter().cloned()).collect()
        })
        .await
    }

    /// Drops the text indexes of columns of a table, all of them if `columns` is empty. Idempotent.
    ///
    /// # Errors
    /// An error of SQLite.
    pub async fn unregister_text(&self, table: &str, columns: &[String]) -> Result<()> {
        let (table, columns) = (table.to_owned(), columns.to_vec());
        if let Some(local) = self.writer() {
            let (table, columns) = (table.clone(), columns.clone());
            let unregister = move |tx: &_| match columns.is_empty() {
                true => text::unregister(tx, &table, None),
                false => columns.iter().try_for_each(|column| text::unregister(tx, &table, Some(column))),
            };
            local.oltp.write(unregister).await?;
        }
        let is_dropped = move |known: &TextColumn| match columns.is_empty() {
            true => known.table.eq_ignore_ascii_case(&table),
            false => columns.iter().any(|column| known.is(&table, column)),
        };
        self.edit_text(move |known| known.into_iter().filter(|known| !is_dropped(known)).collect()).await
    }

    /// Returns the columns that have a text index.
    pub fn text_columns(&self) -> Vec<TextColumn> {
        self.replicas.snapshot().text_columns()
    }

    /// Returns the file that remembers the text indexes; `None` if it cannot be written.
    fn writer(&self) -> Option<&Local> {
        self.local.as_ref().filter(|local| !local.oltp.is_read_only())
    }

    async fn edit_text(&self, change: impl FnOnce(Vec<TextColumn>) -> Vec<TextColumn> + Send + 'static) -> Result<()> {
        let replicas = Arc::clone(&self.replicas);
        opened(move || replicas.index_text(change)).await
    }

    /// Returns the rows of a replica whose text matches, best first: the key's columns,
    /// `text_score` (Float64: BM25, larger is better), `text_rank` (Int64, from 1), then the
    /// search's `columns`. With `is_fresh`, it first syncs up to the log's end at the time of the
    /// call.
    ///
    /// # Errors
    /// A table that is not registered; as [`vexact_session::Session::text_search`].
    pub async fn text_search(&self, search: &TextSearch, is_fresh: bool) -> Result<Vec<RecordBatch>> {
        let named = self.searched_table(&search.table, is_fresh).await?;
        let search = TextSearch {
            table: named.table.name.clone(),
            column: named.spelled(&search.column),
            filter: named.filter(search.filter.as_deref())?,
            leading: named.key.clone(),
            columns: named.all_spelled(&search.columns),
            ..search.clone()
        };
        let _foreground = self.session.scheduler().begin_query();
        self.until_end(async { rows_of(self.session.text_search(&search).await?).await }).await
    }

    /// Returns the rows of a vector search and a text search of a replica, best fused score first:
    /// the key's columns, `score` (Float64), `vector_rank`, `vector_score`, `text_rank`,
    /// `text_score`, then the search's `columns`. Both searches see the same version.
    ///
    /// # Errors
    /// A table that is not registered; as [`vexact_session::Session::fused_search`].
    pub async fn hybrid_search(&self, search: &HybridSearch, is_fresh: bool) -> Result<Vec<RecordBatch>> {
        let named = self.searched_table(&search.vector.table, is_fresh).await?;
        let mut vector = search.vector.clone();
        vector.table.clone_from(&named.table.name);
        vector.column = named.spelled(&vector.column);
        vector.filter = named.filter(vector.filter.as_deref())?;
        vector.columns = named.all_spelled(&vector.columns);
        let text_column = named.spelled(&search.text_column);
        let search = HybridSearch { vector, text_column, leading: named.key.clone(), ..search.clone() };
        let _foreground = self.session.scheduler().begin_query();
        self.until_end(async { rows_of(self.session.fused_search(&search).await?).await }).await
    }

    /// Returns a replica that can be searched now.
    async fn searched_table(&self, table: &str, is_fresh: bool) -> Result<SearchedTable> {
        // Otherwise the replicas would still answer.
        if *self.ended.borrow() {
            return Err(Error::shut_down());
        }
        if is_fresh {
            self.sync_all().await?;
        }
        let snapshot = self.replicas.snapshot();
        let Some(state) = snapshot.table(table) else {
            return Err(Error::Engine(format!(
                "table {table:?} is not replicated: register_table makes a replica of it"
            )));
        };
        let definition = state.version.definition();
        self.check_followed(std::slice::from_ref(&definition.name))?;
        self.check_loaded(&definition.name)?;
        let key = definition.key.iter().map(|column| definition.schema.field(*column).name().clone()).collect();
        let schema = Arc::clone(state.version.schema());
        // A filter does not contain `*`.
        let table = OlapTable { name: definition.name.clone(), schema, owner: Owner::Replica, row_id: None };
        Ok(SearchedTable { table, key })
    }
}

/// Returns the rows of a frame; one batch without rows keeps the schema.
async fn rows_of(found: DataFrame) -> Result<Vec<RecordBatch>> {
    let batches = found.collect().await?;
    Ok(if batches.is_empty() { vec![RecordBatch::new_empty(found.result_schema()?)] } else { batches })
}
