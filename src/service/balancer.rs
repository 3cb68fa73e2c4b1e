//! Picks one server of several: no lock, no await, no allocation.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::server::{Padded, Server};

/// `loadBalancer.strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// `wrr`: weighted round robin, earliest deadline first.
    #[default]
    RoundRobin,
    /// `p2c`: the less busy of two random servers; weights do not count.
    PowerOfTwo,
    /// `hrw`: rendezvous hashing of the client's IP.
    Rendezvous,
    /// `leasttime`: the least time to first byte times requests in flight.
    LeastTime,
}

impl Strategy {
    /// The strategy with Traefik's name for it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "wrr" | "" => Some(Self::RoundRobin),
            "p2c" => Some(Self::PowerOfTwo),
            "hrw" => Some(Self::Rendezvous),
            "leasttime" => Some(Self::LeastTime),
            _ => None,
        }
    }
}

/// The balancer of one service. Works on positions in the service's list of servers.
#[derive(Debug)]
pub(super) struct Balancer {
    strategy: Strategy,
    weights: Box<[u32]>,
    cycle: Cycle,
    /// FNV-1a is started from the client's IP, so only the names are kept (`hrw`).
    names: Box<[Arc<str>]>,
    /// `slowStart`.
    warm_up: Option<Duration>,
}

impl Balancer {
    /// `names` tell servers apart for `hrw`; a weight below 1 means never, except to `p2c`.
    pub(super) fn new(
        strategy: Strategy,
        weights: &[i64],
        names: &[Arc<str>],
        cursor: Arc<Cursor>,
    ) -> Self {
        let weights: Box<[u32]> = weights
            .iter()
            .map(|weight| match strategy {
                Strategy::PowerOfTwo => 1,
                _ => u32::try_from(*weight).unwrap_or(if *weight < 0 { 0 } else { u32::MAX }),
            })
            .collect();
        Self {
            strategy,
            cycle: Cycle::new(&weights, cursor),
            names: match strategy {
                Strategy::Rendezvous => names.into(),
                _ => Box::default(),
            },
            weights,
            warm_up: None,
        }
    }

    /// Servers that are new or were down work up to their share over `time`. Not with `hrw`, where a client belongs to a server.
    pub(super) fn warming_up(mut self, time: Option<Duration>) -> Self {
        self.warm_up = time.filter(|_| self.strategy != Strategy::Rendezvous);
        self
    }

    /// The place in the cycle, to be handed to the balancer of the next snapshot.
    pub(super) fn cursor(&self) -> &Arc<Cursor> {
        &self.cycle.cursor
    }

    /// Whether the server at `index` takes part at all.
    pub(super) fn counts(&self, index: usize) -> bool {
        self.weights[index] > 0
    }

    /// Picks one of the servers that `eligible` admits.
    pub(super) fn pick(
        &self,
        servers: &[Arc<Server>],
        client: IpAddr,
        eligible: impl Fn(&Server) -> bool,
    ) -> Option<usize> {
        if let Some(time) = self.warm_up {
            // A cold server passes some of its turns to the others.
            let drawn = fastrand::f64();
            let warm = |server: &Server| eligible(server) && server.warmth(time) > drawn;
            if let Some(index) = self.pick_any(servers, client, warm) {
                return Some(index);
            }
        }
        self.pick_any(servers, client, eligible)
    }

    /// Picks one of the positions that `admit` admits, where they do not stand for servers: in turn, or by the client's address.
    pub(super) fn choose(&self, client: IpAddr, admit: impl Fn(usize) -> bool) -> Option<usize> {
        let admit = |index: usize| self.counts(index) && admit(index);
        match self.strategy {
            Strategy::Rendezvous => self.rendezvous(client, admit),
            _ => self.cycle.next(&self.weights, admit),
        }
    }

    fn pick_any(
        &self,
        servers: &[Arc<Server>],
        client: IpAddr,
        eligible: impl Fn(&Server) -> bool,
    ) -> Option<usize> {
        let admit = |index: usize| self.counts(index) && eligible(&servers[index]);
        match self.strategy {
            Strategy::RoundRobin => self.cycle.next(&self.weights, admit),
            Strategy::PowerOfTwo => pick_of_two(servers, admit),
            Strategy::Rendezvous => self.rendezvous(client, admit),
            Strategy::LeastTime => self.least_time(servers, admit),
        }
    }

    fn rendezvous(&self, client: IpAddr, admit: impl Fn(usize) -> bool) -> Option<usize> {
        let start = Fnv1a::of_ip(client);
        let score = |index: usize| {
            let hash = start.and(self.names[index].as_bytes());
            rendezvous_score(self.weights[index], hash)
        };
        let mut best: Option<(usize, f64)> = None;
        for index in (0..self.weights.len()).filter(|index| admit(*index)) {
            let score = score(index);
            if best.is_none_or(|(_, highest)| score > highest) {
                best = Some((index, score));
            }
        }
        best.map(|(index, _)| index)
    }

    /// The lowest score wins, servers with equal scores take turns.
    fn least_time(&self, servers: &[Arc<Server>], admit: impl Fn(usize) -> bool) -> Option<usize> {
        let score = |index: usize| servers[index].time_score() / f64::from(self.weights[index]);
        let mut best: Option<(usize, f64)> = None;
        let mut tied = false;
        for index in (0..servers.len()).filter(|index| admit(*index)) {
            let score = score(index);
            match best {
                Some((_, lowest)) if score > lowest => {}
                Some((_, lowest)) if score == lowest => tied = true,
                _ => {
                    best = Some((index, score));
                    tied = false;
                }
            }
        }
        let (index, lowest) = best?;
        if !tied {
            return Some(index);
        }
        // Scores may have moved meanwhile; then the server found first is as good as any.
        self.cycle
            .next(&self.weights, |index| {
                admit(index) && score(index) <= lowest
            })
            .or(Some(index))
    }
}

const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

fn rendezvous_score(weight: u32, hash: u64) -> f64 {
    let fraction = hash as f64 / TWO_TO_64;
    // The highest hashes round to one, whose logarithm is zero: without a bound, what should win would lose.
    f64::from(weight) / (-fraction.ln()).max(f64::MIN_POSITIVE)
}

/// The less busy of two random admitted servers, the first drawn on a tie.
fn pick_of_two(servers: &[Arc<Server>], admit: impl Fn(usize) -> bool) -> Option<usize> {
    let count = servers.len();
    if count == 0 {
        return None;
    }
    let one = fastrand::usize(..count);
    let two = if count > 1 {
        (one + 1 + fastrand::usize(..count - 1)) % count
    } else {
        one
    };
    let (one, two) = if admit(one) && admit(two) {
        (one, two)
    } else {
        draw_two(count, admit)?
    };
    let less = servers[two].in_flight() < servers[one].in_flight();
    Some(if less { two } else { one })
}

/// Two distinct admitted positions, each pair equally likely; the same one twice if there is only one. One pass (reservoir sampling).
fn draw_two(count: usize, admit: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
    let mut drawn = [0; 2];
    let mut seen = 0;
    for index in (0..count).filter(|index| admit(*index)) {
        if seen < 2 {
            drawn[seen] = index;
        } else {
            let place = fastrand::usize(..=seen);
            if place < 2 {
                drawn[place] = index;
            }
        }
        seen += 1;
    }
    match seen {
        0 => None,
        1 => Some((drawn[0], drawn[0])),
        // The reservoir's order is not random; which one counts as first must be.
        _ if fastrand::bool() => Some((drawn[1], drawn[0])),
        _ => Some((drawn[0], drawn[1])),
    }
}

/// How far round robin has come; outlives the snapshot.
#[derive(Debug)]
pub(super) struct Cursor(Padded<AtomicU64>);

impl Default for Cursor {
    fn default() -> Self {
        Self(Padded(AtomicU64::new(0)))
    }
}

/// The order of earliest-deadline-first scheduling, worked out once: it repeats after as many picks as the reduced weights add up to.
#[derive(Debug)]
struct Cycle {
    order: Box<[u32]>,
    cursor: Arc<Cursor>,
}

/// Weights that add up to more than this are scaled down; the shares are then exact to about one in this many.
const LONGEST_CYCLE: u64 = 4096;
/// After this many turns of servers that are not admitted, the pick is drawn instead.
const MOST_SKIPS: usize = 64;

impl Cycle {
    fn new(weights: &[u32], cursor: Arc<Cursor>) -> Self {
        Self {
            order: deadline_order(&reduce(weights)),
            cursor,
        }
    }

    /// The next admitted server. Turns of servers that are not admitted are used up, so that their share is spread over all others
    /// instead of falling to the one that happens to come next.
    fn next(&self, weights: &[u32], admit: impl Fn(usize) -> bool) -> Option<usize> {
        let length = self.order.len() as u64;
        if length == 0 {
            return None;
        }
        for _ in 0..MOST_SKIPS.min(self.order.len()) {
            let turn = self.cursor.0.0.fetch_add(1, Relaxed) % length;
            let index = self.order[turn as usize] as usize;
            if admit(index) {
                return Some(index);
            }
        }
        draw_weighted(weights, admit)
    }
}

/// One admitted position at random, by weight.
fn draw_weighted(weights: &[u32], admit: impl Fn(usize) -> bool) -> Option<usize> {
    let mut total = 0_u64;
    let mut drawn = None;
    for (index, weight) in weights.iter().enumerate() {
        if *weight > 0 && admit(index) {
            total += u64::from(*weight);
            if fastrand::u64(..total) < u64::from(*weight) {
                drawn = Some(index);
            }
        }
    }
    drawn
}

/// Weights divided by their greatest common divisor, scaled down if the cycle would be too long.
fn reduce(weights: &[u32]) -> Vec<u64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let reduced: Vec<u64> = weights.iter().map(|w| u64::from(w / divisor)).collect();
    let total: u64 = reduced.iter().sum();
    if total <= LONGEST_CYCLE.max(weights.len() as u64) {
        return reduced;
    }
    let scale = |weight: u64| match weight {
        0 => 0,
        weight => ((weight * LONGEST_CYCLE + total / 2) / total).max(1),
    };
    reduced.into_iter().map(scale).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The n-th turn of a server with weight w is due at n/w; the earliest comes first, of equal ones the one that waits longest.
fn deadline_order(weights: &[u64]) -> Box<[u32]> {
    let total: u64 = weights.iter().sum();
    let mut turns = std::collections::BinaryHeap::with_capacity(weights.len());
    let mut queued = 0;
    let mut queue = |turns: &mut std::collections::BinaryHeap<Turn>, index, count, weight| {
        queued += 1;
        turns.push(Turn {
            index,
            count,
            weight,
            queued,
        });
    };
    for (index, weight) in weights
        .iter()
        .enumerate()
        .filter(|(_, weight)| **weight > 0)
    {
        queue(&mut turns, index as u32, 1, *weight);
    }
    let mut order = Vec::with_capacity(total as usize);
    while order.len() < total as usize
        && let Some(turn) = turns.pop()
    {
        order.push(turn.index);
        queue(&mut turns, turn.index, turn.count + 1, turn.weight);
    }
    order.into()
}

/// A turn due at `count / weight`. Ordered so that the greatest is the most urgent.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    index: u32,
    count: u64,
    weight: u64,
    queued: u64,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let due = (other.count * self.weight).cmp(&(self.count * other.weight));
        due.then(other.queued.cmp(&self.queued))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// FNV-1a with 64 bits: what Traefik's `hrw` hashes with, so that a client keeps its server through a migration.
#[derive(Debug, Clone, Copy)]
struct Fnv1a(u64);

impl Fnv1a {
    fn of_ip(ip: IpAddr) -> Self {
        let mut hash = Self(0xcbf2_9ce4_8422_2325);
        // Writing into the hash avoids building the text; it cannot fail.
        match write!(hash, "{}", ip.to_canonical()) {
            Ok(()) | Err(fmt::Error) => hash,
        }
    }

    fn and(self, bytes: &[u8]) -> u64 {
        bytes.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

impl fmt::Write for Fnv1a {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.and(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use proptest::prelude::*;

    use super::{
        Cycle, Fnv1a, LONGEST_CYCLE, MOST_SKIPS, deadline_order, draw_two, reduce, rendezvous_score,
    };

    fn cycle(weights: &[u32]) -> Cycle {
        Cycle::new(weights, Arc::default())
    }

    fn picks(weights: &[u32], count: usize, admit: impl Fn(usize) -> bool) -> Vec<usize> {
        let cycle = cycle(weights);
        (0..count)
            .filter_map(|_| cycle.next(weights, &admit))
            .collect()
    }

    fn shares(picks: &[usize], servers: usize) -> Vec<usize> {
        (0..servers)
            .map(|server| picks.iter().filter(|pick| **pick == server).count())
            .collect()
    }

    #[test]
    fn the_higher_hash_has_the_higher_score() {
        let hashes = [0, 1, 1 << 32, 1 << 63, u64::MAX - (1 << 20), u64::MAX];
        for pair in hashes.windows(2) {
            assert!(
                rendezvous_score(1, pair[0]) < rendezvous_score(1, pair[1]),
                "{pair:?}"
            );
        }
    }

    /// Earliest deadline first as one would write it down: exact fractions, the longest waiting of equal ones first.
    fn naive(weights: &[u64], count: usize) -> Vec<u32> {
        let scale: u64 = weights.iter().filter(|w| **w > 0).product();
        let mut due: Vec<(u64, usize)> = weights
            .iter()
            .enumerate()
            .map(|(queued, weight)| (scale.checked_div(*weight).unwrap_or(u64::MAX), queued))
            .collect();
        (weights.len()..weights.len() + count)
            .filter_map(|queued| {
                let (index, (deadline, _)) =
                    due.iter().copied().enumerate().min_by_key(|(_, d)| *d)?;
                due[index] = (deadline + scale / weights[index], queued);
                Some(index as u32)
            })
            .collect()
    }

    #[test]
    fn weights_interleave_as_traefik_does() {
        for (weights, expected) in [
            (&[3, 1][..], &[0, 0, 1, 0, 0, 0, 1, 0][..]),
            (&[1, 1, 1], &[0, 1, 2, 0, 1, 2]),
            (&[4, 2], &[0, 1, 0, 0, 1, 0]),
            (&[0, 5, 0], &[1, 1, 1]),
        ] {
            let got = picks(weights, expected.len(), |_| true);
            assert_eq!(got, expected, "{weights:?}");
        }
    }

    #[test]
    fn the_share_of_an_absent_server_goes_to_all_others() {
        let got = shares(&picks(&[1, 1, 1], 600, |index| index != 1), 3);
        assert_eq!(got, [300, 0, 300]);
        let got = shares(&picks(&[2, 3, 1], 900, |index| index != 1), 3);
        assert_eq!(got, [600, 0, 300]);
    }

    #[test]
    fn nobody_admitted_is_nobody_picked() {
        assert!(picks(&[1, 2], 3, |_| false).is_empty());
        assert!(picks(&[0, 0], 3, |_| true).is_empty());
        assert!(picks(&[], 3, |_| true).is_empty());
    }

    #[test]
    fn the_one_admitted_of_very_many_is_found_without_a_long_walk() {
        let weights = vec![1; 2000];
        let looked = Cell::new(0);
        let cycle = cycle(&weights);
        let got = cycle.next(&weights, |index| {
            looked.set(looked.get() + 1);
            index == 1999
        });
        assert_eq!(got, Some(1999));
        assert!(looked.get() <= MOST_SKIPS + weights.len());
    }

    #[test]
    fn long_cycles_are_scaled_and_keep_every_server() {
        let reduced = reduce(&[1_000_003, 1, 500_000]);
        assert!(reduced.iter().sum::<u64>() <= LONGEST_CYCLE + 3);
        assert!(reduced.iter().all(|weight| *weight > 0));
        assert_eq!(reduce(&[300, 100]), [3, 1]);
        assert_eq!(reduce(&[0, 0]), [0, 0]);
    }

    #[test]
    fn two_are_drawn_evenly_and_distinct() {
        let mut firsts = [0_usize; 5];
        for _ in 0..3000 {
            let (one, two) = draw_two(5, |index| index != 2).unwrap();
            assert!(one != two && one != 2 && two != 2);
            firsts[one] += 1;
        }
        // 750 each; five standard deviations are about 120.
        for index in [0, 1, 3, 4] {
            assert!((600..900).contains(&firsts[index]), "{firsts:?}");
        }
        assert_eq!(draw_two(3, |index| index == 2), Some((2, 2)));
        assert_eq!(draw_two(3, |_| false), None);
    }

    #[test]
    fn hashes_as_fnv_1a() {
        // The published test vector for "foobar".
        let start = Fnv1a(0xcbf2_9ce4_8422_2325);
        assert_eq!(start.and(b"foobar"), 0x8594_4171_f739_67e8);
        let ip = Fnv1a::of_ip("192.0.2.1".parse().unwrap());
        assert_eq!(ip.0, start.and(b"192.0.2.1"));
    }

    proptest! {
        #[test]
        fn one_cycle_is_what_the_naive_scheduler_does(weights in prop::collection::vec(0_u64..12, 1..6)) {
            let total: u64 = weights.iter().sum();
            prop_assert_eq!(&deadline_order(&weights)[..], naive(&weights, total as usize));
        }

        #[test]
        fn shares_are_exact_and_never_lag_by_more_than_one_turn(weights in prop::collection::vec(1_u64..30, 1..8)) {
            let total: u64 = weights.iter().sum();
            let order = deadline_order(&weights);
            for (index, weight) in weights.iter().enumerate() {
                let mut had = 0_u64;
                for (position, turn) in order.iter().enumerate() {
                    had += u64::from(*turn as usize == index);
                    let fair = (position as u64 + 1) * weight / total;
                    prop_assert!(had + 2 > fair, "server {} had {} of {}", index, had, fair);
                }
                prop_assert_eq!(had, *weight);
            }
        }
    }
}
