//! The size of a statement's plan as its text shows it: a common table expression is planned once
//! for each place that names it, so that a chain of them that name each other twice doubles with
//! each link.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::common::{Result, plan_err};
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query, Visit, Visitor};

use super::plan::MAX_OPERATORS;

/// Rejects a statement whose plan would be too large, before it is planned.
///
/// # Errors
/// A plan beyond the limit.
pub fn check_relations(statement: &Statement) -> Result<()> {
    let mut sizes = Sizes::default();
    let found = match statement {
        Statement::Statement(inner) => inner.visit(&mut sizes),
        Statement::Explain(explain) => return check_relations(&explain.statement),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => query.visit(&mut sizes),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    };
    match found {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(TooLarge) => plan_err!(
            "expected a plan of at most {MAX_OPERATORS} operators, those of a WITH query once for each place that names it, \
             got more; CREATE TABLE AS keeps the rows of a query"
        ),
    }
}

#[derive(Debug)]
struct TooLarge;

/// Operators of the queries that are being visited, from the outermost to the innermost.
#[derive(Debug, Default)]
struct Sizes(Vec<QuerySize>);

#[derive(Debug, Default)]
struct QuerySize {
    /// The queries of the WITH clause, by their address in the syntax tree.
    named: Vec<(*const Query, String)>,
    /// Operators of those that were visited.
    sizes: HashMap<String, usize>,
    operators: usize,
    relations: usize,
}

impl Visitor for Sizes {
    type Break = TooLarge;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<TooLarge> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        let named = ctes.map(|cte| (std::ptr::from_ref(cte.query.as_ref()), name(&cte.alias.name))).collect();
        self.0.push(QuerySize { named, ..QuerySize::default() });
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<TooLarge> {
        let name = match relation.0.as_slice() {
            [part] => part.as_ident().map(name),
            _ => None,
        };
        let of_cte = name.and_then(|name| self.0.iter().rev().find_map(|query| query.sizes.get(&name)).copied());
        if let Some(query) = self.0.last_mut() {
            // A common table expression has an alias above it.
            query.operators = query.operators.saturating_add(of_cte.map_or(1, |size| size.saturating_add(1)));
            query.relations += 1;
            if query.operators > MAX_OPERATORS {
                return ControlFlow::Break(TooLarge);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<TooLarge> {
        let Some(own) = self.0.pop() else { return ControlFlow::Continue(()) };
        // A projection, and a join or a union between two relations.
        let size = own.operators.saturating_add(own.relations.max(1));
        if let Some(outer) = self.0.last_mut() {
            match outer.named.iter().find(|(address, _)| std::ptr::eq(*address, query)) {
                Some((_, name)) => {
                    outer.sizes.insert(name.clone(), size);
                }
                None => outer.operators = outer.operators.saturating_add(size),
            }
        }
        match self.0.last().map_or(size, |outer| outer.operators) > MAX_OPERATORS {
            true => ControlFlow::Break(TooLarge),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Returns a name as SQL compares it.
fn name(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::parse_statement;

    fn is_rejected(sql: &str) -> bool {
        check_relations(&parse_statement(sql, &Default::default()).unwrap()).is_err()
    }

    fn chain(links: usize, select: impl Fn(usize) -> String) -> String {
        let ctes: Vec<String> = (1..links).map(|link| format!("a{link} AS ({})", select(link - 1))).collect();
        format!("WITH a0 AS (SELECT id FROM t), {} SELECT count(*) FROM a{}", ctes.join(", "), links - 1)
    }

    #[test]
    fn a_chain_that_doubles_is_rejected_before_it_is_planned() {
        let joins = |link: usize| format!("SELECT x.id FROM a{link} x JOIN A{link} y USING (id)");
        let unions = |link: usize| format!("SELECT id FROM a{link} UNION ALL SELECT id FROM a{link}");
        let subqueries = |link: usize| format!("SELECT id FROM a{link} WHERE id IN (SELECT id FROM a{link})");
        for sql in [chain(18, joins), chain(18, unions), chain(40, subqueries), chain(500, joins)] {
            assert!(is_rejected(&sql) && is_rejected(&format!("EXPLAIN {sql}")), "{sql}");
        }
        let error = check_relations(&parse_statement(&chain(18, joins), &Default::default()).unwrap()).unwrap_err();
        assert!(error.to_string().contains("at most 50000 operators"), "{error}");
        assert!(!is_rejected(&chain(10, joins)));
        assert!(!is_rejected(&chain(1000, |link| format!("SELECT id FROM a{link}"))));
    }

    #[test]
    fn a_name_means_the_nearest_query_of_it() {
        let doubling = chain(12, |link| format!("SELECT id FROM a{link} UNION ALL SELECT id FROM a{link}"));
        let ctes = doubling.strip_suffix("SELECT count(*) FROM a11").unwrap();
        let six = ["SELECT * FROM a11"; 6].join(" UNION ALL ");
        assert!(is_rejected(&format!("{ctes} {six}")));
        assert!(is_rejected(&format!("{ctes} SELECT * FROM ({six}) AS s")));
        assert!(!is_rejected(&format!("{ctes} SELECT * FROM (WITH a11 AS (SELECT 1) {six}) AS s")));
        assert!(!is_rejected(&format!("{ctes} {}", six.replace("a11", "\"A11\""))));
        let recursive = "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 9)";
        assert!(!is_rejected(&format!("{recursive} SELECT * FROM r")));
    }
}
