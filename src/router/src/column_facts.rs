//! Facts about the columns that a query reads, as the router needs them.

/// Facts about columns by their names, whichever of the query's tables has them. Names are compared
/// as SQLite does.
pub trait ColumnFacts {
    /// Returns true if SQLite compares the text of such a column in another order than that of the
    /// bytes.
    fn is_collated(&self, column: &str) -> bool;
    /// Returns true if such a column has no declared type that makes its numbers reals: SQLite may
    /// store integers where the replica has reals.
    fn has_no_declared_type(&self, column: &str) -> bool;
    /// Returns the greatest absolute value among the numbers of the replicas' columns of this name;
    /// 0 without such a column.
    fn greatest_magnitude(&self, column: &str) -> f64;
    /// Returns the number of the replica's rows, if the query reads only one replica.
    fn rows(&self) -> Option<usize>;
    /// Returns true if a replica's text column of this name may contain a NUL.
    fn may_have_nul(&self, column: &str) -> bool;
}
