//! Searches of replicas that lack the rows which their tables had before they were followed: they would find others.

use std::sync::{Arc, OnceLock};

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;
use vexact_core::error::{Error, Result};
use vexact_replica::ReplicaTable;

use super::Session;

/// Functions that make a query a search, in lower case.
const SEARCHES: [&str; 8] = [
    "cosine_distance",
    "cosine_similarity",
    "inner_product",
    "dot_product",
    "l2_distance",
    "l2_distance_squared",
    "vector_search",
    "vector_join",
];

/// Operators that make a query a search.
const OPERATORS: [&str; 3] = ["<->", "<=>", "<#>"];

/// A replica that lacks rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnloadedTable {
    /// Its name.
    pub name: String,
    /// Why a search of it is refused, with what to call.
    pub refusal: String,
}

/// Names the replicas that lack rows now.
type ListUnloaded = Box<dyn Fn() -> Vec<UnloadedTable> + Send + Sync>;

/// The replicas whose searches are refused; none before it is set.
#[derive(Clone, Default)]
pub(super) struct Unloaded(Arc<OnceLock<ListUnloaded>>);

impl Unloaded {
    fn tables(&self) -> Vec<UnloadedTable> {
        self.0.get().map_or_else(Vec::new, |list| list())
    }
}

impl Session {
    /// Refuses searches of the replicas that a function names, each time anew. Set once.
    pub fn refuse_searches_of(&self, list: impl Fn() -> Vec<UnloadedTable> + Send + Sync + 'static) {
        let _ = self.unloaded.0.set(Box::new(list));
    }

    /// Refuses a search by SQL of a replica that lacks rows.
    pub(super) fn check_search_by_sql(&self, sql: &str, plan: &LogicalPlan) -> Result<()> {
        let tables = self.unloaded.tables();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut words = sql.split(|c: char| !is_word(c));
        let mut is_search = || {
            words.any(|word| SEARCHES.iter().any(|name| name.eq_ignore_ascii_case(word)))
                || OPERATORS.iter().any(|operator| sql.contains(operator))
        };
        if tables.is_empty() || !is_search() {
            return Ok(());
        }
        let read = replicas_of(plan)?;
        // Arguments of functions name tables as texts.
        let is_argument = |name: &str| sql.split('\'').skip(1).step_by(2).any(|text| text.eq_ignore_ascii_case(name));
        let is_read = |table: &UnloadedTable| read.contains(&table.name) || is_argument(&table.name);
        refuse(tables.into_iter().find(is_read))
    }

    /// Refuses a search by call of a replica that lacks rows, or of a view of one.
    pub(super) fn check_search_of(&self, provider: &Arc<dyn TableProvider>) -> Result<()> {
        let tables = self.unloaded.tables();
        if tables.is_empty() {
            return Ok(());
        }
        let read = match (provider.downcast_ref::<ReplicaTable>(), provider.get_logical_plan()) {
            (Some(replica), _) => vec![replica.name().to_owned()],
            (None, Some(plan)) => replicas_of(&plan)?,
            (None, None) => return Ok(()),
        };
        refuse(tables.into_iter().find(|table| read.contains(&table.name)))
    }
}

fn refuse(table: Option<UnloadedTable>) -> Result<()> {
    table.map_or(Ok(()), |table| Err(Error::Engine(table.refusal)))
}

/// The names of the replicas that a plan reads.
fn replicas_of(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut names = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(replica) = provider.downcast_ref::<ReplicaTable>()
        {
            names.push(replica.name().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(names)
}
