//! Decides if a micro-batch is divided among threads: only if that is faster.

use std::time::Duration;

use super::options::{ExecutionMode, StreamOptions};

/// Minimum number of rows of a partition that are worth a thread.
const PARTITION_ROWS: usize = 8192;
/// Number of micro-batches that are timed in each mode before one is chosen.
const TRIALS: usize = 5;

/// Decides the number of partitions, micro-batch by micro-batch.
#[derive(Debug)]
pub(super) struct Workers {
    asked: ExecutionMode,
    /// Maximum number of partitions.
    pub partitions: usize,
    reason: String,
    /// Seconds per row, with one thread and with several; `None` if not timed, or if the decision
    /// is made.
    trials: Option<[Vec<f64>; 2]>,
}

impl Workers {
    /// Creates the workers. With `is_fixed`, the same rows must always be divided in the same way,
    /// because sums of floats depend on it.
    pub fn new(options: &StreamOptions, cores: usize, is_fixed: bool) -> Self {
        let asked = options.execution;
        let wanted = match options.max_inflight_partitions {
            0 => options.local_workers,
            most => options.local_workers.min(most),
        };
        let (partitions, reason) = match asked {
            ExecutionMode::SingleProcess => (1, "single-process was asked for".to_owned()),
            ExecutionMode::LocalWorkers if wanted < 2 => {
                (1, format!("fell back to one thread: expected at least 2 partitions at a time, got {wanted}"))
            }
            ExecutionMode::LocalWorkers if cores < 2 => (1, "fell back to one thread: the machine has one core".into()),
            ExecutionMode::LocalWorkers => (
                wanted,
                format!("micro-batches of {} rows and more: {wanted} partitions on threads", 2 * PARTITION_ROWS),
            ),
        };
        Self { asked, partitions, reason, trials: (partitions > 1 && !is_fixed).then(Default::default) }
    }

    /// Returns the number of partitions of the next micro-batch.
    pub fn divide(&self, rows: usize) -> usize {
        let most = (rows / PARTITION_ROWS).clamp(1, self.partitions);
        match &self.trials {
            Some([one, several]) if most > 1 && several.len() > one.len() => 1,
            _ => most,
        }
    }

    /// Records the duration of a micro-batch.
    pub fn observe(&mut self, rows: usize, partitions: usize, took: Duration) {
        if rows / PARTITION_ROWS < 2 {
            return;
        }
        let Some(trials) = &mut self.trials else { return };
        trials[usize::from(partitions > 1)].push(took.as_secs_f64() / rows as f64);
        if trials.iter().any(|times| times.len() < TRIALS) {
            return;
        }
        let [one, several] = trials.each_mut().map(|times| {
            times.sort_by(f64::total_cmp);
            times[TRIALS / 2] * 1e9
        });
        self.trials = None;
        let measured = format!("measured {several:.1} ns a row on {} threads, {one:.1} on one", self.partitions);
        if several < one {
            self.reason = format!("{}; {measured}", self.reason);
        } else {
            self.reason = format!("fell back to one thread: {measured}");
            self.partitions = 1;
        }
    }

    /// Returns the requested execution mode.
    pub fn requested(&self) -> &'static str {
        self.asked.name()
    }

    /// Returns the execution mode in use, and its reason.
    pub fn mode(&self) -> (&'static str, &str) {
        let mode = if self.partitions > 1 { ExecutionMode::LocalWorkers } else { ExecutionMode::SingleProcess };
        (mode.name(), &self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(cores: usize, is_fixed: bool) -> Workers {
        let options = StreamOptions { execution: ExecutionMode::LocalWorkers, local_workers: 2, ..Default::default() };
        Workers::new(&options, cores, is_fixed)
    }

    fn trial(workers: &mut Workers, micros_of: impl Fn(usize) -> u64) {
        for _ in 0..2 * TRIALS {
            let partitions = workers.divide(1 << 20);
            workers.observe(1 << 20, partitions, Duration::from_micros(micros_of(partitions)));
        }
    }

    #[test]
    fn threads_that_are_slower_are_given_up_and_the_reason_says_so() {
        let mut slower = workers(2, false);
        trial(&mut slower, |partitions| 100 * partitions as u64);
        assert_eq!((slower.divide(1 << 20), slower.mode().0), (1, "single-process"));
        assert!(slower.mode().1.contains("fell back"), "{}", slower.mode().1);
        let mut faster = workers(2, false);
        trial(&mut faster, |partitions| 100 / partitions as u64);
        assert_eq!((faster.divide(1 << 20), faster.mode().0), (2, "local-workers"));
    }

    #[test]
    fn few_rows_one_core_and_one_worker_take_one_thread() {
        assert_eq!(workers(2, false).divide(2 * PARTITION_ROWS - 1), 1);
        assert_eq!(workers(1, false).mode().0, "single-process");
        let one = StreamOptions { execution: ExecutionMode::LocalWorkers, ..Default::default() };
        assert!(Workers::new(&one, 2, false).mode().1.contains("at least 2"));
    }

    #[test]
    fn a_fixed_division_depends_on_the_rows_alone() {
        let mut fixed = workers(2, true);
        trial(&mut fixed, |partitions| 100 * partitions as u64);
        assert_eq!(fixed.divide(1 << 20), 2);
    }
}
