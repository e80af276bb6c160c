//! Where a command's work is done, for how long, and what ends it from outside.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::watch;
use vexact_core::entry::task_ended;
use vexact_core::temporary_file::discard_unfinished;
use vexact_sql::deep::THREAD_STACK;

use super::answer::Answer;
use super::failure::Failure;

/// What work may still take once it is asked to end, until a second signal: a disk may be slow to make its file durable.
const GRACE: Duration = Duration::from_secs(10);

/// What work that is given up may take to let go of its temporary files: it ends where it waits or gives others a turn.
const CLEARING: Duration = Duration::from_secs(2);

/// Asks work to end by itself, where it listens. Cheap to clone; clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(watch::Sender<bool>);

impl Stop {
    /// Waits until it is asked for.
    pub fn asked(&self) -> impl Future<Output = ()> + use<> {
        let (mut receiver, sender) = (self.0.subscribe(), self.0.clone());
        async move {
            // The sender is held here, so that waiting cannot fail.
            let _ = receiver.wait_for(|is_asked| *is_asked).await;
            drop(sender);
        }
    }

    /// Whether somebody hears it, whose end is to be waited for.
    fn ask(&self) -> bool {
        // Who hears it stops listening.
        let is_heard = self.0.receiver_count() > 0;
        self.0.send_replace(true);
        is_heard
    }
}

/// Work on threads of its own, which start here: help and usage errors need none.
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
    /// From now on, Ctrl-C and SIGTERM end the work and not the process, so that it can say so.
    pub fn catching_signals() -> Self {
        let threads = Self::default();
        let sender = threads.sender.clone();
        // Nobody listens any more once the work has ended.
        on_signal(move |name| drop(sender.send(Event::Signal(name))));
        threads
    }

    /// Gives up after so long; `None`: never.
    pub fn with_limit(self, limit_ms: Option<u64>) -> Self {
        Self { limit_ms, ..self }
    }

    /// What is asked for before work is given up.
    pub fn with_stop(self, stop: &Stop) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    /// Does the work.
    pub fn run(self, work: impl Future<Output = Result<Answer, Failure>> + Send + 'static) -> Result<Answer, Failure> {
        let threads = tokio::runtime::Builder::new_multi_thread().thread_stack_size(THREAD_STACK).enable_all().build();
        let runtime = threads.map_err(|error| Failure::internal("start", format!("no threads: {error}")))?;
        let Self { limit_ms, stop, sender, receiver } = self;
        // A task of its own, in which a panic ends.
        let task = runtime.spawn(work);
        runtime.spawn(async move {
            let ended = task.await;
            let ended = ended
                .unwrap_or_else(|error| Err(Failure::internal("run", task_ended("the command", error).to_string())));
            sender.send(Event::Ended(Box::new(ended)))
        });
        // This thread waits, and not the runtime's clock.
        let event = match limit_ms {
            None => receiver.recv().map_err(RecvTimeoutError::from),
            Some(limit_ms) => receiver.recv_timeout(Duration::from_millis(limit_ms)),
        };
        let given_up = |failure| {
            if stop.ask() {
                // However it ends now, it was given up.
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
        // The process is about to end, and what does not end by then ends with it.
        match is_given_up {
            true => {
                runtime.shutdown_timeout(CLEARING);
                // What did not end in time has left files.
                discard_unfinished();
            }
            false => runtime.shutdown_background(),
        }
        outcome
    }
}

/// What ends the wait for work.
#[derive(Debug)]
enum Event {
    Ended(Box<Result<Answer, Failure>>),
    Signal(&'static str),
}

/// From now on, hears of each signal to end, by its name.
fn on_signal(hear: impl Fn(&'static str) + Send + 'static) {
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
    // A signal that came before would end the process, or be lost. Where none can be caught, they end the process.
    let _ = is_ready.recv();
}
