//! `mode: http`: one request, its redirects, and a verdict on the status.

use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::line::{Line, Reply, USER_AGENT, with_port};
use crate::service::{HealthCheck, Scheme, Server, ServerUrl};

/// As many redirects as Go's client follows.
const MOST_REDIRECTS: usize = 10;

/// Probes once.
pub(super) async fn check(server: &Server, check: &HealthCheck) -> Result<(), String> {
    let mut line = Line::new(server, check);
    let mut target = resolve(&server.path, &check.path)?;
    let mut method = check.method.clone();
    for _ in 0..=MOST_REDIRECTS {
        let reply = line.send(request(&method, &target, check)?).await?;
        let status = reply.head.status;
        match redirect(&reply, &line, &target, check) {
            Some((next, path)) => {
                (line, target) = (next, path);
                method = method_after(status, method);
            }
            None => return verdict(status, check.status),
        }
    }
    Err(format!("more than {MOST_REDIRECTS} redirects"))
}

fn request(
    method: &Method,
    target: &str,
    check: &HealthCheck,
) -> Result<Request<Full<bytes::Bytes>>, String> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .body(Full::default())
        .map_err(|error| format!("the request cannot be written: {error}"))?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT.0, USER_AGENT.1);
    for name in check.headers.keys().filter(|name| *name != header::HOST) {
        headers.remove(name);
        for value in check.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    Ok(request)
}

fn verdict(status: StatusCode, wanted: Option<u16>) -> Result<(), String> {
    let code = status.as_u16();
    match wanted {
        None if (200..400).contains(&code) => Ok(()),
        None => Err(format!("status {code}")),
        Some(wanted) if code == wanted => Ok(()),
        Some(wanted) => Err(format!("status {code}, expected {wanted}")),
    }
}

/// Where to go next. A redirect to another machine is not followed: the answer of somebody else says nothing about this server, and
/// a server must not make us ask for pages of its choice.
fn redirect<'a>(
    reply: &Reply,
    line: &Line<'a>,
    target: &str,
    check: &HealthCheck,
) -> Option<(Line<'a>, String)> {
    let follows = matches!(reply.head.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    if !check.follow_redirects || !follows {
        return None;
    }
    let location = reply.head.headers.get(header::LOCATION)?.to_str().ok()?;
    if !location.contains("://") && !location.starts_with("//") {
        let path = target.split('?').next().unwrap_or_default();
        return Some((line.clone(), resolve(path, location).ok()?));
    }
    let absolute = match location.strip_prefix("//") {
        Some(rest) => format!("{}://{rest}", line.scheme),
        None => location.to_owned(),
    };
    let url = ServerUrl::parse(&absolute).ok()?;
    let next = to_same_machine(&url, line)?;
    let path = absolute.find("://").map(|at| &absolute[at + 3..])?;
    let path = path.find(['/', '?']).map_or("", |at| &path[at..]);
    Some((next, resolve("/", path).ok()?))
}

/// The line to `url`, if that is the machine of `line` under its own name or the one the probe used.
fn to_same_machine<'a>(url: &ServerUrl, line: &Line<'a>) -> Option<Line<'a>> {
    let asked: Option<Uri> = format!("http://{}", line.host.to_str().ok()?).parse().ok();
    let asked = asked.and_then(|uri| uri.host().map(str::to_owned));
    let same = url.host.eq_ignore_ascii_case(&line.server.host)
        || asked.is_some_and(|asked| {
            asked
                .trim_matches(['[', ']'])
                .eq_ignore_ascii_case(&url.host)
        });
    let address = line.server.address.map(|address| address.ip());
    (same || (url.ip().is_some() && url.ip() == address)).then(|| Line {
        server: line.server,
        // What was reached by HTTP/2 without TLS is not left for HTTP/1.1 by an `http://` in a redirect.
        scheme: match (line.scheme, url.scheme) {
            (Scheme::H2c, Scheme::Http) => Scheme::H2c,
            (_, scheme) => scheme,
        },
        port: url.port,
        host: match url.port == url.scheme.default_port() {
            true => url.authority.clone(),
            false => with_port(&url.host, url.port),
        },
    })
}

fn method_after(status: StatusCode, method: Method) -> Method {
    match status.as_u16() {
        301..=303 if method != Method::HEAD => Method::GET,
        _ => method,
    }
}

/// Characters that must not stand in a request line but do stand in what people write.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'\\')
    .add(b'^')
    .add(b'|');

/// Resolves a relative reference (path, query) against a path, as RFC 3986 section 5 has it.
fn resolve(base: &str, reference: &str) -> Result<String, String> {
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.starts_with("//") || reference.contains("://") {
        return Err(format!("`{reference}` is not a path"));
    }
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let merged = if path.is_empty() {
        base.to_owned()
    } else if path.starts_with('/') {
        path.to_owned()
    } else {
        let directory = base.rfind('/').map_or("/", |at| &base[..=at]);
        format!("{directory}{path}")
    };
    let mut target = utf8_percent_encode(&without_dots(&merged), UNSAFE).to_string();
    if let Some(query) = query {
        target.push('?');
        target.extend(utf8_percent_encode(query, UNSAFE));
    }
    Ok(target)
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.trim_start_matches('/').split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn references() {
        for (base, reference, expected) in [
            ("", "", Some("/")),
            ("", "/health", Some("/health")),
            ("", "health?a=b", Some("/health?a=b")),
            ("/app", "", Some("/app")),
            ("/app", "health", Some("/health")),
            ("/app/", "health", Some("/app/health")),
            ("/app/x", "../health", Some("/health")),
            ("/app/", "?deep", Some("/app/?deep")),
            ("", "/a b/é#top", Some("/a%20b/%C3%A9")),
            ("", "/../..", Some("/")),
            ("", "http://elsewhere/", None),
            ("", "//elsewhere/", None),
        ] {
            let got = resolve(base, reference).ok();
            assert_eq!(got.as_deref(), expected, "{base} + {reference}");
        }
    }
}
