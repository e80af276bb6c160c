//! Semantic gaps of operators and casts.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};

use crate::affinity::{Affinity, unlike};

/// Returns the gap of a binary operator between values of these affinities.
pub(super) fn of_operator(op: Operator, right_expr: &Expr, left: Affinity, right: Affinity) -> Option<String> {
    let both = |is: fn(Affinity) -> bool| is(left) && is(right);
    let gap = || Some(format!("{left} {op} {right}"));
    let unless = |agrees: bool| if agrees { None } else { gap() };
    match op {
        Operator::And | Operator::Or => unless(both(Affinity::is_condition)),
        Operator::Plus | Operator::Minus | Operator::Multiply => unless(both(Affinity::is_number)),
        // The quotient of integers is an integer.
        Operator::Divide => {
            let may_be_whole = |affinity| matches!(affinity, Affinity::Integer | Affinity::Number);
            let is_like =
                (left, right) == (Affinity::Integer, Affinity::Integer) || !(may_be_whole(left) && may_be_whole(right));
            unless(both(Affinity::is_number) && is_like)
        }
        Operator::Modulo | Operator::BitwiseAnd | Operator::BitwiseOr => {
            unless(both(|affinity| matches!(affinity, Affinity::Null | Affinity::Integer)))
        }
        Operator::BitwiseShiftLeft | Operator::BitwiseShiftRight => {
            // SQLite shifts by a negative number in the other direction, and shifts all bits out by
            // a large one.
            let is_plain = matches!(right_expr, Expr::Literal(ScalarValue::Int64(Some(0..=63)), _));
            unless(left == Affinity::Integer && is_plain)
        }
        Operator::StringConcat => unless(both(Affinity::is_textual)),
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom => unlike("a comparison", [left, right]),
        // SQLite lacks these operators, or gives them another meaning.
        Operator::RegexMatch
        | Operator::RegexIMatch
        | Operator::RegexNotMatch
        | Operator::RegexNotIMatch
        | Operator::LikeMatch
        | Operator::ILikeMatch
        | Operator::NotLikeMatch
        | Operator::NotILikeMatch
        | Operator::BitwiseXor
        | Operator::AtArrow
        | Operator::ArrowAt
        | Operator::Arrow
        | Operator::LongArrow
        | Operator::HashArrow
        | Operator::HashLongArrow
        | Operator::AtAt
        | Operator::IntegerDivide
        | Operator::HashMinus
        | Operator::AtQuestion
        | Operator::Question
        | Operator::QuestionAnd
        | Operator::QuestionPipe
        | Operator::Colon => gap(),
    }
}

/// Returns the gap of a cast.
pub(super) fn of_cast(from: Affinity, to: &DataType) -> Option<String> {
    let is_small = matches!(from, Affinity::Null | Affinity::Integer | Affinity::Bool);
    let agrees = match to {
        DataType::Int64 => is_small || matches!(from, Affinity::Real | Affinity::RealOrZero | Affinity::Text),
        DataType::Float64 => is_small || from.is_real() || from == Affinity::Text,
        DataType::Utf8 => from.is_textual(),
        DataType::Boolean => from.is_condition(),
        other => match Affinity::of(other) {
            Affinity::Integer => is_small,
            Affinity::Real => from.is_number(),
            Affinity::Blob => matches!(from, Affinity::Null | Affinity::Text | Affinity::Blob),
            Affinity::Null
            | Affinity::Bool
            | Affinity::RealOrZero
            | Affinity::Number
            | Affinity::Text
            | Affinity::Other => false,
        },
    };
    (!agrees).then(|| format!("CAST of {from} as {to}"))
}
