//! `portway [flags]`: loads the install configuration and serves.

use std::process::ExitCode;

use super::complain;
use crate::{
    app::App,
    config::{Root, Sources, load_install},
};

/// Runs the proxy until it is told to stop.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let environment: Vec<_> = std::env::vars().collect();
    let directory = std::env::current_dir().unwrap_or_default();
    let loaded = match load_install(&Sources {
        arguments,
        environment: &environment,
        directory: &directory,
        root: Root::Here,
    }) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                complain(&diagnostic.to_string());
            }
            return ExitCode::FAILURE;
        }
    };
    match App::new(loaded.install, loaded.diagnostics).run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
