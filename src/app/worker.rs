//! A worker thread: its listeners, its connections, its end.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::net::TcpListener;

use super::doors::{Door, WorkerDoor};
use crate::{
    challenge::Challenges,
    drain::{DrainWatch, Tasks},
    entrypoint,
    exchange::forwarded::Forwarding,
    observe::{AccessLog, Metrics, Tracer},
    proxy::{Internals, Parts, Worker, layer::MakeStack},
    runtime::{Settings, Workers},
    snapshot::SnapshotCell,
    upstream::resolve::Doubts,
    wire::timer,
};

/// What all workers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) internals: Arc<dyn Internals>,
    pub(super) forwarding: Arc<[Forwarding]>,
    pub(super) access_log: AccessLog,
    pub(super) metrics: Metrics,
    pub(super) tracer: Tracer,
    /// Makes the layers of the embedder.
    pub(super) make_stack: Option<MakeStack>,
    pub(super) doubts: Doubts,
    pub(super) challenges: Challenges,
    pub(super) drain: DrainWatch,
}

/// Starts the worker threads, each with its own listeners.
pub(super) fn start(
    settings: Settings,
    mut doors: Vec<Door>,
    shared: Shared,
) -> io::Result<Workers> {
    let mut shares: Vec<Vec<WorkerShare>> = Vec::new();
    for _ in 0..settings.workers {
        shares.push(doors.iter_mut().filter_map(share).collect());
    }
    let shares = Arc::new(Mutex::new(shares));
    Workers::start(settings, move |index| {
        let share = shares
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(index)
            .map(std::mem::take);
        serve(share.unwrap_or_default(), shared.clone())
    })
}

/// A door as it crosses to the worker's thread.
struct WorkerShare {
    options: entrypoint::EntryPoint,
    listener: entrypoint::Listener,
    accept_grace: Duration,
}

fn share(door: &mut Door) -> Option<WorkerShare> {
    Some(WorkerShare {
        options: door.options.clone(),
        listener: door.listeners.pop()?,
        accept_grace: door.accept_grace,
    })
}

async fn serve(shares: Vec<WorkerShare>, shared: Shared) {
    let worker = Worker::new(Parts {
        cell: shared.cell,
        internals: shared.internals,
        forwarding: shared.forwarding,
        access_log: shared.access_log,
        metrics: shared.metrics,
        tracer: shared.tracer,
        stack: shared.make_stack.map(|make| make()),
        doubts: shared.doubts,
        challenges: shared.challenges,
    });
    let mut tasks = Tasks::default();
    tasks.spawn_local("timers", timer::drive());
    let sweeping = Rc::clone(&worker);
    tasks.spawn_local("sweep", async move { sweeping.sweep().await });
    let open = Rc::new(RefCell::new(shares.len()));
    for share in shares {
        let door = WorkerDoor {
            options: Rc::new(share.options),
            listener: share.listener,
            accept_grace: share.accept_grace,
        };
        let (worker, drain, open) = (Rc::clone(&worker), shared.drain.clone(), Rc::clone(&open));
        tasks.spawn_local(format!("listener {}", door.options.name), async move {
            listen(door, &worker, drain).await;
            *open.borrow_mut() -= 1;
            worker.closed.notify_one();
        });
    }
    let mut drain = shared.drain;
    drain.draining().await;
    let finished = async {
        while *open.borrow() > 0 || worker.connections.get() > 0 {
            worker.closed.notified().await;
        }
    };
    tokio::select! {
        () = finished => {}
        () = drain.forced() => {
            tracing::warn!(connections = worker.connections.get(), "transport.lifeCycle.graceTimeOut has passed: closing what is still open");
        }
    }
}

async fn listen(door: WorkerDoor, worker: &Rc<Worker>, mut drain: DrainWatch) {
    let listener = match TcpListener::from_std(door.listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(entryPointName = %door.options.name, %error, "cannot listen");
            return;
        }
    };
    let close = async {
        drain.draining().await;
        tokio::time::sleep(door.accept_grace).await;
    };
    let index = door.options.index;
    entrypoint::run(listener, door.options, Rc::clone(worker), close).await;
    worker.drain(index);
}
