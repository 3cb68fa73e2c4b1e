//! Rule syntax 2: several arguments per matcher, and `{name:regexp}` templates in paths, hosts and query values.

use std::ops::Range;

use super::build::Builder;
use super::matcher::{Expected, Host, HostForm, Matcher, Node, Pattern, Query};
use super::names::Kind;
use super::parse::Argument;
use super::{RuleError, regexp};

/// The node for a call of `kind` at `at`; arguments are alternatives, except for the pairs of headers and queries.
pub(super) fn matcher<'t>(
    builder: &mut Builder<'t>,
    kind: Kind,
    at: usize,
    arguments: &[Argument<'t>],
    negated: bool,
) -> Result<Node, RuleError> {
    let (matchers, alternatives) = match kind {
        Kind::Header | Kind::HeaderRegexp => (headers(builder, kind, at, arguments)?, false),
        Kind::Query | Kind::QueryRegexp => (queries(builder, at, arguments)?, false),
        _ => {
            let single = |argument| single(builder, kind, argument);
            (
                arguments
                    .iter()
                    .map(single)
                    .collect::<Result<Vec<_>, _>>()?,
                true,
            )
        }
    };
    let mut nodes = matchers
        .into_iter()
        .map(|matcher| Node::Leaf { matcher, negated });
    let first = nodes
        .next()
        .ok_or_else(|| builder.error(at, "this matcher needs an argument"))?;
    Ok(nodes.fold(
        first,
        if alternatives != negated {
            Node::or
        } else {
            Node::and
        },
    ))
}

/// Whether a regular expression or path of syntax 3 holds a `{name}` or `{name:regexp}`, which is legal there but
/// means literal braces.
pub(super) fn is_template(text: &str) -> bool {
    let Some(variables) = variables(text) else {
        return false;
    };
    variables.iter().any(|&Range { start, end }| {
        let name = text[start + 1..end - 1]
            .split(':')
            .next()
            .unwrap_or_default();
        let class = text[..start].ends_with("\\p")
            || text[..start].ends_with("\\P")
            || text[..start].ends_with("\\x");
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !class
            && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(is_word)
    })
}

/// A host template: anchored, and blind to case.
pub(super) fn host(
    builder: &mut Builder<'_>,
    argument: &Argument<'_>,
) -> Result<Pattern, RuleError> {
    template(
        builder,
        argument.at,
        &argument.text,
        Form {
            prefix: "(?i)^",
            variable: "[^.]+",
            suffix: "$",
        },
    )
}

fn single<'t>(
    builder: &mut Builder<'t>,
    kind: Kind,
    argument: &Argument<'t>,
) -> Result<Matcher, RuleError> {
    match kind {
        Kind::Host | Kind::HostHeader => {
            let names_certificate = kind == Kind::Host;
            Ok(Matcher::Host(Host {
                text: builder.host_text(argument)?,
                form: HostForm::Exact,
                names_certificate,
            }))
        }
        Kind::HostRegexp => {
            builder.ascii_host(argument)?;
            Ok(Matcher::HostRegexp(Box::new(host(builder, argument)?)))
        }
        Kind::Path | Kind::PathPrefix => path(builder, kind, argument),
        Kind::Method => Ok(builder.method(argument)),
        _ => builder.client_ip(argument),
    }
}

fn path(
    builder: &mut Builder<'_>,
    kind: Kind,
    argument: &Argument<'_>,
) -> Result<Matcher, RuleError> {
    builder.rooted(argument)?;
    let literal = !argument.text.contains(['{', '}']);
    match (kind, literal) {
        (Kind::Path, true) => Ok(Matcher::Path(argument.text.as_ref().into())),
        (_, true) => Ok(Matcher::PathPrefix(argument.text.as_ref().into())),
        (_, false) => {
            let suffix = if kind == Kind::Path { "$" } else { "" };
            let pattern = template(
                builder,
                argument.at,
                &argument.text,
                Form {
                    prefix: "^",
                    variable: "[^/]+",
                    suffix,
                },
            )?;
            Ok(Matcher::PathRegexp(Box::new(pattern)))
        }
    }
}

fn headers(
    builder: &mut Builder<'_>,
    kind: Kind,
    at: usize,
    arguments: &[Argument<'_>],
) -> Result<Vec<Matcher>, RuleError> {
    let (pairs, rest) = arguments.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(builder.error(
            at,
            format!(
                "header names and values come in pairs, found {} arguments",
                arguments.len()
            ),
        ));
    }
    let mut matchers = Vec::with_capacity(pairs.len());
    for (index, [name, value]) in pairs.iter().enumerate() {
        // Of two values for the same name the last one counts, as in a map.
        if pairs[index + 1..]
            .iter()
            .any(|[later, _]| later.text == name.text)
        {
            continue;
        }
        let expected = match kind {
            Kind::Header => Expected::Text(value.text.as_ref().into()),
            _ => Expected::Pattern(builder.pattern(value)?),
        };
        matchers.push(builder.header(name, expected));
    }
    Ok(matchers)
}

/// Queries are written `key=value`, or as key and value in turn.
fn queries(
    builder: &mut Builder<'_>,
    at: usize,
    arguments: &[Argument<'_>],
) -> Result<Vec<Matcher>, RuleError> {
    let parts: Vec<_> = arguments
        .iter()
        .flat_map(|argument| argument.text.splitn(2, '=').map(|part| (argument.at, part)))
        .collect();
    let (pairs, rest) = parts.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(builder
            .error(at, "a query has a key and a value")
            .hint("write Query(`key=value`)"));
    }
    pairs
        .iter()
        .map(|[(_, key), (at, value)]| query(builder, key, *at, value))
        .collect()
}

fn query(
    builder: &mut Builder<'_>,
    key: &str,
    at: usize,
    value: &str,
) -> Result<Matcher, RuleError> {
    let value = match value {
        "" => template(builder, at, "{any:.*}", QUERY_FORM).map(Expected::Pattern)?,
        template_text if value.contains(['{', '}']) => {
            template(builder, at, template_text, QUERY_FORM).map(Expected::Pattern)?
        }
        literal => Expected::Text(literal.into()),
    };
    Ok(Matcher::Query(Box::new(Query {
        key: key.into(),
        value,
        first_only: true,
    })))
}

/// What surrounds a template and what a variable without a pattern stands for.
#[derive(Clone, Copy)]
struct Form {
    prefix: &'static str,
    variable: &'static str,
    suffix: &'static str,
}

fn template(
    builder: &mut Builder<'_>,
    at: usize,
    text: &str,
    form: Form,
) -> Result<Pattern, RuleError> {
    let variables = variables(text)
        .ok_or_else(|| builder.error(at, format!("the braces of `{text}` do not pair up")))?;
    let mut pattern = form.prefix.to_owned();
    let mut end = 0;
    for Range { start, end: stop } in variables {
        pattern.push_str(&regex::escape(&text[end..start]));
        let inner = &text[start + 1..stop - 1];
        let (name, expression) = inner.split_once(':').unwrap_or((inner, form.variable));
        if name.is_empty() || expression.is_empty() {
            return Err(builder
                .error(
                    at,
                    format!("`{{{inner}}}` lacks a name or a regular expression"),
                )
                .hint("write {name} or {name:regexp}"));
        }
        // Checked by itself first, so that its parentheses cannot pair up with those added here.
        regexp::compile(expression).map_err(|error| {
            builder.error(
                at,
                format!("invalid regular expression `{expression}`: {error}"),
            )
        })?;
        pattern.push_str("(?:");
        pattern.push_str(expression);
        pattern.push(')');
        end = stop;
    }
    pattern.push_str(&regex::escape(&text[end..]));
    pattern.push_str(form.suffix);
    Ok(Pattern {
        text: text.into(),
        regex: builder.compile(at, &pattern)?,
    })
}

/// The outermost brace pairs: where each begins and the place behind its end.
pub(super) fn variables(text: &str) -> Option<Vec<Range<usize>>> {
    let mut pairs = Vec::new();
    let mut open = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open.push(at),
            b'}' => {
                let start = open.pop()?;
                if open.is_empty() {
                    pairs.push(start..at + 1);
                }
            }
            _ => {}
        }
    }
    open.is_empty().then_some(pairs)
}

const QUERY_FORM: Form = Form {
    prefix: "^",
    variable: ".*",
    suffix: "$",
};
