//! An agent and a relay by their own library, a server, and the command line of whoever runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use crypto::system::{SystemClock, SystemRng};
use domain::{Clock, FleetKind, Secret, Timestamp};
use fleet::{Client, Connection, Enrolling, Error, Folder, Identity, Tls, Trust};
use serde_json::Value;

use crate::world::{Engine, Server, World};

/// A machine's clock that is an hour late.
struct AnHourLate;

impl Clock for AnHourLate {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_millis(-3_600_000)
    }
}

fn token(world: &World, noun: &str) -> String {
    let made = world.cairn_secretly([noun, "tokens", "create", "--label", "site=berlin", "-o", "json"], "token");
    made["token"].as_str().unwrap().to_owned()
}

fn connection(world: &World, server: &Server) -> Connection {
    let trust = Trust::of_file(&world.data().join("ca.crt")).unwrap();
    Connection::new(&server.url, &Tls::new(trust), "cairn-agent/1.2.5").unwrap()
}

async fn enroll(way: &Connection, folder: &Path, token: &str, kind: FleetKind, name: &str) -> fleet::Result<Identity> {
    let who = Enrolling { kind, name, version: "1.2.3" };
    let (clock, rng) = (Arc::new(AnHourLate), Arc::new(SystemRng));
    way.enroll(Folder::open(folder)?, &Secret::new(token), who, clock, rng).await
}

fn open(folder: &Path) -> Identity {
    Identity::open(Folder::open(folder).unwrap(), Arc::new(AnHourLate), Arc::new(SystemRng)).unwrap()
}

fn shown(world: &World, noun: &str, name: &str) -> Value {
    world.cairn([noun, "show", name, "-o", "json"]).ok().json()
}

fn records(world: &World, action: &str) -> usize {
    let listed = world.cairn(["audit", "list", "--action", action, "-o", "json"]).ok().json();
    listed.as_array().unwrap().len()
}

/// A private copy of an identity, as who reads the disk has it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn journey(engine: Engine) {
    let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (folder, relay_folder) = (world.path("agent"), world.path("relay"));
    let (agent_token, relay_token) = (token(&world, "agents"), token(&world, "relays"));
    let way = connection(&world, &server);
    runtime.block_on(async {
        // Whoever is not vouched for is told nothing.
        let system = Connection::new(&server.url, &Tls::new(Trust::System), "test").unwrap();
        let refused = enroll(&system, &folder, &agent_token, FleetKind::Agent, "web-01").await.unwrap_err();
        assert!(matches!(refused, Error::Untrusted { .. }), "{refused}");
        // A mistake uses nothing up, and a clock that is an hour late is no obstacle.
        let refused = enroll(&way, &folder, &agent_token, FleetKind::Agent, " web").await.unwrap_err();
        assert!(matches!(refused, Error::Refused { status: 400, .. }), "{refused}");
        let agent = enroll(&way, &folder, &agent_token, FleetKind::Agent, "web-01").await.unwrap();
        let again = enroll(&way, &world.path("other"), &agent_token, FleetKind::Agent, "web-02").await.unwrap_err();
        assert!(again.has_ended(), "{again}");
        let relay = enroll(&way, &relay_folder, &relay_token, FleetKind::Relay, "edge-1").await.unwrap();
        let client = Client::new(way.clone(), Arc::new(agent));
        assert!(!client.renew_if_due("1.2.4").await.unwrap());
        client.renew("1.2.4").await.unwrap();
        client.renew("1.2.5").await.unwrap();
        Client::new(way.clone(), Arc::new(relay)).renew("2.0.0").await.unwrap();
    });
    let agent = shown(&world, "agents", "web-01");
    assert_eq!((&agent["health"], &agent["version"]), (&Value::from("online"), &Value::from("1.2.5")));
    assert_eq!(agent["labels"]["site"], "berlin");
    world.cairn(["agents", "labels", "web-01", "rack=7", "--remove", "site"]).ok();
    assert_eq!(shown(&world, "agents", "web-01")["labels"], serde_json::json!({"rack": "7"}));
    let tokens = world.cairn(["relays", "tokens", "list", "-o", "json"]).ok().json();
    assert_eq!((tokens[0]["state"].as_str(), tokens[0]["used_by"].is_string()), (Some("used"), true));

    // Restarted, on both sides: the same identity, with what it was given last.
    server.stop();
    let server = world.start();
    world.login(&server);
    let way = connection(&world, &server);
    runtime.block_on(async {
        Client::new(way.clone(), Arc::new(open(&folder))).renew("1.2.6").await.unwrap();
        let relay = Client::new(way.clone(), Arc::new(open(&relay_folder)));
        relay.renew("2.0.0").await.unwrap();
        // Somebody has a copy of the relay's disk.
        copy(&relay_folder, &world.path("copy"));
        Client::new(way.clone(), Arc::new(open(&world.path("copy")))).renew("2.0.0").await.unwrap();
        assert!(relay.renew("2.0.0").await.unwrap_err().has_ended());
    });
    assert_eq!(shown(&world, "relays", "edge-1")["state"], "cloned");
    assert_eq!(records(&world, "relay_clone"), 1);
    world.cairn(["agents", "revoke", "web-01"]).ok();
    runtime.block_on(async {
        for folder in [&folder, &world.path("copy")] {
            let ended = Client::new(way.clone(), Arc::new(open(folder))).renew("1").await.unwrap_err();
            assert!(ended.has_ended(), "{ended}");
        }
    });
    assert_eq!(shown(&world, "agents", "web-01")["state"], "revoked");
    server.stop();
}

#[test]
fn an_agent_and_a_relay_enroll_call_renew_and_are_revoked_as_an_operator_would_do_it() {
    journey(Engine::Sqlite);
}

#[test]
fn an_agent_and_a_relay_are_enrolled_and_revoked_on_postgresql_as_well() {
    journey(Engine::postgres());
}
