//! Semantic gaps of expressions.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Cast, InList, InSubquery, Like, ScalarFunction, TryCast};
use datafusion::logical_expr::{Between, BinaryExpr, Case, Expr};

use super::call::{of_aggregate, of_filter, of_window};
use super::operator::{of_cast, of_operator};
use super::{ExprPosition, of_condition, subquery};
use crate::affinity::{Affinity, AffinityContext, unlike};
use crate::column_facts::ColumnFacts;
use crate::function_compat::is_compatible;
use crate::magnitude::MagnitudeContext;

/// An expression of a node, and its parts.
pub(super) struct Expressions<'a> {
    pub affinities: &'a AffinityContext<'a>,
    pub magnitudes: MagnitudeContext<'a>,
    pub facts: &'a dyn ColumnFacts,
}

impl Expressions<'_> {
    fn affinity(&self, expr: &Expr) -> Affinity {
        self.affinities.affinity(expr)
    }

    fn affinities_of(&self, exprs: &[Expr]) -> Vec<Affinity> {
        exprs.iter().map(|expr| self.affinity(expr)).collect()
    }

    /// Returns the gap of an expression itself, without its parts.
    pub fn gap(&self, expr: &Expr, position: ExprPosition) -> Option<String> {
        let affinity = |expr: &Expr| self.affinity(expr);
        match expr {
            #[expect(deprecated, reason = "Wildcard is still a variant")]
            Expr::Alias(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::Placeholder(_)
            // It is the argument of `count(*)`: any other wildcard has been expanded to columns.
            | Expr::Wildcard { .. } => None,
            Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => {
                let is_collated = self.facts.is_collated(&column.name);
                is_collated.then(|| format!("column {:?}, whose text has a collation", column.name))
            }
            Expr::Literal(literal, _) => of_literal(literal),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                of_operator(*op, right, affinity(left), affinity(right)).or_else(|| {
                    let may_overflow = self.magnitudes.may_overflow(left, *op, right);
                    may_overflow.then(|| format!("integer {op} integer that may be beyond 64 bits"))
                }).or_else(|| {
                    let may_be_nan = self.magnitudes.may_be_nan(left, *op, right);
                    may_be_nan.then(|| format!("real {op} real that may be infinite, where SQLite has NULL for a NaN"))
                })
            }
            Expr::Not(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner) => of_condition(affinity(inner)),
            Expr::Negative(inner) => {
                (!affinity(inner).is_number()).then(|| format!("the negative of {}", affinity(inner)))
            }
            Expr::Between(Between { expr, low, high, .. }) => unlike("a comparison", [affinity(expr), affinity(low)])
                .or_else(|| unlike("a comparison", [affinity(expr), affinity(high)])),
            // DataFusion treats a CASE in the list as a constant.
            Expr::InList(InList { list, .. }) if list.iter().any(Expr::any_column_refs) => {
                Some("IN of a list with columns".into())
            }
            Expr::InList(InList { expr, list, .. }) => {
                list.iter().find_map(|item| unlike("a comparison", [affinity(expr), affinity(item)]))
            }
            Expr::Exists(exists) => subquery::of_rows(&exists.subquery),
            Expr::InSubquery(within) => self.of_in_subquery(within, position),
            Expr::ScalarSubquery(value) => subquery::of_value(value),
            Expr::Like(like) => self.of_like(like),
            Expr::Case(case) => self.of_case(case),
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
                of_cast(affinity(expr), field.data_type())
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let of = self.affinities_of(args);
                let list = || of.iter().map(Affinity::to_string).collect::<Vec<_>>().join(", ");
                (!is_compatible(func.name(), args, &of)).then(|| format!("the function {}({})", func.name(), list()))
            }
            Expr::AggregateFunction(call) => {
                let (name, params) = (call.func.name(), &call.params);
                of_aggregate(name, params, &self.affinities_of(&params.args))
                    .or_else(|| of_filter(params.filter.as_deref().map(affinity)))
                    .or_else(|| self.of_extremes(name, &params.args))
            }
            Expr::WindowFunction(call) => {
                let (name, params) = (call.fun.name(), &call.params);
                of_window(name, params, &self.affinities_of(&params.args))
                    .or_else(|| of_filter(params.filter.as_deref().map(affinity)))
                    .or_else(|| self.of_extremes(name, &params.args))
            }
            // SQLite lacks these operators.
            Expr::SimilarTo(_) => Some("SIMILAR TO".into()),
            Expr::ScalarVariable(..) => Some("a variable".into()),
            Expr::SetComparison(_) => Some("ANY or ALL of a subquery".into()),
            Expr::GroupingSet(_) => Some("GROUPING SETS".into()),
            Expr::Unnest(_) => Some("unnest".into()),
            Expr::HigherOrderFunction(_) | Expr::Lambda(_) | Expr::LambdaVariable(_) => Some("a lambda".into()),
        }
    }

    /// Returns the gap of extreme values. A sum of opposite infinities is NULL in SQLite, and `max`
    /// of only -Infinity is the least finite real on replicas. The sum of integers is an error in
    /// SQLite if it overflows 64 bits.
    fn of_extremes(&self, name: &str, args: &[Expr]) -> Option<String> {
        if self.magnitudes.may_sum_beyond(name, args) {
            return Some("a sum of integers that may be beyond 64 bits".into());
        }
        let may = self.magnitudes.may_aggregate_infinities(name, args);
        may.then(|| format!("{name} of reals that may be infinite"))
    }

    fn of_in_subquery(&self, within: &InSubquery, position: ExprPosition) -> Option<String> {
        let InSubquery { expr, subquery, negated } = within;
        // DataFusion returns false instead of NULL, except in a filter itself.
        if self.affinity(expr) == Affinity::Null
            || position == ExprPosition::Value
            || (*negated && (position == ExprPosition::Condition || !is_of_row(expr)))
        {
            return Some("IN (SELECT ..) within an expression or of NULL".into());
        }
        if *negated && subquery::is_correlated(subquery) {
            return Some("NOT IN of a correlated subquery".into());
        }
        let selected = subquery.subquery.schema().fields().first().map(|field| Affinity::of(field.data_type()));
        unlike("a comparison", [self.affinity(expr), selected.unwrap_or(Affinity::Null)])
            .or_else(|| subquery::of_rows(subquery))
    }

    fn of_like(&self, like: &Like) -> Option<String> {
        let value = self.affinity(&like.expr);
        let Expr::Literal(pattern, _) = &*like.pattern else {
            return Some("LIKE with a pattern that is no literal".into());
        };
        match pattern.try_as_str() {
            _ if like.case_insensitive => Some("ILIKE".into()),
            // DataFusion always treats a backslash as the escape character.
            Some(Some(pattern)) if like.escape_char.is_none() && pattern.contains('\\') => {
                Some("LIKE with a backslash in its pattern".into())
            }
            // SQLite's LIKE reads neither operand beyond a NUL.
            Some(Some(pattern)) if pattern.contains('\0') => Some("LIKE with a NUL in its pattern".into()),
            Some(_) if like.expr.column_refs().iter().any(|column| self.facts.may_have_nul(&column.name)) => {
                Some("LIKE of text with a NUL".into())
            }
            Some(_) if matches!(value, Affinity::Text | Affinity::Null) => None,
            None if pattern.is_null() => None,
            _ => Some(format!("LIKE of {value}")),
        }
    }

    fn of_case(&self, case: &Case) -> Option<String> {
        let Case { expr, when_then_expr, else_expr } = case;
        let mut whens = when_then_expr.iter().map(|(when, _)| self.affinity(when));
        let of_whens = match expr {
            Some(expr) => whens.find_map(|when| unlike("a comparison", [self.affinity(expr), when])),
            None => whens.find_map(of_condition),
        };
        let thens = when_then_expr.iter().map(|(_, then)| then).chain(else_expr);
        of_whens.or_else(|| unlike("a CASE", thens.map(|then| self.affinity(then))))
    }
}

fn of_literal(literal: &ScalarValue) -> Option<String> {
    match literal {
        ScalarValue::UInt64(Some(number)) => Some(format!("{number}, which is no 64-bit integer")),
        other if Affinity::of(&other.data_type()) == Affinity::Other => {
            Some(format!("a literal of type {}", other.data_type()))
        }
        _ => None,
    }
}

/// Returns true if no optimizer rule turns an expression into a constant: DataFusion's NOT IN of a
/// constant ignores a NULL among the selected values.
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
