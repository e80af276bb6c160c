//! The bounds of a sketch for one query. The proofs stand in `docs/internals/exactness.md`.

use super::basis::{Certificate, SketchBasis};
use crate::arch::codes::{CodeForm, CodeKernels, CodeLimits, CodeWeights, WEIGHT_MAX, residuals};
use crate::metric::Metric;
use crate::query::Query;
use crate::tier::{U, at_least, at_most};

/// Norms of queries for which nothing in the scan over- or underflows.
const QUERY_NORMS: std::ops::RangeInclusive<f64> = 1.0 / (1_u64 << 60) as f64..=(1_u64 << 60) as f64;

/// Most components, so that sums of codes fit 32 bits.
pub(crate) const DIM_MAX: usize = 1 << 14;

/// Of the bound, this share may be added by rounding the query: a tenth costs 6 % more rows left,
/// and a quarter of the time of a tile less.
const LOSS: f64 = 0.1;

/// One query, against all sketches of one basis. With x̂ = x/‖x‖,
/// `|q·x̂ − (base + delta·sum)| ≤ inside·i + tail·t + constant` for a row with the residual norms i
/// and t.
pub(crate) struct SketchBound<'q> {
    query: &'q Query,
    metric: Metric,
    is_clamped: bool,
    pub weights: CodeWeights,
    base: f64,
    delta: f64,
    inside: f64,
    tail: f64,
    constant: f64,
    /// The part of the constant that `f32` arithmetic adds.
    rounding: f64,
    /// Factor that makes the bound too small, for the test of the tests.
    #[cfg(test)]
    pub factor: f64,
}

impl<'q> SketchBound<'q> {
    /// `None` where the bounds do not hold for the query.
    pub fn new(
        basis: &SketchBasis,
        kernels: &CodeKernels,
        metric: Metric,
        query: &'q Query,
        is_clamped: bool,
    ) -> Option<Self> {
        Self::with_loss(basis, kernels, metric, query, is_clamped, LOSS)
    }

    /// `loss` is the share of the bound that rounding the query to integers may add.
    pub(super) fn with_loss(
        basis: &SketchBasis,
        kernels: &CodeKernels,
        metric: Metric,
        query: &'q Query,
        is_clamped: bool,
        loss: f64,
    ) -> Option<Self> {
        let norm = query.norm;
        if metric == Metric::L1 || metric.is_of_bits() {
            return None;
        }
        if query.is_extreme() || basis.dim > DIM_MAX || !QUERY_NORMS.contains(&norm) {
            return None;
        }
        let Certificate { gram_error: eps, magnitude, typical, .. } = basis.certificate;
        let scaled = query.scaled();
        let count = basis.components.len();
        let (dim, terms) = (basis.dim as f64, (basis.dim + count + 32) as f64);
        let projected = if basis.matrix.is_empty() {
            scaled
        } else {
            let mut projected = vec![0.0; count];
            kernels.add_product(&basis.matrix, &scaled, &mut projected);
            projected
        };
        let square: f64 = projected.iter().map(|u| u * u).sum();
        let tail = match basis.matrix.is_empty() {
            true => 0.0,
            false => {
                (norm * norm * (1.0 + terms * 1e-15) - square * (1.0 - terms * 1e-15) / (1.0 + eps)).max(0.0).sqrt()
            }
        };
        let weighted = projected.iter().zip(&basis.components).map(|(u, c)| (u / f64::from(c.weight)).powi(2));
        let inside = weighted.sum::<f64>().sqrt();

        // The products of the query with the step of each code, as integers of 16 bits times delta.
        let products: Vec<f64> = basis.slots().map(|(i, step)| projected[i] * step).collect();
        let largest = basis.form.largest() as f64;
        let middle = largest / 2.0;
        let room = f64::from(i32::MAX) - 2.0 * largest - products.len() as f64 * 128.6 * largest;
        let (peak, total) =
            products.iter().fold((0.0_f64, 0.0), |(peak, total), w| (peak.max(w.abs()), total + w.abs()));
        // No finer than changes the bound: the small weights of the last components then fit a
        // byte.
        let useful = loss * inside * typical * 4.0 / (products.len() as f64 * middle);
        let finest = (peak / WEIGHT_MAX as f64).max(total * largest / room).max(norm * 1e-12).max(useful);
        let delta = f64::from(at_least(finest * 1.000_001));
        let weights: Vec<i16> = products.iter().map(|w| (w / delta).round() as i16).collect();
        let lost: f64 = products.iter().zip(&weights).map(|(w, k)| (w - delta * f64::from(*k)).abs()).sum();
        let centre: f64 = projected.iter().zip(&basis.components).map(|(u, c)| u * f64::from(c.centre)).sum();
        let base = centre - delta * middle * weights.iter().map(|k| f64::from(*k)).sum::<f64>();

        // Sums in `f64`, the reference's among them.
        let doubles = terms * 4.5e-16 * norm * (2.0 + magnitude * (1.0 + eps) * (count as f64).sqrt());
        let constant = lost * middle * 1.000_001 + doubles;
        let reach = delta * largest * weights.iter().map(|k| f64::from(*k).abs()).sum::<f64>();
        let rounding = 16.0 * U * (base.abs() + reach + constant) + 1e-36;
        debug_assert!(dim > 0.0 && (basis.form == CodeForm::Nibbles || products.len() == count));
        Some(Self {
            query,
            metric,
            is_clamped,
            weights: CodeWeights::new(basis.form, basis.stride, &weights),
            base,
            delta,
            inside: inside * (1.0 + 1e-9),
            tail: tail * (1.0 + 1e-9),
            constant,
            rounding,
            #[cfg(test)]
            factor: 1.0,
        })
    }

    /// Returns true if the norms of the rows are needed.
    pub fn needs_norms(&self) -> bool {
        self.metric != Metric::Cosine
    }

    /// Rounding of the reference's cosine.
    fn cosine_error(&self) -> f64 {
        (self.query.values.len() + 16) as f64 * 4.5e-16
    }

    fn slack(&self, inside: f64, tail: f64) -> f64 {
        let slack = self.inside * inside + self.tail * tail;
        #[cfg(test)]
        let slack = slack * self.factor;
        slack + self.constant
    }

    /// The test for a threshold: rejects only rows whose key is certainly above it.
    pub fn limits(&self, threshold: f64) -> CodeLimits {
        let wide = 1.0 + 24.0 * U;
        #[cfg(test)]
        let wide = wide * self.factor;
        let norm = self.query.norm;
        let underflow = self.query.values.len() as f64 * 2.0_f64.powi(-118);
        let l2 = |square: f64| {
            let qq = norm * norm;
            at_most((qq - square) / 2.0 - 8.0 * U * (qq + square) - underflow)
        };
        let limit = match self.metric {
            _ if threshold == f64::INFINITY => f32::NEG_INFINITY,
            // A clamped distance of 2 ties with every larger one.
            Metric::Cosine if self.is_clamped && threshold >= 2.0 => f32::NEG_INFINITY,
            Metric::Cosine => at_most((1.0 - threshold - self.cosine_error()) * norm),
            Metric::Dot => at_most(self.query.scale(-threshold) - underflow),
            Metric::L2 => l2(threshold.max(0.0).powi(2)),
            Metric::L2Squared => l2(threshold.max(0.0)),
            Metric::L1 | Metric::Hamming | Metric::Jaccard => f32::NEG_INFINITY,
        };
        let is_l2 = matches!(self.metric, Metric::L2 | Metric::L2Squared);
        CodeLimits {
            base: at_least(self.base + self.constant + self.rounding),
            delta: self.delta as f32,
            inside: at_least(self.inside * wide),
            tail: at_least(self.tail * wide),
            square: if is_l2 { at_least(-0.5 + 16.0 * U) } else { 0.0 },
            limit,
        }
    }

    /// An estimate to compare with [`CodeLimits::limit`], without a bound.
    pub fn estimate(&self, sum: i32, norm: f32) -> f64 {
        let cosine = self.base + self.delta * f64::from(sum);
        let norm = f64::from(norm);
        match self.metric {
            Metric::Cosine => cosine,
            Metric::Dot => norm * cosine,
            Metric::L2 | Metric::L2Squared => norm * (cosine - norm / 2.0),
            Metric::L1 | Metric::Hamming | Metric::Jaccard => 0.0,
        }
    }

    /// An interval that holds the key of a row; `None` where nothing can be said.
    pub fn interval(&self, sum: i32, word: u32, norm: f32) -> Option<(f64, f64)> {
        let (inside, tail) = residuals(word);
        let slack = self.slack(f64::from(inside), f64::from(tail));
        if !slack.is_finite() {
            return None;
        }
        let estimate = self.base + self.delta * f64::from(sum);
        let (low, high) = (estimate - slack, estimate + slack);
        let norm = f64::from(norm);
        let scaled = |x: f64, up: f64| norm * x + up * 2.0 * U * norm * x.abs();
        Some(match self.metric {
            Metric::Cosine => {
                let (a, b) = (1.0 - high / self.query.norm, 1.0 - low / self.query.norm);
                let error = self.cosine_error() * 2.0;
                let (a, b) = (a - error, b + error);
                if self.is_clamped { (a.clamp(0.0, 2.0), b.clamp(0.0, 2.0)) } else { (a, b) }
            }
            Metric::L1 | Metric::Hamming | Metric::Jaccard => return None,
            Metric::Dot => (self.query.unscale(-scaled(high, 1.0)), self.query.unscale(-scaled(low, -1.0))),
            Metric::L2 | Metric::L2Squared => {
                let squares = self.query.norm * self.query.norm + norm * norm;
                let (a, b) = (squares - 2.0 * scaled(high, 1.0), squares - 2.0 * scaled(low, -1.0));
                let error = 8.0 * U * squares;
                let (a, b) = ((a - error).max(0.0), (b + error).max(0.0));
                match self.metric {
                    Metric::L2Squared => (a, b),
                    _ => (a.sqrt() * (1.0 - U), b.sqrt() * (1.0 + U)),
                }
            }
        })
    }
}
