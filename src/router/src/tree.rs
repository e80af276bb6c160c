//! Helpers that find and replace parts of the syntax tree.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, JoinConstraint, JoinOperator, Select, SetExpr, TableFactor,
    TableWithJoins, Value,
};

pub(super) fn spell(ident: &mut Ident, name: &str) {
    ident.value = name.into();
    ident.quote_style = Some('"');
}

/// Returns the SELECT that names the columns of a result.
pub(super) fn first_select(mut body: &SetExpr) -> Option<&Select> {
    loop {
        body = match body {
            SetExpr::Select(select) => return Some(select),
            SetExpr::SetOperation { left, .. } => left,
            SetExpr::Query(query) => &query.body,
            _ => return None,
        };
    }
}

pub(super) fn joined(from: &TableWithJoins) -> impl Iterator<Item = &TableFactor> {
    from.joins.iter().map(|join| &join.relation)
}

pub(super) fn constraint_of(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint)
        | JoinOperator::StraightJoin(constraint)
        | JoinOperator::AsOf { constraint, .. } => Some(constraint),
        JoinOperator::CrossApply
        | JoinOperator::OuterApply
        | JoinOperator::ArrayJoin
        | JoinOperator::LeftArrayJoin
        | JoinOperator::InnerArrayJoin => None,
    }
}

/// Replaces the text of an argument.
pub(super) fn set_text(argument: Option<&mut FunctionArg>, replacement: impl FnOnce(&str) -> Option<String>) {
    if let Some(
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(Expr::Value(value)), .. },
    ) = argument
        && let Value::SingleQuotedString(text) = &mut value.value
        && let Some(replacement) = replacement(text)
    {
        *text = replacement;
    }
}
