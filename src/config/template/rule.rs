//! `providers.docker.defaultRule`: the template of the rule of routers that have none.

use super::parse::{Part, parse};
use super::run::run;
use super::{EnvLookup, Rendered, Value, Wrong};

/// A parsed template of a rule.
#[derive(Debug)]
pub struct RuleTemplate {
    text: String,
    parts: Vec<Part>,
}

impl RuleTemplate {
    /// Parses; an error says everything that is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = parse(text).map_err(|wrong| {
            let all: Vec<String> = wrong.into_iter().map(Wrong::into_text).collect();
            all.join("; ")
        })?;
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// The rule for this data.
    ///
    /// What the template puts inside quotes stays inside: a label that brings quotes of its own would write its own rule.
    pub fn render(&self, data: &Value, env: EnvLookup<'_>) -> Result<String, String> {
        let rendered = run(&self.text, &self.parts, data, env).map_err(Wrong::into_text)?;
        match escapes(&rendered) {
            Some(value) => Err(format!(
                "the value {value:?} would end the quotes that it is put in"
            )),
            None => Ok(rendered.text),
        }
    }
}

/// An inserted value that holds the quote it stands in.
fn escapes(rendered: &Rendered) -> Option<&str> {
    let mut open = None;
    for (index, segment) in rendered.segments.iter().enumerate() {
        let next = rendered.segments.get(index + 1);
        let end = next.map_or(rendered.text.len(), |next| next.output);
        let text = &rendered.text[segment.output..end];
        if let (false, Some(quote)) = (segment.copied, open) {
            if text.contains(quote) || (quote == '"' && text.contains('\\')) {
                return Some(text);
            }
            continue;
        }
        for letter in text.chars() {
            open = match (open, letter) {
                (None, '`' | '"') => Some(letter),
                (Some(quote), letter) if quote == letter => None,
                (open, _) => open,
            };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn data(host: &str) -> Value {
        let labels = BTreeMap::from([("my.host".to_owned(), host.into())]);
        Value::Map(BTreeMap::from([
            ("Name".to_owned(), "web_shop.1".into()),
            ("Labels".to_owned(), Value::Map(labels)),
        ]))
    }

    fn render(template: &str, host: &str) -> Result<String, String> {
        RuleTemplate::parse(template)?.render(&data(host), &|_| None)
    }

    #[test]
    fn rules_are_made_of_names_and_labels() {
        for (template, expected) in [
            ("Host(`{{ normalize .Name }}`)", "Host(`web-shop-1`)"),
            ("Host(`{{ index .Labels \"my.host\" }}`)", "Host(`a.test`)"),
            ("{{ index .Labels \"none\" }}", ""),
            (
                "Host(`{{ .Name | trimSuffix \".1\" | kebabcase }}.x`)",
                "Host(`web-shop.x`)",
            ),
            ("Host(`a`)", "Host(`a`)"),
        ] {
            assert_eq!(render(template, "a.test").unwrap(), expected, "{template}");
        }
    }

    #[test]
    fn a_value_cannot_leave_its_quotes() {
        let template = "Host(`{{ index .Labels \"my.host\" }}`) && Path(`/`)";
        let wrong = render(template, "a`) || Host(`bank.test").unwrap_err();
        assert!(wrong.contains("would end the quotes"), "{wrong}");
        let double = "Host(\"{{ index .Labels \"my.host\" }}\")";
        assert!(render(double, "a\\").is_err());
        assert!(render(double, "a`b").is_ok());
        // A label that is the whole rule may hold quotes.
        let whole = "{{ index .Labels \"my.host\" }}";
        assert_eq!(render(whole, "Host(`a`)").unwrap(), "Host(`a`)");
        // Templates inside values are text.
        let text = render(
            "Host(`{{ index .Labels \"my.host\" }}`)",
            "{{ env \"HOME\" }}",
        );
        assert_eq!(text.unwrap(), "Host(`{{ env \"HOME\" }}`)");
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = RuleTemplate::parse("Host(`{{ normalise .Name }}`)").unwrap_err();
        assert!(
            wrong.contains("normalise") && wrong.contains("did you mean"),
            "{wrong}"
        );
        assert!(RuleTemplate::parse("{{ if }}").is_err());
    }
}
