//! Periodic background work.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// At most one task, which ends with its owner.
#[derive(Debug, Default)]
pub struct Background {
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Runs `work` now, and again an interval (at least a millisecond) after each start, or when it
    /// ends if that is later. It replaces the task started before. The task runs until
    /// [`Self::stop`], or until its owner is dropped. Needs a tokio runtime.
    pub fn start<T, W>(&self, owner: &Arc<T>, interval: Duration, work: impl Fn(Arc<T>) -> W + Send + 'static)
    where
        T: Send + Sync + 'static,
        W: Future<Output = ()> + Send,
    {
        let owner = Arc::downgrade(owner);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(owner) = owner.upgrade() else { return };
                work(owner).await;
            }
        });
        self.replace(Some(task));
    }

    /// Cancels the task at its next wait. Idempotent.
    pub fn stop(&self) {
        self.replace(None);
    }

    fn replace(&self, task: Option<JoinHandle<()>>) {
        if let Some(before) = std::mem::replace(&mut *self.task.lock(), task) {
            before.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn work_is_repeated_until_its_owner_is_gone() {
        let done = Arc::new(Semaphore::new(0));
        let background = Background::default();
        let count = |done: Arc<Semaphore>| async move { done.add_permits(1) };
        background.start(&done, Duration::ZERO, count);
        done.acquire_many(3).await.unwrap().forget();
        // The task that replaces it.
        background.start(&done, Duration::ZERO, count);
        done.acquire_many(2).await.unwrap().forget();
        let task = background.task.lock().take().unwrap();
        background.stop();
        drop(done);
        task.await.unwrap();
    }
}
