//! Options of `forwardAuth`.

use serde::{Deserialize, Serialize};

use crate::config::{
    shape::{presence, unset},
    units::FileOrContent,
};

/// `forwardAuth`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ForwardAuth {
    /// `address` of the service that is asked; required.
    #[serde(skip_serializing_if = "unset")]
    pub address: String,
    /// `tls` towards that service.
    #[serde(deserialize_with = "presence", skip_serializing_if = "Option::is_none")]
    pub tls: Option<ForwardAuthTls>,
    /// `trustForwardHeader`: whether it is told the X-Forwarded fields of the request. Default: some of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_forward_header: Option<bool>,
    /// `authResponseHeaders`: header fields of its answer that the server gets, and that no client can set.
    #[serde(skip_serializing_if = "unset")]
    pub auth_response_headers: Vec<String>,
    /// `authResponseHeadersRegex`: as `authResponseHeaders`, by an expression on the name.
    #[serde(skip_serializing_if = "unset")]
    pub auth_response_headers_regex: String,
    /// `authRequestHeaders`: the only header fields of the request that it sees. Default: all.
    #[serde(skip_serializing_if = "unset")]
    pub auth_request_headers: Vec<String>,
    /// `addAuthCookiesToResponse`: cookies of its answer that the client gets.
    #[serde(skip_serializing_if = "unset")]
    pub add_auth_cookies_to_response: Vec<String>,
    /// `headerField` of its answer that holds the user's name, for the access log.
    #[serde(skip_serializing_if = "unset")]
    pub header_field: String,
    /// `forwardBody`: send it the request's body. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub forward_body: bool,
    /// `maxBodySize`: requests with a larger body are refused; negative for the most we keep. Default -1.
    pub max_body_size: i64,
    /// `maxResponseBodySize`: a larger answer refuses the request; negative for no limit. Default -1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_response_body_size: Option<i64>,
    /// `preserveLocationHeader`: pass relative redirects on as they are. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub preserve_location_header: bool,
    /// `preserveRequestMethod`: ask with the request's method, not with GET. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub preserve_request_method: bool,
    /// `authSigninURL`: where to send clients that get a 401.
    #[serde(rename = "authSigninURL", skip_serializing_if = "unset")]
    pub auth_signin_url: String,
}

impl Default for ForwardAuth {
    fn default() -> Self {
        Self {
            address: String::new(),
            tls: None,
            trust_forward_header: None,
            auth_response_headers: Vec::new(),
            auth_response_headers_regex: String::new(),
            auth_request_headers: Vec::new(),
            add_auth_cookies_to_response: Vec::new(),
            header_field: String::new(),
            forward_body: false,
            max_body_size: -1,
            max_response_body_size: None,
            preserve_location_header: false,
            preserve_request_method: false,
            auth_signin_url: String::new(),
        }
    }
}

/// `forwardAuth.tls`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ForwardAuthTls {
    /// `ca`: replaces the system's roots when set.
    #[serde(skip_serializing_if = "FileOrContent::is_empty")]
    pub ca: FileOrContent,
    /// `cert` shown to the service.
    #[serde(skip_serializing_if = "FileOrContent::is_empty")]
    pub cert: FileOrContent,
    /// `key` of that certificate.
    #[serde(skip_serializing_if = "FileOrContent::is_empty")]
    pub key: FileOrContent,
    /// `insecureSkipVerify`: accept any certificate. Default false.
    #[serde(skip_serializing_if = "unset")]
    pub insecure_skip_verify: bool,
    /// `caOptional`: without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_optional: Option<bool>,
}
