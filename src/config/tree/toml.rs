//! TOML to a tree, with the place of every key and value.

use std::ops::Range;

use toml_edit::{Document, Item, Key, TableLike, Value as TomlValue};

use super::{MAX_DEPTH, Node, Parsed, Scalar, Source, Style, Value};
use crate::config::diagnostic::{Diagnostic, Place};

/// Reads a text.
pub(super) fn parse(source: &Source<'_>) -> Parsed {
    let document = match Document::parse(source.text) {
        Ok(document) => document,
        Err(error) => {
            let place = error
                .span()
                .map_or_else(|| source.whole(), |span| source.at_byte(span.start));
            let reason = error.message().replace('\n', ", ");
            let message = format!("is not valid TOML: {}", reason.trim_end_matches([',', ' ']));
            return Parsed::failed(Diagnostic::error(place, "", message));
        }
    };
    let mut reader = Reader {
        source,
        diagnostics: Vec::new(),
    };
    let children = reader.table(document.as_table(), 0);
    Parsed {
        root: (!children.is_empty()).then(|| Node::root(children)),
        diagnostics: reader.diagnostics,
    }
}

struct Reader<'a> {
    source: &'a Source<'a>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn table(&mut self, table: &dyn TableLike, depth: usize) -> Vec<Node> {
        let mut children = Vec::new();
        for (name, item) in table.iter() {
            let key = self.place(table.key(name).and_then(Key::span));
            let place = match item {
                Item::Value(TomlValue::InlineTable(_) | TomlValue::Array(_)) | Item::Table(_) => {
                    key.clone()
                }
                Item::ArrayOfTables(_) | Item::None => key.clone(),
                Item::Value(_) => self.place(item.span()),
            };
            if let Some(value) = self.item(item, &place, depth + 1) {
                children.push(Node {
                    name: name.into(),
                    key,
                    place,
                    value,
                });
            }
        }
        children
    }

    fn item(&mut self, item: &Item, place: &Place, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            self.diagnostics
                .push(Diagnostic::error(place.clone(), "", message));
            return None;
        }
        match item {
            Item::None => None,
            Item::Value(value) => Some(self.value(value, depth)),
            Item::Table(table) => Some(Value::map(self.table(table, depth))),
            Item::ArrayOfTables(tables) => {
                let mut items = Vec::new();
                for table in tables {
                    let value = Value::map(self.table(table, depth + 1));
                    items.push(self.list_item(items.len(), table.span(), value));
                }
                Some(Value::List(items))
            }
        }
    }

    fn value(&mut self, value: &TomlValue, depth: usize) -> Value {
        match value {
            TomlValue::String(text) => Value::Scalar(Scalar::new(text.value(), Style::Quoted)),
            TomlValue::Integer(number) => plain(&number.value().to_string()),
            TomlValue::Float(number) => plain(&number.value().to_string()),
            TomlValue::Boolean(truth) => plain(&truth.value().to_string()),
            TomlValue::Datetime(time) => plain(&time.value().to_string()),
            TomlValue::InlineTable(table) => Value::map(self.table(table, depth)),
            TomlValue::Array(array) => {
                let mut items = Vec::new();
                for element in array {
                    let inner = if depth < MAX_DEPTH {
                        self.value(element, depth + 1)
                    } else {
                        Value::Null
                    };
                    items.push(self.list_item(items.len(), element.span(), inner));
                }
                Value::List(items)
            }
        }
    }

    fn list_item(&self, index: usize, span: Option<Range<usize>>, value: Value) -> Node {
        let place = self.place(span);
        Node {
            name: index.to_string().into(),
            key: place.clone(),
            place,
            value,
        }
    }

    fn place(&self, span: Option<Range<usize>>) -> Place {
        span.map_or_else(
            || self.source.whole(),
            |span| self.source.at_byte(span.start),
        )
    }
}

fn plain(text: &str) -> Value {
    Value::Scalar(Scalar::new(text, Style::Plain))
}
