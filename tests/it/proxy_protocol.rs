//! PROXY protocol: versions 1 and 2, from those we trust and those we do not (with attack 32).

use serde_json::json;

use crate::support::{Backend, Proxy, all_to, backend, exchange, proxy};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

async fn stage(options: serde_json::Value) -> (Proxy, Backend) {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()]))
        .entry_point("web", &json!({"proxyProtocol": options}))
        .run()
        .await;
    (proxy, server)
}

/// A version 2 header: command, family and transport, addresses.
fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend((addresses.len() as u16).to_be_bytes());
    header.extend(addresses);
    header
}

const V4: [u8; 12] = [9, 8, 7, 6, 10, 0, 0, 1, 0x30, 0x39, 0, 80];

#[tokio::test]
async fn trusted_headers_name_the_client() {
    let (proxy, server) = stage(json!({"trustedIPs": ["127.0.0.1/32"]})).await;
    let v6 = [
        &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..],
        &[0; 16],
        &[0x30, 0x39, 0, 80],
    ]
    .concat();
    let with_tlv = [&V4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    for (what, header, client) in [
        ("none: the header is optional", Vec::new(), "127.0.0.1"),
        (
            "v1",
            b"PROXY TCP4 9.8.7.6 10.0.0.1 12345 80\r\n".to_vec(),
            "9.8.7.6",
        ),
        (
            "v1 over IPv6",
            b"PROXY TCP6 2001:db8::7 ::1 12345 80\r\n".to_vec(),
            "2001:db8::7",
        ),
        ("v1 unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ("v2", v2(1, 0x11, &V4), "9.8.7.6"),
        ("v2 over IPv6", v2(1, 0x21, &v6), "2001:db8::7"),
        ("v2 with further values", v2(1, 0x11, &with_tlv), "9.8.7.6"),
        ("v2 local", v2(0, 0, &[]), "127.0.0.1"),
    ] {
        let answer = exchange(proxy.addr("web"), [&header[..], GET].concat()).await;
        assert_eq!(answer.statuses(), [200], "{what}: {:?}", answer.text());
        assert_eq!(
            server.last().header("x-forwarded-for"),
            Some(client),
            "{what}"
        );
    }
}

#[tokio::test]
async fn strangers_cannot_name_a_client() {
    let (proxy, server) = stage(json!({"trustedIPs": ["10.0.0.0/8"]})).await;
    for header in [
        b"PROXY TCP4 9.8.7.6 10.0.0.1 12345 80\r\n".to_vec(),
        v2(1, 0x11, &V4),
    ] {
        let answer = exchange(proxy.addr("web"), [&header[..], GET].concat()).await;
        if !answer.refused() {
            assert_eq!(server.last().header("x-forwarded-for"), Some("127.0.0.1"));
        }
    }
    assert!(!server.received().contains("9.8.7.6"));
}

#[tokio::test]
async fn without_the_option_a_header_is_a_bad_request() {
    let server = backend("server").run().await;
    let proxy = proxy(&all_to(&[server.url()])).run().await;
    for header in [
        b"PROXY TCP4 9.8.7.6 10.0.0.1 12345 80\r\n".to_vec(),
        v2(1, 0x11, &V4),
    ] {
        assert!(
            exchange(proxy.addr("web"), [&header[..], GET].concat())
                .await
                .refused()
        );
    }
    assert_eq!(server.hits(), 0);
}

#[tokio::test]
async fn attack_32_malformed_headers_from_trusted_peers() {
    let (proxy, server) = stage(json!({"insecure": true})).await;
    let endless = [&b"PROXY TCP4 "[..], &[b'1'; 4000]].concat();
    for header in [
        b"PROXY TCP4 9.8.7.6\r\n".to_vec(),
        b"PROXY TCP4 999.8.7.6 10.0.0.1 12345 80\r\n".to_vec(),
        b"PROXY TCP4 9.8.7.6 10.0.0.1 123456 80\r\n".to_vec(),
        b"PROXY TCP9 9.8.7.6 10.0.0.1 12345 80\r\n".to_vec(),
        b"PROXY\r\n".to_vec(),
        endless,
        v2(1, 0x11, &V4[..6]),
        v2(7, 0x11, &V4),
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c".to_vec(),
    ] {
        let answer = exchange(proxy.addr("web"), [&header[..], GET].concat()).await;
        assert!(
            !answer.statuses().contains(&200),
            "{:?}: {:?}",
            String::from_utf8_lossy(&header[..header.len().min(40)]),
            answer.text()
        );
    }
    assert_eq!(server.hits(), 0);
}
