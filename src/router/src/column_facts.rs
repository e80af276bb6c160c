//! Facts about the columns that a query reads, which the router asks for.

/// Facts about columns by their names, whichever of the query's tables has them. Names are compared as SQLite does.
pub trait ColumnFacts {
    /// Whether SQLite compares the text of one in another order than that of the bytes.
    fn is_collated(&self, column: &str) -> bool;
    /// Whether one has no declared type that makes its numbers reals: SQLite may have integers among what its replica has as
    /// reals.
    fn has_no_declared_type(&self, column: &str) -> bool;
    /// The greatest absolute value among the numbers of the replicas' columns of this name; 0 without such a column.
    fn greatest_magnitude(&self, column: &str) -> f64;
    /// The rows of the replica, if the query reads one alone.
    fn rows(&self) -> Option<usize>;
    /// Whether a replica's text of this name may have a NUL in it.
    fn may_have_nul(&self, column: &str) -> bool;
}
