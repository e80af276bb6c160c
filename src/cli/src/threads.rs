//! The threads of a command, its timeout, and its cancellation by signals.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::watch;
use vexact_core::entry::task_ended;
use vexact_core::temporary_file::discard_unfinished;
use vexact_sql::deep::THREAD_STACK;

use super::answer::Answer;
use super::failure::Failure;

/// Grace period after a stop request, which a second signal ends: a slow disk may take long to make
/// a file durable.
const GRACE: Duration = Duration::from_secs(10);

/// Grace period in which cancelled work removes its temporary files: a task ends at its next wait
/// or yield.
const CLEARING: Duration = Duration::from_secs(2);

/// A request to stop, for work that checks it. Cheap to clone; clones share their state.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(watch::Sender<bool>);

impl Stop {
    /// Waits for the request.
    pub fn asked(&self) -> impl Future<Output = ()> + use<> {
        let (mut receiver, sender) = (self.0.subscribe(), self.0.clone());
        async move {
            // The sender is held here, so that waiting cannot fail.
            let _ = receiver.wait_for(|is_asked| *is_asked).await;
            drop(sender);
        }
    }

    /// Sends the request. Returns true if the work listens for it: the caller then waits for its
    /// end.
    fn ask(&self) -> bool {
        // Work that handles the request stops listening, so the listeners are counted before it is
        // sent.
        let is_heard = self.0.receiver_count() > 0;
        self.0.send_replace(true);
        is_heard
    }
}

/// The threads on which a command works. They start in [`Self::run`]: help and usage errors need
/// none.
#[derive(Debug)]
pub(super) struct Threads {
    limit_ms: Option<u64>,
    stop: Stop,
    sender: mpsc::Sender<Event>,
    receiver: mpsc::Receiver<Event>,
}

impl Default for Threads {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { limit_ms: None, stop: Stop::default(), sender, receiver }
    }
}

impl Threads {
    /// Catches Ctrl-C and SIGTERM from now on: a signal cancels the work and not the process, so
    /// that the process can report it.
    pub fn catching_signals() -> Self {
        let threads = Self::default();
        let sender = threads.sender.clone();
        // Nobody listens any more once the work has ended.
        on_signal(move |name| drop(sender.send(Event::Signal(name))));
        threads
    }

    /// Sets the timeout; with `None` there is none.
    pub fn with_limit(self, limit_ms: Option<u64>) -> Self {
        Self { limit_ms, ..self }
    }

    /// Sets the stop request that is sent before work is cancelled.
    pub fn with_stop(self, stop: &Stop) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    /// Runs the work to its end, its timeout or its cancellation.
    pub fn run(self, work: impl Future<Output = Result<Answer, Failure>> + Send + 'static) -> Result<Answer, Failure> {
        let threads = tokio::runtime::Builder::new_multi_thread().thread_stack_size(THREAD_STACK).enable_all().build();
        let runtime = threads.map_err(|error| Failure::internal("start", format!("no threads: {error}")))?;
        let Self { limit_ms, stop, sender, receiver } = self;
        // The work is a task of its own, which contains a panic.
        let task = runtime.spawn(work);
        runtime.spawn(async move {
            let ended = task.await;
            let ended = ended
                .unwrap_or_else(|error| Err(Failure::internal("run", task_ended("the command", error).to_string())));
            sender.send(Event::Ended(Box::new(ended)))
        });
        // This thread waits, and not a timer of the runtime.
        let event = match limit_ms {
            None => receiver.recv().map_err(RecvTimeoutError::from),
            Some(limit_ms) => receiver.recv_timeout(Duration::from_millis(limit_ms)),
        };
        let given_up = |failure| {
            if stop.ask() {
                // The command was cancelled, whatever result the work still returns.
                let _ = receiver.recv_timeout(GRACE);
            }
            Err(failure)
        };
        let is_given_up = !matches!(event, Ok(Event::Ended(_)));
        let outcome = match (event, limit_ms) {
            (Ok(Event::Ended(outcome)), _) => *outcome,
            (Ok(Event::Signal(name)), _) => given_up(Failure::cancelled(name)),
            (Err(RecvTimeoutError::Timeout), Some(limit_ms)) => given_up(Failure::timed_out(limit_ms)),
            (Err(error), _) => Err(Failure::internal("run", format!("the command ended early: {error}"))),
        };
        // The process is about to end, and work that has not ended by then ends with it.
        match is_given_up {
            true => {
                runtime.shutdown_timeout(CLEARING);
                // Work that did not end within the grace period has left temporary files.
                discard_unfinished();
            }
            false => runtime.shutdown_background(),
        }
        outcome
    }
}

/// The events that end the wait for work.
#[derive(Debug)]
enum Event {
    Ended(Box<Result<Answer, Failure>>),
    Signal(&'static str),
}

/// Calls `hear` with the name of each termination signal from now on.
pub(super) fn on_signal(hear: impl Fn(&'static str) + Send + 'static) {
    let (ready, is_ready) = mpsc::channel();
    // Not on the runtime's threads: queries can keep all of them busy.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async {
            #[cfg(unix)]
            let (mut interrupted, mut terminated) = {
                use tokio::signal::unix::{SignalKind, signal};
                (signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?)
            };
            #[cfg(windows)]
            let (mut interrupted, mut terminated) =
                (tokio::signal::windows::ctrl_c().ok()?, tokio::signal::windows::ctrl_close().ok()?);
            ready.send(()).ok()?;
            loop {
                tokio::select! {
                    Some(()) = interrupted.recv() => hear("SIGINT"),
                    Some(()) = terminated.recv() => hear("SIGTERM"),
                    else => return Some(()),
                }
            }
        })
    });
    // A signal that came before would end the process, or be lost. Where none can be caught, they
    // end the process.
    let _ = is_ready.recv();
}
