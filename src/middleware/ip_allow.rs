//! `ipAllowList`: lets only known addresses pass.

use http::StatusCode;

use super::{Flow, report::Report, source::ClientIp};
use crate::{
    config::{routing::IpAllowList as Config, units::Cidr},
    exchange::{Exchange, fault::status_response},
};

/// Refuses clients outside of some networks.
#[derive(Debug)]
pub struct IpAllow {
    allowed: Vec<Cidr>,
    client: ClientIp,
    refusal: StatusCode,
}

impl IpAllow {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        if config.source_range.is_empty() {
            report.error_with_hint(
                "sourceRange",
                "is required",
                "list the addresses or networks that may pass, such as `10.0.0.0/8`",
            );
        }
        let client = ClientIp::build(config.ip_strategy.as_ref(), "ipStrategy", report);
        let refusal = refusal(config.reject_status_code);
        if refusal.is_none() {
            report.error(
                "rejectStatusCode",
                format!("{} is not a known status code", config.reject_status_code),
            );
        }
        if config.source_range.is_empty() {
            return None;
        }
        Some(Self {
            allowed: config.source_range.clone(),
            client: client?,
            refusal: refusal?,
        })
    }

    pub(super) fn request(&self, exchange: &mut Exchange) -> Flow {
        let allowed = self
            .client
            .select(exchange)
            .address()
            .is_some_and(|address| self.allowed.iter().any(|net| net.contains(address)));
        if allowed {
            Flow::Continue
        } else {
            Flow::respond(status_response(self.refusal))
        }
    }
}

fn refusal(code: u16) -> Option<StatusCode> {
    if code == 0 {
        return Some(StatusCode::FORBIDDEN);
    }
    // A body needs a status that may have one, and the answer its text.
    StatusCode::from_u16(code)
        .ok()
        .filter(|status| status.canonical_reason().is_some() && !status.is_informational())
}

#[cfg(test)]
mod tests {
    use crate::middleware::testing::{Fixture, problems};

    fn status(config: &str, chain: &'static str) -> u16 {
        let fixture = Fixture::get("/")
            .peer("127.0.0.1:1")
            .with("x-forwarded-for", chain);
        fixture.answer(config).map_or(200, |answer| answer.status())
    }

    #[test]
    fn lets_known_addresses_pass() {
        let peer = r#"{"ipAllowList":{"sourceRange":["127.0.0.1"]}}"#;
        assert_eq!(status(peer, "9.9.9.9"), 200);
        assert_eq!(
            status(r#"{"ipWhiteList":{"sourceRange":["127.0.0.0/8"]}}"#, ""),
            200
        );
        let depth = r#"{"ipAllowList":{"sourceRange":["10.0.0.0/8"],"ipStrategy":{"depth":1}}}"#;
        for (chain, expected) in [
            ("10.0.0.1", 200),
            ("10.0.0.1:8080", 200),
            ("::ffff:10.0.0.1", 200),
            ("[10.0.0.1]", 403),
            ("10.0.0.1, 9.9.9.9", 403),
            ("", 403),
            ("junk", 403),
        ] {
            assert_eq!(status(depth, chain), expected, "{chain}");
        }
    }

    #[test]
    fn the_refusal_is_the_status_text() {
        let config = r#"{"ipAllowList":{"sourceRange":["10.0.0.0/8"],"rejectStatusCode":418}}"#;
        let answer = Fixture::get("/").answered_by(config);
        assert_eq!(
            (answer.status(), answer.text()),
            (418, "I'm a teapot".into())
        );
        assert_eq!(answer.header("content-type"), None);
        let config = r#"{"ipAllowList":{"sourceRange":["10.0.0.0/8"]}}"#;
        let answer = Fixture::get("/").answered_by(config);
        assert_eq!((answer.status(), answer.text()), (403, "Forbidden".into()));
    }

    #[test]
    fn findings() {
        let lines =
            problems(r#"{"ipAllowList":{"rejectStatusCode":999,"ipStrategy":{"ipv6Subnet":200}}}"#);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("ipAllowList.sourceRange: is required"));
        assert!(lines[1].contains("ipAllowList.ipStrategy.ipv6Subnet"));
        assert!(lines[2].contains("999 is not a known status code"));
        let old = problems(r#"{"ipWhiteList":{"sourceRange":["10.0.0.0/8"]}}"#);
        assert_eq!(old, [""; 0], "the old name is said when it is read");
    }
}
