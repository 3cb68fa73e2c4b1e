//! A bounded queue from the request path to whoever sends things on. What finds no room is given up and counted; nobody ever waits.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Counter;

/// The producers' end. Cheap to clone.
#[derive(Debug)]
pub struct Queue<T> {
    sender: mpsc::Sender<T>,
    dropped: Arc<Counter>,
}

/// The consumer's end.
#[derive(Debug)]
pub struct Outlet<T> {
    pub receiver: mpsc::Receiver<T>,
    /// How many were given up; the consumer adds those that it could not deliver.
    pub dropped: Arc<Counter>,
}

impl<T> Queue<T> {
    /// A queue in which so many may wait.
    pub fn new(capacity: usize) -> (Self, Outlet<T>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let dropped = Arc::new(Counter::default());
        let queue = Self {
            sender,
            dropped: Arc::clone(&dropped),
        };
        (queue, Outlet { receiver, dropped })
    }

    /// Queues `item`, or gives it up.
    pub fn push(&self, item: T) {
        if self.sender.try_send(item).is_err() {
            self.dropped.increment();
        }
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn what_finds_no_room_is_counted() {
        let (queue, mut outlet) = Queue::new(2);
        (0..5).for_each(|number| queue.push(number));
        assert_eq!(outlet.dropped.get(), 3);
        assert_eq!(outlet.receiver.try_recv(), Ok(0));
        drop(outlet);
        queue.push(9);
        assert_eq!(queue.dropped.get(), 4);
    }
}
