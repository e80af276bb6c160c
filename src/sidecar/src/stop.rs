//! Cancellation of a sidecar, which interrupts the blocking calls of its source.

use tokio::sync::watch;

/// Requests the end. A drop requests it too.
#[derive(Debug)]
pub(super) struct Stopper(watch::Sender<bool>);

/// Observes the request.
#[derive(Debug, Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

/// A connected pair.
pub(super) fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Cancels the blocking calls of the source, now and later.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns true once the end was requested.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits for the request.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only a PostgreSQL source waits"))]
    pub async fn requested(&self) {
        // An error means that the other half was dropped.
        let _ = self.0.clone().wait_for(|is_requested| *is_requested).await;
    }
}
