//! SSH hosts behind the relay: takes users there whom the server lets, for as long as it does.
//!
//! **Not for** the SSH that is spoken (`bastion`).
//!
//! Invariants:
//! - the server is asked before anything of a connection begins, with the user's own token: without the server nobody comes in;
//! - it is asked every second about what is open; what it says no to is cut at once, and what it said an end of ends then, also while it is away;
//! - every connection that began has its end told, as long as the relay lives.

mod tokens;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use bastion::{Admitted, Around, Cut, Dial, Ended, Forwarded, Keys, Witness};
use bytes::Bytes;
use crypto::ed25519::SigningKey;
use crypto::es512::KeySet;
use crypto::ssh::PublicKey;
use domain::{Clock, HostPort, Network, Rng, SshSessionId, Timestamp, UserId};
use fleet::Client;
use gateway::StreamHandle;
use gateway::kubernetes::Listener;
use gateway::kubernetes::headers::bearer;
use gateway::places::{Place, Places};
use gateway::tunnel::Tunnel;
use gateway::websocket::Side;
use gateway::word::Word;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transport::Guard;
use transport::guard::Services;
use wire::destination::{AccessCheck, AccessChecked, SshStanding, Standing};
use wire::recording::RecordingMode;
use wire::relay::Connect;
use wire::ssh_access::{
    SshSessionBegin, SshSessionBegun, SshSessionEnd, SshSessionForward, SshSessionHeld, SshSessionHold, SshWay, UPGRADE,
};

use self::tokens::Tokens;
use crate::config::Settings;
use crate::direct::{Direct, Way};
use crate::recording::Recordings;
use crate::standing::{Ask, is_final, judge};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 1_024;
/// Of these, of one user.
const PER_USER: usize = 64;
/// How far this machine's clock may be off, in seconds: certificates begin a minute early.
const OFF_S_MAX: i64 = 55;
/// Who come without the server, and about whom it is asked: whoever shows a wrong token costs it a question.
const ASKING_MAX: usize = 32;
/// Longest time of a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(8);
/// The same where it is asked whether what is open may stay so.
const CHECKED: Duration = Duration::from_secs(3);
/// How often it is asked.
const CHECK: Duration = Duration::from_secs(1);
/// How often it is told what is open.
const HOLD: Duration = Duration::from_secs(15);
/// After so long without a word about it, what is open ends when what it rests on does by the last one; and after so long with its token.
const UNSURE: Duration = Duration::from_secs(6);
const ALONE: Duration = Duration::from_mins(1);
/// How long a connection to a host may take.
const DIAL: Duration = Duration::from_secs(10);
/// How long to wait before something is told again, and how often.
const AGAIN: Duration = Duration::from_secs(2);
const TELLINGS: u32 = 300;
/// How long a relay that stops waits for the server to know what ended.
const PARTING: Duration = Duration::from_secs(5);
/// Why something is cut.
const GONE: &str = "the grant, the membership or the session behind it is gone";

/// A connection.
struct Open {
    standing: Standing,
    cut: Arc<Cut>,
    word: Word,
    token_expires: Timestamp,
}

struct Inner {
    client: Client,
    networks: Vec<Network>,
    own_ports: Vec<u16>,
    recordings: Recordings,
    places: Arc<Semaphore>,
    /// Those of each user.
    users: Arc<Places<UserId>>,
    /// What all connections hold that nobody took yet.
    crowd: Arc<bastion::Crowd>,
    open: Mutex<HashMap<SshSessionId, Arc<Open>>>,
    telling: TaskTracker,
    /// The way in without the server, and how users reach it.
    direct: OnceLock<Way>,
    /// Those who come by it and are not let in yet.
    asking: Arc<Semaphore>,
    /// What of them is worth a question.
    tokens: Tokens,
    /// Connections that ended, of which the server does not know yet.
    untold: Mutex<HashSet<SshSessionId>>,
    stop: CancellationToken,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

/// The hosts; cheap to clone.
#[derive(Clone)]
pub(crate) struct Hosts(Arc<Inner>);

/// Why nothing begins, for the user.
struct Refused(StatusCode, String);

impl Refused {
    fn away(why: &str) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
    }
}

/// How somebody comes.
#[derive(Debug, Clone, Copy)]
enum Comes {
    /// Over the server's channel, which says where to.
    Through(Connect),
    /// By the relay's own listener, from there.
    Directly(IpAddr),
}

/// What begins.
struct Begun {
    id: SshSessionId,
    admitted: Admitted,
    keys: Keys,
    dial: Box<dyn Dial>,
    required: bool,
    open: Arc<Open>,
    _places: (OwnedSemaphorePermit, Place<UserId>),
}

/// The way to one host.
struct ToHost {
    address: HostPort,
    guard: Guard,
}

#[async_trait]
impl Dial for ToHost {
    async fn dial(&self) -> Result<TcpStream, String> {
        let connected = self.guard.connect(self.address.host(), self.address.port(), DIAL).await;
        connected.map_err(|error| error.to_string())
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(UPGRADE.as_bytes()))
}

/// Tells the server what is forwarded on a connection.
struct Told {
    hosts: Hosts,
    id: SshSessionId,
    /// Whether nothing may happen there that is not on the record.
    required: bool,
}

#[async_trait]
impl Witness for Told {
    async fn forwards(&self, what: &Forwarded) -> Result<(), String> {
        let path = format!("ssh-sessions/{}/forwards", self.id);
        let body = SshSessionForward {
            at: self.hosts.0.clock.now(),
            kind: what.kind.as_str().to_owned(),
            place: what.place.clone(),
        };
        match self.hosts.send(&path, &body, ANSWER).await {
            Ok(_) => Ok(()),
            Err(error) if self.required || is_no(&error) => Err(format!("{error:#}")),
            // As with recordings, what need not be on the record is told when the server is back.
            Err(error) => {
                tracing::warn!(connection = %self.id, error = format!("{error:#}"), "what is forwarded is not told yet");
                self.hosts.tell(self.id, path, body);
                Ok(())
            }
        }
    }
}

impl Hosts {
    pub(crate) fn new(
        client: Client,
        settings: &Settings,
        own_ports: Vec<u16>,
        recordings: Recordings,
        stop: &CancellationToken,
        clock: &Arc<dyn Clock>,
        rng: &Arc<dyn Rng>,
    ) -> Self {
        Self(Arc::new(Inner {
            client,
            networks: settings.networks.clone(),
            own_ports,
            recordings,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            users: Places::new(CONNECTIONS_MAX, PER_USER),
            crowd: Arc::default(),
            open: Mutex::default(),
            telling: TaskTracker::new(),
            direct: OnceLock::new(),
            asking: Arc::new(Semaphore::new(ASKING_MAX)),
            tokens: Tokens::default(),
            untold: Mutex::default(),
            stop: stop.clone(),
            clock: Arc::clone(clock),
            rng: Arc::clone(rng),
        }))
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SshSessionId, Arc<Open>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn untold(&self) -> MutexGuard<'_, HashSet<SshSessionId>> {
        self.0.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves what comes over a stream of the server's channel.
    pub(crate) async fn serve(&self, stream: StreamHandle, connect: Connect) {
        self.serve_one(Tunnel::new(stream, Side::Client), Comes::Through(connect)).await;
    }

    /// Opens the way in without the server, where there is to be one.
    pub(crate) async fn open_direct(&self, direct: Option<Direct>) -> anyhow::Result<Option<Listener>> {
        let Some(direct) = direct else { return Ok(None) };
        let (listener, way) = direct.open().await?;
        let _ = self.0.direct.set(way);
        Ok(Some(listener))
    }

    /// Takes users who come without the server, until the relay stops.
    pub(crate) async fn listen(self, listener: Listener) {
        let hosts = self.clone();
        let serve = move |stream, peer| {
            let hosts = hosts.clone();
            async move { hosts.serve_one(stream, Comes::Directly(peer)).await }
        };
        listener.take(serve, self.0.stop.clone()).await;
    }

    async fn serve_one(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, comes: Comes) {
        let hosts = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let hosts = hosts.clone();
            async move { Ok::<_, Infallible>(hosts.answer(request, comes).await) }
        });
        // Whoever is refused closes the connection, or is closed after `HEAD`: with `keep_alive(false)` the library lets go of one that asked for an
        // upgrade without waiting until the refusal is on its way.
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(16 * 1_024);
        let served = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::select! {
            served = served => {
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection to a host ended before it began");
                }
            }
            () = self.0.stop.cancelled() => {}
        }
    }

    /// Where somebody wants to go, and a place among those whom the server is asked about where it is not the server that sent them.
    fn wanted(
        &self,
        request: &Request<Incoming>,
        comes: Comes,
    ) -> Result<(Connect, Option<OwnedSemaphorePermit>), Refused> {
        let from = match comes {
            Comes::Through(connect) => return Ok((connect, None)),
            Comes::Directly(from) => from,
        };
        let asked = request.uri().path().strip_prefix("/destinations/").and_then(|rest| rest.strip_suffix("/ssh"));
        let destination = asked.and_then(|id| id.parse().ok());
        let destination = destination.ok_or_else(|| {
            Refused(StatusCode::NOT_FOUND, "this is a way to hosts for `cairn ssh`: run that".to_owned())
        })?;
        let token = bearer(request.headers()).map_err(|refusal| Refused(StatusCode::FORBIDDEN, refusal.to_string()))?;
        if !self.0.tokens.may_be_good(token, destination, self.0.clock.now()) {
            return Err(Refused(StatusCode::FORBIDDEN, "the token is not accepted here: make another one".to_owned()));
        }
        let place = Arc::clone(&self.0.asking).try_acquire_owned();
        let place = place.map_err(|_| Refused::away("too many come at once: try again"))?;
        Ok((Connect { destination, from: Some(from) }, Some(place)))
    }

    async fn answer(&self, mut request: Request<Incoming>, comes: Comes) -> Response<Full<Bytes>> {
        let begun = match self.wanted(&request, comes) {
            Ok((connect, _place)) => self.begin(&request, connect).await,
            Err(refused) => Err(refused),
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(Refused(status, why)) => {
                tracing::info!(?comes, why, "a connection to a host does not begin");
                let mut response = Response::new(Full::from(why));
                *response.status_mut() = status;
                return response;
            }
        };
        let (switched, hosts) = (hyper::upgrade::on(&mut request), self.clone());
        self.0.telling.spawn(async move { hosts.run(switched, begun).await });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(UPGRADE));
        response
    }

    /// The library judges the certificates of users by the clock of this machine: one that is off by more than they allow for lets nobody in.
    fn is_on_time(&self) -> Result<(), Refused> {
        let off_s = -self.0.client.identity().clock_offset_ms() / 1_000;
        if off_s.abs() < OFF_S_MAX {
            return Ok(());
        }
        let side = if off_s > 0 { "ahead" } else { "late" };
        Err(Refused::away(&format!(
            "the clock of the relay's machine is {} s {side}, and certificates are judged by it: set it right, then try again",
            off_s.abs()
        )))
    }

    async fn begin(&self, request: &Request<Incoming>, connect: Connect) -> Result<Begun, Refused> {
        if request.method() != Method::GET || !is_upgrade(request.headers()) {
            return Err(Refused(StatusCode::BAD_REQUEST, format!("ask for an upgrade to `{UPGRADE}`")));
        }
        let token = bearer(request.headers()).map_err(|refusal| Refused(StatusCode::FORBIDDEN, refusal.to_string()))?;
        self.is_on_time()?;
        let place = Arc::clone(&self.0.places)
            .try_acquire_owned()
            .map_err(|_| Refused::away("the relay holds as many connections as it may: end some, or try again"))?;
        let key = || SigningKey::generate().map_err(|_| Refused::away("no key can be made"));
        let keys = Keys { towards_user: key()?, towards_host: key()? };
        let line = |key: &SigningKey| PublicKey::of_ed25519(&key.public()).to_string();
        let asked = SshSessionBegin {
            destination: connect.destination,
            token: token.to_owned(),
            from: connect.from,
            host_key: line(&keys.towards_user),
            client_key: line(&keys.towards_host),
        };
        let told: SshSessionBegun = match self.call("ssh-sessions", &asked, ANSWER).await {
            Ok(told) => told,
            Err(error) => return Err(refused(&error)),
        };
        let id = told.id;
        // One that is not known here is not lent here.
        let extensions = told.extensions.iter().filter_map(|name| name.parse().ok()).collect();
        let word = Word::default();
        word.say(told.until);
        let open = Arc::new(Open {
            standing: Standing {
                user: told.user,
                name: Some(told.name.clone()),
                session: told.session,
                destination: connect.destination,
                role: told.account.clone(),
                namespaces: None,
                act_as: Vec::new(),
                groups: Vec::new(),
                ssh: Some(SshStanding { from: connect.from, extensions, force_command: told.force_command.clone() }),
            },
            cut: Arc::default(),
            word,
            token_expires: told.token_expires_at,
        });
        if let Some(terms) = told.recording {
            self.0.recordings.note(connect.destination, terms);
        }
        let required = told.recording.is_some_and(|terms| terms.mode == RecordingMode::Required);
        let own = self.0.users.take(told.user).map_err(|_| {
            let why =
                format!("you have as many connections by this relay as one user may ({PER_USER}): end some of them");
            Refused(StatusCode::CONFLICT, why)
        });
        match own.and_then(|own| Ok((own, self.admitted(told, connect)?))) {
            Ok((own, (admitted, dial))) => {
                self.open().insert(id, Arc::clone(&open));
                Ok(Begun { id, admitted, keys, dial, required, open, _places: (place, own) })
            }
            Err(refused) => {
                let ended = Ended { reason: refused.1.clone(), reached: false, received_bytes: 0, sent_bytes: 0 };
                self.tell_end(id, ended);
                Err(refused)
            }
        }
    }

    /// Reads the server's word.
    fn admitted(&self, told: SshSessionBegun, connect: Connect) -> Result<(Admitted, Box<dyn Dial>), Refused> {
        let networks = &told.source_networks;
        let is_from = |network: &Network| connect.from.is_some_and(|from| network.contains(from));
        if !networks.is_empty() && !networks.iter().any(is_from) {
            return Err(Refused(StatusCode::FORBIDDEN, "this host may not be reached from where you are".to_owned()));
        }
        let odd = |_| Refused::away("the server answers something else: update the relay or the server");
        let keys = told.authorities.iter().map(|line| line.parse::<PublicKey>());
        let address: HostPort =
            told.address.parse().map_err(|_| Refused::away("the server answers something else: update the relay"))?;
        let guard = Guard::loopback(false).allowing(told.special_networks.iter().copied()).within(&self.0.networks);
        let guard = guard.keeping_from(Services::here(self.0.own_ports.iter().copied()));
        let admitted = Admitted {
            destination: connect.destination,
            user: told.name,
            user_id: told.user,
            session: told.session,
            token: told.token.to_string(),
            connection: told.id.to_string(),
            from: connect.from,
            account: told.account.to_string(),
            principal: told.principal,
            authorities: keys.collect::<Result<_, _>>().map_err(odd)?,
            host_alias: told.host_alias,
            host_key: told.host_key.parse().map_err(odd)?,
            extensions: told.extensions,
            force_command: told.force_command,
            host_certificate: told.host_certificate,
            client_certificate: told.client_certificate,
        };
        Ok((admitted, Box::new(ToHost { address, guard })))
    }

    async fn run(&self, switched: hyper::upgrade::OnUpgrade, begun: Begun) {
        let Begun { id, admitted, keys, dial, required, open, _places } = begun;
        let cut = Arc::clone(&open.cut);
        let ended = match switched.await {
            Ok(stream) => {
                tracing::info!(connection = %id, user = admitted.user, account = admitted.account, "a connection to a host begins");
                let around = Around {
                    dial,
                    recorder: Arc::new(self.0.recordings.clone()),
                    witness: Arc::new(Told { hosts: self.clone(), id, required }),
                    cut: Arc::clone(&cut),
                    crowd: Arc::clone(&self.0.crowd),
                    clock: Arc::clone(&self.0.clock),
                    rng: Arc::clone(&self.0.rng),
                };
                let mut served = Box::pin(bastion::serve(TokioIo::new(stream), admitted, keys, around));
                tokio::select! {
                    ended = &mut served => ended,
                    () = self.0.stop.cancelled() => {
                        cut.now("the relay stops");
                        served.await
                    }
                }
            }
            Err(error) => Ended { reason: error.to_string(), reached: false, received_bytes: 0, sent_bytes: 0 },
        };
        self.untold().insert(id);
        self.open().remove(&id);
        tracing::info!(connection = %id, reason = ended.reason, "a connection to a host ended");
        self.tell_end(id, ended);
    }

    /// Tells that a connection ended, until the server knows.
    fn tell_end(&self, id: SshSessionId, ended: Ended) {
        let end = SshSessionEnd {
            at: self.0.clock.now(),
            reason: ended.reason,
            reached: ended.reached,
            received_bytes: ended.received_bytes,
            sent_bytes: ended.sent_bytes,
        };
        self.untold().insert(id);
        self.tell(id, format!("ssh-sessions/{id}/end"), end);
    }

    /// Says what is held here: whatever this relay began besides is over, as when it was killed.
    async fn hold(&self) {
        let mut connections: Vec<_> = self.open().keys().copied().collect();
        connections.extend(self.untold().iter());
        let listens = self.0.direct.get().and_then(|way| match way.told(self.0.clock.now()) {
            Ok(told) => told.map(|(address, authority)| SshWay { address, authority }),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "nobody is told of the way in without the server");
                None
            }
        });
        let read = Instant::now();
        let certificate_ends_at = self.0.direct.get().map(Way::ends);
        let held = SshSessionHold { connections, listens, certificate_ends_at };
        let told = self.call("ssh-sessions/held", &held, CHECKED).await;
        let told = told.and_then(|told: SshSessionHeld| {
            let keys = KeySet::parse(told.keys.to_string().as_bytes());
            Ok((told.issuer, keys.context("the server's keys are not understood")?))
        });
        match told {
            Ok((issuer, keys)) => self.0.tokens.learn(issuer, keys, read),
            Err(error) => tracing::debug!(error = format!("{error:#}"), "the server does not hear what is held here"),
        }
    }

    /// Tells something of a connection, until the server knows.
    fn tell(&self, id: SshSessionId, path: String, body: impl Serialize + Send + Sync + 'static) {
        let hosts = self.clone();
        self.0.telling.spawn(async move {
            hosts.insist(id, &path, &body).await;
            // Anything else that is told of it does not keep it.
            if path.ends_with("/end") {
                hosts.untold().remove(&id);
            }
        });
    }

    async fn insist(&self, id: SshSessionId, path: &str, body: &impl Serialize) {
        for _ in 0..TELLINGS {
            match self.send(path, body, ANSWER).await {
                Ok(_) => return,
                Err(error) if is_no(&error) => {
                    tracing::error!(connection = %id, path, error = format!("{error:#}"), "the server does not take what is told of a connection");
                    return;
                }
                Err(error) => {
                    tracing::warn!(connection = %id, path, error = format!("{error:#}"), "what is told of a connection waits for the server");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Waits until the server knows what ended, for as long as a relay that stops may take.
    pub(crate) async fn wait_told(&self) {
        self.0.telling.close();
        let _ = tokio::time::timeout(PARTING, self.0.telling.wait()).await;
    }

    async fn call<A: DeserializeOwned>(&self, path: &str, body: &impl Serialize, limit: Duration) -> anyhow::Result<A> {
        serde_json::from_slice(&self.send(path, body, limit).await?).context("the server answers something else")
    }

    async fn send(&self, path: &str, body: &impl Serialize, limit: Duration) -> anyhow::Result<Vec<u8>> {
        let target = format!("{}/{path}", self.0.client.path());
        let body = serde_json::to_vec(body)?;
        let answer = tokio::time::timeout(limit, self.0.client.call(Method::POST, &target, &body)).await;
        let answer = answer.context("the server did not answer in time")??;
        Ok(answer.body)
    }

    /// Asks about what is open, for as long as it is polled.
    pub(crate) async fn look_after(self) {
        let mut ticks = tokio::time::interval(CHECK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut said = None;
        loop {
            ticks.tick().await;
            if said.is_none_or(|at: Instant| at.elapsed() >= HOLD) {
                said = Some(Instant::now());
                // Beside the question: a slow answer to this holds up no cut.
                let hosts = self.clone();
                self.0.telling.spawn(async move { hosts.hold().await });
            }
            self.look().await;
        }
    }

    async fn look(&self) {
        let mut open: Vec<_> = self.open().values().cloned().collect();
        // Whom a slow answer left unasked is asked before all others the next time.
        open.sort_by_key(|open| open.word.at());
        look(&open, self.0.clock.now(), self).await;
    }
}

#[async_trait]
impl Ask for Hosts {
    async fn ask(&self, check: AccessCheck) -> anyhow::Result<AccessChecked> {
        self.call("access-check", &check, CHECKED).await
    }
}

/// Looks once after all that is open: asks about it, and ends what stands no more by the last word about it.
async fn look(open: &[Arc<Open>], now: Timestamp, server: &dyn Ask) {
    let asked = open.iter().map(|open| (Arc::clone(open), open.standing.clone())).collect();
    match judge(asked, server).await {
        Ok(judged) => {
            for (open, until) in judged {
                match until {
                    Some(until) => open.word.say(until),
                    None => open.cut.now(GONE),
                }
            }
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the server does not let this relay take anybody anywhere");
            for open in open {
                open.cut.now("the relay may not take anybody there any more");
            }
        }
    }
    for open in open {
        let silence = open.word.silence();
        if silence > UNSURE && open.word.is_over(now) {
            open.cut.now("it ended, and the server cannot be asked");
        }
        if silence > ALONE && open.token_expires <= now {
            open.cut.now("its token has ended, and the server cannot be asked");
        }
    }
}

/// Whether the server answered that it will not take what it is told, now or later.
fn is_no(error: &anyhow::Error) -> bool {
    is_final(error) || matches!(error.downcast_ref(), Some(fleet::Error::Refused { status: 400 | 410 | 413, .. }))
}

/// What the server said no to, for the user.
fn refused(error: &anyhow::Error) -> Refused {
    tracing::info!(error = format!("{error:#}"), "the server lets a connection not begin");
    match error.downcast_ref() {
        Some(fleet::Error::Refused { status: 409, message, .. }) => Refused(StatusCode::CONFLICT, message.clone()),
        Some(fleet::Error::Refused { status: 403 | 404, .. }) => Refused(
            StatusCode::FORBIDDEN,
            "the server does not let you go there: make another token, or ask for access".to_owned(),
        ),
        Some(fleet::Error::Refused { status: 401, code, .. }) if code == "unauthenticated" => {
            Refused::away("the host's relay is let in no more")
        }
        _ => Refused::away("the server cannot be asked now: try again"),
    }
}

#[cfg(test)]
mod tests;
