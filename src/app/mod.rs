//! The only composition root: builds the rooms, owns the tasks, orders start and stop.

mod doors;
mod internals;
mod signals;
mod worker;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    acme::Acme,
    admin::{Admin, Readiness},
    challenge::Challenges,
    compile::{MakeHook, Plugins, Workshop},
    config::{Diagnostic, Install, Severity, install},
    control::{self, Control, Parts},
    drain::{Drain, Tasks},
    exchange::{Body, Response},
    export::Exports,
    middleware::{Hook, Stores},
    observe::{
        AccessLog, FINDINGS, Log, LogQueue, Metrics, Resolvers, Responders, Sources, Tracer,
    },
    ocsp::Stapling,
    provider::{DockerProvider, HttpProvider, Provider, Reload, Updates, file::FileProvider},
    proxy::layer::{MakeStack, Next, Stack},
    runtime::{self, Settings, Workers},
    service::Slots,
    snapshot::{Snapshot, SnapshotCell},
    systemd,
    tls::Staples,
    upstream::{
        resolve::{Resolver, SystemLookup},
        transport::system_roots,
    },
};

use doors::Door;

/// Updates that may wait for control; a provider with more to say waits itself.
const UPDATES: usize = 16;
/// How long making the first configuration may take, once there is something to make it of, before that is worth a word.
const FIRST_COMPILE: Duration = Duration::from_secs(5);
/// How long logs may take to be written at the end.
const LOG_FLUSH: Duration = Duration::from_secs(2);
/// How long telling collectors what is left may take.
const LAST_EXPORT: Duration = Duration::from_secs(3);
/// How long tasks of the control thread may take to end.
const TASKS_END: Duration = Duration::from_secs(1);

/// Portway, ready to run.
pub struct App {
    install: Arc<Install>,
    /// What was found in the install configuration.
    diagnostics: Vec<Diagnostic>,
    providers: Vec<Box<dyn Provider>>,
    sources: Sources,
    resolvers: Resolvers,
    plugins: Plugins,
    make_stack: Option<MakeStack>,
}

impl App {
    /// An app with this install configuration.
    ///
    /// To embed Portway, add middlewares and providers of your own before you run it.
    pub fn new(install: Install, diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            install: Arc::new(install),
            diagnostics,
            providers: Vec::new(),
            sources: Sources::default(),
            resolvers: Resolvers::default(),
            plugins: Plugins::default(),
            make_stack: None,
        }
    }

    /// Adds a middleware. Routing configuration uses it as `plugin: { NAME: { options } }`; `make` gets the options and says what is
    /// wrong with them, or makes the middleware.
    #[must_use]
    pub fn middleware<F>(mut self, name: &str, make: F) -> Self
    where
        F: Fn(&serde_json::Value) -> Result<Arc<dyn Hook>, String> + Send + Sync + 'static,
    {
        let make: Arc<MakeHook> = Arc::new(make);
        self.plugins.add(name, make);
        self
    }

    /// Adds a source of routing configuration.
    #[must_use]
    pub fn provider(mut self, provider: impl Provider) -> Self {
        self.providers.push(Box::new(provider));
        self
    }

    /// Puts a tower layer around every request, inside the handling of forwarding headers and before routing. A second layer
    /// replaces the first: compose them with [`tower::ServiceBuilder`].
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: tower::Layer<Next> + Send + Sync + 'static,
        L::Service: tower::Service<http::Request<Body>, Response = Response> + Clone + 'static,
        <L::Service as tower::Service<http::Request<Body>>>::Error:
            Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.make_stack = Some(Arc::new(move || Stack::new(&layer)));
        self
    }

    /// Serves until told to stop by a signal.
    pub fn run(self) -> anyhow::Result<()> {
        let inherited = systemd::inherited_sockets();
        runtime::log_panics();
        let mut exports = Exports::default();
        let queue = exports.log(&self.install);
        let log = Log::start(&self.install.log, queue).context("log")?;
        // Roots and certificates need a provider; a second call in an embedding process finds one and changes nothing.
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        for found in &self.diagnostics {
            match found.severity {
                Severity::Info => tracing::info!(target: FINDINGS, "{found}"),
                _ => tracing::warn!(target: FINDINGS, "{found}"),
            }
        }
        let files = runtime::raise_open_files().context("limit of open files")?;
        let settings = settings(&self.install);
        let doors =
            doors::open(&self.install, inherited, settings.workers, files).map_err(|failed| {
                let text: Vec<_> = failed.iter().map(ToString::to_string).collect();
                anyhow::anyhow!(text.join("\n"))
            })?;
        let served = runtime::control(self.serve(doors, settings, (log.clone(), exports)))?;
        log.flush(LOG_FLUSH);
        served
    }

    async fn serve(
        mut self,
        doors: Vec<Door>,
        settings: Settings,
        (log, mut exports): (Log, Exports),
    ) -> anyhow::Result<()> {
        let (metrics, access_log, tracer) = self.observe(&log, &mut exports);
        let (mut tasks, reload, (drain, _)) = (Tasks::default(), Reload::default(), Drain::new());
        let cell = Arc::new(SnapshotCell::new(Arc::new(Snapshot::default())));
        let readiness = Arc::new(Readiness::default());
        let (resolver, resolving) = Resolver::new(SystemLookup::default());
        tasks.spawn("resolver", resolving);
        exports.start(&mut tasks);
        let admin = self.admin(&metrics, &readiness);
        let grace = doors::longest_grace(&doors);
        let challenges = Challenges::default();
        let shared = worker::Shared {
            cell: Arc::clone(&cell),
            internals: Arc::new(internals::Answers::new(admin)),
            forwarding: doors::forwarding(&self.install, &hostname()).into(),
            access_log: access_log.clone(),
            metrics: metrics.clone(),
            tracer,
            make_stack: self.make_stack.clone(),
            doubts: resolver.doubts(),
            challenges: challenges.clone(),
            drain: drain.watch(),
        };
        self.add_acme(&cell, challenges);
        let staples = self.start_stapling(&mut tasks, &cell, &metrics);
        let patience = control::patience(&self.install) + FIRST_COMPILE;
        self.start_control(&mut tasks, (resolver, staples), (&cell, &metrics, &reload))
            .await;
        first_configuration(&cell, patience).await;
        doors::listen(&doors)?;
        let workers = worker::start(settings, doors, shared)?;
        readiness.set_live();
        let notifier = systemd::Notifier::from_env().ok().flatten();
        notify(&notifier, systemd::Notifier::ready);
        tracing::info!(
            workers = workers.len(),
            "Portway {} serves",
            env!("CARGO_PKG_VERSION")
        );
        let stop = signals::Stop {
            drain: &drain,
            readiness: &readiness,
            grace,
        };
        let ended = wait(
            workers,
            &mut tasks,
            &stop,
            signals::Hands {
                reload,
                access_log: access_log.clone(),
            },
            &notifier,
        )
        .await;
        access_log.flush(LOG_FLUSH);
        exports.flush(LAST_EXPORT).await;
        tasks.finish(Instant::now() + TASKS_END).await;
        ended
    }

    /// What the traffic is counted, written down and traced with.
    fn observe(&self, log: &Log, exports: &mut Exports) -> (Metrics, AccessLog, Tracer) {
        let metrics = metrics(&self.install, &self.sources);
        metrics.watch_resolvers(&self.resolvers);
        log.watch(&metrics);
        let queue = exports.access_log(&self.install);
        let access_log = access_log(&self.install, &metrics, queue);
        let tracer = exports.tracer(&self.install);
        exports.metrics(&self.install, &metrics);
        (metrics, access_log, tracer)
    }

    fn add_configured_providers(&mut self, reload: &Reload) {
        let configured = &self.install.providers;
        let file = configured.file.as_ref().map(|options| {
            let provider = FileProvider::new(options, reload.signal())?;
            Ok(Box::new(provider) as Box<dyn Provider>)
        });
        let docker = configured.docker.as_ref().map(|options| {
            let provider = DockerProvider::new(options)?;
            Ok(Box::new(provider) as Box<dyn Provider>)
        });
        let swarm = configured.swarm.as_ref().map(|options| {
            let provider = DockerProvider::of_swarm(options)?;
            Ok(Box::new(provider) as Box<dyn Provider>)
        });
        let http = configured.http.as_ref().map(|options| {
            let provider = HttpProvider::new(options, reload.signal())?;
            Ok(Box::new(provider) as Box<dyn Provider>)
        });
        for provider in [file, docker, swarm, http].into_iter().flatten() {
            match provider {
                Ok(provider) => self.providers.push(provider),
                Err::<_, Diagnostic>(diagnostic) => tracing::error!("{diagnostic}"),
            }
        }
    }

    fn admin(&self, metrics: &Metrics, readiness: &Arc<Readiness>) -> Admin {
        Admin::new(
            Arc::clone(&self.install),
            self.diagnostics.clone(),
            metrics.clone(),
            Arc::clone(readiness),
            self.sources.clone(),
        )
        .with_resolvers(&self.resolvers)
    }

    /// Adds the source of certificates that are obtained, if there are resolvers.
    fn add_acme(&mut self, cell: &Arc<SnapshotCell>, challenges: Challenges) {
        if !self.install.certificates_resolvers.is_empty() {
            let acme = Acme::new(&self.install, Arc::clone(cell), challenges, &self.resolvers);
            self.providers.push(Box::new(acme));
        }
    }

    /// Starts asking responders about certificates; what they say comes of it.
    fn start_stapling(
        &self,
        tasks: &mut Tasks,
        cell: &Arc<SnapshotCell>,
        metrics: &Metrics,
    ) -> watch::Receiver<Arc<Staples>> {
        let responders = Responders::default();
        metrics.watch_responders(&responders);
        let stapling = Stapling::new(&self.install, Arc::clone(cell), &responders);
        let staples = stapling.staples();
        tasks.spawn("ocsp", stapling.run());
        staples
    }

    /// Starts everything that makes snapshots.
    async fn start_control(
        mut self,
        tasks: &mut Tasks,
        (resolver, staples): (Resolver, watch::Receiver<Arc<Staples>>),
        (cell, metrics, reload): (&Arc<SnapshotCell>, &Metrics, &Reload),
    ) {
        let (sender, updates) = mpsc::channel(UPDATES);
        self.add_configured_providers(reload);
        let (roots, unusable) = system_roots();
        for reason in unusable {
            tracing::warn!(%reason, "a certificate authority of the system cannot be used");
        }
        let names = self
            .providers
            .iter()
            .map(|provider| Arc::from(provider.name()))
            .collect();
        let control = Control::new(Parts {
            install: Arc::clone(&self.install),
            workshop: Arc::new(Workshop {
                metrics: metrics.clone(),
                slots: Slots::default(),
                system_roots: roots,
                plugins: self.plugins,
                stores: Stores::default(),
            }),
            cell: Arc::clone(cell),
            resolver,
            staples,
            providers: names,
            updates,
            reload: reload.signal(),
        })
        .await;
        tasks.spawn("control", control.run());
        for provider in self.providers {
            let name = provider.name().to_owned();
            let updates = Updates::new(&name, sender.clone(), &self.sources);
            tasks.spawn(format!("provider {name}"), async move {
                provider.run(updates).await;
                // What it said last holds; its end is nobody's loss.
                std::future::pending::<()>().await;
            });
        }
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("install", &self.install)
            .finish_non_exhaustive()
    }
}

fn settings(install: &Install) -> Settings {
    let default = Settings::default();
    match install.core.workers {
        0 => default,
        workers => Settings { workers, ..default },
    }
}

fn metrics(install: &Install, sources: &Sources) -> Metrics {
    let metrics = Metrics::configured(&install.metrics);
    metrics.watch_sources(sources);
    metrics
}

fn access_log(install: &Install, metrics: &Metrics, queue: Option<LogQueue>) -> AccessLog {
    let Some(options) = &install.access_log else {
        return AccessLog::default();
    };
    AccessLog::open(options, metrics, queue).unwrap_or_else(|error| {
        tracing::error!(path = %options.file_path, %error, "accessLog.filePath cannot be opened: there will be no access log");
        AccessLog::default()
    })
}

/// What `X-Forwarded-Server` says.
fn hostname() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// Waits until the first snapshot is in force, so that no early request is told that its route does not exist.
/// Waits until a configuration is live, be it an empty one: without any there are no entry points to serve.
async fn first_configuration(cell: &SnapshotCell, patience: Duration) {
    let mut changes = cell.subscribe();
    let live = changes.wait_for(|generation| *generation > 0);
    tokio::pin!(live);
    if tokio::time::timeout(patience, &mut live).await.is_err() {
        tracing::warn!("the first configuration takes long: not listening yet");
        live.await.ok();
    }
}

fn notify(
    notifier: &Option<systemd::Notifier>,
    tell: impl FnOnce(&systemd::Notifier) -> std::io::Result<()>,
) {
    if let Some(notifier) = notifier
        && let Err(error) = tell(notifier)
    {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// Waits for the end: signals start it, a lost task or worker starts it too.
async fn wait(
    mut workers: Workers,
    tasks: &mut Tasks,
    stop: &signals::Stop<'_>,
    hands: signals::Hands,
    notifier: &Option<systemd::Notifier>,
) -> anyhow::Result<()> {
    let mut failure = None;
    let mut left = workers.len();
    let signals = signals::handle(stop, &hands);
    tokio::pin!(signals);
    let watchdog = watchdog(notifier);
    tokio::pin!(watchdog);
    let mut draining = stop.drain.watch();
    let mut told = false;
    while left > 0 {
        tokio::select! {
            ended = workers.ended() => {
                left = if ended.is_some() { left - 1 } else { 0 };
                if !stop.drain.watch().is_draining() {
                    failure = Some("a worker thread ended");
                    stop.begin();
                }
            }
            ended = tasks.ended() => {
                tracing::error!(task = %ended.name, outcome = ?ended.outcome, "a task ended that must not; stopping");
                failure = Some("a task ended that must not");
                stop.begin();
            }
            outcome = &mut signals => outcome?,
            () = draining.draining(), if !told => {
                told = true;
                notify(notifier, systemd::Notifier::stopping);
            }
            () = &mut watchdog => {}
        }
    }
    let panics = workers.join();
    match (panics.first(), failure) {
        (Some(panic), _) => Err(anyhow::anyhow!("{panic}")),
        (None, Some(failure)) => Err(anyhow::anyhow!("{failure}")),
        (None, None) => Ok(()),
    }
}

async fn watchdog(notifier: &Option<systemd::Notifier>) {
    let Some((notifier, every)) = notifier
        .as_ref()
        .and_then(|notifier| Some((notifier, notifier.watchdog()?)))
    else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(every / 2).await;
        if let Err(error) = notifier.alive() {
            tracing::warn!(%error, "systemd's watchdog could not be told");
        }
    }
}

/// Where the install configuration's warnings go when nobody runs the app, as in `check`.
pub use install::INTERNAL as INTERNAL_ENTRY_POINT;
