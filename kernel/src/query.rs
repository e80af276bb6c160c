//! A query vector, validated once and kept in the forms that the scan needs.

use crate::error::{KernelError, Result};
use crate::metric::Metric;
use crate::reference::Element;

/// A finite, non-empty query; under cosine of non-zero length.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// The components as given.
    pub values: Vec<f64>,
    /// `2^-exponent · values` rounded to `f32`: what the fast path multiplies with.
    pub rounded: Vec<f32>,
    /// Cosine and dot are linear in the query, so it is scaled by a power of two (exact) to lie
    /// well inside `f32`.
    pub exponent: i32,
    /// `‖2^-exponent · values‖`.
    pub norm: f64,
    /// `‖2^-exponent · values - rounded‖`, what rounding to `f32` lost.
    pub residual: f64,
}

/// Beyond `2^±400` a product with a stored vector may overflow or vanish even in `f64`; the bounds
/// do not model that.
const EXPONENT_MAX: i32 = 400;
/// The bounds carry a slack of some percent, made for sums of up to this many terms.
const DIM_MAX: usize = 1 << 16;
/// Under l2, where the query cannot be scaled alone, squares have to stay inside `f32`.
const L2_NORM_MAX: f64 = (1_u64 << 60) as f64;

impl Query {
    pub fn try_new<T: Element>(metric: Metric, query: &[T]) -> Result<Self> {
        if query.is_empty() {
            return Err(KernelError::EmptyQuery);
        }
        let values: Vec<f64> = query.iter().map(|x| x.to_f64()).collect();
        if let Some(position) = values.iter().position(|x| !x.is_finite()) {
            return Err(KernelError::NonFiniteQuery { position, value: values[position] });
        }
        if metric.is_of_bits()
            && let Some(position) = values.iter().position(|x| *x != 0.0 && *x != 1.0)
        {
            return Err(KernelError::NotABit { position, value: values[position] });
        }
        let largest = values.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        // The reference divides by the root of the sum of squares, which underflows for components
        // under 2^-538.
        let is_zero = values.iter().map(|x| x * x).sum::<f64>() == 0.0;
        if metric == Metric::Cosine && is_zero {
            return Err(KernelError::ZeroQuery);
        }
        let exponent = match metric {
            Metric::Cosine | Metric::Dot if largest > 0.0 => largest.log2().floor() as i32,
            _ => 0,
        };
        // Two factors, because 2^-exponent itself overflows for a subnormal query.
        let (half, rest) = (exponent / 2, exponent - exponent / 2);
        let scaled = |x: f64| x * (-half as f64).exp2() * (-rest as f64).exp2();
        let rounded: Vec<f32> = values.iter().map(|&x| scaled(x) as f32).collect();
        let squares = |f: &dyn Fn(f64, f32) -> f64| -> f64 {
            values.iter().zip(&rounded).map(|(&x, &r)| f(scaled(x), r).powi(2)).sum::<f64>().sqrt()
        };
        let norm = squares(&|x, _| x);
        let residual = squares(&|x, r| x - f64::from(r)) * 1.000_001;
        Ok(Self { values, rounded, exponent, norm, residual })
    }

    /// `2^exponent`, from the scaled query's world back to the user's.
    pub fn unscale(&self, x: f64) -> f64 {
        let (half, rest) = (self.exponent / 2, self.exponent - self.exponent / 2);
        x * (half as f64).exp2() * (rest as f64).exp2()
    }

    /// The components as the scan sees them: `2^-exponent · values`, exactly.
    pub fn scaled(&self) -> Vec<f64> {
        self.values.iter().map(|x| self.scale(*x)).collect()
    }

    /// Returns true if the bounds of the `f32` scan do not hold for this query, so each row is
    /// computed in `f64`.
    pub fn is_extreme(&self) -> bool {
        self.values.len() > DIM_MAX || self.exponent.abs() > EXPONENT_MAX || self.norm > L2_NORM_MAX
    }

    /// The inverse of [`Self::unscale`].
    pub fn scale(&self, x: f64) -> f64 {
        let (half, rest) = (self.exponent / 2, self.exponent - self.exponent / 2);
        x * (-half as f64).exp2() * (-rest as f64).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_queries_are_refused() {
        assert_eq!(Query::try_new::<f32>(Metric::L2, &[]).unwrap_err(), KernelError::EmptyQuery);
        assert_eq!(Query::try_new(Metric::Cosine, &[0.0_f32, -0.0]).unwrap_err(), KernelError::ZeroQuery);
        assert_eq!(
            Query::try_new(Metric::L2, &[1.0, f64::INFINITY]).unwrap_err(),
            KernelError::NonFiniteQuery { position: 1, value: f64::INFINITY }
        );
        assert!(Query::try_new(Metric::L2, &[0.0_f32]).is_ok());
    }

    #[test]
    fn scaling_is_exact_and_brings_every_query_into_the_range_of_f32() {
        for x in [1e300, 1e-300, 5e-324, 1.0, 3.0e38] {
            let query = Query::try_new(Metric::Dot, &[x]).unwrap();
            assert!((1.0..=2.0).contains(&query.rounded[0]), "{x}: {:?}", query.rounded);
            assert_eq!(query.unscale(query.scale(x)), x);
        }
    }
}
