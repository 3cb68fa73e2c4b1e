//! Did-you-mean.

/// A hint for a name that is not among the known ones.
pub(in crate::config) fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let distance =
        |candidate: &&&str| strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase());
    let nearest = known.iter().min_by_key(distance)?;
    if distance(&nearest) <= allowed(&lower) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    let begins = |known: &&&str| known.len() > 2 && lower.starts_with(&known.to_ascii_lowercase());
    if let Some(begins) = known.iter().find(begins) {
        return Some(format!("did you mean `{begins}`?"));
    }
    if known.len() > MAX_LISTED {
        return None;
    }
    let list: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    Some(format!("expected {}", alternatives(&list)))
}

/// A third of the letters may be wrong, but always one.
fn allowed(name: &str) -> usize {
    (name.chars().count() / 3).clamp(1, 4)
}

/// `a`, `a or b`, `a, b or c`.
fn alternatives(list: &[String]) -> String {
    match list {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} or {last}", all.join(", ")),
    }
}

const MAX_LISTED: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_nearest_or_lists_the_few() {
        let known = ["entryPoints", "middlewares", "rule", "service"];
        let hint = |name| did_you_mean(name, &known);
        assert_eq!(
            hint("entrypoint").as_deref(),
            Some("did you mean `entryPoints`?")
        );
        assert_eq!(
            hint("midlewares").as_deref(),
            Some("did you mean `middlewares`?")
        );
        assert_eq!(hint("rul").as_deref(), Some("did you mean `rule`?"));
        assert_eq!(
            hint("loadBalancer").as_deref(),
            Some("expected `entryPoints`, `middlewares`, `rule` or `service`")
        );
        assert_eq!(
            did_you_mean("WARNINGS", &["INFO", "WARN"]).as_deref(),
            Some("did you mean `WARN`?")
        );
        assert_eq!(did_you_mean("x", &[]), None);
        let many = ["abcdef"; 13];
        assert_eq!(did_you_mean("zzz", &many), None);
    }
}
