//! What responders are asked, and what becomes of what they answer (RFC 6960).

use std::collections::BTreeMap;

use der::{Decode, Encode, asn1::OctetString, oid::AssociatedOid};
use rustls::{crypto::aws_lc_rs, pki_types::CertificateDer};
use sha1::{Digest, Sha1};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse,
    OcspResponseStatus, Request, SingleResponse, TbsRequest,
};
use x509_parser::{
    asn1_rs::Any,
    extensions::ParsedExtension,
    oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_OCSP,
    prelude::{FromDer, GeneralName, X509Certificate},
};

use crate::tls::Staple;

/// What responders are asked about one certificate.
#[derive(Debug)]
pub(super) struct Question {
    /// Whom to ask, in this order.
    pub(super) responders: Vec<String>,
    /// What to send.
    pub(super) request: Vec<u8>,
    id: CertId,
    issuer: Vec<u8>,
}

/// What a responder says of a certificate; signed by whom it must be, and in force.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good(Staple),
    Revoked {
        /// In seconds since 1970.
        at: i64,
        reason: Option<String>,
    },
}

impl Question {
    /// For a chain, leaf first; none if the leaf names no responder. `instead` are responders to ask in place of others.
    pub(super) fn of(
        chain: &[CertificateDer<'_>],
        instead: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, String> {
        let Some((_, leaf)) = chain.first().and_then(|leaf| parse(leaf)) else {
            return Ok(None);
        };
        let named = responders(&leaf);
        if named.is_empty() {
            return Ok(None);
        }
        let named = named.into_iter();
        let mut usable: Vec<String> = named
            .map(|url| instead.get(&url).cloned().unwrap_or(url))
            .filter(|url| url.starts_with("http://"))
            .collect();
        usable.truncate(MOST_RESPONDERS);
        if usable.is_empty() {
            return Err("its responder is not reached by http://".to_owned());
        }
        let is_issuer = |one: &&CertificateDer<'_>| {
            parse(one).is_some_and(|(_, one)| one.subject().as_raw() == leaf.issuer().as_raw())
        };
        let issuer = chain[1..].iter().find(is_issuer);
        let issuer = issuer.ok_or("its file does not hold the certificate of its issuer")?;
        let id = id(&leaf, issuer).ok_or("its number cannot be asked about")?;
        let list = Request {
            req_cert: id.clone(),
            single_request_extensions: None,
        };
        let asked = OcspRequest {
            tbs_request: TbsRequest {
                request_list: vec![list],
                ..TbsRequest::default()
            },
            optional_signature: None,
        };
        Ok(Some(Self {
            responders: usable,
            request: asked.to_der().map_err(|error| error.to_string())?,
            id,
            issuer: issuer.to_vec(),
        }))
    }

    /// Reads an answer at `now`, and believes nothing that is not signed by the issuer or on its behalf.
    pub(super) fn read(&self, answer: &[u8], now: i64) -> Result<Verdict, String> {
        let undecodable = |error: der::Error| format!("its answer cannot be decoded: {error}");
        let response = OcspResponse::from_der(answer).map_err(undecodable)?;
        if response.response_status != OcspResponseStatus::Successful {
            let status = response.response_status;
            return Err(format!("it does not answer: {status:?}"));
        }
        let bytes = response.response_bytes.ok_or("its answer is empty")?;
        if bytes.response_type != BasicOcspResponse::OID {
            return Err("its answer is of an unknown type".to_owned());
        }
        let basic = BasicOcspResponse::from_der(bytes.response.as_bytes()).map_err(undecodable)?;
        self.check_signature(&basic, bytes.response.as_bytes(), now)?;
        let mut answers = basic.tbs_response_data.responses.iter();
        let answer_of = answers.find(|one| self.is_about(&one.cert_id));
        let single = answer_of.ok_or("its answer is about another certificate")?;
        self.verdict(single, answer, now)
    }

    fn verdict(&self, single: &SingleResponse, answer: &[u8], now: i64) -> Result<Verdict, String> {
        let from = seconds(single.this_update);
        // Without an end it may be outdated at any time; a day is what browsers make of it.
        let until = single.next_update.map_or(from + DAY, seconds);
        if from > now + CLOCK_ERROR {
            return Err(
                "its answer is from the future: is the clock of this machine right?".into(),
            );
        }
        if until <= now {
            return Err("its answer is outdated".to_owned());
        }
        match single.cert_status {
            CertStatus::Good(_) => Ok(Verdict::Good(Staple {
                der: answer.into(),
                from,
                until,
            })),
            CertStatus::Revoked(info) => Ok(Verdict::Revoked {
                at: seconds(info.revocation_time),
                reason: info.revocation_reason.map(|reason| format!("{reason:?}")),
            }),
            CertStatus::Unknown(_) => Err("it does not know the certificate".to_owned()),
        }
    }

    /// The parameters of the hash algorithm are written in more than one way.
    fn is_about(&self, id: &CertId) -> bool {
        id.hash_algorithm.oid == self.id.hash_algorithm.oid
            && id.issuer_name_hash == self.id.issuer_name_hash
            && id.issuer_key_hash == self.id.issuer_key_hash
            && id.serial_number == self.id.serial_number
    }

    fn check_signature(
        &self,
        basic: &BasicOcspResponse,
        whole: &[u8],
        now: i64,
    ) -> Result<(), String> {
        let signed = Signed::of(whole).ok_or("its answer is not signed")?;
        let (_, issuer) = parse(&self.issuer).ok_or("the issuer cannot be decoded")?;
        if signed.is_by(&issuer) {
            return Ok(());
        }
        let given = basic.certs.iter().flatten().take(MOST_SIGNERS);
        let mut given = given.filter_map(|one| one.to_der().ok());
        let by_delegate = given.any(|one| {
            parse(&one).is_some_and(|(_, delegate)| {
                signed.is_by(&delegate) && may_sign(&delegate, &one, &issuer, now)
            })
        });
        match by_delegate {
            true => Ok(()),
            false => Err("its answer is signed neither by the issuer nor on its behalf".to_owned()),
        }
    }
}

/// Whether the issuer lets `delegate` answer for it (RFC 6960, section 4.2.2.2). Whether that has been revoked is not asked: responders'
/// certificates are short-lived for this reason.
fn may_sign(
    delegate: &X509Certificate<'_>,
    der: &[u8],
    issuer: &X509Certificate<'_>,
    now: i64,
) -> bool {
    let usage = delegate.extended_key_usage().ok().flatten();
    let validity = delegate.validity();
    usage.is_some_and(|usage| usage.value.ocsp_signing)
        && (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
        && delegate.issuer().as_raw() == issuer.subject().as_raw()
        && Signed::of(der).is_some_and(|signed| signed.is_by(issuer))
}

/// What certificates and answers have in common: something, how it is signed, and the signature, each as it was written.
struct Signed<'a> {
    message: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn of(der: &'a [u8]) -> Option<Self> {
        let (_, whole) = Any::from_der(der).ok()?;
        let (rest, _) = Any::from_der(whole.data).ok()?;
        let message = whole.data.get(..whole.data.len() - rest.len())?;
        let (rest, algorithm) = Any::from_der(rest).ok()?;
        let (_, signature) = Any::from_der(rest).ok()?;
        // A bit string begins with the number of bits that are not used.
        let (0, signature) = signature.data.split_first()? else {
            return None;
        };
        Some(Self {
            message,
            algorithm: algorithm.data,
            signature,
        })
    }

    /// With the algorithms by which servers' certificates may be signed.
    fn is_by(&self, signer: &X509Certificate<'_>) -> bool {
        let key = signer.public_key();
        let Some(kind) = key_algorithm(key.raw) else {
            return false;
        };
        let known = aws_lc_rs::default_provider().signature_verification_algorithms;
        known.all.iter().any(|one| {
            one.signature_alg_id().as_ref() == self.algorithm
                && one.public_key_alg_id().as_ref() == kind
                && one
                    .verify_signature(&key.subject_public_key.data, self.message, self.signature)
                    .is_ok()
        })
    }
}

/// The algorithm of a public key, as it was written.
fn key_algorithm(key: &[u8]) -> Option<&[u8]> {
    let (_, whole) = Any::from_der(key).ok()?;
    let (_, algorithm) = Any::from_der(whole.data).ok()?;
    Some(algorithm.data)
}

/// What a certificate is called in requests. The hashes name, they do not secure; responders know no others by heart.
fn id(leaf: &X509Certificate<'_>, issuer: &[u8]) -> Option<CertId> {
    let (_, issuer) = parse(issuer)?;
    let hash = |bytes: &[u8]| OctetString::new(Sha1::digest(bytes).to_vec()).ok();
    let number = leaf.tbs_certificate.raw_serial();
    let mut serial = vec![INTEGER, u8::try_from(number.len()).ok()?];
    serial.extend_from_slice(number);
    Some(CertId {
        hash_algorithm: Decode::from_der(SHA1).ok()?,
        issuer_name_hash: hash(issuer.subject().as_raw())?,
        issuer_key_hash: hash(&issuer.public_key().subject_public_key.data)?,
        serial_number: Decode::from_der(&serial).ok()?,
    })
}

/// The responders that a certificate names.
fn responders(leaf: &X509Certificate<'_>) -> Vec<String> {
    let extensions = leaf.extensions().iter();
    let access = extensions.filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(&access.accessdescs),
        _ => None,
    });
    access
        .flatten()
        .filter(|one| one.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP)
        .filter_map(|one| match &one.access_location {
            GeneralName::URI(url) => Some((*url).to_owned()),
            _ => None,
        })
        .collect()
}

fn parse(der: &[u8]) -> Option<(&[u8], X509Certificate<'_>)> {
    X509Certificate::from_der(der).ok()
}

fn seconds(time: OcspGeneralizedTime) -> i64 {
    i64::try_from(time.0.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

/// The tag of integers.
const INTEGER: u8 = 2;
/// SHA-1 as an algorithm identifier.
const SHA1: &[u8] = &[0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0];
/// How many responders of a certificate are asked.
const MOST_RESPONDERS: usize = 3;
/// How many certificates of an answer are looked at.
const MOST_SIGNERS: usize = 4;
/// In seconds: how far clocks may differ.
const CLOCK_ERROR: i64 = 300;
const DAY: i64 = 86_400;
