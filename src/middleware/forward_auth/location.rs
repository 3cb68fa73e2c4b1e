//! Where the authority's redirects lead: relative to its own address (RFC 3986 section 5.2).

use http::HeaderValue;

use crate::{exchange::Target, middleware::report::Report, service::ServerUrl};

/// The authority's address, as redirects are read from it.
#[derive(Debug)]
pub(super) struct Base {
    scheme: Box<str>,
    /// Host and port as written.
    authority: Box<str>,
    /// What is asked there.
    pub(super) target: Target,
}

impl Base {
    pub(super) fn of(address: &str, report: &mut Report<'_>) -> Option<Self> {
        const FIELD: &str = "address";
        if address.is_empty() {
            report.error(FIELD, "is missing: there is nobody to ask");
            return None;
        }
        let url = match ServerUrl::parse(address) {
            Ok(url) => url,
            Err(error) => {
                report.error(FIELD, format!("{address:?} cannot be used: {error}"));
                return None;
            }
        };
        if !address.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("{address:?} holds characters that must be escaped");
            report.error(FIELD, message);
            return None;
        }
        let (scheme, rest) = address.split_once("://")?;
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        if rest[..end].contains('@') {
            report.warning(FIELD, "the user and password in it are not sent");
        }
        let target = match &rest[end..] {
            tail if tail.starts_with('/') => tail.to_owned(),
            tail => format!("/{tail}"),
        };
        // To a browser, HTTP/2 without TLS is just that.
        let scheme = match scheme.to_ascii_lowercase() {
            scheme if scheme == "h2c" => "http".to_owned(),
            scheme => scheme,
        };
        Some(Self {
            scheme: scheme.into(),
            authority: url.authority.to_str().ok()?.into(),
            target: Target::new(target.into()),
        })
    }

    /// The absolute form of `location`; `None` if it is one already, empty, or beyond us.
    pub(super) fn resolve(&self, location: &HeaderValue) -> Option<HeaderValue> {
        let reference = location.to_str().ok()?;
        if reference.is_empty() || has_scheme(reference) {
            return None;
        }
        let Self {
            scheme, authority, ..
        } = self;
        let absolute = if reference.starts_with("//") {
            format!("{scheme}:{reference}")
        } else {
            let target = self.joined(reference);
            format!("{scheme}://{authority}{target}")
        };
        HeaderValue::try_from(absolute).ok()
    }

    fn joined(&self, reference: &str) -> String {
        let end = reference.find(['?', '#']).unwrap_or(reference.len());
        let (path, tail) = reference.split_at(end);
        let base = self.target.path();
        if path.is_empty() {
            // Only the query is new, or only the fragment.
            return match (tail.starts_with('#'), self.target.query()) {
                (true, Some(query)) => format!("{base}?{query}{tail}"),
                _ => format!("{base}{tail}"),
            };
        }
        let folder = &base[..=base.rfind('/').unwrap_or_default()];
        let merged = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{folder}{path}"),
        };
        without_dots(&merged) + tail
    }
}

/// Whether the reference begins as in `https:`.
fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once(':') else {
        return false;
    };
    let mut bytes = scheme.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn without_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let all: Vec<&str> = path.split('/').skip(1).collect();
    for (index, segment) in all.iter().enumerate() {
        let last = index + 1 == all.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    segments.pop();
                }
                if last {
                    segments.push("");
                }
            }
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::forward_auth::tests::base;

    #[test]
    fn redirects_lead_from_the_authoritys_address() {
        for (address, location, absolute) in [
            (
                "http://auth:9000/a/b?x",
                "/login?rd=1",
                "http://auth:9000/login?rd=1",
            ),
            (
                "http://auth:9000/a/b?x",
                "login",
                "http://auth:9000/a/login",
            ),
            ("http://auth:9000/a/b?x", "../c/./d", "http://auth:9000/c/d"),
            (
                "http://auth:9000/a/b?x",
                "../../../c/..",
                "http://auth:9000/",
            ),
            ("http://auth:9000/a/b?x", "?y=1", "http://auth:9000/a/b?y=1"),
            (
                "http://auth:9000/a/b?x",
                "#top",
                "http://auth:9000/a/b?x#top",
            ),
            ("https://auth", "login#x", "https://auth/login#x"),
            ("https://auth", "//other.test/x", "https://other.test/x"),
            ("h2c://auth:1", "/x", "http://auth:1/x"),
            ("http://auth/a", "x:y/z", ""),
            ("http://auth/a", "https://portal.test/?rd=/x", ""),
            ("http://auth/a", "", ""),
        ] {
            let resolved = base(address).resolve(&HeaderValue::from_static(location));
            let resolved = resolved.map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(
                resolved.unwrap_or_default(),
                absolute,
                "{address} {location}"
            );
        }
    }

    #[test]
    fn what_is_asked_stands_in_the_address() {
        for (address, target) in [
            ("http://auth", "/"),
            ("http://auth/", "/"),
            ("http://auth?x=1", "/?x=1"),
            (
                "http://auth/api/verify?rd=https://a/b#c",
                "/api/verify?rd=https://a/b",
            ),
        ] {
            assert_eq!(base(address).target.as_str(), target, "{address}");
        }
    }
}
