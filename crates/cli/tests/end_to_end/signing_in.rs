//! Signing in through a browser and with an API key; keys and roles.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::double::{Reply, Request};
use crate::world::{TOKEN, World, id, me, wire_form};

const DEVICE_CODE: &str = "planted-device-code";
const KEY: &str = "sk_planted-api-key";

/// A server at which a sign-in ends as told, after these answers to the questions before.
fn waits(answers: &[&'static str]) -> impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static {
    let answers = Mutex::new(answers.iter().rev().copied().collect::<Vec<_>>());
    move |request| {
        Some(match request.line().as_str() {
            "POST /api/v1/device-codes" => {
                assert!(request.json()["client"].as_str().unwrap().starts_with("cairn "));
                let begun = json!({
                    "device_code": DEVICE_CODE, "user_code": "WDJB-MJHT", "verification_uri": "/device", "expires_in": 600, "interval": 0,
                });
                Reply::Json(201, wire_form::<wire::cli_session::DeviceCodeCreated>(begun))
            }
            "POST /api/v1/device-tokens" => {
                assert_eq!(request.json(), json!({"device_code": DEVICE_CODE}));
                match answers.lock().unwrap().pop() {
                    Some("busy") => Reply::problem(503, "unavailable", "the database is busy"),
                    Some(code) => Reply::problem(400, code, "not yet"),
                    None => {
                        let made = json!({"token": TOKEN, "expires_at": "2026-12-22T11:00:00.000Z", "me": me(false)});
                        Reply::Json(201, wire_form::<wire::cli_session::CliSessionCreated>(made))
                    }
                }
            }
            _ => return None,
        })
    }
}

fn login(world: &World) -> crate::world::Run {
    let (url, fingerprint) = (world.server.url(), world.identity.fingerprint());
    world.run(&["login", &url, "--device", "--trust", &fingerprint])
}

#[test]
fn a_login_through_a_browser_shows_the_code_and_waits() {
    let world = World::new(waits(&["authorization_pending", "busy"]));
    let page = format!("{}/device", world.server.url());
    let run = login(&world).expect(0).says(&page).says("WDJB-MJHT").says("signed in").says("tenant: acme");
    assert!(!run.err.contains(DEVICE_CODE) && !run.out.contains(DEVICE_CODE));
    world.run(&["whoami"]).expect(0);
}

#[test]
fn a_login_that_nobody_approves_keeps_nothing() {
    for (answer, words) in [("access_denied", "denied"), ("expired_token", "in time"), ("invalid", "not yet")] {
        let world = World::new(waits(&[answer]));
        login(&world).expect(1).says(words);
        assert!(!world.home().join("config.json").exists());
    }
    World::new(waits(&[])).run(&["login", "https://127.0.0.1:1", "--device", "--user", "ann"]).expect(2);
}

#[test]
fn an_api_key_is_used_from_a_file_and_forgotten_without_being_revoked() {
    let world = World::new(|_| None);
    let key = wire_form::<wire::session::Me>(json!({
        "kind": "api-key", "id": id("key"), "name": "ci", "must_change_password": false, "platform_admin": false,
        "tenants": [{"id": id("ten"), "slug": "acme", "name": "Acme", "role": "read-only", "can": ["nodes:read"]}],
    }));
    let server = crate::double::Double::start(&world.identity, move |request| match request.line().as_str() {
        "GET /api/v1/me" if request.token.as_deref() == Some(KEY) => Reply::Json(200, key.clone()),
        _ => Reply::problem(401, "unauthenticated", "sign in first"),
    });
    let (url, fingerprint) = (server.url(), world.identity.fingerprint());
    let login = |file: &str| world.run(&["login", &url, "--trust", &fingerprint, "--api-key-file", file]);
    login(&world.file("bad", "sk_other")).expect(1);
    let run =
        login(&world.file("key", &format!("{KEY}\n"))).expect(0).says("signed in").says("as ci").says("tenant: acme");
    assert!(!run.err.contains(KEY));
    assert_eq!(world.run(&["whoami", "-o", "json"]).expect(0).json()["kind"], "api-key");
    world.run(&["logout"]).expect(0).says("revoke");
    assert!(!std::fs::read_to_string(world.home().join("config.json")).unwrap().contains(KEY));
    assert!(!server.lines().iter().any(|line| line.starts_with("DELETE")));
}

fn key(name: &str, state: &str, id: &str) -> Value {
    wire_form::<wire::api_key::ApiKey>(json!({
        "id": id, "name": name, "role": "read-only", "state": state, "owner": self::id("usr"), "owner_email": "ann@example.com",
        "networks": [], "created_at": "2026-11-22T03:00:00.000Z", "expires_at": null, "revoked_at": null, "last_used_at": null,
        "last_used_ip": null, "old_secret_until": null,
    }))
}

#[test]
fn keys_are_named_by_name_and_their_secret_is_data() {
    let (old, new) = (id("key"), id("key").replace('0', "1"));
    let new = new.replacen("key_1", "key_0", 1);
    let listed = [key("ci", "revoked", &old), key("ci", "active", &new)];
    let made = json!({"api_key": key("ci", "active", &new), "secret": KEY});
    let world = World::signed_in(move |request| {
        let keys = "/api/v1/tenants/acme/api-keys";
        Some(match (request.method.as_str(), request.path.strip_prefix(keys)?) {
            ("GET", "") => Reply::Json(200, json!({"items": listed})),
            ("POST", "") => Reply::Json(201, made.clone()),
            ("POST", path) if path == format!("/{new}/rotate") => Reply::Json(200, made.clone()),
            ("DELETE", path) if path == format!("/{new}") => Reply::Json(204, Value::Null),
            _ => return None,
        })
    });
    let create = [
        "keys",
        "create",
        "ci",
        "--role",
        "read-only",
        "--network",
        "10.0.0.0/8",
        "--expires-at",
        "2027-01-01T00:00:00Z",
    ];
    let run = world.run(&[&create[..], &["-o", "json"]].concat()).expect(0).says("shown this once");
    assert_eq!(run.json()["secret"], KEY);
    let sent = world.server.seen().pop().unwrap().json();
    assert_eq!(
        sent,
        json!({"name": "ci", "role": "read-only", "networks": ["10.0.0.0/8"], "expires_at": "2027-01-01T00:00:00.000Z"})
    );
    world.run(&["keys", "rotate", "ci", "--overlap-s", "60"]).expect(0).says("shown this once");
    assert_eq!(world.server.seen().pop().unwrap().json(), json!({"overlap_s": 60}));
    world.run(&["keys", "revoke", "ci"]).expect(0).says("revoked");
    world.run(&["keys", "revoke", "nosuch"]).expect(1).says("no API key `nosuch`");
    assert!(world.run(&["keys", "list"]).expect(0).out.contains("ann@example.com"));
}

#[test]
fn roles_are_a_matrix_for_people_and_documents_for_scripts() {
    let role = |name: &str, held: &[&str]| {
        wire_form::<wire::role::Role>(json!({"name": name, "permissions": held, "not_by_key": []}))
    };
    let roles = [role("auditor", &["findings:read"]), role("read-only", &["nodes:read"])];
    let documents = json!(roles);
    let world = World::signed_in(move |request| {
        (request.line() == "GET /api/v1/roles").then(|| Reply::Json(200, json!({"items": roles})))
    });
    let table = world.run(&["roles", "list"]).expect(0).out;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [vec!["PERMISSION", "AUDITOR", "READ-ONLY"], vec!["findings:read", "Y"], vec!["nodes:read", "Y"]]
    );
    assert_eq!(world.run(&["roles", "list", "-o", "json"]).expect(0).json(), documents);
}
