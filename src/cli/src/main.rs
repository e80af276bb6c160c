//! The command line: see [`vexact_cli`].

use std::process::ExitCode;

mod closed_stdout;

fn main() -> ExitCode {
    if closed_stdout::was_closed() {
        eprintln!("vexact: stdout: expected an open file for the answer, got a closed one");
        return ExitCode::FAILURE;
    }
    ExitCode::from(vexact_cli::run(std::env::args_os().skip(1)))
}
