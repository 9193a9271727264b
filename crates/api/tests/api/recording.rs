//! Recordings: told by relays, read by those who may, and by nobody else.

use access::Role;
use domain::{Digest, FleetKind, TenantId};
use serde_json::{Value, json};
use wire::recording::{CHAIN_BEGIN, chain};

use crate::answer::Answer;
use crate::fleet::Machine;
use crate::world::{World, each_engine, holder};

const HEADER: &str = "{\"version\":2,\"width\":80,\"height\":24}\n";

/// A relay and what it records.
struct Teller<'a> {
    world: &'a World,
    relay: Machine,
    destination: String,
    id: String,
}

impl<'a> Teller<'a> {
    async fn new(world: &'a World, tenant: TenantId, name: &str) -> Self {
        let mut relay = Machine::enrolled(world, tenant, FleetKind::Relay).await;
        let body =
            json!({"name": name, "kind": "kubernetes", "authority": "", "roles": ["view", "edit"], "version": "1.0.0"});
        let path = format!("/api/v1/relays/{}/destinations", relay.id);
        let request = relay.request(world, "POST", &path, &body.to_string(), |_| ());
        let destination = world.send(request).await.is(200).id();
        let id = domain::RecordingId::generate(&*world.clock, &*world.rng).to_string();
        Self { world, relay, destination, id }
    }

    async fn tell(&mut self, path: &str, body: &str) -> Answer {
        let path = format!("/api/v1/relays/{}/recordings{path}", self.relay.id);
        let mut request = self.relay.request(self.world, "POST", &path, body, |_| ());
        if !body.starts_with("{\"") || body == HEADER {
            request.headers_mut().insert("content-type", "application/x-asciicast".parse().unwrap());
        }
        self.world.send(request).await
    }

    fn beginning(&self, user: &str, session: &str) -> Value {
        json!({
            "id": self.id, "at": "2026-01-01T00:00:00Z", "destination": self.destination, "user": "ann", "user_id": user, "session": session,
            "token": "t1", "role": "edit", "from": "192.0.2.7", "call": "c1",
            "target": {"kind": "kubernetes", "action": "exec", "namespace": "shop", "pod": "web", "command": ["sh"], "tty": true},
        })
    }

    async fn begin(&mut self, user: &str, session: &str) -> Answer {
        let body = self.beginning(user, session).to_string();
        self.tell("", &body).await
    }

    async fn chunk(&mut self, number: u64, text: &str) -> Answer {
        let path = format!("/{}/chunks/{number}", self.id);
        self.tell(&path, text).await
    }

    async fn end(&mut self, pieces: &[&str]) -> Answer {
        let link = pieces
            .iter()
            .fold(CHAIN_BEGIN, |link, piece| crypto::sha256(&chain(&link, &crypto::sha256(piece.as_bytes()))));
        let body = json!({
            "at": "2026-01-01T00:01:00Z", "began": true, "complete": true, "reason": "the command ended", "exit": 0,
            "chunks": pieces.len(), "chain": link, "output": {"bytes": 5, "left_out": 0}, "output_sha256": Digest([1; 32]),
            "input": {"bytes": 3, "left_out": 0},
        });
        let path = format!("/{}/end", self.id);
        self.tell(&path, &body.to_string()).await
    }
}

fn nobody() -> (String, String) {
    (format!("usr_{}", "0".repeat(26)), format!("ses_{}", "0".repeat(26)))
}

/// A recording that has ended.
pub(crate) async fn recorded(world: &World, tenant: TenantId) -> String {
    let mut teller = Teller::new(world, tenant, &format!("r{}", world.fresh())).await;
    let (user, session) = nobody();
    teller.begin(&user, &session).await.is(200);
    teller.chunk(1, HEADER).await.is(204);
    teller.end(&[HEADER]).await.is(204);
    teller.id
}

async fn records(world: &World, action: &str) -> Vec<Value> {
    let path = format!("/api/v1/tenants/acme/audit?action={action}");
    let log = world.by(&holder(Role::Auditor, 'a'), "GET", &path, None).await.is(200);
    log.json["items"].as_array().unwrap().clone()
}

#[test]
fn what_a_relay_records_is_kept_once_in_order_sealed_and_seen_by_an_auditor_on_the_record() {
    each_engine(|world| async move {
        let (auditor, user) = (holder(Role::Auditor, 'a'), holder(Role::SecurityAnalyst, 'a'));
        let me = world.by(&user, "GET", "/api/v1/me", None).await.is(200).id();
        let sessions = world.by(&user, "GET", "/api/v1/me/sessions", None).await.is(200);
        let session = sessions.json["items"][0]["id"].as_str().unwrap().to_owned();
        let mut teller = Teller::new(&world, world.a, "prod").await;
        let grant = json!({"user": user, "role": "edit", "destination": "prod"});
        let grant = world
            .by(&holder(Role::TenantAdmin, 'a'), "POST", "/api/v1/tenants/acme/grants", Some(grant))
            .await
            .is(201)
            .id();
        for _ in 0..2 {
            let begun = teller.begin(&me, &session).await.is(200);
            assert_eq!(begun.json, json!({"mode": "best-effort", "input": false}));
        }
        let second = "[0.5, \"o\", \"a secret on a screen\"]\n";
        for _ in 0..2 {
            teller.chunk(1, HEADER).await.is(204);
        }
        teller.chunk(1, second).await.is(409);
        teller.chunk(3, second).await.is(409);
        teller.chunk(2, "").await.is(204);
        teller.chunk(2, second).await.is(204);
        let path = format!("/api/v1/tenants/acme/recordings/{}", teller.id);
        let open = world.by(&auditor, "GET", &path, None).await.is(200);
        assert_eq!((&open.json["state"], &open.json["chunks"]), (&"open".into(), &2.into()));
        for _ in 0..2 {
            teller.end(&[HEADER, second]).await.is(204);
        }
        teller.chunk(3, second).await.is(409);

        let shown = world.by(&auditor, "GET", &path, None).await.is(200).json;
        assert_eq!(
            (&shown["state"], &shown["user"], &shown["user_known"], &shown["grants"], &shown["exit"]),
            (&"ended".into(), &user.clone().into(), &true.into(), &json!([grant]), &0.into())
        );
        let whole = format!("{HEADER}{second}");
        assert_eq!(shown["sha256"], crypto::sha256(whole.as_bytes()).to_hex());
        let cast = world.by(&auditor, "GET", &format!("{path}/cast"), None).await.is(200);
        assert_eq!(cast.text, whole);
        world.by(&auditor, "GET", &format!("{path}/bundle"), None).await.is(200);
        for (action, count) in
            [("recording_begin", 1), ("recording_close", 1), ("recording_read", 1), ("recording_export", 1)]
        {
            assert_eq!(records(&world, action).await.len(), count, "{action}");
        }
        assert_eq!(records(&world, "recording_begin").await[0]["actor"], user, "the session is theirs");
        assert!(!world.blobs_hold(b"a secret on a screen"), "what is kept is sealed");

        // Nobody sees their own.
        world.by(&user, "GET", &path, None).await.is(403);
        world.by(&user, "GET", &format!("{path}/cast"), None).await.is(403);
        let list = |query: &str| format!("/api/v1/tenants/acme/recordings?{query}");
        for (query, count) in [
            (format!("user={user}"), 1),
            (format!("user={me}"), 1),
            ("user=other@example.org".to_owned(), 0),
            ("destination=prod".to_owned(), 1),
            ("destination=test".to_owned(), 0),
            ("since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:01Z".to_owned(), 1),
            ("since=2026-01-01T00:00:01Z".to_owned(), 0),
        ] {
            let found = world.by(&auditor, "GET", &list(&query), None).await.is(200);
            assert_eq!(found.json["items"].as_array().unwrap().len(), count, "{query}");
        }
        world.by(&auditor, "GET", &list("since=yesterday"), None).await.is(400);
    });
}

#[test]
fn a_relay_adds_to_its_own_recordings_only_and_names_nobody_at_will() {
    each_engine(|world| async move {
        let (user, session) = nobody();
        let mut first = Teller::new(&world, world.a, "prod").await;
        let mut other = Teller::new(&world, world.a, "test").await;
        first.begin(&user, &session).await.is(200);
        let (own, mine) = (other.id.clone(), first.id.clone());
        other.id.clone_from(&mine);
        other.begin(&user, &session).await.is(409);
        other.chunk(1, HEADER).await.is(404);
        other.end(&[]).await.is(404);
        (other.id, other.destination) = (own, first.destination.clone());
        other.begin(&user, &session).await.is(404);
        let begun = records(&world, "recording_begin").await;
        assert!(
            begun[0]["actor"].as_str().unwrap().contains(&*first.relay.id),
            "a session that is nobody's: {begun:?}"
        );

        // What is counted otherwise than it was told is not believed.
        first.chunk(1, HEADER).await.is(204);
        first.chunk(2, &"x".repeat((256 << 10) + 1)).await.is(413);
        first.chunk(0, HEADER).await.is(400);
        let large = json!({"token": "t".repeat(200_000)});
        let mut begin = first.beginning(&user, &session);
        begin["token"] = large["token"].clone();
        first.tell("", &begin.to_string()).await.is(413);
    });
}

#[test]
fn a_tenant_says_what_is_recorded_and_for_how_long_it_is_kept() {
    each_engine(|world| async move {
        let (admin, auditor) = (holder(Role::TenantAdmin, 'a'), holder(Role::Auditor, 'a'));
        let path = "/api/v1/tenants/acme/recording-policy";
        let before = world.by(&auditor, "GET", path, None).await.is(200);
        let default = json!({"kubernetes": "best-effort", "ssh": "best-effort", "input": false, "retention_days": 400});
        assert_eq!(before.json, default);
        for bad in [json!({"retention_days": 0}), json!({"kubernetes": "sometimes"}), json!({"retention_days": 40_000})]
        {
            let mut body = default.clone();
            body.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
            world.by(&admin, "PUT", path, Some(body)).await.is(400);
        }
        let off = json!({"kubernetes": "off", "ssh": "required", "input": true, "retention_days": 1});
        world.by(&admin, "PUT", path, Some(off.clone())).await.is(200);
        assert_eq!(world.by(&auditor, "GET", path, None).await.is(200).json, off);
        let mut teller = Teller::new(&world, world.a, "prod").await;
        let (user, session) = nobody();
        assert_eq!(teller.begin(&user, &session).await.is(200).json["mode"], "off");
        let list = world.by(&auditor, "GET", "/api/v1/tenants/acme/recordings", None).await.is(200);
        assert_eq!(list.json["items"], json!([]), "nothing is kept");
    });
}
