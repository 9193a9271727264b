//! The access proxy between a client and an API server, against nginx in its place and against none: `cargo run --release -p gateway --example
//! bench_proxy`.
//!
//! Three processes on one machine: an API server that answers at once, the proxy with tokens as the server signs them, and the client. nginx
//! (`CAIRN_NGINX`, or where Debian has it) forwards with the same TLS on both sides and one worker; without it the proxy is compared with the way
//! without a proxy. `CAIRN_BENCH_REQUESTS` (5,000) one after the other, `CAIRN_BENCH_SECONDS` (5) of 32 connections, `CAIRN_BENCH_WATCHES`
//! (10,000) open watches.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the terminal")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the environment")]

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::es512::{KeySet, SigningKey};
use crypto::system::{SystemClock, SystemRng};
use domain::{Clock as _, DestinationId, DestinationTokenId, SessionId, TenantId, Timestamp, UserId};
use gateway::Verifier;
use gateway::destination_token::issue;
use gateway::kubernetes::{
    Admission, Admit, Cluster, Confirm, Listener, Live, OneGroup, Proxy, Record, Refusal, STALL, Token, TokenFile,
};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use wire::destination_token::DestinationClaims;
use wire::kubernetes::AccessEvent;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Tokens that the client uses: the proxy opens only so many requests for each.
const TOKENS: usize = 40;
const CONNECTIONS: usize = 32;
/// What a list of a few pods is long.
const ANSWER_BYTES: usize = 4_096;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() -> Result<()> {
    crypto::tls::install();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["api", folder] => runtime.block_on(api(Path::new(folder))),
        ["proxy", folder, port] => runtime.block_on(proxy(Path::new(folder), port)),
        _ => runtime.block_on(client()),
    }
}

fn server_tls(folder: &Path) -> Result<rustls::ServerConfig> {
    let chain = CertificateDer::pem_file_iter(folder.join("tls.crt"))?.collect::<std::result::Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key"))?;
    let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn client_tls(folder: &Path) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.crt"))?)?;
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// An API server that answers at once; a watch has one event and no end.
async fn api(folder: &Path) -> Result<()> {
    let mut tls = server_tls(folder)?;
    // As a real one.
    tls.alpn_protocols.insert(0, b"h2".to_vec());
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let answer = Bytes::from(vec![b'x'; ANSWER_BYTES]);
    loop {
        let (socket, _) = listener.accept().await?;
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        tokio::spawn(async move {
            let _ = socket.set_nodelay(true);
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let is_watch = request.uri().query().is_some_and(|query| query.contains("watch"));
                let body: BoxBody<Bytes, std::convert::Infallible> = if is_watch {
                    let first = futures_once(Bytes::from_static(b"{}\n"));
                    BoxBody::new(StreamBody::new(first))
                } else {
                    BoxBody::new(Full::new(answer.clone()))
                };
                async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
            });
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            } else {
                let builder = hyper::server::conn::http1::Builder::new();
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

/// One piece, and then nothing for ever.
fn futures_once(
    first: Bytes,
) -> impl futures::Stream<Item = std::result::Result<Frame<Bytes>, std::convert::Infallible>> {
    use futures::StreamExt as _;
    futures::stream::once(async move { Ok(Frame::data(first)) }).chain(futures::stream::pending())
}

struct Real(Verifier);

impl Admit for Real {
    fn admit(&self, token: &str, now: Timestamp) -> std::result::Result<Admission, Refusal> {
        let refuse = |error: gateway::Refusal| Refusal::Unauthenticated(error.to_string());
        self.0.admit(token, now).map(Into::into).map_err(refuse)
    }
}

struct Nobody;

#[async_trait::async_trait]
impl Confirm for Nobody {
    async fn confirm(&self, _: &Arc<Token>) -> std::result::Result<(), Refusal> {
        Ok(())
    }
}

impl Record for Nobody {
    fn check(&self) -> std::result::Result<(), Refusal> {
        Ok(())
    }

    fn record(&self, _: DestinationId, _: AccessEvent) {}
}

fn claims(destination: DestinationId) -> Result<DestinationClaims> {
    let (clock, rng) = (SystemClock, SystemRng);
    let now = clock.now().as_seconds();
    Ok(DestinationClaims {
        iss: "bench".to_owned(),
        aud: destination,
        sub: UserId::generate(&clock, &rng),
        name: "ann@example.com".to_owned(),
        groups: vec!["devs".parse()?],
        role: "view".parse()?,
        namespaces: None,
        act_as: Vec::new(),
        tenant: TenantId::generate(&clock, &rng),
        sid: SessionId::generate(&clock, &rng),
        jti: DestinationTokenId::generate(&clock, &rng),
        iat: now,
        exp: now + 300,
    })
}

async fn proxy(folder: &Path, port: &str) -> Result<()> {
    let (key, destination) = (SigningKey::generate()?, DestinationId::generate(&SystemClock, &SystemRng));
    std::fs::write(folder.join("token"), "the-service-account")?;
    let keys = KeySet::new(vec![key.public().clone()]);
    let cluster = Cluster::new(
        &format!("localhost:{port}"),
        Arc::new(client_tls(folder)?),
        TokenFile::new(folder.join("token")),
    )?;
    let proxy = Arc::new(Proxy {
        cluster: Arc::new(cluster),
        roles: Arc::new(OneGroup),
        admit: Box::new(Real(Verifier::new("bench".to_owned(), destination, keys, 5))),
        confirm: Box::new(Nobody),
        record: Arc::new(Nobody),
        recorder: Box::new(gateway::recording::Nowhere),
        live: Arc::new(Live::default()),
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng),
    });
    let (socket, tls) = (TcpListener::bind("127.0.0.1:0").await?, Arc::new(server_tls(folder)?));
    println!("{}", socket.local_addr()?.port());
    let (began, mut signed) = (Instant::now(), 0_u32);
    while began.elapsed() < Duration::from_secs(1) {
        std::hint::black_box(issue(&key, &claims(destination)?)?);
        signed += 1;
    }
    println!("{}", f64::from(signed) / began.elapsed().as_secs_f64());
    for _ in 0..TOKENS {
        println!("{}", issue(&key, &claims(destination)?)?);
    }
    Listener { socket, tls: Box::new(move || Arc::clone(&tls)), stall: STALL, per_address: usize::MAX }
        .serve(proxy, CancellationToken::new())
        .await;
    Ok(())
}

/// A process that ends with this one.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(words: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).args(words).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.lines.next().ok_or("it ended")??)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a process holds, in MB.
fn resident_mb(id: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? * 1_024.0 / 1e6)
}

/// Seconds of a core that a process and its children have taken: nginx works in a child.
fn cpu_s(id: u32) -> Result<f64> {
    let of = |id: &str| -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // Fields 14 and 15 of proc(5); the first two are before the bracket. Ticks are hundredths.
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).ok_or("no time");
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    };
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    children.split_whitespace().try_fold(of(&id.to_string())?, |sum, child| Ok(sum + of(child)?))
}

fn nginx(folder: &Path, port: &str) -> Result<Option<(Running, String)>> {
    let chosen = std::env::var_os("CAIRN_NGINX").map(PathBuf::from);
    let program = chosen.unwrap_or_else(|| PathBuf::from("/usr/sbin/nginx"));
    if !program.is_file() {
        eprintln!("nginx is not at `{}`: install nginx-light, or set CAIRN_NGINX", program.display());
        return Ok(None);
    }
    let own = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let place = folder.display();
    let text = format!(
        "daemon off; worker_processes 1; pid {place}/pid; error_log {place}/error.log; user root;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
         keepalive_requests 10000000; upstream api {{ server 127.0.0.1:{port}; keepalive 64; keepalive_requests 10000000; }}\n\
         server {{ listen 127.0.0.1:{own} ssl; ssl_certificate {place}/tls.crt; ssl_certificate_key {place}/tls.key; ssl_protocols TLSv1.3;\n\
         location / {{ proxy_pass https://api; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host localhost; proxy_ssl_name localhost;\n\
         proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; proxy_ssl_verify on; proxy_ssl_trusted_certificate {place}/ca.crt; }} }} }}\n"
    );
    std::fs::write(folder.join("nginx.conf"), text)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("nginx.conf")).arg("-p").arg(folder).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let began = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", own)).is_err() {
        if began.elapsed() > Duration::from_secs(10) {
            return Err("nginx does not listen".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Some((Running { child, lines }, own.to_string())))
}

/// Where requests go, and with which token.
#[derive(Clone)]
struct Way {
    port: u16,
    token: String,
    tls: TlsConnector,
}

impl Way {
    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>> {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        socket.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from("localhost")?, socket).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self, query: &str) -> Result<Request<Empty<Bytes>>> {
        let target = format!("/api/v1/namespaces/a/pods{query}");
        let request = Request::get(target).header("host", "localhost");
        Ok(request.header("authorization", format!("Bearer {}", self.token)).body(Empty::new())?)
    }

    async fn once(&self, sender: &mut SendRequest<Empty<Bytes>>) -> Result<()> {
        sender.ready().await?;
        let response = sender.send_request(self.request("")?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() && body.len() == ANSWER_BYTES { Ok(()) } else { Err(format!("{status}").into()) }
    }

    /// Median and 99th percentile of requests one after the other, in milliseconds.
    async fn latency(&self, count: usize) -> Result<(f64, f64)> {
        let mut sender = self.connect().await?;
        for _ in 0..count / 10 {
            self.once(&mut sender).await?;
        }
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            self.once(&mut sender).await?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        let at = |part: usize| took.get(count * part / 100).copied().unwrap_or_default();
        Ok((at(50), at(99)))
    }

    /// Requests per second of many connections, and what each costs the process that answers, in microseconds of a core.
    async fn throughput(&self, seconds: usize, process: u32) -> Result<(f64, f64)> {
        let before = cpu_s(process)?;
        let (began, until) = (Instant::now(), Instant::now() + Duration::from_secs(seconds as u64));
        let mut working = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            let way = self.clone();
            working.spawn(async move {
                let (mut sender, mut count) = (way.connect().await?, 0_u32);
                while Instant::now() < until {
                    way.once(&mut sender).await?;
                    count += 1;
                }
                Ok::<_, Box<dyn Error + Send + Sync>>(count)
            });
        }
        let mut count = 0;
        while let Some(done) = working.join_next().await {
            count += done??;
        }
        let (took, used) = (began.elapsed().as_secs_f64(), cpu_s(process)? - before);
        Ok((f64::from(count) / took, used * 1e6 / f64::from(count.max(1))))
    }
}

fn figure(bench: &str, unit: &str, (value, to, compared, goal): (f64, &str, f64, &str)) {
    let ratio = if compared > 0.0 { value / compared } else { 0.0 };
    let line = json!({
        "bench": bench, "value": value, "unit": unit, "compared_to": to, "compared_value": compared, "ratio": ratio, "goal": goal,
    });
    println!("{line}");
}

async fn client() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (authority, certificate, key) = testkit::kube::certificates();
    for (name, text) in [("ca.crt", authority), ("tls.crt", certificate), ("tls.key", key)] {
        std::fs::write(folder.path().join(name), text)?;
    }
    let place = folder.path().to_str().ok_or("a folder in UTF-8")?;
    let mut api = Running::start(&["api", place])?;
    let port = api.line()?;
    let mut proxy = Running::start(&["proxy", place, &port])?;
    let proxy_port = proxy.line()?;
    let signed: f64 = proxy.line()?.parse()?;
    let tokens = (0..TOKENS).map(|_| proxy.line()).collect::<Result<Vec<_>>>()?;
    let tls = TlsConnector::from(Arc::new(client_tls(folder.path())?));
    let way = |port: &str| -> Result<Way> {
        let token = tokens.first().cloned().ok_or("no token")?;
        Ok(Way { port: port.parse()?, token, tls: tls.clone() })
    };
    let (direct, ours) = (way(&port)?, way(&proxy_port)?);
    let other = nginx(folder.path(), &port)?;
    let (count, seconds) = (number("CAIRN_BENCH_REQUESTS", 5_000), number("CAIRN_BENCH_SECONDS", 5));

    let (bare, bare_rate) = (direct.latency(count).await?, direct.throughput(seconds, api.child.id()).await?);
    let (own, own_rate) = (ours.latency(count).await?, ours.throughput(seconds, proxy.child.id()).await?);
    let none = "the API server directly";
    figure("proxy: p50 against none", "ms", (own.0, none, bare.0, ""));
    figure("proxy: p99 against none", "ms", (own.1, none, bare.1, ""));
    figure("proxy: requests of 32 connections against none", "1/s", (own_rate.0, none, bare_rate.0, ""));
    figure("proxy: CPU of a request, against the API server's own", "us", (own_rate.1, none, bare_rate.1, ""));
    if let Some((nginx, port)) = &other {
        let way = way(port)?;
        let (theirs, rate) = (way.latency(count).await?, way.throughput(seconds, nginx.child.id()).await?);
        figure("proxy: p50", "ms", (own.0, "nginx", theirs.0, ""));
        figure("proxy: p50 over nginx's", "ms", (own.0 - theirs.0, "what is allowed", 0.3, "<= 1"));
        figure("proxy: p99", "ms", (own.1, "nginx", theirs.1, ""));
        figure("proxy: requests of 32 connections", "1/s", (own_rate.0, "nginx, one worker", rate.0, ""));
        figure("proxy: CPU of a request", "us", (own_rate.1, "nginx, one worker", rate.1, ""));
    }

    let watches = number("CAIRN_BENCH_WATCHES", 10_000);
    let mut held = Vec::with_capacity(watches);
    for at in 0..watches {
        let token = tokens.get(at % TOKENS).cloned().ok_or("no token")?;
        let way = Way { token, ..ours.clone() };
        let mut sender = way.connect().await?;
        let mut response = sender.send_request(way.request("?watch=true")?).await?;
        let first = response.body_mut().frame().await.ok_or("a watch that ended")??;
        held.push((sender, response, first));
    }
    let resident = resident_mb(proxy.child.id())?;
    figure(&format!("proxy: {watches} open watches"), "MB", (resident, "what 10,000 may take", 400.0, "<= 1"));
    figure("proxy: tokens signed on one core", "1/s", (signed, "one", 1.0, ""));
    drop(held);
    Ok(())
}
