//! Gathers what comes out of a queue and delivers it, again and again if need be.

use std::{fmt, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};

use super::client::Client;
use crate::observe::Exported;

/// Turns items into one message.
pub(super) trait Encode: Send + 'static {
    type Item: Send + 'static;

    fn encode(&mut self, items: &[Self::Item]) -> Vec<u8>;
}

/// Delivers the items of a queue in batches.
pub(super) struct Batches<E: Encode> {
    encode: E,
    items: mpsc::Receiver<E::Item>,
    delivery: Delivery,
}

impl<E: Encode> Batches<E> {
    pub(super) fn new(encode: E, items: mpsc::Receiver<E::Item>, delivery: Delivery) -> Self {
        Self {
            encode,
            items,
            delivery,
        }
    }

    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let flush = self.gather(&mut batch).await;
            if !batch.is_empty() {
                let message = self.encode.encode(&batch).into();
                self.delivery.deliver(message, batch.len()).await;
                batch.clear();
            }
            if let Some(done) = flush {
                self.finish(&mut batch).await;
                // Whoever asked may have given up waiting.
                done.send(()).ok();
            }
        }
    }

    /// Fills a batch until it is full or old enough; or until somebody asks for everything.
    async fn gather(&mut self, batch: &mut Vec<E::Item>) -> Option<oneshot::Sender<()>> {
        let mut due = Instant::now() + FOREVER;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            let filled = async {
                if self.items.recv_many(batch, room).await == 0 {
                    // Nobody is left who could send.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                done = self.delivery.flushes.recv() => match done {
                    Some(done) => return Some(done),
                    None => std::future::pending().await,
                },
                within = timeout_at(due, filled) => if within.is_err() && !batch.is_empty() {
                    return None;
                },
            }
            due = due.min(Instant::now() + GATHER);
        }
        None
    }

    /// Delivers what the queue still holds, each batch with one try.
    async fn finish(&mut self, batch: &mut Vec<E::Item>) {
        loop {
            batch.clear();
            while batch.len() < BATCH
                && let Ok(item) = self.items.try_recv()
            {
                batch.push(item);
            }
            if batch.is_empty() {
                return;
            }
            let message = self.encode.encode(batch).into();
            self.delivery.once(message, batch.len()).await;
        }
    }
}

impl<E: Encode + fmt::Debug> fmt::Debug for Batches<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("encode", &self.encode)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

/// Delivers messages to one collector, and says once when that fails and once when it works again.
#[derive(Debug)]
pub(super) struct Delivery {
    client: Client,
    exported: Exported,
    pub(super) flushes: mpsc::Receiver<oneshot::Sender<()>>,
    failing: bool,
}

impl Delivery {
    pub(super) fn new(
        client: Client,
        exported: Exported,
        flushes: mpsc::Receiver<oneshot::Sender<()>>,
    ) -> Self {
        Self {
            client,
            exported,
            flushes,
            failing: false,
        }
    }

    /// Delivers a message of so many items; tries again while that may help, but not for ever, and not once everything must be told.
    async fn deliver(&mut self, message: Bytes, items: usize) {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(again) = self.attempt(&message, items).await else {
                return;
            };
            let over = began.elapsed() > PATIENCE || !self.flushes.is_empty();
            if !again || over {
                self.exported.dropped.add(items as u64);
                return;
            }
            // Not all edges at the same time.
            let until = Instant::now() + pause.mul_f64(0.5 + fastrand::f64());
            while Instant::now() < until && self.flushes.is_empty() {
                sleep(LOOK_UP.min(until.saturating_duration_since(Instant::now()))).await;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Delivers a message with one try.
    pub(super) async fn once(&mut self, message: Bytes, items: usize) {
        if self.attempt(&message, items).await.is_some() {
            self.exported.dropped.add(items as u64);
        }
    }

    /// One try; if it failed, whether another one may help.
    async fn attempt(&mut self, message: &Bytes, items: usize) -> Option<bool> {
        let option = self.client.option();
        match self.client.send(message).await {
            Ok(()) => {
                self.exported.sent.add(items as u64);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("{option}: the collector takes what it is told again");
                }
                None
            }
            Err(refusal) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let (endpoint, reason) = (self.client.endpoint(), &refusal.reason);
                    tracing::warn!(endpoint, %reason, "{option}: the collector cannot be told; what waits for it is kept for a while, then given up");
                }
                Some(refusal.again)
            }
        }
    }
}

/// Items in one message at most.
const BATCH: usize = 512;
/// How long a batch gathers.
const GATHER: Duration = Duration::from_secs(1);
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long one message is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a pause is interrupted to see whether everything must be told now.
const LOOK_UP: Duration = Duration::from_millis(100);
