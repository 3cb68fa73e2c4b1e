//! What must be fetched from outside before a configuration can be compiled.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        Install,
        definitions::Definitions,
        routing::{Certificate, Middleware},
        units::FileOrContent,
    },
    service::ServerUrl,
};

/// The files that a configuration names: certificates, keys, authorities, users.
pub fn files(definitions: &Definitions, install: &Install) -> BTreeSet<PathBuf> {
    let mut sources: Vec<&FileOrContent> = install.servers_transport.root_cas.iter().collect();
    for transport in definitions.servers_transports.values() {
        sources.extend(&transport.object.root_cas);
        sources.extend(transport.object.certificates.iter().flat_map(pair));
    }
    for options in definitions.tls_options.values() {
        sources.extend(&options.object.client_auth.ca_files);
    }
    let defaults = definitions
        .tls_stores
        .values()
        .filter_map(|store| store.object.default_certificate.as_ref());
    sources.extend(defaults.flat_map(pair));
    sources.extend(
        definitions
            .certificates
            .iter()
            .flat_map(|certificate| pair(&certificate.object)),
    );
    let middlewares = definitions.middlewares.values();
    let named = middlewares.flat_map(|middleware| of_middleware(&middleware.object.value));
    let paths = sources.into_iter().filter_map(FileOrContent::path);
    paths.chain(named).map(Path::to_owned).collect()
}

/// The files that a middleware names.
pub(super) fn of_middleware(middleware: &Middleware) -> Vec<&Path> {
    match middleware {
        Middleware::BasicAuth(auth) if !auth.users_file.is_empty() => {
            vec![Path::new(&auth.users_file)]
        }
        Middleware::DigestAuth(auth) if !auth.users_file.is_empty() => {
            vec![Path::new(&auth.users_file)]
        }
        Middleware::RateLimit(limit) => {
            let tls = limit.redis.iter().filter_map(|redis| redis.tls.as_ref());
            let files = tls.flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]);
            files.filter_map(FileOrContent::path).collect()
        }
        Middleware::ForwardAuth(auth) => {
            let files = auth
                .tls
                .iter()
                .flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]);
            files.filter_map(FileOrContent::path).collect()
        }
        _ => Vec::new(),
    }
}

/// The host names of servers that have no IP address in their URL.
pub fn host_names(definitions: &Definitions) -> BTreeSet<Arc<str>> {
    let balancers = definitions
        .services
        .values()
        .filter_map(|service| service.object.kind.balancer());
    let authorities =
        definitions
            .middlewares
            .values()
            .filter_map(|middleware| match &middleware.object.value {
                Middleware::ForwardAuth(auth) => Some(&auth.address),
                _ => None,
            });
    let urls = balancers
        .flat_map(|balancer| &balancer.servers)
        .map(|server| &server.url)
        .chain(authorities)
        .filter_map(|url| ServerUrl::parse(url).ok());
    urls.filter(|url| url.ip().is_none())
        .map(|url| Arc::from(&*url.host))
        .collect()
}

fn pair(certificate: &Certificate) -> [&FileOrContent; 2] {
    [&certificate.cert_file, &certificate.key_file]
}
