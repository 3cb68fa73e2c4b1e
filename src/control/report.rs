//! Tells the log what was found wrong: each finding once, as long as it stays.

use std::collections::BTreeSet;

use tracing::{error, info, warn};

use crate::{
    config::{Diagnostic, Severity},
    observe::FINDINGS,
};

/// What the log has been told.
#[derive(Debug, Default)]
pub(super) struct Report {
    told: BTreeSet<String>,
}

impl Report {
    /// Logs those of `diagnostics` that were not there the last time, and that findings are gone when all are.
    pub(super) fn tell(&mut self, diagnostics: &[Diagnostic]) {
        let mut now = BTreeSet::new();
        for diagnostic in diagnostics {
            let text = diagnostic.to_string();
            if !self.told.contains(&text) && !now.contains(&text) {
                log(diagnostic);
            }
            now.insert(text);
        }
        if now.is_empty() && !self.told.is_empty() {
            info!("nothing is wrong with the configuration any more");
        }
        self.told = now;
    }
}

fn log(diagnostic: &Diagnostic) {
    let place = diagnostic.place.to_string();
    let path = diagnostic.path.as_str();
    let hint = diagnostic.hint.as_deref();
    match diagnostic.severity {
        Severity::Error => error!(target: FINDINGS, place, path, hint, "{}", diagnostic.message),
        Severity::Warning => warn!(target: FINDINGS, place, path, hint, "{}", diagnostic.message),
        Severity::Info => info!(target: FINDINGS, place, path, hint, "{}", diagnostic.message),
    }
}
