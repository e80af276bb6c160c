//! Properties of functions by their names, all in lower case.

use vexact_sql::DISTANCE_FUNCTIONS;

/// Functions that only the OLAP side has, besides the distances; a query with one of them is routed
/// there.
const VECTOR: [&str; 9] = [
    "max_sim",
    "vector_dims",
    "l2_norm",
    "to_vector",
    "vector_search",
    "vector_join",
    "text_search",
    "hybrid_search",
    "as_of",
];

/// Aggregates of SQLite or DataFusion. `min` and `max` are aggregates with one argument only.
const AGGREGATES: [&str; 55] = [
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar",
    "covar_pop",
    "covar_samp",
    "first_value",
    "group_concat",
    "grouping",
    "json_group_array",
    "json_group_object",
    "jsonb_group_array",
    "jsonb_group_object",
    "last_value",
    "max",
    "mean",
    "median",
    "min",
    "nth_value",
    "percentile",
    "percentile_cont",
    "percentile_disc",
    "quantile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "total",
    "var",
    "var_pop",
    "var_population",
    "var_samp",
    "var_sample",
    "variance",
];

/// Table functions of DataFusion that SQLite lacks.
const OLAP_TABLES: [&str; 3] = ["generate_series", "range", "unnest"];

pub(super) fn is_vector(name: &str) -> bool {
    DISTANCE_FUNCTIONS.contains(&name) || VECTOR.contains(&name)
}

/// Returns true if a call with this number of arguments is an aggregate.
pub(super) fn is_aggregate(name: &str, arguments: usize) -> bool {
    match name {
        "min" | "max" => arguments == 1,
        name => AGGREGATES.contains(&name),
    }
}

pub(super) fn is_olap_table(name: &str) -> bool {
    OLAP_TABLES.contains(&name)
}

/// Returns the arguments of a table function that name a table, each with the one that names a
/// column of it.
pub(super) fn table_arguments(name: &str) -> &'static [(usize, Option<usize>)] {
    match name {
        "vector_search" => &[(0, Some(1))],
        "vector_join" => &[(0, Some(1)), (2, Some(3))],
        "text_search" => &[(0, Some(1))],
        "hybrid_search" => &[(0, Some(1)), (0, Some(3))],
        "as_of" => &[(0, None)],
        _ => &[],
    }
}

/// Returns the index of the argument in which a table function has a textual predicate on its
/// table.
pub(super) fn filter_argument(name: &str) -> Option<usize> {
    match name {
        "vector_search" => Some(5),
        "text_search" => Some(4),
        "hybrid_search" => Some(7),
        _ => None,
    }
}
