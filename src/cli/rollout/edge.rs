//! The Portway in front of the service: does it route to a container, and what became of the requests.

use std::{rc::Rc, time::Duration};

use serde_json::Value;

use super::{
    docker::Docker,
    options::Options,
    stack::Container,
    standing::{Standing, lists, standing},
};
use crate::cli::ask::ask;

/// A way to ask a running Portway.
#[derive(Debug)]
pub(super) enum Edge {
    /// Its API, `HOST:PORT`.
    Api(String),
    /// A container, whose API is asked from inside.
    Inside(String, Rc<Docker>),
}

/// Its services at one moment.
#[derive(Debug)]
pub(super) struct View(Vec<Value>);

/// Requests of the service, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) served: u64,
    /// Answered with 500 or more.
    pub(super) failed: u64,
}

impl Edge {
    /// The API that was named, else this machine's, else that of a Portway container.
    pub(super) fn find(
        options: &Options,
        docker: &Rc<Docker>,
        old: &[Container],
    ) -> Result<Self, String> {
        if let Some(url) = &options.api {
            let edge = Self::Api(authority(url)?);
            return edge
                .view()
                .map(|_| edge)
                .map_err(|error| format!("{url}: {error}"));
        }
        let knows = |edge: &Self| edge.view().is_ok_and(|view| view.names_any(old));
        let local = Self::Api(LOCAL.to_owned());
        if knows(&local) {
            return Ok(local);
        }
        let listed = docker.succeed(&["ps", "--quiet", "--filter", EDGE_LABEL])?;
        listed
            .split_whitespace()
            .map(|id| Self::Inside(id.to_owned(), Rc::clone(docker)))
            .find(knows)
            .ok_or_else(|| format!("none at {LOCAL}, and in no container with {EDGE_LABEL}, that knows the service; it needs `api.insecure`"))
    }

    /// What was counted for the services that these containers belong to.
    pub(super) fn counts(&self, containers: &[Container]) -> Option<Counts> {
        let view = self.view().ok()?;
        let services = view.0.iter();
        let names: Vec<String> = services
            .filter(|service| lists(service, containers))
            .filter_map(|service| service.get("name")?.as_str().map(str::to_owned))
            .collect();
        let metrics = self.get("/metrics").ok()?;
        count(&metrics, &names)
    }

    /// Asks for its services.
    pub(super) fn view(&self) -> Result<View, String> {
        let mut services = Vec::new();
        for page in 1..=MAX_PAGES {
            let text = self.get(&format!(
                "/api/http/services?per_page={PER_PAGE}&page={page}"
            ))?;
            let part: Vec<Value> = serde_json::from_str(&text)
                .map_err(|error| format!("its API answers strangely: {error}"))?;
            let last = part.len() < PER_PAGE;
            services.extend(part);
            if last {
                break;
            }
        }
        Ok(View(services))
    }

    fn get(&self, target: &str) -> Result<String, String> {
        match self {
            Self::Api(authority) => {
                let answer =
                    ask("GET", authority, target, PATIENCE).map_err(|error| error.to_string())?;
                match answer.status {
                    200 => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
                    status => Err(format!("{target}: {status} {}", answer.reason)),
                }
            }
            Self::Inside(id, docker) => {
                let url = format!("http://{LOCAL}{target}");
                docker.succeed(&["exec", id, "wget", "-q", "-O", "-", &url])
            }
        }
    }
}

impl View {
    /// How a container stands, that is to take the place of `old` ones.
    pub(super) fn standing(&self, container: &Container, old: &[Container]) -> Standing {
        standing(&self.0, container, old)
    }

    fn names_any(&self, containers: &[Container]) -> bool {
        self.0.iter().any(|service| lists(service, containers))
    }
}

impl Counts {
    /// What came since `before`. A counter that went back was started anew.
    pub(super) fn since(self, before: Self) -> Self {
        let grown = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        Self {
            served: grown(self.served, before.served),
            failed: grown(self.failed, before.failed),
        }
    }
}

/// Where the API listens unless told otherwise.
const LOCAL: &str = "127.0.0.1:8080";
/// What the images of Portway carry.
const EDGE_LABEL: &str = "label=org.opencontainers.image.title=Portway";
const PATIENCE: Duration = Duration::from_secs(5);
const PER_PAGE: usize = 1000;
const MAX_PAGES: usize = 100;

/// `HOST:PORT` of an `http://` URL.
fn authority(url: &str) -> Result<String, String> {
    let rest = match url.split_once("://") {
        None => url,
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(format!("--api: http only, not {scheme}")),
    };
    let host = rest.split('/').next().unwrap_or_default();
    match host.rsplit_once(':') {
        _ if host.is_empty() => Err(format!("--api: no host in `{url}`")),
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(host.to_owned()),
        _ => Ok(format!("{host}:80")),
    }
}

/// Adds up `traefik_service_requests_total` of these services.
fn count(metrics: &str, services: &[String]) -> Option<Counts> {
    let mut counts = Counts::default();
    let mut any = false;
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("traefik_service_requests_total{") else {
            continue;
        };
        let (labels, value) = rest.rsplit_once("} ")?;
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split('"').next()
        };
        any = true;
        if !label("service").is_some_and(|service| services.iter().any(|known| known == service)) {
            continue;
        }
        let value = value.split(' ').next()?.parse::<f64>().ok()? as u64;
        if label("code")
            .and_then(|code| code.parse::<u16>().ok())
            .is_some_and(|code| code >= 500)
        {
            counts.failed += value;
        } else {
            counts.served += value;
        }
    }
    any.then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_service() {
        let metrics = "# HELP traefik_service_requests_total x\n\
            traefik_service_requests_total{code=\"200\",method=\"GET\",protocol=\"http\",service=\"app@docker\"} 40\n\
            traefik_service_requests_total{code=\"503\",method=\"GET\",protocol=\"http\",service=\"app@docker\"} 2\n\
            traefik_service_requests_total{code=\"200\",method=\"GET\",protocol=\"http\",service=\"other@docker\"} 7\n\
            traefik_entrypoint_requests_total{code=\"200\",entrypoint=\"web\"} 49\n";
        let counts = count(metrics, &["app@docker".to_owned()]).unwrap();
        assert_eq!(
            counts,
            Counts {
                served: 40,
                failed: 2
            }
        );
        assert_eq!(
            counts.since(Counts {
                served: 30,
                failed: 2
            }),
            Counts {
                served: 10,
                failed: 0
            }
        );
        assert_eq!(count("up 1\n", &[]), None);
    }

    #[test]
    fn urls_lead_to_the_api() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", Ok("127.0.0.1:8080")),
            ("edge", Ok("edge:80")),
            ("http://edge/api", Ok("edge:80")),
            ("https://edge", Err("http only")),
            ("http://", Err("no host")),
        ] {
            match (authority(url), expected) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
                (Err(wrong), Err(part)) => assert!(wrong.contains(part), "{url}: {wrong}"),
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
    }
}
