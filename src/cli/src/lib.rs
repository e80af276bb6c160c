//! The command line `vexact`: the program of this crate, and the script of the Python package.
//!
//! One JSON object on the standard output and nothing else, tables at a terminal, or the rows alone
//! with `--format csv` and `--format arrow`; remarks go to the standard error. A success exits with
//! 0. A failure, of usage too, exits with 1 and is
//! `{"ok": false, "error", "error_type", "phase", "details"}`, where `error` has the root cause.

mod action;
mod answer;
mod arguments;
mod artifacts;
mod completions;
mod db;
mod failure;
mod format;
mod input;
mod output;
mod produce;
mod progress;
mod rows_diff;
mod rows_output;
mod run;
mod script;
mod search;
mod shell;
mod sketch;
mod sql;
mod stream;
mod stream_sink;
mod table;
mod threads;
mod track;
mod ui;
mod values;
mod worker;
mod workers;

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use vexact_core::entry::{enter, keep_panics};
use vexact_sql::deep::stack_of_text;

use answer::Answer;
use arguments::{Cli, Command};
use failure::Failure;
use format::Format;
pub use input::set_sheet_reader;
use output::print;
use threads::Threads;
use track::Track;

/// Runs a command, prints its answer and returns the exit code. The arguments do not include the
/// program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    keep_panics();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.is_empty() {
        return print_help(&Cli::command().render_help());
    }
    let cli = match Cli::try_parse_from(std::iter::once("vexact".into()).chain(arguments.iter().cloned())) {
        Ok(cli) => cli,
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return print_help(&asked.render());
        }
        Err(error) => return fail(Failure::of_usage(&error), Format::in_arguments(&arguments)),
    };
    let format = cli.format.unwrap_or_else(Format::of_output);
    let details = cli.command.details();
    // All output is rendered before any of it is printed: a failure must not follow half an answer.
    let printed = enter(stack_of_text(""), "the command", || {
        let checked = cli.command.check_format(format);
        Ok(checked.and_then(|()| execute(cli.command, format)).and_then(|answer| answer.rendered(format)))
    });
    let printed = printed.unwrap_or_else(|panic| Err(Failure::internal("run", panic.to_string())));
    match printed {
        Ok(text) => print(&text, 0),
        Err(failure) => fail(failure.with_details(details), format),
    }
}

fn print_help(text: &clap::builder::StyledStr) -> u8 {
    let text = if io::stdout().is_terminal() { text.ansi().to_string() } else { text.to_string() };
    print(text.as_bytes(), 0)
}

fn execute(command: Command, format: Format) -> Result<Answer, Failure> {
    match command {
        Command::Action(action) => {
            let track = Track::default();
            // A signal must not end the process before the command's unfinished output is removed.
            let is_caught = action.listens() || action.output_path().is_some();
            let threads = if is_caught { Threads::catching_signals() } else { Threads::default() };
            threads.with_stop(&track.stop).run(async move { action.run(&track).await })
        }
        Command::Run(command) => run::run(command),
        Command::Artifacts(command) => artifacts::run(command),
        Command::Db(command) => Threads::default().with_limit(command.timeout_ms()).run(db::run(command)),
        Command::Ui(command) => ui::run(&command, format),
        Command::Worker(command) => worker::run(command, format),
        Command::Cluster(command) => Threads::default().run(command.run()),
        Command::Sketch(command) => Threads::catching_signals().run(command.run()),
        Command::Sql(command) => shell::run(command, format),
        Command::Completions(completions) => Ok(Answer::Text(completions.script())),
        Command::Complete(complete) => Ok(Answer::Text(complete.candidates())),
    }
}

fn fail(failure: Failure, format: Format) -> u8 {
    match format {
        Format::Json => print(failure.json().as_bytes(), 1),
        Format::Table | Format::Csv | Format::Arrow => {
            output::remark(failure.to_string().trim_end());
            1
        }
    }
}
