//! The idle connections of one worker, by server.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::{Answer, Failure, Outgoing, connect, http1, http2, resolve::Doubts};
use crate::{
    exchange::Body,
    observe::OpenConnection,
    service::{Scheme, Server},
};

/// All connections of one worker to servers.
#[derive(Debug)]
pub struct Upstream {
    homes: RefCell<Vec<Option<Rc<Home>>>>,
    doubts: Doubts,
}

/// The connections of one worker to one server.
#[derive(Debug)]
pub struct Home {
    server: Arc<Server>,
    #[expect(
        clippy::vec_box,
        reason = "a connection travels boxed, from exchange to exchange"
    )]
    idle: RefCell<Vec<Box<http1::Connection>>>,
    shared: RefCell<Vec<http2::Connection>>,
    /// What TLS negotiated last: with HTTP/2 there is no use in looking for idle HTTP/1 connections.
    h2: Cell<Option<bool>>,
}

impl Upstream {
    /// No connections yet. `doubts` is told of servers that do not answer at the address their name had.
    pub fn new(doubts: Doubts) -> Self {
        Self {
            homes: RefCell::default(),
            doubts,
        }
    }

    /// Sends a request to `server`, over a connection at hand or a new one.
    pub async fn send(
        &self,
        server: &Arc<Server>,
        request: Outgoing<'_>,
        body: Body,
    ) -> Result<Answer, Failure> {
        let home = self.home(server);
        let outcome = match server.scheme {
            Scheme::H2c => home.send_h2(request, body).await,
            Scheme::Https if home.may_use_h2(&request) => home.send_negotiated(request, body).await,
            Scheme::Http | Scheme::Https => home.send_h1(request, body).await,
        };
        if let Err(failure) = &outcome
            && failure.fault.nothing_sent()
        {
            self.doubts.raise(&server.host);
        }
        outcome
    }

    fn home(&self, server: &Arc<Server>) -> Rc<Home> {
        let index = server.id.0 as usize;
        let mut homes = self.homes.borrow_mut();
        if index >= homes.len() {
            homes.resize_with(index + 1, || None);
        }
        match &homes[index] {
            Some(home) if home.server.serial() == server.serial() => Rc::clone(home),
            _ => Rc::clone(homes[index].insert(Rc::new(Home::new(Arc::clone(server))))),
        }
    }

    /// Closes idle connections that are dead or too old, and those to servers that are leaving or that no configuration
    /// names any more.
    pub fn sweep(&self) {
        for home in self.homes.borrow_mut().iter_mut() {
            let Some(kept) = home else { continue };
            kept.sweep();
            // A server that goes is let go of: as long as we hold it, it is there for everybody who counts servers.
            if kept.server.is_leaving() && kept.is_empty() && Rc::strong_count(kept) == 1 {
                *home = None;
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.fewer_idle(self.idle.borrow().len());
    }
}

impl Home {
    fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            idle: RefCell::default(),
            shared: RefCell::default(),
            h2: Cell::new(None),
        }
    }

    /// Takes a connection back after an exchange.
    pub fn put(&self, connection: Box<http1::Connection>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.server.transport.max_idle_per_host && !self.server.is_leaving() {
            idle.push(connection);
            self.server.metrics().idle_changed(1);
        }
    }

    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.shared.borrow().is_empty()
    }

    fn may_use_h2(&self, request: &Outgoing<'_>) -> bool {
        !self.server.transport.disable_http2
            && request.head.upgrade.is_none()
            && self.h2.get() != Some(false)
    }

    async fn send_h1(
        self: &Rc<Self>,
        request: Outgoing<'_>,
        body: Body,
    ) -> Result<Answer, Failure> {
        // What asks for another protocol gets a connection of its own: it keeps it anyway, and must not fall victim to a stale one.
        let pooled = match request.head.upgrade {
            Some(_) => None,
            None => self.take(&request),
        };
        let connection = match pooled {
            Some(connection) => connection,
            // Boxed, like all that is only for new connections: every request would carry the room for it.
            None => match Box::pin(connect::dial_h1(&self.server)).await {
                Ok(stream) => http1::Connection::new(stream, self.opened()),
                Err(fault) => return Err(Failure::before_sending(fault, body)),
            },
        };
        connection.send(request, body, self).await
    }

    /// The idle connection used last; it is the likeliest to be alive, and the others get a chance to age out.
    fn take(&self, request: &Outgoing<'_>) -> Option<Box<http1::Connection>> {
        // A request that cannot be sent again must not meet a connection that the server has just closed.
        let certain = !request.head.is_repeatable();
        let timeout = self.server.transport.idle_timeout;
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            self.server.metrics().idle_changed(-1);
            if connection.is_fit(timeout) && (!certain || connection.is_open()) {
                self.server.metrics().connection_reused();
                return Some(connection);
            }
        }
    }

    async fn send_h2(&self, request: Outgoing<'_>, body: Body) -> Result<Answer, Failure> {
        let connection = match self.shared_h2() {
            Some(connection) => connection,
            None => match Box::pin(connect::dial_h2c(&self.server)).await {
                Ok(stream) => match Box::pin(self.share(stream)).await {
                    Ok(connection) => connection,
                    Err(fault) => return Err(Failure::before_sending(fault, body)),
                },
                Err(fault) => return Err(Failure::before_sending(fault, body)),
            },
        };
        connection.send(request, body).await
    }

    /// HTTPS: HTTP/2 if the server takes it.
    async fn send_negotiated(
        self: &Rc<Self>,
        request: Outgoing<'_>,
        body: Body,
    ) -> Result<Answer, Failure> {
        if let Some(connection) = self.shared_h2() {
            return connection.send(request, body).await;
        }
        if let Some(connection) = self.take(&request) {
            return connection.send(request, body, self).await;
        }
        let (stream, h2) = match Box::pin(connect::dial_negotiated(&self.server)).await {
            Ok(dialled) => dialled,
            Err(fault) => return Err(Failure::before_sending(fault, body)),
        };
        self.h2.set(Some(h2));
        if !h2 {
            return http1::Connection::new(stream, self.opened())
                .send(request, body, self)
                .await;
        }
        match Box::pin(self.share(stream)).await {
            Ok(connection) => connection.send(request, body).await,
            Err(fault) => Err(Failure::before_sending(fault, body)),
        }
    }

    fn shared_h2(&self) -> Option<http2::Connection> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|connection| !connection.is_closed());
        let connection = shared.iter().find(|connection| connection.has_room());
        if connection.is_some() {
            self.server.metrics().connection_reused();
        }
        connection.cloned()
    }

    async fn share(
        &self,
        stream: crate::wire::Stream,
    ) -> Result<http2::Connection, crate::exchange::Fault> {
        let connection =
            http2::Connection::open(stream, &self.server.transport, self.opened()).await?;
        self.shared.borrow_mut().push(connection.clone());
        Ok(connection)
    }

    fn opened(&self) -> OpenConnection {
        self.server.metrics().connection_opened()
    }

    fn fewer_idle(&self, by: usize) {
        if by > 0 {
            self.server.metrics().idle_changed(-(by as i64));
        }
    }

    fn sweep(&self) {
        let timeout = self.server.transport.idle_timeout;
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        let leaving = self.server.is_leaving();
        idle.retain_mut(|connection| !leaving && connection.is_fit(timeout));
        self.fewer_idle(before - idle.len());
        drop(idle);
        // Streams that are under way keep their connection open by themselves.
        self.shared.borrow_mut().retain(|connection| {
            !leaving && !connection.is_closed() && !connection.idle_longer_than(timeout)
        });
        // The server may have been replaced by one that negotiates otherwise.
        if self.is_empty() {
            self.h2.set(None);
        }
    }
}
