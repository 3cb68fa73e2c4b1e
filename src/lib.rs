//! Portway: a reverse-proxy load balancer that speaks Traefik's configuration language.
//!
//! Traffic flows one way: [`entrypoint`] -> [`http1`] or h2 -> [`snapshot`] (route) -> [`middleware`] (plan) -> [`service`] -> [`upstream`].
//! Configuration flows one way: [`provider`] -> [`control`] (merge) -> [`compile`] -> [`snapshot`] -> swap. The two meet only in the
//! [`snapshot::Snapshot`], which is immutable and replaced whole. ARCHITECTURE.md is the map.
#![forbid(unsafe_code)]

pub mod acme;
pub mod admin;
pub mod app;
pub mod challenge;
pub mod cli;
pub mod compile;
pub mod compose;
pub mod config;
pub mod control;
pub mod drain;
pub mod entrypoint;
pub mod exchange;
pub mod explain;
pub mod export;
pub mod fetch;
pub mod http1;
pub mod middleware;
pub mod migrate;
pub mod observe;
pub mod ocsp;
pub mod provider;
pub mod proxy;
pub mod rule;
pub mod runtime;
pub mod service;
pub mod snapshot;
pub mod systemd;
pub mod tls;
pub mod upstream;
pub mod wire;
