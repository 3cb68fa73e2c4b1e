//! Which router answers: host, path, method, header, query, priority, and what an unmatched request gets.

use crate::support::{all_to, backend, proxy};

#[tokio::test]
async fn forwards_to_the_server() {
    let one = backend("one").run().await;
    let proxy = proxy(&all_to(&[one.url()])).run().await;
    let answer = proxy.client().get("/hello?x=1").await;
    assert_eq!((answer.status, answer.backend()), (200, "one"));
    assert_eq!(one.last().target, "/hello?x=1");
}
