//! `vexact ui`: prints the URL of the page, and serves it until Ctrl-C.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value};
use vexact_ui::Ui;

use super::answer::Answer;
use super::db::{closing, engine_of};
use super::failure::{During, Failure};
use super::format::Format;
use super::output::{print, remark};
use super::run::workspace;

/// Interval at which the replicas follow the file.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
Answer: {\"ok\": true, \"url\"}, at once; then the page is served until Ctrl-C.
        It is for you: on 127.0.0.1 alone, for who has the token in the URL. It only shows, and changes nothing.
        Runs are those of the workspace $VEXACT_HOME, ~/.vexact if that is not set. With --db the page has the tables that are
        registered in the file: their states and rows, and queries that only read; their replicas are in memory, and follow.

Example:
  vexact ui --format table --open
  vexact ui --db app.db")]
pub(super) struct UiCommand {
    /// The port, 0 for a free one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port: u16,
    /// Show the tables of a SQLite file too; as file:FILE?mode=ro it is read and never written
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Open it in the browser
    #[arg(long)]
    pub open: bool,
}

impl UiCommand {
    /// Returns the details of a failure of this command.
    pub fn details(&self) -> Map<String, Value> {
        let db = self.db.iter().map(|db| ("db".to_owned(), db.display().to_string().into()));
        Map::from_iter(std::iter::once(("command".to_owned(), "ui".into())).chain(db))
    }
}

/// Prints the URL of the page, and serves it. The answer after its end is empty.
pub(super) fn run(command: &UiCommand, format: Format) -> Result<Answer, Failure> {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = threads.map_err(|error| Failure::internal("start", format!("no threads: {error}")))?;
    let ended = runtime.block_on(serve(command, format));
    // Responses in progress end with the process.
    runtime.shutdown_background();
    ended.map(|()| Answer::Text(String::new()))
}

async fn serve(command: &UiCommand, format: Format) -> Result<(), Failure> {
    let ui = Ui::bind(workspace()?, command.port).await.during("start")?;
    let Some(db) = &command.db else { return shown(ui, command, format).await };
    let engine = Arc::new(engine_of(db).await?);
    engine.start_sync(SYNC_INTERVAL);
    closing(&engine, shown(ui.with_engine(Arc::clone(&engine), db.display().to_string()), command, format)).await
}

async fn shown(ui: Ui, command: &UiCommand, format: Format) -> Result<(), Failure> {
    // The future catches Ctrl-C from its first poll on, which is before the URL is printed.
    let mut ctrl_c = pin!(tokio::signal::ctrl_c());
    if futures::poll!(ctrl_c.as_mut()).is_ready() {
        return Err(Failure::internal("start", "Ctrl-C cannot be listened for"));
    }
    let url = ui.url();
    if print(&Answer::Serving { url: url.clone() }.rendered(format)?, 0) != 0 {
        return Err(Failure::internal("output", "the URL could not be printed"));
    }
    remark("Ctrl-C ends it");
    let _door = if command.open { Door::opened(&url) } else { None };
    ui.serve(async { drop(ctrl_c.await) }).await.during("serve")
}

/// A file that leads a browser to the page, gone when it is dropped. The URL itself would be seen
/// by every user of the machine, among the arguments of the browser's process.
struct Door(PathBuf);

impl Door {
    fn opened(url: &str) -> Option<Self> {
        let door = Self::made(url);
        let opened = door.as_ref().map_or_else(
            |error| Err(error.to_string()),
            |Self(path)| open::that_detached(path).map_err(|error| error.to_string()),
        );
        if let Err(error) = opened {
            remark(format_args!("no browser opened: {error}"));
        }
        door.ok()
    }

    fn made(url: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("vexact-ui-{}.html", std::process::id()));
        let mut options = OpenOptions::new();
        // An existing file is never opened: it may be another user's link.
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let page = format!(
            "<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={url}\"><a href=\"{url}\">vexact ui</a>\n"
        );
        options.open(&path)?.write_all(page.as_bytes())?;
        Ok(Self(path))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // The token in a leftover file is no longer valid.
        let _ = fs::remove_file(&self.0);
    }
}
