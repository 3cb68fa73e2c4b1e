//! TLS of the entry points: certificates and their facts, TLS options, and which of them a connection gets.
//!
//! [`Tls`] is what compile makes of the `tls` section, once per snapshot; an [`SniTable`] is what one entry point does with it.
//! Everything is decided before the swap: a handshake only looks up ready [`rustls::ServerConfig`]s by server name.
//! Nothing here reads files (control does) or owns sockets (the entry point does).

mod accept;
mod certificate;
mod client_auth;
mod finding;
mod hosts;
mod options;
mod selection;
mod staple;
mod subject;
mod suites;
mod table;
#[cfg(test)]
mod tests;
mod tickets;

pub use accept::{AcceptError, accept, session};
pub use certificate::{Certificate, Facts};
pub use finding::Finding;
pub use hosts::{Agreement, Claim, Conflict, Verdict, agree};
pub use options::{DEFAULT_OPTIONS, OptionsSpec};
pub use selection::CertificateTable;
pub use staple::{Staple, Staples};
pub use suites::{Named as NamedSuite, suite as cipher_suite};
pub use table::{Refusal, Selected, SniTable, Tls, TlsInputs};
