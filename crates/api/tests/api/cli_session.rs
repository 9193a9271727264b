//! Sessions of the command line, and signing in on another device.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::world::{Answer, LEAVER, NEWCOMER, PLATFORM, TERMINAL, World, admin, each_engine, planted};

async fn me(world: &World, token: &str) -> u16 {
    world.call("GET", "/api/v1/me", Some(token), None).await.status
}

#[test]
fn a_session_of_the_command_line_is_the_users_and_makes_no_other() {
    each_engine(|world| async move {
        let token = world.cli_session(TERMINAL).await;
        assert!(token.starts_with("cs_") && token.len() == 38 && token.as_bytes()[13] == b'.', "its form");
        let shown = world.call("GET", "/api/v1/me", Some(&token), None).await.is(200);
        assert_eq!((&shown.json["kind"], &shown.json["email"]), (&json!("user"), &json!(TERMINAL)));
        world.call("GET", "/api/v1/tenants/acme/members", Some(&token), None).await.is(200);
        world.call("POST", "/api/v1/cli-sessions", Some(&token), Some(json!({"client": "x"}))).await.is(403);
        let newcomer = world.sign_in(NEWCOMER).await;
        world.call("POST", "/api/v1/cli-sessions", Some(&newcomer), Some(json!({"client": "x"}))).await.is(403);
        let good = world.sign_in(TERMINAL).await;
        for client in ["", "a\nb", &"x".repeat(129)] {
            let body = json!({"client": client});
            let answer = world.call("POST", "/api/v1/cli-sessions", Some(&good), Some(body)).await.is(400);
            assert_eq!(answer.json["field"], "client");
        }
        let mut wrong = token.clone().into_bytes();
        wrong[37] = if wrong[37] == b'a' { b'b' } else { b'a' };
        for bad in [
            String::from_utf8(wrong).unwrap(),
            format!("cs_aaaaaaaaaa.{}", &token[14..]),
            "cs_".to_owned(),
            token[..37].to_owned(),
        ] {
            assert_eq!(me(&world, &bad).await, 401);
        }
        for path in [format!("/api/v1/me?x={token}"), format!("/api/v1/me?x=sk_{}", "a".repeat(50))] {
            world.call("GET", &path, Some(&token), None).await.is(400).says("Authorization");
        }
    });
}

#[test]
fn attack_11_a_session_of_the_command_line_ends_after_three_idle_days_and_after_thirty() {
    each_engine(|world| async move {
        let hours = |n| Duration::from_hours(n);
        let idle = world.cli_session(TERMINAL).await;
        world.clock.advance(Duration::from_secs(72 * 3_600 - 1));
        assert_eq!(me(&world, &idle).await, 200);
        world.clock.advance(hours(72));
        assert_eq!(me(&world, &idle).await, 401);
        assert_eq!(me(&world, &idle).await, 401, "being refused is no use");
        let busy = world.cli_session(TERMINAL).await;
        for _ in 0..14 {
            world.clock.advance(hours(48));
            assert_eq!(me(&world, &busy).await, 200);
        }
        world.clock.advance(Duration::from_secs(48 * 3_600 - 1));
        assert_eq!(me(&world, &busy).await, 200);
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(me(&world, &busy).await, 401);
    });
}

#[test]
fn attack_9_whatever_ends_sessions_ends_those_of_the_command_line() {
    each_engine(|world| async move {
        let (out, other) = (world.cli_session(TERMINAL).await, world.cli_session(TERMINAL).await);
        world.call("DELETE", "/api/v1/sessions/current", Some(&out), None).await.is(204);
        assert_eq!((me(&world, &out).await, me(&world, &other).await), (401, 200));
        let from = world.sign_in(TERMINAL).await;
        let body = json!({"old": planted().password, "new": planted().new_password});
        world.call("POST", "/api/v1/me/password", Some(&from), Some(body)).await.is(204);
        assert_eq!(me(&world, &other).await, 401);
        let leaver = world.cli_session(LEAVER).await;
        let path = format!("/api/v1/users/{}", world.user_id(LEAVER));
        world.by(PLATFORM, "PATCH", &path, Some(json!({"disabled": true}))).await.is(200);
        assert_eq!(me(&world, &leaver).await, 401);
        world.by(PLATFORM, "PATCH", &path, Some(json!({"disabled": false}))).await.is(200);
        assert_eq!(me(&world, &leaver).await, 401, "it does not come back");
    });
}

/// A device's sign-in, as the device sees it.
struct Device {
    device_code: String,
    user_code: String,
}

impl Device {
    async fn begin(world: &World, client: &str) -> Self {
        let answer = world.call("POST", "/api/v1/device-codes", None, Some(json!({"client": client}))).await.is(201);
        assert_eq!((&answer.json["expires_in"], &answer.json["interval"]), (&json!(600), &json!(5)));
        assert_eq!(answer.json["verification_uri"], "/device");
        let text = |field: &str| answer.json[field].as_str().unwrap().to_owned();
        Self { device_code: text("device_code"), user_code: text("user_code") }
    }

    async fn poll(&self, world: &World) -> Answer {
        world.call("POST", "/api/v1/device-tokens", None, Some(json!({"device_code": self.device_code}))).await
    }

    async fn is_told(&self, world: &World, code: &str) {
        assert_eq!(self.poll(world).await.is(400).json["code"], code);
    }
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

async fn submit(world: &World, site: &str, fields: &[(&str, &str)]) -> Answer {
    let request = Request::post("/device")
        .header("host", "cairn.example")
        .header("sec-fetch-site", site)
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = world.send(request.body(Body::from(encoded(fields))).unwrap()).await;
    assert!(answer.header("content-type").starts_with("text/html"), "{}", answer.text);
    for forbidden in ["<script", "style=", "onclick", "javascript:"] {
        assert!(!answer.text.contains(forbidden), "{}", answer.text);
    }
    answer
}

async fn first_form(world: &World, email: &str, password: &str, code: &str) -> Answer {
    submit(world, "same-origin", &[("user_code", code), ("email", email), ("password", password)]).await
}

/// The value of a hidden field.
fn hidden(answer: &Answer, name: &str) -> String {
    let begin = format!("name=\"{name}\" value=\"");
    let rest = answer.text.split_once(&begin).unwrap_or_else(|| panic!("no {name} in {}", answer.text)).1;
    rest.split('"').next().unwrap().to_owned()
}

async fn second_form(world: &World, confirm: &Answer, decision: &str) -> Answer {
    let (session, login) = (hidden(confirm, "session"), hidden(confirm, "login"));
    submit(world, "same-origin", &[("session", &session), ("login", &login), ("decision", decision)]).await
}

#[test]
fn a_device_gets_the_approvers_session_once() {
    each_engine(|world| async move {
        let device = Device::begin(&world, "cairn on laptop").await;
        device.is_told(&world, "authorization_pending").await;
        let page = world.call("GET", "/device", None, None).await.is(200);
        assert!(page.text.contains("name=\"user_code\"") && page.header("referrer-policy") == "same-origin");
        let typed = device.user_code.to_lowercase().replace('-', " ");
        let confirm = first_form(&world, TERMINAL, &planted().password, &typed).await.is(200);
        for shown in ["cairn on laptop", "Address", "Asked at", TERMINAL] {
            assert!(confirm.text.contains(shown), "{shown}: {}", confirm.text);
        }
        world.clock.advance(Duration::from_secs(5));
        device.is_told(&world, "authorization_pending").await;
        let last = world.audit(None, -1).await.last().unwrap().0;
        assert!(second_form(&world, &confirm, "approve").await.is(200).text.contains("Approved"));
        // What was decided is decided.
        second_form(&world, &confirm, "deny").await.is(404);
        world.clock.advance(Duration::from_secs(5));
        let got = device.poll(&world).await.is(201);
        let token = got.json["token"].as_str().unwrap();
        assert!(token.starts_with("cs_"));
        assert_eq!(got.json["me"]["email"], TERMINAL);
        world.call("GET", "/api/v1/tenants/acme/members", Some(token), None).await.is(200);
        world.clock.advance(Duration::from_secs(5));
        device.is_told(&world, "expired_token").await;
        assert_eq!(me(&world, &hidden(&confirm, "session")).await, 401, "the page's own session is no more");
        let actions: Vec<String> = world.audit(None, last).await.into_iter().map(|(_, action, _)| action).collect();
        assert_eq!(actions, ["device_approve", "cli_session_create"]);
    });
}

#[test]
fn a_device_is_approved_in_a_session_that_goes_on_by_who_proved_lately_who_they_are() {
    each_engine(|world| async move {
        let device = Device::begin(&world, "cairn on laptop").await;
        let token = world.sign_in(TERMINAL).await;
        let ask = async |path: &str, token: &str, body: Option<Value>| {
            world.call("POST", &format!("/api/v1/me/device-logins{path}"), Some(token), body).await
        };
        let typed = |code: &str| Some(json!({"user_code": code}));
        let shown = ask("", &token, typed(&device.user_code.to_lowercase().replace('-', " "))).await.is(200);
        assert_eq!(shown.json["client"], "cairn on laptop");
        let id = shown.json["id"].as_str().unwrap().to_owned();
        // A session of the command line approves no other.
        let terminal = world.cli_session(TERMINAL).await;
        ask("", &terminal, typed(&device.user_code)).await.is(403);
        ask(&format!("/{id}/approve"), &terminal, None).await.is(403).says("sign in on a page");
        // Neither does a session that was left open.
        world.clock.advance(Duration::from_mins(16));
        let device = Device::begin(&world, "cairn on laptop").await;
        let id = ask("", &token, typed(&device.user_code)).await.is(200).json["id"].as_str().unwrap().to_owned();
        assert_eq!(ask(&format!("/{id}/approve"), &token, None).await.is(403).json["code"], "step_up_required");
        let proof = Some(json!({"password": planted().password}));
        world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), proof).await.is(200);
        ask(&format!("/{id}/approve"), &token, None).await.is(204);
        ask(&format!("/{id}/deny"), &token, None).await.is(404);
        let got = device.poll(&world).await.is(201);
        assert_eq!(got.json["me"]["email"], TERMINAL);
        assert_eq!(me(&world, &token).await, 200, "who approved is still signed in");
        // Another one is denied, and a few wrong codes are enough.
        let device = Device::begin(&world, "x").await;
        let id = ask("", &token, typed(&device.user_code)).await.is(200).json["id"].as_str().unwrap().to_owned();
        ask(&format!("/{id}/deny"), &token, None).await.is(204);
        device.is_told(&world, "access_denied").await;
        for _ in 0..5 {
            ask("", &token, typed("WDJB-MJHT")).await.is(404);
        }
        ask("", &token, typed("WDJB-MJHT")).await.is(429);
    });
}

#[test]
fn a_device_that_asks_too_often_waits_longer_and_one_that_is_late_or_denied_gets_nothing() {
    each_engine(|world| async move {
        let device = Device::begin(&world, "x").await;
        device.is_told(&world, "authorization_pending").await;
        device.is_told(&world, "slow_down").await;
        world.clock.advance(Duration::from_secs(9));
        device.is_told(&world, "slow_down").await;
        world.clock.advance(Duration::from_secs(15));
        device.is_told(&world, "authorization_pending").await;
        let confirm = first_form(&world, TERMINAL, &planted().password, &device.user_code).await.is(200);
        second_form(&world, &confirm, "deny").await.is(200);
        assert_eq!(me(&world, &hidden(&confirm, "session")).await, 401);
        world.clock.advance(Duration::from_secs(15));
        device.is_told(&world, "access_denied").await;
        let late = Device::begin(&world, "x").await;
        let confirm = first_form(&world, TERMINAL, &planted().password, &late.user_code).await.is(200);
        world.clock.advance(Duration::from_mins(10));
        second_form(&world, &confirm, "approve").await.is(404);
        late.is_told(&world, "expired_token").await;
        for code in ["", "x", &"a".repeat(43)] {
            let answer =
                world.call("POST", "/api/v1/device-tokens", None, Some(json!({"device_code": code}))).await.is(400);
            assert_eq!(answer.json["code"], "expired_token");
        }
    });
}

#[test]
fn an_approval_is_worth_what_the_session_that_gave_it_is_worth() {
    each_engine(|world| async move {
        let approve = async |email: &str| {
            let device = Device::begin(&world, "x").await;
            let confirm = first_form(&world, email, &planted().password, &device.user_code).await.is(200);
            second_form(&world, &confirm, "approve").await.is(200);
            device
        };
        let device = approve(LEAVER).await;
        let path = format!("/api/v1/users/{}", world.user_id(LEAVER));
        world.by(PLATFORM, "PATCH", &path, Some(json!({"disabled": true}))).await.is(200);
        device.is_told(&world, "access_denied").await;
        let device = approve(TERMINAL).await;
        let from = world.sign_in(TERMINAL).await;
        let body = json!({"old": planted().password, "new": planted().new_password});
        world.call("POST", "/api/v1/me/password", Some(&from), Some(body)).await.is(204);
        device.is_told(&world, "access_denied").await;
    });
}

#[test]
fn two_that_fetch_at_once_get_one_session() {
    each_engine(|world| async move {
        let device = Device::begin(&world, "x").await;
        let confirm = first_form(&world, TERMINAL, &planted().password, &device.user_code).await.is(200);
        second_form(&world, &confirm, "approve").await.is(200);
        let (one, two) = futures::join!(device.poll(&world), device.poll(&world));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 400]);
    });
}

#[test]
fn attack_43_the_page_takes_no_form_of_another_site_and_approves_for_nobody_but_a_fresh_sign_in() {
    each_engine(|world| async move {
        let device = Device::begin(&world, "x").await;
        let fields =
            [("user_code", device.user_code.as_str()), ("email", TERMINAL), ("password", planted().password.as_str())];
        for site in ["cross-site", "same-site", "none"] {
            submit(&world, site, &fields).await.is(403);
        }
        let confirm = first_form(&world, TERMINAL, &planted().password, &device.user_code).await.is(200);
        let login = hidden(&confirm, "login");
        let decide = async |session: &str, login: &str, decision: &str| {
            submit(&world, "same-origin", &[("session", session), ("login", login), ("decision", decision)])
                .await
                .status
        };
        let session = hidden(&confirm, "session");
        assert_eq!(decide("", &login, "approve").await, 401);
        assert_eq!(decide("x", &login, "approve").await, 401);
        assert_eq!(decide(&session, "dev_00000000000000000000000000", "approve").await, 404);
        assert_eq!(decide(&session, "", "approve").await, 404);
        assert_eq!(decide(&session, &login, "yes").await, 400);
        let key = world.api_key(world.a, access::Role::SystemAdmin, json!({})).await.1;
        assert_eq!(decide(&key, &login, "approve").await, 403, "a key is no person");
        let cli = world.cli_session(TERMINAL).await;
        assert_eq!(decide(&cli, &login, "approve").await, 403, "else a stolen session would renew itself");
        let newcomer = world.sign_in(NEWCOMER).await;
        assert_eq!(decide(&newcomer, &login, "approve").await, 403);
        submit(&world, "same-origin", &[("tenant", "x")]).await.is(400);
        submit(&world, "same-origin", &[("user_code", &"x".repeat(2 * 1_024 * 1_024))]).await.is(413);
        device.is_told(&world, "authorization_pending").await;
    });
}

#[test]
fn codes_are_told_only_to_who_signed_in_and_only_a_few_times() {
    each_engine(|world| async move {
        let device = Device::begin(&world, "x").await;
        let wrong = "BBBB-BBBB";
        let strange = |answer: &Answer, code: &str| answer.text.replace(code, "<code>");
        let bad_password = testkit::logs::plant("wrong password on the page");
        let known = first_form(&world, TERMINAL, &bad_password, &device.user_code).await.is(401);
        let unknown = first_form(&world, TERMINAL, &bad_password, wrong).await.is(401);
        assert_eq!(strange(&known, &device.user_code), strange(&unknown, wrong));
        let nobody = first_form(&world, "nobody@example.org", &planted().password, &device.user_code).await.is(401);
        assert_eq!(strange(&nobody, &device.user_code), strange(&unknown, wrong));
        for code in [wrong, "", "x", "BBBB-BBBB-", "CCCC-CCCC"] {
            assert!(
                first_form(&world, TERMINAL, &planted().password, code)
                    .await
                    .is(404)
                    .text
                    .contains("No command line waits")
            );
        }
        first_form(&world, TERMINAL, &planted().password, &device.user_code).await.is(429);
        first_form(&world, &admin(), &planted().password, &device.user_code).await.is(200);
        world.clock.advance(Duration::from_mins(10));
        let device = Device::begin(&world, "x").await;
        first_form(&world, TERMINAL, &planted().password, &device.user_code).await.is(200);
        // Whoever has a one-time password chooses their own first.
        first_form(&world, NEWCOMER, &planted().password, &device.user_code).await.is(403);
    });
}

#[test]
fn attack_46_what_a_device_calls_itself_is_shown_inert() {
    each_engine(|world| async move {
        let evil = r#"</dd><script>alert(1)</script>"'&"#;
        let device = Device::begin(&world, evil).await;
        let confirm = first_form(&world, TERMINAL, &planted().password, &device.user_code).await.is(200);
        assert!(
            confirm.text.contains("&lt;/dd&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"),
            "{}",
            confirm.text
        );
        let again = first_form(&world, TERMINAL, &planted().password, "\"><script>").await.is(404);
        assert!(again.text.contains("&quot;&gt;&lt;script&gt;"));
        for client in ["", "a\nb", &"x".repeat(129), "\u{202e}x"] {
            world.call("POST", "/api/v1/device-codes", None, Some(json!({"client": client}))).await.is(400);
        }
    });
}

#[test]
fn one_address_cannot_fill_the_waiting_room() {
    each_engine(|world| async move {
        let ask = |address: [u8; 4]| {
            let mut request = Request::post("/api/v1/device-codes")
                .header("content-type", "application/json")
                .body(Body::from(json!({"client": "x"}).to_string()))
                .unwrap();
            request.extensions_mut().insert(axum::extract::ConnectInfo(std::net::SocketAddr::from((address, 4))));
            world.send(request)
        };
        for _ in 0..10 {
            ask([192, 0, 2, 1]).await.is(201);
        }
        ask([192, 0, 2, 1]).await.is(503).says("wait to be approved");
        ask([192, 0, 2, 2]).await.is(201);
        world.clock.advance(Duration::from_mins(10));
        ask([192, 0, 2, 1]).await.is(201);
    });
}

#[test]
fn a_value_in_a_body_that_is_no_text_is_told() {
    each_engine(|world| async move {
        for body in [json!({}), json!({"client": 1}), json!({"client": "x", "user": "y"}), Value::Null] {
            world.call("POST", "/api/v1/device-codes", None, Some(body)).await.is(400);
        }
    });
}
