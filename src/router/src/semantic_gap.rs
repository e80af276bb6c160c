//! Semantic gaps: parts of a plan for which DataFusion's answer differs from SQLite's. SQLite
//! answers such a query.
//!
//! Each kind of plan node, join, expression and operator has its decision here, without a wildcard:
//! a kind that a DataFusion upgrade adds does not compile until its decision is added. Every part
//! that is not known to be compatible is a gap.

mod call;
mod expression;
mod operator;
mod subquery;

use std::collections::{HashMap, HashSet};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinConstraint, JoinType, Result, ScalarValue};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, Join, LogicalPlan, Operator, Projection};

use super::affinity::{Affinities, Affinity, unlike};
use super::column_facts::ColumnFacts;
use super::magnitude::Magnitudes;
use expression::Expressions;

/// Returns the first part of an unoptimized plan that DataFusion computes differently. Returns
/// `None` if both sides agree.
pub fn semantic_gap(plan: &LogicalPlan, facts: &dyn ColumnFacts) -> Option<String> {
    let mut found = None;
    let walked = Checker::of(plan, facts).and_then(|checker| {
        plan.apply_with_subqueries(|node| {
            found = checker.of_node(node)?;
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    found.or_else(|| walked.err().map(|error| error.strip_backtrace()))
}

/// The use of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExprPosition {
    /// A filter: a row passes it if, and only if, the value is true.
    Filter,
    /// A condition: a row may pass if the value is true; false and NULL have the same effect.
    Condition,
    /// Any other use.
    Value,
}

/// Returns the uses of a filter's parts that AND and OR join, by their addresses.
fn positions(filter: &Expr) -> HashMap<*const Expr, ExprPosition> {
    let (mut positions, mut open) = (HashMap::new(), vec![(filter, ExprPosition::Filter)]);
    while let Some((expr, position)) = open.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                open.extend([(&**left, position), (right, position)])
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                open.extend([(&**left, ExprPosition::Condition), (right, ExprPosition::Condition)]);
            }
            other => drop(positions.insert(other as *const Expr, position)),
        }
    }
    positions
}

struct Checker<'a> {
    facts: &'a dyn ColumnFacts,
    affinities: Affinities<'a>,
    magnitudes: Magnitudes<'a>,
}

impl<'a> Checker<'a> {
    fn of(plan: &LogicalPlan, facts: &'a dyn ColumnFacts) -> Result<Self> {
        let affinities = Affinities::of(plan, facts)?;
        let magnitudes = Magnitudes::of(plan, &affinities, facts)?;
        Ok(Self { facts, affinities, magnitudes })
    }

    /// Returns the gap of a node, or of one of its expressions.
    fn of_node(&self, node: &LogicalPlan) -> Result<Option<String>> {
        let schema = merge_schema(&node.inputs());
        let mut found = self.of_node_itself(node, &schema);
        if found.is_none() {
            node.apply_expressions(|expr| {
                let positions = match node {
                    LogicalPlan::Filter(_) => positions(expr),
                    _ => HashMap::new(),
                };
                let affinities = self.affinities.within(expr, &schema);
                let magnitudes = self.magnitudes.within(expr, &affinities);
                let part = Expressions { affinities: &affinities, magnitudes, facts: self.facts };
                expr.apply(|expr| {
                    let position = positions.get(&(expr as *const Expr)).copied().unwrap_or(ExprPosition::Value);
                    found = part.gap(expr, position);
                    Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                })
            })?;
        }
        Ok(found)
    }

    fn of_node_itself(&self, node: &LogicalPlan, schema: &DFSchema) -> Option<String> {
        let affinity = |expr: &Expr| self.affinities.within(expr, schema).affinity(expr);
        match node {
            LogicalPlan::Projection(projection) => of_projection(projection),
            LogicalPlan::Window(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::TableScan(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Distinct(Distinct::All(_))
            // The explained query is checked as the input of these nodes.
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_) => None,
            LogicalPlan::Filter(filter) => of_condition(affinity(&filter.predicate)),
            LogicalPlan::Join(join) => of_join(join, &affinity),
            LogicalPlan::Union(union) => (0..union.schema.fields().len()).find_map(|column| {
                let fields = union.inputs.iter().filter_map(|input| input.schema().fields().get(column));
                unlike("a set", fields.map(|field| Affinity::of(field.data_type())))
            }),
            LogicalPlan::Limit(limit) => {
                [&limit.skip, &limit.fetch].into_iter().flatten().find_map(|rows| of_limit(rows))
            }
            LogicalPlan::Values(values) => (0..values.schema.fields().len()).find_map(|column| {
                let rows = values.values.iter().filter_map(|row| row.get(column));
                unlike("a column of VALUES", rows.map(affinity))
            }),
            // A recursive query has the types of its first part, and LIMIT bounds each round
            // (apache/datafusion#19427, #9680).
            LogicalPlan::RecursiveQuery(_) => Some("a recursive query".into()),
            LogicalPlan::Distinct(Distinct::On(_)) => Some("DISTINCT ON".into()),
            LogicalPlan::Unnest(_) => Some("unnest".into()),
            LogicalPlan::Extension(extension) => Some(format!("the operator {}", extension.node.name())),
            LogicalPlan::Statement(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => Some("a statement that is no query".into()),
        }
    }
}

/// Returns the gap of a projection that is a `*` over USING. DataFusion keeps the shared column
/// whose table has the least name, SQLite the first in the query, which a LEFT JOIN never makes
/// NULL.
fn of_projection(projection: &Projection) -> Option<String> {
    let shared = projection.input.using_columns().ok().filter(|shared| !shared.is_empty())?;
    let columns = projection.input.schema().columns();
    let selected: HashSet<&Column> = projection.expr.iter().filter_map(Expr::try_as_col).collect();
    let is_wildcard = |column: &Column| selected.contains(column) || shared.iter().any(|set| set.contains(column));
    let is_misplaced = |(at, column): (usize, &Column)| {
        let is_same = |later: &&Column| {
            later.name == column.name && shared.iter().any(|set| set.contains(column) && set.contains(*later))
        };
        !selected.contains(column) && columns[at + 1..].iter().filter(is_same).any(|later| selected.contains(later))
    };
    let differs = columns.iter().all(is_wildcard) && columns.iter().enumerate().any(is_misplaced);
    differs.then(|| "* of a join with USING, whose second table has the lesser name".into())
}

fn of_condition(affinity: Affinity) -> Option<String> {
    (!affinity.is_condition()).then(|| format!("{affinity} as a condition"))
}

fn of_join(join: &Join, affinity: &dyn Fn(&Expr) -> Affinity) -> Option<String> {
    let of_type = match (join.join_type, join.join_constraint) {
        // The last two are INTERSECT and EXCEPT.
        (JoinType::Inner | JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti, _) => None,
        (JoinType::Right | JoinType::Full, JoinConstraint::On) => None,
        // The shared column is that of one side, and NULL in rows that only the other side has
        // (apache/datafusion#22881).
        (kind @ (JoinType::Right | JoinType::Full), JoinConstraint::Using) => Some(format!("{kind} JOIN with USING")),
        // The optimizer creates these joins later.
        (kind @ (JoinType::RightSemi | JoinType::RightAnti | JoinType::LeftMark | JoinType::RightMark), _) => {
            Some(format!("{kind} JOIN"))
        }
    };
    of_type
        .or_else(|| join.on.iter().find_map(|(a, b)| unlike("a comparison", [affinity(a), affinity(b)])))
        .or_else(|| join.filter.as_ref().and_then(|filter| of_condition(affinity(filter))))
        .or_else(|| {
            let exprs = join.filter.iter().chain(join.on.iter().flat_map(|(a, b)| [a, b]));
            exprs.into_iter().any(subquery::has_subquery).then(|| "a subquery in a join's condition".into())
        })
}

/// Returns the gap of a LIMIT: SQLite ignores a negative one, and rejects fractions.
fn of_limit(rows: &Expr) -> Option<String> {
    match rows {
        Expr::Literal(ScalarValue::Int64(Some(0..)), _) | Expr::Placeholder(_) => None,
        Expr::Cast(cast) if matches!(&*cast.expr, Expr::Placeholder(_)) => None,
        _ => Some("a LIMIT or OFFSET that is no whole number of at least 0".into()),
    }
}
