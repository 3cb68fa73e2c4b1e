#!/usr/bin/env python3
"""Compares Portway with other proxies on this machine: the proxy on core 0, generator and back end on core 1, in turn, medians of several rounds.

Usage: benches/peers/run.py [--quick] [--only SCENARIO,...] [--proxies NAME,...] [--portway PATH] [--rounds N] [--seconds N] [--no-write] [--realtime]
Scenarios: h1 tls tls-new h2 big routers middlewares memory reload
"""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import load
import peers
import report

ROOT = peers.ROOT
README = ROOT / "benches" / "README.md"
PROXIES = ["portway", "haproxy", "nginx", "envoy", "traefik", "caddy"]
OTHERS = ["routers", "middlewares", "memory", "reload"]


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round, fewer connections: does it work at all")
    parser.add_argument("--only", default=",".join([*load.SCENARIOS, *OTHERS]), help="scenarios, comma-separated")
    parser.add_argument("--proxies", default=",".join(PROXIES), help="proxies, comma-separated")
    parser.add_argument("--portway", default=str(ROOT / "target" / "release" / "portway"), help="the binary to measure")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--no-write", action="store_true", help="print only, leave benches/README.md and the plot alone")
    parser.add_argument("--realtime", action="store_true", help="run everybody with a real-time priority, so that other work on the machine disturbs less; needs root")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 5)
    chosen.seconds = chosen.seconds or (1 if chosen.quick else 2)
    chosen.portway = str(Path(chosen.portway).resolve())
    chosen.only = chosen.only.split(",")
    chosen.proxies = chosen.proxies.split(",")
    unknown = set(chosen.only) - {*load.SCENARIOS, *OTHERS} | set(chosen.proxies) - set(PROXIES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return chosen


def median(samples):
    return load.Sample({key: statistics.median(sample[key] for sample in samples) for key in samples[0]})


def note(text):
    print(f"[{time.monotonic() - STARTED:5.0f} s] {text}", flush=True)


def program(chosen, name):
    return chosen.portway if name.startswith("portway") else None


def run_load(bench, chosen, results):
    """The scenarios that every proxy runs, all proxies in turn within each round."""
    scenarios = [scenario for scenario in load.SCENARIOS if scenario in chosen.only]
    if not scenarios and "memory" not in chosen.only:
        return
    running = {}
    for name in chosen.proxies:
        running[name] = bench.start(name, program(chosen, name))
        results["memory"][name] = {}
    if "memory" in chosen.only:
        time.sleep(2)
        for name, process in running.items():
            results["memory"][name]["idle_mib"] = process.memory_kib() / 1024
    try:
        for scenario in scenarios:
            samples = {name: [] for name in running}
            for _ in range(chosen.rounds):
                for name, process in running.items():
                    samples[name].append(load.SCENARIOS[scenario][1](process, chosen.seconds))
            results["load"][scenario] = {name: median(rounds) for name, rounds in samples.items()}
            for name, sample in results["load"][scenario].items():
                errors = f", {sample['errors']:.0f} ERRORS" if sample["errors"] else ""
                note(f"{scenario:8} {name:8} {sample['cpu_us']:8.1f} us  {sample['rps']:9.0f} req/s  p99 {sample['p99_ms']:7.2f} ms  core {100 * sample['busy']:3.0f} %{errors}")
        if "memory" in chosen.only:
            for name, process in running.items():
                results["memory"][name]["loaded_mib"] = process.memory_kib() / 1024
    finally:
        for process in running.values():
            process.stop()


def run_memory(bench, chosen, results):
    """Idle connections, each proxy fresh."""
    count, pause = (500, 5) if chosen.quick else (4000, 6)
    for name in chosen.proxies:
        process = bench.start(name, program(chosen, name))
        try:
            memory = results["memory"].setdefault(name, {})
            memory["connection_kib"] = load.idle_connections(process, count, pause) / 1024
            note(f"memory   {name:8} idle {memory.get('idle_mib', 0):6.1f} MiB, loaded {memory.get('loaded_mib', 0):6.1f} MiB, connection {memory['connection_kib']:6.1f} KiB")
        finally:
            process.stop()


def run_routers(bench, chosen, results):
    """Many host routers against one, each request to another host."""
    running = {}
    for name, counts in [("portway", [1, 3000, 30000]), ("traefik", [1, 3000])]:
        for hosts in counts:
            if name in chosen.proxies:
                running[f"{name}-{hosts}"] = (bench.start(name, program(chosen, name), hosts), hosts)
    try:
        samples = {name: [] for name in running}
        for _ in range(chosen.rounds):
            for name, (process, hosts) in running.items():
                samples[name].append(load.wrk(process, chosen.seconds, 64, hosts=hosts))
        for name, rounds in samples.items():
            results["routers"][name] = median(rounds)
            errors = f", {results['routers'][name]['errors']:.0f} ERRORS" if results["routers"][name]["errors"] else ""
            note(f"routers  {name:14} {results['routers'][name]['cpu_us']:8.1f} us{errors}")
    finally:
        for process, _ in running.values():
            process.stop()


def run_middlewares(bench, chosen, results):
    """What middlewares and mirroring add: plain router, chain of five and mirrored service in turn; compression of 1 MiB of text beside nginx's."""
    running = {name: bench.start(name, program(chosen, name), middlewares=True) for name in chosen.proxies if name in ("portway", "traefik", "nginx")}
    loads = {
        "plain": lambda process: load.wrk(process, chosen.seconds, 64),
        "chain": lambda process: load.wrk(process, chosen.seconds, 64, host="chain.test"),
        "gzip": lambda process: load.wrk(process, chosen.seconds, 8, path="/text", host="gzip.test", headers=["Accept-Encoding: gzip"]),
    }
    try:
        for kind, generate in loads.items():
            samples = {name: [] for name in running if kind == "gzip" or name != "nginx"}
            for _ in range(chosen.rounds):
                for name in samples:
                    samples[name].append(generate(running[name]))
            for name, rounds in samples.items():
                results["middlewares"].setdefault(name, {})[kind] = median(rounds)
                note(f"{kind:8} {name:8} {results['middlewares'][name][kind]['cpu_us']:8.1f} us, {results['middlewares'][name][kind]['errors']:.0f} errors")
        for name in ("portway", "traefik"):
            if name in running:
                waits = {host: [load.paced(running[name], host) for _ in range(chosen.rounds)] for host in (peers.HOST, "mirror.test")}
                results["middlewares"][name]["waits"] = [[statistics.median(column) for column in zip(*waits[host])] for host in waits]
                note(f"mirror   {name:8} median and 99th percentile without, with: {results['middlewares'][name]['waits']} ms")
    finally:
        for process in running.values():
            process.stop()


def run_reload(bench, chosen, results):
    if chosen.realtime:
        # Compiling must give way to traffic, which real-time threads of equal priority on one core do not do.
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    for name in ("portway", "traefik"):
        if name in chosen.proxies:
            process = bench.start(name, program(chosen, name), 10000)
            try:
                results["reload"][name] = load.reloads(bench, process, 10000, 1 if chosen.quick else 5 if name == "portway" else 2)
                note(f"reload   {name:8} live after {results['reload'][name][0]:.0f} ms, longest wait {results['reload'][name][1]:.1f} ms")
            finally:
                process.stop()


def machine():
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def versions():
    def first(command):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip().splitlines()

    haproxy = first([peers.find("haproxy"), "-v"])[0].split()[2]
    nginx = subprocess.run([peers.find("nginx"), "-v"], capture_output=True, text=True).stderr.strip().rsplit("/", 1)[1]
    traefik = first([str(peers.VENV / "bin" / "traefik"), "version"])[0].split()[1]
    caddy = first([str(peers.VENV / "bin" / "caddy"), "version"])[0].split()[0].lstrip("v")
    envoy = re.search(r"/(\d+\.\d+\.\d+)/", " ".join(first([str(peers.VENV / "bin" / "envoy"), "--version"])))[1]
    return f"HAProxy {haproxy}, nginx {nginx}, Envoy {envoy}, Traefik {traefik}, Caddy {caddy}"


def write(results, titles, text):
    plot = README.parent / "peers" / "results.svg"
    plot.write_text(report.plot(results, titles))
    begin, end = "<!-- results: begin -->", "<!-- results: end -->"
    before, rest = README.read_text().split(begin, 1)
    _, after = rest.split(end, 1)
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main():
    chosen = options()
    peers.install()
    if "portway" in chosen.proxies and not Path(chosen.portway).exists():
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
    if os.cpu_count() < 2:
        sys.exit("two cores are needed: one for the proxy, one for generator and back end")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {1})
    if chosen.realtime:
        # Inherited by everything that is started from here.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    results = {"when": time.strftime("%Y-%m-%d"), "machine": machine(), "proxies": chosen.proxies, "load": {}, "memory": {}, "routers": {}, "middlewares": {}, "reload": {}}
    titles = {name: title for name, (title, _) in load.SCENARIOS.items()}
    with tempfile.TemporaryDirectory(prefix="peers-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        Path(directory).chmod(0o755)
        bench = peers.Bench(Path(directory))
        try:
            run_load(bench, chosen, results)
            for name, step in [("memory", run_memory), ("routers", run_routers), ("middlewares", run_middlewares), ("reload", run_reload)]:
                if name in chosen.only:
                    step(bench, chosen, results)
        finally:
            bench.backend.stop()
    rows = report.verdicts(results, titles)
    machine_line = f"{results['when']}, {results['machine']}; {versions()}; {chosen.rounds} rounds of {chosen.seconds} s, medians{', real-time priority' if chosen.realtime else ''}."
    text = "\n\n".join([machine_line, report.verdict_table(rows), "![CPU per request](peers/results.svg)", report.table(results, titles)])
    print(f"\n{text}\n")
    (ROOT / "target").mkdir(exist_ok=True)
    (ROOT / "target" / "peers.json").write_text(json.dumps(results, indent=1))
    if not chosen.no_write:
        write(results, titles, text)


if __name__ == "__main__":
    STARTED = time.monotonic()
    main()
