//! `mode: grpc`: `grpc.health.v1.Health/Check` for the whole server.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;

use super::line::{Line, USER_AGENT};
use crate::service::{HealthCheck, Scheme, Server};

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// A frame of no bytes: the request names no service, which stands for all of them.
const NO_SERVICE: &[u8] = &[0, 0, 0, 0, 0];
const GRPC_STATUS: &str = "grpc-status";
const SERVING: u64 = 1;

/// Probes once.
pub(super) async fn check(server: &Server, check: &HealthCheck) -> Result<(), String> {
    let mut line = Line::new(server, check);
    if line.scheme == Scheme::Http {
        // gRPC is HTTP/2 only.
        line.scheme = Scheme::H2c;
    }
    let mut request = Request::post(METHOD)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(Bytes::from_static(NO_SERVICE)))
        .map_err(|error| format!("the request cannot be written: {error}"))?;
    request.headers_mut().insert(USER_AGENT.0, USER_AGENT.1);
    let reply = line.send(request).await?;
    if reply.head.version != http::Version::HTTP_2 {
        return Err("the server does not speak HTTP/2".to_owned());
    }
    if reply.head.status != StatusCode::OK {
        return Err(format!("status {}", reply.head.status.as_u16()));
    }
    // An answer without a message carries its status in the head.
    let status = status(&reply.trailers).or_else(|| status(&reply.head.headers));
    match status.as_deref() {
        Some("0") => {}
        Some("12") => return Err("the server does not offer grpc.health.v1".to_owned()),
        Some(code) => return Err(format!("gRPC status {code}")),
        None => return Err("the answer has no gRPC status".to_owned()),
    }
    match serving_status(&reply.body) {
        Some(SERVING) => Ok(()),
        Some(2) => Err("NOT_SERVING".to_owned()),
        Some(other) => Err(format!("serving status {other}")),
        None => Err("the answer is no health message".to_owned()),
    }
}

fn status(headers: &HeaderMap) -> Option<String> {
    let value: &HeaderValue = headers.get(GRPC_STATUS)?;
    value.to_str().ok().map(str::to_owned)
}

/// Field 1 of the message in the first frame; a message without it means 0 (unknown).
fn serving_status(body: &[u8]) -> Option<u64> {
    let (head, rest) = body.split_at_checked(5)?;
    let (compressed, length) = (
        head[0] != 0,
        u32::from_be_bytes([head[1], head[2], head[3], head[4]]),
    );
    let mut message = rest.get(..length as usize).filter(|_| !compressed)?;
    let mut found = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    found = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(found)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::serving_status;

    #[test]
    fn messages() {
        for (body, expected) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            // An unknown field of each kind before the one that counts.
            (
                &[
                    0, 0, 0, 0, 22, 0x10, 0x80, 1, 0x1a, 2, 9, 9, 0x25, 1, 2, 3, 4, 0x29, 1, 2, 3,
                    4, 5, 6, 7, 8, 8, 2,
                ][..28],
                None,
            ),
            (
                &[
                    0, 0, 0, 0, 23, 0x10, 0x80, 1, 0x1a, 2, 9, 9, 0x25, 1, 2, 3, 4, 0x29, 1, 2, 3,
                    4, 5, 6, 7, 8, 8, 2,
                ],
                Some(2),
            ),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 9, 8, 1], None),
            (
                &[
                    0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                ],
                None,
            ),
            (&[0, 0], None),
            (&[], None),
        ] {
            assert_eq!(serving_status(body), expected, "{body:?}");
        }
    }
}
