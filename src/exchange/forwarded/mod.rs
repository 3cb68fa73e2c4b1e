//! Forwarding headers: who may set them, what we set, and which fields end at a hop.
//!
//! [`arrive`] runs once when a request head was read, [`depart`] once before it is sent to a server; middlewares run between the two.
//! The common request (no `Connection` field, nothing forged) costs one look at the field names and five inserts, and allocates nothing.

use bytestring::ByteString;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
};

use super::{Connection, RequestHead};

/// How an entry point treats forwarding headers (`forwardedHeaders`, `http.aliasHeadersStrategy`).
#[derive(Debug, Clone, Default)]
pub struct Forwarding {
    /// Fields that `Connection` may name without hiding them from middlewares (`forwardedHeaders.connection`).
    pub keep: Vec<HeaderName>,
    /// Leave `X-Forwarded-For` as it came (`forwardedHeaders.notAppendXForwardedFor`).
    pub not_append: bool,
    /// What happens to fields whose names could be mistaken for others.
    pub aliases: Aliases,
    /// Our host name, for `X-Forwarded-Server`.
    pub server: Option<HeaderValue>,
}

/// What happens to header fields whose name another program may read as a different one (`X_Forwarded_For`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aliases {
    pub strategy: AliasStrategy,
    /// Only names with `_` count (`underscoreHeadersStrategy`); otherwise any character besides letters, digits and `-` does.
    pub underscore_only: bool,
}

/// What to do with an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AliasStrategy {
    #[default]
    Keep,
    Delete,
    Reject,
}

/// The request carries an alias and the entry point rejects those: answer `400 Bad Request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AliasRejected;

/// What the hop-by-hop fields of a request asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HopByHop {
    /// `TE: trailers`.
    pub accepts_trailers: bool,
    /// The protocol of an upgrade request.
    pub upgrade: Option<HeaderValue>,
}

/// Makes a head that was just read fit for routing and middlewares: aliases, hop-by-hop fields, forwarding headers.
pub fn arrive(
    head: &mut RequestHead,
    connection: &Connection,
    options: &Forwarding,
) -> Result<(), AliasRejected> {
    let found = Found::look(&head.headers, options.aliases);
    if found.alias {
        apply_alias_strategy(&mut head.headers, options.aliases)?;
    }
    if found.hop_by_hop {
        let asked = strip_hop_by_hop(&mut head.headers, &options.keep);
        head.accepts_trailers |= asked.accepts_trailers;
        // An extended CONNECT has named its protocol already, and HTTP/2 knows no Upgrade field.
        if head.upgrade.is_none() {
            head.upgrade = asked.upgrade;
        }
    }
    if found.managed && !connection.trusted {
        remove_where(&mut head.headers, is_managed);
    }
    let any_left = found.managed && connection.trusted;
    set_forwarded(head, connection, options.server.as_ref(), any_left);
    Ok(())
}

/// Makes a head fit for a server once the middlewares have run. `append` is false when the entry point or a middleware wants
/// `X-Forwarded-For` left alone.
pub fn depart(head: &mut RequestHead, connection: &Connection, append: bool) {
    if let Some(kept) = head.headers.remove(header::CONNECTION) {
        for name in names_in(&kept) {
            head.headers.remove(name);
        }
    }
    // An empty User-Agent is how one says "none" to programs that would invent their own.
    if let Entry::Occupied(agent) = head.headers.entry(header::USER_AGENT)
        && agent.get().is_empty()
    {
        agent.remove();
    }
    if append {
        append_forwarded_for(&mut head.headers, &connection.peer_ip);
    }
}

/// Appends the peer to `X-Forwarded-For`.
pub fn append_forwarded_for(headers: &mut HeaderMap, peer_ip: &HeaderValue) {
    let value = match headers.get(&X_FORWARDED_FOR) {
        None => Some(peer_ip.clone()),
        Some(_) => joined(headers.get_all(&X_FORWARDED_FOR).iter().chain([peer_ip])),
    };
    if let Some(value) = value {
        headers.insert(&X_FORWARDED_FOR, value);
    }
}

/// Takes the hop-by-hop fields off a request (RFC 9110 section 7.6.1).
///
/// What `Connection` names goes too, except the forwarding headers (a client must not be able to delete what we vouch for) and the
/// names in `keep`: those stay visible, with `Connection` naming them, until [`depart`].
pub fn strip_hop_by_hop(headers: &mut HeaderMap, keep: &[HeaderName]) -> HopByHop {
    let accepts_trailers = has_token(headers.get_all(header::TE).iter(), "trailers");
    let upgrade = take_upgrade(headers);
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(names_in)
        .filter(|name| !is_managed(name))
        .collect();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    let mut kept = Vec::new();
    for name in named {
        if keep.contains(&name) {
            kept.push(name);
        } else {
            headers.remove(name);
        }
    }
    if !kept.is_empty() {
        let list = kept
            .iter()
            .map(HeaderName::as_str)
            .collect::<Vec<_>>()
            .join(",");
        if let Ok(list) = HeaderValue::try_from(list) {
            headers.insert(header::CONNECTION, list);
        }
    }
    HopByHop {
        accepts_trailers,
        upgrade,
    }
}

/// Takes the hop-by-hop fields off a response and returns its `Upgrade`. The announcement of trailers stays.
pub fn strip_response_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if !headers.keys().any(ends_here) {
        return None;
    }
    let upgrade = headers.remove(header::UPGRADE);
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(names_in)
        .collect();
    for name in HOP_BY_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
    upgrade
}

/// Whether only Portway or a trusted proxy may say this: the `X-Forwarded-*` family, also in underscore spelling.
pub fn is_managed(name: &HeaderName) -> bool {
    const NAMES: [&str; 11] = [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-forwarded-server",
        "x-forwarded-prefix",
        "x-forwarded-uri",
        "x-forwarded-method",
        "x-forwarded-tls-client-cert",
        "x-forwarded-tls-client-cert-info",
        "x-real-ip",
    ];
    let name = name.as_str();
    name.starts_with('x')
        && NAMES.iter().any(|managed| {
            managed.len() == name.len()
                && managed
                    .bytes()
                    .zip(name.bytes())
                    .all(|(m, n)| m == n || (m == b'-' && n == b'_'))
        })
}

/// Whether a field ends at this hop, so that a middleware cannot set it either.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// The port in a `Host` value, if it names one.
pub fn port_of(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    // More than one colon outside brackets is a bare IPv6 address, which has no port.
    let bare_v6 = name.contains(':') && !(name.starts_with('[') && name.ends_with(']'));
    (!bare_v6 && !port.is_empty()).then_some(port)
}

/// A header value that shares the text.
pub fn shared_value(text: &ByteString) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(text.as_bytes().clone()).ok()
}

/// Whether a comma list in any of `values` holds `token`, ignoring case.
pub fn has_token<'a>(mut values: impl Iterator<Item = &'a HeaderValue>, token: &str) -> bool {
    values.any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

fn names_in(list: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    list.as_bytes()
        .split(|byte| *byte == b',')
        .filter_map(|part| HeaderName::from_bytes(part.trim_ascii()).ok())
}

/// The protocol of an upgrade request. `h2c` is refused: a server that accepts it would talk HTTP/2 past our rules.
fn take_upgrade(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(&HTTP2_SETTINGS);
    if has_token(headers.get_all(header::UPGRADE).iter(), "h2c")
        || !has_token(headers.get_all(header::CONNECTION).iter(), "upgrade")
    {
        return None;
    }
    headers.remove(header::UPGRADE)
}

fn set_forwarded(
    head: &mut RequestHead,
    connection: &Connection,
    server: Option<&HeaderValue>,
    any_present: bool,
) {
    head.headers.reserve(8);
    let present = |headers: &HeaderMap, name: &HeaderName| {
        any_present && headers.get(name).is_some_and(|value| !value.is_empty())
    };
    if !present(&head.headers, &X_REAL_IP) {
        head.headers.insert(&X_REAL_IP, connection.peer_ip.clone());
    }
    if !present(&head.headers, &X_FORWARDED_PROTO) {
        let proto = proto_of(head, connection).clone();
        head.headers.insert(&X_FORWARDED_PROTO, proto);
    }
    if !present(&head.headers, &X_FORWARDED_PORT) {
        let port = port_value(head, connection, any_present);
        head.headers.insert(&X_FORWARDED_PORT, port);
    }
    if !head.host.is_empty()
        && !present(&head.headers, &X_FORWARDED_HOST)
        && let Some(host) = shared_value(&head.host)
    {
        head.headers.insert(&X_FORWARDED_HOST, host);
    }
    if let Some(server) = server {
        head.headers.insert(&X_FORWARDED_SERVER, server.clone());
    }
    if any_present {
        join_forwarded_for(&mut head.headers);
    }
}

/// The scheme the client used, as servers are told.
pub fn proto(head: &RequestHead, connection: &Connection) -> HeaderValue {
    let said = head.headers.get(&X_FORWARDED_PROTO);
    let said = said.filter(|value| !value.is_empty());
    said.unwrap_or_else(|| proto_of(head, connection)).clone()
}

fn proto_of(head: &RequestHead, connection: &Connection) -> &'static HeaderValue {
    let websocket = has_token(head.upgrade.iter(), "websocket");
    match (websocket, connection.is_tls()) {
        (false, false) => &HTTP,
        (false, true) => &HTTPS,
        (true, false) => &WS,
        (true, true) => &WSS,
    }
}

/// The port the client believes it talks to: never the listener's, which may be hidden behind a port mapping.
fn port_value(head: &RequestHead, connection: &Connection, any_present: bool) -> HeaderValue {
    if let Some(port) = port_of(&head.host)
        && let Some(value) = shared_value(&head.host.slice_ref(port))
    {
        return value;
    }
    let said_tls = any_present
        && head
            .headers
            .get(&X_FORWARDED_PROTO)
            .is_some_and(|proto| proto == "https" || proto == "wss");
    if connection.is_tls() || said_tls {
        PORT_443.clone()
    } else {
        PORT_80.clone()
    }
}

/// One field, so that whoever reads only the first sees the whole chain.
fn join_forwarded_for(headers: &mut HeaderMap) {
    let values = headers.get_all(&X_FORWARDED_FOR);
    if values.iter().nth(1).is_some()
        && let Some(value) = joined(values.iter())
    {
        headers.insert(&X_FORWARDED_FOR, value);
    }
}

/// All values in one, as one field with a list.
pub fn joined<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Option<HeaderValue> {
    let mut list = Vec::with_capacity(64);
    for value in values {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).ok()
}

fn apply_alias_strategy(headers: &mut HeaderMap, aliases: Aliases) -> Result<(), AliasRejected> {
    match aliases.strategy {
        AliasStrategy::Keep => Ok(()),
        AliasStrategy::Reject => Err(AliasRejected),
        AliasStrategy::Delete => {
            remove_where(headers, |name| is_alias(name, aliases.underscore_only));
            Ok(())
        }
    }
}

fn is_alias(name: &HeaderName, underscore_only: bool) -> bool {
    name.as_str().bytes().any(|byte| {
        if underscore_only {
            byte == b'_'
        } else {
            byte != b'-' && !byte.is_ascii_alphanumeric()
        }
    })
}

fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// What one look at the field names of a request found.
#[derive(Default)]
struct Found {
    hop_by_hop: bool,
    managed: bool,
    alias: bool,
}

impl Found {
    fn look(headers: &HeaderMap, aliases: Aliases) -> Self {
        let mut found = Self::default();
        let check_aliases = aliases.strategy != AliasStrategy::Keep;
        for name in headers.keys() {
            found.hop_by_hop |= ends_here(name);
            found.managed |= is_managed(name);
            found.alias |= check_aliases && is_alias(name, aliases.underscore_only);
        }
        found
    }
}

/// Fields that make [`strip_hop_by_hop`] worth calling. Decided by length and first letter before the bytes are compared.
fn ends_here(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::TE
        | header::UPGRADE
        | header::TRANSFER_ENCODING
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION => true,
        _ => {
            let name = name.as_str();
            match name.len() {
                10 => name == "keep-alive",
                14 => name == "http2-settings",
                16 => name == "proxy-connection",
                _ => false,
            }
        }
    }
}

/// Fields about one connection. `Trailer` is not among them: it announces fields that are forwarded.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TE,
    header::UPGRADE,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

pub static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub static X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
pub static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub static X_FORWARDED_SERVER: HeaderName = HeaderName::from_static("x-forwarded-server");
pub static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
static HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

static HTTP: HeaderValue = HeaderValue::from_static("http");
static HTTPS: HeaderValue = HeaderValue::from_static("https");
static WS: HeaderValue = HeaderValue::from_static("ws");
static WSS: HeaderValue = HeaderValue::from_static("wss");
static PORT_80: HeaderValue = HeaderValue::from_static("80");
static PORT_443: HeaderValue = HeaderValue::from_static("443");

#[cfg(test)]
mod tests;
