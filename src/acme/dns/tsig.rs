//! Messages signed with a shared key (RFC 8945), as name servers want them that let a zone be changed.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use hickory_resolver::proto::rr::Name;

/// A key that a name server knows too.
pub(super) struct TsigKey {
    name: Vec<u8>,
    algorithm: Vec<u8>,
    key: hmac::Key,
}

/// A signed message.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) bytes: Vec<u8>,
    mac: Vec<u8>,
}

impl TsigKey {
    /// The key `name`; `secret` is base64, `algorithm` as in `hmac-sha256`.
    pub(super) fn new(name: &str, algorithm: &str, secret: &str) -> Result<Self, String> {
        let plain = algorithm.trim_end_matches('.').to_ascii_lowercase();
        let known = ALGORITHMS.iter().find(|(known, _)| *known == plain);
        let Some((_, hash)) = known else {
            let known: Vec<&str> = ALGORITHMS.iter().map(|(known, _)| *known).collect();
            return Err(format!(
                "there is no algorithm {algorithm:?}: expected {}",
                known.join(", ")
            ));
        };
        let secret = BASE64.decode(secret.trim());
        let secret = secret.map_err(|_| "the secret is not base64".to_owned())?;
        Ok(Self {
            name: wire(name).ok_or_else(|| format!("{name:?} is not a name"))?,
            algorithm: wire(&plain).unwrap_or_default(),
            key: hmac::Key::new(*hash, &secret),
        })
    }

    /// `message`, signed at `time` (seconds since 1970).
    pub(super) fn sign(&self, message: &[u8], time: u64) -> Signed {
        let tail = Tail::at(time);
        let mac = self.mac(&[message], &tail);
        let id = &message[..2];
        let mut data = self.algorithm.clone();
        data.extend_from_slice(&time.to_be_bytes()[2..]);
        data.extend_from_slice(&FUDGE.to_be_bytes());
        data.extend_from_slice(&length(&mac));
        data.extend_from_slice(&mac);
        data.extend_from_slice(id);
        data.extend_from_slice(&[0; 4]);
        let mut bytes = message.to_vec();
        let records = u16::from_be_bytes([bytes[10], bytes[11]]) + 1;
        bytes[10..12].copy_from_slice(&records.to_be_bytes());
        bytes.extend_from_slice(&self.name);
        bytes.extend_from_slice(&TSIG.to_be_bytes());
        bytes.extend_from_slice(&ANY.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&length(&data));
        bytes.extend_from_slice(&data);
        Signed { bytes, mac }
    }

    /// Whether `answer` to `request` is from somebody who has the key too.
    pub(super) fn verify(&self, request: &Signed, answer: &[u8], now: u64) -> Result<(), String> {
        let (start, seal) = last(answer).ok_or("the answer is not signed")?;
        let ours = seal.name.eq_ignore_ascii_case(&self.name);
        if !ours || !seal.algorithm.eq_ignore_ascii_case(&self.algorithm) {
            return Err("the answer is signed with another key".to_owned());
        }
        // The message as it was before it was signed.
        let mut message = answer[..start].to_vec();
        message[..2].copy_from_slice(&seal.id.to_be_bytes());
        let records = u16::from_be_bytes([message[10], message[11]]).saturating_sub(1);
        message[10..12].copy_from_slice(&records.to_be_bytes());
        let signed = [&length(&request.mac)[..], &request.mac, &message].concat();
        let tail = Tail {
            time: seal.time,
            fudge: seal.fudge,
            error: seal.error,
            other: seal.other,
        };
        let whole = [signed, self.variables(&tail)].concat();
        hmac::verify(&self.key, &whole, seal.mac)
            .map_err(|_| "the signature of the answer is wrong".to_owned())?;
        match now.abs_diff(seal.time) <= u64::from(FUDGE) {
            true => Ok(()),
            false => Err("the answer is signed at another time: are the clocks right?".to_owned()),
        }
    }

    /// What is wrong with our signature, if the answer says so.
    pub(super) fn refused(answer: &[u8]) -> Option<String> {
        let (_, seal) = last(answer).filter(|(_, seal)| seal.error != 0)?;
        Some(refusal(seal.error))
    }

    fn mac(&self, parts: &[&[u8]], tail: &Tail<'_>) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part);
        }
        context.update(&self.variables(tail));
        context.sign().as_ref().to_vec()
    }

    /// What is signed beside the message (RFC 8945, 4.3.3).
    fn variables(&self, tail: &Tail<'_>) -> Vec<u8> {
        let mut bytes = self.name.clone();
        bytes.extend_from_slice(&ANY.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.algorithm);
        bytes.extend_from_slice(&tail.time.to_be_bytes()[2..]);
        bytes.extend_from_slice(&tail.fudge.to_be_bytes());
        bytes.extend_from_slice(&tail.error.to_be_bytes());
        bytes.extend_from_slice(&length(tail.other));
        bytes.extend_from_slice(tail.other);
        bytes
    }
}

impl std::fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TsigKey").finish_non_exhaustive()
    }
}

/// What differs between the signatures of a question and its answer.
struct Tail<'a> {
    time: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

impl Tail<'_> {
    /// Of a message that is fine.
    fn at(time: u64) -> Self {
        Self {
            time,
            fudge: FUDGE,
            error: 0,
            other: &[],
        }
    }
}

/// The signature at the end of a message.
struct Seal<'a> {
    name: &'a [u8],
    algorithm: &'a [u8],
    time: u64,
    fudge: u16,
    mac: &'a [u8],
    id: u16,
    error: u16,
    other: &'a [u8],
}

/// The signature of a message, and where it begins.
fn last(message: &[u8]) -> Option<(usize, Seal<'_>)> {
    let mut reader = Reader {
        bytes: message,
        at: 4,
    };
    let questions = reader.number()?;
    let records: usize = (0..3)
        .map(|_| reader.number().map(usize::from))
        .sum::<Option<_>>()?;
    for _ in 0..questions {
        reader.name()?;
        reader.take(4)?;
    }
    for _ in 1..records {
        reader.name()?;
        reader.take(8)?;
        let length = reader.number()?;
        reader.take(length.into())?;
    }
    let start = reader.at;
    let name = reader.name()?;
    let (kind, class) = (reader.number()?, reader.number()?);
    let lifetime = reader.take(4)?;
    let rest = usize::from(reader.number()?);
    let whole = message.len() - reader.at == rest;
    if records == 0 || (kind, class) != (TSIG, ANY) || lifetime != [0; 4] || !whole {
        return None;
    }
    let algorithm = reader.name()?;
    let time = reader
        .take(6)?
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let (fudge, length) = (reader.number()?, reader.number()?);
    let mac = reader.take(length.into())?;
    let (id, error, length) = (reader.number()?, reader.number()?, reader.number()?);
    let other = reader.take(length.into())?;
    let seal = Seal {
        name,
        algorithm,
        time,
        fudge,
        mac,
        id,
        error,
        other,
    };
    (reader.at == message.len()).then_some((start, seal))
}

/// Reads a message from front to back.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name as it stands there; one that goes on elsewhere ends here.
    fn name(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        loop {
            match *self.take(1)?.first()? {
                0 => break,
                length @ 1..=63 => drop(self.take(length.into())?),
                0xc0.. => {
                    self.take(1)?;
                    break;
                }
                _ => return None,
            }
        }
        self.bytes.get(start..self.at)
    }
}

/// A name in the form it is sent in, lower-case and whole.
fn wire(name: &str) -> Option<Vec<u8>> {
    let name = Name::from_ascii(name).ok()?.to_lowercase();
    let mut bytes = Vec::new();
    for label in name.iter() {
        bytes.push(u8::try_from(label.len()).ok()?);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    Some(bytes)
}

fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes()
}

fn refusal(error: u16) -> String {
    match error {
        16 => "the signature is wrong (is the secret right?)".to_owned(),
        17 => "it does not know the key".to_owned(),
        18 => "the clocks differ".to_owned(),
        error => format!("error {error}"),
    }
}

const ALGORITHMS: [(&str, hmac::Algorithm); 5] = [
    ("hmac-sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
    ("hmac-sha224", hmac::HMAC_SHA224),
    ("hmac-sha256", hmac::HMAC_SHA256),
    ("hmac-sha384", hmac::HMAC_SHA384),
    ("hmac-sha512", hmac::HMAC_SHA512),
];
const TSIG: u16 = 250;
/// The class of a signature.
const ANY: u16 = 255;
/// How many seconds the clocks may differ.
const FUDGE: u16 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(algorithm: &str) -> TsigKey {
        TsigKey::new("portway.", algorithm, "c2VjcmV0IHNlY3JldCBzZWNyZXQ=").unwrap()
    }

    /// A message without records.
    fn empty(flags: u8) -> Vec<u8> {
        vec![7, 9, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    }

    /// The answer of a server that has the key.
    fn answer(key: &TsigKey, request: &Signed, time: u64) -> Vec<u8> {
        let message = empty(0x80);
        let tail = Tail::at(time);
        let mac = key.mac(&[&length(&request.mac), &request.mac, &message], &tail);
        let own = key.sign(&message, time);
        let at = own
            .bytes
            .windows(own.mac.len())
            .position(|part| part == own.mac)
            .unwrap();
        [&own.bytes[..at], &mac, &own.bytes[at + mac.len()..]].concat()
    }

    #[test]
    fn an_answer_is_believed_if_it_is_signed_with_the_same_key_at_the_same_time() {
        for (algorithm, _) in ALGORITHMS {
            let key = key(algorithm);
            let request = key.sign(&empty(0x28), 1_000_000);
            let answer = answer(&key, &request, 1_000_010);
            assert_eq!(
                key.verify(&request, &answer, 1_000_020),
                Ok(()),
                "{algorithm}"
            );
            let late = key.verify(&request, &answer, 1_000_311).unwrap_err();
            assert!(late.contains("clocks"), "{late}");
            // Its number is compared before.
            for at in 2..answer.len() {
                let mut changed = answer.clone();
                changed[at] ^= 1;
                assert!(
                    key.verify(&request, &changed, 1_000_020).is_err(),
                    "{algorithm} {at}"
                );
            }
            for end in 0..answer.len() {
                assert!(
                    key.verify(&request, &answer[..end], 1_000_020).is_err(),
                    "{end}"
                );
            }
        }
    }

    #[test]
    fn keys_are_checked() {
        for (name, algorithm, secret, expected) in [
            ("key", "hmac-sha256.", "YQ==", None),
            ("key.example.", "HMAC-SHA512", " YQ==\n", None),
            ("key", "hmac-md5", "YQ==", Some("no algorithm")),
            ("key", "hmac-sha256", "?", Some("base64")),
            ("a..b", "hmac-sha256", "YQ==", Some("not a name")),
        ] {
            let wrong = TsigKey::new(name, algorithm, secret).err();
            match (&wrong, expected) {
                (None, None) => {}
                (Some(wrong), Some(part)) => assert!(wrong.contains(part), "{wrong}"),
                _ => panic!("{name} {algorithm}: {wrong:?}"),
            }
        }
    }
}
