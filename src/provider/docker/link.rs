//! A connection to the engine that follows it: events as they come, the whole list every now and then, inspections on demand.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    container::{Container, Event, Id},
    engine::{Engine, Events, Failure, Seen},
    roster::Wants,
};

/// Something new.
#[derive(Debug)]
pub(super) enum News {
    Event(Event),
    Listed(Seen),
    Inspected(Id, Result<Option<Container>, Failure>),
    /// The engine has gone.
    Lost(Failure),
}

/// A connection at work.
pub(super) struct Link {
    engine: Engine,
    /// None if changes are not followed.
    events: Option<Events>,
    listing: Option<Later<Result<Seen, Failure>>>,
    /// The list is wanted again: something has happened since it was asked for.
    outdated: bool,
    inspections: FuturesUnordered<Later<Step>>,
    /// Inspections that keep nobody else waiting.
    slow: FuturesUnordered<Later<Inspection>>,
    /// Inspections that wait until others have ended.
    waiting: VecDeque<Id>,
    pace: Pace,
}

/// When to ask for everything.
///
/// A swarm tells only of what it is meant to be, not of what becomes of its tasks elsewhere: as long as it is on its way there, it is
/// asked in pauses that grow.
struct Pace {
    every: Duration,
    again: Instant,
    /// The last short pause.
    pause: Duration,
    /// Something may come of what has happened, even if nothing shows yet.
    restless: Instant,
}

impl Pace {
    fn new(every: Duration, now: Instant) -> Self {
        Self {
            every,
            again: now + every,
            pause: SHORTEST_PAUSE,
            restless: now,
        }
    }

    /// Something has happened to a swarm.
    fn happened(&mut self, now: Instant) {
        self.pause = SHORTEST_PAUSE;
        self.restless = now + RESTLESS;
        self.again = self.again.min(now + SHORTEST_PAUSE);
    }

    /// There was an answer.
    fn answered(&mut self, seen: &Seen, now: Instant) {
        let settled = match seen {
            Seen::Containers(_) => true,
            Seen::Swarm(view) => view.settled && now >= self.restless,
        };
        let pause = match settled {
            true => self.every,
            false => self.pause.min(self.every),
        };
        self.pause = match settled {
            true => SHORTEST_PAUSE,
            false => (self.pause * 2).min(LONGEST_PAUSE),
        };
        self.again = now + pause;
    }
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Inspection = (Id, Result<Option<Container>, Failure>);

/// How far an inspection has come.
enum Step {
    Ended(Inspection),
    Slow(Later<Inspection>),
}

impl Link {
    /// Connects. The list is asked for when events flow already, so that nothing falls between the two.
    pub(super) async fn open(
        engine: Engine,
        watch: bool,
        every: Duration,
    ) -> Result<Self, Failure> {
        engine.negotiate().await?;
        let events = match watch {
            true => Some(engine.events().await?),
            false => None,
        };
        let mut link = Self {
            engine,
            events,
            listing: None,
            outdated: false,
            inspections: FuturesUnordered::new(),
            slow: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            pace: Pace::new(every, Instant::now()),
        };
        link.list();
        Ok(link)
    }

    /// Asks.
    pub(super) fn want(&mut self, wants: Wants) {
        if wants.list {
            self.outdated = self.listing.is_some();
            self.list();
        }
        self.waiting.extend(wants.inspect);
        self.inspect();
    }

    /// The next news. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> News {
        loop {
            tokio::select! {
                event = next_event(&mut self.events) => return match event {
                    Some(Ok(event)) => {
                        if self.engine.is_of_swarm() {
                            self.pace.happened(Instant::now());
                        }
                        News::Event(event)
                    }
                    Some(Err(failure)) => News::Lost(failure),
                    None => News::Lost(Failure::Ended),
                },
                list = answer(&mut self.listing) => {
                    self.listing = None;
                    if std::mem::take(&mut self.outdated) {
                        self.list();
                    }
                    return match list {
                        Ok(seen) => {
                            self.pace.answered(&seen, Instant::now());
                            News::Listed(seen)
                        }
                        Err(failure) => News::Lost(failure),
                    };
                }
                Some(step) = self.inspections.next(), if !self.inspections.is_empty() => {
                    let ended = self.step(step);
                    self.inspect();
                    if let Some((id, outcome)) = ended {
                        return News::Inspected(id, outcome);
                    }
                }
                Some((id, outcome)) = self.slow.next(), if !self.slow.is_empty() => {
                    self.inspect();
                    return News::Inspected(id, outcome);
                }
                () = sleep_until(self.pace.again), if self.events.is_some() && self.listing.is_none() => {
                    self.list();
                }
            }
        }
    }

    fn list(&mut self) {
        if self.listing.is_none() {
            let engine = self.engine.clone();
            self.listing = Some(Box::pin(async move { engine.list().await }));
        }
    }

    fn inspect(&mut self) {
        while self.inspections.len() < AT_A_TIME
            && self.slow.len() < MOST_SLOW
            && let Some(id) = self.waiting.pop_front()
        {
            let engine = self.engine.clone();
            let mut inspection: Later<Inspection> = Box::pin(async move {
                let outcome = engine.inspect(&id).await;
                (id, outcome)
            });
            self.inspections.push(Box::pin(async move {
                match timeout(SLOW, &mut inspection).await {
                    Ok(ended) => Step::Ended(ended),
                    Err(_) => Step::Slow(inspection),
                }
            }));
        }
    }

    fn step(&mut self, step: Step) -> Option<Inspection> {
        match step {
            Step::Ended(inspection) => Some(inspection),
            Step::Slow(inspection) => {
                self.slow.push(inspection);
                None
            }
        }
    }
}

async fn next_event(events: &mut Option<Events>) -> Option<Result<Event, Failure>> {
    match events {
        Some(events) => events.next().await,
        None => pending().await,
    }
}

async fn answer<T>(asked: &mut Option<Later<T>>) -> T {
    match asked {
        Some(answer) => answer.await,
        None => pending().await,
    }
}

/// After an event, and from then on twice as long each time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long after an event a swarm counts as unsettled whatever it says: managers hear of their tasks later than their engines do.
const RESTLESS: Duration = Duration::from_secs(2);
/// How many inspections the engine gets at once.
const AT_A_TIME: usize = 8;
/// From when on an inspection makes room for others.
const SLOW: Duration = Duration::from_millis(500);
/// An engine that is slow with so many is not asked for more.
const MOST_SLOW: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
        sync::Semaphore,
    };

    use super::*;
    use crate::{
        config::install::DockerProvider,
        provider::docker::{endpoint::Endpoint, engine::Subject, swarm::View},
    };

    /// Answers lists as often as `lists` allows, and nothing but lists, one request after the other.
    async fn serve(listener: UnixListener, lists: &Semaphore) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let answer: &[u8] = match head.contains("/containers/json") {
                true => {
                    lists.acquire().await.unwrap().forget();
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"
                }
                false => b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            };
            stream.write_all(answer).await.ok();
        }
    }

    #[tokio::test]
    async fn a_list_that_is_wished_for_while_one_is_under_way_comes_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let lists = Semaphore::new(0);
        let listener = UnixListener::bind(&path).unwrap();
        let options = DockerProvider {
            endpoint: format!("unix://{}", path.display()),
            ..DockerProvider::default()
        };
        let endpoint = Endpoint::new(&options, &|_| None).unwrap();
        let (engine, lines) = Engine::new(endpoint, &options, Subject::Containers);
        let hour = Duration::from_secs(3600);
        let wishing = async {
            let mut link = Link::open(engine, false, hour).await.unwrap();
            for _ in 0..2 {
                link.want(Wants {
                    list: true,
                    ..Wants::default()
                });
            }
            lists.add_permits(3);
            for _ in 0..2 {
                let news = link.next().await;
                assert!(matches!(news, News::Listed(_)), "{news:?}");
            }
            assert!(link.listing.is_none(), "one more covers all wishes");
        };
        let all = async {
            tokio::select! {
                () = wishing => {}
                () = serve(listener, &lists) => {}
                () = lines.run() => {}
            }
        };
        timeout(Duration::from_secs(60), all).await.unwrap();
    }

    #[test]
    fn a_swarm_on_its_way_is_asked_more_often() {
        let every = Duration::from_secs(15);
        let start = Instant::now();
        let mut pace = Pace::new(every, start);
        let seen = |settled| {
            Seen::Swarm(View {
                settled,
                ..View::default()
            })
        };
        let mut now = start;
        let mut pauses = |pace: &mut Pace, settled: &[bool]| -> Vec<u128> {
            let pauses = settled.iter().map(|settled| {
                pace.answered(&seen(*settled), now);
                let pause = pace.again - now;
                now = pace.again;
                pause.as_millis()
            });
            pauses.collect()
        };
        assert_eq!(pauses(&mut pace, &[true, true]), [15_000, 15_000]);
        let unsettled = pauses(&mut pace, &[false; 8]);
        assert_eq!(unsettled, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(pauses(&mut pace, &[true]), [15_000]);

        let now = pace.again;
        pace.again = now + every;
        pace.happened(now);
        assert_eq!(pace.again, now + SHORTEST_PAUSE);
        pace.answered(&seen(true), now);
        assert_eq!(pace.again, now + SHORTEST_PAUSE, "managers hear later");
        pace.answered(&Seen::Containers(Vec::new()), now);
        assert_eq!(pace.again, now + every);
        pace.answered(&seen(true), now + RESTLESS);
        assert_eq!(pace.again, now + RESTLESS + every);
    }
}
