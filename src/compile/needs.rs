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
        routing::{Certificate, Middleware, ServiceKind},
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
    let users =
        definitions
            .middlewares
            .values()
            .filter_map(|middleware| match &middleware.object.value {
                Middleware::BasicAuth(auth) => Some(&auth.users_file),
                Middleware::DigestAuth(auth) => Some(&auth.users_file),
                _ => None,
            });
    let users = users.filter(|path| !path.is_empty()).map(Path::new);
    let paths = sources.into_iter().filter_map(FileOrContent::path);
    paths.chain(users).map(Path::to_owned).collect()
}

/// The host names of servers that have no IP address in their URL.
pub fn host_names(definitions: &Definitions) -> BTreeSet<Arc<str>> {
    let balancers =
        definitions
            .services
            .values()
            .filter_map(|service| match &service.object.kind {
                ServiceKind::LoadBalancer(balancer) => Some(balancer),
                ServiceKind::Unsupported { .. } => None,
            });
    let urls = balancers
        .flat_map(|balancer| &balancer.servers)
        .filter_map(|server| ServerUrl::parse(&server.url).ok());
    urls.filter(|url| url.ip().is_none())
        .map(|url| Arc::from(&*url.host))
        .collect()
}

fn pair(certificate: &Certificate) -> [&FileOrContent; 2] {
    [&certificate.cert_file, &certificate.key_file]
}
