//! Why a request failed: who is to blame, whether another server may be tried, and what the client is told.

use std::fmt;

use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};

use super::{Body, Response};

/// The reason a request failed. Small and `Copy`, mapped once to a status, a metric label and a log reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub blame: Blame,
    pub kind: FaultKind,
}

/// Whose doing a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Client,
    Us,
    Server,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The server could not be reached: refused, unreachable, name not resolved. Nothing was sent.
    Connect,
    /// No connection within the dial timeout. Nothing was sent.
    ConnectTimeout,
    /// The TLS handshake with the server failed. Nothing was sent.
    Tls,
    /// A reused connection closed before the first byte of the answer.
    StaleConnection,
    /// The server closed the connection before it answered, or a stream was reset.
    Reset,
    /// The server did not answer in time.
    ResponseTimeout,
    /// The server let a body stand still for too long.
    IdleTimeout,
    /// Everything together took too long.
    TotalTimeout,
    /// The server's answer is not HTTP, or its framing is in doubt.
    BadResponse,
    /// The answer's head is larger than allowed.
    ResponseTooLarge,
    /// The client went away.
    ClientGone,
    /// The client sent no body bytes for too long.
    BodyTimeout,
    /// The client's body is malformed.
    BadBody,
    /// No server is usable.
    NoServer,
    /// A limit of ours was reached (retry budget, connection limit).
    Overload,
    /// A defect of ours.
    Internal,
}

impl Fault {
    /// A fault of the server.
    pub const fn server(kind: FaultKind) -> Self {
        Self {
            blame: Blame::Server,
            kind,
        }
    }

    /// A fault of the client.
    pub const fn client(kind: FaultKind) -> Self {
        Self {
            blame: Blame::Client,
            kind,
        }
    }

    /// A fault of ours.
    pub const fn ours(kind: FaultKind) -> Self {
        Self {
            blame: Blame::Us,
            kind,
        }
    }

    /// Whether nothing of the request can have reached the application.
    pub const fn nothing_sent(self) -> bool {
        matches!(
            self.kind,
            FaultKind::Connect | FaultKind::ConnectTimeout | FaultKind::Tls
        )
    }

    /// The status the client is told.
    pub const fn status(self) -> StatusCode {
        match self.kind {
            FaultKind::Connect | FaultKind::StaleConnection | FaultKind::Reset | FaultKind::Tls => {
                StatusCode::BAD_GATEWAY
            }
            FaultKind::BadResponse | FaultKind::ResponseTooLarge => StatusCode::BAD_GATEWAY,
            FaultKind::ConnectTimeout
            | FaultKind::ResponseTimeout
            | FaultKind::IdleTimeout
            | FaultKind::TotalTimeout => StatusCode::GATEWAY_TIMEOUT,
            FaultKind::ClientGone => CLIENT_CLOSED_REQUEST,
            FaultKind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            FaultKind::BadBody => StatusCode::BAD_REQUEST,
            FaultKind::NoServer | FaultKind::Overload => StatusCode::SERVICE_UNAVAILABLE,
            FaultKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// One word for logs and metric labels.
    pub const fn reason(self) -> &'static str {
        match self.kind {
            FaultKind::Connect => "connect_failed",
            FaultKind::ConnectTimeout => "connect_timeout",
            FaultKind::Tls => "tls_failed",
            FaultKind::StaleConnection => "stale_connection",
            FaultKind::Reset => "reset",
            FaultKind::ResponseTimeout => "response_timeout",
            FaultKind::IdleTimeout => "idle_timeout",
            FaultKind::TotalTimeout => "total_timeout",
            FaultKind::BadResponse => "bad_response",
            FaultKind::ResponseTooLarge => "response_head_too_large",
            FaultKind::ClientGone => "client_gone",
            FaultKind::BodyTimeout => "body_timeout",
            FaultKind::BadBody => "bad_body",
            FaultKind::NoServer => "no_server",
            FaultKind::Overload => "overload",
            FaultKind::Internal => "internal",
        }
    }

    /// The answer for the client, with the bodies a Traefik user knows.
    pub fn response(self) -> Response {
        match self.kind {
            FaultKind::NoServer => text_response(self.status(), "no available server\n"),
            _ => status_response(self.status()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Fault {}

/// nginx's status for a client that left before its answer; Traefik uses it too.
pub const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

/// The answer when a service has no usable server and may have one soon.
pub fn unavailable(reason: Option<&str>) -> Response {
    let mut response = Fault::ours(FaultKind::NoServer).response();
    if let Some(reason) = reason {
        *response.body_mut() = Body::from(format!("no available server: {reason}\n"));
    }
    let headers = response.headers_mut();
    headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The reason phrase of `status`, also for the codes without a registered one.
pub fn reason_phrase(status: StatusCode) -> &'static str {
    match status {
        CLIENT_CLOSED_REQUEST => "Client Closed Request",
        // The registered phrase differs from what Go servers and their clients have always seen.
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        StatusCode::IM_A_TEAPOT => "I'm a teapot",
        other => other.canonical_reason().unwrap_or(""),
    }
}

/// An answer whose body is the status text, without a content type (as Traefik's middlewares write it).
pub fn status_response(status: StatusCode) -> Response {
    let mut response = Response::new(Body::from(reason_phrase(status)));
    *response.status_mut() = status;
    response
}

/// A plain-text answer with `Content-Type` and `X-Content-Type-Options: nosniff`.
pub fn text_response(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        http::header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// The answer when no router matches.
pub fn not_found() -> Response {
    text_response(StatusCode::NOT_FOUND, "404 page not found\n")
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;

    use super::{Body, StatusCode, unavailable};

    #[test]
    fn an_unavailable_service_says_why_and_when_to_come_back() {
        for (reason, text) in [
            (None, "no available server\n"),
            (
                Some("web-1 is starting"),
                "no available server: web-1 is starting\n",
            ),
        ] {
            let response = unavailable(reason);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[RETRY_AFTER], "1");
            let Body::Full(bytes) = response.body() else {
                panic!("a body in memory");
            };
            assert_eq!(bytes, text);
        }
    }
}
