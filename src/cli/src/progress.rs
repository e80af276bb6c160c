//! The progress line on the terminal while a command works. Nothing is shown if the standard error
//! is no terminal.

use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use vexact::htap::HtapEngine;
use vexact::replication::TableState;

const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// A line that shows the current operation until it is dropped.
pub(super) struct Shown(ProgressBar);

impl Shown {
    /// Creates the line of an operation.
    pub fn new(what: impl Into<String>) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what.into());
        // A thread draws the line; a hidden line needs no thread.
        if !bar.is_hidden() {
            let style = "{spinner} {msg} {elapsed}";
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(DRAWN_EVERY);
        }
        Self(bar)
    }

    /// Replaces the text of the line.
    pub fn say(&self, what: impl Into<String>) {
        if !self.0.is_hidden() {
            self.0.set_message(what.into());
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Runs work, and shows the progress of its copies.
pub(super) async fn showing_copies<T>(engine: &HtapEngine, what: &str, work: impl Future<Output = T>) -> T {
    let shown = Shown::new(what);
    if shown.0.is_hidden() {
        return work.await;
    }
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(DRAWN_EVERY) => {}
        }
        let tables = engine.sync_status().await.map(|status| status.tables).unwrap_or_default();
        for table in tables.iter().filter(|table| matches!(table.state, TableState::Copying { .. })) {
            shown.say(format!("{}: {}", table.name, table.state));
        }
    }
}
