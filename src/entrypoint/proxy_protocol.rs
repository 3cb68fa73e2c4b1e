//! The PROXY protocol header, versions 1 and 2, read from the first bytes of a connection.
//!
//! Pure: it looks at bytes and says what they are. Whether the peer is believed is for the caller to decide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// They may become a header; more must be read.
    Incomplete,
    /// They are no header and cannot become one.
    NotProxy,
    /// A complete header.
    Header {
        /// The client; `None` if the header does not say (`UNKNOWN`, `LOCAL`, not an IP family).
        source: Option<SocketAddr>,
        /// The address the client connected to.
        destination: Option<SocketAddr>,
        /// Length of the header in bytes.
        consumed: usize,
    },
    /// They start like a header and are broken; the connection must be closed.
    Malformed(&'static str),
}

/// Recognises a header at the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Outcome {
    if starts_alike(bytes, V2_SIGNATURE) {
        return parse_v2(bytes);
    }
    if starts_alike(bytes, V1_SIGNATURE) {
        return parse_v1(bytes);
    }
    Outcome::NotProxy
}

const V1_SIGNATURE: &[u8] = b"PROXY ";
/// Longest header of version 1, line end included.
const V1_MAX: usize = 107;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
/// Addresses and extensions at most. The length field would allow 64 KiB; the longest extension in use is a client certificate.
const V2_MAX: usize = 16 * 1024;

/// Whether `bytes` begin with `signature`, as far as they reach.
fn starts_alike(bytes: &[u8], signature: &[u8]) -> bool {
    let length = bytes.len().min(signature.len());
    bytes[..length] == signature[..length]
}

fn parse_v1(bytes: &[u8]) -> Outcome {
    let within = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = within.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if bytes.len() < V1_MAX {
            Outcome::Incomplete
        } else {
            Outcome::Malformed("version 1: no line end within 107 bytes")
        };
    };
    match within.get(end..end + 2) {
        Some(b"\r\n") => {}
        None if bytes[end] == b'\r' && bytes.len() < V1_MAX => return Outcome::Incomplete,
        _ => return Outcome::Malformed("version 1: the line does not end in CR LF"),
    }
    // The signature holds no line end, so the line is at least as long.
    let line = std::str::from_utf8(&within[V1_SIGNATURE.len()..end]);
    match line.map(v1_addresses) {
        Ok(Some(addresses)) => addresses.header(end + 2),
        _ => Outcome::Malformed(
            "version 1: not `PROXY TCP4|TCP6|UNKNOWN source destination port port`",
        ),
    }
}

fn v1_addresses(line: &str) -> Option<Addresses> {
    let mut words = line.split(' ');
    let addresses = match words.next()? {
        // Whatever else stands on the line is to be ignored.
        "UNKNOWN" => return Some(Addresses::default()),
        "TCP4" => v1_pair::<Ipv4Addr>(&mut words)?,
        "TCP6" => v1_pair::<Ipv6Addr>(&mut words)?,
        _ => return None,
    };
    words.next().is_none().then_some(addresses)
}

fn v1_pair<'a, A: FromStr + Into<IpAddr>>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Option<Addresses> {
    let source: A = words.next()?.parse().ok()?;
    let destination: A = words.next()?.parse().ok()?;
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    Some(Addresses {
        source: Some(SocketAddr::new(source.into(), source_port)),
        destination: Some(SocketAddr::new(destination.into(), destination_port)),
    })
}

/// Digits only and no padding: `u16::from_str` would take `+80` and `0080`.
fn port(text: &str) -> Option<u16> {
    let plain =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn parse_v2(bytes: &[u8]) -> Outcome {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED>() else {
        return Outcome::Incomplete;
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 {
        return Outcome::Malformed("version 2: the version is not 2");
    }
    if length > V2_MAX {
        return Outcome::Malformed("version 2: longer than 16 KiB");
    }
    let Some(body) = rest.get(..length) else {
        return Outcome::Incomplete;
    };
    let addresses = match command & 15 {
        // LOCAL: the sender speaks for itself, a health check say.
        0 => Some(Addresses::default()),
        1 => v2_addresses(family, body),
        _ => return Outcome::Malformed("version 2: the command is neither LOCAL nor PROXY"),
    };
    match addresses {
        Some(addresses) => addresses.header(V2_FIXED + length),
        None => Outcome::Malformed("version 2: unknown family, or too short for its addresses"),
    }
}

/// What follows the addresses are extensions, which nothing here needs.
fn v2_addresses(family: u8, body: &[u8]) -> Option<Addresses> {
    match (family >> 4, family & 15) {
        (0, 0..=2) => Some(Addresses::default()),
        (1, 1 | 2) => v2_pair::<4>(body),
        (2, 1 | 2) => v2_pair::<16>(body),
        (3, 1 | 2) => (body.len() >= 2 * 108).then(Addresses::default),
        _ => None,
    }
}

fn v2_pair<const N: usize>(body: &[u8]) -> Option<Addresses>
where
    [u8; N]: Into<IpAddr>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    let address = |ip: [u8; N], port| SocketAddr::new(ip.into(), u16::from_be_bytes(port));
    Some(Addresses {
        source: Some(address(*source, *source_port)),
        destination: Some(address(*destination, *destination_port)),
    })
}

/// Both ends as the header names them.
#[derive(Debug, Clone, Copy, Default)]
struct Addresses {
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
}

impl Addresses {
    fn header(self, consumed: usize) -> Outcome {
        Outcome::Header {
            source: self.source,
            destination: self.destination,
            consumed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(source: &str, destination: &str, consumed: usize) -> Outcome {
        let address = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Outcome::Header {
            source: address(source),
            destination: address(destination),
            consumed,
        }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, body].concat()
    }

    /// `whole` means `expected`, every shorter start of it means to wait, and what follows it is left alone.
    fn check_whole(whole: &[u8], expected: Outcome) {
        assert_eq!(parse(whole), expected);
        for length in 1..whole.len() {
            assert_eq!(
                parse(&whole[..length]),
                Outcome::Incomplete,
                "{length} of {whole:?}"
            );
        }
        let followed = [whole, b"\x16\x03\x01 and more \r\n"].concat();
        assert_eq!(parse(&followed), expected);
    }

    #[test]
    fn reads_version_1() {
        let cases = [
            (
                "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
                "192.0.2.1:56324",
                "192.0.2.2:443",
            ),
            (
                "PROXY TCP6 2001:db8::1 ::1 0 65535\r\n",
                "[2001:db8::1]:0",
                "[::1]:65535",
            ),
            ("PROXY UNKNOWN\r\n", "", ""),
            ("PROXY UNKNOWN ffff::1 whatever 1 2\r\n", "", ""),
        ];
        for (text, source, destination) in cases {
            check_whole(text.as_bytes(), header(source, destination, text.len()));
        }
    }

    #[test]
    fn refuses_broken_version_1() {
        let cases = [
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +56324 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 056324 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 \r\n",
            "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n",
        ];
        for text in cases {
            assert!(
                matches!(parse(text.as_bytes()), Outcome::Malformed(_)),
                "{text:?}"
            );
        }
        assert!(matches!(
            parse(b"PROXY TCP4 \xff\xff\r\n"),
            Outcome::Malformed(_)
        ));
    }

    #[test]
    fn bounds_version_1() {
        let padded = |length: usize| {
            let text = format!("PROXY UNKNOWN {}", " ".repeat(length));
            format!("{}\r\n", &text[..length - 2])
        };
        check_whole(padded(107).as_bytes(), header("", "", 107));
        assert!(matches!(
            parse(padded(108).as_bytes()),
            Outcome::Malformed(_)
        ));
        assert!(matches!(
            parse(&[b"PROXY ".as_slice(), &[b'x'; 200]].concat()),
            Outcome::Malformed(_)
        ));
    }

    #[test]
    fn reads_version_2() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 80, 81);
        let extended = [&v4[..], &[0x20, 0, 1, 9]].concat();
        let long = [&v4[..], &[0; V2_MAX - 12]].concat();
        let cases = [
            (v2(0x21, 0x11, &v4), "192.0.2.1:56324", "192.0.2.2:443"),
            (v2(0x21, 0x12, &v4), "192.0.2.1:56324", "192.0.2.2:443"),
            (v2(0x21, 0x21, &v6), "[::1]:80", "[::2]:81"),
            (
                v2(0x21, 0x11, &extended),
                "192.0.2.1:56324",
                "192.0.2.2:443",
            ),
            (v2(0x21, 0x11, &long), "192.0.2.1:56324", "192.0.2.2:443"),
            (v2(0x21, 0x31, &[7; 216]), "", ""),
            (v2(0x21, 0x00, &[]), "", ""),
            // LOCAL: whatever addresses it carries mean nothing.
            (v2(0x20, 0x11, &v4), "", ""),
            (v2(0x20, 0x00, &[1, 2, 3]), "", ""),
        ];
        for (bytes, source, destination) in cases {
            check_whole(&bytes, header(source, destination, bytes.len()));
        }
    }

    #[test]
    fn refuses_broken_version_2() {
        let cases = [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x41, &[0; 12]),
            v2(0x21, 0x13, &[0; 12]),
            v2(0x21, 0x11, &[0; V2_MAX + 1]),
        ];
        for bytes in cases {
            assert!(
                matches!(parse(&bytes), Outcome::Malformed(_)),
                "{:?}",
                &bytes[..16]
            );
        }
        // The length alone is enough to refuse: nothing is read towards it.
        let huge = [V2_SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
        assert!(matches!(parse(&huge), Outcome::Malformed(_)));
    }

    #[test]
    fn leaves_other_protocols_alone() {
        let cases: [&[u8]; 7] = [
            b"PRI * HTTP/2.0\r\n",
            b"GET / HTTP/1.1\r\n",
            b"POST",
            b"PROXYTCP4",
            b"proxy TCP4",
            b"\x16\x03\x01",
            b"\r\nGET / HTTP/1.1",
        ];
        for bytes in cases {
            assert_eq!(parse(bytes), Outcome::NotProxy, "{bytes:?}");
        }
        assert_eq!(parse(b""), Outcome::Incomplete);
        assert_eq!(parse(b"P"), Outcome::Incomplete);
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_never_takes_more_than_there_is(tail: Vec<u8>, start in 0_usize..3) {
            let bytes = [[b"".as_slice(), V1_SIGNATURE, V2_SIGNATURE][start], &tail].concat();
            if let Outcome::Header { consumed, .. } = parse(&bytes) {
                proptest::prop_assert!(consumed <= bytes.len());
            }
        }
    }
}
