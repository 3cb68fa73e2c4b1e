//! `circuitBreaker`: spares servers that fail. When a condition on the latest answers holds, requests are refused for a while, and
//! then let pass again little by little.
//!
//! An answer counts when it has been sent whole, as in Traefik: its latency includes a streamed body.

mod counts;
mod expression;
mod lexer;
mod state;

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;

use self::{
    expression::Expression,
    state::{Mode, State, Terms},
};
use super::{Flow, report::Report};
use crate::{
    config::{routing::CircuitBreaker as Config, units::Span},
    exchange::{
        Body, Exchange, Response,
        fault::{CLIENT_CLOSED_REQUEST, status_response},
    },
    observe::MiddlewareMetrics,
};

/// Refuses requests while their servers fail.
#[derive(Debug)]
pub struct CircuitBreaker {
    /// While it is open.
    status: StatusCode,
    circuit: Arc<Circuit>,
}

/// What is shared with the requests under way. Its state outlives a reload.
#[derive(Debug, Clone)]
struct Circuit {
    /// As configured.
    text: Arc<str>,
    /// The middleware, and the router it stands in.
    name: Arc<str>,
    router: Arc<str>,
    terms: Arc<Terms>,
    /// From here on time is counted.
    start: Instant,
    state: Arc<State>,
    metrics: MiddlewareMetrics,
}

impl CircuitBreaker {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        let expression = Expression::parse(&config.expression).map_err(|wrong| {
            report.error("expression", wrong.to_string());
        });
        let status = u16::try_from(config.response_code)
            .ok()
            .filter(|code| (200..=999).contains(code))
            .and_then(|code| StatusCode::from_u16(code).ok());
        if status.is_none() {
            report.error("responseCode", "expected a status from 200 to 999");
        }
        let terms = Arc::new(Terms {
            expression: expression.ok()?,
            check_period: duration(config.check_period, Duration::from_millis(100)),
            fallback: duration(config.fallback_duration, Duration::from_secs(10)),
            recovery: duration(config.recovery_duration, Duration::from_secs(10)),
        });
        let circuit = Circuit {
            text: config.expression.trim().into(),
            name: report.name().into(),
            router: Arc::from(""),
            state: Arc::new(State::new(&terms)),
            terms,
            start: Instant::now(),
            metrics: MiddlewareMetrics::default(),
        };
        Some(Self {
            status: status?,
            circuit: Arc::new(circuit),
        })
    }

    pub(super) fn count_with(&mut self, metrics: MiddlewareMetrics) {
        self.edit(|circuit| circuit.metrics = metrics);
    }

    /// Tells the router that this instance belongs to.
    pub(super) fn belong_to(&mut self, router: &str) {
        self.edit(|circuit| circuit.router = router.into());
    }

    /// Goes on in the state the breaker was in, unless it has other terms now.
    pub(super) fn adopt(&mut self, previous: &Self) {
        let previous = &previous.circuit;
        if self.circuit.terms == previous.terms {
            self.edit(|circuit| {
                circuit.start = previous.start;
                circuit.state = Arc::clone(&previous.state);
            });
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Circuit)) {
        change(Arc::make_mut(&mut self.circuit));
    }

    /// What it does with requests now, in Traefik's words.
    pub(super) fn mode(&self) -> &'static str {
        let circuit = &self.circuit;
        circuit.state.mode(circuit.start.elapsed()).0.name()
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        // A repetition of the request: the try before is over.
        if let Some(call) = self.call(exchange) {
            call.end();
        }
        let circuit = &self.circuit;
        let ruling = circuit.state.admit(&circuit.terms, circuit.start.elapsed());
        if let Some(mode) = ruling.change {
            circuit.announce(mode);
        }
        if !ruling.passes {
            circuit.metrics.refused();
            return Flow::respond(self.refusal());
        }
        match self.call(exchange) {
            Some(call) => call.begin(),
            None => exchange.hold(Call::new(circuit)),
        }
        Flow::Continue
    }

    pub(super) fn response(&self, exchange: &mut Exchange, response: &Response) {
        if let Some(call) = self.call(exchange) {
            call.status.set(response.status());
            // What is in memory is as good as sent, and the client's next request must find it counted.
            if !matches!(response.body(), Body::Stream(_)) {
                call.end();
            }
        }
    }

    fn call<'e>(&self, exchange: &'e Exchange) -> Option<&'e Call> {
        exchange.held(|call: &Call| Arc::ptr_eq(&call.circuit, &self.circuit))
    }

    fn refusal(&self) -> Response {
        let mut response = status_response(self.status);
        if matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) {
            *response.body_mut() = Body::Empty;
        }
        response
    }
}

impl Circuit {
    fn ended(&self, status: StatusCode, latency: Duration) {
        let now = self.start.elapsed();
        self.state.counts.record(status.as_u16(), latency, now);
        if self.state.check(&self.terms, now) {
            self.announce(Mode::Tripped);
        }
    }

    /// Counts and logs a change; rare.
    #[cold]
    fn announce(&self, mode: Mode) {
        self.metrics.circuit(mode.name());
        let (middleware, router) = (&*self.name, &*self.router);
        match mode {
            Mode::Tripped => tracing::warn!(
                middleware,
                router,
                "the circuit breaker has opened, as {}: requests are refused for {:?}",
                self.text,
                self.terms.fallback
            ),
            Mode::Recovering => tracing::info!(
                middleware,
                router,
                "the circuit breaker lets requests pass again, more and more within {:?}",
                self.terms.recovery
            ),
            Mode::Standby => {
                tracing::info!(middleware, router, "the circuit breaker has closed");
            }
        }
    }
}

/// A request under way behind the breaker; it ends when its answer has been sent or given up.
struct Call {
    circuit: Arc<Circuit>,
    begun: Cell<Option<Instant>>,
    status: Cell<StatusCode>,
}

impl Call {
    fn new(circuit: &Arc<Circuit>) -> Self {
        let call = Self {
            circuit: Arc::clone(circuit),
            begun: Cell::default(),
            status: Cell::default(),
        };
        call.begin();
        call
    }

    fn begin(&self) {
        self.begun.set(Some(Instant::now()));
        // What it remains if there never is an answer.
        self.status.set(CLIENT_CLOSED_REQUEST);
    }

    fn end(&self) {
        if let Some(begun) = self.begun.take() {
            self.circuit.ended(self.status.get(), begun.elapsed());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end();
    }
}

/// As Traefik reads durations here: what is not above zero means the default.
fn duration(span: Span, default: Duration) -> Duration {
    span.positive().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::middleware::{
        Middleware,
        testing::{Answer, Fixture, built, problems},
    };

    const EASY: &str = r#"{"expression":"ResponseCodeRatio(500, 600, 0, 600) > 0.4"}"#;

    fn breaker(options: &str) -> CircuitBreaker {
        match built(&format!(r#"{{"circuitBreaker":{options}}}"#)) {
            Middleware::CircuitBreaker(it) => *it,
            other => panic!("{other:?}"),
        }
    }

    /// A request that is answered with `status`; what the client gets.
    fn serve(breaker: &CircuitBreaker, status: u16) -> u16 {
        let mut exchange = Fixture::get("/").exchange();
        match breaker.request(&mut exchange) {
            Flow::Continue => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                breaker.response(&mut exchange, &response);
                status
            }
            Flow::Respond(response) => response.status().as_u16(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn opens_when_the_answer_is_over() {
        let breaker = breaker(EASY);
        assert_eq!(breaker.mode(), "standby");
        let mut first = Fixture::get("/").exchange();
        assert!(matches!(breaker.request(&mut first), Flow::Continue));
        let nothing = http_body_util::Empty::new().map_err(|never| match never {});
        let mut failure = Response::new(Body::stream(nothing));
        *failure.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        breaker.response(&mut first, &failure);
        assert_eq!(breaker.mode(), "standby");
        drop(first);
        assert_eq!(breaker.mode(), "tripped");
        assert_eq!(serve(&breaker, 200), 503);
    }

    #[test]
    fn a_client_that_left_counts_as_499() {
        let breaker = breaker(r#"{"expression":"ResponseCodeRatio(499, 500, 0, 600) > 0.5"}"#);
        let mut exchange = Fixture::get("/").exchange();
        assert!(matches!(breaker.request(&mut exchange), Flow::Continue));
        drop(exchange);
        assert_eq!(breaker.mode(), "tripped");
    }

    #[test]
    fn each_repetition_counts() {
        let breaker = breaker(EASY);
        let mut exchange = Fixture::get("/").exchange();
        assert!(matches!(breaker.request(&mut exchange), Flow::Continue));
        let mut failure = Response::new(Body::Empty);
        *failure.status_mut() = StatusCode::BAD_GATEWAY;
        breaker.response(&mut exchange, &failure);
        assert!(matches!(breaker.request(&mut exchange), Flow::Respond(_)));
        assert_eq!(breaker.mode(), "tripped");
    }

    #[test]
    fn the_refusal() {
        for (code, status, text) in [
            ("", 503, "Service Unavailable"),
            (r#","responseCode":429"#, 429, "Too Many Requests"),
            (r#","responseCode":599"#, 599, ""),
            (r#","responseCode":204"#, 204, ""),
        ] {
            let expression = "NetworkErrorRatio() > 0.5";
            let breaker = breaker(&format!(r#"{{"expression":"{expression}"{code}}}"#));
            serve(&breaker, 504);
            match breaker.request(&mut Fixture::get("/").exchange()) {
                Flow::Respond(response) => {
                    let answer = Answer::new(*response);
                    assert_eq!((answer.status(), answer.text()), (status, text.to_owned()));
                    assert!(answer.headers().is_empty());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_reload_changes_nothing() {
        let old = breaker(EASY);
        serve(&old, 500);
        let mut same = breaker(&EASY.replace('}', r#","responseCode":500}"#));
        same.adopt(&old);
        assert_eq!(serve(&same, 200), 500);
        let mut other = breaker(r#"{"expression":"NetworkErrorRatio() > 0.5"}"#);
        other.adopt(&old);
        assert_eq!(serve(&other, 200), 200);
    }

    #[test]
    fn findings() {
        for (options, expected) in [
            (
                "{}",
                "expression: column 1: expected a function or a number, found the end",
            ),
            (
                r#"{"expression":"NetworkErrorRatio() > 1"}"#,
                "expression: column 23: a ratio is compared",
            ),
            (
                r#"{"expression":"NetworkErrorRatio() > 0.5","responseCode":0}"#,
                "responseCode: expected a status from 200 to 999",
            ),
            (
                r#"{"expression":"NetworkErrorRatio() > 0.5","responseCode":1000}"#,
                "responseCode: expected a status from 200 to 999",
            ),
        ] {
            let found = problems(&format!(r#"{{"circuitBreaker":{options}}}"#));
            assert!(
                found.len() == 1 && found[0].contains(&format!("circuitBreaker.{expected}")),
                "{options}: {found:?}"
            );
        }
        let unusual = r#"{"expression":"NetworkErrorRatio() > 0.5","checkPeriod":"-1s","fallbackDuration":"0s"}"#;
        assert_eq!(
            *breaker(unusual).circuit.terms,
            *breaker(r#"{"expression":"NetworkErrorRatio() > 0.5"}"#)
                .circuit
                .terms
        );
    }
}
