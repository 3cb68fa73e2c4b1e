//! Routers with the same rule: of those only the first is ever asked, and the others should know.

use std::collections::HashMap;

use super::{Draft, mount::Ranks};
use crate::{
    compile::Stage,
    config::{Diagnostic, Kind},
};

/// Says of each router that another one takes all its requests which one that is.
pub(super) fn report(stage: &Stage<'_>, drafts: &[Draft], findings: &mut Vec<Diagnostic>) {
    let ranks = Ranks::new(&stage.input.install.providers);
    let order = |draft: &Draft| (ranks.of(&draft.definition.provider), draft.name.clone());
    let mut first: HashMap<Twin<'_>, &Draft> = HashMap::with_capacity(drafts.len());
    let mut told: Vec<(&Draft, &Draft)> = Vec::new();
    for draft in drafts {
        for door in &draft.entry_points {
            let twin = Twin {
                door: *door,
                secure: draft.tls_options.is_some(),
                rule: draft.matching.rule.trim(),
                priority: draft.matching.priority,
            };
            let winner = first.entry(twin).or_insert(draft);
            if winner.definition.name == draft.definition.name {
                continue;
            }
            let other = std::mem::replace(winner, draft);
            let (before, after) = match order(other) < order(draft) {
                true => (other, draft),
                false => (draft, other),
            };
            *winner = before;
            told.push((before, after));
        }
    }
    told.dedup_by(|a, b| a.1.definition.name == b.1.definition.name);
    findings.extend(told.into_iter().map(|(before, after)| {
        let message = format!(
            "gets no request: router `{}` has the same rule and goes first",
            before.definition.name
        );
        after
            .definition
            .warning(Kind::Router, "rule", message)
            .with_hint("give one of the two another rule, or a `priority`")
    }));
}

/// What two routers have in common of which one is in vain.
#[derive(PartialEq, Eq, Hash)]
struct Twin<'d> {
    door: usize,
    secure: bool,
    rule: &'d str,
    priority: i64,
}
