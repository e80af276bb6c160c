//! Handles `*` over a replica that has only some columns of its table: SQLite's `*` has all of
//! them.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    JoinConstraint, JoinOperator, Select, SelectItem, TableFactor, TableWithJoins, Visit, Visitor,
};

use super::names::idents;
use super::parse::ParsedQuery;
use super::tree::joined;

/// Returns the first table whose columns a `*` or a NATURAL join reads and whose replica lacks some
/// of them. The query itself may use the name for something else: SQLite answers such a query too.
pub fn partial_wildcard(query: &ParsedQuery, lacks_columns: &dyn Fn(&str) -> bool) -> Option<String> {
    let mut statement = query.statement().ok()?;
    while let Statement::Explain(explain) = statement {
        statement = &explain.statement;
    }
    let Statement::Statement(statement) = statement else { return None };
    match statement.visit(&mut PartialTables { lacks_columns }) {
        ControlFlow::Break(table) => Some(table),
        ControlFlow::Continue(()) => None,
    }
}

struct PartialTables<'a> {
    lacks_columns: &'a dyn Fn(&str) -> bool,
}

impl Visitor for PartialTables<'_> {
    type Break = String;

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<String> {
        let is_wildcard =
            |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        let mut joins = select.from.iter().flat_map(|from| &from.joins);
        if !select.projection.iter().any(is_wildcard) && !joins.any(|join| is_natural(&join.join_operator)) {
            return ControlFlow::Continue(());
        }
        let mut open: Vec<&TableFactor> = select.from.iter().flat_map(parts).collect();
        while let Some(factor) = open.pop() {
            match factor {
                TableFactor::NestedJoin { table_with_joins, .. } => open.extend(parts(table_with_joins)),
                TableFactor::Table { name, args: None, .. } => {
                    let table = idents(name).and_then(|parts| parts.last().map(|part| part.value.clone()));
                    if let Some(table) = table.filter(|table| (self.lacks_columns)(table)) {
                        return ControlFlow::Break(table);
                    }
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

fn parts(from: &TableWithJoins) -> impl Iterator<Item = &TableFactor> {
    std::iter::once(&from.relation).chain(joined(from))
}

fn is_natural(operator: &JoinOperator) -> bool {
    // These are all joins that SQLite has.
    matches!(
        operator,
        JoinOperator::Join(JoinConstraint::Natural)
            | JoinOperator::Inner(JoinConstraint::Natural)
            | JoinOperator::Left(JoinConstraint::Natural)
            | JoinOperator::LeftOuter(JoinConstraint::Natural)
            | JoinOperator::Right(JoinConstraint::Natural)
            | JoinOperator::RightOuter(JoinConstraint::Natural)
            | JoinOperator::FullOuter(JoinConstraint::Natural)
            | JoinOperator::CrossJoin(JoinConstraint::Natural)
    )
}
