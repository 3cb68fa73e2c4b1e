use std::{collections::BTreeMap, sync::Arc, time::Duration};

use der::{
    Decode, Encode,
    asn1::{BitString, GeneralizedTime, OctetString},
    oid::AssociatedOid,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SigningKey, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use x509_ocsp::{
    BasicOcspResponse, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse,
    OcspResponseStatus, ResponderId, ResponseBytes, ResponseData, RevokedInfo, SingleResponse,
};

use super::{
    book::{Book, Outcome},
    message::{Question, Verdict},
};
use crate::tls::{Certificate, Staple};

const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;
/// `ecdsa-with-SHA256`.
const ECDSA: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// An authority with one certificate, whose responder is `http://responder.test/`.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    leaf_key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        Self::with_responder("http://responder.test/")
    }

    fn with_responder(url: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.custom_extensions = vec![access(url)];
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&leaf_key, &issuer).unwrap().der().clone();
        Self {
            issuer,
            own,
            leaf,
            leaf_key,
        }
    }

    fn chain(&self) -> [CertificateDer<'static>; 2] {
        [self.leaf.clone(), self.own.clone()]
    }

    fn question(&self) -> Question {
        let question = Question::of(&self.chain(), &BTreeMap::new());
        question.unwrap().unwrap()
    }

    /// The certificate as it is configured.
    fn certificate(&self) -> Arc<Certificate> {
        let pem = |der: &[u8]| {
            use base64::{Engine, prelude::BASE64_STANDARD};
            let text = BASE64_STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        };
        let chain: String = self.chain().iter().map(|der| pem(der)).collect();
        let key = self.leaf_key.serialize_pem();
        Arc::new(Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap())
    }

    /// An answer, signed by the authority.
    fn answer(&self, change: impl FnOnce(&mut SingleResponse)) -> Vec<u8> {
        let mut single = self.single();
        change(&mut single);
        signed(single, self.issuer.key(), &[])
    }

    fn single(&self) -> SingleResponse {
        let asked = OcspRequest::from_der(&self.question().request).unwrap();
        SingleResponse {
            cert_id: asked.tbs_request.request_list[0].req_cert.clone(),
            cert_status: CertStatus::good(),
            this_update: at(NOW - HOUR),
            next_update: Some(at(NOW + HOUR)),
            single_extensions: None,
        }
    }

    /// A certificate that the authority signs for a responder.
    fn delegate(&self, change: impl FnOnce(&mut CertificateParams)) -> (KeyPair, Vec<u8>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (key, certificate.der().to_vec())
    }
}

/// An answer with these certificates.
fn signed(single: SingleResponse, signer: &KeyPair, certificates: &[&[u8]]) -> Vec<u8> {
    let data = ResponseData {
        version: Default::default(),
        responder_id: ResponderId::ByKey(OctetString::new([7; 20]).unwrap()),
        produced_at: at(NOW),
        responses: vec![single],
        response_extensions: None,
    };
    let signature = signer.sign(&data.to_der().unwrap()).unwrap();
    let certificates = certificates.iter();
    let certificates: Vec<_> = certificates
        .map(|der| Decode::from_der(der).unwrap())
        .collect();
    let basic = BasicOcspResponse {
        tbs_response_data: data,
        signature_algorithm: Decode::from_der(ECDSA).unwrap(),
        signature: BitString::from_bytes(&signature).unwrap(),
        certs: (!certificates.is_empty()).then_some(certificates),
    };
    let response = OcspResponse {
        response_status: OcspResponseStatus::Successful,
        response_bytes: Some(ResponseBytes {
            response_type: BasicOcspResponse::OID,
            response: OctetString::new(basic.to_der().unwrap()).unwrap(),
        }),
    };
    response.to_der().unwrap()
}

/// An authority information access extension.
fn access(url: &str) -> CustomExtension {
    let put = |tag: u8, content: &[u8]| {
        let mut der = vec![tag, u8::try_from(content.len()).unwrap()];
        der.extend_from_slice(content);
        der
    };
    let mut one = put(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1]);
    one.extend(put(0x86, url.as_bytes()));
    let content = put(0x30, &put(0x30, &one));
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)
}

fn at(seconds: i64) -> OcspGeneralizedTime {
    let since = Duration::from_secs(seconds.try_into().unwrap());
    OcspGeneralizedTime(GeneralizedTime::from_unix_duration(since).unwrap())
}

#[test]
fn a_good_answer_becomes_a_staple() {
    let authority = Authority::new();
    let answer = authority.answer(|_| {});
    let staple = Staple {
        der: answer.clone().into(),
        from: NOW - HOUR,
        until: NOW + HOUR,
    };
    let read = authority.question().read(&answer, NOW);
    assert_eq!(read, Ok(Verdict::Good(staple)));
    // By a delegate.
    let (key, der) = authority.delegate(|_| {});
    let answer = signed(authority.single(), &key, &[&authority.own, &der]);
    let read = authority.question().read(&answer, NOW);
    assert!(matches!(read, Ok(Verdict::Good(_))), "{read:?}");
    // Without an end.
    let answer = authority.answer(|answer| answer.next_update = None);
    match authority.question().read(&answer, NOW) {
        Ok(Verdict::Good(staple)) => assert_eq!(staple.until, NOW + 23 * HOUR),
        other => panic!("{other:?}"),
    }
}

#[test]
fn revoked_is_told_with_its_time_and_reason() {
    let authority = Authority::new();
    let answer = authority.answer(|answer| {
        answer.cert_status = CertStatus::revoked(RevokedInfo {
            revocation_time: at(NOW - 77),
            revocation_reason: Some(x509_reason()),
        });
    });
    let revoked = Verdict::Revoked {
        at: NOW - 77,
        reason: Some("KeyCompromise".to_owned()),
    };
    assert_eq!(authority.question().read(&answer, NOW), Ok(revoked));
}

fn x509_reason<T: for<'a> Decode<'a>>() -> T {
    T::from_der(&[0x0a, 1, 1]).unwrap()
}

#[test]
fn answers_that_prove_nothing_are_refused() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let (unfit, unfit_der) = authority.delegate(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let (old, old_der) = authority.delegate(|params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let (foreign, foreign_der) = stranger.delegate(|_| {});
    let (kept, _) = authority.delegate(|_| {});
    let by = |key: &KeyPair, der: &[u8]| signed(authority.single(), key, &[der]);
    let neither = "neither by the issuer nor on its behalf";
    let mut spoilt = authority.answer(|_| {});
    // In the middle of what is signed: a digit of a time.
    let place = spoilt
        .windows(8)
        .position(|part| part.ends_with(b"Z"))
        .unwrap();
    spoilt[place + 6] ^= 1;
    let cases = [
        (b"rubbish".to_vec(), "cannot be decoded"),
        (Vec::new(), "cannot be decoded"),
        (vec![0x30, 3, 0x0a, 1, 3], "TryLater"),
        (vec![0x30, 3, 0x0a, 1, 0], "empty"),
        (stranger.answer(|_| {}), neither),
        (by(&unfit, &unfit_der), neither),
        (by(&old, &old_der), neither),
        (by(&foreign, &foreign_der), neither),
        (by(&authority.leaf_key, &authority.leaf), neither),
        // It does not send its certificate.
        (by(&kept, &authority.own), neither),
        (spoilt, neither),
        (
            authority.answer(|answer| answer.cert_status = CertStatus::unknown()),
            "does not know",
        ),
        (
            authority.answer(|answer| answer.next_update = Some(at(NOW))),
            "outdated",
        ),
        (
            authority.answer(|answer| answer.this_update = at(NOW + 301)),
            "future",
        ),
        (
            authority.answer(|answer| {
                answer.cert_id.issuer_key_hash = OctetString::new([1; 20]).unwrap();
            }),
            "another certificate",
        ),
    ];
    for (answer, expected) in cases {
        let wrong = authority.question().read(&answer, NOW).unwrap_err();
        assert!(wrong.contains(expected), "{wrong}: {expected}");
    }
    // However an answer is cut, nothing panics.
    let answer = authority.answer(|_| {});
    for length in 0..answer.len() {
        assert!(authority.question().read(&answer[..length], NOW).is_err());
    }
}

#[test]
fn only_certificates_with_a_responder_and_an_issuer_are_asked_about() {
    let authority = Authority::new();
    let none = BTreeMap::new();
    assert_eq!(authority.question().responders, ["http://responder.test/"]);
    let over = |instead: &str| {
        let instead = [("http://responder.test/".to_owned(), instead.to_owned())];
        Question::of(&authority.chain(), &instead.into())
    };
    let overridden = over("http://127.0.0.1:9/x").unwrap().unwrap();
    assert_eq!(overridden.responders, ["http://127.0.0.1:9/x"]);
    assert!(over("https://a.test").unwrap_err().contains("http://"));
    let stranger = Authority::with_responder("ldap://a.test");
    let wrong = Question::of(&stranger.chain(), &none).unwrap_err();
    assert!(wrong.contains("http://"), "{wrong}");
    let wrong = Question::of(&authority.chain()[..1], &none).unwrap_err();
    assert!(wrong.contains("issuer"), "{wrong}");
    // The authority's own certificate names no responder.
    let own = [authority.own.clone(), authority.own.clone()];
    assert!(Question::of(&own, &none).unwrap().is_none());
    assert!(Question::of(&[], &none).unwrap().is_none());
}

fn staple(until: i64) -> Staple {
    Staple {
        der: [1, 2, 3].into(),
        from: NOW,
        until,
    }
}

#[test]
fn a_staple_is_refreshed_at_half_of_its_life_and_kept_as_long_as_it_holds() {
    let certificate = Authority::new().certificate();
    let known = certificate.facts().fingerprint.clone();
    let mut book = Book::new(BTreeMap::new());
    assert!(book.follow(&[Arc::clone(&certificate)], NOW).is_empty());
    assert_eq!(book.begin(NOW).unwrap().0, known);
    // It is being asked about.
    assert!(book.begin(NOW + 60).is_none());
    let take = |book: &mut Book, answer, now, chance| {
        let (_, outcome) = book.take(&known, answer, (now, chance)).unwrap();
        outcome
    };
    let until = NOW + 1000;
    let good = Ok(Verdict::Good(staple(until)));
    let next = NOW + 500 + 42;
    let outcome = take(&mut book, good, NOW, 42);
    assert_eq!(outcome, Outcome::Good { until, next });
    assert_eq!(book.staples().get(&known), Some(&Arc::new(staple(until))));
    assert!(book.begin(next - 1).is_none());
    // Its responder is away: it is tried again, ever more rarely, and what is there is kept.
    let mut now = next;
    for pause in [5, 10, 20, 40, 80, 160] {
        assert!(book.begin(now).is_some());
        let outcome = take(&mut book, Err("away".to_owned()), now, 0);
        let failed = Outcome::Failed {
            error: "away".to_owned(),
            next: now + pause,
            until: Some(until),
        };
        assert_eq!(outcome, failed);
        now += pause;
    }
    assert_eq!(book.next(), Some(now));
    assert!(book.expire(until - 1).is_empty());
    assert_eq!(book.expire(until).len(), 1);
    assert!(book.staples().get(&known).is_none());
    assert!(book.expire(until).is_empty());
    for _ in 0..40 {
        assert!(book.begin(now).is_some());
        take(&mut book, Err("away".to_owned()), now, u64::MAX);
        now = book.next().unwrap();
    }
    assert!(book.begin(now).is_some());
    let outcome = take(&mut book, Err("away".to_owned()), now, 0);
    assert_eq!(book.next(), Some(now + HOUR), "{outcome:?}");
    // Back again; what came is nearly over, and comes again and again.
    let outcome = take(&mut book, Ok(Verdict::Good(staple(now + 4))), now, 0);
    assert_eq!(
        outcome,
        Outcome::Good {
            until: now + 4,
            next: now + 5
        }
    );
}

#[test]
fn a_revoked_certificate_loses_its_staple_at_once() {
    let certificate = Authority::new().certificate();
    let known = certificate.facts().fingerprint.clone();
    let mut book = Book::new(BTreeMap::new());
    book.follow(&[Arc::clone(&certificate)], NOW);
    let good = Ok(Verdict::Good(staple(NOW + 1000)));
    book.take(&known, good, (NOW, 0)).unwrap();
    let revoked = Ok(Verdict::Revoked {
        at: NOW,
        reason: None,
    });
    let (_, outcome) = book.take(&known, revoked, (NOW + 500, 0)).unwrap();
    let next = NOW + 500 + HOUR;
    let expected = Outcome::Revoked {
        at: NOW,
        reason: None,
        next,
    };
    assert_eq!(outcome, expected);
    assert!(book.staples().get(&known).is_none());
    assert_eq!(book.next(), Some(next));
    // Replaced: an answer that comes late is nobody's any more.
    let other = Authority::new().certificate();
    book.follow(std::slice::from_ref(&other), NOW);
    assert!(book.take(&known, Err(String::new()), (NOW, 0)).is_none());
    assert_eq!(book.begin(NOW).unwrap().0, other.facts().fingerprint);
    let states = book.states();
    assert_eq!(
        (states.len(), &*states[0].sans),
        (1, &["a.test".to_owned()][..])
    );
}

#[test]
fn a_certificate_that_cannot_be_asked_about_is_told_once() {
    let mute = Authority::with_responder("https://responder.test").certificate();
    let mut book = Book::new(BTreeMap::new());
    for told in [1, 0, 0] {
        assert_eq!(book.follow(&[Arc::clone(&mute)], NOW).len(), told);
        assert!(book.begin(NOW).is_none());
        assert_eq!(book.next(), None);
    }
}
