//! Credentials and proofs, right and wrong.

use proptest::prelude::*;

use super::*;

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn statement() -> Statement {
    Statement {
        method: "POST".to_owned(),
        target: "/api/v1/agents/agt_1/report?page=2".to_owned(),
        at_s: 1_795_316_400,
        id: "0123456789abcdef".to_owned(),
        number: 7,
        body: sha256(b"{}"),
        token: sha256(b"token"),
        audience: Some("ins_1".to_owned()),
    }
}

/// A token with any header and claims, correctly signed: what an attacker with this key could present at best.
fn forge(header: &str, claims: &str, key: &SigningKey) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())))
}

#[test]
fn the_thumbprint_is_that_of_rfc_8037() {
    // Appendix A.3.
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let key = from_jwk(&json!({"kty": "OKP", "crv": "Ed25519", "x": x})).unwrap();
    assert_eq!(thumbprint(&key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(to_jwk(&key), json!({"kty": "OKP", "crv": "Ed25519", "x": x}));
}

#[test]
fn a_key_has_exactly_its_three_members() {
    let good = to_jwk(&key().public());
    assert!(from_jwk(&good).is_ok());
    for (name, value) in [
        ("d", json!("AAAA")),
        ("kid", json!("x")),
        ("use", json!("enc")),
        ("kty", json!("EC")),
        ("crv", json!("X25519")),
        ("x", json!("AAAA")),
        ("x", json!(7)),
        // Of small order: one signature by it verifies for many messages.
        ("x", json!(URL_SAFE_NO_PAD.encode([0; 32]))),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert_eq!(from_jwk(&bad), Err(CryptoError::Key), "{bad}");
    }
    for bad in [json!({}), json!([]), json!("x"), Value::Null] {
        assert_eq!(from_jwk(&bad), Err(CryptoError::Key));
    }
}

#[test]
fn a_credential_verifies_with_the_keys_that_may_have_signed_it_and_is_bound_to_one_key() {
    let (server, older, agent) = (key(), key(), key());
    let claims = json!({"sub": "agt_1", "cnf": confirmation(&agent.public())});
    let token = sign_credential(&claims, &server);
    assert_eq!(verify_credential(&token, &[older.public(), server.public()]), Ok(claims.clone()));
    assert_eq!(verify_credential(&token, &[older.public()]), Err(CryptoError::Signature));
    assert_eq!(verify_credential(&token, &[]), Err(CryptoError::Signature));
    assert!(is_bound_to(&claims, &agent.public()) && !is_bound_to(&claims, &server.public()));
    let thumb = thumbprint(&agent.public());
    for cnf in [json!(null), json!({}), json!(thumb), json!({"jkt": thumb, "x5t#S256": "x"}), json!({"jkt": [thumb]})] {
        assert!(!is_bound_to(&json!({ "cnf": cnf }), &agent.public()), "{cnf}");
    }
}

#[test]
fn attack_1_to_6_a_header_that_says_anything_else_is_refused() {
    let server = key();
    for header in [
        r#"{"alg":"none","typ":"cairn-fleet+jwt"}"#,
        r#"{"alg":"eddsa","typ":"cairn-fleet+jwt"}"#,
        r#"{"alg":"HS256","typ":"cairn-fleet+jwt"}"#,
        r#"{"alg":"Ed25519","typ":"cairn-fleet+jwt"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","typ":"JWT"}"#,
        r#"{"alg":"EdDSA","typ":"dpop+jwt"}"#,
        r#"{"alg":"EdDSA","typ":"cairn-fleet+jwt","kid":"1"}"#,
        r#"{"alg":"EdDSA","typ":"cairn-fleet+jwt","jku":"https://attacker.example"}"#,
        r#"{"alg":"EdDSA","typ":"cairn-fleet+jwt","crit":["exp"]}"#,
        r#"{"alg":"EdDSA","alg":"EdDSA","typ":"cairn-fleet+jwt"}"#,
        r#"["EdDSA"]"#,
        "",
    ] {
        let token = forge(header, "{}", &server);
        assert_eq!(verify_credential(&token, &[server.public()]), Err(CryptoError::Token), "{header}");
    }
    // The same bytes under HS256's way of verifying.
    let token = sign_credential(&json!({"sub": "x"}), &server);
    assert!(crate::jwt::verify_hs256(&token, server.public().as_bytes()).is_err());
    let session = crate::jwt::sign_hs256(&json!({"sub": "x"}), server.public().as_bytes());
    assert!(verify_credential(&session, &[server.public()]).is_err());
    let long = sign_credential(&json!({"sub": "a".repeat(CREDENTIAL_BYTES_MAX)}), &server);
    assert_eq!(verify_credential(&long, &[server.public()]), Err(CryptoError::Token));
}

#[test]
fn a_proof_comes_back_with_its_key_and_what_it_says() {
    let key = key();
    let without = Statement { audience: None, ..statement() };
    for statement in [statement(), without] {
        assert_eq!(verify_proof(&sign_proof(&statement, &key)), Ok((key.public(), statement)));
    }
}

#[test]
fn attack_7_no_credential_is_a_proof_and_no_proof_a_credential() {
    let key = key();
    let proof = sign_proof(&statement(), &key);
    assert_eq!(verify_credential(&proof, &[key.public()]), Err(CryptoError::Token));
    let credential = sign_credential(&json!({"htm": "POST"}), &key);
    assert_eq!(verify_proof(&credential), Err(CryptoError::Token));
}

#[test]
fn a_proof_with_another_key_header_or_claim_is_refused() {
    let (own, other) = (key(), key());
    let jwk = to_jwk(&own.public());
    let header = json!({"alg": "EdDSA", "typ": "dpop+jwt", "jwk": jwk}).to_string();
    let signed = sign_proof(&statement(), &own);
    let claims = signed.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert!(verify_proof(&forge(&header, &claims.to_string(), &own)).is_ok());
    assert_eq!(verify_proof(&forge(&header, &claims.to_string(), &other)), Err(CryptoError::Signature));
    for (name, value) in [
        ("n", json!(-1)),
        ("n", json!(1.5)),
        ("n", json!("7")),
        ("n", json!(u64::MAX)),
        ("iat", json!("now")),
        ("jti", json!("short")),
        ("jti", json!("x".repeat(65))),
        ("jti", json!("0123456789abcde\n")),
        ("bd", json!("AAAA")),
        ("ath", json!(null)),
        ("aud", json!(["ins_1"])),
        ("exp", json!(1)),
    ] {
        let mut bad = claims.clone();
        bad[name] = value;
        assert_eq!(verify_proof(&forge(&header, &bad.to_string(), &own)), Err(CryptoError::Token), "{name}");
    }
    for name in ["htm", "htu", "iat", "jti", "n", "bd", "ath"] {
        let mut bad = claims.clone();
        bad.as_object_mut().unwrap().remove(name);
        assert_eq!(verify_proof(&forge(&header, &bad.to_string(), &own)), Err(CryptoError::Token), "{name}");
    }
    for bad in [
        json!({"alg": "EdDSA", "typ": "dpop+jwt"}),
        json!({"alg": "EdDSA", "typ": "JWT", "jwk": jwk}),
        json!({"alg": "none", "typ": "dpop+jwt", "jwk": jwk}),
        json!({"alg": "EdDSA", "typ": "dpop+jwt", "jwk": jwk, "kid": "x"}),
        json!({"alg": "EdDSA", "typ": "dpop+jwt", "jwk": {"kty": "oct", "k": "AA"}}),
    ] {
        assert!(verify_proof(&forge(&bad.to_string(), &claims.to_string(), &own)).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_text_verifies_or_panics(text in "[A-Za-z0-9_.=-]{0,200}|.{0,40}") {
        prop_assert!(verify_proof(&text).is_err());
        prop_assert!(verify_credential(&text, &[]).is_err());
    }

    #[test]
    fn no_changed_character_of_a_proof_says_the_same(at: prop::sample::Index, to in "[A-Za-z0-9_.-]") {
        let proof = sign_proof(&statement(), &key());
        let mut bytes = proof.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = to.as_bytes()[0];
        let changed = String::from_utf8(bytes).unwrap();
        prop_assume!(changed != proof);
        prop_assert!(verify_proof(&changed).is_err());
    }
}
