//! Read-only connections, at most so many at once, each for one reader at a time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::InterruptHandle;
use tokio::sync::Semaphore;

use super::connection::{Opened, open_reader};
use super::writer::{caught, shut_down};
use crate::error::{Error, Result};

/// The pool. Connections are opened when they are first needed.
#[derive(Clone)]
pub(super) struct Readers(Arc<Pool>);

struct Pool {
    path: PathBuf,
    busy_timeout: Duration,
    size: u32,
    permits: Arc<Semaphore>,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Opened>,
    /// What runs, so that it can be ended.
    running: HashMap<u64, InterruptHandle>,
    is_closed: bool,
}

impl Readers {
    pub fn new(path: PathBuf, size: u32, busy_timeout: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(size as usize));
        Self(Arc::new(Pool { path, busy_timeout, size, permits, next: AtomicU64::new(0), state: Mutex::default() }))
    }

    /// Runs a job on a connection, off the async threads. If the caller goes away, SQLite is interrupted.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce(&Opened) -> Result<T> + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.0.permits).acquire_owned().await.map_err(|_| shut_down())?;
        let running = self.0.next.fetch_add(1, Ordering::Relaxed);
        let _cancel = Cancel { pool: Arc::clone(&self.0), running };
        let pool = Arc::clone(&self.0);
        let work = move || {
            let _permit = permit;
            pool.work(running, job)
        };
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|error| Err(Error::Engine(format!("a reader ended: {error}"))))
    }

    /// Ends what runs, and closes the connections. Harmless to repeat.
    pub async fn shutdown(&self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.running.values().for_each(InterruptHandle::interrupt);
        drop(state);
        // All permits: nobody reads any more.
        if let Ok(all) = self.0.permits.acquire_many(self.0.size).await {
            all.forget();
        }
        self.0.permits.close();
        self.0.lock().idle.clear();
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work<T>(&self, running: u64, job: impl FnOnce(&Opened) -> Result<T>) -> Result<T> {
        let idle = self.lock().idle.pop();
        let opened = match idle {
            Some(opened) => opened,
            None => open_reader(&self.path, self.busy_timeout)?,
        };
        {
            let mut state = self.lock();
            if state.is_closed {
                return Err(shut_down());
            }
            state.running.insert(running, opened.conn.get_interrupt_handle());
        }
        let mut has_panicked = true;
        let outcome = caught(|| {
            let outcome = job(&opened);
            has_panicked = false;
            outcome
        });
        let mut state = self.lock();
        state.running.remove(&running);
        // After a panic nobody knows what the connection is in.
        if !state.is_closed && !has_panicked && opened.conn.is_autocommit() {
            state.idle.push(opened);
        }
        outcome
    }
}

/// Interrupts a job that nobody waits for.
struct Cancel {
    pool: Arc<Pool>,
    running: u64,
}

impl Drop for Cancel {
    fn drop(&mut self) {
        // Under the lock, a job that has ended is not in the map, so no later one on its connection is hit.
        if let Some(handle) = self.pool.lock().running.get(&self.running) {
            handle.interrupt();
        }
    }
}
