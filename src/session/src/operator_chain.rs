//! Long chains of operators, `a + b - c` or `a || b || c`, as one function of all terms.
//!
//! A tree of operators is as deep as its number of terms, and DataFusion computes the type and the
//! name of each subtree anew at each level, in quadratic time. The function has all terms as
//! arguments.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr as PhysicalBinaryExpr, Column, Literal};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::sqlite::{checked_arithmetic, may_overflow};
use super::sqlite_semantics::widened;

/// Minimum number of operators of a chain. Shorter chains stay trees.
const LONG: usize = 16;

/// Plans long chains.
#[derive(Debug)]
pub(super) struct OperatorChains {
    /// Computes as SQLite does: with 64 bits, and an error on overflow.
    pub is_of_sqlite: bool,
}

/// The operators of one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Arithmetic,
    Text,
}

/// Terms that have operators in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operands {
    Numbers,
    Texts,
    /// Dates, times, intervals and durations.
    Times,
}

impl OperatorChains {
    fn operator(&self, op: &BinaryOperator) -> Option<Operator> {
        match op {
            BinaryOperator::Plus => Some(Operator::Plus),
            BinaryOperator::Minus => Some(Operator::Minus),
            BinaryOperator::Multiply => Some(Operator::Multiply),
            // SQLite's division by zero is NULL.
            BinaryOperator::Divide if !self.is_of_sqlite => Some(Operator::Divide),
            BinaryOperator::Modulo if !self.is_of_sqlite => Some(Operator::Modulo),
            BinaryOperator::StringConcat => Some(Operator::StringConcat),
            _ => None,
        }
    }

    /// Returns the operands that an expression may be among in a chain; `None` if it has operators
    /// of its own, as a list has.
    fn operands(&self, kind: Kind, expr: &Expr, schema: &DFSchema) -> Option<Operands> {
        let data_type = expr.get_type(schema).ok()?;
        let is_number = data_type.is_numeric() || (data_type.is_null() && !self.is_of_sqlite);
        match kind {
            Kind::Arithmetic if is_number => Some(Operands::Numbers),
            Kind::Arithmetic if data_type.is_temporal() && !self.is_of_sqlite => Some(Operands::Times),
            Kind::Arithmetic => None,
            Kind::Text if self.is_of_sqlite => data_type.is_string().then_some(Operands::Texts),
            Kind::Text => (data_type.is_primitive() || data_type.is_string() || data_type == DataType::Boolean)
                .then_some(Operands::Texts),
        }
    }

    /// Returns true if all terms of a chain are operands of one kind, and of these operators.
    fn are_terms<'a>(
        &self,
        kind: Kind,
        operators: &[Operator],
        mut terms: impl Iterator<Item = &'a Expr>,
        schema: &DFSchema,
    ) -> bool {
        let Some(first) = terms.next().and_then(|term| self.operands(kind, term, schema)) else { return false };
        // Only these operators are between times and intervals alone.
        let are_of_times = || operators.iter().all(|op| matches!(op, Operator::Plus | Operator::Minus));
        (first != Operands::Times || are_of_times())
            && terms.all(|term| self.operands(kind, term, schema) == Some(first))
    }

    fn term(&self, kind: Kind, expr: Expr, schema: &DFSchema) -> Expr {
        if self.is_of_sqlite && kind == Kind::Arithmetic { widened(expr, schema) } else { expr }
    }
}

fn kind(op: Operator) -> Option<Kind> {
    match op {
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo => {
            Some(Kind::Arithmetic)
        }
        Operator::StringConcat => Some(Kind::Text),
        _ => None,
    }
}

/// Counts the operators of one kind from the root of a tree to its first term. The count stops at
/// one more than makes a chain long.
fn depth(expr: &Expr, of: Kind) -> usize {
    let (mut expr, mut depth) = (expr, 0);
    while depth <= LONG
        && let Expr::BinaryExpr(BinaryExpr { left, op, .. }) = expr
        && kind(*op) == Some(of)
    {
        (expr, depth) = (left, depth + 1);
    }
    depth
}

impl ExprPlanner for OperatorChains {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let Some((op, of)) = self.operator(&expr.op).and_then(|op| Some((op, kind(op)?))) else {
            return Ok(PlannerResult::Original(expr));
        };
        let chain = match &expr.left {
            Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<Chain>(),
            _ => None,
        };
        let is_continued = chain.is_some_and(|chain| kind(chain.operators[0]) == Some(of));
        // A deeper tree did not have only terms of a chain.
        if !is_continued && depth(&expr.left, of) + 1 != LONG {
            return Ok(PlannerResult::Original(expr));
        }
        let RawBinaryExpr { op: raw, left, right } = expr;
        let (mut operators, mut terms) = match left {
            Expr::ScalarFunction(call) if is_continued => {
                if !self.are_terms(of, &[op], call.args.iter().take(1).chain([&right]), schema) {
                    let left = Expr::ScalarFunction(call);
                    return Ok(PlannerResult::Original(RawBinaryExpr { op: raw, left, right }));
                }
                let operators = call.func.inner().downcast_ref::<Chain>().map(|chain| chain.operators.clone());
                (operators.unwrap_or_default(), call.args)
            }
            tree => {
                let (mut operators, terms) = spine(tree.clone(), of);
                operators.push(op);
                if !self.are_terms(of, &operators, terms.iter().chain([&right]), schema) {
                    return Ok(PlannerResult::Original(RawBinaryExpr { op: raw, left: tree, right }));
                }
                operators.pop();
                (operators, terms.into_iter().map(|term| self.term(of, term, schema)).collect())
            }
        };
        operators.push(op);
        terms.push(self.term(of, right, schema));
        let function = Arc::new(ScalarUDF::from(Chain::new(operators, self.is_of_sqlite)));
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(function, terms))))
    }
}

/// Builds an operation that DataFusion does not simplify.
pub(super) fn as_function(left: Expr, operator: Operator, right: Expr) -> Expr {
    ScalarUDF::from(Chain::new(vec![operator], false)).call(vec![left, right])
}

/// Returns the operators and terms of a tree, from left to right.
fn spine(mut tree: Expr, of: Kind) -> (Vec<Operator>, Vec<Expr>) {
    let (mut operators, mut terms) = (Vec::new(), Vec::new());
    loop {
        match tree {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if kind(op) == Some(of) => {
                operators.push(op);
                terms.push(*right);
                tree = *left;
            }
            first => {
                terms.push(first);
                terms.reverse();
                operators.reverse();
                return (operators, terms);
            }
        }
    }
}

/// The operators between the arguments, applied from left to right.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Chain {
    operators: Vec<Operator>,
    is_of_sqlite: bool,
    signature: Signature,
}

/// Operation on two types, with its result.
struct Step {
    inputs: (DataType, DataType),
    result: DataType,
}

impl Chain {
    fn new(operators: Vec<Operator>, is_of_sqlite: bool) -> Self {
        Self { operators, is_of_sqlite, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// Calls `each` with the step of each operator; returns the type of the last result.
    fn fold_types(&self, types: &[DataType], mut each: impl FnMut(&Step)) -> Result<DataType> {
        let [first, others @ ..] = types else { return internal_err!("a chain has terms") };
        let mut left = first.clone();
        let mut known: Option<((DataType, Operator, DataType), Step)> = None;
        for (operator, right) in self.operators.iter().zip(others) {
            let is_known = known.as_ref().is_some_and(|((l, op, r), _)| (l, op, r) == (&left, operator, right));
            if !is_known {
                let inputs = BinaryTypeCoercer::new(&left, operator, right).get_input_types()?;
                let result = BinaryTypeCoercer::new(&inputs.0, operator, &inputs.1).get_result_type()?;
                known = Some(((left.clone(), *operator, right.clone()), Step { inputs, result }));
            }
            if let Some((_, step)) = &known {
                each(step);
                left = step.result.clone();
            }
        }
        Ok(left)
    }

    fn name_of(&self, args: &[Expr], name: impl Fn(&Expr) -> Result<String>) -> Result<String> {
        let [first, others @ ..] = args else { return internal_err!("a chain has terms") };
        let mut text = name(first)?;
        for (operator, other) in self.operators.iter().zip(others) {
            // Writing to a String cannot fail.
            let _ = write!(text, " {operator} {}", name(other)?);
        }
        Ok(text)
    }

    fn apply(
        &self,
        left: ColumnarValue,
        operator: Operator,
        right: ColumnarValue,
        rows: usize,
    ) -> Result<ColumnarValue> {
        let are_integers = left.data_type() == DataType::Int64 && right.data_type() == DataType::Int64;
        if self.is_of_sqlite && may_overflow(operator) && are_integers {
            return checked_arithmetic(operator, &left, &right);
        }
        let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        let mut operand = |value: ColumnarValue| -> Arc<dyn PhysicalExpr> {
            match value {
                ColumnarValue::Scalar(value) => Arc::new(Literal::new(value)),
                ColumnarValue::Array(values) => {
                    fields.push(Field::new("term", values.data_type().clone(), true));
                    columns.push(values);
                    Arc::new(Column::new("term", columns.len() - 1))
                }
            }
        };
        let (left, right) = (operand(left), operand(right));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        PhysicalBinaryExpr::new(left, operator, right).evaluate(&batch)
    }
}

fn cast(value: ColumnarValue, to: &DataType) -> Result<ColumnarValue> {
    if value.data_type() == *to { Ok(value) } else { value.cast_to(to, None) }
}

impl ScalarUDFImpl for Chain {
    fn name(&self) -> &str {
        "operators"
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        self.name_of(args, |term| Ok(term.to_string()))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.name_of(args, |term| Ok(term.schema_name().to_string()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let mut coerced = Vec::with_capacity(types.len());
        self.fold_types(types, |step| {
            if coerced.is_empty() {
                coerced.push(step.inputs.0.clone());
            }
            coerced.push(step.inputs.1.clone());
        })?;
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.fold_types(types, |_| {})
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let mut inputs = Vec::with_capacity(self.operators.len());
        self.fold_types(&types, |step| inputs.push(step.inputs.clone()))?;
        let mut terms = args.args.into_iter();
        let Some(mut result) = terms.next() else { return internal_err!("a chain has terms") };
        for ((operator, term), (left, right)) in self.operators.iter().zip(terms).zip(&inputs) {
            result = self.apply(cast(result, left)?, *operator, cast(term, right)?, args.number_rows)?;
        }
        cast(result, args.return_field.data_type())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::super::Session;

    async fn answers(ctx: &SessionContext, sql: &str) -> Vec<String> {
        let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        text.lines().map(str::to_owned).collect()
    }

    /// A chain in parentheses of 8 terms each is a tree of DataFusion's own operators.
    #[tokio::test]
    async fn a_chain_answers_and_is_named_as_the_tree_of_its_operators() {
        let session = Session::new().unwrap();
        let plain = SessionContext::new();
        let tables =
            "(VALUES (1, 2.5, CAST(3 AS INT), 'a'), (-7, 1e300, NULL, 'ß'), (9, NULL, 5, NULL)) AS t(i, f, s, x)";
        let numbers = ["i", "f", "s", "CAST(i AS DECIMAL(9, 2))", "3", "NULL", "i * s", "0.5"];
        let texts = ["x", "'-'", "i", "f", "upper(x)", "NULL", "s"];
        for count in [15, 16, 17, 40, 100] {
            for turn in 0..6 {
                let operators = ["+", "-", "*", "+", "-"];
                let mut chain = numbers[turn % numbers.len()].to_owned();
                let mut text = format!("x || {}", texts[turn % texts.len()]);
                for term in 1..count {
                    let at = term * 7 + turn;
                    chain = format!("{chain} {} {}", operators[at % operators.len()], numbers[at / 3 % numbers.len()]);
                    text = format!("{text} || {}", texts[at % texts.len()]);
                }
                // Without the functions of decimals of more and more digits.
                let chain = if turn == 0 { chain } else { chain.replace("CAST(i AS DECIMAL(9, 2))", "i") };
                let sql = format!("SELECT {text} FROM {tables}");
                assert_eq!(answers(&session.ctx, &sql).await, answers(&plain, &sql).await, "{sql}");
                let sql = format!("SELECT {chain} FROM {tables}");
                let tree = match plain.sql(&sql).await {
                    Ok(frame) => frame.collect().await,
                    Err(error) => Err(error),
                };
                if tree.is_ok() {
                    assert_eq!(answers(&session.ctx, &sql).await, answers(&plain, &sql).await, "{sql}");
                    continue;
                }
                let frame = session.ctx.sql(&sql).await;
                assert!(frame.is_err() || frame.unwrap().collect().await.is_err(), "{sql}");
            }
        }
    }

    #[tokio::test]
    async fn a_chain_of_times_answers_as_the_tree_of_its_operators() {
        let session = Session::new().unwrap();
        let plain = SessionContext::new();
        let tables = "(VALUES (TIMESTAMP '2024-02-29 12:00:00', DATE '2024-01-31', INTERVAL '1 month 2 days'), \
                      (NULL, DATE '1969-12-31', INTERVAL '-3 hours')) AS t(at, day, i)";
        for first in ["at", "day", "i", "at - TIMESTAMP '2024-01-01 00:00:00'", "INTERVAL '5 minutes'"] {
            for count in [15, 16, 17, 60] {
                let terms = ["i", "INTERVAL '1 day'", "INTERVAL '1 month'", "INTERVAL '-7 seconds'"];
                let others = (1..count).map(|term| format!(" {} {}", ["+", "-"][term / 3 % 2], terms[term % 4]));
                let sql = format!("SELECT {first}{} AS x FROM {tables}", others.collect::<String>());
                let tree = match plain.sql(&sql).await {
                    Ok(frame) => frame.collect().await,
                    Err(error) => Err(error),
                };
                if tree.is_ok() {
                    assert_eq!(answers(&session.ctx, &sql).await, answers(&plain, &sql).await, "{sql}");
                    continue;
                }
                let frame = session.ctx.sql(&sql).await;
                assert!(frame.is_err() || frame.unwrap().collect().await.is_err(), "{sql}");
            }
        }
    }

    #[tokio::test]
    async fn a_long_chain_is_one_function() {
        let session = Session::new().unwrap();
        let sql = format!("SELECT {} FROM (VALUES (1)) AS t(i)", vec!["i"; 1500].join(" + "));
        let plan = session.ctx.sql(&sql).await.unwrap().into_unoptimized_plan();
        let datafusion::logical_expr::LogicalPlan::Projection(projection) = plan else { panic!("a projection") };
        let datafusion::logical_expr::Expr::ScalarFunction(call) = &projection.expr[0] else { panic!("a function") };
        assert_eq!(call.args.len(), 1500);
        assert!(answers(&session.ctx, &sql).await[3].contains("1500"));
    }
}
