//! Variables in the values of a Compose file, as Compose replaces them: `$NAME`, `${NAME:-default}` and the like, `$$` for a dollar sign.

use std::collections::BTreeMap;

use crate::config::{
    Diagnostic, Place,
    tree::{Node, Style, Value},
};

/// What variables are set to, and which were asked for in vain.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    values: BTreeMap<String, String>,
    /// Names that stood for nothing, with the first place and how many places in all.
    unset: BTreeMap<String, (Place, usize)>,
}

impl Variables {
    /// Adds those that are not set yet.
    pub(super) fn add(&mut self, more: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in more {
            self.values.entry(name).or_insert(value);
        }
    }

    /// Sets one, whatever it was.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// What a variable is set to.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Remembers what another set of variables lacked.
    pub(super) fn note_unset_of(&mut self, other: Self) {
        for (name, (place, count)) in other.unset {
            self.unset.entry(name).or_insert((place, 0)).1 += count;
        }
    }

    /// What there is to say about variables that were not set.
    pub(super) fn findings(&self) -> Vec<Diagnostic> {
        let unset = self.unset.iter();
        let finding = |(name, (place, count)): (&String, &(Place, usize))| {
            let more = match count {
                0 | 1 => String::new(),
                2 => ", here and in one more place".to_owned(),
                count => format!(", here and in {} more places", count - 1),
            };
            let message = format!("the variable `{name}` is not set and stands for nothing{more}");
            let hint =
                format!("set it in `.env` or the environment, or write `${{{name}:-default}}`");
            Diagnostic::warning(place.clone(), "", message).with_hint(hint)
        };
        unset.map(finding).collect()
    }

    /// Replaces the variables in every value below a node. Names of options stay as they are, as in Compose.
    pub(super) fn replace_in(&mut self, node: &mut Node, findings: &mut Vec<Diagnostic>) {
        match &mut node.value {
            Value::Null => {}
            Value::Scalar(scalar) => {
                if !scalar.text.contains('$') {
                    return;
                }
                match self.replaced(&scalar.text, &node.place) {
                    Ok(text) => {
                        scalar.text = text.into();
                        scalar.style = Style::Quoted;
                    }
                    Err(wrong) => {
                        findings.push(wrong.at(&node.place));
                        // What is not known is not wrong a second time.
                        let known = scalar.text.split('$').next().unwrap_or_default();
                        let name = known.split_once('=').map(|(name, _)| format!("{name}="));
                        node.value = name.map_or(Value::Null, |name| Value::text(&name));
                    }
                }
            }
            Value::List(nodes) | Value::Repeated(nodes) => {
                for node in nodes {
                    self.replace_in(node, findings);
                }
            }
            Value::Map { children, .. } => {
                for node in children {
                    self.replace_in(node, findings);
                }
            }
        }
    }

    /// A text with its variables replaced.
    pub(super) fn replaced(&mut self, text: &str, place: &Place) -> Result<String, Wrong> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(inside) = after.strip_prefix('{') {
                let end = closing_brace(inside).ok_or(Wrong::NotClosed)?;
                out.push_str(&self.braced(&inside[..end], place)?);
                rest = &inside[end + 1..];
            } else {
                let (name, after) = after.split_at(name_length(after));
                match name {
                    // A dollar sign before anything else is one.
                    "" => out.push('$'),
                    name => out.push_str(&self.value(name, place)),
                }
                rest = after;
            }
            if out.len() > LONGEST {
                return Err(Wrong::TooLong);
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What stands between braces: a name, and what to do if it is set or not.
    fn braced(&mut self, inside: &str, place: &Place) -> Result<String, Wrong> {
        let (name, rest) = inside.split_at(name_length(inside));
        if name.is_empty() {
            return Err(Wrong::NoName(inside.to_owned()));
        }
        let value = self.get(name).map(str::to_owned);
        let (rest, empty_counts) = match rest.strip_prefix(':') {
            Some(rest) => (rest, false),
            None => (rest, true),
        };
        let set = value.filter(|value| empty_counts || !value.is_empty());
        let Some(operator) = rest.chars().next() else {
            return match empty_counts {
                true => Ok(self.value(name, place)),
                false => Err(Wrong::NoName(inside.to_owned())),
            };
        };
        let operand = &rest[operator.len_utf8()..];
        match (operator, set) {
            ('-' | '?', Some(value)) => Ok(value),
            ('-', None) | ('+', Some(_)) => self.replaced(operand, place),
            ('+', None) => Ok(String::new()),
            ('?', None) => Err(Wrong::Required(
                name.to_owned(),
                self.replaced(operand, place)?,
            )),
            _ => Err(Wrong::NoName(inside.to_owned())),
        }
    }

    fn value(&mut self, name: &str, place: &Place) -> String {
        if let Some(value) = self.values.get(name) {
            return value.clone();
        }
        let unset = self.unset.entry(name.to_owned());
        unset.or_insert_with(|| (place.clone(), 0)).1 += 1;
        String::new()
    }
}

/// Why the variables of a text cannot be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    NotClosed,
    NoName(String),
    Required(String, String),
    TooLong,
}

impl Wrong {
    pub(super) fn at(self, place: &Place) -> Diagnostic {
        let error = |message: String| Diagnostic::error(place.clone(), "", message);
        match self {
            Self::NotClosed => {
                error("a `${` is not closed".to_owned()).with_hint("write `$$` for a dollar sign")
            }
            Self::NoName(inside) => error(format!("`${{{inside}}}` names no variable"))
                .with_hint("write `$$` for a dollar sign"),
            Self::Required(name, said) => {
                let said = match said.as_str() {
                    "" => String::new(),
                    said => format!(": {said}"),
                };
                error(format!(
                    "the variable `{name}` is required and not set{said}"
                ))
                .with_hint("set it in `.env` or the environment")
            }
            Self::TooLong => error(format!("grows beyond {LONGEST} bytes")),
        }
    }
}

/// How many bytes at the beginning are a variable's name.
fn name_length(text: &str) -> usize {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if begins { end.unwrap_or(text.len()) } else { 0 }
}

/// Where the brace closes that opened before `text`; braces of variables inside are theirs.
fn closing_brace(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                // Deeper than any file is written by hand; recursion follows this depth.
                if depth > DEEPEST {
                    return None;
                }
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// A value that grows longer is an accident or an attack.
const LONGEST: usize = 1024 * 1024;

const DEEPEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let mut variables = Variables::default();
        let set = [("X", "x"), ("E", ""), ("_a1", "v")];
        variables.add(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
        variables
    }

    /// Every line was compared with what `docker compose config` (v5.6.1) makes of it.
    #[test]
    fn variables_are_replaced_as_compose_does() {
        for (text, expected) in [
            ("k=$$1 $X ${X} $X.b ${X}b $Xb", "k=$1 x x x.b xb "),
            ("$1 a$ $é", "$1 a$ $é"),
            ("${U:-d} ${E:-d} ${U-d} ${E-d}", "d d d "),
            ("${U:+r} ${E:+r} ${E+r} ${X+r}", "  r r"),
            ("${U:-${X:-y}} ${U:-${Z:-y}z}", "x yz"),
            ("${E?no}", ""),
            ("$${X} $$$X $$$$", "${X} $x $$"),
            ("${U:-a}b}", "ab}"),
            ("${U:-$X$$}", "x$"),
            ("{$X} $X-a", "{x} x-a"),
            ("${U:-a:-b} ${U-a:-b}", "a:-b a:-b"),
            ("${U:-http://a?b}", "http://a?b"),
            ("$_a1 ${_a1}", "v v"),
            ("${U:-}x${U-}", "x"),
        ] {
            let found = variables().replaced(text, &Place::Builtin);
            assert_eq!(found.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_says_why() {
        for (text, expected) in [
            (
                "${U:?no way}",
                "error: the variable `U` is required and not set: no way (set it in `.env` or the environment)",
            ),
            (
                "${E:?${X} needed}",
                "error: the variable `E` is required and not set: x needed (set it in `.env` or the environment)",
            ),
            (
                "${U?}",
                "error: the variable `U` is required and not set (set it in `.env` or the environment)",
            ),
            (
                "${1}",
                "error: `${1}` names no variable (write `$$` for a dollar sign)",
            ),
            (
                "${X",
                "error: a `${` is not closed (write `$$` for a dollar sign)",
            ),
            (
                "${X!}",
                "error: `${X!}` names no variable (write `$$` for a dollar sign)",
            ),
            (
                "${ X }",
                "error: `${ X }` names no variable (write `$$` for a dollar sign)",
            ),
            (
                "${X:3}",
                "error: `${X:3}` names no variable (write `$$` for a dollar sign)",
            ),
        ] {
            let wrong = variables().replaced(text, &Place::Builtin).unwrap_err();
            assert_eq!(wrong.at(&Place::Builtin).to_string(), expected, "{text}");
        }
        let deep = "${U:-".repeat(10_000) + &"}".repeat(10_000);
        assert_eq!(
            variables().replaced(&deep, &Place::Builtin),
            Err(Wrong::NotClosed)
        );
        let mut doubling = Variables::default();
        doubling.add([("A".to_owned(), "a".repeat(100_000))]);
        assert_eq!(
            doubling.replaced(&"$A".repeat(100), &Place::Builtin),
            Err(Wrong::TooLong)
        );
    }

    #[test]
    fn what_is_not_set_is_said_once_for_each_name() {
        let mut variables = variables();
        for text in ["$U ${U}", "${V:-d} $W"] {
            variables.replaced(text, &Place::Builtin).unwrap();
        }
        let found: Vec<_> = variables
            .findings()
            .iter()
            .map(|found| found.message.clone())
            .collect();
        assert_eq!(
            found,
            [
                "the variable `U` is not set and stands for nothing, here and in one more place",
                "the variable `W` is not set and stands for nothing"
            ]
        );
    }
}
