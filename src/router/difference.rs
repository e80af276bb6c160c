//! What DataFusion would answer otherwise than SQLite: such a query stays with SQLite.
//!
//! Both agree where the types do: SQLite compares, adds and converts values of different kinds by rules of its own.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, InList, InSubquery, Like, ScalarFunction, TryCast};
use datafusion::logical_expr::utils::{merge_schema, split_conjunction};
use datafusion::logical_expr::{Between, BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator};

use super::agreement::agrees;

/// The first part of a plan, as it is before it is optimized, that DataFusion computes otherwise; `None`: they agree.
/// `is_collated` tells of a column by its name whether SQLite compares its text in another order than that of the bytes.
pub fn difference(plan: &LogicalPlan, is_collated: &dyn Fn(&str) -> bool) -> Option<String> {
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        found = of_node(node, &schema);
        let is_filter = matches!(node, LogicalPlan::Filter(_));
        if found.is_none() {
            node.apply_expressions(|expr| {
                let parts = if is_filter { split_conjunction(expr) } else { vec![expr] };
                for part in parts {
                    part.apply(|expr| {
                        let is_whole = is_filter && std::ptr::eq(part, expr);
                        found = of_expr(expr, &schema, is_whole, is_collated);
                        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                    })?;
                }
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })?;
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found.or_else(|| walked.err().map(|error| error.strip_backtrace()))
}

/// Values that SQLite treats alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Integer,
    Real,
    Text,
    Blob,
    Other,
}

impl Kind {
    fn of(data_type: &DataType) -> Self {
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

    pub fn is_number(self) -> bool {
        matches!(self, Self::Null | Self::Integer | Self::Real)
    }

    fn is_condition(self) -> bool {
        matches!(self, Self::Null | Self::Bool)
    }

    /// Whether values of both are compared, and become one, alike on both sides.
    fn is_like(self, other: Kind) -> bool {
        self == other || self == Self::Null || other == Self::Null || (self.is_number() && other.is_number())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "NULL",
            Self::Bool => "bool",
            Self::Integer => "integer",
            Self::Real => "real",
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

fn of_node(node: &LogicalPlan, schema: &DFSchema) -> Option<String> {
    let kind = |expr: &Expr| expr.get_type(schema).map_or(Kind::Null, |data_type| Kind::of(&data_type));
    match node {
        LogicalPlan::Join(join) => join.on.iter().find_map(|(a, b)| unlike("a comparison", [kind(a), kind(b)])),
        LogicalPlan::Union(union) => (0..union.schema.fields().len()).find_map(|column| {
            let kinds = union.inputs.iter().filter_map(|input| input.schema().fields().get(column));
            unlike("a set", kinds.map(|field| Kind::of(field.data_type())))
        }),
        LogicalPlan::Limit(limit) => {
            let is_negative = |expr: &Option<Box<Expr>>| {
                expr.as_deref().is_some_and(|expr| match expr {
                    Expr::Literal(ScalarValue::Int64(Some(rows)), _) => *rows < 0,
                    Expr::Negative(_) => true,
                    _ => false,
                })
            };
            (is_negative(&limit.skip) || is_negative(&limit.fetch)).then(|| "a negative LIMIT or OFFSET".into())
        }
        _ => None,
    }
}

/// `is_whole`: a row passes a filter if, and only if, the expression is true.
fn of_expr(expr: &Expr, schema: &DFSchema, is_whole: bool, is_collated: &dyn Fn(&str) -> bool) -> Option<String> {
    let kind = |expr: &Expr| expr.get_type(schema).map_or(Kind::Null, |data_type| Kind::of(&data_type));
    let kinds = |exprs: &[Expr]| exprs.iter().map(kind).collect::<Vec<_>>();
    match expr {
        Expr::Column(column) | Expr::OuterReferenceColumn(_, column) if is_collated(&column.name) => {
            Some(format!("column {:?}, whose text has a collation", column.name))
        }
        Expr::Literal(ScalarValue::UInt64(Some(number)), _) => Some(format!("{number}, which is no 64-bit integer")),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => of_operator(*op, right, kind(left), kind(right)),
        Expr::Not(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
            if !kind(inner).is_condition() =>
        {
            Some(format!("{} as a condition", kind(inner)))
        }
        Expr::Negative(inner) if !kind(inner).is_number() => Some(format!("the negative of {}", kind(inner))),
        Expr::Between(Between { expr, low, high, .. }) => {
            unlike("a comparison", [kind(expr), kind(low)]).or_else(|| unlike("a comparison", [kind(expr), kind(high)]))
        }
        // DataFusion takes a CASE in the list for a constant.
        Expr::InList(InList { list, .. }) if list.iter().any(Expr::any_column_refs) => {
            Some("IN of a list with columns".into())
        }
        Expr::InList(InList { expr, list, .. }) => {
            list.iter().find_map(|item| unlike("a comparison", [kind(expr), kind(item)]))
        }
        // DataFusion has false where it should be NULL.
        Expr::InSubquery(InSubquery { expr, .. }) if !is_whole || kind(expr) == Kind::Null => {
            Some("IN (SELECT ..) within an expression or of NULL".into())
        }
        Expr::InSubquery(InSubquery { expr, subquery, .. }) => {
            let found = subquery.subquery.schema().fields().first().map(|field| Kind::of(field.data_type()));
            unlike("a comparison", [kind(expr), found.unwrap_or(Kind::Null)])
        }
        Expr::Like(Like { expr, pattern, escape_char, .. }) => of_like(kind(expr), pattern, *escape_char),
        Expr::Case(Case { expr, when_then_expr, else_expr }) => {
            let whens = when_then_expr.iter().map(|(when, _)| kind(when));
            let thens = when_then_expr.iter().map(|(_, then)| then).chain(else_expr).map(|then| kind(then));
            let when = match expr {
                Some(expr) => whens.into_iter().find_map(|when| unlike("a comparison", [kind(expr), when])),
                None => {
                    whens.into_iter().find(|when| !when.is_condition()).map(|when| format!("{when} as a condition"))
                }
            };
            when.or_else(|| unlike("a CASE", thens))
        }
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            of_cast(kind(expr), field.data_type())
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let of = kinds(args);
            let list = || of.iter().map(Kind::to_string).collect::<Vec<_>>().join(", ");
            (!agrees(func.name(), args, &of)).then(|| format!("the function {}({})", func.name(), list()))
        }
        Expr::AggregateFunction(AggregateFunction { func, params }) => of_aggregate(func.name(), &kinds(&params.args)),
        Expr::WindowFunction(window) => of_aggregate(window.fun.name(), &kinds(&window.params.args)),
        _ => None,
    }
}

fn of_aggregate(name: &str, args: &[Kind]) -> Option<String> {
    match (name, args) {
        ("sum" | "avg", [kind]) if !kind.is_number() => Some(format!("{name} of {kind}")),
        ("lag" | "lead", [value, _, default]) => unlike(name, [*value, *default]),
        _ => None,
    }
}

fn of_operator(op: Operator, right_expr: &Expr, left: Kind, right: Kind) -> Option<String> {
    let both = |is: fn(Kind) -> bool| is(left) && is(right);
    let unless = |agrees: bool| (!agrees).then(|| format!("{left} {op} {right}"));
    match op {
        Operator::And | Operator::Or => unless(both(Kind::is_condition)),
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide => unless(both(Kind::is_number)),
        Operator::Modulo | Operator::BitwiseAnd | Operator::BitwiseOr => {
            unless(both(|kind| matches!(kind, Kind::Null | Kind::Integer)))
        }
        Operator::BitwiseShiftLeft | Operator::BitwiseShiftRight => {
            // SQLite shifts by a negative number the other way, and everything out by a large one.
            let is_plain = matches!(right_expr, Expr::Literal(ScalarValue::Int64(Some(0..=63)), _));
            unless(left == Kind::Integer && is_plain)
        }
        // A real as text is written in another way.
        Operator::StringConcat => unless(both(|kind| matches!(kind, Kind::Null | Kind::Integer | Kind::Text))),
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom => unlike("a comparison", [left, right]),
        _ => None,
    }
}

fn of_like(value: Kind, pattern: &Expr, escape: Option<char>) -> Option<String> {
    match pattern {
        Expr::Literal(pattern, _) => match pattern.try_as_str() {
            // DataFusion escapes by a backslash in any case.
            Some(Some(pattern)) if escape.is_none() && pattern.contains('\\') => {
                Some("LIKE with a backslash in its pattern".into())
            }
            Some(_) if matches!(value, Kind::Text | Kind::Null) => None,
            None if pattern.is_null() => None,
            _ => Some(format!("LIKE of {value}")),
        },
        _ => Some("LIKE with a pattern that is no literal".into()),
    }
}

fn of_cast(from: Kind, to: &DataType) -> Option<String> {
    let agrees = matches!(
        (from, Kind::of(to)),
        (Kind::Null | Kind::Bool | Kind::Integer | Kind::Real, Kind::Integer)
            | (Kind::Null | Kind::Integer | Kind::Real, Kind::Real)
            | (Kind::Null | Kind::Integer | Kind::Text, Kind::Text)
            | (Kind::Null | Kind::Text | Kind::Blob, Kind::Blob)
            | (Kind::Null | Kind::Bool, Kind::Bool)
    );
    (!agrees).then(|| format!("CAST of {from} as {to}"))
}
