//! One file per subcommand.

mod demo;
mod run;

use std::{io::Write as _, process::ExitCode};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("demo") => demo::run(&arguments[1..]),
        _ => run::run(&arguments),
    }
}

/// Says what went wrong.
pub(super) fn complain(text: &str) {
    // Nobody is left to be told if standard error is gone.
    drop(writeln!(std::io::stderr(), "{text}"));
}
