//! Back ends that speak something else than plain HTTP/1.1 requests: HTTP/2 (gRPC-like) and WebSocket.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::loopback;

/// A running back end that speaks HTTP/2; it ends when dropped.
pub struct Special {
    pub addr: SocketAddr,
    /// The heads of the requests seen.
    pub heads: Arc<Mutex<Vec<Request<()>>>>,
    task: JoinHandle<()>,
}

impl Drop for Special {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A gRPC-like echo over HTTP/2 (prior knowledge, or TLS with ALPN): sends each DATA frame back as it comes, then trailers.
pub async fn grpc_backend(tls: Option<TlsAcceptor>) -> Special {
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&heads);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, shared) = (tls.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                match tls {
                    None => serve_h2(stream, shared).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve_h2(stream, shared).await;
                        }
                    }
                }
            });
        }
    });
    Special { addr, heads, task }
}

async fn serve_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    heads: Arc<Mutex<Vec<Request<()>>>>,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (parts, body) = request.into_parts();
        heads.lock().unwrap().push(Request::from_parts(parts, ()));
        tokio::spawn(echo_stream(body, respond));
    }
}

async fn echo_stream(mut body: h2::RecvStream, mut respond: h2::server::SendResponse<Bytes>) {
    let head = Response::builder()
        .status(200)
        .header("content-type", "application/grpc")
        .header("x-backend", "grpc")
        .body(())
        .unwrap();
    let Ok(mut send) = respond.send_response(head, false) else {
        return;
    };
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).ok();
        if send.send_data(data, false).is_err() {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("grpc-message", "fine".parse().unwrap());
    send.send_trailers(trailers).ok();
}

/// A WebSocket echo.
pub async fn websocket_backend() -> Special {
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_websocket(stream));
        }
    });
    Special {
        addr,
        heads: Arc::default(),
        task,
    }
}

async fn serve_websocket(stream: TcpStream) {
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    let (mut sink, mut source) = socket.split();
    while let Some(Ok(message)) = source.next().await {
        if message.is_close() {
            break;
        }
        if (message.is_text() || message.is_binary()) && sink.send(message).await.is_err() {
            break;
        }
    }
    sink.close().await.ok();
}
