//! Passkeys: registered, shown as a second step, as the only step and as a fresh proof; and each way to cheat.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::authenticator::{Algorithm, Authenticator, PRESENT};

use crate::second_factor::{pending, second_step};
use crate::world::{Answer, ORIGIN, PLATFORM, STRANGER, World, admin, each_engine};

const PARTY: &str = "cairn.example.org";

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn challenge_of(answer: &Answer) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(answer.json["options"]["challenge"].as_str().unwrap()).unwrap()
}

fn new(algorithm: Algorithm) -> Authenticator {
    Authenticator::new(algorithm, PARTY, ORIGIN)
}

async fn ask(world: &World, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
    world.call("POST", path, token, body).await.is(200)
}

async fn begin(world: &World, token: &str) -> Answer {
    ask(world, "/api/v1/me/factors/passkey-challenge", Some(token), None).await
}

/// What the browser sends for a new passkey.
fn created(authenticator: &Authenticator, asked: &Answer) -> Value {
    let made = authenticator.create(&challenge_of(asked));
    let response = json!({
        "clientDataJSON": b64(&made.client_data_json), "attestationObject": b64(&made.attestation_object),
        "transports": ["internal"],
    });
    let id = b64(&authenticator.credential_id);
    let credential =
        json!({"id": id, "rawId": id, "type": "public-key", "response": response, "clientExtensionResults": {}});
    json!({"name": "Key", "state": asked.json["state"], "credential": credential})
}

/// What the browser sends for a passkey that it has.
fn answered(authenticator: &mut Authenticator, asked: &Answer) -> Value {
    let got = authenticator.get(&challenge_of(asked));
    let response = json!({
        "clientDataJSON": b64(&got.client_data_json), "authenticatorData": b64(&got.authenticator_data),
        "signature": b64(&got.signature), "userHandle": null,
    });
    let credential = json!({"id": b64(&authenticator.credential_id), "type": "public-key", "response": response});
    json!({"state": asked.json["state"], "credential": credential})
}

async fn register(world: &World, token: &str, body: Value) -> Answer {
    world.call("POST", "/api/v1/me/factors/passkey", Some(token), Some(body)).await
}

async fn enrol(world: &World, token: &str, authenticator: &Authenticator) -> Answer {
    let asked = begin(world, token).await;
    register(world, token, created(authenticator, &asked)).await.is(201)
}

async fn ask_second_step(world: &World, waiting: &str) -> Answer {
    ask(world, "/api/v1/sessions/passkey-challenge", None, Some(json!({"token": waiting}))).await
}

#[test]
fn a_passkey_of_each_algorithm_is_a_second_step() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
            let mut authenticator = new(algorithm);
            // As a second factor it proves possession; no verification is needed.
            authenticator.flags = PRESENT;
            let asked = begin(&world, &token).await;
            assert_eq!(asked.json["options"]["attestation"], "none");
            assert_eq!(asked.json["options"]["rp"]["id"], PARTY);
            let made = register(&world, &token, created(&authenticator, &asked)).await.is(201);
            let first = algorithm == Algorithm::EdDsa;
            assert_eq!(made.json["recovery_codes"].as_array().unwrap().len(), if first { 10 } else { 0 });
            let waiting = pending(&world, &admin()).await;
            let asked = ask_second_step(&world, &waiting).await;
            let offered = asked.json["options"]["allowCredentials"].as_array().unwrap();
            assert!(offered.iter().any(|known| known["id"] == b64(&authenticator.credential_id)));
            let answer = answered(&mut authenticator, &asked);
            second_step(&world, &waiting, json!({"passkey": answer})).await.is(201);
        }
        // The same authenticator is told not to make a second one, and a credential is one user's.
        let asked = begin(&world, &token).await;
        assert_eq!(asked.json["options"]["excludeCredentials"].as_array().unwrap().len(), 3);
    });
}

#[test]
fn a_passkey_that_verifies_its_user_is_the_only_step() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let mut authenticator = new(Algorithm::Es256);
        enrol(&world, &token, &authenticator).await;
        let sign_in = |body: Value| world.call("POST", "/api/v1/sessions/passkey", None, Some(body));
        let path = "/api/v1/sessions/passkey-challenge";
        let asked = ask(&world, path, None, Some(json!({}))).await;
        assert_eq!(asked.json["options"]["userVerification"], "required");
        assert_eq!(asked.json["options"]["allowCredentials"], json!([]));
        let body = answered(&mut authenticator, &asked);
        let done = sign_in(body.clone()).await.is(201);
        assert_eq!(done.json["me"]["email"], admin());
        let session = done.json["token"].as_str().unwrap();
        let listed = world.call("GET", "/api/v1/me/sessions", Some(session), None).await.is(200);
        let listed = listed.json["items"].as_array().unwrap();
        assert!(
            listed.iter().any(|session| session["method"] == "passkey" && session["current"] == true),
            "{listed:?}"
        );
        sign_in(body).await.is(401);
        authenticator.flags = PRESENT;
        let asked = ask(&world, path, None, Some(json!({}))).await;
        sign_in(answered(&mut authenticator, &asked)).await.is(401);
        let asked = ask(&world, path, None, Some(json!({}))).await;
        sign_in(answered(&mut new(Algorithm::Es256), &asked)).await.is(401);
        let (_, action, outcome) = world.audit(None, -1).await.pop().unwrap();
        assert_eq!((action.as_str(), outcome.as_str()), ("session_create", "deny"));
        // Somebody who may not sign in does not get in this way.
        let platform = world.sign_in(PLATFORM).await;
        let user = format!("/api/v1/users/{}", world.user_id(&admin()));
        world.call("PATCH", &user, Some(&platform), Some(json!({"disabled": true}))).await.is(200);
        authenticator.flags = testkit::authenticator::PRESENT_AND_VERIFIED;
        let asked = ask(&world, path, None, Some(json!({}))).await;
        sign_in(answered(&mut authenticator, &asked)).await.is(401);
    });
}

#[test]
fn a_challenge_is_answered_once_in_time_and_for_its_own_purpose_and_account() {
    each_engine(|world| async move {
        let (token, stranger) = (world.sign_in(&admin()).await, world.sign_in(STRANGER).await);
        let mut authenticator = new(Algorithm::EdDsa);
        let asked = begin(&world, &token).await;
        let body = created(&authenticator, &asked);
        // Another session's challenge.
        register(&world, &stranger, body.clone()).await.is(400).says("no challenge of ours");
        register(&world, &token, body.clone()).await.is(201);
        register(&world, &token, body).await.is(409).says("answered already");
        // A challenge for a new passkey is none for a sign-in, and the other way round.
        let waiting = pending(&world, &admin()).await;
        let registering = begin(&world, &token).await;
        let answer = answered(&mut authenticator, &registering);
        second_step(&world, &waiting, json!({"passkey": answer})).await.is(400).says("no challenge of ours");
        let alone = ask(&world, "/api/v1/sessions/passkey-challenge", None, Some(json!({}))).await;
        let answer = answered(&mut authenticator, &alone);
        second_step(&world, &waiting, json!({"passkey": answer})).await.is(400);
        // That of one sign-in is none for another.
        let other = pending(&world, &admin()).await;
        let asked = ask_second_step(&world, &other).await;
        let answer = answered(&mut authenticator, &asked);
        second_step(&world, &waiting, json!({"passkey": answer})).await.is(400);
        // Signed for another challenge than the state's.
        let (asked, again) = (ask_second_step(&world, &waiting).await, ask_second_step(&world, &waiting).await);
        let mut answer = answered(&mut authenticator, &asked);
        answer["state"] = again.json["state"].clone();
        second_step(&world, &waiting, json!({"passkey": answer})).await.is(401);
        // Too late.
        let asked = ask_second_step(&world, &waiting).await;
        let answer = answered(&mut authenticator, &asked);
        world.clock.advance(Duration::from_mins(5));
        let fresh = pending(&world, &admin()).await;
        second_step(&world, &fresh, json!({"passkey": answer})).await.is(400);
        // In time, and once.
        let asked = ask_second_step(&world, &fresh).await;
        let answer = answered(&mut authenticator, &asked);
        second_step(&world, &fresh, json!({"passkey": answer.clone()})).await.is(201);
        second_step(&world, &fresh, json!({"passkey": answer})).await.is(401);
    });
}

#[test]
fn an_answer_from_another_page_of_another_user_or_of_a_copied_key_is_refused_and_recorded() {
    each_engine(|world| async move {
        let (token, stranger) = (world.sign_in(&admin()).await, world.sign_in(STRANGER).await);
        let (mut ours, mut theirs) = (new(Algorithm::Es256), new(Algorithm::Es256));
        enrol(&world, &token, &ours).await;
        enrol(&world, &stranger, &theirs).await;
        // A credential is one user's only.
        let asked = begin(&world, &stranger).await;
        register(&world, &stranger, created(&ours, &asked)).await.is(409).says("known already");
        let mut evil = new(Algorithm::Es256);
        evil.origin = "https://cairn.example.org.evil.example".to_owned();
        let asked = begin(&world, &token).await;
        register(&world, &token, created(&evil, &asked)).await.is(400).says("another origin");

        let waiting = pending(&world, &admin()).await;
        let refused = async |authenticator: &mut Authenticator| {
            let asked = ask_second_step(&world, &waiting).await;
            let answer = answered(authenticator, &asked);
            second_step(&world, &waiting, json!({"passkey": answer})).await.is(401);
            let (_, action, outcome) = world.audit(Some(world.a), -1).await.pop().unwrap();
            assert_eq!((action.as_str(), outcome.as_str()), ("session_create", "deny"));
        };
        refused(&mut theirs).await;
        ours.origin = "https://evil.example".to_owned();
        refused(&mut ours).await;
        ours.origin = ORIGIN.to_owned();
        ours.cross_origin = true;
        refused(&mut ours).await;
        ours.cross_origin = false;
        ours.party = "evil.example".to_owned();
        refused(&mut ours).await;
        ours.party = PARTY.to_owned();
        ours.flags = 0;
        refused(&mut ours).await;
        ours.flags = PRESENT;
        let asked = ask_second_step(&world, &waiting).await;
        let answer = answered(&mut ours, &asked);
        second_step(&world, &waiting, json!({"passkey": answer})).await.is(201);
        // A copy of the key whose counter stayed behind.
        let waiting = pending(&world, &admin()).await;
        ours.sign_count -= 1;
        let asked = ask_second_step(&world, &waiting).await;
        let answer = answered(&mut ours, &asked);
        second_step(&world, &waiting, json!({"passkey": answer})).await.is(401);
    });
}

#[test]
fn a_passkey_is_a_fresh_proof() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let mut authenticator = new(Algorithm::EdDsa);
        let made = enrol(&world, &token, &authenticator).await;
        world.clock.advance(Duration::from_mins(15));
        world.call("POST", "/api/v1/me/recovery-codes", Some(&token), None).await.is(403);
        let asked = ask(&world, "/api/v1/sessions/current/passkey-challenge", Some(&token), None).await;
        let body = json!({"passkey": answered(&mut authenticator, &asked)});
        world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), Some(body.clone())).await.is(200);
        world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), Some(body)).await.is(400);
        world.call("POST", "/api/v1/me/recovery-codes", Some(&token), None).await.is(201);
        let path = format!("/api/v1/me/factors/{}", made.json["factor"]["id"].as_str().unwrap());
        world.call("DELETE", &path, Some(&token), None).await.is(204);
        world.sign_in(&admin()).await;
    });
}

#[test]
fn attack_7_a_token_for_one_purpose_is_good_for_no_other() {
    each_engine(|world| async move {
        let session = world.sign_in(&admin()).await;
        let mut authenticator = new(Algorithm::EdDsa);
        enrol(&world, &session, &authenticator).await;
        let waiting = pending(&world, &admin()).await;
        let state = async |path: &str, token: Option<&str>, body: Option<Value>| {
            ask(&world, path, token, body).await.json["state"].as_str().unwrap().to_owned()
        };
        let tokens = [
            ("session", session.clone()),
            ("second step", waiting.clone()),
            ("register", state("/api/v1/me/factors/passkey-challenge", Some(&session), None).await),
            ("step up", state("/api/v1/sessions/current/passkey-challenge", Some(&session), None).await),
            ("sign in", state("/api/v1/sessions/passkey-challenge", None, Some(json!({}))).await),
            ("answer", state("/api/v1/sessions/passkey-challenge", None, Some(json!({"token": waiting}))).await),
        ];
        for (name, token) in &tokens {
            // A correct signature over the token that is presented as the challenge: only its purpose can be wrong.
            let asked = Answer {
                status: 200,
                headers: http::HeaderMap::new(),
                text: String::new(),
                raw: Vec::new(),
                json: json!({"state": token, "options": {"challenge": b64(&crypto::sha256(token.as_bytes()).0)}}),
            };
            let fits = |kind: &str, status: u16| (status < 400) == (*name == kind);
            let me = world.call("GET", "/api/v1/me", Some(token), None).await.status;
            assert!(fits("session", me), "{name} as a session: {me}");
            let asks =
                world.call("POST", "/api/v1/sessions/passkey-challenge", None, Some(json!({"token": token}))).await;
            assert!(fits("second step", asks.status), "{name} between the steps: {}", asks.status);
            let body = created(&new(Algorithm::EdDsa), &asked);
            let made = register(&world, &session, body).await.status;
            assert!(fits("register", made), "{name} for a new passkey: {made}");
            let body = json!({"passkey": answered(&mut authenticator, &asked)});
            let proved =
                world.call("POST", "/api/v1/sessions/current/step-up", Some(&session), Some(body)).await.status;
            assert!(fits("step up", proved), "{name} for a fresh proof: {proved}");
            let body = answered(&mut authenticator, &asked);
            let alone = world.call("POST", "/api/v1/sessions/passkey", None, Some(body)).await.status;
            assert!(fits("sign in", alone), "{name} for a sign-in alone: {alone}");
            let answer = answered(&mut authenticator, &asked);
            let second = second_step(&world, &waiting, json!({"passkey": answer})).await.status;
            assert!(fits("answer", second), "{name} for the second step: {second}");
        }
    });
}
