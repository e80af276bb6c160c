//! Options of a streaming query.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use vexact_core::error::{Error, Result};

/// Maximum number of partitions of a micro-batch.
const MAX_WORKERS: usize = 1024;

/// Delivery guarantee: the effect of a crash on the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// At-least-once: no input that the source can replay is lost; a sink may receive a micro-batch
    /// twice.
    #[default]
    AtLeastOnce,
    /// Best effort: resumes if possible; may skip micro-batches in flight.
    BestEffort,
    /// Exactly-once: the output is byte for byte that of a run without a crash. It requires a
    /// source that can replay and a sink that can be truncated.
    ExactlyOnce,
}

impl Delivery {
    /// Returns the name in the options.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at-least-once",
            Self::BestEffort => "best-effort",
            Self::ExactlyOnce => "exactly-once",
        }
    }
}

impl FromStr for Delivery {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::AtLeastOnce, Self::BestEffort, Self::ExactlyOnce]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| {
                let expected = "expected at-least-once, best-effort or exactly-once";
                Error::InvalidArgument(format!("checkpoint_delivery_mode: {expected}, got {text:?}"))
            })
    }
}

/// Execution mode of a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExecutionMode {
    /// Runs on one thread.
    #[default]
    SingleProcess,
    /// Runs its partitions on several threads, if that is faster.
    LocalWorkers,
}

impl ExecutionMode {
    /// Returns the name in the options.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleProcess => "single-process",
            Self::LocalWorkers => "local-workers",
        }
    }
}

impl FromStr for ExecutionMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::SingleProcess, Self::LocalWorkers].into_iter().find(|mode| mode.name() == text).ok_or_else(|| {
            Error::InvalidArgument(format!("execution_mode: expected single-process or local-workers, got {text:?}"))
        })
    }
}

/// Options of a streaming query.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamOptions {
    /// Minimum time between two triggers, unless input still waits; zero processes input as it
    /// arrives. A trigger processes all available input, micro-batch by micro-batch.
    pub trigger_interval: Duration,
    /// Folder of the checkpoints, one after each micro-batch; `None` for no checkpoints.
    pub checkpoint_path: Option<PathBuf>,
    /// Delivery guarantee: the effect of a crash on the output.
    pub delivery: Delivery,
    /// Execution mode of a micro-batch.
    pub execution: ExecutionMode,
    /// Partitions of a micro-batch under [`ExecutionMode::LocalWorkers`], at least 1.
    pub local_workers: usize,
    /// Maximum number of partitions that run at the same time; 0 for all.
    pub max_inflight_partitions: usize,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            trigger_interval: Duration::from_millis(1000),
            checkpoint_path: None,
            delivery: Delivery::default(),
            execution: ExecutionMode::default(),
            local_workers: 1,
            max_inflight_partitions: 0,
        }
    }
}

impl StreamOptions {
    /// # Errors
    /// A number of workers that is 0 or larger than any machine has; exactly-once without a
    /// checkpoint.
    pub(super) fn check(&self) -> Result<()> {
        if self.local_workers == 0 {
            return Err(Error::InvalidArgument("local_workers: expected at least 1, got 0".into()));
        }
        if self.local_workers > MAX_WORKERS {
            let problem = format!("local_workers: expected at most {MAX_WORKERS}, got {}", self.local_workers);
            return Err(Error::InvalidArgument(problem));
        }
        if self.delivery == Delivery::ExactlyOnce && self.checkpoint_path.is_none() {
            let problem = "checkpoint_delivery_mode exactly-once: expected a checkpoint_path, got none";
            return Err(Error::InvalidArgument(problem.into()));
        }
        Ok(())
    }
}
