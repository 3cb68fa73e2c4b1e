//! Asks the name servers this machine is set up with, after its hosts file.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::{Query, ResponseCode},
        rr::{Name, RecordType},
    },
    system_conf::read_system_conf,
};

use super::{Answer, Answering, Lookup, LookupError};

/// `/etc/hosts` and the name servers of `/etc/resolv.conf`, both read again when they change.
#[derive(Debug, Default)]
pub struct SystemLookup(Mutex<Option<Loaded>>);

#[derive(Debug, Clone)]
struct Loaded {
    resolver: TokioResolver,
    hosts: Arc<Hosts>,
    longest: Duration,
    stamps: Stamps,
}

/// When the files were last changed.
type Stamps = [Option<SystemTime>; 2];

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Docker's own name server: it says ten minutes, and means the container that has the address just now.
const DOCKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
const DOCKER_LIFETIME: Duration = Duration::from_secs(2);
/// How long an entry of the hosts file holds.
const HOSTS_LIFETIME: Duration = Duration::from_secs(5);

impl Lookup for SystemLookup {
    fn lookup(&self, name: Arc<str>) -> Answering {
        let loaded = self.loaded();
        Box::pin(async move {
            let loaded = loaded.map_err(|error| failed(&error))?;
            if let Some(addresses) = from_hosts(&loaded.hosts, &name) {
                return Ok(Answer {
                    addresses,
                    lifetime: HOSTS_LIFETIME,
                });
            }
            let found = loaded
                .resolver
                .lookup_ip(&*name)
                .await
                .map_err(|error| failed(&error))?;
            let lifetime = found
                .valid_until()
                .saturating_duration_since(Instant::now());
            Ok(Answer {
                addresses: found.iter().collect(),
                lifetime: lifetime.min(loaded.longest),
            })
        })
    }
}

impl SystemLookup {
    fn loaded(&self) -> Result<Loaded, NetError> {
        let stamps = [HOSTS, RESOLV_CONF].map(changed_at);
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = loaded.as_ref().filter(|loaded| loaded.stamps == stamps) {
            return Ok(loaded.clone());
        }
        let fresh = load(stamps)?;
        *loaded = Some(fresh.clone());
        Ok(fresh)
    }
}

fn load(stamps: Stamps) -> Result<Loaded, NetError> {
    // A machine without name servers still has its hosts file.
    let (config, options) =
        read_system_conf().unwrap_or_else(|_| (ResolverConfig::default(), ResolverOpts::default()));
    let docker = config
        .name_servers()
        .iter()
        .any(|server| server.ip == DOCKER);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options);
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    // Whoever asks knows when to ask again.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    Ok(Loaded {
        resolver: builder.build()?,
        hosts: Arc::new(Hosts::from_system().unwrap_or_default()),
        longest: if docker {
            DOCKER_LIFETIME
        } else {
            Duration::MAX
        },
        stamps,
    })
}

/// Both families at once; a name server is not asked for the one that is missing.
fn from_hosts(hosts: &Hosts, name: &str) -> Option<Vec<IpAddr>> {
    let mut query_name = Name::from_utf8(name).ok()?;
    query_name.set_fqdn(true);
    let addresses: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|kind| hosts.lookup_static_host(&Query::query(query_name.clone(), kind)))
        .flat_map(|lookup| {
            let found = lookup.answers().iter();
            found
                .filter_map(|record| record.data.ip_addr())
                .collect::<Vec<_>>()
        })
        .collect();
    if !addresses.is_empty() {
        return Some(addresses);
    }
    let bare = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    // RFC 6761: these never leave the machine.
    (bare == "localhost" || bare.ends_with(".localhost"))
        .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

fn failed(error: &NetError) -> LookupError {
    let denied = matches!(
        error,
        NetError::Dns(DnsError::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError)
    );
    match denied {
        true => LookupError::NoSuchName,
        false => LookupError::Failed(error.to_string()),
    }
}

fn changed_at(path: impl AsRef<Path>) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|file| file.modified())
        .ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hickory_resolver::Hosts;

    use super::{Lookup, SystemLookup, from_hosts};

    #[test]
    fn the_hosts_file_answers_for_both_families() {
        let mut hosts = Hosts::default();
        let file = b"10.0.0.1 app app.internal\n::7 app\n10.0.0.9 other\n";
        hosts.read_hosts_conf(&file[..]).unwrap();
        for (name, expected) in [
            ("app", Some(&["10.0.0.1", "::7"][..])),
            ("APP.internal.", Some(&["10.0.0.1"])),
            ("nobody", None),
            ("x.localhost", Some(&["127.0.0.1", "::1"])),
            ("not a name", None),
        ] {
            let got = from_hosts(&hosts, name)
                .map(|ips| ips.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(
                got.as_deref(),
                expected
                    .map(|ips| ips.iter().map(|ip| (*ip).to_owned()).collect::<Vec<_>>())
                    .as_deref(),
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn localhost_needs_no_name_server() {
        let answer = SystemLookup::default()
            .lookup(Arc::from("localhost"))
            .await
            .unwrap();
        assert!(answer.addresses.iter().any(|ip| ip.is_loopback()));
    }
}
