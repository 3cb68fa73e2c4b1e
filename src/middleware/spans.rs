//! What a trace calls the steps of a plan.

use super::Middleware;

impl Middleware {
    /// The name of its span, as Traefik has it; `None` where Traefik makes none.
    pub fn span(&self) -> Option<&'static str> {
        Some(match self {
            Self::AddPrefix(_) => "AddPrefix",
            Self::BasicAuth(_) => "BasicAuth",
            Self::Buffering(_) => "Buffer",
            Self::CircuitBreaker(_) => "CircuitBreaker",
            Self::Compress(_) => "Compress",
            Self::DigestAuth(_) => "digestAuth",
            Self::Errors(_) => "CustomError",
            Self::ForwardAuth(_) => "ForwardAuth",
            Self::Headers(_) => "Headers",
            Self::InFlight(_) => "InFlightReq",
            Self::IpAllow(_) => "IPAllowLister",
            Self::PassTlsClientCert(_) => "PassClientTLSCert",
            Self::RateLimit(_) => "RateLimiter",
            Self::Redirect(it) if it.is_by_regex() => "Redirect",
            Self::ReplacePath(_) => "ReplacePath",
            Self::ReplacePathRegex(_) => "ReplacePathRegex",
            Self::Retry(_) => "Retry",
            Self::StripPrefix(_) => "StripPrefix",
            Self::StripPrefixRegex(_) => "StripPrefixRegex",
            _ => return None,
        })
    }

    /// What went wrong when this one answers itself; `None` if that may be all right.
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::BasicAuth(_) => Some("Authentication failed"),
            Self::DigestAuth(_) => Some("Digest authentication failed"),
            Self::IpAllow(_) => Some("Rejecting IP"),
            _ => None,
        }
    }
}
