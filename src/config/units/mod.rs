//! Small value types of the configuration language: durations, addresses, networks, status ranges, secrets.
//!
//! Each parses from the text a user writes ([`FromStr`]) and prints the form Traefik's API prints.

mod network;
mod range;
mod secret;
mod span;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

pub use self::{
    network::{Address, Cidr, Protocol},
    range::StatusRange,
    secret::{FileOrContent, Secret},
    span::Span,
};

/// Deserialises from the text form (numbers are taken as their text) and serialises to it.
macro_rules! text_serde {
    ($($unit:ty),*) => {$(
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = deserializer.deserialize_str(TextVisitor)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

text_serde!(Span, Address, Cidr, StatusRange, Secret, FileOrContent);

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }
}
