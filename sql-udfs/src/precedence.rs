//! Short queries go before long work. Where there are more threads than cores, the system lets a thread that computes run on for
//! milliseconds, in which many a query would be done. So work that may take long gives way, between its steps, to a query that
//! came after it and may still be a short one.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A query that takes longer, in microseconds, is a long one.
const SHORT: u64 = 10_000;

/// So long, in microseconds, a thread goes on before it gives way again: long work has its share too.
const TURN: u64 = 250;

thread_local! {
    /// When this thread gave way the last time.
    static GAVE_WAY: Cell<u64> = const { Cell::new(0) };
}

static NEWEST: Newest = Newest(AtomicU64::new(0));

/// When the newest query came that has no answer yet; 0: there is none.
#[derive(Debug)]
struct Newest(AtomicU64);

impl Newest {
    fn come(&self, at: u64) {
        self.0.store(at, Ordering::Relaxed);
    }

    /// The query that came then has its answer. One that came before it has no precedence any more.
    fn answered(&self, came: u64) {
        // Another is the newest.
        let _ = self.0.compare_exchange(came, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether work that began at `begun`, on a thread that gave way the last time at `gave_way`, has to give way.
    #[inline]
    fn goes_before(&self, begun: u64, gave_way: u64, now: impl Fn() -> u64) -> bool {
        let came = self.0.load(Ordering::Relaxed);
        if came <= begun {
            return false;
        }
        let now = now();
        now.saturating_sub(came) < SHORT && now.saturating_sub(gave_way) >= TURN
    }
}

/// Microseconds since some time, never 0.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(1)
}

/// A query that has come. It has its answer when this is dropped.
#[derive(Debug)]
pub struct Arrival {
    came: u64,
}

impl Arrival {
    /// A query that comes now.
    pub fn now() -> Self {
        let came = now();
        NEWEST.come(came);
        Self { came }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        NEWEST.answered(self.came);
    }
}

/// Work that may take long.
#[derive(Debug, Clone, Copy)]
pub struct LongWork {
    begun: u64,
}

impl LongWork {
    /// Work of a query, which begins now: queries that come later go before it.
    pub fn of_query() -> Self {
        Self { begun: now() }
    }

    /// Work that no query waits for: all of them go before it.
    pub fn beside() -> Self {
        Self { begun: 0 }
    }

    /// To be called between two steps of at most some hundred microseconds. Costs next to nothing where no query has come.
    #[inline]
    pub fn give_way(self) {
        if NEWEST.goes_before(self.begun, GAVE_WAY.get(), now) {
            std::thread::yield_now();
            GAVE_WAY.set(now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A newest query, and the time, which no thread gave way before.
    const COME: u64 = 100_000;

    fn newest() -> Newest {
        let newest = Newest(AtomicU64::new(0));
        newest.come(COME);
        newest
    }

    #[test]
    fn a_query_goes_before_work_that_began_earlier_while_it_may_be_short() {
        let newest = newest();
        assert!(newest.goes_before(0, 0, || COME) && newest.goes_before(COME - 1, 0, || COME + SHORT - 1));
        assert!(!newest.goes_before(COME - 1, 0, || COME + SHORT));
        // Its own work, and that of later ones.
        assert!(!newest.goes_before(COME, 0, || COME + 1) && !newest.goes_before(COME + 1, 0, || COME + 2));
    }

    #[test]
    fn with_its_answer_a_query_goes_before_nothing() {
        let newest = newest();
        newest.come(COME + 9);
        newest.answered(COME);
        assert!(newest.goes_before(COME + 5, 0, || COME + 10));
        newest.answered(COME + 9);
        assert!(!newest.goes_before(0, 0, || COME + 10));
    }

    #[test]
    fn a_thread_that_gave_way_goes_on_for_a_turn() {
        let newest = newest();
        assert!(!newest.goes_before(0, COME, || COME + TURN - 1));
        assert!(newest.goes_before(0, COME, || COME + TURN));
    }
}
