//! `http.middlewares.NAME`: exactly one kind each.

mod buffering;
mod circuit_breaker;
mod content_type;
mod digest_auth;
mod encoded_characters;
mod errors;
mod forward_auth;
mod grpc_web;
mod pass_tls_client_cert;
mod redis;
mod retry;

use std::collections::BTreeMap;

use serde::de;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::buffering::Buffering;
pub use self::errors::Errors;
pub use self::forward_auth::{ForwardAuth, ForwardAuthTls};
pub use self::redis::{OnError, RateLimitRedis, RedisTls};
pub use self::retry::Retry;
use super::Opaque;
use crate::config::shape::{presence, unset};
use crate::config::units::{Cidr, Secret, Span};

pub use circuit_breaker::CircuitBreaker;
pub use content_type::ContentType;
pub use digest_auth::DigestAuth;
pub use encoded_characters::AllowedCharacters;
pub use grpc_web::GrpcWeb;
pub use pass_tls_client_cert::{ClientCertInfo, IssuerInfo, PassTlsClientCert, SubjectInfo};

/// Declares the kinds once: the enum, the form as written, and the names.
macro_rules! kinds {
    (
        supported { $($variant:ident($options:ty) $field:ident $name:literal,)* }
        unsupported { $($other:ident $other_name:literal,)* }
    ) => {
        /// `http.middlewares.NAME`.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Middleware {
            $(
                #[doc = concat!("`", $name, "`.")]
                $variant($options),
            )*
            /// A kind that is known and not acted on yet.
            Unsupported {
                /// Its name in the configuration language.
                kind: &'static str,
                /// Its options as written.
                config: Opaque,
            },
        }

        impl Middleware {
            /// The kind's name in the configuration language, e.g. `stripPrefix`.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                    Self::Unsupported { kind, .. } => kind,
                }
            }
        }

        impl Serialize for Middleware {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(1))?;
                match self {
                    $(Self::$variant(options) => map.serialize_entry($name, options)?,)*
                    Self::Unsupported { kind, config } => map.serialize_entry(kind, config)?,
                }
                map.end()
            }
        }

        /// As written: nothing forbids several kinds yet.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct WrittenMiddleware {
            $(
                #[serde(rename = $name, deserialize_with = "presence")]
                $field: Option<$options>,
            )*
            $(
                #[serde(rename = $other_name)]
                $other: Option<Opaque>,
            )*
        }

        impl WrittenMiddleware {
            fn into_kinds(self) -> Vec<Middleware> {
                let supported = [$(self.$field.map(Middleware::$variant),)*];
                let others = [$(($other_name, self.$other),)*];
                let others = others.into_iter().filter_map(|(kind, config)| {
                    Some(Middleware::Unsupported { kind, config: config? })
                });
                supported.into_iter().flatten().chain(others).collect()
            }
        }
    };
}

kinds! {
    supported {
        AddPrefix(AddPrefix) add_prefix "addPrefix",
        BasicAuth(BasicAuth) basic_auth "basicAuth",
        Buffering(Buffering) buffering "buffering",
        Chain(Chain) chain "chain",
        CircuitBreaker(CircuitBreaker) circuit_breaker "circuitBreaker",
        Compress(Compress) compress "compress",
        ContentType(ContentType) content_type "contentType",
        DigestAuth(DigestAuth) digest_auth "digestAuth",
        EncodedCharacters(AllowedCharacters) encoded_characters "encodedCharacters",
        GrpcWeb(GrpcWeb) grpc_web "grpcWeb",
        Errors(Errors) errors "errors",
        ForwardAuth(Box<ForwardAuth>) forward_auth "forwardAuth",
        Headers(Box<Headers>) headers "headers",
        InFlightReq(InFlightReq) in_flight_req "inFlightReq",
        IpAllowList(IpAllowList) ip_allow_list "ipAllowList",
        IpWhiteList(IpAllowList) ip_white_list "ipWhiteList",
        PassTlsClientCert(PassTlsClientCert) pass_tls_client_cert "passTLSClientCert",
        RateLimit(RateLimit) rate_limit "rateLimit",
        RedirectRegex(RedirectRegex) redirect_regex "redirectRegex",
        RedirectScheme(RedirectScheme) redirect_scheme "redirectScheme",
        ReplacePath(ReplacePath) replace_path "replacePath",
        ReplacePathRegex(ReplacePathRegex) replace_path_regex "replacePathRegex",
        Retry(Retry) retry "retry",
        StripPrefix(StripPrefix) strip_prefix "stripPrefix",
        StripPrefixRegex(StripPrefixRegex) strip_prefix_regex "stripPrefixRegex",
    }
    unsupported {
        plugin "plugin",
    }
}

impl<'de> Deserialize<'de> for Middleware {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(WrittenMiddleware::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl TryFrom<WrittenMiddleware> for Middleware {
    type Error = String;

    fn try_from(written: WrittenMiddleware) -> Result<Self, String> {
        let mut kinds = written.into_kinds();
        match (kinds.pop(), kinds.as_slice()) {
            (Some(kind), []) => Ok(kind),
            (Some(kind), [first, ..]) => Err(format!(
                "a middleware has exactly one kind, found `{}` and `{}`",
                first.kind(),
                kind.kind()
            )),
            (None, _) => Err("a middleware needs a kind, such as `stripPrefix`".to_owned()),
        }
    }
}

/// `addPrefix`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AddPrefix {
    /// `prefix` put before the path; required.
    #[serde(skip_serializing_if = "unset")]
    pub prefix: String,
}

/// `basicAuth`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BasicAuth {
    /// `users`: `name:hash` each.
    #[serde(skip_serializing_if = "unset")]
    pub users: Vec<Secret>,
    /// `usersFile`: one `name:hash` per line.
    #[serde(skip_serializing_if = "unset")]
    pub users_file: String,
    /// `realm`. Empty means `traefik`.
    #[serde(skip_serializing_if = "unset")]
    pub realm: String,
    /// `removeHeader`: do not send Authorization on. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub remove_header: bool,
    /// `headerField`: header that tells the server the user's name.
    #[serde(skip_serializing_if = "unset")]
    pub header_field: String,
}

/// `chain`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Chain {
    /// `middlewares`: names in the order they run.
    #[serde(skip_serializing_if = "unset")]
    pub middlewares: Vec<String>,
}

/// `compress`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Compress {
    /// `excludedContentTypes`: never compressed; not together with `includedContentTypes`.
    #[serde(skip_serializing_if = "unset")]
    pub excluded_content_types: Vec<String>,
    /// `includedContentTypes`: only these are compressed.
    #[serde(skip_serializing_if = "unset")]
    pub included_content_types: Vec<String>,
    /// `minResponseBodyBytes`. 0 means 1024.
    #[serde(skip_serializing_if = "unset")]
    pub min_response_body_bytes: u64,
    /// `encodings` in order of preference. Default gzip, br, zstd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encodings: Option<Vec<Encoding>>,
    /// `defaultEncoding` for clients that do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_encoding: Option<Encoding>,
}

impl Default for Compress {
    fn default() -> Self {
        Self {
            excluded_content_types: Vec::new(),
            included_content_types: Vec::new(),
            min_response_body_bytes: 0,
            encodings: Some(vec![Encoding::Gzip, Encoding::Br, Encoding::Zstd]),
            default_encoding: None,
        }
    }
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// gzip.
    Gzip,
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
}

/// `headers`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the switches of the configuration language"
)]
pub struct Headers {
    /// `customRequestHeaders`: set on the request; an empty value removes.
    #[serde(skip_serializing_if = "unset")]
    pub custom_request_headers: BTreeMap<String, String>,
    /// `customResponseHeaders`: set on the answer; an empty value removes.
    #[serde(skip_serializing_if = "unset")]
    pub custom_response_headers: BTreeMap<String, String>,
    /// `accessControlAllowCredentials`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub access_control_allow_credentials: bool,
    /// `accessControlAllowHeaders`.
    #[serde(skip_serializing_if = "unset")]
    pub access_control_allow_headers: Vec<String>,
    /// `accessControlAllowMethods`.
    #[serde(skip_serializing_if = "unset")]
    pub access_control_allow_methods: Vec<String>,
    /// `accessControlAllowOriginList`: exact origins or `*`.
    #[serde(skip_serializing_if = "unset")]
    pub access_control_allow_origin_list: Vec<String>,
    /// `accessControlAllowOrigin`: the name of Traefik 2 for a list of one.
    #[serde(skip_serializing_if = "unset")]
    pub access_control_allow_origin: Vec<String>,
    /// `accessControlAllowOriginListRegex`.
    #[serde(skip_serializing_if = "unset")]
    pub access_control_allow_origin_list_regex: Vec<String>,
    /// `accessControlExposeHeaders`.
    #[serde(skip_serializing_if = "unset")]
    pub access_control_expose_headers: Vec<String>,
    /// `accessControlMaxAge` in seconds. Default 0: left out.
    #[serde(skip_serializing_if = "unset")]
    pub access_control_max_age: i64,
    /// `addVaryHeader`: add `Origin` to Vary. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub add_vary_header: bool,
    /// `allowedHosts`: other hosts are refused.
    #[serde(skip_serializing_if = "unset")]
    pub allowed_hosts: Vec<String>,
    /// `hostsProxyHeaders`: headers that may hold the host for `allowedHosts`.
    #[serde(skip_serializing_if = "unset")]
    pub hosts_proxy_headers: Vec<String>,
    /// `sslProxyHeaders`: header values that mean HTTPS.
    #[serde(skip_serializing_if = "unset")]
    pub ssl_proxy_headers: BTreeMap<String, String>,
    /// `stsSeconds`: Strict-Transport-Security, 0 for none.
    #[serde(skip_serializing_if = "unset")]
    pub sts_seconds: i64,
    /// `stsIncludeSubdomains`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub sts_include_subdomains: bool,
    /// `stsPreload`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub sts_preload: bool,
    /// `forceSTSHeader`: also without HTTPS. Default false.
    #[serde(rename = "forceSTSHeader", skip_serializing_if = "unset")]
    pub force_sts_header: bool,
    /// `frameDeny`: X-Frame-Options `DENY`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub frame_deny: bool,
    /// `customFrameOptionsValue`: wins over `frameDeny`.
    #[serde(skip_serializing_if = "unset")]
    pub custom_frame_options_value: String,
    /// `contentTypeNosniff`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub content_type_nosniff: bool,
    /// `browserXssFilter`. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub browser_xss_filter: bool,
    /// `customBrowserXSSValue`: wins over `browserXssFilter`.
    #[serde(rename = "customBrowserXSSValue", skip_serializing_if = "unset")]
    pub custom_browser_xss_value: String,
    /// `contentSecurityPolicy`; `$NONCE` is replaced.
    #[serde(skip_serializing_if = "unset")]
    pub content_security_policy: String,
    /// `contentSecurityPolicyReportOnly`; `$NONCE` is replaced.
    #[serde(skip_serializing_if = "unset")]
    pub content_security_policy_report_only: String,
    /// `publicKey`: Public-Key-Pins, HTTPS only.
    #[serde(skip_serializing_if = "unset")]
    pub public_key: String,
    /// `referrerPolicy`.
    #[serde(skip_serializing_if = "unset")]
    pub referrer_policy: String,
    /// `permissionsPolicy`.
    #[serde(skip_serializing_if = "unset")]
    pub permissions_policy: String,
    /// `isDevelopment`: no allowed hosts, no STS, no HPKP. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub is_development: bool,
    /// `featurePolicy`: without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_policy: Option<String>,
    /// `sslRedirect`: without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_redirect: Option<bool>,
    /// `sslTemporaryRedirect`: without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_temporary_redirect: Option<bool>,
    /// `sslHost`: without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_host: Option<String>,
    /// `sslForceHost`: without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_force_host: Option<bool>,
}

/// `inFlightReq`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InFlightReq {
    /// `amount` of requests at once; 0 refuses all.
    #[serde(skip_serializing_if = "unset")]
    pub amount: i64,
    /// `sourceCriterion`: who is counted together. Default: the request's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_criterion: Option<SourceCriterion>,
}

/// `ipAllowList`, and `ipWhiteList`, its old name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpAllowList {
    /// `sourceRange`: who may pass; required.
    #[serde(skip_serializing_if = "unset")]
    pub source_range: Vec<Cidr>,
    /// `ipStrategy`: which address counts. Default: the peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_strategy: Option<IpStrategy>,
    /// `rejectStatusCode`. 0 means 403.
    #[serde(skip_serializing_if = "unset")]
    pub reject_status_code: u16,
}

/// `ipStrategy`: which address is the client's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpStrategy {
    /// `depth`: entry of X-Forwarded-For, counted from the right; 0 or less for none. Wins over `excludedIPs`.
    #[serde(skip_serializing_if = "unset")]
    pub depth: i64,
    /// `excludedIPs`: the first entry from the right outside of these.
    #[serde(rename = "excludedIPs", skip_serializing_if = "unset")]
    pub excluded_ips: Vec<Cidr>,
    /// `ipv6Subnet`: bits of an IPv6 address that count, 1 to 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_subnet: Option<i64>,
}

/// `sourceCriterion`: exactly one of the three.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SourceCriterion {
    /// `ipStrategy`: by client address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_strategy: Option<IpStrategy>,
    /// `requestHeaderName`: by a header's first value.
    #[serde(skip_serializing_if = "unset")]
    pub request_header_name: String,
    /// `requestHost`: by Host. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub request_host: bool,
}

/// `rateLimit`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RateLimit {
    /// `average`: requests per `period`; 0 for no limit.
    #[serde(skip_serializing_if = "unset")]
    pub average: i64,
    /// `period`. Default 1s.
    pub period: Span,
    /// `burst`: requests at once. Default 1.
    pub burst: i64,
    /// `sourceCriterion`: who is counted together. Default: the peer's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_criterion: Option<SourceCriterion>,
    /// `redis`: keep the buckets there, so that several proxies share them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Box<RateLimitRedis>>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            average: 0,
            period: Span::from_secs(1),
            burst: 1,
            source_criterion: None,
            redis: None,
        }
    }
}

/// `redirectRegex`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RedirectRegex {
    /// `regex` on the whole URL.
    #[serde(skip_serializing_if = "unset")]
    pub regex: String,
    /// `replacement`, with `$1` or `${name}`.
    #[serde(skip_serializing_if = "unset")]
    pub replacement: String,
    /// `permanent`: 301/308 instead of 302/307. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub permanent: bool,
}

/// `redirectScheme`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RedirectScheme {
    /// `scheme`; required.
    #[serde(skip_serializing_if = "unset")]
    pub scheme: String,
    /// `port`. Empty means the scheme's.
    #[serde(skip_serializing_if = "unset")]
    pub port: String,
    /// `permanent`: 301/308 instead of 302/307. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub permanent: bool,
}

/// `replacePath`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReplacePath {
    /// `path`.
    #[serde(skip_serializing_if = "unset")]
    pub path: String,
}

/// `replacePathRegex`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReplacePathRegex {
    /// `regex` on the escaped path.
    #[serde(skip_serializing_if = "unset")]
    pub regex: String,
    /// `replacement`, with `$1` or `${name}`.
    #[serde(skip_serializing_if = "unset")]
    pub replacement: String,
}

/// `stripPrefix`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StripPrefix {
    /// `prefixes`: the first that fits is removed.
    #[serde(skip_serializing_if = "unset")]
    pub prefixes: Vec<String>,
    /// `forceSlash`: deprecated, without effect on what is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_slash: Option<bool>,
}

/// `stripPrefixRegex`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StripPrefixRegex {
    /// `regex`: expressions that match at the path's start.
    #[serde(skip_serializing_if = "unset")]
    pub regex: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_middleware_has_exactly_one_kind() {
        let read = |json: &str| serde_json::from_str::<Middleware>(json).map_err(|e| e.to_string());
        assert!(read("{}").unwrap_err().contains("needs a kind"));
        let two = read(r#"{"addPrefix": {"prefix": "/a"}, "errors": {"query": "/"}}"#).unwrap_err();
        assert!(two.contains("`addPrefix` and `errors`"), "{two}");
        assert_eq!(
            read(r#"{"plugin": {"mine": {}}}"#).unwrap().kind(),
            "plugin"
        );
        let prefix = read(r#"{"addPrefix": {"prefix": "/a"}}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&prefix).unwrap(),
            r#"{"addPrefix":{"prefix":"/a"}}"#
        );
    }
}
