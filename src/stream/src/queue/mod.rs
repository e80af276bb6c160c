//! A queue of Arrow batches between a query and its program: into the query, or out of it. A writer
//! that is faster than its reader blocks at the high watermark, until the reader has drained the
//! queue to the low watermark.

mod sink;
mod source;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;
use vexact_core::error::{Error, Result};

pub use self::sink::QueueSink;
pub use self::source::QueueSource;
/// Watermarks of a queue, in batches: a writer blocks at the high one and resumes at the low one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Length at which a writer blocks, at least 1 …
    pub high: usize,
    /// … until the queue has drained to this length, less than `high`.
    pub low: usize,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self { high: 1024, low: 512 }
    }
}

impl Watermarks {
    fn check(self) -> Result<Self> {
        if self.high == 0 || self.low >= self.high {
            let (high, low) = (self.high, self.low);
            let problem = format!("watermarks: expected low < high, and high at least 1, got low {low}, high {high}");
            return Err(Error::InvalidArgument(problem));
        }
        Ok(self)
    }
}

/// A queue of [`RecordBatch`]es.
pub type BatchQueue = Queue<RecordBatch>;

/// A bounded queue. Cheap to clone; clones share one queue.
pub struct Queue<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<T> {
    watermarks: Watermarks,
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    items: VecDeque<T>,
    /// True from the high watermark down to the low one.
    is_full: bool,
    is_closed: bool,
    has_reader: bool,
    /// Total number of items taken out.
    taken: u64,
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "Queue({} items, closed: {})", state.items.len(), state.is_closed)
    }
}

impl<T> Queue<T> {
    /// Creates an empty queue.
    ///
    /// # Errors
    /// Invalid watermarks.
    pub fn try_new(watermarks: Watermarks) -> Result<Self> {
        let watermarks = watermarks.check()?;
        let state = State { items: VecDeque::new(), is_full: false, is_closed: false, has_reader: false, taken: 0 };
        Ok(Self { shared: Arc::new(Shared { watermarks, state: Mutex::new(state), changed: Notify::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.shared.state.lock()
    }

    /// Waits until `look` returns a value; a change between two calls is never missed.
    async fn wait<F>(&self, mut look: impl FnMut(&mut State<T>) -> Option<F>) -> F {
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let found = look(&mut self.state());
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }

    /// Appends an item, after waiting for room.
    ///
    /// # Errors
    /// A queue that is closed, also during the wait.
    pub async fn push(&self, item: T) -> Result<()> {
        let high = self.shared.watermarks.high;
        let mut item = Some(item);
        let pushed = self.wait(|state| {
            if state.is_closed {
                return Some(Err(Error::InvalidArgument("the queue is closed: nothing more can be pushed".into())));
            }
            if state.is_full {
                return None;
            }
            state.items.extend(item.take());
            state.is_full = state.items.len() >= high;
            Some(Ok(()))
        });
        let pushed = pushed.await;
        self.shared.changed.notify_waiters();
        pushed
    }

    /// Takes the first item; returns `None` if there is none, and always once the queue is closed
    /// and empty.
    pub fn try_pop(&self) -> Option<T> {
        let item = {
            let low = self.shared.watermarks.low;
            let mut state = self.state();
            let item = state.items.pop_front()?;
            state.taken += 1;
            state.is_full &= state.items.len() > low;
            item
        };
        self.shared.changed.notify_waiters();
        Some(item)
    }

    /// Waits for an item and takes it; returns `None` once the queue is closed and empty, and after
    /// `timeout` without an item.
    pub async fn pop(&self, timeout: Option<Duration>) -> Option<T> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let filled = self.wait_filled();
            let is_filled = match until {
                Some(until) => tokio::time::timeout_at(until, filled).await.unwrap_or(false),
                None => filled.await,
            };
            match self.try_pop() {
                // Another reader took the item first.
                None if is_filled => continue,
                item => return item,
            }
        }
    }

    /// Waits until there is an item (returns true), or the queue is closed and empty (returns
    /// false).
    async fn wait_filled(&self) -> bool {
        let look = |state: &mut State<T>| match state.items.is_empty() {
            false => Some(true),
            true => state.is_closed.then_some(false),
        };
        self.wait(look).await
    }

    /// Closes the queue: its items can still be taken. Idempotent.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.shared.changed.notify_waiters();
    }

    /// Returns true if a writer has to wait.
    pub fn is_full(&self) -> bool {
        self.state().is_full
    }

    /// Returns true if no more batches will come: the queue is closed and empty.
    pub fn is_drained(&self) -> bool {
        let state = self.state();
        state.is_closed && state.items.is_empty()
    }

    /// Returns true if [`Self::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Returns the number of items in the queue.
    pub fn len(&self) -> usize {
        self.state().items.len()
    }

    /// Returns true if no batch is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use futures::FutureExt;

    use super::*;

    fn batch(value: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![value])) as ArrayRef)]).unwrap()
    }

    #[tokio::test]
    async fn a_writer_waits_from_the_high_watermark_to_the_low_one() {
        let queue = BatchQueue::try_new(Watermarks { high: 3, low: 1 }).unwrap();
        for value in 0..3 {
            assert!(queue.push(batch(value)).now_or_never().is_some());
        }
        let mut pushing = Box::pin(queue.push(batch(3)));
        assert!(futures::poll!(&mut pushing).is_pending());
        assert_eq!(queue.try_pop(), Some(batch(0)));
        assert!(futures::poll!(&mut pushing).is_pending(), "two are left: above the low watermark");
        assert_eq!(queue.try_pop(), Some(batch(1)));
        assert!(futures::poll!(&mut pushing).is_ready());
        queue.close();
        assert!(queue.push(batch(9)).await.is_err());
        assert_eq!(queue.pop(None).await, Some(batch(2)));
        assert!(!queue.is_drained());
        assert_eq!(queue.pop(None).await, Some(batch(3)));
        assert_eq!(queue.pop(None).await, None);
        assert!(queue.is_drained());
    }

    #[tokio::test]
    async fn closing_wakes_who_waits() {
        let queue = BatchQueue::try_new(Watermarks::default()).unwrap();
        let mut popping = Box::pin(queue.pop(None));
        assert!(futures::poll!(&mut popping).is_pending());
        queue.close();
        assert_eq!(popping.await, None);
    }

    #[test]
    fn watermarks_that_do_not_work_are_refused() {
        for (high, low) in [(0, 0), (1, 1), (2, 3)] {
            assert!(BatchQueue::try_new(Watermarks { high, low }).is_err());
        }
    }
}
