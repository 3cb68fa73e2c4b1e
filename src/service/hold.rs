//! Where requests wait while their service has no usable server: a bounded room, fed with the time.
//!
//! The room outlives the service's snapshots. It counts who waits on all workers, tells them when it is worth another try, and lets one
//! of them at a time find out whether a server that refused connections takes them again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// `loadBalancer.hold`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HoldSettings {
    /// How long a request waits; zero for not at all.
    pub timeout: Duration,
    /// How many wait at a time.
    pub max_requests: u32,
}

impl HoldSettings {
    /// Whether requests are held at all.
    pub fn is_on(&self) -> bool {
        !self.timeout.is_zero() && self.max_requests > 0
    }
}

/// The waiting room of one service.
#[derive(Debug)]
pub struct Room {
    epoch: Instant,
    /// Whether the service has ever been of use.
    proven: AtomicBool,
    waiting: AtomicU32,
    /// Milliseconds since `epoch`, counted from 1.
    scouted: AtomicU64,
    announced: AtomicU64,
    complained: AtomicU64,
    /// A server may be usable again.
    usable: watch::Sender<()>,
    /// Somebody came into the empty room.
    occupied: watch::Sender<()>,
}

impl Room {
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            proven: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            scouted: AtomicU64::new(0),
            announced: AtomicU64::new(0),
            complained: AtomicU64::new(0),
            usable: watch::Sender::default(),
            occupied: watch::Sender::default(),
        }
    }

    /// The service answered a request, or one of its servers proved ready. A load when that was known.
    pub fn prove(&self) {
        if !self.proven.load(Relaxed) {
            self.proven.store(true, Relaxed);
        }
    }

    /// Whether the service has ever been of use: a mistake in a configuration is not worth waiting for.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Relaxed)
    }

    /// A place for one request; none if `most` are taken.
    pub fn enter(self: &Arc<Self>, most: u32) -> Option<Seat> {
        let before = self
            .waiting
            .fetch_update(Relaxed, Relaxed, |waiting| {
                (waiting < most).then_some(waiting + 1)
            })
            .ok()?;
        if before == 0 {
            self.occupied.send_replace(());
        }
        Some(Seat {
            usable: self.usable.subscribe(),
            room: Arc::clone(self),
        })
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Tells everybody in the room that a server may be usable.
    pub fn wake(&self) {
        self.usable.send_replace(());
    }

    /// Hears of the first request that comes into the empty room.
    pub fn occupied(&self) -> watch::Receiver<()> {
        self.occupied.subscribe()
    }

    /// Whether it is time that one of those who wait tries a server that may refuse; true for one of them.
    pub fn may_scout(&self, now: Instant) -> bool {
        turn(self.epoch, &self.scouted, SCOUT_EVERY, now)
    }

    /// Whether the log may hear that requests wait.
    pub fn may_announce(&self, now: Instant) -> bool {
        turn(self.epoch, &self.announced, SPEAK_EVERY, now)
    }

    /// Whether the log may hear that requests could not wait, or not for long enough.
    pub fn may_complain(&self, now: Instant) -> bool {
        turn(self.epoch, &self.complained, SPEAK_EVERY, now)
    }
}

/// Whether `pause` has gone by since the last turn, which is noted in `last`; true for one of several that ask at once.
pub(super) fn turn(epoch: Instant, last: &AtomicU64, pause: Duration, now: Instant) -> bool {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let now = millis(now.saturating_duration_since(epoch)).saturating_add(1);
    let before = last.load(Relaxed);
    (before == 0 || now.saturating_sub(before) >= millis(pause))
        && last.compare_exchange(before, now, Relaxed, Relaxed).is_ok()
}

/// A request in the room; dropping it leaves.
#[derive(Debug)]
#[must_use]
pub struct Seat {
    room: Arc<Room>,
    usable: watch::Receiver<()>,
}

impl Seat {
    /// Returns when a server may be usable.
    pub async fn called(&mut self) {
        // The seat keeps the room, and with it the sender, alive.
        drop(self.usable.changed().await);
    }

    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.waiting.fetch_sub(1, Relaxed);
    }
}

/// One attempt of all who wait in this time at a server that nobody vouches for.
const SCOUT_EVERY: Duration = Duration::from_millis(50);
pub(super) const SPEAK_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> (Arc<Room>, Instant) {
        let now = Instant::now();
        (Arc::new(Room::new(now)), now)
    }

    #[test]
    fn the_room_is_bounded_and_whoever_leaves_makes_place() {
        let (room, _) = room();
        assert!(room.enter(0).is_none());
        let first = room.enter(2).unwrap();
        let second = room.enter(2).unwrap();
        assert!(room.enter(2).is_none());
        assert_eq!(room.waiting(), 2);
        drop(first);
        assert!(room.enter(2).is_some());
        drop(second);
        assert_eq!(room.waiting(), 0);
    }

    #[test]
    fn one_scout_at_a_time() {
        let (room, start) = room();
        let at = |millis| start + Duration::from_millis(millis);
        let turns = [0, 10, 49, 50, 60, 99, 100, 400, 401];
        let scouts: Vec<u64> = turns
            .into_iter()
            .filter(|millis| room.may_scout(at(*millis)))
            .collect();
        assert_eq!(scouts, [0, 50, 100, 400]);
        assert!(room.may_complain(at(0)), "the log has clocks of its own");
        assert!(!room.may_complain(at(9_999)) && room.may_complain(at(10_000)));
        assert!(room.may_announce(at(10_000)));
    }

    #[test]
    fn a_service_is_proven_once_and_for_all() {
        let (room, _) = room();
        assert!(!room.is_proven());
        room.prove();
        room.prove();
        assert!(room.is_proven());
    }

    #[tokio::test]
    async fn a_call_between_entering_and_waiting_is_not_lost() {
        let (room, _) = room();
        let mut occupied = room.occupied();
        let mut seats = [room.enter(9).unwrap(), room.enter(9).unwrap()];
        assert!(occupied.has_changed().unwrap());
        occupied.mark_unchanged();
        room.wake();
        for seat in &mut seats {
            seat.called().await;
        }
        let third = room.enter(9).unwrap();
        assert!(
            !third.usable.has_changed().unwrap(),
            "an old call is no news"
        );
        assert!(!occupied.has_changed().unwrap(), "the room was not empty");
    }
}
