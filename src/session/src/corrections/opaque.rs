//! Replaces casts and negations by functions if they do not keep values distinct or do not preserve
//! their order.
//!
//! DataFusion assumes that every cast does. So it moves the cast of a comparison to the constant
//! (apache/datafusion#23095, #22142, #22756), prunes row groups by cast bounds, treats a column as
//! constant if its cast is (#25523), and computes with bounds that the cast or the negation rejects
//! (#22028). A function is opaque to it: the function itself declares which values it maps to a
//! constant ([`preimage`](super::preimage)).

use std::hash::Hash;
use std::sync::Arc;

use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::format::{DEFAULT_CAST_OPTIONS, DEFAULT_FORMAT_OPTIONS};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::expressions::{CastExpr, TryCastExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use vexact_sql::negate;

use super::date_part;
use super::preimage::preimage;
use super::rewrite::rewrite_exprs;

const NULL_FOR_FAILURE: CastOptions<'static> = CastOptions { safe: true, format_options: DEFAULT_FORMAT_OPTIONS };

/// Replaces such casts and negations by functions.
#[derive(Debug)]
pub(super) struct OpaqueConversions;

impl AnalyzerRule for OpaqueConversions {
    fn name(&self) -> &str {
        "vexact_opaque_conversions"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_exprs(plan, is_candidate, opaque)
    }
}

fn is_candidate(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(_) | Expr::TryCast(_) | Expr::Negative(_) => true,
        Expr::BinaryExpr(BinaryExpr { op, .. }) => *op == Operator::Minus,
        Expr::ScalarFunction(call) => date_part::checked(call).is_some(),
        _ => false,
    }
}

fn opaque(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Cast(Cast { expr, field }) if is_lossy(&expr, &field, schema) => {
            Ok(Transformed::yes(Conversion::Cast(field).call(*expr)))
        }
        Expr::TryCast(TryCast { expr, field }) if is_lossy(&expr, &field, schema) => {
            Ok(Transformed::yes(Conversion::TryCast(field).call(*expr)))
        }
        // The negative of a column has a known order, except for integers, as the least one has no
        // opposite. The negative of other expressions has bounds that DataFusion does not know, and
        // then it assumes no order.
        Expr::Negative(expr) if is_variable(&expr) => match expr.get_type(schema) {
            Ok(number) if number.is_integer() || !matches!(*expr, Expr::Column(_)) => {
                Ok(Transformed::yes(negate(*expr)))
            }
            _ => Ok(Transformed::no(Expr::Negative(expr))),
        },
        // The difference of two dates is a number of days, whose bounds DataFusion computes as a
        // duration: a comparison of it is an internal error.
        Expr::BinaryExpr(BinaryExpr { ref left, ref right, .. })
            if is_variable(&expr) && [left, right].into_iter().all(|side| is_date(side, schema)) =>
        {
            Ok(Transformed::yes(same(expr)))
        }
        Expr::ScalarFunction(call) => Ok(match date_part::checked(&call) {
            Some(checked) => Transformed::yes(checked),
            None => Transformed::no(Expr::ScalarFunction(call)),
        }),
        other => Ok(Transformed::no(other)),
    }
}

fn is_date(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| matches!(data_type, DataType::Date32 | DataType::Date64))
}

fn is_lossy(expr: &Expr, to: &Field, schema: &DFSchema) -> bool {
    is_variable(expr) && expr.get_type(schema).is_ok_and(|from| !keeps_values_apart(&from, to.data_type()))
}

/// Returns true if an expression may differ from row to row.
pub(super) fn is_variable(expr: &Expr) -> bool {
    let varies = |expr: &Expr| {
        matches!(
            expr,
            Expr::Column(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::Placeholder(_)
        )
    };
    expr.exists(|expr| Ok(varies(expr))).unwrap_or(true) || expr.is_volatile()
}

/// Returns true if a cast never fails, maps different values to different results and preserves
/// their order.
fn keeps_values_apart(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary, Null, Time32, Time64,
    };

    let decimal = |data_type: &DataType| match data_type {
        Decimal32(precision, scale)
        | Decimal64(precision, scale)
        | Decimal128(precision, scale)
        | Decimal256(precision, scale) => Some((i32::from(*precision) - i32::from(*scale), i32::from(*scale))),
        _ => None,
    };
    match (from, to) {
        _ if from == to => true,
        (Null, _) => true,
        // Nested values are not compared with constants.
        _ if from.is_nested() || to.is_nested() => true,
        (Dictionary(_, from), to) => keeps_values_apart(from, to),
        (from, Dictionary(_, to)) => keeps_values_apart(from, to),
        (Boolean, to) => to.is_integer(),
        (from, to) if from.is_integer() && to.is_integer() => {
            let (from, to) = (integer(from), integer(to));
            to.0 <= from.0 && from.1 <= to.1
        }
        (from, to) if from.is_integer() && to.is_floating() => {
            let digits = match to {
                DataType::Float16 => 11,
                DataType::Float32 => 24,
                _ => 53,
            };
            let (least, greatest) = integer(from);
            least.unsigned_abs() <= 1 << digits && greatest.unsigned_abs() <= 1 << digits
        }
        (from, to) if from.is_integer() && decimal(to).is_some() => {
            let (least, greatest) = integer(from);
            let digits = least.unsigned_abs().max(greatest.unsigned_abs()).to_string().len() as i32;
            decimal(to).is_some_and(|(whole, scale)| digits <= whole && scale >= 0)
        }
        (from, to) if decimal(from).is_some() => {
            decimal(from).zip(decimal(to)).is_some_and(|(from, to)| from.0 <= to.0 && from.1 <= to.1)
        }
        (DataType::Float16, DataType::Float32 | DataType::Float64) | (DataType::Float32, DataType::Float64) => true,
        (Date32, Date64) | (Time32(_), Time64(_)) => true,
        (from, to) if from.is_string() && to.is_string() => true,
        (from, to) => is_binary(from) && is_binary(to),
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// Returns the least and the greatest integer of a type.
pub(super) fn integer(data_type: &DataType) -> (i128, i128) {
    match data_type {
        DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::UInt8 => (0, u8::MAX.into()),
        DataType::UInt16 => (0, u16::MAX.into()),
        DataType::UInt32 => (0, u32::MAX.into()),
        DataType::UInt64 => (0, u64::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

/// Conversion that a function applies to its argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Conversion {
    Cast(FieldRef),
    TryCast(FieldRef),
    /// No conversion.
    Same,
}

impl Conversion {
    fn call(self, argument: Expr) -> Expr {
        let name = match &self {
            Self::Cast(to) => format!("cast_as_{}", to.data_type()),
            Self::TryCast(to) => format!("try_cast_as_{}", to.data_type()),
            Self::Same => "same".into(),
        };
        let signature = Signature::any(1, Volatility::Immutable);
        ScalarUDF::from(Opaque { conversion: self, name, signature }).call(vec![argument])
    }

    fn written(&self, argument: &dyn std::fmt::Display) -> String {
        match self {
            Self::Cast(to) => format!("CAST({argument} AS {})", to.data_type()),
            Self::TryCast(to) => format!("TRY_CAST({argument} AS {})", to.data_type()),
            Self::Same => argument.to_string(),
        }
    }
}

/// Returns an expression with the same value that is opaque to DataFusion: it knows neither the
/// order nor the parts of it.
pub(super) fn same(expr: Expr) -> Expr {
    Conversion::Same.call(expr)
}

/// Returns a conversion as the expression that it replaces; `None` for another call.
pub(super) fn plain(call: &ScalarFunctionExpr) -> Option<Arc<dyn PhysicalExpr>> {
    let opaque = call.fun().inner().downcast_ref::<Opaque>()?;
    let argument = Arc::clone(call.args().first()?);
    Some(match &opaque.conversion {
        Conversion::Cast(to) => Arc::new(CastExpr::new(argument, to.data_type().clone(), Some(DEFAULT_CAST_OPTIONS))),
        Conversion::TryCast(to) => Arc::new(TryCastExpr::new(argument, to.data_type().clone())),
        Conversion::Same => argument,
    })
}

/// A conversion as a function without a name in SQL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Opaque {
    conversion: Conversion,
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for Opaque {
    fn name(&self) -> &str {
        &self.name
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let [argument] = args else { return internal_err!("{} has one argument", self.name) };
        Ok(self.conversion.written(argument))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [argument] = args else { return internal_err!("{} has one argument", self.name) };
        Ok(self.conversion.written(&argument.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(match &self.conversion {
            Conversion::Cast(to) | Conversion::TryCast(to) => to.data_type().clone(),
            Conversion::Same => args[0].clone(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let argument = &args.arg_fields[0];
        let is_nullable = argument.is_nullable() || matches!(self.conversion, Conversion::TryCast(_));
        let data_type = self.return_type(std::slice::from_ref(argument.data_type()))?;
        Ok(Arc::new(Field::new(self.name(), data_type, is_nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [argument] = &args.args[..] else { return internal_err!("{} has one argument", self.name) };
        match &self.conversion {
            Conversion::Cast(to) => argument.cast_to(to.data_type(), Some(&DEFAULT_CAST_OPTIONS)),
            Conversion::TryCast(to) => argument.cast_to(to.data_type(), Some(&NULL_FOR_FAILURE)),
            Conversion::Same => Ok(argument.clone()),
        }
    }

    fn preimage(&self, args: &[Expr], constant: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        let ([argument], Expr::Literal(value, _)) = (args, constant) else { return Ok(PreimageResult::None) };
        let (to, is_try) = match &self.conversion {
            Conversion::Cast(to) => (to.data_type(), false),
            Conversion::TryCast(to) => (to.data_type(), true),
            Conversion::Same => return Ok(PreimageResult::None),
        };
        // The argument may be duplicated.
        if argument.is_volatile() || &value.data_type() != to {
            return Ok(PreimageResult::None);
        }
        Ok(match preimage(&info.get_data_type(argument)?, value, is_try) {
            Some(interval) => PreimageResult::Range { expr: argument.clone(), interval: Box::new(interval) },
            None => PreimageResult::None,
        })
    }
}
