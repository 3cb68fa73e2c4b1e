//! The account's key, and signed requests (RFC 8555 section 6.2).
//!
//! Accounts are RSA with 4096 bits, as Traefik writes and reads them.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::RSA_PKCS1_SHA256,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The key of an account.
#[derive(Debug)]
pub(in crate::acme) struct AccountKey {
    pair: KeyPair,
    /// PKCS#1.
    der: Vec<u8>,
    modulus: String,
    exponent: String,
}

impl AccountKey {
    /// A new key. Takes seconds.
    pub(in crate::acme) fn generate() -> Result<Self, String> {
        let unlucky = |_| "no RSA key can be made".to_owned();
        let pair = KeyPair::generate(KeySize::Rsa4096).map_err(unlucky)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(unlucky)?;
        let der = pkcs1(pkcs8.as_ref()).ok_or("the generated key cannot be decoded")?;
        Self::from_der(der)
    }

    /// From PKCS#1, as it is stored.
    pub(in crate::acme) fn from_der(der: &[u8]) -> Result<Self, String> {
        let pair = KeyPair::from_der(der).map_err(|error| error.to_string())?;
        let (modulus, exponent) = numbers(der).ok_or("it is not an RSA key")?;
        Ok(Self {
            pair,
            der: der.to_owned(),
            modulus: BASE64.encode(modulus),
            exponent: BASE64.encode(exponent),
        })
    }

    /// PKCS#1.
    pub(in crate::acme) fn der(&self) -> &[u8] {
        &self.der
    }

    /// What a challenge with `token` is answered with.
    pub(in crate::acme) fn authorize(&self, token: &str) -> String {
        // The members in alphabetical order and without spaces, as RFC 7638 wants them.
        let jwk = format!(
            r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
            self.exponent, self.modulus
        );
        format!("{token}.{}", BASE64.encode(Sha256::digest(jwk)))
    }

    /// A signed request. Without an account's URL it carries the public key.
    pub(super) fn sign(
        &self,
        account: Option<&str>,
        nonce: &str,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<Vec<u8>, String> {
        let mut head = json!({ "alg": "RS256", "nonce": nonce, "url": url });
        match account {
            Some(account) => head["kid"] = account.into(),
            None => head["jwk"] = self.jwk(),
        }
        let payload = payload.map_or_else(String::new, Value::to_string);
        let (head, payload) = (BASE64.encode(head.to_string()), BASE64.encode(payload));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let text = format!("{head}.{payload}");
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                text.as_bytes(),
                &mut signature,
            )
            .map_err(|_| "the request cannot be signed".to_owned())?;
        Ok(envelope(&head, &payload, &signature).to_string().into())
    }

    /// What binds the account to one that exists already, under `kid` with `key` (RFC 8555 section 7.3.4).
    pub(super) fn bind(&self, kid: &str, key: &[u8], url: &str) -> Value {
        let head = json!({ "alg": "HS256", "kid": kid, "url": url });
        let head = BASE64.encode(head.to_string());
        let payload = BASE64.encode(self.jwk().to_string());
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let tag = hmac::sign(&key, format!("{head}.{payload}").as_bytes());
        envelope(&head, &payload, tag.as_ref())
    }

    fn jwk(&self) -> Value {
        json!({ "e": self.exponent, "kty": "RSA", "n": self.modulus })
    }
}

fn envelope(head: &str, payload: &str, signature: &[u8]) -> Value {
    json!({ "protected": head, "payload": payload, "signature": BASE64.encode(signature) })
}

/// The PKCS#1 key inside a PKCS#8 one: version, algorithm, key.
fn pkcs1(pkcs8: &[u8]) -> Option<&[u8]> {
    let (inside, _) = value(pkcs8, SEQUENCE)?;
    let (_, rest) = value(inside, INTEGER)?;
    let (_, rest) = value(rest, SEQUENCE)?;
    Some(value(rest, OCTET_STRING)?.0)
}

/// Modulus and public exponent of a PKCS#1 key, without leading zeros.
fn numbers(pkcs1: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inside, _) = value(pkcs1, SEQUENCE)?;
    let (_, rest) = value(inside, INTEGER)?;
    let (modulus, rest) = value(rest, INTEGER)?;
    let (exponent, _) = value(rest, INTEGER)?;
    let bare = |number: &'_ [u8]| number.iter().position(|byte| *byte != 0);
    Some((&modulus[bare(modulus)?..], &exponent[bare(exponent)?..]))
}

/// The content of the DER value with this tag that `text` begins with, and what follows it.
fn value(text: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = text.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0usize, |length, digit| (length << 8) | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_values_are_read_within_their_bounds() {
        for (text, tag, expected) in [
            (&[0x02, 1, 5, 9][..], INTEGER, Some((&[5][..], &[9][..]))),
            (&[0x02, 0x81, 1, 5], INTEGER, Some((&[5][..], &[][..]))),
            (&[0x02, 2, 5], INTEGER, None),
            (&[0x02, 0x82, 1], INTEGER, None),
            (&[0x02, 0x80, 1], INTEGER, None),
            (&[0x02, 0x84, 0xff, 0xff, 0xff, 0xff, 1], INTEGER, None),
            (&[0x30, 1, 5], INTEGER, None),
            (&[0x02], INTEGER, None),
            (&[], INTEGER, None),
        ] {
            assert_eq!(value(text, tag), expected, "{text:?}");
        }
    }

    #[test]
    fn a_key_survives_being_stored() {
        // A smaller key is made faster.
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let key = AccountKey::from_der(pkcs1(pkcs8.as_ref()).unwrap()).unwrap();
        let again = AccountKey::from_der(key.der()).unwrap();
        assert_eq!(key.authorize("token"), again.authorize("token"));
        assert_eq!(key.exponent, "AQAB");
        let signed = key
            .sign(Some("https://ca/1"), "n", "https://ca/o", None)
            .unwrap();
        let signed: Value = serde_json::from_slice(&signed).unwrap();
        assert_eq!(signed["payload"], "");
        let head = BASE64
            .decode(signed["protected"].as_str().unwrap())
            .unwrap();
        let head: Value = serde_json::from_slice(&head).unwrap();
        assert_eq!(head["kid"], "https://ca/1");
        assert!(AccountKey::from_der(b"nonsense").is_err());
    }
}
