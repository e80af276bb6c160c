//! The definition of an exact search, in the simplest code. Every other path is tested against it,
//! and the refinement of survivors calls [`distance`] itself.
//!
//! Numerics: the query is kept in `f64`; stored components are widened to `f64` (exact); sums run
//! in component order, multiply then add, no FMA. `cosine` is `1 - dot / (√xx · √qq)`, `l2` the
//! square root of the sum of squared differences.

use half::f16;

use crate::metric::Metric;

/// A component type of a stored vector: `f32`, `f16` or `f64`.
pub trait Element: Copy + Send + Sync + 'static {
    /// The value, widened exactly.
    fn to_f64(self) -> f64;
}

impl Element for f32 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f16 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

/// The distance of two vectors of one length as SQL's functions define it: not clamped, `NaN` and
/// infinities as the arithmetic gives them, `None` under cosine where one of them has zero length.
pub fn distance<T: Element>(metric: Metric, row: &[T], query: &[f64]) -> Option<f64> {
    match metric {
        Metric::Cosine => {
            let (mut dot, mut xx, mut qq) = (0.0, 0.0, 0.0);
            for (x, &q) in row.iter().zip(query) {
                let x = x.to_f64();
                dot += x * q;
                xx += x * x;
                qq += q * q;
            }
            let is_zero = xx == 0.0 || qq == 0.0;
            (!is_zero).then(|| 1.0 - dot / (xx.sqrt() * qq.sqrt()))
        }
        Metric::Dot => Some(row.iter().zip(query).fold(0.0, |dot, (x, &q)| dot + x.to_f64() * q)),
        Metric::L2 => distance(Metric::L2Squared, row, query).map(f64::sqrt),
        Metric::L2Squared => Some(row.iter().zip(query).fold(0.0, |sum, (x, &q)| {
            let difference = x.to_f64() - q;
            sum + difference * difference
        })),
    }
}

/// The score of a row in a search: [`distance`], clamped to [0, 2] under cosine; `None` for a row
/// that cannot be compared (a non-finite component, zero length under cosine, or magnitudes whose
/// squares overflow `f64` to `NaN`).
pub fn score<T: Element>(metric: Metric, row: &[T], query: &[f64]) -> Option<f64> {
    if !row.iter().all(|x| x.to_f64().is_finite()) {
        return None;
    }
    let score = distance(metric, row, query).filter(|score| !score.is_nan())?;
    Some(if metric == Metric::Cosine { score.clamp(0.0, 2.0) } else { score })
}

/// The k best of `rows` (`None` is a NULL row), best first, ties by position.
pub fn search<T: Element>(metric: Metric, rows: &[Option<&[T]>], query: &[f64], k: usize) -> Vec<(u64, f64)> {
    let mut ranked: Vec<_> =
        (0u64..).zip(rows).filter_map(|(position, row)| Some((position, score(metric, (*row)?, query)?))).collect();
    ranked.sort_by(|a, b| metric.key(a.1).total_cmp(&metric.key(b.1)).then(a.0.cmp(&b.0)));
    ranked.truncate(k);
    ranked
}
