//! A bounded pool of read-only connections, each for one reader at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use vexact_cooperative::{LongWork, Scheduler};
use vexact_core::error::{Error, Result};

use super::connection::{INSTRUCTIONS, Opened, Shared, open_reader};
use super::file_id::FileId;
use super::writer::caught;

/// Priority of the jobs of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) enum JobKind {
    /// A query: only later queries preempt its jobs.
    Query,
    /// Background work: every query preempts its jobs.
    Background,
}

impl JobKind {
    fn begin(self, scheduler: &Scheduler) -> LongWork {
        match self {
            JobKind::Query => scheduler.query_work(),
            JobKind::Background => scheduler.background_work(),
        }
    }
}

/// The pool. Connections are opened when they are first needed.
pub(super) struct Readers(Arc<Pool>);

struct Pool {
    path: PathBuf,
    busy_timeout: Duration,
    size: u32,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Reader>>,
    is_closed: Arc<AtomicBool>,
    kind: JobKind,
    shared: Arc<Shared>,
}

struct Reader {
    opened: Opened,
    /// The job that it runs: its stop flag and its work.
    job: Arc<Mutex<(Arc<AtomicBool>, LongWork)>>,
}

impl Readers {
    /// A pool whose connections are opened when they are first needed.
    pub fn new(path: PathBuf, size: u32, busy_timeout: Duration, kind: JobKind, shared: &Arc<Shared>) -> Self {
        let shared = Arc::clone(shared);
        let permits = Arc::new(Semaphore::new(size as usize));
        let is_closed = Arc::new(AtomicBool::new(false));
        Self(Arc::new(Pool { path, busy_timeout, size, permits, idle: Mutex::default(), is_closed, kind, shared }))
    }

    /// Runs a job on a connection, off the async threads. If the caller is cancelled, its statement
    /// is interrupted.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce(&Opened) -> Result<T> + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.0.permits).acquire_owned().await.map_err(|_| Error::shut_down())?;
        let stop = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(Arc::clone(&stop));
        let pool = Arc::clone(&self.0);
        let work = move || {
            let outcome = pool.work(stop, job);
            drop(permit);
            outcome
        };
        let ended = |error| Err(Error::Engine(format!("a reader ended: {error}")));
        tokio::task::spawn_blocking(work).await.unwrap_or_else(ended)
    }

    /// Runs a job on a connection, on this thread, which may block and belongs to a runtime.
    pub fn run_here<T>(&self, job: impl FnOnce(&Opened) -> Result<T>) -> Result<T> {
        let _permit = match Arc::clone(&self.0.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let permit = Arc::clone(&self.0.permits).acquire_owned();
                Handle::current().block_on(permit).map_err(|_| Error::shut_down())?
            }
        };
        self.0.work(Arc::default(), job)
    }

    /// As [`Self::run_here`], on any thread; there must be an idle connection.
    pub fn run_at_once<T>(&self, job: impl FnOnce(&Opened) -> Result<T>) -> Result<T> {
        let _permit = Arc::clone(&self.0.permits)
            .try_acquire_owned()
            .map_err(|_| Error::Engine(format!("{}: all {} readers are in use", self.0.path.display(), self.0.size)))?;
        self.0.work(Arc::default(), job)
    }

    /// Interrupts running jobs, and closes the connections. Idempotent.
    pub async fn shutdown(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
        // With all permits taken, no job is running.
        if let Ok(all) = self.0.permits.acquire_many(self.0.size).await {
            self.0.permits.close();
            all.forget();
        }
        self.0.idle.lock().clear();
    }
}

impl Pool {
    fn work<T>(&self, stop: Arc<AtomicBool>, job: impl FnOnce(&Opened) -> Result<T>) -> Result<T> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Error::shut_down());
        }
        let reader = self.idle(FileId::of(&self.path)?).map_or_else(|| self.open(), Ok)?;
        *reader.job.lock() = (stop, self.kind.begin(&self.shared.scheduler));
        let mut has_returned = false;
        let outcome = caught(|| {
            let outcome = reader.opened.extend().and_then(|()| job(&reader.opened));
            has_returned = true;
            outcome
        });
        // After a panic the state of the connection is unknown.
        if has_returned && reader.opened.conn.is_autocommit() {
            self.idle.lock().push(reader);
        }
        outcome
    }

    /// Returns an idle connection. Idle connections that do not see the current file are closed.
    fn idle(&self, file: FileId) -> Option<Reader> {
        let mut idle = self.idle.lock();
        idle.retain(|reader| reader.opened.file == file && !reader.opened.is_immutable);
        idle.pop()
    }

    fn open(&self) -> Result<Reader> {
        let mut opened = open_reader(&self.path, self.busy_timeout, &self.shared)?;
        let job = Arc::new(Mutex::new((Arc::<AtomicBool>::default(), self.kind.begin(&self.shared.scheduler))));
        let (is_closed, current) = (Arc::clone(&self.is_closed), Arc::clone(&job));
        let is_to_stop = move || {
            let (is_to_stop, work) = {
                let (stop, work) = &*current.lock();
                (stop.load(Ordering::Relaxed), work.clone())
            };
            work.yield_to_foreground();
            is_to_stop || is_closed.load(Ordering::Relaxed)
        };
        let watched = opened.conn.progress_handler(INSTRUCTIONS, Some(is_to_stop));
        watched.map_err(vexact_core::sql::failed(|| self.path.display().to_string()))?;
        Ok(Reader { opened, job })
    }
}

/// Cancels a job that has no waiting caller.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
