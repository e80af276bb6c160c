//! What DataFusion would answer otherwise than SQLite: such a query stays with SQLite.
//!
//! Both agree where the types do: SQLite compares, adds and converts values of different kinds by rules of its own.

use std::collections::HashMap;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, InList, InSubquery, Like, ScalarFunction, TryCast};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Between, BinaryExpr, Case, Expr, LogicalPlan, Operator};

use super::agreement::agrees;
use super::kind::{Kind, Kinds, Within, unlike};

/// What SQLite's columns are, by their names.
pub struct Columns<'a> {
    /// Whether SQLite compares the text of one in another order than that of the bytes.
    pub is_collated: &'a dyn Fn(&str) -> bool,
    /// Whether one of numbers may have integers among its reals.
    pub is_loose: &'a dyn Fn(&str) -> bool,
}

/// The first part of a plan, as it is before it is optimized, that DataFusion computes otherwise; `None`: they agree.
pub fn difference(plan: &LogicalPlan, columns: &Columns<'_>) -> Option<String> {
    let mut found = None;
    let walked = Kinds::of(plan, columns.is_loose).and_then(|kinds| {
        plan.apply_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            found = of_node(node, &schema, &kinds);
            if found.is_none() {
                node.apply_expressions(|expr| {
                    let places = if matches!(node, LogicalPlan::Filter(_)) { places(expr) } else { HashMap::new() };
                    let part = Part { within: kinds.within(expr, &schema), is_collated: columns.is_collated };
                    expr.apply(|expr| {
                        found = part.of_expr(expr, places.get(&(expr as *const Expr)).copied().unwrap_or(Place::Value));
                        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
                    })
                })?;
            }
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    });
    found.or_else(|| walked.err().map(|error| error.strip_backtrace()))
}

/// What the value of an expression decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A row passes a filter if, and only if, it is true.
    Filter,
    /// A row may pass if it is true: it makes no difference whether it is false or NULL.
    Condition,
    /// Anything.
    Value,
}

/// The parts of a filter that it joins by AND and OR, by their addresses.
fn places(filter: &Expr) -> HashMap<*const Expr, Place> {
    let (mut places, mut open) = (HashMap::new(), vec![(filter, Place::Filter)]);
    while let Some((expr, place)) = open.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                open.extend([(&**left, place), (right, place)])
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                open.extend([(&**left, Place::Condition), (right, Place::Condition)]);
            }
            other => drop(places.insert(other as *const Expr, place)),
        }
    }
    places
}

fn of_node(node: &LogicalPlan, schema: &DFSchema, kinds: &Kinds<'_>) -> Option<String> {
    let kind = |expr: &Expr| kinds.within(expr, schema).kind(expr);
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

/// An expression of a node, and what is in it.
struct Part<'a> {
    within: Within<'a>,
    is_collated: &'a dyn Fn(&str) -> bool,
}

impl Part<'_> {
    fn of_expr(&self, expr: &Expr, place: Place) -> Option<String> {
        let kind = |expr: &Expr| self.within.kind(expr);
        let kinds = |exprs: &[Expr]| exprs.iter().map(kind).collect::<Vec<_>>();
        match expr {
            Expr::Column(column) | Expr::OuterReferenceColumn(_, column) if (self.is_collated)(&column.name) => {
                Some(format!("column {:?}, whose text has a collation", column.name))
            }
            Expr::Literal(ScalarValue::UInt64(Some(number)), _) => {
                Some(format!("{number}, which is no 64-bit integer"))
            }
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
            Expr::Between(Between { expr, low, high, .. }) => unlike("a comparison", [kind(expr), kind(low)])
                .or_else(|| unlike("a comparison", [kind(expr), kind(high)])),
            // DataFusion takes a CASE in the list for a constant.
            Expr::InList(InList { list, .. }) if list.iter().any(Expr::any_column_refs) => {
                Some("IN of a list with columns".into())
            }
            Expr::InList(InList { expr, list, .. }) => {
                list.iter().find_map(|item| unlike("a comparison", [kind(expr), kind(item)]))
            }
            // DataFusion has false where it should be NULL, but for a filter's own.
            Expr::InSubquery(InSubquery { expr, negated, .. })
                if kind(expr) == Kind::Null
                    || place == Place::Value
                    || (*negated && (place == Place::Condition || !is_of_row(expr))) =>
            {
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
            Expr::AggregateFunction(AggregateFunction { func, params }) => {
                of_aggregate(func.name(), &kinds(&params.args))
            }
            Expr::WindowFunction(window) => of_aggregate(window.fun.name(), &kinds(&window.params.args)),
            _ => None,
        }
    }
}

/// Whether no rule of the optimizer makes a constant of it: NOT IN of a constant does not see the NULL among what is selected.
fn is_of_row(expr: &Expr) -> bool {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
    match expr {
        Expr::Cast(Cast { expr, .. }) => is_column(expr),
        Expr::ScalarFunction(ScalarFunction { args, .. }) => {
            args.iter().any(is_column)
                && args.iter().all(|arg| is_column(arg) || matches!(arg, Expr::Literal(value, _) if !value.is_null()))
        }
        other => is_column(other),
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
        Operator::Plus | Operator::Minus | Operator::Multiply => unless(both(Kind::is_number)),
        // That of integers is an integer.
        Operator::Divide => {
            let may_be_whole = |kind| matches!(kind, Kind::Integer | Kind::Number);
            let is_like =
                (left, right) == (Kind::Integer, Kind::Integer) || !(may_be_whole(left) && may_be_whole(right));
            unless(both(Kind::is_number) && is_like)
        }
        Operator::Modulo | Operator::BitwiseAnd | Operator::BitwiseOr => {
            unless(both(|kind| matches!(kind, Kind::Null | Kind::Integer)))
        }
        Operator::BitwiseShiftLeft | Operator::BitwiseShiftRight => {
            // SQLite shifts by a negative number the other way, and everything out by a large one.
            let is_plain = matches!(right_expr, Expr::Literal(ScalarValue::Int64(Some(0..=63)), _));
            unless(left == Kind::Integer && is_plain)
        }
        Operator::StringConcat => unless(both(Kind::is_textual)),
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
    let is_small = matches!(from, Kind::Null | Kind::Integer | Kind::Bool);
    let agrees = match to {
        DataType::Int64 => is_small || matches!(from, Kind::Real | Kind::RealOrZero | Kind::Text),
        DataType::Float64 => is_small || from.is_real() || from == Kind::Text,
        DataType::Utf8 => from.is_textual(),
        DataType::Boolean => from.is_condition(),
        other => match Kind::of(other) {
            Kind::Integer => is_small,
            Kind::Real => from.is_number(),
            Kind::Blob => matches!(from, Kind::Null | Kind::Text | Kind::Blob),
            _ => false,
        },
    };
    (!agrees).then(|| format!("CAST of {from} as {to}"))
}
