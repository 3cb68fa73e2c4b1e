//! Connections to Redis: one per worker, made when it is first needed.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, RedisError, RedisResult,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
};

use super::settings::{Dialler, Settings};

/// The workers' connections.
#[derive(Default)]
pub(super) struct Links(Mutex<Vec<(ThreadId, Link)>>);

/// A connection, or one to come. All who wait for it share what it costs.
pub(super) type Link = Shared<BoxFuture<'static, Result<Connection, Failure>>>;

impl Links {
    /// The calling worker's connection.
    pub(super) fn of_this_worker(&self, settings: &Settings) -> Link {
        let worker = thread::current().id();
        let mut links = self.links();
        if let Some((_, link)) = links.iter().find(|(owner, _)| *owner == worker) {
            return link.clone();
        }
        let link = dial(settings.clone()).boxed().shared();
        links.push((worker, link.clone()));
        link
    }

    /// Forgets a connection that did not work.
    pub(super) fn give_up(&self, link: &Link) {
        self.links().retain(|(_, other)| !link.ptr_eq(other));
    }

    /// Held for as long as a few entries take to be looked through.
    fn links(&self) -> MutexGuard<'_, Vec<(ThreadId, Link)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commands of many requests at once travel over it.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let link: &mut (dyn ConnectionLike + Send) = match self {
            Self::Single(link) => link,
            Self::Cluster(link) => link,
        };
        let value = link.req_packed_command(command).await?;
        Ok(redis::from_redis_value(value.extract_error()?)?)
    }
}

/// Why Redis did not do what it should have done.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure {
    reason: Arc<str>,
    /// The connection has ended, as idle ones do: a new one may do better.
    pub(super) closed: bool,
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        let refused = error.is_connection_refusal() || error.is_timeout();
        Self {
            closed: !refused && (error.is_io_error() || error.is_connection_dropped()),
            reason: error.to_string().into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Redis took too long.
pub(super) fn late() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within readTimeout").into()
}

async fn dial(settings: Settings) -> Result<Connection, Failure> {
    let patience = settings.dial_patience;
    let connecting = async {
        // The system's certificates are read from disk.
        let settings = Arc::new(settings);
        let made = if settings.wants_system_roots() {
            let settings = Arc::clone(&settings);
            let made = tokio::task::spawn_blocking(move || settings.dialler());
            made.await.unwrap_or_else(|_| Err(late()))
        } else {
            settings.dialler()
        };
        match made? {
            Dialler::Single(client) => {
                let unhurried = AsyncConnectionConfig::new()
                    .set_connection_timeout(None)
                    .set_response_timeout(None);
                let link = client.get_multiplexed_async_connection_with_config(&unhurried);
                link.await.map(Connection::Single)
            }
            Dialler::Cluster(client) => {
                let link = client.get_async_connection();
                link.await.map(Connection::Cluster)
            }
        }
    };
    match tokio::time::timeout(patience, connecting).await {
        Ok(connected) => connected.map_err(Failure::from),
        Err(_) => Err(Failure {
            reason: "no connection within dialTimeout".into(),
            closed: false,
        }),
    }
}
