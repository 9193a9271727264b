//! Tokens of ours, tokens of attackers, and keys that are not what they seem.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING};
use serde_json::Map;

use super::*;
use crate::{hmac_sha256, jwt};

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with any header and claims and a right signature over them: what an attacker with an oracle could present at best.
fn forge(key: &SigningKey, header: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = key.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(signature))
}

fn set(keys: &[&SigningKey]) -> KeySet {
    KeySet::new(keys.iter().map(|key| key.public().clone()).collect())
}

#[test]
fn a_token_verifies_with_the_key_that_it_names_and_with_no_other() {
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let claims = json!({"sub": "usr_x", "exp": 1});
    let token = key.sign_jwt(&claims).unwrap();
    assert_eq!(verify_jwt(&token, &set(&[&other, &key])), Ok(claims));
    assert_eq!(verify_jwt(&token, &set(&[&other])), Err(Es512Error::UnknownKey));
    assert_eq!(verify_jwt(&token, &set(&[])), Err(Es512Error::UnknownKey));
    let header = json!({"alg": "ES512", "kid": key.public().kid(), "typ": "JWT"}).to_string();
    let by_another = forge(&other, header.as_bytes(), b"{}");
    assert_eq!(verify_jwt(&by_another, &set(&[&other, &key])), Err(Es512Error::Signature));
}

#[test]
fn keys_survive_their_storage_and_their_set() {
    let key = SigningKey::generate().unwrap();
    let again = SigningKey::from_pkcs8(key.to_pkcs8().unwrap().expose()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(PublicKey::from_bytes(key.public().as_bytes()).unwrap(), *key.public());
    let published = set(&[&key]).to_json();
    let read = KeySet::parse(published.to_string().as_bytes()).unwrap();
    assert_eq!(read, set(&[&key]));
    assert!(read.knows(key.public().kid()));
    assert!(verify_jwt(&again.sign_jwt(&json!({})).unwrap(), &read).is_ok());
    let shown = format!("{key:?} {published}");
    let secret = key.pair.private_key();
    let secret =
        aws_lc_rs::encoding::AsBigEndian::<aws_lc_rs::encoding::EcPrivateKeyBin<'static>>::as_be_bytes(&secret);
    assert!(!shown.contains(&encode(secret.unwrap().as_ref())), "{shown}");
}

#[test]
fn attack_3_a_set_has_keys_for_es512_under_their_own_names_only() {
    let key = SigningKey::generate().unwrap();
    let good = key.public().to_jwk();
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        json!({"keys": [jwk]}).to_string()
    };
    assert!(KeySet::parse(with("more", json!(1)).as_bytes()).is_ok());
    let other = SigningKey::generate().unwrap();
    let short = encode([1; 65]);
    for (name, value) in [
        ("kty", json!("oct")),
        ("crv", json!("P-256")),
        ("alg", json!("ES256")),
        ("alg", Value::Null),
        ("use", json!("enc")),
        ("kid", json!("another")),
        ("kid", json!(other.public().kid())),
        ("x", json!(short)),
        ("x", good["y"].clone()),
        ("y", json!(encode([0; 66]))),
        ("d", json!(encode([1; 66]))),
    ] {
        assert_eq!(KeySet::parse(with(name, value.clone()).as_bytes()), Err(CryptoError::Key), "{name} {value}");
    }
    for bad in ["", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(KeySet::parse(bad.as_bytes()), Err(CryptoError::Key), "{bad}");
    }
    assert!(PublicKey::from_bytes(&[4; PUBLIC_BYTES]).is_err(), "no point of the curve");
    assert!(PublicKey::from_bytes(&key.public().as_bytes()[..PUBLIC_BYTES - 1]).is_err());
}

#[test]
fn attack_1_to_4_and_6_a_header_is_exactly_ours() {
    let key = SigningKey::generate().unwrap();
    let (keys, kid) = (set(&[&key]), key.public().kid().to_owned());
    let header = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut header = json!({"alg": "ES512", "kid": kid, "typ": "JWT"});
        change(header.as_object_mut().unwrap());
        header.to_string()
    };
    assert!(verify_jwt(&forge(&key, header(&|_| {}).as_bytes(), b"{}"), &keys).is_ok());
    for alg in ["none", "None", "nOnE", "", "HS256", "HS512", "ES256", "ES384", "es512", "ES521", "EdDSA", "RS256"] {
        let text = header(&|members| drop(members.insert("alg".to_owned(), json!(alg))));
        assert_eq!(verify_jwt(&forge(&key, text.as_bytes(), b"{}"), &keys), Err(Es512Error::Malformed), "{alg}");
    }
    let jwk = SigningKey::generate().unwrap().public().to_jwk();
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/x5u")),
        ("x5c", json!([])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
    ] {
        let text = header(&|members| drop(members.insert(name.to_owned(), value.clone())));
        assert_eq!(verify_jwt(&forge(&key, text.as_bytes(), b"{}"), &keys), Err(Es512Error::Malformed), "{name}");
    }
    for gone in ["alg", "kid", "typ"] {
        let text = header(&|members| drop(members.remove(gone)));
        assert_eq!(verify_jwt(&forge(&key, text.as_bytes(), b"{}"), &keys), Err(Es512Error::Malformed), "{gone}");
    }
    let twice = format!(r#"{{"alg":"ES512","alg":"ES512","kid":"{kid}","typ":"JWT"}}"#);
    assert_eq!(verify_jwt(&forge(&key, twice.as_bytes(), b"{}"), &keys), Err(Es512Error::Malformed));
    // Our public key as the secret of a MAC, and no signature at all.
    let signed = format!("{}.{}", encode(r#"{"alg":"HS256","typ":"JWT"}"#), encode("{}"));
    for secret in [key.public().as_bytes(), set(&[&key]).to_json().to_string().as_bytes()] {
        let token = format!("{signed}.{}", encode(hmac_sha256(secret, signed.as_bytes())));
        assert_eq!(verify_jwt(&token, &keys), Err(Es512Error::Malformed));
    }
    assert_eq!(
        verify_jwt(&format!("{}.{}.", encode(header(&|_| {})), encode("{}")), &keys),
        Err(Es512Error::Signature)
    );
    // Nor is one of ours a session's token.
    let token = key.sign_jwt(&json!({})).unwrap();
    assert!(jwt::verify_hs256(&token, key.public().as_bytes()).is_err());
}

#[test]
fn attack_5_a_signature_has_the_fixed_form_and_both_halves_in_range() {
    let key = SigningKey::generate().unwrap();
    let keys = set(&[&key]);
    let token = key.sign_jwt(&json!({"a": 1})).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let good = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert_eq!(good.len(), SIGNATURE_BYTES);
    let with = |signature: &[u8]| verify_jwt(&format!("{signed}.{}", encode(signature)), &keys);
    assert!(with(&good).is_ok());
    for bit in (0..good.len() * 8).step_by(7) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(with(&bad), Err(Es512Error::Signature), "bit {bit}");
    }
    // The group's order n, big-endian: s + n and s = n are out of range.
    let order = "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409";
    let order: Vec<u8> = (0..66).map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap()).collect();
    for bad in [
        vec![0; 132],
        [&good[..66], &[0; 66]].concat(),
        [&[0; 66], &good[66..]].concat(),
        [&good[..66], &order[..]].concat(),
        [&order[..], &good[66..]].concat(),
        vec![0xff; 132],
        good[..131].to_vec(),
        [&good[..], &[0]].concat(),
        [&[0], &good[..]].concat(),
        Vec::new(),
    ] {
        assert_eq!(with(&bad), Err(Es512Error::Signature));
    }
    // The same key's signature in DER.
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_ASN1_SIGNING, key.to_pkcs8().unwrap().expose()).unwrap();
    let der = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    assert_eq!(with(der.as_ref()), Err(Es512Error::Signature));
    // A key of another curve is none.
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    assert!(PublicKey::from_bytes(p384.public_key().as_ref()).is_err());
    assert!(SigningKey::from_pkcs8(p384.to_pkcs8v1().unwrap().as_ref()).is_err());
}

#[test]
fn attack_6_a_token_has_one_spelling() {
    let key = SigningKey::generate().unwrap();
    let keys = set(&[&key]);
    let token = key.sign_jwt(&json!({"sub": "x"})).unwrap();
    for bad in [
        format!("{token}="),
        format!("{token}."),
        format!(".{token}"),
        format!(" {token}"),
        format!("{token}\n"),
        token.replace('.', ".."),
        String::new(),
        "..".to_owned(),
        "a".repeat(TOKEN_BYTES_MAX + 1),
    ] {
        assert!(verify_jwt(&bad, &keys).is_err(), "{bad}");
    }
    let header = json!({"alg": "ES512", "kid": key.public().kid(), "typ": "JWT"}).to_string();
    for claims in [&b"[]"[..], b"1", b"", b"{}x", b"{\"a\":1,\"a\":1}", b"{\"a\":\"\xff\"}"] {
        assert_eq!(verify_jwt(&forge(&key, header.as_bytes(), claims), &keys), Err(Es512Error::Malformed));
    }
}
