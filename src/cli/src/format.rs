//! How answers are printed.

use std::ffi::OsString;

use clap::ValueEnum;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    // Errors are on the standard error then.
    Table,
}

impl Format {
    /// The format of arguments that cannot be parsed.
    pub fn in_arguments(arguments: &[OsString]) -> Self {
        let is_table = |pair: &[OsString]| pair[0] == "--format" && pair[1] == "table";
        match arguments.windows(2).any(is_table) || arguments.iter().any(|argument| argument == "--format=table") {
            true => Self::Table,
            false => Self::Json,
        }
    }
}
