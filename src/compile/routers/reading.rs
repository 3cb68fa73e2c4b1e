//! A router's rule, in whichever syntax it is written.

use crate::{
    config::{Diagnostic, Kind, definitions::Defined, install::RuleSyntax, routing::Router},
    rule::{Parsed, Protocol, Rule, RuleError, Syntax, escape, upgrade},
};

/// The rule, and the syntax it was written in. A rule that cannot be read is told.
pub(super) fn read(
    definition: &Defined<Router>,
    default: RuleSyntax,
    report: &mut dyn FnMut(Diagnostic),
) -> Option<(Rule, Syntax)> {
    let router = &definition.object;
    let syntax = match (router.rule_syntax.as_str(), default) {
        ("", RuleSyntax::V2) => Syntax::V2,
        (name, _) => Syntax::from_name(name),
    };
    let parsed = Rule::parse(&router.rule, syntax).or_else(|error| match syntax {
        Syntax::V2 => Err(error),
        Syntax::V3 => in_new_form(definition, error, report),
    });
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            report(wrong(definition, error));
            return None;
        }
    };
    for note in parsed.warnings {
        let message = format!("{} (column {} of the rule)", note.message, note.column);
        report(definition.warning(Kind::Router, "rule", message));
    }
    if syntax == Syntax::V2 && !router.rule_syntax.is_empty() {
        let found = definition.warning(Kind::Router, "ruleSyntax", "rule syntax 2 is deprecated");
        let hint = match upgrade(&router.rule, (Protocol::Http, syntax), &escape) {
            Ok(Some(form)) => format!("remove it, and write the rule as {form}"),
            Ok(None) => "remove it: the rule means the same in syntax 3".to_owned(),
            Err(_) => "syntax 3 has no form of this rule".to_owned(),
        };
        report(found.with_hint(hint));
    }
    Some((parsed.rule, syntax))
}

/// Reads a rule that only syntax 2 has, though nobody said that it is one: what it is in syntax 3 is told, and served.
fn in_new_form(
    definition: &Defined<Router>,
    error: RuleError,
    report: &mut dyn FnMut(Diagnostic),
) -> Result<Parsed, RuleError> {
    let form = upgrade(
        &definition.object.rule,
        (Protocol::Http, Syntax::V3),
        &escape,
    );
    let Ok(Some(form)) = form else {
        return Err(error);
    };
    let Ok(parsed) = Rule::parse(&form, Syntax::V3) else {
        return Err(error);
    };
    let message = "is written in rule syntax 2, and read with its old meaning";
    let found = definition.warning(Kind::Router, "rule", message);
    report(found.with_hint(format!("write {form}")));
    Ok(parsed)
}

fn wrong(definition: &Defined<Router>, error: RuleError) -> Diagnostic {
    let message = format!("{} (column {} of the rule)", error.message, error.column);
    let finding = definition.error(Kind::Router, "rule", message);
    Diagnostic {
        hint: error.hint,
        ..finding
    }
}
