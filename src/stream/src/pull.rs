//! Pulls micro-batches from a source: one after another, or prefetched by a separate task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use vexact_core::error::Result;

use super::queue::{Queue, Watermarks};
use super::source::{OffsetRange, Source};

/// Watermarks of prefetched micro-batches.
pub(super) const AHEAD: Watermarks = Watermarks { high: 8, low: 4 };

/// Time after which a source without output counts as idle.
const IDLE: Duration = Duration::from_millis(10);

/// A micro-batch.
pub(super) struct Pulled {
    pub range: OffsetRange,
    pub batch: RecordBatch,
    /// Evidence of the source after this micro-batch.
    pub evidence: serde_json::Value,
}

/// Result of a pull.
pub(super) enum Next {
    Batch(Pulled),
    /// All available input has been taken.
    Idle,
    End,
}

/// Counters of pulls.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    pub pulled: AtomicU64,
    pub blocked: AtomicU64,
    pub max_backlog: AtomicU64,
}

/// The source's side of a query.
pub(super) enum Pull {
    /// Reads on demand, because a read removes rows from the source.
    Now {
        source: Box<dyn Source>,
        is_idle: bool,
        pulls: Arc<Pulls>,
    },
    Ahead {
        queue: Queue<Result<Next>>,
        _task: SpawnedTask<()>,
    },
}

impl Pull {
    /// Creates the pull. It must be called on a tokio runtime.
    pub fn new(source: Box<dyn Source>, pulls: Arc<Pulls>) -> Result<Self> {
        if !source.can_replay() {
            return Ok(Self::Now { source, is_idle: false, pulls });
        }
        let queue = Queue::try_new(AHEAD)?;
        let task = SpawnedTask::spawn(read_ahead(source, queue.clone(), pulls));
        Ok(Self::Ahead { queue, _task: task })
    }

    /// Returns the number of micro-batches that wait.
    pub fn backlog(&self) -> u64 {
        match self {
            Self::Now { .. } => 0,
            Self::Ahead { queue, .. } => queue.len() as u64,
        }
    }

    /// Waits for the next result. Its future may be dropped.
    ///
    /// # Errors
    /// Errors of the source.
    pub async fn next(&mut self) -> Result<Next> {
        match self {
            Self::Now { source, is_idle, pulls } => next(source.as_mut(), is_idle, pulls).await,
            Self::Ahead { queue, .. } => queue.pop(None).await.unwrap_or(Ok(Next::End)),
        }
    }
}

async fn next(source: &mut dyn Source, is_idle: &mut bool, pulls: &Pulls) -> Result<Next> {
    let range = if *is_idle {
        source.next_range().await?
    } else {
        match tokio::time::timeout(IDLE, source.next_range()).await {
            Ok(range) => range?,
            Err(_) => {
                *is_idle = true;
                return Ok(Next::Idle);
            }
        }
    };
    *is_idle = false;
    let Some(range) = range else { return Ok(Next::End) };
    let batch = source.read(&range).await?;
    pulls.pulled.fetch_add(1, Ordering::Relaxed);
    let evidence = source.evidence();
    Ok(Next::Batch(Pulled { range, batch, evidence }))
}

async fn read_ahead(mut source: Box<dyn Source>, queue: Queue<Result<Next>>, pulls: Arc<Pulls>) {
    let mut is_idle = false;
    loop {
        let next = next(source.as_mut(), &mut is_idle, &pulls).await;
        let is_last = matches!(next, Ok(Next::End) | Err(_));
        if queue.is_full() {
            pulls.blocked.fetch_add(1, Ordering::Relaxed);
        }
        if queue.push(next).await.is_err() || is_last {
            return queue.close();
        }
        pulls.max_backlog.fetch_max(queue.len() as u64, Ordering::Relaxed);
    }
}
