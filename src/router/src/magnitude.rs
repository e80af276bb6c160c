//! Bounds on the magnitude of reals. SQLite has NULL where IEEE 754 has NaN, and a NaN comes of infinities alone: where no operand
//! can be infinite, both sides compute the same.

use std::collections::HashMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, ScalarFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, LogicalPlan, Operator};

use super::affinity::{Affinities, Affinity, AffinityContext};
use super::column_facts::ColumnFacts;

/// What no integer of 64 bits exceeds.
const INTEGER: f64 = 9.3e18;
/// More rows than a table can have: a sum is at most this many times its greatest summand.
const ROWS: f64 = 1e19;

/// Upper bounds of what the columns of a plan have as reals.
pub(super) struct Magnitudes<'a> {
    facts: &'a dyn ColumnFacts,
    /// Of computed columns, by name. Of several with one name, the greatest.
    computed: HashMap<String, f64>,
}

impl<'a> Magnitudes<'a> {
    pub fn of(plan: &LogicalPlan, affinities: &Affinities<'_>, facts: &'a dyn ColumnFacts) -> Result<Self> {
        let mut collector = Collector { affinities, magnitudes: Self { facts, computed: HashMap::new() } };
        plan.visit_with_subqueries(&mut collector)?;
        Ok(collector.magnitudes)
    }

    fn of_column(&self, name: &str) -> f64 {
        let computed = self.computed.get(name).copied().unwrap_or(0.0);
        computed.max(self.facts.greatest_magnitude(name)).max(INTEGER)
    }

    /// The bounds of an expression and of all within it.
    pub fn within<'e>(&'e self, expr: &Expr, affinities: &'e AffinityContext<'e>) -> MagnitudeContext<'e> {
        let mut exprs = Vec::new();
        // It never fails, as the closure does not.
        let _ = expr.apply(|expr| {
            if affinities.affinity(expr).is_real() {
                exprs.push(expr);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        let mut context = MagnitudeContext { magnitudes: self, affinities, known: HashMap::with_capacity(exprs.len()) };
        // What an expression is made of comes after it.
        for expr in exprs.into_iter().rev() {
            let bound = context.of_real(expr);
            context.known.insert(expr, bound);
        }
        context
    }
}

/// Finds the bounds of computed columns, those of a node after those that it reads.
struct Collector<'c, 'a> {
    affinities: &'c Affinities<'c>,
    magnitudes: Magnitudes<'a>,
}

impl<'n> TreeNodeVisitor<'n> for Collector<'_, '_> {
    type Node = LogicalPlan;

    fn f_up(&mut self, node: &'n LogicalPlan) -> Result<TreeNodeRecursion> {
        match node {
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
                let schema = merge_schema(&node.inputs());
                node.apply_expressions(|expr| {
                    let context = self.affinities.within(expr, &schema);
                    if !matches!(expr, Expr::Column(_)) && context.affinity(expr).is_real() {
                        let bound = self.magnitudes.within(expr, &context).bound(expr);
                        self.add(&expr.schema_name().to_string(), bound);
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
            LogicalPlan::Union(union) => {
                for (at, output) in union.schema.fields().iter().enumerate() {
                    let inputs = union.inputs.iter().filter_map(|input| input.schema().fields().get(at));
                    let bound = inputs.map(|field| self.magnitudes.of_column(field.name())).fold(0.0, f64::max);
                    self.add(output.name(), bound);
                }
            }
            LogicalPlan::Values(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::RecursiveQuery(_) => {
                for output in node.schema().fields() {
                    self.add(output.name(), f64::INFINITY);
                }
            }
            LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::TableScan(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => {}
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

impl Collector<'_, '_> {
    fn add(&mut self, column: &str, bound: f64) {
        match self.magnitudes.computed.get_mut(column) {
            Some(known) => *known = known.max(bound),
            None => drop(self.magnitudes.computed.insert(column.to_owned(), bound)),
        }
    }
}

/// The bounds of the expressions within one.
pub(super) struct MagnitudeContext<'e> {
    magnitudes: &'e Magnitudes<'e>,
    affinities: &'e AffinityContext<'e>,
    /// Of reals, by the address, which is only compared: the tree stands still.
    known: HashMap<*const Expr, f64>,
}

impl MagnitudeContext<'_> {
    /// An upper bound of the magnitude of an expression; infinity where none is known.
    pub fn bound(&self, expr: &Expr) -> f64 {
        match self.affinities.affinity(expr) {
            // Text may read as any real.
            Affinity::Text | Affinity::Blob | Affinity::Other => f64::INFINITY,
            affinity if affinity.is_real() => self.known.get(&(expr as *const Expr)).copied().unwrap_or(f64::INFINITY),
            _ => INTEGER,
        }
    }

    fn is_real(&self, expr: &Expr) -> bool {
        self.affinities.affinity(expr).is_real()
    }

    fn of_real(&self, expr: &Expr) -> f64 {
        let bound = |expr: &Expr| self.bound(expr);
        let greatest = |exprs: &[Expr]| exprs.iter().map(bound).fold(0.0, f64::max);
        match expr {
            Expr::Literal(literal, _) => real(literal).map_or(INTEGER, f64::abs),
            Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => self.magnitudes.of_column(&column.name),
            // The value is known once it is bound.
            Expr::Placeholder(_) => INTEGER,
            Expr::Alias(alias) => bound(&alias.expr),
            Expr::Negative(inner) => bound(inner),
            Expr::Cast(Cast { expr, .. }) => bound(expr),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::Plus | Operator::Minus => bound(left) + bound(right),
                Operator::Multiply => bound(left) * bound(right),
                Operator::Divide => match &**right {
                    Expr::Literal(literal, _) if real(literal).is_some_and(|divisor| divisor != 0.0) => {
                        bound(left) / real(literal).map_or(1.0, f64::abs)
                    }
                    divisor if !self.is_real(divisor) => bound(left),
                    _ => f64::INFINITY,
                },
                _ => f64::INFINITY,
            },
            Expr::Case(Case { when_then_expr, else_expr, .. }) => {
                let values = when_then_expr.iter().map(|(_, then)| then).chain(else_expr);
                values.map(|value| bound(value)).fold(0.0, f64::max)
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => match func.name() {
                "abs" | "coalesce" | "nullif" | "nvl" => greatest(args),
                "round" => args.first().map_or(f64::INFINITY, bound) + 1.0,
                "julianday" => INTEGER,
                _ => f64::INFINITY,
            },
            Expr::AggregateFunction(AggregateFunction { func, params }) => of_call(func.name(), greatest(&params.args)),
            Expr::WindowFunction(window) => of_call(window.fun.name(), greatest(&window.params.args)),
            Expr::ScalarSubquery(subquery) => {
                let fields = subquery.subquery.schema().fields();
                fields.first().map_or(f64::INFINITY, |field| self.magnitudes.of_column(field.name()))
            }
            _ => f64::INFINITY,
        }
    }

    /// Whether an operation of reals can be a NaN.
    pub fn may_be_nan(&self, left: &Expr, op: Operator, right: &Expr) -> bool {
        if !self.is_real(left) && !self.is_real(right) {
            return false;
        }
        let is_finite = |expr: &Expr| self.bound(expr).is_finite();
        let is_nonzero = |expr: &Expr| match expr {
            Expr::Literal(ScalarValue::Int64(Some(number)), _) => *number != 0,
            Expr::Literal(literal, _) => real(literal).is_some_and(|number| number != 0.0 && number.is_finite()),
            _ => false,
        };
        match op {
            // Two infinities.
            Operator::Plus | Operator::Minus | Operator::Divide => !is_finite(left) && !is_finite(right),
            // An infinity and a zero.
            Operator::Multiply => !(is_finite(left) && is_finite(right)) && !is_nonzero(left) && !is_nonzero(right),
            _ => false,
        }
    }

    /// Whether an aggregate or a window function of reals may meet infinities.
    pub fn may_aggregate_infinities(&self, name: &str, args: &[Expr]) -> bool {
        let is_of_infinities = |arg: &Expr| self.is_real(arg) && !of_call(name, self.bound(arg)).is_finite();
        matches!(name, "sum" | "avg" | "min" | "max") && args.iter().any(is_of_infinities)
    }
}

/// What a call has of values up to a bound.
fn of_call(name: &str, greatest: f64) -> f64 {
    match name {
        "sum" => greatest * ROWS,
        // By way of a sum.
        "avg" if (greatest * ROWS).is_finite() => greatest,
        "min" | "max" | "lag" | "lead" | "first_value" | "last_value" | "nth_value" => greatest,
        "percent_rank" | "cume_dist" => 1.0,
        _ => f64::INFINITY,
    }
}

fn real(literal: &ScalarValue) -> Option<f64> {
    match literal {
        ScalarValue::Float64(number) => *number,
        ScalarValue::Float32(number) => number.map(f64::from),
        _ => None,
    }
}
