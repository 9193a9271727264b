//! A relay between a user's `ssh` and a host's `sshd`: it ends the one session and holds the other, so that it can be cut and recorded.
//!
//! The user sees a key that has a certificate of the installation for this one connection, and shows a certificate of their own for their own key. The host
//! sees a key that lives for this connection, with a certificate that the server signed on the strength of the user's token. Neither end needs anything but
//! OpenSSH.
//!
//! **Not for** who may come (the server says so before a connection begins: see [`Admitted`]), nor for whether they still may (whoever holds a [`Cut`] is told
//! so), nor for how bytes get here.
//!
//! Invariants:
//! - nothing reaches the host before the user has proved, by a signature, that the certificate for this very session and role is theirs;
//! - the host is the one that an administrator registered, by its key or by a certificate for its name, or nothing goes there;
//! - what is not known here does not pass: requests and channels are allowed one by one;
//! - what is held of a connection is bounded, whatever either end does, and a slow reader slows its sender;
//! - a connection that is cut passes nothing on any more, and its user is told why.

mod algorithms;
mod forward;
mod host;
mod pair;
mod queue;
mod stream;
mod user;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use crypto::ed25519::SigningKey;
use crypto::ssh::PublicKey;
use domain::{Clock, DestinationId, Rng, SessionId, UserId};
use gateway::ChannelEnded;
use gateway::recording::Recorder;
use russh::server;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use wire::frame::Reason;

pub use crate::stream::Crowd;
use crate::stream::{Metered, Meters};
use crate::user::{Shared, User};

/// How long a user may take from the first byte to being let in.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Most bytes that a user may send before they are let in.
const HANDSHAKE_BYTES: u64 = 128 * 1_024;
/// How most connections end.
const LEFT: &str = "the user left";
/// How long a user is given to take the word that says why they are cut off.
const FAREWELL: Duration = Duration::from_millis(600);

/// Who comes, where to, and what both ends need to recognise each other: the server's word.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Where to.
    pub destination: DestinationId,
    /// The user's login name.
    pub user: String,
    /// The user.
    pub user_id: UserId,
    /// The session that let them in.
    pub session: SessionId,
    /// The id of their token.
    pub token: String,
    /// The id of the connection.
    pub connection: String,
    /// From where they come, as far as is known.
    pub from: Option<IpAddr>,
    /// The account: the role that they hold.
    pub account: String,
    /// The name that their certificate has to be good for.
    pub principal: String,
    /// The keys that sign certificates.
    pub authorities: Vec<PublicKey>,
    /// What the host's own certificate calls it.
    pub host_alias: String,
    /// The host's registered key.
    pub host_key: PublicKey,
    /// What is allowed besides running a command, as certificates name it.
    pub extensions: Vec<String>,
    /// What the host runs whatever is asked for, by the certificate that it sees.
    pub force_command: Option<String>,
    /// The certificate of [`Keys::towards_user`].
    pub host_certificate: String,
    /// The certificate of [`Keys::towards_host`].
    pub client_certificate: String,
}

impl Admitted {
    fn allows(&self, extension: &str) -> bool {
        self.extensions.iter().any(|allowed| allowed == extension)
    }
}

/// The keys of one connection. They go with it.
pub struct Keys {
    /// What the user sees.
    pub towards_user: SigningKey,
    /// What the host sees.
    pub towards_host: SigningKey,
}

/// Connects to the host, once its user was let in.
#[async_trait]
pub trait Dial: Send + Sync {
    /// A socket, or why there is none, in words for the user.
    async fn dial(&self) -> Result<TcpStream, String>;
}

/// What is forwarded beside a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForwardKind {
    /// The user's agent.
    Agent,
    /// The user's screen.
    X11,
    /// Connections to a place that the host reaches (`-L`, `-W`, `-D`).
    Local,
    /// The same to a socket in the host's file system.
    LocalSocket,
    /// Connections from a port of the host to the user (`-R`).
    Remote,
    /// The same from a socket in the host's file system.
    RemoteSocket,
}

impl ForwardKind {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::X11 => "x11",
            Self::Local => "local",
            Self::LocalSocket => "local-socket",
            Self::Remote => "remote",
            Self::RemoteSocket => "remote-socket",
        }
    }
}

/// Something that is forwarded. What passes there is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Forwarded {
    /// What.
    pub kind: ForwardKind,
    /// Where to, or where it is listened: `HOST:PORT` or a path, as the user said it. Of an agent and a screen: nothing.
    pub place: String,
}

/// Keeps the record of what is forwarded.
#[async_trait]
pub trait Witness: Send + Sync {
    /// Something is to be forwarded for the first time on a connection. An error, in words for a log, says that it must not be.
    async fn forwards(&self, what: &Forwarded) -> Result<(), String>;
}

/// Cuts a connection.
#[derive(Debug, Default)]
pub struct Cut {
    token: CancellationToken,
    why: OnceLock<String>,
}

impl Cut {
    /// Cuts it; the first reason counts.
    pub fn now(&self, why: &str) {
        let _ = self.why.set(why.to_owned());
        self.token.cancel();
    }

    /// Why it was cut; none while it was not.
    pub fn why(&self) -> Option<&str> {
        self.token.is_cancelled().then(|| self.why.get().map_or("", String::as_str))
    }

    /// Waits until it is cut.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: String,
    /// Whether the user got as far as the host.
    pub reached: bool,
    /// Bytes from the user, as they were on the line.
    pub received_bytes: u64,
    /// Bytes to the user.
    pub sent_bytes: u64,
}

/// What a connection needs besides itself.
pub struct Around {
    /// The way to the host.
    pub dial: Box<dyn Dial>,
    /// Where sessions are recorded.
    pub recorder: Arc<dyn Recorder>,
    /// Hears what is forwarded.
    pub witness: Arc<dyn Witness>,
    /// Cuts it.
    pub cut: Arc<Cut>,
    /// What all connections of this process hold together.
    pub crowd: Arc<Crowd>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For what is random in a file of a key.
    pub rng: Arc<dyn Rng>,
}

/// A key or a certificate of ours that the library does not read.
#[derive(Debug, thiserror::Error)]
#[error("a key or certificate of this connection is not understood")]
struct Unreadable;

fn private(key: &SigningKey, rng: &dyn Rng) -> Result<russh::keys::PrivateKey, Unreadable> {
    let text = crypto::ssh::private_key(key, rng);
    text.expose_str().and_then(|text| russh::keys::PrivateKey::from_openssh(text).ok()).ok_or(Unreadable)
}

fn certificate(line: &str) -> Result<russh::keys::Certificate, Unreadable> {
    russh::keys::Certificate::from_openssh(line.trim()).map_err(|_| Unreadable)
}

/// A public key as the library has it.
fn public(key: &PublicKey) -> Result<russh::keys::PublicKey, Unreadable> {
    russh::keys::PublicKey::from_openssh(&key.to_string()).map_err(|_| Unreadable)
}

/// Serves one connection to its end.
pub async fn serve<S>(stream: S, admitted: Admitted, keys: Keys, around: Around) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let meters = Arc::new(Meters::among(&around.crowd));
    let (reason, reached) = match run(stream, admitted, keys, around, &meters).await {
        Ok(ended) => ended,
        Err(error) => (error.to_string(), false),
    };
    let (received_bytes, sent_bytes) = meters.totals();
    Ended { reason, reached, received_bytes, sent_bytes }
}

async fn run<S>(
    stream: S,
    admitted: Admitted,
    keys: Keys,
    around: Around,
    meters: &Arc<Meters>,
) -> Result<(String, bool), Unreadable>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = server::Config {
        server_id: russh::SshId::Standard("SSH-2.0-Cairn".into()),
        methods: russh::MethodSet::from(&[russh::MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(300),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![private(&keys.towards_user, &*around.rng)?],
        certificates: vec![certificate(&admitted.host_certificate)?],
        preferred: algorithms::preferred(vec![russh::keys::Algorithm::Ed25519], Vec::new()),
        window_size: stream::WINDOW_BYTES,
        max_auth_attempts: 3,
        inactivity_timeout: None,
        ..server::Config::default()
    };
    let cut = Arc::clone(&around.cut);
    let shared = Shared::new(admitted, &keys.towards_host, around, meters)?;
    meters.limit(HANDSHAKE_BYTES);
    let stream = Metered::new(stream, Arc::clone(meters), shared.user_end.clone());
    let began = tokio::time::Instant::now();
    let handler = User::new(Arc::clone(&shared));
    let started = tokio::time::timeout(HANDSHAKE, server::run_stream(Arc::new(config), stream, handler));
    let mut running = tokio::select! {
        started = started => match started {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => return Ok((format!("the user's side: {error}"), false)),
            Err(_) => return Ok(("the user did not sign in in time".to_owned(), false)),
        },
        () = cut.wait() => return Ok((cut.why().unwrap_or_default().to_owned(), false)),
    };
    let handle = running.handle();
    let mut waits = true;
    let reason = loop {
        tokio::select! {
            ended = &mut running => break ended.map_or_else(|error| why(&error), |()| LEFT.to_owned()),
            why = shared.stopped(&cut) => {
                farewell(&shared, &handle, &why, &mut running).await;
                break why;
            }
            () = tokio::time::sleep_until(began + HANDSHAKE), if waits => {
                waits = false;
                if !shared.is_in() {
                    break "the user did not sign in in time".to_owned();
                }
            }
        }
    };
    shared.host_end.cancel();
    shared.user_end.cancel();
    shared.end(&reason);
    Ok((reason, shared.is_reached()))
}

/// Why the user's side ended. Who takes leave may be gone before the last word to them is written: their stream then says that it is done.
fn why(error: &russh::Error) -> String {
    let ended = match error {
        russh::Error::IO(error) => error.get_ref().and_then(|inner| inner.downcast_ref::<ChannelEnded>()),
        _ => None,
    };
    if ended.is_some_and(|ended| ended.reason == Reason::Done && ended.text.is_empty()) {
        return LEFT.to_owned();
    }
    error.to_string()
}

/// Ends the host's side, then says why, and waits a moment for who is told to go.
async fn farewell(shared: &Shared, handle: &server::Handle, why: &str, running: &mut server::RunningSession<User>) {
    shared.host_end.cancel();
    let told = async {
        shared.tell(handle, why).await;
        let _ = running.await;
    };
    let _ = tokio::time::timeout(FAREWELL, told).await;
}
