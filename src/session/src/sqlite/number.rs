//! Numeric functions.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::convert::{integers, reals};
use super::evaluate;

/// Returns the closest real with this number of decimals, rounded half away from zero in decimal
/// notation; a negative number counts as 0.
pub(super) fn round(args: &[ArrayRef]) -> Result<ArrayRef> {
    let column = reals(&args[0])?;
    let places: Option<Int64Array> = args.get(1).map(integers).transpose()?;
    let is_whole = places.as_ref().is_none_or(|places| places.iter().flatten().all(|places| places <= 0));
    if !is_whole {
        let arguments = [Arc::new(column) as ArrayRef, Arc::clone(&args[1])].map(Into::into);
        return evaluate::query("SELECT round(?1, ?2)", &arguments, args[0].len(), &DataType::Float64);
    }
    let is_valid = |row| places.as_ref().is_none_or(|places| places.is_valid(row));
    let rounded = column.iter().enumerate().map(|(row, real)| real.filter(|_| is_valid(row)).and_then(whole));
    Ok(Arc::new(rounded.collect::<Float64Array>()))
}

fn whole(real: f64) -> Option<f64> {
    /// Bound from which on a real has no fraction.
    const WHOLE: f64 = 4_503_599_627_370_496.0;
    match real {
        _ if real.is_nan() => None,
        _ if real.abs() > WHOLE => Some(real),
        // The order matters: 0.5 is added before the fraction is cut off, and there is no -0.0.
        _ => Some((real + if real < 0.0 { -0.5 } else { 0.5 }) as i64 as f64),
    }
}
