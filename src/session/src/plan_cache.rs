//! A cache of plans by statement: planning a short query takes longer than a search of a small
//! table.
//!
//! A cached plan is valid while its tables and the settings are unchanged, and it calls only
//! immutable functions. The functions themselves cannot change while nobody else has the session's
//! context. The physical plan of an in-memory search is cached too, if its vector is a parameter;
//! that of a replica is valid for any version, as each query brings its own snapshot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, TableReference};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Statement;
use hashlink::LruCache;
use parking_lot::Mutex;
use vexact_core::error::Result;
use vexact_replica::{ReplicaTable, Snapshot};
use vexact_sql::SearchPlan;
use vexact_sql::chunks::ChunkTable;
use vexact_sql::deep::Deep;

use super::statement::bound;
use super::vector_syntax::VECTOR_SEARCH;

/// Maximum length of a cached statement's text, in bytes. A longer one has values in it and does
/// not come again.
pub(super) const TEXT_BYTES: usize = 2048;

/// Maximum number of cached plans. The least recently used one is evicted.
const PLANS: usize = 256;

/// The cached plans of a session, by statement.
pub(super) struct PlanCache {
    plans: Mutex<LruCache<Statement, Arc<CachedPlan>>>,
    is_off: AtomicBool,
}

/// A plan with unbound parameters, and the tables and settings that it was made with.
pub(super) struct CachedPlan {
    pub plan: Deep<LogicalPlan>,
    /// Session state; `None` over replicas, where each query has a state of its own.
    pub state: Option<Arc<SessionState>>,
    settings: Arc<ConfigOptions>,
    tables: Vec<(TableReference, Arc<dyn TableProvider>)>,
    /// Physical plan, decided when the query is first planned; `None` if the query is not a search.
    search: OnceLock<Option<CachedSearch>>,
}

/// The physical plan of a search, and the columns of its frame.
struct CachedSearch {
    plan: SearchPlan,
    schema: SchemaRef,
}

/// A cached plan with the values of its parameters.
#[derive(Clone)]
pub(super) struct BoundPlan {
    cached: Arc<CachedPlan>,
    state: Arc<SessionState>,
    params: ParamValues,
}

impl BoundPlan {
    /// Creates a bound plan; `state` is the state of the query.
    pub fn new(cached: Arc<CachedPlan>, state: Arc<SessionState>, params: ParamValues) -> Self {
        Self { cached, state, params }
    }

    pub fn state(&self) -> &Arc<SessionState> {
        &self.state
    }

    /// Returns the stack size that the plan needs.
    pub fn stack(&self) -> usize {
        self.cached.plan.stack()
    }

    /// Returns the plan with its parameters.
    pub fn logical(&self) -> Result<LogicalPlan> {
        bound(LogicalPlan::clone(&self.cached.plan), Some(self.params.clone()))
    }

    fn cached_search(&self) -> Option<&CachedSearch> {
        self.cached.search.get()?.as_ref()
    }

    /// Returns true if the fast path has been decided.
    pub fn is_planned(&self) -> bool {
        self.cached.search.get().is_some()
    }

    /// Returns the replica, if it is the only table that the plan reads.
    fn replica(&self) -> Option<&ReplicaTable> {
        match &self.cached.tables[..] {
            [(_, table)] => table.downcast_ref(),
            _ => None,
        }
    }

    /// Returns the cached physical plan with this query's parameters; `None` if there is none.
    pub fn search(&self) -> Option<Arc<dyn ExecutionPlan>> {
        let plan = &self.cached_search()?.plan;
        match self.replica() {
            // Planning reports a replica that cannot be read.
            Some(replica) => plan.with(&self.params, Some(&replica.chunks(self.state.config()).ok()?)),
            None => plan.with(&self.params, None),
        }
    }

    /// Returns the columns of the cached physical plan; `None` if there is none.
    pub fn search_schema(&self) -> Option<SchemaRef> {
        let search = self.cached_search()?;
        search.plan.fits(&self.params).then(|| Arc::clone(&search.schema))
    }

    /// Caches the physical plan if it is a search of a whole replica, or of tables that do not
    /// change.
    pub fn cache_search(&self, physical: &Arc<dyn ExecutionPlan>, schema: &SchemaRef) {
        self.cached.search.get_or_init(|| {
            let are_fixed = self.cached.tables.iter().all(|(_, table)| table.downcast_ref::<ChunkTable>().is_some());
            let plan = || SearchPlan::of(&self.cached.plan, &self.params, physical);
            let plan = match self.replica() {
                Some(replica) => plan()?.without(&replica.chunks(self.state.config()).ok()?)?,
                None if are_fixed => plan()?,
                None => return None,
            };
            Some(CachedSearch { plan, schema: Arc::clone(schema) })
        });
    }
}

impl Default for PlanCache {
    fn default() -> Self {
        Self { plans: Mutex::new(LruCache::new(PLANS)), is_off: AtomicBool::new(false) }
    }
}

impl PlanCache {
    /// Invalidates all plans after a table name is rebound.
    pub fn invalidate(&self) {
        self.plans.lock().clear();
    }

    /// Turns the cache off for good.
    pub fn turn_off(&self) {
        self.is_off.store(true, Ordering::Relaxed);
        self.invalidate();
    }

    /// Returns true if no plan is cached.
    pub fn is_empty(&self) -> bool {
        self.plans.lock().is_empty()
    }

    /// Returns the plan of a statement, if it is still valid.
    pub async fn find(&self, ctx: &SessionContext, statement: &Statement) -> Option<Arc<CachedPlan>> {
        if self.is_off.load(Ordering::Relaxed) {
            return None;
        }
        let found = self.plans.lock().get(statement).cloned()?;
        // A change copies the settings, as the cached plan holds them too.
        let has_same_settings = Arc::ptr_eq(ctx.state_ref().read().config_options(), &found.settings);
        if has_same_settings {
            let mut are_same = true;
            for (name, table) in &found.tables {
                let now = ctx.table_provider(name.clone()).await;
                are_same &= now.is_ok_and(|now| is_same(&now, table));
            }
            if are_same {
                return Some(found);
            }
        }
        self.plans.lock().remove(statement);
        None
    }

    /// Caches the plan of a statement if it is reusable; returns the cached entry. `names` are the
    /// tables that the statement names.
    pub async fn cache(
        &self,
        ctx: &SessionContext,
        statement: Statement,
        names: Vec<TableReference>,
        plan: &LogicalPlan,
        state: &Arc<SessionState>,
    ) -> Option<Arc<CachedPlan>> {
        if self.is_off.load(Ordering::Relaxed) {
            return None;
        }
        let tables = tables_of(plan)?;
        for (name, table) in &tables {
            let named = ctx.table_provider(name.clone()).await.ok()?;
            if !is_same(&named, table) {
                return None;
            }
        }
        for name in names {
            match ctx.table_provider(name.clone()).await {
                // A view is not reusable: its plan reads other tables.
                Ok(named) if tables.iter().any(|(_, table)| is_same(&named, table)) => {}
                Err(_) if name.table().eq_ignore_ascii_case(VECTOR_SEARCH) => {}
                _ => return None,
            }
        }
        let settings = Arc::clone(state.config_options());
        // The state of a query of replicas would pin the versions that it sees.
        let state = state.config().get_extension::<Snapshot>().is_none().then(|| Arc::clone(state));
        let cached =
            Arc::new(CachedPlan { plan: plan.clone().into(), state, settings, tables, search: OnceLock::new() });
        self.plans.lock().insert(statement, Arc::clone(&cached));
        Some(cached)
    }
}

/// Returns true if a query plan for one table is valid for the other.
fn is_same(a: &Arc<dyn TableProvider>, b: &Arc<dyn TableProvider>) -> bool {
    let are_same = |a: &ReplicaTable| b.downcast_ref().is_some_and(|b| a.is_same(b));
    Arc::ptr_eq(a, b) || a.downcast_ref().is_some_and(are_same)
}

/// Returns the tables of a plan that reads only them and has no function of time or randomness.
fn tables_of(plan: &LogicalPlan) -> Option<Vec<(TableReference, Arc<dyn TableProvider>)>> {
    let mut tables = Vec::new();
    let mut is_repeatable = true;
    let visited = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => tables.push((scan.table_name.clone(), source_as_provider(&scan.source)?)),
            LogicalPlan::Ddl(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::DescribeTable(_)
            | LogicalPlan::Extension(_) => is_repeatable = false,
            _ => {}
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                is_repeatable &= match expr {
                    Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Immutable,
                    Expr::ScalarVariable(..) => false,
                    _ => true,
                };
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(if is_repeatable { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    (visited.is_ok() && is_repeatable).then_some(tables)
}

#[cfg(test)]
impl crate::Session {
    /// Returns the cached plan of a query.
    pub(super) async fn cached_plan(&self, query: &str) -> Option<Arc<CachedPlan>> {
        match self.parse(query).ok()? {
            datafusion::sql::parser::Statement::Statement(statement) => self.plans.find(&self.ctx, &statement).await,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;
    use datafusion::common::ScalarValue;

    use super::*;
    use crate::Session;

    fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        RecordBatch::try_from_iter([("n", values)]).unwrap()
    }

    fn session(values: impl IntoIterator<Item = i64>) -> Session {
        let session = Session::new().unwrap();
        name(&session, "t", values);
        session
    }

    fn name(session: &Session, table: &str, values: impl IntoIterator<Item = i64>) {
        let batch = numbers(values);
        let frame = session.create_dataframe_from_arrow(batch.schema(), vec![batch]).unwrap();
        session.create_temp_view(table, &frame).unwrap();
    }

    async fn rows(session: &Session, query: &str, param: Option<i64>) -> Vec<i64> {
        let params = param.map(|param| ParamValues::from(vec![ScalarValue::Int64(Some(param))]));
        let batches = session.sql(query, params).await.unwrap().collect().await.unwrap();
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    async fn is_kept(session: &Session, query: &str) -> bool {
        session.sql(query, None).await.unwrap();
        session.cached_plan(query).await.is_some()
    }

    #[tokio::test]
    async fn parameters_of_a_kept_plan_are_bound_each_time() {
        let session = session(0..5);
        let query = "SELECT n FROM t WHERE n >= $1 ORDER BY n";
        assert_eq!(rows(&session, query, Some(3)).await, [3, 4]);
        assert!(session.cached_plan(query).await.is_some());
        assert_eq!(rows(&session, query, Some(4)).await, [4]);
        assert_eq!(rows(&session, query, Some(5)).await, [0_i64; 0]);
        let surplus = ParamValues::from(vec![ScalarValue::Int64(Some(1)), ScalarValue::Int64(Some(2))]);
        let error = session.sql(query, Some(surplus)).await.unwrap_err();
        assert!(error.to_string().contains("expected 1 values, got 2"), "{error}");
    }

    #[tokio::test]
    async fn a_plan_is_not_used_for_another_table_of_the_name() {
        let session = session(0..3);
        let query = "SELECT max(n) FROM t WHERE n > (SELECT min(n) FROM u)";
        name(&session, "u", 0..1);
        assert_eq!(rows(&session, query, None).await, [2]);
        assert!(session.cached_plan(query).await.is_some());
        name(&session, "t", 10..20);
        assert_eq!(rows(&session, query, None).await, [19]);
        session.sql("DROP TABLE u", None).await.unwrap();
        let error = session.sql(query, None).await.unwrap_err();
        assert!(error.to_string().contains('u'), "{error}");
    }

    #[tokio::test]
    async fn a_plan_is_not_used_after_a_setting_changed() {
        let session = session(0..3);
        let query = "SELECT n FROM t";
        assert!(is_kept(&session, query).await);
        session.sql("SET datafusion.execution.batch_size = 7", None).await.unwrap();
        assert!(session.cached_plan(query).await.is_none());
        assert!(is_kept(&session, query).await);
    }

    #[tokio::test]
    async fn what_may_differ_the_next_time_is_not_kept() {
        let session = session(0..3);
        let frame = session.sql("SELECT n + 1 AS n FROM t", None).await.unwrap();
        session.create_temp_view("v", &frame).unwrap();
        for query in [
            "SELECT now() FROM t",
            "SELECT n FROM t WHERE n > (SELECT random())",
            "SELECT n FROM v",
            "SELECT table_name FROM information_schema.tables",
            "SELECT * FROM generate_series(1, 3)",
            "EXPLAIN SELECT n FROM t",
            "CREATE VIEW w AS SELECT n FROM t",
        ] {
            assert!(!is_kept(&session, query).await, "{query}");
        }
        let long = format!("SELECT n FROM t WHERE n IN ({})", vec!["1"; TEXT_BYTES].join(", "));
        assert!(!is_kept(&session, &long).await);
    }

    #[tokio::test]
    async fn nothing_is_kept_once_the_context_is_known_outside() {
        let session = session(0..3);
        assert!(is_kept(&session, "SELECT n FROM t").await);
        session.context();
        assert!(!is_kept(&session, "SELECT n FROM t").await);
    }
}
