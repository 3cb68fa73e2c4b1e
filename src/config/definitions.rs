//! What all providers together want: every object by its qualified name, as it comes out of the merge.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Deref,
    sync::Arc,
};

use super::{
    diagnostic::Diagnostic,
    routing::{
        Certificate, DecodedRouting, EVERY, Kind, Layer4, Middleware, Router, ServersTransport,
        Service, TlsOptions, TlsStore,
    },
    shape::{Opaque, Placed},
};

/// A qualified name.
pub type Name = Arc<str>;

/// The merged routing configuration.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// Objects of TCP and UDP, by section and name: known, not acted on.
    pub layer4: BTreeMap<SectionName, Defined<Opaque>>,
    /// Objects that stand in the configuration but could not be read: their last good form may go on.
    pub broken: BTreeSet<KindName>,
    /// What could be read of broken objects, to be looked at for further mistakes.
    pub partial: Partial,
    /// Global TLS objects that are left out because several providers define them.
    pub clashing: BTreeSet<KindName>,
}

impl Definitions {
    /// What one provider wants.
    pub fn of(provider: &Name, decoded: DecodedRouting) -> Self {
        let routing = decoded.routing;
        let tls = routing.tls;
        Self {
            routers: named(provider, routing.http.routers),
            services: named(provider, routing.http.services),
            middlewares: named(provider, routing.http.middlewares),
            servers_transports: named(provider, routing.http.servers_transports),
            tls_options: named_tls(provider, tls.options),
            tls_stores: named_tls(provider, tls.stores),
            certificates: certificates(provider, tls.certificates),
            layer4: layer4(provider, routing.tcp, routing.udp),
            clashing: BTreeSet::new(),
            partial: Partial {
                routers: named(provider, decoded.partial.routers),
                services: named(provider, decoded.partial.services),
                middlewares: named(provider, decoded.partial.middlewares),
            },
            broken: decoded
                .broken
                .into_iter()
                .map(|broken| broken_name(provider, broken))
                .collect(),
        }
    }

    /// Whether an object stands in the configuration but could not be read.
    pub fn is_broken(&self, kind: Kind, name: &Name, provider: &str) -> bool {
        self.broken.contains(&(kind, Arc::clone(name))) || self.is_all_broken(kind, provider)
    }

    /// Whether a provider's objects of a kind could not be read at all.
    pub fn is_all_broken(&self, kind: Kind, provider: &str) -> bool {
        !self.broken.is_empty()
            && self
                .broken
                .contains(&(kind, format!("{EVERY}@{provider}").into()))
    }
}

/// Objects with mistakes, as far as they could be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Partial {
    pub routers: Named<Router>,
    pub services: Named<Service>,
    pub middlewares: Named<Middleware>,
}

impl Partial {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn named<T>(provider: &Arc<str>, objects: BTreeMap<String, Placed<T>>) -> Named<T> {
    let qualified = |name: String| format!("{name}@{provider}").into();
    objects
        .into_iter()
        .map(|(name, object)| define(provider, qualified(name), object))
        .collect()
}

/// TLS options and stores called `default` belong to everybody.
fn named_tls<T>(provider: &Arc<str>, objects: BTreeMap<String, Placed<T>>) -> Named<T> {
    let objects = objects.into_iter();
    objects
        .map(|(name, object)| define(provider, tls_name(&name, provider), object))
        .collect()
}

/// The name that TLS options or a TLS store written as `name` by `provider` go by.
pub fn tls_name(name: &str, provider: &str) -> Arc<str> {
    match name {
        "" | DEFAULT => DEFAULT.into(),
        name => qualify(name, provider).into(),
    }
}

fn define<T>(provider: &Name, name: Name, object: Placed<T>) -> (Name, Defined<T>) {
    let defined = Defined::new(Arc::clone(&name), Arc::clone(provider), object);
    (name, defined)
}

/// Certificates have no names; they are counted.
fn certificates(
    provider: &Arc<str>,
    certificates: Vec<Placed<Certificate>>,
) -> Vec<Defined<Certificate>> {
    let certificates = certificates.into_iter().enumerate();
    let certificates = certificates
        .map(|(index, object)| define(provider, format!("{index}@{provider}").into(), object).1);
    certificates.collect()
}

fn layer4(provider: &Arc<str>, tcp: Layer4, udp: Layer4) -> BTreeMap<SectionName, Defined<Opaque>> {
    let sections = [
        ("tcp.routers", tcp.routers),
        ("tcp.services", tcp.services),
        ("tcp.middlewares", tcp.middlewares),
        ("tcp.serversTransports", tcp.servers_transports),
        ("udp.routers", udp.routers),
        ("udp.services", udp.services),
    ];
    let sections = sections.into_iter();
    sections
        .flat_map(|(section, objects)| {
            let objects = named(provider, objects).into_iter();
            objects.map(move |(name, object)| ((section, name), object))
        })
        .collect()
}

/// A broken name qualified; [`EVERY`] of a provider stays so.
fn broken_name(provider: &Name, broken: (Kind, String)) -> KindName {
    let (kind, name) = broken;
    let qualified = match kind {
        Kind::TlsOptions | Kind::TlsStore => tls_name(&name, provider),
        _ => format!("{name}@{provider}").into(),
    };
    (kind, qualified)
}

/// A section such as `tcp.routers`, and a qualified name in it.
pub type SectionName = (&'static str, Arc<str>);

/// A kind, and a qualified name of that kind.
pub type KindName = (Kind, Arc<str>);

/// Objects of one kind by their qualified names.
pub type Named<T> = BTreeMap<Arc<str>, Defined<T>>;

/// One object as a provider wrote it. Cheap to clone.
#[derive(Debug)]
pub struct Defined<T>(Arc<Definition<T>>);

/// What stands in a [`Defined`].
#[derive(Debug)]
pub struct Definition<T> {
    /// Qualified: `app@file`.
    pub name: Name,
    pub provider: Name,
    pub object: Placed<T>,
}

impl<T> Defined<T> {
    /// An object as it was written.
    pub fn new(name: Name, provider: Name, object: Placed<T>) -> Self {
        Self(Arc::new(Definition {
            name,
            provider,
            object,
        }))
    }

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
            "" => format!("{}.{}", kind.section(), self.name),
            field => format!("{}.{}.{field}", kind.section(), self.name),
        }
    }
}

impl<T> Deref for Defined<T> {
    type Target = Definition<T>;

    fn deref(&self) -> &Definition<T> {
        &self.0
    }
}

impl<T: PartialEq> PartialEq for Defined<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.name == other.name && self.object == other.object)
    }
}

impl<T> Clone for Defined<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
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
        let best = nearest(base, self.names.iter().map(|name| (base_name(name), *name)))?;
        let shown = match best.rsplit_once('@') {
            Some((base, its)) if its == provider => base,
            _ => best,
        };
        Some(format!("did you mean `{shown}`?"))
    }
}

/// Of pairs of a name and what it stands for, what the name nearest to `wanted` stands for, if that is near enough to be a slip.
pub fn nearest<'n>(
    wanted: &str,
    names: impl Iterator<Item = (&'n str, &'n str)>,
) -> Option<&'n str> {
    let lower = wanted.to_lowercase();
    let distances =
        names.map(|(name, meant)| (strsim::osa_distance(&lower, &name.to_lowercase()), meant));
    let (distance, meant) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= (wanted.chars().count() / 3).max(1)).then_some(meant)
}

/// TLS options and stores of this name belong to everybody.
const DEFAULT: &str = "default";
const MOST_SUGGESTIONS: u16 = 50;

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
