//! The `docker` command: it knows the user's contexts, credentials and plugins.

use std::{
    ffi::{OsStr, OsString},
    io,
    pin::pin,
    process::{Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Command, runtime::Runtime};

use super::signals::Signals;
use crate::cli::complain;

/// How `docker` is run.
#[derive(Debug)]
pub(super) struct Docker {
    /// The program, and the words before all others.
    words: Vec<OsString>,
    runtime: Runtime,
    signals: Signals,
}

impl Docker {
    pub(super) fn new(words: &[&OsStr], signals: Signals) -> io::Result<Self> {
        Ok(Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            signals,
        })
    }

    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// What the command printed, if it went well.
    pub(super) fn succeed(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.output(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "docker {} failed: {}",
            arguments.join(" "),
            said.trim()
        ))
    }

    /// Runs the command to its end, or until somebody asks for the second time that it ends.
    pub(super) fn output(&self, arguments: &[&str]) -> Result<Output, String> {
        let run = async {
            let child = self.command(arguments).spawn()?;
            let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            let mut ended = pin!(child.wait_with_output());
            let mut seen = self.signals.count();
            let mut killed = false;
            loop {
                tokio::select! {
                    output = &mut ended => return output.map(|output| (output, killed)),
                    count = self.signals.above(seen) => {
                        seen = count;
                        if count == 1 {
                            complain("Interrupted: what Docker is at ends first; interrupt once more to leave it at once.");
                        } else if let Some(group) = group {
                            // It may have ended just now.
                            killed |= kill_process_group(group, Signal::KILL).is_ok();
                        }
                    }
                }
            }
        };
        match self.runtime.block_on(run) {
            Ok((_, true)) => Err(format!("docker {}: left", arguments.join(" "))),
            Ok((output, false)) => Ok(output),
            Err(error) => Err(format!(
                "cannot run `docker`: {error} (is the Docker CLI installed?)"
            )),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (program, words) = match self.words.split_first() {
            Some((program, words)) => (program.as_os_str(), words),
            None => (OsStr::new(PROGRAM), &[][..]),
        };
        let mut command = Command::new(program);
        command
            .args(words)
            .args(arguments)
            // A process group of its own: Ctrl-C is for us, who then tidy up with the same command.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// The Docker CLI.
pub(super) const PROGRAM: &str = "docker";
