//! A proxy in front of the double, and `kubectl` with a token for it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domain::{ActAs, DestinationId, Lent, Timestamp};
use gateway::kubernetes::{
    Admission, Admit, Cluster, Confirm, Granted, Listener, Live, OneGroup, Proxy, Record, Refusal, Token, TokenFile,
};
use gateway::recording::{About, Header, Piece, Recorder, Recording, Room, Summary, Unrecorded};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use testkit::{KubeApi, TestClock, TestRng};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wire::kubernetes::AccessEvent;
use wire::recording::{RecordingMode, RecordingTerms};

/// Tokens of the tests say in clear what they are: `USER.ROLE`, `USER.ROLE~NAMESPACE`, or `USER.as-OTHER`.
struct Plain;

impl Admit for Plain {
    fn admit(&self, token: &str, _: Timestamp) -> Result<Admission, Refusal> {
        let (user, role) = token.split_once('.').ok_or_else(|| Refusal::Unauthenticated("no token".to_owned()))?;
        let (role, namespace) = role.split_once('~').map_or((role, None), |(role, namespace)| (role, Some(namespace)));
        let other = role.strip_prefix("as-");
        Ok(Admission {
            destination: format!("dst_{}", "0".repeat(26)).parse().unwrap(),
            user: user.to_owned(),
            user_id: format!("usr_{}", "0".repeat(26)).parse().unwrap(),
            groups: vec!["dev".to_owned()],
            grants: vec![Granted { role: role.to_owned(), namespace: namespace.map(str::to_owned) }],
            act_as: other.map(|name| Lent { namespace: None, act_as: named(name) }).into_iter().collect(),
            session: format!("ses_{}", "0".repeat(26)).parse().unwrap(),
            jti: token.to_owned(),
            expires: Timestamp::from_millis(i64::MAX),
        })
    }
}

fn named(user: &str) -> ActAs {
    ActAs { users: [user.parse().unwrap()].into(), groups: ["ops".parse().unwrap()].into() }
}

struct Nobody;

#[async_trait::async_trait]
impl Confirm for Nobody {
    async fn confirm(&self, _: &Arc<Token>) -> Result<(), Refusal> {
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct Written(pub(crate) Mutex<Vec<AccessEvent>>);

impl Record for Written {
    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn record(&self, _: DestinationId, event: AccessEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// A recording as it came out.
pub(crate) struct Taped {
    pub(crate) about: About,
    pub(crate) text: String,
    pub(crate) summary: Summary,
}

/// Records everything that is to be recorded, and keeps it.
#[derive(Clone)]
pub(crate) struct Tapes {
    pub(crate) terms: RecordingTerms,
    pub(crate) done: Arc<Mutex<Vec<Taped>>>,
    /// Takes no more of the recording that goes on.
    pub(crate) fails: Arc<Notify>,
}

impl Tapes {
    pub(crate) fn new(mode: RecordingMode, input: bool) -> Self {
        Self { terms: RecordingTerms { mode, input }, done: Arc::default(), fails: Arc::default() }
    }
}

#[async_trait::async_trait]
impl Recorder for Tapes {
    async fn begin(&self, about: About) -> Result<Recording, Unrecorded> {
        let header = Header { at: Timestamp::from_millis(0), title: String::new() };
        let (recording, tape) = Recording::new(self.terms, &header, about.target.is_tty(), &Room::new(1 << 26));
        let (done, fails) = (Arc::clone(&self.done), Arc::clone(&self.fails));
        tokio::spawn(async move {
            let mut text = Vec::new();
            let summary = loop {
                let piece = tokio::select! {
                    piece = tape.next() => piece,
                    () = fails.notified() => {
                        tape.fail("nobody takes it any more");
                        continue;
                    }
                };
                match piece {
                    Piece::Chunk(_, bytes) => text.extend(bytes),
                    Piece::End(summary) => break summary,
                }
                tape.taken();
            };
            done.lock().unwrap().push(Taped { about, text: String::from_utf8(text).unwrap(), summary });
        });
        Ok(recording)
    }
}

/// All of it. It ends when this is dropped.
pub(crate) struct World {
    pub(crate) api: KubeApi,
    pub(crate) port: u16,
    pub(crate) authority: String,
    live: Arc<Live>,
    written: Arc<Written>,
    pub(crate) tapes: Tapes,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// TLS that trusts this authority.
pub(crate) fn trusting(authority: &str) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates(authority).remove(0)).unwrap();
    Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// A proxy in front of what has this address and is known by this authority, and what it writes down.
pub(crate) fn proxy(address: &str, authority: &str, folder: &Path, tapes: &Tapes) -> (Arc<Proxy>, Arc<Written>) {
    crypto::tls::install();
    std::fs::write(folder.join("token"), "the-service-account\n").unwrap();
    let tls = trusting(authority);
    let written = Arc::new(Written::default());
    let proxy = Arc::new(Proxy {
        cluster: Arc::new(Cluster::new(address, tls, TokenFile::new(folder.join("token"))).unwrap()),
        roles: Arc::new(OneGroup),
        admit: Box::new(Plain),
        confirm: Box::new(Nobody),
        record: Arc::clone(&written) as Arc<dyn Record>,
        recorder: Box::new(tapes.clone()),
        live: Arc::new(Live::default()),
        clock: Arc::new(TestClock::at(Timestamp::from_millis(1_000))),
        rng: Arc::new(TestRng::seeded(1)),
    });
    (proxy, written)
}

impl World {
    /// Sessions have to be recorded, without input.
    pub(crate) fn start() -> Self {
        Self::recording(RecordingMode::Required, false)
    }

    pub(crate) fn recording(mode: RecordingMode, input: bool) -> Self {
        let tapes = Tapes::new(mode, input);
        let api = KubeApi::start("the-service-account");
        let folder = tempfile::tempdir().unwrap();
        let (proxy, written) = proxy(&api.address(), &api.authority, folder.path(), &tapes);
        let live = Arc::clone(&proxy.live);
        let (authority, certificate, key) = testkit::kube::certificates();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let tls = rustls::ServerConfig::builder().with_no_client_auth();
        let tls = Arc::new(tls.with_single_cert(certificates(&certificate), key).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = socket.local_addr().unwrap().port();
        let listener = Listener {
            socket,
            tls: Box::new(move || Arc::clone(&tls)),
            stall: gateway::kubernetes::STALL,
            per_address: gateway::kubernetes::PER_ADDRESS,
        };
        runtime.spawn(listener.serve(proxy, CancellationToken::new()));
        Self { api, port, authority, live, written, tapes, folder, _runtime: runtime }
    }

    pub(crate) fn token_file(&self) -> std::path::PathBuf {
        self.folder.path().join("token")
    }

    pub(crate) fn kubectl(&self, token: &str, arguments: &[&str]) -> Command {
        let authority = self.folder.path().join("authority.pem");
        std::fs::write(&authority, &self.authority).unwrap();
        let mut command = Command::new("kubectl");
        command
            .arg(format!("--server=https://localhost:{}", self.port))
            .arg(format!("--certificate-authority={}", authority.display()))
            .arg(format!("--token={token}"))
            .args(arguments)
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", "/dev/null")
            .stdin(Stdio::null());
        command
    }

    /// Runs it with this input and expects that it works.
    pub(crate) fn run(&self, token: &str, arguments: &[&str], input: &str) -> String {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, input.as_bytes()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let output = self.kubectl(token, arguments).stdin(file).output().expect("kubectl: run `cargo xtask setup`");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it, expects that it fails, and answers what it says.
    pub(crate) fn fail(&self, token: &str, arguments: &[&str]) -> String {
        let output = self.kubectl(token, arguments).output().expect("kubectl: run `cargo xtask setup`");
        assert!(!output.status.success(), "{arguments:?} works");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn events(&self) -> Vec<AccessEvent> {
        self.written.0.lock().unwrap().clone()
    }

    pub(crate) fn open(&self) -> usize {
        self.live.all().iter().map(|token| token.open()).sum()
    }

    pub(crate) fn cut(&self, why: &str) -> usize {
        self.live.cut(why, |_| true)
    }
}

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
