//! Progress of a streaming query, as it reports it.

use serde::Serialize;

/// Life-cycle state of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The query is opened, and not started.
    Created,
    /// The query waits for input, or processes it.
    Running,
    /// The query waits for its sink.
    Backpressure,
    /// The query was opened with a checkpoint; it has not processed a micro-batch since then.
    Restored,
    /// The query has ended: by `stop`, after the requested number of micro-batches, or with its
    /// input.
    Stopped,
    /// The query has ended with an error.
    Failed,
}

impl Status {
    /// Returns true if the query has ended.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// Progress of a query at one moment. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// Unique among queries.
    pub query_id: String,
    /// Life-cycle state of the query.
    pub status: Status,
    /// Requested execution mode: `single-process` or `local-workers`.
    pub requested_execution_mode: String,
    /// Execution mode in use.
    pub execution_mode: String,
    /// Reason for the execution mode.
    pub execution_reason: String,
    /// `at-least-once`, `best-effort` or `exactly-once`.
    pub checkpoint_delivery_mode: String,
    /// Number of micro-batches taken from the source since this query was opened.
    pub batches_pulled: u64,
    /// Number of micro-batches whose rows are in the sink, including those before a restore.
    pub batches_processed: u64,
    /// Number of rows of these micro-batches.
    pub rows_processed: u64,
    /// Number of rows for windows that were closed.
    pub late_rows: u64,
    /// Warning about the input: an event time far ahead of the clock, which closes all windows
    /// before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Number of times that the query waited for its sink, or its source for the query.
    pub blocked_count: u64,
    /// Maximum number of micro-batches that have waited.
    pub max_backlog_batches: u64,
    /// Number of micro-batches that wait, including the one that is processed.
    pub inflight_batches: u64,
    /// Number of partitions of the micro-batch that is processed.
    pub inflight_partitions: u64,
    /// Time from the start of the micro-batch to the checkpoint after it.
    pub last_batch_latency_ms: f64,
    /// Part of the latency that the sink took.
    pub last_sink_latency_ms: f64,
    /// Part of the latency that the state and its checkpoint took.
    pub last_state_latency_ms: f64,
    /// Source offset after the last micro-batch that was processed, as JSON.
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
    /// Size of groups and retained rows, in bytes.
    pub estimated_state_size_bytes: u64,
    /// Maximum number of prefetched micro-batches.
    pub backpressure_max_queue_batches: u64,
    /// Backlog at which prefetching stops …
    pub backpressure_high_watermark: u64,
    /// … and backlog at which it resumes.
    pub backpressure_low_watermark: u64,
    /// `merged-states`, or `none` without an aggregate.
    pub aggregate_impl: String,
    /// Reason for the aggregate implementation.
    pub aggregate_reason: String,
}
