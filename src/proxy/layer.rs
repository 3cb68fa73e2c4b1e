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
    pin::{Pin, pin},
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
        if let Some(Number(number)) = request.extensions().get().copied() {
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
struct Number(u64);

/// A journey's place among those that wait for their request to come out of the stack.
struct Ticket<'a> {
    number: Number,
    waiting: &'a Waiting,
}

impl<'a> Ticket<'a> {
    fn new(waiting: &'a Waiting) -> Self {
        let number = waiting.count.get();
        waiting.count.set(number.wrapping_add(1));
        Self {
            number: Number(number),
            waiting,
        }
    }

    fn number(&self) -> Number {
        self.number
    }

    /// The request that came out of the stack, or the answer if that came first.
    async fn arrived_or(
        &self,
        answering: &mut Answering,
    ) -> Result<Arrived, Result<Response, Error>> {
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answering.as_mut().poll(cx) {
                return Poll::Ready(Err(answer));
            }
            match self.waiting.arrived.borrow_mut().remove(&self.number.0) {
                Some(arrived) => Poll::Ready(Ok(arrived)),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// Goes on with the journey where the request comes out of the stack, while the layers around it go on too: what one of them decides
/// meanwhile is the answer, and ends the journey where it is. A layer may send its request on more than once, to try again.
async fn travel(
    ticket: &Ticket<'_>,
    answering: &mut Answering,
    mut go_on: impl AsyncFnMut(Request<Body>) -> Response,
) -> Result<Response, Error> {
    loop {
        let (request, sender) = match ticket.arrived_or(answering).await {
            Ok(arrived) => arrived,
            Err(answer) => return answer,
        };
        let mut going_on = pin!(go_on(request));
        let outcome = poll_fn(|cx| match answering.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Err(answer)),
            Poll::Pending => going_on.as_mut().poll(cx).map(Ok),
        });
        match outcome.await {
            // A stack that no longer wants the answer has its own.
            Ok(response) => drop(sender.send(response)),
            Err(answer) => return answer,
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.waiting.arrived.borrow_mut().remove(&self.number.0);
    }
}

impl Journey {
    /// Sends the request through the stack; the journey goes on where it comes out.
    pub(super) async fn through(
        &mut self,
        stack: &Stack,
        interim: Option<&dyn Interim>,
    ) -> Response {
        let ticket = Ticket::new(&stack.waiting);
        let mut answering = (stack.call)(self.take_request(ticket.number()));
        let answer = travel(&ticket, &mut answering, async |request| {
            self.go_on(request, interim).await
        });
        answer.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a layer failed");
            fault::text_response(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n")
        })
    }

    fn take_request(&mut self, number: Number) -> Request<Body> {
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
        request.extensions_mut().insert(number);
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

#[cfg(test)]
mod tests {
    use tower::layer::layer_fn;

    use super::*;

    fn request(number: Number) -> Request<Body> {
        let mut request = Request::new(Body::Empty);
        request.extensions_mut().insert(number);
        request
    }

    fn answer(status: u16) -> Response {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    }

    /// Runs one request through `stack`; its journey takes `time` and answers with the number of the try.
    async fn run(stack: &Stack, time: std::time::Duration) -> (Result<u16, String>, u16) {
        let ticket = Ticket::new(&stack.waiting);
        let mut answering = (stack.call)(request(ticket.number()));
        let tries = Cell::new(0);
        let answered = travel(&ticket, &mut answering, async |_| {
            tries.set(tries.get() + 1);
            tokio::time::sleep(time).await;
            answer(200 + tries.get())
        });
        let answered = answered.await.map(|answer| answer.status().as_u16());
        (answered.map_err(|error| error.to_string()), tries.get())
    }

    const LONG: std::time::Duration = std::time::Duration::from_secs(60);
    const SHORT: std::time::Duration = std::time::Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn a_timeout_around_the_journey_cuts_it_on_time() {
        let stack = Stack::new(&tower::timeout::TimeoutLayer::new(SHORT * 10));
        let began = tokio::time::Instant::now();
        let (answered, tries) = run(&stack, LONG).await;
        assert!(answered.is_err() && tries == 1, "{answered:?}");
        assert!(began.elapsed() < SHORT * 12, "{:?}", began.elapsed());
        assert_eq!(run(&stack, SHORT).await, (Ok(201), 1));
        assert!(stack.waiting.arrived.borrow().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_layer_may_send_the_request_twice() {
        let stack = Stack::new(&layer_fn(|next: Next| {
            tower::service_fn(move |first: Request<Body>| {
                let mut next = next.clone();
                async move {
                    let number = *first.extensions().get::<Number>().unwrap();
                    next.call(first).await?;
                    next.call(request(number)).await
                }
            })
        }));
        assert_eq!(run(&stack, SHORT).await, (Ok(202), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_layer_may_answer_itself() {
        let stack = Stack::new(&layer_fn(|_| {
            tower::service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(answer(418)) })
        }));
        assert_eq!(run(&stack, SHORT).await, (Ok(418), 0));
    }
}
