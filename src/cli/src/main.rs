//! The command line: see [`vexact_cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(vexact_cli::run(std::env::args_os().skip(1)))
}
