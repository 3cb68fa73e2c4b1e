//! Which entry point a URL leads to.

use serde::{Deserialize, Serialize};

use super::{Asked, Configuration};
use crate::config::install;

/// The entry point a request comes in by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chosen {
    pub name: String,
    pub address: String,
    /// Why this one.
    pub reason: String,
    /// In the install configuration's order.
    #[serde(skip)]
    pub(super) index: usize,
}

/// Chooses by name if one is wanted, else by port; a port that nothing listens on (there may be a port mapping in front) leads to the
/// entry point that knows the host best.
pub(super) fn choose(
    configuration: &Configuration<'_>,
    asked: &Asked,
    wanted: Option<&str>,
) -> Result<Chosen, String> {
    let doors = || {
        let doors = configuration.install.entry_points.iter().enumerate();
        doors
            .filter(|(_, (_, door))| !door.is_udp())
            .map(|(index, (name, door))| Found { index, name, door })
    };
    if let Some(wanted) = wanted {
        let found = doors().find(|found| found.name.eq_ignore_ascii_case(wanted));
        return found
            .map(|found| found.because("as asked for".to_owned()))
            .ok_or_else(|| {
                let known: Vec<_> = doors().map(|found| found.name.as_str()).collect();
                format!(
                    "there is no entry point `{wanted}`; there are {}",
                    known.join(", ")
                )
            });
    }
    let listening = |found: &Found<'_>| found.door.address.port == asked.port;
    let by_address =
        doors().find(|found| listening(found) && found.door.address.host == asked.url_host);
    if let Some(found) = by_address.or_else(|| doors().find(listening)) {
        return Ok(found.because(format!("it listens on port {}", asked.port)));
    }
    let defaults = configuration.install.default_entry_points();
    let usable: Vec<Found<'_>> = doors()
        .filter(|found| defaults.contains(&found.name.as_str()))
        .collect();
    let best = usable
        .into_iter()
        .rev()
        .max_by_key(|found| knows(configuration, found, asked));
    let reason = format!(
        "no entry point listens on port {}; this one knows the request best",
        asked.port
    );
    best.map(|found| found.because(reason))
        .ok_or_else(|| format!("no entry point listens on port {}", asked.port))
}

struct Found<'a> {
    index: usize,
    name: &'a String,
    door: &'a install::EntryPoint,
}

impl Found<'_> {
    fn because(&self, reason: String) -> Chosen {
        Chosen {
            name: self.name.clone(),
            address: self.door.address.to_string(),
            reason,
            index: self.index,
        }
    }
}

/// How much an entry point has to do with the request: a router of the user's for it, one of ours (a redirection takes everything), or
/// at least any for its scheme.
fn knows(configuration: &Configuration<'_>, found: &Found<'_>, asked: &Asked) -> u8 {
    let entry_point = &configuration.snapshot.entry_points[found.index];
    let table = if asked.tls {
        &entry_point.secure
    } else {
        &entry_point.plain
    };
    let route = table
        .find(&asked.facts())
        .and_then(|index| configuration.snapshot.routes.get(index as usize));
    match route {
        Some(route) if !route.internal => 3,
        Some(_) => 2,
        None => u8::from(table.rules().len() > 0),
    }
}
