//! Checks that a query needs only replicas, so that an engine other than DataFusion can answer it.

use datafusion::sql::parser::Statement;

use super::analysis::StatementAnalysis;
use super::names::{TableLookup, TableOrigin, origin};

/// Returns the replicas that a query of [`super::read_only`] reads, each once. Returns `None` if
/// the query needs a feature that only DataFusion has here (vector functions and table functions,
/// the session's own tables, SHOW and DESCRIBE, the information_schema), or names a table that is
/// not a replica.
pub fn replicas_alone(statement: &Statement, names: &dyn TableLookup) -> Option<Vec<String>> {
    let inner = match statement {
        Statement::Explain(explain) => return replicas_alone(&explain.statement, names),
        Statement::Statement(statement) => statement,
        _ => return None,
    };
    let survey = StatementAnalysis::of(inner);
    let has_function = survey.vector_function.or(survey.olap_function).or(survey.sqlite_function).is_some();
    if has_function || survey.olap_statement.is_some() {
        return None;
    }
    let mut found: Vec<String> = Vec::with_capacity(survey.tables.len());
    for name in &survey.tables {
        let TableOrigin::Replica { table, .. } = origin(name, names) else { return None };
        if !found.contains(&table.name) {
            found.push(table.name);
        }
    }
    Some(found)
}
