//! The functions a template may call: Go's own and the sprig ones in common use.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use super::{EnvLookup, Value};

/// What functions may look at besides their arguments.
pub(super) struct Context<'a> {
    pub(super) env: EnvLookup<'a>,
}

/// A function: its name, how many arguments it takes, and what it does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Function {
    pub(super) name: &'static str,
    least: usize,
    most: usize,
    body: Body,
}

type Outcome = Result<Value, String>;
type Pure = fn(&[Value]) -> Outcome;
type WithEnv = fn(&Context<'_>, &[Value]) -> Value;
type Checked = fn(i64, i64) -> Option<i64>;

#[derive(Debug, Clone, Copy)]
enum Body {
    Pure(Pure),
    Env(WithEnv),
}

impl Function {
    pub(super) fn call(&self, context: &Context<'_>, arguments: &[Value]) -> Outcome {
        if arguments.len() < self.least {
            return Err(format!(
                "needs {} arguments, found {}",
                self.least,
                arguments.len()
            ));
        }
        if arguments.len() > self.most {
            return Err(format!(
                "takes {} arguments, found {}",
                self.most,
                arguments.len()
            ));
        }
        match self.body {
            Body::Pure(body) => body(arguments),
            Body::Env(body) => Ok(body(context, arguments)),
        }
    }
}

/// The function of this name.
pub(super) fn find(name: &str) -> Option<Function> {
    FUNCTIONS
        .iter()
        .find(|function| function.name == name)
        .copied()
}

/// All names.
pub(super) fn names() -> Vec<&'static str> {
    FUNCTIONS.iter().map(|function| function.name).collect()
}

const fn pure(name: &'static str, least: usize, most: usize, body: Pure) -> Function {
    Function {
        name,
        least,
        most,
        body: Body::Pure(body),
    }
}

const ANY: usize = usize::MAX;

/// Arguments come in sprig's order: the value piped in is the last.
const FUNCTIONS: &[Function] = &[
    Function {
        name: "env",
        least: 1,
        most: 1,
        body: Body::Env(|context, a| Value::Text((context.env)(&text(&a[0])).unwrap_or_default())),
    },
    pure("add", 1, ANY, |a| fold(a, i64::checked_add)),
    pure("and", 1, ANY, |a| {
        Ok(a.iter()
            .find(|v| !v.is_true())
            .unwrap_or(&a[a.len() - 1])
            .clone())
    }),
    pure("b64dec", 1, 1, |a| {
        let bytes = BASE64
            .decode(text(&a[0]))
            .map_err(|error| format!("cannot decode: {error}"))?;
        Ok(Value::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }),
    pure("b64enc", 1, 1, |a| {
        Ok(Value::Text(BASE64.encode(text(&a[0]))))
    }),
    pure("coalesce", 0, ANY, |a| {
        Ok(a.iter()
            .find(|v| v.is_true())
            .unwrap_or(&Value::Nil)
            .clone())
    }),
    pure("contains", 2, 2, |a| {
        Ok(Value::Bool(text(&a[1]).contains(&text(&a[0]))))
    }),
    pure("default", 1, 2, |a| {
        Ok(a[1..].iter().find(|v| v.is_true()).unwrap_or(&a[0]).clone())
    }),
    pure("dict", 0, ANY, dict),
    pure("empty", 1, 1, |a| Ok(Value::Bool(!a[0].is_true()))),
    pure("eq", 2, ANY, |a| {
        Ok(Value::Bool(a[1..].iter().any(|other| *other == a[0])))
    }),
    pure("first", 1, 1, |a| {
        Ok(list(&a[0])?.first().unwrap_or(&Value::Nil).clone())
    }),
    pure("ge", 2, 2, |a| compare(a, Ordering::is_ge)),
    pure("get", 2, 2, index),
    pure("gt", 2, 2, |a| compare(a, Ordering::is_gt)),
    pure("hasPrefix", 2, 2, |a| {
        Ok(Value::Bool(text(&a[1]).starts_with(&text(&a[0]))))
    }),
    pure("hasSuffix", 2, 2, |a| {
        Ok(Value::Bool(text(&a[1]).ends_with(&text(&a[0]))))
    }),
    pure("indent", 2, 2, |a| Ok(Value::Text(indent(a)?))),
    pure("index", 1, ANY, index),
    pure("int", 1, 1, |a| Ok(Value::Int(int(&a[0]).unwrap_or(0)))),
    pure("join", 2, 2, |a| {
        let items: Vec<String> = list(&a[1])?.iter().map(text).collect();
        Ok(Value::Text(items.join(&text(&a[0]))))
    }),
    pure("kebabcase", 1, 1, |a| {
        Ok(Value::Text(kebabcase(&text(&a[0]))))
    }),
    pure("last", 1, 1, |a| {
        Ok(list(&a[0])?.last().unwrap_or(&Value::Nil).clone())
    }),
    pure("le", 2, 2, |a| compare(a, Ordering::is_le)),
    pure("len", 1, 1, length),
    pure("list", 0, ANY, |a| Ok(Value::List(a.to_vec()))),
    pure("lower", 1, 1, |a| {
        Ok(Value::Text(text(&a[0]).to_lowercase()))
    }),
    pure("lt", 2, 2, |a| compare(a, Ordering::is_lt)),
    pure("mul", 1, ANY, |a| fold(a, i64::checked_mul)),
    pure("ne", 2, 2, |a| Ok(Value::Bool(a[0] != a[1]))),
    pure("nindent", 2, 2, |a| {
        Ok(Value::Text(format!("\n{}", indent(a)?)))
    }),
    pure("normalize", 1, 1, |a| {
        Ok(Value::Text(normalize(&text(&a[0]))))
    }),
    pure("nospace", 1, 1, |a| {
        Ok(Value::Text(text(&a[0]).split_whitespace().collect()))
    }),
    pure("not", 1, 1, |a| Ok(Value::Bool(!a[0].is_true()))),
    pure("or", 1, ANY, |a| {
        Ok(a.iter()
            .find(|v| v.is_true())
            .unwrap_or(&a[a.len() - 1])
            .clone())
    }),
    pure("print", 0, ANY, |a| {
        Ok(Value::Text(a.iter().map(text).collect()))
    }),
    pure("printf", 1, ANY, |a| printf(&text(&a[0]), &a[1..])),
    pure("quote", 0, ANY, |a| {
        let quoted: Vec<String> = a.iter().map(quoted).collect();
        Ok(Value::Text(quoted.join(" ")))
    }),
    pure("regexFind", 2, 2, |a| {
        let whole = text(&a[1]);
        let found = regex(&a[0])?.find(&whole).map(|found| found.as_str());
        Ok(found.unwrap_or_default().into())
    }),
    pure("regexMatch", 2, 2, |a| {
        Ok(Value::Bool(regex(&a[0])?.is_match(&text(&a[1]))))
    }),
    pure("regexReplaceAll", 3, 3, |a| {
        let replaced = regex(&a[0])?
            .replace_all(&text(&a[1]), text(&a[2]))
            .into_owned();
        Ok(Value::Text(replaced))
    }),
    pure("replace", 3, 3, |a| {
        Ok(Value::Text(text(&a[2]).replace(&text(&a[0]), &text(&a[1]))))
    }),
    pure("sha256sum", 1, 1, |a| {
        let digest = Sha256::digest(text(&a[0]));
        Ok(Value::Text(
            digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }),
    pure("split", 2, 2, |a| {
        let whole = text(&a[1]);
        let separator = text(&a[0]);
        let pieces = whole.split(&separator).enumerate();
        Ok(Value::Map(
            pieces
                .map(|(n, piece)| (format!("_{n}"), piece.into()))
                .collect(),
        ))
    }),
    pure("splitList", 2, 2, |a| {
        Ok(Value::List(
            text(&a[1]).split(&text(&a[0])).map(Value::from).collect(),
        ))
    }),
    pure("squote", 0, ANY, |a| {
        let quoted: Vec<String> = a.iter().map(|v| format!("'{}'", text(v))).collect();
        Ok(Value::Text(quoted.join(" ")))
    }),
    pure("sub", 2, 2, |a| fold(a, i64::checked_sub)),
    pure("substr", 3, 3, |a| {
        let (start, end) = (int(&a[0])?, int(&a[1])?);
        let start = usize::try_from(start).unwrap_or(0);
        // A negative end is the end of the text.
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        let length = end.saturating_sub(start);
        Ok(Value::Text(
            text(&a[2]).chars().skip(start).take(length).collect(),
        ))
    }),
    pure("ternary", 3, 3, |a| {
        Ok(if a[2].is_true() {
            a[0].clone()
        } else {
            a[1].clone()
        })
    }),
    pure("title", 1, 1, |a| Ok(Value::Text(title(&text(&a[0]))))),
    pure("toString", 1, 1, |a| Ok(Value::Text(text(&a[0])))),
    pure("trim", 1, 1, |a| Ok(text(&a[0]).trim().into())),
    pure("trimAll", 2, 2, |a| {
        let cut = text(&a[0]);
        Ok(text(&a[1]).trim_matches(|c| cut.contains(c)).into())
    }),
    pure("trimPrefix", 2, 2, |a| {
        let whole = text(&a[1]);
        Ok(whole.strip_prefix(&text(&a[0])).unwrap_or(&whole).into())
    }),
    pure("trimSuffix", 2, 2, |a| {
        let whole = text(&a[1]);
        Ok(whole.strip_suffix(&text(&a[0])).unwrap_or(&whole).into())
    }),
    pure("trunc", 2, 2, |a| {
        let (length, whole) = (int(&a[0])?, text(&a[1]));
        let kept = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
        // A negative length keeps the end.
        let skipped = match length < 0 {
            true => whole.chars().count().saturating_sub(kept),
            false => 0,
        };
        Ok(Value::Text(
            whole.chars().skip(skipped).take(kept).collect(),
        ))
    }),
    pure("until", 1, 1, |a| {
        let count = int(&a[0])?;
        match count {
            0..=MAX_LIST => Ok(Value::List((0..count).map(Value::Int).collect())),
            _ => Err(format!("takes a number from 0 to {MAX_LIST}")),
        }
    }),
    pure("upper", 1, 1, |a| {
        Ok(Value::Text(text(&a[0]).to_uppercase()))
    }),
];

/// As text; nothing is empty.
fn text(value: &Value) -> String {
    match value {
        Value::Nil => String::new(),
        other => other.to_string(),
    }
}

fn quoted(value: &Value) -> String {
    format!("{:?}", text(value))
}

fn int(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::Bool(truth) => Ok(i64::from(*truth)),
        other => {
            let text = text(other);
            text.trim()
                .parse()
                .map_err(|_| format!("needs a number, found {text:?}"))
        }
    }
}

fn list(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::List(items) => Ok(items),
        Value::Nil => Ok(&[]),
        other => Err(format!("needs a list, found {:?}", text(other))),
    }
}

fn regex(value: &Value) -> Result<regex::Regex, String> {
    let pattern = text(value);
    regex::Regex::new(&pattern).map_err(|_| format!("has an invalid expression {pattern:?}"))
}

fn fold(arguments: &[Value], operation: Checked) -> Outcome {
    let mut total = int(&arguments[0])?;
    for argument in &arguments[1..] {
        total = operation(total, int(argument)?).ok_or("overflows")?;
    }
    Ok(Value::Int(total))
}

fn compare(arguments: &[Value], holds: fn(Ordering) -> bool) -> Outcome {
    let (a, b) = (&arguments[0], &arguments[1]);
    let order = match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        _ => int(a)?.cmp(&int(b)?),
    };
    Ok(Value::Bool(holds(order)))
}

fn index(arguments: &[Value]) -> Outcome {
    let mut value = &arguments[0];
    for key in &arguments[1..] {
        let inner = match value {
            Value::Map(entries) => entries.get(&text(key)),
            Value::List(items) => {
                let at = usize::try_from(int(key)?).ok();
                let item = at.and_then(|at| items.get(at));
                Some(item.ok_or("is out of the list's range")?)
            }
            _ => None,
        };
        match inner {
            Some(inner) => value = inner,
            None => return Ok(Value::Text(String::new())),
        }
    }
    Ok(value.clone())
}

fn dict(arguments: &[Value]) -> Outcome {
    let pairs = arguments.chunks(2);
    let entries: BTreeMap<_, _> = pairs
        .map(|pair| (text(&pair[0]), pair.get(1).cloned().unwrap_or(Value::Nil)))
        .collect();
    Ok(Value::Map(entries))
}

fn length(arguments: &[Value]) -> Outcome {
    let length = match &arguments[0] {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        other => return Err(format!("cannot measure {:?}", text(other))),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn indent(arguments: &[Value]) -> Result<String, String> {
    let width = int(&arguments[0])?.clamp(0, 200);
    let pad = " ".repeat(usize::try_from(width).unwrap_or(0));
    let lines: Vec<_> = text(&arguments[1])
        .split('\n')
        .map(|line| format!("{pad}{line}"))
        .collect();
    Ok(lines.join("\n"))
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        match start {
            true => titled.extend(c.to_uppercase()),
            false => titled.push(c),
        }
        start = c.is_whitespace();
    }
    titled
}

/// `FirstName` and `first_name` become `first-name`.
fn kebabcase(text: &str) -> String {
    let mut kebab = String::with_capacity(text.len());
    let mut before: Option<char> = None;
    for letter in text.chars() {
        let starts = letter.is_uppercase()
            && before.is_some_and(|before| before.is_lowercase() || before.is_numeric());
        let separates = !letter.is_alphanumeric();
        if (starts || separates) && !kebab.is_empty() && !kebab.ends_with('-') {
            kebab.push('-');
        }
        if !separates {
            kebab.extend(letter.to_lowercase());
        }
        before = Some(letter);
    }
    kebab.trim_end_matches('-').to_owned()
}

/// Letters and digits, runs of anything else become one `-`: how a container's name becomes a host label.
pub fn normalize(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}

/// `%s`, `%v`, `%d`, `%q`, `%t` and `%%`.
fn printf(format: &str, arguments: &[Value]) -> Outcome {
    let mut arguments = arguments.iter();
    let mut output = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            output.push(c);
            continue;
        }
        let verb = chars.next().ok_or("ends with `%`")?;
        if verb == '%' {
            output.push('%');
            continue;
        }
        let argument = arguments.next().ok_or("has more verbs than arguments")?;
        match verb {
            's' | 'v' | 't' => output.push_str(&text(argument)),
            'd' => output += &int(argument)?.to_string(),
            'q' => output += &quoted(argument),
            other => return Err(format!("does not know the verb `%{other}`")),
        }
    }
    Ok(Value::Text(output))
}

const MAX_LIST: i64 = 100_000;
