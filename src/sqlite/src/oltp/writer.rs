//! The only writing connection, and its thread. Jobs run first in, first out, and each runs to
//! completion even if its caller is cancelled. The engine's own jobs may run between two of them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

use super::connection::{Opened, open_writer};
use super::file_id::FileId;
use super::log;

type Job = Box<dyn FnOnce(Result<&Opened>) + Send>;

/// Maximum time that [`Writer::run_soon`] waits for the jobs before its own.
const SOON: Duration = Duration::from_millis(50);

/// The handle of the writing thread, and of its connection.
pub(super) struct Writer {
    opened: Arc<Mutex<Connected>>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// The connection, to the file that its path names.
struct Connected {
    path: PathBuf,
    /// `None` after the end.
    opened: Option<Opened>,
}

impl Connected {
    /// Returns the connection. It is opened again if the path now names another file, because
    /// writes to the old file would be lost.
    fn current(&mut self) -> Result<&Opened> {
        let opened = self.opened.as_mut().ok_or_else(Error::shut_down)?;
        if FileId::of(&self.path)? != opened.file {
            let fresh = open_writer(&self.path, opened.busy_timeout, &opened.shared)?;
            fresh.guard.reserve(opened.guard.reserved());
            *opened = fresh;
        }
        Ok(opened)
    }
}

impl Writer {
    pub fn start(path: PathBuf, opened: Opened) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let opened = Arc::new(Mutex::new(Connected { path, opened: Some(opened) }));
        let connection = Arc::clone(&opened);
        let run = move || {
            for job in queue {
                job(connection.lock().current());
            }
        };
        let thread = std::thread::Builder::new().name("vexact-writer".into()).spawn(run);
        let thread = thread.map_err(|error| Error::Engine(format!("starting the writing thread: {error}")))?;
        Ok(Self { opened, jobs: Mutex::new(Some(jobs)), thread: tokio::sync::Mutex::new(Some(thread)) })
    }

    /// Runs a job on the writing connection. A panic is an error of this job only, and its open
    /// transaction is rolled back.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce(&Opened) -> Result<T> + Send + 'static) -> Result<T> {
        self.start_job(job)?.await.unwrap_or_else(|_| Err(lost()))
    }

    /// As [`Self::run`]; blocks this thread. If the writer is idle, the job runs on this thread: a
    /// thread switch costs more than a short job.
    pub fn run_here<T: Send + 'static>(&self, job: impl FnOnce(&Opened) -> Result<T> + Send + 'static) -> Result<T> {
        if let Some(mut opened) = self.opened.try_lock() {
            return opened.current().and_then(|opened| work(opened, job));
        }
        self.start_job(job)?.blocking_recv().unwrap_or_else(|_| Err(lost()))
    }

    /// As [`Self::run_here`], without waiting long for other jobs, which may wait for other
    /// programs. Returns `None` if the job has not run yet.
    pub fn run_soon<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Opened) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        if let Some(mut opened) = self.opened.try_lock() {
            return opened.current().and_then(|opened| work(opened, job)).map(Some);
        }
        let (answer, answered) = mpsc::channel();
        self.send(Box::new(move |opened| drop(answer.send(opened.and_then(|opened| work(opened, job))))))?;
        match answered.recv_timeout(SOON) {
            Ok(outcome) => outcome.map(Some),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(lost()),
        }
    }

    fn start_job<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Opened) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (answer, answered) = oneshot::channel();
        // A cancelled caller does not undo the job.
        self.send(Box::new(move |opened| drop(answer.send(opened.and_then(|opened| work(opened, job))))))?;
        Ok(answered)
    }

    fn send(&self, job: Job) -> Result<()> {
        let sent = match &*self.jobs.lock() {
            None => false,
            Some(jobs) => jobs.send(job).is_ok(),
        };
        if sent { Ok(()) } else { Err(Error::shut_down()) }
    }

    /// Ends the thread after the waiting jobs, and closes the connection. Idempotent.
    pub async fn shutdown(&self) {
        self.jobs.lock().take();
        if let Some(thread) = self.thread.lock().await.take() {
            let opened = Arc::clone(&self.opened);
            let end = move || {
                let _ = thread.join();
                opened.lock().opened.take();
            };
            let _ = tokio::task::spawn_blocking(end).await;
        }
    }
}

/// One job, after which no transaction is open.
fn work<T>(opened: &Opened, job: impl FnOnce(&Opened) -> Result<T>) -> Result<T> {
    let outcome = caught(|| opened.extend().and_then(|()| job(opened)));
    match roll_back(&opened.conn) {
        Ok(()) => outcome,
        // The job's own error is closer to the cause.
        Err(error) => outcome.and(Err(error)),
    }
}

fn lost() -> Error {
    Error::Engine("the writing thread ended before the job".into())
}

/// A panic as an error.
pub(super) fn caught<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(Error::Engine(format!("internal error: {}", text(&*panic)))))
}

fn text(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text.to_string(),
        (_, Some(text)) => text.clone(),
        _ => "panic".into(),
    }
}

/// One write transaction, marked in the log: all of `run`, or nothing.
pub(super) fn transaction<T>(conn: &Connection, run: impl FnOnce() -> Result<T>) -> Result<T> {
    step(conn, "BEGIN IMMEDIATE")?;
    begun(conn, run)
}

/// As [`transaction`], but waits a limited time for another program that writes. Returns `None` if
/// that program is still writing.
pub(super) fn transaction_within<T>(
    opened: &Opened,
    patience: Duration,
    run: impl FnOnce() -> Result<T>,
) -> Result<Option<T>> {
    let conn = &opened.conn;
    let wait = |time| conn.busy_timeout(time).map_err(failed(|| "the busy timeout"));
    wait(patience.min(opened.busy_timeout))?;
    let begin = conn.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([]));
    wait(opened.busy_timeout)?;
    match begin {
        Ok(_) => begun(conn, run).map(Some),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(None),
        Err(error) => Err(failed(|| "BEGIN IMMEDIATE")(error)),
    }
}

/// The transaction that is open.
fn begun<T>(conn: &Connection, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let outcome = caught(run).and_then(|outcome| {
        log::mark_commit(conn)?;
        step(conn, "COMMIT")?;
        Ok(outcome)
    });
    match outcome {
        Ok(outcome) => Ok(outcome),
        Err(error) => {
            roll_back(conn)?;
            Err(error)
        }
    }
}

/// One read transaction: all of `run` sees one state of the file.
pub(super) fn snapshot<T>(conn: &Connection, run: impl FnOnce() -> Result<T>) -> Result<T> {
    step(conn, "BEGIN")?;
    let outcome = caught(run);
    roll_back(conn)?;
    outcome
}

/// Ends a transaction that is open; SQLite may have ended it itself.
fn roll_back(conn: &Connection) -> Result<()> {
    if conn.is_autocommit() { Ok(()) } else { step(conn, "ROLLBACK") }
}

fn step(conn: &Connection, sql: &'static str) -> Result<()> {
    conn.prepare_cached(sql).and_then(|mut statement| statement.execute([])).map(drop).map_err(failed(|| sql))
}
