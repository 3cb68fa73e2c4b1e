//! Portway as a plugin of the Docker CLI: `docker portway rollout web`.

use std::process::ExitCode;

use super::say;

/// What the program must be called to be found by Docker.
pub(super) const NAME: &str = "docker-portway";

/// Answers Docker's question of who this is, or carries out what follows `docker portway`.
pub(super) fn run(arguments: &[String], dispatch: impl FnOnce(&[String]) -> ExitCode) -> ExitCode {
    match arguments.split_first() {
        Some((first, _)) if first == "docker-cli-plugin-metadata" => say(METADATA),
        Some((first, rest)) if first == "portway" => dispatch(rest),
        _ => dispatch(arguments),
    }
}

/// The format is Docker's (`cli-plugins/manager.Metadata`).
const METADATA: &str = concat!(
    r#"{"SchemaVersion": "0.1.0", "Vendor": "Portway", "Version": ""#,
    env!("CARGO_PKG_VERSION"),
    r#"", "ShortDescription": "Roll a Compose service over without a failed request"}"#
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_is_answered_and_its_word_is_dropped() {
        let metadata: serde_json::Value = serde_json::from_str(METADATA).unwrap();
        assert_eq!(metadata["SchemaVersion"], "0.1.0");
        for (line, expected) in [
            ("portway rollout web", "rollout web"),
            ("rollout web", "rollout web"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            run(&words, |rest| {
                assert_eq!(rest.join(" "), expected);
                ExitCode::SUCCESS
            });
        }
    }
}
