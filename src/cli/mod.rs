//! The command line `vexact`: the program of this crate, and the script of the Python package.
//!
//! One JSON object on the standard output and nothing else, or tables with `--format table`; remarks go to the standard error.
//! A success exits with 0. A failure, of usage too, exits with 1 and is `{"ok": false, "error", "error_type", "phase",
//! "details"}`, where `error` has the root cause.

mod answer;
mod arguments;
mod db;
mod failure;
mod progress;
mod script;
mod values;

use std::ffi::OsString;
use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;

use answer::{Answer, Success};
use arguments::{Cli, Command, Format};
use failure::Failure;

/// Runs a command, its arguments without the program's name, and prints what comes of it; the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(std::iter::once("vexact".into()).chain(arguments.iter().cloned())) {
        Ok(cli) => cli,
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return u8::from(asked.print().and_then(|()| std::io::stdout().flush()).is_err());
        }
        Err(error) => return fail(Failure::of_usage(&error), Format::in_arguments(&arguments)),
    };
    let Command::Db(command) = cli.command;
    let details = command.details();
    let printed = execute(command).and_then(|answer| rendered(&answer, cli.format));
    match printed {
        Ok(text) => print(&text, 0),
        Err(failure) => fail(failure.with_details(details), cli.format),
    }
}

/// Runs a command on threads of its own, which start here: help and usage errors need none.
fn execute(command: db::DbCommand) -> Result<Answer, Failure> {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = threads.map_err(|error| Failure::internal("start", format!("no threads: {error}")))?;
    let limit = command.timeout_ms();
    let (sender, receiver) = mpsc::channel();
    // A task of its own, in which a panic ends.
    let task = runtime.spawn(db::run(command));
    runtime.spawn(async move { sender.send(task.await) });
    // This thread waits, and not the runtime's clock: queries can keep all of the runtime's threads busy.
    let ended = match limit {
        None => receiver.recv().map_err(RecvTimeoutError::from),
        Some(limit_ms) => receiver.recv_timeout(Duration::from_millis(limit_ms)),
    };
    let outcome = match (ended, limit) {
        (Ok(Ok(outcome)), _) => outcome,
        (Ok(Err(error)), _) => Err(Failure::internal("run", format!("the command ended early: {error}"))),
        (Err(RecvTimeoutError::Timeout), Some(limit_ms)) => Err(Failure::timed_out(limit_ms)),
        (Err(error), _) => Err(Failure::internal("run", format!("the command ended early: {error}"))),
    };
    // The process is about to end; what a timeout left behind ends with it.
    runtime.shutdown_background();
    outcome
}

/// All of the output, before any of it is printed: a failure must not follow half an answer.
fn rendered(answer: &Answer, format: Format) -> Result<String, Failure> {
    match format {
        Format::Json => serde_json::to_string(&Success { ok: true, answer })
            .map(|text| text + "\n")
            .map_err(|error| Failure::internal("output", error.to_string())),
        Format::Table => answer.table(),
    }
}

fn fail(failure: Failure, format: Format) -> u8 {
    match format {
        Format::Json => print(&failure.json(), 1),
        Format::Table => {
            eprint!("{failure}");
            1
        }
    }
}

fn print(text: &str, code: u8) -> u8 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => code,
        // A reader that has enough, such as `head`, is no failure to report.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 1,
        Err(error) => {
            eprintln!("writing the output: {error}");
            1
        }
    }
}
