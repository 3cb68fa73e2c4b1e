//! The query of an API request, and what of a list it asks for.

use percent_encoding::percent_decode_str;

/// Parameters in the order they came.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Splits `a=b&c=d`, with `+` for a space and percent escapes. A part that is no text is left out.
    pub(super) fn parse(query: &str) -> Self {
        let parts = query.split('&').filter(|part| !part.is_empty());
        let pairs = parts.filter_map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decoded(name)?, decoded(value)?))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self
            .0
            .iter()
            .filter(move |(parameter, _)| parameter == name);
        named.map(|(_, value)| value.as_str())
    }

    /// A whole number from 1, or `default` if it is not there. What is no number counts as 0.
    pub(super) fn positive(&self, name: &str, default: i64) -> Result<i64, String> {
        let number = match self.get(name) {
            "" => default,
            text => text.parse().unwrap_or(0),
        };
        if number < 1 {
            return Err(format!("invalid request: {name}: {number}"));
        }
        Ok(number)
    }
}

fn decoded(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    let text = percent_decode_str(&text).decode_utf8().ok()?;
    Some(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("a=1&b=x+y%26z&a=2&c&=&%ff=1&page=-1&per_page=x");
        assert_eq!(query.get("a"), "1");
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.get("b"), "x y&z");
        assert_eq!(query.get("c"), "");
        assert_eq!(query.positive("none", 7), Ok(7));
        assert_eq!(query.positive("a", 7), Ok(1));
        assert_eq!(
            query.positive("page", 1),
            Err("invalid request: page: -1".into())
        );
        assert_eq!(
            query.positive("per_page", 1),
            Err("invalid request: per_page: 0".into())
        );
    }
}
