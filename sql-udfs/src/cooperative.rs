//! Cooperative yielding: background work yields its core to short foreground queries.
//!
//! Where there are more threads than cores, the operating system lets a computing thread run on for milliseconds, in which many
//! a query would finish. Work that may take long therefore yields between its steps to a query that came after it and may still
//! be a short one.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Age, in microseconds, from which a query counts as long and is not yielded to.
const SHORT: u64 = 10_000;

/// Minimum time, in microseconds, between two yields of one thread.
const TURN: u64 = 250;

thread_local! {
    /// Time of this thread's last yield.
    static LAST_YIELD: Cell<u64> = const { Cell::new(0) };
}

static NEWEST: Newest = Newest(AtomicU64::new(0));

/// Start time of the newest unfinished query; 0 if there is none.
#[derive(Debug)]
struct Newest(AtomicU64);

impl Newest {
    fn begin(&self, at: u64) {
        self.0.store(at, Ordering::Relaxed);
    }

    /// Clears the query that began at `began`, unless a newer one replaced it.
    fn finish(&self, began: u64) {
        let _ = self.0.compare_exchange(began, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns whether work that began at `began` must yield, on a thread whose last yield was at `last_yield`.
    #[inline]
    fn preempts(&self, began: u64, last_yield: u64, now: impl Fn() -> u64) -> bool {
        let newest = self.0.load(Ordering::Relaxed);
        if newest <= began {
            return false;
        }
        let now = now();
        now.saturating_sub(newest) < SHORT && now.saturating_sub(last_yield) >= TURN
    }
}

/// Microseconds since the first call, never 0.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
}

/// A foreground query. It ends when this is dropped.
#[derive(Debug)]
pub struct ForegroundQuery {
    began: u64,
}

impl ForegroundQuery {
    /// Begins a query now.
    pub fn begin() -> Self {
        let began = now();
        NEWEST.begin(began);
        Self { began }
    }
}

impl Drop for ForegroundQuery {
    fn drop(&mut self) {
        NEWEST.finish(self.began);
    }
}

/// Work that may take long.
#[derive(Debug, Clone, Copy)]
pub struct BackgroundWork {
    began: u64,
}

impl BackgroundWork {
    /// Work of a query, which begins now. Only later queries preempt it.
    pub fn of_query() -> Self {
        Self { began: now() }
    }

    /// Work that no query waits for. Every query preempts it.
    pub fn background() -> Self {
        Self { began: 0 }
    }

    /// Yields to a newer short query. To be called between two steps of at most some hundred microseconds; costs one load where
    /// there is no query.
    #[inline]
    pub fn yield_to_foreground(self) {
        if NEWEST.preempts(self.began, LAST_YIELD.get(), now) {
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

    fn newest() -> Newest {
        let newest = Newest(AtomicU64::new(0));
        newest.begin(BEGAN);
        newest
    }

    #[test]
    fn a_query_preempts_work_that_began_earlier_while_it_may_be_short() {
        let newest = newest();
        assert!(newest.preempts(0, 0, || BEGAN) && newest.preempts(BEGAN - 1, 0, || BEGAN + SHORT - 1));
        assert!(!newest.preempts(BEGAN - 1, 0, || BEGAN + SHORT));
        // Neither its own work nor that of later queries.
        assert!(!newest.preempts(BEGAN, 0, || BEGAN + 1) && !newest.preempts(BEGAN + 1, 0, || BEGAN + 2));
    }

    #[test]
    fn with_its_answer_a_query_preempts_nothing() {
        let newest = newest();
        newest.begin(BEGAN + 9);
        newest.finish(BEGAN);
        assert!(newest.preempts(BEGAN + 5, 0, || BEGAN + 10));
        newest.finish(BEGAN + 9);
        assert!(!newest.preempts(0, 0, || BEGAN + 10));
    }

    #[test]
    fn thread_that_yielded_runs_for_a_turn() {
        let newest = newest();
        assert!(!newest.preempts(0, BEGAN, || BEGAN + TURN - 1));
        assert!(newest.preempts(0, BEGAN, || BEGAN + TURN));
    }
}
