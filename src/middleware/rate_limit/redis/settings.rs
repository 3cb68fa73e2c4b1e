//! `rateLimit.redis` as checked: where Redis is, and how it is reached.

use std::{fmt, fmt::Write, num::NonZeroUsize, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisResult, TlsCertificates,
    cluster::{ClusterClient, TlsMode},
};

use crate::{
    config::{
        routing::{OnError, RateLimitRedis as Config, RedisTls},
        units::{FileOrContent, Secret, Span},
    },
    middleware::{ReadFile, report::Report},
};

/// Where Redis is and how it is reached. Equal settings share everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// The limiter's qualified name.
    pub(super) name: Arc<str>,
    endpoints: Vec<(String, u16)>,
    username: String,
    password: Secret,
    db: i64,
    tls: Option<Tls>,
    pub(super) patience: Duration,
    pub(super) dial_patience: Duration,
    pub(super) on_error: OnError,
    /// 0 if they are to be counted.
    pub(super) instances: u32,
}

/// PEM texts.
#[derive(Clone, PartialEq, Eq)]
struct Tls {
    ca: Option<String>,
    certificate: Option<(String, String)>,
    insecure: bool,
}

/// Makes connections.
pub(super) enum Dialler {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
}

impl Settings {
    pub(super) fn build(
        config: &Config,
        read: ReadFile<'_>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let endpoints = endpoints(config, report);
        let answer = patience(config.read_timeout, 3, "readTimeout", report);
        patience(config.write_timeout, 3, "writeTimeout", report)?;
        let dial = patience(config.dial_timeout, 5, "dialTimeout", report);
        if config.db < 0 {
            report.error("redis.db", "must not be negative");
            return None;
        }
        if config.db > 0 && config.endpoints.len() > 1 {
            report.warning("redis.db", "is not used: a cluster has one database");
        }
        let tls = match &config.tls {
            None => None,
            Some(tls) => Some(Tls::build(tls, read, report)?),
        };
        let settings = Self {
            name: report.name().into(),
            endpoints: endpoints?,
            username: config.username.clone(),
            password: config.password.clone(),
            db: config.db,
            tls,
            patience: answer?,
            dial_patience: dial?,
            on_error: config.on_error,
            instances: config.instances,
        };
        if !settings.wants_system_roots()
            && let Err(error) = settings.dialler()
        {
            report.error("redis", format!("cannot be used: {error}"));
            return None;
        }
        Some(settings)
    }

    /// Whether making a connection reads the system's certificates from disk.
    pub(super) fn wants_system_roots(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.ca.is_none() && !tls.insecure)
    }

    pub(super) fn dialler(&self) -> RedisResult<Dialler> {
        let nodes = self
            .endpoints
            .iter()
            .map(|(host, port)| self.node(host, *port));
        let mut nodes = nodes.collect::<RedisResult<Vec<ConnectionInfo>>>()?;
        if nodes.len() > 1 {
            let cluster = self.cluster(nodes)?;
            return Ok(Dialler::Cluster(Box::new(cluster)));
        }
        let node = nodes.remove(0);
        let client = match &self.tls {
            Some(tls) => Client::build_with_tls(node, tls.certificates())?,
            None => Client::open(node)?,
        };
        Ok(Dialler::Single(Box::new(client)))
    }

    fn node(&self, host: &str, port: u16) -> RedisResult<ConnectionInfo> {
        let host = host.to_owned();
        let address = match &self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(tls) => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: tls.insecure,
                tls_params: None,
            },
        };
        let mut login = RedisConnectionInfo::default().set_db(self.db);
        if !self.username.is_empty() {
            login = login.set_username(&self.username);
        }
        if !self.password.expose().is_empty() {
            login = login.set_password(self.password.expose());
        }
        Ok(address.into_connection_info()?.set_redis_settings(login))
    }

    fn cluster(&self, nodes: Vec<ConnectionInfo>) -> RedisResult<ClusterClient> {
        let nodes = nodes.into_iter().map(|node| match self.db {
            0 => node,
            _ => {
                let login = node.redis_settings().clone().set_db(0);
                node.set_redis_settings(login)
            }
        });
        let mut cluster = ClusterClient::builder(nodes)
            .connection_timeout(self.dial_patience)
            .response_timeout(self.patience)
            .max_connection_attempts(NonZeroUsize::MIN)
            .retries(2);
        if let Some(tls) = &self.tls {
            cluster = cluster
                .tls(match tls.insecure {
                    true => TlsMode::Insecure,
                    false => TlsMode::Secure,
                })
                .certs(tls.certificates());
        }
        if !self.username.is_empty() {
            cluster = cluster.username(&self.username);
        }
        if !self.password.expose().is_empty() {
            cluster = cluster.password(self.password.expose());
        }
        cluster.build()
    }
}

impl Tls {
    fn build(config: &RedisTls, read: ReadFile<'_>, report: &mut Report<'_>) -> Option<Self> {
        let text = |source: &FileOrContent, field: &str, report: &mut Report<'_>| {
            let text = match (source.content(), source.path()) {
                (Some(text), _) => Ok(Some(text.to_owned())),
                (None, Some(path)) => read(&path.to_string_lossy()).map(Some),
                (None, None) => Ok(None),
            };
            text.map_err(|reason| report.error(&format!("redis.tls.{field}"), reason))
                .ok()
        };
        let ca = text(&config.ca, "ca", report);
        let (cert, key) = (
            text(&config.cert, "cert", report),
            text(&config.key, "key", report),
        );
        let certificate = match (cert?, key?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (cert, _) => {
                let (there, missing) = match cert {
                    Some(_) => ("cert", "key"),
                    None => ("key", "cert"),
                };
                let message = format!("is of no use without `{missing}`");
                report.error(&format!("redis.tls.{there}"), message);
                return None;
            }
        };
        Some(Self {
            ca: ca?,
            certificate,
            insecure: config.insecure_skip_verify,
        })
    }

    /// Reads the system's certificates if no others are configured.
    fn certificates(&self) -> TlsCertificates {
        let client_tls = self
            .certificate
            .as_ref()
            .map(|(cert, key)| ClientTlsConfig {
                client_cert: cert.clone().into_bytes(),
                client_key: key.clone().into_bytes(),
            });
        let roots = match (&self.ca, self.insecure) {
            (Some(ca), _) => ca.clone(),
            (None, true) => String::new(),
            (None, false) => system_roots(),
        };
        TlsCertificates {
            client_tls,
            root_cert: Some(roots.into_bytes()),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

fn endpoints(config: &Config, report: &mut Report<'_>) -> Option<Vec<(String, u16)>> {
    if config.endpoints.is_empty() {
        report.error("redis.endpoints", "names no endpoint");
        return None;
    }
    let read = |(index, endpoint): (usize, &String)| {
        let parsed = endpoint.rsplit_once(':').and_then(|(host, port)| {
            let bare = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            let host = bare.unwrap_or(host);
            let usable =
                !host.is_empty() && !host.contains('/') && (bare.is_some() || !host.contains(':'));
            Some((host.to_owned(), port.parse().ok().filter(|_| usable)?))
        });
        if parsed.is_none() {
            let field = format!("redis.endpoints[{index}]");
            report.error_with_hint(
                &field,
                format!("{endpoint:?} is not `host:port`"),
                "an example: `redis:6379`",
            );
        }
        parsed
    };
    let all: Vec<Option<(String, u16)>> = config.endpoints.iter().enumerate().map(read).collect();
    all.into_iter().collect()
}

/// An option's duration; 0 means the default.
fn patience(span: Span, default: u64, option: &str, report: &mut Report<'_>) -> Option<Duration> {
    if span.is_negative() {
        report.error(&format!("redis.{option}"), "must not be negative");
        return None;
    }
    Some(
        span.positive()
            .unwrap_or_else(|| Duration::from_secs(default)),
    )
}

fn system_roots() -> String {
    let found = rustls_native_certs::load_native_certs();
    let mut texts = String::new();
    for certificate in found.certs {
        let text = STANDARD.encode(&certificate);
        write!(
            texts,
            "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"
        )
        .ok();
    }
    texts
}
