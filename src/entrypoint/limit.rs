//! How many connections an entry point may have.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// `transport.maxConnections`: the open connections of one entry point, counted over all workers. It is asked once per connection.
#[derive(Debug)]
pub struct ConnectionLimit {
    most: usize,
    open: AtomicUsize,
}

impl ConnectionLimit {
    /// Room for so many; none if there is no limit (0).
    pub fn new(most: usize) -> Option<Arc<Self>> {
        let open = AtomicUsize::new(0);
        (most > 0).then(|| Arc::new(Self { most, open }))
    }

    /// A place for one more connection, while there is one.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let more = |open| (open < self.most).then_some(open + 1);
        let entered = self.open.fetch_update(Relaxed, Relaxed, more);
        entered.is_ok().then(|| Place(Arc::clone(self)))
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<ConnectionLimit>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        assert!(ConnectionLimit::new(0).is_none());
        let limit = ConnectionLimit::new(2).unwrap();
        let (first, second) = (limit.enter(), limit.enter());
        assert!(first.is_some() && second.is_some() && limit.enter().is_none());
        drop(first);
        let third = limit.enter();
        assert!(third.is_some() && limit.enter().is_none());
    }
}
