//! Replaces DataFusion's syntax for SQLite's functions, CAST and `||` by calls of SQLite's
//! functions.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};

use super::convert::{canonical, to_integer, to_real, to_text};
use super::{FUNCTIONS, SqliteFunction};

/// Plans `substr`, which the parser knows as syntax.
#[derive(Debug)]
pub(crate) struct Calls;

impl ExprPlanner for Calls {
    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        match FUNCTIONS.iter().find(|function| function.name == "substr") {
            Some(substr) => Ok(PlannerResult::Planned(SqliteFunction::of(substr).call(args))),
            None => Ok(PlannerResult::Original(args)),
        }
    }
}

/// Casts as SQLite does, if DataFusion's result differs or its cast fails.
#[derive(Debug)]
pub(crate) struct Casts;

impl FunctionRewrite for Casts {
    fn name(&self) -> &str {
        "sqlite_casts"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::Cast(Cast { expr, field }) => match SqliteCast::between(&expr, field.data_type(), schema) {
                Some(cast) => Transformed::yes(cast.call(vec![*expr])),
                None => Transformed::no(Expr::Cast(Cast { expr, field })),
            },
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                let text = |expr: Expr| match SqliteCast::between(&expr, &DataType::Utf8, schema) {
                    Some(cast) => Transformed::yes(cast.call(vec![expr])),
                    None => Transformed::no(expr),
                };
                let (left, right) = (text(*left), text(*right));
                let is_changed = left.transformed || right.transformed;
                let (left, right) = (Box::new(left.data), Box::new(right.data));
                let joined = Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right });
                if is_changed { Transformed::yes(joined) } else { Transformed::no(joined) }
            }
            other => Transformed::no(other),
        })
    }
}

/// A CAST to int64, float64 or utf8.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SqliteCast {
    to: DataType,
    signature: Signature,
}

impl SqliteCast {
    /// Returns SQLite's CAST of an expression to a type; `None` if DataFusion's cast has the same
    /// result, or if SQLite has no such CAST.
    fn between(expr: &Expr, to: &DataType, schema: &DFSchema) -> Option<ScalarUDF> {
        let from = expr.get_type(schema).ok()?;
        let differs = match (&from, to) {
            (DataType::Boolean, DataType::Float64 | DataType::Utf8) => true,
            (from, DataType::Int64 | DataType::Float64) if from.is_string() => true,
            (from, DataType::Int64 | DataType::Utf8) => from.is_floating(),
            _ => false,
        };
        let signature = Signature::new(TypeSignature::UserDefined, Volatility::Immutable);
        differs.then(|| ScalarUDF::from(Self { to: to.clone(), signature }))
    }
}

impl ScalarUDFImpl for SqliteCast {
    fn name(&self) -> &str {
        match self.to {
            DataType::Int64 => "sqlite_integer",
            DataType::Float64 => "sqlite_real",
            _ => "sqlite_text",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types.iter().map(canonical).collect::<Option<Vec<_>>>() {
            Some(types) if types.len() == 1 => Ok(types),
            _ => plan_err!("{}: expected a number, text or a bool, got {types:?}", self.name()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let cast: fn(&ArrayRef) -> Result<ArrayRef> = match self.to {
            DataType::Int64 => to_integer,
            DataType::Float64 => to_real,
            _ => to_text,
        };
        match &args.args[..] {
            [ColumnarValue::Array(column)] => Ok(ColumnarValue::Array(cast(column)?)),
            [ColumnarValue::Scalar(value)] => {
                let cast = cast(&value.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&cast, 0)?))
            }
            other => plan_err!("{}: expected one argument, got {}", self.name(), other.len()),
        }
    }
}
