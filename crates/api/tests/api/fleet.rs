//! Agents and relays: enrolling, what they may do, what ends them, and what attacks on them get.

use std::time::Duration;

use access::{Role, ops};
use axum::Router;
use axum::body::Body;
use crypto::ed25519::SigningKey;
use crypto::possession::{self, Statement};
use domain::{Clock as _, FleetKind, TenantId};
use http::Request;
use serde_json::{Value, json};

use crate::world::{Answer, World, admin, each_engine, holder};

const TOKENS: &str = "/api/v1/tenants/acme/enrollment-tokens";
const AGENTS: &str = "/api/v1/tenants/acme/agents";

/// A call of somebody whose sign-in is fresh: tests move the clock.
pub(crate) async fn by(world: &World, email: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let answer = world.by(email, method, path, body.clone()).await;
    if answer.status != 401 && answer.json["code"] != "step_up_required" {
        return answer;
    }
    world.tokens.lock().await.remove(email);
    world.by(email, method, path, body).await
}

/// A token's id and text, made by somebody who may.
pub(crate) async fn enrollment_token(world: &World, tenant: TenantId, kind: FleetKind) -> (String, String) {
    let maker = holder(Role::TenantAdmin, if tenant == world.a { 'a' } else { 'b' });
    let path = format!("/api/v1/tenants/{tenant}/enrollment-tokens");
    let made = by(world, &maker, "POST", &path, Some(json!({"kind": kind.as_str()}))).await.is(201);
    let id = made.json["enrollment_token"]["id"].as_str().unwrap().to_owned();
    (id, made.json["token"].as_str().unwrap().to_owned())
}

/// An agent or a relay as the server sees it, by its own hand: `fleet` has the real one.
pub(crate) struct Machine {
    key: SigningKey,
    pub(crate) number: i64,
    pub(crate) id: String,
    pub(crate) credential: String,
    installation: String,
}

/// What is signed, to be changed by a test.
type Change = fn(&mut Statement);

impl Machine {
    pub(crate) fn new(world: &World) -> Self {
        Self {
            key: SigningKey::generate().unwrap(),
            number: 0,
            id: String::new(),
            credential: String::new(),
            installation: world.installation.clone(),
        }
    }

    pub(crate) async fn enrolled(world: &World, tenant: TenantId, kind: FleetKind) -> Self {
        let token = enrollment_token(world, tenant, kind).await.1;
        let mut machine = Self::new(world);
        let name = format!("m{}", world.fresh());
        machine.enroll(world, &token, kind, &name).await.is(201);
        machine
    }

    /// Who has a copy of everything that this one has.
    fn copy(&self) -> Self {
        Self {
            key: SigningKey::from_pkcs8(self.key.to_pkcs8().expose()).unwrap(),
            id: self.id.clone(),
            credential: self.credential.clone(),
            installation: self.installation.clone(),
            ..*self
        }
    }

    fn proof(
        &mut self,
        world: &World,
        (method, target): (&str, &str),
        body: &str,
        token: &str,
        change: Change,
    ) -> String {
        self.number += 1;
        let mut statement = Statement {
            method: method.to_owned(),
            target: target.to_owned(),
            at_s: world.clock.now().as_seconds(),
            id: format!("proof-{:026}-{}", world.fresh(), self.number),
            number: self.number,
            body: crypto::sha256(body.as_bytes()),
            token: crypto::sha256(token.as_bytes()),
            audience: Some(self.installation.clone()),
        };
        change(&mut statement);
        possession::sign_proof(&statement, &self.key)
    }

    pub(crate) fn enroll_body(&self, token: &str, kind: FleetKind, name: &str) -> Value {
        let key = possession::to_jwk(&self.key.public());
        json!({"token": token, "kind": kind.as_str(), "name": name, "public_key": key, "version": "1.0.0"})
    }

    fn enroll_request(&mut self, world: &World, body: &Value, change: Change) -> Request<Body> {
        let (text, token) = (body.to_string(), body["token"].as_str().unwrap_or_default());
        let proof = self.proof(world, ("POST", "/api/v1/enroll"), &text, token, change);
        Request::post("/api/v1/enroll")
            .header("content-type", "application/json")
            .header("dpop", proof)
            .body(Body::from(text))
            .unwrap()
    }

    /// Enrolls; an answer of success is taken over.
    async fn enroll(&mut self, world: &World, token: &str, kind: FleetKind, name: &str) -> Answer {
        let body = self.enroll_body(token, kind, name);
        let request = self.enroll_request(world, &body, |statement| statement.audience = None);
        let answer = world.send(request).await;
        if answer.status == 201 {
            self.id = answer.id();
            self.credential = String::from(answer.json["credential"].as_str().unwrap());
        }
        answer
    }

    /// A request with a proof.
    pub(crate) fn request(
        &mut self,
        world: &World,
        method: &str,
        target: &str,
        body: &str,
        change: Change,
    ) -> Request<Body> {
        let credential = self.credential.clone();
        let proof = self.proof(world, (method, target), body, &credential, change);
        Request::builder()
            .method(method)
            .uri(target)
            .header("content-type", "application/json")
            .header("authorization", format!("DPoP {credential}"))
            .header("dpop", proof)
            .body(Body::from(body.to_owned()))
            .unwrap()
    }

    fn path(&self) -> String {
        let kind = if self.id.starts_with("agt_") { "agents" } else { "relays" };
        format!("/api/v1/{kind}/{}/renew", self.id)
    }

    /// Something that only this one may do: it asks for a new credential, and does not take it.
    pub(crate) async fn call_at(&mut self, world: &World, router: &Router, change: Change) -> Answer {
        let path = self.path();
        let request = self.request(world, "POST", &path, r#"{"version":"1.0.0"}"#, change);
        world.send_to(router, request).await
    }

    pub(crate) async fn call(&mut self, world: &World) -> Answer {
        let router = world.router.clone();
        self.call_at(world, &router, |_| ()).await
    }
}

async fn log(world: &World, action: &str) -> Vec<Value> {
    let path = format!("/api/v1/tenants/acme/audit?action={action}&limit=500");
    let answer = by(world, &holder(Role::Auditor, 'a'), "GET", &path, None).await.is(200);
    answer.json["items"].as_array().unwrap().clone()
}

/// The records of a log that are alarms.
fn alarms(records: &[Value]) -> Vec<&Value> {
    records.iter().filter(|record| record["detail"]["alarm"] == true).collect()
}

#[test]
fn a_token_enrolls_one_which_is_listed_labelled_renewed_and_revoked() {
    each_engine(|world| async move {
        let body = json!({"kind": "agent", "labels": {"site": "berlin"}, "expires_in_s": 600});
        let made = by(&world, &admin(), "POST", TOKENS, Some(body)).await.is(201);
        let token = made.json["token"].as_str().unwrap();
        assert!(token.starts_with("et_") && made.json["enrollment_token"]["state"] == "waiting");
        let mut agent = Machine::new(&world);
        let enrolled = agent.enroll(&world, token, FleetKind::Agent, "web-01.example.com").await.is(201);
        assert!(agent.id.starts_with("agt_"));
        assert_eq!(
            (&enrolled.json["tenant"], &enrolled.json["installation"]),
            (&json!(world.a), &json!(world.installation))
        );
        let tokens = by(&world, &admin(), "GET", &format!("{TOKENS}?kind=agent"), None).await.is(200);
        assert_eq!(tokens.json["items"][0]["state"], "used");
        assert_eq!(tokens.json["items"][0]["used_by"], json!(agent.id));
        assert!(!tokens.text.contains(token) && tokens.json["items"][0].get("token").is_none());
        let none = by(&world, &admin(), "GET", &format!("{TOKENS}?kind=relay"), None).await.is(200);
        assert_eq!(none.json["items"], json!([]));

        let path = format!("{AGENTS}/{}", agent.id);
        let unseen = by(&world, &admin(), "GET", &path, None).await.is(200);
        assert_eq!((&unseen.json["health"], &unseen.json["labels"]), (&json!("unseen"), &json!({"site": "berlin"})));
        assert_eq!(unseen.json["key"], json!(possession::thumbprint(&agent.key.public())));
        let renewed = agent.call(&world).await.is(200);
        let online = by(&world, &admin(), "GET", &path, None).await.is(200);
        assert_eq!((&online.json["health"], &online.json["state"]), (&json!("online"), &json!("active")));
        assert_eq!(online.json["last_seen_at"], json!(world.clock.now()));
        assert_eq!(online.json["version"], "1.0.0");
        for (program, version) in [("cairn-agent/1.1.0", "1.1.0"), ("cairn-agent", "1.0.0"), ("x/a b", "1.0.0")] {
            let target = agent.path();
            let mut request = agent.request(&world, "POST", &target, "{}", |_| ());
            request.headers_mut().insert("user-agent", program.parse().unwrap());
            world.send(request).await.is(400);
            let shown = by(&world, &admin(), "GET", &path, None).await;
            assert_eq!(shown.json["version"], version, "{program}");
            agent.call(&world).await.is(200);
        }
        let later = Duration::from_mins(15);
        world.clock.advance(later);
        assert_eq!(by(&world, &admin(), "GET", &path, None).await.json["health"], "silent");

        // The one so far is good until the new one is used, and a while longer for what is under way.
        agent.call(&world).await.is(200);
        let newest = agent.call(&world).await.is(200);
        let old = agent.credential.clone();
        agent.credential = renewed.json["credential"].as_str().unwrap().to_owned();
        agent.call(&world).await.is(401);
        agent.credential = newest.json["credential"].as_str().unwrap().to_owned();
        agent.call(&world).await.is(200);
        agent.credential = old;
        agent.call(&world).await.is(200);

        let labels = format!("{path}/labels");
        let body = json!({"labels": {"site": "bonn", "a\"b": "x"}});
        by(&world, &admin(), "PUT", &labels, Some(body)).await.is(400).says("a-z");
        let body = json!({"labels": {"site": "bonn", "note": "a\",\"site\":\"berlin"}});
        by(&world, &admin(), "PUT", &labels, Some(body)).await.is(200);
        for (label, found) in [("site=bonn", 1), ("site=berlin", 0), ("site=bon", 0), ("site=b_nn", 0), ("note=", 0)] {
            let list = by(&world, &admin(), "GET", &format!("{AGENTS}?label={label}"), None).await.is(200);
            assert_eq!(list.json["items"].as_array().unwrap().len(), found, "{label}");
        }
        by(&world, &admin(), "GET", &format!("{AGENTS}?label=site"), None).await.is(400).says("name=value");
        // A relay's list has no agents, and an agent's id names no relay.
        let relays = "/api/v1/tenants/acme/relays";
        assert_eq!(by(&world, &admin(), "GET", relays, None).await.json["items"], json!([]));
        by(&world, &admin(), "GET", &format!("{relays}/{}", agent.id), None).await.is(404);
        let twin = agent.id.replace("agt_", "rly_");
        by(&world, &admin(), "GET", &format!("{relays}/{twin}"), None).await.is(404);
        by(&world, &admin(), "DELETE", &format!("{relays}/{twin}"), None).await.is(404);

        by(&world, &admin(), "DELETE", &path, None).await.is(204);
        agent.call(&world).await.is(401);
        let gone = by(&world, &admin(), "GET", &path, None).await.is(200);
        assert_eq!((&gone.json["state"], gone.json.get("health")), (&json!("revoked"), None));
        for action in ["enrollment_token_create", "enroll", "agent_label", "agent_renew", "agent_revoke"] {
            assert!(!log(&world, action).await.is_empty(), "{action}");
        }
    });
}

#[test]
fn attack_19_of_a_hundred_that_use_one_token_at_once_one_is_enrolled_and_there_is_one_alarm() {
    each_engine(|world| async move {
        let token = enrollment_token(&world, world.a, FleetKind::Agent).await.1;
        let other = world.server(|_| ());
        let tries = (0..100).map(|n| {
            let (mut machine, router) = (Machine::new(&world), if n % 2 == 0 { &world.router } else { &other });
            let body = machine.enroll_body(&token, FleetKind::Agent, &format!("web-{n}"));
            let request = machine.enroll_request(&world, &body, |statement| statement.audience = None);
            world.send_to(router, request)
        });
        let answers = futures::future::join_all(tries).await;
        let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
        assert_eq!((count(201), count(409)), (1, 99));
        let agents = by(&world, &admin(), "GET", AGENTS, None).await.is(200);
        assert_eq!(agents.json["items"].as_array().unwrap().len(), 1);
        let records = log(&world, "enroll").await;
        assert_eq!((records.len(), alarms(&records).len()), (2, 1), "{records:#?}");
    });
}

#[test]
fn attack_20_a_token_that_is_used_expired_revoked_or_of_nobody_gets_one_answer() {
    each_engine(|world| async move {
        let token = async || enrollment_token(&world, world.a, FleetKind::Agent).await;
        let (used, expired, (revoked_id, revoked)) = (token().await.1, token().await.1, token().await);
        Machine::new(&world).enroll(&world, &used, FleetKind::Agent, "one").await.is(201);
        by(&world, &admin(), "DELETE", &format!("{TOKENS}/{revoked_id}"), None).await.is(204);
        world.clock.advance(Duration::from_hours(1));
        let fresh = token().await.1;
        let mut mistyped = fresh.clone().into_bytes();
        mistyped[20] = if mistyped[20] == b'a' { b'b' } else { b'a' };
        let unknown = crypto::enrollment::EnrollmentToken::generate(&testkit::TestRng::seeded(5));
        let key = world.api_key(world.a, Role::TenantAdmin, json!({})).await.1;
        let mut answers = Vec::new();
        for (what, token, kind) in [
            ("used", used.as_str(), FleetKind::Agent),
            ("expired", &expired, FleetKind::Agent),
            ("revoked", &revoked, FleetKind::Agent),
            ("of another kind", &fresh, FleetKind::Relay),
            ("mistyped", std::str::from_utf8(&mistyped).unwrap(), FleetKind::Agent),
            ("unknown", unknown.expose(), FleetKind::Agent),
            ("an API key", &key, FleetKind::Agent),
            ("nothing", "", FleetKind::Agent),
        ] {
            let answer = Machine::new(&world).enroll(&world, token, kind, "two").await.is(401);
            answers.push((what, answer.masked(&[])));
        }
        for (what, answer) in &answers {
            assert_eq!(answer, &answers[0].1, "{what}");
        }
        // One that is closed is as unknown.
        let other = enrollment_token(&world, world.b, FleetKind::Agent).await.1;
        let close = world.store.write_platform(world.platform_permit::<ops::TenantDelete>()).await.unwrap();
        close.tenant_delete(world.b).await.unwrap();
        Machine::new(&world).enroll(&world, &other, FleetKind::Agent, "three").await.is(401);
        Machine::new(&world).enroll(&world, &fresh, FleetKind::Agent, "two").await.is(201);
        let reasons: Vec<_> =
            log(&world, "enroll").await.iter().map(|record| record["detail"]["reason"].clone()).collect();
        for reason in ["used", "expired", "revoked", "another kind"] {
            assert!(reasons.contains(&json!(reason)), "{reasons:?}");
        }
    });
}

#[test]
fn attack_21_a_refused_enrollment_does_not_use_the_token_up() {
    each_engine(|world| async move {
        Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let taken =
            by(&world, &admin(), "GET", AGENTS, None).await.json["items"][0]["name"].as_str().unwrap().to_owned();
        let token = enrollment_token(&world, world.a, FleetKind::Agent).await.1;
        let mut machine = Machine::new(&world);
        let good = machine.enroll_body(&token, FleetKind::Agent, "web-02");
        for (field, value, says) in [
            ("name", json!(""), "printable"),
            ("name", json!(" web"), "printable"),
            ("name", json!("a\u{202e}b"), "printable"),
            ("name", json!("x".repeat(129)), "printable"),
            ("kind", json!("Agent"), "neither"),
            ("version", json!(""), "version"),
            ("version", json!("1 0"), "signs"),
            ("public_key", json!({"kty": "EC", "crv": "P-256", "x": "AA"}), "Ed25519"),
            ("public_key", json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}), "Ed25519"),
            ("more", json!(1), "more"),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let request = machine.enroll_request(&world, &bad, |statement| statement.audience = None);
            let answer = world.send(request).await.is(400);
            assert!(answer.text.contains(says), "{field}: {}", answer.text);
        }
        let name = machine.enroll_body(&token, FleetKind::Agent, &taken);
        let request = machine.enroll_request(&world, &name, |_| ());
        world.send(request).await.is(409).says("is taken");
        let changes: [Change; 6] = [
            |statement| statement.target.push('?'),
            |statement| statement.method = String::from("GET"),
            |statement| statement.body = crypto::sha256(b""),
            |statement| statement.token = crypto::sha256(b"et_"),
            |statement| statement.at_s += 61,
            |statement| statement.at_s -= 61,
        ];
        for change in changes {
            let request = machine.enroll_request(&world, &good, change);
            world.send(request).await.is(401);
        }
        // A proof by another key than the one that is enrolled, none, and two.
        let mut other = Machine::new(&world);
        world.send(other.enroll_request(&world, &good, |_| ())).await.is(401);
        let mut none = machine.enroll_request(&world, &good, |_| ());
        let proof = none.headers_mut().remove("dpop").unwrap();
        world.send(none).await.is(401);
        let mut two = machine.enroll_request(&world, &good, |_| ());
        two.headers_mut().append("dpop", proof);
        world.send(two).await.is(401);
        machine.enroll(&world, &token, FleetKind::Agent, "web-02").await.is(201);
    });
}

#[test]
fn what_a_token_may_be_is_bounded_and_no_key_makes_one_for_a_relay() {
    each_engine(|world| async move {
        for (body, says) in [
            (json!({"kind": "agent", "expires_in_s": 59}), "60"),
            (json!({"kind": "agent", "expires_in_s": 604_801}), "week"),
            (json!({"kind": "server"}), "neither"),
            (json!({"kind": "agent", "labels": {"Site": "x"}}), "a-z"),
        ] {
            by(&world, &admin(), "POST", TOKENS, Some(body)).await.is(400).says(says);
        }
        let key = world.api_key(world.a, Role::TenantAdmin, json!({})).await.1;
        world.call("POST", TOKENS, Some(&key), Some(json!({"kind": "agent"}))).await.is(201);
        world.call("POST", TOKENS, Some(&key), Some(json!({"kind": "relay"}))).await.is(403).says("only a person");
        let (id, token) = enrollment_token(&world, world.a, FleetKind::Relay).await;
        let query = format!("{AGENTS}?label={token}");
        by(&world, &admin(), "GET", &query, None).await.is(400).says("ends up in logs");
        let path = format!("{TOKENS}/{id}");
        by(&world, &holder(Role::TenantAdmin, 'b'), "DELETE", &path.replace("acme", "globex"), None).await.is(404);
        let session = world.sign_in(&admin()).await;
        world.clock.advance(Duration::from_mins(16));
        let stale = world.call("POST", TOKENS, Some(&session), Some(json!({"kind": "agent"}))).await.is(403);
        assert_eq!(stale.json["code"], "step_up_required");
    });
}

#[test]
fn a_proof_is_of_one_request_one_credential_one_installation_and_of_now() {
    each_engine(|world| async move {
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let router = world.router.clone();
        let changes: [Change; 6] = [
            |statement| statement.method = "PUT".to_owned(),
            |statement| statement.target.push('x'),
            |statement| statement.body = crypto::sha256(b"{}"),
            |statement| statement.token = crypto::sha256(b"other"),
            |statement| statement.audience = Some("cairn:other".to_owned()),
            |statement| statement.audience = None,
        ];
        for change in changes {
            let answer = agent.call_at(&world, &router, change).await.is(401);
            assert_eq!(answer.json["code"], "unauthenticated");
        }
        let hour: Change = |statement| statement.at_s -= 3_600;
        let skewed = agent.call_at(&world, &router, hour).await.is(401).says("3600 s behind");
        assert_eq!(
            (&skewed.json["code"], skewed.header("cairn-time")),
            (&json!("clock_skew"), &*world.clock.now().to_string())
        );
        let ahead: Change = |statement| statement.at_s += 31;
        assert_eq!(agent.call_at(&world, &router, ahead).await.is(401).json["code"], "clock_skew");
        for near in [(|statement| statement.at_s += 30) as Change, |statement| statement.at_s -= 30] {
            agent.call_at(&world, &router, near).await.is(200);
        }
        // The credential without a proof, under another scheme, or with somebody else's key.
        let mut other = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        other.credential = agent.credential.clone();
        other.id = agent.id.clone();
        other.call(&world).await.is(401);
        let (path, body) = (agent.path(), r#"{"version":"1.0.0"}"#);
        for remove in ["dpop", "authorization"] {
            let mut request = agent.request(&world, "POST", &path, body, |_| ());
            request.headers_mut().remove(remove);
            world.send(request).await.is(401);
        }
        let mut request = agent.request(&world, "POST", &path, body, |_| ());
        let bearer = format!("Bearer {}", agent.credential);
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
        assert_eq!(world.send(request).await.is(401).header("www-authenticate"), "DPoP algs=\"EdDSA\"");
    });
}

#[test]
fn attack_7_what_is_good_for_one_kind_of_caller_is_good_for_no_other() {
    each_engine(|world| async move {
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let session = world.sign_in(&admin()).await;
        let cli = world.cli_session(crate::world::TERMINAL).await;
        let key = world.api_key(world.a, Role::TenantAdmin, json!({})).await.1;
        let token = enrollment_token(&world, world.a, FleetKind::Agent).await.1;
        let nodes = "/api/v1/tenants/acme/nodes";
        let secrets = [
            ("session", session.clone()),
            ("command line", cli),
            ("API key", key),
            ("enrollment token", token),
            ("agent", agent.credential.clone()),
            ("relay", relay.credential.clone()),
        ];
        for (what, secret) in &secrets {
            // Where a session or a key is asked for.
            let person = ["session", "command line", "API key"].contains(what);
            let expected = if person { 200 } else { 401 };
            world.call("GET", nodes, Some(secret), None).await.is(expected);
            for scheme in ["DPoP", "dpop", "Basic", "Token"] {
                let request = Request::get(nodes).header("authorization", format!("{scheme} {secret}"));
                world.send(request.body(Body::empty()).unwrap()).await.is(401);
            }
            let cookie = Request::get(nodes).header("cookie", format!("__Host-cairn_session={secret}"));
            let status = world.send(cookie.body(Body::empty()).unwrap()).await.status;
            assert!(status == 401 || *what == "session", "{what}: {status}");
            // Where an agent or a relay is: with a proof by a key that is enrolled.
            for (kind, machine) in [("agent", &mut agent), ("relay", &mut relay)] {
                let own = std::mem::replace(&mut machine.credential, secret.clone());
                let expected = if *what == kind { 200 } else { 401 };
                assert_eq!(machine.call(&world).await.status, expected, "{what} as {kind}");
                machine.credential = own;
            }
            // And where an enrollment token is.
            let enrolled = Machine::new(&world).enroll(&world, secret, FleetKind::Agent, "w").await;
            assert_eq!(enrolled.status == 201, *what == "enrollment token", "{what}: {}", enrolled.text);
        }
        // Signed by us for another purpose, as an agent's: a session's token under the key that signs credentials has another form.
        let proof = agent.proof(&world, ("POST", &agent.path()), "", &agent.credential.clone(), |_| ());
        world.call("GET", nodes, Some(&proof), None).await.is(401);
        agent.credential = proof;
        agent.call(&world).await.is(401);
    });
}

#[test]
fn attack_22_an_agent_speaks_for_itself_only() {
    each_engine(|world| async move {
        let mut a = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let b = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let elsewhere = Machine::enrolled(&world, world.b, FleetKind::Agent).await;
        let relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let twin = a.id.replace("agt_", "rly_");
        let targets = [
            b.path(),
            elsewhere.path(),
            relay.path(),
            format!("/api/v1/agents/{}/renew", relay.id),
            format!("/api/v1/relays/{twin}/renew"),
            format!("/api/v1/relays/{}/renew", a.id),
            "/api/v1/agents/x/renew".to_owned(),
            a.path().to_uppercase().replace("/API/V1/AGENTS", "/api/v1/agents").replace("/RENEW", "/renew"),
        ];
        for target in &targets {
            let request = a.request(&world, "POST", target, r#"{"version":"9.9.9"}"#, |_| ());
            world.send(request).await.is(403);
        }
        let denied = [log(&world, "agent_renew").await, log(&world, "relay_renew").await].concat();
        let denied: Vec<_> = denied.iter().filter(|record| record["outcome"] == "deny").collect();
        assert_eq!(denied.len(), targets.len());
        assert!(denied.iter().all(|record| record["actor"].as_str().unwrap().contains(&a.id)));
        for id in [&b.id, &a.id] {
            let shown = by(&world, &admin(), "GET", &format!("{AGENTS}/{id}"), None).await.is(200);
            assert_eq!(shown.json["version"], "1.0.0", "nothing was stored");
        }
        a.call(&world).await.is(200);
    });
}

#[test]
fn attack_23_a_revoked_agent_is_refused_on_every_server_at_once_and_its_servers_hear_of_it_within_a_second() {
    each_engine(|world| async move {
        let other = world.server(|_| ());
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        for machine in [&mut agent, &mut relay] {
            machine.call(&world).await.is(200);
            machine.call_at(&world, &other, |_| ()).await.is(200);
        }
        let mut endings = world.store.fleet_endings();
        by(&world, &admin(), "DELETE", &format!("{AGENTS}/{}", agent.id), None).await.is(204);
        agent.call_at(&world, &other, |_| ()).await.is(401);
        agent.call(&world).await.is(401);
        let heard = tokio::time::timeout(Duration::from_secs(1), endings.next()).await.unwrap();
        assert_eq!(heard.to_string(), agent.id);
        // Closing its tenant ends the other, and also who listens from now on hears of both.
        let close = world.store.write_platform(world.platform_permit::<ops::TenantDelete>()).await.unwrap();
        close.tenant_delete(world.a).await.unwrap();
        relay.call(&world).await.is(401);
        let mut heard = Vec::new();
        let mut late = world.store.fleet_endings();
        while heard.len() < 2 {
            let id = tokio::time::timeout(Duration::from_secs(1), late.next()).await.unwrap().to_string();
            heard.push(id);
        }
        assert!(heard.contains(&agent.id) && heard.contains(&relay.id), "{heard:?}");
    });
}

#[test]
fn a_credential_that_a_server_has_verified_is_good_for_its_own_key_and_in_its_own_time_only() {
    each_engine(|world| async move {
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        agent.call(&world).await.is(200);
        agent.call(&world).await.is(200);
        // Somebody else's key, and one character more or other.
        let mut thief = agent.copy();
        thief.key = SigningKey::generate().unwrap();
        thief.call(&world).await.is(401);
        for change in [|text: &str| format!("{text}A"), |text: &str| text.replacen('A', "B", 1)] {
            let mut other = agent.copy();
            other.credential = change(&agent.credential);
            other.call(&world).await.is(401);
        }
        agent.call(&world).await.is(200);
        // Its time is over, whatever is remembered.
        world.clock.advance(Duration::from_hours(365 * 24));
        agent.call(&world).await.is(401);
    });
}

#[test]
fn attack_24_a_copy_of_a_relay_is_noticed_and_neither_is_let_in_any_more() {
    each_engine(|world| async move {
        let other = world.server(|_| ());
        for (start, sign) in [(1 << 20, "long before"), (0, "one number")] {
            let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
            relay.call(&world).await.is(200);
            // With the real client's numbers, which begin a range with every start, or by somebody who goes on where the copy was made.
            let mut copy = relay.copy();
            copy.number += start;
            copy.call_at(&world, &other, |_| ()).await.is(200);
            let mut endings = world.store.fleet_endings();
            relay.call(&world).await.is(401);
            loop {
                let ended = tokio::time::timeout(Duration::from_secs(1), endings.next()).await.unwrap();
                if ended.to_string() == relay.id {
                    break;
                }
            }
            copy.number += 1;
            copy.call_at(&world, &other, |_| ()).await.is(401);
            relay.call(&world).await.is(401);
            let path = format!("/api/v1/tenants/acme/relays/{}", relay.id);
            let shown = by(&world, &admin(), "GET", &path, None).await.is(200);
            assert_eq!(shown.json["state"], "cloned");
            let records = log(&world, "relay_clone").await;
            let alarms: Vec<_> = alarms(&records).into_iter().filter(|alarm| alarm["object_id"] == relay.id).collect();
            assert_eq!(alarms.len(), 1, "{records:#?}");
            assert!(alarms[0]["detail"]["reason"].as_str().unwrap().contains(sign), "{}", alarms[0]);
            // It keeps its name until somebody has seen to it.
            let token = enrollment_token(&world, world.a, FleetKind::Relay).await.1;
            let name = shown.json["name"].as_str().unwrap();
            Machine::new(&world).enroll(&world, &token, FleetKind::Relay, name).await.is(409);
            by(&world, &admin(), "DELETE", &path, None).await.is(204);
            Machine::new(&world).enroll(&world, &token, FleetKind::Relay, name).await.is(201);
        }
    });
}

#[test]
fn attack_24_a_credential_that_was_replaced_and_comes_back_is_a_copys() {
    each_engine(|world| async move {
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let old = agent.credential.clone();
        let renewed = agent.call(&world).await.is(200);
        agent.credential = renewed.json["credential"].as_str().unwrap().to_owned();
        agent.call(&world).await.is(200);
        world.clock.advance(Duration::from_mins(10));
        agent.call(&world).await.is(200);
        agent.credential = old;
        agent.call(&world).await.is(401);
        agent.credential = renewed.json["credential"].as_str().unwrap().to_owned();
        agent.call(&world).await.is(401);
        let records = log(&world, "agent_clone").await;
        assert!(alarms(&records)[0]["detail"]["reason"].as_str().unwrap().contains("replaced"));
    });
}

#[test]
fn a_proof_is_good_once_also_on_another_server_and_a_late_one_is_no_alarm() {
    each_engine(|world| async move {
        let other = world.server(|_| ());
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        agent.call(&world).await.is(200);
        let (path, body) = (agent.path(), r#"{"version":"1.0.0"}"#);
        let twice = |request: &Request<Body>| {
            let mut again = Request::post(&path).body(Body::from(body)).unwrap();
            again.headers_mut().clone_from(request.headers());
            again
        };
        let late = agent.request(&world, "POST", &path, body, |_| ());
        let first = agent.request(&world, "POST", &path, body, |_| ());
        let (replayed, replayed_elsewhere) = (twice(&first), twice(&first));
        world.send(first).await.is(200);
        for answer in [
            world.send(replayed).await.is(401),
            world.send_to(&other, replayed_elsewhere).await.is(401),
            world.send(late).await.is(401),
        ] {
            assert_eq!(answer.json["code"], "proof_replayed", "{}", answer.text);
        }
        agent.call(&world).await.is(200);
        assert!(log(&world, "agent_clone").await.is_empty());
    });
}

#[test]
fn a_credential_ends_after_a_year_and_was_renewed_before() {
    each_engine(|world| async move {
        let mut agent = Machine::enrolled(&world, world.a, FleetKind::Agent).await;
        let (year, second) = (Duration::from_hours(365 * 24), Duration::from_secs(1));
        world.clock.advance(year.checked_sub(second).unwrap());
        let renewed = agent.call(&world).await.is(200);
        world.clock.advance(second);
        agent.call(&world).await.is(401);
        agent.credential = renewed.json["credential"].as_str().unwrap().to_owned();
        agent.call(&world).await.is(200);
        world.clock.advance(year);
        agent.call(&world).await.is(401);
        let token = world.sign_in(&admin()).await;
        let shown = world.call("GET", &format!("{AGENTS}/{}", agent.id), Some(&token), None).await.is(200);
        assert_eq!(shown.json["state"], "expired");
    });
}
