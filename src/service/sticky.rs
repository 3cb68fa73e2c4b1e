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
