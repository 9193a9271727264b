//! The bastion between Debian's `ssh`, `scp` and `sftp` and Debian's `sshd`: what passes, what does not, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bastion::{Admitted, Around, Cut, Dial, Ended, Forwarded, Keys, Witness};
use crypto::ed25519::SigningKey;
use crypto::ssh::{Certificate, CertificateKind, PublicKey};
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock as _, DestinationId, RecordingMode, SessionId, UserId};
use gateway::recording::{About, Header, Piece, Recorder, Recording, Room, Unrecorded};
use testkit::Sshd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::Notify;
use wire::recording::{RecordingTarget, RecordingTerms};

const PRINCIPAL: &str = "cairn-relay/dst/deploy/usr/ses";

struct To(SocketAddr, Arc<AtomicUsize>);

#[async_trait]
impl Dial for To {
    async fn dial(&self) -> Result<TcpStream, String> {
        self.1.fetch_add(1, Ordering::SeqCst);
        TcpStream::connect(self.0).await.map_err(|error| error.to_string())
    }
}

/// Keeps what is recorded.
#[derive(Default)]
struct Kept {
    refuses: bool,
    about: Mutex<Vec<RecordingTarget>>,
    text: Arc<Mutex<String>>,
    /// Takes no more of the recording that goes on.
    fails: Arc<Notify>,
}

#[async_trait]
impl Recorder for Kept {
    async fn begin(&self, about: About) -> Result<Recording, Unrecorded> {
        if self.refuses {
            return Err(Unrecorded("the server is away".to_owned()));
        }
        let tty = about.target.is_tty();
        self.about.lock().unwrap().push(about.target);
        let header = Header { at: SystemClock.now(), title: "t".to_owned() };
        let terms = RecordingTerms { mode: RecordingMode::Required, input: false };
        let (recording, tape) = Recording::new(terms, &header, tty, &Room::new(64 << 20));
        let (text, fails) = (Arc::clone(&self.text), Arc::clone(&self.fails));
        tokio::spawn(async move {
            loop {
                let piece = tokio::select! {
                    piece = tape.next() => piece,
                    () = fails.notified() => {
                        tape.fail("nobody takes it any more");
                        continue;
                    }
                };
                match piece {
                    Piece::Chunk(_, bytes) => {
                        text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes));
                        tape.taken();
                    }
                    Piece::End(summary) => {
                        let end = format!("END {:?} {}\n", summary.exit, summary.complete);
                        text.lock().unwrap().push_str(&end);
                        return;
                    }
                }
            }
        });
        Ok(recording)
    }
}

/// Hears what is forwarded.
#[derive(Default)]
struct Heard {
    refuses: bool,
    all: Mutex<Vec<(&'static str, String)>>,
}

#[async_trait]
impl Witness for Heard {
    async fn forwards(&self, what: &Forwarded) -> Result<(), String> {
        self.all.lock().unwrap().push((what.kind.as_str(), what.place.clone()));
        if self.refuses { Err("nobody can be told".to_owned()) } else { Ok(()) }
    }
}

fn line(key: &SigningKey) -> PublicKey {
    PublicKey::of_ed25519(&key.public())
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

fn now_s() -> u64 {
    u64::try_from(SystemClock.now().as_seconds()).unwrap()
}

struct Setup {
    authority: SigningKey,
    sshd: Sshd,
    dir: tempfile::TempDir,
    extensions: Vec<String>,
    host_key: PublicKey,
    host_port: u16,
    recorder: Arc<Kept>,
    witness: Arc<Heard>,
    cut: Arc<Cut>,
    dialed: Arc<AtomicUsize>,
    ended: Arc<Mutex<Vec<Ended>>>,
    account: String,
    alias: String,
}

impl Setup {
    fn new() -> Self {
        let (authority, dir) = (key(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("ca.pub"), line(&authority).to_string()).unwrap();
        std::fs::write(dir.path().join("principals"), "cairn/dst/deploy\n").unwrap();
        // What the host's sshd keeps the cookie of a screen with, and the user's ssh finds none of.
        let xauth = dir.path().join("xauth");
        std::fs::write(&xauth, format!("#!/bin/sh\n[ \"$1\" = -q ] && cat >{}.kept\nexit 0\n", xauth.display()))
            .unwrap();
        std::fs::set_permissions(&xauth, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let lines = format!(
            "TrustedUserCAKeys {}\nAuthorizedPrincipalsFile {}\nAuthorizedKeysFile none\nAcceptEnv LANG LC_* FOO\nAllowTcpForwarding yes\n\
             X11Forwarding yes\nX11UseLocalhost yes\nXAuthLocation {}",
            at("ca.pub"),
            at("principals"),
            at("xauth")
        );
        let sshd = Sshd::start_with(&lines);
        let host_key = sshd.read("host.pub").parse().unwrap();
        let (account, host_port) = (sshd.user(), sshd.port);
        Self {
            authority,
            sshd,
            dir,
            extensions: vec!["permit-pty".to_owned()],
            host_key,
            host_port,
            recorder: Arc::default(),
            witness: Arc::default(),
            cut: Arc::default(),
            dialed: Arc::default(),
            ended: Arc::default(),
            account,
            alias: DestinationId::generate(&SystemClock, &SystemRng).to_string(),
        }
    }

    fn sign(&self, kind: CertificateKind, key: &PublicKey, principal: &str, ends_s: u64, by: &SigningKey) -> String {
        let extensions: Vec<&str> = if kind == CertificateKind::User {
            self.extensions.iter().map(String::as_str).collect()
        } else {
            Vec::new()
        };
        let certificate = Certificate {
            kind,
            key,
            serial: 1,
            key_id: "test",
            principals: &[principal.to_owned()],
            valid_after_s: now_s() - 600,
            valid_before_s: ends_s,
            critical_options: &[],
            extensions: &extensions,
        };
        certificate.sign(by, &SystemRng).unwrap()
    }

    /// Takes connections, each with keys of its own.
    async fn serve(&self) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = SocketAddr::from(([127, 0, 0, 1], self.host_port));
        // A server signs for the keys of one connection: those are made before it.
        let ready: Vec<_> = (0..8)
            .map(|_| {
                let keys = Keys { towards_user: key(), towards_host: key() };
                let ends = now_s() + 120;
                let admitted = Admitted {
                    destination: self.alias.parse().unwrap(),
                    user: "ann@example.com".to_owned(),
                    user_id: UserId::generate(&SystemClock, &SystemRng),
                    session: SessionId::generate(&SystemClock, &SystemRng),
                    token: "dtk".to_owned(),
                    connection: "sss".to_owned(),
                    from: None,
                    account: self.account.clone(),
                    principal: PRINCIPAL.to_owned(),
                    authorities: vec![line(&self.authority)],
                    host_alias: self.alias.clone(),
                    host_key: self.host_key.clone(),
                    extensions: self.extensions.clone(),
                    force_command: None,
                    host_certificate: self.sign(
                        CertificateKind::Host,
                        &line(&keys.towards_user),
                        "dst.relay",
                        ends,
                        &self.authority,
                    ),
                    client_certificate: self.sign(
                        CertificateKind::User,
                        &line(&keys.towards_host),
                        "cairn/dst/deploy",
                        ends,
                        &self.authority,
                    ),
                };
                (admitted, keys)
            })
            .collect();
        let witness = Arc::clone(&self.witness);
        let (recorder, cut, dialed, ended) =
            (Arc::clone(&self.recorder), Arc::clone(&self.cut), Arc::clone(&self.dialed), Arc::clone(&self.ended));
        tokio::spawn(async move {
            for (admitted, keys) in ready {
                let (stream, _) = listener.accept().await.unwrap();
                let around = Around {
                    crowd: Arc::default(),
                    dial: Box::new(To(host, Arc::clone(&dialed))),
                    recorder: Arc::clone(&recorder) as Arc<dyn Recorder>,
                    witness: Arc::clone(&witness) as Arc<dyn Witness>,
                    cut: Arc::clone(&cut),
                    clock: Arc::new(SystemClock),
                    rng: Arc::new(SystemRng),
                };
                let ended = Arc::clone(&ended);
                tokio::spawn(async move {
                    let how = bastion::serve(stream, admitted, keys, around).await;
                    ended.lock().unwrap().push(how);
                });
            }
        });
        port
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A configuration whose certificate is what it has to be, or something else.
    fn config(&self, port: u16, principal: &str, ends_s: u64, by: &SigningKey) -> PathBuf {
        let own = key();
        let private = crypto::ssh::private_key(&own, &SystemRng);
        let write = |name: &str, bytes: &[u8]| {
            let path = self.path(name);
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let signed = self.sign(CertificateKind::User, &line(&own), principal, ends_s, by);
        let files = [
            write("key", private.expose()),
            write("key-cert.pub", signed.as_bytes()),
            write("known", format!("@cert-authority dst.relay {}\n", line(&self.authority)).as_bytes()),
        ];
        let text = format!(
            "Host web1\n  HostName 127.0.0.1\n  Port {port}\n  User {}\n  HostKeyAlias dst.relay\n  UserKnownHostsFile {}\n  \
             GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  IdentityFile {}\n  CertificateFile {}\n  IdentitiesOnly yes\n  \
             PreferredAuthentications publickey\n  UpdateHostKeys no\n  SendEnv FOO LC_TEST\n",
            self.account, files[2], files[0], files[1]
        );
        PathBuf::from(write("config", text.as_bytes()))
    }

    fn good(&self, port: u16) -> PathBuf {
        self.config(port, PRINCIPAL, now_s() + 120, &self.authority)
    }

    fn command(&self, program: &str, config: &std::path::Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("FOO", "no")
            .env("LC_TEST", "yes");
        command.arg("-F").arg(config).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn ssh(&self, config: &std::path::Path, words: &[&str]) -> Output {
        let run = self.command("ssh", config).args(words).output();
        tokio::time::timeout(Duration::from_mins(1), run).await.expect("ssh ends").unwrap()
    }
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_terminals_and_files_pass_and_what_they_show_is_recorded() {
    let setup = Setup::new();
    let port = setup.serve().await;
    let config = setup.good(port);
    let ran = setup.ssh(&config, &["web1", "echo out; echo err >&2; echo $FOO$LC_TEST; exit 7"]).await;
    assert_eq!((ran.status.code(), text(&ran)), (Some(7), ("out\nyes\n".to_owned(), "err\n".to_owned())));

    let ran = setup.ssh(&config, &["-tt", "web1", "tty >/dev/null && echo terminal $TERM; kill -TERM $$"]).await;
    assert!(text(&ran).0.contains("terminal") && !ran.status.success(), "{ran:?}");

    // Files, by the way of today and by the old one.
    let big: Vec<u8> = (0..3_000_000u32).map(|number| number.to_le_bytes()[usize::from(number % 2 == 0)]).collect();
    std::fs::write(setup.path("big"), &big).unwrap();
    for (more, name) in [(&[][..], "copy1"), (&["-O"][..], "copy2")] {
        let mut command = setup.command("scp", &config);
        let to = format!("web1:{}", setup.path(name).display());
        let ran = command.arg("-q").args(more).arg(setup.path("big")).arg(to).output().await.unwrap();
        assert!(ran.status.success(), "{more:?} {ran:?}");
        assert!(std::fs::read(setup.path(name)).unwrap() == big, "{name}");
    }
    let told = setup.recorder.about.lock().unwrap().clone();
    let commands: Vec<_> = told
        .iter()
        .map(|target| match target {
            RecordingTarget::Ssh { account, command, tty } => (account == &setup.account, command.as_str(), *tty),
            RecordingTarget::Kubernetes { .. } => panic!("a host"),
        })
        .collect();
    assert!(commands[0].0 && commands[0].1.starts_with("echo out") && !commands[0].2, "{commands:?}");
    assert!(commands[1].2 && commands[2].1.starts_with("sftp") && commands[3].1.starts_with("scp "), "{commands:?}");
    let began = Instant::now();
    loop {
        let kept = setup.recorder.text.lock().unwrap().clone();
        if kept.matches("END").count() == 4 {
            // What a command writes comes in one piece or in several.
            let all = ["out\\n", "yes\\n", "err\\n", "terminal", "END Some(7) true"];
            assert!(all.iter().all(|one| kept.contains(one)), "{kept}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{kept}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_without_a_terminal_is_recorded_for_nothing_echoes_it() {
    let setup = Setup::new();
    let port = setup.serve().await;
    let config = setup.good(port);
    let mut child = setup.command("ssh", &config);
    let mut child = child.args(["web1", "sh"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"unseen=1\n").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_mins(1), child.wait()).await.expect("it ends").unwrap();
    assert!(ended.success());
    // Files that are transferred are not in it, only that they were.
    std::fs::write(setup.path("file"), "content of a file\n").unwrap();
    let to = format!("web1:{}", setup.path("copy").display());
    let ran = setup.command("scp", &config).arg("-q").arg(setup.path("file")).arg(to).output().await.unwrap();
    assert!(ran.status.success() && setup.path("copy").exists(), "{ran:?}");
    let kept = || setup.recorder.text.lock().unwrap().clone();
    let began = Instant::now();
    while kept().matches("END").count() < 2 {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", kept());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(kept().contains("\"i\", \"unseen=1\\n\"]") && !kept().contains("content of a file"), "{}", kept());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_recording_fails_in_its_middle_is_closed_with_the_reason() {
    let setup = Setup::new();
    let port = setup.serve().await;
    let config = setup.good(port);
    let mut child = setup.command("ssh", &config);
    let child = child.args(["web1", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    input.write_all(b"one\n").await.unwrap();
    let mut line = [0; 4];
    tokio::time::timeout(Duration::from_secs(30), output.read_exact(&mut line)).await.expect("an echo").unwrap();
    assert_eq!(&line, b"one\n");
    setup.recorder.fails.notify_one();
    let began = Instant::now();
    while !setup.recorder.text.lock().unwrap().contains("END None false") {
        assert!(began.elapsed() < Duration::from_secs(20), "the end of its recording");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // From then on nothing of it goes by.
    input.write_all(b"two\n").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_mins(1), child.wait_with_output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    let expect = "this session has to be recorded, and cannot be: nobody takes it any more";
    assert!(said.contains(expect) && !ended.status.success(), "{said}");
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "nothing that is not recorded: {rest:?}");
    let began = Instant::now();
    let how = loop {
        if let Some(how) = setup.ended.lock().unwrap().pop() {
            break how;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the word that it ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(how.reached && how.reason.contains("has to be recorded"), "{how:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn much_that_goes_both_ways_at_once_neither_hangs_nor_is_lost() {
    let setup = Setup::new();
    let port = setup.serve().await;
    let config = setup.good(port);
    let mut child = setup.command("ssh", &config);
    let mut child = child.args(["web1", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let all: Vec<u8> = (0..12_000_000u32).map(|number| number.to_be_bytes()[3]).collect();
    let sent = all.clone();
    let writing = tokio::spawn(async move {
        input.write_all(&sent).await.unwrap();
        input.shutdown().await.unwrap();
    });
    // Whoever reads late makes both directions wait.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut came = Vec::new();
    tokio::time::timeout(Duration::from_secs(90), output.read_to_end(&mut came)).await.expect("it ends").unwrap();
    writing.await.unwrap();
    assert!(came == all, "{} of {}", came.len(), all.len());
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_ssh_nobody_is_let_in_but_by_the_certificate_of_this_session_and_role() {
    let setup = Setup::new();
    let port = setup.serve().await;
    let (soon, stranger) = (now_s() + 120, key());
    for (principal, ends, by) in [
        ("cairn-relay/dst/deploy/usr/other", soon, &setup.authority),
        ("cairn-relay/dst/root/usr/ses", soon, &setup.authority),
        ("cairn-relay/other/deploy/usr/ses", soon, &setup.authority),
        ("cairn/dst/deploy", soon, &setup.authority),
        (PRINCIPAL, now_s() - 10, &setup.authority),
        (PRINCIPAL, soon, &stranger),
    ] {
        let config = setup.config(port, principal, ends, by);
        let ran = setup.ssh(&config, &["web1", "id"]).await;
        assert!(!ran.status.success() && text(&ran).1.contains("Permission denied"), "{principal}: {ran:?}");
    }
    // The right one for another account, and the key without its certificate.
    let config = setup.good(port);
    let ran = setup.ssh(&config, &["-l", "daemon", "web1", "id"]).await;
    assert!(!ran.status.success(), "{ran:?}");
    std::fs::remove_file(setup.path("key-cert.pub")).unwrap();
    let ran = setup.ssh(&config, &["web1", "id"]).await;
    assert!(!ran.status.success(), "{ran:?}");
    assert_eq!(setup.dialed.load(Ordering::SeqCst), 0, "the host hears of none of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_ssh_a_host_with_another_key_gets_nothing_and_its_user_is_told() {
    let mut setup = Setup::new();
    setup.host_key = line(&key());
    let port = setup.serve().await;
    let config = setup.good(port);
    let ran = setup.ssh(&config, &["web1", "echo secret"]).await;
    let (out, err) = text(&ran);
    assert_eq!((ran.status.code(), out.as_str()), (Some(255), ""));
    assert!(err.contains("not the host that was registered") && err.contains("SHA256:"), "{err}");
    assert!(!setup.ended.lock().unwrap().iter().any(|ended| ended.reached));
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_ssh_a_key_that_was_replaced_is_no_host_any_more_whatever_certificate_it_has() {
    let mut setup = Setup::new();
    let old = setup.host_key.clone();
    let signed = setup.sign(CertificateKind::Host, &old, &setup.alias, now_s() + 86_400, &setup.authority);
    std::fs::write(setup.sshd.path("host-cert.pub"), signed).unwrap();
    setup.sshd.restart_with(&format!("HostCertificate {}", setup.sshd.path("host-cert.pub").display()));
    // With its certificate it is the host as long as its key is the registered one.
    let config = setup.good(setup.serve().await);
    let ran = setup.ssh(&config, &["web1", "echo here"]).await;
    assert_eq!(text(&ran).0, "here\n", "{ran:?}");
    setup.host_key = line(&key());
    let config = setup.good(setup.serve().await);
    let ran = setup.ssh(&config, &["web1", "echo secret"]).await;
    assert_eq!((ran.status.code(), text(&ran).0.as_str()), (Some(255), ""));
    assert!(text(&ran).1.contains("not the host that was registered"), "{ran:?}");
    assert_eq!(setup.ended.lock().unwrap().iter().filter(|ended| ended.reached).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_ssh_what_is_not_allowed_does_not_pass_and_forwarding_only_where_an_administrator_says_so() {
    let mut setup = Setup::new();
    let port = setup.serve().await;
    let config = setup.good(port);
    let sshd = setup.sshd.port.to_string();
    let to = format!("127.0.0.1:{sshd}");
    let ran = setup.ssh(&config, &["-W", &to, "web1"]).await;
    assert!(!ran.status.success() && text(&ran).1.contains("prohibited"), "{ran:?}");
    let ran = setup.ssh(&config, &["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "web1", "true"]).await;
    assert!(!ran.status.success(), "{ran:?}");
    let ran = setup.ssh(&config, &["-s", "web1", "netconf"]).await;
    assert!(!ran.status.success(), "{ran:?}");
    assert_eq!(setup.recorder.about.lock().unwrap().len(), 0);
    setup.extensions = vec!["permit-port-forwarding".to_owned(), "permit-pty".to_owned()];
    let port = setup.serve().await;
    let config = setup.good(port);
    let ran = setup.ssh(&config, &["-W", &to, "web1"]).await;
    assert!(text(&ran).0.starts_with("SSH-2.0-OpenSSH"), "{ran:?}");
    setup.extensions.clear();
    let port = setup.serve().await;
    let config = setup.good(port);
    let ran = setup.ssh(&config, &["-tt", "web1", "tty"]).await;
    assert!(!text(&ran).0.contains("/dev/"), "{ran:?}");
}

#[path = "openssh/forward.rs"]
mod forward;
#[path = "openssh/unseen.rs"]
mod unseen;

#[tokio::test(flavor = "multi_thread")]
async fn attack_ssh_a_session_that_is_cut_ends_at_once_at_both_ends_with_a_word() {
    let setup = Setup::new();
    let port = setup.serve().await;
    let config = setup.good(port);
    let mark = setup.path("alive");
    let script =
        format!("echo begun; trap 'exit 1' HUP PIPE; while echo x; do touch {}; sleep 0.05; done", mark.display());
    let mut child = setup.command("ssh", &config);
    let child = child.args(["web1", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !mark.exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "it begins");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cut = Instant::now();
    setup.cut.now("the grant is gone");
    let ran = tokio::time::timeout(Duration::from_secs(10), child.wait_with_output()).await.expect("ssh ends").unwrap();
    assert!(cut.elapsed() < Duration::from_secs(2), "{:?}", cut.elapsed());
    let (out, err) = text(&ran);
    assert!(out.starts_with("begun") && err.contains("cut off: the grant is gone") && !ran.status.success(), "{err}");
    let last = || std::fs::metadata(&mark).unwrap().modified().unwrap();
    let began = Instant::now();
    loop {
        let before = last();
        tokio::time::sleep(Duration::from_millis(400)).await;
        if last() == before {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the command at the host ends");
    }
    let ended = setup.ended.lock().unwrap().clone();
    assert_eq!((ended[0].reason.as_str(), ended[0].reached), ("the grant is gone", true));
    assert!(ended[0].received_bytes > 0 && ended[0].sent_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_to_be_recorded_and_cannot_be_does_not_begin() {
    let mut setup = Setup::new();
    setup.recorder = Arc::new(Kept { refuses: true, ..Kept::default() });
    let port = setup.serve().await;
    let config = setup.good(port);
    let mark = setup.path("ran");
    let ran = setup.ssh(&config, &["web1", &format!("touch {}", mark.display())]).await;
    assert_eq!(ran.status.code(), Some(255));
    assert!(text(&ran).1.contains("has to be recorded, and cannot be: the server is away"), "{ran:?}");
    assert!(!mark.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_69_whoever_sends_much_before_signing_in_is_closed() {
    let setup = Setup::new();
    let port = setup.serve().await;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut more = b"SSH-2.0-x\r\n".to_vec();
    more.resize(400_000, b'x');
    let _ = stream.write_all(&more).await;
    let mut came = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut came)).await.expect("it is closed");
    assert_eq!(setup.dialed.load(Ordering::SeqCst), 0);
}
