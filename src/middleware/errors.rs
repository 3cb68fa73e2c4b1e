//! `errors`: answers of certain status codes are replaced by pages of another service.
//!
//! Which ones, and what is asked for in their place, is decided here; `proxy::around` fetches the page.

use std::{borrow::Cow, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, EXPECT, TRAILER},
};

use super::{redirect::client_scheme, report::Report};
use crate::{
    config::{definitions::qualify, routing::Errors as Config, units::StatusRange},
    exchange::{Exchange, RequestHead, Target, forwarded::X_FORWARDED_FOR},
};

/// Which answers are replaced, and by what.
#[derive(Debug)]
pub struct Errors {
    status: Box<[StatusRange]>,
    /// The narrowest range first.
    rewrites: Box<[(StatusRange, StatusCode)]>,
    /// Qualified.
    service: Arc<str>,
    query: Box<[Piece]>,
    /// The only fields of the request that are sent; `None` for all.
    only: Option<Box<[HeaderName]>>,
}

/// A part of a page's path.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Status,
    OriginalStatus,
    Url,
}

impl Errors {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        if config.service.is_empty() {
            report.error(
                "service",
                "is missing: there is no service that has the pages",
            );
        }
        let rewrites = config.status_rewrites.iter();
        let rewrites: Option<Vec<_>> = rewrites
            .map(|(range, status)| rewrite(range, *status, report))
            .collect();
        let mut rewrites = rewrites?;
        rewrites.sort_by_key(|(range, _)| range.to - range.from);
        let names = config.error_request_headers.iter().enumerate();
        let only: Option<Vec<HeaderName>> = names
            .map(|(position, name)| {
                let wrong = format!("{name:?} is not a header name");
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| report.error(&format!("errorRequestHeaders[{position}]"), wrong))
                    .ok()
            })
            .collect();
        let only = only?;
        let query = pieces(&config.query, report)?;
        if config.service.is_empty() {
            return None;
        }
        Some(Self {
            status: config.status.clone().into(),
            rewrites: rewrites.into(),
            service: qualify(&config.service, report.provider()).into(),
            query,
            only: (!only.is_empty()).then(|| only.into()),
        })
    }

    /// The qualified name of the service that has the pages.
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// Whether answers of this status are replaced.
    pub fn catches(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        self.status.iter().any(|range| range.contains(status))
    }

    /// The status that the client gets for this one.
    pub fn shown(&self, status: StatusCode) -> StatusCode {
        let code = status.as_u16();
        let mut rewrites = self.rewrites.iter();
        let found = rewrites.find(|(range, _)| range.contains(code));
        found.map_or(status, |(_, shown)| *shown)
    }

    /// The request for the page that stands for an answer of this status. `forwarded_for` is what was known of the client's way before
    /// the request was sent on.
    pub fn page(
        &self,
        exchange: &Exchange,
        status: StatusCode,
        forwarded_for: Option<HeaderValue>,
    ) -> RequestHead {
        let request = &exchange.request;
        let mut headers = match &self.only {
            None => request.headers.clone(),
            Some(only) => chosen(&request.headers, only),
        };
        // They are about a body that is not sent.
        for name in [CONTENT_LENGTH, TRAILER, EXPECT] {
            headers.remove(name);
        }
        if headers.remove(&X_FORWARDED_FOR).is_some()
            && let Some(value) = forwarded_for
        {
            headers.insert(&X_FORWARDED_FOR, value);
        }
        RequestHead {
            method: Method::GET,
            version: Version::HTTP_11,
            host: request.host.clone(),
            target: Target::new(self.path(exchange, status).into()),
            headers,
            upgrade: None,
            accepts_trailers: request.accepts_trailers && self.only.is_none(),
            expects_continue: false,
        }
    }

    fn path(&self, exchange: &Exchange, status: StatusCode) -> String {
        let mut path = String::with_capacity(32);
        for piece in &self.query {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Status => path.push_str(self.shown(status).as_str()),
                Piece::OriginalStatus => path.push_str(status.as_str()),
                Piece::Url => url(exchange, &mut path),
            }
        }
        path
    }
}

fn rewrite(range: &str, status: u16, report: &mut Report<'_>) -> Option<(StatusRange, StatusCode)> {
    let field = format!("statusRewrites.{range}");
    let range: Option<StatusRange> = range
        .parse()
        .map_err(|message| report.error(&field, message))
        .ok();
    let code = StatusCode::from_u16(status)
        .ok()
        .filter(|it| *it >= StatusCode::OK);
    if code.is_none() {
        report.error(
            &field,
            format!("{status} is no status that an answer can have"),
        );
    }
    Some((range?, code?))
}

/// The path that `query` stands for, with a slash before it.
fn pieces(query: &str, report: &mut Report<'_>) -> Option<Box<[Piece]>> {
    const PLACEHOLDERS: [(&str, Piece); 3] = [
        ("{status}", Piece::Status),
        ("{originalStatus}", Piece::OriginalStatus),
        ("{url}", Piece::Url),
    ];
    let slash = if query.starts_with('/') { "" } else { "/" };
    let query = format!("{slash}{}", query.split('#').next().unwrap_or_default());
    let mut pieces = Vec::new();
    let mut rest = &*query;
    while !rest.is_empty() {
        let found = PLACEHOLDERS
            .into_iter()
            .filter_map(|(text, piece)| Some((rest.find(text)?, text, piece)));
        let Some((at, text, piece)) = found.min_by_key(|(at, ..)| *at) else {
            pieces.push(Piece::Text(escaped(rest).into()));
            break;
        };
        if at > 0 {
            pieces.push(Piece::Text(escaped(&rest[..at]).into()));
        }
        pieces.push(piece);
        rest = &rest[at + text.len()..];
    }
    if query.bytes().any(|byte| byte.is_ascii_control()) {
        report.error("query", "holds control characters");
        return None;
    }
    Some(pieces.into())
}

/// What no request line can hold is escaped.
fn escaped(text: &str) -> Cow<'_, str> {
    let unfit = |byte: u8| !byte.is_ascii_graphic() || b"\"<>\\^`{|}".contains(&byte);
    if !text.bytes().any(unfit) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if unfit(byte) {
            push_escape(byte, &mut escaped);
        } else {
            escaped.push(char::from(byte));
        }
    }
    Cow::Owned(escaped)
}

fn chosen(said: &HeaderMap, only: &[HeaderName]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(only.len() + 4);
    for name in only {
        for value in said.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// Appends the URL of the request, as the value of a query parameter.
fn url(exchange: &Exchange, out: &mut String) {
    let request = &exchange.request;
    let scheme = client_scheme(request, exchange.connection.is_tls());
    for part in [scheme, "://", &*request.host, request.target.as_str()] {
        for byte in part.bytes() {
            match byte {
                b' ' => out.push('+'),
                _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => {
                    out.push(char::from(byte));
                }
                _ => push_escape(byte, out),
            }
        }
    }
}

fn push_escape(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    out.extend(['%', digit(byte >> 4), digit(byte)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::{
        Middleware,
        testing::{Fixture, built, problems},
    };

    fn errors(options: &str) -> Errors {
        match built(&format!(
            r#"{{"errors": {{"service": "pages", {options}}}}}"#
        )) {
            Middleware::Errors(errors) => *errors,
            other => panic!("{other:?}"),
        }
    }

    fn code(status: u16) -> StatusCode {
        StatusCode::from_u16(status).unwrap()
    }

    #[test]
    fn which_answers_are_replaced_and_what_is_shown() {
        let errors = errors(
            r#""status": ["404", "500-599"], "statusRewrites": {"404": 410, "500-503": 200, "502": 418}"#,
        );
        for (status, caught, shown) in [
            (200, false, 200),
            (403, false, 403),
            (404, true, 410),
            (500, true, 200),
            (502, true, 418),
            (503, true, 200),
            (504, true, 504),
            (599, true, 599),
        ] {
            assert_eq!(errors.catches(code(status)), caught, "{status}");
            assert_eq!(errors.shown(code(status)), code(shown), "{status}");
        }
        assert_eq!(&**errors.service(), "pages@file");
    }

    #[test]
    fn pages_are_asked_for_by_their_query() {
        let rewrite = r#""statusRewrites": {"404": 410}"#;
        for (query, path) in [
            ("", "/"),
            ("/", "/"),
            ("errors/404.html", "/errors/404.html"),
            ("/{status}.html", "/410.html"),
            ("/{status}/{originalStatus}{status}", "/410/404410"),
            (
                "/?u={url}&s={status}",
                "/?u=http%3A%2F%2Fapp.test%2Fa%2520b%3Fq%3D%25C3%25A9%26r%3D~&s=410",
            ),
            ("/{other}", "/%7Bother%7D"),
            ("/a b#c", "/a%20b"),
        ] {
            let errors = errors(&format!(r#"{rewrite}, "query": "{query}""#));
            let exchange = Fixture::get("/a%20b?q=%C3%A9&r=~").exchange();
            let page = errors.page(&exchange, code(404), None);
            assert_eq!(page.target.as_str(), path, "{query}");
        }
        let errors = errors(r#""query": "{url}""#);
        let exchange = Fixture::get("/").host("a:1").tls().exchange();
        let page = errors.page(&exchange, code(404), None);
        assert_eq!(page.target.as_str(), "/https%3A%2F%2Fa%3A1%2F");
    }

    #[test]
    fn a_page_is_asked_for_without_what_belongs_to_the_request_alone() {
        let request = || {
            let request = Fixture::get("/x").method("POST").with("cookie", "c=1");
            let mut exchange = request
                .with("content-length", "3")
                .with("x-forwarded-for", "1.1.1.1, 192.0.2.7")
                .with("x-keep", "1")
                .exchange();
            exchange.request.upgrade = Some(HeaderValue::from_static("websocket"));
            exchange
        };
        let before = HeaderValue::from_static("1.1.1.1");
        let page = errors("\"query\": \"\"").page(&request(), code(500), Some(before));
        assert_eq!((page.method, &*page.host), (Method::GET, "app.test"));
        assert!(page.upgrade.is_none() && !page.headers.contains_key(CONTENT_LENGTH));
        assert_eq!(page.headers["cookie"], "c=1");
        assert_eq!(page.headers[&X_FORWARDED_FOR], "1.1.1.1");
        let page = errors("\"query\": \"\"").page(&request(), code(500), None);
        assert!(!page.headers.contains_key(&X_FORWARDED_FOR));
        let few = errors(r#""errorRequestHeaders": ["X-Keep", "X-None"]"#);
        let page = few.page(&request(), code(500), None);
        assert_eq!(
            (page.headers.len(), &page.headers["x-keep"]),
            (1, &HeaderValue::from_static("1"))
        );
    }

    #[test]
    fn what_could_never_work_is_said() {
        for (options, field) in [
            ("{}", "errors.service"),
            (
                r#"{"service": "a", "statusRewrites": {"5xx": 500}}"#,
                "errors.statusRewrites.5xx",
            ),
            (
                r#"{"service": "a", "statusRewrites": {"500": 99}}"#,
                "errors.statusRewrites.500",
            ),
            (
                r#"{"service": "a", "statusRewrites": {"500": 101}}"#,
                "errors.statusRewrites.500",
            ),
            (
                r#"{"service": "a", "errorRequestHeaders": ["a b"]}"#,
                "errors.errorRequestHeaders[0]",
            ),
            (r#"{"service": "a", "query": "/\n"}"#, "errors.query"),
        ] {
            let found = problems(&format!("{{\"errors\": {options}}}"));
            assert!(
                found.iter().any(|it| it.contains(field)),
                "{options}: {found:?}"
            );
        }
    }
}
