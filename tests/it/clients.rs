//! Clients and servers that others wrote: curl, h2load, slowhttptest, gRPC and WebSocket for Python.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::support::{Client, Proxy, Reply, all_to, backend, proxy};

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

/// Calls in gRPC-Web, as a browser writes them, to a server of gRPC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_web_calls() {
    let server = serve("tests/clients/grpc_echo.py");
    let routing = format!(
        "http:\n  routers: {{all: {{rule: 'PathPrefix(`/`)', service: all, middlewares: [web]}}}}\n  middlewares: {{web: {{grpcWeb: {{allowOrigins: ['https://a.test']}}}}}}\n  services: {{all: {{loadBalancer: {{servers: [{{url: 'h2c://127.0.0.1:{}'}}]}}}}}}\n",
        server.port
    );
    let proxy = proxy(&routing).run().await;
    let message = |text: &str| [&[0, 0, 0, 0, text.len() as u8], text.as_bytes()].concat();
    for (h2, text) in [(false, false), (false, true), (true, false), (true, true)] {
        let client = proxy.client();
        let client = if h2 { client.h2() } else { client };
        let call = async |method: &str, body: Vec<u8>| web_call(&client, method, body, text).await;
        let (messages, trailers) = parts(&call("Say", message("hello")).await);
        assert_eq!(messages, ["you said hello"]);
        assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
        assert!(trailers.contains("x-trailing: yes\r\n"), "{trailers}");
        let (messages, trailers) = parts(&call("Say", message("fail")).await);
        assert!(messages.is_empty());
        let failure = "grpc-message: as you wish\r\ngrpc-status: 9\r\n";
        assert!(trailers.contains(failure), "{trailers}");
        let three = ["1", "2", "3"].map(message).concat();
        let (messages, trailers) = parts(&call("Chat", three).await);
        assert_eq!(messages, ["you said 1", "you said 2", "you said 3"]);
        assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
        // The status of a call to nobody stands in the head, and the list of trailers is empty.
        let (messages, trailers) = parts(&call("Missing", message("hello")).await);
        assert!(messages.is_empty() && trailers.is_empty(), "{trailers}");
    }
}

/// One call, in bytes or in text; the bytes of the answer.
async fn web_call(client: &Client, method: &str, body: Vec<u8>, text: bool) -> Vec<u8> {
    let coding = if text { "-text" } else { "" };
    let body = match text {
        true => STANDARD.encode(&body).into_bytes(),
        false => body,
    };
    let answer = client
        .call("POST", &format!("/echo.Echo/{method}"))
        .header(
            "Content-Type",
            &format!("application/grpc-web{coding}+proto"),
        )
        .header("X-Grpc-Web", "1")
        .header("Origin", "https://a.test")
        .body(body)
        .await;
    assert_eq!(answer.status, 200, "{method}");
    assert!(answer.trailers.is_none());
    let origin = answer.header("access-control-allow-origin");
    assert_eq!(origin, Some("https://a.test"));
    let expected = format!("application/grpc-web{coding}");
    let answered = answer.header("content-type").unwrap();
    assert!(answered.starts_with(&expected), "{answered}");
    match text {
        false => answer.body.to_vec(),
        // Pieces that are each brought to full groups.
        true => answer
            .body
            .chunks(4)
            .flat_map(|group| STANDARD.decode(group).unwrap())
            .collect(),
    }
}

/// The messages of an answer in gRPC-Web and its trailers.
fn parts(mut bytes: &[u8]) -> (Vec<String>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while let [flag, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (message, after) = rest.split_at(length);
        let text = String::from_utf8(message.to_vec()).unwrap();
        match flag {
            0 => messages.push(text),
            _ => trailers += &text,
        }
        bytes = after;
    }
    assert!(bytes.is_empty());
    (messages, trailers)
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
