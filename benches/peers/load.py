"""The generators and what is read off them: requests, time, errors, processor time, memory."""

import re
import socket
import statistics
import subprocess
import time
from pathlib import Path

from peers import HOST, routing

HERE = Path(__file__).resolve().parent
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


class Sample(dict):
    """Measured values of one round: cpu_us, rps, p99_ms, errors."""


def measured(process, generate):
    """Runs a generator and relates the processor time of the proxy to the requests it answered."""
    before, start = process.cpu_seconds(), time.monotonic()
    requests, p99, errors = generate()
    took, used = time.monotonic() - start, process.cpu_seconds() - before
    if not requests:
        raise RuntimeError(f"{process.name} answered nothing")
    return Sample(cpu_us=used * 1e6 / requests, rps=requests / took, p99_ms=p99, errors=errors, busy=used / took)


def wrk(process, seconds, connections, path="/", tls=False, close=False, hosts=0, host=HOST, headers=()):
    """HTTP/1.1 with keep-alive connections, or one connection per request with `close`."""
    url = f"{'https' if tls else 'http'}://127.0.0.1:{process.tls if tls else process.plain}{path}"
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s", "-H", f"Host: {host}"]
    for header in headers:
        command += ["-H", header]
    if close:
        command += ["-H", "Connection: close"]
    if hosts:
        command += ["-s", str(HERE / "hosts.lua")]
    command.append(url)
    if hosts:
        command += ["--", str(hosts)]

    def generate():
        output = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
        requests = int(re.search(r"(\d+) requests in", output)[1])
        value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", output).groups()
        errors = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
        trouble = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        if trouble and not close:
            errors += sum(map(int, trouble.groups()))
        return requests, float(value) * UNITS[unit], errors

    return measured(process, generate)


def h2load(process, seconds, clients=4, streams=32):
    """HTTP/2 over TLS. The 99th percentile comes from the per request log."""
    log = process.directory / "h2load.log"
    log.unlink(missing_ok=True)
    command = [
        "taskset", "-c", "1", "h2load", "-t1", "-H", f":authority: {HOST}", f"-c{clients}", f"-m{streams}", f"-D{seconds}", f"--connect-to=127.0.0.1:{process.tls}", f"--log-file={log}", f"https://{HOST}:{process.tls}/",
    ]  # fmt: skip

    def generate():
        output = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
        requests = int(re.search(r"(\d+) succeeded", output)[1])
        failed, errored = re.search(r"(\d+) failed, (\d+) errored", output).groups()
        return requests, 0.0, int(failed) + int(errored)

    sample = measured(process, generate)
    times = sorted(int(line.rsplit("\t", 1)[1]) for line in log.read_text().splitlines() if line)
    sample["p99_ms"] = times[int(len(times) * 0.99)] / 1000 if times else 0.0
    log.unlink()
    return sample


SCENARIOS = {
    "h1": ("HTTP/1.1, small answer, 64 connections", lambda process, seconds: wrk(process, seconds, 64)),
    "tls": ("HTTP/1.1 over TLS 1.3, 64 connections", lambda process, seconds: wrk(process, seconds, 64, tls=True)),
    "tls-new": ("new TLS 1.3 connection per request (P-256)", lambda process, seconds: wrk(process, seconds, 64, tls=True, close=True)),
    "h2": ("HTTP/2 over TLS, 4 connections x 32 streams", h2load),
    "big": ("1 MiB answers, 16 connections", lambda process, seconds: wrk(process, seconds, 16, path="/big")),
}


def paced(process, host, count=2000):
    """Milliseconds of single requests one after the other: the median, and the 99th percentile."""
    connection = Connection(process.plain)
    answers = [connection.get(host) for _ in range(100 + count)]
    connection.close()
    if any(status != 200 for status, _ in answers):
        raise RuntimeError(f"{process.name}: {host} is not served")
    times = sorted(took * 1000 for _, took in answers[100:])
    return statistics.median(times), times[int(count * 0.99)]


class Connection:
    """A keep-alive connection that times its requests; small enough to measure below a millisecond."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, host):
        """Status and seconds of one request."""
        start = time.perf_counter()
        self.socket.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = self.socket.recv(65536)
        while b"\r\n\r\n" not in answer:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError("closed in the head")
            answer += more
        head, body = answer.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
        while len(body) < length:
            body += self.socket.recv(65536)
        return int(head.split()[1]), time.perf_counter() - start

    def close(self):
        self.socket.close()


def idle_connections(process, count, pause):
    """Bytes of memory that one idle keep-alive connection costs, after one request each."""
    warm = Connection(process.plain)
    for _ in range(50):
        warm.get(HOST)
    time.sleep(1)
    before = process.memory_kib()
    connections = []
    for _ in range(count):
        connections.append(Connection(process.plain))
        connections[-1].get(HOST)
    time.sleep(pause)
    grown = process.memory_kib() - before
    alive = sum(connection.get(HOST)[0] == 200 for connection in connections[:: max(1, count // 50)])
    for connection in [*connections, warm]:
        connection.close()
    if not alive:
        raise RuntimeError(f"{process.name}: idle connections died")
    return grown * 1024 / count


def reloads(bench, process, hosts, rounds):
    """Replaces a file of `hosts` routers under light traffic: milliseconds until live, and the longest wait of a request meanwhile."""
    live, longest = [], []
    steady, probe = Connection(process.plain), Connection(process.plain)
    target = process.directory / "routing" / "routes.yml"
    for number in range(rounds):
        host = f"fresh{number}.test"
        fresh = process.directory / "next.yml"
        fresh.write_text(routing(bench, hosts, host))
        # What is measured is the proxy: a quiet moment after the writing of the file.
        time.sleep(0.5)
        waits, start = [], time.perf_counter()
        fresh.rename(target)
        while time.perf_counter() - start < 20:
            waits.append(steady.get(HOST)[1])
            status, took = probe.get(host)
            waits.append(took)
            if status == 200:
                break
        else:
            raise RuntimeError(f"{process.name}: the reload never went live")
        live.append((time.perf_counter() - start) * 1000)
        after = time.perf_counter()
        while time.perf_counter() - after < 0.3:
            waits.append(steady.get(HOST)[1])
        longest.append(max(waits) * 1000)
    steady.close()
    probe.close()
    return statistics.median(live), max(longest)
