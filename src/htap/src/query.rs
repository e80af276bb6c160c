//! Stages of a query: parse, resolve, route, plan, execute. One `match` decides about the fallback
//! to SQLite.

use arrow::array::RecordBatch;
use vexact_core::error::{Error, Result};
use vexact_core::param::{Param, to_olap, to_sqlite};
use vexact_router as router;
use vexact_router::{ParsedQuery, Reason, Route, Side};
use vexact_session::DataFrame;
use vexact_sqlite::oltp::ResultTypes;

use super::fallback::should_fall_back;
use super::local::Local;
use super::names::EngineNames;
use super::read_columns::ReadColumns;
use super::route::with_route;
use super::{HtapEngine, typing};

/// A parsed query, with its names resolved at one version of the replicas.
pub(super) struct ResolvedQuery<'e> {
    pub parsed: ParsedQuery,
    pub names: EngineNames<'e>,
}

/// Result of a query on the replicas.
enum OlapAnswer {
    Rows(Vec<RecordBatch>),
    /// DataFusion's answer would differ from SQLite's.
    Differs,
    /// DataFusion cannot plan the query.
    NotPlanned(Error),
    /// The query failed while it ran.
    Failed(Error),
}

impl HtapEngine {
    /// Parses a query with numbered placeholders, and resolves its names.
    pub(super) async fn resolve(&self, sql: &str) -> Result<ResolvedQuery<'_>> {
        if self.local.is_some() {
            // SQLite stops reading at a NUL, so both sides reject it.
            vexact_core::sql::without_nul(sql)?;
        }
        Ok(ResolvedQuery { parsed: ParsedQuery::parse(sql)?, names: self.names().await? })
    }

    /// Answers a query on the side of its route.
    pub(super) async fn answer_query(&self, sql: &str, params: &[Param]) -> Result<Vec<RecordBatch>> {
        let _foreground = self.session.scheduler().begin_query();
        let query = self.resolve(sql).await?;
        let route = self.route_of(&query)?;
        let (Side::Olap, local) = (route.side, &self.local) else { return self.sqlite_answer(&query, params).await };
        self.check_followed(&route.tables)?;
        self.check_searched(&route)?;
        let answer = self.olap_answer(&query, &route, params).await;
        match (answer, local.as_ref().filter(|_| route.can_fall_back)) {
            (OlapAnswer::Rows(rows), _) if route.is_explain => with_route(&route, rows),
            (OlapAnswer::Rows(rows), _) => Ok(rows),
            (OlapAnswer::Differs, _) => self.sqlite_answer(&query, params).await,
            (OlapAnswer::NotPlanned(error), Some(local)) if should_fall_back(&error) => {
                self.query_sqlite(local, &query, params).await
            }
            (OlapAnswer::Failed(error), Some(local)) if should_fall_back(&error) => {
                self.query_sqlite(local, &query, params).await.or(Err(error))
            }
            (OlapAnswer::NotPlanned(error) | OlapAnswer::Failed(error), _) => Err(error),
        }
    }

    /// Answers a query on the replicas and the session's tables, for any route.
    pub(super) async fn answer_on_replicas(&self, sql: &str, params: &[Param]) -> Result<Vec<RecordBatch>> {
        let _foreground = self.session.scheduler().begin_query();
        let query = self.resolve(sql).await?;
        if (self.followers.sidecar.is_some() || !self.followers.unloaded().is_empty())
            && let Ok(route) = self.route_of(&query)
        {
            self.check_followed(&route.tables)?;
            self.check_searched(&route)?;
        }
        match self.plan(&query, params).await {
            Ok(frame) => self.execute_plan(&query, params, &frame).await,
            Err(error) => self.unplanned(&query, params).await.ok_or(error),
        }
    }

    /// Returns the side that answers a query, based only on its names and its shape.
    pub(super) fn route_of(&self, query: &ResolvedQuery<'_>) -> Result<Route> {
        let route = router::route(&query.parsed, &query.names)?;
        Ok(match (&self.local, &route.reason) {
            (Some(_), _) | (None, Reason::NotAQuery(_)) => route,
            (None, _) if route.side == Side::Olap => Route { can_fall_back: false, ..route },
            (None, _) => Route { side: Side::Olap, reason: Reason::NoSqlite, can_fall_back: false, ..route },
        })
    }

    /// Plans the query on the replicas, as a frame.
    pub(super) async fn plan(&self, query: &ResolvedQuery<'_>, params: &[Param]) -> Result<DataFrame> {
        let statement = router::for_olap(router::read_only(&query.parsed)?.clone(), &query.names)?;
        let snapshot = Some(query.names.snapshot.clone());
        self.session.statement(query.parsed.text(), statement, to_olap(params), snapshot).await
    }

    async fn olap_answer(&self, query: &ResolvedQuery<'_>, route: &Route, params: &[Param]) -> OlapAnswer {
        let frame = match self.plan(query, params).await {
            Ok(frame) => frame,
            Err(error) => {
                return match self.unplanned(query, params).await {
                    Some(rows) => OlapAnswer::Rows(rows),
                    None => OlapAnswer::NotPlanned(error),
                };
            }
        };
        if route.can_fall_back && self.semantic_gap(query, &frame, &route.tables).await.is_some() {
            return OlapAnswer::Differs;
        }
        self.execute_plan(query, params, &frame).await.map_or_else(OlapAnswer::Failed, OlapAnswer::Rows)
    }

    /// Returns the reason why SQLite answers a query that is planned over these tables:
    /// DataFusion's answer would differ.
    pub(super) async fn semantic_gap(
        &self,
        query: &ResolvedQuery<'_>,
        frame: &DataFrame,
        tables: &[String],
    ) -> Option<Reason> {
        let (local, plan) = (self.local.as_ref()?, frame.plan()?);
        if let Some(table) = router::partial_wildcard(&query.parsed, &|table| query.names.lacks_columns(table)) {
            return Some(Reason::Differs(format!("* of table {table:?}, whose replica lacks columns of it")));
        }
        let columns = ReadColumns::new(query.names.sqlite.clone(), &query.names.snapshot, tables);
        let gap = router::semantic_gap(&plan, &columns)?;
        // If SQLite cannot prepare a query, the query has only one meaning.
        let sql = query.parsed.text().clone();
        let is_known = local.oltp.read(move |conn| Ok(conn.prepare(&sql).is_ok())).await.ok()?;
        is_known.then_some(Reason::Differs(gap))
    }

    async fn sqlite_answer(&self, query: &ResolvedQuery<'_>, params: &[Param]) -> Result<Vec<RecordBatch>> {
        match &self.local {
            Some(local) => self.query_sqlite(local, query, params).await,
            // Only a statement that is not a query has this route; planning reports it.
            None => {
                let frame = self.plan(query, params).await?;
                self.execute_plan(query, params, &frame).await
            }
        }
    }

    async fn query_sqlite(
        &self,
        local: &Local,
        query: &ResolvedQuery<'_>,
        params: &[Param],
    ) -> Result<Vec<RecordBatch>> {
        let names = &query.names;
        let expressions = match router::is_of_columns(&query.parsed, &|table| names.sqlite.is_table(table)) {
            // SQLite reports the origin tables of the columns.
            true => Vec::new(),
            false => match self.plan(query, &[]).await.and_then(|frame| frame.result_schema()) {
                Ok(schema) => typing::types_of(&schema),
                Err(_) => typing::expression_types(query).await,
            },
        };
        let types = ResultTypes { registered: Some(self.registered()), expressions };
        local.oltp.query(query.parsed.text().to_string(), to_sqlite(params), types).await
    }
}
