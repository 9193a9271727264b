//! Signing in and out, forged tokens, one's own password.

use std::time::Duration;

use access::Role;
use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::Clock as _;
use serde_json::{Value, json};

use crate::idp::{Browser, PUBLIC_URL};
use crate::world::{
    LEAVER, NEWCOMER, PLATFORM, SESSION_MS, STRANGER, World, admin, each_engine, each_engine_with, holder, planted,
};

const JOBS: &str = "/api/v1/tenants/acme/jobs";
const IDLE_MS: i64 = 3_600_000;
const STEP_UP_MS: u64 = 15 * 60_000;

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn forge(header: &Value, claims: &Value, key: &[u8]) -> String {
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(crypto::hmac_sha256(key, signed.as_bytes())))
}

async fn me(world: &World, token: &str) -> u16 {
    world.call("GET", "/api/v1/me", Some(token), None).await.status
}

async fn sign_in(world: &World, email: &str, password: &str) -> crate::world::Answer {
    world.call("POST", "/api/v1/sessions", None, Some(json!({"email": email, "password": password}))).await
}

#[test]
fn who_signs_in_is_told_what_they_may_do_and_for_how_long() {
    each_engine(|world| async move {
        let answer = sign_in(&world, "TENANT-ADMIN-A@example.org", &planted().password).await.is(201);
        let (me, token) = (&answer.json["me"], answer.json["token"].as_str().unwrap());
        assert_eq!(
            (me["email"].as_str(), me["platform_admin"].as_bool()),
            (Some("tenant-admin-a@example.org"), Some(false))
        );
        let [tenant] = me["tenants"].as_array().unwrap().as_slice() else { panic!("{me}") };
        assert_eq!((tenant["slug"].as_str(), tenant["role"].as_str()), (Some("acme"), Some("tenant-admin")));
        let can: Vec<&str> = tenant["can"].as_array().unwrap().iter().map(|can| can.as_str().unwrap()).collect();
        let holds = access::Permission::ALL
            .iter()
            .filter(|permission| Role::TenantAdmin.holds(**permission))
            .map(|permission| permission.as_str());
        assert_eq!(can, holds.collect::<Vec<_>>());
        let idle_end = world.clock.now().plus_millis(IDLE_MS).to_string();
        assert_eq!(
            (&me["has_password"], me["idle_ms"].as_i64(), me["idle_ends_at"].as_str()),
            (&json!(true), Some(IDLE_MS), Some(idle_end.as_str()))
        );
        let claims = claims(token);
        let mut names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["aud", "exp", "iat", "iss", "sid", "sub"]);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), SESSION_MS / 1_000);
        let shown = world.call("GET", "/api/v1/me", Some(token), None).await.is(200);
        assert_eq!(&shown.json, me);
    });
}

#[test]
fn a_wrong_password_an_unknown_user_and_a_disabled_user_get_the_same_bytes() {
    each_engine(|world| async move {
        let leaver = format!("/api/v1/users/{}", world.user_id(LEAVER));
        world.by(PLATFORM, "PATCH", &leaver, Some(json!({"disabled": true}))).await.is(200);
        let nothing = testkit::logs::plant("a wrong password");
        let tries = [
            (admin(), &nothing),
            ("nobody@example.org".to_owned(), &planted().password),
            (LEAVER.to_owned(), &planted().password),
        ];
        let mut answers = Vec::new();
        for (email, password) in tries {
            let last = world.audit(None, -1).await.last().unwrap().0;
            answers.push(sign_in(&world, &email, password).await.is(401).masked(&[]));
            let left = world.audit(None, last).await;
            assert_eq!(left.len(), 1);
            assert_eq!((left[0].1.as_str(), left[0].2.as_str()), ("session_create", "deny"), "{email}");
        }
        assert!(answers[0].contains("www-authenticate: Bearer"), "{}", answers[0]);
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
        for password in [String::new(), "x".repeat(1_024), "\0".to_owned(), "\u{202e}".to_owned()] {
            sign_in(&world, &admin(), &password).await.is(401);
        }
        sign_in(&world, &admin(), &"x".repeat(1_025)).await.is(413);
        sign_in(&world, "no address", "x").await.is(400).says("address");
    });
}

#[test]
fn attack_1_to_8_a_token_that_is_not_exactly_ours_is_refused() {
    each_engine(|world| async move {
        let token = world.token(&admin()).await;
        let (good, key) = (claims(&token), planted().jwt.as_bytes());
        let header = json!({"alg": "HS256", "typ": "JWT"});
        assert_eq!(me(&world, &forge(&header, &good, key)).await, 200, "the forger works");
        let mut forged = Vec::new();
        for alg in ["none", "None", "nOnE", "", "HS512", "ES256", "RS256"] {
            let header = json!({"alg": alg, "typ": "JWT"});
            forged.push((format!("alg {alg}"), forge(&header, &good, key)));
            let unsigned = [&header, &good].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
            forged.push((format!("alg {alg} without signature"), format!("{unsigned}.")));
        }
        for (name, value) in [
            ("jku", json!("https://evil.example/")),
            ("x5u", json!("https://evil.example/")),
            ("jwk", json!({})),
            ("kid", json!("../x")),
            ("crit", json!(["b64"])),
            ("b64", json!(false)),
        ] {
            let mut header = header.clone();
            header[name] = value;
            forged.push((name.to_owned(), forge(&header, &good, key)));
        }
        forged.push(("other key".to_owned(), forge(&header, &good, &[b'x'; 32])));
        forged.push(("installation as key".to_owned(), forge(&header, &good, world.installation.as_bytes())));
        let now = world.clock.now().as_seconds();
        let changes = [
            ("iss", json!("cairn:other")),
            ("iss", Value::Null),
            ("iss", json!([world.installation])),
            ("aud", json!("cairn-agent")),
            ("aud", Value::Null),
            ("aud", json!(["cairn-session", "cairn-agent"])),
            ("exp", json!(now)),
            ("exp", json!("9999999999")),
            ("exp", Value::Null),
            ("exp", json!(9_999_999_999.5)),
            ("iat", json!(now + 3_600)),
            ("iat", Value::Null),
            ("nbf", json!(now + 3_600)),
            ("sid", Value::Null),
            ("sid", json!("ses_00000000000000000000000000")),
            ("sid", good["sub"].clone()),
            ("sid", json!("")),
        ];
        for (name, value) in changes {
            let mut claims = good.clone();
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
            forged.push((format!("{name} {value}"), forge(&header, &claims, key)));
        }
        let [head, body, mac] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        for text in [
            format!("{head}.{body}"),
            format!("{head}.{body}.{mac}="),
            format!("{head}.{body}.{mac}.x"),
            format!(" {token}"),
            format!("{token}\u{20}x"),
            "x".repeat(9_000),
            "..".to_owned(),
            String::new(),
        ] {
            forged.push((format!("{text:.20}"), text));
        }
        for (what, forged) in forged {
            assert_eq!(me(&world, &forged).await, 401, "{what}");
        }
        assert_eq!(me(&world, &token).await, 200);
        // Another scheme, two headers.
        let request = |values: &[String]| {
            let request = values
                .iter()
                .fold(http::Request::get("/api/v1/me"), |request, value| request.header("authorization", value));
            request.body(axum::body::Body::empty()).unwrap()
        };
        for values in [vec![format!("Basic {token}")], vec![token.clone()], vec![format!("Bearer {token}"); 2]] {
            world.send(request(&values)).await.is(401);
        }
    });
}

#[test]
fn attack_9_what_an_administrator_takes_away_is_gone_at_the_next_request() {
    each_engine(|world| async move {
        let auditor = holder(Role::Auditor, 'a');
        let read = || async { world.by(&auditor, "GET", "/api/v1/tenants/acme/findings", None).await.status };
        assert_eq!(read().await, 200);
        let lower = json!({"email": auditor, "role": "read-only"});
        world.by(&admin(), "PUT", "/api/v1/tenants/acme/members", Some(lower)).await.is(200);
        assert_eq!(read().await, 403);
        let member = format!("/api/v1/tenants/acme/members/{}", world.user_id(&auditor));
        world.by(&admin(), "DELETE", &member, None).await.is(204);
        assert_eq!(read().await, 404);
        let user = format!("/api/v1/users/{}", world.user_id(&auditor));
        world.by(PLATFORM, "PATCH", &user, Some(json!({"disabled": true}))).await.is(200);
        assert_eq!(read().await, 401);
        world.by(PLATFORM, "PATCH", &user, Some(json!({"disabled": false}))).await.is(200);
        assert_eq!(read().await, 401, "a session that was ended does not come back");
        let tenant = format!("/api/v1/tenants/{}", world.b);
        let analyst = holder(Role::SecurityAnalyst, 'b');
        world.by(&analyst, "GET", "/api/v1/tenants/globex/nodes", None).await.is(200);
        world.by(PLATFORM, "DELETE", &tenant, None).await.is(204);
        world.by(&analyst, "GET", "/api/v1/tenants/globex/nodes", None).await.is(404);
        assert_eq!(world.by(&analyst, "GET", "/api/v1/me", None).await.is(200).json["tenants"], json!([]));
    });
}

#[test]
fn attack_10_a_sign_in_makes_a_new_session_and_a_sign_out_ends_one() {
    each_engine(|world| async move {
        let (first, second) = (world.sign_in(&admin()).await, world.sign_in(&admin()).await);
        assert_ne!(claims(&first)["sid"], claims(&second)["sid"]);
        // Whoever signs in with a token in hand gets another session all the same.
        let body = json!({"email": admin(), "password": planted().password});
        let third = world.call("POST", "/api/v1/sessions", Some(&first), Some(body)).await.is(201);
        assert_ne!(claims(third.json["token"].as_str().unwrap())["sid"], claims(&first)["sid"]);
        world.call("DELETE", "/api/v1/sessions/current", Some(&first), None).await.is(204);
        assert_eq!((me(&world, &first).await, me(&world, &second).await), (401, 200));
        world.call("DELETE", "/api/v1/sessions/current", Some(&first), None).await.is(401);
    });
}

#[test]
fn attack_11_a_session_ends_to_the_second_also_where_its_token_says_otherwise() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let mut longer = claims(&token);
        longer["exp"] = json!(9_999_999_999_i64);
        let longer = forge(&json!({"alg": "HS256"}), &longer, planted().jwt.as_bytes());
        // Used all the time, and proved anew now and then: neither makes it longer.
        let step = IDLE_MS / 2;
        for _ in 1..SESSION_MS / step {
            world.clock.advance(Duration::from_millis(step.unsigned_abs()));
            assert_eq!(me(&world, &token).await, 200);
            let body = json!({"password": planted().password});
            world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), Some(body)).await.is(200);
        }
        world.clock.advance(Duration::from_millis(step.unsigned_abs() - 1_000));
        assert_eq!((me(&world, &token).await, me(&world, &longer).await), (200, 200));
        world.clock.advance(Duration::from_secs(1));
        assert_eq!((me(&world, &token).await, me(&world, &longer).await), (401, 401));
    });
}

#[test]
fn attack_11_a_session_that_nobody_uses_ends_before_its_time() {
    each_engine(|world| async move {
        let (used, idle) = (world.sign_in(&admin()).await, world.sign_in(&admin()).await);
        // Uses within a minute of the last written one are not written, which may cost the session that minute, and never gives it one.
        for _ in 0..4 {
            world.clock.advance(Duration::from_millis(IDLE_MS.unsigned_abs() / 2));
            assert_eq!(me(&world, &used).await, 200);
        }
        assert_eq!((me(&world, &used).await, me(&world, &idle).await), (200, 401));
        world.clock.advance(Duration::from_millis(IDLE_MS.unsigned_abs() - 1));
        assert_eq!(me(&world, &used).await, 200);
        world.clock.advance(Duration::from_millis(IDLE_MS.unsigned_abs()));
        assert_eq!(me(&world, &used).await, 401);
        assert_eq!(me(&world, &used).await, 401, "an ended session is not used again");
    });
}

#[test]
fn attack_11_what_a_page_asks_by_itself_keeps_no_session_alive() {
    each_engine(|world| async move {
        let minutes = |n| Duration::from_mins(n);
        let begun = world.clock.now();
        let mut browser = Browser::default();
        let headers = [("content-type", "application/json"), ("origin", PUBLIC_URL)];
        let body = json!({"email": admin(), "password": planted().password, "cookie": true}).to_string();
        browser.ask(&world, "POST", "/api/v1/sessions", &headers, Some(&body)).await.is(201);
        let job = world.job(world.a).await;
        let events = format!("{JOBS}/{job}/events");
        let cancel = format!("{JOBS}/{job}/cancel");
        let background = ("x-cairn-background", "1");
        let stream = ("accept", "text/event-stream");
        for _ in 0..5 {
            world.clock.advance(minutes(10));
            for (path, header) in [("/api/v1/me", background), (JOBS, background), (events.as_str(), stream)] {
                let answer = browser.ask(&world, "GET", path, &[header], None).await;
                let answer = answer.is(200);
                if path == "/api/v1/me" {
                    assert_eq!(answer.json["idle_ends_at"], begun.plus_millis(IDLE_MS).to_string());
                }
            }
        }
        // A change is somebody's, whatever it says of itself.
        browser.ask(&world, "POST", &cancel, &[headers[0], headers[1], background], Some("{}")).await.is(200);
        world.clock.advance(minutes(50));
        let answer = browser.ask(&world, "GET", "/api/v1/me", &[background], None).await;
        let end = world.clock.now().plus_millis(IDLE_MS - 50 * 60_000).to_string();
        assert_eq!(answer.is(200).json["idle_ends_at"], end);
        // And so is what a person asks for.
        let used = browser.get(&world, "/api/v1/me").await.is(200);
        assert_eq!(used.json["idle_ends_at"], world.clock.now().plus_millis(IDLE_MS).to_string());
        world.clock.advance(minutes(59));
        let answer = browser.ask(&world, "GET", "/api/v1/me", &[background], None).await;
        answer.is(200);
        world.clock.advance(minutes(1));
        for header in [background, stream] {
            let answer = browser.ask(&world, "GET", &events, &[header], None).await;
            answer.is(401);
        }
        browser.get(&world, "/api/v1/me").await.is(401);
        // A command that follows a job is at work.
        let watching = world.sign_in(&admin()).await;
        for _ in 0..3 {
            world.clock.advance(minutes(40));
            let request = Request::get(&events).header("authorization", format!("Bearer {watching}"));
            world.send(request.header(stream.0, stream.1).body(Body::empty()).unwrap()).await.is(200);
        }
        assert_eq!(me(&world, &watching).await, 200);
    });
}

#[test]
fn attack_12_a_token_in_the_url_is_refused_and_not_logged() {
    each_engine(|world| async move {
        let token = world.token(&admin()).await;
        for name in ["token", "access_token", "TOKEN", "id_token", "jwt", "authorization", "x"] {
            let path = format!("/api/v1/me?a=b&{name}={token}");
            world.call("GET", &path, None, None).await.is(400).says("Authorization");
            world.call("GET", &path, Some(&token), None).await.is(400);
        }
        // The token was planted when it was shown: the watch of this world fails if a line of the log holds it.
        world.call("GET", &format!("/api/v1/{token}"), None, None).await;
    });
}

#[test]
fn a_new_password_ends_the_other_sessions_and_the_old_password() {
    each_engine(|world| async move {
        let (kept, other) = (world.sign_in(&admin()).await, world.sign_in(&admin()).await);
        let (old, new) = (&planted().password, &planted().new_password);
        let change = |old: &str, new: &str| {
            world.call("POST", "/api/v1/me/password", Some(&kept), Some(json!({"old": old, "new": new})))
        };
        for bad in ["short", &"x".repeat(1_025), "with a NUL \0 inside"] {
            let answer = change(old, bad).await.is(400);
            assert_eq!(answer.json["field"], "new");
        }
        change(old, old).await.is(400).says("other than the one so far");
        let last = world.audit(None, -1).await.last().unwrap().0;
        assert_eq!(change(new, "a password that is long").await.is(400).json["field"], "old");
        assert_eq!(world.audit(None, last).await[0].2, "deny");
        assert_eq!(me(&world, &other).await, 200);
        change(old, new).await.is(204);
        assert_eq!((me(&world, &kept).await, me(&world, &other).await), (200, 401));
        sign_in(&world, &admin(), old).await.is(401);
        sign_in(&world, &admin(), new).await.is(201);
        change(old, new).await.is(400);
    });
}

#[test]
fn an_installation_that_goes_to_pbkdf2_stores_each_password_anew_at_its_next_use() {
    each_engine_with(
        |settings| settings.pbkdf2 = true,
        |world| async move {
            let stored = || async {
                let user = world.store.login_user(&STRANGER.parse().unwrap()).await.unwrap().unwrap();
                user.password_hash.unwrap()
            };
            assert!(stored().await.starts_with("$2b$"), "a user from before, who has not signed in");
            sign_in(&world, STRANGER, &testkit::logs::plant("a wrong password")).await.is(401);
            assert!(stored().await.starts_with("$2b$"), "only a right password is stored anew");
            let token = world.sign_in(STRANGER).await;
            let renewed = stored().await;
            assert!(renewed.starts_with("$pbkdf2-sha256$"), "{renewed}");
            let last = world.audit(None, -1).await;
            assert!(last.iter().any(|(_, action, _)| action == "password_rehash"));
            world.sign_in(STRANGER).await;
            assert_eq!(stored().await, renewed, "once");
            let body = json!({"old": planted().password, "new": planted().new_password});
            world.call("POST", "/api/v1/me/password", Some(&token), Some(body)).await.is(204);
            assert!(stored().await.starts_with("$pbkdf2-sha256$"));
            sign_in(&world, STRANGER, &planted().new_password).await.is(201);
        },
    );
}

#[test]
fn a_one_time_password_is_good_for_nothing_but_changing_it() {
    each_engine(|world| async move {
        let token = world.sign_in(NEWCOMER).await;
        let call = |method, path| world.call(method, path, Some(&token), None);
        assert_eq!(call("GET", "/api/v1/me").await.is(200).json["must_change_password"], true);
        for path in [
            "/api/v1/plugins",
            "/api/v1/rules",
            "/api/v1/evidence-key",
            "/api/v1/tenants/acme/nodes",
            "/api/v1/tenants/nowhere/nodes",
            "/api/v1/users",
        ] {
            call("GET", path).await.is(403).says("change your one-time password");
        }
        let body = json!({"old": planted().password, "new": planted().new_password});
        world.call("POST", "/api/v1/me/password", Some(&token), Some(body)).await.is(204);
        assert_eq!(call("GET", "/api/v1/me").await.is(200).json["must_change_password"], false);
        call("GET", "/api/v1/tenants/acme/nodes").await.is(200);
        call("DELETE", "/api/v1/sessions/current").await.is(204);
    });
}

#[test]
fn everybody_sees_their_own_live_sessions_and_ends_one_or_all() {
    each_engine(|world| async move {
        let mut tokens = Vec::new();
        for agent in ["one", "two", "three"] {
            let body = json!({"email": STRANGER, "password": planted().password}).to_string();
            let request = http::Request::post("/api/v1/sessions").header("content-type", "application/json");
            let request = request.header("user-agent", agent).body(axum::body::Body::from(body)).unwrap();
            let token = world.send(request).await.is(201).json["token"].as_str().unwrap().to_owned();
            tokens.push(token);
            world.later();
        }
        let list = |token: &str| {
            let (world, token) = (&world, token.to_owned());
            async move { world.call("GET", "/api/v1/me/sessions", Some(&token), None).await.is(200).json["items"].clone() }
        };
        let of = |token: &str| claims(token)["sid"].as_str().unwrap().to_owned();
        let listed = list(&tokens[1]).await;
        let seen: Vec<_> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (s["id"].as_str(), s["agent"].as_str(), s["current"].as_bool()))
            .collect();
        let ids: Vec<String> = tokens.iter().map(|token| of(token)).collect();
        assert_eq!(
            seen,
            [
                (Some(ids[0].as_str()), Some("one"), Some(false)),
                (Some(ids[1].as_str()), Some("two"), Some(true)),
                (Some(ids[2].as_str()), Some("three"), Some(false)),
            ]
        );
        assert_eq!((&listed[0]["method"], &listed[0]["second_factor"]), (&json!("password"), &json!(false)));
        let page = world.call("GET", "/api/v1/me/sessions?limit=2", Some(&tokens[0]), None).await.is(200);
        let rest = format!("/api/v1/me/sessions?limit=2&page={}", page.json["next_page"].as_str().unwrap());
        assert_eq!(world.call("GET", &rest, Some(&tokens[0]), None).await.is(200).json["items"][0]["id"], ids[2]);

        // Another's session is none, and one that was ended neither.
        let other = of(&world.sign_in(PLATFORM).await);
        let path = |id: &str| format!("/api/v1/me/sessions/{id}");
        world.call("DELETE", &path(&other), Some(&tokens[0]), None).await.is(404);
        world.call("DELETE", &path(&ids[2]), Some(&tokens[0]), None).await.is(204);
        assert_eq!(me(&world, &tokens[2]).await, 401);
        world.call("DELETE", &path(&ids[2]), Some(&tokens[0]), None).await.is(404);
        assert_eq!(list(&tokens[0]).await.as_array().unwrap().len(), 2);

        let end = |token: &str, body: Value| {
            let (world, token) = (&world, token.to_owned());
            async move { world.call("POST", "/api/v1/me/sessions/end", Some(&token), Some(body)).await }
        };
        assert_eq!(end(&tokens[0], json!({})).await.is(200).json["ended"], 1);
        assert_eq!((me(&world, &tokens[0]).await, me(&world, &tokens[1]).await), (200, 401));
        let more = world.sign_in(STRANGER).await;
        assert_eq!(end(&tokens[0], json!({"including_current": true})).await.is(200).json["ended"], 2);
        assert_eq!((me(&world, &tokens[0]).await, me(&world, &more).await), (401, 401));
        assert_eq!(world.audit(None, -1).await.last().unwrap().1, "sessions_end");
    });
}

#[test]
fn what_touches_secrets_roles_or_keys_needs_a_fresh_proof_and_a_sign_in_is_one() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let n = std::cell::Cell::new(0);
        let create = || {
            n.set(n.get() + 1);
            let secret = json!({"access_key_id": "AKIA", "secret_access_key": planted().aws});
            let body =
                json!({"plugin": "aws", "name": format!("fresh{}", n.get()), "type": "aws-keys", "secret": secret});
            world.call("POST", "/api/v1/tenants/acme/credentials", Some(&token), Some(body))
        };
        let prove = |body: Value| world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), Some(body));
        create().await.is(201);
        world.clock.advance(Duration::from_millis(STEP_UP_MS - 1));
        create().await.is(201);
        world.clock.advance(Duration::from_millis(1));
        let last = world.audit(Some(world.a), -1).await.last().unwrap().0;
        let refused = create().await.is(403).says("step-up");
        assert_eq!(refused.json["code"], "step_up_required");
        let left = world.audit(Some(world.a), last).await;
        assert_eq!((left[0].1.as_str(), left[0].2.as_str()), ("credential_create", "deny"));
        // What needs none goes on, and who may not do it anyway is not asked for a password.
        world.call("GET", "/api/v1/tenants/acme/credentials", Some(&token), None).await.is(200);
        let viewer = world.sign_in(&holder(Role::ReadOnly, 'a')).await;
        world.clock.advance(Duration::from_millis(STEP_UP_MS));
        let body = json!({"email": "x@example.org", "role": "read-only"});
        let denied = world.call("PUT", "/api/v1/tenants/acme/members", Some(&viewer), Some(body)).await.is(403);
        assert_eq!(denied.json["code"], "forbidden");

        let wrong = testkit::logs::plant("a wrong password for a fresh proof");
        assert_eq!(prove(json!({"password": wrong})).await.is(400).json["field"], "password");
        assert_eq!(world.audit(None, -1).await.last().unwrap().2, "deny");
        prove(json!({})).await.is(400).says("one proof");
        prove(json!({"password": planted().password, "code": "000000"})).await.is(400).says("one proof");
        create().await.is(403);
        prove(json!({"password": planted().password})).await.is(200);
        assert_eq!(world.audit(None, -1).await.last().unwrap().1, "session_prove");
        create().await.is(201);
        // It is this session's alone.
        let other = world.sign_in(&admin()).await;
        world.clock.advance(Duration::from_millis(STEP_UP_MS));
        prove(json!({"password": planted().password})).await.is(200);
        world.call("POST", "/api/v1/me/factors/totp", Some(&other), Some(json!({"name": "Phone"}))).await.is(403);
        world.call("POST", "/api/v1/me/factors/totp", Some(&token), Some(json!({"name": "Phone"}))).await.is(201);
    });
}

#[test]
fn the_password_cannot_be_guessed_by_fresh_proofs_in_a_stolen_session() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let prove = |password: String| {
            let body = json!({"password": password});
            world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), Some(body))
        };
        for n in 0..5 {
            prove(format!("a wrong password, number {n}")).await.is(400);
        }
        prove("one more".to_owned()).await.is(429);
        prove(planted().password.clone()).await.is(429);
        world.clock.advance(Duration::from_hours(1));
        let again = world.sign_in(&admin()).await;
        let body = json!({"password": planted().password});
        world.call("POST", "/api/v1/sessions/current/step-up", Some(&again), Some(body)).await.is(200);
    });
}
