//! Rejects searches of replicas that lack the rows which their tables had before replication
//! started, because the result would be wrong.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as ParsedStatement;
use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Statement, TableFactor, Value, ValueWithSpan, Visit, Visitor};
use vexact_core::error::{Error, Result};
use vexact_replica::ReplicaTable;

use super::Session;
use super::vector_syntax::{function_name, is_score, is_search_function, is_vector_operator};

/// A replica that lacks rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnloadedTable {
    /// Name of the replica.
    pub name: String,
    /// Reason why a search of it is rejected, with the function to call.
    pub refusal: String,
}

/// Names the replicas that lack rows now.
type ListUnloaded = Box<dyn Fn() -> Vec<UnloadedTable> + Send + Sync>;

/// Replicas whose searches are rejected; none until it is set.
#[derive(Clone, Default)]
pub(super) struct Unloaded(Arc<OnceLock<ListUnloaded>>);

impl Unloaded {
    fn tables(&self) -> Vec<UnloadedTable> {
        self.0.get().map_or_else(Vec::new, |list| list())
    }
}

impl Session {
    /// Sets the function that lists the replicas whose searches are rejected; it is called for each
    /// search. It can be set only once.
    pub fn refuse_searches_of(&self, list: impl Fn() -> Vec<UnloadedTable> + Send + Sync + 'static) {
        let _ = self.unloaded.0.set(Box::new(list));
    }

    /// Finds the search in a statement; `None` if it has none, or no replica lacks rows now.
    pub(super) fn search_syntax(&self, statement: &ParsedStatement) -> Option<SearchSyntax> {
        match statement {
            ParsedStatement::Explain(explain) => self.search_syntax(&explain.statement),
            ParsedStatement::Statement(statement) => self.search_syntax_of(statement),
            _ => None,
        }
    }

    /// As [`Self::search_syntax`], of an SQL statement.
    pub(super) fn search_syntax_of(&self, statement: &Statement) -> Option<SearchSyntax> {
        if self.unloaded.tables().is_empty() {
            return None;
        }
        let mut found = SearchSyntax::default();
        let ControlFlow::Continue(()) = statement.visit(&mut found);
        found.is_search.then_some(found)
    }

    /// Rejects a search by SQL of a replica that lacks rows.
    pub(super) fn check_search_by_sql(&self, search: Option<&SearchSyntax>, plan: &LogicalPlan) -> Result<()> {
        let Some(search) = search else { return Ok(()) };
        let read = replicas_of(plan)?;
        // Arguments of functions name tables as texts.
        let is_argument = |name: &str| search.texts.iter().any(|text| text.eq_ignore_ascii_case(name));
        let is_read = |table: &UnloadedTable| read.contains(&table.name) || is_argument(&table.name);
        refuse(self.unloaded.tables().into_iter().find(is_read))
    }

    /// Rejects a search by call of a replica that lacks rows, or of a view of one.
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

/// Finds the search functions and operators of a statement, and its text literals.
#[derive(Default)]
pub(super) struct SearchSyntax {
    is_search: bool,
    texts: Vec<String>,
}

impl SearchSyntax {
    fn call(&mut self, name: &ObjectName) {
        self.is_search |= function_name(name).is_some_and(|name| is_score(name) || is_search_function(name));
    }
}

impl Visitor for SearchSyntax {
    type Break = Infallible;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        match expr {
            Expr::Function(function) => self.call(&function.name),
            Expr::BinaryOp { op, .. } => self.is_search |= is_vector_operator(op),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Infallible> {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = factor {
            self.call(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Infallible> {
        if let Value::SingleQuotedString(text) = &value.value {
            self.texts.push(text.clone());
        }
        ControlFlow::Continue(())
    }
}

fn refuse(table: Option<UnloadedTable>) -> Result<()> {
    table.map_or(Ok(()), |table| Err(Error::Engine(table.refusal)))
}

/// Returns the names of the replicas that a plan reads.
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
