//! What tells this process apart from others in a collector.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::resource::v1::Resource;
use percent_encoding::percent_decode_str;

use super::values::{number, text};

/// What is known of this process, the name of its service, then what is configured, then what the environment says
/// (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`): the later counts.
pub(super) fn resource(service: &str, configured: &BTreeMap<String, String>) -> Resource {
    let mut texts: BTreeMap<String, String> = detected();
    texts.insert("service.name".to_owned(), service.to_owned());
    texts.insert("service.version".to_owned(), VERSION.to_owned());
    texts.extend(configured.clone());
    let variable = |name| std::env::var(name).unwrap_or_default();
    texts.extend(listed(&variable("OTEL_RESOURCE_ATTRIBUTES")));
    let name = variable("OTEL_SERVICE_NAME");
    if !name.is_empty() {
        texts.insert("service.name".to_owned(), name);
    }
    let mut attributes: Vec<_> = texts
        .into_iter()
        .map(|(name, value)| text(&name, value))
        .collect();
    attributes.push(number("process.pid", i64::from(std::process::id())));
    Resource {
        attributes,
        ..Resource::default()
    }
}

fn detected() -> BTreeMap<String, String> {
    let system = rustix::system::uname();
    let executable = std::env::current_exe().ok();
    let name = executable.as_ref().and_then(|path| path.file_name());
    let kernel = format!(
        "{} {}",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy()
    );
    let facts = [
        (
            "host.name",
            Some(system.nodename().to_string_lossy().into_owned()),
        ),
        ("os.type", Some(std::env::consts::OS.to_owned())),
        ("os.description", Some(kernel)),
        (
            "process.executable.name",
            name.map(|name| name.to_string_lossy().into_owned()),
        ),
        (
            "process.executable.path",
            executable.as_ref().map(|path| path.display().to_string()),
        ),
        ("process.runtime.name", Some("rust".to_owned())),
        ("telemetry.sdk.language", Some("rust".to_owned())),
        (
            "telemetry.sdk.name",
            Some(env!("CARGO_PKG_NAME").to_owned()),
        ),
        ("telemetry.sdk.version", Some(VERSION.to_owned())),
        ("container.id", container()),
    ];
    let known = facts.into_iter();
    known
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// The container this process runs in, by what the kernel says of its groups or mounts.
fn container() -> Option<String> {
    ["/proc/self/cgroup", "/proc/self/mountinfo"]
        .into_iter()
        .find_map(|path| container_in(&std::fs::read_to_string(path).ok()?))
}

/// The first path element of 64 hexadecimal digits, whatever stands around it (`docker-ID.scope`).
fn container_in(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_hexdigit());
    words
        .filter(|word| word.len() == 64)
        .map(str::to_owned)
        .next()
}

/// `KEY=VALUE,KEY=VALUE`, values percent-encoded. What is not of this form is left out.
fn listed(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| {
            let value = percent_decode_str(value.trim()).decode_utf8_lossy();
            (key.trim().to_owned(), value.into_owned())
        })
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{container_in, listed, resource};

    #[test]
    fn the_environment_lists_attributes() {
        for (text, expected) in [
            ("", &[][..]),
            ("a=b, c = d%20e ", &[("a", "b"), ("c", "d e")]),
            ("nothing,=x,k=", &[("k", "")]),
        ] {
            let expected: BTreeMap<_, _> = expected
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(listed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_configured_counts_more_than_what_is_found() {
        let configured = BTreeMap::from([("host.name".to_owned(), "edge".to_owned())]);
        let made = resource("shop", &configured);
        let of = |name: &str| {
            let mut found = made.attributes.iter().filter(|it| it.key == name);
            let one = found.next().map(|it| format!("{:?}", it.value));
            assert!(found.next().is_none(), "{name} twice");
            one.unwrap_or_default()
        };
        assert!(of("host.name").contains("edge"));
        assert!(of("service.name").contains("shop"));
        assert!(of("process.pid").contains("IntValue"));
    }

    #[test]
    fn containers_are_found() {
        let id = "997b51bcff412663088d307ddbb325fe997b51bcff412663088d307ddbb325fe";
        for text in [
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("1 2 /var/lib/docker/containers/{id}/hostname /etc/hostname"),
        ] {
            assert_eq!(container_in(&text).as_deref(), Some(id));
        }
        assert_eq!(container_in("0::/init.scope"), None);
    }
}
