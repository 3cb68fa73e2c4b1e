//! `portway --help`, `portway help COMMAND`, `portway COMMAND --help`.

use std::process::ExitCode;

use super::{Command, complain, say};

/// Shows the help of a subcommand, or of all.
pub(super) fn run(arguments: &[String]) -> ExitCode {
    let Some(name) = arguments.iter().find(|argument| !argument.starts_with('-')) else {
        return say(OVERVIEW);
    };
    match Command::named(name) {
        Ok(command) => say(of(command)),
        Err(unknown) => {
            complain(&unknown);
            ExitCode::FAILURE
        }
    }
}

/// The help of a subcommand.
pub(super) fn of(command: Command) -> &'static str {
    match command {
        Command::Run | Command::Help => OVERVIEW,
        Command::Check => CHECK,
        Command::Explain => EXPLAIN,
        Command::Migrate => MIGRATE,
        Command::Certs => CERTS,
        Command::Demo => DEMO,
        Command::Healthcheck => HEALTHCHECK,
        Command::Rollout => ROLLOUT,
        Command::Replica => REPLICA,
        Command::Version => "portway version\n\nPrints the version and what it was built for.",
    }
}

const OVERVIEW: &str =
    "Portway: a reverse proxy and load balancer that reads Traefik's configuration.

Usage
  portway [--option=value]...           run the proxy
  portway COMMAND [--option=value]...

Commands
  run           run the proxy (what happens without a command, too)
  check         find what is wrong with the configuration, without running it
  explain URL   say which router takes a request, why the others do not, and where it goes
  migrate       print the form of Traefik 3 of a stack of Traefik 2, as a diff
  certs         list the certificates, until when they are good, and what is about to be done about them
  demo          three replicas and a proxy in front of them, to play with
  healthcheck   ask the running proxy whether it is well (needs `ping`)
  rollout NAME  replace the containers of a Compose service without a gap
  replica       a small application to try a proxy with
  version       print the version
  help COMMAND  say more about a command

Where options come from: exactly one of these, the first that is there
  1. a file     --configFile=FILE, else traefik.toml, traefik.yaml or traefik.yml in /etc/traefik,
                $XDG_CONFIG_HOME, $HOME/.config or the working directory
  2. flags      --name=value or --name value; names in any case; a switch alone means true
  3. variables  TRAEFIK_ENTRYPOINTS_WEB_ADDRESS=:80 (or PORTWAY_...)

Common options                                                   default
  --entryPoints.NAME.address=HOST:PORT    where to listen         :80 if there is no entry point
  --entryPoints.NAME.http.tls=true        TLS for its routers     off
  --entryPoints.NAME.http.redirections.entryPoint.to=NAME         off
  --providers.file.filename=FILE          routing from a file     none
  --providers.file.directory=DIR          ... or all files below  none
  --providers.file.watch=BOOL             follow changes          true
  --log.level=LEVEL                       DEBUG INFO WARN ERROR   ERROR
  --log.format=common|json                                        common
  --accessLog=true                        log every request       off
  --accessLog.filePath=FILE               ... to a file           standard output
  --metrics.prometheus=true               /metrics                off
  --ping=true                             /ping                   off
  --api.insecure=true                     API without a router    off
Ping, metrics and the API are served by the entry point `traefik` (:8080) unless told otherwise.
docs/configuration.md describes every option.

Examples
  portway --entryPoints.web.address=:80 --providers.file.directory=/etc/portway/routing
  portway --configFile=/etc/traefik/traefik.yml
  portway check --configFile=/etc/traefik/traefik.yml
  portway explain https://app.example.com/api --configFile=/etc/traefik/traefik.yml";

const CHECK: &str = "portway check [options of run]
portway check FILE|DIRECTORY...
portway check -f COMPOSE_FILE [-f COMPOSE_FILE]... [--env-file FILE] [--profile NAME] [--json]

Reads the configuration as `portway run` would with the same options, file or variables, and prints everything that is wrong with it,
one finding a line: FILE:LINE:COLUMN: error: OPTION: what is wrong (what to do). Nothing is started, and nobody is connected to.

Says of every host that is served over TLS which certificate it would have: a configured one, one from a resolver, or the default one.

With files or directories, checks them as routing configuration; a file that holds entry points or providers is checked as the
install configuration, with everything it leads to.

With -f, reads a stack as Compose does (variables, .env, several files, include, extends, anchors, profiles), compiles it as the
proxy in it would, with the files that are mounted into that proxy, and says of every label of every service, and of every option
of the proxy, whether it is supported, different, not yet supported, unknown or wrong: FILE:LINE:COLUMN: STATE: LABEL: why.

  --env-file FILE   variables instead of those in .env; may be repeated
  --profile NAME    take services with this profile as started; `*` means all
  --json            as JSON

Ends with 1 if there are errors, with 0 if there are none or only warnings.

Examples
  portway check -f docker-compose.yml
  portway check --configFile=traefik.yml
  portway check routing.yml
  portway check --entryPoints.web.address=:80 --providers.file.directory=routing";

const EXPLAIN: &str = "portway explain URL [options below] [options of run]

Says by which entry point a request would come in, which router would take it, why each other router would not, and what comes
then: middlewares, service, servers, certificate.

  --header 'Name: value'   a header of the request; may be repeated, `Host` included
  --method METHOD          GET if not given
  --client-ip IP           who asks; 127.0.0.1 if not given
  --entrypoint NAME        by which entry point it comes; otherwise the URL's scheme and port decide
  --api URL                ask the running instance whose API is there, e.g. http://127.0.0.1:8080
  --offline                ask no running instance, look at the files only
  --all                    list every router, however many there are
  --json                   as JSON

If the configuration says that its API is served (`api.insecure`), the running instance is asked, so that the state of its servers
can be told; if it does not answer, the files are.

Examples
  portway explain http://app.localhost/api/x
  portway explain https://app.example.com/ --method POST --header 'X-Tenant: a' --configFile=traefik.yml
  portway explain http://app.localhost/ --api http://127.0.0.1:8080";

const MIGRATE: &str = "portway migrate -f COMPOSE_FILE [-f COMPOSE_FILE]... [--env-file FILE] [--profile NAME] [--write]
portway migrate FILE|DIRECTORY... [--write]

Prints what has another name or form in Traefik 3, as a unified diff: rules of syntax 2, renamed options, options that are gone, a Docker
provider in swarm mode. Nothing else changes: comments, order and quotes stay. What has no new form is dropped, and a line that begins
with `#` says why and what to use instead. The old form goes on working with Portway: `portway check` names it.

With -f, reads a stack as Compose does, and migrates the labels of its services, the flags and variables of the proxy in it, and
the static and dynamic files that are mounted into that proxy.

With files or directories, migrates static and dynamic files (YAML, JSON, TOML); a static file brings its dynamic files along.

  --write           change the files instead; the old FILE is kept as FILE.bak
  --env-file FILE   variables instead of those in .env; may be repeated
  --profile NAME    as with Compose

Ends with 0 if there is nothing to change or all is written, with 1 if there is something to change, with 2 if a file cannot be read.

Examples
  portway migrate -f docker-compose.yml
  portway migrate -f docker-compose.yml | patch -p0
  portway migrate traefik.yml dynamic/ --write";

const CERTS: &str = "portway certs [options below] [options of run]

Lists the certificates: those from files, those that resolvers obtained, and those that are yet to be obtained. Says of each who
issued it, until when it is good, by which resolver and challenge it comes, when it is renewed or tried again, and why the last
attempt failed.

  --api URL   ask the running instance whose API is there, e.g. http://127.0.0.1:8080
  --offline   ask no running instance, look at the files only
  --json      as JSON, as /api/certificates has it

If the configuration says that its API is served (`api.insecure`), the running instance is asked; if it does not answer, the files
are read. Without options, those of the Portway that runs here count, so `docker exec` needs none. What containers ask for is not
known from files.

Ends with 1 if a certificate is expired or cannot be obtained at the moment, with 0 if none is. One that nobody asks for any more
does not count.

Examples
  portway certs
  portway certs --configFile=/etc/traefik/traefik.yml --json
  docker compose exec edge portway certs";

const ROLLOUT: &str = "portway rollout SERVICE [options]

Replaces the running containers of a Compose service, the new ones first: starts as many new containers as run now, with what the
Compose file says today (image, labels, environment); waits until each is healthy, if it has a HEALTHCHECK, and Portway sends requests
to it after a good health check or a first connection; then stops the old ones, each of which finishes what it is at. If a new container
fails, or on Ctrl-C, all new ones are stopped in the same way and removed, and the old ones go on serving. A second Ctrl-C does not wait
for what Docker is at. Containers of `docker compose run` are left alone.

  -f, --file FILE          Compose file; may be repeated
  -p, --project-name NAME  Compose project
      --env-file FILE      for Compose
      --profile NAME       for Compose
      --replicas N         how many new containers; as many as run now if not given
      --timeout TIME       how long they may take to be ready: 90s, 5m; default 120s
      --api URL            Portway's API, http://HOST:PORT; otherwise 127.0.0.1:8080, else a Portway container's own is asked

If no Portway can be asked, containers without a HEALTHCHECK count as ready when they take connections at the port of their label
`loadbalancer.server.port`, or at the lowest that their image exposes; if there is none, nothing is replaced.

Needs the `docker` command with Compose. A service with a `container_name` or a fixed host port cannot run twice, and so not be rolled.
The new containers have new numbers (web-4 to web-6 after web-1 to web-3), which Compose goes on with.

As a plugin of the Docker CLI: link this program as ~/.docker/cli-plugins/docker-portway, then `docker portway rollout SERVICE`.

Ends with 1 if the service was not rolled over.

Examples
  portway rollout web
  portway rollout web -f docker-compose.ha.yml --timeout 3m";

const DEMO: &str = "portway demo [--port N]

Starts three replicas and a proxy in front of them, and prints what to try: taking turns, sticky sessions, a rate limit, a replica
that fails its health check. The proxy listens on port N of 127.0.0.1 (8000 if not given), its API on N + 80.";

const HEALTHCHECK: &str = "portway healthcheck [options of run]

Asks /ping of the running proxy that has the same configuration. Prints `OK: URL` and ends with 0 if it is well, with 1 otherwise.
`ping` must be on. For containers:

  HEALTHCHECK CMD portway healthcheck

Without options, and where no file or variable turns `ping` on, the options are those of the first Portway that runs on this machine
(in this container); if it does not serve `ping` at all, it is well as long as one of its entry points accepts connections.";

const REPLICA: &str = "portway replica [--port N] [--name NAME]

A small application to put behind a proxy. It listens on port N (80 if not given), and NAME is what it says it is (the name of the
machine if not given). On SIGTERM it accepts nothing new, finishes what runs and ends; WebSockets stay for as long as they are used.

  /                    who answers, and what was asked
  /health              {\"status\":\"healthy\",\"timestamp\":\"...\"}
  /wait/MILLISECONDS   as /, but later
  /ws                  a WebSocket that sends back what it gets
  /fail, /recover      POST: /health says 503 from now on, or 200 again";
