//! What authentication costs: one cheap route with a session's JWT, an API key and a session of the command line, against `/healthz`, which
//! asks for nothing; and sign-ins against the bare hash that they have to compute.
//!
//! The real router on a real database behind plain HTTP on loopback, with the load from the same process over connections that stay open:
//! what the load itself costs is in every figure, so ratios are what counts. All in one run, in turns. Prints one JSON line per result.
//!
//! `CAIRN_BENCH_ENGINES` (default `sqlite,postgres`) chooses, `CAIRN_BENCH_SECONDS` (default 3) is how long one measurement takes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints, it measures, and it ends where something fails"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{OpCtx, Permit, ops};
use api::ports::{Catalog, Evaluate, Export, Subject};
use api::{ApiState, Settings};
use async_trait::async_trait;
use compliance::Ruleset;
use crypto::ed25519::SigningKey;
use crypto::system::{SystemClock, SystemRng};
use domain::{Error, Secret};
use serde_json::{Map, Value, json};
use store::{NewUser, OpenOptions, Store};
use testkit::Postgres;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 16;
/// At one time: below the ten tries that an account has without waiting (`api/src/throttle.rs`).
const SIGN_INS: usize = 8;
const PASSWORD: &str = "a password of the benchmark";
const EMAIL: &str = "bench@example.org";
/// The default of an installation.
const COST: u32 = 12;

/// Parts of the server that no measured route asks.
struct Nothing(Arc<Ruleset>, compliance::Frameworks);

impl Catalog for Nothing {
    fn plugins(&self) -> &[wire::credential::Plugin] {
        &[]
    }
    fn check(&self, _: &str, _: &Map<String, Value>) -> domain::Result<()> {
        Ok(())
    }
    fn frameworks(&self) -> &compliance::Frameworks {
        &self.1
    }
    fn ruleset(&self) -> Arc<Ruleset> {
        Arc::clone(&self.0)
    }
}

#[async_trait]
impl Evaluate for Nothing {
    async fn evaluate(&self, _: Permit<ops::EvaluationRun>) -> domain::Result<wire::finding::Evaluation> {
        Err(Error::internal("not in a benchmark"))
    }
}

#[async_trait]
impl Export for Nothing {
    async fn export(&self, _: Permit<ops::EvidenceExport>, _: Subject) -> domain::Result<std::fs::File> {
        Err(Error::internal("not in a benchmark"))
    }
}

async fn serve(store: Store) -> SocketAddr {
    let clock: Arc<dyn domain::Clock> = Arc::new(SystemClock);
    let rng: Arc<dyn domain::Rng> = Arc::new(SystemRng);
    let ctx = OpCtx::system_platform("bench", clock, rng.clone());
    let password_hash = api::hash_one_time_password(PASSWORD, COST, &*rng).unwrap();
    let new = NewUser { name: "Bench".parse().unwrap(), password_hash, platform_admin: true };
    let unit = store.write_platform(ctx.authorize_platform::<ops::UserCreate>().unwrap()).await.unwrap();
    let admin = unit.user_create(&EMAIL.parse().unwrap(), &new).await.unwrap();
    let unit = store.write_platform(ctx.authorize_platform::<ops::TenantCreate>().unwrap()).await.unwrap();
    unit.tenant_create(&"bench".parse().unwrap(), &"Bench".parse().unwrap(), Some(admin)).await.unwrap();
    let catalog = compliance::builtin::catalog().unwrap();
    let ruleset = compliance::load(&catalog, &compliance::builtin::PACKS, crypto::sha256).map_err(|e| e.len()).unwrap();
    let nothing = Arc::new(Nothing(Arc::new(ruleset), compliance::Frameworks::default()));
    let (sender, draining) = tokio::sync::watch::channel(false);
    // The server lives as long as the process.
    std::mem::forget(sender);
    let settings =
        Settings { installation: store.installation_id().await.unwrap(), bcrypt_cost: COST, ..Settings::default() };
    let key = SigningKey::generate().unwrap().public();
    let (catalog, evaluator, exporter) = (nothing.clone(), nothing.clone(), nothing);
    let state = ApiState::new(store, settings, Secret::new(vec![7; 48]), key, catalog, evaluator, exporter, draining);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = api::router(state).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    address
}

/// A connection that stays open.
struct Connection(TcpStream, Vec<u8>);

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream, Vec::new())
    }

    /// Sends a request and reads its answer: the status and the body.
    async fn ask(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        self.0.write_all(request).await.unwrap();
        self.1.clear();
        loop {
            if let Some(head) = self.1.windows(4).position(|window| window == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.1[..head]).to_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
                let end = head + 4 + length.parse::<usize>().unwrap();
                if self.1.len() >= end {
                    return (text[9..12].parse().unwrap(), self.1[head + 4..end].to_vec());
                }
            }
            assert!(self.0.read_buf(&mut self.1).await.unwrap() > 0, "the server closed the connection");
        }
    }
}

fn get(path: &str, token: Option<&str>) -> Vec<u8> {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n{token}\r\n").into_bytes()
}

async fn post(connection: &mut Connection, path: &str, token: Option<&str>, body: &Value) -> Value {
    let (status, answer) = connection.ask(&post_bytes(path, token, body)).await;
    assert!(status < 300, "{path}: {status} {}", String::from_utf8_lossy(&answer));
    serde_json::from_slice(&answer).unwrap_or_default()
}

fn post_bytes(path: &str, token: Option<&str>, body: &Value) -> Vec<u8> {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{token}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Requests per second over several connections.
async fn throughput(address: SocketAddr, request: Vec<u8>, connections: usize, time: Duration) -> f64 {
    let request = Arc::new(request);
    let began = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let request = Arc::clone(&request);
            tokio::spawn(async move {
                let (mut connection, mut done) = (Connection::open(address).await, 0u32);
                while began.elapsed() < time {
                    let (status, answer) = connection.ask(&request).await;
                    assert!(status < 300, "{status} {}", String::from_utf8_lossy(&answer));
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    f64::from(done) / began.elapsed().as_secs_f64()
}

/// The median time of one request at a time, in microseconds.
async fn latency(address: SocketAddr, request: &[u8]) -> f64 {
    let mut connection = Connection::open(address).await;
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let began = Instant::now();
        connection.ask(request).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn show(bench: &str, value: f64, unit: &str, compared_to: &str, compared_value: f64, goal: &str) {
    let line = json!({
        "bench": bench, "value": value, "unit": unit, "compared_to": compared_to, "compared_value": compared_value,
        "ratio": value / compared_value, "goal": goal,
    });
    println!("{line}");
}

/// How many hashes all cores compute in a second.
fn bare_hashes(stored: &str, cores: usize, time: Duration) -> f64 {
    let began = Instant::now();
    let done: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = 0;
                    while began.elapsed() < time {
                        assert!(crypto::password::verify_password(PASSWORD, stored));
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    f64::from(done) / began.elapsed().as_secs_f64()
}

async fn measure(engine: &str, store: Store, time: Duration) {
    let address = serve(store).await;
    let mut connection = Connection::open(address).await;
    let sign_in = json!({"email": EMAIL, "password": PASSWORD});
    let first = post(&mut connection, "/api/v1/sessions", None, &sign_in).await;
    let change = json!({"old": PASSWORD, "new": format!("{PASSWORD}, changed")});
    let jwt = first["token"].as_str().unwrap().to_owned();
    post(&mut connection, "/api/v1/me/password", Some(&jwt), &change).await;
    let made = json!({"name": "bench", "role": "read-only"});
    let key = post(&mut connection, "/api/v1/tenants/bench/api-keys", Some(&jwt), &made).await;
    let key = key["secret"].as_str().unwrap().to_owned();
    let cli = post(&mut connection, "/api/v1/cli-sessions", Some(&jwt), &json!({"client": "bench"})).await;
    let cli = cli["token"].as_str().unwrap().to_owned();
    let health = get("/healthz", None);
    let kinds = [
        ("JWT", get("/api/v1/me", Some(&jwt))),
        ("API key", get("/api/v1/me", Some(&key))),
        ("CLI session", get("/api/v1/me", Some(&cli))),
    ];
    for (_, request) in &kinds {
        connection.ask(request).await;
    }
    // Twice in turns, the better one of each: what else the machine does hits all alike.
    let mut best = [0f64; 4];
    for _ in 0..2 {
        for (at, request) in std::iter::once(&health).chain(kinds.iter().map(|(_, request)| request)).enumerate() {
            best[at] = best[at].max(throughput(address, request.clone(), CONNECTIONS, time).await);
        }
    }
    let [open, jwt, key, cli] = best;
    for ((kind, _), value) in kinds.iter().zip([jwt, key, cli]) {
        show(&format!("auth, {engine}: {kind}"), value, "requests/s", "GET /healthz", open, "");
    }
    show(&format!("auth, {engine}: API key"), key, "requests/s", "JWT", jwt, ">= 0.6");
    show(&format!("auth, {engine}: CLI session"), cli, "requests/s", "JWT", jwt, "");
    let open = latency(address, &health).await;
    for (kind, request) in &kinds {
        let added = (latency(address, request).await - open).max(0.0);
        show(&format!("auth, {engine}: {kind}, added to one request"), added, "us", "goal", 50.0, "<= 1");
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let stored = crypto::password::hash_password(PASSWORD, COST, &SystemRng).unwrap();
    let bare = tokio::task::spawn_blocking(move || bare_hashes(&stored, cores, time * 2)).await.unwrap();
    let body = json!({"email": EMAIL, "password": change["new"]});
    let request = post_bytes("/api/v1/sessions", None, &body);
    let signed_in = throughput(address, request, SIGN_INS, time * 2).await;
    show(&format!("auth, {engine}: sign-ins"), signed_in, "1/s", "bare bcrypt on all cores", bare, ">= 0.95");
}

fn main() {
    let engines = std::env::var("CAIRN_BENCH_ENGINES").unwrap_or_else(|_| "sqlite,postgres".to_owned());
    let seconds = std::env::var("CAIRN_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for engine in engines.split(',') {
        let dir = tempfile::tempdir().unwrap();
        let database = (engine == "postgres").then(|| Postgres::shared().database());
        let url = match &database {
            None => format!("sqlite:{}", dir.path().join("cairn.db").display()),
            Some(database) => database.app_url.clone(),
        };
        let owner_url = database.as_ref().map(|database| database.owner_url.clone());
        runtime.block_on(async {
            let options = OpenOptions {
                url,
                owner_url,
                master: crypto::aead::AeadKey::from_bytes([7; 32]),
                vault: store::VaultOptions::default(),
                blobs: dir.path().join("blobs"),
                clock: Arc::new(SystemClock),
                rng: Arc::new(SystemRng),
            };
            let store = Store::open(options).await.unwrap();
            store.only_writer();
            measure(engine, store.clone(), Duration::from_secs(seconds)).await;
            store.close().await;
        });
    }
}
