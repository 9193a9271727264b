//! Tokens and key sets, right and wrong.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;

/// Somebody with a key of every kind.
struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: ed25519::SigningKey,
}

fn issuer() -> &'static Issuer {
    static ISSUER: std::sync::OnceLock<Issuer> = std::sync::OnceLock::new();
    ISSUER.get_or_init(|| Issuer {
        rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
        ed25519: ed25519::SigningKey::generate().unwrap(),
    })
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn jwks(&self) -> Value {
        let point = |pair: &EcdsaKeyPair| {
            let point = pair.public_key().as_ref()[1..].to_vec();
            let half = point.len() / 2;
            (b64(&point[..half]), b64(&point[half..]))
        };
        let ((x2, y2), (x3, y3)) = (point(&self.p256), point(&self.p384));
        // RSAPublicKey in DER: a header of 9 bytes with the modulus' leading zero, 256 bytes of modulus, the exponent.
        let rsa = self.rsa.public_key().as_ref();
        assert_eq!((rsa.len(), &rsa[265..]), (270, &[2, 3, 1, 0, 1][..]));
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": b64(&rsa[9..265]), "e": "AQAB"},
            {"kty": "EC", "kid": "p256", "crv": "P-256", "x": x2, "y": y2},
            {"kty": "EC", "kid": "p384", "crv": "P-384", "x": x3, "y": y3, "alg": "ES384"},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": b64(self.ed25519.public().as_bytes())},
            {"kty": "oct", "kid": "mac", "k": "AAAA"},
            {"kty": "EC", "kid": "enc", "crv": "P-256", "x": x2, "y": y2, "use": "enc"},
        ]})
    }

    fn sign(&self, header: &Value, claims: &[u8]) -> String {
        let signed = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims));
        let rng = SystemRandom::new();
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut out = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(padding, &rng, signed.as_bytes(), &mut out).unwrap();
            out
        };
        let signature = match header["alg"].as_str().unwrap_or_default() {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "ES256" => self.p256.sign(&rng, signed.as_bytes()).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&rng, signed.as_bytes()).unwrap().as_ref().to_vec(),
            _ => self.ed25519.sign(signed.as_bytes()).to_vec(),
        };
        format!("{signed}.{}", b64(&signature))
    }
}

fn keys() -> KeySet {
    KeySet::parse(issuer().jwks().to_string().as_bytes()).unwrap()
}

const ALL: [(&str, &str); 5] =
    [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "p256"), ("ES384", "p384"), ("EdDSA", "ed")];

#[test]
fn a_token_of_each_algorithm_verifies_with_its_key_and_one_changed_byte_does_not() {
    for (alg, kid) in ALL {
        let token = issuer().sign(&json!({"alg": alg, "kid": kid, "typ": "JWT", "x5t": "dGh1bWI"}), b"{\"sub\":\"a\"}");
        assert_eq!(verify(&token, &keys()), Ok(json!({"sub": "a"})), "{alg}");
        let changed = token.replacen(&b64(b"{\"sub\":\"a\"}"), &b64(b"{\"sub\":\"b\"}"), 1);
        assert_ne!(changed, token);
        assert_eq!(verify(&changed, &keys()), Err(JwsError::Signature), "{alg}");
    }
}

#[test]
fn attack_41_none_macs_and_unknown_algorithms_are_refused() {
    for alg in ["none", "None", "nOnE", "", "HS256", "HS512", "RS512", "ES512", "RS1", "rs256", "ES256K"] {
        let token = issuer().sign(&json!({"alg": alg, "kid": "rsa"}), b"{}");
        assert_eq!(verify(&token, &keys()), Err(JwsError::Malformed), "{alg}");
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert!(verify(&unsigned, &keys()).is_err(), "{alg}");
    }
    // The public key's bytes as the key of a MAC.
    let signed = format!("{}.{}", b64(br#"{"alg":"HS256","kid":"ed"}"#), b64(b"{}"));
    let mac = crate::hmac_sha256(issuer().ed25519.public().as_bytes(), signed.as_bytes());
    assert_eq!(verify(&format!("{signed}.{}", b64(&mac)), &keys()), Err(JwsError::Malformed));
}

#[test]
fn attack_41_an_algorithm_is_bound_to_the_kind_of_its_key() {
    for (alg, right) in ALL {
        for kid in ["rsa", "p256", "p384", "ed", "mac", "enc"].into_iter().filter(|kid| *kid != right) {
            let token = issuer().sign(&json!({"alg": alg, "kid": kid}), b"{}");
            assert_eq!(verify(&token, &keys()), Err(JwsError::UnknownKey), "{alg} {kid}");
        }
    }
    // A key that says what it is for is for nothing else.
    let mut jwks = issuer().jwks();
    jwks["keys"][0]["alg"] = json!("RS256");
    let set = KeySet::parse(jwks.to_string().as_bytes()).unwrap();
    let sign = |alg: &str| issuer().sign(&json!({"alg": alg, "kid": "rsa"}), b"{}");
    assert!(verify(&sign("RS256"), &set).is_ok());
    assert_eq!(verify(&sign("PS256"), &set), Err(JwsError::UnknownKey));
}

#[test]
fn attack_4_and_6_header_members_that_bring_keys_or_extensions_are_refused() {
    for (name, value) in [
        ("jku", json!("https://attacker.example/jwks")),
        ("x5u", json!("https://attacker.example/cert")),
        ("jwk", json!({"kty": "OKP"})),
        ("x5c", json!(["MII="])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A256GCM")),
        ("typ", json!("at+jwt")),
        ("kid", json!(["ed"])),
        ("ALG", json!("none")),
    ] {
        let token = issuer().sign(&json!({"alg": "EdDSA", "kid": "ed", name: value}), b"{}");
        assert_eq!(verify(&token, &keys()), Err(JwsError::Malformed), "{name}");
    }
}

#[test]
fn attack_6_other_encodings_duplicate_members_and_extra_parts_are_refused() {
    let header = json!({"alg": "EdDSA", "kid": "ed"});
    let good = issuer().sign(&header, b"{}");
    assert!(verify(&good, &keys()).is_ok());
    for text in
        [format!("{good}="), format!("{good}\n"), format!(" {good}"), format!("{good}.e30"), "..".into(), String::new()]
    {
        assert!(verify(&text, &keys()).is_err(), "{text}");
    }
    for claims in [br#"{"sub":"a","sub":"b"}"#.as_slice(), b"[]", b"", b"{}{}", b"\xef\xbb\xbf{}"] {
        assert_eq!(verify(&issuer().sign(&header, claims), &keys()), Err(JwsError::Malformed));
    }
    let long = issuer().sign(&header, format!("{{\"groups\":\"{}\"}}", "g".repeat(TOKEN_BYTES_MAX)).as_bytes());
    assert_eq!(verify(&long, &keys()), Err(JwsError::Malformed));
}

#[test]
fn a_token_that_names_no_key_is_good_only_where_one_key_can_be_meant() {
    let token = issuer().sign(&json!({"alg": "EdDSA"}), b"{}");
    assert!(verify(&token, &keys()).is_ok());
    let mut jwks = issuer().jwks();
    let other = b64(ed25519::SigningKey::generate().unwrap().public().as_bytes());
    jwks["keys"].as_array_mut().unwrap().push(json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed2", "x": other}));
    let set = KeySet::parse(jwks.to_string().as_bytes()).unwrap();
    assert_eq!(verify(&token, &set), Err(JwsError::UnknownKey));
}

#[test]
fn weak_private_and_broken_keys_are_left_out_of_a_set() {
    let jwks = issuer().jwks();
    let alone = |change: &dyn Fn(&mut Value), at: usize| {
        let mut key = jwks["keys"][at].clone();
        change(&mut key);
        KeySet::parse(json!({"keys": [key]}).to_string().as_bytes()).map(drop)
    };
    for at in 0..4 {
        assert_eq!(alone(&|_| {}, at), Ok(()));
        assert_eq!(alone(&|key| key["d"] = json!("AA"), at), Err(CryptoError::Key));
        assert_eq!(alone(&|key| key["use"] = json!("enc"), at), Err(CryptoError::Key));
        assert_eq!(alone(&|key| key["key_ops"] = json!(["sign"]), at), Err(CryptoError::Key));
        assert_eq!(alone(&|key| key["alg"] = json!("HS256"), at), Err(CryptoError::Key));
        assert_eq!(alone(&|key| key["kty"] = json!("oct"), at), Err(CryptoError::Key));
    }
    assert_eq!(alone(&|key| key["e"] = json!("AQ"), 0), Err(CryptoError::Key), "an exponent of 1");
    assert_eq!(alone(&|key| key["e"] = json!("Ag"), 0), Err(CryptoError::Key), "an even exponent");
    assert_eq!(alone(&|key| key["x"] = json!("AA"), 1), Err(CryptoError::Key));
    assert_eq!(alone(&|key| key["x"] = json!(b64(&[0; 32])), 3), Err(CryptoError::Key), "a small-order key");
    for text in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "[]"] {
        assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
    }
    // A modulus under 2,048 bits is refused by the library when it verifies.
    let mut small = jwks.clone();
    small["keys"][0]["n"] = json!(b64(&[0xff; 128]));
    let set = KeySet::parse(small.to_string().as_bytes()).unwrap();
    let token = issuer().sign(&json!({"alg": "RS256", "kid": "rsa"}), b"{}");
    assert_eq!(verify(&token, &set), Err(JwsError::Signature));
}

#[test]
fn attack_5_ecdsa_signatures_of_zero_and_of_another_form_are_refused() {
    let token = issuer().sign(&json!({"alg": "ES256", "kid": "p256"}), b"{}");
    let signed = token.rsplit_once('.').unwrap().0;
    for signature in [vec![0; 64], vec![0xff; 64], vec![1; 63], vec![1; 65], Vec::new()] {
        assert_eq!(verify(&format!("{signed}.{}", b64(&signature)), &keys()), Err(JwsError::Signature));
    }
}
