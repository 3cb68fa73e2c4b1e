//! Answers on their way to the client.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::Shared;
use crate::{
    entrypoint::connection,
    exchange::Response,
    proxy::Journey,
    upstream::{
        Interim,
        http2::{Broken, send_body},
    },
};

/// The answer, or none if the client reset the stream first.
pub(super) async fn answer(
    journey: &mut Journey,
    respond: &Rc<RefCell<SendResponse<Bytes>>>,
) -> Option<Response> {
    let interim = Hints(respond);
    let mut answering = pin!(journey.respond(Some(&interim)));
    poll_fn(|cx| {
        if let Poll::Ready(response) = answering.as_mut().poll(cx) {
            return Poll::Ready(Some(response));
        }
        respond.borrow_mut().poll_reset(cx).map(|_| None)
    })
    .await
}

/// Sends the answer: the body bytes that went out, as an error if not all did.
pub(super) async fn send(
    shared: &Shared,
    mut response: Response,
    method: &Method,
    respond: &RefCell<SendResponse<Bytes>>,
) -> Result<u64, u64> {
    let body = std::mem::take(response.body_mut());
    let status = response.status();
    let bodiless = method == Method::HEAD
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    match body.length() {
        Some(0) | None if bodiless => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    headers.remove(header::TRANSFER_ENCODING);
    if !headers.contains_key(header::DATE) {
        headers.insert(header::DATE, connection::date());
    }
    let ends = bodiless || body.is_empty();
    let (parts, _) = response.into_parts();
    let mut head = http::Response::new(());
    (*head.status_mut(), *head.headers_mut()) = (parts.status, parts.headers);
    let mut stream = respond
        .borrow_mut()
        .send_response(head, ends)
        .map_err(|_| 0u64)?;
    if ends {
        return Ok(0);
    }
    let timeouts = &shared.entry.timeouts;
    match send_body(body, &mut stream, timeouts.write.or(timeouts.progress)).await {
        Ok(sent) => Ok(sent),
        Err(broken) => {
            if broken == Broken::PeerStalled {
                let peer = &shared.connection.peer;
                let worker = &shared.worker;
                worker.timed_out(shared.entry.index, "answer", "bodyProgressTimeout", peer);
            }
            // The client must not take what it has for the whole.
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
            Err(0)
        }
    }
}

/// Takes interim answers to the client.
struct Hints<'a>(&'a Rc<RefCell<SendResponse<Bytes>>>);

impl Interim for Hints<'_> {
    fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let mut head = http::Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = headers.clone();
        if self.0.borrow_mut().send_informational(head).is_err() {
            tracing::debug!("stream was reset before an interim answer");
        }
    }
}
