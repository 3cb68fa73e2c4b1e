//! A tree to routing configuration, each object on its own: a broken one is reported and named, the others live.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::remarks::Remarks;
use super::{Http, Layer4, Routing, Tls};
use crate::config::decode::{decode, did_you_mean, is_below, join};
use crate::config::diagnostic::{About, Diagnostic};
use crate::config::shape::Placed;
use crate::config::tree::{Node, Parsed, Value};

/// Routing configuration from one source, and what was wrong with it.
#[derive(Debug, Clone, Default)]
pub struct DecodedRouting {
    /// What could be read.
    pub routing: Routing,
    /// What was found, in the order of the source.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that were written and could not be read; the name [`EVERY`] stands for all objects of the kind.
    pub broken: BTreeSet<(Kind, String)>,
    /// What could be read of broken objects: to be looked at for further mistakes, and for nothing else.
    pub partial: Http,
}

/// Routing configuration made by code has nothing wrong with its form.
impl From<Routing> for DecodedRouting {
    fn from(routing: Routing) -> Self {
        Self {
            routing,
            ..Self::default()
        }
    }
}

impl DecodedRouting {
    /// Whether anything found is an error.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Adds what could be read of other broken objects.
    pub fn add_partial(&mut self, more: &Http) {
        let partial = &mut self.partial;
        add(&mut partial.routers, &more.routers);
        add(&mut partial.services, &more.services);
        add(&mut partial.middlewares, &more.middlewares);
        add(&mut partial.servers_transports, &more.servers_transports);
    }
}

fn add<T: Clone>(objects: &mut Objects<T>, more: &Objects<T>) {
    let more = more.iter();
    objects.extend(more.map(|(name, object)| (name.clone(), object.clone())));
}

/// In place of a name: the whole section could not be read.
pub const EVERY: &str = "*";

/// Kinds of routing objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// `http.routers`
    Router,
    /// `http.services`
    Service,
    /// `http.middlewares`
    Middleware,
    /// `http.serversTransports`
    ServersTransport,
    /// `tls.certificates`; the name is the index.
    Certificate,
    /// `tls.options`
    TlsOptions,
    /// `tls.stores`
    TlsStore,
    /// Anything below `tcp`.
    Tcp,
    /// Anything below `udp`.
    Udp,
}

impl Kind {
    /// Where objects of the kind are written.
    pub const fn section(self) -> &'static str {
        match self {
            Self::Router => "http.routers",
            Self::Service => "http.services",
            Self::Middleware => "http.middlewares",
            Self::ServersTransport => "http.serversTransports",
            Self::Certificate => "tls.certificates",
            Self::TlsOptions => "tls.options",
            Self::TlsStore => "tls.stores",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What people call one.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Router => "router",
            Self::Service => "service",
            Self::Middleware => "middleware",
            Self::ServersTransport => "servers transport",
            Self::Certificate => "certificate",
            Self::TlsOptions => "TLS options",
            Self::TlsStore => "TLS store",
            Self::Tcp => "TCP object",
            Self::Udp => "UDP object",
        })
    }
}

/// Decodes a parsed source. What was found wrong with its syntax counts against the objects it lies in.
pub fn decode_routing(parsed: Parsed) -> DecodedRouting {
    let mut walk = Walk {
        syntax: parsed.diagnostics,
        ..Walk::default()
    };
    let mut routing = Routing::default();
    for section in parsed.root.iter().flat_map(Node::children) {
        match section.name.to_ascii_lowercase().as_str() {
            "http" => routing.http = walk.http(section),
            "tcp" => routing.tcp = walk.layer4(section, "tcp", Kind::Tcp),
            "udp" => routing.udp = walk.layer4(section, "udp", Kind::Udp),
            "tls" => routing.tls = walk.tls(section),
            _ => walk.unknown_root(section),
        }
    }
    walk.diagnostics.append(&mut walk.syntax);
    walk.diagnostics.sort_by(|a, b| a.place.cmp(&b.place));
    DecodedRouting {
        routing,
        diagnostics: walk.diagnostics,
        broken: walk.broken,
        partial: walk.partial,
    }
}

/// What is noted on the way through a tree.
#[derive(Default)]
struct Walk {
    syntax: Vec<Diagnostic>,
    diagnostics: Vec<Diagnostic>,
    broken: BTreeSet<(Kind, String)>,
    partial: Http,
}

/// An object, as far as it could be read.
struct Read<T> {
    object: Option<Placed<T>>,
    broken: bool,
}

impl<T> Read<T> {
    fn good(self) -> Option<Placed<T>> {
        self.object.filter(|_| !self.broken)
    }
}

type Objects<T> = BTreeMap<String, Placed<T>>;

/// Where good objects go, and those that could be read in part.
type Both<'o, T> = (&'o mut Objects<T>, &'o mut Objects<T>);

impl Walk {
    fn http(&mut self, section: &Node) -> Http {
        const KNOWN: &[&str] = &[
            "routers",
            "services",
            "middlewares",
            "serversTransports",
            "models",
        ];
        let (mut http, mut partial) = (Http::default(), Http::default());
        for part in self.parts(section, "http", KNOWN) {
            match part.name.to_ascii_lowercase().as_str() {
                "routers" => {
                    let both = (&mut http.routers, &mut partial.routers);
                    self.objects(part, Kind::Router, both);
                }
                "services" => {
                    let both = (&mut http.services, &mut partial.services);
                    self.objects(part, Kind::Service, both);
                }
                "middlewares" => {
                    let both = (&mut http.middlewares, &mut partial.middlewares);
                    self.objects(part, Kind::Middleware, both);
                }
                "serverstransports" => {
                    let both = (
                        &mut http.servers_transports,
                        &mut partial.servers_transports,
                    );
                    self.objects(part, Kind::ServersTransport, both);
                }
                _ => {}
            }
        }
        self.partial = partial;
        http
    }

    fn layer4(&mut self, section: &Node, path: &str, kind: Kind) -> Layer4 {
        const KNOWN: &[&str] = &[
            "routers",
            "services",
            "middlewares",
            "serversTransports",
            "models",
        ];
        let mut layer = Layer4::default();
        for part in self.parts(section, path, KNOWN) {
            let (slot, name) = match part.name.to_ascii_lowercase().as_str() {
                "routers" => (&mut layer.routers, "routers"),
                "services" => (&mut layer.services, "services"),
                "middlewares" => (&mut layer.middlewares, "middlewares"),
                "serverstransports" => (&mut layer.servers_transports, "serversTransports"),
                _ => continue,
            };
            self.objects_at(part, &join(path, name), kind, (slot, &mut Objects::new()));
        }
        layer
    }

    fn tls(&mut self, section: &Node) -> Tls {
        let mut tls = Tls::default();
        for part in self.parts(section, "tls", &["certificates", "options", "stores"]) {
            match part.name.to_ascii_lowercase().as_str() {
                "certificates" => tls.certificates = self.certificates(part),
                "options" => {
                    let both = (&mut tls.options, &mut Objects::new());
                    self.objects(part, Kind::TlsOptions, both);
                }
                "stores" => {
                    let both = (&mut tls.stores, &mut Objects::new());
                    self.objects(part, Kind::TlsStore, both);
                }
                _ => {}
            }
        }
        tls
    }

    /// The known children of a section; says what is wrong with the others.
    fn parts<'a>(&mut self, section: &'a Node, path: &str, known: &[&str]) -> Vec<&'a Node> {
        if !matches!(section.value, Value::Map { .. } | Value::Null) {
            self.expected_options(section, path);
        }
        let mut parts = Vec::new();
        for part in section.children() {
            if known
                .iter()
                .any(|name| name.eq_ignore_ascii_case(&part.name))
            {
                parts.push(part);
                continue;
            }
            let path = join(path, &part.name);
            let mut unknown = Diagnostic::error(part.key.clone(), path, "unknown option")
                .about(About::UnknownOption);
            unknown.hint = did_you_mean(&part.name, known);
            self.diagnostics.push(unknown);
        }
        parts
    }

    /// Reads the objects of a section into those that are good and those that could be read in part.
    fn objects<T>(&mut self, section: &Node, kind: Kind, into: Both<'_, T>)
    where
        T: DeserializeOwned + Remarks,
    {
        self.objects_at(section, kind.section(), kind, into);
    }

    fn objects_at<T>(&mut self, section: &Node, path: &str, kind: Kind, into: Both<'_, T>)
    where
        T: DeserializeOwned + Remarks,
    {
        if !matches!(section.value, Value::Map { .. } | Value::Null) {
            self.expected_options(section, path);
            self.broken.insert((kind, EVERY.to_owned()));
        }
        let (good, partial) = into;
        for node in section.children() {
            let path = join(path, &node.name);
            let read = self.object(node, &path, kind, &node.name);
            let objects = match read.broken {
                true => &mut *partial,
                false => &mut *good,
            };
            if let Some(object) = read.object {
                // Of two with one name the first counts; the second is among the syntax errors.
                objects.entry(String::from(&*node.name)).or_insert(object);
            }
        }
    }

    fn certificates<T>(&mut self, section: &Node) -> Vec<Placed<T>>
    where
        T: DeserializeOwned + Remarks,
    {
        let items = match &section.value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            other => {
                let message = format!("expected a list, found {}", other.describe());
                let path = "tls.certificates";
                let wrong = Diagnostic::error(section.place.clone(), path, message);
                self.diagnostics.push(wrong);
                self.broken.insert((Kind::Certificate, EVERY.to_owned()));
                &[]
            }
        };
        let mut certificates = Vec::new();
        for (index, node) in items.iter().enumerate() {
            let path = format!("tls.certificates[{index}]");
            let name = index.to_string();
            certificates.extend(self.object(node, &path, Kind::Certificate, &name).good());
        }
        certificates
    }

    fn object<T>(&mut self, node: &Node, path: &str, kind: Kind, name: &str) -> Read<T>
    where
        T: DeserializeOwned + Remarks,
    {
        if matches!(node.value, Value::Null) {
            let message = "has no value and is ignored";
            let ignored = Diagnostic::warning(node.key.clone(), path, message);
            self.diagnostics
                .push(ignored.with_hint("give it options, or remove it"));
            return Read {
                object: None,
                broken: false,
            };
        }
        let mut decoded = decode::<T>(node, path);
        let mut broken = decoded.has_errors() || self.has_syntax_error(path);
        if name.contains('@') {
            let message = "a name cannot contain `@`, which separates it from its provider";
            decoded
                .diagnostics
                .push(Diagnostic::error(node.key.clone(), path, message));
            broken = true;
        }
        self.diagnostics.append(&mut decoded.diagnostics);
        let object = decoded
            .value
            .map(|value| Placed::new(value, decoded.places));
        broken |= object.is_none();
        match &object {
            Some(object) if !broken => T::remarks(object, path, &mut self.diagnostics),
            _ => drop(self.broken.insert((kind, name.to_owned()))),
        }
        Read { object, broken }
    }

    /// Paths of syntax errors are as written, so case does not count.
    fn has_syntax_error(&self, path: &str) -> bool {
        if self.syntax.is_empty() {
            return false;
        }
        let path = path.to_ascii_lowercase();
        let mut errors = self.syntax.iter().filter(|finding| finding.is_error());
        errors.any(|error| is_below(&error.path.to_ascii_lowercase(), &path))
    }

    fn expected_options(&mut self, section: &Node, path: &str) {
        let message = format!("expected options, found {}", section.value.describe());
        self.diagnostics
            .push(Diagnostic::error(section.place.clone(), path, message));
    }

    /// Traefik ignores these; a section of the install configuration is common where one file serves as both.
    fn unknown_root(&mut self, section: &Node) {
        let name = &*section.name;
        let place = section.key.clone();
        let install = INSTALL_SECTIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name));
        self.diagnostics.push(if install {
            let message = "belongs to the install configuration and is ignored here";
            Diagnostic::info(place, name, message)
        } else {
            let mut unknown = Diagnostic::warning(place, name, "unknown section, ignored");
            unknown.hint = did_you_mean(name, &["http", "tcp", "udp", "tls"]);
            unknown
        });
    }
}

/// Sections of the install configuration.
pub(in crate::config) const INSTALL_SECTIONS: &[&str] = &[
    "accessLog",
    "api",
    "certificatesResolvers",
    "core",
    "entryPoints",
    "experimental",
    "global",
    "hostResolver",
    "log",
    "metrics",
    "ocsp",
    "ping",
    "providers",
    "serversTransport",
    "spiffe",
    "tcpServersTransport",
    "tracing",
];
