//! The operator's HTTP endpoints: API, ping, metrics.
