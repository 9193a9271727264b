//! What passes beside sessions, where a certificate lends it: the user's agent and screen, and connections in both directions.
//!
//! Invariants:
//! - nothing is forwarded that is not lent, in either direction, and the host reaches nothing of the user's that the user did not ask to forward;
//! - whoever keeps the record hears of each place before anything goes there, and can say no;
//! - neither connection waits for the other one: what needs both is done beside them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use domain::SshExtension;
use russh::{Channel, ChannelOpenFailure, client, server};
use tokio::sync::Semaphore;

use crate::pair::{Of, Pair};
use crate::user::Shared;
use crate::{ForwardKind, Forwarded};

/// Forwarded connections at a time, besides sessions. All windows together are what a user may have sent before it is taken.
const OPEN_MAX: usize = 22;
/// Places to which one connection may forward, one record each.
const PLACES_MAX: usize = 1_000;
/// Ports and sockets that may be listened at for one user.
const LISTENING_MAX: usize = 32;
/// Longest name of a host or path of a socket, in bytes.
const NAME_BYTES: usize = 255;
/// How long the other end may take.
const ANSWER: Duration = Duration::from_secs(30);

/// What of one connection is forwarded.
pub(crate) struct Forwards {
    places: Arc<Semaphore>,
    told: tokio::sync::Mutex<HashSet<Forwarded>>,
    agent: AtomicBool,
    screen: AtomicBool,
    ports: Mutex<HashSet<(String, u32)>>,
    sockets: Mutex<HashSet<String>>,
    user: OnceLock<server::Handle>,
}

impl Default for Forwards {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(OPEN_MAX)),
            told: tokio::sync::Mutex::default(),
            agent: AtomicBool::new(false),
            screen: AtomicBool::new(false),
            ports: Mutex::default(),
            sockets: Mutex::default(),
            user: OnceLock::new(),
        }
    }
}

/// Where a user wants to be connected to, from the host.
pub(crate) enum There {
    Port { host: String, port: u32, from: String, from_port: u32 },
    Socket(String),
}

impl There {
    fn told(&self) -> Forwarded {
        match self {
            Self::Port { host, port, .. } => Forwarded { kind: ForwardKind::Local, place: place(host, *port) },
            Self::Socket(path) => Forwarded { kind: ForwardKind::LocalSocket, place: path.clone() },
        }
    }

    fn is_short(&self) -> bool {
        let (Self::Port { host: name, .. } | Self::Socket(name)) = self;
        name.len() <= NAME_BYTES
    }
}

/// What of the user's a host wants to be connected to.
pub(crate) enum Back {
    Agent,
    Screen { from: String, from_port: u32 },
    Port { address: String, port: u32, from: String, from_port: u32 },
    Socket(String),
}

fn place(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Shared {
    fn lends(&self, extension: SshExtension) -> bool {
        self.admitted.allows(extension.as_str())
    }

    /// Says that something is about to be forwarded, once for each place; false: it must not be.
    async fn may_forward(&self, what: Forwarded) -> bool {
        let mut told = self.forwards.told.lock().await;
        if told.contains(&what) {
            return true;
        }
        if told.len() >= PLACES_MAX {
            tracing::warn!(connection = self.admitted.connection, "a connection forwards to more places than it may");
            return false;
        }
        match self.around.witness.forwards(&what).await {
            Ok(()) => {
                told.insert(what);
                true
            }
            Err(why) => {
                tracing::warn!(connection = self.admitted.connection, why, "something is not forwarded");
                false
            }
        }
    }

    /// Connects a channel that the user opened to a place that the host reaches.
    pub(crate) async fn forward(
        self: Arc<Self>,
        channel: Channel<server::Msg>,
        there: There,
        reply: server::ChannelOpenHandle,
        handle: server::Handle,
    ) {
        if !self.lends(SshExtension::PortForwarding) || !there.is_short() {
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        }
        let Ok(open) = Arc::clone(&self.forwards.places).try_acquire_owned() else {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        if !self.may_forward(there.told()).await {
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        }
        let opened = async {
            let host = self.host().await.ok()?;
            match there {
                There::Port { host: to, port, from, from_port } => {
                    host.channel_open_direct_tcpip(to, port, from, from_port).await.ok()
                }
                There::Socket(path) => host.channel_open_direct_streamlocal(path).await.ok(),
            }
        };
        let Some(host) = tokio::time::timeout(ANSWER, opened).await.ok().flatten() else {
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        };
        Pair::begin(&self, channel, host, handle, Of::Forward(open), reply.accept()).await;
    }

    /// Connects a channel that the host opened to something of the user's that they asked to forward.
    async fn back(self: Arc<Self>, channel: Channel<client::Msg>, back: Back, reply: client::ChannelOpenHandle) {
        let user = self.forwards.user.get().cloned().filter(|_| self.forwards.asked(&back));
        let Some(user) = user else {
            tracing::warn!(connection = self.admitted.connection, "a host asks for what its user did not forward");
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        };
        let Ok(open) = Arc::clone(&self.forwards.places).try_acquire_owned() else {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        let opened = async {
            match back {
                Back::Agent => user.channel_open_agent().await,
                Back::Screen { from, from_port } => user.channel_open_x11(from, from_port).await,
                Back::Port { address, port, from, from_port } => {
                    user.channel_open_forwarded_tcpip(address, port, from, from_port).await
                }
                Back::Socket(path) => user.channel_open_forwarded_streamlocal(path).await,
            }
        };
        let Ok(Ok(to_user)) = tokio::time::timeout(ANSWER, opened).await else {
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        };
        Pair::begin(&self, to_user, channel, user, Of::Back(open), reply.accept()).await;
    }

    /// The user asks to forward their agent with a session.
    pub(crate) async fn ask_agent(&self, pair: &Pair, handle: server::Handle) -> bool {
        let what = Forwarded { kind: ForwardKind::Agent, place: String::new() };
        if !self.lends(SshExtension::AgentForwarding) || !self.may_forward(what).await {
            return false;
        }
        let _ = self.forwards.user.set(handle);
        let well = pair.ask(pair.to_host.agent_forward(true)).await;
        self.forwards.agent.fetch_or(well, Ordering::AcqRel);
        well
    }

    /// The user asks to forward their screen with a session.
    pub(crate) async fn ask_screen(
        &self,
        pair: &Pair,
        (single, protocol, cookie, screen): (bool, &str, &str, u32),
        handle: server::Handle,
    ) -> bool {
        let what = Forwarded { kind: ForwardKind::X11, place: String::new() };
        if !self.lends(SshExtension::X11Forwarding) || !self.may_forward(what).await {
            return false;
        }
        let _ = self.forwards.user.set(handle);
        let well = pair.ask(pair.to_host.request_x11(true, single, protocol, cookie, screen)).await;
        self.forwards.screen.fetch_or(well, Ordering::AcqRel);
        well
    }

    /// The user asks that the host listens at a port for them; at which it does.
    pub(crate) async fn listen_port(self: &Arc<Self>, address: &str, port: u32, handle: server::Handle) -> Option<u32> {
        let what = |port| Forwarded { kind: ForwardKind::Remote, place: place(address, port) };
        if !self.may_listen(address) || !self.may_forward(what(port)).await {
            return None;
        }
        let _ = self.forwards.user.set(handle);
        let asked = async { self.host().await.ok()?.tcpip_forward(address, port).await.ok() };
        let given = tokio::time::timeout(ANSWER, asked).await.ok().flatten()?;
        let at = if port == 0 { given } else { port };
        // Which port the host chose is on the record before anybody is let in there.
        if port == 0 && !self.may_forward(what(at)).await {
            let left = async { self.host().await.ok()?.cancel_tcpip_forward(address, at).await.ok() };
            let _ = tokio::time::timeout(ANSWER, left).await;
            return None;
        }
        self.forwards.ports().insert((address.to_owned(), at));
        Some(at)
    }

    /// And no more.
    pub(crate) async fn leave_port(self: &Arc<Self>, address: &str, port: u32) -> bool {
        if !self.forwards.ports().remove(&(address.to_owned(), port)) {
            return false;
        }
        let asked = async { self.host().await.ok()?.cancel_tcpip_forward(address, port).await.ok() };
        tokio::time::timeout(ANSWER, asked).await.ok().flatten().is_some()
    }

    /// The user asks that the host listens at a socket for them.
    pub(crate) async fn listen_socket(self: &Arc<Self>, path: &str, handle: server::Handle) -> bool {
        let what = Forwarded { kind: ForwardKind::RemoteSocket, place: path.to_owned() };
        if !self.may_listen(path) || !self.may_forward(what).await {
            return false;
        }
        let _ = self.forwards.user.set(handle);
        let asked = async { self.host().await.ok()?.streamlocal_forward(path).await.ok() };
        let well = tokio::time::timeout(ANSWER, asked).await.ok().flatten().is_some();
        if well {
            self.forwards.sockets().insert(path.to_owned());
        }
        well
    }

    /// And no more.
    pub(crate) async fn leave_socket(self: &Arc<Self>, path: &str) -> bool {
        if !self.forwards.sockets().remove(path) {
            return false;
        }
        let asked = async { self.host().await.ok()?.cancel_streamlocal_forward(path).await.ok() };
        tokio::time::timeout(ANSWER, asked).await.ok().flatten().is_some()
    }

    fn may_listen(&self, name: &str) -> bool {
        let listening = self.forwards.ports().len() + self.forwards.sockets().len();
        self.lends(SshExtension::PortForwarding) && name.len() <= NAME_BYTES && listening < LISTENING_MAX
    }
}

impl Forwards {
    fn ports(&self) -> std::sync::MutexGuard<'_, HashSet<(String, u32)>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the user asked to forward this, and it was granted.
    fn asked(&self, back: &Back) -> bool {
        match back {
            Back::Agent => self.agent.load(Ordering::Acquire),
            Back::Screen { .. } => self.screen.load(Ordering::Acquire),
            Back::Port { address, port, .. } => self.ports().contains(&(address.clone(), *port)),
            Back::Socket(path) => self.sockets().contains(path),
        }
    }
}

/// Takes up what a host opens, beside the connection to it.
pub(crate) fn take_up(
    shared: &Weak<Shared>,
    channel: Channel<client::Msg>,
    back: Back,
    reply: client::ChannelOpenHandle,
) {
    // Without a connection of a user there is nobody to connect to: the reply that is dropped refuses.
    let Some(shared) = shared.upgrade() else { return };
    let over = shared.host_end.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = over.cancelled() => {}
            () = shared.back(channel, back, reply) => {}
        }
    });
}
