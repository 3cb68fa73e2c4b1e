//! What all providers want, put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    config::{
        Diagnostic, Kind,
        definitions::{Defined, Definitions, Named},
    },
    tls::DEFAULT_OPTIONS,
};

/// Merges the providers' definitions. Qualified names keep the providers apart; only TLS objects called `default` can clash, and are
/// then left out altogether, because nobody could say which one was meant.
pub fn merge<'a>(
    providers: impl Iterator<Item = &'a Definitions>,
) -> (Definitions, Vec<Diagnostic>) {
    let mut providers = providers;
    // Most of the time there is one that says nearly everything: a map is copied faster than built anew.
    let mut merged = providers.next().cloned().unwrap_or_default();
    let mut diagnostics = Vec::new();
    let mut clashes = Clashes::default();
    for definitions in providers {
        extend(&mut merged.routers, &definitions.routers);
        extend(&mut merged.services, &definitions.services);
        extend(&mut merged.middlewares, &definitions.middlewares);
        extend(
            &mut merged.servers_transports,
            &definitions.servers_transports,
        );
        clashes.note(
            Kind::TlsOptions,
            &merged.tls_options,
            &definitions.tls_options,
            &mut diagnostics,
        );
        clashes.note(
            Kind::TlsStore,
            &merged.tls_stores,
            &definitions.tls_stores,
            &mut diagnostics,
        );
        extend(&mut merged.tls_options, &definitions.tls_options);
        extend(&mut merged.tls_stores, &definitions.tls_stores);
        merged
            .certificates
            .extend(definitions.certificates.iter().cloned());
        let layer4 = definitions.layer4.iter();
        merged
            .layer4
            .extend(layer4.map(|(key, object)| (key.clone(), object.clone())));
        merged.broken.extend(definitions.broken.iter().cloned());
        let (partial, more) = (&mut merged.partial, &definitions.partial);
        extend(&mut partial.routers, &more.routers);
        extend(&mut partial.services, &more.services);
        extend(&mut partial.middlewares, &more.middlewares);
    }
    for kind in clashes.0 {
        let name: Arc<str> = DEFAULT_OPTIONS.into();
        match kind {
            Kind::TlsOptions => drop(merged.tls_options.remove(&name)),
            _ => drop(merged.tls_stores.remove(&name)),
        }
        merged.clashing.insert((kind, name));
    }
    (merged, diagnostics)
}

fn extend<T>(merged: &mut Named<T>, more: &Named<T>) {
    merged.extend(
        more.iter()
            .map(|(name, object)| (Arc::clone(name), object.clone())),
    );
}

/// Kinds whose `default` more than one provider defines.
#[derive(Default)]
struct Clashes(BTreeSet<Kind>);

impl Clashes {
    fn note<T>(
        &mut self,
        kind: Kind,
        merged: &BTreeMap<Arc<str>, Defined<T>>,
        more: &BTreeMap<Arc<str>, Defined<T>>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let (Some(first), Some(second)) = (merged.get(DEFAULT_OPTIONS), more.get(DEFAULT_OPTIONS))
        else {
            return;
        };
        self.0.insert(kind);
        let message = format!(
            "the {kind} `default` are defined by the providers {} and {}, so neither is used",
            first.provider, second.provider
        );
        let hint = format!(
            "keep one of them; the other stands at {}",
            first.object.place()
        );
        diagnostics.push(second.error(kind, "", message).with_hint(hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Routing,
        routing::{Router, TlsOptions},
    };

    fn provider(name: &str, tls_options: &[&str]) -> Definitions {
        let mut routing = Routing::default();
        routing
            .http
            .routers
            .insert("app".to_owned(), Router::default().into());
        for options in tls_options {
            routing
                .tls
                .options
                .insert((*options).to_owned(), TlsOptions::default().into());
        }
        Definitions::of(&name.into(), routing.into())
    }

    #[test]
    fn equal_names_of_two_providers_are_two_objects() {
        let (merged, diagnostics) = merge(
            [
                provider("file", &["strict"]),
                provider("docker", &["strict"]),
            ]
            .iter(),
        );
        assert_eq!(
            merged
                .routers
                .keys()
                .map(|name| &**name)
                .collect::<Vec<_>>(),
            ["app@docker", "app@file"]
        );
        assert_eq!(merged.tls_options.len(), 2);
        assert_eq!(diagnostics, []);
    }

    #[test]
    fn default_tls_options_of_two_providers_are_nobodys() {
        let both = [
            provider("file", &["default", "a"]),
            provider("docker", &["default"]),
        ];
        let (merged, diagnostics) = merge(both.iter());
        assert_eq!(
            merged
                .tls_options
                .keys()
                .map(|name| &**name)
                .collect::<Vec<_>>(),
            ["a@file"]
        );
        assert!(
            merged
                .clashing
                .contains(&(Kind::TlsOptions, "default".into()))
        );
        assert_eq!(diagnostics.len(), 1);
        assert!(
            diagnostics[0].message.contains("file and docker"),
            "{}",
            diagnostics[0]
        );
        let (merged, diagnostics) = merge(both[..1].iter());
        assert!(merged.tls_options.contains_key("default"));
        assert_eq!((merged.clashing.len(), diagnostics.len()), (0, 0));
    }
}
