//! Executes a planned query on the replicas: in DataFusion, or in DuckDB if the engine has one.

use arrow::array::RecordBatch;
use vexact_core::error::Result;
#[cfg(feature = "duckdb-linked")]
use vexact_router as router;
use vexact_session::DataFrame;

use super::query::ResolvedQuery;
use super::{HtapEngine, Param, typing};

impl HtapEngine {
    /// Executes a query with its plan. Without rows, the answer is one batch that keeps the schema.
    #[cfg_attr(not(feature = "duckdb-linked"), expect(unused_variables, reason = "DataFusion has them in its plan"))]
    pub(super) async fn execute_plan(
        &self,
        query: &ResolvedQuery<'_>,
        params: &[Param],
        frame: &DataFrame,
    ) -> Result<Vec<RecordBatch>> {
        #[cfg(feature = "duckdb-linked")]
        if let Some(answer) = self.by_duckdb(query, params, Some(frame)).await {
            return answer;
        }
        let batches = frame.collect().await?;
        typing::plained(if batches.is_empty() { vec![RecordBatch::new_empty(frame.result_schema()?)] } else { batches })
    }

    /// Answers a query that DataFusion cannot plan, if DuckDB can; its types are DuckDB's.
    #[cfg(feature = "duckdb-linked")]
    pub(super) async fn unplanned(&self, query: &ResolvedQuery<'_>, params: &[Param]) -> Option<Vec<RecordBatch>> {
        self.by_duckdb(query, params, None).await?.ok()
    }

    #[cfg(not(feature = "duckdb-linked"))]
    pub(super) async fn unplanned(&self, _: &ResolvedQuery<'_>, _: &[Param]) -> Option<Vec<RecordBatch>> {
        None
    }

    /// Answers a query by DuckDB, with the types that DataFusion gives the query. Returns `None` if
    /// DuckDB is not configured or a table has no replica.
    #[cfg(feature = "duckdb-linked")]
    async fn by_duckdb(
        &self,
        query: &ResolvedQuery<'_>,
        params: &[Param],
        frame: Option<&DataFrame>,
    ) -> Option<Result<Vec<RecordBatch>>> {
        let duckdb = self.duckdb.as_ref()?;
        let (statement, names) = (router::read_only(&query.parsed).ok()?, &query.names);
        let mut tables = Vec::new();
        for name in router::replicas_alone(statement, names)? {
            let state = names.snapshot.table(&name)?;
            if let Some(error) = &state.failed {
                return Some(Err(super::route::not_read(&name, error)));
            }
            tables.push((name, std::sync::Arc::clone(&state.version)));
        }
        let statement = router::for_olap(statement.clone(), names).ok()?;
        let schema = frame.and_then(|frame| frame.result_schema().ok());
        let query = crate::duckdb::Query { statement, params: params.to_vec(), tables, schema };
        Some(duckdb.query(query).await.and_then(typing::plained))
    }
}
