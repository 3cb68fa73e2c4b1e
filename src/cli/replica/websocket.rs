//! WebSockets (RFC 6455) that send back what they get.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

/// Agrees to become a WebSocket, and tells the owner of the tasks.
pub(super) fn accept(
    request: &mut Request<Incoming>,
    sockets: &mpsc::Sender<OnUpgrade>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let Some(accept) = request
        .headers()
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|key| answer(key.as_bytes()))
    else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    if sockets.try_send(hyper::upgrade::on(request)).is_err() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return response;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Serves what has become a WebSocket until it ends.
pub(super) async fn serve(upgrade: OnUpgrade) {
    // A client that leaves without a word has left all the same.
    if let Ok(upgraded) = upgrade.await {
        drop(echo(TokioIo::new(upgraded)).await);
    }
}

/// The proof that we speak the protocol (section 4.2.2).
fn answer(key: &[u8]) -> Option<HeaderValue> {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    STANDARD.encode(digest).parse().ok()
}

/// Sends back every frame until the client closes.
async fn echo(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        let (first, second) = (io.read_u8().await?, io.read_u8().await?);
        let length = match second & 0x7f {
            126 => u64::from(io.read_u16().await?),
            127 => io.read_u64().await?,
            short => u64::from(short),
        };
        let masked = second & 0x80 != 0;
        if !masked || length > LONGEST_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mask = io.read_u32().await?.to_be_bytes();
        let mut payload = Vec::new();
        (&mut io).take(length).read_to_end(&mut payload).await?;
        for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
        let kind = match first & 0x0f {
            PING => PONG,
            PONG => continue,
            same => same,
        };
        io.write_all(&frame(first & 0xf0 | kind, &payload)).await?;
        if kind == CLOSE {
            return io.shutdown().await;
        }
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        // Each length in the fewest bytes that hold it (section 5.2).
        short @ ..=125 => frame.push(u8::try_from(short).unwrap_or_default()),
        length => match u16::try_from(length) {
            Ok(length) => {
                frame.push(126);
                frame.extend(length.to_be_bytes());
            }
            Err(_) => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        },
    }
    frame.extend(payload);
    frame
}

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const LONGEST_FRAME: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_in_the_standard() {
        let accept = answer(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test]
    async fn frames_come_back_unmasked() {
        let cases: [(&[u8], &[u8]); 4] = [
            // "Hello", masked as in section 5.7.
            (
                &[
                    0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
                ],
                &[0x81, 0x05, b'H', b'e', b'l', b'l', b'o'],
            ),
            (&[0x89, 0x81, 0, 0, 0, 0, 7], &[0x8a, 0x01, 7]),
            (&[0x88, 0x80, 1, 2, 3, 4], &[0x88, 0]),
            // Without a mask, or of a size that nobody sends.
            (&[0x81, 0x01, b'x'], &[]),
        ];
        for (sent, expected) in cases {
            let (mut ours, theirs) = tokio::io::duplex(1024);
            let mut got = Vec::new();
            let client = async {
                ours.write_all(sent).await.unwrap();
                ours.shutdown().await.unwrap();
                ours.read_to_end(&mut got).await.unwrap();
            };
            drop(tokio::join!(client, echo(theirs)));
            assert_eq!(got, expected, "{sent:?}");
        }
        for (length, head) in [(125, 2), (126, 4), (70_000, 10)] {
            assert_eq!(frame(0x82, &vec![0; length]).len(), length + head);
        }
    }
}
