//! Output formats.

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use clap::ValueEnum;
use vexact::sources::row_file::RowFormat;

/// The format of an answer on the standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    // With every format but JSON, errors go to the standard error.
    Table,
    Csv,
    Arrow,
}

impl Format {
    /// Returns the format of an answer that names none: tables at a terminal, JSON elsewhere.
    pub fn of_output() -> Self {
        if io::stdout().is_terminal() { Self::Table } else { Self::Json }
    }

    /// Returns the format named in arguments that cannot be parsed.
    pub fn in_arguments(arguments: &[OsString]) -> Self {
        let named = |format: &Self| {
            let name = format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let is_pair = |pair: &[OsString]| pair[0] == "--format" && pair[1] == *name;
            arguments.windows(2).any(is_pair)
                || arguments.iter().any(|argument| *argument == *format!("--format={name}"))
        };
        [Self::Json, Self::Table, Self::Csv, Self::Arrow].into_iter().find(named).unwrap_or_else(Self::of_output)
    }

    /// Returns the format of rows alone, if this is one.
    pub fn rows(self) -> Option<RowFormat> {
        match self {
            Self::Json | Self::Table => None,
            Self::Csv => Some(RowFormat::Csv),
            Self::Arrow => Some(RowFormat::Arrow),
        }
    }
}
