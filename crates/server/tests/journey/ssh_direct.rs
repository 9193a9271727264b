//! Users who come to a host straight through its relay, without the server between. As root, as CI is.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::relay_world::api;
use crate::ssh_access::{create, refused};
use crate::ssh_host::Host;
use crate::ssh_relay::records;
use crate::world::{Engine, until};

async fn asked(way: &Value, path: &str, token: Option<&str>) -> reqwest::Response {
    let authority = reqwest::Certificate::from_pem(way["authority"].as_str().unwrap().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).http1_only().build().unwrap();
    let mut request = client.get(format!("https://{}{path}", way["address"].as_str().unwrap()));
    request = request.header("connection", "Upgrade").header("upgrade", "cairn-ssh");
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Asks a relay for the way to a host; what it answers.
fn ask(way: &Value, path: &str, token: Option<&str>) -> u16 {
    runtime().block_on(async { asked(way, path, token).await.status().as_u16() })
}

fn the_relays_own_listener(engine: Engine) {
    let mut host = Host::start(engine, "");
    let (authority, certificate, key) = testkit::kube::certificates();
    let file = |name: &str, text: &str| host.world.private(name, text).to_str().unwrap().to_owned();
    let files = [file("way-ca.pem", &authority), file("way.pem", &certificate), file("way.key", &key)];
    let settings = [
        ("RELAY_SSH_LISTEN", "127.0.0.1:0"),
        ("RELAY_SSH_ADDRESS", "localhost"),
        ("RELAY_SSH_CA", &files[0]),
        ("RELAY_SSH_CERT", &files[1]),
        ("RELAY_SSH_KEY", &files[2]),
    ];
    let (_cable, relay) = host.relay(&settings);
    host.allow();
    host.register(&["--relay", "rly-1"]);
    let Host { sshd, user, world, server } = host;
    create(&world, "web2", &sshd, &["--relay", "rly-1"]);
    for name in ["web1", "web2"] {
        let words = ["grants", "create", &user, "--user", "admin@localhost", "--destination", name];
        world.cairn(words.iter().copied().chain(["--network", "127.0.0.0/8"])).ok();
    }
    until("the relay's word where it listens", || {
        records(&world, "ssh_session_hold").iter().any(|it| it["detail"]["ssh_address"].is_string()).then_some(())
    });
    // When its certificate ends is on the fleet's page.
    let relays = world.cairn(["relays", "list", "-o", "json"]).ok().json();
    let ends = relays[0]["ssh_certificate_ends_at"].as_str().unwrap().parse::<domain::Timestamp>().unwrap();
    assert!(ends > domain::Clock::now(&crypto::system::SystemClock), "{relays}");
    let token = |name: &str| {
        let (status, made) =
            api(&world, &server, "POST", &format!("destinations/{name}/tokens"), Some(&json!({"role": user})));
        assert_eq!(status, 201, "{made}");
        made
    };
    let (one, other) = (token("web1"), token("web2"));
    let way = &one["direct"];
    let path = format!("/destinations/{}/ssh", one["destination"].as_str().unwrap());
    let good = one["token"].as_str().unwrap();
    assert_eq!(ask(way, &path, None), 403);
    assert_eq!(ask(way, &path, Some("x.y.z")), 403);
    assert_eq!(ask(way, &path, Some(other["token"].as_str().unwrap())), 403, "another host's");
    for odd in ["/", "/ssh", "/destinations/x/ssh", "/destinations/dst_1/proxy"] {
        assert_eq!(ask(way, odd, Some(good)), 404, "{odd}");
    }
    assert_eq!(ask(way, &path, Some(good)), 101);
    assert_eq!(ask(way, &path, Some(good)), 409, "a token is good once");
    let all = world.cairn(["audit", "list", "--all", "-o", "json"]).ok().json();
    assert!(
        all.as_array().unwrap().iter().any(|it| it["detail"]["alarm"] == true && it["action"] == "ssh_session_begin")
    );

    // What is no token of the server's costs it no question, from when the relay has its keys.
    until("a token that the relay itself refuses", || {
        assert_eq!(ask(way, &path, Some("x.y.z")), 403);
        relay.said().contains("a token is refused before the server is asked").then_some(())
    });

    // One user has a part of the relay's connections. Each token is good for one.
    let tokens: Vec<Value> = (0..68).map(|_| token("web1")).collect();
    let (held, refused_ones) = runtime().block_on(async {
        let (mut held, mut refused_ones) = (Vec::new(), Vec::new());
        for made in &tokens {
            let answer = asked(way, &path, made["token"].as_str()).await;
            match answer.status().as_u16() {
                101 => held.push(answer.upgrade().await.unwrap()),
                status => refused_ones.push((status, answer.text().await.unwrap())),
            }
        }
        (held.len(), refused_ones)
    });
    assert!((1..=64).contains(&held) && !refused_ones.is_empty(), "{held} {refused_ones:?}");
    assert!(
        refused_ones.iter().all(|(status, why)| *status == 409 && why.contains("one user may")),
        "{refused_ones:?}"
    );
    // Those that were held have gone, all at the same moment, which makes no copy of the relay, and the next one comes in.
    until("room again", || world.cairn(["ssh", "web1", "id", "-un"]).out.contains(&user).then_some(()));
    let all = world.cairn(["audit", "list", "--all", "-o", "json"]).ok().json();
    assert!(!all.as_array().unwrap().iter().any(|it| it["action"] == "relay_clone"), "{all}");

    // What is open goes on without the server; to begin needs it.
    assert_eq!(world.cairn(["ssh", "web1", "id", "-un"]).ok().out.trim(), user);
    let mark = world.path("alive");
    let script = format!("while echo x; do touch {}; sleep 0.05; done", mark.display());
    let mut open = world.cairn_command(["ssh", "web1", &script]);
    let mut open = open.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("an open session", || mark.exists().then_some(()));
    server.stop();
    let gone = Instant::now();
    std::fs::remove_file(&mark).unwrap();
    until("that it goes on", || mark.exists().then_some(()));
    std::fs::remove_file(&mark).unwrap();
    until("that it goes on still", || (gone.elapsed() > Duration::from_secs(3) && mark.exists()).then_some(()));
    refused(&world.cairn(["ssh", "web1", "id"]), "");
    open.kill().unwrap();
    open.wait().unwrap();
    drop(relay);
}

#[test]
fn attack_ssh_the_relays_own_listener_lets_in_who_the_server_lets_in_and_nobody_else() {
    the_relays_own_listener(Engine::Sqlite);
}

#[test]
fn attack_ssh_the_relays_own_listener_lets_in_who_the_server_lets_in_and_nobody_else_on_postgresql() {
    the_relays_own_listener(Engine::postgres());
}
