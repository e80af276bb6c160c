//! Tiers: the sources of an approximate value and its certified bound. This file has the `f32`
//! tier, which reads the stored vectors; those of the sketches, which read fewer bytes, are in
//! [`mod@crate::sketch`].
//!
//! # The bounds of the `f32` tier
//!
//! With u = 2⁻²⁴, a sum of n products in `f32`, each operation rounded once, in any order, is off
//! by at most γ = n·u / (1 − n·u) times the sum of the products' magnitudes (N. Higham, "Accuracy
//! and Stability of Numerical Algorithms", 2nd ed., section 3.1), and by Cauchy-Schwarz that is at
//! most γ‖x‖‖q‖. Rounding the query to `f32` adds ‖x‖·‖q − f32(q)‖, rounding a `Float64` row adds
//! u‖x‖‖q‖, underflow a few 2⁻¹²⁶ a term, even if the processor flushes subnormals. A sum of
//! absolute differences has no products: its terms are not negative, so γ is relative to the sum
//! itself, and the rounded query adds at most √n·‖q − f32(q)‖. The reference's
//! own rounding (n·2⁻⁵³) is covered by the slack in [`F32::gamma`].

use std::fmt;
use std::str::FromStr;

use crate::error::KernelError;
use crate::metric::Metric;
use crate::query::Query;

/// A source of approximations, as a user names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tier {
    /// The tier that is expected to be fastest.
    #[default]
    Auto,
    /// The stored vectors, in `f32` arithmetic.
    F32,
    /// A sketch of one byte for each component, where there is one.
    I8,
    /// A sketch of 4-bit digits along the principal components, where there is one.
    Pca4,
    /// The stored vectors of whole numbers or bits, in integer arithmetic, which needs no bounds.
    /// Only in reports: where it applies, it is what [`Tier::Auto`] uses.
    Integer,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Auto => "auto",
            Tier::F32 => "f32",
            Tier::I8 => "i8",
            Tier::Pca4 => "pca4",
            Tier::Integer => "integer",
        })
    }
}

impl FromStr for Tier {
    type Err = KernelError;

    /// Parses a name, in any case. `off` is `f32`: no sketches.
    fn from_str(name: &str) -> Result<Self, KernelError> {
        match name.to_ascii_lowercase().as_str() {
            "auto" => Ok(Tier::Auto),
            "f32" | "off" => Ok(Tier::F32),
            "i8" => Ok(Tier::I8),
            "pca4" => Ok(Tier::Pca4),
            _ => Err(KernelError::UnknownTier { got: name.into() }),
        }
    }
}

/// The rejection test of one query, in `f32`: a row with value `v` and square `s` cannot reach the
/// threshold where `v + a·√s + b·s < t`. A row whose square is not [ordinary](Form::is_ordinary)
/// cannot be judged at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    pub a: f32,
    pub b: f32,
    pub t: f32,
}

impl Limits {
    /// Rejects nothing.
    pub const NONE: Limits = Limits { a: 0.0, b: 0.0, t: f32::NEG_INFINITY };

    /// The same test, written for one row. NaN is not rejected.
    pub fn reject(&self, value: f32, square: f32) -> bool {
        value + self.a * square.sqrt() + self.b * square < self.t
    }
}

/// Smallest and largest square for which the relative bounds hold: inside, nothing has overflowed,
/// underflow is negligible, and the row is neither zero nor contains a NaN or an infinity.
pub(crate) const SQUARE_MIN: f32 = 1.0 / (1_u64 << 60) as f32;
pub(crate) const SQUARE_MAX: f32 = (1_u128 << 100) as f32;

/// How a row's `value` and `square` were computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// value = x·q, square = x·x.
    DotAndSquare,
    /// value = −Σ(x − q)², square = Σ(x − q)².
    Differences,
    /// value = −Σ|x − q|, square = Σ|x − q|.
    AbsoluteDifferences,
}

impl Form {
    /// Returns true if a bound can judge a row of this square.
    pub fn is_ordinary(self, square: f32) -> bool {
        match self {
            Form::DotAndSquare => (SQUARE_MIN..=SQUARE_MAX).contains(&square),
            Form::Differences | Form::AbsoluteDifferences => square <= SQUARE_MAX,
        }
    }
}

/// The bounds of a tier for one query: an interval for each row's key, and the test that most rows
/// fail. Keys are distances, and negated scores under `dot`, so that smaller is closer.
pub(crate) trait Approximation {
    /// The test for a threshold: rejects only rows whose key is certainly above `threshold`.
    fn limits(&self, threshold: f64) -> Limits;

    /// An interval that holds the key; `None` where nothing can be said.
    fn interval(&self, value: f32, square: f32) -> Option<(f64, f64)>;
}

/// The `f32` tier's bounds for one query over one column.
#[derive(Debug, Clone)]
pub(crate) struct F32<'q> {
    query: &'q Query,
    metric: Metric,
    form: Form,
    /// Relative error of a sum.
    gamma: f64,
    /// Relative error of a stored component's conversion to `f32`.
    stored: f64,
    /// Absolute error of a sum by underflow.
    underflow: f64,
    /// Error of a dot product, as a multiple of ‖x‖.
    dot_error: f64,
    is_clamped: bool,
}

/// One rounding of an `f32` operation, relative.
pub(crate) const U: f64 = 1.0 / (1_u64 << 24) as f64;

/// The nearest `f32` that is not above.
pub(crate) fn at_most(x: f64) -> f32 {
    (x as f32).next_down()
}

/// The nearest `f32` that is not below.
pub(crate) fn at_least(x: f64) -> f32 {
    (x as f32).next_up()
}

impl<'q> F32<'q> {
    /// `is_rounded`: the stored components are wider than `f32`. `is_clamped`: cosine is kept
    /// within [0, 2].
    pub fn new(metric: Metric, query: &'q Query, form: Form, is_rounded: bool, is_clamped: bool) -> Self {
        let n = query.values.len() as f64;
        let gamma = 1.02 * (n + 8.0) * U / (1.0 - (n + 8.0) * U).max(0.5);
        let stored = if is_rounded { 1.01 * U } else { 0.0 };
        let norm = query.norm * (1.0 + U);
        Self {
            query,
            metric,
            form,
            gamma,
            stored,
            underflow: n * 2.0_f64.powi(-118),
            dot_error: 1.02 * ((gamma + stored) * norm + query.residual),
            is_clamped,
        }
    }

    /// Error of a computed `x·q` of the scaled query: a multiple of the computed ‖x‖, which also
    /// covers adding it in `f32`, and an absolute part.
    pub fn dot_slack(&self) -> (f32, f64) {
        (at_least(self.dot_error * (1.0 + self.gamma + 4.0 * U) + 8.0 * U * self.query.norm), 2.0 * self.underflow)
    }

    /// Error of `qq + xx − 2·dot`, for a row of this norm and square.
    fn expanded_error(&self, norm: f64, square: f64) -> f64 {
        2.0 * self.dot_error * norm
            + 1.05 * (self.gamma + 2.0 * self.stored + 8.0 * U) * square
            + self.underflow
            + 4.0 * U * self.query.norm * self.query.norm
    }

    /// Error of ‖x − q‖ beyond that of its square, for an upper estimate of it.
    fn root_error(&self, distance: f64) -> f64 {
        1.01 * (self.query.residual + self.stored * (self.query.norm + distance))
    }

    /// Error of Σ|x − q| by the conversions to `f32`, for an upper estimate of it. Σ|q − f32(q)| is
    /// at most √n·‖q − f32(q)‖, and Σ|q| at most √n·‖q‖.
    fn l1_error(&self, distance: f64) -> f64 {
        let root = (self.query.values.len() as f64).sqrt();
        1.01 * (root * self.query.residual + self.stored * (root * self.query.norm + distance))
    }

    /// An interval for Σ|x − q|.
    fn l1_interval(&self, sum: f32) -> (f64, f64) {
        let (sum, gamma) = (f64::from(sum), self.gamma + 4.0 * U);
        let low = (sum - self.underflow).max(0.0) / (1.0 + gamma);
        let high = (sum + self.underflow) / (1.0 - gamma).max(0.1);
        let error = self.l1_error(high);
        ((low - error).max(0.0), high + error)
    }

    fn l1_limits(&self, radius: f64) -> Limits {
        let sum = (radius + self.l1_error(radius)) / (1.0 - 2.1 * self.stored);
        let largest = sum * (1.0 + self.gamma + 8.0 * U) + 2.0 * self.underflow;
        Limits { a: 0.0, b: 0.0, t: at_most(-largest) }
    }

    /// An interval for ‖x − q‖.
    fn l2_interval(&self, value: f32, square: f32) -> (f64, f64) {
        let (value, square) = (f64::from(value), f64::from(square));
        match self.form {
            Form::Differences | Form::AbsoluteDifferences => {
                let gamma = self.gamma + 4.0 * U;
                let low = ((square - self.underflow).max(0.0) / (1.0 + gamma)).sqrt();
                let high = ((square + self.underflow) / (1.0 - gamma).max(0.1)).sqrt();
                let error = self.root_error(high);
                ((low - error).max(0.0), high + error)
            }
            Form::DotAndSquare => {
                let error = self.expanded_error(square.sqrt(), square);
                let estimate = self.query.norm * self.query.norm + square - 2.0 * value;
                ((estimate - error).max(0.0).sqrt(), (estimate + error).max(0.0).sqrt())
            }
        }
    }

    /// Error of the cosine.
    fn cosine_error(&self) -> f64 {
        let norm_error = self.gamma / 2.0 + 4.0 * U + 2.0 * self.stored;
        let underflow = self.underflow / (f64::from(SQUARE_MIN).sqrt() * self.query.norm);
        1.05 * (self.dot_error / self.query.norm + norm_error) + underflow
    }

    fn l2_limits(&self, radius: f64) -> Limits {
        match self.form {
            Form::Differences | Form::AbsoluteDifferences => {
                let root = (radius + self.root_error(radius)) / (1.0 - 2.1 * self.stored);
                let largest = root * root * (1.0 + self.gamma + 8.0 * U) + 2.0 * self.underflow;
                Limits { a: 0.0, b: 0.0, t: at_most(-largest) }
            }
            Form::DotAndSquare => {
                let qq = self.query.norm * self.query.norm;
                let rounding = 8.0 * U;
                let square_error = 1.05 * (self.gamma + 2.0 * self.stored + 8.0 * U);
                let rr = radius * radius;
                Limits {
                    a: at_least(self.dot_error + rounding * self.query.norm),
                    b: at_least(-0.5 + square_error + rounding),
                    t: at_most((qq - rr) / 2.0 - self.underflow - rounding * (qq + rr)),
                }
            }
        }
    }
}

impl Approximation for F32<'_> {
    fn limits(&self, threshold: f64) -> Limits {
        let judges_all = threshold == f64::INFINITY || self.query.is_extreme();
        if judges_all {
            return Limits::NONE;
        }
        match self.metric {
            Metric::L2 => self.l2_limits(threshold.max(0.0)),
            Metric::L2Squared => self.l2_limits(threshold.max(0.0).sqrt() * (1.0 + U)),
            Metric::Dot => Limits {
                a: at_least(self.dot_error * (1.0 + self.gamma + 4.0 * U) + 8.0 * U * self.query.norm),
                b: 0.0,
                t: at_most(self.query.scale(-threshold) - 2.0 * self.underflow),
            },
            Metric::L1 => self.l1_limits(threshold.max(0.0)),
            Metric::Hamming | Metric::Jaccard => Limits::NONE,
            // A clamped distance of 2 ties with every larger one.
            Metric::Cosine if self.is_clamped && threshold >= 2.0 => Limits::NONE,
            Metric::Cosine => {
                let smallest = (1.0 - threshold - self.cosine_error()) * self.query.norm;
                Limits { a: at_least(-smallest + 8.0 * U * self.query.norm), b: 0.0, t: 0.0 }
            }
        }
    }

    fn interval(&self, value: f32, square: f32) -> Option<(f64, f64)> {
        if !self.form.is_ordinary(square) || self.query.is_extreme() {
            return None;
        }
        let wide_value = f64::from(value);
        Some(match self.metric {
            Metric::L2 => self.l2_interval(value, square),
            Metric::L2Squared => {
                let (low, high) = self.l2_interval(value, square);
                (low * low * (1.0 - U), high * high * (1.0 + U))
            }
            Metric::L1 => self.l1_interval(square),
            Metric::Hamming | Metric::Jaccard => return None,
            Metric::Dot => {
                let norm = f64::from(square).sqrt() * (1.0 + self.gamma + self.stored + U);
                let error = self.dot_error * norm + self.underflow;
                (self.query.unscale(-wide_value - error), self.query.unscale(-wide_value + error))
            }
            Metric::Cosine => {
                let cosine = wide_value / (f64::from(square).sqrt() * self.query.norm);
                let error = self.cosine_error();
                let (low, high) = (1.0 - cosine - error, 1.0 - cosine + error);
                if self.is_clamped { (low.clamp(0.0, 2.0), high.clamp(0.0, 2.0)) } else { (low, high) }
            }
        })
    }
}
