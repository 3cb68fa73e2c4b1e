//! Requests counted per entry point, router or service: how many, how long, how large, by code, method and protocol.
//!
//! The label sets are closed, so a request finds its numbers by an index computed from three small integers. Numbers are created when
//! they are first needed, one set per thread, and added up when somebody asks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Method;

use super::{
    counter::{Slot, slots},
    labels::{HeaderLabels, MethodLabel, Protocol, TLS_LABELS, TlsLabel},
};

/// Where finished requests are counted. The default counts nothing and costs a branch.
#[derive(Debug, Clone, Default)]
pub struct TrafficMetrics(Option<Arc<Traffic>>);

impl TrafficMetrics {
    /// One that counts nothing.
    pub fn off() -> &'static Self {
        static OFF: TrafficMetrics = TrafficMetrics(None);
        &OFF
    }

    pub(super) fn totals(&self) -> Option<Totals> {
        self.0.as_ref().map(|traffic| traffic.totals())
    }

    pub(super) fn on(traffic: &Arc<Traffic>) -> Self {
        Self(Some(Arc::clone(traffic)))
    }

    /// Whether anything is counted here.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Counts one finished request.
    pub fn record(&self, sample: &Sample) {
        if let Some(traffic) = &self.0 {
            traffic.record(sample);
        }
    }
}

/// What is counted of one request; built once and recorded at its entry point, router and service.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub method: MethodLabel,
    pub protocol: Protocol,
    /// The status told to the client; for gRPC the `grpc-status`.
    pub code: u16,
    pub duration: Duration,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// The session of an encrypted connection.
    pub tls: Option<TlsLabel>,
    /// From [`Metrics::header_labels`](super::Metrics::header_labels); the default unless labels from headers are configured.
    pub headers: HeaderLabels,
}

impl Sample {
    /// A request without body on a plain connection.
    pub fn new(method: &Method, protocol: Protocol, code: u16, duration: Duration) -> Self {
        Self {
            method: MethodLabel::of(method),
            protocol,
            code,
            duration,
            bytes_in: 0,
            bytes_out: 0,
            tls: None,
            headers: HeaderLabels::default(),
        }
    }
}

/// The numbers of one entry point, router or service.
#[derive(Debug)]
pub(super) struct Traffic {
    bounds: Arc<Bounds>,
    shards: OnceLock<Box<[Slice]>>,
}

impl Traffic {
    pub(super) fn new(bounds: &Arc<Bounds>) -> Self {
        Self {
            bounds: Arc::clone(bounds),
            shards: OnceLock::new(),
        }
    }

    fn record(&self, sample: &Sample) {
        let slot = Slot::current();
        let shards = self
            .shards
            .get_or_init(|| (0..slots()).map(|_| OnceLock::new()).collect());
        let Some(shard) = shards.get(slot.index) else {
            return;
        };
        let shard = shard.get_or_init(Box::default);
        let numbers = shard.chunk.find(Key::of(sample), self.bounds.numbers());
        let nanoseconds = u64::try_from(sample.duration.as_nanos()).unwrap_or(u64::MAX);
        slot.add(&numbers[BYTES_IN], sample.bytes_in);
        slot.add(&numbers[BYTES_OUT], sample.bytes_out);
        slot.add(&numbers[NANOSECONDS], nanoseconds);
        slot.add(&numbers[BUCKETS + self.bounds.bucket(nanoseconds)], 1);
        if let Some(tls) = sample.tls {
            let counts = shard.tls.get_or_init(Box::default);
            slot.add(&counts[tls.index()], 1);
        }
    }

    /// The sums over all threads.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let shards = self.shards.get().map_or(&[][..], |shards| shards);
        for shard in shards.iter().filter_map(OnceLock::get) {
            shard.chunk.add_to(&mut totals.requests);
            for (sum, count) in totals
                .tls
                .iter_mut()
                .zip(shard.tls.get().into_iter().flat_map(|counts| counts.iter()))
            {
                *sum += count.load(Relaxed);
            }
        }
        totals
    }
}

/// Upper bounds of the duration histogram.
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) seconds: Vec<f64>,
    nanoseconds: Vec<u64>,
}

impl Bounds {
    /// Sorts the bounds; what is no positive number is left out.
    pub(super) fn new(seconds: &[f64]) -> Self {
        let mut seconds: Vec<f64> = seconds
            .iter()
            .copied()
            .filter(|bound| bound.is_finite() && *bound > 0.0)
            .collect();
        seconds.sort_by(f64::total_cmp);
        seconds.dedup();
        let nanoseconds = seconds.iter().map(|bound| {
            Duration::try_from_secs_f64(*bound).map_or(u64::MAX, |bound| {
                u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX)
            })
        });
        Self {
            nanoseconds: nanoseconds.collect(),
            seconds,
        }
    }

    fn bucket(&self, nanoseconds: u64) -> usize {
        let above = self
            .nanoseconds
            .iter()
            .position(|bound| nanoseconds <= *bound);
        above.unwrap_or(self.nanoseconds.len())
    }

    fn numbers(&self) -> usize {
        BUCKETS + self.nanoseconds.len() + 1
    }
}

/// What tells the series of one [`Traffic`] apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) code: u16,
    pub(super) method: MethodLabel,
    pub(super) protocol: Protocol,
    pub(super) headers: HeaderLabels,
}

impl Key {
    fn of(sample: &Sample) -> Self {
        Self {
            code: sample.code,
            method: sample.method,
            protocol: sample.protocol,
            headers: sample.headers,
        }
    }

    fn hash(self) -> usize {
        let mixed = (usize::from(self.code) << 8)
            ^ ((self.method as usize) << 4)
            ^ self.protocol as usize
            ^ self.headers.hash();
        mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> (usize::BITS - 3)
    }
}

/// Sums ready to be exported.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) requests: BTreeMap<Key, Numbers>,
    pub(super) tls: [u64; TLS_LABELS.len()],
}

/// The sums of one series: bytes in and out, duration, buckets.
#[derive(Debug, Default, Clone)]
pub(super) struct Numbers(Vec<u64>);

impl Numbers {
    pub(super) fn bytes_in(&self) -> u64 {
        self.0[BYTES_IN]
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.0[BYTES_OUT]
    }

    pub(super) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.0[NANOSECONDS]).as_secs_f64()
    }

    /// Requests by duration, not cumulated; the last one is above all bounds.
    pub(super) fn buckets(&self) -> &[u64] {
        &self.0[BUCKETS..]
    }

    pub(super) fn requests(&self) -> u64 {
        self.buckets().iter().sum()
    }

    /// Adds the numbers of another series.
    pub(super) fn add(&mut self, other: &[u64]) {
        self.0.resize(other.len(), 0);
        for (sum, number) in self.0.iter_mut().zip(other) {
            *sum += number;
        }
    }

    pub(super) fn as_slice(&self) -> &[u64] {
        &self.0
    }
}

type Slice = OnceLock<Box<Shard>>;

/// What one thread counted.
#[derive(Debug, Default)]
struct Shard {
    chunk: Chunk,
    tls: OnceLock<Box<[AtomicU64; TLS_LABELS.len()]>>,
}

/// A small hash table that only grows: a key that finds no room goes on to the next chunk.
#[derive(Debug, Default)]
struct Chunk {
    cells: [OnceLock<Box<Cell>>; CHUNK],
    next: OnceLock<Box<Self>>,
}

impl Chunk {
    fn find(&self, key: Key, numbers: usize) -> &[AtomicU64] {
        let start = key.hash();
        let mut chunk = self;
        loop {
            for step in 0..PROBES {
                let cell = chunk.cells[(start + step) % CHUNK]
                    .get_or_init(|| Box::new(Cell::new(key, numbers)));
                if cell.key == key {
                    return &cell.numbers;
                }
            }
            chunk = chunk.next.get_or_init(Box::default);
        }
    }

    fn add_to(&self, sums: &mut BTreeMap<Key, Numbers>) {
        let mut chunk = Some(self);
        while let Some(present) = chunk {
            for cell in present.cells.iter().filter_map(OnceLock::get) {
                let numbers: Vec<u64> = cell
                    .numbers
                    .iter()
                    .map(|number| number.load(Relaxed))
                    .collect();
                sums.entry(cell.key).or_default().add(&numbers);
            }
            chunk = present.next.get().map(|next| &**next);
        }
    }
}

#[derive(Debug)]
struct Cell {
    key: Key,
    numbers: Box<[AtomicU64]>,
}

impl Cell {
    fn new(key: Key, numbers: usize) -> Self {
        Self {
            key,
            numbers: (0..numbers).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

const CHUNK: usize = 8;
const PROBES: usize = 4;

const BYTES_IN: usize = 0;
const BYTES_OUT: usize = 1;
const NANOSECONDS: usize = 2;
const BUCKETS: usize = 3;
