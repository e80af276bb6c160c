//! Progress of a streaming query, as it reports it.

use serde::Serialize;

/// Life-cycle state of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Opened, and not started.
    Created,
    /// It waits for input, or works on it.
    Running,
    /// It waits for its sink.
    Backpressure,
    /// Opened with a checkpoint; the first micro-batch since then has not been processed.
    Restored,
    /// Ended: by `stop`, after so many micro-batches as were asked for, or with its input.
    Stopped,
    /// Ended by an error.
    Failed,
}

impl Status {
    /// Returns true if the query has ended.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// A query at one moment. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// Unique among queries.
    pub query_id: String,
    /// Life-cycle state of the query.
    pub status: Status,
    /// `single-process` or `local-workers`, as asked for.
    pub requested_execution_mode: String,
    /// Execution mode in use.
    pub execution_mode: String,
    /// Why.
    pub execution_reason: String,
    /// `at-least-once`, `best-effort` or `exactly-once`.
    pub checkpoint_delivery_mode: String,
    /// Micro-batches taken from the source since this query was opened.
    pub batches_pulled: u64,
    /// Micro-batches whose rows are in the sink, those before a restore included.
    pub batches_processed: u64,
    /// Their rows.
    pub rows_processed: u64,
    /// Rows that came for a window that was closed.
    pub late_rows: u64,
    /// Warning about the input: an event time far ahead of the clock, which closes all windows
    /// before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Number of times that the query waited for its sink, or its source for the query.
    pub blocked_count: u64,
    /// The most micro-batches that ever waited.
    pub max_backlog_batches: u64,
    /// Micro-batches that wait, and the one that is worked on.
    pub inflight_batches: u64,
    /// Partitions of the one that is worked on.
    pub inflight_partitions: u64,
    /// From the micro-batch at hand to the checkpoint after it.
    pub last_batch_latency_ms: f64,
    /// The sink's part of it.
    pub last_sink_latency_ms: f64,
    /// The part of the state and its checkpoint.
    pub last_state_latency_ms: f64,
    /// After the last micro-batch that was processed, as JSON.
    pub last_source_offset: Option<String>,
    /// True while the query waits for its sink.
    pub backpressure_active: bool,
    /// True if the query keeps groups, or rows until the end.
    pub has_stateful_ops: bool,
    /// True if the query has `WINDOW BY`.
    pub has_window: bool,
    /// True if a slow reader of the sink blocks the query.
    pub sink_is_blocking: bool,
    /// True if the input is finite.
    pub source_is_bounded: bool,
    /// Bytes of groups and kept rows.
    pub estimated_state_size_bytes: u64,
    /// Micro-batches that are read ahead at most.
    pub backpressure_max_queue_batches: u64,
    /// The backlog at which reading ahead stops …
    pub backpressure_high_watermark: u64,
    /// … until it is down to this.
    pub backpressure_low_watermark: u64,
    /// `merged-states`, or `none` without an aggregate.
    pub aggregate_impl: String,
    /// Why.
    pub aggregate_reason: String,
}
