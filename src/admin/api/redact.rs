//! Secrets do not leave through the API.

use serde_json::Value;

/// Replaces what may be a secret anywhere in the configuration of a middleware or service.
pub(crate) fn redact(config: &mut Value) {
    match config {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if is_secret(name, value) {
                    hide(value);
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) => *text = shown(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `text`, without its password if it is a URL with one.
pub(super) fn shown(text: &str) -> String {
    without_password(text).unwrap_or_else(|| text.to_owned())
}

/// Whether an option or header of this name holds a secret: `users` of the auth middlewares hold password hashes.
fn is_secret(name: &str, value: &Value) -> bool {
    let name = name.to_ascii_lowercase();
    let options = ["users", "keyfile"];
    // `cookie` is also the name of an option with options of its own.
    let headers = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
    ];
    let parts = ["password", "secret", "token", "api-key", "apikey"];
    options.contains(&name.as_str())
        || headers.contains(&name.as_str()) && value.is_string()
        || parts.iter().any(|part| name.contains(part))
}

fn hide(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(fields) => fields.values_mut().for_each(hide),
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => *text = HIDDEN.to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A URL without its password; `None` if there is none.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (userinfo, host) = rest[..end].rsplit_once('@')?;
    let user = userinfo.split_once(':')?.0;
    Some(format!("{scheme}://{user}:{HIDDEN}@{host}{}", &rest[end..]))
}

const HIDDEN: &str = "REDACTED";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::redact;

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let mut config = json!({
            "basicAuth": {"users": ["u:$apr1$x", ""], "usersFile": "/etc/users", "removeHeader": true},
            "headers": {"customRequestHeaders": {"Authorization": "Bearer x", "X-Api-Key": "k", "Cookie": "c", "X-A": "b"}},
            "sticky": {"cookie": {"name": "c"}},
            "plugin": {"x": {"clientSecret": {"a": "b"}, "n": 1}},
            "servers": [{"url": "http://u:p@h:1/p?q"}, {"url": "http://u@h/@:"}, {"url": "http://h/a:b@c"}],
        });
        redact(&mut config);
        assert_eq!(
            config,
            json!({
                "basicAuth": {"users": ["REDACTED", ""], "usersFile": "/etc/users", "removeHeader": true},
                "headers": {"customRequestHeaders": {"Authorization": "REDACTED", "X-Api-Key": "REDACTED", "Cookie": "REDACTED", "X-A": "b"}},
                "sticky": {"cookie": {"name": "c"}},
                "plugin": {"x": {"clientSecret": {"a": "REDACTED"}, "n": 1}},
                "servers": [{"url": "http://u:REDACTED@h:1/p?q"}, {"url": "http://u@h/@:"}, {"url": "http://h/a:b@c"}],
            })
        );
    }
}
