//! Queries on the replicas: planned by DataFusion, and run by it, or by DuckDB where the engine has one.

use arrow::array::RecordBatch;
use datafusion::common::ParamValues;
use vexact_core::error::Result;
use vexact_core::param::to_olap;
use vexact_router as router;
use vexact_session::{DataFrame, as_parameter};

use super::{HtapEngine, Param, typing};

impl HtapEngine {
    pub(super) async fn olap_frame(&self, sql: &str, params: &[Param]) -> Result<DataFrame> {
        // A search whose query vector stands in the text is planned once for all vectors.
        if params.is_empty()
            && let Some((text, vector)) = as_parameter(sql)
            && let Ok(frame) = self.planned(&text, Some(vector)).await
            && frame.is_search().await
        {
            return Ok(frame);
        }
        self.planned(sql, to_olap(params)).await
    }

    async fn planned(&self, sql: &str, params: Option<ParamValues>) -> Result<DataFrame> {
        let statement = router::for_olap(router::read_only(sql)?, &self.names().await?)?;
        self.session.statement(sql, statement, params).await
    }

    /// The answer to a query with its plan. Without rows, one batch that keeps the schema.
    #[cfg_attr(not(feature = "duckdb-linked"), expect(unused_variables, reason = "DataFusion has them in its plan"))]
    pub(super) async fn answer(&self, sql: &str, params: &[Param], frame: &DataFrame) -> Result<Vec<RecordBatch>> {
        #[cfg(feature = "duckdb-linked")]
        if let Some(answer) = self.by_duckdb(sql, params, Some(frame)).await {
            return answer;
        }
        let batches = frame.collect().await?;
        typing::plained(if batches.is_empty() { vec![RecordBatch::new_empty(frame.result_schema()?)] } else { batches })
    }

    /// The answer to a query that DataFusion cannot plan, if DuckDB can; its types are DuckDB's.
    #[cfg(feature = "duckdb-linked")]
    pub(super) async fn unplanned(&self, sql: &str, params: &[Param]) -> Option<Vec<RecordBatch>> {
        self.by_duckdb(sql, params, None).await?.ok()
    }

    #[cfg(not(feature = "duckdb-linked"))]
    pub(super) async fn unplanned(&self, _: &str, _: &[Param]) -> Option<Vec<RecordBatch>> {
        None
    }

    /// The answer of DuckDB, with the types that DataFusion gives the query; `None`: it is not asked.
    #[cfg(feature = "duckdb-linked")]
    async fn by_duckdb(
        &self,
        sql: &str,
        params: &[Param],
        frame: Option<&DataFrame>,
    ) -> Option<Result<Vec<RecordBatch>>> {
        let duckdb = self.duckdb.as_ref()?;
        let statement = router::read_only(sql).ok()?;
        let names = self.names().await.ok()?;
        let mut tables = Vec::new();
        for name in router::replicas_alone(&statement, &names)? {
            let state = names.snapshot.table(&name)?;
            if let Some(error) = &state.failed {
                return Some(Err(super::route::not_read(&name, error)));
            }
            tables.push((name, std::sync::Arc::clone(&state.version)));
        }
        let statement = router::for_olap(statement, &names).ok()?;
        let schema = frame.and_then(|frame| frame.result_schema().ok());
        let query = crate::duckdb::Query { statement, params: params.to_vec(), tables, schema };
        Some(duckdb.query(query).await.and_then(typing::plained))
    }
}
