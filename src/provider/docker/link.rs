//! A connection to the engine that follows it: events as they come, the whole list every now and then, inspections on demand.

use std::{
    collections::VecDeque,
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{
    container::{Container, Event, Id, Listed},
    engine::{Engine, Events, Failure},
    roster::Wants,
};

/// Something new.
#[derive(Debug)]
pub(super) enum News {
    Event(Event),
    Listed(Vec<Listed>),
    Inspected(Id, Result<Option<Container>, Failure>),
    /// The engine has gone.
    Lost(Failure),
}

/// A connection at work.
pub(super) struct Link {
    engine: Engine,
    /// None if changes are not followed.
    events: Option<Events>,
    listing: Option<Later<Result<Vec<Listed>, Failure>>>,
    inspections: FuturesUnordered<Later<Inspection>>,
    /// Inspections that wait until others have ended.
    waiting: VecDeque<Id>,
    reconcile: Interval,
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
        let mut reconcile = interval_at(Instant::now() + every, every);
        reconcile.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut link = Self {
            engine,
            events,
            listing: None,
            inspections: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            reconcile,
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
                    Some(Ok(event)) => News::Event(event),
                    Some(Err(failure)) => News::Lost(failure),
                    None => News::Lost(Failure::Ended),
                },
                list = answer(&mut self.listing) => {
                    self.listing = None;
                    return match list {
                        Ok(list) => News::Listed(list),
                        Err(failure) => News::Lost(failure),
                    };
                }
                Some((id, outcome)) = self.inspections.next(), if !self.inspections.is_empty() => {
                    self.inspect();
                    return News::Inspected(id, outcome);
                }
                _ = self.reconcile.tick(), if self.events.is_some() => self.list(),
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

/// How many inspections the engine gets at once.
const AT_A_TIME: usize = 8;
