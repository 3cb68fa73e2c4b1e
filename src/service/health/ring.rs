//! The passive side of health: failures within a window.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::PassiveSettings;

/// The times of the last N failures, without a lock. A race between two failures can at worst delay a trip by one failure.
#[derive(Debug)]
pub(super) struct FailureRing {
    window: u64,
    /// Milliseconds, 0 for empty.
    slots: Box<[AtomicU64]>,
    next: AtomicU32,
    used: AtomicBool,
}

impl FailureRing {
    pub(super) fn new(settings: PassiveSettings) -> Self {
        let length = settings
            .max_failed_attempts
            .clamp(1, PassiveSettings::MAX_ATTEMPTS);
        Self {
            window: u64::try_from(settings.failure_window.as_millis()).unwrap_or(u64::MAX),
            slots: (0..length).map(|_| AtomicU64::new(0)).collect(),
            next: AtomicU32::new(0),
            used: AtomicBool::new(false),
        }
    }

    /// How many failures it takes.
    pub(super) fn attempts(&self) -> usize {
        self.slots.len()
    }

    /// How long they count, in milliseconds.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Notes a failure; true if the window now holds as many failures as there are slots.
    pub(super) fn record(&self, now: u64) -> bool {
        let index = self.next.fetch_add(1, Relaxed) as usize;
        let length = self.slots.len();
        self.slots[index % length].store(now, Relaxed);
        self.used.store(true, Relaxed);
        let oldest = self.slots[(index + 1) % length].load(Relaxed);
        oldest != 0 && now.saturating_sub(oldest) < self.window
    }

    pub(super) fn clear(&self) {
        if self.used.load(Relaxed) {
            self.used.store(false, Relaxed);
            for slot in &self.slots {
                slot.store(0, Relaxed);
            }
        }
    }
}
