use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::{AccessLog, AccessRecord, CapturedHeaders, Origin, TlsRecord};
use crate::{
    config::{
        install::{self, AccessLogFormat, FieldMode},
        units::{Span, StatusRange},
    },
    observe::Metrics,
};

fn started() -> SystemTime {
    UNIX_EPOCH + Duration::new(1_795_261_179, 820_476_963)
}

/// A refused connection behind router `dead`, as in a line that Traefik 3.7.15 wrote.
fn record() -> AccessRecord {
    AccessRecord {
        number: 4,
        started: started(),
        duration: Duration::from_nanos(879_196),
        entry_point: "web".into(),
        router: Some("dead@file".into()),
        origin: Some(Origin {
            service: "dead@file".into(),
            url: "http://127.0.0.1:19999/p".into(),
            duration: Duration::from_nanos(604_454),
            status: 502,
            size: 11,
            headers: CapturedHeaders::default(),
        }),
        peer: "127.0.0.1:40300".parse().unwrap(),
        forwarded_for: None,
        user: None,
        host: "dead.test".into(),
        method: Method::GET,
        target: "/x".into(),
        version: Version::HTTP_11,
        request_size: 0,
        status: 502,
        response_size: 11,
        retries: 0,
        held: Duration::ZERO,
        tls: None,
        trace: None,
        request_headers: CapturedHeaders::default(),
        response_headers: CapturedHeaders::default(),
    }
}

fn headers(fields: &[Field]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value).unwrap();
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

type Field = (&'static str, &'static [u8]);

/// What a log with these options writes for the records that `build` makes.
fn written<const N: usize>(
    options: install::AccessLog,
    build: impl Fn(&AccessLog) -> [AccessRecord; N],
) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some/where/access.log");
    let log = open(&path, options);
    for record in build(&log) {
        log.write(record);
    }
    drop(log);
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn open(path: &Path, options: install::AccessLog) -> AccessLog {
    let options = install::AccessLog {
        file_path: path.to_str().unwrap().to_owned(),
        ..options
    };
    AccessLog::open(&options, &Metrics::default(), None).unwrap()
}

fn format(format: AccessLogFormat) -> install::AccessLog {
    install::AccessLog {
        format,
        ..install::AccessLog::default()
    }
}

fn keep_headers(mut options: install::AccessLog) -> install::AccessLog {
    options.fields.headers.default_mode = FieldMode::Keep;
    options
}

#[test]
fn common_lines_look_like_traefiks() {
    let lines = written(format(AccessLogFormat::Common), |_| {
        [
            record(),
            AccessRecord {
                router: None,
                origin: None,
                user: Some("anna".into()),
                forwarded_for: Some(HeaderValue::from_static("1.1.1.1, 2.2.2.2")),
                version: Version::HTTP_2,
                status: 404,
                response_size: 19,
                duration: Duration::from_millis(7),
                ..record()
            },
        ]
    });
    assert_eq!(
        lines,
        [
            r#"127.0.0.1 - - [21/Nov/2026:11:39:39 +0000] "GET /x HTTP/1.1" 502 11 "-" "-" 4 "dead@file" "http://127.0.0.1:19999/p" 0ms"#,
            r#"1.1.1.1, 2.2.2.2 - anna [21/Nov/2026:11:39:39 +0000] "GET /x HTTP/2.0" 404 19 "-" "-" 4 "-" "-" 7ms"#,
        ]
    );
    let generic = written(format(AccessLogFormat::GenericClf), |_| [record()]);
    assert_eq!(
        generic,
        [r#"127.0.0.1 - - [21/Nov/2026:11:39:39 +0000] "GET /x HTTP/1.1" 502 11 "-" "-""#]
    );
}

#[test]
fn a_client_cannot_write_lines_of_its_own() {
    let agent = headers(&[
        ("user-agent", b"a\"b\\c\xff\xc3\xa9\tz\xc2\x9b31m"),
        ("referer", b"<r>&\\"),
    ]);
    let lines = written(keep_headers(format(AccessLogFormat::Common)), |log| {
        [AccessRecord {
            user: Some("eve\n127.0.0.1 - \"bob\"\x1b[2J".into()),
            target: "/?q=\"".into(),
            request_headers: log.capture(&agent),
            ..record()
        }]
    });
    assert_eq!(
        lines,
        [concat!(
            r#"127.0.0.1 - eve\n127.0.0.1 - \"bob\"\x1b[2J [21/Nov/2026:11:39:39 +0000] "GET /?q=\" HTTP/1.1" 502 11 "#,
            r#""<r>&\\" "a\"b\\c\xffé\tz\u009b31m" 4 "dead@file" "http://127.0.0.1:19999/p" 0ms"#
        )]
    );
    let lines = written(keep_headers(format(AccessLogFormat::Json)), |log| {
        [AccessRecord {
            request_headers: log.capture(&agent),
            ..record()
        }]
    });
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains(r#""request_User-Agent":"a\"b\\c"#));
    assert!(lines[0].contains(r#"é\tz\u009b31m""#));
}

#[test]
fn json_lines_look_like_traefiks() {
    let answer = headers(&[("x-back", b"a"), ("x-back", b"b<c"), ("date", b"now")]);
    let request = headers(&[
        ("x-real-ip", b"127.0.0.1"),
        ("authorization", b"Basic eA=="),
    ]);
    let mut options = keep_headers(format(AccessLogFormat::Json));
    let names = &mut options.fields.headers.names;
    names.insert("Authorization".into(), FieldMode::Redact);
    names.insert("date".into(), FieldMode::Drop);
    options
        .fields
        .names
        .insert("startlocal".into(), FieldMode::Drop);
    options.fields.names.insert("time".into(), FieldMode::Drop);
    let lines = written(options, |log| {
        [AccessRecord {
            host: "t.test:18443".into(),
            target: "/tls?q=1&b=<a>".into(),
            tls: Some(TlsRecord {
                version: "1.3",
                cipher: "TLS_AES_128_GCM_SHA256",
                client_subject: None,
            }),
            origin: Some(Origin {
                headers: log.capture(&answer),
                size: 22,
                ..record().origin.unwrap()
            }),
            request_headers: log.capture(&request),
            response_headers: log.capture(&answer),
            ..record()
        }]
    });
    let expected = concat!(
        r#"{"ClientAddr":"127.0.0.1:40300","ClientHost":"127.0.0.1","ClientPort":"40300","ClientUsername":"-","#,
        r#""DownstreamContentSize":11,"DownstreamStatus":502,"Duration":879196,"GzipRatio":2,"OriginContentSize":22,"#,
        r#""OriginDuration":604454,"OriginStatus":502,"Overhead":274742,"RequestAddr":"t.test:18443","RequestContentSize":0,"#,
        r#""RequestCount":4,"RequestHost":"t.test","RequestMethod":"GET","RequestPath":"/tls?q=1\u0026b=\u003ca\u003e","#,
        r#""RequestPort":"18443","RequestProtocol":"HTTP/1.1","RequestScheme":"https","RetryAttempts":0,"RouterName":"dead@file","#,
        r#""ServiceAddr":"127.0.0.1:19999","ServiceName":"dead@file","ServiceURL":"http://127.0.0.1:19999/p","#,
        r#""StartUTC":"2026-11-21T11:39:39.820476963Z","TLSCipher":"TLS_AES_128_GCM_SHA256","TLSVersion":"1.3","#,
        r#""downstream_X-Back":"a,b\u003cc","entryPointName":"web","level":"info","msg":"","origin_X-Back":"a,b\u003cc","#,
        r#""request_Authorization":"REDACTED","request_X-Real-Ip":"127.0.0.1","time":""#,
    );
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with(expected), "{}", lines[0]);
    let value: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted());
}

#[test]
fn fields_are_dropped_by_name_or_by_default() {
    let mut only_status = format(AccessLogFormat::Json);
    only_status.fields.default_mode = FieldMode::Drop;
    let names = &mut only_status.fields.names;
    names.insert("downstreamSTATUS".into(), FieldMode::Keep);
    let lines = written(only_status, |_| [record()]);
    assert!(lines[0].starts_with(r#"{"DownstreamStatus":502,"level":"info","msg":"","time":""#));

    let mut few = format(AccessLogFormat::Common);
    for name in [
        "ClientHost",
        "RequestCount",
        "RouterName",
        "Duration",
        "StartUTC",
        "StartLocal",
    ] {
        few.fields.names.insert(name.into(), FieldMode::Drop);
    }
    few.fields.query_parameters.default_mode = FieldMode::Drop;
    let lines = written(few, |_| {
        [AccessRecord {
            target: "/x?secret=1".into(),
            duration: Duration::from_secs(1),
            ..record()
        }]
    });
    assert_eq!(
        lines,
        [r#"- - - [-] "GET /x HTTP/1.1" 502 11 "-" "-" - "-" "http://127.0.0.1:19999/p" 0ms"#]
    );
}

#[test]
fn hosts_are_split() {
    let cases = [
        ("a.test", "a.test", "-"),
        ("a.test:81", "a.test", "81"),
        ("[::1]", "::1", "-"),
        ("[::1]:81", "::1", "81"),
        ("", "-", "-"),
    ];
    for (host, name, port) in cases {
        let lines = written(format(AccessLogFormat::Json), |_| {
            [AccessRecord {
                host: ByteString::from(host),
                ..record()
            }]
        });
        let value: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&value["RequestHost"], &value["RequestPort"]),
            (&name.into(), &port.into())
        );
    }
}

#[test]
fn filters_are_alternatives() {
    let log = |statuses: &[(u16, u16)], retried, longer_than| {
        let directory = tempfile::tempdir().unwrap();
        let mut options = format(AccessLogFormat::Common);
        options.filters.retry_attempts = retried;
        options.filters.min_duration = Span::from_millis(longer_than);
        options.filters.status_codes = statuses
            .iter()
            .map(|(from, to)| StatusRange {
                from: *from,
                to: *to,
            })
            .collect();
        open(&directory.path().join("log"), options)
    };
    let cases = [
        (log(&[], false, 0), 200, 0, 0, true),
        (log(&[(500, 599)], false, 0), 200, 0, 0, false),
        (log(&[(500, 599)], false, 0), 503, 0, 0, true),
        (log(&[(404, 404)], true, 0), 200, 1, 0, true),
        (log(&[(404, 404)], true, 0), 200, 0, 0, false),
        (log(&[], false, 10), 200, 0, 10, false),
        (log(&[], false, 10), 200, 0, 11, true),
        (log(&[], true, 10), 200, 0, 11, true),
        (AccessLog::default(), 500, 1, 100, false),
    ];
    for (log, status, retries, milliseconds, expected) in cases {
        let number = log.wants(status, retries, Duration::from_millis(milliseconds));
        assert_eq!(number, expected.then_some(1), "{log:?} {status} {retries}");
    }
}

#[test]
fn headers_are_taken_only_when_needed() {
    let directory = tempfile::tempdir().unwrap();
    let plain = open(&directory.path().join("log"), install::AccessLog::default());
    assert!(!plain.wants_headers());
    assert!(
        plain
            .capture(&headers(&[("cookie", b"secret")]))
            .0
            .is_empty()
    );
}

#[test]
fn the_file_is_opened_again_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let rotated = directory.path().join("access.log.1");
    let log = open(&path, install::AccessLog::default());
    log.write(record());
    log.flush(Duration::from_secs(5));
    fs::rename(&path, &rotated).unwrap();
    log.write(record());
    log.reopen();
    log.flush(Duration::from_secs(5));
    log.write(record());
    log.flush(Duration::from_secs(5));
    let lines = |path| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(lines(&rotated) + lines(&path), 3);
    assert!(lines(&path) >= 1);
}
