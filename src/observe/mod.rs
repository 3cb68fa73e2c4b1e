//! Metrics, access log, structured log.
