//! The one connection that writes, and its thread. Jobs run in the order in which they were asked for, each to its end, whoever
//! still waits; the engine's own may come between two of them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;
use vexact_core::error::{Error, Result};
use vexact_core::sql::failed;

use super::connection::Opened;
use super::log;

type Job = Box<dyn FnOnce(&Opened) + Send>;

/// The handle of the writing thread, and of its connection.
pub(super) struct Writer {
    /// `None` after the end.
    opened: Arc<Mutex<Option<Opened>>>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub fn start(opened: Opened) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let opened = Arc::new(Mutex::new(Some(opened)));
        let connection = Arc::clone(&opened);
        let run = move || {
            for job in queue {
                if let Some(opened) = &*connection.lock().unwrap_or_else(PoisonError::into_inner) {
                    job(opened);
                }
            }
        };
        let thread = std::thread::Builder::new().name("vexact-writer".into()).spawn(run);
        let thread = thread.map_err(|error| Error::Engine(format!("starting the writing thread: {error}")))?;
        Ok(Self { opened, jobs: Mutex::new(Some(jobs)), thread: tokio::sync::Mutex::new(Some(thread)) })
    }

    /// Runs a job on the writing connection. A panic is an error of this job alone, and what it left open is rolled back.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce(&Opened) -> Result<T> + Send + 'static) -> Result<T> {
        self.start_job(job)?.await.unwrap_or_else(|_| Err(lost()))
    }

    /// As [`Self::run`]; blocks this thread. If nobody writes, the job runs on it: a change of threads costs more than a short job.
    pub fn run_here<T: Send + 'static>(&self, job: impl FnOnce(&Opened) -> Result<T> + Send + 'static) -> Result<T> {
        if let Ok(opened) = self.opened.try_lock() {
            return opened.as_ref().map_or_else(|| Err(Error::shut_down()), |opened| work(opened, job));
        }
        self.start_job(job)?.blocking_recv().unwrap_or_else(|_| Err(lost()))
    }

    fn start_job<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Opened) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (answer, answered) = oneshot::channel();
        // A caller that is gone does not undo what was done.
        let job: Job = Box::new(move |opened| drop(answer.send(work(opened, job))));
        let sent = match &*self.jobs.lock().unwrap_or_else(PoisonError::into_inner) {
            None => false,
            Some(jobs) => jobs.send(job).is_ok(),
        };
        if sent { Ok(answered) } else { Err(Error::shut_down()) }
    }

    /// Ends the thread after the jobs that wait, and closes the connection. Harmless to repeat.
    pub async fn shutdown(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().await.take() {
            let opened = Arc::clone(&self.opened);
            let end = move || {
                let _ = thread.join();
                opened.lock().unwrap_or_else(PoisonError::into_inner).take();
            };
            let _ = tokio::task::spawn_blocking(end).await;
        }
    }
}

/// One job, after which no transaction is open.
fn work<T>(opened: &Opened, job: impl FnOnce(&Opened) -> Result<T>) -> Result<T> {
    let outcome = caught(|| job(opened));
    match roll_back(&opened.conn) {
        Ok(()) => outcome,
        // What the job says is nearer to the cause.
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
    let outcome = caught(run).and_then(|outcome| {
        // The mark is no insert of the user's.
        let row_id = conn.last_insert_rowid();
        log::mark_commit(conn)?;
        set_last_insert_rowid(conn, row_id);
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

/// As [`transaction`], for the engine's own work: `last_insert_rowid()` stays that of the user's last insert.
pub(super) fn own_transaction<T>(conn: &Connection, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let row_id = conn.last_insert_rowid();
    let outcome = transaction(conn, run);
    set_last_insert_rowid(conn, row_id);
    outcome
}

#[expect(unsafe_code, reason = "rusqlite has no call for it")]
fn set_last_insert_rowid(conn: &Connection, row_id: i64) {
    // SAFETY: the handle is of a connection that is open and that no other thread uses meanwhile, as it is not `Sync`.
    unsafe { rusqlite::ffi::sqlite3_set_last_insert_rowid(conn.handle(), row_id) }
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
