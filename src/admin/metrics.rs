//! The metrics page.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE},
};

use crate::{
    exchange::{Body, Response},
    observe::Metrics,
};

pub(super) fn answer(metrics: &Metrics, headers: &HeaderMap) -> Response {
    let text = metrics.exposition();
    let packed = accepts_gzip(headers).then(|| gzip(&text)).flatten();
    let mut response = Response::new(Body::Empty);
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
    let body = match packed {
        Some(packed) => {
            answer.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            packed
        }
        None => text.into_bytes(),
    };
    *response.body_mut() = Body::Full(Bytes::from(body));
    response
}

fn gzip(text: &str) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).ok()?;
    encoder.finish().ok()
}

/// Whether a client takes gzip: named, and not with quality 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.into_iter().any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts
            .filter_map(|part| part.strip_prefix("q="))
            .any(|quality| quality.parse() == Ok(0.0));
        named && !refused
    })
}

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use http::{HeaderMap, HeaderValue, header::ACCEPT_ENCODING};

    use super::{TEXT_FORMAT, answer};
    use crate::{config::install::Prometheus, exchange::Body, observe::Metrics};

    #[test]
    fn the_page_is_packed_for_those_who_take_it() {
        let metrics = Metrics::new(&Prometheus::default());
        let cases = [
            (None, false),
            (Some("gzip"), true),
            (Some("deflate, GZIP;q=0.5"), true),
            (Some("gzip;q=0, identity"), false),
            (Some("gzipped"), false),
        ];
        for (accepted, packed) in cases {
            let mut headers = HeaderMap::new();
            if let Some(accepted) = accepted {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            }
            let response = answer(&metrics, &headers);
            assert_eq!(response.headers()["content-type"], TEXT_FORMAT);
            assert_eq!(response.headers().contains_key("content-encoding"), packed);
            let Body::Full(body) = response.into_body() else {
                panic!("the page is in memory");
            };
            let mut text = String::new();
            if packed {
                GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
            } else {
                text = String::from_utf8(body.to_vec()).unwrap();
            }
            assert!(
                text.contains("\ntraefik_config_reloads_total 0\n"),
                "{accepted:?}"
            );
        }
    }
}
