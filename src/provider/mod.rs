//! Writers of routing configuration.
