//! Answers on their way to the client: framing, head, body.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};
use http_body::{Body as _, Frame};

use super::socket::{Departure, Wire};
use crate::{
    entrypoint::{EntryPoint, connection},
    exchange::{Body, Fault, FaultKind, Response, fault},
    http1::write::{self, BodyFrame},
    wire::Output,
};

pub(super) fn refusal_text(status: StatusCode) -> Response {
    let text = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "431 Request Header Fields Too Large",
        StatusCode::EXPECTATION_FAILED => "417 Expectation Failed",
        _ => "400 Bad Request",
    };
    let mut response = fault::text_response(status, text);
    response
        .headers_mut()
        .remove(header::X_CONTENT_TYPE_OPTIONS);
    response
}

/// How the body will be framed, whether it is left out, and whether the connection survives it.
pub(super) fn frame_of(
    response: &Response,
    body: &Body,
    method: &Method,
    version: Version,
    reusable: bool,
) -> (BodyFrame, bool, bool) {
    let status = response.status();
    if method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        // An answer of our own says how long it would be; a server's has said so itself, or not.
        let frame = match body.length() {
            Some(length) if length > 0 => BodyFrame::Length(length),
            _ => BodyFrame::Unsaid,
        };
        return (frame, true, reusable);
    }
    if status == StatusCode::NO_CONTENT || status.is_informational() {
        return (BodyFrame::Unsaid, true, reusable);
    }
    match body.length() {
        Some(length) => (BodyFrame::Length(length), false, reusable),
        None if version == Version::HTTP_10 => (BodyFrame::Unsaid, false, false),
        None => (BodyFrame::Chunked, false, reusable),
    }
}

pub(super) fn write_head(
    out: &mut Vec<u8>,
    response: &Response,
    version: Version,
    frame: BodyFrame,
    reusable: bool,
) {
    write::status_line(out, version, response.status());
    // A 204 has no framing at all: not even a length of zero (RFC 9110 section 8.6).
    if response.status() == StatusCode::NO_CONTENT {
        let mut headers = response.headers().clone();
        headers.remove(header::CONTENT_LENGTH);
        write::fields(out, &headers, BodyFrame::Unsaid);
    } else {
        write::fields(out, response.headers(), frame);
    }
    if !response.headers().contains_key(header::DATE) {
        connection::write_date(out);
    }
    if !reusable {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if version == Version::HTTP_10 {
        // Only who asked for it comes here, and it waits for this word (RFC 9112 section C.2.2).
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// An answer's body on its way to the client.
pub(super) struct Sending {
    pub(super) body: Body,
    pub(super) chunked: bool,
    /// What must still come, if a length was announced.
    pub(super) left: Option<u64>,
    pub(super) bytes: u64,
    pub(super) ended: bool,
    /// How much waited in the output when the client last stopped reading.
    pub(super) stalled: Option<usize>,
    pub(super) departure: Departure,
}

impl Sending {
    pub(super) fn poll(
        &mut self,
        wire: &RefCell<Wire>,
        entry: &EntryPoint,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let gone = Fault::client(FaultKind::ClientGone);
        loop {
            let mut waiting = false;
            while !self.ended && !waiting && !wire.borrow().output.is_full() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(frame) => {
                        // A body of known length says when it is over, which saves asking it once more. It is asked here, because an
                        // answer may be made of the request's body, which reads from the wire.
                        let over = !self.chunked && self.body.is_end_stream();
                        self.take(frame, over, &mut wire.borrow_mut().output)?;
                    }
                    Poll::Pending => waiting = true,
                }
            }
            let wire = &mut *wire.borrow_mut();
            match wire.output.poll_flush(&mut wire.stream, cx) {
                Poll::Ready(Ok(())) if self.ended => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => self.stalled = None,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(gone)),
                Poll::Pending => return self.poll_stalled(wire, entry, cx),
            }
            if waiting {
                return wire.poll_gone(&mut self.departure, cx).map(|()| Err(gone));
            }
        }
    }

    /// The client does not read: it may take its time, but not stand still.
    fn poll_stalled(
        &mut self,
        wire: &Wire,
        entry: &EntryPoint,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let left = wire.output.waiting();
        if entry.timeouts.write.is_none() && self.stalled != Some(left) {
            wire.deadline.set(entry.timeouts.progress);
        }
        self.stalled = Some(left);
        ready!(wire.deadline.poll_expired(cx));
        Poll::Ready(Err(Fault::client(FaultKind::BodyTimeout)))
    }

    fn take(
        &mut self,
        frame: Option<Result<Frame<Bytes>, Fault>>,
        over: bool,
        output: &mut Output,
    ) -> Result<(), Fault> {
        // A body of another length than announced would shift every answer behind it on this connection.
        let wrong = Fault::server(FaultKind::BadResponse);
        let Some(frame) = frame.transpose()? else {
            if self.left.is_some_and(|left| left > 0) {
                return Err(wrong);
            }
            self.end(output, None);
            return Ok(());
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                let count = data.len() as u64;
                self.bytes += count;
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(count).ok_or(wrong)?;
                }
                if self.chunked {
                    write::chunk_size(output.buffer(), data.len());
                    output.push_chunk(data);
                } else {
                    output.push(data);
                    self.ended = over && self.left.unwrap_or_default() == 0;
                }
            }
            Err(frame) => self.end(output, frame.trailers_ref()),
        }
        Ok(())
    }

    fn end(&mut self, output: &mut Output, trailers: Option<&HeaderMap>) {
        self.ended = true;
        if self.chunked {
            write::last_chunk(output.buffer(), trailers);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn framing_follows_method_status_and_version() {
        let response = |status: u16| {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        };
        let full = Body::from("hello");
        for (status, method, version, expected) in [
            (
                200,
                Method::GET,
                Version::HTTP_11,
                (BodyFrame::Length(5), false, true),
            ),
            (
                200,
                Method::HEAD,
                Version::HTTP_11,
                (BodyFrame::Length(5), true, true),
            ),
            (
                304,
                Method::GET,
                Version::HTTP_11,
                (BodyFrame::Length(5), true, true),
            ),
            (
                204,
                Method::GET,
                Version::HTTP_11,
                (BodyFrame::Unsaid, true, true),
            ),
        ] {
            assert_eq!(
                frame_of(&response(status), &full, &method, version, true),
                expected,
                "{status} {method}"
            );
        }
    }

    #[test]
    fn heads_say_when_the_connection_ends() {
        let mut response = Response::new(Body::Empty);
        response
            .headers_mut()
            .insert(header::DATE, HeaderValue::from_static("today"));
        let mut out = Vec::new();
        write_head(
            &mut out,
            &response,
            Version::HTTP_11,
            BodyFrame::Length(0),
            false,
        );
        assert_eq!(
            out,
            b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
}
