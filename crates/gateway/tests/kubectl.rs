//! The real `kubectl` through the proxy, against an API server double that writes down what it got.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is not as expected ends the test, also in what arranges it"
)]

#[path = "kubectl/certificate.rs"]
mod certificate;
#[path = "kubectl/malformed.rs"]
mod malformed;
#[path = "kubectl/unseen.rs"]
mod unseen;
#[path = "kubectl/world.rs"]
mod world;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use wire::kubernetes::Phase;
use wire::recording::{RecordingMode, RecordingTarget};
use world::{Tapes, World, wait_until};

#[test]
fn get_and_apply_run_as_the_user_and_never_as_the_proxy() {
    let world = World::start();
    let listed = world.run("alice.edit", &["get", "pods", "-n", "a"], "");
    assert!(listed.contains("web"), "{listed}");
    let manifest = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","namespace":"a"},"data":{"k":"v"}}"#;
    for expect in ["created", "unchanged"] {
        let applied = world.run("alice.edit", &["apply", "--validate=false", "-f", "-"], manifest);
        assert!(applied.contains(expect), "{expect}: {applied}");
    }
    let seen = world.api.seen();
    assert!(
        seen.iter().any(|seen| seen.method == "POST" && seen.target.starts_with("/api/v1/namespaces/a/configmaps"))
    );
    for seen in &seen {
        assert_eq!(seen.header("authorization"), ["Bearer the-service-account"], "{seen:?}");
        assert_eq!(seen.header("impersonate-user"), ["cairn:alice"], "{seen:?}");
        let groups = seen.header("impersonate-group");
        assert!(
            groups.starts_with(&["cairn:dev"]) && groups.iter().all(|group| group.starts_with("cairn")),
            "{seen:?}"
        );
    }
    let events = world.events();
    let made = events.iter().find(|event| event.verb == "create" && event.resource == "configmaps").unwrap();
    assert_eq!((made.user.as_str(), made.namespace.as_str(), made.status), ("alice", "a", 201));
    let audit_ids: Vec<_> = seen.iter().flat_map(|seen| seen.header("audit-id")).collect();
    assert!(audit_ids.contains(&made.id.as_str()), "the cluster's own audit log knows the call by the same id");
}

#[test]
fn attack_51_what_the_clusters_own_rbac_refuses_comes_back_as_it_is_and_nothing_stays_open() {
    let world = World::start();
    let refused = world.fail("alice.view", &["get", "secrets", "-n", "a"]);
    assert!(refused.contains("RBAC of the cluster"), "{refused}");
    for websockets in ["true", "false"] {
        let mut kubectl = world.kubectl("alice.view", &["exec", "-n", "a", "web", "--", "id"]);
        let output = kubectl.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("RBAC of the cluster"), "{said}");
    }
    assert!(world.api.seen().iter().any(|seen| seen.target.contains("/exec") && seen.status == 403));
    wait_until("nothing is open", || world.api.open() == 0 && world.open() == 0);
}

#[test]
fn attack_47_asking_to_be_an_administrator_is_refused_and_the_api_server_never_hears_of_it() {
    let world = World::start();
    for arguments in [
        &["--as", "alice", "--as-group", "system:masters"][..],
        &["--as", "system:admin"],
        &["--as", "bob", "--as-group", "ops"],
        &["--as", "alice", "--as-uid", "0"],
    ] {
        let refused = world.fail("alice.view", &[&["get", "secrets", "-n", "a"], arguments].concat());
        assert!(refused.contains("act as"), "{refused}");
    }
    assert!(world.api.seen().iter().all(|seen| !seen.target.contains("secrets")));
    // Where the token says so, `--as` is what it is.
    let _ = world.fail("alice.as-bob", &["get", "pods", "-n", "a", "--as", "bob", "--as-group", "ops"]);
    let seen = world.api.seen();
    let last = seen.iter().rfind(|seen| seen.target.contains("pods")).unwrap();
    assert_eq!(
        (last.header("impersonate-user"), last.header("impersonate-group")),
        (vec!["cairn:bob"], vec!["cairn:ops"])
    );
    let told = |event: &wire::kubernetes::AccessEvent| {
        event.user == "alice" && event.acted_as.as_deref() == Some("cairn:bob") && event.acted_in == ["cairn:ops"]
    };
    assert!(world.events().iter().any(told));
}

#[test]
fn a_grant_for_a_namespace_lets_kubectl_work_there_and_nowhere_else() {
    let world = World::start();
    assert!(world.run("alice.edit~a", &["get", "pods", "-n", "a"], "").contains("web"));
    for arguments in [&["get", "pods", "-n", "b"][..], &["get", "pods", "-A"], &["get", "namespaces"]] {
        let refused = world.fail("alice.edit~a", arguments);
        assert!(refused.contains("your grants are for the namespace a"), "{refused}");
    }
    assert!(world.api.seen().iter().all(|seen| !seen.target.contains("/b/")));
    assert!(world.events().iter().any(|event| event.namespace == "b" && event.status == 403 && event.reason.is_some()));
}

/// Of old or of today, `kubectl` speaks one of the two; today's speaks both.
fn both_protocols(run: impl Fn(&World, &str)) {
    for websockets in ["true", "false"] {
        let world = World::start();
        run(&world, websockets);
        let expect = if websockets == "true" { "websocket" } else { "SPDY/3.1" };
        let seen = world.api.seen();
        let asked: Vec<&str> = seen.iter().flat_map(|seen| seen.header("upgrade")).collect();
        assert!(!asked.is_empty() && asked.iter().all(|protocol| protocol.eq_ignore_ascii_case(expect)), "{asked:?}");
        wait_until("nothing is open", || world.api.open() == 0 && world.open() == 0);
    }
}

#[test]
fn exec_carries_input_output_errors_and_the_exit_code() {
    both_protocols(|world, websockets| {
        let script = "cat; echo wrong >&2; exit 7";
        let mut kubectl = world.kubectl("alice.edit", &["exec", "-i", "-n", "a", "web", "--", "sh", "-c", script]);
        let kubectl = kubectl.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut stdin, bytes) = (child.stdin.take().unwrap(), sent.clone());
        let writing = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.stdout == sent, "{} of {} bytes: {said}", output.stdout.len(), sent.len());
        assert!(said.contains("wrong") && output.status.code() == Some(7), "{said} {:?}", output.status);
        wait_until("the end is told", || {
            let events = world.events();
            let phases: Vec<_> =
                events.iter().filter(|event| event.subresource == "exec").map(|event| event.phase).collect();
            phases == [Phase::Began, Phase::Ended]
        });
    });
}

#[test]
fn cp_moves_a_file_there_and_back() {
    both_protocols(|world, websockets| {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(at("there")).unwrap();
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(at("file"), &content).unwrap();
        for (from, to) in
            [(at("file"), format!("a/web:{}", at("there/file"))), (format!("a/web:{}", at("there/file")), at("back"))]
        {
            let mut kubectl = world.kubectl("alice.edit", &["cp", &from, &to]);
            let output = kubectl.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(std::fs::read(at("there/file")).unwrap() == content && std::fs::read(at("back")).unwrap() == content);
    });
}

#[test]
fn attach_gives_back_what_is_typed() {
    both_protocols(|world, websockets| {
        let mut kubectl = world.kubectl("alice.edit", &["attach", "-i", "-n", "a", "web"]);
        let kubectl = kubectl.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"typed\n").unwrap();
        let (mut first, mut second) = (String::new(), String::new());
        lines.read_line(&mut first).unwrap();
        lines.read_line(&mut second).unwrap();
        assert_eq!((first.as_str(), second.as_str()), ("attached\n", "typed\n"));
        drop(stdin);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn port_forward_reaches_a_port_behind_the_api_server() {
    both_protocols(port_forward);
}

fn port_forward(world: &World, websockets: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut word = [0; 4];
            socket.read_exact(&mut word).unwrap();
            socket.write_all(&word.map(|byte| byte.to_ascii_uppercase())).unwrap();
        }
    });
    let mut kubectl = world.kubectl("alice.edit", &["port-forward", "-n", "a", "pod/web", &format!(":{port}")]);
    let kubectl = kubectl.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
    let mut child = kubectl.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut line = String::new();
    // Kept: kubectl says more with each connection, and ends where nobody listens.
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
    let near = line.split(':').nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let near: u16 = near.parse().unwrap_or_else(|_| panic!("{line:?}"));
    for word in [b"once", b"more"] {
        let mut socket = TcpStream::connect(("127.0.0.1", near)).unwrap();
        socket.write_all(word).unwrap();
        let mut back = [0; 4];
        socket.read_exact(&mut back).unwrap();
        assert_eq!(back, word.map(|byte| byte.to_ascii_uppercase()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The next line, or nothing once it has ended.
fn next_line(lines: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line
}

#[test]
fn attack_52_a_watch_a_log_and_an_exec_that_are_open_end_when_their_token_is_cut() {
    let world = World::start();
    let start = |arguments: &[&str]| {
        let mut kubectl = world.kubectl("alice.edit", arguments);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        (child, lines)
    };
    let mut watch = start(&["get", "pods", "-n", "a", "-w", "--no-headers"]);
    assert!(next_line(&mut watch.1).contains("web"));
    let mut log = start(&["logs", "-f", "-n", "a", "web"]);
    assert_eq!((next_line(&mut log.1), next_line(&mut log.1)), ("line 1\n".to_owned(), "line 2\n".to_owned()));
    let mut exec = start(&["exec", "-i", "-n", "a", "web", "--", "cat"]);
    exec.0.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(next_line(&mut exec.1), "hello\n");
    wait_until("three are open", || world.api.open() == 3);
    // All three are alive.
    world.api.put("/api/v1/namespaces/a/pods/new", serde_json::json!({"kind": "Pod"}));
    assert!(next_line(&mut watch.1).contains("new"));
    assert!(next_line(&mut log.1).contains("changed"));

    let cut = world.cut("the grant was removed");
    assert_eq!(cut, 1, "one token");
    let began = std::time::Instant::now();
    for (mut child, mut lines) in [watch, log, exec] {
        child.stdin.take();
        let mut rest = String::new();
        let _ = lines.read_to_string(&mut rest);
        let _ = child.wait().unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(10), "they ended by themselves");
    wait_until("nothing is open", || world.api.open() == 0 && world.open() == 0);
    let events = world.events();
    let ended: Vec<_> = events.iter().filter(|event| event.phase == Phase::Ended).collect();
    assert_eq!(ended.len(), 3, "{ended:?}");
    assert!(ended.iter().all(|event| event.reason.as_deref() == Some("the grant was removed")), "{ended:?}");
    let refused = world.fail("alice.edit", &["get", "pods", "-n", "a"]);
    assert!(refused.contains("the grant was removed") || refused.contains("logged in"), "{refused}");
}

#[test]
fn the_service_accounts_token_is_read_again_when_it_rotates() {
    let world = World::start();
    assert!(world.run("alice.view", &["get", "pods", "-n", "a"], "").contains("web"));
    world.api.set_tokens(&["rotated"]);
    std::fs::write(world.token_file(), "rotated\n").unwrap();
    // The API server refuses the one before: that makes the proxy look, whatever its age.
    wait_until("the new token is used", || {
        let output = world.kubectl("alice.view", &["get", "pods", "-n", "a"]).output().unwrap();
        output.status.success()
    });
    let seen = world.api.seen();
    assert_eq!(seen.last().unwrap().header("authorization"), ["Bearer rotated"]);
}

#[tokio::test]
async fn a_call_whose_client_goes_away_before_an_answer_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    // It takes connections and never says a word.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (authority, ..) = testkit::kube::certificates();
    let (proxy, written) = world::proxy(
        &mute.local_addr().unwrap().to_string(),
        &authority,
        folder.path(),
        &Tapes::new(RecordingMode::Off, false),
    );
    let (mut client, server) = tokio::io::duplex(4_096);
    let serving = tokio::spawn(proxy.serve(server, None, tokio_util::sync::CancellationToken::new()));
    let request =
        b"DELETE /api/v1/namespaces/a/pods/web HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ann.edit\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut client, request).await.unwrap();
    let _held = mute.accept().await.unwrap();
    drop(client);
    serving.await.unwrap();
    let events = written.0.lock().unwrap();
    let told: Vec<_> = events.iter().map(|event| (&*event.verb, &*event.name, event.phase, event.status)).collect();
    assert_eq!(told, [("delete", "web", Phase::Done, 0)]);
}

/// The recordings that ended.
fn taped(world: &World, count: usize) -> Vec<world::Taped> {
    wait_until("it is recorded", || world.tapes.done.lock().unwrap().len() >= count);
    std::mem::take(&mut *world.tapes.done.lock().unwrap())
}

#[test]
fn exec_is_recorded_in_both_protocols_with_what_was_shown_and_how_it_ended() {
    for (input, websockets) in [(false, "true"), (false, "false"), (true, "true"), (true, "false")] {
        let world = World::recording(RecordingMode::Required, input);
        let script = "echo out; echo err >&2; cat; exit 3";
        let mut kubectl = world.kubectl("alice.edit", &["exec", "-i", "-n", "a", "web", "--", "sh", "-c", script]);
        let kubectl = kubectl.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        let recorded = taped(&world, 1);
        let [world::Taped { about, text, summary }] = recorded.as_slice() else { panic!("one") };
        let RecordingTarget::Kubernetes { action, namespace, pod, command, tty, .. } = &about.target else {
            panic!("a pod")
        };
        assert_eq!((action.as_str(), namespace.as_str(), pod.as_str(), *tty), ("exec", "a", "web", false));
        assert_eq!(command, &["sh", "-c", script]);
        assert_eq!((about.user.as_str(), about.role.as_str()), ("alice", "edit"));
        for shown in ["out\\n", "err\\n", "typed\\n"] {
            assert!(text.contains(shown), "{websockets}: {text}");
        }
        // Without a terminal nothing echoes it, so it is recorded whatever the tenant says of what is typed.
        assert!(text.contains("\"i\", \"typed\\n\"]"), "{input} {text}");
        assert_eq!((summary.complete, summary.exit, summary.output.bytes, summary.input.bytes), (true, Some(3), 14, 6));
        let call = world.events().into_iter().find(|event| event.subresource == "exec").unwrap();
        assert_eq!(call.id, about.call, "both audit logs and the recording tell of the same call");
    }
}

#[test]
fn a_session_that_is_closed_because_it_cannot_be_recorded_says_so_to_its_user() {
    for websockets in ["true", "false"] {
        let world = World::start();
        let mut kubectl = world.kubectl("alice.edit", &["exec", "-i", "-n", "a", "web", "--", "cat"]);
        let kubectl = kubectl.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
        let mut child = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (mut stdin, mut line) = (child.stdin.take().unwrap(), String::new());
        stdin.write_all(b"one\n").unwrap();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "one\n");
        world.tapes.fails.notify_one();
        // From then on nothing of it goes by.
        wait_until("the end of its recording", || !world.tapes.done.lock().unwrap().is_empty());
        let _ = stdin.write_all(b"two\n");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let expect = "this session has to be recorded, and cannot be: nobody takes it any more";
        assert!(said.contains(expect) && !output.status.success(), "{websockets}: {said}");
        line.clear();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "", "nothing that is not recorded");
    }
}

#[test]
fn the_size_of_a_terminal_is_recorded_in_both_protocols() {
    for websockets in ["true", "false"] {
        let world = World::start();
        let kubectl =
            world.kubectl("alice.edit", &["exec", "-it", "-n", "a", "web", "--", "sh", "-c", "sleep 0.3; echo out"]);
        let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        // A terminal of its own (script(1)).
        let output = std::process::Command::new("script")
            .args(["-qec", &format!("stty cols 120 rows 40; {}", line.join(" ")), "/dev/null"])
            .envs(kubectl.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let recorded = taped(&world, 1);
        let world::Taped { about, text, summary } = &recorded[0];
        assert!(about.target.is_tty() && summary.complete, "{said}: {summary:?}");
        assert!(text.contains("\"r\", \"120x40\"]"), "{websockets}: {said}: {text}");
    }
}

#[test]
fn what_begins_no_session_leaves_no_recording_and_what_goes_to_a_kubelet_is_refused() {
    let world = World::start();
    world.fail("alice.view~a", &["exec", "-n", "b", "web", "--", "true"]);
    for path in ["/api/v1/nodes/n1/proxy/run/a/web/app?cmd=id", "/api/v1/nodes/n1/proxy/%65xec/a/web/app?command=id"] {
        let refused = world.fail("alice.edit", &["get", "--raw", path]);
        assert!(refused.contains("has to be recorded"), "{refused}");
    }
    let recorded = taped(&world, 2);
    assert!(recorded.iter().all(|taped| !taped.summary.complete && taped.summary.reason.contains("kubelet")));
    assert_eq!(recorded.len(), 2, "none of what was refused before");
    assert!(world.api.seen().iter().all(|request| !request.target.contains("nodes")), "nothing of it went on");
}

#[test]
fn a_stream_that_is_not_understood_ends_a_session_that_has_to_be_recorded_and_no_other() {
    for (mode, closes) in [(RecordingMode::Required, true), (RecordingMode::BestEffort, false)] {
        let api = testkit::KubeApi::start("the-service-account");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(speaks_something_else(&api, mode, closes));
    }
}

#[test]
fn a_session_in_a_subprotocol_that_is_not_read_is_refused_before_a_command_runs() {
    let api = testkit::KubeApi::start("the-service-account");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(asks_in_subprotocols(&api));
}

async fn asks_in_subprotocols(api: &testkit::KubeApi) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempfile::tempdir().unwrap();
    let tapes = Tapes::new(RecordingMode::Required, false);
    let (proxy, _) = world::proxy(&api.address(), &api.authority, folder.path(), &tapes);
    for (protocols, status, goes_on) in [
        ("base64.channel.k8s.io", "403", None),
        ("base64.binary.k8s.io, v9.channel.k8s.io", "403", None),
        ("base64.channel.k8s.io, v5.channel.k8s.io", "101", Some("v5.channel.k8s.io")),
    ] {
        let (mut client, server) = tokio::io::duplex(64 * 1_024);
        tokio::spawn(Arc::clone(&proxy).serve(server, None, tokio_util::sync::CancellationToken::new()));
        let ask = format!(
            "GET /api/v1/namespaces/a/pods/web/exec?command=true&stdout=true HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Protocol: {protocols}\r\nAuthorization: Bearer ann.edit\r\n\r\n"
        );
        client.write_all(ask.as_bytes()).await.unwrap();
        let mut came = vec![0; 12];
        client.read_exact(&mut came).await.unwrap();
        assert_eq!(came, format!("HTTP/1.1 {status}").as_bytes(), "{protocols}");
        let seen = api.seen();
        let asked = seen.last().map(|seen| seen.header("sec-websocket-protocol"));
        assert_eq!(asked, goes_on.map(|protocol| vec![protocol]), "{protocols}");
    }
}

async fn speaks_something_else(api: &testkit::KubeApi, mode: RecordingMode, closes: bool) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let folder = tempfile::tempdir().unwrap();
    let tapes = Tapes::new(mode, false);
    let (proxy, _) = world::proxy(&api.address(), &api.authority, folder.path(), &tapes);
    let (mut client, server) = tokio::io::duplex(64 * 1_024);
    let serving = tokio::spawn(proxy.serve(server, None, tokio_util::sync::CancellationToken::new()));
    let ask = "GET /api/v1/namespaces/a/pods/web/attach?stdin=true&stdout=true HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nAuthorization: Bearer ann.edit\r\n\r\n";
    client.write_all(ask.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"attached\n") {
        client.read_buf(&mut came).await.unwrap();
    }
    // A frame of an extension that nobody asked for, which says the same to the double, then one that is well-formed.
    for first in [0xc2, 0x82] {
        let frame = [&[first, 0x84, 0, 0, 0, 0, 0][..], b"hi\n"].concat();
        let _ = client.write_all(&frame).await;
    }
    let mut rest = Vec::new();
    if closes {
        let _ = client.read_to_end(&mut rest).await;
        assert!(!rest.windows(3).any(|word| word == b"hi\n"), "nothing goes on that is not recorded");
        let said = String::from_utf8_lossy(&rest);
        assert!(said.contains("has to be recorded, and cannot be: its stream is not understood"), "{said}");
    } else {
        while !rest.ends_with(b"hi\n") {
            client.read_buf(&mut rest).await.unwrap();
        }
    }
    drop(client);
    serving.await.unwrap();
    while tapes.done.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let done = tapes.done.lock().unwrap();
    assert!(!done[0].summary.complete && done[0].summary.reason.contains("not understood"), "{:?}", done[0].summary);
}
