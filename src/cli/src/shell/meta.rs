//! The effects of the shell's own commands.

use std::path::Path;

use super::command::Command;
use super::{Shell, print, script};
use crate::failure::{During, Failure};
use crate::values::read_text;

impl Shell {
    /// Runs a command of the shell.
    pub(super) fn command(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Help => {
                print(Command::help().as_bytes(), 0);
            }
            Command::Tables => {
                let target = self.target.clone();
                let answer = self.running.run(async move { target.tables().await })?;
                print(&answer.rendered(self.format)?, 0);
            }
            Command::Schema(table) => {
                let target = self.target.clone();
                let answer = self.running.run(async move { target.schema(&table).await })?;
                print(&answer.rendered(self.format)?, 0);
            }
            Command::Open(file) => {
                let target = self.target.clone();
                let table = self.running.run(async move { target.register(&file).await })?;
                print(format!("{table}\n").as_bytes(), 0);
            }
            Command::Read(file) => {
                let text = read_text(Path::new(&file)).during("arguments")?;
                let statements = script::statements(&text);
                let last = self.run_all(&statements)?;
                print(&last.rendered(self.format)?, 0);
            }
            Command::Format(format) => self.format = format,
            Command::Limit(limit) => self.limit = limit,
            Command::Timer(is_timed) => self.is_timed = is_timed,
            Command::Quit => {}
        }
        Ok(())
    }
}
