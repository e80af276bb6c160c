//! The definition of an exact search, in the simplest code. Every other path is tested against it,
//! and the refinement of survivors calls [`distance`] itself.
//!
//! Numerics: the query is kept in `f64`; stored components are widened to `f64` (exact); sums run
//! in component order, multiply then add, no FMA. `cosine` is `1 - dot / (√xx · √qq)`, `l2` the
//! square root of the sum of squared differences, `l1` the sum of absolute differences.
//!
//! A vector of bits has a component 0 or 1 for each, the least significant bit of a byte first.
//! `hamming` counts the components that differ; `jaccard` is `1 - both / either`, over the
//! components that are set in both and in at least one of the two, and 0 if none is set in either.

use half::f16;

use crate::metric::Metric;

/// A component type of a vector: `f32`, `f16`, `f64`, `i8`, `u8`, or `bool` for bits.
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

impl Element for i8 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Element for u8 {
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Element for bool {
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
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
        Metric::L1 => Some(row.iter().zip(query).fold(0.0, |sum, (x, &q)| sum + (x.to_f64() - q).abs())),
        Metric::Hamming => Some(count(row, query, |x, q| x != q)),
        Metric::Jaccard => {
            let (both, either) = (count(row, query, |x, q| x && q), count(row, query, |x, q| x || q));
            Some(jaccard(both, either))
        }
    }
}

/// The number of components for which `holds`, of which all that are not zero count as set.
fn count<T: Element>(row: &[T], query: &[f64], holds: impl Fn(bool, bool) -> bool) -> f64 {
    row.iter().zip(query).filter(|(x, q)| holds(x.to_f64() != 0.0, **q != 0.0)).count() as f64
}

/// The distance of two sets of bits that have `both` in common and `either` together.
pub(crate) fn jaccard(both: f64, either: f64) -> f64 {
    if either == 0.0 { 0.0 } else { 1.0 - both / either }
}

/// The components of a vector of bits.
pub fn bits(bytes: &[u8]) -> Vec<bool> {
    bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect()
}

/// Components 0 and 1 as a vector of bits: the inverse of [`bits`]. Every other component counts as
/// 1.
pub fn packed(components: &[f64]) -> Vec<u8> {
    let byte = |bits: &[f64]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit != 0.0));
    components.chunks(8).map(byte).collect()
}

/// [`distance`] of two vectors of bits, of one length; `None` for a metric of numbers.
pub fn distance_of_bits(metric: Metric, row: &[u8], query: &[u8]) -> Option<f64> {
    let count = |combine: fn(u8, u8) -> u8| -> f64 {
        row.iter().zip(query).map(|(x, q)| u64::from(combine(*x, *q).count_ones())).sum::<u64>() as f64
    };
    match metric {
        Metric::Hamming => Some(count(|x, q| x ^ q)),
        Metric::Jaccard => Some(jaccard(count(|x, q| x & q), count(|x, q| x | q))),
        _ => None,
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

/// The late interaction of a row's token vectors with those of a query: for each query token the
/// largest inner product with a token of the row, summed in the order of the query. `None` for a
/// row without tokens, one with a component that is not finite, and magnitudes that overflow `f64`
/// to `NaN`.
pub fn max_sim<T: Element>(row: &[&[T]], query: &[&[f64]]) -> Option<f64> {
    let is_finite = |token: &&[T]| token.iter().all(|x| x.to_f64().is_finite());
    if row.is_empty() || !row.iter().all(is_finite) {
        return None;
    }
    let mut sum = 0.0;
    for query in query {
        let mut largest = f64::NEG_INFINITY;
        for token in row {
            let dot = distance(Metric::Dot, token, query).filter(|dot| !dot.is_nan())?;
            largest = largest.max(dot);
        }
        sum += largest;
    }
    (!f64::is_nan(sum)).then_some(sum)
}

/// The k best of `rows` (`None` is a NULL row), best first, ties by position.
pub fn search<T: Element>(metric: Metric, rows: &[Option<&[T]>], query: &[f64], k: usize) -> Vec<(u64, f64)> {
    let mut ranked: Vec<_> =
        (0u64..).zip(rows).filter_map(|(position, row)| Some((position, score(metric, (*row)?, query)?))).collect();
    ranked.sort_by(|a, b| metric.key(a.1).total_cmp(&metric.key(b.1)).then(a.0.cmp(&b.0)));
    ranked.truncate(k);
    ranked
}
