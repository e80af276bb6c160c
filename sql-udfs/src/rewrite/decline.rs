//! Reasons why a sort by distance is not rewritten into a search.

use std::fmt;

/// A reason not to rewrite a plan. The text is for people; the variant is for programs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Decline {
    /// `SET vexact.rewrite = false`.
    Disabled,
    /// There is no LIMIT, so every row is returned.
    NoLimit,
    /// The sort keys after the distance differ from the tie order of the table.
    SecondSortKey,
    /// The sort returns the farthest rows, not the closest.
    FarthestFirst,
    /// The order is by an expression that need not follow the distance in it.
    NotMonotone,
    /// The query is not one vector for the whole statement.
    QueryNotConstant,
    /// The distance is not that of a stored column.
    NotAColumn,
    /// The column's type.
    NotAVectorColumn(String),
    /// A search rejects the query, so the plain plan answers as SQL defines.
    BadQuery(String),
    /// The input is unbounded.
    UnboundedInput,
}

impl fmt::Display for Decline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decline::Disabled => write!(f, "disabled: vexact.rewrite is false"),
            Decline::NoLimit => write!(f, "no-limit: ORDER BY distance without LIMIT wants every row"),
            Decline::SecondSortKey => write!(f, "second-sort-key: only the distance may be sorted by"),
            Decline::FarthestFirst => write!(f, "farthest-first: the order wants the farthest rows first"),
            Decline::NotMonotone => {
                write!(f, "not-monotone: sorted by an expression that need not follow the distance in it")
            }
            Decline::QueryNotConstant => write!(f, "query-not-constant: the query differs from row to row"),
            Decline::NotAColumn => write!(f, "not-a-column: the distance is of an expression, not of a stored column"),
            Decline::NotAVectorColumn(data_type) => write!(f, "not-a-vector-column: a column of {data_type}"),
            Decline::BadQuery(error) => write!(f, "bad-query: {error}"),
            Decline::UnboundedInput => write!(f, "unbounded-input: the input has no end"),
        }
    }
}
