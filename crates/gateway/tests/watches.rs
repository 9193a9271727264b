//! Watches of several users over one connection to the API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is not as expected ends the test, also in what arranges it"
)]

#[path = "kubectl/world.rs"]
#[allow(dead_code, reason = "a part of it is for the tests with `kubectl`")]
mod world;

use std::sync::Arc;

use serde_json::json;
use testkit::KubeApi;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;
use wire::recording::RecordingMode;

use world::{Tapes, proxy, trusting};

struct Lab {
    api: KubeApi,
    proxy: Arc<gateway::kubernetes::Proxy>,
    _folder: tempfile::TempDir,
}

/// Runs it against an API server that speaks these protocols.
fn run(protocols: &[&str], test: impl AsyncFn(&Lab)) {
    let lab = Lab::new(protocols);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test(&lab));
}

impl Lab {
    fn new(protocols: &[&str]) -> Self {
        let api = KubeApi::speaking("the-service-account", protocols);
        let folder = tempfile::tempdir().unwrap();
        let (proxy, _) = proxy(&api.address(), &api.authority, folder.path(), &Tapes::new(RecordingMode::Off, false));
        Self { api, proxy, _folder: folder }
    }

    /// Somebody whose connection to the proxy holds `room` bytes that nobody has read.
    fn client(&self, room: usize) -> DuplexStream {
        let (client, server) = tokio::io::duplex(room);
        tokio::spawn(Arc::clone(&self.proxy).serve(server, None, CancellationToken::new()));
        client
    }

    /// A watch of this user, whose answer has begun. Only `room` bytes are read of it until somebody reads more.
    async fn watch(&self, user: &str, room: usize) -> DuplexStream {
        let mut client = self.client(room);
        let ask = format!(
            "GET /api/v1/namespaces/a/configmaps?watch=true HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {user}.edit\r\n\r\n"
        );
        client.write_all(ask.as_bytes()).await.unwrap();
        let head = read_until(&mut client, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        client
    }

    fn put(&self, name: &str, bytes: usize) {
        let data = json!({"kind": "ConfigMap", "data": {"text": "x".repeat(bytes)}});
        self.api.put(&format!("/api/v1/namespaces/a/configmaps/{name}"), data);
    }
}

async fn read_until(client: &mut DuplexStream, end: &str) -> String {
    let mut came = Vec::new();
    while !String::from_utf8_lossy(&came).contains(end) {
        assert_ne!(client.read_buf(&mut came).await.unwrap(), 0, "ended: {}", String::from_utf8_lossy(&came));
    }
    String::from_utf8(came).unwrap()
}

#[test]
fn watches_of_several_users_share_a_connection_and_each_is_asked_as_its_own_user() {
    run(&["h2", "http/1.1"], share);
}

async fn share(lab: &Lab) {
    let mut all = Vec::new();
    for at in 0..60 {
        all.push(lab.watch(&format!("user-{at}"), 4_096).await);
    }
    let seen = lab.api.seen();
    assert!(seen.iter().all(|seen| seen.is_http2 && seen.status == 200), "{seen:?}");
    let mut connections: Vec<usize> = seen.iter().map(|seen| seen.connection).collect();
    connections.dedup();
    assert_eq!(connections, [1, 2], "48 on the first, the rest on the second");
    for (at, seen) in seen.iter().enumerate() {
        assert_eq!(seen.header("impersonate-user"), [format!("cairn:user-{at}")]);
        assert_eq!(seen.header("authorization"), ["Bearer the-service-account"]);
    }
    lab.put("new", 1);
    for client in &mut all {
        assert!(read_until(client, "}\n").await.contains("ADDED"));
    }
    // Who goes away leaves a place, and the API server is told.
    all.truncate(30);
    world::wait_until("thirty are closed", || lab.api.open() == 30);
    all.push(lab.watch("late", 4_096).await);
    assert!(lab.api.seen().last().is_some_and(|seen| seen.connection <= 2), "no third connection");
    // A grant that ended ends its watch and no other on the connection.
    assert_eq!(lab.proxy.live.cut("the grant was removed", |token| token.admission().user == "user-0"), 1);
    world::wait_until("one is closed", || lab.api.open() == 30);
    lab.put("newer", 1);
    read_until(&mut all[1], "\"name\":\"newer\"").await;
}

#[test]
fn who_does_not_read_a_watch_holds_up_no_other_on_the_same_connection() {
    run(&["h2"], one_that_does_not_read);
}

async fn one_that_does_not_read(lab: &Lab) {
    let mut idle = Vec::new();
    for at in 0..40 {
        idle.push(lab.watch(&format!("idle-{at}"), 64).await);
    }
    let mut reader = lab.watch("reader", 64 * 1_024).await;
    let seen = lab.api.seen();
    assert!(seen.iter().all(|seen| seen.connection == 1), "all on one");
    // More for each that does not read than is let on its way for it, and for all of them together than a whole connection has.
    for at in 0..12 {
        let name = format!("big-{at}");
        lab.put(&name, 100_000);
        read_until(&mut reader, &format!("\"name\":\"{name}\"")).await;
    }
    drop(idle);
}

#[test]
fn where_the_api_server_knows_no_http2_a_watch_has_its_own_connection() {
    run(&["http/1.1"], alone);
}

async fn alone(lab: &Lab) {
    let (mut one, _two) = (lab.watch("one", 4_096).await, lab.watch("two", 4_096).await);
    let seen = lab.api.seen();
    assert!(seen.iter().all(|seen| !seen.is_http2), "{seen:?}");
    assert_ne!(seen[0].connection, seen[1].connection);
    lab.put("new", 1);
    assert!(read_until(&mut one, "}\n").await.contains("ADDED"));
}

#[test]
fn a_watch_that_asks_for_another_protocol_has_a_connection_that_can_switch_to_it() {
    run(&["h2", "http/1.1"], switching);
}

async fn switching(lab: &Lab) {
    let (mut client, server) = tokio::io::duplex(4_096);
    tokio::spawn(Arc::clone(&lab.proxy).serve(server, None, CancellationToken::new()));
    let ask = "GET /api/v1/namespaces/a/configmaps?watch=true HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer ann.edit\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    // This double watches without switching, as an API server may.
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let seen = lab.api.seen();
    assert!(!seen[0].is_http2 && seen[0].header("upgrade") == ["websocket"], "{seen:?}");
}

#[test]
fn nothing_is_asked_over_a_connection_that_an_authority_before_vouched_for() {
    run(&["h2", "http/1.1"], another_authority);
}

async fn another_authority(lab: &Lab) {
    let ask = "GET /api/v1/namespaces/a/configmaps HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer bob.edit\r\nConnection: close\r\n\r\n";
    let connection = || lab.api.seen().last().unwrap().connection;
    let rest = async |client: &mut DuplexStream| {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.map(|_| rest)
    };
    // More than is held on the way to somebody who does not read.
    lab.put("long", 4_000_000);
    let mut watch = lab.watch("ann", 4_096).await;
    let shared = connection();
    // An answer that goes on over a connection of its own.
    let mut slow = lab.client(4_096);
    slow.write_all(ask.as_bytes()).await.unwrap();
    world::wait_until("it is asked", || lab.api.seen().len() == 2);
    let own = connection();
    lab.proxy.cluster.trust(trusting(&lab.api.authority));
    // The watch ends, and with it its connection.
    let _ = rest(&mut watch).await;
    world::wait_until("it is closed", || lab.api.open() == 0);
    let _again = lab.watch("ann", 4_096).await;
    assert!(connection() > own.max(shared), "{:?}", lab.api.seen());
    // What goes on is read to its end, and its connection is used for nothing else.
    assert!(rest(&mut slow).await.unwrap().len() > 4_000_000);
    for _ in 0..2 {
        let mut client = lab.client(4_096);
        client.write_all(ask.as_bytes()).await.unwrap();
        assert!(rest(&mut client).await.unwrap().len() > 4_000_000);
        assert!(connection() > own.max(shared));
    }
}
