//! Which content coding a client gets.

use http::HeaderValue;

use crate::{
    config::routing::{Compress as Config, Encoding},
    middleware::report::Report,
};

/// A content coding that can be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

impl Coding {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

impl From<Encoding> for Coding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Gzip => Self::Gzip,
            Encoding::Br => Self::Brotli,
            Encoding::Zstd => Self::Zstd,
        }
    }
}

/// The codings that are offered, in order, and the one for clients that do not say.
#[derive(Debug)]
pub(super) struct Preference {
    codings: Vec<Coding>,
    default: Option<Coding>,
}

impl Preference {
    pub(super) fn build(config: &Config, report: &mut Report<'_>) -> Option<Self> {
        let named = config.encodings.iter().flatten();
        let mut codings: Vec<Coding> = named.copied().map(Coding::from).collect();
        if codings.is_empty() {
            if config.encodings.is_some() {
                report.warning("encodings", "is empty: gzip, br and zstd are used");
            }
            codings = vec![Coding::Gzip, Coding::Brotli, Coding::Zstd];
        }
        let default = config.default_encoding.map(Coding::from);
        if default.is_some_and(|default| !codings.contains(&default)) {
            report.error("defaultEncoding", "is not one of `encodings`");
            return None;
        }
        Some(Self { codings, default })
    }

    /// The coding for a client's `Accept-Encoding`; `None` to leave the body as it is.
    ///
    /// The highest weight wins, then the order in which codings are offered; `*` counts before all of them and `identity` after.
    pub(super) fn choose(&self, said: Option<&HeaderValue>) -> Option<Choice> {
        let Some(said) = said else {
            return self.default.map(|coding| unasked(coding, false));
        };
        let said = said.to_str().ok()?;
        let items = || said.split(',').filter_map(|item| self.item(item));
        let best = items().filter(|item| item.weight > 0.0).max_by(|a, b| {
            a.weight
                .total_cmp(&b.weight)
                .then_with(|| b.rank.cmp(&a.rank))
        })?;
        match best.wish {
            Wish::Coding(coding) => Some(Choice::Apply(coding)),
            Wish::Identity => None,
            Wish::Any => {
                let coding = self.default.or_else(|| self.codings.first().copied())?;
                let weight =
                    |item: Item| (item.wish == Wish::Coding(coding)).then_some(item.weight);
                Some(match items().find_map(weight) {
                    Some(weight) if weight > 0.0 => Choice::Apply(coding),
                    named => unasked(coding, named.is_some()),
                })
            }
        }
    }

    /// One item of the list; `None` if it names nothing we know. Names are compared exactly, as Traefik does.
    fn item(&self, text: &str) -> Option<Item> {
        let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (wish, rank) = match name.trim() {
            "*" => (Wish::Any, 0),
            "identity" => (Wish::Identity, self.codings.len() + 1),
            name => {
                let at = self.codings.iter().position(|it| it.name() == name)?;
                (Wish::Coding(self.codings[at]), at + 1)
            }
        };
        let weight = match parameters.trim().strip_prefix("q=") {
            None => 1.0,
            Some(weight) => weight.trim().parse::<f64>().unwrap_or(0.0),
        };
        Some(Item { wish, rank, weight })
    }
}

/// What is done with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Apply(Coding),
    /// It is left as it is, although it might have been compressed for another client.
    Leave,
}

/// What is done where `coding` was chosen for a client that did not name it. As in Traefik, whose gzip looks for its own name.
fn unasked(coding: Coding, refused: bool) -> Choice {
    match coding {
        Coding::Brotli | Coding::Zstd if !refused => Choice::Apply(coding),
        _ => Choice::Leave,
    }
}

struct Item {
    wish: Wish,
    rank: usize,
    weight: f64,
}

#[derive(PartialEq, Eq)]
enum Wish {
    Any,
    Identity,
    Coding(Coding),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(
        codings: &[Coding],
        default: Option<Coding>,
        said: Option<&'static str>,
    ) -> &'static str {
        let preference = Preference {
            codings: codings.to_vec(),
            default,
        };
        let said = said.map(HeaderValue::from_static);
        match preference.choose(said.as_ref()) {
            Some(Choice::Apply(coding)) => coding.name(),
            Some(Choice::Leave) => "leave",
            None => "-",
        }
    }

    #[test]
    fn follows_the_client_then_our_order() {
        use Coding::{Brotli, Gzip, Zstd};
        for (said, usual, brotli_first) in [
            ("br, gzip", "gzip", "br"),
            ("br;q=0.9, gzip;q=0.8", "br", "br"),
            ("gzip", "gzip", "gzip"),
            ("zstd", "zstd", "-"),
            ("gzip;q=0", "-", "-"),
            ("*", "leave", "br"),
            ("br;q=0.1,*", "leave", "br"),
            ("gzip;q=0.1,*", "gzip", "br"),
            ("br;q=0,*", "leave", "leave"),
            ("gzip;q=0,*", "leave", "br"),
            ("*;q=0", "-", "-"),
            ("identity, br", "br", "br"),
            ("identity;q=1, br;q=0.9", "-", "-"),
            ("identity;q=0", "-", "-"),
            ("GZIP", "-", "-"),
            ("", "-", "-"),
            ("br ; q=0.5", "br", "br"),
            ("br;Q=0.5", "br", "br"),
            ("zstd;q=0.5;x=1", "-", "-"),
            ("gzip;q=abc", "-", "-"),
            ("x-gzip, deflate", "-", "-"),
            ("br;q=2", "br", "br"),
        ] {
            assert_eq!(
                choose(&[Gzip, Brotli, Zstd], None, Some(said)),
                usual,
                "{said}"
            );
            assert_eq!(
                choose(&[Brotli, Gzip], None, Some(said)),
                brotli_first,
                "{said}"
            );
        }
    }

    #[test]
    fn clients_that_do_not_say_get_the_default() {
        let all = [Coding::Gzip, Coding::Brotli];
        assert_eq!(choose(&all, None, None), "-");
        assert_eq!(choose(&all, Some(Coding::Brotli), None), "br");
        assert_eq!(choose(&all, Some(Coding::Gzip), None), "leave");
        assert_eq!(choose(&all, Some(Coding::Brotli), Some("*")), "br");
        assert_eq!(choose(&all, Some(Coding::Brotli), Some("")), "-");
    }
}
