//! The test vectors of the standard (Level 3, section "Test Vectors"), and each check made to fail.

use serde_json::Value;
use testkit::authenticator::{Algorithm, Authenticator, PRESENT};

use crate::authenticator_data::AuthenticatorData;
use crate::{Assertion, PublicKey, Refused, RelyingParty, UserVerification, authenticate, cbor, register};

const ORIGIN: &str = "https://example.org";

fn party() -> RelyingParty {
    RelyingParty { id: "example.org".to_owned(), origin: ORIGIN.to_owned() }
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_vectors_of_the_standard_are_accepted_and_refused_as_they_should_be() {
    let file: Value = serde_json::from_str(include_str!("../tests/w3c.json")).unwrap();
    let (mut accepted, mut signed) = (0, 0);
    for (name, vector) in file["vectors"].as_object().unwrap() {
        let of = |part: &str, field: &str| unhex(&vector[part][field]);
        let object = of("registration", "attestationObject");
        let registered = register(
            &party(),
            &of("registration", "challenge"),
            UserVerification::Any,
            &of("registration", "clientDataJSON"),
            &object,
        );
        let expected = match name.as_str() {
            "none.ES256" | "none.ES256.long-credential-id" | "packed-self.ES256" => None,
            "none.ES256.crossOrigin" | "none.ES256.topOrigin" => Some(Refused::Origin),
            "packed.ES384" | "packed.ES512" | "packed.Ed448" => Some(Refused::Key),
            _ => Some(Refused::Attestation),
        };
        assert_eq!(registered.as_ref().err().copied(), expected, "{name}");
        accepted += usize::from(registered.is_ok());

        let object = cbor::read_all(&object).unwrap();
        let data = AuthenticatorData::parse(object.named("authData").unwrap().bytes().unwrap());
        let Ok(data) = data else {
            assert_eq!(data.unwrap_err(), Refused::Key, "{name}");
            continue;
        };
        let credential = data.credential.unwrap();
        let key = PublicKey::from_bytes(&credential.key.to_bytes()).unwrap();
        assert_eq!(key, credential.key, "{name}: what is stored is what was read");
        let assertion = Assertion {
            credential_id: credential.id,
            client_data_json: of("authentication", "clientDataJSON"),
            authenticator_data: of("authentication", "authenticatorData"),
            signature: of("authentication", "signature"),
        };
        let challenge = of("authentication", "challenge");
        let result = authenticate(&party(), &challenge, UserVerification::Any, &key, 0, &assertion);
        if expected == Some(Refused::Origin) {
            assert_eq!(result, Err(Refused::Origin), "{name}");
            continue;
        }
        assert!(result.is_ok(), "{name}: {result:?}");
        signed += 1;
        let mut changed = assertion.clone();
        *changed.signature.last_mut().unwrap() ^= 1;
        assert_eq!(
            authenticate(&party(), &challenge, UserVerification::Any, &key, 0, &changed),
            Err(Refused::Signature),
            "{name}"
        );
    }
    assert_eq!((accepted, signed), (3, 10));
}

fn assertion(authenticator: &Authenticator, got: testkit::authenticator::Got) -> Assertion {
    Assertion {
        credential_id: authenticator.credential_id.clone(),
        client_data_json: got.client_data_json,
        authenticator_data: got.authenticator_data,
        signature: got.signature,
    }
}

const CHALLENGE: &[u8] = b"0123456789abcdef";

#[test]
fn a_credential_of_each_algorithm_registers_and_signs_in() {
    for algorithm in [Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa] {
        let mut authenticator = Authenticator::new(algorithm, "example.org", ORIGIN);
        let created = authenticator.create(CHALLENGE);
        let registered = register(
            &party(),
            CHALLENGE,
            UserVerification::Required,
            &created.client_data_json,
            &created.attestation_object,
        )
        .unwrap();
        assert_eq!(registered.credential_id, authenticator.credential_id);
        assert_eq!(registered.public_key.to_bytes(), authenticator.cose_key());
        assert!(PublicKey::ALGORITHMS.contains(&registered.public_key.algorithm()));
        let got = authenticator.get(b"another challenge");
        let count = authenticate(
            &party(),
            b"another challenge",
            UserVerification::Required,
            &registered.public_key,
            registered.sign_count,
            &assertion(&authenticator, got),
        )
        .unwrap();
        assert!(count.user_verified && count.sign_count > registered.sign_count);
    }
}

/// What an attacker changes about an authenticator, and what it is refused as.
type Wrong = (&'static str, fn(&mut Authenticator), Refused);

const WRONG: [Wrong; 6] = [
    ("another origin", |a| a.origin = "https://evil.example".to_owned(), Refused::Origin),
    ("an origin that begins alike", |a| a.origin = "https://example.org.evil.example".to_owned(), Refused::Origin),
    ("another scheme", |a| a.origin = "http://example.org".to_owned(), Refused::Origin),
    ("inside another page", |a| a.cross_origin = true, Refused::Origin),
    ("another relying party", |a| a.party = "evil.example".to_owned(), Refused::RelyingParty),
    ("nobody there", |a| a.flags = 0b100, Refused::NotPresent),
];

#[test]
fn a_registration_that_is_wrong_in_one_point_is_refused_for_it() {
    let create = |change: &dyn Fn(&mut Authenticator)| {
        let mut authenticator = Authenticator::new(Algorithm::EdDsa, "example.org", ORIGIN);
        change(&mut authenticator);
        let created = authenticator.create(CHALLENGE);
        (authenticator, created)
    };
    let refused = |created: &testkit::authenticator::Created, verification| {
        register(&party(), CHALLENGE, verification, &created.client_data_json, &created.attestation_object).unwrap_err()
    };
    for (what, change, expected) in WRONG {
        assert_eq!(refused(&create(&change).1, UserVerification::Any), expected, "{what}");
    }
    let (_, unverified) = create(&|a| a.flags = PRESENT);
    assert_eq!(refused(&unverified, UserVerification::Required), Refused::NotVerified);
    let (_, backed_up) = create(&|a| a.flags = 0b1_0001);
    assert_eq!(refused(&backed_up, UserVerification::Any), Refused::Malformed("authenticator data"));
    let (_, too_long) = create(&|a| a.credential_id = vec![1; 1_024]);
    assert_eq!(refused(&too_long, UserVerification::Any), Refused::Malformed("authenticator data"));
    let (_, empty) = create(&|a| a.credential_id = Vec::new());
    assert_eq!(refused(&empty, UserVerification::Any), Refused::Malformed("authenticator data"));

    let (authenticator, good) = create(&|_| {});
    let mut other = good.clone();
    other.client_data_json = authenticator.client_data("webauthn.create", b"fedcba9876543210");
    assert_eq!(refused(&other, UserVerification::Any), Refused::Challenge);
    other.client_data_json = authenticator.client_data("webauthn.get", CHALLENGE);
    assert_eq!(refused(&other, UserVerification::Any), Refused::Ceremony);
    let text = String::from_utf8(good.client_data_json.clone()).unwrap();
    for json in [
        text.replacen('{', r#"{"origin":"https://evil.example","#, 1),
        format!("{text} x"),
        text.replace("false", "\"false\""),
        text.replace("\"type\"", "\"kind\""),
        format!("\u{feff}{text}"),
        "[]".to_owned(),
        String::new(),
        " ".repeat(9_000) + &text,
    ] {
        other.client_data_json = json.clone().into_bytes();
        assert_eq!(refused(&other, UserVerification::Any), Refused::Malformed("client data"), "{json:.80}");
    }
    for cut in 0..good.attestation_object.len() {
        let mut cut_short = good.clone();
        cut_short.attestation_object.truncate(cut);
        refused(&cut_short, UserVerification::Any);
    }
    let mut longer = good.clone();
    longer.attestation_object.push(0);
    assert_eq!(refused(&longer, UserVerification::Any), Refused::Malformed("attestation object"));
    let mut attested = good.clone();
    let at = attested.attestation_object.windows(4).position(|window| window == b"none").unwrap();
    attested.attestation_object[at..at + 4].copy_from_slice(b"tpm\0");
    assert_eq!(refused(&attested, UserVerification::Any), Refused::Attestation);
    // A short challenge is the caller's mistake, and no excuse.
    let created = authenticator.create(b"short");
    assert_eq!(
        register(&party(), b"short", UserVerification::Any, &created.client_data_json, &created.attestation_object),
        Err(Refused::Challenge)
    );
}

#[test]
fn a_self_attestation_is_of_the_credential_itself_or_refused() {
    let object = |signer: &Authenticator, of: &Authenticator, algorithm: u8| {
        let client_data = of.client_data("webauthn.create", CHALLENGE);
        let data = of.authenticator_data(true);
        let signature = signer.sign(&[data.as_slice(), &crypto::sha256(&client_data).0].concat());
        let mut object = b"\xa3\x63fmt\x66packed\x67attStmt\xa2\x63alg".to_vec();
        object.push(algorithm);
        object.extend(b"\x63sig\x58\x40");
        object.extend(signature);
        object.extend(b"\x68authData\x58");
        object.push(u8::try_from(data.len()).unwrap());
        object.extend(data);
        register(&party(), CHALLENGE, UserVerification::Any, &client_data, &object)
    };
    let new = || Authenticator::new(Algorithm::EdDsa, "example.org", ORIGIN);
    let (ours, other) = (new(), new());
    assert!(object(&ours, &ours, 0x27).is_ok());
    assert_eq!(object(&other, &ours, 0x27), Err(Refused::Signature));
    assert_eq!(object(&ours, &ours, 0x26), Err(Refused::Attestation));
}

#[test]
fn an_assertion_that_is_wrong_in_one_point_is_refused_for_it() {
    let mut authenticator = Authenticator::new(Algorithm::Es256, "example.org", ORIGIN);
    let key = PublicKey::from_bytes(&authenticator.cose_key()).unwrap();
    let check = |key: &PublicKey, count: u32, verification, assertion: &Assertion| {
        authenticate(&party(), CHALLENGE, verification, key, count, assertion)
    };
    for (what, change, expected) in WRONG {
        let mut wrong = Authenticator::new(Algorithm::Es256, "example.org", ORIGIN);
        let key = PublicKey::from_bytes(&wrong.cose_key()).unwrap();
        change(&mut wrong);
        let got = wrong.get(CHALLENGE);
        let refused = check(&key, 0, UserVerification::Any, &assertion(&wrong, got));
        assert_eq!(refused, Err(expected), "{what}");
    }
    let got = authenticator.get(CHALLENGE);
    let good = assertion(&authenticator, got);
    assert_eq!(check(&key, 1, UserVerification::Required, &good).unwrap().sign_count, 2);
    for stored in [2, 3, u32::MAX] {
        assert_eq!(check(&key, stored, UserVerification::Any, &good), Err(Refused::Counter), "{stored}");
    }
    let other = Authenticator::new(Algorithm::Es256, "example.org", ORIGIN);
    let other = PublicKey::from_bytes(&other.cose_key()).unwrap();
    assert_eq!(check(&other, 0, UserVerification::Any, &good), Err(Refused::Signature));
    let eddsa = Authenticator::new(Algorithm::EdDsa, "example.org", ORIGIN);
    let eddsa = PublicKey::from_bytes(&eddsa.cose_key()).unwrap();
    assert_eq!(check(&eddsa, 0, UserVerification::Any, &good), Err(Refused::Signature));
    // Every bit of what is signed counts.
    for at in 0..good.authenticator_data.len() * 8 {
        let mut flipped = good.clone();
        flipped.authenticator_data[at / 8] ^= 1 << (at % 8);
        assert!(check(&key, 0, UserVerification::Any, &flipped).is_err(), "{at}");
    }
    for at in 0..good.client_data_json.len() * 8 {
        let mut flipped = good.clone();
        flipped.client_data_json[at / 8] ^= 1 << (at % 8);
        assert!(check(&key, 0, UserVerification::Any, &flipped).is_err(), "{at}");
    }
    authenticator.flags = PRESENT;
    let got = authenticator.get(CHALLENGE);
    let unverified = assertion(&authenticator, got);
    assert_eq!(check(&key, 0, UserVerification::Required, &unverified), Err(Refused::NotVerified));
    assert!(!check(&key, 0, UserVerification::Any, &unverified).unwrap().user_verified);
    // One without a counter.
    authenticator.sign_count = 0;
    let got = authenticator.get(CHALLENGE);
    let uncounted = assertion(&authenticator, got);
    assert_eq!(check(&key, 0, UserVerification::Any, &uncounted).unwrap().sign_count, 0);
    assert_eq!(check(&key, 7, UserVerification::Any, &uncounted), Err(Refused::Counter), "it had one before");
}

#[test]
fn keys_that_are_not_offered_or_not_exact_are_refused() {
    let good = Authenticator::new(Algorithm::Es256, "example.org", ORIGIN).cose_key();
    assert!(PublicKey::from_bytes(&good).is_ok());
    let change = |at: usize, byte: u8| {
        let mut key = good.clone();
        key[at] = byte;
        key
    };
    let keys = [
        change(2, 1),                                      // another kind of key
        change(4, 0x38),                                   // another algorithm
        change(6, 2),                                      // another curve
        change(10, good[10] ^ 1),                          // off the curve
        [&[0xa6][..], &good[1..], &[0x04, 0x80]].concat(), // one member more
        [&good[..], &[0]].concat(),
        vec![0xa0],
        vec![],
    ];
    for key in keys {
        assert_eq!(PublicKey::from_bytes(&key), Err(Refused::Key), "{key:02x?}");
    }
    let small_order = [&[0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20][..], &[0; 32]].concat();
    assert_eq!(PublicKey::from_bytes(&small_order), Err(Refused::Key));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes: Vec<u8>) {
        let _ = AuthenticatorData::parse(&bytes);
        let _ = PublicKey::from_bytes(&bytes);
        let client_data = Authenticator::new(Algorithm::EdDsa, "example.org", ORIGIN).client_data("webauthn.create", CHALLENGE);
        proptest::prop_assert!(register(&party(), CHALLENGE, UserVerification::Any, &client_data, &bytes).is_err());
    }
}
