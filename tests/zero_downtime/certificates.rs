//! The stack of the README with certificates from an authority: one label more, and nothing else to be done.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{edge::free, image::Files, turn};

/// Pebble with its DNS server, where containers of this machine reach it.
struct Authority {
    children: Vec<Child>,
    management: SocketAddr,
}

impl Authority {
    /// Validates over these ports of this machine. Its files go to `folder`.
    fn start(folder: &Path, listen: SocketAddr, web: SocketAddr, secure: SocketAddr) -> Self {
        make_site(folder);
        let (management, dns) = (free().unwrap(), free().unwrap().to_string());
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("0.0.0.0:{}", listen.port()),
            "managementListenAddress": management.to_string(),
            "certificate": folder.join("site.pem"),
            "privateKey": folder.join("site.key"),
            "httpPort": web.port(),
            "tlsPort": secure.port(),
        }});
        let file = folder.join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        let file = file.display().to_string();
        let names = ["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01"];
        let off = [
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-management",
            "",
        ];
        let children = vec![
            spawn(
                folder,
                "pebble-challtestsrv",
                &[&names[..], &[&dns], &off].concat(),
            ),
            spawn(folder, "pebble", &["-config", &file, "-dnsserver", &dns]),
        ];
        Self {
            children,
            management,
        }
    }

    /// Writes down who signs what it issues.
    async fn root(&self, path: &Path) {
        let url = format!("https://{}/roots/0", self.management);
        eventually("pebble answers", async || {
            let output = curl(&["-k", "-o", &path.display().to_string(), &url]);
            output.1.then_some(())
        })
        .await;
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The certificate of the authority's own site, which is its own root.
fn make_site(folder: &Path) {
    let subject = format!("subjectAltName=DNS:{HOST},IP:127.0.0.1");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-subj", "/CN=pebble", "-addext", &subject])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "site.key", "-out", "site.pem"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn spawn(folder: &Path, program: &str, arguments: &[&str]) -> Child {
    let log = fs::File::create(folder.join(format!("{program}.log"))).unwrap();
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    child.unwrap_or_else(|error| panic!("{program}: {error} (tests/setup installs it)"))
}

/// How containers call this machine.
const HOST: &str = "host.docker.internal";

fn curl(arguments: &[&str]) -> (String, bool) {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10"])
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        String::from_utf8_lossy(&text).into_owned(),
        output.status.success(),
    )
}

async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_label_more_and_the_stack_has_its_certificate() {
    let _place = turn().await;
    for challenge in ["httpChallenge: {entryPoint: web}", "tlsChallenge: {}"] {
        obtains(challenge).await;
    }
}

async fn obtains(challenge: &str) {
    let (web, api) = (free().unwrap(), free().unwrap());
    let (secure, listen) = (free().unwrap(), free().unwrap());
    let ports = [("PORTWAY_PORT", web), ("PORTWAY_API_PORT", api)];
    let files = Files::prepare("docker-compose.ha.yml", &ports);
    let folder = files.folder.path();
    let authority = Authority::start(folder, listen, web, secure);

    let install = fs::read_to_string(folder.join("traefik.yml")).unwrap();
    let doors = "entryPoints:\n";
    assert!(install.contains(doors));
    let install = install.replace(doors, &format!("{doors}  websecure: {{address: ':443'}}\n"));
    let resolver = format!(
        "certificatesResolvers:\n  le:\n    acme:\n      email: admin@jackcwf.com\n      storage: /data/acme.json\n      \
         caServer: https://{HOST}:{}/dir\n      caCertificates: [/data/site.pem]\n      {challenge}\n",
        listen.port()
    );
    fs::write(folder.join("traefik.yml"), format!("{install}\n{resolver}")).unwrap();
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    fs::copy(folder.join("site.pem"), data.join("site.pem")).unwrap();
    let more = format!(
        "services:\n  edge:\n    ports: ['{secure}:443']\n    extra_hosts: ['{HOST}:host-gateway']\n    volumes: ['{}:/data']\n  \
         web:\n    labels:\n      - traefik.http.routers.app.entrypoints=websecure\n      - traefik.http.routers.app.tls.certresolver=le\n",
        data.display()
    );
    fs::write(folder.join("more.yml"), more).unwrap();
    files.compose(&["up", "-d", "--wait"]);

    let root = folder.join("root.pem");
    authority.root(&root).await;
    let (root, port) = (root.display().to_string(), secure.port());
    let resolve = format!("jackcwf.com:{port}:127.0.0.1");
    let url = format!("https://jackcwf.com:{port}/");
    let ask = ["-i", "--cacert", &root, "--resolve", &resolve, &url];
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let (text, trusted) = curl(&ask);
        if trusted && text.contains("answered GET jackcwf.com") {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{challenge}: {text}\n{}\n{}",
            files.compose(&["logs", "--tail", "40", "edge"]),
            fs::read_to_string(folder.join("pebble.log")).unwrap_or_default(),
        );
        sleep(Duration::from_millis(200)).await;
    }
    assert!(data.join("acme.json").exists());
}
