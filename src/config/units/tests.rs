use std::time::Duration;

use super::*;

#[test]
fn durations_in_words_are_understood_enough_to_suggest_the_right_form() {
    for (text, suggestion) in [
        ("10 seconds", "did you mean `10s`?"),
        ("5min", "did you mean `5m`?"),
        ("soon", "found \"soon\""),
        ("10x", "found \"10x\""),
    ] {
        let said = text.parse::<Span>().unwrap_err();
        assert!(said.ends_with(suggestion), "{said}");
    }
}

#[test]
fn durations_read_and_print_as_go_does() {
    for (text, printed) in [
        ("60", "1m0s"),
        ("180s", "3m0s"),
        ("1h", "1h0m0s"),
        ("1m30s", "1m30s"),
        ("300ms", "300ms"),
        ("1.5s", "1.5s"),
        ("1500us", "1.5ms"),
        ("100ns", "100ns"),
        ("-2", "-2s"),
        ("-1m", "-1m0s"),
        ("0", "0s"),
        ("0s", "0s"),
        (".5h", "30m0s"),
        ("2562047h", "2562047h0m0s"),
    ] {
        let span: Span = text.parse().expect(text);
        assert_eq!(span.to_string(), printed, "{text}");
    }
    for text in [
        "",
        "-",
        "s",
        "5 s",
        "1x",
        "1.2.3s",
        "1s1",
        "99999999999999h",
        "9e9",
    ] {
        assert!(text.parse::<Span>().is_err(), "{text}");
    }
    assert_eq!(Span::from_secs(-1).positive(), None);
    assert_eq!(
        Span::from_millis(5).positive(),
        Some(Duration::from_millis(5))
    );
}

#[test]
fn addresses() {
    let parsed = |text: &str| text.parse::<Address>();
    let udp = parsed(":53/UDP").unwrap();
    assert_eq!(
        (udp.host.as_str(), udp.port, udp.protocol),
        ("", 53, Protocol::Udp)
    );
    let six = parsed("[::1]:443/tcp").unwrap();
    assert_eq!((six.host.as_str(), six.port), ("::1", 443));
    assert_eq!(six.to_string(), "[::1]:443/tcp");
    for wrong in [
        "80", ":80/quic", ":99999", "::1:80", "[::1:80", "host", ":http",
    ] {
        assert!(parsed(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn networks() {
    let inside = |net: &str, ip: &str| {
        net.parse::<Cidr>()
            .expect(net)
            .contains(ip.parse().expect(ip))
    };
    assert!(inside("10.1.2.3/8", "10.200.0.1"));
    assert!(inside("10.0.0.1", "::ffff:10.0.0.1"));
    assert!(inside("::ffff:10.0.0.0/104", "10.3.0.1"));
    assert!(inside("2001:db8::/32", "2001:db8::7"));
    assert!(!inside("10.0.0.1", "10.0.0.2"));
    assert!("10.0.0.0/33".parse::<Cidr>().is_err());
    assert!("localhost".parse::<Cidr>().is_err());
    for text in ["10.0.0.1", "10.1.2.3/8", "fd00::/8"] {
        assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
    }
}

#[test]
fn status_ranges() {
    let range: StatusRange = "500-599".parse().unwrap();
    assert!(range.contains(500) && range.contains(599) && !range.contains(600));
    assert_eq!("404".parse::<StatusRange>().unwrap().to_string(), "404");
    for wrong in ["", "5xx", "600-500", "99", "-"] {
        assert!(wrong.parse::<StatusRange>().is_err(), "{wrong}");
    }
}

#[test]
fn secrets_and_keys_do_not_print() {
    let key = FileOrContent::from("-----BEGIN PRIVATE KEY-----\nabc");
    assert_eq!(format!("{key:?}"), "xxxx");
    assert!(key.path().is_none() && key.content().is_some());
    let file = FileOrContent::from("/certs/a.pem");
    assert_eq!(format!("{file:?}"), "/certs/a.pem");
    assert_eq!(format!("{:?}", Secret::from("hunter2")), "xxxx");
    assert_eq!(
        serde_json::to_string(&Secret::from("hunter2")).unwrap(),
        "\"xxxx\""
    );
}
