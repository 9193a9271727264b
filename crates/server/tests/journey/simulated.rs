//! Agents and relays by the thousand in one process, against a real server: keys, credentials, TLS, proofs and waits are as the real ones', and
//! what is behind them (a host, tasks) is not there. The test of a storm and `bench_fleet` share this file.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crypto::ed25519::SigningKey;
use crypto::possession::{self, Statement};
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock as _, Digest, Rng as _};
use flate2::Compression;
use flate2::write::GzEncoder;
use fleet::{Backoff, Tls, Trust};
use futures::{StreamExt as _, stream};
use gateway::session::{Session, Timing};
use gateway::websocket::{self, Side, WebSocketError};
use gateway::{Channel, channel};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use wire::frame::{Body, Frame, VERSION};
use wire::relay::{Hello, Welcome};
use wire::report::{End, Head, Line, MEDIA_TYPE, Program};

/// How many enroll at once.
const AT_ONCE: usize = 32;
/// As those of the programs.
const AGENT: Backoff =
    Backoff { least: Duration::from_millis(500), first: Duration::from_secs(1), most: Duration::from_mins(5) };
const RELAY: Backoff =
    Backoff { least: Duration::ZERO, first: Duration::from_millis(500), most: Duration::from_secs(30) };

/// Where the server is, and whom to trust.
pub(crate) struct Way {
    port: u16,
    tls: rustls::ClientConfig,
    /// The token of a person's session, who makes enrollment tokens.
    person: String,
}

/// The token that `cairn login` keeps.
fn session(config: &Path) -> String {
    fn token(value: &Value) -> Option<String> {
        let fields = value.as_object()?;
        let own = fields.get("token").and_then(Value::as_str).map(str::to_owned);
        own.or_else(|| fields.values().find_map(token))
    }
    token(&serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap()).unwrap()
}

impl Way {
    /// To a server of this machine; `config`: the file of a command line that is signed in there.
    pub(crate) fn new(port: u16, authority: &Path, config: &Path) -> Self {
        crypto::tls::install();
        let mut tls = Tls::new(Trust::of_file(authority).unwrap()).client_config(&[]).unwrap();
        // Each is a machine of its own: none has another one's tickets.
        tls.resumption = rustls::client::Resumption::disabled();
        Self { port, tls, person: session(config) }
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    fn client(&self) -> reqwest::Client {
        let mut tls = self.tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client =
            reqwest::Client::builder().no_proxy().user_agent("cairn-agent/0.1.0").timeout(Duration::from_mins(1));
        client.http1_only().pool_idle_timeout(None).tls_backend_preconfigured(tls).build().unwrap()
    }
}

/// An agent or a relay.
struct Unit {
    id: String,
    credential: String,
    installation: String,
    key: SigningKey,
    number: AtomicI64,
}

impl Unit {
    fn proof(&self, (method, target): (&str, &str), body: &[u8], token: &str, audience: Option<&str>) -> String {
        let mut id = [0; 16];
        SystemRng.fill(&mut id);
        let statement = Statement {
            method: method.to_owned(),
            target: target.to_owned(),
            at_s: SystemClock.now().as_seconds(),
            id: format!("{:032x}", u128::from_be_bytes(id)),
            number: self.number.fetch_add(1, Ordering::Relaxed),
            body: crypto::sha256(body),
            token: crypto::sha256(token.as_bytes()),
            audience: audience.map(str::to_owned),
        };
        possession::sign_proof(&statement, &self.key)
    }

    /// `Authorization` and `DPoP`.
    fn signed(&self, request: (&str, &str), body: &[u8]) -> (String, String) {
        let proof = self.proof(request, body, &self.credential, Some(&self.installation));
        (format!("DPoP {}", self.credential), proof)
    }

    async fn enrolled(way: &Way, http: &reqwest::Client, kind: &str, name: String) -> Self {
        let url = way.url("/api/v1/tenants/default/enrollment-tokens");
        let asked = http.post(url).bearer_auth(&way.person).header("content-type", "application/json");
        let made = asked.body(json!({"kind": kind}).to_string()).send().await.unwrap();
        let made: Value = serde_json::from_slice(&made.bytes().await.unwrap()).unwrap();
        let token = made["token"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let key = SigningKey::generate().unwrap();
        let number = AtomicI64::new(1);
        let mut unit = Self { id: String::new(), credential: String::new(), installation: String::new(), key, number };
        let public_key = possession::to_jwk(&unit.key.public());
        let body = json!({"token": token, "kind": kind, "name": name, "public_key": public_key, "version": "0.1.0"});
        let (body, target) = (body.to_string(), "/api/v1/enroll");
        let proof = unit.proof(("POST", target), body.as_bytes(), &token, None);
        let asked = http.post(way.url(target)).header("dpop", proof).header("content-type", "application/json");
        let enrolled = asked.body(body).send().await.unwrap();
        let enrolled: Value = serde_json::from_slice(&enrolled.bytes().await.unwrap()).unwrap();
        let text = |name: &str| enrolled[name].as_str().unwrap_or_else(|| panic!("{enrolled}")).to_owned();
        (unit.id, unit.credential, unit.installation) = (text("id"), text("credential"), text("installation"));
        unit
    }
}

/// What happened to all of them.
#[derive(Default)]
pub(crate) struct Counts {
    /// Check-ins that were answered.
    pub(crate) checked_in: AtomicU64,
    /// Relays that are connected now, and how often one was let in.
    pub(crate) linked: AtomicU64,
    pub(crate) welcomed: AtomicU64,
    /// Tries that found nobody, and tries that were told to come later.
    pub(crate) unreachable: AtomicU64,
    pub(crate) put_off: AtomicU64,
    /// Refusals that no waiting helps against.
    pub(crate) refused: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Agents and relays that are enrolled.
pub(crate) struct Simulated {
    way: Arc<Way>,
    agents: Vec<Arc<Unit>>,
    relays: Vec<Arc<Unit>>,
    pub(crate) counts: Arc<Counts>,
    round: watch::Sender<u64>,
}

/// A report that says that nothing is there and nothing changed.
pub(crate) fn check_in(machine: &str) -> Vec<u8> {
    let program = Program {
        version: "0.1.0".to_owned(),
        sha256: Digest([1; 32]),
        config_sha256: Digest([2; 32]),
        host: "simulated".to_owned(),
    };
    let (machine, at) = (machine.to_owned(), SystemClock.now());
    let (version, epoch, sequence, clock_offset_ms) = (wire::report::VERSION, 1, 1, Some(0));
    let head = Line::Head(Head { version, machine, epoch, sequence, at, clock_offset_ms, program });
    let end = Line::End(End { forget: Vec::new(), state: inventory::state_digest([]) });
    let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
    for line in [head, end] {
        serde_json::to_writer(&mut packed, &line).unwrap();
        packed.write_all(b"\n").unwrap();
    }
    packed.finish().unwrap()
}

impl Simulated {
    pub(crate) async fn enroll(way: Way, agents: usize, relays: usize) -> Self {
        let http = way.client();
        let way = Arc::new(way);
        let enroll = async |kind: &'static str, many: usize| -> Vec<Arc<Unit>> {
            let one = |n: usize| {
                let (way, http) = (Arc::clone(&way), http.clone());
                async move { Arc::new(Unit::enrolled(&way, &http, kind, format!("sim-{n}")).await) }
            };
            stream::iter(0..many).map(one).buffer_unordered(AT_ONCE).collect().await
        };
        let (agents, relays) = (enroll("agent", agents).await, enroll("relay", relays).await);
        Self { way, agents, relays, counts: Arc::default(), round: watch::channel(0).0 }
    }

    /// Connects the relays, each of which stays connected from now on.
    pub(crate) fn link(&self) {
        for unit in &self.relays {
            let (way, unit, counts) = (Arc::clone(&self.way), Arc::clone(unit), Arc::clone(&self.counts));
            tokio::spawn(async move {
                let mut failures = 0;
                loop {
                    let asked = match relay(&way, &unit, &counts).await {
                        Ok(()) => {
                            failures = 0;
                            None
                        }
                        Err(failed) => failed.count(&counts),
                    };
                    tokio::time::sleep(RELAY.wait(&SystemRng, failures, asked)).await;
                    failures += 1;
                }
            });
        }
    }

    /// Connects the first relay once more, elsewhere, while it may be connected already; why that is refused, if it is.
    #[allow(dead_code, reason = "of no use to the bench")]
    pub(crate) async fn connect_again(&self, elsewhere: &Way) -> Option<String> {
        match relay(elsewhere, self.relays.first()?, &Counts::default()).await {
            Err(Failed::Refused(why)) => Some(why),
            Err(Failed::Unreachable | Failed::PutOff(_)) | Ok(()) => None,
        }
    }

    /// Starts the agents, each of which checks in once in each round, until it succeeds, and keeps its connection.
    pub(crate) fn start(&self) {
        for (n, unit) in self.agents.iter().enumerate() {
            let (way, unit, counts) = (Arc::clone(&self.way), Arc::clone(unit), Arc::clone(&self.counts));
            let (mut round, http) = (self.round.subscribe(), way.client());
            tokio::spawn(async move {
                let machine = format!("{n:016x}");
                while round.changed().await.is_ok() {
                    let mut failures = 0;
                    while let Err(failed) = agent(&way, &unit, &http, &machine).await {
                        let asked = failed.count(&counts);
                        tokio::time::sleep(AGENT.wait(&SystemRng, failures, asked)).await;
                        failures += 1;
                    }
                    count(&counts.checked_in);
                }
            });
        }
    }

    /// All agents check in, at once.
    pub(crate) fn check_in(&self) {
        self.counts.checked_in.store(0, Ordering::Relaxed);
        self.round.send_modify(|round| *round += 1);
    }

    /// Whether all have checked in since, and all relays are connected.
    pub(crate) fn all_back(&self) -> bool {
        read(&self.counts.checked_in) == self.agents.len() as u64 && self.all_linked()
    }

    /// Whether all relays are connected.
    pub(crate) fn all_linked(&self) -> bool {
        read(&self.counts.linked) == self.relays.len() as u64
    }

    /// Asks `/healthz` until it is told to stop, each time over a connection of its own: when it was answered first, the longest wait after
    /// that, and how many were not answered well.
    pub(crate) async fn healthz(&self, stop: CancellationToken) -> Health {
        let mut health = Health::default();
        while !stop.is_cancelled() {
            let (asked, http) = (Instant::now(), self.way.client());
            let answer = http.get(self.way.url("/healthz")).send().await;
            let is_well = answer.is_ok_and(|answer| answer.status() == 200);
            match (is_well, health.since) {
                (true, None) => health.since = Some(Instant::now()),
                (true, Some(_)) => health.slowest = health.slowest.max(asked.elapsed()),
                (false, Some(_)) => health.failed += 1,
                (false, None) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        health
    }
}

/// How `/healthz` answered.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) since: Option<Instant>,
    pub(crate) slowest: Duration,
    pub(crate) failed: u32,
}

/// Why a try was for nothing.
enum Failed {
    Unreachable,
    PutOff(Option<Duration>),
    Refused(String),
}

impl Failed {
    /// Counts it; how long the server asks to wait.
    fn count(self, counts: &Counts) -> Option<Duration> {
        match self {
            Self::Unreachable => {
                count(&counts.unreachable);
                None
            }
            Self::PutOff(asked) => {
                count(&counts.put_off);
                asked
            }
            Self::Refused(why) => {
                eprintln!("a simulated one is refused: {why}");
                count(&counts.refused);
                None
            }
        }
    }

    fn of(status: u16, retry_after_s: Option<u64>, why: impl FnOnce() -> String) -> Self {
        match status {
            429 | 503 => Self::PutOff(retry_after_s.map(Duration::from_secs)),
            _ => Self::Refused(why()),
        }
    }
}

async fn agent(way: &Way, unit: &Unit, http: &reqwest::Client, machine: &str) -> Result<(), Failed> {
    let (target, body) = (format!("/api/v1/agents/{}/report", unit.id), check_in(machine));
    let (authorization, proof) = unit.signed(("POST", &target), &body);
    let asked = http.post(way.url(&target)).header("authorization", authorization).header("dpop", proof);
    let answer = asked.header("content-type", MEDIA_TYPE).body(body).send().await.map_err(|_| Failed::Unreachable)?;
    let status = answer.status().as_u16();
    let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let text = answer.text().await.map_err(|_| Failed::Unreachable)?;
    if status == 200 { Ok(()) } else { Err(Failed::of(status, after, || text)) }
}

/// One link of a relay, to its end.
async fn relay(way: &Way, unit: &Unit, counts: &Counts) -> Result<(), Failed> {
    let lost = |_| Failed::Unreachable;
    let stream = TcpStream::connect(("127.0.0.1", way.port)).await.map_err(lost)?;
    let mut tls = way.tls.clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut socket = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(lost)?;
    let path = format!("/api/v1/relays/{}/channel", unit.id);
    let (authorization, proof) = unit.signed(("GET", &path), b"");
    let key = websocket::new_key(&SystemRng);
    let headers = [("authorization", authorization.as_str()), ("dpop", proof.as_str())];
    socket.write_all(&websocket::request("127.0.0.1", &path, &key, &headers)).await.map_err(lost)?;
    let mut buffer = BytesMut::new();
    loop {
        match websocket::read_answer(&key, &mut buffer) {
            Ok(true) => break,
            Ok(false) => {}
            Err(WebSocketError::Refused(answer)) => {
                return Err(Failed::of(answer.status, answer.retry_after_s, || format!("{answer}")));
            }
            Err(error) => return Err(Failed::Refused(error.to_string())),
        }
        if socket.read_buf(&mut buffer).await.map_err(lost)? == 0 {
            return Err(Failed::Unreachable);
        }
    }
    let hello = Hello {
        versions: vec![VERSION],
        session: None,
        received: 0,
        version: "0.1.0".to_owned(),
        program: Digest([3; 32]),
        host: "simulated".to_owned(),
        plugins: Vec::new(),
        sealing_key: String::new(),
    };
    let hello = serde_json::to_vec(&hello).unwrap();
    let gone = |_| Failed::Unreachable;
    channel::write_first(&mut socket, Side::Client, Body::Hello(&hello), &SystemRng).await.map_err(gone)?;
    let first = channel::read_first(&mut socket, Side::Client, &mut buffer).await.map_err(gone)?;
    let welcome: Welcome = match Frame::decode(&first).map(|frame| frame.body) {
        Ok(Body::Welcome(document)) => serde_json::from_slice(document).unwrap(),
        Ok(Body::Goodbye(reason, text)) => return Err(Failed::Refused(format!("{reason}: {text}"))),
        _ => return Err(Failed::Refused("the server does not greet".to_owned())),
    };
    let heartbeat_ms = u64::from(welcome.heartbeat_ms);
    let own = Channel::new(Session::relay(Timing { heartbeat_ms, answer_ms: heartbeat_ms }));
    count(&counts.welcomed);
    count(&counts.linked);
    own.drive(socket, Side::Client, buffer, welcome.received, &SystemRng, &CancellationToken::new()).await;
    counts.linked.fetch_sub(1, Ordering::Relaxed);
    Ok(())
}
