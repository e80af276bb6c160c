//! Tasks and bytes of one attempt of a query, sent and received.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::TaskKey;
use parking_lot::Mutex;

/// The tasks of one attempt, and the bytes between the coordinator and the workers.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    tasks: Mutex<BTreeMap<(usize, usize), Arc<Task>>>,
    /// The metrics of each stage, which have the received bytes.
    received: Mutex<BTreeMap<usize, ExecutionPlanMetricsSet>>,
    /// The metrics of the attempt, which have the sent bytes.
    sent: Mutex<Option<ExecutionPlanMetricsSet>>,
}

/// One task.
#[derive(Debug)]
pub(crate) struct Task {
    pub worker: String,
    started: Instant,
    rows: AtomicU64,
    /// Microseconds from its start to its last batch.
    elapsed_us: AtomicU64,
}

impl Task {
    /// Counts a batch that has arrived.
    pub fn add(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.elapsed_us.fetch_max(self.started.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    /// Returns the microseconds to its last batch.
    pub fn elapsed_us(&self) -> u64 {
        self.elapsed_us.load(Ordering::Relaxed)
    }

    /// Returns the rows that arrived.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

impl Traffic {
    /// Adds a task whose rows are asked for.
    pub fn begin(&self, worker: String, key: &TaskKey, metrics: &ExecutionPlanMetricsSet) -> Arc<Task> {
        self.received.lock().insert(key.stage_id, metrics.clone());
        self.begin_task(worker, (key.stage_id, key.task_number))
    }

    /// Adds a task by its stage and number.
    pub fn begin_task(&self, worker: String, key: (usize, usize)) -> Arc<Task> {
        let task =
            Arc::new(Task { worker, started: Instant::now(), rows: AtomicU64::new(0), elapsed_us: AtomicU64::new(0) });
        self.tasks.lock().insert(key, Arc::clone(&task));
        task
    }

    /// Takes the metrics that have the bytes of the sent plans.
    pub fn add_plans(&self, metrics: &ExecutionPlanMetricsSet) {
        self.sent.lock().get_or_insert_with(|| metrics.clone());
    }

    /// Returns the tasks, in the order of stages and tasks.
    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.tasks.lock().values().cloned().collect()
    }

    /// Returns the tasks by their stage and number.
    pub fn tasks_by_stage(&self) -> BTreeMap<(usize, usize), Arc<Task>> {
        self.tasks.lock().clone()
    }

    /// Returns the number of stages.
    pub fn stages(&self) -> usize {
        self.received.lock().len()
    }

    /// Returns the bytes of rows that came from the workers, as they were encoded.
    pub fn received_bytes(&self) -> u64 {
        self.received.lock().values().map(|metrics| sum(metrics, "bytes_transferred")).sum()
    }

    /// Returns the bytes of the plans that went to the workers.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.lock().as_ref().map_or(0, |metrics| sum(metrics, "plan_bytes_sent"))
    }
}

fn sum(metrics: &ExecutionPlanMetricsSet, name: &str) -> u64 {
    let metrics = metrics.clone_inner();
    let own = metrics.iter().map(|metric| metric.value()).filter(|value| value.name() == name);
    own.map(|value| value.as_usize() as u64).sum()
}
