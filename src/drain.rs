//! The orderly end: who says that it has come, who watches for it, and who owns the tasks that end with it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

/// The trigger. Dropping it forces the end: nobody could do so any more.
#[derive(Debug)]
pub struct Drain {
    phase: Arc<AtomicU8>,
    state: watch::Sender<State>,
}

impl Drain {
    /// A process at work, and its watch to hand out copies of.
    pub fn new() -> (Self, DrainWatch) {
        let phase = Arc::new(AtomicU8::new(RUNNING));
        let (state, receiver) = watch::channel(State::Running);
        let watch = DrainWatch {
            phase: Arc::clone(&phase),
            state: receiver,
        };
        (Self { phase, state }, watch)
    }

    /// Begins to drain: what runs may finish within `grace`. Does nothing once begun.
    pub fn start(&self, grace: Duration) {
        let now = Instant::now();
        let deadline = now.checked_add(grace);
        self.state.send_if_modified(|state| {
            let begins = *state == State::Running;
            if begins {
                self.phase.store(DRAINING, Relaxed);
                *state = State::Draining {
                    since: now,
                    deadline,
                };
            }
            begins
        });
    }

    /// Ends the patience at once.
    pub fn force(&self) {
        self.phase.store(DRAINING, Relaxed);
        self.state.send_replace(State::Forced);
    }

    /// What a termination signal means: the first begins to drain, the second forces.
    pub fn signal(&self, grace: Duration) {
        if *self.state.borrow() == State::Running {
            self.start(grace);
        } else {
            self.force();
        }
    }

    /// A watch.
    pub fn watch(&self) -> DrainWatch {
        DrainWatch {
            phase: Arc::clone(&self.phase),
            state: self.state.subscribe(),
        }
    }
}

/// What the end looks like to everything that has to come to it.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    phase: Arc<AtomicU8>,
    state: watch::Receiver<State>,
}

impl DrainWatch {
    /// Whether the end has begun. One relaxed load: the request path may ask.
    pub fn is_draining(&self) -> bool {
        self.phase.load(Relaxed) != RUNNING
    }

    /// When draining began.
    pub fn since(&self) -> Option<Instant> {
        match *self.state.borrow() {
            State::Draining { since, .. } => Some(since),
            State::Running | State::Forced => None,
        }
    }

    /// Waits until draining begins.
    pub async fn draining(&mut self) {
        // An error means that the trigger is gone, which ends the wait as well.
        self.state
            .wait_for(|state| *state != State::Running)
            .await
            .ok();
    }

    /// Waits until patience has ended: by force, or because the grace is over.
    pub async fn forced(&mut self) {
        loop {
            let state = *self.state.borrow_and_update();
            let deadline = async {
                match state {
                    State::Draining {
                        deadline: Some(deadline),
                        ..
                    } => sleep_until(deadline).await,
                    State::Forced => {}
                    State::Running | State::Draining { .. } => pending().await,
                }
            };
            tokio::select! {
                () = deadline => return,
                changed = self.state.changed() => if changed.is_err() { return },
            }
        }
    }
}

const RUNNING: u8 = 0;
const DRAINING: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Draining {
        since: Instant,
        /// None for a grace too long to have an end.
        deadline: Option<Instant>,
    },
    Forced,
}

/// Named tasks of one owner; dropping it aborts them.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, Cow<'static, str>>,
}

impl Tasks {
    /// Runs `future` on this runtime.
    pub fn spawn(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        let handle = self.set.spawn(future);
        self.names.insert(handle.id(), name.into());
        handle
    }

    /// Runs `future` on this thread's `LocalSet`.
    pub fn spawn_local(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = ()> + 'static,
    ) -> AbortHandle {
        let handle = self.set.spawn_local(future);
        self.names.insert(handle.id(), name.into());
        handle
    }

    /// Waits for the next task that ends; for ever while there is none.
    pub async fn ended(&mut self) -> Ended {
        let Some(joined) = self.set.join_next_with_id().await else {
            return pending().await;
        };
        let (id, outcome) = match joined {
            Ok((id, ())) => (id, Outcome::Finished),
            Err(error) => (error.id(), Outcome::from(error)),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        Ended { name, outcome }
    }

    /// Watches over tasks that must not end before the process does: the first that finishes or panics starts the drain.
    /// Returns when draining has begun.
    pub async fn supervise(&mut self, drain: &Drain, grace: Duration) {
        let mut watch = drain.watch();
        loop {
            let ended = tokio::select! {
                ended = self.ended() => ended,
                () = watch.draining() => return,
            };
            if ended.outcome != Outcome::Aborted {
                tracing::error!(task = %ended.name, outcome = ?ended.outcome, "a task ended that must not; stopping");
                drain.start(grace);
            }
        }
    }

    /// Waits for all to end, until `deadline`; aborts the rest and returns their names.
    pub async fn finish(mut self, deadline: Instant) -> Vec<Cow<'static, str>> {
        while !self.set.is_empty() {
            if timeout_at(deadline, self.ended()).await.is_err() {
                break;
            }
        }
        self.set.abort_all();
        let mut late: Vec<_> = self.names.into_values().collect();
        late.sort_unstable();
        late
    }

    /// How many have not ended.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
}

/// The end of a named task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub name: Cow<'static, str>,
    pub outcome: Outcome,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned.
    Finished,
    /// Its owner stopped it.
    Aborted,
    /// It panicked with this message.
    Panicked(String),
}

impl From<JoinError> for Outcome {
    fn from(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(payload) => Self::Panicked(crate::runtime::panic_text(&*payload).to_owned()),
            Err(_) => Self::Aborted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const GRACE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn drains_and_forces_at_the_deadline() {
        let (drain, mut watch) = Drain::new();
        assert!(!watch.is_draining());
        assert!(watch.draining().now_or_never().is_none());
        let began = Instant::now();
        drain.start(GRACE);
        assert!(watch.is_draining());
        watch.draining().await;
        assert_eq!(watch.since(), Some(began));
        tokio::time::advance(Duration::from_secs(1)).await;
        // A second start does not move the deadline.
        drain.start(GRACE);
        watch.forced().await;
        assert_eq!(began.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn second_signal_forces() {
        let (drain, mut watch) = Drain::new();
        let began = Instant::now();
        drain.signal(GRACE);
        assert!(watch.forced().now_or_never().is_none());
        drain.signal(GRACE);
        watch.forced().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_wake_and_a_lost_trigger_ends_all() {
        let (drain, watch) = Drain::new();
        let (mut first, mut second) = (watch.clone(), drain.watch());
        let waiting = async { tokio::join!(first.draining(), second.forced()) };
        let ((), ()) = tokio::join!(async { drop(drain) }, waiting.map(|_| ()));
    }

    #[tokio::test(start_paused = true)]
    async fn endless_grace_has_no_deadline() {
        let (drain, mut watch) = Drain::new();
        drain.start(Duration::MAX);
        tokio::time::advance(Duration::from_secs(1_000_000)).await;
        assert!(watch.forced().now_or_never().is_none());
    }

    #[tokio::test]
    async fn reports_how_tasks_end() {
        let mut tasks = Tasks::default();
        tasks.spawn("done", async {});
        tasks.spawn("broken", async { panic!("out of cheese") });
        tasks.spawn("stopped", pending()).abort();
        let mut ended = Vec::new();
        while !tasks.is_empty() {
            let Ended { name, outcome } = tasks.ended().await;
            ended.push((name.into_owned(), outcome));
        }
        ended.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [
            ("broken", Outcome::Panicked("out of cheese".to_owned())),
            ("done", Outcome::Finished),
            ("stopped", Outcome::Aborted),
        ];
        assert_eq!(
            ended,
            expected.map(|(name, outcome)| (name.to_owned(), outcome))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn unexpected_end_of_a_task_drains() {
        let (drain, watch) = Drain::new();
        let mut tasks = Tasks::default();
        tasks.spawn("stopped on purpose", pending()).abort();
        tasks.spawn("loop", async { panic!("broken") });
        tasks.supervise(&drain, GRACE).await;
        assert!(watch.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn late_tasks_are_named_and_aborted() {
        let mut tasks = Tasks::default();
        tasks.spawn("quick", async {});
        tasks.spawn("late", pending());
        let began = Instant::now();
        assert_eq!(tasks.finish(began + GRACE).await, ["late"]);
        assert_eq!(began.elapsed(), GRACE);
    }
}
