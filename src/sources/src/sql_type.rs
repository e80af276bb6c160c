//! Maps SQL type names to Arrow types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::plan_err;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, TimezoneInfo};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

const KNOWN: &str = "STRING, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), DATE, TIME, TIMESTAMP, BYTEA, \
                     VECTOR(n) or an array of one of these";

/// Maximum number of components of a vector in a declaration or a cast of SQL.
pub const MAX_DIMENSION: i32 = 65_536;

/// Returns the Arrow type of a type that sqlparser has parsed, as DataFusion's own `CREATE TABLE`
/// does; in addition `VECTOR(n)`, which is `FLOAT[n]`. A TIMESTAMP is in nanoseconds, with a time
/// zone in UTC.
///
/// # Errors
/// A type without an Arrow type; the message lists the supported types.
pub(crate) fn arrow(written: &SqlType) -> Result<DataType, String> {
    let list_item = |item: &SqlType| Ok::<_, String>(Arc::new(Field::new_list_field(arrow(item)?, true)));
    let is_precision = |digits: &Option<u64>| matches!(digits, None | Some(0 | 3 | 6 | 9));
    Ok(match written {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::TinyInt(_) => DataType::Int8,
        SqlType::SmallInt(_) | SqlType::Int2(_) | SqlType::Int16 => DataType::Int16,
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) | SqlType::Int32 => DataType::Int32,
        SqlType::BigInt(_) | SqlType::Int8(_) | SqlType::Int64 => DataType::Int64,
        SqlType::TinyIntUnsigned(_) | SqlType::UTinyInt | SqlType::UInt8 => DataType::UInt8,
        SqlType::SmallIntUnsigned(_) | SqlType::Int2Unsigned(_) | SqlType::USmallInt | SqlType::UInt16 => {
            DataType::UInt16
        }
        SqlType::IntUnsigned(_) | SqlType::IntegerUnsigned(_) | SqlType::Int4Unsigned(_) | SqlType::UInt32 => {
            DataType::UInt32
        }
        SqlType::BigIntUnsigned(_) | SqlType::Int8Unsigned(_) | SqlType::UBigInt | SqlType::UInt64 => DataType::UInt64,
        SqlType::Float(_) | SqlType::Real | SqlType::Float4 | SqlType::Float32 => DataType::Float32,
        SqlType::Double(ExactNumberInfo::None) | SqlType::DoublePrecision | SqlType::Float8 | SqlType::Float64 => {
            DataType::Float64
        }
        SqlType::Numeric(digits) | SqlType::Decimal(digits) | SqlType::Dec(digits) => decimal(written, digits)?,
        SqlType::Char(None) | SqlType::Varchar(None) | SqlType::Text | SqlType::String(None) => DataType::Utf8,
        SqlType::Bytea | SqlType::Blob(None) | SqlType::Binary(None) | SqlType::Varbinary(None) => DataType::Binary,
        SqlType::Date | SqlType::Date32 => DataType::Date32,
        SqlType::Time(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Time64(TimeUnit::Nanosecond)
        }
        SqlType::Timestamp(digits, zone) if is_precision(digits) => {
            let unit = match digits {
                Some(0) => TimeUnit::Second,
                Some(3) => TimeUnit::Millisecond,
                Some(6) => TimeUnit::Microsecond,
                _ => TimeUnit::Nanosecond,
            };
            let is_zoned = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
            DataType::Timestamp(unit, is_zoned.then(|| "UTC".into()))
        }
        SqlType::Array(ArrayElemTypeDef::SquareBracket(item, Some(dim))) => {
            DataType::FixedSizeList(list_item(item)?, dimension(written, Some(*dim))?)
        }
        SqlType::Array(ArrayElemTypeDef::SquareBracket(item, None) | ArrayElemTypeDef::AngleBracket(item)) => {
            DataType::List(list_item(item)?)
        }
        SqlType::Custom(name, arguments) if name.to_string().eq_ignore_ascii_case("vector") => {
            let dim = match arguments.as_slice() {
                [dim] => dim.parse().ok(),
                _ => None,
            };
            let item = Arc::new(Field::new_list_field(DataType::Float32, true));
            DataType::FixedSizeList(item, dimension(written, dim)?)
        }
        other => return Err(format!("unknown type {other}: expected {KNOWN}")),
    })
}

/// Makes `VECTOR(n)` a type of a session's SQL: in CREATE TABLE and in casts.
#[derive(Debug)]
pub struct VectorTypes;

impl TypePlanner for VectorTypes {
    fn plan_type_field(&self, written: &SqlType) -> datafusion::common::Result<Option<FieldRef>> {
        match written {
            SqlType::Custom(name, _) if name.to_string().eq_ignore_ascii_case("vector") => match arrow(written) {
                Ok(data_type) => Ok(Some(Arc::new(Field::new_list_field(data_type, true)))),
                Err(problem) => plan_err!("{problem}"),
            },
            _ => Ok(None),
        }
    }
}

fn dimension(written: &SqlType, dim: Option<u64>) -> Result<i32, String> {
    let dim = dim.and_then(|dim| i32::try_from(dim).ok()).filter(|dim| (1..=MAX_DIMENSION).contains(dim));
    dim.ok_or_else(|| format!("type {written}: expected a dimension from 1 to {MAX_DIMENSION}"))
}

fn decimal(written: &SqlType, digits: &ExactNumberInfo) -> Result<DataType, String> {
    let (precision, scale) = match *digits {
        ExactNumberInfo::None => (38, 10),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if (0..=precision as i8).contains(&scale) => {
            Ok(DataType::Decimal128(precision, scale))
        }
        _ => Err(format!("type {written}: expected at most 38 digits, and of these at most all after the point")),
    }
}

/// Parses a type by its name in SQL, as in `BIGINT`.
///
/// # Errors
/// As [`arrow`]; text that is not a type.
pub(crate) fn parse(text: &str) -> Result<DataType, String> {
    let dialect = GenericDialect {};
    let unknown = || format!("unknown type {text}: expected {KNOWN}");
    let mut parser = Parser::new(&dialect).try_with_sql(text).map_err(|_| unknown())?;
    let written = parser.parse_data_type().map_err(|_| unknown())?;
    match parser.next_token().token {
        datafusion::sql::sqlparser::tokenizer::Token::EOF => arrow(&written),
        _ => Err(unknown()),
    }
}
