//! Entry points of the library: a caller's work runs on a stack that is large enough, and a panic
//! in the work becomes an error.

use std::any::Any;
use std::backtrace::BacktraceStatus;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{FutureExt, Stream};
use parking_lot::Mutex;
use vexact_sql::deep::on_stack;

use crate::error::{Error, Result};
use crate::sql::excerpt;

/// Runs the future of a caller on a stack with `stack` bytes for its recursion. A panic becomes
/// [`Error::Internal`], which names `statement`. The future's values are dropped on that stack too.
pub fn entry<T, F>(stack: usize, statement: &str, future: F) -> Entry<'_, F>
where
    F: Future<Output = Result<T>>,
{
    Entry { stack, statement, future: Some(Box::pin(future)) }
}

/// Runs blocking work as [`entry`] runs a future.
///
/// # Errors
/// Those of the work, and [`Error::Internal`] for a panic in it.
pub fn enter<T>(stack: usize, statement: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let caught = on_stack(stack, || catch_unwind(AssertUnwindSafe(work)));
    caught.unwrap_or_else(|payload| Err(panicked(statement, payload.as_ref()))).map_err(|error| named(error, statement))
}

/// The future of [`entry`].
#[must_use = "a future does nothing until it is polled"]
pub struct Entry<'a, F> {
    stack: usize,
    statement: &'a str,
    /// `None` once it has ended.
    future: Option<Pin<Box<F>>>,
}

impl<T, F: Future<Output = Result<T>>> Future for Entry<'_, F> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Self { stack, statement, future: slot } = &mut *self;
        on_stack(*stack, || {
            let Some(future) = slot else { return Poll::Pending };
            let polled = catch_unwind(AssertUnwindSafe(|| future.poll_unpin(context)));
            let ended = match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(ended)) => ended.map_err(|error| named(error, statement)),
                Err(payload) => Err(panicked(statement, payload.as_ref())),
            };
            drop_caught(slot.take());
            Poll::Ready(ended)
        })
    }
}

impl<F> Drop for Entry<'_, F> {
    fn drop(&mut self) {
        let future = self.future.take();
        on_stack(self.stack, || drop_caught(future));
    }
}

/// Drops what was left by a panic, which may panic again.
fn drop_caught<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// The rows of a plan. Each step of the stream runs as in [`entry`].
pub struct EntryStream {
    stack: usize,
    statement: Arc<str>,
    schema: SchemaRef,
    /// `None` once it has failed.
    rows: Option<SendableRecordBatchStream>,
}

impl EntryStream {
    /// Creates the stream of the rows of the plan of `statement`.
    pub fn new(stack: usize, statement: &Arc<str>, rows: SendableRecordBatchStream) -> Self {
        Self { stack, statement: Arc::clone(statement), schema: rows.schema(), rows: Some(rows) }
    }
}

impl Stream for EntryStream {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { stack, statement, rows: slot, .. } = &mut *self;
        on_stack(*stack, || {
            let Some(rows) = slot else { return Poll::Ready(None) };
            match catch_unwind(AssertUnwindSafe(|| rows.as_mut().poll_next(context))) {
                Ok(polled) => polled,
                Err(payload) => {
                    drop_caught(slot.take());
                    let error = panicked(statement, payload.as_ref());
                    Poll::Ready(Some(Err(DataFusionError::External(Box::new(error)))))
                }
            }
        })
    }
}

impl RecordBatchStream for EntryStream {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

impl Drop for EntryStream {
    fn drop(&mut self) {
        let rows = self.rows.take();
        on_stack(self.stack, || drop_caught(rows));
    }
}

/// Returns the error for a panic in a caller's work.
fn panicked(statement: &str, payload: &(dyn Any + Send)) -> Error {
    let problem = HERE.with_borrow_mut(Option::take).unwrap_or_else(|| text(payload));
    Error::Internal { statement: excerpt(statement), problem }
}

/// Adds the statement to the error of a panic on another thread; returns other errors unchanged.
fn named(error: Error, statement: &str) -> Error {
    match error {
        Error::Internal { statement: unknown, problem } if unknown.is_empty() => {
            Error::Internal { statement: excerpt(statement), problem }
        }
        Error::Query(error) if is_panic(&error) => {
            let problem = last_message().unwrap_or_else(|| error.to_string());
            Error::Internal { statement: excerpt(statement), problem }
        }
        other => other,
    }
}

fn is_panic(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::ExecutionJoin(error) => error.is_panic(),
        DataFusionError::External(source) => {
            source.downcast_ref::<tokio::task::JoinError>().is_some_and(tokio::task::JoinError::is_panic)
        }
        _ => false,
    }
}

/// Returns the error of a task that did not end by itself: `what` ran in the task.
pub fn task_ended(what: &str, error: tokio::task::JoinError) -> Error {
    match error.try_into_panic() {
        Ok(payload) => {
            let problem = last_message().unwrap_or_else(|| text(payload.as_ref()));
            Error::Internal { statement: what.into(), problem }
        }
        Err(error) => Error::Interrupted(format!("{what} ended early: {error}")),
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}

thread_local! {
    /// Message and location of the last panic on this thread.
    static HERE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Returns the message and location of the panic that was just caught: the last one on this thread,
/// else the last one on any thread. For callers that know more about the panic.
pub fn caught_message() -> Option<String> {
    let here = HERE.with_borrow(Option::clone);
    here.or_else(|| LAST.lock().clone())
}

/// Message and location of the last panic on any thread.
static LAST: Mutex<Option<String>> = Mutex::new(None);

fn last_message() -> Option<String> {
    LAST.lock().take()
}

/// Keeps the messages of panics for the errors that the panics become, instead of printing them;
/// with `RUST_BACKTRACE` set they are printed too. For programs, whose users read errors: a library
/// leaves the panic hook to its program.
pub fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map_or(String::new(), |place| format!(" ({place})"));
            let message = format!("{}{place}", text(panic.payload()));
            *LAST.lock() = Some(message.clone());
            HERE.with_borrow_mut(|here| *here = Some(message));
            if std::backtrace::Backtrace::capture().status() == BacktraceStatus::Captured {
                print(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internal(error: &Error) -> (String, String) {
        match error {
            Error::Internal { statement, problem } => (statement.clone(), problem.clone()),
            other => panic!("an internal error, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error_that_names_the_statement() {
        let caught: Result<()> = entry(1 << 20, "SELECT 1", async { panic!("it broke: {}", 7) }).await;
        let error = caught.unwrap_err();
        assert_eq!(internal(&error).0, "SELECT 1");
        assert!(internal(&error).1.contains("it broke: 7"), "{error}");
        let text = error.to_string();
        assert!(text.contains("SELECT 1") && text.contains("report"), "{text}");
        let caught = enter(1 << 20, "read", || -> Result<()> { panic!("it broke") });
        assert_eq!(internal(&caught.unwrap_err()).0, "read");
    }

    #[tokio::test]
    async fn a_panic_of_another_task_names_the_statement() {
        let work = async {
            let task = tokio::spawn(async { panic!("elsewhere") });
            let error = task.await.unwrap_err();
            Err::<(), _>(Error::Query(DataFusionError::ExecutionJoin(Box::new(error))))
        };
        assert_eq!(internal(&entry(1 << 20, "SELECT 2", work).await.unwrap_err()).0, "SELECT 2");
        let error = tokio::spawn(async { panic!("again") }).await.unwrap_err();
        assert_eq!(internal(&task_ended("the query", error)).0, "the query");
    }
}
