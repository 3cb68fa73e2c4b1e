//! What all providers together want: every object by its qualified name, as it comes out of the merge.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use crate::config::{
    Diagnostic, Opaque, Placed,
    routing::{Certificate, Middleware, Router, ServersTransport, Service, TlsOptions, TlsStore},
};

/// The merged routing configuration.
#[derive(Debug, Clone, Default)]
pub struct Definitions {
    pub routers: Named<Router>,
    pub services: Named<Service>,
    pub middlewares: Named<Middleware>,
    pub servers_transports: Named<ServersTransport>,
    /// `default` stands without a provider; all others are qualified.
    pub tls_options: Named<TlsOptions>,
    /// As `tls_options`.
    pub tls_stores: Named<TlsStore>,
    pub certificates: Vec<Defined<Certificate>>,
    /// Objects of TCP and UDP, which are known and not acted on.
    pub layer4: BTreeMap<(&'static str, Arc<str>), Defined<Opaque>>,
    /// Objects that stand in the configuration but could not be read: their last good form may go on.
    pub broken: BTreeSet<(Kind, Arc<str>)>,
}

/// Objects of one kind by their qualified names.
pub type Named<T> = BTreeMap<Arc<str>, Defined<T>>;

/// One object as a provider wrote it. Cheap to clone.
#[derive(Debug)]
pub struct Defined<T> {
    /// Qualified: `app@file`.
    pub name: Arc<str>,
    pub provider: Arc<str>,
    pub object: Arc<Placed<T>>,
}

impl<T> Defined<T> {
    /// A finding about one of its fields that makes it unusable.
    pub fn error(&self, kind: Kind, field: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(
            self.object.at(field).clone(),
            self.path(kind, field),
            message,
        )
    }

    /// A finding about one of its fields that leaves it usable.
    pub fn warning(&self, kind: Kind, field: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::warning(
            self.object.at(field).clone(),
            self.path(kind, field),
            message,
        )
    }

    /// `http.routers.app@file.rule`.
    pub fn path(&self, kind: Kind, field: &str) -> String {
        match field {
            "" => format!("{kind}.{}", self.name),
            field => format!("{kind}.{}.{field}", self.name),
        }
    }
}

impl<T> Clone for Defined<T> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            provider: Arc::clone(&self.provider),
            object: Arc::clone(&self.object),
        }
    }
}

/// The kinds of object that are built one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Router,
    Service,
    Middleware,
    ServersTransport,
    TlsOptions,
    TlsStore,
    Certificate,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Router,
        Self::Service,
        Self::Middleware,
        Self::ServersTransport,
        Self::TlsOptions,
        Self::TlsStore,
        Self::Certificate,
    ];

    /// What people call it.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Service => "service",
            Self::Middleware => "middleware",
            Self::ServersTransport => "serversTransport",
            Self::TlsOptions => "TLS options",
            Self::TlsStore => "TLS store",
            Self::Certificate => "certificate",
        }
    }

    const fn section(self) -> &'static str {
        match self {
            Self::Router => "http.routers",
            Self::Service => "http.services",
            Self::Middleware => "http.middlewares",
            Self::ServersTransport => "http.serversTransports",
            Self::TlsOptions => "tls.options",
            Self::TlsStore => "tls.stores",
            Self::Certificate => "tls.certificates",
        }
    }
}

/// The section of the configuration it is found in.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.section())
    }
}

/// `name` as `provider` means it: names without `@` are its own.
pub fn qualify<'a>(name: &'a str, provider: &str) -> Cow<'a, str> {
    if name.contains('@') {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("{name}@{provider}"))
    }
}

/// The name without its provider.
pub fn base_name(qualified: &str) -> &str {
    qualified
        .rsplit_once('@')
        .map_or(qualified, |(base, _)| base)
}

/// Says what somebody who wrote a name that does not exist may have meant.
#[derive(Debug)]
pub struct Suggestions<'a> {
    names: Vec<&'a str>,
    by_base: HashMap<&'a str, &'a str>,
    /// Comparing with every name is slow; nobody reads the thousandth suggestion.
    left: std::cell::Cell<u16>,
}

impl<'a> Suggestions<'a> {
    /// Suggestions out of `names`.
    pub fn new(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.collect();
        Self {
            by_base: names.iter().map(|name| (base_name(name), *name)).collect(),
            names,
            left: std::cell::Cell::new(MOST_SUGGESTIONS),
        }
    }

    /// A hint for `wanted`, a qualified name that does not exist.
    pub fn hint(&self, wanted: &str) -> Option<String> {
        let (base, provider) = wanted.rsplit_once('@')?;
        if let Some(elsewhere) = self.by_base.get(base) {
            return Some(format!("did you mean `{elsewhere}`?"));
        }
        let left = self.left.get().checked_sub(1)?;
        self.left.set(left);
        let score = |name: &&str| strsim::jaro_winkler(base, base_name(name));
        let best = self
            .names
            .iter()
            .max_by(|left, right| score(left).total_cmp(&score(right)))
            .filter(|best| score(best) > CLOSE_ENOUGH)?;
        let shown = match best.rsplit_once('@') {
            Some((base, its)) if its == provider => base,
            _ => best,
        };
        Some(format!("did you mean `{shown}`?"))
    }
}

const MOST_SUGGESTIONS: u16 = 50;
const CLOSE_ENOUGH: f64 = 0.8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_qualified_by_the_provider_that_uses_them() {
        for (name, expected) in [
            ("a", "a@file"),
            ("a@docker", "a@docker"),
            ("a@b@c", "a@b@c"),
        ] {
            assert_eq!(qualify(name, "file"), expected);
        }
        assert_eq!(base_name("a@b@file"), "a@b");
    }

    #[test]
    fn suggestions_look_in_other_providers_first() {
        let suggestions =
            Suggestions::new(["compress@file", "auth@docker", "login@file"].into_iter());
        for (wanted, hint) in [
            ("auth@file", Some("did you mean `auth@docker`?")),
            ("compres@file", Some("did you mean `compress`?")),
            ("compres@docker", Some("did you mean `compress@file`?")),
            ("zzz@file", None),
        ] {
            assert_eq!(suggestions.hint(wanted).as_deref(), hint, "{wanted}");
        }
    }
}
