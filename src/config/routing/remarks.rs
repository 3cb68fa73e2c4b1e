//! What is worth saying about an object that can be read: options without effect, old names.

use super::{
    Certificate, Headers, Middleware, Router, ServersTransport, Service, ServiceKind, TlsOptions,
    TlsStore,
};
use crate::config::decode::join;
use crate::config::diagnostic::Diagnostic;
use crate::config::shape::{Opaque, Placed};

/// An object that may deserve remarks.
pub(super) trait Remarks: Sized {
    /// Adds what there is to say; `path` is the object's.
    fn remarks(_object: &Placed<Self>, _path: &str, _diagnostics: &mut Vec<Diagnostic>) {}
}

impl Remarks for ServersTransport {}
impl Remarks for Certificate {}
impl Remarks for TlsStore {}
impl Remarks for Opaque {}

impl Remarks for Service {
    fn remarks(service: &Placed<Self>, path: &str, diagnostics: &mut Vec<Diagnostic>) {
        const FIELD: &str = "loadBalancer.responseForwarding.flushInterval";
        if let ServiceKind::LoadBalancer(balancer) = &service.kind
            && balancer
                .response_forwarding
                .flush_interval
                .positive()
                .is_some()
            && service.places.wrote(FIELD)
        {
            let message = "has no effect: what a server writes is passed on at once";
            diagnostics.push(remark(service, path, FIELD, message));
        }
    }
}

impl Remarks for Router {}

impl Remarks for Middleware {
    fn remarks(middleware: &Placed<Self>, path: &str, diagnostics: &mut Vec<Diagnostic>) {
        match &middleware.value {
            Self::IpWhiteList(_) => {
                let old = remark(
                    middleware,
                    path,
                    "ipWhiteList",
                    "is the old name of `ipAllowList`",
                );
                diagnostics.push(old.with_hint("rename it to `ipAllowList`"));
            }
            Self::Headers(headers) => {
                for (field, hint) in inert(headers) {
                    let field = format!("headers.{field}");
                    let remark = remark(middleware, path, &field, NO_EFFECT);
                    diagnostics.push(remark.with_hint(hint));
                }
                if !headers.access_control_allow_origin.is_empty() {
                    const FIELD: &str = "headers.accessControlAllowOrigin";
                    let message = "is the old name of `accessControlAllowOriginList`";
                    let old = remark(middleware, path, FIELD, message);
                    diagnostics.push(old.with_hint("rename it to `accessControlAllowOriginList`"));
                }
            }
            Self::StripPrefix(strip) if strip.force_slash.is_some() => {
                let remark = remark(middleware, path, "stripPrefix.forceSlash", NO_EFFECT);
                diagnostics.push(remark.with_hint("remove it"));
            }
            _ => {}
        }
    }
}

impl Remarks for TlsOptions {
    fn remarks(options: &Placed<Self>, path: &str, diagnostics: &mut Vec<Diagnostic>) {
        if options.prefer_server_cipher_suites {
            let remark = remark(options, path, "preferServerCipherSuites", NO_EFFECT);
            diagnostics.push(remark.with_hint("remove it"));
        }
    }
}

/// Options of `headers` that Traefik 3 accepts and does nothing with, and what to write instead.
fn inert(headers: &Headers) -> Vec<(&'static str, &'static str)> {
    const REDIRECT: &str = "use the `redirectScheme` middleware or the entry point's redirection";
    let given = [
        (
            headers.feature_policy.is_some(),
            "featurePolicy",
            "use `permissionsPolicy`",
        ),
        (headers.ssl_redirect.is_some(), "sslRedirect", REDIRECT),
        (
            headers.ssl_temporary_redirect.is_some(),
            "sslTemporaryRedirect",
            REDIRECT,
        ),
        (
            headers.ssl_host.is_some(),
            "sslHost",
            "use the `redirectRegex` middleware",
        ),
        (
            headers.ssl_force_host.is_some(),
            "sslForceHost",
            "use the `redirectRegex` middleware",
        ),
    ];
    let given = given.into_iter().filter(|(given, ..)| *given);
    given.map(|(_, field, hint)| (field, hint)).collect()
}

fn remark<T>(object: &Placed<T>, path: &str, field: &str, message: &str) -> Diagnostic {
    Diagnostic::warning(object.at(field).clone(), join(path, field), message)
}

const NO_EFFECT: &str = "has no effect";
