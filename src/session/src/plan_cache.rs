//! Plans that are kept by the text of their query: parsing and planning a short query takes longer than a search of a small table.
//!
//! A plan is used again where planning would give it again: it reads just tables that are still what their names mean, calls just functions whose value follows from their arguments, and the session's settings are the same. The
//! functions themselves cannot change, as long as nobody else holds the session's context. Of a search in memory whose vector is a
//! parameter, the physical plan is kept too; of a replica, it is that of any version, and each query has its own state, which holds
//! what it sees.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
use vexact_core::error::Result;
use vexact_replica::{ReplicaTable, Snapshot};
use vexact_sql::SearchPlan;
use vexact_sql::chunks::ChunkTable;
use vexact_sql::deep::Deep;

use super::statement::bound;

/// Longer texts have values in them, such as a vector, and do not come again.
pub(super) const TEXT_BYTES: usize = 2048;

/// A table function that is planned as a query of the table that it names.
const SEARCH_FUNCTION: &str = "vector_search";

/// So many are kept.
const PLANS: usize = 256;

/// The plans of a session, by what was asked: a text, or a statement.
pub(super) struct PlanCache<K> {
    plans: Mutex<HashMap<K, Arc<CachedPlan>>>,
    is_off: AtomicBool,
}

/// A plan, its parameters not bound, and what it was made with.
pub(super) struct CachedPlan {
    pub plan: Deep<LogicalPlan>,
    /// `None`: a query has its own.
    pub state: Option<Arc<SessionState>>,
    settings: Arc<ConfigOptions>,
    tables: Vec<(TableReference, Arc<dyn TableProvider>)>,
    /// The search that it is, once it has been planned with some query; `None`: it is none.
    search: OnceLock<Option<KeptSearch>>,
}

/// A search that is planned, and the columns that its frame has told.
struct KeptSearch {
    plan: SearchPlan,
    schema: SchemaRef,
}

/// A kept plan with the values of its parameters.
#[derive(Clone)]
pub(super) struct BoundPlan {
    prepared: Arc<CachedPlan>,
    state: Arc<SessionState>,
    params: ParamValues,
}

impl BoundPlan {
    /// `state`: that of the query.
    pub fn new(prepared: Arc<CachedPlan>, state: Arc<SessionState>, params: ParamValues) -> Self {
        Self { prepared, state, params }
    }

    pub fn state(&self) -> &Arc<SessionState> {
        &self.state
    }

    /// The stack that its plan needs.
    pub fn stack(&self) -> usize {
        self.prepared.plan.stack()
    }

    /// The plan with its parameters.
    pub fn logical(&self) -> Result<LogicalPlan> {
        bound(LogicalPlan::clone(&self.prepared.plan), Some(self.params.clone()))
    }

    fn kept(&self) -> Option<&KeptSearch> {
        self.prepared.search.get()?.as_ref()
    }

    /// Whether it is known if it is a search that needs no planning.
    pub fn is_planned(&self) -> bool {
        self.prepared.search.get().is_some()
    }

    /// The replica that it reads alone.
    fn replica(&self) -> Option<&ReplicaTable> {
        match &self.prepared.tables[..] {
            [(_, table)] => table.downcast_ref(),
            _ => None,
        }
    }

    /// The physical plan, where it needs no planning.
    pub fn search(&self) -> Option<Arc<dyn ExecutionPlan>> {
        let plan = &self.kept()?.plan;
        match self.replica() {
            // What cannot be read is told by planning.
            Some(replica) => plan.with(&self.params, Some(&replica.chunks(self.state.config()).ok()?)),
            None => plan.with(&self.params, None),
        }
    }

    /// The columns, where it needs no planning.
    pub fn search_schema(&self) -> Option<SchemaRef> {
        let kept = self.kept()?;
        kept.plan.fits(&self.params).then(|| Arc::clone(&kept.schema))
    }

    /// Keeps what was planned, if it is a search of a whole replica, or of tables that do not change.
    pub fn keep(&self, physical: &Arc<dyn ExecutionPlan>, schema: &SchemaRef) {
        self.prepared.search.get_or_init(|| {
            let are_fixed = self.prepared.tables.iter().all(|(_, table)| table.downcast_ref::<ChunkTable>().is_some());
            let plan = || SearchPlan::of(&self.prepared.plan, &self.params, physical);
            let plan = match self.replica() {
                Some(replica) => plan()?.without(&replica.chunks(self.state.config()).ok()?)?,
                None if are_fixed => plan()?,
                None => return None,
            };
            Some(KeptSearch { plan, schema: Arc::clone(schema) })
        });
    }
}

impl<K> Default for PlanCache<K> {
    fn default() -> Self {
        Self { plans: Mutex::default(), is_off: AtomicBool::new(false) }
    }
}

impl<K: Eq + Hash> PlanCache<K> {
    /// Forgets all plans: a name has been given, which may be closer to what a text says than the one that was found.
    pub fn forget(&self) {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Keeps no plan from now on.
    pub fn turn_off(&self) {
        self.is_off.store(true, Ordering::Relaxed);
    }

    /// The plan of what is asked, if it is still the one.
    pub async fn find<Q: Eq + Hash + ?Sized>(&self, ctx: &SessionContext, asked: &Q) -> Option<Arc<CachedPlan>>
    where
        K: Borrow<Q>,
    {
        if self.is_off.load(Ordering::Relaxed) {
            return None;
        }
        let found = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(asked).cloned()?;
        // The settings are copied when they are changed, as this holds them too.
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
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).remove(asked);
        None
    }

    /// Keeps the plan of what was asked, if it may be used again: it as it is kept. `names`: the tables that it names.
    pub async fn keep(
        &self,
        ctx: &SessionContext,
        asked: K,
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
                // Not what a view has read.
                Ok(named) if tables.iter().any(|(_, table)| is_same(&named, table)) => {}
                Err(_) if name.table().eq_ignore_ascii_case(SEARCH_FUNCTION) => {}
                _ => return None,
            }
        }
        let settings = Arc::clone(state.config_options());
        // The state of a query of replicas would hold on to what it sees.
        let state = state.config().get_extension::<Snapshot>().is_none().then(|| Arc::clone(state));
        let prepared =
            Arc::new(CachedPlan { plan: plan.clone().into(), state, settings, tables, search: OnceLock::new() });
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        // Rare, and cheaper than to know which one is the oldest.
        if plans.len() >= PLANS {
            plans.clear();
        }
        plans.insert(asked, Arc::clone(&prepared));
        Some(prepared)
    }
}

/// Whether a query of the one table is planned as one of the other.
fn is_same(a: &Arc<dyn TableProvider>, b: &Arc<dyn TableProvider>) -> bool {
    let are_same = |a: &ReplicaTable| b.downcast_ref().is_some_and(|b| a.is_same(b));
    Arc::ptr_eq(a, b) || a.downcast_ref().is_some_and(are_same)
}

/// The tables of a plan that is a query of them alone, without functions of the time or of chance.
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
        session.prepared.find(&session.ctx, query).await.is_some()
    }

    #[tokio::test]
    async fn parameters_of_a_kept_plan_are_bound_each_time() {
        let session = session(0..5);
        let query = "SELECT n FROM t WHERE n >= $1 ORDER BY n";
        assert_eq!(rows(&session, query, Some(3)).await, [3, 4]);
        assert!(session.prepared.find(&session.ctx, query).await.is_some());
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
        assert!(session.prepared.find(&session.ctx, query).await.is_some());
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
        assert!(session.prepared.find(&session.ctx, query).await.is_none());
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
