//! Authenticator apps, recovery codes, sign-ins in two steps, and what asks for them.

use std::time::Duration;

use access::Role;
use crypto::totp;
use domain::Clock as _;
use serde_json::{Value, json};

use crate::idp::{Browser, PUBLIC_URL};
use crate::world::{Answer, LEAVER, PLATFORM, STRANGER, World, admin, each_engine, each_engine_with, holder, planted};

/// An authenticator app.
pub(crate) struct App {
    id: String,
    secret: Vec<u8>,
}

impl App {
    /// Enrols one, which is not confirmed yet.
    async fn begin(world: &World, token: &str) -> Self {
        let answer = world.call("POST", "/api/v1/me/factors/totp", Some(token), Some(json!({"name": "Phone"}))).await;
        Self::of(&answer.is(201))
    }

    /// What an enrolment shows.
    fn of(answer: &Answer) -> Self {
        let shown = answer.json["secret"].as_str().unwrap();
        assert!(answer.json["otpauth_uri"].as_str().unwrap().contains(&format!("secret={shown}&issuer=Cairn")));
        let (mut secret, mut buffer, mut bits) = (Vec::new(), 0u32, 0);
        for letter in shown.bytes() {
            let five = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter).unwrap();
            buffer = buffer << 5 | u32::try_from(five).unwrap();
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                secret.push(u8::try_from(buffer >> bits & 0xff).unwrap());
            }
        }
        assert_eq!(totp::base32(&secret), shown);
        Self { id: answer.id(), secret }
    }

    /// The code that it shows, some steps from now.
    pub(crate) fn code(&self, world: &World, steps: i64) -> String {
        totp::code(&self.secret, (world.clock.now().as_seconds() / totp::STEP_S + steps).unsigned_abs())
    }

    /// Enrols one in a browser's session.
    pub(crate) async fn enrol_by_cookie(world: &World, browser: &mut Browser) -> Self {
        let ours = [("content-type", "application/json"), ("origin", PUBLIC_URL)];
        let body = json!({"name": "Phone"}).to_string();
        let app = Self::of(&browser.ask(world, "POST", "/api/v1/me/factors/totp", &ours, Some(&body)).await.is(201));
        let (path, body) =
            (format!("/api/v1/me/factors/{}/confirm", app.id), json!({"code": app.code(world, 0)}).to_string());
        browser.ask(world, "POST", &path, &ours, Some(&body)).await.is(200);
        app
    }

    async fn confirm(&self, world: &World, token: &str, code: &str) -> Answer {
        let path = format!("/api/v1/me/factors/{}/confirm", self.id);
        world.call("POST", &path, Some(token), Some(json!({"code": code}))).await
    }
}

/// Enrols an app in a session; it and the recovery codes. The code that it was confirmed with is used up.
async fn enrol(world: &World, token: &str) -> (App, Vec<String>) {
    let app = App::begin(world, token).await;
    let answer = app.confirm(world, token, &app.code(world, 0)).await.is(200);
    let codes = answer.json["recovery_codes"].as_array().unwrap();
    (app, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

async fn first_step(world: &World, email: &str) -> Answer {
    let body = json!({"email": email, "password": planted().password});
    world.call("POST", "/api/v1/sessions", None, Some(body)).await
}

/// The first step of somebody who has a second factor: the token between the steps.
pub(crate) async fn pending(world: &World, email: &str) -> String {
    first_step(world, email).await.is(202).json["token"].as_str().unwrap().to_owned()
}

pub(crate) async fn second_step(world: &World, pending: &str, proof: Value) -> Answer {
    let mut body = proof;
    body["token"] = json!(pending);
    world.call("POST", "/api/v1/sessions/second-step", None, Some(body)).await
}

fn next_step(world: &World) {
    world.clock.advance(Duration::from_secs(30));
}

async fn last(world: &World) -> (String, String) {
    let (_, action, outcome) = world.audit(None, -1).await.pop().unwrap();
    (action, outcome)
}

fn record(action: &str, outcome: &str) -> (String, String) {
    (action.to_owned(), outcome.to_owned())
}

#[test]
fn a_user_with_a_second_factor_signs_in_in_two_steps() {
    each_engine(|world| async move {
        let (token, other) = (world.sign_in(&admin()).await, world.sign_in(&admin()).await);
        let app = App::begin(&world, &token).await;
        // Not confirmed, it does not count.
        world.sign_in(&admin()).await;
        app.confirm(&world, &token, "000000").await.is(400).says("clock of the device");
        assert_eq!(last(&world).await, record("totp_confirm", "fail"));
        let codes = app.confirm(&world, &token, &app.code(&world, 0)).await.is(200).json["recovery_codes"].clone();
        assert_eq!(codes.as_array().unwrap().len(), 10);
        app.confirm(&world, &token, &app.code(&world, 1)).await.is(404);
        world.call("GET", "/api/v1/me", Some(&other), None).await.is(401);
        let me = world.call("GET", "/api/v1/me", Some(&token), None).await.is(200);
        assert_eq!((&me.json["has_second_factor"], &me.json["must_add_second_factor"]), (&json!(true), &json!(false)));

        next_step(&world);
        let needed = first_step(&world, &admin()).await.is(202);
        assert_eq!(needed.json["methods"], json!(["totp", "recovery-code"]));
        assert!(needed.json.get("me").is_none(), "{}", needed.text);
        assert_eq!(last(&world).await, record("sign_in_begin", "success"));
        let pending = needed.json["token"].as_str().unwrap();
        second_step(&world, pending, json!({"code": "000000"})).await.is(401);
        assert_eq!(last(&world).await, record("session_create", "deny"));
        let done = second_step(&world, pending, json!({"code": app.code(&world, 0)})).await.is(201);
        assert_eq!(last(&world).await, record("session_create", "success"));
        let session = done.json["token"].as_str().unwrap();
        let sessions = world.call("GET", "/api/v1/me/sessions", Some(session), None).await.is(200);
        assert_eq!(sessions.json["items"][1]["second_factor"], true);
        let factors = world.call("GET", "/api/v1/me/factors", Some(session), None).await.is(200);
        assert_eq!(factors.json["recovery_codes_left"], 10);
        assert_eq!(
            (&factors.json["items"][0]["kind"], &factors.json["items"][0]["name"]),
            (&json!("totp"), &json!("Phone"))
        );
    });
}

#[test]
fn the_token_between_the_two_steps_is_good_for_nothing_else_and_once() {
    each_engine(|world| async move {
        let session = world.sign_in(&admin()).await;
        let (app, _) = enrol(&world, &session).await;
        next_step(&world);
        let token = pending(&world, &admin()).await;
        for path in ["/api/v1/me", "/api/v1/me/sessions", "/api/v1/tenants/acme/nodes", "/api/v1/me/factors"] {
            world.call("GET", path, Some(&token), None).await.is(401);
        }
        // A session is no first step either.
        second_step(&world, &session, json!({"code": app.code(&world, 0)})).await.is(401);
        // Exactly one proof.
        second_step(&world, &token, json!({})).await.is(400).says("one proof");
        second_step(&world, &token, json!({"code": "1", "recovery_code": "2"})).await.is(400).says("one proof");
        second_step(&world, &token, json!({"password": planted().password})).await.is(400);
        second_step(&world, &token, json!({"code": app.code(&world, 0)})).await.is(201);
        next_step(&world);
        second_step(&world, &token, json!({"code": app.code(&world, 0)})).await.is(401);
        // It expires, and dies with the user's right to sign in.
        let late = pending(&world, &admin()).await;
        world.clock.advance(Duration::from_mins(5));
        second_step(&world, &late, json!({"code": app.code(&world, 0)})).await.is(401);
        let stopped = pending(&world, &admin()).await;
        let user = format!("/api/v1/users/{}", world.user_id(&admin()));
        let platform = world.sign_in(PLATFORM).await;
        world.call("PATCH", &user, Some(&platform), Some(json!({"disabled": true}))).await.is(200);
        world.call("PATCH", &user, Some(&platform), Some(json!({"disabled": false}))).await.is(200);
        second_step(&world, &stopped, json!({"code": app.code(&world, 0)})).await.is(401);
    });
}

#[test]
fn a_code_counts_once_also_where_two_come_at_once() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let (app, _) = enrol(&world, &token).await;
        // The code of the enrolment was used.
        let first = pending(&world, &admin()).await;
        second_step(&world, &first, json!({"code": app.code(&world, 0)})).await.is(401);
        assert_eq!(last(&world).await, record("session_create", "deny"));
        next_step(&world);
        let code = json!({"code": app.code(&world, 0)});
        let second = pending(&world, &admin()).await;
        let (a, b) =
            tokio::join!(second_step(&world, &first, code.clone()), second_step(&world, &second, code.clone()));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 401]);
        // Nor for a fresh proof.
        world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), Some(code)).await.is(400);
        // An earlier step does not come back, the next one within the drift goes on.
        let third = pending(&world, &admin()).await;
        second_step(&world, &third, json!({"code": app.code(&world, -1)})).await.is(401);
        second_step(&world, &third, json!({"code": app.code(&world, 1)})).await.is(201);
    });
}

#[test]
fn a_recovery_code_counts_once_also_where_two_come_at_once() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let (_, codes) = enrol(&world, &token).await;
        let typed = codes[0].to_uppercase().replace('-', " ");
        let (first, second) = (pending(&world, &admin()).await, pending(&world, &admin()).await);
        let (a, b) = tokio::join!(
            second_step(&world, &first, json!({"recovery_code": typed})),
            second_step(&world, &second, json!({"recovery_code": typed}))
        );
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 401]);
        let again = pending(&world, &admin()).await;
        second_step(&world, &again, json!({"recovery_code": codes[0]})).await.is(401);
        // Another's code is none.
        let stranger = world.sign_in(STRANGER).await;
        let (_, others) = enrol(&world, &stranger).await;
        second_step(&world, &again, json!({"recovery_code": others[0]})).await.is(401);
        second_step(&world, &again, json!({"recovery_code": codes[1]})).await.is(201);
        // New ones void the old ones.
        let made = world.call("POST", "/api/v1/me/recovery-codes", Some(&token), None).await.is(201);
        let last = pending(&world, &admin()).await;
        second_step(&world, &last, json!({"recovery_code": codes[2]})).await.is(401);
        second_step(&world, &last, json!({"recovery_code": made.json["recovery_codes"][0]})).await.is(201);
        let left = world.call("GET", "/api/v1/me/factors", Some(&token), None).await.is(200);
        assert_eq!(left.json["recovery_codes_left"], 9);
    });
}

#[test]
fn guessing_codes_is_slowed_down_and_locks_nobody_out() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let (app, codes) = enrol(&world, &token).await;
        next_step(&world);
        let guesser = pending(&world, &admin()).await;
        // Many at once are still one after another.
        let guesses = (0..12).map(|_| second_step(&world, &guesser, json!({"code": "000000"})));
        let statuses: Vec<u16> = futures::future::join_all(guesses).await.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 5, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 7, "{statuses:?}");
        // Not even the right one is looked at, nor one for a fresh proof.
        let waits = second_step(&world, &guesser, json!({"code": app.code(&world, 0)})).await.is(429);
        assert_eq!((waits.header("retry-after"), &waits.json["code"]), ("30", &json!("throttled")));
        let body = json!({"code": app.code(&world, 0)});
        world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), Some(body)).await.is(429);
        // Whoever has a recovery code gets in.
        let victim = pending(&world, &admin()).await;
        second_step(&world, &victim, json!({"recovery_code": codes[0]})).await.is(201);
        // Each further wrong one doubles the wait; a right one ends it.
        world.clock.advance(Duration::from_secs(30));
        second_step(&world, &guesser, json!({"code": "000000"})).await.is(401);
        let waits = second_step(&world, &guesser, json!({"code": "000000"})).await.is(429);
        assert_eq!(waits.header("retry-after"), "60");
        world.clock.advance(Duration::from_mins(1));
        second_step(&world, &guesser, json!({"code": app.code(&world, 0)})).await.is(201);
        let fresh = pending(&world, &admin()).await;
        second_step(&world, &fresh, json!({"code": "000000"})).await.is(401);
        next_step(&world);
        second_step(&world, &fresh, json!({"code": app.code(&world, 0)})).await.is(201);
    });
}

#[test]
fn a_fresh_proof_of_who_has_a_second_factor_is_that_factor() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let (app, codes) = enrol(&world, &token).await;
        world.clock.advance(Duration::from_mins(15));
        let remove = format!("/api/v1/me/factors/{}", app.id);
        world.call("DELETE", &remove, Some(&token), None).await.is(403).says("second factor");
        let prove = |body: Value| world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), Some(body));
        prove(json!({"password": planted().password})).await.is(400).says("you have a second factor");
        world.call("DELETE", &remove, Some(&token), None).await.is(403);
        prove(json!({"code": "000000"})).await.is(400);
        assert_eq!(last(&world).await, record("session_prove", "deny"));
        prove(json!({"code": app.code(&world, 0)})).await.is(200);
        assert_eq!(last(&world).await, record("session_prove", "success"));
        world.clock.advance(Duration::from_mins(15));
        prove(json!({"recovery_code": codes[0]})).await.is(200);
        // Another's factor is none, and its own goes.
        let stranger = world.sign_in(STRANGER).await;
        world.call("DELETE", &remove, Some(&stranger), None).await.is(404);
        app.confirm(&world, &stranger, &app.code(&world, 0)).await.is(404);
        world.call("DELETE", &remove, Some(&token), None).await.is(204);
        assert_eq!(last(&world).await, record("factor_delete", "success"));
        world.sign_in(&admin()).await;
        let left = world.call("GET", "/api/v1/me/factors", Some(&token), None).await.is(200);
        assert_eq!(left.json, json!({"items": [], "recovery_codes_left": 0}));
        world.call("POST", "/api/v1/me/recovery-codes", Some(&token), None).await.is(409);
    });
}

#[test]
fn an_administrator_resets_the_factors_of_who_lost_them() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let (_, codes) = enrol(&world, &token).await;
        let waiting = pending(&world, &admin()).await;
        let path = format!("/api/v1/users/{}/factors", world.user_id(&admin()));
        world.call("DELETE", &path, Some(&token), None).await.is(403);
        let platform = world.sign_in(PLATFORM).await;
        world.clock.advance(Duration::from_mins(15));
        let stale = world.call("DELETE", &path, Some(&platform), None).await.is(403);
        assert_eq!(stale.json["code"], "step_up_required");
        let body = json!({"password": planted().password});
        world.call("POST", "/api/v1/sessions/current/step-up", Some(&platform), Some(body)).await.is(200);
        world.call("DELETE", &path, Some(&platform), None).await.is(204);
        assert_eq!(last(&world).await, record("user_factors_reset", "success"));
        world.call("GET", "/api/v1/me", Some(&token), None).await.is(401);
        second_step(&world, &waiting, json!({"recovery_code": codes[0]})).await.is(401);
        world.sign_in(&admin()).await;
    });
}

#[test]
fn where_the_installation_requires_a_second_factor_nothing_but_adding_one_is_possible() {
    each_engine_with(
        |settings| settings.second_factor_required = true,
        |world| async move {
            let token = world.sign_in(&admin()).await;
            let call = async |method: &str, path: &str| world.call(method, path, Some(&token), None).await;
            assert_eq!(call("GET", "/api/v1/me").await.is(200).json["must_add_second_factor"], true);
            for path in
                ["/api/v1/tenants/acme/nodes", "/api/v1/plugins", "/api/v1/users", "/api/v1/tenants/nowhere/nodes"]
            {
                call("GET", path).await.is(403).says("a second factor is required here");
            }
            let (app, _) = enrol(&world, &token).await;
            assert_eq!(call("GET", "/api/v1/me").await.is(200).json["must_add_second_factor"], false);
            call("GET", "/api/v1/tenants/acme/nodes").await.is(200);
            call("DELETE", &format!("/api/v1/me/factors/{}", app.id)).await.is(409).says("required");
            next_step(&world);
            let waiting = pending(&world, &admin()).await;
            let done = second_step(&world, &waiting, json!({"code": app.code(&world, 0)})).await.is(201);
            let session = done.json["token"].as_str().unwrap().to_owned();
            world.call("GET", "/api/v1/tenants/acme/nodes", Some(&session), None).await.is(200);
        },
    );
}

#[test]
fn a_tenant_that_requires_a_second_factor_is_closed_to_sessions_without_one() {
    each_engine(|world| async move {
        let policy = "/api/v1/tenants/acme/sign-in-policy";
        let close = json!({"second_factor_required": true});
        let boss = world.sign_in(&admin()).await;
        let auditor = world.sign_in(&holder(Role::Auditor, 'a')).await;
        world.call("PUT", policy, Some(&boss), Some(close.clone())).await.is(409).says("lock yourself out");
        let (app, _) = enrol(&world, &boss).await;
        world.call("PUT", policy, Some(&boss), Some(close)).await.is(200);
        assert_eq!(world.call("GET", policy, Some(&boss), None).await.is(200).json["second_factor_required"], true);
        let last = world.audit(Some(world.a), -1).await.last().unwrap().0;
        let findings = "/api/v1/tenants/acme/findings";
        world.call("GET", findings, Some(&auditor), None).await.is(403).says("this tenant requires a second factor");
        let left = world.audit(Some(world.a), last).await;
        assert_eq!((left[0].1.as_str(), left[0].2.as_str()), ("finding_list", "deny"));
        // Whether it exists is no secret to its members, and who may not do a thing is told that as before.
        world.call("GET", policy, Some(&auditor), None).await.is(403).says("your role lacks");
        world.call("GET", "/api/v1/tenants/globex/findings", Some(&auditor), None).await.is(404);
        let me = world.call("GET", "/api/v1/me", Some(&auditor), None).await.is(200);
        assert_eq!(me.json["tenants"][0]["needs_second_factor"], true);
        // Another tenant is open as before.
        world
            .call(
                "GET",
                "/api/v1/tenants/globex/findings",
                Some(&world.sign_in(&holder(Role::Auditor, 'b')).await),
                None,
            )
            .await
            .is(200);
        world.call("DELETE", &format!("/api/v1/me/factors/{}", app.id), Some(&boss), None).await.is(409);
        enrol(&world, &auditor).await;
        world.call("GET", findings, Some(&auditor), None).await.is(200);
    });
}

#[test]
fn a_new_password_ends_sign_ins_between_their_steps() {
    each_engine(|world| async move {
        let token = world.sign_in(LEAVER).await;
        let (app, _) = enrol(&world, &token).await;
        next_step(&world);
        let waiting = pending(&world, LEAVER).await;
        let body = json!({"old": planted().password, "new": planted().new_password});
        world.call("POST", "/api/v1/me/password", Some(&token), Some(body)).await.is(204);
        second_step(&world, &waiting, json!({"code": app.code(&world, 0)})).await.is(401);
    });
}
