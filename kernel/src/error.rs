//! Errors of a search. Each names the thing, the expected value and the given one.

/// The result of every fallible call of this crate.
pub type Result<T, E = KernelError> = std::result::Result<T, E>;

/// Everything that a search refuses. Nothing is scanned before the request is known to be sound.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The array does not hold vectors.
    #[error(
        "not a vector column: expected FixedSizeList, List or LargeList of Float16, Float32, Float64, Int8 or UInt8, or FixedSizeBinary, got {got}"
    )]
    NotAVectorColumn {
        /// The type that came.
        got: String,
    },
    /// The array does not hold rows of token vectors.
    #[error("not a column of token vectors: expected List or LargeList of FixedSizeList of floats, got {got}")]
    NotATokenColumn {
        /// The type that came.
        got: String,
    },
    /// Floats that are no whole number of vectors.
    #[error("not a whole number of vectors: expected a multiple of {dim} floats, at least 1 for each, got {got}")]
    PartialRow {
        /// Components of each vector.
        dim: usize,
        /// Number of floats.
        got: usize,
    },
    /// A NULL among the queries of a batch, or in one of them.
    #[error("query {row} is NULL or has a NULL: expected a number for each component")]
    NullQuery {
        /// Ordinal of the query, from 0.
        row: usize,
    },
    /// Two rows of a list column have different lengths.
    #[error("vectors of different lengths: row {row} has {got} components, expected {expected}")]
    RaggedRows {
        /// The first row of another length, counted from the start of the array.
        row: usize,
        /// Components of the rows before it.
        expected: usize,
        /// Components of this row.
        got: usize,
    },
    /// The chunks of one column do not fit together.
    #[error("chunk {chunk} does not match the column: expected {expected}, got {got}")]
    MixedChunks {
        /// Ordinal of the first chunk that differs.
        chunk: usize,
        /// Type of the first chunk.
        expected: String,
        /// Type of this chunk.
        got: String,
    },
    /// The query has another number of components than the column.
    #[error("query dimension mismatch: expected {expected} components, got {got}")]
    DimensionMismatch {
        /// Components of the column's vectors.
        expected: usize,
        /// Components of the query.
        got: usize,
    },
    /// A query with no components.
    #[error("empty query: expected at least one component, got none")]
    EmptyQuery,
    /// A query batch with no queries.
    #[error("empty query batch: expected at least one query, got none")]
    EmptyBatch,
    /// A NaN or an infinity in the query.
    #[error("query component {position} is not finite: expected a number, got {value}")]
    NonFiniteQuery {
        /// Ordinal of the component, from 0.
        position: usize,
        /// Its value.
        value: f64,
    },
    /// A component of a query of bits that is neither 0 nor 1.
    #[error("query component {position} is not a bit: expected 0 or 1, got {value}")]
    NotABit {
        /// Ordinal of the component, from 0.
        position: usize,
        /// Its value.
        value: f64,
    },
    /// A metric of bits over numbers, or of numbers over bits.
    #[error("metric {metric} cannot compare {got}: expected {expected}")]
    MetricMismatch {
        /// Name of the metric.
        metric: &'static str,
        /// The vectors that it compares.
        expected: &'static str,
        /// The column's vectors.
        got: String,
    },
    /// A query of zero length has no direction, so no cosine.
    #[error("zero query under cosine: expected a vector of non-zero length, got all zeros")]
    ZeroQuery,
    /// `top_k` was 0.
    #[error("invalid top_k: expected at least 1, got 0")]
    InvalidTopK,
    /// A radius that is not a number.
    #[error("invalid radius: expected a number, got {got}")]
    InvalidRadius {
        /// The radius as given.
        got: f64,
    },
    /// No limit was set: neither k nor a radius.
    #[error("unbounded search: expected top_k, a radius or both, got neither")]
    Unbounded,
    /// An unknown metric name.
    #[error(
        "unknown metric: expected one of cosine (cosin), dot (inner_product, ip), l2 (euclidean), l1, hamming, jaccard, got {got:?}"
    )]
    UnknownMetric {
        /// The name as given.
        got: String,
    },
    /// An unknown tier name.
    #[error("unknown tier: expected one of auto, f32, i8, pca4, off, got {got:?}")]
    UnknownTier {
        /// The name as given.
        got: String,
    },
    /// The selection does not cover the column.
    #[error("selection length mismatch: expected one bit for each of {expected} rows, got {got}")]
    SelectionLength {
        /// Rows of the column.
        expected: usize,
        /// Bits of the selection.
        got: usize,
    },
    /// The groups do not cover the column.
    #[error("groups length mismatch: expected one group for each of {expected} rows, got {got}")]
    GroupsLength {
        /// Rows of the column.
        expected: usize,
        /// Groups that were given.
        got: usize,
    },
    /// A sketch belongs to other vectors.
    #[error("sketch does not match the column: expected {expected}, got {got}")]
    SketchMismatch {
        /// The column.
        expected: String,
        /// The sketch.
        got: String,
    },
    /// Stored bytes are no sketch, or a damaged one.
    #[error("unreadable sketch: expected {expected}, got {got}")]
    UnreadableSketch {
        /// The expected thing.
        expected: String,
        /// The thing found.
        got: String,
    },
    /// A backend was forced that this processor cannot run.
    #[error("backend {backend} is not available: expected one of {available}")]
    BackendUnavailable {
        /// The backend as given.
        backend: String,
        /// Those that can run here.
        available: String,
    },
}
