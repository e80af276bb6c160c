//! The syntax of vector search in a parsed statement: distance functions, pgvector's operators,
//! table functions.

use datafusion::sql::sqlparser::ast::{BinaryOperator, ObjectName};
use vexact_sql::DISTANCE_FUNCTIONS;

/// Table function that is planned as a query of the table that it names.
pub(super) const VECTOR_SEARCH: &str = "vector_search";

/// Table function that joins two tables by distance.
const VECTOR_JOIN: &str = "vector_join";

/// Table functions of text.
const TEXT_SEARCH: &str = "text_search";
const HYBRID_SEARCH: &str = "hybrid_search";

/// Returns true if a name, in any case, is that of a distance or similarity.
pub(super) fn is_score(name: &str) -> bool {
    DISTANCE_FUNCTIONS.iter().any(|score| score.eq_ignore_ascii_case(name))
}

/// Returns true if a name, in any case, is that of a table function of searches.
pub(super) fn is_search_function(name: &str) -> bool {
    [VECTOR_SEARCH, VECTOR_JOIN, TEXT_SEARCH, HYBRID_SEARCH].iter().any(|function| function.eq_ignore_ascii_case(name))
}

/// Returns true if an operator stands for a distance.
pub(super) fn is_vector_operator(operator: &BinaryOperator) -> bool {
    match operator {
        BinaryOperator::Spaceship => true,
        BinaryOperator::Custom(operator) => matches!(operator.as_str(), "<->" | "<#>"),
        _ => false,
    }
}

/// Returns the last part of a function's name, without its schema.
pub(super) fn function_name(name: &ObjectName) -> Option<&str> {
    name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.as_str())
}
