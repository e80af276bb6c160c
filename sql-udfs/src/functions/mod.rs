//! The functions, one file each.

mod aggregate;
mod arithmetic;
mod bits;
mod bound_distance;
mod builder;
mod distance;
mod l2_norm;
mod max_sim;
mod negate;
mod row_limit;
mod rows;
mod score;
mod to_vector;
mod unnamed;
mod vector_dims;

use datafusion::logical_expr::ScalarUDF;

pub(crate) use aggregate::{AGGREGATES, with_vectors};
pub(crate) use bound_distance::{BoundDistance, bind_query};
pub(crate) use distance::{Distance, Function};
pub(crate) use max_sim::{is_max_sim, is_token_column, query_tokens};
pub(crate) use negate::Negate;
pub use negate::negate;
pub(crate) use row_limit::{k_argument, row_limit};
pub(crate) use score::VectorScore;
pub use score::score_expr;
pub use to_vector::vector_of_text;
pub use unnamed::unnamed_functions;

/// The names of the functions whose results are distances, or similarities that a sort converts to
/// distances.
pub const DISTANCE_FUNCTIONS: [&str; 9] = [
    "cosine_distance",
    "cosine_similarity",
    "inner_product",
    "dot_product",
    "l2_distance",
    "l2_distance_squared",
    "l1_distance",
    "hamming_distance",
    "jaccard_distance",
];

/// All scalar functions that a user can name.
pub(crate) fn all() -> Vec<ScalarUDF> {
    let mut functions: Vec<ScalarUDF> =
        Function::ALL.into_iter().map(|function| ScalarUDF::from(Distance::new(function))).collect();
    let arithmetic = arithmetic::Operation::ALL.into_iter().map(arithmetic::Arithmetic::new);
    functions.extend(arithmetic.map(ScalarUDF::from));
    functions.push(ScalarUDF::from(l2_norm::L2Norm::new()));
    functions.push(ScalarUDF::from(max_sim::MaxSimFunction::new()));
    functions.push(ScalarUDF::from(to_vector::ToVector::new()));
    functions.push(ScalarUDF::from(vector_dims::VectorDims::new()));
    functions
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::ScalarUDFImpl;

    use super::*;

    #[test]
    fn the_distance_functions_are_those_that_are_registered() {
        let functions = Function::ALL.into_iter().map(Distance::new);
        let names =
            functions.flat_map(|function| [vec![function.name().to_owned()], function.aliases().to_vec()].concat());
        let names: std::collections::BTreeSet<String> = names.collect();
        assert_eq!(names, DISTANCE_FUNCTIONS.map(str::to_owned).into());
    }
}
