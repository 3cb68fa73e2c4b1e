//! Who a span is: trace, span and parent, read from a request's headers and written into those towards servers.

use std::{fmt, str::FromStr};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Sixteen bytes that all spans of one trace share; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

/// Eight bytes that stand for one span; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub u64);

impl TraceId {
    pub(super) fn random() -> Self {
        Self(fastrand::u128(1..))
    }
}

impl SpanId {
    pub(super) fn random() -> Self {
        Self(fastrand::u64(1..))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The caller's span, as its request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// None: the caller leaves it to us.
    pub(super) sampled: Option<bool>,
    pub(super) state: Option<HeaderValue>,
}

/// How traces are carried from process to process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagator {
    TraceContext,
    /// Values for others, in a header that passes through anyway.
    Baggage,
    B3,
    B3Multi,
    Jaeger,
    None,
}

impl FromStr for Propagator {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Ok(match name {
            "tracecontext" => Self::TraceContext,
            "baggage" => Self::Baggage,
            "b3" => Self::B3,
            "b3multi" => Self::B3Multi,
            "jaeger" => Self::Jaeger,
            "none" => Self::None,
            _ => return Err(()),
        })
    }
}

/// The propagators that `OTEL_PROPAGATORS` names (none for the usual ones), and those it names that there are not.
pub(super) fn propagators(names: &str) -> (Vec<Propagator>, Vec<String>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for name in names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        match name.parse() {
            Ok(propagator) => known.push(propagator),
            Err(()) => unknown.push(name.to_owned()),
        }
    }
    if known.contains(&Propagator::None) {
        known.clear();
    } else if known.is_empty() {
        known = vec![Propagator::TraceContext, Propagator::Baggage];
    }
    (known, unknown)
}

impl Propagator {
    /// The caller's span, if its request names one in this way. What is malformed counts as absent.
    pub(super) fn extract(self, headers: &HeaderMap) -> Option<Remote> {
        match self {
            Self::TraceContext => trace_context(headers),
            // Either form is understood, whichever is written.
            Self::B3 | Self::B3Multi => b3_single(headers).or_else(|| b3_multi(headers)),
            Self::Jaeger => jaeger(headers),
            Self::Baggage | Self::None => None,
        }
    }

    /// Names our span to the next process.
    pub(super) fn inject(self, ours: &Remote, headers: &mut HeaderMap) {
        let (trace, span) = (ours.trace, ours.span);
        let flag = u8::from(ours.sampled == Some(true));
        match self {
            Self::TraceContext => {
                put(
                    headers,
                    &TRACEPARENT,
                    &format!("00-{trace}-{span}-{flag:02x}"),
                );
                if let Some(state) = &ours.state {
                    headers.insert(&TRACESTATE, state.clone());
                }
            }
            Self::B3 => put(headers, &B3, &format!("{trace}-{span}-{flag}")),
            Self::B3Multi => {
                put(headers, &B3_TRACE, &trace.to_string());
                put(headers, &B3_SPAN, &span.to_string());
                put(headers, &B3_SAMPLED, &flag.to_string());
                headers.remove(&B3_PARENT);
            }
            Self::Jaeger => put(headers, &UBER, &format!("{trace}:{span}:0:{flag}")),
            Self::Baggage | Self::None => {}
        }
    }
}

fn put(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// `VERSION-TRACE-SPAN-FLAGS` (W3C Trace Context, section 3.2).
fn trace_context(headers: &HeaderMap) -> Option<Remote> {
    let mut parts = text(headers, &TRACEPARENT)?.trim().split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags) = (parts.next()?, parts.next()?);
    // A later version may have more to say, this one has not.
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    hex(version, 2)?;
    Some(Remote {
        trace: trace_id(trace, 32)?,
        span: span_id(span)?,
        sampled: Some(hex(flags, 2)? & 1 == 1),
        state: headers
            .get(&TRACESTATE)
            .filter(|state| !state.is_empty())
            .cloned(),
    })
}

/// `TRACE-SPAN[-SAMPLED[-PARENT]]`.
fn b3_single(headers: &HeaderMap) -> Option<Remote> {
    let mut parts = text(headers, &B3)?.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    Some(Remote {
        trace: trace_id(trace, trace.len())?,
        span: span_id(span)?,
        sampled: parts.next().and_then(decision),
        state: None,
    })
}

fn b3_multi(headers: &HeaderMap) -> Option<Remote> {
    let trace = text(headers, &B3_TRACE)?;
    let debug = text(headers, &B3_FLAGS) == Some("1");
    Some(Remote {
        trace: trace_id(trace, trace.len())?,
        span: span_id(text(headers, &B3_SPAN)?)?,
        sampled: match debug {
            true => Some(true),
            false => text(headers, &B3_SAMPLED).and_then(decision),
        },
        state: None,
    })
}

fn decision(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// `TRACE:SPAN:PARENT:FLAGS`, whose numbers may lack leading zeros.
fn jaeger(headers: &HeaderMap) -> Option<Remote> {
    let value = text(headers, &UBER)?.replace("%3A", ":");
    let mut parts = value.split(':');
    let (trace, span, _parent) = (parts.next()?, parts.next()?, parts.next()?);
    let flags = parts.next()?;
    if parts.next().is_some() || trace.len() > 32 || span.len() > 16 {
        return None;
    }
    Some(Remote {
        trace: Some(TraceId(hex(trace, trace.len())?)).filter(|id| id.0 != 0)?,
        span: span_id(&format!("{span:0>16}"))?,
        sampled: Some(hex(flags, flags.len())? & 1 == 1),
        state: None,
    })
}

/// Of 32 digits, or 16 where that is allowed.
fn trace_id(text: &str, digits: usize) -> Option<TraceId> {
    let right = digits == 32 || digits == 16;
    let id = right.then(|| hex(text, digits))??;
    (id != 0).then_some(TraceId(id))
}

fn span_id(text: &str) -> Option<SpanId> {
    let id = u64::try_from(hex(text, 16)?).ok()?;
    (id != 0).then_some(SpanId(id))
}

/// A number of so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let right = text.len() == digits && !text.is_empty() && text.bytes().all(lower);
    right.then(|| u128::from_str_radix(text, 16).ok())?
}

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static B3: HeaderName = HeaderName::from_static("b3");
static B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
static B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
static B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
static B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
static B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
static UBER: HeaderName = HeaderName::from_static("uber-trace-id");

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Propagator, Remote, SpanId, TraceId, propagators};

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| {
                let value = HeaderValue::from_str(value).unwrap();
                (HeaderName::from_static(name), value)
            })
            .collect()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of headers")]
    fn callers_are_understood() {
        let w3c = |value: &str| headers(&[("traceparent", value)]);
        let b3 = |value: &str| headers(&[("b3", value)]);
        let uber = |value: &str| headers(&[("uber-trace-id", value)]);
        let multi = |sampled: &'static str| {
            headers(&[
                ("x-b3-traceid", TRACE),
                ("x-b3-spanid", SPAN),
                ("x-b3-sampled", sampled),
            ])
        };
        use Propagator::{B3, B3Multi, Baggage, Jaeger, TraceContext};
        let yes = Some(Some(true));
        let cases = [
            (TraceContext, w3c(&format!("00-{TRACE}-{SPAN}-01")), yes),
            (
                TraceContext,
                w3c(&format!("00-{TRACE}-{SPAN}-00")),
                Some(Some(false)),
            ),
            (
                TraceContext,
                w3c(&format!("01-{TRACE}-{SPAN}-03-more")),
                yes,
            ),
            (
                TraceContext,
                w3c(&format!("00-{TRACE}-{SPAN}-01-more")),
                None,
            ),
            (TraceContext, w3c(&format!("ff-{TRACE}-{SPAN}-01")), None),
            (
                TraceContext,
                w3c(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase())),
                None,
            ),
            (
                TraceContext,
                w3c(&format!("00-{TRACE}-0000000000000000-01")),
                None,
            ),
            (TraceContext, w3c(&format!("00-{TRACE}-{SPAN}")), None),
            (TraceContext, w3c("garbage"), None),
            (TraceContext, w3c("é"), None),
            (TraceContext, b3(&format!("{TRACE}-{SPAN}-1")), None),
            (B3, b3(&format!("{TRACE}-{SPAN}-1")), yes),
            (B3, b3(&format!("{TRACE}-{SPAN}-d")), yes),
            (
                B3,
                b3(&format!("{TRACE}-{SPAN}-0-{SPAN}")),
                Some(Some(false)),
            ),
            (B3, b3(&format!("{TRACE}-{SPAN}")), Some(None)),
            (B3, b3("0"), None),
            (B3, multi("1"), yes),
            (B3Multi, multi("0"), Some(Some(false))),
            (B3Multi, b3(&format!("{TRACE}-{SPAN}-1")), yes),
            (Jaeger, uber(&format!("{TRACE}:{SPAN}:0:1")), yes),
            (
                Jaeger,
                uber(&format!("{TRACE}%3A{SPAN}%3A0%3A0")),
                Some(Some(false)),
            ),
            (Jaeger, uber(&format!("{TRACE}:{SPAN}:0")), None),
            (Jaeger, uber(&format!("{TRACE}0:{SPAN}:0:1")), None),
            (Baggage, w3c(&format!("00-{TRACE}-{SPAN}-01")), None),
        ];
        for (propagator, headers, expected) in cases {
            let found = propagator.extract(&headers);
            let sampled = found.as_ref().map(|remote| remote.sampled);
            assert_eq!(sampled, expected, "{propagator:?} {headers:?}");
            if let Some(remote) = found {
                assert_eq!(remote.trace.to_string(), TRACE, "{headers:?}");
                assert_eq!(remote.span.to_string(), SPAN, "{headers:?}");
            }
        }
        let short = Jaeger.extract(&uber("af:1:0:1")).unwrap();
        assert_eq!((short.trace, short.span), (TraceId(0xaf), SpanId(1)));
        let half = B3.extract(&b3(&format!("{SPAN}-{SPAN}-1"))).unwrap();
        assert_eq!(half.trace, TraceId(0xb7ad_6b71_6920_3331));
    }

    #[test]
    fn what_is_written_is_understood() {
        for sampled in [true, false] {
            let ours = Remote {
                trace: TraceId(0xabc),
                span: SpanId(0xdef),
                sampled: Some(sampled),
                state: None,
            };
            for propagator in [
                Propagator::TraceContext,
                Propagator::B3,
                Propagator::B3Multi,
                Propagator::Jaeger,
            ] {
                let mut headers = headers(&[
                    ("traceparent", "old"),
                    ("b3", "old"),
                    ("uber-trace-id", "old"),
                    ("x-b3-parentspanid", SPAN),
                ]);
                propagator.inject(&ours, &mut headers);
                assert_eq!(
                    propagator.extract(&headers).as_ref(),
                    Some(&ours),
                    "{propagator:?}"
                );
            }
        }
    }

    #[test]
    fn propagators_are_named_by_the_environment() {
        use Propagator::{B3, Baggage, Jaeger, TraceContext};
        for (names, known, unknown) in [
            ("", vec![TraceContext, Baggage], &[][..]),
            ("b3, jaeger", vec![B3, Jaeger], &[]),
            ("tracecontext,xray", vec![TraceContext], &["xray"]),
            ("b3,none", vec![], &[]),
        ] {
            let (found, odd) = propagators(names);
            assert_eq!(found, known, "{names}");
            assert_eq!(odd, unknown, "{names}");
        }
    }
}
