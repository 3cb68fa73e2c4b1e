//! From a matcher's kind and arguments to a compiled matcher: how many arguments there are and what each must look
//! like in edition 3, and notes on those that can never match. Edition 2 is in `v2`.

use http::HeaderName;

use super::matcher::{Expected, Header, Host, HostForm, Matcher, Node, Pattern, Query, network};
use super::names::{Kind, name_of};
use super::parse::Argument;
use super::request::{normalise_host, routing_path};
use super::{RuleError, RuleNote, Syntax, column, regexp, shorten, upgrade, v2};

/// Turns one matcher call after the other into nodes and collects notes about them.
#[derive(Debug)]
pub(super) struct Builder<'t> {
    text: &'t str,
    syntax: Syntax,
    notes: Vec<RuleNote>,
    patterns: usize,
    /// The argument list of the previous matcher, kept for its allocation.
    spare: Vec<Argument<'t>>,
}

impl<'t> Builder<'t> {
    pub(super) fn new(text: &'t str, syntax: Syntax) -> Self {
        Self {
            text,
            syntax,
            notes: Vec::new(),
            patterns: 0,
            spare: Vec::new(),
        }
    }

    pub(super) fn syntax(&self) -> Syntax {
        self.syntax
    }

    pub(super) fn into_notes(self) -> Vec<RuleNote> {
        self.notes
    }

    pub(super) fn take_arguments(&mut self) -> Vec<Argument<'t>> {
        std::mem::take(&mut self.spare)
    }

    pub(super) fn give_arguments(&mut self, mut arguments: Vec<Argument<'t>>) {
        arguments.clear();
        self.spare = arguments;
    }

    /// The node for a call of `kind` at `at`.
    pub(super) fn matcher(
        &mut self,
        kind: Kind,
        at: usize,
        arguments: &[Argument<'t>],
        negated: bool,
    ) -> Result<Node, RuleError> {
        if arguments.is_empty() {
            let name = name_of(kind, self.syntax);
            return Err(self
                .error(at, format!("{name} needs an argument"))
                .hint(format!("write {name}(`…`)")));
        }
        if let Some(empty) = arguments.iter().find(|argument| argument.text.is_empty()) {
            return Err(self.empty_argument(kind, empty));
        }
        if self.syntax == Syntax::V2 {
            return v2::matcher(self, kind, at, arguments, negated);
        }
        let matcher = match (kind, arguments) {
            (Kind::Header, [name, value]) => {
                self.header(name, Expected::Text(value.text.as_ref().into()))
            }
            (Kind::HeaderRegexp, [name, value]) => {
                let value = Expected::Pattern(self.pattern(value)?);
                self.header(name, value)
            }
            (Kind::Query | Kind::QueryRegexp, [key]) => self.query(key, Expected::Text("".into())),
            (Kind::Query, [key, value]) => {
                self.query(key, Expected::Text(value.text.as_ref().into()))
            }
            (Kind::QueryRegexp, [key, value]) => {
                let value = Expected::Pattern(self.pattern(value)?);
                self.query(key, value)
            }
            (Kind::Header | Kind::HeaderRegexp | Kind::Query | Kind::QueryRegexp, _) => {
                return Err(self.arity(kind, at, arguments));
            }
            (_, [argument]) => self.single(kind, argument)?,
            _ => return Err(self.arity(kind, at, arguments)),
        };
        Ok(Node::Leaf { matcher, negated })
    }

    /// A matcher of one argument, edition 3.
    fn single(&mut self, kind: Kind, argument: &Argument<'t>) -> Result<Matcher, RuleError> {
        match kind {
            Kind::Host | Kind::HostHeader => self.host(argument),
            Kind::HostRegexp => self.host_regexp(argument),
            Kind::Path => Ok(Matcher::Path(self.path(argument)?)),
            Kind::PathPrefix => Ok(Matcher::PathPrefix(self.path(argument)?)),
            Kind::PathRegexp => Ok(Matcher::PathRegexp(Box::new(self.pattern(argument)?))),
            Kind::Method => Ok(self.method(argument)),
            _ => self.client_ip(argument),
        }
    }

    fn host(&mut self, argument: &Argument<'_>) -> Result<Matcher, RuleError> {
        let text = self.host_text(argument)?;
        let form = match &*text {
            "*" => HostForm::Everything,
            text if names_parent(text) => HostForm::Wildcard,
            _ => HostForm::Exact,
        };
        let literal = if form == HostForm::Exact {
            &*text
        } else {
            &text[1..]
        };
        if literal.contains('*') {
            self.note(argument.at, format!("`{text}` matches no host: a `*` stands for the whole first label and only there"));
        }
        Ok(Matcher::Host(Host {
            text,
            form,
            names_certificate: true,
        }))
    }

    /// The value of a host matcher in lower case.
    pub(super) fn host_text(&mut self, argument: &Argument<'_>) -> Result<Box<str>, RuleError> {
        self.ascii_host(argument)?;
        let text = argument.text.to_ascii_lowercase();
        // Who copies a URL means its host.
        let after = text.split_once("://").map_or(&*text, |(_, rest)| rest);
        let seen = normalise_host(after.split(['/', '?', '#']).next().unwrap_or_default());
        if seen != text {
            self.note(argument.at, format!("`{text}` matches no host: requests have port, brackets and blanks removed; write `{seen}`"));
        }
        Ok(text.into())
    }

    pub(super) fn ascii_host(&self, argument: &Argument<'_>) -> Result<(), RuleError> {
        if argument.text.is_ascii() {
            return Ok(());
        }
        Err(self
            .error(
                argument.at,
                format!(
                    "`{}` is not ASCII; host names in requests always are",
                    argument.text
                ),
            )
            .hint("write the name in its punycode form (xn--…)"))
    }

    fn host_regexp(&mut self, argument: &Argument<'t>) -> Result<Matcher, RuleError> {
        self.ascii_host(argument)?;
        if !v2::is_template(&argument.text) {
            return Ok(Matcher::HostRegexp(Box::new(self.pattern(argument)?)));
        }
        let pattern = v2::host(self, argument)?;
        let form = upgrade::host_regexp(&argument.text, &upgrade::escape).unwrap_or_default();
        let form = quote(&form);
        self.note(argument.at, format!("{{name:regexp}} is rule syntax 2, and read with its old meaning; write HostRegexp({form})"));
        Ok(Matcher::HostRegexp(Box::new(pattern)))
    }

    fn path(&mut self, argument: &Argument<'_>) -> Result<Box<str>, RuleError> {
        let path = &*argument.text;
        self.rooted(argument)?;
        let seen = routing_path(path);
        if seen != path {
            self.note(argument.at, format!("`{path}` matches no path: requests are decoded before they are matched; write `{seen}`"));
        } else if path.contains(['?', '#']) {
            self.note(argument.at, format!("`{path}` matches no path: the query is no part of it; use Query(`key`, `value`)"));
        } else if v2::is_template(path) {
            self.note(
                argument.at,
                "{name} is rule syntax 2; syntax 3 takes the braces literally, use PathRegexp"
                    .to_owned(),
            );
        }
        Ok(path.into())
    }

    pub(super) fn rooted(&self, argument: &Argument<'_>) -> Result<(), RuleError> {
        if argument.text.starts_with('/') {
            return Ok(());
        }
        Err(self
            .error(
                argument.at,
                format!("the path `{}` does not start with `/`", argument.text),
            )
            .hint(format!("write `/{}`", argument.text)))
    }

    pub(super) fn method(&mut self, argument: &Argument<'_>) -> Matcher {
        let method = argument.text.to_uppercase();
        if !method
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',')
        {
            self.note(
                argument.at,
                format!(
                    "`{method}` is no method; write Method(`GET`) || Method(`POST`) for several"
                ),
            );
        }
        Matcher::Method(method.into())
    }

    pub(super) fn client_ip(&self, argument: &Argument<'_>) -> Result<Matcher, RuleError> {
        network(&argument.text)
            .map(Matcher::ClientIp)
            .ok_or_else(|| {
                self.error(
                    argument.at,
                    format!("`{}` is no IP address and no network", argument.text),
                )
                .hint("write an address such as `192.0.2.7` or a network such as `192.0.2.0/24`")
            })
    }

    pub(super) fn header(&mut self, name: &Argument<'_>, value: Expected) -> Matcher {
        let label = &*name.text;
        let seen = HeaderName::from_bytes(label.as_bytes())
            .ok()
            .filter(|name| !UNSEEN_HEADERS.contains(&name.as_str()));
        if seen.is_none() && label.eq_ignore_ascii_case("host") {
            self.note(
                name.at,
                "the Host header is not visible to Header; use Host(`…`)".to_owned(),
            );
        } else if seen.is_none() {
            self.note(
                name.at,
                format!("no request has a header `{label}` that rules can see"),
            );
        }
        Matcher::Header(Box::new(Header {
            label: label.into(),
            name: seen,
            value,
        }))
    }

    fn query(&mut self, key: &Argument<'_>, value: Expected) -> Matcher {
        if let Some((name, value)) = key.text.split_once('=') {
            self.note(key.at, format!("`{}` is taken as the whole name of a parameter; write Query(`{name}`, `{value}`)", key.text));
        }
        Matcher::Query(Box::new(Query {
            key: key.text.as_ref().into(),
            value,
            first_only: false,
        }))
    }

    /// Compiles a regular expression written in the rule.
    pub(super) fn pattern(&mut self, argument: &Argument<'_>) -> Result<Pattern, RuleError> {
        let regex = self.compile(argument.at, &argument.text)?;
        Ok(Pattern {
            text: argument.text.as_ref().into(),
            regex,
        })
    }

    pub(super) fn compile(
        &mut self,
        at: usize,
        pattern: &str,
    ) -> Result<regex::bytes::Regex, RuleError> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(self.error(
                at,
                format!("the rule has more than {MAX_PATTERNS} regular expressions"),
            ));
        }
        regexp::compile(pattern)
            .map_err(|error| self.error(at, format!("invalid regular expression: {error}")))
    }

    pub(super) fn error(&self, at: usize, message: impl Into<String>) -> RuleError {
        RuleError::at(self.text, at, message)
    }

    fn note(&mut self, at: usize, message: String) {
        if self.notes.len() < MAX_NOTES {
            let column = column(self.text, at);
            self.notes.push(RuleNote {
                offset: at,
                column,
                message: shorten(message),
            });
        }
    }

    fn empty_argument(&self, kind: Kind, argument: &Argument<'_>) -> RuleError {
        let error = self.error(
            argument.at,
            format!("an argument of {} is empty", name_of(kind, self.syntax)),
        );
        match kind {
            Kind::Query if self.syntax == Syntax::V3 => {
                error.hint("Query(`key`) alone matches an empty value")
            }
            Kind::Host | Kind::HostRegexp => {
                error.hint("leave the matcher out to match every host")
            }
            Kind::PathPrefix | Kind::Path => error.hint("the shortest path is `/`"),
            _ => error,
        }
    }

    fn arity(&self, kind: Kind, at: usize, arguments: &[Argument<'_>]) -> RuleError {
        let name = name_of(kind, Syntax::V3);
        let (takes, group, join) = match kind {
            Kind::Header | Kind::HeaderRegexp => ("two arguments, name and value", 2, " && "),
            Kind::Query | Kind::QueryRegexp => ("a key, or a key and a value", 2, " && "),
            _ => ("one argument", 1, " || "),
        };
        let error = self.error(at, format!("{name} takes {takes}, not {}", arguments.len()));
        if arguments.len() < 2 || !arguments.len().is_multiple_of(group) || arguments.len() > 10 {
            return error;
        }
        let calls: Vec<_> = arguments
            .chunks(group)
            .map(|arguments| {
                let arguments: Vec<_> = arguments
                    .iter()
                    .map(|argument| quote(&argument.text))
                    .collect();
                format!("{name}({})", arguments.join(", "))
            })
            .collect();
        error.hint(format!("write {}", calls.join(join)))
    }
}

/// Whether `text` is a wildcard in front of some name.
fn names_parent(text: &str) -> bool {
    text.strip_prefix("*.")
        .is_some_and(|parent| !parent.trim_end_matches('.').is_empty())
}

/// `text` as a rule would write it.
pub(super) fn quote(text: &str) -> String {
    if text.contains('`') {
        format!("{text:?}")
    } else {
        format!("`{text}`")
    }
}

/// Headers that describe the message rather than the request; Traefik's rules do not see them.
const UNSEEN_HEADERS: [&str; 2] = ["host", "transfer-encoding"];
/// Each may compile to a megabyte.
const MAX_PATTERNS: usize = 256;
/// More notes on one rule help nobody.
const MAX_NOTES: usize = 16;
