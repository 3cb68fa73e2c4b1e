//! What labels may not ask for, though the operator of the proxy may.

use crate::config::{DecodedRouting, Diagnostic, routing::ServiceKind, units::Span};

/// Cuts holds to the longest that a label may ask for: what waits costs memory, and what has gone is remembered as long.
pub(super) fn holds(decoded: &mut DecodedRouting) {
    for (name, service) in &mut decoded.routing.http.services {
        let place = service.at("loadBalancer.hold.timeout").clone();
        let ServiceKind::LoadBalancer(balancer) = &mut service.value.kind else {
            continue;
        };
        let Some(asked) = balancer.hold.timeout.filter(|time| *time > LONGEST_HOLD) else {
            continue;
        };
        balancer.hold.timeout = Some(LONGEST_HOLD);
        let path = format!("http.services.{name}.loadBalancer.hold.timeout");
        let message = format!("{asked} is more than a label may ask for: it is {LONGEST_HOLD}");
        let finding = Diagnostic::warning(place, path, message);
        let hint = "the option `hold` of the provider may be longer";
        decoded.diagnostics.push(finding.with_hint(hint));
    }
}

/// Requests wait no longer than this because a label says so, and nothing lingers longer.
pub(in crate::provider::docker) const LONGEST_HOLD: Span = Span::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Labelled, labels::decode_labels};

    #[test]
    fn a_label_may_ask_for_ten_minutes_and_is_told_so() {
        let of = Labelled::Container("web".into());
        let key = "traefik.http.services.s.loadbalancer.hold.timeout";
        for (asked, given, told) in [
            ("9m", 540, false),
            ("10m", 600, false),
            ("10m1s", 600, true),
            ("9223372036s", 600, true),
            ("-1s", -1, false),
        ] {
            let mut decoded = decode_labels(&of, [(key, asked)]).decoded;
            holds(&mut decoded);
            let service = &decoded.routing.http.services["s"].value;
            let ServiceKind::LoadBalancer(balancer) = &service.kind else {
                panic!("{service:?}");
            };
            assert_eq!(balancer.hold.timeout, Some(Span::from_secs(given)));
            let found: Vec<String> = decoded
                .diagnostics
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found.len(), usize::from(told), "{asked}: {found:?}");
            let start = format!(
                "container web, label {key}: warning: http.services.s.loadBalancer.hold.timeout: "
            );
            assert!(
                found.iter().all(|line| line.starts_with(&start)),
                "{found:?}"
            );
        }
    }
}
