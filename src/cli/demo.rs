//! `portway demo`: three replicas, the proxy in front of them, and addresses to try.

use std::{
    fmt::Write as _,
    fs,
    future::pending,
    io,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use super::replica::Replica;

/// Where the demo listens unless `--port` says otherwise; the replicas and the API take the ports above.
const PORT: u16 = 8000;
const REPLICAS: u16 = 3;

/// Runs the demo until it is ended.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    match start(arguments) {
        Ok(code) => code,
        Err(error) => {
            super::complain(&format!("demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &[String]) -> io::Result<ExitCode> {
    let ports = Ports {
        base: port(arguments)?,
    };
    let folder = std::env::temp_dir().join(format!("portway-demo-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("routing.yml"), routing(ports))?;
    for number in 1..=REPLICAS {
        replica(number, ports.replica(number))?;
    }
    writeln!(io::stdout(), "{}", guide(ports, &folder))?;
    let code = super::run::run(&flags(ports, &folder));
    fs::remove_dir_all(&folder)?;
    Ok(code)
}

/// The ports of one demo.
#[derive(Debug, Clone, Copy)]
struct Ports {
    base: u16,
}

impl Ports {
    fn api(self) -> u16 {
        self.base + 80
    }

    fn replica(self, number: u16) -> u16 {
        self.base + 100 + number
    }
}

fn port(arguments: &[String]) -> io::Result<u16> {
    let text = match arguments {
        [] => return Ok(PORT),
        [flag, value] if flag == "--port" => value.as_str(),
        [flag] if flag.starts_with("--port=") => &flag["--port=".len()..],
        _ => {
            return Err(io::Error::other(
                "only --port N is understood (default 8000)",
            ));
        }
    };
    match text.parse() {
        Ok(port) if (1..u16::MAX - 200).contains(&port) => Ok(port),
        _ => Err(io::Error::other(format!(
            "--port: `{text}` is not a port below 65335"
        ))),
    }
}

fn flags(ports: Ports, folder: &Path) -> Vec<String> {
    vec![
        format!("--entryPoints.web.address=127.0.0.1:{}", ports.base),
        format!("--entryPoints.traefik.address=127.0.0.1:{}", ports.api()),
        format!(
            "--providers.file.filename={}",
            folder.join("routing.yml").display()
        ),
        "--api.insecure=true".into(),
        "--metrics.prometheus=true".into(),
        "--ping=true".into(),
        "--log.level=WARN".into(),
    ]
}

fn routing(ports: Ports) -> String {
    let mut servers = String::new();
    for number in 1..=REPLICAS {
        // Formatting into a string cannot fail.
        let _written = writeln!(
            servers,
            "          - url: http://127.0.0.1:{}",
            ports.replica(number)
        );
    }
    let check = "        healthCheck: { path: /health, interval: 1s, timeout: 500ms }";
    format!(
        "http:
  routers:
    turns: {{ rule: 'PathPrefix(`/`)', service: turns }}
    sticky: {{ rule: 'PathPrefix(`/sticky`)', service: sticky }}
    limited: {{ rule: 'PathPrefix(`/limited`)', service: turns, middlewares: [limit] }}
  middlewares:
    limit: {{ rateLimit: {{ average: 2, burst: 5 }} }}
  services:
    turns:
      loadBalancer:
{check}
        servers:
{servers}    sticky:
      loadBalancer:
{check}
        sticky: {{ cookie: {{ name: portway_demo, httpOnly: true }} }}
        servers:
{servers}"
    )
}

fn guide(ports: Ports, folder: &Path) -> String {
    let (web, api, second) = (ports.base, ports.api(), ports.replica(2));
    format!(
        "Portway demo: three replicas behind http://127.0.0.1:{web} (end with Ctrl-C)

  curl http://127.0.0.1:{web}/                           three replicas in turn
  curl -c jar -b jar http://127.0.0.1:{web}/sticky       one replica, by cookie
  curl -i http://127.0.0.1:{web}/limited                 429 after a burst of five
  curl -X POST http://127.0.0.1:{second}/fail            replica 2 fails its health check and leaves
  curl -X POST http://127.0.0.1:{second}/recover         ... and returns
  curl http://127.0.0.1:{api}/api/http/services          servers and their state
  curl http://127.0.0.1:{api}/metrics                    for Prometheus

The routing file is {}; edit it and see it go live.",
        folder.join("routing.yml").display()
    )
}

/// Starts a replica on a thread of its own; it lives as long as the process.
fn replica(number: u16, port: u16) -> io::Result<()> {
    let listener =
        TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(|error| {
            io::Error::other(format!(
                "cannot listen on port {port}: {error} (choose others with --port)"
            ))
        })?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let replica = Arc::new(Replica::new(format!("replica-{number}")));
    std::thread::Builder::new()
        .name(format!("replica-{number}"))
        .spawn(move || {
            runtime.block_on(async {
                let served = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => replica.serve(listener, pending()).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = served {
                    tracing::error!(%error, "replica ended");
                }
            });
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn port_is_the_only_argument() {
        assert_eq!(port(&[]).unwrap(), 8000);
        assert_eq!(port(&arguments("--port 9000")).unwrap(), 9000);
        assert_eq!(port(&arguments("--port=9000")).unwrap(), 9000);
        for wrong in [
            "--port",
            "--port x",
            "--port 70000",
            "9000",
            "--port 9000 x",
        ] {
            assert!(port(&arguments(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_routing_file_has_every_replica_twice() {
        let text = routing(Ports { base: 8000 });
        assert_eq!(
            text.matches("url: http://127.0.0.1:810").count(),
            6,
            "{text}"
        );
    }
}
