//! TLS towards sources, as their `tls` options say.

use std::{io, sync::Arc};

use rustls::ClientConfig;

use crate::{
    config::{install::EngineTls, units::FileOrContent},
    upstream::transport::{KeyPair, TransportSettings, system_roots},
};

/// Reads files: call it on the blocking pool.
pub(super) fn client(options: &EngineTls) -> io::Result<Arc<ClientConfig>> {
    let mut settings = TransportSettings::new("source".into());
    settings.insecure_skip_verify = options.insecure_skip_verify;
    if !options.ca.is_empty() {
        settings.root_cas = vec![pem(&options.ca)?];
    }
    if !options.cert.is_empty() {
        settings.certificates = vec![KeyPair {
            chain: pem(&options.cert)?,
            key: pem(&options.key)?,
        }];
    }
    let transport = settings.build(None, &system_roots().0);
    Ok(Arc::clone(&transport.map_err(io::Error::other)?.tls_http1))
}

fn pem(source: &FileOrContent) -> io::Result<Vec<u8>> {
    match (source.content(), source.path()) {
        (Some(content), _) => Ok(content.as_bytes().to_vec()),
        (None, Some(path)) => std::fs::read(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        (None, None) => Ok(Vec::new()),
    }
}
