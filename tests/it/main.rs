//! Black-box tests: they start the real binary and speak to it through files, flags, signals and sockets only.
//!
//! `PORTWAY_TEST_BINARY` names another program to test (the real Traefik, to find out whether a test asks for the right thing).
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on panics and shows the log of the proxy"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "back ends and connections of a test end with its runtime"
)]
#![allow(
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::format_push_string,
    reason = "tables of cases are long, and read top to bottom"
)]
#![allow(missing_debug_implementations, reason = "test types are never printed")]

mod support;

mod acme;
mod attack;
mod buffering;
mod cli;
mod clients;
mod compose;
mod demo;
mod docker;
mod errors;
mod examples;
mod forward_auth;
mod hold;
mod http_provider;
mod lifecycle;
mod memory;
mod middlewares;
mod migrate;
mod observe;
mod ocsp;
mod protocols;
mod proxy_protocol;
mod redis;
mod reload;
mod replica;
mod retry;
mod rollout;
mod routing;
mod service_kinds;
mod services;
mod side_by_side;
mod storm;
mod streaming;
mod telemetry;
mod timeouts;
mod tls;
mod upgrades;
mod uploads;
