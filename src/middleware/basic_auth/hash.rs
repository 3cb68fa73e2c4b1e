//! Password hashes as `htpasswd` writes them.

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use sha1::Sha1;

/// A password hash.
#[derive(PartialEq, Eq)]
pub(super) enum Hash {
    /// `$2a$`, `$2b$`, `$2x$`, `$2y$`.
    Bcrypt(String),
    /// `$apr1$` and `$1$`.
    Md5 {
        magic: &'static str,
        salt: String,
        digest: String,
    },
    /// `{SHA}`, unsalted.
    Sha1([u8; 20]),
    /// None of these: no password fits.
    Unknown,
}

impl Hash {
    pub(super) fn read(text: &str) -> Self {
        if let Some(encoded) = text.strip_prefix("{SHA}") {
            let digest = STANDARD.decode(encoded).ok();
            let digest = digest.and_then(|bytes| <[u8; 20]>::try_from(bytes).ok());
            return digest.map_or(Self::Unknown, Self::Sha1);
        }
        if text.parse::<bcrypt::HashParts>().is_ok() {
            return Self::Bcrypt(text.to_owned());
        }
        for magic in ["$apr1$", "$1$"] {
            let parts = text.strip_prefix(magic).and_then(|it| it.split_once('$'));
            if let Some((salt, digest)) = parts {
                return Self::Md5 {
                    magic,
                    salt: salt.to_owned(),
                    digest: digest.to_owned(),
                };
            }
        }
        Self::Unknown
    }

    /// Whether checking takes less than a microsecond.
    pub(super) fn is_quick(&self) -> bool {
        matches!(self, Self::Sha1(_) | Self::Unknown)
    }

    /// How long checking takes, relatively.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::Sha1(_) => 1,
            Self::Md5 { .. } => 2,
            Self::Bcrypt(text) => {
                let parts = text.parse::<bcrypt::HashParts>();
                parts.map_or(3, |parts| 3 + parts.get_cost())
            }
        }
    }

    /// What tells this hash from others.
    pub(super) fn identity(&self) -> &[u8] {
        match self {
            Self::Bcrypt(text) => text.as_bytes(),
            Self::Md5 { digest, .. } => digest.as_bytes(),
            Self::Sha1(digest) => digest,
            Self::Unknown => &[],
        }
    }

    /// Whether the password fits; takes as long when it does not.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Self::Md5 {
                magic,
                salt,
                digest,
            } => same(
                md5_crypt(password, salt.as_bytes(), magic.as_bytes()).as_bytes(),
                digest.as_bytes(),
            ),
            Self::Sha1(digest) => same(&Sha1::digest(password), digest),
            Self::Unknown => false,
        }
    }
}

/// Nothing of a hash is printed.
impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

/// Compares without telling by time how much is equal.
fn same(a: &[u8], b: &[u8]) -> bool {
    let different = a
        .iter()
        .zip(b)
        .fold(0, |different, (a, b)| different | (a ^ b));
    a.len() == b.len() && std::hint::black_box(different) == 0
}

/// Poul-Henning Kamp's MD5-crypt, of which Apache's differs in the magic only.
fn md5_crypt(password: &[u8], salt: &[u8], magic: &[u8]) -> String {
    let inner = md5(&[password, salt, password]);
    let mut first = Md5::new();
    for part in [password, magic, salt] {
        first.update(part);
    }
    for chunk in password.chunks(inner.len()) {
        first.update(&inner[..chunk.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    let mut digest: [u8; 16] = first.finalize().into();
    for round in 0..1000 {
        let odd = round % 2 == 1;
        let mut parts: [&[u8]; 4] = [&digest, &[], &[], password];
        if odd {
            parts = [password, &[], &[], &digest];
        }
        if round % 3 != 0 {
            parts[1] = salt;
        }
        if round % 7 != 0 {
            parts[2] = password;
        }
        digest = md5(&parts);
    }
    encode(&digest)
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Crypt's own base 64, over the bytes in its own order.
fn encode(digest: &[u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut out = String::with_capacity(22);
    let mut push = |mut value: u32, length: usize| {
        for _ in 0..length {
            out.push(char::from(ALPHABET[(value & 63) as usize]));
            value >>= 6;
        }
    };
    for [high, middle, low] in ORDER {
        let byte = |at: usize| u32::from(digest[at]);
        push(byte(high) << 16 | byte(middle) << 8 | byte(low), 4);
    }
    push(u32::from(digest[11]), 2);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_verify() {
        let bcrypt = bcrypt::hash_with_result("test", 4).unwrap();
        let bcrypt = |version| bcrypt.format_for_version(version);
        for hash in [
            "$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/",
            "$1$abcdefgh$irWbblnpmw.5z7wgBnprh0",
            "{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=",
            &bcrypt(bcrypt::Version::TwoA),
            &bcrypt(bcrypt::Version::TwoB),
            &bcrypt(bcrypt::Version::TwoX),
            &bcrypt(bcrypt::Version::TwoY),
        ] {
            let hash_text = hash;
            let hash = Hash::read(hash);
            assert!(hash.verify(b"test"), "{hash_text}");
            assert!(!hash.verify(b"Test"), "{hash_text}");
            assert!(!hash.verify(b""), "{hash_text}");
        }
        let long = Hash::read("$1$ab$LBeR5V7lO9BfqTFDlyeIQ.");
        assert!(long.verify("a longer password than sixteen bytes é".as_bytes()));
    }

    #[test]
    fn other_kinds_fit_nothing() {
        for text in [
            "test",
            "",
            "$5$salt$x",
            "$6$salt$x",
            "rqXexS6ZhobKA",
            "{SHA}short",
            "$2y$05$x",
        ] {
            let hash = Hash::read(text);
            assert!(matches!(hash, Hash::Unknown), "{text}");
            assert!(!hash.verify(text.as_bytes()));
        }
    }
}
