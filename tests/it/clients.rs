//! Clients and servers that others wrote: curl, h2load, slowhttptest, gRPC and WebSocket for Python.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Proxy, Reply, all_to, backend, proxy};

/// Runs a program to its end and returns what it printed; its failure is the test's.
async fn run(program: &str, arguments: Vec<String>) -> String {
    let shown = format!("{program} {}", arguments.join(" "));
    let program = program.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        Command::new("timeout")
            .arg("60")
            .arg(program)
            .args(arguments)
            .env("no_proxy", "*")
            .output()
    })
    .await
    .unwrap()
    .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(
        output.status.success(),
        "{shown}: {}\n{out}{err}\n(is something missing? tests/setup installs it)",
        output.status
    );
    out
}

async fn curl(proxy: &Proxy, arguments: &[&str], target: &str) -> String {
    let scheme = if arguments.contains(&"-k") {
        "https"
    } else {
        "http"
    };
    let mut all: Vec<String> = [
        "-sS",
        "--noproxy",
        "*",
        "-w",
        "\n%{http_code} %{http_version}",
    ]
    .iter()
    .chain(arguments)
    .map(|argument| (*argument).to_owned())
    .collect();
    all.push(format!(
        "{scheme}://127.0.0.1:{}{target}",
        proxy.addr("web").port()
    ));
    run("curl", all).await
}

fn plain_and_secure(url: &str) -> String {
    format!(
        "http:\n  routers:\n    plain: {{rule: 'PathPrefix(`/`)', service: all}}\n    secure: {{rule: 'PathPrefix(`/`)', service: all, tls: {{}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: '{url}'}}]}}}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_over_every_protocol() {
    let server = backend("server")
        .reply(|seen| Reply::status(200, &format!("{} {}", seen.method, seen.body.len())))
        .run()
        .await;
    let proxy = proxy(&plain_and_secure(&server.url())).run().await;
    for (arguments, version) in [
        (&["--http1.0"][..], "1"),
        (&["--http1.1"], "1.1"),
        (&["--http2-prior-knowledge"], "2"),
        (&["-k", "--http1.1"], "1.1"),
        (&["-k", "--http2"], "2"),
        (&["-k", "--tlsv1.3"], "2"),
    ] {
        assert_eq!(
            curl(&proxy, arguments, "/x").await,
            format!("GET 0\n200 {version}"),
            "{arguments:?}"
        );
        let with_body = [arguments, &["-d", "12345"]].concat();
        assert_eq!(
            curl(&proxy, &with_body, "/x").await,
            format!("POST 5\n200 {version}"),
            "{with_body:?}"
        );
    }
    // An upgrade that curl offers on its own is not taken, the request is answered over HTTP/1.1.
    assert_eq!(curl(&proxy, &["--http2"], "/x").await, "GET 0\n200 1.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_without_an_error() {
    let server = backend("server")
        .reply(|_| Reply::status(200, "hello"))
        .run()
        .await;
    let proxy = proxy(&plain_and_secure(&server.url())).run().await;
    for scheme in ["http", "https"] {
        let address = format!("{scheme}://127.0.0.1:{}/", proxy.addr("web").port());
        let out = run(
            "h2load",
            ["-n", "4000", "-c", "4", "-m", "32", &address]
                .map(str::to_owned)
                .to_vec(),
        )
        .await;
        assert!(
            out.contains("4000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{out}"
        );
    }
}

/// A Python program that prints the port it listens on; it ends with the test.
struct Python {
    child: Child,
    port: u16,
}

impl Drop for Python {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn serve(script: &str) -> Python {
    let mut child = Command::new(here("target/venv/bin/python"))
        .arg(here(script))
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("target/venv is missing: run tests/setup");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    Python {
        port: line.trim().parse().unwrap(),
        child,
    }
}

async fn call(script: &str, proxy: &Proxy) {
    let arguments = vec![
        here(script).display().to_string(),
        "call".to_owned(),
        proxy.addr("web").port().to_string(),
    ];
    let out = run(
        &here("target/venv/bin/python").display().to_string(),
        arguments,
    )
    .await;
    assert_eq!(out.trim(), "fine");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_calls_with_trailers() {
    let server = serve("tests/clients/grpc_echo.py");
    let proxy = proxy(&all_to(&[format!("h2c://127.0.0.1:{}", server.port)]))
        .run()
        .await;
    call("tests/clients/grpc_echo.py", &proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_echo() {
    let server = serve("tests/clients/websocket_echo.py");
    let proxy = proxy(&all_to(&[format!("http://127.0.0.1:{}", server.port)]))
        .run()
        .await;
    call("tests/clients/websocket_echo.py", &proxy).await;
}

/// The slow heads, bodies and readers of an attacker's tool, all at once.
#[tokio::test]
async fn slowhttptest_takes_no_service_away() {
    let block = "x".repeat(1 << 20);
    let server = backend("server")
        .reply(move |seen| match seen.target.as_str() {
            "/big" => Reply::status(200, &block),
            _ => Reply::status(200, "small"),
        })
        .run()
        .await;
    let timeouts = serde_json::json!({"headerTimeout": "1s", "bodyProgressTimeout": "1s"});
    let options = serde_json::json!({"transport": {"respondingTimeouts": timeouts}});
    let proxy = proxy(&all_to(&[server.url()]))
        .entry_point("web", &options)
        .run()
        .await;
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", proxy.addr("web").port());
    let attack = |mode: &[&str], path: &str| {
        let common = "-c 100 -r 100 -i 1 -l 4 -p 3".split(' ');
        let mut arguments: Vec<String> = common
            .chain(mode.iter().copied())
            .map(str::to_owned)
            .collect();
        arguments.extend(["-u".to_owned(), url(path)]);
        run("slowhttptest", arguments)
    };
    let attacks = async {
        tokio::join!(
            attack(&["-H"], "/"),
            attack(&["-B"], "/"),
            attack(&["-X", "-w", "1", "-y", "2", "-z", "1", "-n", "1"], "/big"),
        )
    };
    let mut attacks = std::pin::pin!(attacks);
    let mut served = 0;
    let outputs = loop {
        let request = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            proxy.client().get("/").await.status
        };
        tokio::select! {
            outputs = &mut attacks => break outputs,
            status = request => {
                assert_eq!(status, 200);
                served += 1;
            }
        }
    };
    assert!(served >= 10, "only {served} requests were served meanwhile");
    for output in [outputs.0, outputs.1, outputs.2] {
        assert!(
            output.contains("YES") && !output.contains("\u{1b}[1;32mNO"),
            "the attacker sees the service go: {output}"
        );
    }
}
