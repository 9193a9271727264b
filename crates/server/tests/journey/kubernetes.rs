//! From `cairn login` to `kubectl exec`: the real programs and the real `kubectl` in front of an API server double.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use crypto::system::SystemClock;
use domain::Clock as _;
use serde_json::Value;
use testkit::cable::Cable;
use testkit::{KubeApi, logs};

use crate::kubectl::{self, Going, records};
use crate::relay_world::{Relay, port, trust_also};
use crate::world::{Engine, Server, World, until};

/// How users get to the cluster.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// To the relay's own listener.
    Direct,
    /// Through the server and the relay's channel.
    Through,
}

/// A server, a relay in a cluster, and somebody who is signed in.
struct Cluster {
    relay: Relay,
    api: KubeApi,
    cable: Cable,
    server: Server,
    world: World,
    /// What the relay was started with.
    settings: Vec<(&'static str, String)>,
}

impl Cluster {
    fn start(engine: Engine, way: Way) -> Self {
        let world = World::new(engine).with("CAIRN_DISCOVERY_OWN_HOST", "false");
        let server = world.start();
        world.first_login(&server);
        Self::around(world, server, way)
    }

    /// The same with a server that works already.
    fn around(world: World, server: Server, way: Way) -> Self {
        let account = logs::plant("service-account");
        let api = KubeApi::start(&account);
        let folder = world.path("account");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ca.crt"), &api.authority).unwrap();
        std::fs::write(folder.join("token"), &account).unwrap();
        let (authority, certificate, key) = testkit::kube::certificates();
        let file = |name: &str, text: &str| world.private(name, text).to_str().unwrap().to_owned();
        let (authority, certificate, key) =
            (file("proxy-ca.pem", &authority), file("proxy.pem", &certificate), file("proxy.key", &key));
        let (address, account) = (api.address(), folder.to_str().unwrap().to_owned());
        let mut settings = vec![
            ("RELAY_CLUSTER_NAME", "prod".to_owned()),
            ("RELAY_CLUSTER_API", address),
            ("RELAY_CLUSTER_ACCOUNT_DIR", account),
            ("RELAY_CLUSTER_GROUPS", "devs".to_owned()),
            ("RELAY_CLUSTER_ACT_AS", "deploy-bot".to_owned()),
        ];
        if way == Way::Direct {
            // Here the relay keeps the bindings, there they are made by hand.
            api.unbind();
            settings.extend([
                ("RELAY_CLUSTER_BINDINGS", "3".to_owned()),
                ("RELAY_CLUSTER_LISTEN", "127.0.0.1:0".to_owned()),
                ("RELAY_CLUSTER_ADDRESS", "localhost".to_owned()),
                ("RELAY_CLUSTER_CA", authority),
                ("RELAY_CLUSTER_CERT", certificate),
                ("RELAY_CLUSTER_KEY", key),
            ]);
        }
        let cable = Cable::to(port(&server));
        let mut relay = Self::relay(&world, &server, &cable, &settings);
        relay.says("the cluster is registered");
        Self { relay, api, cable, server, world, settings }
    }

    fn relay(world: &World, server: &Server, cable: &Cable, settings: &[(&str, String)]) -> Relay {
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Relay::start(world, server, cable, &settings)
    }

    /// Grants this role to who is signed in: the grant's id.
    fn grant(&self, role: &str, more: &[&str]) -> String {
        kubectl::grant(&self.world, role, more)
    }

    fn kubectl(&self, arguments: &[&str]) -> Command {
        kubectl::kubectl(&self.world, arguments)
    }

    /// `cairn use`, as the same person.
    fn select(&self, arguments: &[&str]) -> crate::world::Ran {
        kubectl::select(&self.world, arguments)
    }

    /// Runs it and expects that it works.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).output().expect("kubectl: run `cargo xtask setup`");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{}", self.relay.said());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, expects that it fails, and answers what it says.
    fn fail(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).output().expect("kubectl: run `cargo xtask setup`");
        assert!(!output.status.success(), "{arguments:?} works");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn begin(&self, arguments: &[&str]) -> Going {
        kubectl::begin(self.kubectl(arguments))
    }
}

/// What people do in a cluster.
fn work(cluster: &Cluster) {
    assert!(cluster.run(&["get", "pods", "-n", "a"]).contains("web"));
    // Its own name, prefixed, and the role; never the relay's.
    for seen in cluster.api.seen().iter().filter(|seen| seen.target.contains("/pods")) {
        assert_eq!(seen.header("impersonate-user"), ["cairn:admin@localhost"], "{seen:?}");
    }
    let refused = cluster.fail(&["get", "secrets", "-n", "a"]);
    assert!(refused.contains("RBAC of the cluster"), "{refused}");
    let refused = cluster.fail(&["get", "pods", "-n", "a", "--as", "root", "--as-group", "system:masters"]);
    assert!(refused.contains("act as"), "{refused}");

    let mut log = cluster.begin(&["logs", "-f", "-n", "a", "web"]);
    assert_eq!((log.line(), log.line()), ("line 1\n".to_owned(), "line 2\n".to_owned()));
    cluster.api.put("/api/v1/namespaces/a/pods/web-2", serde_json::json!({"kind": "Pod"}));
    assert!(log.line().contains("web-2"));
    drop(log);

    for websockets in ["true", "false"] {
        let mut exec = cluster.kubectl(&["exec", "-i", "-n", "a", "web", "--", "sh", "-c", "cat; exit 7"]);
        exec.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        let mut exec = exec.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut stdin, bytes) = (exec.stdin.take().unwrap(), sent.clone());
        let writing = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = exec.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.stdout == sent && output.status.code() == Some(7), "{websockets}: {said}");
    }

    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = echo.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut socket = echo.accept().unwrap().0;
        let mut word = [0; 4];
        socket.read_exact(&mut word).unwrap();
        socket.write_all(&word.map(|byte| byte.to_ascii_uppercase())).unwrap();
    });
    let mut forward = cluster.begin(&["port-forward", "-n", "a", "pod/web", &format!(":{far}")]);
    let line = forward.line();
    let near: u16 = line.split(':').nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", near)).unwrap();
    socket.write_all(b"ping").unwrap();
    let mut back = [0; 4];
    socket.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"PING");
    drop((socket, forward));
    until("nothing stays open", || (cluster.api.open() == 0).then_some(()));
}

/// A watch and an `exec` that are open end with what they rest on.
fn ends_what_is_open(cluster: &Cluster, what: &str, take_away: impl FnOnce()) {
    let mut watch = cluster.begin(&["get", "pods", "-n", "a", "-w", "--no-headers"]);
    assert!(watch.line().contains("web"));
    let mut exec = cluster.begin(&["exec", "-i", "-n", "a", "web", "--", "cat"]);
    exec.say("hello\n");
    assert_eq!(exec.line(), "hello\n");
    until("both are open", || (cluster.api.open() == 2).then_some(()));
    take_away();
    let began = std::time::Instant::now();
    until("the end of what is open", || (cluster.api.open() == 0).then_some(()));
    eprintln!("{what}: what was open ended after {} ms", began.elapsed().as_millis());
    watch.ends();
    exec.ends();
}

#[test]
fn attack_52_kubectl_works_directly_and_what_is_open_ends_with_its_grant() {
    let cluster = Cluster::start(Engine::Sqlite, Way::Direct);
    let world = &cluster.world;
    let shown = world.cairn(["destinations", "show", "prod", "-o", "json"]).ok().json();
    assert_eq!((&shown["namespaces"], &shown["kind"]), (&serde_json::json!(["a", "b"]), &"kubernetes".into()));
    assert_eq!(shown["roles"], serde_json::json!(["admin", "edit", "view"]));
    assert!(shown["address"].as_str().unwrap().starts_with("localhost:"), "{shown}");
    assert_eq!(cluster.select(&["prod"]).code, 1, "nothing is granted yet");

    let grant = cluster.grant("edit", &[]);
    cluster.select(&["prod"]).ok();
    let config = std::fs::read_to_string(world.path("kubeconfig")).unwrap();
    assert!(config.contains("https://localhost:") && !config.contains("/proxy"), "{config}");
    work(&cluster);
    let bound = |expect: &[(&str, &str)]| {
        let expect = expect.iter().map(|(path, group)| ((*path).to_owned(), vec![(*group).to_owned()])).collect();
        until("the bindings", || (cluster.api.bindings() == expect).then_some(()));
    };
    bound(&[("clusterrolebindings/cairn-role:edit", "cairn-role:edit")]);
    // Without a way to the listener: through the server, as long as the contexts say so.
    cluster.select(&["prod", "--through-server"]).ok();
    assert!(std::fs::read_to_string(world.path("kubeconfig")).unwrap().contains("/proxy"));
    assert!(cluster.run(&["get", "pods", "-n", "a"]).contains("web"));
    cluster.select(&["prod"]).ok();

    ends_what_is_open(&cluster, "a grant", || drop(world.cairn(["grants", "delete", &grant]).ok()));
    // The token that `cairn` keeps would be good for minutes.
    let refused = cluster.fail(&["get", "pods", "-n", "a"]);
    assert!(refused.contains("logged in") || refused.contains("gone"), "{refused}");
    assert!(cluster.relay.said().contains("the grant, the membership or the session behind it is gone"));

    // A name that is lent, as far as the cluster's operator offers it: of the two only one.
    let lends = cluster.grant("view", &["--namespace", "a", "--as", "deploy-bot", "--as", "other-bot"]);
    std::fs::remove_dir_all(world.path("home").join("tokens")).unwrap();
    cluster.select(&["prod.a"]).ok();
    let refused = cluster.fail(&["get", "pods", "--as", "other-bot"]);
    assert!(refused.contains("no grant lets you act as `other-bot` here"), "{refused}");
    // Who it is has what the cluster binds to that name, and not the roles of who asks.
    assert!(cluster.fail(&["get", "pods", "--as", "deploy-bot"]).contains("User \"cairn:deploy-bot\""));
    assert!(cluster.run(&["get", "pods"]).contains("web"), "without it nothing changes");
    // What is granted in a namespace the cluster itself keeps there, and says so (`auth can-i` asks the same, in protobuf).
    let may_list = |namespace: &str| {
        let attributes = serde_json::json!({"namespace": namespace, "verb": "list", "resource": "pods"});
        let asked = serde_json::json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes},
        });
        let file = world.private("review.json", &asked.to_string());
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = cluster.run(&["create", "--raw", path, "-f", file.to_str().unwrap()]);
        serde_json::from_str::<Value>(&answer).unwrap()["status"]["allowed"].as_bool().unwrap()
    };
    assert!(may_list("a") && !may_list("b"));
    // So does `auth whoami`.
    let who: Value = serde_json::from_str(&cluster.run(&["auth", "whoami", "-o", "json"])).unwrap();
    let who = &who["status"]["userInfo"];
    assert_eq!(who["username"], "cairn:admin@localhost");
    assert_eq!(who["groups"], serde_json::json!(["cairn-role:view@1", "system:authenticated"]));
    assert!(cluster.api.bindings()["namespaces/a/rolebindings/cairn-role:view"] == ["cairn-role:view@1"]);
    until("who acted as whom, in the audit log", || {
        let is =
            |record: &Value| record["actor"] == "admin@localhost" && record["detail"]["acted_as"] == "cairn:deploy-bot";
        records(world).iter().any(is).then_some(())
    });
    world.cairn(["grants", "delete", &lends]).ok();

    // A grant for one namespace, to a group.
    world.cairn(["groups", "create", "devs"]).ok();
    world.cairn(["groups", "add", "devs", "admin@localhost"]).ok();
    let words = ["grants", "create", "edit", "--group", "devs", "--destination", "prod", "--namespace", "a"];
    world.cairn(words).ok();
    std::fs::remove_dir_all(world.path("home").join("tokens")).unwrap();
    cluster.select(&["prod.a"]).ok();
    assert!(cluster.run(&["get", "pods"]).contains("web"), "the context names the namespace");
    assert!(cluster.fail(&["get", "pods", "-n", "b"]).contains("your grants are for the namespace a"));
    ends_what_is_open(&cluster, "a place in a group", || {
        world.cairn(["groups", "remove", "devs", "admin@localhost"]).ok();
    });
    let seen = cluster.api.seen();
    let devs: Vec<_> = seen.iter().filter(|seen| seen.header("impersonate-group").contains(&"cairn:devs")).collect();
    assert!(!devs.is_empty() && devs.iter().all(|seen| !seen.target.contains("namespaces/b/")));
}

/// What a record says: verb, resource with its subresource, phase.
fn told(record: &Value) -> [&str; 4] {
    let detail = &record["detail"];
    let text = |name: &str| detail[name].as_str().unwrap_or_default();
    [text("verb"), text("resource"), text("subresource"), text("phase")]
}

/// A request to the server as anybody may send it: the status and the body.
fn ask(cluster: &Cluster, path: &str, token: Option<&str>) -> (u16, String) {
    let authority = std::fs::read(cluster.world.data().join("ca.crt")).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority).unwrap();
    crypto::tls::install();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut request = client.get(format!("{}{path}", cluster.server.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

fn through(engine: Engine) {
    let cluster = Cluster::start(engine, Way::Through);
    let world = &cluster.world;
    let grant = cluster.grant("edit", &[]);
    cluster.select(&["prod"]).ok();
    let config = std::fs::read_to_string(world.path("kubeconfig")).unwrap();
    assert!(config.contains("/proxy") && !config.contains("localhost:"), "{config}");
    work(&cluster);

    // Whoever has no token of this destination gets no further than the server.
    let (path, token) = by_hand(&cluster);
    let token = token.as_str();
    let session: Value =
        serde_json::from_slice(&std::fs::read(world.path("home").join("config.json")).unwrap()).unwrap();
    let session = session.to_string();
    let session = session.split('"').find(|word| word.starts_with("cs_")).unwrap();
    let before = cluster.api.seen().len();
    let mut forged = token.to_owned();
    forged.replace_range(token.len() - 8..token.len() - 4, "AAAA");
    for wrong in [None, Some(session), Some("x"), Some(&forged)] {
        let (status, body) = ask(&cluster, &path, wrong);
        assert!(status == 401 && body.contains("\"kind\":\"Status\""), "{status} {body}");
    }
    let (status, _) = ask(&cluster, &path.replace("/default/", "/other/"), Some(token));
    assert_eq!(status, 401, "a tenant that the token is not of");
    assert_eq!(cluster.api.seen().len(), before, "the cluster heard nothing");
    // A mark of the cluster's own in the address is no token of ours.
    let (status, body) = ask(&cluster, &format!("{path}?continue=eyJ2IjoibWV0YSJ9"), Some(token));
    assert!(status == 200 && body.contains("web"), "{status} {body}");

    ends_what_is_open(&cluster, "a grant, through the server", || drop(world.cairn(["grants", "delete", &grant]).ok()));
    let (status, _) = ask(&cluster, &path, Some(token));
    assert_eq!(status, 401, "the server looks at what a token rests on");

    // Everything is written down, as what the user did.
    let ended = |record: &Value| told(record) == ["watch", "pods", "", "ended"];
    let all = until("the end of the watch in the audit log", || {
        let all = records(world);
        all.iter().any(ended).then_some(all)
    });
    let is = |record: &&Value, expect: [&str; 4], outcome: &str| {
        told(record) == expect && record["outcome"] == outcome && record["actor"] == "admin@localhost"
    };
    for (expect, outcome) in [
        (["list", "pods", "", "done"], "success"),
        (["list", "secrets", "", "done"], "deny"),
        (["get", "pods", "log", "began"], "success"),
        (["watch", "pods", "", "ended"], "success"),
    ] {
        let found = all.iter().find(|record| is(record, expect, outcome));
        let found = found.unwrap_or_else(|| panic!("{expect:?} {outcome} is not in {all:#?}"));
        let detail = &found["detail"];
        assert_eq!(
            (&detail["destination"], &detail["role"], &detail["namespace"]),
            (&"prod".into(), &"edit".into(), &"a".into())
        );
    }
    let reason = all.iter().find(|record| ended(record)).unwrap()["detail"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("is gone"), "{reason}");
    let exec = all.iter().find(|record| told(record)[2] == "exec" && told(record)[3] == "began").unwrap();
    assert_eq!(exec["detail"]["status"], 101);
    let mut ids: Vec<_> =
        all.iter().map(|one| format!("{}{}", one["detail"]["call"], one["detail"]["phase"])).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "each once");
    recorded(world);
}

/// The sessions are recorded, and what an auditor takes along of one verifies without the server.
fn recorded(world: &World) {
    let all = until("the end of every recording", || {
        let all = world.cairn(["recordings", "list", "--destination", "prod", "-o", "json"]).ok().json();
        let all = all.as_array().unwrap().clone();
        (all.len() >= 3 && all.iter().all(|one| one["state"] == "ended")).then_some(all)
    });
    assert!(all.iter().all(|one| one["user"] == "admin@localhost" && one["user_known"] == true), "{all:#?}");
    let exits: Vec<_> = all.iter().map(|one| &one["exit"]).collect();
    assert_eq!(exits, [&Value::Null, &7.into(), &7.into()], "{all:#?}");
    assert!(all[0]["reason"].as_str().unwrap().contains("is gone"), "{:#?}", all[0]);
    assert_eq!(all[0]["grants"].as_array().unwrap().len(), 1);
    let id = all[0]["id"].as_str().unwrap();
    assert_eq!(world.cairn(["recordings", "play", id]).ok().out, "hello\n");
    let bundle = world.path("recording.zip");
    let file = bundle.to_str().unwrap();
    world.cairn(["recordings", "download", id, "--bundle", "--output", file]).ok();
    let verified = world.cairn(["evidence", "verify", file]).ok();
    assert!(verified.out.contains("admin@localhost at prod"), "{}", verified.out);
    let copied = &all[1];
    assert!(copied["left_out"].as_u64().unwrap() == 0 && copied["bytes"].as_u64().unwrap() > 0, "{copied:#?}");
}

#[test]
fn attack_52_kubectl_works_through_the_server_and_every_call_is_written_down_on_sqlite() {
    through(Engine::Sqlite);
}

#[test]
fn attack_52_kubectl_works_through_the_server_and_every_call_is_written_down_on_postgresql() {
    through(Engine::postgres());
}

#[test]
fn a_server_that_is_away_ends_no_good_token_and_a_session_that_ends_does() {
    let cluster = Cluster::start(Engine::Sqlite, Way::Direct);
    cluster.grant("edit", &[]);
    cluster.select(&["prod"]).ok();
    let _ = cluster.run(&["get", "pods", "-n", "a"]);
    let mut exec = cluster.begin(&["exec", "-i", "-n", "a", "web", "--", "cat"]);
    exec.say("one\n");
    assert_eq!(exec.line(), "one\n");
    // No question of the relay comes through.
    cluster.cable.hold(true);
    until("an unanswered question", || cluster.relay.said().contains("nobody says what may stay open").then_some(()));
    assert!(cluster.run(&["get", "pods", "-n", "a"]).contains("web"));
    exec.say("two\n");
    assert_eq!(exec.line(), "two\n");
    cluster.cable.hold(false);
    drop(exec);
    until("nothing stays open", || (cluster.api.open() == 0).then_some(()));

    ends_what_is_open(&cluster, "a session", || drop(cluster.world.cairn(["logout"]).ok()));
    assert!(cluster.fail(&["get", "pods", "-n", "a"]).contains("not signed in"));
    drop(cluster.server.stop());
}

/// Where the pods of a namespace are through the server, and a token to ask there without `kubectl`.
fn by_hand(cluster: &Cluster) -> (String, String) {
    let shown = cluster.world.cairn(["destinations", "show", "prod", "-o", "json"]).ok().json();
    let id = shown["id"].as_str().unwrap();
    let credential = cluster.world.cairn_command(["tokens", "add", "prod", "--role", "edit"]).output().unwrap();
    let credential: Value = serde_json::from_slice(&credential.stdout).unwrap();
    let token = credential["status"]["token"].as_str().unwrap();
    logs::plant_as("destination token", token);
    (format!("/api/v1/tenants/default/destinations/{id}/proxy/api/v1/namespaces/a/pods"), token.to_owned())
}

#[test]
fn users_come_to_any_server_and_reach_a_relay_that_hangs_on_another_one() {
    let world = World::new(Engine::postgres())
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_SERVER_PEER_LISTEN", "127.0.0.1:0");
    let one = world.start();
    world.first_login(&one);
    let second = world.beside();
    let two = second.start();
    trust_also(&world, &second);
    let mut cluster = Cluster::around(world, one, Way::Through);
    let grant = cluster.grant("edit", &[]);

    // From here on the user has a home of their own and knows the second server only; the relay hangs on the first.
    second.login(&two);
    let (one, first) = (std::mem::replace(&mut cluster.server, two), std::mem::replace(&mut cluster.world, second));
    cluster.select(&["prod"]).ok();
    let config = std::fs::read_to_string(cluster.world.path("kubeconfig")).unwrap();
    assert!(config.contains(&cluster.server.url) && !config.contains(&one.url), "{config}");
    work(&cluster);
    ends_what_is_open(&cluster, "a grant, by two servers", || {
        drop(cluster.world.cairn(["grants", "delete", &grant]).ok());
    });
    cluster.grant("edit", &[]);
    std::fs::remove_dir_all(cluster.world.path("home").join("tokens")).unwrap();

    // The first server is killed: what is open ends, and what comes is told why.
    let mut exec = cluster.begin(&["exec", "-i", "-n", "a", "web", "--", "cat"]);
    exec.say("hello\n");
    assert_eq!(exec.line(), "hello\n");
    let (path, token) = by_hand(&cluster);
    cluster.cable.plug(None);
    one.kill();
    exec.ends();
    let (status, said) = ask(&cluster, &path, Some(&token));
    assert!(status == 503 && said.contains("hangs on another server") && said.contains("does not answer"), "{said}");

    // The relay comes to the server that there is, and everything works again.
    cluster.cable.plug(Some(port(&cluster.server)));
    cluster.cable.cut();
    cluster.relay.says_times("connected", 2);
    assert!(cluster.run(&["get", "pods", "-n", "a"]).contains("web"));
    // The database is the first one's: it goes when nobody works on it any more.
    drop(cluster);
    drop(first);
}

#[test]
fn a_relay_that_stops_ends_its_sessions_and_tells_their_recordings_to_the_end() {
    let cluster = Cluster::start(Engine::Sqlite, Way::Direct);
    cluster.grant("edit", &[]);
    cluster.select(&["prod"]).ok();
    let mut exec = cluster.begin(&["exec", "-i", "-n", "a", "web", "--", "cat"]);
    exec.say("hello\n");
    assert_eq!(exec.line(), "hello\n");
    let Cluster { relay, world, .. } = &cluster;
    relay.ask_to_stop();
    exec.ends();
    let recording = until("the end of its recording", || {
        let all = world.cairn(["recordings", "list", "-o", "json"]).ok().json();
        all[0]["state"].as_str().is_some_and(|state| state != "open").then(|| all[0].clone())
    });
    assert_eq!((&recording["state"], &recording["reason"]), (&"ended".into(), &"the relay stops".into()));
    assert_eq!(world.cairn(["recordings", "play", recording["id"].as_str().unwrap()]).ok().out, "hello\n");
    let ended = until("the end of its call in the audit log", || {
        records(world).into_iter().find(|record| told(record)[2] == "exec" && told(record)[3] == "ended")
    });
    assert_eq!(ended["detail"]["reason"], "the relay stops");
}

#[test]
fn a_relay_that_starts_and_does_not_see_the_namespaces_takes_nothing_away() {
    let cluster = Cluster::start(Engine::Sqlite, Way::Direct);
    cluster.grant("view", &["--namespace", "a"]);
    cluster.select(&["prod.a"]).ok();
    assert!(cluster.run(&["get", "pods"]).contains("web"));
    let Cluster { relay, api, cable, server, world, mut settings } = cluster;
    let bound = api.bindings();
    assert_eq!(bound["namespaces/a/rolebindings/cairn-role:view"], ["cairn-role:view@1"]);
    relay.stop();
    let registered = || {
        let words = ["audit", "list", "--action", "destination_register", "--all", "-o", "json"];
        world.cairn(words).ok().json().as_array().unwrap().len()
    };
    let before = registered();
    api.set_refused(Some("/api/v1/namespaces"));
    // Its listener would have another port, which is news of its own.
    settings.retain(|(name, _)| {
        !matches!(name.strip_prefix("RELAY_CLUSTER_"), Some("LISTEN" | "ADDRESS" | "CA" | "CERT" | "KEY"))
    });
    let mut relay = Cluster::relay(&world, &server, &cable, &settings);
    relay.says_times("the cluster's namespaces cannot be listed", 2);
    assert!(relay.said().contains("the relay's service account needs `list`"));
    assert_eq!((api.bindings(), registered()), (bound.clone(), before));
    let shown = world.cairn(["destinations", "show", "prod", "-o", "json"]).ok().json();
    assert_eq!(shown["namespaces"], serde_json::json!(["a", "b"]));
    api.set_refused(None);
    relay.says("the cluster is registered");
    until("a look at what is bound", || {
        let asked = api.seen().into_iter().filter(|seen| seen.target.contains("/rolebindings?")).count();
        (asked > 0).then_some(())
    });
    assert_eq!(api.bindings(), bound);
    assert!(!api.seen().iter().any(|seen| seen.method == "DELETE"));
}

#[test]
fn what_was_done_at_a_destination_is_never_told_of_the_one_that_came_in_its_place() {
    let cluster = Cluster::start(Engine::Sqlite, Way::Direct);
    let world = &cluster.world;
    cluster.grant("edit", &[]);
    cluster.select(&["prod"]).ok();
    let shown = || world.cairn(["destinations", "show", "prod", "-o", "json"]);
    let before = shown().ok().json()["id"].clone();
    cluster.cable.hold(true);
    assert!(cluster.fail(&["get", "secrets", "-n", "b"]).contains("RBAC of the cluster"));
    world.cairn(["destinations", "delete", "prod"]).ok();
    cluster.cable.hold(false);
    let lost = until("a word about what was lost", || {
        records(world).into_iter().find(|record| record["detail"]["lost"].as_u64() >= Some(1))
    });
    let after = shown().ok().json()["id"].clone();
    assert_ne!(before, after);
    assert_eq!((&lost["object_id"], &lost["detail"]["alarm"]), (&after, &true.into()));
    let told = records(world);
    let of_then = |record: &&Value| record["detail"]["resource"] == "secrets";
    assert!(!told.iter().any(|record| of_then(&record) && record["object_id"] == after), "{told:?}");
}

#[test]
fn nobody_is_sent_to_a_relay_whose_certificate_has_ended_and_who_is_stopped_by_the_api_servers_hears_why() {
    let cluster = Cluster::start(Engine::Sqlite, Way::Direct);
    cluster.grant("edit", &[]);
    let Cluster { relay, api, cable, server, world, settings } = cluster;
    let shown = || world.cairn(["destinations", "show", "prod", "-o", "json"]).ok().json();
    assert!(shown()["address"].is_string());
    let now = SystemClock.now().as_seconds();
    relay.stop();
    let file = |name: &str| &settings.iter().find(|(known, _)| *known == name).unwrap().1;
    let (chain, key) = testkit::kube::Authority::generate().issue_for(&["localhost"], now - 90 * 86_400, now - 60);
    std::fs::write(file("RELAY_CLUSTER_CERT"), chain).unwrap();
    std::fs::write(file("RELAY_CLUSTER_KEY"), key).unwrap();
    let mut relay = Cluster::relay(&world, &server, &cable, &settings);
    relay.says("the certificate has ended: nobody is told of the way in without the server any more");
    until("nobody is sent there", || shown()["address"].is_null().then_some(()));
    let ends = domain::Timestamp::from_millis((now - 60) * 1_000).to_string();
    assert_eq!(shown()["certificate_ends_at"], ends);
    let cluster = Cluster { relay, api, cable, server, world, settings };
    let api = &cluster.api;
    // So `cairn use` writes the way that is good.
    cluster.select(&["prod"]).ok();
    let ended = now - 3_600;
    api.set_certificate(api.issuer.issue_for(&["localhost"], now - 90 * 86_400, ended));
    let said = cluster.fail(&["get", "pods", "-n", "a"]);
    let expect = format!("its certificate ended at {}", domain::Timestamp::from_millis(ended * 1_000));
    assert!(said.contains(&expect), "{said}");
    assert!(cluster.relay.said().contains(&expect));
    api.set_certificate(api.issuer.issue(&["localhost"]));
    assert!(cluster.run(&["get", "pods", "-n", "a"]).contains("web"));
}
