//! `vexact sql`: statements on files or on a database, typed at a terminal, given as options, or
//! read from the standard input.

mod command;
mod editor;
mod meta;
mod running;
mod target;

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use vexact_core::error::Error;

use super::answer::Answer;
use super::failure::{During, Failure};
use super::format::Format;
use super::output::{print, remark};
use super::script;
use command::Command;
use editor::{Line, LineEditor};
use running::Running;
use target::Target;

/// Rows of a table at a terminal, if nothing else is set.
const ROWS: usize = 1000;

#[derive(Debug, Args)]
#[command(after_help = "\
At a terminal: statements end with ; and .help lists the commands of the shell. Tab completes, Ctrl-C cancels a statement, Ctrl-D
        ends. The history is in $VEXACT_HOME/sql_history.
Answer: one for each statement; in JSON {\"ok\": true, \"schema\", \"rows\", \"truncated\"} on a line. The first failure ends the command.

Examples:
  vexact sql docs.parquet words=glosses.csv
  vexact sql --db app.db
  vexact sql docs.parquet --query \"SELECT lang, count(*) FROM docs GROUP BY lang\"
  echo \"SELECT count(*) FROM docs;\" | vexact sql docs.parquet --format csv")]
pub(super) struct Sql {
    /// Files of any kind, each a table by its name; NAME=FILE names the table
    #[arg(value_name = "FILE")]
    pub files: Vec<String>,
    /// A SQLite database, which must exist: its tables and replicas beside the files
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub db: Option<PathBuf>,
    /// Statements to run instead of an interactive shell. Repeat it
    #[arg(long = "query", short = 'q', value_name = "SQL")]
    pub queries: Vec<String>,
    /// Timeout of a statement in milliseconds
    #[arg(long, value_name = "N")]
    pub timeout_ms: Option<u64>,
}

/// Runs the command. All answers but the last are printed before it returns.
pub(super) fn run(command: Sql, format: Format) -> Result<Answer, Failure> {
    let is_interactive = command.queries.is_empty() && io::stdin().is_terminal();
    let text = match (command.queries.is_empty(), is_interactive) {
        (false, _) => command.queries.join(";\n"),
        (true, true) => String::new(),
        (true, false) => {
            let mut text = String::new();
            io::stdin()
                .lock()
                .read_to_string(&mut text)
                .map_err(|error| Error::io("stdin".as_ref(), error))
                .during("arguments")?;
            text
        }
    };
    let statements = script::statements(&text);
    if !is_interactive && statements.is_empty() {
        return Err(Failure::usage("expected a statement, got none"));
    }
    if format == Format::Arrow && (is_interactive || statements.len() > 1) {
        return Err(Failure::usage("--format arrow: expected one statement: a stream has one schema"));
    }
    let running = Running::new(command.timeout_ms)?;
    let (files, db) = (command.files, command.db);
    let target = running.run(async move { Target::open(&files, db).await })?;
    let mut shell = Shell { running, target, format, limit: is_interactive.then_some(ROWS), is_timed: false };
    let done = if is_interactive { shell.interact() } else { shell.run_all(&statements) };
    shell.close();
    done
}

/// A shell with its settings.
struct Shell {
    running: Running,
    target: Target,
    format: Format,
    /// Rows that are shown of a result; `None` for all.
    limit: Option<usize>,
    is_timed: bool,
}

impl Shell {
    /// Runs statements up to the first that fails; the last answer is the command's.
    fn run_all(&mut self, statements: &[&str]) -> Result<Answer, Failure> {
        let mut last = Answer::Text(String::new());
        for (at, statement) in statements.iter().enumerate() {
            if at > 0 {
                print(&last.rendered(self.format)?, 0);
            }
            last = self.execute(statement)?;
        }
        Ok(last)
    }

    fn execute(&self, statement: &str) -> Result<Answer, Failure> {
        let (target, statement) = (self.target.clone(), statement.to_owned());
        let limit = self.limit.filter(|_| self.format == Format::Table);
        self.running.run(async move { target.execute(&statement, limit).await })
    }

    fn close(&self) {
        let target = self.target.clone();
        let closed = self.running.run(async move {
            target.close().await;
            Ok(())
        });
        if let Err(failure) = closed {
            remark(failure.to_string().trim_end());
        }
    }

    /// Reads lines until the user ends.
    fn interact(&mut self) -> Result<Answer, Failure> {
        let mut editor = LineEditor::new()?;
        remark(format_args!("vexact {}: statements end with ; and .help lists commands", env!("CARGO_PKG_VERSION")));
        self.learn(&mut editor);
        loop {
            let text = match editor.read()? {
                Line::Text(text) => text,
                Line::Cancelled => continue,
                Line::End => break,
            };
            match Command::parse(&text) {
                Some(Ok(Command::Quit)) => break,
                Some(Ok(command)) => match self.command(command) {
                    Ok(()) => self.learn(&mut editor),
                    Err(failure) => show(&failure, self.format),
                },
                Some(Err(problem)) => remark(problem),
                None if self.statements(&text) => self.learn(&mut editor),
                None => {}
            }
        }
        editor.save();
        Ok(Answer::Text(String::new()))
    }

    /// Runs typed statements; a failure ends the line and not the shell. Returns true without a
    /// failure.
    fn statements(&self, text: &str) -> bool {
        for statement in script::statements(text) {
            let started = Instant::now();
            let answer = self.execute(statement).and_then(|answer| answer.rendered(self.format));
            match answer {
                Ok(text) => {
                    print(&text, 0);
                }
                Err(failure) => {
                    show(&failure, self.format);
                    return false;
                }
            }
            if self.is_timed {
                remark(format_args!("{:.3} s", started.elapsed().as_secs_f64()));
            }
        }
        // The prompt follows what was printed.
        let _ = io::stdout().flush();
        true
    }

    /// Tells the editor the names that it completes.
    fn learn(&self, editor: &mut LineEditor) {
        let target = self.target.clone();
        if let Ok(names) = self.running.run(async move { Ok(target.names().await) }) {
            editor.set_names(names);
        }
    }
}

fn show(failure: &Failure, format: Format) {
    match format {
        Format::Json => {
            print(failure.json().as_bytes(), 1);
        }
        Format::Table | Format::Csv | Format::Arrow => remark(failure.to_string().trim_end()),
    }
}
