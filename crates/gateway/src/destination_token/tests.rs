//! A verifier, and tokens that it must not take.

use serde_json::{Value, json};
use testkit::{TestClock, TestRng};

use super::*;

const ISSUER: &str = "the-installation";

struct World {
    key: SigningKey,
    claims: DestinationClaims,
    verifier: Verifier,
}

fn world() -> World {
    let (clock, rng, key) = (TestClock::default(), TestRng::seeded(1), SigningKey::generate().unwrap());
    let now = TestClock::START.as_seconds();
    let claims = DestinationClaims {
        iss: ISSUER.to_owned(),
        aud: DestinationId::generate(&clock, &rng),
        sub: UserId::generate(&clock, &rng),
        name: "ann@example.com".to_owned(),
        groups: vec!["devs".parse().unwrap()],
        role: "view".parse().unwrap(),
        namespaces: Some(vec!["shop".parse().unwrap()]),
        act_as: Vec::new(),
        tenant: TenantId::generate(&clock, &rng),
        sid: SessionId::generate(&clock, &rng),
        jti: DestinationTokenId::generate(&clock, &rng),
        iat: now,
        exp: now + LIFETIME_S_MAX,
    };
    let keys = KeySet::new(vec![key.public().clone()]);
    let verifier = Verifier::new(ISSUER.to_owned(), claims.aud, keys, 5);
    World { key, claims, verifier }
}

fn at(seconds: i64) -> Timestamp {
    TestClock::START.plus_millis(seconds * 1_000)
}

impl World {
    fn with(&self, change: impl FnOnce(&mut Value)) -> Result<Admission, Refusal> {
        let mut claims = serde_json::to_value(&self.claims).unwrap();
        change(&mut claims);
        self.verifier.admit(&self.key.sign_jwt(&claims).unwrap(), at(0))
    }
}

#[test]
fn a_token_that_was_issued_here_for_this_destination_lets_in_whom_it_names() {
    let world = world();
    let token = issue(&world.key, &world.claims).unwrap();
    let admission = world.verifier.admit(&token, at(1)).unwrap();
    assert_eq!((admission.user, admission.session), (world.claims.sub, world.claims.sid));
    assert_eq!((admission.role.as_str(), &admission.groups), ("view", &world.claims.groups));
    assert_eq!(admission.namespaces, world.claims.namespaces);
    assert_eq!(admission.expires, at(300));
}

#[test]
fn attack_8_and_54_a_token_for_another_destination_or_of_another_installation_is_refused() {
    let world = world();
    let aud = world.claims.aud.to_string();
    let other = DestinationId::generate(&TestClock::default(), &TestRng::seeded(2)).to_string();
    assert_eq!(world.with(|claims| claims["aud"] = json!(other)), Err(Refusal::Audience));
    assert_eq!(world.with(|claims| claims["aud"] = json!([aud, other])), Err(Refusal::Claims));
    assert_eq!(world.with(|claims| claims["aud"] = json!([aud])), Err(Refusal::Claims));
    assert_eq!(world.with(|claims| claims["aud"] = json!("sessions")), Err(Refusal::Claims));
    assert_eq!(world.with(|claims| claims["iss"] = json!("another")), Err(Refusal::Issuer));
    for gone in ["iss", "aud", "sub", "name", "groups", "role", "tenant", "sid", "jti", "iat", "exp"] {
        let refused = world.with(|claims| drop(claims.as_object_mut().unwrap().remove(gone)));
        assert_eq!(refused, Err(Refusal::Claims), "{gone}");
    }
    assert_eq!(world.with(|claims| claims["role"] = json!("system:masters")), Err(Refusal::Claims));
    assert_eq!(world.with(|claims| claims["groups"] = json!(["system:masters"])), Err(Refusal::Claims));
    assert_eq!(world.with(|claims| claims["exp"] = json!("soon")), Err(Refusal::Claims));
    assert!(world.with(|_| {}).is_ok());
}

#[test]
fn attack_53_a_token_is_good_for_five_minutes_and_a_leeway_that_is_bounded() {
    let world = world();
    let token = issue(&world.key, &world.claims).unwrap();
    // Also when it is remembered: every moment is judged anew.
    for (seconds, good) in [(-6, false), (-5, true), (0, true), (304, true), (305, false), (0, true), (10_000, false)] {
        assert_eq!(world.verifier.admit(&token, at(seconds)).is_ok(), good, "{seconds}");
    }
    let now = world.claims.iat;
    for (iat, exp) in [(now, now + 301), (now, now), (now, now - 1), (i64::MIN, now), (now, i64::MAX), (0, i64::MAX)] {
        let refused = world.with(|claims| {
            claims["iat"] = json!(iat);
            claims["exp"] = json!(exp);
        });
        assert_eq!(refused, Err(Refusal::Time), "{iat} {exp}");
    }
    let keys = KeySet::new(vec![world.key.public().clone()]);
    let lenient = Verifier::new(ISSUER.to_owned(), world.claims.aud, keys, 3_600);
    assert!(lenient.admit(&token, at(329)).is_ok() && lenient.admit(&token, at(330)).is_err());
}

#[test]
fn attack_7_what_another_key_of_the_installation_signed_lets_nobody_in() {
    let world = world();
    let claims = serde_json::to_value(&world.claims).unwrap();
    let session = crypto::jwt::sign_hs256(&claims, world.key.public().as_bytes());
    assert_eq!(world.verifier.admit(&session, at(0)), Err(Refusal::Signature(Es512Error::Malformed)));
    let other = SigningKey::generate().unwrap().sign_jwt(&claims).unwrap();
    assert_eq!(world.verifier.admit(&other, at(0)), Err(Refusal::Signature(Es512Error::UnknownKey)));
}

#[test]
fn a_key_that_is_withdrawn_takes_its_tokens_with_it_also_those_that_are_remembered() {
    let world = world();
    let next = SigningKey::generate().unwrap();
    let token = issue(&world.key, &world.claims).unwrap();
    assert!(world.verifier.admit(&token, at(0)).is_ok());
    world.verifier.replace_keys(KeySet::new(vec![world.key.public().clone(), next.public().clone()]));
    assert!(world.verifier.admit(&token, at(1)).is_ok(), "both are published while they overlap");
    assert!(world.verifier.admit(&issue(&next, &world.claims).unwrap(), at(1)).is_ok());
    world.verifier.replace_keys(KeySet::new(vec![next.public().clone()]));
    assert_eq!(world.verifier.admit(&token, at(2)), Err(Refusal::Signature(Es512Error::UnknownKey)));
}

#[test]
fn what_is_remembered_answers_as_what_is_judged_and_its_number_is_bounded() {
    let world = world();
    for number in 0..20 {
        let claims = DestinationClaims { name: number.to_string(), ..world.claims.clone() };
        let token = issue(&world.key, &claims).unwrap();
        let first = world.verifier.admit(&token, at(0)).unwrap();
        assert_eq!(world.verifier.admit(&token, at(0)).unwrap(), first);
        let mut changed = token.clone();
        changed.pop();
        assert!(world.verifier.admit(&changed, at(0)).is_err());
    }
    assert_eq!(world.verifier.trusted.read().unwrap().remembered.len(), 20);
    let judged = Arc::new(world.with(|_| {}).unwrap());
    let keys = Arc::clone(&world.verifier.trusted.read().unwrap().keys);
    for number in 0..REMEMBERED_MAX as u64 + 5 {
        world.verifier.remember(crypto::sha256(&number.to_le_bytes()), &judged, &keys, at(0));
    }
    assert_eq!(world.verifier.trusted.read().unwrap().remembered.len(), REMEMBERED_MAX);
    world.verifier.remember(crypto::sha256(b"later"), &judged, &keys, at(0));
    assert!(!world.verifier.trusted.read().unwrap().remembered.contains_key(&crypto::sha256(b"later")));
}
