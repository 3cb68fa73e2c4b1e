//! `portway version`.

use std::process::ExitCode;

use super::say;

/// Prints the version.
pub(super) fn run() -> ExitCode {
    say(&text())
}

fn text() -> String {
    let lines = [
        ("Version:", env!("CARGO_PKG_VERSION")),
        ("Codename:", "portway"),
        (
            "Rust version:",
            concat!(env!("CARGO_PKG_RUST_VERSION"), " or later"),
        ),
        ("Built:", option_env!("PORTWAY_BUILT").unwrap_or("unknown")),
    ];
    let mut text: Vec<_> = lines
        .iter()
        .map(|(label, value)| format!("{label:14}{value}"))
        .collect();
    text.push(format!(
        "{:14}{}/{}",
        "OS/Arch:",
        std::env::consts::OS,
        architecture()
    ));
    text.join("\n")
}

/// As container images call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_lines_with_values_in_one_column() {
        let text = text();
        assert_eq!(text.lines().count(), 5);
        for line in text.lines() {
            let (label, value) = line.split_at(14);
            assert!(
                label.trim_end().ends_with(':') && !value.starts_with(' ') && !value.is_empty(),
                "{line}"
            );
        }
        assert!(text.starts_with(concat!("Version:      ", env!("CARGO_PKG_VERSION"))));
    }
}
