//! What a value is to SQLite: the kinds that it treats alike, and which of DataFusion's reals SQLite may have as integers.
//!
//! `coalesce(1, 2.5)` is an integer there and a real here, and so is a real of a column that is declared as NUMERIC. Sums and
//! comparisons are the same for both; a division, and what is made text, is not.

use std::collections::HashMap;
use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, ScalarFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator};

/// Values that SQLite treats alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Integer,
    Real,
    /// A real to DataFusion, in SQLite perhaps the integer 0.
    RealOrZero,
    /// A real to DataFusion, in SQLite perhaps an integer.
    Number,
    Text,
    Blob,
    Other,
}

impl Kind {
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

    /// Whether it is the same text on both sides.
    pub fn is_textual(self) -> bool {
        matches!(self, Self::Null | Self::Bool | Self::Integer | Self::Real | Self::Text)
    }

    /// Whether values of both are compared, and become one, alike on both sides.
    pub fn is_like(self, other: Kind) -> bool {
        self == other || self == Self::Null || other == Self::Null || (self.is_number() && other.is_number())
    }

    /// Of the two the one that says less of a real.
    fn or(self, other: Kind) -> Kind {
        match (self, other) {
            (Self::Number, _) | (_, Self::Number) => Self::Number,
            (Self::RealOrZero, _) | (_, Self::RealOrZero) => Self::RealOrZero,
            _ => Self::Real,
        }
    }
}

impl fmt::Display for Kind {
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

/// The first pair of neighbours that are not alike.
pub(super) fn unlike(what: &str, kinds: impl IntoIterator<Item = Kind>) -> Option<String> {
    let mut first = Kind::Null;
    for kind in kinds {
        if !first.is_like(kind) {
            return Some(format!("{what} of {first} and {kind}"));
        }
        if first == Kind::Null {
            first = kind;
        }
    }
    None
}

/// The kinds of a plan's expressions.
pub(super) struct Kinds<'a> {
    /// Whether a column of this name may have integers that its replica has as reals.
    is_loose: &'a dyn Fn(&str) -> bool,
    /// Of the columns with reals, which may be those of a query within the query.
    columns: Kind,
    /// Whether a column may have reals that its type, not settled before the plan is analyzed, does not tell.
    has_hidden: bool,
}

impl<'a> Kinds<'a> {
    pub fn of(plan: &LogicalPlan, is_loose: &'a dyn Fn(&str) -> bool) -> Result<Self> {
        let mut kinds = Self { is_loose, columns: Kind::Real, has_hidden: false };
        loop {
            let (columns, has_hidden) = kinds.of_columns(plan)?;
            if (columns, has_hidden) == (kinds.columns, kinds.has_hidden) {
                return Ok(kinds);
            }
            (kinds.columns, kinds.has_hidden) = (columns, has_hidden);
        }
    }

    /// What is known of reals in columns, if it is as much as is thought now.
    fn of_columns(&self, plan: &LogicalPlan) -> Result<(Kind, bool)> {
        let (mut columns, mut has_hidden) = (self.columns, self.has_hidden);
        plan.apply_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            // Nothing reads what the query gives in the end.
            let is_read = !(std::ptr::eq(node, plan) && matches!(node, LogicalPlan::Projection(_)));
            match node {
                LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) if is_read => {
                    for expr in node.expressions() {
                        let kind = self.within(&expr, &schema).kind(&expr);
                        if kind.is_real() {
                            columns = columns.or(kind);
                            has_hidden |= expr.get_type(&schema).is_ok_and(|told| !told.is_floating());
                        }
                    }
                }
                LogicalPlan::Union(union) => {
                    for (column, told) in union.schema.fields().iter().enumerate() {
                        let of_inputs = union.inputs.iter().filter_map(|input| input.schema().fields().get(column));
                        let kinds: Vec<Kind> = of_inputs.map(|field| Kind::of(field.data_type())).collect();
                        if kinds.contains(&Kind::Real) && kinds.contains(&Kind::Integer) {
                            columns = Kind::Number;
                            has_hidden |= !told.data_type().is_floating();
                        }
                    }
                }
                // Their rows are cast to one type.
                LogicalPlan::Values(_) | LogicalPlan::RecursiveQuery(_)
                    if node.schema().fields().iter().any(|field| Kind::of(field.data_type()).is_real()) =>
                {
                    columns = Kind::Number;
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok((columns, has_hidden))
    }

    /// The kinds of an expression and of all within it.
    pub fn within<'e>(&'e self, expr: &'e Expr, schema: &'e DFSchema) -> Within<'e> {
        let mut exprs = Vec::new();
        // It never fails, as the closure does not.
        let _ = expr.apply(|expr| {
            exprs.push(expr);
            Ok(TreeNodeRecursion::Continue)
        });
        let mut within = Within { kinds: self, schema, known: HashMap::with_capacity(exprs.len()) };
        // What an expression is made of comes after it.
        for expr in exprs.into_iter().rev() {
            let told = expr.get_type(schema).map_or(Kind::Null, |data_type| Kind::of(&data_type));
            let kind = match told {
                Kind::Real => within.of_real(expr),
                Kind::Integer | Kind::Null if within.is_hidden(expr) => within.of_real(expr),
                other => other,
            };
            within.known.insert(expr, kind);
        }
        within
    }
}

/// The kinds of the expressions within one.
pub(super) struct Within<'a> {
    kinds: &'a Kinds<'a>,
    pub schema: &'a DFSchema,
    /// By the address, which is only compared: the tree stands still.
    known: HashMap<*const Expr, Kind>,
}

impl Within<'_> {
    pub fn kind(&self, expr: &Expr) -> Kind {
        self.known.get(&(expr as *const Expr)).copied().unwrap_or(Kind::Other)
    }

    /// Whether it is a real although its type, which is not settled, is of an integer.
    fn is_hidden(&self, expr: &Expr) -> bool {
        let is_real = |expr: &Expr| self.kind(expr).is_real();
        match expr {
            Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) => self.kinds.has_hidden,
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

    fn of_real(&self, expr: &Expr) -> Kind {
        match expr {
            _ if self.is_integer_column(expr) => Kind::Number,
            Expr::Literal(..) => Kind::Real,
            Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => match (self.kinds.is_loose)(&column.name) {
                true => Kind::Number,
                false => self.kinds.columns,
            },
            Expr::Alias(alias) => self.kind(&alias.expr),
            Expr::Negative(inner) => self.kind(inner),
            Expr::Cast(Cast { expr, .. }) => match expr.get_type(self.schema) {
                // To compute with it in 64 bits.
                Ok(DataType::Float16 | DataType::Float32) => self.kind(expr),
                _ => Kind::Real,
            },
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.of_arithmetic(left, *op, right),
            Expr::Case(Case { when_then_expr, else_expr, .. }) => {
                self.of_values(when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(else_expr.as_deref()))
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => match func.name() {
                "abs" | "coalesce" | "nullif" | "nvl" => self.of_values(args),
                "round" | "julianday" => Kind::Real,
                _ => Kind::Number,
            },
            Expr::AggregateFunction(AggregateFunction { func, params }) => self.of_call(func.name(), &params.args),
            Expr::WindowFunction(window) => self.of_call(window.fun.name(), &window.params.args),
            Expr::ScalarSubquery(_) => self.kinds.columns,
            _ => Kind::Number,
        }
    }

    fn is_integer_column(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_))
            && expr.get_type(self.schema).is_ok_and(|told| !told.is_floating())
    }

    /// Real where one of the two is.
    fn of_arithmetic(&self, left: &Expr, op: Operator, right: &Expr) -> Kind {
        match (self.kind(left), self.kind(right)) {
            (Kind::Real, _) | (_, Kind::Real) => Kind::Real,
            (Kind::RealOrZero, Kind::RealOrZero | Kind::Null) | (Kind::Null, Kind::RealOrZero) => Kind::RealOrZero,
            (Kind::RealOrZero, _) if is_zero(right) => Kind::RealOrZero,
            (_, Kind::RealOrZero) if is_zero(left) => Kind::RealOrZero,
            (Kind::RealOrZero, Kind::Integer) if matches!(op, Operator::Multiply | Operator::Divide) => {
                Kind::RealOrZero
            }
            (Kind::Integer, Kind::RealOrZero) if op == Operator::Multiply => Kind::RealOrZero,
            _ => Kind::Number,
        }
    }

    /// Of one among values.
    fn of_values<'e>(&self, values: impl IntoIterator<Item = &'e Expr>) -> Kind {
        let real = |expr| match self.kind(expr) {
            Kind::Null => Kind::Real,
            Kind::Integer if is_zero(expr) => Kind::RealOrZero,
            kind if kind.is_real() => kind,
            _ => Kind::Number,
        };
        values.into_iter().map(real).fold(Kind::Real, Kind::or)
    }

    /// Of an aggregate or a window function.
    fn of_call(&self, name: &str, args: &[Expr]) -> Kind {
        match name {
            "avg" | "percent_rank" | "cume_dist" => Kind::Real,
            "lag" | "lead" => self.of_values(args.first().into_iter().chain(args.get(2))),
            _ => args.first().map_or(Kind::Number, |expr| self.of_values([expr])),
        }
    }
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => *number == 0,
        _ => false,
    }
}
