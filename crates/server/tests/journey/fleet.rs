//! An agent and a relay by their own library, a server, and the command line of whoever runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::system::{SystemClock, SystemRng};
use domain::{Clock, FleetId, FleetKind, Secret, Timestamp};
use fleet::{Client, Connection, Enrolling, Error, Folder, Identity, Tls, Trust};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::relay_world::port;
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
            // By a connection of its own: those that were open end with the identity.
            let ended = Client::new(connection(&world, &server), Arc::new(open(folder))).renew("1").await.unwrap_err();
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

type Socket = TlsStream<TcpStream>;

async fn opened(world: &World, server: &Server) -> Socket {
    let tls = Tls::new(Trust::of_file(&world.data().join("ca.crt")).unwrap()).client_config(&[b"http/1.1"]).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port(server))).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
}

/// Asks over a connection that stays open; the status.
async fn ask(socket: &mut Socket, identity: &Identity, what: &str, media: &str, body: &[u8]) -> String {
    let noun = if matches!(identity.id(), FleetId::Agent(_)) { "agents" } else { "relays" };
    let target = format!("/api/v1/{noun}/{}/{what}", identity.id());
    let signed = identity.sign("POST", &target, body).await.unwrap();
    let (authorization, proof, length) = (&signed.authorization, &signed.proof, body.len());
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: localhost\r\nauthorization: {authorization}\r\ndpop: {proof}\r\n\
         user-agent: cairn-test/1.2.5\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n"
    );
    answer_to(socket, &[head.as_bytes(), body].concat()).await
}

/// Sends a request, and reads its answer to the end; the status.
async fn answer_to(socket: &mut Socket, request: &[u8]) -> String {
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    let length = answer.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    socket.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

/// Waits until the server closes this connection.
async fn closed(socket: &mut Socket) {
    let mut said = Vec::new();
    // The end may come without TLS's own: what counts is that there is one, and that nothing was said.
    let _ = tokio::time::timeout(Duration::from_mins(1), socket.read_to_end(&mut said)).await.expect("it stays open");
    assert!(said.is_empty(), "{said:?}");
}

/// `by`: where it is revoked; `at`: where the connections are.
fn loses_its_connection((by, revoking): (&World, &Server), (at, server): (&World, &Server)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let way = connection(by, revoking);
        let mut units = Vec::new();
        for (noun, kind, name) in [
            ("agents", FleetKind::Agent, "open-1"),
            ("agents", FleetKind::Agent, "open-2"),
            ("relays", FleetKind::Relay, "open-3"),
        ] {
            let token = token(by, noun);
            units.push(enroll(&way, &by.path(name), &token, kind, name).await.unwrap());
        }
        let report = |number: u8| crate::simulated::check_in(&format!("{number:016x}"));
        let (media, json) = (wire::report::MEDIA_TYPE, "application/json");
        let (mut first, mut other, mut relay) =
            (opened(at, server).await, opened(at, server).await, opened(at, server).await);
        // Their clocks are an hour late, and a refusal tells the time.
        for unit in &units {
            unit.adjust(SystemClock.now());
        }
        assert_eq!(ask(&mut first, &units[0], "report", media, &report(1)).await, "200");
        assert_eq!(ask(&mut other, &units[1], "report", media, &report(2)).await, "200");
        assert_eq!(ask(&mut relay, &units[2], "renew", json, br#"{"version":"1.2.5"}"#).await, "200");
        // Who is nobody makes a connection no proxy's, which would stay open.
        let nobody = b"GET /api/v1/me HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer x.y.z\r\n\r\n";
        assert_eq!(answer_to(&mut first, nobody).await, "401");
        for (noun, name, socket) in [("agents", "open-1", &mut first), ("relays", "open-3", &mut relay)] {
            by.cairn([noun, "revoke", name]).ok();
            let revoked = Instant::now();
            closed(socket).await;
            eprintln!("closed {:?} after it was revoked", revoked.elapsed());
        }
        // Nobody else's.
        assert_eq!(ask(&mut other, &units[1], "report", media, &report(2)).await, "200");
    });
}

/// A server that by itself ends no connection that rests.
fn patient(engine: Engine) -> World {
    let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    world.with("CAIRN_SERVER_HEADERS_S", "600").with("CAIRN_SERVER_IDLE_S", "600")
}

#[test]
fn attack_23_who_is_revoked_loses_the_connections_that_are_open_and_nobody_else_does() {
    let world = patient(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    loses_its_connection((&world, &server), (&world, &server));
    server.stop();
}

#[test]
fn attack_23_who_is_revoked_at_another_server_loses_the_connections_that_are_open() {
    let first = patient(Engine::postgres());
    let one = first.start();
    first.first_login(&one);
    let second = first.beside();
    let two = second.start();
    loses_its_connection((&first, &one), (&second, &two));
    two.stop();
    one.stop();
}
