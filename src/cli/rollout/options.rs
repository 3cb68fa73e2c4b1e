//! What `portway rollout` is told.

use std::time::Duration;

/// The options of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) service: String,
    /// For `docker compose`, before its command: `-f FILE`, `-p NAME`, `--env-file FILE`, `--profile NAME`.
    pub(super) compose: Vec<String>,
    /// Where Portway's API is (`http://HOST:PORT`).
    pub(super) api: Option<String>,
    /// Size of the new generation; that of the old one if not given.
    pub(super) replicas: Option<usize>,
    /// How long the new generation may take to be ready.
    pub(super) timeout: Duration,
}

impl Options {
    /// Reads the words behind `rollout`.
    pub(super) fn of(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            service: String::new(),
            compose: Vec::new(),
            api: None,
            replicas: None,
            timeout: Duration::from_secs(120),
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (name, Some(value.to_owned())),
                _ => (&**word, None),
            };
            if !name.starts_with('-') {
                options.name_service(name)?;
                continue;
            }
            let value = value
                .or_else(|| words.next().cloned())
                .ok_or_else(|| format!("{name} needs a value"))?;
            options.set(name, value)?;
        }
        if options.service.is_empty() {
            return Err(
                "which service? `portway rollout web` (`portway rollout --help` says more)"
                    .to_owned(),
            );
        }
        Ok(options)
    }

    fn name_service(&mut self, name: &str) -> Result<(), String> {
        if self.service.is_empty() {
            name.clone_into(&mut self.service);
            return Ok(());
        }
        Err(format!(
            "one service at a time: `{}` or `{name}`?",
            self.service
        ))
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "-f" | "--file" => self.compose.extend(["-f".to_owned(), value]),
            "-p" | "--project-name" => self.compose.extend(["-p".to_owned(), value]),
            "--env-file" | "--profile" => self.compose.extend([name.to_owned(), value]),
            "--api" => self.api = Some(value),
            "--replicas" => self.replicas = Some(replicas(&value)?),
            "--timeout" => self.timeout = timeout(&value)?,
            _ => {
                return Err(format!(
                    "unknown option {name} (`portway rollout --help` lists them)"
                ));
            }
        }
        Ok(())
    }
}

fn replicas(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1000) => Ok(count),
        _ => Err(format!(
            "--replicas: expected a number from 1 to 1000, not `{text}`"
        )),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let (number, factor) = match (text.strip_suffix('m'), text.strip_suffix('s')) {
        (Some(minutes), _) => (minutes, 60),
        (None, Some(seconds)) => (seconds, 1),
        (None, None) => (text, 1),
    };
    match number.parse::<u64>() {
        Ok(number @ 1..=86_400) => Ok(Duration::from_secs(number * factor)),
        _ => Err(format!(
            "--timeout: expected seconds or minutes (`90s`, `5m`), not `{text}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::of(&words)
    }

    #[test]
    fn options_are_read() {
        let options = of("-f a.yml --file=b.yml -p shop web --replicas 4 --timeout=5m --api http://127.0.0.1:8080").unwrap();
        assert_eq!(
            options.compose,
            ["-f", "a.yml", "-f", "b.yml", "-p", "shop"]
        );
        assert_eq!(
            (&*options.service, options.replicas, options.timeout),
            ("web", Some(4), Duration::from_secs(300))
        );
        assert_eq!(options.api.as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(of("web").unwrap().timeout, Duration::from_secs(120));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("", "which service?"),
            ("web api", "one service at a time"),
            ("web --file", "--file needs a value"),
            ("web --replicas 0", "from 1 to 1000"),
            ("web --timeout soon", "expected seconds or minutes"),
            ("web --scale 3", "unknown option --scale"),
        ] {
            let wrong = of(line).unwrap_err();
            assert!(wrong.contains(part), "{line}: {wrong}");
        }
    }
}
