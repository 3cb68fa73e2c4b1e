//! `loadBalancer`: from configuration to settings.

use std::{sync::Arc, time::Duration};

use crate::{
    compile::{Stage, transports::Transports},
    config::{
        Diagnostic, Kind,
        definitions::Defined,
        routing::{self, HedgeAfter, LoadBalancer, SameSite},
        units::Span,
    },
    service::{
        After, BudgetSettings, CheckMode, Condition, HealthCheck, HedgeSettings, HoldSettings,
        OutlierSettings, PassiveSettings, Scheme, ServerSettings, ServerUrl, ServiceSettings,
        StickySettings, Strategy, Thresholds, Timeouts,
    },
};

/// One service on its way from configuration to settings.
pub(super) struct Draft<'a> {
    pub(super) stage: &'a Stage<'a>,
    pub(super) definition: &'a Defined<routing::Service>,
    pub(super) findings: &'a mut Vec<Diagnostic>,
}

impl Draft<'_> {
    pub(super) fn settings(
        &mut self,
        balancer: &LoadBalancer,
        transports: &Transports<'_>,
    ) -> Option<ServiceSettings> {
        let definition = self.definition;
        let servers = self.servers(balancer);
        let health_check = self.health_check(balancer);
        let transport = match transports.find(&balancer.servers_transport, &definition.provider) {
            Ok(transport) => Some(transport),
            Err(missing) => {
                let finding = definition.error(Kind::Service, "loadBalancer.serversTransport", "");
                self.findings.push(missing.about(finding));
                None
            }
        };
        let outliers = self.outliers(balancer);
        let hedge = self.hedge(balancer);
        let core = &self.stage.input.install.core;
        let providers = &self.stage.input.install.providers;
        Some(ServiceSettings {
            name: Arc::clone(&definition.name),
            servers: servers?,
            strategy: strategy(balancer.strategy),
            sticky: sticky(balancer.sticky.as_ref()),
            pass_host_header: balancer.pass_host_header,
            transport: transport?,
            health_check: health_check?,
            passive: passive(balancer),
            flush_interval: balancer.response_forwarding.flush_interval.positive(),
            budget: BudgetSettings {
                percent: percent(core.retry_budget.percent),
                per_second: core.retry_budget.min_per_second,
            },
            hold: hold(balancer.hold.or(providers.hold(&definition.provider))),
            warm_up: balancer.slow_start.positive(),
            timeouts: timeouts(balancer.timeouts),
            outliers: outliers?,
            hedge: hedge?,
        })
    }

    fn servers(&mut self, balancer: &LoadBalancer) -> Option<Vec<ServerSettings>> {
        let mut servers = Vec::with_capacity(balancer.servers.len());
        for (position, server) in balancer.servers.iter().enumerate() {
            match ServerUrl::parse(&server.url) {
                Ok(url) => servers.push(ServerSettings {
                    addresses: self
                        .stage
                        .input
                        .addresses
                        .get(&*url.host)
                        .map(|ips| ips.to_vec())
                        .unwrap_or_default(),
                    url,
                    weight: server.weight.unwrap_or(1),
                    preserve_path: server.preserve_path,
                    condition: condition(&server.condition),
                }),
                Err(error) => {
                    let message = format!("the URL {:?} cannot be used: {error}", server.url);
                    self.error(&format!("servers[{position}].url"), message);
                }
            }
        }
        (servers.len() == balancer.servers.len()).then_some(servers)
    }

    /// `Some(None)` without a health check, `None` with a bad one.
    #[expect(
        clippy::option_option,
        reason = "absent and unusable are different things"
    )]
    fn health_check(&mut self, balancer: &LoadBalancer) -> Option<Option<Arc<HealthCheck>>> {
        let Some(check) = &balancer.health_check else {
            return Some(None);
        };
        let before = self.findings.len();
        let scheme = self.check_scheme(&check.scheme);
        let method = self.parse(
            "healthCheck.method",
            non_empty(&check.method).unwrap_or("GET"),
            "is not an HTTP method",
        );
        let hostname = match non_empty(&check.hostname) {
            Some(host) => self
                .parse("healthCheck.hostname", host, "is not a host name")
                .map(Some),
            None => Some(None),
        };
        if check.path.contains("://") || check.path.starts_with("//") {
            self.error("healthCheck.path", "must be a path without scheme and host");
        }
        let mut headers = http::HeaderMap::new();
        for (name, value) in &check.headers {
            let field = format!("healthCheck.headers.{name}");
            let name: Option<http::HeaderName> = self.parse(&field, name, "is not a header name");
            let value = self.parse_secret(&field, value, "is not a header value");
            if let (Some(name), Some(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let interval = self.positive("healthCheck.interval", check.interval, 30);
        let unhealthy_interval = check
            .unhealthy_interval
            .map(|span| self.positive("healthCheck.unhealthyInterval", span, 30));
        if self.findings.len() > before && self.findings[before..].iter().any(Diagnostic::is_error)
        {
            return None;
        }
        Some(Some(Arc::new(HealthCheck {
            mode: match check.mode {
                routing::HealthCheckMode::Http => CheckMode::Http,
                routing::HealthCheckMode::Grpc => CheckMode::Grpc,
            },
            path: check.path.clone(),
            scheme,
            port: Some(check.port).filter(|port| *port != 0),
            method: method?,
            hostname: hostname?,
            headers,
            status: Some(check.status).filter(|status| *status != 0),
            follow_redirects: check.follow_redirects,
            interval,
            unhealthy_interval: unhealthy_interval.unwrap_or(interval),
            timeout: self.positive("healthCheck.timeout", check.timeout, 5),
            jitter: check.jitter,
            thresholds: Thresholds {
                rise: check.rise.max(1),
                fall: check.fall.max(1),
            },
        })))
    }

    /// As [`Self::health_check`].
    #[expect(
        clippy::option_option,
        reason = "absent and unusable are different things"
    )]
    fn outliers(&mut self, balancer: &LoadBalancer) -> Option<Option<OutlierSettings>> {
        let Some(detection) = &balancer.outlier_detection else {
            return Some(None);
        };
        let error_rate = self.share("outlierDetection.errorRate", detection.error_rate);
        let most = self.share(
            "outlierDetection.maxEjectionPercent",
            detection.max_ejection_percent,
        );
        let panic = self.share("outlierDetection.panicThreshold", detection.panic_threshold);
        let base = self.positive(
            "outlierDetection.baseEjectionTime",
            detection.base_ejection_time,
            30,
        );
        let longest = self.positive(
            "outlierDetection.maxEjectionTime",
            detection.max_ejection_time,
            300,
        );
        Some(Some(OutlierSettings {
            errors: detection.consecutive_errors,
            gateway_errors: detection.consecutive_gateway_errors,
            error_rate: error_rate?,
            min_requests: detection.min_requests.max(1),
            interval: self.positive("outlierDetection.interval", detection.interval, 10),
            base,
            longest,
            most: most?,
            panic: panic?,
        }))
    }

    /// As [`Self::health_check`].
    #[expect(
        clippy::option_option,
        reason = "absent and unusable are different things"
    )]
    fn hedge(&mut self, balancer: &LoadBalancer) -> Option<Option<HedgeSettings>> {
        let Some(hedge) = &balancer.hedge else {
            return Some(None);
        };
        Some(Some(HedgeSettings {
            after: match hedge.after {
                HedgeAfter::Time(time) => After::Time(time.at_least_zero()),
                HedgeAfter::Percentile(percent) => After::Percentile(percent),
            },
            most: self.share("hedge.maxPercent", hedge.max_percent)?,
        }))
    }

    /// A share in percent.
    fn share(&mut self, field: &str, percent: u32) -> Option<u32> {
        if percent > 100 {
            self.error(
                field,
                format!("expected a percentage up to 100, found {percent}"),
            );
            return None;
        }
        Some(percent)
    }

    fn check_scheme(&mut self, scheme: &str) -> Option<Scheme> {
        match scheme.to_ascii_lowercase().as_str() {
            "" => None,
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            "h2c" => Some(Scheme::H2c),
            _ => {
                self.error(
                    "healthCheck.scheme",
                    format!("unknown scheme `{scheme}`: expected http, https or h2c"),
                );
                None
            }
        }
    }

    /// A time that must be above zero; another one is replaced by the default, as Traefik does.
    fn positive(&mut self, field: &str, span: Span, default: u64) -> Duration {
        span.positive().unwrap_or_else(|| {
            let field = format!("loadBalancer.{field}");
            let message = format!("{span} is not above zero; {default}s is used");
            self.findings
                .push(self.definition.warning(Kind::Service, &field, message));
            Duration::from_secs(default)
        })
    }

    fn parse<T: std::str::FromStr>(
        &mut self,
        field: &str,
        text: &str,
        complaint: &str,
    ) -> Option<T> {
        text.parse()
            .map_err(|_| self.error(field, format!("{text:?} {complaint}")))
            .ok()
    }

    /// [`Self::parse`] for what must not be repeated.
    fn parse_secret<T: std::str::FromStr>(
        &mut self,
        field: &str,
        text: &str,
        complaint: &str,
    ) -> Option<T> {
        text.parse()
            .map_err(|_| self.error(field, format!("the value {complaint}")))
            .ok()
    }

    fn error(&mut self, field: &str, message: impl Into<String>) {
        let field = format!("loadBalancer.{field}");
        self.findings
            .push(self.definition.error(Kind::Service, &field, message));
    }
}

/// The usable form of `timeouts`.
pub(in crate::compile) fn timeouts(timeouts: routing::Timeouts) -> Timeouts {
    Timeouts {
        response_header: timeouts.response_header.positive(),
        idle: timeouts.idle.positive(),
        total: timeouts.total.positive(),
    }
}

/// How long requests wait, and how many of them.
pub(in crate::compile) fn hold(hold: routing::Hold) -> HoldSettings {
    HoldSettings {
        timeout: hold.timeout().at_least_zero(),
        max_requests: hold.max_requests(),
    }
}

fn condition(condition: &routing::Condition) -> Condition {
    match condition {
        routing::Condition::Ready => Condition::Ready,
        routing::Condition::Waiting(reason) => Condition::Waiting(Arc::clone(reason)),
        routing::Condition::Unhealthy(reason) => Condition::Unhealthy(Arc::clone(reason)),
        routing::Condition::Leaving(reason) => Condition::Leaving(Arc::clone(reason)),
    }
}

fn strategy(strategy: routing::Strategy) -> Strategy {
    match strategy {
        routing::Strategy::Wrr => Strategy::RoundRobin,
        routing::Strategy::P2c => Strategy::PowerOfTwo,
        routing::Strategy::Hrw => Strategy::Rendezvous,
        routing::Strategy::LeastTime => Strategy::LeastTime,
    }
}

pub(super) fn sticky(sticky: Option<&routing::Sticky>) -> Option<StickySettings> {
    let cookie = sticky?.cookie.clone()?;
    let same_site = match cookie.same_site {
        None => "",
        Some(SameSite::None) => "none",
        Some(SameSite::Lax) => "lax",
        Some(SameSite::Strict) => "strict",
    };
    Some(StickySettings {
        name: cookie.name,
        path: cookie.path,
        domain: cookie.domain,
        secure: cookie.secure,
        http_only: cookie.http_only,
        same_site: same_site.to_owned(),
        max_age: cookie.max_age,
    })
}

fn passive(balancer: &LoadBalancer) -> Option<PassiveSettings> {
    let passive = balancer.passive_health_check.as_ref()?;
    Some(PassiveSettings {
        failure_window: passive.failure_window.at_least_zero(),
        max_failed_attempts: usize::try_from(passive.max_failed_attempts)
            .unwrap_or(usize::MAX)
            .max(1),
    })
}

/// A share as whole percent; what is no share counts as none or as all.
fn percent(share: f64) -> u32 {
    // A cast from a float saturates, and takes "not a number" as zero.
    share.clamp(0.0, 100.0).round() as u32
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
