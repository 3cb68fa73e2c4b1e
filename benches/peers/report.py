"""Turns the results into a table, a verdict on each target, and a plot."""

from html import escape

NAMES = {"portway": "Portway", "haproxy": "HAProxy", "nginx": "nginx", "envoy": "Envoy", "traefik": "Traefik", "caddy": "Caddy"}
TARGETS = {"h1": 1.0, "tls": 0.85, "tls-new": 0.65, "h2": 1.1, "big": 0.8}


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def table(results, titles):
    """Markdown: one row per scenario, one column per proxy."""
    proxies = results["proxies"]
    lines = []
    for key, caption in [("cpu_us", "CPU microseconds per request (user + system of the proxy), lower is better"), ("rps", "Requests per second on one core"), ("p99_ms", "99th percentile, ms")]:
        lines += [f"**{caption}**", "", "| | " + " | ".join(NAMES[proxy] for proxy in proxies) + " |", "|---|" + "---:|" * len(proxies)]
        for scenario, title in titles.items():
            if scenario in results["load"]:
                row = results["load"][scenario]
                lines.append(f"| {title} | " + " | ".join(number(row[proxy][key]) if proxy in row else "-" for proxy in proxies) + " |")
        lines.append("")
    lines += ["**Memory**", "", "| | " + " | ".join(NAMES[proxy] for proxy in proxies) + " |", "|---|" + "---:|" * len(proxies)]
    for key, caption in [("idle_mib", "idle, MiB"), ("loaded_mib", "after the load, MiB"), ("connection_kib", "one idle keep-alive connection, KiB")]:
        row = results["memory"]
        if any(key in row.get(proxy, {}) for proxy in proxies):
            lines.append(f"| {caption} | " + " | ".join(number(row[proxy][key]) if key in row.get(proxy, {}) else "-" for proxy in proxies) + " |")
    if results["routers"]:
        lines += ["", "**Host routers: CPU microseconds per request, each request to another host**", "", "| | CPU us | requests/s | ratio to its own one router |", "|---|---:|---:|---:|"]
        for name, sample in results["routers"].items():
            kind, hosts = name.rsplit("-", 1)
            base = results["routers"].get(f"{kind}-1")
            ratio = f"{sample['cpu_us'] / base['cpu_us']:.2f}" if base else "-"
            lines.append(f"| {NAMES[kind]}, {int(hosts):,} | {number(sample['cpu_us'])} | {number(sample['rps'])} | {ratio} |")
    if results["middlewares"]:
        lines += middlewares(results["middlewares"])
    if results["reload"]:
        lines += ["", "**Reload of 10,000 routers under traffic**", "", "| | live after, ms (median) | longest wait of a request meanwhile, ms |", "|---|---:|---:|"]
        for name, (live, longest) in results["reload"].items():
            lines.append(f"| {NAMES[name]} | {number(live)} | {number(longest)} |")
    return "\n".join(lines)


def middlewares(measured):
    """What a chain of five middlewares, compression and mirroring cost."""
    lines = ["", "**Middlewares**", "", "| | plain router, CPU us | five middlewares more | gzip of 1 MiB, CPU ms | answer without, with mirror: median ms | 99th percentile ms |", "|---|---:|---:|---:|---:|---:|"]
    for name, row in measured.items():
        chain = f"{row['chain']['cpu_us'] - row['plain']['cpu_us']:+.2f}" if "chain" in row else "-"
        plain = number(row["plain"]["cpu_us"]) if "plain" in row else "-"
        waits = [f"{without:.3f}, {mirrored:.3f}" for without, mirrored in zip(*row["waits"])] if "waits" in row else ["-", "-"]
        lines.append(f"| {NAMES[name]} | {plain} | {chain} | {row['gzip']['cpu_us'] / 1000:.1f} | {' | '.join(waits)} |")
    return lines


def verdicts(results, titles):
    """Each target: name, measured, limit, reached."""
    rows = []
    for scenario, limit in TARGETS.items():
        row = results["load"].get(scenario, {})
        if "portway" in row and "haproxy" in row:
            rows.append((f"{titles[scenario]}: ratio to HAProxy", row["portway"]["cpu_us"] / row["haproxy"]["cpu_us"], limit, "x"))
    routers = results["routers"]
    for hosts in (3000, 30000):
        if f"portway-{hosts}" in routers and "portway-1" in routers:
            rows.append((f"{hosts:,} host routers: ratio to one", routers[f"portway-{hosts}"]["cpu_us"] / routers["portway-1"]["cpu_us"], 1.05, "x"))
    measured = results["middlewares"]
    if "portway" in measured:
        rows.append(("five middlewares add", measured["portway"]["chain"]["cpu_us"] - measured["portway"]["plain"]["cpu_us"], 1.5, " us"))
        if "nginx" in measured:
            rows.append(("gzip of 1 MiB of text: ratio to nginx", measured["portway"]["gzip"]["cpu_us"] / measured["nginx"]["gzip"]["cpu_us"], 1.1, "x"))
        (without, _), (mirrored, _) = measured["portway"]["waits"]
        rows.append(("a mirror adds to the median answer", (mirrored - without) * 1000, 20.0, " us"))
    memory = results["memory"].get("portway", {})
    if "idle_mib" in memory:
        rows.append(("idle memory", memory["idle_mib"], 15.0, " MiB"))
    if "connection_kib" in memory:
        rows.append(("idle keep-alive connection", memory["connection_kib"], 8.0, " KiB"))
    if "portway" in results["reload"]:
        live, longest = results["reload"]["portway"]
        rows += [("reload of 10,000 routers is live", live, 150.0, " ms"), ("longest wait during a reload", longest, 10.0, " ms")]
    return rows


def verdict_table(rows):
    lines = ["| target | limit | measured | |", "|---|---:|---:|---|"]
    for name, value, limit, unit in rows:
        verdict = "reached" if value <= limit else f"missed by {100 * (value / limit - 1):.0f} %"
        lines.append(f"| {name} | <= {limit:g}{unit} | {value:.2f}{unit} | {verdict} |")
    return "\n".join(lines)


STYLE = """
  text { font: 13px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 } .small { font-size: 11px; fill: #59636e }
  .bar { fill: #afb8c1 } .ours { fill: #0969da } .axis { stroke: #d1d9e0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .small { fill: #9198a1 } .bar { fill: #484f58 } .ours { fill: #4493f8 } .axis { stroke: #3d444d }
  }
"""


def plot(results, titles):
    """One panel of horizontal bars per scenario: CPU per request."""
    left, width, row, gap = 90, 640, 20, 44
    parts, top = [], 52
    for scenario, title in titles.items():
        values = [(proxy, results["load"][scenario][proxy]["cpu_us"]) for proxy in results["proxies"] if proxy in results["load"].get(scenario, {})]
        if not values:
            continue
        largest = max(value for _, value in values)
        parts.append(f'<text class="title" x="10" y="{top}">{escape(title)}</text>')
        for index, (proxy, value) in enumerate(values):
            y, length = top + 10 + index * row, max(2, (width - left - 90) * value / largest)
            parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{NAMES[proxy]}</text>')
            parts.append(f'<rect class="{"ours" if proxy == "portway" else "bar"}" x="{left}" y="{y + 2}" width="{length:.1f}" height="{row - 5}" rx="2"/>')
            parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 13}">{number(value)}</text>')
        parts.append(f'<line class="axis" x1="{left}" x2="{left}" y1="{top + 8}" y2="{top + 10 + len(values) * row}"/>')
        top += 10 + len(values) * row + gap
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top - 20}" width="{width}" height="{top - 20}" role="img" aria-label="CPU time per request of several proxies">'
    return f'{head}\n<style>{STYLE}</style>\n<text class="small" x="10" y="22">CPU microseconds per request (user + system), one proxy core, lower is better. {escape(results["when"])}</text>\n' + "\n".join(parts) + "\n</svg>\n"
