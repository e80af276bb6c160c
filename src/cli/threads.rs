//! Where a command's work is done, for how long, and what ends it from outside.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::answer::Answer;
use super::failure::Failure;

/// Work on threads of its own, which start here: help and usage errors need none.
#[derive(Debug, Default)]
pub(super) struct Threads {
    /// Give up after so long.
    pub limit_ms: Option<u64>,
    /// Ctrl-C and SIGTERM end the work and not the process, so that it can say so.
    pub catches_signals: bool,
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
                if let Some(name) = signal() {
                    // Nobody listens any more once the work has ended.
                    let _ = sender.send(Err(Failure::cancelled(name)));
                }
            });
        }
        // A task of its own, in which a panic ends.
        let task = runtime.spawn(work);
        runtime.spawn(async move {
            let ended = task.await;
            let ended = ended
                .unwrap_or_else(|error| Err(Failure::internal("run", format!("the command ended early: {error}"))));
            sender.send(ended)
        });
        // This thread waits, and not the runtime's clock.
        let ended = match self.limit_ms {
            None => receiver.recv().map_err(RecvTimeoutError::from),
            Some(limit_ms) => receiver.recv_timeout(Duration::from_millis(limit_ms)),
        };
        let outcome = match (ended, self.limit_ms) {
            (Ok(outcome), _) => outcome,
            (Err(RecvTimeoutError::Timeout), Some(limit_ms)) => Err(Failure::timed_out(limit_ms)),
            (Err(error), _) => Err(Failure::internal("run", format!("the command ended early: {error}"))),
        };
        // The process is about to end; what a timeout left behind ends with it.
        runtime.shutdown_background();
        outcome
    }
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
