//! The solver against a name server that takes updates: aliases, two values at one name, and who must see them.

use super::*;
use crate::{
    acme::dns::fake::NameServer,
    config::{Root, install::Propagation, units::Span},
};

/// A zone with its name server, on a port that only `resolvers` tells.
fn zone() -> NameServer {
    NameServer::start(&[
        ("example.test.", "SOA", ""),
        ("example.test.", "NS", "ns.example.test."),
        ("ns.example.test.", "A", "127.0.0.1"),
    ])
}

fn solver(server: &NameServer, propagation: Propagation, more: &[(&str, &str)]) -> Arc<Dns> {
    let address = server.address().to_string();
    let config = DnsChallenge {
        provider: "rfc2136".to_owned(),
        resolvers: vec![address.clone()],
        propagation,
        ..DnsChallenge::default()
    };
    let mut environment = vec![
        ("RFC2136_NAMESERVER".to_owned(), address),
        ("RFC2136_POLLING_INTERVAL".to_owned(), "100ms".to_owned()),
    ];
    let more = more
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    environment.extend(more);
    let variables = Variables::new(&environment, Root::Here);
    Arc::new(Dns::new(&config, &variables).unwrap())
}

fn proof(name: &str, token: &str) -> Proof {
    Proof {
        name: name.to_owned(),
        token: token.to_owned(),
        authorization: format!("{token}.thumb"),
    }
}

#[tokio::test]
async fn a_name_and_its_wildcard_have_both_values_until_they_are_withdrawn() {
    let server = zone();
    let dns = solver(&server, Propagation::default(), &[]);
    let one = dns.present(&proof("example.test", "token")).await.unwrap();
    let two = dns.present(&proof("example.test", "other")).await.unwrap();
    let name = "_acme-challenge.example.test.";
    let texts = server.texts(name);
    assert_eq!(texts.len(), 2);
    // Base64url of the digest of `token.thumb`, computed elsewhere.
    assert_eq!(texts[0], "lCdftpJCXapaZHkBGIZbcubeKW8RmA0jSG_aZN01zbU");
    dns.settle(&[&one, &two]).await.unwrap();
    one.withdraw().await;
    assert_eq!(server.texts(name).len(), 1);
    two.withdraw().await;
    assert_eq!(server.texts(name).len(), 0);
}

#[tokio::test]
async fn aliases_are_followed_unless_that_is_switched_off() {
    for (more, expected) in [
        (&[][..], "x.example.test."),
        (
            &[("LEGO_DISABLE_CNAME_SUPPORT", "true")],
            "_acme-challenge.www.example.test.",
        ),
    ] {
        let server = zone();
        server.add(
            "_acme-challenge.www.example.test.",
            "CNAME",
            "x.example.test.",
        );
        let dns = solver(&server, Propagation::default(), more);
        let placed = dns
            .present(&proof("www.example.test", "token"))
            .await
            .unwrap();
        assert_eq!(server.texts(expected).len(), 1, "{expected}");
        placed.withdraw().await;
        assert_eq!(server.texts(expected).len(), 0, "{expected}");
    }
}

#[tokio::test]
async fn who_does_not_see_the_record_in_time_is_named_with_what_it_says() {
    // The provider changes another server than the one that is asked.
    let (other, server) = (zone(), zone());
    let address = other.address().to_string();
    let more = [("RFC2136_PROPAGATION_TIMEOUT", "300ms")];
    let mut environment = vec![("RFC2136_NAMESERVER".to_owned(), address)];
    environment.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let config = |propagation| DnsChallenge {
        provider: "rfc2136".to_owned(),
        resolvers: vec![server.address().to_string()],
        propagation,
        ..DnsChallenge::default()
    };
    let without_own = Propagation {
        disable_ans_checks: true,
        ..Propagation::default()
    };
    let resolving_only = Propagation {
        require_all_rns: true,
        ..without_own.clone()
    };
    let unchecked = Propagation {
        disable_checks: true,
        require_all_rns: true,
        ..Propagation::default()
    };
    let own = server.address().to_string();
    for (propagation, expected) in [
        (
            Propagation::default(),
            Some("ns.example.test: no such name (NXDOMAIN)"),
        ),
        (
            resolving_only,
            Some(&*format!("{own}: no such name (NXDOMAIN)")),
        ),
        (without_own, None),
        (unchecked, None),
    ] {
        let variables = Variables::new(&environment, Root::Here);
        let dns = Arc::new(Dns::new(&config(propagation.clone()), &variables).unwrap());
        let placed = dns.present(&proof("example.test", "token")).await.unwrap();
        let settled = dns.settle(&[&placed]).await;
        match (&settled, expected) {
            (Ok(()), None) => {}
            (Err(wrong), Some(part)) => assert!(wrong.contains(part), "{wrong}"),
            _ => panic!("{propagation:?}: {settled:?}"),
        }
    }
}

#[tokio::test]
async fn a_record_that_comes_late_is_waited_for() {
    let (other, server) = (zone(), zone());
    let address = other.address().to_string();
    let environment = [
        ("RFC2136_NAMESERVER".to_owned(), address),
        ("RFC2136_POLLING_INTERVAL".to_owned(), "100ms".to_owned()),
    ];
    let config = DnsChallenge {
        provider: "rfc2136".to_owned(),
        resolvers: vec![server.address().to_string()],
        delay_before_check: Span::from_secs(0),
        ..DnsChallenge::default()
    };
    let variables = Variables::new(&environment, Root::Here);
    let dns = Arc::new(Dns::new(&config, &variables).unwrap());
    let placed = dns.present(&proof("example.test", "token")).await.unwrap();
    let name = "_acme-challenge.example.test.";
    let late = async {
        // An old value first, as of an order before.
        server.add(name, "TXT", "old");
        sleep(Duration::from_millis(250)).await;
        server.add(name, "TXT", &placed.record.value);
    };
    let placed_list = [&placed];
    let (settled, ()) = tokio::join!(dns.settle(&placed_list), late);
    assert_eq!(settled, Ok(()));
}

#[test]
fn both_spellings_of_the_options_are_good() {
    let span = Span::from_secs;
    for (new, old, expected) in [(0, 0, 0), (5, 0, 5), (0, 7, 7), (5, 7, 5)] {
        let config = DnsChallenge {
            delay_before_check: span(old),
            propagation: Propagation {
                delay_before_checks: span(new),
                ..Propagation::default()
            },
            ..DnsChallenge::default()
        };
        assert_eq!(config.delay(), Duration::from_secs(expected));
    }
    let old = DnsChallenge {
        disable_propagation_check: true,
        ..DnsChallenge::default()
    };
    assert!(!old.is_checked() && DnsChallenge::default().is_checked());
}
