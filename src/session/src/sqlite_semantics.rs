//! SQL operators with SQLite's semantics, in a session over replicas.
//!
//! A division by zero is NULL; small integers and floats are converted to 64-bit ones for
//! arithmetic, which fails on overflow; the two zeros are one number.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, Operator, cast, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::one_zero::{of_in_subquery, with_one_zero};
use super::sqlite::{checked, may_overflow};

/// Computes with 64 bits: the result of two int8 may not fit in an int8.
#[derive(Debug)]
pub(super) struct WideNumbers;

impl ExprPlanner for WideNumbers {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_arithmetic = matches!(
            expr.op,
            BinaryOperator::Plus
                | BinaryOperator::Minus
                | BinaryOperator::Multiply
                | BinaryOperator::Divide
                | BinaryOperator::Modulo
                | BinaryOperator::BitwiseAnd
                | BinaryOperator::BitwiseOr
                | BinaryOperator::PGBitwiseShiftLeft
                | BinaryOperator::PGBitwiseShiftRight
        );
        if !is_arithmetic {
            return Ok(PlannerResult::Original(expr));
        }
        let RawBinaryExpr { op, left, right } = expr;
        Ok(PlannerResult::Original(RawBinaryExpr { op, left: widened(left, schema), right: widened(right, schema) }))
    }
}

pub(super) fn widened(expr: Expr, schema: &DFSchema) -> Expr {
    match expr.get_type(schema) {
        // A literal beyond 64 bits is unchanged.
        Ok(DataType::UInt64) if matches!(expr, Expr::Literal(..)) => expr,
        Ok(DataType::Float16 | DataType::Float32) => cast(expr, DataType::Float64),
        Ok(other) if other.is_integer() && other != DataType::Int64 => cast(expr, DataType::Int64),
        _ => expr,
    }
}

/// Divides and compares as SQLite does.
#[derive(Debug)]
pub(super) struct SqliteNumbers;

impl FunctionRewrite for SqliteNumbers {
    fn name(&self) -> &str {
        "sqlite_numbers"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let float_of = |exprs: &[&Expr]| {
            let mut types = exprs.iter().filter_map(|expr| expr.get_type(schema).ok());
            types.find(DataType::is_floating)
        };
        let is_int64 = |expr: &Expr| expr.get_type(schema).is_ok_and(|of| of == DataType::Int64);
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if may_overflow(op) && is_int64(&left) && is_int64(&right) =>
            {
                Transformed::yes(checked(*left, op, *right))
            }
            // Negates as SQLite does: the least integer has no 64-bit opposite, so its negation
            // fails here, and the negative of 0.0 is 0.0.
            Expr::Negative(inner) if !matches!(*inner, Expr::Literal(..)) => match inner.get_type(schema) {
                Ok(number) if number.is_signed_integer() => {
                    let inner = if number == DataType::Int64 { *inner } else { cast(*inner, DataType::Int64) };
                    Transformed::yes(checked(lit(0i64), Operator::Minus, inner))
                }
                Ok(number) if number.is_floating() => {
                    Transformed::yes(Expr::Literal(ScalarValue::new_zero(&number)?, None) - *inner)
                }
                _ => Transformed::no(Expr::Negative(inner)),
            },
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Divide | Operator::Modulo), right }) => {
                let right = divisor(*right, schema)?;
                right.update_data(|right| Expr::BinaryExpr(BinaryExpr { left, op, right: Box::new(right) }))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
                let Some(float) = float_of(&[&left, &right]) else {
                    return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
                };
                match (is_zero(&left), is_zero(&right), op.swap()) {
                    (false, true, _) => Transformed::yes(with_zero(*left, op, &float)?),
                    (true, false, Some(swapped)) => Transformed::yes(with_zero(*right, swapped, &float)?),
                    _ if is_fixed(&left) || is_fixed(&right) => {
                        Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))
                    }
                    _ => {
                        let both = [*left, *right].map(|side| with_one_zero(side, schema));
                        let [left, right] = both.map(|side| side.map(|side| Box::new(side.data)));
                        Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: left?, op, right: right? }))
                    }
                }
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom) =>
            {
                let (left, right) = (with_one_zero(*left, schema)?, with_one_zero(*right, schema)?);
                let is_changed = left.transformed || right.transformed;
                let (left, right) = (Box::new(left.data), Box::new(right.data));
                let compared = Expr::BinaryExpr(BinaryExpr { left, op, right });
                if is_changed { Transformed::yes(compared) } else { Transformed::no(compared) }
            }
            Expr::InSubquery(within) => of_in_subquery(within, schema)?,
            Expr::Case(mut case) if case.expr.is_some() => {
                let mut is_changed = false;
                let whens = case.when_then_expr.iter_mut().map(|(when, _)| when);
                for side in case.expr.iter_mut().chain(whens) {
                    let added = with_one_zero(std::mem::take(&mut **side), schema)?;
                    is_changed |= added.transformed;
                    **side = added.data;
                }
                if is_changed { Transformed::yes(Expr::Case(case)) } else { Transformed::no(Expr::Case(case)) }
            }
            Expr::ScalarFunction(mut call) if call.func.name() == "nullif" => {
                let mut is_changed = false;
                for side in &mut call.args {
                    let added = with_one_zero(std::mem::take(side), schema)?;
                    is_changed |= added.transformed;
                    *side = added.data;
                }
                let call = Expr::ScalarFunction(call);
                if is_changed { Transformed::yes(call) } else { Transformed::no(call) }
            }
            Expr::Between(Between { expr, negated, low, high }) if is_zero(&low) || is_zero(&high) => {
                let Some(float) = float_of(&[&expr, &low, &high]) else {
                    return Ok(Transformed::no(Expr::Between(Between { expr, negated, low, high })));
                };
                let low = if is_zero(&low) { Box::new(zero(&float, true)?) } else { low };
                let high = if is_zero(&high) { Box::new(zero(&float, false)?) } else { high };
                Transformed::yes(Expr::Between(Between { expr, negated, low, high }))
            }
            Expr::InList(InList { expr, mut list, negated }) if list.iter().any(is_zero) => {
                let compared: Vec<&Expr> = std::iter::once(expr.as_ref()).chain(&list).collect();
                let Some(float) = float_of(&compared) else {
                    return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
                };
                list.retain(|item| !is_zero(item));
                list.extend([zero(&float, true)?, zero(&float, false)?]);
                Transformed::yes(Expr::InList(InList { expr, list, negated }))
            }
            other => Transformed::no(other),
        })
    }
}

fn is_comparison(op: Operator) -> bool {
    matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// Returns true if an expression has one value for all rows, for any parameters.
fn is_fixed(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(..) | Expr::Placeholder(_) => true,
        Expr::Negative(inner) => is_fixed(inner),
        Expr::Cast(cast) => is_fixed(&cast.expr),
        _ => false,
    }
}

/// Replaces a zero divisor by NULL.
fn divisor(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_done = matches!(&expr, Expr::ScalarFunction(call) if call.func.name() == "nullif");
    let is_number = matches!(&expr, Expr::Literal(value, _) if !value.is_null()) && !is_zero(&expr);
    match expr.get_type(schema) {
        Ok(number) if number.is_numeric() && !is_done && !is_number => {
            let zero = Expr::Literal(ScalarValue::new_zero(&number)?, None);
            // With 0.0 added, -0.0 is 0.0 too.
            let expr = if number.is_floating() { expr + zero.clone() } else { expr };
            Ok(Transformed::yes(nullif(expr, zero)))
        }
        _ => Ok(Transformed::no(expr)),
    }
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(number)), _) => *number == 0.0,
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => *number == 0,
        Expr::Negative(inner) => is_zero(inner),
        _ => false,
    }
}

/// Returns the lesser zero, or the other one.
fn zero(float: &DataType, is_lesser: bool) -> Result<Expr> {
    let zero = ScalarValue::new_zero(float)?;
    Ok(Expr::Literal(if is_lesser { zero.arithmetic_negate()? } else { zero }, None))
}

/// Builds a comparison with either zero.
fn with_zero(expr: Expr, op: Operator, float: &DataType) -> Result<Expr> {
    let between = |expr, negated| -> Result<Expr> {
        let (low, high) = (Box::new(zero(float, true)?), Box::new(zero(float, false)?));
        Ok(Expr::Between(Between { expr: Box::new(expr), negated, low, high }))
    };
    let compared = |expr, is_lesser| -> Result<Expr> {
        let right = Box::new(zero(float, is_lesser)?);
        Ok(Expr::BinaryExpr(BinaryExpr { left: Box::new(expr), op, right }))
    };
    match op {
        Operator::Eq => between(expr, false),
        Operator::NotEq => between(expr, true),
        Operator::Lt | Operator::GtEq => compared(expr, true),
        _ => compared(expr, false),
    }
}
