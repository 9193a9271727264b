//! Many agents and relays against one real server, which is restarted under them; `benches/fleet.py` starts both.
//!
//! What is measured: the server's memory for each that is connected and says nothing, how long all take to come back after the server was
//! killed, and how fast bytes go through a relay's channel, beside bare TLS over the same loopback in the same process.
//!
//! Arguments: the server's port, its authority's file, the command line's `config.json`, how many agents, how many relays. It says `restart` on
//! standard output where the server is to be killed and started anew, and reads the new process's number from standard input.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints, it measures, and it ends where something fails"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use crypto::system::SystemRng;
use gateway::Channel;
use gateway::session::{Session, Timing};
use gateway::websocket::Side;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use wire::frame::MessageKind;

#[path = "../tests/journey/simulated.rs"]
mod simulated;

use simulated::{Simulated, Way};

/// A restarted server's memory is looked at after so long, when what a start or a rush took is given back.
const SETTLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_mins(10);
/// How many bytes go through the channel, and in which messages.
const CARRIED: usize = 512 * 1_024 * 1_024;
const MESSAGE: usize = 256 * 1_024;

fn show(bench: &str, value: f64, unit: &str, (compared_to, compared_value): (&str, f64), goal: &str) {
    let line = json!({
        "bench": bench, "value": value, "unit": unit, "compared_to": compared_to, "compared_value": compared_value,
        "ratio": value / compared_value, "goal": goal,
    });
    println!("{line}");
}

/// A line of a process's status, in bytes.
fn memory(process: u32, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1_024.0
}

async fn until(what: &str, mut look: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

/// Has the server killed and started; its process.
async fn restart() -> u32 {
    println!("restart");
    let read = || std::io::stdin().lines().next().unwrap().unwrap();
    tokio::task::spawn_blocking(read).await.unwrap().trim().parse().unwrap()
}

async fn fleet(way: Way, agents: usize, relays: usize) {
    let began = Instant::now();
    let fleet = Simulated::enroll(way, agents, relays).await;
    eprintln!("{agents} agents and {relays} relays enrolled in {:?}", began.elapsed());
    let server = restart().await;
    tokio::time::sleep(SETTLE).await;
    let alone = memory(server, "VmRSS:");
    fleet.link();
    until("all relays", || fleet.all_linked()).await;
    tokio::time::sleep(SETTLE).await;
    let linked = memory(server, "VmRSS:");
    fleet.start();
    fleet.check_in();
    let took = until("all agents", || fleet.all_back()).await;
    eprintln!("all agents checked in for the first time within {took:?}");
    tokio::time::sleep(SETTLE).await;
    let all = memory(server, "VmRSS:");
    let each = |bytes: f64, many: usize| bytes / many as f64 / 1_000.0;
    show("memory of an idle connected relay", each(linked - alone, relays), "KB", ("goal", 25.0), "<= 1");
    show("memory of an idle connected agent", each(all - linked, agents), "KB", ("goal", 25.0), "<= 1");
    show(
        &format!("server RSS with {relays} relays and {agents} agents"),
        all / 1e6,
        "MB",
        ("without them", alone / 1e6),
        "",
    );

    // They do not wait for the server: it comes up among those who look for it.
    let (asked, stop) = (tokio::spawn(restart()), CancellationToken::new());
    until("the end of the server", || !fleet.all_linked()).await;
    fleet.check_in();
    let watched = async {
        until("the return of all", || fleet.all_back()).await;
        let at = Instant::now();
        stop.cancel();
        at
    };
    let (health, back) = tokio::join!(fleet.healthz(stop.clone()), watched);
    let server = asked.await.unwrap();
    let ready = health.since.unwrap();
    let counts = &fleet.counts;
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    eprintln!(
        "storm: {} tries found nobody, {} were told to come later, {} were refused; {} of /healthz failed",
        read(&counts.unreachable),
        read(&counts.put_off),
        read(&counts.refused),
        health.failed
    );
    assert_eq!((read(&counts.refused), health.failed), (0, 0));
    let seconds = back.saturating_duration_since(ready).as_secs_f64();
    show(
        &format!("{relays} relays and {agents} agents, back after the start of a killed server"),
        seconds,
        "s",
        ("a minute", 60.0),
        "<= 1",
    );
    show("the longest wait for /healthz meanwhile", health.slowest.as_secs_f64(), "s", ("a second", 1.0), "");
    show("server peak RSS meanwhile", memory(server, "VmHWM:") / 1e6, "MB", ("idle with all", all / 1e6), "");
}

/// Two ends of TLS over loopback.
async fn tls() -> (tokio_rustls::server::TlsStream<TcpStream>, tokio_rustls::client::TlsStream<TcpStream>) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let der = own.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let server =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![der.clone()], key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        TlsAcceptor::from(Arc::new(server)).accept(stream).await.unwrap()
    };
    let connecting = async {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap()
    };
    tokio::join!(accepting, connecting)
}

/// MB in a second, of two cores for both ends.
fn rate(began: Instant) -> f64 {
    CARRIED as f64 / 1e6 / began.elapsed().as_secs_f64()
}

async fn bare() -> f64 {
    let (mut far, mut near) = tls().await;
    let began = Instant::now();
    let sending = tokio::spawn(async move {
        let message = vec![7; MESSAGE];
        for _ in 0..CARRIED / MESSAGE {
            near.write_all(&message).await.unwrap();
        }
        near.flush().await.unwrap();
        // Kept until all was read: closing with the other end's session tickets unread would reset the connection, and lose what is on its way.
        near
    });
    let (mut piece, mut came) = (vec![0; 64 * 1_024], 0);
    while came < CARRIED {
        came += far.read(&mut piece).await.unwrap();
    }
    let rate = rate(began);
    drop(sending.await.unwrap());
    rate
}

async fn by_channel() -> f64 {
    let (far, near) = tls().await;
    let timing = Timing { heartbeat_ms: 15_000, answer_ms: 15_000 };
    let (server, relay) = (Channel::new(Session::server(timing)), Channel::new(Session::relay(timing)));
    let stop = CancellationToken::new();
    let (own, ended) = (server.clone(), stop.clone());
    let serving =
        tokio::spawn(async move { own.drive(far, Side::Server, BytesMut::new(), 0, &SystemRng, &ended).await });
    let (own, ended) = (relay.clone(), stop.clone());
    let relaying =
        tokio::spawn(async move { own.drive(near, Side::Client, BytesMut::new(), 0, &SystemRng, &ended).await });
    let stream = server.open().unwrap();
    let sending = tokio::spawn(async move {
        let stream = relay.accept().await.unwrap();
        let message = Bytes::from(vec![7; MESSAGE]);
        for _ in 0..CARRIED / MESSAGE {
            stream.send(MessageKind::Page, message.clone()).await.unwrap();
        }
        stream
    });
    let began = Instant::now();
    let mut came = 0;
    while came < CARRIED {
        came += stream.recv().await.unwrap().bytes.len();
    }
    let rate = rate(began);
    drop(sending.await.unwrap());
    stop.cancel();
    drop(tokio::join!(serving, relaying));
    rate
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, authority, config, agents, relays] = arguments.as_slice() else {
        panic!("use `bench_fleet PORT AUTHORITY CONFIG AGENTS RELAYS`")
    };
    crypto::tls::install();
    let way = Way::new(port.parse().unwrap(), Path::new(authority), Path::new(config));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        fleet(way, agents.parse().unwrap(), relays.parse().unwrap()).await;
        let (tunnel, channel) = (bare().await, by_channel().await);
        show("bytes through a relay's channel", channel, "MB/s", ("bare TLS over the same loopback", tunnel), "");
    });
    runtime.shutdown_background();
}
