//! Certificates that routers ask for.

use std::sync::Arc;

/// A certificate that a router wants to have from a certificates resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Name of the resolver.
    pub resolver: Arc<str>,
    /// The names it must hold, lower-case, each once; the first is the main one.
    pub names: Vec<String>,
    /// Who asks first.
    pub router: Arc<str>,
}
