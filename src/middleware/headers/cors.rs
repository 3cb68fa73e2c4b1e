//! The CORS half of `headers`: answers preflights, and says on other answers which origins may read them.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use regex::bytes::Regex;

use super::header_value;
use crate::{
    config::routing::Headers as Config,
    exchange::{Body, Exchange, Response},
    middleware::report::Report,
};

#[derive(Debug)]
pub(super) struct Cors {
    credentials: bool,
    origins: Vec<HeaderValue>,
    any_origin: bool,
    origin_expressions: Vec<Regex>,
    allow_headers: Allowed,
    allow_methods: Allowed,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    vary: bool,
}

/// A list to be told to the browser.
#[derive(Debug)]
enum Allowed {
    Nothing,
    List(HeaderValue),
    /// Whatever was asked for: browsers take no `*` together with credentials.
    Asked,
}

impl Cors {
    /// `Some(None)` if no CORS option is set, `None` if one is unusable.
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Option<Self>> {
        let listed = config.access_control_allow_origin_list.iter();
        let listed: Vec<String> = listed
            .chain(&config.access_control_allow_origin)
            .cloned()
            .collect();
        let active = config.access_control_allow_credentials
            || !config.access_control_allow_headers.is_empty()
            || !config.access_control_allow_methods.is_empty()
            || !listed.is_empty()
            || !config.access_control_allow_origin_list_regex.is_empty()
            || !config.access_control_expose_headers.is_empty()
            || config.access_control_max_age != 0
            || config.add_vary_header;
        if !active {
            return Some(None);
        }
        let credentials = config.access_control_allow_credentials;
        let mut list =
            |field: &str, items: &[String]| Allowed::build(field, items, credentials, report);
        let allow_headers = list(
            "accessControlAllowHeaders",
            &config.access_control_allow_headers,
        );
        let allow_methods = list(
            "accessControlAllowMethods",
            &config.access_control_allow_methods,
        );
        let expose = list(
            "accessControlExposeHeaders",
            &config.access_control_expose_headers,
        );
        let origins = origins(&listed, report);
        let expressions = expressions(&config.access_control_allow_origin_list_regex, report);
        let any = |list: &[String]| list.iter().any(|item| item == "*");
        Some(Some(Self {
            credentials,
            origins: origins?,
            any_origin: any(&listed),
            origin_expressions: expressions?,
            allow_headers: allow_headers?,
            allow_methods: allow_methods?,
            expose: match expose? {
                Allowed::List(list) => Some(list),
                Allowed::Nothing | Allowed::Asked => None,
            },
            max_age: (config.access_control_max_age != 0)
                .then(|| HeaderValue::from(config.access_control_max_age)),
            vary: config.add_vary_header,
        }))
    }

    /// The answer to a preflight. It is 200 whatever the origin: what counts is whether the headers are there.
    pub(super) fn preflight(&self, exchange: &Exchange) -> Option<Response> {
        let request = &exchange.request;
        let said = |name| request.headers.get(name).filter(|value| !value.is_empty());
        let origin = said(header::ORIGIN)?;
        let method = said(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if request.method != Method::OPTIONS {
            return None;
        }
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        self.say_always(headers);
        let asked = said(header::ACCESS_CONTROL_REQUEST_HEADERS);
        self.allow_headers
            .say(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        self.allow_methods
            .say(headers, header::ACCESS_CONTROL_ALLOW_METHODS, Some(method));
        if let Some(allowed) = self.allowed_origin(origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
        if let Some(max_age) = &self.max_age {
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        Some(response)
    }

    /// Adds the headers of an ordinary answer. An origin that is not allowed leaves what the server said alone.
    pub(super) fn decorate(&self, exchange: &Exchange, headers: &mut HeaderMap) {
        let none = HeaderValue::from_static("");
        let origin = exchange.request.headers.get(header::ORIGIN);
        if let Some(allowed) = self.allowed_origin(origin.unwrap_or(&none)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
        self.say_always(headers);
        if self.vary {
            add_vary_origin(headers);
        }
    }

    fn say_always(&self, headers: &mut HeaderMap) {
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(expose) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn allowed_origin(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any_origin && !self.credentials {
            return Some(HeaderValue::from_static("*"));
        }
        let allowed = self.any_origin
            || self.origins.contains(origin)
            || self
                .origin_expressions
                .iter()
                .any(|expression| expression.is_match(origin.as_bytes()));
        allowed.then(|| origin.clone())
    }
}

impl Allowed {
    fn build(
        field: &str,
        items: &[String],
        credentials: bool,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        if items.is_empty() {
            return Some(Self::Nothing);
        }
        if credentials && items.iter().any(|item| item == "*") {
            return Some(Self::Asked);
        }
        header_value(field, &items.join(","), report).map(Self::List)
    }

    fn say(&self, headers: &mut HeaderMap, name: HeaderName, asked: Option<&HeaderValue>) {
        let value = match self {
            Self::Nothing => None,
            Self::List(list) => Some(list),
            Self::Asked => asked,
        };
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
}

fn origins(list: &[String], report: &mut Report<'_>) -> Option<Vec<HeaderValue>> {
    let origins: Vec<_> = list
        .iter()
        .enumerate()
        .filter_map(|(index, origin)| {
            header_value(
                &format!("accessControlAllowOriginList[{index}]"),
                origin,
                report,
            )
        })
        .collect();
    (origins.len() == list.len()).then_some(origins)
}

fn expressions(list: &[String], report: &mut Report<'_>) -> Option<Vec<Regex>> {
    let expressions: Vec<_> = list
        .iter()
        .enumerate()
        .filter_map(|(index, pattern)| {
            report.regex(
                &format!("accessControlAllowOriginListRegex[{index}]"),
                pattern,
            )
        })
        .collect();
    (expressions.len() == list.len()).then_some(expressions)
}

fn add_vary_origin(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::VARY).iter();
    let origin = HeaderValue::from_static("Origin");
    match (lines.next(), lines.next()) {
        (Some(only), None) if *only == origin => {}
        (Some(only), None) => {
            let joined = [only.as_bytes(), b",Origin"].concat();
            if let Ok(joined) = HeaderValue::from_bytes(&joined) {
                headers.insert(header::VARY, joined);
            }
        }
        _ => {
            headers.append(header::VARY, origin);
        }
    }
}
