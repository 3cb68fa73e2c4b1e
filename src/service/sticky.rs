//! Cookie affinity: which server a cookie names, and the cookie that names a server.
//!
//! Names, values and attributes are Traefik's, so that sessions survive a migration in either direction.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, HeaderValue, header::COOKIE};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// `sticky.cookie`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StickySettings {
    /// Empty: derived from the service's name.
    pub name: String,
    /// `None`: `/`.
    pub path: Option<String>,
    pub domain: String,
    pub secure: bool,
    pub http_only: bool,
    /// `none`, `lax`, `strict` in any case; anything else leaves the attribute out.
    pub same_site: String,
    /// 0: a session cookie; negative: `Max-Age=0`.
    pub max_age: i64,
}

/// The sticky cookie of one service, ready to be read and written.
#[derive(Debug)]
pub(super) struct Sticky {
    name: Box<str>,
    values: HashMap<Box<[u8]>, Named>,
    /// The `Set-Cookie` value for each server.
    cookies: Box<[Option<HeaderValue>]>,
}

/// What a cookie value names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// One server, by the value we would issue.
    Server(usize),
    /// One server, by a value of old; to be replaced.
    Legacy(usize),
    /// Any of the addresses of one host name; to be replaced by the value of the one picked.
    AnyOf(Arc<[usize]>),
}

/// How a server is named in cookies.
#[derive(Debug, Clone)]
pub(super) struct StickyName {
    /// What the value is made from.
    pub(super) own: Arc<str>,
    /// The URL as configured, if it stands for several servers.
    pub(super) shared: Option<Arc<str>>,
}

impl Sticky {
    pub(super) fn new(settings: &StickySettings, service: &str, servers: &[StickyName]) -> Self {
        let name = cookie_name(&settings.name, service);
        let attributes = attributes(settings);
        let cookies = servers
            .iter()
            .map(|server| {
                let text = format!("{name}={}{attributes}", value_of(&server.own));
                HeaderValue::from_str(&text).ok()
            })
            .collect();
        Self {
            values: values(servers),
            name: name.into(),
            cookies,
        }
    }

    /// The first cookie of ours with a value that means something.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<&Named> {
        headers
            .get_all(COOKIE)
            .iter()
            .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|pair| self.value(pair))
            .find_map(|value| self.values.get(value))
    }

    /// The `Set-Cookie` value that ties a client to a server.
    pub(super) fn cookie(&self, index: usize) -> Option<HeaderValue> {
        self.cookies.get(index).cloned().flatten()
    }

    fn value<'a>(&self, pair: &'a [u8]) -> Option<&'a [u8]> {
        let pair = pair.trim_ascii();
        let value = pair
            .strip_prefix(self.name.as_bytes())?
            .strip_prefix(b"=")?;
        let unquoted = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        Some(unquoted.unwrap_or(value))
    }
}

fn values(servers: &[StickyName]) -> HashMap<Box<[u8]>, Named> {
    let mut values = HashMap::new();
    let mut add = |value: String, named: Named| {
        // The first of two servers with the same URL stands for both: they are the same server.
        values.entry(value.into_bytes().into()).or_insert(named);
    };
    for (index, server) in servers.iter().enumerate() {
        add(value_of(&server.own), Named::Server(index));
    }
    for (index, server) in servers.iter().enumerate() {
        match &server.shared {
            None => {
                for value in legacy_values(&server.own) {
                    add(value, Named::Legacy(index));
                }
            }
            Some(url) => {
                let group: Arc<[usize]> = (0..servers.len())
                    .filter(|other| servers[*other].shared.as_ref() == Some(url))
                    .collect();
                add(value_of(url), Named::AnyOf(Arc::clone(&group)));
                for value in legacy_values(url) {
                    add(value, Named::AnyOf(Arc::clone(&group)));
                }
            }
        }
    }
    values
}

/// The value issued today: 16 hex digits of SHA-256.
fn value_of(name: &str) -> String {
    hex(&Sha256::digest(name)[..8])
}

/// Values issued by earlier Traefiks: the name itself, its FNV-1 hash, and the hash of that.
fn legacy_values(name: &str) -> [String; 3] {
    let once = format!("{:x}", fnv1(name.as_bytes()));
    let twice = format!("{:x}", fnv1(once.as_bytes()));
    [name.to_owned(), once, twice]
}

fn fnv1(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
    })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        match write!(text, "{byte:02x}") {
            Ok(()) | Err(std::fmt::Error) => text,
        }
    })
}

/// The configured name with what a cookie name must not hold replaced, or the name derived from the service.
fn cookie_name(configured: &str, service: &str) -> String {
    if configured.is_empty() {
        let digest = Sha1::digest(format!("_TRAEFIK_BACKEND_{service}"));
        return format!("_{}", &hex(&digest[..3])[..5]);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^`|~".contains(c);
    configured
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect()
}

/// The attributes with their leading `; `.
fn attributes(settings: &StickySettings) -> String {
    let mut text = String::new();
    let path: String = settings
        .path
        .as_deref()
        .unwrap_or("/")
        .chars()
        .filter(|c| (' '..='~').contains(c) && *c != ';')
        .collect();
    if !path.is_empty() {
        text += "; Path=";
        text += &path;
    }
    if is_domain(&settings.domain) {
        text += "; Domain=";
        text += settings
            .domain
            .strip_prefix('.')
            .unwrap_or(&settings.domain);
    }
    if settings.max_age != 0 {
        text += "; Max-Age=";
        text += &settings.max_age.max(0).to_string();
    }
    if settings.http_only {
        text += "; HttpOnly";
    }
    if settings.secure {
        text += "; Secure";
    }
    text += match settings.same_site.to_ascii_lowercase().as_str() {
        "none" => "; SameSite=None",
        "lax" => "; SameSite=Lax",
        "strict" => "; SameSite=Strict",
        _ => "",
    };
    text
}

fn is_domain(domain: &str) -> bool {
    let bare = domain.strip_prefix('.').unwrap_or(domain);
    !bare.is_empty()
        && bare.len() <= 255
        && bare.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header::COOKIE};

    use super::{Named, Sticky, StickyName, StickySettings, cookie_name, legacy_values, value_of};

    fn names(urls: &[&str]) -> Vec<StickyName> {
        let name = |url: &&str| StickyName {
            own: (*url).into(),
            shared: None,
        };
        urls.iter().map(name).collect()
    }

    fn cookie(settings: &StickySettings) -> String {
        let sticky = Sticky::new(settings, "st@file", &names(&["http://10.0.0.1:80"]));
        sticky.cookie(0).unwrap().to_str().unwrap().to_owned()
    }

    fn find(sticky: &Sticky, cookies: &[&'static str]) -> Option<Named> {
        let mut headers = HeaderMap::new();
        for text in cookies {
            headers.append(COOKIE, HeaderValue::from_static(text));
        }
        sticky.find(&headers).cloned()
    }

    #[test]
    fn names_are_traefiks() {
        assert_eq!(cookie_name("", "st@file"), "_da847");
        assert_eq!(cookie_name("my cookie;1", "st@file"), "my_cookie_1");
        assert_eq!(cookie_name("a!#$%&'*+-.^`|~é", "x"), "a!#$%&'*+-.^`|~_");
    }

    #[test]
    fn values_are_traefiks() {
        // sha256sum, and FNV-1 as published for "foobar".
        assert_eq!(value_of("foobar"), "c3ab8ff13720e8ad");
        assert_eq!(legacy_values("foobar")[1], "340d8765a4dda9c2");
        assert_eq!(legacy_values("foobar")[0], "foobar");
    }

    #[test]
    fn attributes_come_in_traefiks_order() {
        let value = value_of("http://10.0.0.1:80");
        assert_eq!(
            cookie(&StickySettings::default()),
            format!("_da847={value}; Path=/")
        );
        let all = StickySettings {
            name: "c".into(),
            path: Some("/app;x".into()),
            domain: ".example.com".into(),
            secure: true,
            http_only: true,
            same_site: "LAX".into(),
            max_age: 42,
        };
        assert_eq!(
            cookie(&all),
            format!(
                "c={value}; Path=/appx; Domain=example.com; Max-Age=42; HttpOnly; Secure; SameSite=Lax"
            )
        );
        let odd = StickySettings {
            domain: "not a domain".into(),
            same_site: "whatever".into(),
            max_age: -1,
            ..StickySettings::default()
        };
        assert_eq!(cookie(&odd), format!("_da847={value}; Path=/; Max-Age=0"));
    }

    #[test]
    fn reads_current_and_legacy_values() {
        let sticky = Sticky::new(
            &StickySettings {
                name: "s".into(),
                ..StickySettings::default()
            },
            "st@file",
            &names(&["http://other", "foobar"]),
        );
        for (cookies, expected) in [
            (&["s=c3ab8ff13720e8ad"][..], Some(Named::Server(1))),
            (&["a=b; s=c3ab8ff13720e8ad ; c=d"], Some(Named::Server(1))),
            (&["s=\"c3ab8ff13720e8ad\""], Some(Named::Server(1))),
            (&["a=b", "s=foobar"], Some(Named::Legacy(1))),
            (&["s=340d8765a4dda9c2"], Some(Named::Legacy(1))),
            (&["s=forged", "s=http://other"], Some(Named::Legacy(0))),
            (&["s=forged"], None),
            (&["s=", "s", "ss=foobar", "=foobar", ";;"], None),
            (&[], None),
        ] {
            assert_eq!(find(&sticky, cookies), expected, "{cookies:?}");
        }
    }

    #[test]
    fn the_value_of_a_host_name_stands_for_each_of_its_addresses() {
        let name = |own: &str, shared: Option<&str>| StickyName {
            own: own.into(),
            shared: shared.map(Into::into),
        };
        let sticky = Sticky::new(
            &StickySettings {
                name: "s".into(),
                ..StickySettings::default()
            },
            "st@file",
            &[
                name("http://fixed", None),
                name("http://10.0.0.1:80", Some("foobar")),
                name("http://10.0.0.2:80", Some("foobar")),
            ],
        );
        let group = Some(Named::AnyOf([1, 2].into()));
        assert_eq!(find(&sticky, &["s=c3ab8ff13720e8ad"]), group);
        assert_eq!(find(&sticky, &["s=foobar"]), group);
        assert_ne!(sticky.cookie(1), sticky.cookie(2));
    }
}
