//! The command line: one file per subcommand, and what they share.

mod ask;
mod certs;
mod check;
mod demo;
mod explain;
mod healthcheck;
mod help;
mod migrate;
mod offline;
mod plugin;
mod replica;
mod rollout;
mod run;
mod version;
mod words;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    if program.rsplit('/').next() == Some(plugin::NAME) {
        return plugin::run(&arguments, dispatch);
    }
    dispatch(&arguments)
}

fn dispatch(arguments: &[String]) -> ExitCode {
    let (command, rest) = match Command::of(arguments) {
        Ok(found) => found,
        Err(unknown) => {
            complain(&unknown);
            return ExitCode::FAILURE;
        }
    };
    if command != Command::Help && wants_help(arguments) {
        return say(help::of(command));
    }
    match command {
        Command::Run => run::run(rest),
        Command::Check => check::run(rest),
        Command::Explain => explain::run(rest),
        Command::Certs => certs::run(rest),
        Command::Migrate => migrate::run(rest),
        Command::Demo => demo::run(rest),
        Command::Healthcheck => healthcheck::run(rest),
        Command::Rollout => rollout::run(rest),
        Command::Replica => replica::run(rest),
        Command::Version => version::run(),
        Command::Help => help::run(rest),
    }
}

/// A subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Run,
    Check,
    Explain,
    Migrate,
    Certs,
    Demo,
    Healthcheck,
    Rollout,
    Replica,
    Version,
    Help,
}

impl Command {
    const ALL: [(&'static str, Self); 11] = [
        ("run", Self::Run),
        ("check", Self::Check),
        ("explain", Self::Explain),
        ("migrate", Self::Migrate),
        ("certs", Self::Certs),
        ("demo", Self::Demo),
        ("healthcheck", Self::Healthcheck),
        ("rollout", Self::Rollout),
        ("replica", Self::Replica),
        ("version", Self::Version),
        ("help", Self::Help),
    ];

    /// The subcommand and what follows it; without one everything is for `run`.
    fn of(arguments: &[String]) -> Result<Found<'_>, String> {
        match arguments.split_first() {
            Some((first, rest)) if !first.starts_with('-') => Ok((Self::named(first)?, rest)),
            _ => Ok((Self::Run, arguments)),
        }
    }

    fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, command)| *command).ok_or_else(|| {
            let scored = Self::ALL
                .iter()
                .map(|(known, _)| (strsim::jaro_winkler(name, known), known));
            let best = scored.max_by(|left, right| left.0.total_cmp(&right.0));
            match best.filter(|(score, _)| *score > CLOSE_ENOUGH) {
                Some((_, known)) => format!("command not found: {name} (did you mean `{known}`?)"),
                None => format!("command not found: {name} (`portway --help` lists the commands)"),
            }
        })
    }
}

/// A subcommand and what follows it.
type Found<'a> = (Command, &'a [String]);

fn wants_help(arguments: &[String]) -> bool {
    arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h" || argument == "-help")
}

/// Says what was asked for.
fn say(text: &str) -> ExitCode {
    // A reader that has seen enough (`| head`) is no failure.
    drop(writeln!(io::stdout(), "{text}"));
    ExitCode::SUCCESS
}

/// Says what went wrong.
pub(super) fn complain(text: &str) {
    // Nobody is left to be told if standard error is gone.
    drop(writeln!(io::stderr(), "{text}"));
}

const CLOSE_ENOUGH: f64 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn everything_without_a_subcommand_is_for_run() {
        for (line, expected) in [
            ("", Ok((Command::Run, 0))),
            ("--ping check", Ok((Command::Run, 2))),
            ("run --ping", Ok((Command::Run, 1))),
            ("check a.yml b.yml", Ok((Command::Check, 2))),
            ("version", Ok((Command::Version, 0))),
            (
                "chekc",
                Err("command not found: chekc (did you mean `check`?)"),
            ),
            (
                "zzz",
                Err("command not found: zzz (`portway --help` lists the commands)"),
            ),
        ] {
            let arguments = words(line);
            let found = Command::of(&arguments).map(|(command, rest)| (command, rest.len()));
            assert_eq!(found, expected.map_err(str::to_owned), "{line}");
        }
    }

    #[test]
    fn help_may_stand_anywhere() {
        for (line, wanted) in [
            ("--help", true),
            ("check -h", true),
            ("--ping --help", true),
            ("--ping", false),
            ("help", false),
        ] {
            assert_eq!(wants_help(&words(line)), wanted, "{line}");
        }
    }
}
