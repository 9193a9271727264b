//! One UDP socket for many devices: answers find their request by the address that they come from and by their id.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::message::{self, MESSAGE_BYTES};
use crate::CallError;

/// Answers to one request that wait to be looked at; whoever floods us loses the rest.
const WAITING: usize = 8;
/// What the kernel keeps for us while we are busy.
const RECEIVE_BUFFER: usize = 4 * 1_024 * 1_024;
/// Errors in a row after which the socket is given up.
const ERRORS_MAX: u32 = 1_000;

/// What came for a request.
#[derive(Debug)]
pub(super) enum Came {
    /// A datagram with its id.
    Datagram(Vec<u8>),
    /// Something from its address that is no SNMP.
    Garbage(&'static str),
}

type Waiting = Mutex<HashMap<(SocketAddr, i32), mpsc::Sender<Came>>>;

/// The socket and who waits on it. Closed when it is dropped.
pub(super) struct Socket {
    udp: Arc<UdpSocket>,
    waiting: Arc<Waiting>,
    reader: AbortHandle,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A place where the answers to one request arrive; given up when it is dropped.
pub(super) struct Inbox<'a> {
    socket: &'a Socket,
    key: (SocketAddr, i32),
    answers: mpsc::Receiver<Came>,
}

impl Drop for Inbox<'_> {
    fn drop(&mut self) {
        lock(&self.socket.waiting).remove(&self.key);
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<(SocketAddr, i32), mpsc::Sender<Came>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Socket {
    /// Opens a socket of the address family that `like` has.
    pub(super) async fn open(like: SocketAddr) -> Result<Self, CallError> {
        let any = if like.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let udp = UdpSocket::bind(any)
            .await
            .map_err(|error| CallError::Unreachable(format!("no UDP socket can be opened: {error}")))?;
        // The kernel may grant less; losses are then repeated.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&udp, RECEIVE_BUFFER);
        let (udp, waiting) = (Arc::new(udp), Arc::new(Waiting::default()));
        let reader = tokio::spawn(read(Arc::clone(&udp), Arc::clone(&waiting))).abort_handle();
        Ok(Self { udp, waiting, reader })
    }

    /// Waits for answers of `from` with this id; nothing when another request of that id waits.
    pub(super) fn expect(&self, from: SocketAddr, id: i32) -> Option<Inbox<'_>> {
        let (sender, answers) = mpsc::channel(WAITING);
        let key = (from, id);
        let mut waiting = lock(&self.waiting);
        if waiting.contains_key(&key) {
            return None;
        }
        waiting.insert(key, sender);
        Some(Inbox { socket: self, key, answers })
    }

    pub(super) async fn send(&self, datagram: &[u8], to: SocketAddr) -> Result<(), CallError> {
        self.udp.send_to(datagram, to).await.map(drop).map_err(|error| CallError::Unreachable(format!("{to}: {error}")))
    }
}

impl Inbox<'_> {
    /// The next answer; pends for ever when the socket is broken.
    pub(super) async fn next(&mut self) -> Came {
        match self.answers.recv().await {
            Some(came) => came,
            None => std::future::pending().await,
        }
    }
}

/// Hands out what arrives until the socket is dropped.
async fn read(udp: Arc<UdpSocket>, waiting: Arc<Waiting>) {
    let mut buffer = vec![0; MESSAGE_BYTES + 1];
    let mut errors = 0;
    while errors < ERRORS_MAX {
        let (length, from) = match udp.recv_from(&mut buffer).await {
            Ok(came) => came,
            Err(error) => {
                tracing::debug!(%error, "snmp: a datagram was not received");
                errors += 1;
                continue;
            }
        };
        errors = 0;
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let datagram = buffer.get(..length).unwrap_or_default();
        let waiting = lock(&waiting);
        match message::id(datagram) {
            Ok(id) => {
                if let Some(sender) = waiting.get(&(from, id)) {
                    let _ = sender.try_send(Came::Datagram(datagram.to_vec()));
                }
            }
            Err(why) => {
                for (_, sender) in waiting.iter().filter(|((address, _), _)| *address == from) {
                    let _ = sender.try_send(Came::Garbage(why.0));
                }
            }
        }
    }
}
