//! Requests and answers for the tests of middlewares.

use std::{rc::Rc, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use http_body_util::BodyExt;

use super::{Flow, Middleware};
use crate::{
    config::{Placed, routing::Middleware as Config},
    exchange::{Body, Connection, Exchange, Memo, RequestHead, Response, Target, TlsSession},
};

/// A request to be made.
pub(super) struct Fixture {
    head: RequestHead,
    peer: String,
    tls: bool,
}

impl Fixture {
    /// `GET` of an escaped path, host `app.test`.
    pub(super) fn get(target: &'static str) -> Self {
        Self {
            head: RequestHead {
                method: Method::GET,
                version: Version::HTTP_11,
                host: "app.test".into(),
                target: Target::new(target.into()),
                headers: HeaderMap::new(),
                upgrade: None,
                accepts_trailers: false,
                expects_continue: false,
            },
            peer: "192.0.2.7:50000".to_owned(),
            tls: false,
        }
    }

    pub(super) fn host(mut self, host: &'static str) -> Self {
        self.head.host = host.into();
        self
    }

    pub(super) fn method(mut self, method: &str) -> Self {
        self.head.method = method.parse().unwrap();
        self
    }

    pub(super) fn peer(mut self, peer: &str) -> Self {
        self.peer = peer.to_owned();
        self
    }

    pub(super) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.head
            .headers
            .append(HeaderName::from_static(name), value);
        self
    }

    pub(super) fn exchange(self) -> Exchange {
        let peer: std::net::SocketAddr = self.peer.parse().unwrap();
        let connection = Connection {
            entry_point: "web".into(),
            peer,
            local: "192.0.2.1:80".parse().unwrap(),
            peer_ip: HeaderValue::from_str(&peer.ip().to_string()).unwrap(),
            trusted: true,
            patience: None,
            tls: self.tls.then(|| TlsSession {
                version: "1.3",
                cipher: "TLS13_AES_128_GCM_SHA256",
                sni: None,
                options: Arc::from("default"),
                client_certificates: Vec::new(),
                client_subject: None,
                h2: false,
            }),
            memo: Memo::default(),
        };
        Exchange::new(self.head, Body::Empty, Rc::new(connection))
    }

    /// The middleware's own answer, if it gives one.
    pub(super) fn answer(self, config: &str) -> Option<Answer> {
        match built(config).request(&mut self.exchange()) {
            Flow::Continue => None,
            Flow::Respond(response) => Some(Answer::new(*response)),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn answered_by(self, config: &str) -> Answer {
        self.answer(config)
            .expect("the middleware let the request pass")
    }

    /// The request as it leaves the middleware.
    pub(super) fn through(self, config: &str) -> Sent {
        let mut exchange = self.exchange();
        match built(config).request(&mut exchange) {
            Flow::Continue => Sent(exchange),
            other => panic!("{other:?}"),
        }
    }
}

/// A request after a middleware.
pub(super) struct Sent(pub(super) Exchange);

impl Sent {
    pub(super) fn target(&self) -> &str {
        self.0.request.target.as_str()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.0.request.headers, name)
    }
}

/// An answer whose body was in memory.
pub(super) struct Answer {
    head: http::response::Parts,
    body: Body,
}

impl Answer {
    pub(super) fn new(response: Response) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body }
    }

    pub(super) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head.headers, name)
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub(super) fn text(&self) -> String {
        match &self.body {
            Body::Empty => String::new(),
            Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Body::Stream(_) => panic!("a streamed body"),
        }
    }
}

/// All values of a header, joined by ` | `.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    assert!(values.next().is_none(), "{name} occurs more than once");
    Some(std::str::from_utf8(value.as_bytes()).unwrap())
}

/// The whole of a body.
pub(super) async fn collect(body: Body) -> Vec<u8> {
    body.collect().await.unwrap().to_bytes().to_vec()
}

pub(super) fn placed(config: &str) -> Placed<Config> {
    Placed::from(serde_json::from_str::<Config>(config).unwrap())
}

/// The middleware of a configuration without mistakes.
pub(super) fn built(config: &str) -> Middleware {
    let mut findings = Vec::new();
    Middleware::build(
        "m@file",
        &placed(config),
        &|_| Err("no files".into()),
        &mut findings,
    )
    .unwrap_or_else(|| panic!("{findings:?}"))
}

/// All findings, one line each.
pub(super) fn problems(config: &str) -> Vec<String> {
    let mut findings = Vec::new();
    Middleware::build(
        "m@file",
        &placed(config),
        &|_| Err("no such file".into()),
        &mut findings,
    );
    findings.iter().map(ToString::to_string).collect()
}
