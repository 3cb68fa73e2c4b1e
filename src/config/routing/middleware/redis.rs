//! `rateLimit.redis`: buckets that several proxies share.

use serde::{Deserialize, Serialize};

use crate::config::shape::{presence, unset};
use crate::config::units::{FileOrContent, Secret, Span};

/// `rateLimit.redis`: keep the buckets in Redis, where all proxies share them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RateLimitRedis {
    /// `endpoints`: `host:port` each; more than one means a cluster. Default `localhost:6379`.
    pub endpoints: Vec<String>,
    /// `username` to log in with.
    #[serde(skip_serializing_if = "unset")]
    pub username: String,
    /// `password` to log in with.
    #[serde(skip_serializing_if = "unset")]
    pub password: Secret,
    /// `db`: number of the database. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub db: i64,
    /// `tls` towards Redis.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
    /// `poolSize`: accepted; a worker needs one connection. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub pool_size: u32,
    /// `minIdleConns`: accepted; connections stay open. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub min_idle_conns: u32,
    /// `maxActiveConns`: accepted; a worker needs one connection. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub max_active_conns: u32,
    /// `readTimeout`: how long Redis may take to answer. Default 3s.
    pub read_timeout: Span,
    /// `writeTimeout`: accepted; what is not sent in time is not answered in time. Default 3s.
    pub write_timeout: Span,
    /// `dialTimeout`: how long a connection may take. Default 5s.
    pub dial_timeout: Span,
    /// `onError` (Portway): who decides while Redis is away. Default `local`.
    #[serde(skip_serializing_if = "unset")]
    pub on_error: OnError,
    /// `instances` (Portway): how many proxies share the limit; 0 counts them. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub instances: u32,
}

impl Default for RateLimitRedis {
    fn default() -> Self {
        Self {
            endpoints: vec!["localhost:6379".to_owned()],
            username: String::new(),
            password: Secret::default(),
            db: 0,
            tls: None,
            pool_size: 0,
            min_idle_conns: 0,
            max_active_conns: 0,
            read_timeout: Span::from_secs(3),
            write_timeout: Span::from_secs(3),
            dial_timeout: Span::from_secs(5),
            on_error: OnError::default(),
            instances: 0,
        }
    }
}

/// What happens to requests while Redis does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// This proxy's share of the limit holds.
    #[default]
    Local,
    /// All are refused.
    Deny,
    /// All pass.
    Allow,
}

impl OnError {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }
}

/// `rateLimit.redis.tls`: TLS towards Redis.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RedisTls {
    /// `ca` that signed the certificate of Redis. Default: the system's.
    #[serde(skip_serializing_if = "unset")]
    pub ca: FileOrContent,
    /// `cert` shown to Redis.
    #[serde(skip_serializing_if = "unset")]
    pub cert: FileOrContent,
    /// `key` of that certificate.
    #[serde(skip_serializing_if = "unset")]
    pub key: FileOrContent,
    /// `insecureSkipVerify`: accept any certificate. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub insecure_skip_verify: bool,
}
