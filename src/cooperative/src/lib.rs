//! Cooperative yielding: long work yields its core to short queries.
//!
//! If there are more threads than cores, the operating system lets a computing thread run for
//! milliseconds, in which many queries would finish. Long work therefore yields between its steps
//! to a query that started later and may still be short. Each engine or session owns one
//! [`Scheduler`]; work of other schedulers does not slow it down.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

/// Age, in microseconds, from which a query counts as long and is not yielded to.
const SHORT: u64 = 10_000;

/// Minimum time, in microseconds, between two yields of one thread.
const TURN: u64 = 250;

thread_local! {
    /// Time of this thread's last yield.
    static LAST_YIELD: Cell<u64> = const { Cell::new(0) };
}

/// Microseconds since the first call, never 0.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
}

/// Orders the queries and the long work of one engine or session. Clones share the order.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    /// Start time of the newest unfinished query; 0 if there is none.
    newest: Arc<AtomicU64>,
}

impl Scheduler {
    /// Begins a query now. It ends when the guard is dropped.
    pub fn begin_query(&self) -> ForegroundQuery {
        self.begin_query_at(now())
    }

    fn begin_query_at(&self, began: u64) -> ForegroundQuery {
        self.newest.store(began, Ordering::Relaxed);
        ForegroundQuery { scheduler: self.clone(), began }
    }

    /// Long work of a query, which begins now. Only later queries preempt it.
    pub fn query_work(&self) -> LongWork {
        LongWork { scheduler: self.clone(), began: now() }
    }

    /// Work that no query waits for. Every query preempts it.
    pub fn background_work(&self) -> LongWork {
        LongWork { scheduler: self.clone(), began: 0 }
    }

    /// Returns true if work that began at `began` must yield, on a thread whose last yield was at
    /// `last_yield`.
    #[inline]
    fn preempts(&self, began: u64, last_yield: u64, now: impl Fn() -> u64) -> bool {
        let newest = self.newest.load(Ordering::Relaxed);
        if newest <= began {
            return false;
        }
        let now = now();
        now.saturating_sub(newest) < SHORT && now.saturating_sub(last_yield) >= TURN
    }
}

/// An unfinished query.
#[derive(Debug)]
pub struct ForegroundQuery {
    scheduler: Scheduler,
    began: u64,
}

impl Drop for ForegroundQuery {
    fn drop(&mut self) {
        // A newer query has replaced this one if the times differ.
        let _ = self.scheduler.newest.compare_exchange(self.began, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Work that may take long.
#[derive(Debug, Clone)]
pub struct LongWork {
    scheduler: Scheduler,
    began: u64,
}

impl LongWork {
    /// Yields to a newer short query. It must be called between two steps of at most some hundred
    /// microseconds; it costs one load if there is no query.
    #[inline]
    pub fn yield_to_foreground(&self) {
        if self.scheduler.preempts(self.began, LAST_YIELD.get(), now) {
            std::thread::yield_now();
            LAST_YIELD.set(now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start of the newest query.
    const BEGAN: u64 = 100_000;

    #[test]
    fn query_preempts_earlier_work_while_it_may_be_short() {
        let scheduler = Scheduler::default();
        let _query = scheduler.begin_query_at(BEGAN);
        assert!(scheduler.preempts(0, 0, || BEGAN) && scheduler.preempts(BEGAN - 1, 0, || BEGAN + SHORT - 1));
        assert!(!scheduler.preempts(BEGAN - 1, 0, || BEGAN + SHORT));
        // Neither its own work nor that of later queries.
        assert!(!scheduler.preempts(BEGAN, 0, || BEGAN + 1) && !scheduler.preempts(BEGAN + 1, 0, || BEGAN + 2));
    }

    #[test]
    fn finished_query_preempts_nothing() {
        let scheduler = Scheduler::default();
        let first = scheduler.begin_query_at(BEGAN);
        let second = scheduler.begin_query_at(BEGAN + 9);
        drop(first);
        assert!(scheduler.preempts(BEGAN + 5, 0, || BEGAN + 10));
        drop(second);
        assert!(!scheduler.preempts(0, 0, || BEGAN + 10));
    }

    #[test]
    fn thread_that_yielded_runs_for_a_turn() {
        let scheduler = Scheduler::default();
        let _query = scheduler.begin_query_at(BEGAN);
        assert!(!scheduler.preempts(0, BEGAN, || BEGAN + TURN - 1));
        assert!(scheduler.preempts(0, BEGAN, || BEGAN + TURN));
    }

    #[test]
    fn queries_of_one_scheduler_do_not_preempt_work_of_another() {
        let (one, other) = (Scheduler::default(), Scheduler::default());
        let _query = one.begin_query_at(BEGAN);
        assert!(one.clone().preempts(0, 0, || BEGAN) && !other.preempts(0, 0, || BEGAN));
    }
}
