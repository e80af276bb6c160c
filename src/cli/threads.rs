//! Where a command's work is done, for how long, and what ends it from outside.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::watch;

use super::answer::Answer;
use super::failure::Failure;

/// What work may still take once it is asked to end, until a second signal: a disk may be slow to make its file durable.
const GRACE: Duration = Duration::from_secs(10);

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
#[derive(Debug, Default)]
pub(super) struct Threads {
    /// Give up after so long.
    pub limit_ms: Option<u64>,
    /// Ctrl-C and SIGTERM end the work and not the process, so that it can say so.
    pub catches_signals: bool,
    /// Asked for before work is given up.
    pub stop: Stop,
}

impl Threads {
    /// Does the work.
    pub fn run(&self, work: impl Future<Output = Result<Answer, Failure>> + Send + 'static) -> Result<Answer, Failure> {
        let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = threads.map_err(|error| Failure::internal("start", format!("no threads: {error}")))?;
        let (sender, receiver) = mpsc::channel();
        if self.catches_signals {
            let sender = sender.clone();
            // Not on the runtime's threads: queries can keep all of them busy.
            std::thread::spawn(move || {
                while let Some(name) = signal() {
                    // Nobody listens any more once the work has ended.
                    let _ = sender.send(Event::Signal(name));
                }
            });
        }
        // A task of its own, in which a panic ends.
        let task = runtime.spawn(work);
        runtime.spawn(async move {
            let ended = task.await;
            let ended = ended
                .unwrap_or_else(|error| Err(Failure::internal("run", format!("the command ended early: {error}"))));
            sender.send(Event::Ended(Box::new(ended)))
        });
        // This thread waits, and not the runtime's clock.
        let event = match self.limit_ms {
            None => receiver.recv().map_err(RecvTimeoutError::from),
            Some(limit_ms) => receiver.recv_timeout(Duration::from_millis(limit_ms)),
        };
        let given_up = |failure| {
            if self.stop.ask() {
                // However it ends now, it was given up.
                let _ = receiver.recv_timeout(GRACE);
            }
            Err(failure)
        };
        let outcome = match (event, self.limit_ms) {
            (Ok(Event::Ended(outcome)), _) => *outcome,
            (Ok(Event::Signal(name)), _) => given_up(Failure::cancelled(name)),
            (Err(RecvTimeoutError::Timeout), Some(limit_ms)) => given_up(Failure::timed_out(limit_ms)),
            (Err(error), _) => Err(Failure::internal("run", format!("the command ended early: {error}"))),
        };
        // The process is about to end; what a timeout left behind ends with it.
        runtime.shutdown_background();
        outcome
    }
}

/// What ends the wait for work.
enum Event {
    Ended(Box<Result<Answer, Failure>>),
    Signal(&'static str),
}

/// Waits for a signal to end; its name.
fn signal() -> Option<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        #[cfg(unix)]
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok()?;
        #[cfg(unix)]
        let terminated = terminated.recv();
        #[cfg(not(unix))]
        let terminated = std::future::pending::<Option<()>>();
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => pressed.ok().map(|()| "SIGINT"),
            Some(()) = terminated => Some("SIGTERM"),
        }
    })
}
