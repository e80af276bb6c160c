//! Affinities: the types of values that SQLite treats alike, and the reals of DataFusion that may
//! be integers in SQLite.
//!
//! `coalesce(1, 2.5)` is an integer in SQLite and a real in DataFusion, and so is a real of a
//! column that is declared as NUMERIC. Sums and comparisons are equal on both sides; a division,
//! and a conversion to text, are not.

use std::collections::HashMap;
use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, ScalarFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator};

use super::column_facts::ColumnFacts;

/// Class of values that SQLite treats alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    Null,
    Bool,
    Integer,
    Real,
    /// A real in DataFusion that may be the integer 0 in SQLite.
    RealOrZero,
    /// A real in DataFusion that may be an integer in SQLite.
    Number,
    Text,
    Blob,
    Other,
}

impl Affinity {
    pub fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Real,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Blob,
            integer if integer.is_integer() => Self::Integer,
            _ => Self::Other,
        }
    }

    pub fn is_real(self) -> bool {
        matches!(self, Self::Real | Self::RealOrZero | Self::Number)
    }

    pub fn is_number(self) -> bool {
        matches!(self, Self::Null | Self::Integer) || self.is_real()
    }

    pub fn is_condition(self) -> bool {
        matches!(self, Self::Null | Self::Bool)
    }

    /// Returns true if the value has the same text on both sides.
    pub fn is_textual(self) -> bool {
        matches!(self, Self::Null | Self::Bool | Self::Integer | Self::Real | Self::Text)
    }

    /// Returns true if values of both affinities are compared and combined alike on both sides.
    pub fn is_like(self, other: Affinity) -> bool {
        self == other || self == Self::Null || other == Self::Null || (self.is_number() && other.is_number())
    }

    /// Returns the join (least upper bound) of two affinities of reals.
    fn or(self, other: Affinity) -> Affinity {
        match (self, other) {
            (Self::Number, _) | (_, Self::Number) => Self::Number,
            (Self::RealOrZero, _) | (_, Self::RealOrZero) => Self::RealOrZero,
            _ => Self::Real,
        }
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "NULL",
            Self::Bool => "bool",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::RealOrZero | Self::Number => "real that SQLite may have as an integer",
            Self::Text => "text",
            Self::Blob => "BLOB",
            Self::Other => "a type that it lacks",
        })
    }
}

/// Returns the first pair of neighbours with unlike affinities.
pub(super) fn unlike(what: &str, affinities: impl IntoIterator<Item = Affinity>) -> Option<String> {
    let mut first = Affinity::Null;
    for affinity in affinities {
        if !first.is_like(affinity) {
            return Some(format!("{what} of {first} and {affinity}"));
        }
        if first == Affinity::Null {
            first = affinity;
        }
    }
    None
}

/// The affinities of a plan's expressions.
pub(super) struct Affinities<'a> {
    facts: &'a dyn ColumnFacts,
    /// Affinity of columns with reals, those of subqueries included.
    columns: Affinity,
    /// True if a column may have reals that its type does not show, because the type is not
    /// resolved before the plan is analyzed.
    has_hidden: bool,
}

impl<'a> Affinities<'a> {
    pub fn of(plan: &LogicalPlan, facts: &'a dyn ColumnFacts) -> Result<Self> {
        let mut affinities = Self { facts, columns: Affinity::Real, has_hidden: false };
        loop {
            let (columns, has_hidden) = affinities.of_columns(plan)?;
            if (columns, has_hidden) == (affinities.columns, affinities.has_hidden) {
                return Ok(affinities);
            }
            (affinities.columns, affinities.has_hidden) = (columns, has_hidden);
        }
    }

    /// One round of the fixpoint: the affinity of columns with reals under the current assumption.
    fn of_columns(&self, plan: &LogicalPlan) -> Result<(Affinity, bool)> {
        let (mut columns, mut has_hidden) = (self.columns, self.has_hidden);
        plan.apply_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            // Nothing reads the final output of the query.
            let is_read = !(std::ptr::eq(node, plan) && matches!(node, LogicalPlan::Projection(_)));
            match node {
                LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) if is_read => {
                    for expr in node.expressions() {
                        let affinity = self.within(&expr, &schema).affinity(&expr);
                        if affinity.is_real() {
                            columns = columns.or(affinity);
                            has_hidden |= expr.get_type(&schema).is_ok_and(|told| !told.is_floating());
                        }
                    }
                }
                LogicalPlan::Union(union) => {
                    for (column, told) in union.schema.fields().iter().enumerate() {
                        let of_inputs = union.inputs.iter().filter_map(|input| input.schema().fields().get(column));
                        let affinities: Vec<Affinity> =
                            of_inputs.map(|field| Affinity::of(field.data_type())).collect();
                        if affinities.contains(&Affinity::Real) && affinities.contains(&Affinity::Integer) {
                            columns = Affinity::Number;
                            has_hidden |= !told.data_type().is_floating();
                        }
                    }
                }
                // The rows of these nodes are cast to one type.
                LogicalPlan::Values(_) | LogicalPlan::RecursiveQuery(_)
                    if node.schema().fields().iter().any(|field| Affinity::of(field.data_type()).is_real()) =>
                {
                    columns = Affinity::Number;
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok((columns, has_hidden))
    }

    /// Returns the affinities of an expression and of all within it.
    pub fn within<'e>(&'e self, expr: &'e Expr, schema: &'e DFSchema) -> AffinityContext<'e> {
        let mut exprs = Vec::new();
        // The walk never fails, because the closure does not.
        let _ = expr.apply(|expr| {
            exprs.push(expr);
            Ok(TreeNodeRecursion::Continue)
        });
        let mut within = AffinityContext { affinities: self, schema, known: HashMap::with_capacity(exprs.len()) };
        // An expression precedes its parts, so the reverse order visits the parts first.
        for expr in exprs.into_iter().rev() {
            let told = expr.get_type(schema).map_or(Affinity::Null, |data_type| Affinity::of(&data_type));
            let affinity = match told {
                Affinity::Real => within.of_real(expr),
                Affinity::Integer | Affinity::Null if within.is_hidden(expr) => within.of_real(expr),
                other => other,
            };
            within.known.insert(expr, affinity);
        }
        within
    }
}

/// The affinities of the expressions within one.
pub(super) struct AffinityContext<'a> {
    affinities: &'a Affinities<'a>,
    pub schema: &'a DFSchema,
    /// Affinities by the expression's address, which is only compared: the tree does not move.
    known: HashMap<*const Expr, Affinity>,
}

impl AffinityContext<'_> {
    pub fn affinity(&self, expr: &Expr) -> Affinity {
        self.known.get(&(expr as *const Expr)).copied().unwrap_or(Affinity::Other)
    }

    /// Returns true if an expression is a real although its unresolved type is an integer.
    fn is_hidden(&self, expr: &Expr) -> bool {
        let is_real = |expr: &Expr| self.affinity(expr).is_real();
        match expr {
            Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) => self.affinities.has_hidden,
            Expr::Alias(alias) => is_real(&alias.expr),
            Expr::Negative(inner) => is_real(inner),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                op.is_numerical_operators() && (is_real(left) || is_real(right))
            }
            Expr::Case(Case { when_then_expr, else_expr, .. }) => {
                when_then_expr.iter().any(|(_, then)| is_real(then)) || else_expr.as_deref().is_some_and(is_real)
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                matches!(func.name(), "abs" | "coalesce" | "nullif" | "nvl") && args.iter().any(is_real)
            }
            Expr::AggregateFunction(AggregateFunction { func, params }) => {
                func.name() != "count" && params.args.iter().any(is_real)
            }
            Expr::WindowFunction(window) => window.fun.name() != "count" && window.params.args.iter().any(is_real),
            _ => false,
        }
    }

    fn of_real(&self, expr: &Expr) -> Affinity {
        match expr {
            _ if self.is_integer_column(expr) => Affinity::Number,
            Expr::Literal(..) => Affinity::Real,
            Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => {
                match self.affinities.facts.has_no_declared_type(&column.name) {
                    true => Affinity::Number,
                    false => self.affinities.columns,
                }
            }
            Expr::Alias(alias) => self.affinity(&alias.expr),
            Expr::Negative(inner) => self.affinity(inner),
            Expr::Cast(Cast { expr, .. }) => match expr.get_type(self.schema) {
                // The cast only widens the number for 64-bit arithmetic.
                Ok(DataType::Float16 | DataType::Float32) => self.affinity(expr),
                _ => Affinity::Real,
            },
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.of_arithmetic(left, *op, right),
            Expr::Case(Case { when_then_expr, else_expr, .. }) => {
                self.of_values(when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(else_expr.as_deref()))
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => match func.name() {
                "abs" | "coalesce" | "nullif" | "nvl" => self.of_values(args),
                "round" | "julianday" => Affinity::Real,
                _ => Affinity::Number,
            },
            Expr::AggregateFunction(AggregateFunction { func, params }) => self.of_call(func.name(), &params.args),
            Expr::WindowFunction(window) => self.of_call(window.fun.name(), &window.params.args),
            Expr::ScalarSubquery(_) => self.affinities.columns,
            _ => Affinity::Number,
        }
    }

    fn is_integer_column(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_))
            && expr.get_type(self.schema).is_ok_and(|told| !told.is_floating())
    }

    /// Returns the affinity of an arithmetic operation: a real if one operand is a real.
    fn of_arithmetic(&self, left: &Expr, op: Operator, right: &Expr) -> Affinity {
        match (self.affinity(left), self.affinity(right)) {
            (Affinity::Real, _) | (_, Affinity::Real) => Affinity::Real,
            (Affinity::RealOrZero, Affinity::RealOrZero | Affinity::Null) | (Affinity::Null, Affinity::RealOrZero) => {
                Affinity::RealOrZero
            }
            (Affinity::RealOrZero, _) if is_zero(right) => Affinity::RealOrZero,
            (_, Affinity::RealOrZero) if is_zero(left) => Affinity::RealOrZero,
            (Affinity::RealOrZero, Affinity::Integer) if matches!(op, Operator::Multiply | Operator::Divide) => {
                Affinity::RealOrZero
            }
            (Affinity::Integer, Affinity::RealOrZero) if op == Operator::Multiply => Affinity::RealOrZero,
            _ => Affinity::Number,
        }
    }

    /// Returns the common affinity of several values.
    fn of_values<'e>(&self, values: impl IntoIterator<Item = &'e Expr>) -> Affinity {
        let real = |expr| match self.affinity(expr) {
            Affinity::Null => Affinity::Real,
            Affinity::Integer if is_zero(expr) => Affinity::RealOrZero,
            affinity if affinity.is_real() => affinity,
            _ => Affinity::Number,
        };
        values.into_iter().map(real).fold(Affinity::Real, Affinity::or)
    }

    /// Returns the affinity of an aggregate or a window function.
    fn of_call(&self, name: &str, args: &[Expr]) -> Affinity {
        match name {
            "avg" | "percent_rank" | "cume_dist" => Affinity::Real,
            "lag" | "lead" => self.of_values(args.first().into_iter().chain(args.get(2))),
            _ => args.first().map_or(Affinity::Number, |expr| self.of_values([expr])),
        }
    }
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => *number == 0,
        _ => false,
    }
}
