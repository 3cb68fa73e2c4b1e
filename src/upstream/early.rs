//! Answers that begin before their request has been sent: the request goes on by itself, because a client may well send all of it
//! before it reads any of the answer.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{
    http1::{Answering, Connection},
    pool::Home,
};
use crate::exchange::Fault;

/// The body of such an answer.
pub(super) struct Early {
    answering: Rc<RefCell<Answering>>,
    upload: tokio::task::JoinHandle<()>,
}

impl Early {
    pub(super) fn new(connection: Box<Connection>, keep_alive: bool, home: &Rc<Home>) -> Self {
        let answering = Answering::new(connection, keep_alive, home);
        let answering = Rc::new(RefCell::new(answering));
        let shared = Rc::clone(&answering);
        let upload = poll_fn(move |cx| shared.borrow_mut().poll_upload(cx));
        Self {
            answering,
            upload: tokio::task::spawn_local(upload),
        }
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.upload.abort();
    }
}

impl http_body::Body for Early {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.answering.borrow_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.answering.borrow().has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.answering.borrow().size_hint()
    }
}
