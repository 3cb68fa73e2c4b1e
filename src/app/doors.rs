//! From the install configuration to sockets: the options of each entry point, bound.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    rc::Rc,
    time::Duration,
};

use http::{HeaderName, HeaderValue};

use crate::{
    config::{
        Install, Place,
        install::{self, AliasStrategy, INTERNAL},
        units::{Cidr, Span},
    },
    entrypoint::{self, ConnectionLimit, EntryPoint, Listener, Timeouts, Trust},
    exchange::{
        forwarded::{self, Aliases, Forwarding},
        path::PathOptions,
    },
    http1::request::Limits,
    systemd::Inherited,
};

/// Descriptors kept for log files, the control thread and what libraries open.
const SPARE_FILES: usize = 128;
/// Connections of the `traefik` entry point per worker that exist beside the others, so that health and API stay reachable.
const INTERNAL_CONNECTIONS: usize = 64;

/// An entry point with a listening socket for each worker.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) options: EntryPoint,
    pub(super) listeners: Vec<Listener>,
    /// Whether other processes may listen on the same address.
    shared: bool,
    /// Where the address was written, and `: `.
    place: String,
    /// How long it goes on accepting once the process is to stop, and how long requests may take after that.
    pub(super) accept_grace: Duration,
    pub(super) grace: Duration,
}

/// An entry point that cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{place}entryPoints.{name}.address: cannot listen on {address}: {error}{hint}")]
pub(super) struct CannotOpen {
    /// Where the address was written, and `: `.
    place: String,
    name: String,
    address: String,
    error: io::Error,
    hint: &'static str,
}

/// Opens every entry point of `install`, or tells of every one that cannot be. A socket that systemd opened for an entry point is
/// used instead of its address.
pub(super) fn open(
    install: &Install,
    mut inherited: Vec<Inherited>,
    workers: usize,
    files: u64,
) -> Result<Vec<Door>, Vec<CannotOpen>> {
    let (mut doors, mut failed) = (Vec::new(), Vec::new());
    for (index, (name, config)) in install.entry_points.iter().enumerate() {
        // UDP entry points are reported when the configuration is loaded.
        if config.is_udp() {
            continue;
        }
        let ours = inherited.iter().position(|socket| socket.name == *name);
        let listeners = match ours {
            Some(at) => inherited
                .swap_remove(at)
                .listener
                .and_then(|listener| copies(listener, workers)),
            None => bind(config, workers),
        };
        match listeners {
            Ok(listeners) => doors.push(Door {
                options: options(index, name, config, share(files, workers, name)),
                listeners,
                place: place(install, name),
                shared: config.reuse_port || ours.is_some(),
                accept_grace: config
                    .transport
                    .life_cycle
                    .request_accept_grace_timeout
                    .positive()
                    .unwrap_or_default(),
                grace: config
                    .transport
                    .life_cycle
                    .grace_time_out
                    .positive()
                    .unwrap_or_default(),
            }),
            Err(error) => failed.push(CannotOpen {
                place: place(install, name),
                name: name.clone(),
                address: config.address.to_string(),
                hint: hint(&error),
                error,
            }),
        }
    }
    if failed.is_empty() {
        Ok(doors)
    } else {
        Err(failed)
    }
}

/// Lets clients connect.
pub(super) fn listen(doors: &[Door]) -> io::Result<()> {
    for door in doors {
        entrypoint::listen(&door.listeners, door.shared).map_err(|error| {
            let (name, place) = (&door.options.name, &door.place);
            let hint = hint(&error);
            let text = format!("{place}entryPoints.{name}.address: cannot listen: {error}{hint}");
            io::Error::new(error.kind(), text)
        })?;
    }
    Ok(())
}

fn place(install: &Install, name: &str) -> String {
    match install.places.at(&format!("entryPoints.{name}.address")) {
        Place::Builtin => String::new(),
        place => format!("{place}: "),
    }
}

/// How long the end of the process may take.
pub(super) fn longest_grace(doors: &[Door]) -> Duration {
    let each = doors.iter().map(|door| door.accept_grace + door.grace);
    each.max().unwrap_or_default()
}

/// One socket for all workers: systemd opened no more.
fn copies(listener: Listener, workers: usize) -> io::Result<Vec<Listener>> {
    listener.set_nonblocking(true)?;
    let mut listeners = (1..workers)
        .map(|_| listener.try_clone())
        .collect::<io::Result<Vec<_>>>()?;
    listeners.push(listener);
    Ok(listeners)
}

fn bind(config: &install::EntryPoint, workers: usize) -> io::Result<Vec<Listener>> {
    let port = config.address.port;
    if config.address.host.is_empty() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        // A machine without IPv6 still has the other family.
        return entrypoint::bind(any, workers, config.reuse_port).or_else(|error| {
            match error.raw_os_error() {
                Some(code) if code == rustix::io::Errno::AFNOSUPPORT.raw_os_error() => {
                    entrypoint::bind(
                        SocketAddr::from(([0, 0, 0, 0], port)),
                        workers,
                        config.reuse_port,
                    )
                }
                _ => Err(error),
            }
        });
    }
    let address = match config.address.host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => (config.address.host.as_str(), port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::other("the host name has no address"))?,
    };
    entrypoint::bind(address, workers, config.reuse_port)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process has the port; stop it or choose another address)"
        }
        io::ErrorKind::PermissionDenied => {
            " (ports below 1024 need the capability NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start)"
        }
        io::ErrorKind::AddrNotAvailable => " (this machine has no such address)",
        _ => "",
    }
}

/// A worker's share of the connections allowed: half of the open files, as each connection may need one more to a server.
fn share(files: u64, workers: usize, name: &str) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let allowed = files.saturating_sub(SPARE_FILES + INTERNAL_CONNECTIONS * workers) / 2;
    let share = allowed / workers.max(1);
    if name == INTERNAL {
        share + INTERNAL_CONNECTIONS
    } else {
        share
    }
    .max(1)
}

fn options(
    index: usize,
    name: &str,
    config: &install::EntryPoint,
    worker_connections: usize,
) -> EntryPoint {
    let timeouts = &config.transport.responding_timeouts;
    let read = timeouts.read_timeout.and_then(Span::positive);
    EntryPoint {
        index,
        name: name.into(),
        limits: Limits {
            // Go reads a little more than it is told; who sets the value has tried it there.
            max_head: config.http.max_header_bytes as usize + 4096,
            path: PathOptions {
                sanitize: config.http.sanitize_path,
                encode_semicolons: config.http.encode_query_semicolons,
            },
        },
        timeouts: Timeouts {
            // A limit that the user set for whole requests holds for their heads too.
            header: match (timeouts.header_timeout.positive(), read) {
                (Some(header), Some(read)) => Some(header.min(read)),
                (header, read) => header.or(read),
            },
            idle: timeouts.idle_timeout.positive(),
            progress: timeouts.body_progress_timeout.positive(),
            half_closed: timeouts.half_closed_timeout.positive(),
            read,
            write: timeouts.write_timeout.positive(),
            connection: config.transport.keep_alive_max_time.positive(),
        },
        max_requests: config.transport.keep_alive_max_requests,
        limit: ConnectionLimit::new(config.transport.max_connections),
        worker_connections,
        max_streams: config.http2.max_concurrent_streams,
        header_table: config.http2.max_decoder_header_table_size,
        proxy_protocol: config
            .proxy_protocol
            .as_ref()
            .map(|proxy| trust(proxy.insecure, &proxy.trusted_ips)),
        forwarded: trust(
            config.forwarded_headers.insecure,
            &config.forwarded_headers.trusted_ips,
        ),
    }
}

fn trust(everybody: bool, networks: &[Cidr]) -> Trust {
    if everybody {
        Trust::Everybody
    } else if networks.is_empty() {
        Trust::Nobody
    } else {
        Trust::Networks(networks.iter().map(|network| network.0).collect())
    }
}

/// How each entry point treats forwarding headers, in the order of the install configuration.
pub(super) fn forwarding(install: &Install, hostname: &str) -> Vec<Forwarding> {
    let server = HeaderValue::from_str(hostname).ok();
    let doors = install.entry_points.values();
    doors
        .map(|door| Forwarding {
            keep: door
                .forwarded_headers
                .connection
                .iter()
                .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
                .collect(),
            not_append: door.forwarded_headers.not_append_x_forwarded_for
                || install.global.not_append_x_forwarded_for,
            aliases: aliases(&door.http),
            server: server.clone(),
        })
        .collect()
}

fn aliases(http: &install::EntryPointHttp) -> Aliases {
    let (strategy, underscore_only) = match (
        http.alias_headers_strategy,
        http.underscore_headers_strategy,
    ) {
        (Some(strategy), _) => (strategy, false),
        (None, Some(strategy)) => (strategy, true),
        (None, None) => (AliasStrategy::Keep, false),
    };
    let strategy = match strategy {
        AliasStrategy::Keep => forwarded::AliasStrategy::Keep,
        AliasStrategy::Delete => forwarded::AliasStrategy::Delete,
        AliasStrategy::Reject => forwarded::AliasStrategy::Reject,
    };
    Aliases {
        strategy,
        underscore_only,
    }
}

/// What one worker needs of a door.
pub(super) struct WorkerDoor {
    pub(super) options: Rc<EntryPoint>,
    pub(super) listener: Listener,
    pub(super) accept_grace: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_an_entry_point() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let mut config = install::EntryPoint::default();
        let timeouts = options(0, "web", &config, 1).timeouts;
        assert_eq!(
            (timeouts.header, timeouts.idle, timeouts.progress),
            (seconds(10), seconds(180), seconds(30))
        );
        assert_eq!((timeouts.read, timeouts.write), (None, None));
        assert_eq!(timeouts.half_closed, seconds(30));
        let given = &mut config.transport.responding_timeouts;
        for (read, header, expected) in [
            (Some(5), 10, seconds(5)),
            (Some(60), 10, seconds(10)),
            (Some(60), 0, seconds(60)),
            (Some(0), 10, seconds(10)),
            (None, 0, None),
        ] {
            given.read_timeout = read.map(Span::from_secs);
            given.header_timeout = Span::from_secs(header);
            let config = install::EntryPoint {
                transport: install::Transport {
                    responding_timeouts: given.clone(),
                    ..install::Transport::default()
                },
                ..install::EntryPoint::default()
            };
            let timeouts = options(0, "web", &config, 1).timeouts;
            assert_eq!(timeouts.header, expected, "{read:?} {header}");
        }
    }

    #[test]
    fn an_address_that_is_taken_is_told_where_it_was_written() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let flag = "--entrypoints.web.address";
        let address = taken.local_addr().unwrap();
        let arguments = [format!("{flag}={address}")];
        let sources = crate::config::Sources {
            arguments: &arguments,
            environment: &[],
            directory: std::path::Path::new("/nonexistent"),
            root: crate::config::Root::Here,
        };
        let install = crate::config::load_install(&sources).unwrap().install;
        let failed = open(&install, Vec::new(), 1, 10_000).unwrap_err();
        let expected = format!(
            "{flag}: entryPoints.web.address: cannot listen on {address}: Address already in use"
        );
        assert!(failed[0].to_string().starts_with(&expected), "{failed:?}");
    }

    #[test]
    fn connections_are_shared_out() {
        let each = (20_000 - 128 - 128) / 4;
        assert_eq!(share(20_000, 2, "web"), each);
        assert_eq!(share(20_000, 2, INTERNAL), each + INTERNAL_CONNECTIONS);
        assert_eq!(share(10, 2, "web"), 1);
    }

    #[test]
    fn a_port_in_use_is_explained() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut install = Install::default();
        let door = install::EntryPoint {
            address: taken.local_addr().unwrap().to_string().parse().unwrap(),
            ..Default::default()
        };
        install.entry_points.insert("web".into(), door);
        let failed = open(&install, Vec::new(), 1, 1000).unwrap_err();
        let text = failed[0].to_string();
        assert!(
            text.contains("entryPoints.web.address")
                && text.contains("another process has the port"),
            "{text}"
        );
    }
}
