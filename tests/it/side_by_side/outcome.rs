//! What is compared, and what may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::cases::Case;

/// What a client and a server could see of one request.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub status: u16,
    pub headers: BTreeMap<String, Vec<String>>,
    pub body: String,
    pub seen: Vec<Sight>,
}

/// What a server saw of a request.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// Which of the servers.
    pub server: usize,
    pub line: String,
    pub headers: BTreeMap<String, Vec<String>>,
    pub body: String,
    pub trailers: String,
}

/// Something that is not the same.
pub struct Difference {
    pub place: &'static str,
    pub name: String,
    pub traefik: String,
    pub portway: String,
    pub traefik_status: u16,
    pub portway_status: u16,
}

impl Difference {
    pub fn is(&self, place: &str, name: &str) -> bool {
        self.place == place && self.name == name
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: Traefik {:?}, Portway {:?}",
            self.place, self.name, self.traefik, self.portway
        )
    }
}

/// The number under which docs/compatibility.md gives the reason for a difference, in short what it is, and which ones it explains. The
/// number is 0 for what is no difference but a matter of luck or of the moment.
pub type Allowance = (u32, &'static str, fn(&Case, &Difference) -> bool);

/// What we do differently on purpose.
pub const ALLOWED: &[Allowance] = &[
    (
        15,
        "Traefik asks servers for gzip when the client did not, and unpacks the answer; we pass on what the client said",
        |case, difference| {
            let silent = !case.headers.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("accept-encoding") && !value.is_empty()
            });
            silent
                && (difference.is("server saw", "accept-encoding")
                    || case.target.contains("packed"))
        },
    ),
    (
        0,
        "how long to wait depends on the moment",
        |_, difference| {
            difference.is("header", "retry-after") || difference.is("header", "x-retry-in")
        },
    ),
    (
        14,
        "Traefik drops the trailers of requests, we forward them and their announcement",
        |_, difference| {
            difference.is("server saw", "trailers") || difference.is("server saw", "trailer")
        },
    ),
    (
        11,
        "what is ambiguous we refuse, and after that nothing else can be compared",
        |case, difference| case.strict && difference.portway_status == 400,
    ),
    (
        12,
        "requests that cannot be parsed are answered before any router: only the status counts",
        |_, difference| {
            difference.portway_status == 400
                && difference.traefik_status == 400
                && difference.place != "status"
        },
    ),
    (
        97,
        "Traefik puts its cookie before those of the server, we put it behind them",
        |_, difference| {
            let sorted = |text: &str| {
                let mut cookies: Vec<String> = text.split(" | ").map(str::to_owned).collect();
                cookies.sort();
                cookies
            };
            difference.is("header", "set-cookie")
                && sorted(&difference.traefik) == sorted(&difference.portway)
        },
    ),
];

/// Everything that a client or a server could tell the two programs by.
pub fn differences(traefik: &Outcome, portway: &Outcome) -> Vec<Difference> {
    let mut comparison = Comparison {
        statuses: (traefik.status, portway.status),
        found: Vec::new(),
    };
    let (theirs, ours) = (traefik.status.to_string(), portway.status.to_string());
    comparison.texts("status", "", &theirs, &ours);
    comparison.texts("body", "", &traefik.body, &portway.body);
    comparison.fields("header", &traefik.headers, &portway.headers);
    if traefik.seen.len() != portway.seen.len() {
        comparison.texts("server saw", "requests", &lines(traefik), &lines(portway));
    }
    for (theirs, ours) in traefik.seen.iter().zip(&portway.seen) {
        let (there, here) = (theirs.server.to_string(), ours.server.to_string());
        comparison.texts("server saw", "server", &there, &here);
        comparison.fields("server saw", &theirs.headers, &ours.headers);
        comparison.texts("server saw", "line", &theirs.line, &ours.line);
        comparison.texts("server saw", "body", &theirs.body, &ours.body);
        comparison.texts("server saw", "trailers", &theirs.trailers, &ours.trailers);
    }
    comparison.found
}

struct Comparison {
    statuses: (u16, u16),
    found: Vec<Difference>,
}

impl Comparison {
    fn texts(&mut self, place: &'static str, name: &str, traefik: &str, portway: &str) {
        if traefik != portway {
            self.found.push(Difference {
                place,
                name: name.to_owned(),
                traefik: traefik.to_owned(),
                portway: portway.to_owned(),
                traefik_status: self.statuses.0,
                portway_status: self.statuses.1,
            });
        }
    }

    fn fields(
        &mut self,
        place: &'static str,
        traefik: &BTreeMap<String, Vec<String>>,
        portway: &BTreeMap<String, Vec<String>>,
    ) {
        let names: BTreeSet<&String> = traefik.keys().chain(portway.keys()).collect();
        let text = |fields: &BTreeMap<String, Vec<String>>, name: &str| {
            fields
                .get(name)
                .map(|values| values.join(" | "))
                .unwrap_or_default()
        };
        for name in names {
            self.texts(place, name, &text(traefik, name), &text(portway, name));
        }
    }
}

/// Which server saw what, in short.
fn lines(outcome: &Outcome) -> String {
    let seen = outcome.seen.iter();
    let lines = seen.map(|seen| format!("{}: {}", seen.server, seen.line));
    lines.collect::<Vec<_>>().join(", ")
}

/// Which allowances were needed.
#[derive(Debug, Default)]
pub struct Needed(BTreeSet<&'static str>);

impl Needed {
    /// The differences that none of `allowed` explains.
    pub fn unexplained(
        &mut self,
        case: &Case,
        (traefik, portway): (&Outcome, &Outcome),
        allowed: &[&[Allowance]],
    ) -> Vec<String> {
        let mut left = Vec::new();
        for difference in differences(traefik, portway) {
            let mut allowed = allowed.iter().copied().flatten();
            match allowed.find(|(_, _, explains)| explains(case, &difference)) {
                Some((_, what, _)) => drop(self.0.insert(what)),
                None => left.push(format!("    {difference}")),
            }
        }
        left
    }

    /// An allowance that nothing needs is not true any more, and one that users are not told of is none.
    pub fn hold_true(&self, allowed: &[Allowance]) {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");
        let page = std::fs::read_to_string(page).unwrap();
        for (number, what, _) in allowed.iter().filter(|(number, ..)| *number != 0) {
            assert!(self.0.contains(what), "no longer a difference: {what}");
            let entry = format!("\n{number}. **");
            let told = page.contains(&entry);
            assert!(told, "docs/compatibility.md has no number {number}: {what}");
        }
    }
}
