//! The serde side of decoding: one reader per node.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::{Fail, Path, Round, did_you_mean, tolerated};
use crate::config::diagnostic::{About, Diagnostic};
use crate::config::shape::{OPAQUE, PRESENCE};
use crate::config::tree::{Node, Scalar, Style, Value};

/// Reads one node.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    node: &'a Node,
    path: &'a Path<'a>,
    round: &'a Round<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(node: &'a Node, path: &'a Path<'a>, round: &'a Round<'a>) -> Self {
        Self { node, path, round }
    }

    /// Adds this reader's spot to a failure that has none.
    fn located<T>(self, result: Result<T, Fail>) -> Result<T, Fail> {
        result.map_err(|fail| fail.at(self.path, self.node))
    }

    fn single(self, expected: &str) -> Result<&'a Scalar, Fail> {
        match self.node.scalar() {
            Some(scalar) if scalar.style == Style::Bare => {
                Err(Fail::new(format!("needs a value: {expected}")))
            }
            Some(scalar) => Ok(scalar),
            None => {
                let found = self.node.value.describe();
                Err(Fail::new(format!("expected {expected}, found {found}")))
            }
        }
    }

    fn is_bare(self) -> bool {
        let scalar = self.node.scalar();
        scalar.is_some_and(|scalar| scalar.style == Style::Bare)
    }

    fn number<T: FromStr>(self, expected: &str) -> Result<T, Fail> {
        let scalar = self.single(expected)?;
        scalar
            .text
            .trim()
            .parse()
            .map_err(|_| unfit(expected, scalar))
    }

    /// A whole number; `1.0` is one.
    fn whole<T: FromStr>(self, expected: &str) -> Result<T, Fail> {
        let scalar = self.single(expected)?;
        let text = scalar.text.trim();
        let digits = match text.split_once('.') {
            Some((digits, zeros))
                if !zeros.is_empty() && zeros.bytes().all(|zero| zero == b'0') =>
            {
                digits
            }
            _ => text,
        };
        digits.parse().map_err(|_| match text.is_empty() {
            true => unfit(expected, scalar).of_empty(),
            false => unfit(expected, scalar),
        })
    }

    /// Notes a finding about the node as it is named.
    fn warn(self, message: String, hint: &str) {
        let path = self.round.full(self.path);
        let warning = Diagnostic::warning(self.node.key.clone(), path, message);
        self.round.note(warning.with_hint(hint));
    }

    /// A struct that is on when named: `Some` when on.
    fn present<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        let switch = match &self.node.value {
            Value::Null => {
                self.warn(
                    "has no value and is ignored".to_owned(),
                    "write `{}` to enable it",
                );
                return visitor.visit_none();
            }
            Value::Map { switch, .. } => switch.as_ref(),
            _ => self.node.scalar(),
        };
        let Some(switch) = switch else {
            return visitor.visit_newtype_struct(self);
        };
        if is_on(switch) {
            let enabled = as_options(self.node);
            return visitor.visit_newtype_struct(Reader::new(&enabled, self.path, self.round));
        }
        if parse_bool(&switch.text).is_none() {
            let quoted = format!("{:?}", switch.text);
            if switch.style == Style::NextWord {
                return Err(Fail::new(format!(
                    "takes no value, found the word {quoted}"
                )));
            }
            self.warn(
                format!("the value {quoted} disables it"),
                "write `false` to disable it",
            );
        }
        visitor.visit_none()
    }

    /// A part that is known and not acted on.
    fn opaque<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        let off = match &self.node.value {
            Value::List(items) => items.is_empty(),
            _ => self
                .node
                .scalar()
                .is_some_and(|scalar| parse_bool(&scalar.text) == Some(false)),
        };
        if !off {
            let path = self.round.full(self.path);
            let message = "is known, but not supported by this version";
            let warning = Diagnostic::warning(self.node.key.clone(), path, message);
            self.round.note(warning.about(About::Unsupported));
        }
        visitor.visit_newtype_struct(self)
    }

    fn options(self) -> Result<&'a [Node], Fail> {
        match &self.node.value {
            Value::Map { children, .. } => Ok(children),
            Value::Null => Ok(&[]),
            other => Err(Fail::new(format!(
                "expected options, found {}",
                other.describe()
            ))),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fail;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Map { .. } => self.deserialize_map(visitor),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Scalar(_) | Value::Repeated(_) if self.is_bare() => visitor.visit_bool(true),
            Value::Scalar(_) | Value::Repeated(_) => untyped(self.single("a value")?, visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        if self.is_bare() {
            return visitor.visit_bool(true);
        }
        let scalar = self.single("`true` or `false`")?;
        match parse_bool(&scalar.text) {
            Some(value) => visitor.visit_bool(value),
            None => Err(unfit("`true` or `false`", scalar)),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_i64(self.whole("a whole number")?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_u64(self.whole("a whole number from 0 up")?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_u32(self.whole("a whole number from 0 to 4294967295")?)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_u16(self.whole("a whole number from 0 to 65535")?)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_u8(self.whole("a whole number from 0 to 255")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        let number: f64 = self.number("a number")?;
        if number.is_finite() {
            visitor.visit_f64(number)
        } else {
            Err(unfit("a number", self.single("a number")?))
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        let scalar = self.single("a single value")?;
        self.located(visitor.visit_str(&scalar.text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fail> {
        let result = match name {
            PRESENCE => self.present(visitor),
            OPAQUE => self.opaque(visitor),
            _ => visitor.visit_newtype_struct(self),
        };
        self.located(result)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items::new(self, items)),
            Value::Map { children, .. } => match numbered(children) {
                Some(items) => visitor.visit_seq(Items::new(self, &items)),
                None => Err(Fail::new("expected a list, found options")),
            },
            Value::Null => visitor.visit_seq(Items::new(self, &[])),
            Value::Scalar(_) | Value::Repeated(_) if self.is_bare() => {
                Err(Fail::new("needs a value: a list"))
            }
            Value::Scalar(_) | Value::Repeated(_) => {
                visitor.visit_seq(Items::new(self, &comma_items(self.node)))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_map(Entries::new(self, self.options()?, None))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        let options = self.options().map_err(|fail| {
            let first = fields.first().copied().unwrap_or_default();
            fail.with_hint(Some(format!(
                "set its options, such as `{first}`, below it"
            )))
        });
        let result = visitor.visit_map(Entries::new(self, options?, Some(fields)));
        self.located(result)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        let scalar = self.single("a single value")?;
        let known = variants
            .iter()
            .find(|name| name.eq_ignore_ascii_case(&scalar.text));
        match known {
            Some(name) => visitor.visit_enum(str_of(name)),
            None => {
                let unknown: Fail = de::Error::unknown_variant(&scalar.text, variants);
                Err(match scalar.text.is_empty() {
                    true => unknown.of_empty(),
                    false => unknown,
                })
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

/// The children of a node as a map, or as a struct when the field names are given.
struct Entries<'a> {
    reader: Reader<'a>,
    children: std::slice::Iter<'a, Node>,
    fields: Option<&'static [&'static str]>,
    current: Option<(&'a Node, &'a str)>,
    seen: Vec<(&'a str, &'a Node)>,
}

impl<'a> Entries<'a> {
    fn new(
        reader: Reader<'a>,
        children: &'a [Node],
        fields: Option<&'static [&'static str]>,
    ) -> Self {
        Self {
            reader,
            children: children.iter(),
            fields,
            current: None,
            seen: Vec::new(),
        }
    }

    /// The canonical name of a child, or nothing when it is not to be read.
    fn name_of(&mut self, child: &'a Node) -> Option<&'a str> {
        let Some(fields) = self.fields else {
            return self.is_given(child).then_some(&child.name);
        };
        let known = fields
            .iter()
            .find(|name| name.eq_ignore_ascii_case(&child.name));
        let Some(&name) = known else {
            self.reader.round.note(unknown(self.reader, child, fields));
            return None;
        };
        if let Some((_, first)) = self.seen.iter().find(|(seen, _)| *seen == name) {
            let path = self.reader.round.full(&self.reader.path.field(name));
            let message = format!("`{}` is given twice", child.name);
            let twice = Diagnostic::error(child.key.clone(), path, message);
            let hint = format!("the first is `{}` at {}", first.name, first.key);
            self.reader.round.note(twice.with_hint(hint));
            return None;
        }
        self.seen.push((name, child));
        self.is_given(child).then_some(name)
    }

    /// A name without a value is left out, as in Traefik; where that surprises it is said.
    fn is_given(&self, child: &Node) -> bool {
        if !matches!(child.value, Value::Null) {
            return true;
        }
        let enables = ENABLED_BY_NAME
            .iter()
            .any(|name| name.eq_ignore_ascii_case(&child.name));
        if enables || self.fields.is_none() {
            let path = self.reader.path.field(&child.name);
            let hint = if enables {
                "write `{}` to enable it"
            } else {
                "write `\"\"` for an empty value"
            };
            Reader::new(child, &path, self.reader.round)
                .warn("has no value and is ignored".to_owned(), hint);
        }
        false
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fail;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fail> {
        while let Some(child) = self.children.next() {
            let Some(name) = self.name_of(child) else {
                continue;
            };
            if self
                .reader
                .round
                .visit(&self.reader.path.field(name), &child.place)
            {
                self.current = Some((child, name));
                return seed.deserialize(str_of(name)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fail> {
        let (child, name) = self
            .current
            .take()
            .ok_or_else(|| Fail::new("a value was asked before its key"))?;
        let path = self.reader.path.field(name);
        let reader = Reader::new(child, &path, self.reader.round);
        reader.located(seed.deserialize(reader))
    }
}

/// The items of a list.
struct Items<'a> {
    reader: Reader<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'a> Items<'a> {
    fn new(reader: Reader<'a>, items: &'a [Node]) -> Self {
        Self {
            reader,
            items: items.iter().enumerate(),
        }
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Fail;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fail> {
        for (index, item) in self.items.by_ref() {
            let path = self.reader.path.item(index);
            if matches!(item.value, Value::Null) || !self.reader.round.visit(&path, &item.place) {
                continue;
            }
            let reader = Reader::new(item, &path, self.reader.round);
            return reader.located(seed.deserialize(reader)).map(Some);
        }
        Ok(None)
    }
}

/// A value without a type to guide it: bare numbers and booleans are such.
fn untyped<'de, V: Visitor<'de>>(scalar: &Scalar, visitor: V) -> Result<V::Value, Fail> {
    match scalar.style {
        Style::Quoted | Style::NextWord | Style::Bare => return visitor.visit_str(&scalar.text),
        Style::Plain => {}
    }
    if let Ok(truth) = scalar.text.parse() {
        return visitor.visit_bool(truth);
    }
    if let Ok(number) = scalar.text.parse() {
        return visitor.visit_i64(number);
    }
    match scalar.text.parse::<f64>() {
        Ok(number) if number.is_finite() => visitor.visit_f64(number),
        _ => visitor.visit_str(&scalar.text),
    }
}

fn unknown(reader: Reader<'_>, child: &Node, fields: &[&str]) -> Diagnostic {
    let path = reader.round.full(&reader.path.field(&child.name));
    if let Some(why) = tolerated::misplaced(&path) {
        return Diagnostic::warning(child.key.clone(), path, why);
    }
    let mut diagnostic =
        Diagnostic::error(child.key.clone(), path, "unknown option").about(About::UnknownOption);
    diagnostic.hint = did_you_mean(&child.name, fields);
    diagnostic
}

fn unfit(expected: impl Display, scalar: &Scalar) -> Fail {
    let found = Value::Scalar(scalar.clone()).describe();
    Fail::new(format!("expected {expected}, found {found}"))
}

/// Named without options, or with `true`.
fn is_on(switch: &Scalar) -> bool {
    switch.text.is_empty() || switch.text.eq_ignore_ascii_case("true")
}

/// The node with its children only.
fn as_options(node: &Node) -> Node {
    Node {
        name: node.name.clone(),
        key: node.key.clone(),
        place: node.place.clone(),
        value: Value::map(node.children().to_vec()),
    }
}

/// Children named by numbers are a list, ordered by these as text.
fn numbered(children: &[Node]) -> Option<Vec<Node>> {
    let is_number = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    if children.is_empty() || !children.iter().all(|child| is_number(&child.name)) {
        return None;
    }
    let mut items = children.to_vec();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Some(items)
}

/// One value, or several for the same name, each split at commas.
fn comma_items(node: &Node) -> Vec<Node> {
    let values = match &node.value {
        Value::Repeated(values) => values.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut items = Vec::new();
    for value in values {
        let text = value.text().unwrap_or_default();
        if text.is_empty() {
            continue;
        }
        items.extend(text.split(',').map(|piece| Node {
            name: "".into(),
            key: value.key.clone(),
            place: value.place.clone(),
            value: Value::text(piece.trim()),
        }));
    }
    items
}

fn str_of(name: &str) -> StrDeserializer<'_, Fail> {
    name.into_deserializer()
}

/// What Go reads as a boolean.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Options that a user may believe to have enabled by naming them without a value.
const ENABLED_BY_NAME: &[&str] = &[
    "accessLog",
    "api",
    "compress",
    "cookie",
    "docker",
    "healthCheck",
    "loadBalancer",
    "log",
    "otlp",
    "passiveHealthCheck",
    "ping",
    "prometheus",
    "proxyProtocol",
    "sticky",
    "swarm",
    "tls",
    "tracing",
];
