//! The linkspan program.

use std::process::ExitCode;

fn main() -> ExitCode {
    linkspan::cli::main(std::env::args_os())
}
