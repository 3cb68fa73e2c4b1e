//! Coarse timers of a worker thread: a deadline costs two stores, not an entry in a timer wheel.
//!
//! Almost no deadline of a proxy is ever reached, so setting one must be as cheap as possible. A task per worker wakes every
//! [`TICK`], and wakes those whose time has come; a deadline is up to one tick late.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use slab::Slab;

/// How late a deadline may be.
pub const TICK: Duration = Duration::from_millis(50);

thread_local! {
    static TIMERS: Timers = Timers { slots: RefCell::new(Slab::new()), driver: RefCell::new(None), start: Instant::now(), armed: Cell::new(0) };
}

struct Timers {
    slots: RefCell<Slab<Slot>>,
    /// The driver, while it sleeps because nothing is armed.
    driver: RefCell<Option<Waker>>,
    start: Instant,
    armed: Cell<usize>,
}

struct Slot {
    /// Milliseconds since `start`; `u64::MAX` is never.
    at: u64,
    waker: Option<Waker>,
}

/// A deadline that can be set again and again. Belongs to the thread that made it.
#[derive(Debug)]
pub struct Deadline {
    key: usize,
    // The slot lives in this thread's table.
    _here: std::marker::PhantomData<*const ()>,
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Deadline {
    /// A deadline that is not set.
    pub fn new() -> Self {
        let key = TIMERS.with(|timers| {
            timers.slots.borrow_mut().insert(Slot {
                at: u64::MAX,
                waker: None,
            })
        });
        Self {
            key,
            _here: std::marker::PhantomData,
        }
    }

    /// Sets the deadline to `after` from now; `None` or zero is never.
    pub fn set(&self, after: Option<Duration>) {
        TIMERS.with(|timers| {
            let at = match after {
                Some(after) if !after.is_zero() => {
                    timers.now()
                        + u64::try_from(after.as_millis())
                            .unwrap_or(u64::MAX / 2)
                            .max(1)
                }
                _ => u64::MAX,
            };
            let before = std::mem::replace(&mut timers.slots.borrow_mut()[self.key].at, at);
            timers.count(before, at);
        });
    }

    /// Forgets the deadline.
    pub fn clear(&self) {
        self.set(None);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        TIMERS.with(|timers| timers.slots.borrow()[self.key].at != u64::MAX)
    }

    /// Ready once the deadline has passed.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        TIMERS.with(|timers| {
            let mut slots = timers.slots.borrow_mut();
            let slot = &mut slots[self.key];
            if slot.at != u64::MAX && slot.at <= timers.now() {
                return Poll::Ready(());
            }
            if !slot
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                slot.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // At thread end the table may be gone already; then there is nothing to clean up.
        let _gone = TIMERS.try_with(|timers| {
            let slot = timers.slots.borrow_mut().remove(self.key);
            timers.count(slot.at, u64::MAX);
        });
    }
}

impl Timers {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    fn count(&self, before: u64, after: u64) {
        match (before == u64::MAX, after == u64::MAX) {
            (true, false) => {
                self.armed.set(self.armed.get() + 1);
                if let Some(driver) = self.driver.borrow_mut().take() {
                    driver.wake();
                }
            }
            (false, true) => self.armed.set(self.armed.get() - 1),
            _ => {}
        }
    }

    fn fire(&self) {
        let now = self.now();
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if slot.at <= now
                && let Some(waker) = slot.waker.take()
            {
                waker.wake();
            }
        }
    }
}

/// Wakes everybody who watches a deadline on this thread, reached or not: something else that they look at has changed.
pub fn wake_all() {
    TIMERS.with(|timers| {
        for (_, slot) in timers.slots.borrow_mut().iter_mut() {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    });
}

/// Fires the deadlines of this thread; runs as a task of every worker for as long as the worker lives.
pub async fn drive() {
    loop {
        poll_fn(|cx| {
            TIMERS.with(|timers| {
                if timers.armed.get() > 0 {
                    return Poll::Ready(());
                }
                *timers.driver.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
        tokio::time::sleep(TICK).await;
        TIMERS.with(Timers::fire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn fires_after_the_time_and_not_before() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let driver = tokio::task::spawn_local(drive());
                let (short, long) = (Deadline::new(), Deadline::new());
                let start = Instant::now();
                long.set(Some(Duration::from_secs(60)));
                short.set(Some(Duration::from_millis(80)));
                poll_fn(|cx| short.poll_expired(cx)).await;
                assert!(start.elapsed() >= Duration::from_millis(80));
                assert!(
                    poll_fn(|cx| Poll::Ready(long.poll_expired(cx)))
                        .await
                        .is_pending()
                );
                short.clear();
                assert!(
                    poll_fn(|cx| Poll::Ready(short.poll_expired(cx)))
                        .await
                        .is_pending()
                );
                driver.abort();
            })
            .await;
    }
}
