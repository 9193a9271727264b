//! The client against a real OpenSSH server.

use domain::{ScopeId, Secret};
use serde_json::json;
use testkit::{Sshd, TestClock, TestRng};

use super::*;
use crate::call::{FileKind, HostReach};

fn settings(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("an object") };
    map
}

fn tag() -> CallTag {
    let scope: ScopeId = "ssh:test".parse().unwrap();
    CallTag { scope, about: None, keep: true }
}

struct Made {
    kind: &'static str,
    secret: Value,
    settings: Value,
    guard: Guard,
    recorder: Arc<Recorder>,
}

impl Made {
    fn by_key(server: &Sshd) -> Self {
        Self {
            kind: "ssh-key",
            secret: json!({ "username": server.user(), "private_key": server.read("user") }),
            settings: json!({ "known_hosts": server.known_host("127.0.0.1") }),
            guard: Guard::loopback(true),
            recorder: Arc::default(),
        }
    }

    fn client(&self) -> SshClient {
        let credentials = SshCredentials::from_secret_json(self.kind, &Secret::new(self.secret.to_string())).unwrap();
        let config = SshConfig::from_settings(&settings(self.settings.clone()), Duration::from_secs(10)).unwrap();
        SshClient::new(
            credentials,
            config,
            self.guard.clone(),
            Arc::clone(&self.recorder),
            Arc::new(crypto::system::SystemClock),
            Arc::new(TestRng::seeded(7)),
        )
    }

    async fn connect(&self, server: &Sshd) -> Result<Box<dyn RemoteHost>, CallError> {
        self.client().connect("127.0.0.1", server.port, &tag()).await
    }

    async fn refusal(&self, server: &Sshd) -> CallError {
        self.connect(server).await.err().expect("a refusal")
    }
}

#[tokio::test]
async fn a_host_is_read_as_the_machine_itself_is_and_every_answer_recorded() {
    let server = Sshd::start();
    let made = Made::by_key(&server);
    let host = made.connect(&server).await.unwrap();
    let local = crate::LocalHost::new(Arc::new(TestClock::default()), Arc::default(), "local".into());
    let tag = tag();
    let reply = host.read("/etc/passwd", 1 << 20, &tag).await.unwrap();
    assert_eq!(reply.digest, local.read("/etc/passwd", 1 << 20, &tag).await.unwrap().digest);
    assert_eq!(host.list("/etc", Some(&tag)).await, local.list("/etc", Some(&tag)).await);
    assert_eq!(host.stat("/etc", &tag).await, local.stat("/etc", &tag).await);
    assert_eq!(host.stat("/etc", &tag).await.unwrap().kind, FileKind::Dir);
    assert_eq!(host.hash("/bin/sh", &tag).await, local.hash("/bin/sh", &tag).await);
    assert_eq!(host.read_link("/proc/self/exe").await.is_ok(), local.read_link("/proc/self/exe").await.is_ok());
    let sockets = host.sockets(&tag).await.unwrap();
    assert!(sockets.iter().any(|socket| socket.local.port() == server.port && socket.state == "listen"));
    let ran = host.command(&["uname", "-s"], 100, Duration::from_secs(5), &tag).await.unwrap();
    assert_eq!((ran.code, &ran.stdout.body[..]), (0, &b"Linux\n"[..]));
    let missing = host.command(&["no-such-program"], 100, Duration::from_secs(5), &tag).await;
    assert!(matches!(missing, Err(CallError::NotFound(_))));
    host.close().await;
    let records = made.recorder.take(&tag.scope);
    let first = &records[0];
    assert_eq!((first.request.system.as_str(), first.request.operation.as_str()), ("ssh", "connect"));
    assert!(String::from_utf8_lossy(first.kept.as_ref().unwrap()).contains("SHA256:"));
    assert!(records.iter().any(|record| record.request.operation == "/etc/passwd" && record.outcome.is_ok()));
    assert!(records.iter().any(|record| record.request.operation == "no-such-program" && record.outcome.is_err()));
}

#[tokio::test]
async fn a_guess_notes_what_is_missing_and_asks_it_at_once() {
    let server = Sshd::start();
    let made = Made::by_key(&server);
    let host = made.connect(&server).await.unwrap();
    let tag = tag();
    host.guess();
    for path in ["/etc/passwd", "/etc/group", "/etc/no-such-file"] {
        assert!(matches!(host.read(path, 1 << 20, &tag).await, Err(CallError::NotFound(_))));
    }
    // Behind a program nothing is guessed: what it prints may lead another way.
    assert!(host.command(&["true"], 9, Duration::from_secs(5), &tag).await.is_err());
    assert!(host.read("/etc/hostname", 99, &tag).await.is_err());
    assert_eq!(host.noted(), 4);
    made.recorder.take(&tag.scope);
    host.ask().await.unwrap();
    host.settle();
    assert!(made.recorder.take(&tag.scope).is_empty(), "a guess leaves no record");
    assert!(host.read("/etc/passwd", 1 << 20, &tag).await.is_ok());
    assert!(matches!(host.read("/etc/no-such-file", 1 << 20, &tag).await, Err(CallError::NotFound(_))));
    assert_eq!(made.recorder.take(&tag.scope).len(), 2);
}

#[tokio::test]
async fn a_host_that_is_not_known_or_has_another_key_gets_no_credential() {
    let server = Sshd::start();
    let mut made = Made::by_key(&server);
    made.settings = json!({});
    let error = made.refusal(&server).await.to_string();
    assert!(error.contains("is not known") && error.contains("SHA256:"), "{error}");
    let other = server.known_host("127.0.0.1").replace(server.read("host.pub").trim(), server.read("other.pub").trim());
    made.settings = json!({ "known_hosts": other });
    let error = made.refusal(&server).await;
    assert!(matches!(&error, CallError::Denied(why) if why.contains("in between")), "{error}");
    let known = server.known_host("127.0.0.1");
    made.settings = json!({ "known_hosts": format!("{known}\n@revoked * {}", server.read("host.pub")) });
    assert!(made.refusal(&server).await.to_string().contains("revoked"));
    // The server's log holds no attempt to sign in.
    assert!(!server.read("log").contains("Failed"), "{}", server.read("log"));
}

#[tokio::test]
async fn keys_certificates_and_their_refusals_are_told_apart() {
    let server = Sshd::start();
    let mut made = Made::by_key(&server);
    made.secret = json!({ "username": server.user(), "private_key": server.encrypted_key("open sesame"), "passphrase": "open sesame" });
    assert!(made.connect(&server).await.is_ok(), "an encrypted key");
    for wrong in [json!("wrong"), json!(null)] {
        made.secret["passphrase"] = wrong;
        let error = made.refusal(&server).await;
        assert!(matches!(&error, CallError::Credential(why) if why.contains("passphrase")), "{error}");
    }
    made.secret = json!({ "username": server.user(), "private_key": server.read("other") });
    let error = made.refusal(&server).await;
    assert!(matches!(&error, CallError::Denied(why) if why.contains("does not let")), "{error}");
    made.kind = "ssh-cert";
    let good = server.certificate("-5m:+1h");
    made.secret = json!({ "username": server.user(), "private_key": server.read("user"), "certificate": good });
    std::fs::write(server.path("authorized"), "").unwrap();
    assert!(made.connect(&server).await.is_ok(), "only the authority lets it in now");
    made.secret["certificate"] = server.certificate("-2h:-1h").into();
    let error = made.refusal(&server).await;
    assert!(matches!(&error, CallError::Credential(why) if why.contains("has ended")), "{error}");
    made.secret["private_key"] = server.read("other").into();
    let error = made.refusal(&server).await;
    assert!(matches!(&error, CallError::Credential(why) if why.contains("another key")), "{error}");
    made.secret = json!({ "username": server.user(), "private_key": server.read("user"), "certificate": good });
    std::fs::write(server.path("revoked"), server.read("user.pub")).unwrap();
    let error = made.refusal(&server).await;
    assert!(matches!(&error, CallError::Denied(why) if why.contains("does not let")), "{error}");
}

#[tokio::test]
async fn a_target_behind_a_jump_host_is_reached_and_judged_by_its_own_key() {
    let (jump, target) = (Sshd::start(), Sshd::start());
    std::fs::copy(jump.path("authorized"), target.path("authorized")).unwrap();
    let mut made = Made::by_key(&jump);
    let both = format!("{}\n{}", jump.known_host("127.0.0.1"), target.known_host("127.0.0.1"));
    made.settings = json!({ "jump": format!("127.0.0.1:{}", jump.port), "known_hosts": both });
    let host = made.connect(&target).await.unwrap();
    assert!(host.read("/etc/passwd", 1 << 20, &tag()).await.is_ok());
    made.settings["known_hosts"] = jump.known_host("127.0.0.1").into();
    assert!(made.refusal(&target).await.to_string().contains("is not known"));
    made.settings["known_hosts"] = target.known_host("127.0.0.1").into();
    assert!(made.refusal(&target).await.to_string().contains("jump host:"));
    made.settings["known_hosts"] = jump.known_host("127.0.0.1").into();
    // The jump host is one that may be connected to; that makes nothing else a target.
    made.guard = Guard::default().allowing(["127.0.0.1".parse().unwrap()]);
    for special in ["169.254.169.254", "2852039166", "0xa9fea9fe", "127.2", "::1", "fe80::1%lo", "0"] {
        let refused = made.client().connect(special, target.port, &tag()).await.err().unwrap();
        let why = refused.to_string();
        assert!(matches!(refused, CallError::Denied(_)) && why.contains("may not be a target"), "{special}: {why}");
    }
}

#[tokio::test]
async fn a_password_lets_in_where_it_is_right_and_is_typed_at_a_prompt_where_it_is_asked_for_there() {
    let account = testkit::sshd::Account::new();
    let server = |lines: &str| Sshd::start_for(&account, &format!("{lines}\nPubkeyAuthentication no"));
    for (lines, methods) in [
        ("PasswordAuthentication yes", "password"),
        ("KbdInteractiveAuthentication yes\nUsePAM yes", "keyboard-interactive"),
        (
            "PasswordAuthentication yes\nKbdInteractiveAuthentication yes\nUsePAM yes\nAuthenticationMethods keyboard-interactive",
            "keyboard-interactive alone",
        ),
    ] {
        let server = server(lines);
        let mut made = Made::by_key(&server);
        made.kind = "ssh-password";
        made.secret = json!({ "username": account.name, "password": account.password });
        let host =
            made.connect(&server).await.unwrap_or_else(|error| panic!("{methods}: {error} {}", server.read("log")));
        let ran = host.command(&["id", "-un"], 100, Duration::from_secs(5), &tag()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout.body).trim(), account.name, "{methods}");
        host.close().await;
        made.secret["password"] = format!("{}x", account.password).into();
        let refused = made.refusal(&server).await;
        let why = refused.to_string();
        assert!(matches!(refused, CallError::Denied(_)) && why.contains("does not let"), "{methods}: {why}");
        assert!(!why.contains(&account.password), "{methods}");
    }
}

#[tokio::test]
async fn a_host_whose_key_an_authority_signed_is_known_while_that_signature_is_good_for_it() {
    let mut server = Sshd::start();
    let mut made = Made::by_key(&server);
    let line = |marker: &str, key: &str| format!("{marker} [127.0.0.1]:{} {key}", server.port);
    let authority = line("@cert-authority", &server.read("ca.pub"));
    let revoked = format!("{authority}\n{}", line("@revoked", &server.read("ca.pub")));
    let unknown = line("@cert-authority", &server.read("other.pub"));
    for (names, validity, known, expect) in [
        ("127.0.0.1,web.example", "-5m:+1h", &authority, None),
        ("127.0.0.1", "-2h:-1h", &authority, Some("not valid now")),
        ("127.0.0.1", "+1h:+2h", &authority, Some("not valid now")),
        ("127.0.0.2", "-5m:+1h", &authority, Some("not one for this host")),
        ("", "-5m:+1h", &authority, Some("not one for this host")),
        ("127.0.0.1", "-5m:+1h", &revoked, Some("not one for this host")),
        ("127.0.0.1", "-5m:+1h", &unknown, Some("not signed by a known authority")),
    ] {
        server.certify_host(names, validity);
        made.settings = json!({ "known_hosts": known });
        let connected = made.connect(&server).await;
        match expect {
            None => assert!(connected.is_ok(), "{names} {validity}: {}", connected.err().unwrap()),
            Some(expect) => {
                let refused = connected.err().unwrap_or_else(|| panic!("{names} {validity} is let through: {known}"));
                let why = refused.to_string();
                assert!(matches!(refused, CallError::Denied(_)) && why.contains(expect), "{names} {validity}: {why}");
            }
        }
    }
    // Without a certificate the key has to be known by itself: an authority says nothing of it.
    let plain = Sshd::start();
    made.settings =
        json!({ "known_hosts": format!("@cert-authority [127.0.0.1]:{} {}", plain.port, plain.read("ca.pub")) });
    assert!(made.refusal(&plain).await.to_string().contains("is not known"));
}

#[tokio::test]
async fn attack_64_a_target_that_is_this_machine_is_refused_before_a_byte_is_sent() {
    let server = Sshd::start();
    let mut made = Made::by_key(&server);
    made.guard = Guard::default();
    for host in ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0"] {
        let error = made.client().connect(host, server.port, &tag()).await.err().unwrap();
        assert!(matches!(error, CallError::Denied(_)), "{host}: {error}");
    }
}

#[tokio::test]
async fn what_a_hostile_target_prints_is_bounded_in_bytes_and_time() {
    let server = Sshd::start();
    let mut made = Made::by_key(&server);
    made.settings["target_mib"] = json!(4);
    let host = made.connect(&server).await.unwrap();
    let endless = host.command(&["yes"], 1 << 20, Duration::from_secs(20), &tag()).await;
    assert!(matches!(endless, Err(CallError::TooLarge { .. })), "{endless:?}");
    let loud = host.command(&["sh", "-c", "yes >&2"], 1 << 20, Duration::from_secs(20), &tag()).await;
    assert!(matches!(loud, Err(CallError::TooLarge { .. })), "{loud:?}");
    let silent = host.command(&["sleep", "60"], 100, Duration::from_secs(1), &tag()).await;
    assert!(matches!(silent, Err(CallError::Timeout(_))), "{silent:?}");
    // The connection is still good, and control characters in an error are not.
    let error = host.read("/etc/\x1b[31mred", 10, &tag()).await.unwrap_err().to_string();
    assert!(!error.contains('\x1b'), "{error}");
    assert!(host.read("/etc/passwd", 1 << 20, &tag()).await.is_ok());
    // One that never stops, and is never silent for long, is cut off when the target's time is up.
    made.settings["target_timeout_s"] = json!(2);
    let dripping = made.connect(&server).await.unwrap();
    let began = std::time::Instant::now();
    let script = "while :; do echo x; sleep 0.1; done";
    let endless = dripping.command(&["sh", "-c", script], 1 << 20, Duration::from_mins(1), &tag()).await;
    assert!(matches!(endless, Err(CallError::Timeout(_))), "{endless:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let after = dripping.read("/etc/passwd", 1 << 20, &tag()).await;
    assert!(matches!(after, Err(CallError::Timeout(_))), "{after:?}");
    // A whole target's bytes are bounded as well.
    let big = server.path("big");
    std::fs::write(&big, vec![b'x'; 5 << 20]).unwrap();
    let big = host.read(big.to_str().unwrap(), 8 << 20, &tag()).await;
    assert!(matches!(big, Err(CallError::TooLarge { .. })), "{big:?}");
}

#[tokio::test]
async fn hosts_that_send_much_take_turns_in_the_memory_of_their_task_and_one_that_sends_too_much_fails_alone() {
    const MIB: u64 = 1 << 20;
    let server = Sshd::start();
    let (some, too_much) = (server.path("some"), server.path("too-much"));
    std::fs::write(&some, vec![b'x'; 1_500_000]).unwrap();
    std::fs::write(&too_much, vec![b'x'; 9_000_000]).unwrap();
    let (some, too_much) = (some.to_str().unwrap(), too_much.to_str().unwrap());
    let client = Made::by_key(&server).client().drawing_on(&Budget::new(16 * MIB, std::num::NonZero::<usize>::MIN));
    let read = async |path: &str| {
        let host = client.connect("127.0.0.1", server.port, &tag()).await.unwrap();
        host.guess();
        let _ = host.read(path, 16 << 20, &tag()).await;
        let asked = host.ask().await;
        assert!(client.memory.used() <= 16 * MIB, "{}", client.memory.used());
        host.settle();
        let read = match asked {
            Ok(()) => host.read(path, 16 << 20, &tag()).await.map(|reply| reply.body.len()),
            Err(error) => Err(error),
        };
        host.close().await;
        read
    };
    // What they send is twice what there is, once as it comes and once as it is kept.
    let paths = [some, some, some, too_much, some, some, some, some, some];
    let ended = futures::future::join_all(paths.map(read)).await;
    for (path, ended) in paths.iter().zip(ended) {
        match ended {
            Ok(length) => assert_eq!((length, *path), (1_500_000, some)),
            Err(error) => {
                assert!(*path == too_much && error.to_string().contains("`discovery.targets_mib`"), "{error}");
            }
        }
    }
    assert_eq!(client.memory.used(), 0, "all of it was given back");
}

#[tokio::test]
async fn no_hash_and_no_private_key_leaves_under_any_name() {
    let server = Sshd::start();
    let made = Made::by_key(&server);
    let host = made.connect(&server).await.unwrap();
    let linked = server.path("linked");
    std::fs::write(server.path("shadow-like"), "u:$6$saltsalt$0123456789abcdefghijkl:19000:0:99999:7:::\n").unwrap();
    std::os::unix::fs::symlink(server.path("shadow-like"), &linked).unwrap();
    let reply = host.read(linked.to_str().unwrap(), 1 << 16, &tag()).await.unwrap();
    assert_eq!(&reply.body[..], b"u:set sha512:19000:0:99999:7:::\n");
    let key = host.read(server.path("user").to_str().unwrap(), 1 << 16, &tag()).await;
    assert!(matches!(key, Err(CallError::Denied(_))));
    assert!(matches!(host.hash("/etc/shadow", &tag()).await, Err(CallError::Denied(_))));
}

#[tokio::test]
async fn what_speaks_no_ssh_is_unreachable_within_its_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Sshd::start();
    let made = Made::by_key(&server);
    let config = SshConfig::from_settings(&settings(made.settings.clone()), Duration::from_millis(300)).unwrap();
    let client = SshClient { config, ..made.client() };
    let silent = client.connect("127.0.0.1", port, &tag()).await.err().unwrap();
    assert!(matches!(silent, CallError::Timeout(_)), "{silent}");
    drop(listener);
    let gone = client.connect("127.0.0.1", port, &tag()).await.err().unwrap();
    assert!(matches!(gone, CallError::Unreachable(_)), "{gone}");
}

/// A memory of one task, which counts what it was asked.
#[derive(Default)]
struct Memory {
    keys: std::sync::Mutex<std::collections::HashMap<String, crypto::ssh::PublicKey>>,
    asked: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl HostKeys for Memory {
    async fn recall(&self, target: &domain::HostPort) -> Result<Option<crypto::ssh::PublicKey>, CallError> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(self.keys.lock().unwrap().get(&target.to_string()).cloned())
    }

    async fn meet(
        &self,
        target: &domain::HostPort,
        shown: &crypto::ssh::PublicKey,
    ) -> Result<crypto::ssh::PublicKey, CallError> {
        Ok(self.keys.lock().unwrap().entry(target.to_string()).or_insert_with(|| shown.clone()).clone())
    }
}

#[tokio::test]
async fn a_first_contact_is_remembered_only_where_known_hosts_says_nothing_of_the_host() {
    let mut server = Sshd::start();
    let memory = Arc::new(Memory::default());
    let mut made = Made::by_key(&server);
    let connect = async |made: &Made, server: &Sshd| {
        let client = made.client().remembering(memory.clone());
        client.connect("127.0.0.1", server.port, &tag()).await.map(drop)
    };
    // A host that is named is judged by that alone.
    made.settings = json!({ "host_keys": "first-use", "known_hosts": server.known_host("127.0.0.1") });
    connect(&made, &server).await.unwrap();
    assert_eq!(memory.asked.load(std::sync::atomic::Ordering::Relaxed), 0);
    let revoked = format!("@revoked * {}", server.read("host.pub").trim());
    made.settings = json!({ "host_keys": "first-use", "known_hosts": revoked });
    let refused = connect(&made, &server).await.unwrap_err().to_string();
    assert!(refused.contains("revoked") && memory.keys.lock().unwrap().is_empty(), "{refused}");

    made.settings = json!({ "host_keys": "first-use" });
    connect(&made, &server).await.unwrap();
    let first = memory.keys.lock().unwrap().values().next().unwrap().clone();
    assert!(server.read("host.pub").starts_with(&first.to_string()));
    connect(&made, &server).await.unwrap();
    server.change_host_key();
    let refused = connect(&made, &server).await.unwrap_err().to_string();
    assert!(refused.contains(&first.fingerprint()) && refused.contains("host-keys remove"), "{refused}");
    made.settings = json!({});
    let strict = connect(&made, &server).await.unwrap_err().to_string();
    assert!(strict.contains("is not known"), "{strict}");
    assert!(SshConfig::from_settings(&settings(json!({ "host_keys": "any" })), Duration::from_secs(1)).is_err());
}
