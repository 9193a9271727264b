//! Looking at networks from outside: which addresses answer, which ports are open, what stands behind them.
//!
//! **Not for** deciding what to scan or what an answer means (the `network-scan` plugin), and not for talking to what is found: beyond a
//! greeting that a port sends by itself and a TLS handshake nothing is exchanged.
//!
//! Invariants:
//! - only networks that the installation allows are scanned, no faster than it allows, and one scan at a time;
//! - an address that `guard` refuses gets no packet;
//! - only unknown keys are asked again, and what could not be decided is told (`doubt`), never guessed;
//! - an answer counts only when it shows what only who got the probe can know;
//! - memory is bits per probe and bounded, dropping a call's future stops it within a batch.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Clock, Network};
use futures::StreamExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::call::{CallError, CallTag};
use crate::guard::{Guard, special};
use crate::record::{CallRecord, Recorder, RequestRecord, ResponseRecord};

mod bitmap;
mod certificate;
mod connect;
mod echo;
mod engine;
mod hello;
mod packet;
mod report;
mod socket;
mod syn;
mod tls;

pub use certificate::Certificate;
pub use tls::TlsShown;

use echo::Echo;
use engine::{Outcome, Pace};
use syn::{Keys, Syn};

/// Reads any bytes as what a scanned host answers.
pub(crate) fn read_any(bytes: &[u8]) {
    let behind = packet::behind_ipv4(bytes).unwrap_or_default();
    for segment in [bytes, behind] {
        let _ = (packet::echo_reply(false, segment), packet::echo_reply(true, segment), packet::tcp_answer(segment));
    }
    hello::read_any(bytes);
    let _ = certificate::facts(bytes);
}

/// Most addresses of one call.
pub const ADDRESSES_MAX: usize = 1 << 16;

/// How many addresses one sweep asks at most, so that no scan keeps others waiting for long.
pub fn addresses_at_once(packets_per_s: u32) -> usize {
    usize::try_from(packets_per_s).map_or(ADDRESSES_MAX, |rate| (rate * PASS_S).min(ADDRESSES_MAX))
}
/// Most probes of one port scan that are held at one time: half a mebibyte of bits for each of two maps.
const PROBES: usize = 1 << 22;
/// How long one pass may keep other scans of this process waiting, at the rate of its job.
const PASS_S: usize = 60;
/// Most open ports of one call: some machines in the way accept every connection for everybody behind them.
const OPEN_MAX: usize = 1 << 18;
/// Ports that are looked at at one time.
const GREETED_AT_ONCE: usize = 64;
/// How long a port may take to accept, and then to say something by itself.
const GREETING_WAIT: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(1_500));
/// Most bytes of a greeting.
const GREETING_BYTES: usize = 256;

/// At most `max` characters, none of them a control character.
fn printable(text: &str, max: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max).collect()
}

/// Networks that may be scanned: RFC 1918, RFC 6598, RFC 4193. Others are somebody else's until proved otherwise.
const PRIVATE: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];
static PRIVATE_NETWORKS: LazyLock<Vec<Network>> =
    LazyLock::new(|| PRIVATE.iter().filter_map(|text| text.parse().ok()).collect());

/// Whether a network may be scanned wherever it is: whether all of it is private.
pub fn is_private(network: &Network) -> bool {
    PRIVATE_NETWORKS.iter().any(|all| all.contains(network.first()) && all.host_bits() >= network.host_bits())
}

/// Why others are not.
pub const ONLY_PRIVATE: &str =
    "only private networks are scanned (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, fc00::/7)";
/// Most probes per second of this process.
pub const PACKETS_PER_S_MAX: u32 = 1_000_000;
/// One scan at a time in this process, so that its rate is the process's rate.
static TURN: Semaphore = Semaphore::const_new(1);

/// How addresses are asked whether they are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepHow {
    /// By ICMP echo, first.
    pub echo: bool,
    /// By a SYN to each of these ports in turn, where nothing answered yet; a refusal is an answer.
    pub ports: Vec<u16>,
    /// Probes per second.
    pub packets_per_s: u32,
}

/// What a sweep found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Addresses that answered, ascending.
    pub alive: Vec<IpAddr>,
    /// Why it is not known of every address.
    pub doubt: Option<String>,
}

/// What a port scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScannedPorts {
    /// Open ports, ascending.
    pub open: Vec<SocketAddr>,
    /// Why it is not known of every port.
    pub doubt: Option<String>,
}

/// What an open port showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeted {
    /// Where.
    pub at: SocketAddr,
    /// What it said by itself; an error where it could not be asked.
    pub greeting: Result<Bytes, String>,
    /// What its TLS shows, where it was asked for and spoken; an error where that could not be told.
    pub tls: Result<Option<TlsShown>, String>,
}

/// Looking at networks.
#[async_trait]
pub trait ScanReach: Send + Sync {
    /// Whether at most [`ADDRESSES_MAX`] addresses may be scanned from here. Nothing is sent.
    fn may_scan(&self, addresses: &[IpAddr]) -> Result<(), CallError>;
    /// Which of at most [`ADDRESSES_MAX`] addresses answer.
    async fn sweep(&self, addresses: &[IpAddr], how: &SweepHow, tag: &CallTag) -> Result<Swept, CallError>;
    /// Which of these ports of these addresses are open.
    async fn ports(
        &self,
        addresses: &[IpAddr],
        ports: &[u16],
        packets_per_s: u32,
        tag: &CallTag,
    ) -> Result<ScannedPorts, CallError>;
    /// What open ports say by themselves, and the TLS of those that are asked for it. In the order of `at`.
    async fn greet(&self, at: &[(SocketAddr, bool)], tag: &CallTag) -> Result<Vec<Greeted>, CallError>;
}

/// Looks at networks from this machine.
pub struct Scanner {
    guard: Guard,
    clock: Arc<dyn Clock>,
    recorder: Arc<Recorder>,
}

/// Stops a scan on its thread when the one who waits for it is gone.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A family's addresses, and whether it is IPv6.
fn families(addresses: &[IpAddr]) -> [(bool, Vec<IpAddr>); 2] {
    [false, true].map(|is_v6| {
        let mut some: Vec<IpAddr> = addresses.iter().copied().filter(|address| address.is_ipv6() == is_v6).collect();
        some.sort_unstable();
        some.dedup();
        (is_v6, some)
    })
}

/// Addresses and ports in turns of so many probes.
fn turns<'a>(
    families: &'a [(bool, Vec<IpAddr>); 2],
    ports: &'a [u16],
    probes: usize,
) -> Vec<(bool, &'a [IpAddr], &'a [u16])> {
    let mut turns = Vec::new();
    for (is_v6, family) in families {
        for ports in ports.chunks(probes.max(1)) {
            turns.extend(family.chunks((probes / ports.len()).max(1)).map(|some| (*is_v6, some, ports)));
        }
    }
    turns
}

/// Takes open ports up to [`OPEN_MAX`], and never more into memory; says so where there are more.
fn keep_bounded(open: &mut Vec<SocketAddr>, found: impl Iterator<Item = SocketAddr>) -> Option<String> {
    let mut found = found.fuse();
    open.extend(found.by_ref().take(OPEN_MAX.saturating_sub(open.len())));
    found.next().map(|_| format!("more than {OPEN_MAX} open ports: something accepts every connection"))
}

/// Puts one more reason to the others.
fn doubted(doubt: &mut Option<String>, more: Option<String>) {
    if let Some(more) = more {
        match doubt {
            Some(text) if text.contains(&more) || text.len() > 400 => {}
            Some(text) => *text = format!("{text}; {more}"),
            None => *doubt = Some(more),
        }
    }
}

/// One scan of one kind, over with what it needed.
struct Scanned {
    outcome: Outcome,
    method: &'static str,
}

impl Scanner {
    /// A scanner within limits.
    pub fn new(guard: Guard, clock: Arc<dyn Clock>, recorder: Arc<Recorder>) -> Self {
        Self { guard, clock, recorder }
    }

    /// The rate, and no address among them that must not be scanned.
    fn check(&self, addresses: &[IpAddr], packets_per_s: u32) -> Result<u32, CallError> {
        if addresses.len() > ADDRESSES_MAX {
            return Err(CallError::TooLarge { max: ADDRESSES_MAX });
        }
        for address in addresses {
            let refused =
                |error: crate::guard::Refused| CallError::Denied(format!("{error}: leave it out by `exclude`"));
            self.guard.check(*address).map_err(refused)?;
            // What is special and passed the guard was allowed by name.
            if !is_private(&Network::of(*address)) && special(*address).is_none() {
                return Err(CallError::Denied(format!("`{address}` is not private: {ONLY_PRIVATE}")));
            }
        }
        Ok(packets_per_s.clamp(1, PACKETS_PER_S_MAX))
    }

    /// Runs a scan on a thread of its own.
    async fn on_thread(
        &self,
        scan: impl FnOnce(&AtomicBool) -> Result<Option<Scanned>, CallError> + Send + 'static,
    ) -> Result<Option<Scanned>, CallError> {
        let turn = TURN.acquire().await.map_err(|_| CallError::Cancelled)?;
        let stop = Arc::new(AtomicBool::new(false));
        let _stopped = StopOnDrop(Arc::clone(&stop));
        let work = move || {
            let _turn = turn;
            scan(&stop)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| CallError::Unreachable(error.to_string()))?
    }

    async fn echo(&self, is_v6: bool, addresses: Vec<IpAddr>, rate: u32) -> Result<Scanned, CallError> {
        let scan = move |stop: &AtomicBool| {
            let mut prober = Echo::open(is_v6, &addresses)?;
            let outcome = engine::run(&mut prober, addresses.len(), 1, &mut Pace::new(rate), stop);
            Ok(Some(Scanned { outcome, method: "icmp echo" }))
        };
        self.on_thread(scan).await?.ok_or(CallError::Cancelled)
    }

    /// By raw SYNs where that is permitted, else by connections.
    async fn tcp(
        &self,
        is_v6: bool,
        keys: Keys,
        addresses: &Arc<[IpAddr]>,
        ports: &Arc<[u16]>,
        rate: u32,
    ) -> Result<Scanned, CallError> {
        let (targets, wanted) = (Arc::clone(addresses), Arc::clone(ports));
        let scan = move |stop: &AtomicBool| {
            let mut prober = match Syn::open(is_v6, keys, &targets, &wanted) {
                Ok(prober) => prober,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
                Err(error) => return Err(CallError::Unreachable(format!("no TCP socket: {error}"))),
            };
            let (count, variants) = match keys {
                Keys::Addresses => (targets.len(), wanted.len()),
                Keys::Ports => (targets.len() * wanted.len(), 1),
            };
            let outcome = engine::run(&mut prober, count, variants, &mut Pace::new(rate), stop);
            Ok(Some(Scanned { outcome, method: "tcp syn" }))
        };
        if let Some(scanned) = self.on_thread(scan).await? {
            return Ok(scanned);
        }
        let _turn = TURN.acquire().await.map_err(|_| CallError::Cancelled)?;
        let outcome = connect::run(addresses, ports, keys, rate).await;
        Ok(Scanned { outcome, method: "tcp connect" })
    }

    async fn sweep_unrecorded(
        &self,
        addresses: &[IpAddr],
        how: &SweepHow,
        said: &mut report::Sweep,
    ) -> Result<Swept, CallError> {
        let rate = self.check(addresses, how.packets_per_s)?;
        let (mut alive, mut doubt) = (Vec::new(), None);
        for (is_v6, mut left) in families(addresses) {
            if how.echo && !left.is_empty() {
                let Scanned { outcome, method } = self.echo(is_v6, left.clone(), rate).await?;
                said.pass(method, left.len(), &outcome);
                doubted(&mut doubt, outcome.doubt);
                left = split(left, &outcome.answered, &mut alive);
            }
            if !how.ports.is_empty() && !left.is_empty() {
                let targets: Arc<[IpAddr]> = left.as_slice().into();
                let Scanned { outcome, method } =
                    self.tcp(is_v6, Keys::Addresses, &targets, &how.ports.as_slice().into(), rate).await?;
                said.pass(method, left.len(), &outcome);
                doubted(&mut doubt, outcome.doubt);
                split(left, &outcome.answered, &mut alive);
            }
        }
        alive.sort_unstable();
        said.alive(&alive);
        Ok(Swept { alive, doubt })
    }

    async fn ports_unrecorded(
        &self,
        addresses: &[IpAddr],
        ports: &[u16],
        packets_per_s: u32,
        said: &mut report::Sweep,
    ) -> Result<ScannedPorts, CallError> {
        let rate = self.check(addresses, packets_per_s)?;
        let (mut open, mut doubt) = (Vec::new(), None);
        let probes = usize::try_from(rate).map_or(PROBES, |rate| PROBES.min(rate * PASS_S));
        let both = families(addresses);
        for (is_v6, targets, ports) in turns(&both, ports, probes) {
            let wanted: Arc<[u16]> = ports.into();
            let targets: Arc<[IpAddr]> = targets.into();
            let Scanned { outcome, method } = self.tcp(is_v6, Keys::Ports, &targets, &wanted, rate).await?;
            said.pass(method, targets.len() * ports.len(), &outcome);
            doubted(&mut doubt, outcome.doubt);
            let found = outcome.yes.iter().filter_map(|key| {
                let address = targets.get(key % targets.len().max(1))?;
                Some(SocketAddr::new(*address, *ports.get(key / targets.len().max(1))?))
            });
            if let Some(reason) = keep_bounded(&mut open, found) {
                doubted(&mut doubt, Some(reason));
                break;
            }
        }
        open.sort_unstable();
        said.open(&open);
        Ok(ScannedPorts { open, doubt })
    }

    fn record(&self, tag: &CallTag, asked: report::Asked, outcome: Result<Bytes, &CallError>) {
        let kept = outcome.as_ref().ok().filter(|_| tag.keep).cloned();
        let outcome = outcome.map_err(ToString::to_string).map(|body| ResponseRecord {
            status: 200,
            date: None,
            request_id: None,
            digest: crypto::sha256(&body),
            size: body.len() as u64,
            tls_leaf: None,
        });
        self.recorder.push(CallRecord {
            scope: tag.scope.clone(),
            about: tag.about.clone(),
            request: RequestRecord {
                system: "scan".to_owned(),
                endpoint: asked.endpoint,
                operation: asked.operation,
                params_digest: asked.params,
            },
            outcome,
            started: asked.started,
            finished: self.clock.now(),
            retries: 0,
            kept,
        });
    }
}

/// Moves those that answered to the others, and leaves the rest.
fn split(addresses: Vec<IpAddr>, answered: &bitmap::Bitmap, alive: &mut Vec<IpAddr>) -> Vec<IpAddr> {
    let mut left = Vec::new();
    for (at, address) in addresses.into_iter().enumerate() {
        if answered.has(at) { &mut *alive } else { &mut left }.push(address);
    }
    left
}

/// What a port says by itself. Nothing is sent to it: some devices act on whatever arrives.
async fn greeting(at: SocketAddr) -> Result<Bytes, String> {
    let (to_connect, to_speak) = GREETING_WAIT;
    let connecting = tokio::time::timeout(to_connect, TcpStream::connect(at)).await;
    let mut stream = connecting
        .map_err(|_| format!("no connection within {} s", to_connect.as_secs()))?
        .map_err(|error| error.to_string())?;
    let mut said = Vec::with_capacity(GREETING_BYTES);
    let reading = async {
        // The first line, or what fits: greetings of one line come in one piece or in several.
        while said.len() < GREETING_BYTES && !said.contains(&b'\n') {
            let room = u64::try_from(GREETING_BYTES - said.len()).unwrap_or(0);
            if (&mut stream).take(room).read_buf(&mut said).await.unwrap_or(0) == 0 {
                break;
            }
        }
    };
    // Silence is an answer too.
    let _ = tokio::time::timeout(to_speak, reading).await;
    Ok(said.into())
}

#[async_trait]
impl ScanReach for Scanner {
    fn may_scan(&self, addresses: &[IpAddr]) -> Result<(), CallError> {
        self.check(addresses, 1).map(drop)
    }

    async fn sweep(&self, addresses: &[IpAddr], how: &SweepHow, tag: &CallTag) -> Result<Swept, CallError> {
        let asked = report::Asked::sweep(addresses, how, self.clock.now());
        let mut said = report::Sweep::default();
        let result = self.sweep_unrecorded(addresses, how, &mut said).await;
        self.record(tag, asked, result.as_ref().map(|_| said.into_bytes()));
        result
    }

    async fn ports(
        &self,
        addresses: &[IpAddr],
        ports: &[u16],
        packets_per_s: u32,
        tag: &CallTag,
    ) -> Result<ScannedPorts, CallError> {
        let asked = report::Asked::ports(addresses, ports, self.clock.now());
        let mut said = report::Sweep::default();
        let result = self.ports_unrecorded(addresses, ports, packets_per_s, &mut said).await;
        self.record(tag, asked, result.as_ref().map(|_| said.into_bytes()));
        result
    }

    async fn greet(&self, at: &[(SocketAddr, bool)], tag: &CallTag) -> Result<Vec<Greeted>, CallError> {
        let addresses: Vec<IpAddr> = at.iter().map(|(at, _)| at.ip()).collect();
        let asked = report::Asked::greet(at, self.clock.now());
        if let Err(error) = addresses.chunks(ADDRESSES_MAX).try_for_each(|some| self.check(some, 1).map(drop)) {
            self.record(tag, asked, Err(&error));
            return Err(error);
        }
        let looking = futures::stream::iter(at.iter().copied()).map(|(at, is_tls)| async move {
            // A port of TLS waits for its client and would only let the time pass.
            if is_tls {
                let tls = tls::look(at).await;
                if !matches!(tls, Ok(None)) {
                    return Greeted { at, greeting: Ok(Bytes::new()), tls };
                }
            }
            Greeted { at, greeting: greeting(at).await, tls: Ok(None) }
        });
        let greeted: Vec<Greeted> = looking.buffered(GREETED_AT_ONCE).collect().await;
        self.record(tag, asked, Ok(report::greeted(&greeted)));
        Ok(greeted)
    }
}

#[cfg(test)]
mod tests;
