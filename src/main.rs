//! The command line: see [`vexact::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(vexact::cli::run(std::env::args_os().skip(1)))
}
