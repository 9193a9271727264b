//! JSON Web Tokens (RFC 7519) of one kind: HS256, strictly parsed (RFC 8725).
//!
//! The header is `alg` = `HS256` and optionally `typ` = `JWT`, nothing else: no way to name another algorithm, a key, or a place to
//! fetch one from. What `iss`, `aud` and `sub` must be is the caller's to check.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::{CryptoError, constant_time_eq, hmac_sha256, strict_json};

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1_024;
/// Shortest key, in bytes (RFC 7518, section 3.2).
pub const KEY_BYTES_MIN: usize = 32;
/// How far the issuer's clock may be ahead of ours, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// Signs `claims`. The key's length is checked where it is configured and again by [`verify_hs256`].
pub fn sign_hs256(claims: &Value, key: &[u8]) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let mut token = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mac = URL_SAFE_NO_PAD.encode(hmac_sha256(key, token.as_bytes()));
    token.push('.');
    token.push_str(&mac);
    token
}

/// Returns the claims of a token that was signed with `key`.
pub fn verify_hs256(token: &str, key: &[u8]) -> Result<Value, CryptoError> {
    if key.len() < KEY_BYTES_MIN {
        return Err(CryptoError::ShortKey);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(CryptoError::Token);
    }
    let (signed, mac) = token.rsplit_once('.').ok_or(CryptoError::Token)?;
    let (header, claims) = signed.split_once('.').ok_or(CryptoError::Token)?;
    if claims.contains('.') {
        return Err(CryptoError::Token);
    }
    // The MAC comes first: nothing is parsed that was not signed with our key.
    let mac = decode(mac)?;
    if !constant_time_eq(&mac, &hmac_sha256(key, signed.as_bytes())) {
        return Err(CryptoError::Signature);
    }
    let header = strict_json::parse(&decode(header)?).ok_or(CryptoError::Token)?;
    let header = header.as_object().ok_or(CryptoError::Token)?;
    let is_hs256 = header.get("alg").is_some_and(|alg| alg == "HS256");
    let is_plain = header.iter().all(|(name, value)| name == "alg" || (name == "typ" && value == "JWT"));
    if !is_hs256 || !is_plain {
        return Err(CryptoError::Token);
    }
    let claims = strict_json::parse(&decode(claims)?).ok_or(CryptoError::Token)?;
    if claims.is_object() { Ok(claims) } else { Err(CryptoError::Token) }
}

/// Unpadded base64url whose unused bits are zero: one spelling for each value.
pub(crate) fn decode(part: &str) -> Result<Vec<u8>, CryptoError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| CryptoError::Token)
}

/// Verified claims, to be asked about.
#[derive(Debug, Clone, Copy)]
pub struct Claims<'a>(&'a Value);

impl<'a> Claims<'a> {
    /// Wraps what [`verify_hs256`] returned.
    pub fn new(claims: &'a Value) -> Self {
        Self(claims)
    }

    /// A claim that is a string.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.0.get(name)?.as_str()
    }

    /// A claim that is a whole number of seconds since 1970.
    pub fn seconds(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    /// When it is good; none where `exp` or `iat` is missing, or one of them or `nbf` is no whole number.
    pub fn times(&self) -> Option<Times> {
        let not_before = if self.0.get("nbf").is_some() { Some(self.seconds("nbf")?) } else { None };
        Some(Times { expires: self.seconds("exp")?, issued: self.seconds("iat")?, not_before })
    }

    /// Requires `exp` after `now_seconds`, and `iat` (and `nbf`, where present) at most a minute ahead of it. All are whole numbers.
    pub fn check_times(&self, now_seconds: i64) -> Result<(), CryptoError> {
        self.times().ok_or(CryptoError::TokenTime)?.check(now_seconds)
    }
}

/// When a token is good, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    expires: i64,
    issued: i64,
    not_before: Option<i64>,
}

impl Times {
    /// As [`Claims::check_times`].
    pub fn check(&self, now_seconds: i64) -> Result<(), CryptoError> {
        let latest = now_seconds.saturating_add(CLOCK_SKEW_SECONDS);
        let began = self.issued <= latest && self.not_before.is_none_or(|nbf| nbf <= latest);
        if began && now_seconds < self.expires { Ok(()) } else { Err(CryptoError::TokenTime) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    /// A token with any header and claims, correctly MACed with our key: what an attacker with an oracle could present at best.
    fn forge(header: &[u8], claims: &[u8], key: &[u8]) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mac = URL_SAFE_NO_PAD.encode(hmac_sha256(key, signed.as_bytes()));
        format!("{signed}.{mac}")
    }

    #[test]
    fn claims_come_back_and_another_key_is_refused() {
        let claims = json!({"sub": "usr_1", "exp": 10});
        let token = sign_hs256(&claims, KEY);
        assert_eq!(verify_hs256(&token, KEY), Ok(claims));
        assert_eq!(verify_hs256(&token, &[b'x'; 32]), Err(CryptoError::Signature));
        assert_eq!(verify_hs256(&token, &KEY[..31]), Err(CryptoError::ShortKey));
    }

    #[test]
    fn agrees_with_the_example_of_rfc_7515() {
        let key = URL_SAFE_NO_PAD
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(
            verify_hs256(token, &key),
            Ok(json!({"iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": true}))
        );
    }

    #[test]
    fn attack_1_algorithm_none_is_refused_in_every_spelling() {
        for alg in ["none", "None", "nOnE", "NONE", "", "hs256", "HS256 ", "HS512", "RS256", "ES256"] {
            let header = json!({"alg": alg, "typ": "JWT"}).to_string();
            assert_eq!(verify_hs256(&forge(header.as_bytes(), b"{}", KEY), KEY), Err(CryptoError::Token), "{alg}");
            let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode("{}"));
            assert!(verify_hs256(&unsigned, KEY).is_err(), "{alg}");
        }
        for header in
            [r"{}", r#"{"typ":"JWT"}"#, r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#""HS256""#, "null", "[]", ""]
        {
            assert_eq!(verify_hs256(&forge(header.as_bytes(), b"{}", KEY), KEY), Err(CryptoError::Token), "{header}");
        }
    }

    #[test]
    fn attack_2_and_3_a_key_or_algorithm_of_another_kind_is_refused() {
        let public = crate::ed25519::SigningKey::generate().unwrap().public();
        for key in [public.as_bytes().as_slice(), &public.to_spki_der(), public.to_pem().as_bytes()] {
            let token = forge(br#"{"alg":"HS256"}"#, b"{}", key);
            assert_eq!(verify_hs256(&token, KEY), Err(CryptoError::Signature));
        }
        for alg in ["ES512", "EdDSA", "PS256", "HS384"] {
            let header = json!({ "alg": alg }).to_string();
            assert!(verify_hs256(&forge(header.as_bytes(), b"{}", KEY), KEY).is_err(), "{alg}");
        }
    }

    #[test]
    fn attack_4_and_6_header_members_that_name_keys_or_extensions_are_refused() {
        for (name, value) in [
            ("jku", json!("https://attacker.example/jwks")),
            ("x5u", json!("https://attacker.example/cert")),
            ("jwk", json!({"kty": "oct", "k": "AA"})),
            ("x5c", json!(["MII="])),
            ("kid", json!("../../dev/null")),
            ("crit", json!(["exp"])),
            ("b64", json!(false)),
            ("zip", json!("DEF")),
            ("cty", json!("JWT")),
            ("enc", json!("A256GCM")),
            ("typ", json!("jwt")),
            ("typ", json!("at+jwt")),
            ("ALG", json!("none")),
        ] {
            let header = json!({"alg": "HS256", name: value}).to_string();
            assert_eq!(verify_hs256(&forge(header.as_bytes(), b"{}", KEY), KEY), Err(CryptoError::Token), "{name}");
        }
    }

    #[test]
    fn attack_6_duplicate_members_other_encodings_and_extra_bytes_are_refused() {
        let good = br#"{"alg":"HS256"}"#;
        assert!(verify_hs256(&forge(good, b"{}", KEY), KEY).is_ok());
        for (header, claims) in [
            (br#"{"alg":"HS256","alg":"HS256"}"#.as_slice(), b"{}".as_slice()),
            (br#"{"alg":"none","\u0061lg":"HS256"}"#, b"{}"),
            (good, br#"{"sub":"a","sub":"b"}"#),
            (good, br#"{"act":{"sub":"a","sub":"b"}}"#),
            (good, b"{} "),
            (good, b"{}{}"),
            (good, b"[]"),
            (good, b"\"x\""),
            (good, b""),
            (good, b"{\"sub\":\"\xff\"}"),
            (good, b"\xef\xbb\xbf{}"),
            (good, b"\0{}"),
        ] {
            let verified = verify_hs256(&forge(header, claims, KEY), KEY);
            // White space around the claims is JSON, all else is not.
            assert_eq!(verified.is_ok(), claims == b"{} ", "{}", String::from_utf8_lossy(claims));
        }
    }

    #[test]
    fn attack_6_padding_and_base64_variants_are_refused() {
        let token = sign_hs256(&json!({"sub": "a?>"}), KEY);
        let parts: Vec<&str> = token.split('.').collect();
        let variants = [
            format!("{token}="),
            format!("{token}\n"),
            format!(" {token}"),
            format!("{token}."),
            format!(".{token}"),
            format!("{}..{}", parts[0], parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
            token.replace('-', "+").replace('_', "/") + "/",
            String::new(),
            "..".to_owned(),
            ".".repeat(8_192),
        ];
        for variant in variants {
            assert!(verify_hs256(&variant, KEY).is_err(), "{variant}");
        }
        // A 32-byte MAC takes 43 letters, the last of which has two unused bits: setting them must not make a second spelling.
        let last = token.chars().last().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let twin = alphabet.chars().nth(alphabet.find(last).unwrap() | 1).unwrap();
        assert_ne!(twin, last);
        assert_eq!(verify_hs256(&format!("{}{twin}", &token[..token.len() - 1]), KEY), Err(CryptoError::Token));
    }

    #[test]
    fn tokens_over_eight_kibibytes_are_refused() {
        let token = sign_hs256(&json!({"sub": "a".repeat(8_192)}), KEY);
        assert_eq!(verify_hs256(&token, KEY), Err(CryptoError::Token));
        assert!(verify_hs256(&sign_hs256(&json!({"sub": "a".repeat(5_000)}), KEY), KEY).is_ok());
    }

    #[test]
    fn times_are_checked_to_the_second() {
        let check = |claims: Value, now| Claims::new(&claims).check_times(now);
        assert_eq!(check(json!({"iat": 100, "exp": 200}), 199), Ok(()));
        assert_eq!(check(json!({"iat": 100, "exp": 200}), 200), Err(CryptoError::TokenTime));
        assert_eq!(check(json!({"iat": 160, "exp": 200}), 100), Ok(()));
        assert_eq!(check(json!({"iat": 161, "exp": 200}), 100), Err(CryptoError::TokenTime));
        for claims in [
            json!({"iat": 100}),
            json!({"exp": 200}),
            json!({"iat": 100, "exp": "200"}),
            json!({"iat": 100, "exp": 1e300}),
            json!({"iat": 100, "exp": 200, "nbf": 199}),
            json!({"iat": 100, "exp": 200, "nbf": null}),
        ] {
            assert_eq!(check(claims.clone(), 100), Err(CryptoError::TokenTime), "{claims}");
        }
    }

    proptest! {
        #[test]
        fn no_text_verifies_or_panics(text in "[A-Za-z0-9_.=-]{0,200}|.{0,40}") {
            prop_assert!(verify_hs256(&text, KEY).is_err());
        }

        #[test]
        fn no_changed_character_verifies(at: prop::sample::Index, to in "[A-Za-z0-9_.-]") {
            let token = sign_hs256(&json!({"sub": "usr_1", "exp": 10}), KEY);
            let mut bytes = token.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = to.as_bytes()[0];
            let changed = String::from_utf8(bytes).unwrap();
            prop_assume!(changed != token);
            prop_assert!(verify_hs256(&changed, KEY).is_err());
        }
    }
}
