//! The first connect to a server that joins others and that nobody checks.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{WARM_UP, WARM_UP_PAUSE, now};
use crate::{
    service::{Room, Server},
    upstream::connect,
};

/// Tries until the server can be reached, and lets it have traffic then.
pub(super) async fn reach(server: Arc<Server>, room: Arc<Room>) {
    let started = Instant::now();
    while server.health.awaits_first_connect() {
        let outcome = timeout(PATIENCE, connect::reach(&server)).await;
        let outcome = match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("it cannot be reached"),
            Err(_) => Err("it does not take connections in time"),
        };
        server.health.connected(outcome, now());
        if outcome.is_ok() {
            room.wake();
            return;
        }
        sleep(match started.elapsed() < WARM_UP {
            true => WARM_UP_PAUSE,
            false => RARELY,
        })
        .await;
    }
}

/// A server that needs longer than this to take a connection is not ready.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between attempts at a server that has been away for long.
const RARELY: Duration = Duration::from_secs(5);
