//! The relays that hang on a server: one living connection for each identity.
//!
//! A second connection with the same identity is refused while the first answers (the caller raises the alarm). One that does not answer
//! gives way. A relay that lost its link finds its session here until `resume` has gone by, and a relay that started anew finds the old
//! session's streams ended.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use domain::Rng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::frame::{Body, Frame, Reason, VERSION};
use wire::relay::{Hello, SessionKey, Welcome};

use crate::channel::{self, Channel, LinkEnd};
use crate::session::{Broken, Session, Timing};
use crate::websocket::Side;

/// For how long it is remembered who was ended: longer than letting one in takes.
const REMEMBERED: Duration = Duration::from_mins(2);

/// How a hub behaves.
#[derive(Debug, Clone, Copy)]
pub struct HubSettings {
    /// How links are looked after.
    pub timing: Timing,
    /// How long a session is kept without a link.
    pub resume: Duration,
    /// How long a new connection's first frame may take.
    pub handshake: Duration,
    /// How long the first connection has to answer when a second one comes.
    pub probe: Duration,
    /// Relays at a time.
    pub relays_max: usize,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            resume: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            probe: Duration::from_secs(3),
            relays_max: 4_096,
        }
    }
}

/// A relay that hangs here.
#[derive(Clone)]
pub struct Connected {
    /// What it said of itself.
    pub hello: Arc<Hello>,
    /// Its session.
    pub channel: Channel,
    key: SessionKey,
    /// Ends the link that is there, and not the session.
    link: CancellationToken,
    /// Which of all connections it is.
    number: u64,
}

/// Why a connection is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It was ended while it was being let in.
    #[error("the relay is let in no more")]
    Ended,
    /// Another one has this identity and answers.
    #[error("another connection with this identity is alive")]
    Taken,
    /// There are too many relays.
    #[error("this server holds as many relays as it may")]
    Full,
    /// It speaks no version of ours.
    #[error("the relay speaks versions {0:?} of the channel, and this server speaks {VERSION}")]
    Version(Vec<u8>),
    /// Its first frame is not what it should be.
    #[error("the relay's greeting is not understood: {0}")]
    Greeting(String),
    /// It broke before it began.
    #[error("{0}")]
    Link(#[from] LinkEnd),
}

/// What became of a connection that was taken.
#[derive(Debug)]
pub struct Admitted {
    /// Why it ended.
    pub end: LinkEnd,
    /// Whether the session is over with it.
    pub is_over: bool,
}

/// The relays that hang here, by their identity.
pub struct Hub<K> {
    settings: HubSettings,
    relays: Mutex<HashMap<K, Connected>>,
    /// Who was ended lately, and when: one that is being let in meanwhile is not.
    ended: Mutex<HashMap<K, Instant>>,
    /// How many there are; changes with each that comes and goes.
    count: watch::Sender<usize>,
    /// Connections that were let in.
    connections: AtomicU64,
    rng: Arc<dyn Rng>,
}

impl<K: Copy + Eq + Hash> Hub<K> {
    /// Nobody is here yet.
    pub fn new(settings: HubSettings, rng: Arc<dyn Rng>) -> Self {
        Self {
            settings,
            relays: Mutex::new(HashMap::new()),
            ended: Mutex::default(),
            count: watch::channel(0).0,
            connections: AtomicU64::new(0),
            rng,
        }
    }

    fn relays(&self) -> MutexGuard<'_, HashMap<K, Connected>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay with this identity, also while its link is cut.
    pub fn relay(&self, key: K) -> Option<Connected> {
        self.relays().get(&key).cloned()
    }

    /// Every identity that is here.
    pub fn keys(&self) -> Vec<K> {
        self.relays().keys().copied().collect()
    }

    /// How many are here; the receiver changes when one comes or goes.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    fn remove(&self, key: K, session: SessionKey) {
        let mut relays = self.relays();
        if relays.get(&key).is_some_and(|connected| connected.key == session) {
            relays.remove(&key);
        }
        self.count.send_replace(relays.len());
    }

    /// Ends a relay's session and its connection, and a connection that is being let in. False: it was not here.
    pub fn end(&self, key: K, reason: Reason, text: &str) -> bool {
        // Before the look: whoever is let in looks here after it has a place.
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, at| at.elapsed() < REMEMBERED);
        ended.insert(key, Instant::now());
        drop(ended);
        let Some(connected) = self.relays().remove(&key) else { return false };
        connected.channel.end(reason, text);
        self.count.send_replace(self.relays().len());
        true
    }

    /// Ends every session: the server stops.
    pub fn end_all(&self, text: &str) {
        let all: Vec<_> = self.relays().drain().collect();
        for (_, connected) in all {
            connected.channel.end(Reason::Done, text);
        }
        self.count.send_replace(0);
    }

    /// Whether the relay with this identity is here and gives a sign of life when asked.
    pub async fn answers(&self, key: K) -> bool {
        match self.relay(key) {
            Some(connected) => connected.channel.answers(self.settings.probe).await,
            None => false,
        }
    }

    /// Takes a connection of an authenticated relay: greets it, refuses it or drives it to its end. `admitted` is told when it begins, and
    /// may refuse it (another server holds the relay) with [`Refused::Taken`]; it looks whether the relay is still let in: one that is ended
    /// between that look and its place here is refused. A session whose link broke stays for a while after this
    /// returns: call [`Hub::expire`] then.
    pub async fn serve<S, F>(&self, key: K, mut socket: S, admitted: F) -> Result<(Admitted, Connected), Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        F: AsyncFnOnce(&Hello) -> Result<(), Refused>,
    {
        let mut buffer = BytesMut::new();
        let first = channel::read_first(&mut socket, Side::Server, &mut buffer);
        let first = tokio::time::timeout(self.settings.handshake, first).await;
        let first = first.map_err(|_| LinkEnd::Broken(Broken::Silent))??;
        let greeted = match greeting(&first) {
            // On the heap while it lasts: a relay hangs here for weeks, and is let in once.
            Ok(hello) => Box::pin(self.greet(key, hello, admitted)).await,
            Err(refused) => Err(refused),
        };
        drop(first);
        let (connected, resumed, peer_received) = match greeted {
            Ok(greeted) => greeted,
            Err(refused) => {
                let reason = match refused {
                    Refused::Ended => Reason::Revoked,
                    Refused::Taken => Reason::Taken,
                    Refused::Full => Reason::Limit,
                    Refused::Version(_) => Reason::Version,
                    Refused::Greeting(_) | Refused::Link(_) => Reason::Protocol,
                };
                let text = refused.to_string();
                let goodbye = channel::goodbye(&mut socket, Side::Server, reason, &text, &*self.rng);
                let _ = tokio::time::timeout(self.settings.handshake, goodbye).await;
                return Err(refused);
            }
        };
        let welcome = Welcome {
            version: VERSION,
            session: connected.key,
            resumed,
            received: connected.channel.received(),
            heartbeat_ms: u32::try_from(self.settings.timing.heartbeat_ms).unwrap_or(u32::MAX),
            resume_ms: u32::try_from(self.settings.resume.as_millis()).unwrap_or(u32::MAX),
        };
        let welcome = serde_json::to_vec(&welcome).map_err(|error| Refused::Greeting(error.to_string()))?;
        let written = channel::write_first(&mut socket, Side::Server, Body::Welcome(&welcome), &*self.rng).await;
        drop(welcome);
        let end = if let Err(end) = written {
            end
        } else {
            let Connected { channel, link, .. } = &connected;
            channel.drive(socket, Side::Server, buffer, peer_received, &*self.rng, link).await
        };
        let is_over = connected.channel.ended().is_some() || !(end.may_resume() || connected.link.is_cancelled());
        if is_over {
            connected.channel.end(Reason::Done, &end.to_string());
            self.remove(key, connected.key);
        }
        Ok((Admitted { end, is_over }, connected))
    }

    /// Waits until a session that lost this link has gone on over another one, or ends it. True: it is over.
    pub async fn expire(&self, key: K, connected: &Connected) -> bool {
        tokio::select! {
            () = connected.channel.wait_end() => return true,
            () = tokio::time::sleep(self.settings.resume) => {}
        }
        let mut relays = self.relays();
        // It came back meanwhile: who waits after the end of that link has the say, also where that one is cut again by now.
        if relays.get(&key).is_some_and(|now| now.number != connected.number) {
            return false;
        }
        // Under the lock: from here on nobody resumes it.
        relays.remove(&key);
        self.count.send_replace(relays.len());
        drop(relays);
        connected.channel.end(Reason::Done, "the relay did not come back");
        true
    }

    async fn greet<F>(&self, key: K, hello: Hello, admitted: F) -> Result<(Connected, bool, u64), Refused>
    where
        F: AsyncFnOnce(&Hello) -> Result<(), Refused>,
    {
        if !hello.versions.contains(&VERSION) {
            return Err(Refused::Version(hello.versions));
        }
        if let Some(first) = self.relay(key) {
            if first.channel.answers(self.settings.probe).await {
                return Err(Refused::Taken);
            }
            first.link.cancel();
        }
        let asked = Instant::now();
        admitted(&hello).await?;
        let mut relays = self.relays();
        // `admitted` saw who had ended before it looked; here are those since.
        if self.ended.lock().unwrap_or_else(PoisonError::into_inner).get(&key).is_some_and(|at| *at >= asked) {
            return Err(Refused::Ended);
        }
        // Nobody else may have come while we asked.
        let known = relays.get(&key).cloned();
        if known.as_ref().is_some_and(|known| known.channel.is_linked() && !known.link.is_cancelled()) {
            return Err(Refused::Taken);
        }
        if known.is_none() && relays.len() >= self.settings.relays_max {
            return Err(Refused::Full);
        }
        let resumed =
            known.as_ref().filter(|known| hello.session == Some(known.key) && known.channel.ended().is_none());
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let (connected, resumed, received) = if let Some(known) = resumed {
            // Also one that is not up yet: it does not come up any more.
            known.link.cancel();
            let link = CancellationToken::new();
            (Connected { hello: Arc::new(hello.clone()), link, number, ..known.clone() }, true, hello.received)
        } else {
            let mut bits = [0; 16];
            self.rng.fill(&mut bits);
            let channel = Channel::new(Session::server(self.settings.timing));
            let link = CancellationToken::new();
            (Connected { hello: Arc::new(hello), channel, key: SessionKey(bits), link, number }, false, 0)
        };
        let before = relays.insert(key, connected.clone());
        self.count.send_replace(relays.len());
        drop(relays);
        if let Some(before) = before.filter(|_| !resumed) {
            before.channel.end(Reason::Done, "the relay started anew");
        }
        Ok((connected, resumed, received))
    }
}

fn greeting(first: &[u8]) -> Result<Hello, Refused> {
    match Frame::decode(first) {
        Ok(Frame { body: Body::Hello(document), .. }) => {
            serde_json::from_slice(document).map_err(|error| Refused::Greeting(error.to_string()))
        }
        Ok(_) => Err(Refused::Greeting("it begins with another frame".to_owned())),
        Err(error) => Err(Refused::Greeting(error.to_string())),
    }
}
