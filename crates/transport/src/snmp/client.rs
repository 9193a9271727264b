//! Requests to devices: tried again, matched, bounded, recorded.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{Clock, Rng};
use serde_json::{Map, Value};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use super::credentials::{Kind, SnmpCredentials, SnmpSecurity, User};
use super::message::{self, Ask, Pdu};
use super::pace::{Pace, Patience};
use super::reach::{SnmpReach, Walked};
use super::socket::{Came, Socket};
use super::usm::{self, Engine, NoAnswer};
use super::value::{Oid, VarBind};
use super::walk::Cursor;
use crate::budget::{Budget, Hold, Share};
use crate::guard::Guard;
use crate::record::{CallRecord, Recorder, RequestRecord, ResponseRecord};
use crate::{CallError, CallTag};

/// Requests that one device gets at the same time.
const DEVICE_REQUESTS: usize = 2;
/// How often a device may tell us its time or its engine anew within one request.
const RESYNCS: u32 = 3;

/// Limits and where to go.
#[derive(Debug, Clone)]
pub struct SnmpConfig {
    /// The longest wait for one answer. The first wait is half of it; waits double from try to try up to it.
    pub wait_max: Duration,
    /// How often a request is sent before the device counts as silent.
    pub tries: u32,
    /// How long we may wait for one device in all.
    pub device_time_max: Duration,
    /// How many bytes one device may answer in all.
    pub device_bytes_max: u64,
    /// How many objects one walk may bring.
    pub walk_objects_max: usize,
    /// How many objects one device may show in all: each costs us more memory than it has bytes.
    pub device_objects_max: usize,
}

impl Default for SnmpConfig {
    fn default() -> Self {
        Self {
            wait_max: Duration::from_secs(2),
            tries: 3,
            device_time_max: Duration::from_mins(10),
            device_bytes_max: 32 * 1_024 * 1_024,
            walk_objects_max: 200_000,
            device_objects_max: 1_000_000,
        }
    }
}

impl SnmpConfig {
    /// From a job's settings `wait_s`, `target_timeout_s`, `target_mib`; errors say what to change.
    pub fn from_settings(settings: &Map<String, Value>, call_timeout: Duration) -> Result<Self, CallError> {
        let number = |key: &str, default: u64, most: u64| match settings.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .or_else(|| value.as_str()?.parse().ok())
                .filter(|number| (1..=most).contains(number))
                .ok_or_else(|| CallError::Malformed(format!("`{key}` is a whole number from 1 to {most}"))),
        };
        Ok(Self {
            wait_max: Duration::from_secs(number("wait_s", 2, 60)?).min(call_timeout),
            device_time_max: Duration::from_secs(number("target_timeout_s", 600, 3_600)?),
            device_bytes_max: number("target_mib", 32, 256)? * 1_024 * 1_024,
            ..Self::default()
        })
    }
}

/// What is known of one device.
pub(super) struct Device {
    pub(super) address: SocketAddr,
    engine: tokio::sync::Mutex<Option<Arc<Engine>>>,
    engine_id: Mutex<Option<Vec<u8>>>,
    pub(super) pace: Mutex<Pace>,
    patience: Mutex<Patience>,
    places: Semaphore,
    bytes: AtomicU64,
    pub(super) objects: AtomicUsize,
    waited_us: AtomicU64,
    pub(super) memory: Hold,
}

/// Many devices, one credential.
pub struct SnmpClient {
    pub(super) credentials: SnmpCredentials,
    pub(super) config: SnmpConfig,
    guard: Guard,
    recorder: Arc<Recorder>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    sockets: [OnceCell<Socket>; 2],
    devices: Mutex<HashMap<SocketAddr, Arc<Device>>>,
    pub(super) memory: Arc<Share>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SnmpClient {
    /// Makes a client; a socket is opened with the first request.
    pub fn new(
        credentials: SnmpCredentials,
        config: SnmpConfig,
        guard: Guard,
        recorder: Arc<Recorder>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        Self {
            credentials,
            config,
            guard,
            recorder,
            clock,
            rng,
            sockets: [OnceCell::new(), OnceCell::new()],
            devices: Mutex::default(),
            memory: Budget::default().share(),
        }
    }

    /// The same with a share of this memory for what its devices answer.
    #[must_use]
    pub fn drawing_on(self, budget: &Budget) -> Self {
        Self { memory: budget.share(), ..self }
    }

    fn device(&self, address: SocketAddr) -> Result<Arc<Device>, CallError> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        self.guard.check(address.ip())?;
        let mut devices = lock(&self.devices);
        let device = devices.entry(address).or_insert_with(|| {
            Arc::new(Device {
                address,
                engine: tokio::sync::Mutex::default(),
                engine_id: Mutex::default(),
                pace: Mutex::default(),
                patience: Mutex::new(Patience::new(self.config.wait_max)),
                places: Semaphore::new(DEVICE_REQUESTS),
                bytes: AtomicU64::new(0),
                objects: AtomicUsize::new(0),
                waited_us: AtomicU64::new(0),
                memory: self.memory.hold(),
            })
        });
        Ok(Arc::clone(device))
    }

    async fn socket(&self, address: SocketAddr) -> Result<&Socket, CallError> {
        let [v4, v6] = &self.sockets;
        let cell = if address.is_ipv4() { v4 } else { v6 };
        cell.get_or_try_init(|| Socket::open(address)).await
    }

    /// A number that nobody can foresee, from 1 to 2^31 - 1.
    fn id(&self) -> i32 {
        let mut bytes = [0; 4];
        self.rng.fill(&mut bytes);
        i32::from_be_bytes(bytes).saturating_abs().max(1)
    }

    /// Sends a datagram until `read` finds its answer.
    async fn exchange<T>(
        &self,
        device: &Device,
        id: i32,
        datagram: &[u8],
        tries: u32,
        read: impl Fn(&[u8]) -> Result<T, NoAnswer> + Send,
    ) -> Result<(T, u32), NoAnswer> {
        let refused = NoAnswer::Refused;
        let socket = self.socket(device.address).await.map_err(refused)?;
        let mut inbox = socket.expect(device.address, id).ok_or(NoAnswer::Strange("an id that is in use"))?;
        let (mut strange, mut waited) = (None, Duration::ZERO);
        for tried in 0..tries.max(1) {
            let begun = Instant::now();
            socket.send(datagram, device.address).await.map_err(refused)?;
            let wait = lock(&device.patience).wait(tried);
            let until = begun + wait;
            while let Ok(came) = tokio::time::timeout_at(until, inbox.next()).await {
                let datagram = match came {
                    Came::Datagram(datagram) => datagram,
                    Came::Garbage(why) => {
                        strange = Some(why);
                        continue;
                    }
                };
                let length = u64::try_from(datagram.len()).unwrap_or(u64::MAX);
                if device.bytes.fetch_add(length, Ordering::Relaxed) + length > self.config.device_bytes_max {
                    let max = usize::try_from(self.config.device_bytes_max).unwrap_or(usize::MAX);
                    return Err(refused(CallError::TooLarge { max }));
                }
                match read(&datagram) {
                    Ok(answer) => {
                        // An answer to a later try may be one to the first (Karn's rule).
                        if tried == 0 {
                            lock(&device.patience).answered(begun.elapsed());
                        }
                        return Ok((answer, tried));
                    }
                    Err(NoAnswer::Strange(why)) => strange = Some(why),
                    Err(other) => return Err(other),
                }
            }
            waited += wait;
        }
        Err(refused(match strange {
            Some(why) => CallError::Malformed(format!("{} sent {why}", device.address)),
            None => CallError::Timeout(waited),
        }))
    }

    /// The engine at the address, asked for when it is not known.
    async fn engine(&self, device: &Device, user: &User, tries: u32) -> Result<Arc<Engine>, NoAnswer> {
        let mut known = device.engine.lock().await;
        if let Some(engine) = &*known {
            return Ok(Arc::clone(engine));
        }
        let id = self.id();
        let datagram = usm::discovery(id, self.id());
        let read = |datagram: &[u8]| usm::discovered(datagram, user, &*self.rng);
        let (engine, _) = self.exchange(device, id, &datagram, tries, read).await?;
        *lock(&device.engine_id) = Some(engine.id.clone());
        Ok(Arc::clone(known.insert(Arc::new(engine))))
    }

    /// One request and its answer, while the device has time left. Only waiting counts: a device may come late to its turn.
    pub(super) async fn ask(
        &self,
        device: &Device,
        ask: Ask,
        oids: &[Oid],
        tries: u32,
        retries: &mut u32,
    ) -> Result<Pdu, CallError> {
        if u128::from(device.waited_us.load(Ordering::Relaxed)) > self.config.device_time_max.as_micros() {
            return Err(CallError::Timeout(self.config.device_time_max));
        }
        let begun = Instant::now();
        let outcome = self.asked(device, ask, oids, tries, retries).await;
        let waited = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        device.waited_us.fetch_add(waited, Ordering::Relaxed);
        outcome
    }

    async fn asked(
        &self,
        device: &Device,
        ask: Ask,
        oids: &[Oid],
        tries: u32,
        retries: &mut u32,
    ) -> Result<Pdu, CallError> {
        let _place = device.places.acquire().await.map_err(|_| CallError::Cancelled)?;
        for _ in 0..=RESYNCS {
            let outcome = match &self.credentials.0 {
                Kind::Community { version, community } => {
                    let id = self.id();
                    let datagram = message::community(*version, community.expose(), ask, id, oids);
                    let read = |datagram: &[u8]| {
                        message::read_community(*version, community.expose(), datagram)
                            .map_err(|error| NoAnswer::Strange(error.0))
                    };
                    self.exchange(device, id, &datagram, tries, read).await
                }
                Kind::User(user) => match self.engine(device, user, tries).await {
                    Err(error) => Err(error),
                    Ok(engine) => {
                        let (id, request_id) = (self.id(), self.id());
                        let datagram = engine.request(user, id, ask, request_id, oids)?;
                        let read = |datagram: &[u8]| engine.answer(user, datagram, request_id);
                        self.exchange(device, id, &datagram, tries, read).await
                    }
                },
            };
            match outcome {
                Ok((pdu, tried)) => {
                    *retries += tried;
                    return Ok(pdu);
                }
                Err(NoAnswer::Refused(error)) => return Err(error),
                Err(NoAnswer::Engine) => *device.engine.lock().await = None,
                Err(NoAnswer::Clock | NoAnswer::Strange(_)) => {}
            }
            *retries += 1;
        }
        Err(CallError::Malformed("the device keeps changing its engine or its time".to_owned()))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one record")]
    fn record(
        &self,
        device: SocketAddr,
        operation: String,
        tag: &CallTag,
        started: domain::Timestamp,
        retries: u32,
        found: &[&[VarBind]],
        failed: Option<&CallError>,
    ) {
        let body = transcript(found);
        let outcome = match failed {
            Some(error) if body.is_empty() => Err(error.to_string()),
            // What came before a failure is evidence too; the scope's coverage says that it is not all.
            _ => Ok(ResponseRecord {
                status: if failed.is_some() { 206 } else { 200 },
                date: None,
                request_id: None,
                digest: crypto::sha256(body.as_bytes()),
                size: u64::try_from(body.len()).unwrap_or(u64::MAX),
                tls_leaf: None,
            }),
        };
        let kept = (tag.keep && outcome.is_ok()).then(|| Bytes::from(body));
        self.recorder.push(CallRecord {
            scope: tag.scope.clone(),
            about: tag.about.clone(),
            request: RequestRecord {
                system: "snmp".to_owned(),
                endpoint: format!("snmp://{device}"),
                params_digest: crypto::sha256(operation.as_bytes()),
                operation,
            },
            outcome,
            started,
            finished: self.clock.now(),
            retries,
            kept,
        });
    }
}

/// The objects as text, one a line: what is hashed, and kept where evidence needs it.
fn transcript(found: &[&[VarBind]]) -> String {
    let mut text = String::new();
    for (oid, value) in found.iter().copied().flatten() {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{oid} = {value}");
    }
    text
}

/// Names of objects for a record, not endlessly many.
fn named(verb: &str, oids: &[Oid]) -> String {
    let names: Vec<String> = oids.iter().take(32).map(Oid::to_string).collect();
    format!("{verb} {}", names.join(" "))
}

#[async_trait]
impl SnmpReach for SnmpClient {
    fn security(&self) -> SnmpSecurity {
        self.credentials.security()
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, CallError> {
        let wait = self.config.wait_max * 2;
        let resolving = tokio::time::timeout(wait, self.guard.resolve(host, port));
        let found = resolving.await.map_err(|_| CallError::Timeout(wait))??;
        let mut found: Vec<SocketAddr> =
            found.iter().map(|address| SocketAddr::new(address.ip().to_canonical(), port)).collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn engine_id(&self, device: SocketAddr) -> Option<Vec<u8>> {
        let address = SocketAddr::new(device.ip().to_canonical(), device.port());
        let device = lock(&self.devices).get(&address).cloned()?;
        lock(&device.engine_id).clone()
    }

    fn forget(&self, device: SocketAddr) {
        let address = SocketAddr::new(device.ip().to_canonical(), device.port());
        if let Some(device) = lock(&self.devices).get(&address) {
            device.memory.give_back();
        }
    }

    async fn get(&self, address: SocketAddr, oids: &[Oid], tag: &CallTag) -> Result<Vec<VarBind>, CallError> {
        let started = self.clock.now();
        let (mut found, mut retries) = (Vec::new(), 0);
        let result = match self.device(address) {
            Ok(device) => self.get_some(&device, oids, &mut found, &mut retries).await,
            Err(error) => Err(error),
        };
        self.record(address, named("get", oids), tag, started, retries, &[&found], result.as_ref().err());
        result.map(|()| found)
    }

    async fn walk(&self, address: SocketAddr, columns: &[Oid], tag: &CallTag) -> Walked {
        let started = self.clock.now();
        let mut cursors: Vec<Cursor> = columns.iter().map(Cursor::new).collect();
        let mut retries = 0;
        let result = match self.device(address) {
            Ok(device) => self.walk_all(&device, &mut cursors, &mut retries).await,
            Err(error) => Err(error),
        };
        let failed = result.err();
        let found: Vec<&[VarBind]> = cursors.iter().map(Cursor::found).collect();
        self.record(address, named("walk", columns), tag, started, retries, &found, failed.as_ref());
        Walked { columns: cursors.into_iter().map(Cursor::into_found).collect(), failed }
    }
}
