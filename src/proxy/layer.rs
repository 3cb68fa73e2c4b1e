//! The seam for tower layers: what an embedder wraps around every request.
//!
//! A layer is a static stack of services around [`Next`], made once per worker. A request enters the stack as a plain
//! `http::Request`; when it comes out at `Next`, its journey goes on, and the answer travels back up. Only apps that add a layer pay
//! for this.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytestring::ByteString;
use http::{Request, StatusCode, Uri};
use tokio::sync::oneshot;
use tower::{Layer, Service, ServiceExt};

use super::Journey;
use crate::{
    exchange::{Body, Response, Target, fault},
    upstream::Interim,
};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Answering = Pin<Box<dyn Future<Output = Result<Response, Error>>>>;

/// Makes the stack of one worker.
pub type MakeStack = Arc<dyn Fn() -> Stack + Send + Sync>;

/// The stack of one worker.
#[derive(Clone)]
pub struct Stack {
    call: Rc<dyn Fn(Request<Body>) -> Answering>,
    waiting: Rc<Waiting>,
}

impl Stack {
    /// Puts `layer` around the journey of every request.
    pub fn new<L>(layer: &L) -> Self
    where
        L: Layer<Next>,
        L::Service: Service<Request<Body>, Response = Response> + Clone + 'static,
        <L::Service as Service<Request<Body>>>::Error: Into<Error>,
    {
        let waiting = Rc::new(Waiting::default());
        let service = layer.layer(Next(Rc::clone(&waiting)));
        let call = move |request| -> Answering {
            let service = service.clone();
            Box::pin(async move { service.oneshot(request).await.map_err(Into::into) })
        };
        Self {
            call: Rc::new(call),
            waiting,
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stack")
    }
}

/// The innermost service: the rest of the journey.
#[derive(Debug, Clone)]
pub struct Next(Rc<Waiting>);

impl Service<Request<Body>> for Next {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (sender, receiver) = oneshot::channel();
        // A request that a layer made up itself belongs to no journey.
        if let Some(Ticket(number)) = request.extensions().get().copied() {
            self.0
                .arrived
                .borrow_mut()
                .insert(number, (request, sender));
        }
        Box::pin(async move {
            Ok(receiver
                .await
                .unwrap_or_else(|_| fault::status_response(StatusCode::INTERNAL_SERVER_ERROR)))
        })
    }
}

/// A request that came out of the stack, and who waits for its answer.
type Arrived = (Request<Body>, oneshot::Sender<Response>);

/// Requests that have come through the stack and whose journey has not noticed yet.
#[derive(Debug, Default)]
struct Waiting {
    arrived: RefCell<HashMap<u64, Arrived>>,
    count: Cell<u64>,
}

/// Tells which journey a request belongs to.
#[derive(Debug, Clone, Copy)]
struct Ticket(u64);

impl Journey {
    /// Sends the request through the stack; the journey goes on where it comes out.
    pub(super) async fn through(
        &mut self,
        stack: &Stack,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let number = stack.waiting.count.get();
        stack.waiting.count.set(number.wrapping_add(1));
        let mut answering = (stack.call)(self.take_request(Ticket(number)));
        let early = poll_fn(|cx| match answering.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if stack.waiting.arrived.borrow().contains_key(&number) => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        });
        let answer = match early.await {
            Some(answer) => answer,
            None => {
                let arrived = stack.waiting.arrived.borrow_mut().remove(&number);
                if let Some((request, sender)) = arrived {
                    let response = self.go_on(request, interim).await;
                    // A stack that no longer wants the answer has its own.
                    drop(sender.send(response));
                }
                answering.await
            }
        };
        stack.waiting.arrived.borrow_mut().remove(&number);
        answer.unwrap_or_else(|error| {
            tracing::error!(%error, "a layer failed");
            fault::text_response(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
        })
    }

    fn take_request(&mut self, ticket: Ticket) -> Request<Body> {
        let head = &mut self.exchange.request;
        let mut request = Request::new(self.exchange.body.take());
        *request.method_mut() = head.method.clone();
        *request.version_mut() = head.version;
        *request.headers_mut() = std::mem::take(&mut head.headers);
        *request.uri_mut() = Uri::builder()
            .scheme(if self.exchange.connection.is_tls() {
                "https"
            } else {
                "http"
            })
            .authority(if head.host.is_empty() {
                "localhost"
            } else {
                &*head.host
            })
            .path_and_query(head.target.as_str())
            .build()
            .unwrap_or_default();
        request.extensions_mut().insert(ticket);
        request
            .extensions_mut()
            .insert(self.exchange.connection.peer);
        request
    }

    async fn go_on(&mut self, request: Request<Body>, interim: Option<&dyn Interim>) -> Response {
        let (parts, body) = request.into_parts();
        let head = &mut self.exchange.request;
        head.method = parts.method;
        head.headers = parts.headers;
        if let Some(target) = parts.uri.path_and_query()
            && target.as_str() != head.target.as_str()
        {
            head.target = Target::new(ByteString::from(target.as_str()));
        }
        self.exchange.body = body;
        self.route_and_answer(interim).await
    }
}
