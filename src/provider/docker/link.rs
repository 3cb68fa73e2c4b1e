//! A connection to the engine that follows it: events as they come, the whole list every now and then, inspections on demand.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};

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
    inspections: FuturesUnordered<Later<Inspection>>,
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
            inspections: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            pace: Pace::new(every, Instant::now()),
        };
        link.list();
        Ok(link)
    }

    /// Asks.
    pub(super) fn want(&mut self, wants: Wants) {
        if wants.list {
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
                    return match list {
                        Ok(seen) => {
                            self.pace.answered(&seen, Instant::now());
                            News::Listed(seen)
                        }
                        Err(failure) => News::Lost(failure),
                    };
                }
                Some((id, outcome)) = self.inspections.next(), if !self.inspections.is_empty() => {
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
            && let Some(id) = self.waiting.pop_front()
        {
            let engine = self.engine.clone();
            self.inspections.push(Box::pin(async move {
                let outcome = engine.inspect(&id).await;
                (id, outcome)
            }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::docker::swarm::View;

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
