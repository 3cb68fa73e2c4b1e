//! The rule of a router in syntax 3, where part of its text stands for something that is not known here.

use std::ops::Range;

use crate::rule::{Protocol, RuleError, Syntax, escape, upgrade};

/// What stands for something else in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// Variables of Compose, and `$$` for a dollar sign.
    Variables,
    /// Actions of a Go template.
    Actions,
}

/// The rule in syntax 3; nothing if it reads the same there.
pub(super) fn upgraded(
    text: &str,
    protocol: Protocol,
    syntax: Syntax,
    stands: Stands,
) -> Result<Option<String>, RuleError> {
    let (plain, unknown) = hide(text, stands);
    let literal = |text: &str| {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(MARK) {
            let end = at
                + rest[at..]
                    .find(END)
                    .map_or(rest.len() - at, |end| end + END.len());
            out.push_str(&escape(&rest[..at]));
            // Whatever it stands for is meant as it is.
            out.extend(["\\Q", &rest[at..end], "\\E"]);
            rest = &rest[end..];
        }
        out.push_str(&escape(rest));
        out
    };
    let new = upgrade(&plain, (protocol, syntax), &literal)?;
    Ok(new.map(|new| show(new, &unknown, stands)))
}

/// Puts a word in the place of everything that stands for something else.
fn hide(text: &str, stands: Stands) -> (String, Vec<String>) {
    let mut plain = String::with_capacity(text.len());
    let mut unknown = Vec::new();
    let mut copied = 0;
    for Range { start, end } in spans(text, stands) {
        plain.push_str(&text[copied..start]);
        match &text[start..end] {
            "$$" => plain.push('$'),
            found => {
                plain.extend([MARK, &unknown.len().to_string(), END]);
                unknown.push(found.to_owned());
            }
        }
        copied = end;
    }
    plain.push_str(&text[copied..]);
    (plain, unknown)
}

fn show(plain: String, unknown: &[String], stands: Stands) -> String {
    let mut text = match stands {
        Stands::Variables => plain.replace('$', "$$"),
        Stands::Actions => plain,
    };
    for (number, found) in unknown.iter().enumerate() {
        text = text.replace(&format!("{MARK}{number}{END}"), found);
    }
    text
}

fn spans(text: &str, stands: Stands) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut at = 0;
    let start = match stands {
        Stands::Variables => "$",
        Stands::Actions => "{{",
    };
    while let Some(found) = text[at..].find(start) {
        let begin = at + found;
        let length = match stands {
            Stands::Variables => variable(&text[begin..]),
            Stands::Actions => text[begin..].find("}}").map(|end| end + 2),
        };
        at = begin + length.unwrap_or(1);
        if length.is_some() {
            spans.push(begin..at);
        }
    }
    spans
}

/// How long the variable is that a text begins with.
fn variable(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('$')?;
    if rest.starts_with('$') {
        return Some(2);
    }
    if rest.starts_with('{') {
        let mut depth = 0;
        let end = rest.find(|letter| {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        return end.map(|end| end + 2);
    }
    let name = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let name = name.unwrap_or(rest.len());
    let is_name = !rest.starts_with(|letter: char| letter.is_ascii_digit());
    (name > 0 && is_name).then_some(name + 1)
}

/// Letters that no host, path or expression has side by side.
const MARK: &str = "qxzj";
const END: &str = "w";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_stays_and_is_taken_literally() {
        for (old, stands, new) in [
            (
                "Host(`${A}`, `www.${A:-b.test}`)",
                Stands::Variables,
                Some("Host(`${A}`) || Host(`www.${A:-b.test}`)"),
            ),
            (
                "HostRegexp(`{sub:[a-z]+}.${DOMAIN}`)",
                Stands::Variables,
                Some("HostRegexp(`^[a-z]+\\.\\Q${DOMAIN}\\E$$`)"),
            ),
            (
                "HostRegexp(`{sub:(a|b)$$}.$D`)",
                Stands::Variables,
                Some("HostRegexp(`^(a|b)$$\\.\\Q$D\\E$$`)"),
            ),
            ("Host(`${A}.b`)", Stands::Variables, None),
            ("HostRegexp(`^.+\\.${A}$$`)", Stands::Variables, None),
            (
                "Host(`{{ .Name }}`, `{{ index .Labels \"a\" }}.b`)",
                Stands::Actions,
                Some("Host(`{{ .Name }}`) || Host(`{{ index .Labels \"a\" }}.b`)"),
            ),
        ] {
            let found = upgraded(old, Protocol::Http, Syntax::V3, stands).unwrap();
            assert_eq!(found.as_deref(), new, "{old}");
        }
    }
}
