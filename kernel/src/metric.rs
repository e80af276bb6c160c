//! The distance functions, their names, and the order that they induce.

use std::fmt;
use std::str::FromStr;

use crate::error::{KernelError, Result};

/// A distance function. Its formula stands in [`crate::reference`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// `1 - x·q / (‖x‖‖q‖)`, within [0, 2]; smaller is closer.
    Cosine,
    /// `x·q`; larger is closer.
    Dot,
    /// `√Σ(xᵢ - qᵢ)²`; smaller is closer.
    L2,
    /// `Σ(xᵢ - qᵢ)²`; smaller is closer. Has no name of its own in [`str::parse`]: it serves the
    /// SQL function `l2_distance_squared`.
    L2Squared,
    /// `Σ|xᵢ - qᵢ|`; smaller is closer.
    L1,
    /// The number of bits that differ; smaller is closer. Only for columns of bits.
    Hamming,
    /// `1 - |x∧q| / |x∨q|`, counted in bits, within [0, 1]; 0 if neither has a bit set; smaller is
    /// closer. Only for columns of bits.
    Jaccard,
}

impl Metric {
    /// The canonical name.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Cosine => "cosine",
            Metric::Dot => "dot",
            Metric::L2 => "l2",
            Metric::L2Squared => "l2_squared",
            Metric::L1 => "l1",
            Metric::Hamming => "hamming",
            Metric::Jaccard => "jaccard",
        }
    }

    /// Returns true if the metric compares bits, false if it compares numbers.
    pub fn is_of_bits(self) -> bool {
        matches!(self, Metric::Hamming | Metric::Jaccard)
    }

    /// Refuses vectors that the metric cannot compare; `got` names their type.
    ///
    /// # Errors
    /// [`KernelError::MetricMismatch`]: numbers under a metric of bits, or the reverse.
    pub fn check_vectors(self, are_bits: bool, got: impl fmt::Display) -> Result<()> {
        if are_bits == self.is_of_bits() {
            return Ok(());
        }
        let expected = if self.is_of_bits() { "bits" } else { "vectors of numbers" };
        Err(KernelError::MetricMismatch { metric: self.name(), expected, got: got.to_string() })
    }

    /// Returns true if a larger score is closer.
    pub fn is_larger_closer(self) -> bool {
        self == Metric::Dot
    }

    /// The score as a sort key, of which smaller is closer; its own inverse.
    pub(crate) fn key(self, score: f64) -> f64 {
        if self.is_larger_closer() { -score } else { score }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = KernelError;

    /// Parses a name or an alias, in any case.
    fn from_str(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "cosine" | "cosin" => Ok(Metric::Cosine),
            "dot" | "inner_product" | "ip" => Ok(Metric::Dot),
            "l2" | "euclidean" => Ok(Metric::L2),
            "l1" => Ok(Metric::L1),
            "hamming" => Ok(Metric::Hamming),
            "jaccard" => Ok(Metric::Jaccard),
            _ => Err(KernelError::UnknownMetric { got: name.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_parse_in_any_case() {
        for (name, metric) in [
            ("cosine", Metric::Cosine),
            ("COSIN", Metric::Cosine),
            ("Dot", Metric::Dot),
            ("inner_product", Metric::Dot),
            ("IP", Metric::Dot),
            ("l2", Metric::L2),
            ("Euclidean", Metric::L2),
            ("L1", Metric::L1),
            ("hamming", Metric::Hamming),
            ("Jaccard", Metric::Jaccard),
        ] {
            assert_eq!(name.parse(), Ok(metric), "{name}");
        }
    }

    #[test]
    fn unknown_name_lists_the_allowed_ones() {
        let message = "manhattan".parse::<Metric>().unwrap_err().to_string();
        for name in [
            "cosine",
            "cosin",
            "dot",
            "inner_product",
            "ip",
            "l2",
            "euclidean",
            "l1",
            "hamming",
            "jaccard",
            "manhattan",
        ] {
            assert!(message.contains(name), "{message}");
        }
    }
}
