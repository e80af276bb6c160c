//! The functions that a query may call and a user cannot name.

use std::sync::Arc;

use datafusion::logical_expr::{ScalarUDF, Signature, Volatility};
use vexact_kernel::Metric;

use super::negate::Negate;
use super::score::VectorScore;

/// Returns the functions without a name in SQL whose plans another process can evaluate once it has
/// them: `-x`, and the scores of searches. A score's name is that of its metric's, so that a function
/// of this name may be another one.
pub fn unnamed_functions() -> Vec<Arc<ScalarUDF>> {
    let metrics = [Metric::Cosine, Metric::Dot, Metric::L2, Metric::L1, Metric::Hamming, Metric::Jaccard];
    let scores = metrics.into_iter().map(|metric| ScalarUDF::from(VectorScore::new(metric)));
    let negate = ScalarUDF::from(Negate { signature: Signature::any(1, Volatility::Immutable) });
    scores.chain([negate]).map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_one_name_are_told_apart_by_their_value() {
        let all = unnamed_functions();
        let l2 = all.iter().find(|function| function.name() == "vector_score_l2").unwrap();
        assert_eq!(l2.as_ref(), &ScalarUDF::from(VectorScore::new(Metric::L2)));
        assert_ne!(l2.as_ref(), &ScalarUDF::from(VectorScore::new(Metric::L2Squared)));
        let mut names: Vec<&str> = all.iter().map(|function| function.name()).collect();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
