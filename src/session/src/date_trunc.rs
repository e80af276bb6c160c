//! `date_trunc` of times outside the range of nanoseconds, which DataFusion's function rejects:
//! it converts to nanoseconds first, which have the years 1677 to 2262.
//!
//! The calendar repeats after 400 years, weeks included. So a time outside the range is moved by a
//! multiple of 400 years into it, truncated, and moved back.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowTimestampType, DataType, FieldRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampSecondType,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// Seconds of 400 years.
const CYCLE: i64 = 146_097 * 86_400;
/// The years 1680 to 2259, in seconds since 1970: DataFusion's function truncates them.
const NEAR: Range<i64> = -9_151_488_000..9_151_488_000;
/// 1800-01-01, in seconds since 1970. The 400 years from it are near.
const START: i64 = -5_364_662_400;

/// Returns the function that takes the place of DataFusion's.
pub(super) fn function(inner: Arc<ScalarUDF>) -> ScalarUDF {
    ScalarUDF::from(DateTrunc(inner))
}

/// DataFusion's function, for times of every year.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc(Arc<ScalarUDF>);

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.0.return_type(args)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.0.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.get(1).map(ColumnarValue::data_type) {
            Some(DataType::Timestamp(TimeUnit::Second, _)) => self.invoke::<TimestampSecondType>(args),
            Some(DataType::Timestamp(TimeUnit::Millisecond, _)) => self.invoke::<TimestampMillisecondType>(args),
            Some(DataType::Timestamp(TimeUnit::Microsecond, _)) => self.invoke::<TimestampMicrosecondType>(args),
            _ => self.0.invoke_with_args(args),
        }
    }
}

impl DateTrunc {
    fn invoke<T: ArrowTimestampType>(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let per_second = match T::UNIT {
            TimeUnit::Second => 1,
            TimeUnit::Millisecond => 1_000,
            TimeUnit::Microsecond => 1_000_000,
            TimeUnit::Nanosecond => 1_000_000_000,
        };
        let Some(times) = args.args.get_mut(1) else { return self.0.invoke_with_args(args) };
        let is_scalar = matches!(times, ColumnarValue::Scalar(_));
        let array = times.to_array(1)?;
        let values = array.as_primitive::<T>();
        // The number of cycles between a time and the one near it that it is truncated as.
        let cycles = |time: i64| match NEAR.contains(&time.div_euclid(per_second)) {
            true => 0,
            false => (time.div_euclid(per_second) - START).div_euclid(CYCLE),
        };
        if values.iter().flatten().all(|time| cycles(time) == 0) {
            return self.0.invoke_with_args(args);
        }
        if let Some(zone) = values.timezone().filter(|zone| !is_fixed(zone)) {
            return exec_err!(
                "date_trunc: expected times of the years 1680 to 2259 in the time zone {zone:?}, whose offsets differ from year to \
                 year, got one outside them"
            );
        }
        let zone = values.timezone().map(Arc::from);
        let cycle = CYCLE * per_second;
        let near: PrimitiveArray<T> = values.unary(|time| time - cycles(time) * cycle);
        let near: ArrayRef = Arc::new(near.with_timezone_opt::<Arc<str>>(zone.clone()));
        *times = match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&near, 0)?),
            false => ColumnarValue::Array(near),
        };
        let truncated = self.0.invoke_with_args(args)?.to_array(values.len())?;
        let truncated = truncated.as_primitive::<T>();
        let far = values.iter().zip(truncated).map(|(time, truncated)| match (time, truncated) {
            (Some(time), Some(truncated)) => {
                let far = truncated.checked_add(cycles(time) * cycle);
                far.map(Some).ok_or_else(|| {
                    exec_datafusion_err!("date_trunc: expected a time within {}, got one before it", T::DATA_TYPE)
                })
            }
            _ => Ok(None),
        });
        let far: PrimitiveArray<T> = far.collect::<Result<_>>()?;
        let far: ArrayRef = Arc::new(far.with_timezone_opt::<Arc<str>>(zone));
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&far, 0)?),
            false => ColumnarValue::Array(far),
        })
    }
}

/// Returns true for a time zone with one offset: `+02:00`, `UTC`.
fn is_fixed(zone: &str) -> bool {
    zone.starts_with(['+', '-']) || zone.eq_ignore_ascii_case("utc") || zone.eq_ignore_ascii_case("z")
}

#[cfg(test)]
mod tests {
    use super::super::Session;

    async fn answer(sql: &str) -> Result<String, String> {
        let session = Session::new().unwrap();
        let frame = session.sql(sql, None).await.map_err(|error| error.to_string())?;
        let batches = frame.collect().await.map_err(|error| error.to_string())?;
        Ok(arrow::util::display::array_value_to_string(batches[0].column(0), 0).unwrap())
    }

    #[tokio::test]
    async fn times_of_every_year_are_truncated() {
        for (part, time, expected) in [
            ("year", "0001-06-01 12:30:00", "0001-01-01T00:00:00"),
            ("quarter", "0001-06-01 12:30:00", "0001-04-01T00:00:00"),
            ("month", "1600-02-29 12:30:00", "1600-02-01T00:00:00"),
            ("week", "0001-01-03 00:00:00", "0001-01-01T00:00:00"),
            ("week", "9999-12-31 23:59:59", "9999-12-27T00:00:00"),
            ("day", "9999-12-31 23:59:59", "9999-12-31T00:00:00"),
            ("hour", "1600-02-29 12:30:00", "1600-02-29T12:00:00"),
            ("year", "2024-06-01 00:00:00", "2024-01-01T00:00:00"),
        ] {
            for unit in ["Second", "Millisecond", "Microsecond"] {
                let time = format!("arrow_cast('{time}', 'Timestamp({unit}, None)')");
                for time in [
                    time.clone(),
                    format!("t) FROM (SELECT {time} AS t UNION ALL SELECT {time} LIMIT 1) AS s WHERE (true"),
                ] {
                    let sql = format!("SELECT date_trunc('{part}', {time})");
                    assert_eq!(answer(&sql).await.as_deref(), Ok(expected), "{sql}");
                }
            }
        }
    }

    #[tokio::test]
    async fn zones_of_one_offset_are_kept_and_others_refused() {
        let of = |zone| {
            format!(
                "SELECT date_trunc('day', arrow_cast('0001-06-01T01:00:00Z', 'Timestamp(Second, Some(\"{zone}\"))'))"
            )
        };
        assert_eq!(answer(&of("UTC")).await.as_deref(), Ok("0001-06-01T00:00:00Z"));
        assert_eq!(answer(&of("-02:00")).await.as_deref(), Ok("0001-05-31T00:00:00-02:00"));
        let error = answer(&of("Europe/Berlin")).await.unwrap_err();
        assert!(error.contains("\"Europe/Berlin\"") && error.contains("1680 to 2259"), "{error}");
    }
}
