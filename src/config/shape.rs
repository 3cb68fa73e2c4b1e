//! How typed configuration meets serde: objects with places, enabling by presence, options kept but not acted on.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::diagnostic::{Place, Places};

/// One named object of the routing configuration and where its fields were written.
///
/// Equality and serialisation look at the value only: an object that merely moved in its file is the same object.
#[derive(Debug, Clone, Default)]
pub struct Placed<T> {
    /// The object.
    pub value: T,
    /// Where it and its fields were written.
    pub places: Places,
}

impl<T> Placed<T> {
    /// An object with its places.
    pub fn new(value: T, places: Places) -> Self {
        Self { value, places }
    }

    /// Where the object was written.
    pub fn place(&self) -> &Place {
        self.places.whole()
    }

    /// Where a field (`rule`, `servers[0].url`) was written, or the nearest thing around it.
    pub fn at(&self, field: &str) -> &Place {
        self.places.at(field)
    }
}

/// An object built by code.
impl<T> From<T> for Placed<T> {
    fn from(value: T) -> Self {
        Self::new(value, Places::default())
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Placed<T> {}

impl<T: Serialize> Serialize for Placed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

/// A part of the configuration that is known to Traefik but that Portway does not act on yet: kept as it was written.
///
/// Decoding one reports a warning at its place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Opaque(pub serde_json::Value);

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(OPAQUE, OpaqueVisitor)
    }
}

struct OpaqueVisitor;

impl<'de> Visitor<'de> for OpaqueVisitor {
    type Value = Opaque;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Opaque, D::Error> {
        serde_json::Value::deserialize(inner).map(Opaque)
    }
}

/// `#[serde(deserialize_with = "presence")]` for a struct that Traefik enables by naming it: `ping: {}`, `--ping`, `tls=true`.
/// Any other value than `true` disables it, children included.
pub(super) fn presence<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_newtype_struct(PRESENCE, PresenceVisitor(PhantomData))
}

/// As [`presence`], for a struct whose absence means its defaults.
pub(super) fn presence_or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    presence(deserializer).map(Option::unwrap_or_default)
}

struct PresenceVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PresenceVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true`, `false` or options")
    }

    fn visit_none<E: de::Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Option<T>, D::Error> {
        T::deserialize(inner).map(Some)
    }
}

/// For `skip_serializing_if`: Traefik's API leaves out what is zero or empty.
pub(super) fn unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Marks [`Opaque`] to the decoder.
pub(super) const OPAQUE: &str = "portway:opaque";
/// Marks [`presence`] to the decoder.
pub(super) const PRESENCE: &str = "portway:presence";
