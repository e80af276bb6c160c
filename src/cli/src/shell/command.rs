//! The shell's own commands, which begin with a dot.

use clap::ValueEnum;

use crate::format::Format;

/// A command of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Tables,
    /// The columns of a table.
    Schema(String),
    /// A file to register, with the name of its table if it has one.
    Open(String),
    /// A file of statements to run.
    Read(String),
    Format(Format),
    /// Rows to show of a result; `None` for all.
    Limit(Option<usize>),
    Timer(bool),
    Quit,
}

/// The commands, as `.help` lists them.
pub(super) const COMMANDS: [(&str, &str, &str); 9] = [
    (".help", "", "list these commands"),
    (".tables", "", "list the tables"),
    (".schema", "TABLE", "list the columns of a table"),
    (".open", "[NAME=]FILE", "register a file as a table"),
    (".read", "FILE", "run the statements of a file"),
    (".format", "table|json|csv", "show results in this format"),
    (".limit", "N|all", "show at most this many rows of a table"),
    (".timer", "on|off", "show how long a statement takes"),
    (".quit", "", "end, as Ctrl-D"),
];

impl Command {
    /// Parses a line; `None` for SQL. The error says what is expected.
    pub fn parse(line: &str) -> Option<Result<Self, String>> {
        let line = line.trim();
        match line.trim_end_matches(';').trim_end().to_ascii_lowercase().as_str() {
            "quit" | "exit" | "\\q" => return Some(Ok(Self::Quit)),
            "help" | "\\?" => return Some(Ok(Self::Help)),
            _ => {}
        }
        if !line.starts_with('.') {
            return None;
        }
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim();
        Some(match (name, argument) {
            (".help", "") => Ok(Self::Help),
            (".tables", "") => Ok(Self::Tables),
            (".quit" | ".exit", "") => Ok(Self::Quit),
            (".schema", table) if !table.is_empty() => Ok(Self::Schema(unquoted(table))),
            (".open", file) if !file.is_empty() => Ok(Self::Open(unquoted(file))),
            (".read", file) if !file.is_empty() => Ok(Self::Read(unquoted(file))),
            (".format" | ".mode", name) => match Format::from_str(name, true) {
                Ok(format) if format != Format::Arrow => Ok(Self::Format(format)),
                _ => Err(format!(".format: expected table, json or csv, got {name:?}")),
            },
            (".limit", "all") => Ok(Self::Limit(None)),
            (".limit", rows) => match rows.parse() {
                Ok(rows) if rows > 0 => Ok(Self::Limit(Some(rows))),
                _ => Err(format!(".limit: expected a number of rows of at least 1, or all, got {rows:?}")),
            },
            (".timer", "on") => Ok(Self::Timer(true)),
            (".timer", "off") => Ok(Self::Timer(false)),
            (name, got) => Err(match COMMANDS.iter().find(|(known, ..)| *known == name) {
                Some((_, "", _)) => format!("{name}: expected nothing after it, got {got:?}"),
                Some((_, expected, _)) => format!("{name}: expected {expected}, got {got:?}"),
                None => format!("unknown command {name}: .help lists the commands"),
            }),
        })
    }

    /// The text of `.help`.
    pub fn help() -> String {
        let lines = COMMANDS.map(|(name, argument, what)| format!("{:<24}{what}\n", format!("{name} {argument}")));
        lines.concat() + "Everything else is SQL, which ends with a semicolon.\n"
    }
}

/// Removes the quotes around a name.
fn unquoted(text: &str) -> String {
    let text = text.trim_end_matches(';').trim_end();
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_sql() {
        assert_eq!(Command::parse("SELECT 1;"), None);
        assert_eq!(Command::parse(" exit; "), Some(Ok(Command::Quit)));
        assert_eq!(Command::parse(".schema \"My docs\""), Some(Ok(Command::Schema("My docs".into()))));
        assert_eq!(Command::parse(".open words=a b.csv"), Some(Ok(Command::Open("words=a b.csv".into()))));
        assert_eq!(Command::parse(".format JSON"), Some(Ok(Command::Format(Format::Json))));
        assert_eq!(Command::parse(".limit all"), Some(Ok(Command::Limit(None))));
    }

    #[test]
    fn wrong_commands_say_what_is_expected() {
        let refused = |line: &str| Command::parse(line).and_then(Result::err).unwrap_or_default();
        assert_eq!(refused(".schema"), ".schema: expected TABLE, got \"\"");
        assert_eq!(refused(".timer maybe"), ".timer: expected on|off, got \"maybe\"");
        assert_eq!(refused(".limit 0"), ".limit: expected a number of rows of at least 1, or all, got \"0\"");
        assert_eq!(refused(".tabels"), "unknown command .tabels: .help lists the commands");
        assert_eq!(refused(".help me"), ".help: expected nothing after it, got \"me\"");
    }
}
