//! Where the engine is, and how to talk to it: the options, and the environment variables of Docker's own client that win over them.

use std::path::PathBuf;

use crate::config::{
    install::{DockerProvider, EngineTls},
    template::EnvLookup,
    units::FileOrContent,
};

/// How to reach the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: Address,
    /// TLS over it.
    pub(super) tls: Option<EngineTls>,
    /// The version of the API to use, instead of the best one.
    pub(super) version: Option<String>,
}

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
    },
    /// Through the `ssh` command.
    Ssh {
        destination: String,
        port: Option<u16>,
    },
}

impl Endpoint {
    /// The endpoint as configured, or what is wrong with it.
    pub(super) fn new(options: &DockerProvider, env: EnvLookup<'_>) -> Result<Self, String> {
        let set = |name| env(name).filter(|value| !value.is_empty());
        let host = set("DOCKER_HOST");
        let (address, secure) = parse(host.as_deref().unwrap_or(&options.endpoint))?;
        let by_env = set("DOCKER_CERT_PATH").map(|folder| {
            let file = |name: &str| FileOrContent::from(&*format!("{folder}/{name}"));
            EngineTls {
                ca: file("ca.pem"),
                cert: file("cert.pem"),
                key: file("key.pem"),
                insecure_skip_verify: set("DOCKER_TLS_VERIFY").is_none(),
            }
        });
        let tls = by_env.or_else(|| options.tls.clone());
        let tls = tls.or_else(|| secure.then(EngineTls::default));
        Ok(Self {
            tls: tls.filter(|_| matches!(address, Address::Tcp { .. })),
            address,
            version: set("DOCKER_API_VERSION")
                .map(|version| version.trim_start_matches('v').into()),
        })
    }
}

/// The address, and whether it asks for TLS by itself.
fn parse(text: &str) -> Result<(Address, bool), String> {
    let wrong = || {
        format!(
            "{text:?} is not an endpoint such as `unix:///var/run/docker.sock` or `tcp://host:2375`"
        )
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let authority = rest.split('/').next().unwrap_or_default();
    match scheme.to_ascii_lowercase().as_str() {
        "unix" if rest.is_empty() => Err(wrong()),
        "unix" => Ok((Address::Unix(rest.into()), false)),
        "tcp" | "http" => Ok((tcp(authority, PLAIN_PORT).ok_or_else(wrong)?, false)),
        "https" => Ok((tcp(authority, TLS_PORT).ok_or_else(wrong)?, true)),
        // Whatever begins with `-` would be an option of the command.
        "ssh" if !authority.is_empty() && !authority.starts_with('-') => {
            let (destination, port) = match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
                None => (authority, None),
            };
            let destination = destination.to_owned();
            Ok((Address::Ssh { destination, port }, false))
        }
        _ => Err(wrong()),
    }
}

fn tcp(authority: &str, default_port: u16) -> Option<Address> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str, env: &[(&str, &str)]) -> Result<Endpoint, String> {
        let options = DockerProvider {
            endpoint: text.to_owned(),
            ..DockerProvider::default()
        };
        Endpoint::new(&options, &|name| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn tcp(host: &str, port: u16) -> Address {
        let host = host.to_owned();
        Address::Tcp { host, port }
    }

    #[test]
    fn endpoints_are_read() {
        for (text, address) in [
            ("unix:///run/d.sock", Address::Unix("/run/d.sock".into())),
            ("tcp://proxy:2375", tcp("proxy", 2375)),
            ("tcp://proxy", tcp("proxy", 2375)),
            ("http://[::1]:99/", tcp("::1", 99)),
            ("tcp://[::1]", tcp("::1", 2375)),
            ("https://engine", tcp("engine", 2376)),
            (
                "ssh://me@host:22",
                Address::Ssh {
                    destination: "me@host".to_owned(),
                    port: Some(22),
                },
            ),
        ] {
            assert_eq!(endpoint(text, &[]).unwrap().address, address, "{text}");
        }
        for text in [
            "/var/run/docker.sock",
            "unix://",
            "tcp://",
            "tcp://a:x",
            "ftp://a",
            "ssh://-oProxyCommand=x",
            "",
        ] {
            assert!(endpoint(text, &[]).is_err(), "{text}");
        }
        assert!(endpoint("https://a", &[]).unwrap().tls.is_some());
        assert!(endpoint("tcp://a", &[]).unwrap().tls.is_none());
    }

    #[test]
    fn the_environment_wins() {
        let env = [
            ("DOCKER_HOST", "tcp://other:1"),
            ("DOCKER_CERT_PATH", "/certs"),
            ("DOCKER_API_VERSION", "1.40"),
        ];
        let found = endpoint("unix:///x", &env).unwrap();
        assert_eq!(found.address, tcp("other", 1));
        assert_eq!(found.version.as_deref(), Some("1.40"));
        let tls = found.tls.unwrap();
        assert_eq!(tls.ca, FileOrContent::from("/certs/ca.pem"));
        assert!(tls.insecure_skip_verify);
        // An empty variable is none, and a socket has no TLS.
        let unset = [("DOCKER_HOST", ""), ("DOCKER_CERT_PATH", "/certs")];
        let found = endpoint("unix:///x", &unset).unwrap();
        assert_eq!(
            (found.address, found.tls),
            (Address::Unix("/x".into()), None)
        );
    }
}
