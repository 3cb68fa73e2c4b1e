//! Rules of syntax 2 written in syntax 3: only the matchers that differ are written anew, everything else of the text stays as it is.

use std::ops::Range;

use super::build::quote;
use super::lexer::{Lexer, Token};
use super::names::{self, Kind};
use super::v2::{self, variables};
use super::{RuleError, Syntax};

/// The rule in syntax 3; nothing if it reads the same there. Of a rule that was written as one of syntax 3, only what means something
/// in syntax 2 alone is written anew: an expression without `{name}` stays an expression.
///
/// Whether the arguments are valid is not asked. `literal` makes a regular expression of a text that is to match as it is
/// ([`escape`], or more than that where the text stands for something else).
pub fn upgrade(
    text: &str,
    (protocol, syntax): (Protocol, Syntax),
    literal: &dyn Fn(&str) -> String,
) -> Result<Option<String>, RuleError> {
    let mut new = String::with_capacity(text.len());
    let mut copied = 0;
    for call in calls(text)? {
        let writer = Writer {
            text,
            syntax,
            literal,
        };
        let Some(form) = writer.call(&call, protocol)? else {
            continue;
        };
        new.push_str(&text[copied..call.span.start]);
        new.push_str(&form);
        copied = call.span.end;
    }
    new.push_str(&text[copied..]);
    Ok((copied > 0).then_some(new))
}

/// What a rule decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Tcp,
}

/// A regular expression that matches `text` and nothing else, as people write it.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// The expression of a host template in syntax 3.
pub(super) fn host_regexp(template: &str, literal: &dyn Fn(&str) -> String) -> Option<String> {
    let lower = |text: &str| literal(&text.to_ascii_lowercase());
    let expression = expression(template, &lower, "^", "[^.]+", "$")?;
    // Requests are in lower case already.
    let mut previous = ' ';
    let shouts = expression.chars().any(|letter| {
        let shout = letter.is_ascii_uppercase() && previous != '\\' && previous != '{';
        previous = letter;
        shout
    });
    Some(match shouts {
        true => format!("(?i){expression}"),
        false => expression,
    })
}

/// A matcher with its arguments, and what stands beside it.
struct Call<'t> {
    name: &'t str,
    span: Range<usize>,
    arguments: Vec<String>,
    negated: bool,
    /// Nothing but `||` and parentheses are beside it.
    in_alternatives: bool,
}

fn calls(text: &str) -> Result<Vec<Call<'_>>, RuleError> {
    let mut lexer = Lexer::new(text);
    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut before = Token::Open;
    let mut open: Option<Call<'_>> = None;
    loop {
        let (at, token) = lexer.next()?;
        match (&mut open, &token) {
            (_, Token::End) => return Ok(calls),
            (None, Token::Name(name)) => {
                open = Some(Call {
                    name,
                    span: at..at,
                    arguments: Vec::new(),
                    negated: before == Token::Not,
                    in_alternatives: matches!(before, Token::Open | Token::Or),
                });
            }
            (Some(call), Token::Text(text)) => call.arguments.push(text.to_string()),
            (Some(_), Token::Close) => {
                if let Some(mut call) = open.take() {
                    call.span.end = at + 1;
                    calls.push(call);
                }
            }
            _ => {}
        }
        if open.is_none()
            && before == Token::Close
            && token == Token::And
            && let Some(call) = calls.last_mut()
        {
            call.in_alternatives = false;
        }
        before = token;
    }
}

struct Writer<'t> {
    text: &'t str,
    syntax: Syntax,
    literal: &'t dyn Fn(&str) -> String,
}

impl Writer<'_> {
    /// What a call is in syntax 3; nothing if it is the same.
    fn call(&self, call: &Call<'_>, protocol: Protocol) -> Result<Option<String>, RuleError> {
        let (parts, join) = match protocol {
            Protocol::Http => self.http(call)?,
            Protocol::Tcp => (self.tcp(call)?, " || "),
        };
        if parts.is_empty() {
            return Ok(None);
        }
        let alone = parts.len() == 1;
        let joined = parts.join(join);
        let bare = match join {
            " || " => call.in_alternatives,
            _ => !call.negated,
        };
        Ok(Some(match alone || bare {
            true => joined,
            false => format!("({joined})"),
        }))
    }

    /// The calls that it takes in syntax 3, and how they are joined. None if it is the same.
    fn http(&self, call: &Call<'_>) -> Result<(Vec<String>, &'static str), RuleError> {
        // Whoever mixes the editions means the matchers that are there.
        let kind = names::find(self.text, call.span.start, call.name, Syntax::V2)
            .or_else(|_| names::find(self.text, call.span.start, call.name, Syntax::V3))?;
        let parts = match kind {
            Kind::Header | Kind::HeaderRegexp => {
                let name = names::name_of(kind, Syntax::V3);
                if call.arguments.len() == 2 && call.name == name {
                    return Ok((Vec::new(), " && "));
                }
                return Ok((headers(name, &call.arguments), " && "));
            }
            Kind::Query => return Ok((self.queries(call)?, " && ")),
            Kind::PathRegexp | Kind::QueryRegexp => Vec::new(),
            _ => self.alternatives(kind, call)?,
        };
        Ok((parts, " || "))
    }

    fn alternatives(&self, kind: Kind, call: &Call<'_>) -> Result<Vec<String>, RuleError> {
        let mut same = call.arguments.len() == 1 && kind != Kind::HostHeader;
        let is_template = |argument: &str| match self.syntax {
            Syntax::V2 => kind == Kind::HostRegexp || argument.contains(['{', '}']),
            Syntax::V3 => v2::is_template(argument),
        };
        let mut parts = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            let regexp = match kind {
                _ if !is_template(argument) => None,
                Kind::HostRegexp => Some(host_regexp(argument, self.literal)),
                Kind::Path | Kind::PathPrefix => {
                    let end = if kind == Kind::Path { "$" } else { "" };
                    Some(expression(argument, self.literal, "^", "[^/]+", end))
                }
                _ => None,
            };
            let Some(regexp) = regexp else {
                let name = match kind {
                    Kind::HostHeader => "Host",
                    _ => call.name,
                };
                parts.push(format!("{name}({})", quote(argument)));
                continue;
            };
            same = false;
            let regexp = regexp.ok_or_else(|| self.unpaired(call, argument))?;
            let name = match kind {
                Kind::HostRegexp => call.name,
                _ => "PathRegexp",
            };
            parts.push(format!("{name}({})", quote(&regexp)));
        }
        Ok(match same {
            true => Vec::new(),
            false => parts,
        })
    }

    /// `key=value` to key and value. A second argument without `=` is the value of the first.
    fn queries(&self, call: &Call<'_>) -> Result<Vec<String>, RuleError> {
        let parts: Vec<&str> = call
            .arguments
            .iter()
            .flat_map(|argument| argument.splitn(2, '='))
            .collect();
        let (pairs, _) = parts.as_chunks::<2>();
        let newer = self.syntax == Syntax::V3 && parts.len() == 1;
        let same = newer || call.arguments.len() == 2 && parts.len() == 2;
        let mut written = Vec::with_capacity(pairs.len());
        let mut changed = !same;
        for [key, value] in pairs {
            if key.is_empty() {
                let error = RuleError::at(self.text, call.span.start, "a query without a key");
                return Err(error.hint("syntax 3 cannot say this"));
            }
            let (name, value) = match *value {
                "" => ("QueryRegexp", "^.*$".to_owned()),
                template if self.is_template_of_query(template) => {
                    let regexp = expression(template, self.literal, "^", ".*", "$");
                    let regexp = regexp.ok_or_else(|| self.unpaired(call, template))?;
                    ("QueryRegexp", regexp)
                }
                value => ("Query", value.to_owned()),
            };
            changed |= name == "QueryRegexp";
            written.push(format!("{name}({}, {})", quote(key), quote(&value)));
        }
        Ok(match changed {
            true => written,
            false => Vec::new(),
        })
    }

    fn is_template_of_query(&self, value: &str) -> bool {
        match self.syntax {
            Syntax::V2 => value.contains(['{', '}']),
            Syntax::V3 => v2::is_template(value),
        }
    }

    fn tcp(&self, call: &Call<'_>) -> Result<Vec<String>, RuleError> {
        let regexp = call.name.eq_ignore_ascii_case("HostSNIRegexp");
        let is_template =
            |argument: &String| self.syntax == Syntax::V2 || v2::is_template(argument);
        let regexp = regexp && call.arguments.iter().any(is_template);
        if call.arguments.len() < 2 && !regexp {
            return Ok(Vec::new());
        }
        let parts = call.arguments.iter().map(|argument| {
            let argument = match regexp {
                true => host_regexp(argument, self.literal)
                    .ok_or_else(|| self.unpaired(call, argument))?,
                false => argument.clone(),
            };
            Ok(format!("{}({})", call.name, quote(&argument)))
        });
        parts.collect()
    }

    fn unpaired(&self, call: &Call<'_>, argument: &str) -> RuleError {
        let message = format!("the braces of `{argument}` do not pair up");
        RuleError::at(self.text, call.span.start, message)
    }
}

/// Of two values for the same name the last one counts.
fn headers(name: &str, arguments: &[String]) -> Vec<String> {
    let (pairs, _) = arguments.as_chunks::<2>();
    let last = |(index, [label, _]): &(usize, &[String; 2])| {
        pairs[index + 1..].iter().all(|[later, _]| later != label)
    };
    let kept = pairs.iter().enumerate().filter(last);
    kept.map(|(_, [label, value])| format!("{name}({}, {})", quote(label), quote(value)))
        .collect()
}

/// A template as a regular expression; `variable` is what a `{name}` without an expression stands for. Nothing if its braces do
/// not pair up.
fn expression(
    template: &str,
    literal: &dyn Fn(&str) -> String,
    start: &str,
    variable: &str,
    end: &str,
) -> Option<String> {
    let mut expression = start.to_owned();
    let mut copied = 0;
    for Range { start, end: stop } in variables(template)? {
        expression.push_str(&literal(&template[copied..start]));
        let inner = &template[start + 1..stop - 1];
        let inner = inner.split_once(':').map_or(variable, |(_, inner)| inner);
        match has_open_alternatives(inner) || inner.contains("(?") {
            true => expression.extend(["(?:", inner, ")"]),
            false => expression.push_str(inner),
        }
        copied = stop;
    }
    expression.push_str(&literal(&template[copied..]));
    expression.push_str(end);
    Some(expression)
}

/// Whether a `|` of an expression is outside all parentheses, so that it would split what stands around it too. A `|` of a class
/// counts as well: more parentheses than needed do no harm.
fn has_open_alternatives(expression: &str) -> bool {
    let mut depth = 0;
    let mut escaped = false;
    for letter in expression.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth <= 0 => return true,
            _ => {}
        }
    }
    false
}
