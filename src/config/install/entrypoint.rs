//! `entryPoints.NAME`: one door.

use serde::{Deserialize, Serialize};

use super::Opaque;
use crate::config::routing::{RouterTls, TraceVerbosity};
use crate::config::shape::{presence, unset};
use crate::config::units::{Address, Cidr, Protocol, Span};

/// `entryPoints.NAME`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryPoint {
    /// `address`: `[host]:port[/tcp|/udp]`. Default: a port chosen by the system.
    #[serde(skip_serializing_if = "Address::is_empty")]
    pub address: Address,
    /// `allowACMEByPass`: user routers may answer ACME challenges here. Default false.
    #[serde(rename = "allowACMEByPass", skip_serializing_if = "unset")]
    pub allow_acme_by_pass: bool,
    /// `reusePort`: several processes may listen on the address. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub reuse_port: bool,
    /// `asDefault`: routers without `entryPoints` use the marked ones only. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub as_default: bool,
    /// `transport`: timeouts and limits of connections.
    pub transport: Transport,
    /// `proxyProtocol`: absent means that no PROXY header is read.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `forwardedHeaders`: whose X-Forwarded-* are believed.
    pub forwarded_headers: ForwardedHeaders,
    /// `http`: what every HTTP router here gets.
    pub http: EntryPointHttp,
    /// `http2`.
    pub http2: EntryPointHttp2,
    /// `http3`: not acted on yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http3: Option<Opaque>,
    /// `udp`: not acted on yet.
    pub udp: UdpOptions,
    /// `observability`: defaults for the routers here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability: Option<ObservabilityDefaults>,
}

impl EntryPoint {
    /// Whether it carries UDP.
    pub fn is_udp(&self) -> bool {
        self.address.protocol == Protocol::Udp
    }
}

/// `entryPoints.NAME.transport`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Transport {
    /// `lifeCycle`: the orderly end.
    pub life_cycle: Lifecycle,
    /// `respondingTimeouts`: towards clients.
    pub responding_timeouts: RespondingTimeouts,
    /// `keepAliveMaxTime`: age of a connection after which the next answer closes it, 0 for no limit. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub keep_alive_max_time: Span,
    /// `keepAliveMaxRequests`: the answer with this number closes the connection, 0 for no limit. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub keep_alive_max_requests: u64,
    /// `maxConnections` (Portway): open client connections of the entry point, 0 for what the file-descriptor limit allows. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub max_connections: usize,
}

/// `entryPoints.NAME.transport.lifeCycle`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Lifecycle {
    /// `requestAcceptGraceTimeout`: how long to go on accepting after the stop signal. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub request_accept_grace_timeout: Span,
    /// `graceTimeOut`: how long requests in flight may take after that. Default 10s.
    pub grace_time_out: Span,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            request_accept_grace_timeout: Span::ZERO,
            grace_time_out: Span::from_secs(10),
        }
    }
}

/// `entryPoints.NAME.transport.respondingTimeouts`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RespondingTimeouts {
    /// `readTimeout`: whole request including its body, 0 for no limit. Honoured only when the user sets it; see `headerTimeout` and
    /// `bodyProgressTimeout`, which stand in otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout: Option<Span>,
    /// `writeTimeout`: whole answer, 0 for no limit. Default 0.
    #[serde(skip_serializing_if = "unset")]
    pub write_timeout: Span,
    /// `idleTimeout`: a connection without a request, 0 for no limit. Default 180s.
    pub idle_timeout: Span,
    /// `headerTimeout` (Portway): total time for a request head, 0 for no limit. Default 10s.
    pub header_timeout: Span,
    /// `bodyProgressTimeout` (Portway): a body must go on by at least 1 KiB in this time, 0 for no limit. Default 30s.
    pub body_progress_timeout: Span,
    /// `halfClosedTimeout` (Portway): a tunnel that one side has closed must carry bytes of the other in this time, 0 for no limit.
    /// Default 30s.
    pub half_closed_timeout: Span,
}

impl Default for RespondingTimeouts {
    fn default() -> Self {
        Self {
            read_timeout: None,
            write_timeout: Span::ZERO,
            idle_timeout: Span::from_secs(180),
            header_timeout: Span::from_secs(10),
            body_progress_timeout: Span::from_secs(30),
            half_closed_timeout: Span::from_secs(30),
        }
    }
}

/// `entryPoints.NAME.proxyProtocol`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// `insecure`: believe the PROXY header of anyone. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub insecure: bool,
    /// `trustedIPs`: whose PROXY header is believed.
    #[serde(rename = "trustedIPs", skip_serializing_if = "unset")]
    pub trusted_ips: Vec<Cidr>,
}

/// `entryPoints.NAME.forwardedHeaders`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ForwardedHeaders {
    /// `insecure`: believe anyone. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub insecure: bool,
    /// `trustedIPs`: who is believed.
    #[serde(rename = "trustedIPs", skip_serializing_if = "unset")]
    pub trusted_ips: Vec<Cidr>,
    /// `connection`: headers named by `Connection` that middlewares may still see.
    #[serde(skip_serializing_if = "unset")]
    pub connection: Vec<String>,
    /// `notAppendXForwardedFor`: leave X-Forwarded-For as it came. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub not_append_x_forwarded_for: bool,
}

/// `entryPoints.NAME.http`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryPointHttp {
    /// `redirections`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirections: Option<Redirections>,
    /// `middlewares`: run before those of each router.
    #[serde(skip_serializing_if = "unset")]
    pub middlewares: Vec<String>,
    /// `tls`: given whole to routers without their own.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouterTls>,
    /// `encodeQuerySemicolons`: `;` in the query becomes `%3B` instead of `&`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub encode_query_semicolons: bool,
    /// `sanitizePath`: resolve dot segments and double slashes. Default true.
    pub sanitize_path: bool,
    /// `encodedCharacters`: which encoded characters a path may hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoded_characters: Option<EncodedCharacters>,
    /// `maxHeaderBytes`: size of a request head. Default 1048576.
    pub max_header_bytes: u32,
    /// `aliasHeadersStrategy`: what to do with header names that look like another after `_` and `.` are read as `-`. Default keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias_headers_strategy: Option<AliasStrategy>,
    /// `underscoreHeadersStrategy`: the same for `_` only; deprecated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub underscore_headers_strategy: Option<AliasStrategy>,
}

impl Default for EntryPointHttp {
    fn default() -> Self {
        Self {
            redirections: None,
            middlewares: Vec::new(),
            tls: None,
            encode_query_semicolons: false,
            sanitize_path: true,
            encoded_characters: None,
            max_header_bytes: 1 << 20,
            alias_headers_strategy: None,
            underscore_headers_strategy: None,
        }
    }
}

/// `entryPoints.NAME.http.redirections`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Redirections {
    /// `entryPoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_point: Option<RedirectEntryPoint>,
}

/// `entryPoints.NAME.http.redirections.entryPoint`: send everything to another entry point.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RedirectEntryPoint {
    /// `to`: an entry point's name, or a port such as `:443`.
    pub to: String,
    /// `scheme`. Default `https`.
    pub scheme: String,
    /// `permanent`: 301/308 instead of 302/307. Default true.
    pub permanent: bool,
    /// `priority` of the redirecting router. Default: the largest but one.
    pub priority: i64,
}

impl Default for RedirectEntryPoint {
    fn default() -> Self {
        Self {
            to: String::new(),
            scheme: "https".to_owned(),
            permanent: true,
            priority: i64::MAX - 1,
        }
    }
}

/// `entryPoints.NAME.http.encodedCharacters`: false refuses paths that hold the character in its encoded form. All true by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "seven independent switches of the configuration language"
)]
pub struct EncodedCharacters {
    /// `allowEncodedSlash`: `%2F`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_slash: bool,
    /// `allowEncodedBackSlash`: `%5C`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_back_slash: bool,
    /// `allowEncodedNullCharacter`: `%00`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_null_character: bool,
    /// `allowEncodedSemicolon`: `%3B`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_semicolon: bool,
    /// `allowEncodedPercent`: `%25`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_percent: bool,
    /// `allowEncodedQuestionMark`: `%3F`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_question_mark: bool,
    /// `allowEncodedHash`: `%23`.
    #[serde(skip_serializing_if = "unset")]
    pub allow_encoded_hash: bool,
}

impl Default for EncodedCharacters {
    fn default() -> Self {
        Self {
            allow_encoded_slash: true,
            allow_encoded_back_slash: true,
            allow_encoded_null_character: true,
            allow_encoded_semicolon: true,
            allow_encoded_percent: true,
            allow_encoded_question_mark: true,
            allow_encoded_hash: true,
        }
    }
}

/// What to do with a header whose name is an alias of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AliasStrategy {
    /// Pass it on.
    Keep,
    /// Remove it before routing.
    Delete,
    /// Answer 400.
    Reject,
}

/// `entryPoints.NAME.http2`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryPointHttp2 {
    /// `maxConcurrentStreams` of one connection. Default 250.
    pub max_concurrent_streams: u32,
    /// `maxDecoderHeaderTableSize` in bytes. Default 4096.
    pub max_decoder_header_table_size: u32,
    /// `maxEncoderHeaderTableSize` in bytes. Default 4096.
    pub max_encoder_header_table_size: u32,
}

impl Default for EntryPointHttp2 {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 250,
            max_decoder_header_table_size: 4096,
            max_encoder_header_table_size: 4096,
        }
    }
}

/// `entryPoints.NAME.udp`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UdpOptions {
    /// `timeout` of an idle session. Default 3s.
    pub timeout: Span,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            timeout: Span::from_secs(3),
        }
    }
}

/// `entryPoints.NAME.observability`: what routers here report unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObservabilityDefaults {
    /// `accessLogs`. Default true.
    pub access_logs: bool,
    /// `metrics`. Default true.
    pub metrics: bool,
    /// `tracing`. Default true.
    pub tracing: bool,
    /// `traceVerbosity`. Default minimal.
    pub trace_verbosity: TraceVerbosity,
}

impl Default for ObservabilityDefaults {
    fn default() -> Self {
        Self {
            access_logs: true,
            metrics: true,
            tracing: true,
            trace_verbosity: TraceVerbosity::Minimal,
        }
    }
}
