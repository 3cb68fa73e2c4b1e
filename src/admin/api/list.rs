//! Lists: filtered, sorted, cut into pages.

use std::cmp::Ordering;

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::{Api, error, ok, query::Query};
use crate::exchange::Response;

/// An object of a list with what it can be found and sorted by.
#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) name: String,
    /// Texts that `search` looks into.
    pub(super) search: Vec<String>,
    /// A router's service as written and qualified.
    pub(super) services: Vec<String>,
    /// Numbers to sort by: an array's length (`servers`, `entryPoints`).
    pub(super) lengths: Vec<(&'static str, usize)>,
    pub(super) object: Value,
}

impl Item {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            search: vec![name.to_owned()],
            ..Self::default()
        }
    }

    pub(super) fn showing(self, object: Value) -> Self {
        Self { object, ..self }
    }

    fn text(&self, field: &str) -> &str {
        self.object
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn matches(&self, query: &Query) -> bool {
        let search = query.get("search").to_lowercase();
        let found = || {
            self.search
                .iter()
                .any(|text| text.to_lowercase().contains(&search))
        };
        let status = query.get("status");
        let service = query.get("serviceName");
        let middleware = query.get("middlewareName");
        let uses_middleware = || {
            let used = self.object.get("middlewares").and_then(Value::as_array);
            used.is_some_and(|used| used.iter().any(|name| name == middleware))
        };
        (search.is_empty() || found())
            && (status.is_empty() || self.text("status").eq_ignore_ascii_case(status))
            && (service.is_empty() || self.services.iter().any(|name| name == service))
            && (middleware.is_empty() || uses_middleware())
    }

    fn compare(&self, other: &Self, by: &str) -> Ordering {
        let by = match by {
            "cn" => "commonName",
            "issuer" => "issuerCN",
            "validUntil" => "notAfter",
            other => other,
        };
        let length = |item: &Self| {
            item.lengths
                .iter()
                .find(|(name, _)| *name == by)
                .map(|(_, length)| *length)
        };
        let order = match by {
            "priority" => {
                let priority = |item: &Self| item.object.get("priority").and_then(Value::as_i64);
                priority(self).cmp(&priority(other))
            }
            "provider" | "status" | "rule" | "service" | "type" | "commonName" | "issuerCN"
            | "notAfter" => self.text(by).cmp(other.text(by)),
            "entryPoints" | "servers" => length(self).cmp(&length(other)),
            _ => Ordering::Equal,
        };
        order.then_with(|| self.name.cmp(&other.name))
    }
}

impl Api<'_> {
    /// The page of `items` that was asked for.
    pub(super) fn list(&self, items: Vec<Item>) -> Response {
        let query = self.query;
        let mut items: Vec<Item> = items
            .into_iter()
            .filter(|item| item.matches(query))
            .collect();
        items.sort_by(|a, b| a.compare(b, query.get("sortBy")));
        if !matches!(query.get("direction"), "" | "asc") {
            items.reverse();
        }
        let page = match Page::of(query, items.len()) {
            Ok(page) => page,
            Err(reason) => return error(StatusCode::BAD_REQUEST, &reason),
        };
        let objects = items.into_iter().map(|item| item.object);
        let objects = objects.skip(page.start).take(page.length).collect();
        let mut response = ok(&Value::Array(objects));
        response
            .headers_mut()
            .insert(NEXT_PAGE, HeaderValue::from(page.next));
        response
    }
}

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    start: usize,
    length: usize,
    /// The number of the page after this one; 1 if this is the last.
    next: i64,
}

impl Page {
    fn of(query: &Query, total: usize) -> Result<Self, String> {
        let length = query.positive("per_page", 100)?;
        let page = query.positive("page", 1)?;
        let start = usize::try_from((page - 1).saturating_mul(length)).unwrap_or(usize::MAX);
        if start != 0 && start >= total {
            return Err(format!("invalid request: page: {page}, per_page: {length}"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let more = start.saturating_add(length) < total;
        Ok(Self {
            start,
            length,
            next: if more { page + 1 } else { 1 },
        })
    }
}

const NEXT_PAGE: HeaderName = HeaderName::from_static("x-next-page");

#[cfg(test)]
mod tests {
    use super::{Page, Query};

    #[test]
    fn lists_are_cut_into_pages() {
        let page = |start, length, next| {
            Ok(Page {
                start,
                length,
                next,
            })
        };
        let cases = [
            ("", 5, page(0, 100, 1)),
            ("", 0, page(0, 100, 1)),
            ("per_page=2", 5, page(0, 2, 2)),
            ("per_page=2&page=2", 5, page(2, 2, 3)),
            ("per_page=2&page=3", 5, page(4, 2, 1)),
            ("per_page=5&page=1", 5, page(0, 5, 1)),
            (
                "per_page=2&page=9",
                5,
                Err("invalid request: page: 9, per_page: 2".to_owned()),
            ),
            (
                "per_page=0&page=x",
                5,
                Err("invalid request: per_page: 0".to_owned()),
            ),
            (
                "page=9223372036854775807",
                5,
                Err("invalid request: page: 9223372036854775807, per_page: 100".to_owned()),
            ),
        ];
        for (query, total, expected) in cases {
            assert_eq!(Page::of(&Query::parse(query), total), expected, "{query}");
        }
    }
}
