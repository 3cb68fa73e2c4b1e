//! `buffering`: reads requests and answers whole before they go on, bounds their size, and repeats requests on a condition.
//!
//! What is decided here is pure; `proxy::around` does the reading and runs the rest of the plan.

mod condition;

use http::{Method, StatusCode};

use self::condition::Condition;
use super::report::Report;
use crate::{config::routing::Buffering as Config, exchange::spool::Limits};

/// How large bodies may be, where they are kept, and when a request is repeated.
#[derive(Debug, Clone)]
pub struct Buffering {
    pub request: Limits,
    pub response: Limits,
    again: Option<Condition>,
}

/// An attempt that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made<'a> {
    /// From 1.
    pub number: u32,
    pub status: StatusCode,
    pub method: &'a Method,
}

impl Buffering {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        let mut size = |field: &str, value: i64| {
            if value < 0 {
                report.error(field, "must not be below 0");
            }
            u64::try_from(value).ok()
        };
        let sizes = [
            size("maxRequestBodyBytes", config.max_request_body_bytes),
            size("memRequestBodyBytes", config.mem_request_body_bytes),
            size("maxResponseBodyBytes", config.max_response_body_bytes),
            size("memResponseBodyBytes", config.mem_response_body_bytes),
        ];
        let again = match &*config.retry_expression {
            "" => None,
            text => match Condition::parse(text) {
                Ok(condition) => Some(condition),
                Err(mistake) => {
                    report.error("retryExpression", mistake.to_string());
                    return None;
                }
            },
        };
        Some(Self {
            request: limits(sizes[0]?, sizes[1]?),
            response: limits(sizes[2]?, sizes[3]?),
            again,
        })
    }

    /// Whether any request may be repeated.
    pub fn may_repeat(&self) -> bool {
        self.again.is_some()
    }

    /// Whether the request is sent once more.
    pub fn repeats(&self, made: Made<'_>) -> bool {
        made.number <= MOST_REPETITIONS && self.again.as_ref().is_some_and(|it| it.holds(made))
    }
}

/// A request is repeated so often at most, whatever the condition says.
const MOST_REPETITIONS: u32 = 10;

/// A body is kept in memory up to this size, if 0 is configured.
const DEFAULT_MEMORY: usize = 1 << 20;

fn limits(largest: u64, memory: u64) -> Limits {
    Limits {
        largest: Some(largest).filter(|largest| *largest > 0),
        memory: match usize::try_from(memory).unwrap_or(usize::MAX) {
            0 => DEFAULT_MEMORY,
            memory => memory,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::{
        Middleware,
        testing::{built, problems},
    };

    fn buffering(options: &str) -> Buffering {
        match built(&format!("{{\"buffering\": {options}}}")) {
            Middleware::Buffering(buffering) => *buffering,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sizes() {
        for (options, request, response) in [
            ("{}", (None, 1 << 20), (None, 1 << 20)),
            (
                r#"{"maxRequestBodyBytes": 5, "memRequestBodyBytes": 3, "maxResponseBodyBytes": 7, "memResponseBodyBytes": 9}"#,
                (Some(5), 3),
                (Some(7), 9),
            ),
            (
                r#"{"memRequestBodyBytes": 0}"#,
                (None, 1 << 20),
                (None, 1 << 20),
            ),
        ] {
            let built = buffering(options);
            let pair = |limits: Limits| (limits.largest, limits.memory);
            assert_eq!(pair(built.request), request, "{options}");
            assert_eq!(pair(built.response), response, "{options}");
            assert!(!built.may_repeat());
        }
    }

    #[test]
    fn no_condition_repeats_for_ever() {
        let always = buffering(r#"{"retryExpression": "Attempts() > 0"}"#);
        let made = |number| Made {
            number,
            status: StatusCode::OK,
            method: &Method::GET,
        };
        assert!(always.may_repeat() && always.repeats(made(10)) && !always.repeats(made(11)));
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        assert_eq!(
            problems(
                r#"{"buffering": {"maxRequestBodyBytes": -1, "memResponseBodyBytes": -2, "retryExpression": "Foo()"}}"#
            ),
            [
                "error: http.middlewares.m@file.buffering.maxRequestBodyBytes: must not be below 0",
                "error: http.middlewares.m@file.buffering.memResponseBodyBytes: must not be below 0",
                "error: http.middlewares.m@file.buffering.retryExpression: column 1: there is no function `Foo`, but `Attempts`, `IsNetworkError`, `RequestMethod` and `ResponseCode`",
            ]
        );
    }
}
