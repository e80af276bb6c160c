//! Bounds on the magnitude of numbers. SQLite has NULL where IEEE 754 has NaN, which only
//! infinities produce, and a real where 64-bit integers overflow: if neither can occur, both sides
//! compute the same result.

use std::collections::HashMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, ScalarFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, LogicalPlan, Operator};

use super::affinity::{Affinities, Affinity, AffinityContext};
use super::column_facts::ColumnFacts;

/// Upper bound of a 64-bit integer.
const INTEGER: f64 = 9.3e18;
/// Minimum bound at which an integer may overflow 64 bits; bounds are rounded.
const OVERFLOW: f64 = 9.2e18;
/// More rows than a table can have: the bound of a sum is its greatest summand times this number.
const ROWS: f64 = 1e19;
/// Assumed upper bound of counts and of sums of integers.
const COUNT: f64 = 1e15;

/// Upper bounds of the numbers in the columns of a plan.
pub(super) struct Magnitudes<'a> {
    facts: &'a dyn ColumnFacts,
    /// Number of rows of the only table that is read; `None` if more is read.
    rows: Option<f64>,
    /// Bounds of computed columns by name; the greatest if several have one name.
    computed: HashMap<String, f64>,
}

impl<'a> Magnitudes<'a> {
    pub fn of(plan: &LogicalPlan, affinities: &Affinities<'_>, facts: &'a dyn ColumnFacts) -> Result<Self> {
        let magnitudes = Self { facts, rows: facts.rows().map(|rows| rows as f64), computed: HashMap::new() };
        let mut collector = Collector { affinities, magnitudes, scans: 0 };
        plan.visit_with_subqueries(&mut collector)?;
        if collector.scans > 1 {
            collector.magnitudes.rows = None;
        }
        Ok(collector.magnitudes)
    }

    fn of_column(&self, name: &str) -> f64 {
        let computed = self.computed.get(name).copied();
        computed.unwrap_or(0.0).max(self.facts.greatest_magnitude(name))
    }

    /// Returns the bounds of an expression and of all within it.
    pub fn within<'e>(&'e self, expr: &Expr, affinities: &'e AffinityContext<'e>) -> MagnitudeContext<'e> {
        let mut exprs = Vec::new();
        // The walk never fails, because the closure does not.
        let _ = expr.apply(|expr| {
            // Columns are looked up on demand.
            if affinities.affinity(expr).is_number() && !matches!(expr, Expr::Column(_)) {
                exprs.push(expr);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        let mut context = MagnitudeContext { magnitudes: self, affinities, known: HashMap::with_capacity(exprs.len()) };
        // An expression precedes its parts, so the reverse order visits the parts first.
        for expr in exprs.into_iter().rev() {
            let bound = context.of_number(expr);
            context.known.insert(expr, bound);
        }
        context
    }
}

/// Computes the bounds of computed columns, those of a node after those of its inputs.
struct Collector<'c, 'a> {
    affinities: &'c Affinities<'c>,
    magnitudes: Magnitudes<'a>,
    scans: usize,
}

impl<'n> TreeNodeVisitor<'n> for Collector<'_, '_> {
    type Node = LogicalPlan;

    fn f_up(&mut self, node: &'n LogicalPlan) -> Result<TreeNodeRecursion> {
        match node {
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
                let schema = merge_schema(&node.inputs());
                node.apply_expressions(|expr| {
                    let context = self.affinities.within(expr, &schema);
                    if !matches!(expr, Expr::Column(_)) && context.affinity(expr).is_number() {
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
            LogicalPlan::TableScan(_) => self.scans += 1,
            LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Repartition(_)
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
    /// Bounds of numbers by the expression's address, which is only compared: the tree does not
    /// move.
    known: HashMap<*const Expr, f64>,
}

impl MagnitudeContext<'_> {
    /// Returns an upper bound of the magnitude of an expression; infinity if none is known.
    pub fn bound(&self, expr: &Expr) -> f64 {
        match (expr, self.affinities.affinity(expr)) {
            // Text may convert to any number.
            (_, Affinity::Text | Affinity::Blob | Affinity::Other) => f64::INFINITY,
            (_, Affinity::Bool | Affinity::Null) => 1.0,
            (Expr::Column(column), _) => self.magnitudes.of_column(&column.name),
            _ => self.known.get(&(expr as *const Expr)).copied().unwrap_or(f64::INFINITY),
        }
    }

    fn is_real(&self, expr: &Expr) -> bool {
        self.affinities.affinity(expr).is_real()
    }

    fn of_number(&self, expr: &Expr) -> f64 {
        let bound = self.of_any(expr);
        if self.is_real(expr) { bound } else { bound.min(INTEGER) }
    }

    fn of_any(&self, expr: &Expr) -> f64 {
        let bound = |expr: &Expr| self.bound(expr);
        let greatest = |exprs: &[Expr]| exprs.iter().map(bound).fold(0.0, f64::max);
        match expr {
            Expr::Literal(literal, _) => number(literal).map_or(INTEGER, f64::abs),
            Expr::OuterReferenceColumn(_, column) => self.magnitudes.of_column(&column.name),
            // The value is known only when it is bound.
            Expr::Placeholder(_) => COUNT,
            Expr::Alias(alias) => bound(&alias.expr),
            Expr::Negative(inner) => bound(inner),
            Expr::Cast(Cast { expr, .. }) => bound(expr),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::Plus | Operator::Minus => bound(left) + bound(right),
                Operator::Multiply => bound(left) * bound(right),
                Operator::Divide => match &**right {
                    Expr::Literal(literal, _) if self.is_real(right) => match number(literal) {
                        Some(divisor) if divisor != 0.0 => bound(left) / divisor.abs(),
                        _ => f64::INFINITY,
                    },
                    divisor if !self.is_real(divisor) => bound(left),
                    _ => f64::INFINITY,
                },
                Operator::Modulo => bound(right),
                Operator::BitwiseAnd | Operator::BitwiseOr => 2.0 * bound(left).max(bound(right)),
                Operator::BitwiseShiftRight => bound(left),
                _ => f64::INFINITY,
            },
            Expr::Case(Case { when_then_expr, else_expr, .. }) => {
                let values = when_then_expr.iter().map(|(_, then)| then).chain(else_expr);
                values.map(|value| bound(value)).fold(0.0, f64::max)
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => match func.name() {
                "abs" | "coalesce" | "nullif" | "nvl" => greatest(args),
                "round" => args.first().map_or(f64::INFINITY, bound) + 1.0,
                "length" | "strpos" | "unicode" | "julianday" | "unixepoch" => COUNT,
                _ => f64::INFINITY,
            },
            Expr::AggregateFunction(AggregateFunction { func, params }) => self.of_call(func.name(), &params.args),
            Expr::WindowFunction(window) => self.of_call(window.fun.name(), &window.params.args),
            Expr::ScalarSubquery(subquery) => {
                let fields = subquery.subquery.schema().fields();
                fields.first().map_or(f64::INFINITY, |field| self.magnitudes.of_column(field.name()))
            }
            _ => f64::INFINITY,
        }
    }

    /// Returns the bound of an aggregate or a window function.
    fn of_call(&self, name: &str, args: &[Expr]) -> f64 {
        let is_real = args.first().is_some_and(|arg| self.is_real(arg));
        let greatest = || args.iter().map(|arg| self.bound(arg)).fold(0.0, f64::max);
        match name {
            "sum" if is_real => greatest() * ROWS,
            // The average is computed from a sum.
            "avg" if is_real && !(greatest() * ROWS).is_finite() => f64::INFINITY,
            "avg" | "min" | "max" | "lag" | "lead" | "first_value" | "last_value" | "nth_value" => greatest(),
            "sum" | "count" | "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" => COUNT,
            _ => f64::INFINITY,
        }
    }

    /// Returns true if an operation of integers may overflow 64 bits.
    pub fn may_overflow(&self, left: &Expr, op: Operator, right: &Expr) -> bool {
        if self.is_real(left) || self.is_real(right) {
            return false;
        }
        let (a, b) = (self.bound(left), self.bound(right));
        match op {
            Operator::Plus | Operator::Minus => a + b >= OVERFLOW,
            Operator::Multiply => a * b >= OVERFLOW,
            // The least integer divided by -1 overflows.
            Operator::Divide | Operator::Modulo => a >= OVERFLOW && !matches!(right, Expr::Literal(..)),
            _ => false,
        }
    }

    /// Returns true if an operation of reals can be a NaN.
    pub fn may_be_nan(&self, left: &Expr, op: Operator, right: &Expr) -> bool {
        if !self.is_real(left) && !self.is_real(right) {
            return false;
        }
        let is_finite = |expr: &Expr| self.bound(expr).is_finite();
        let is_nonzero = |expr: &Expr| match expr {
            Expr::Literal(literal, _) => number(literal).is_some_and(|number| number != 0.0 && number.is_finite()),
            _ => false,
        };
        match op {
            // Two infinities may yield a NaN.
            Operator::Plus | Operator::Minus | Operator::Divide => !is_finite(left) && !is_finite(right),
            // An infinity and a zero yield a NaN.
            Operator::Multiply => !(is_nonzero(left) || is_nonzero(right) || is_finite(left) && is_finite(right)),
            _ => false,
        }
    }

    /// Returns true if the arguments of an aggregate or a window function of reals may be infinite.
    pub fn may_aggregate_infinities(&self, name: &str, args: &[Expr]) -> bool {
        let is_of_reals = args.first().is_some_and(|arg| self.is_real(arg));
        matches!(name, "sum" | "avg" | "min" | "max") && is_of_reals && !self.of_call(name, args).is_finite()
    }

    /// Returns true if a sum of integers may overflow 64 bits, as far as the number of rows is
    /// known.
    pub fn may_sum_beyond(&self, name: &str, args: &[Expr]) -> bool {
        let is_of_integers = args.first().is_some_and(|arg| !self.is_real(arg));
        match self.magnitudes.rows {
            Some(rows) if name == "sum" && is_of_integers => {
                args.iter().any(|arg| self.bound(arg) * rows.max(1.0) >= OVERFLOW)
            }
            _ => false,
        }
    }
}

fn number(literal: &ScalarValue) -> Option<f64> {
    match literal {
        ScalarValue::Float64(number) => *number,
        ScalarValue::Float32(number) => number.map(f64::from),
        ScalarValue::Int64(number) => number.map(|number| number as f64),
        ScalarValue::Int32(number) => number.map(f64::from),
        ScalarValue::Int16(number) => number.map(f64::from),
        ScalarValue::Int8(number) => number.map(f64::from),
        _ => None,
    }
}
