//! The listener for agents that do not reach the server: what comes is TLS between an agent and the server, and is passed on as it is.
//!
//! **Not for** answering anything: this end has no certificate that an agent would believe.
//!
//! Invariants:
//! - no TLS ends here, so nothing of what passes can be read, changed or made up: agents verify the server, and prove to it who they are;
//! - whatever comes leads to the relay's own server and to nowhere else, by the relay's own way;
//! - connections, their bytes and their silence are bounded; who does not begin with TLS is sent away before the server is dialed;
//! - a relay that is let in no more takes no new connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use gateway::places::{Places, holder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::dial::{self, Proxy};

/// Connections of one address at a time: an agent has one, and several may share a machine or an address.
const PER_ADDRESS: usize = 64;
/// How long the first bytes may take.
const BEGINNING: Duration = Duration::from_secs(10);
/// How long both ends may say nothing: the server's own pings come more often.
const SILENCE: Duration = Duration::from_mins(2);
/// How long one end may take nothing.
const STALL: Duration = Duration::from_secs(30);
/// Most bytes of one connection in one direction: a report has one mebibyte at most, and an agent dials anew.
const BYTES_MAX: u64 = 64 * 1_024 * 1_024;
const PIECE: usize = 8 * 1_024;
/// A record of a TLS handshake (RFC 8446, section 5.1), and its longest length.
const HANDSHAKE: [u8; 2] = [22, 3];
const RECORD_MAX: u16 = 1 << 14;

/// The listener.
pub(crate) struct Listener {
    socket: TcpListener,
    server: String,
    proxy: Option<Proxy>,
    places: Arc<Places<IpAddr>>,
    ended: Arc<AtomicBool>,
}

impl Listener {
    /// Listens, if it is asked for. `ended`: the relay is let in no more.
    pub(crate) async fn bind(settings: &Settings, ended: Arc<AtomicBool>) -> anyhow::Result<Option<Self>> {
        let Some(address) = settings.listen else { return Ok(None) };
        let socket = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on `{address}`: stop what listens there, or set RELAY_LISTEN to another address")
        })?;
        tracing::info!(address = %socket.local_addr()?, "listens for agents");
        let places = Places::new(settings.listen_connections, PER_ADDRESS);
        let server = dial::authority(&settings.server, "https://", 443).context("RELAY_SERVER")?;
        Ok(Some(Self { socket, server, proxy: settings.proxy.clone(), places, ended }))
    }

    /// Passes connections on until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (listener, tracker) = (Arc::new(self), TaskTracker::new());
        loop {
            let accepted = tokio::select! {
                accepted = listener.socket.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (near, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Files have run out, most likely: others close, and it is tried again.
                    tracing::warn!(%error, "an agent's connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if listener.ended.load(Ordering::Relaxed) {
                continue;
            }
            let Ok(place) = listener.places.take(holder(peer.ip())) else {
                tracing::debug!(%peer, "there are too many connections of agents");
                continue;
            };
            let (listener, stop) = (Arc::clone(&listener), stop.clone());
            tracker.spawn(async move {
                let _place = place;
                tokio::select! {
                    carried = listener.carry(near, peer) => if let Err(error) = carried {
                        tracing::debug!(%peer, error = format!("{error:#}"), "an agent's connection ended");
                    },
                    () = stop.cancelled() => {}
                }
            });
        }
        tracker.close();
        tracker.wait().await;
    }

    async fn carry(&self, mut near: TcpStream, peer: SocketAddr) -> anyhow::Result<()> {
        let _ = near.set_nodelay(true);
        let mut head = [0; 5];
        tokio::time::timeout(BEGINNING, near.read_exact(&mut head)).await.context("nothing came")??;
        if !begins_tls(head) {
            bail!("it does not begin with TLS");
        }
        let mut far = dial::tcp(&self.server, self.proxy.as_ref()).await?;
        let _ = far.set_nodelay(true);
        far.write_all(&head).await?;
        tracing::debug!(%peer, "passes an agent's connection on");
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = far.into_split();
        let clock = Activity { began: Instant::now(), at_ms: AtomicU64::new(0) };
        tokio::try_join!(pass(near_in, far_out, &clock), pass(far_in, near_out, &clock))?;
        Ok(())
    }
}

/// Whether a connection begins with the header of a TLS handshake's record.
fn begins_tls([kind, major, _, high, low]: [u8; 5]) -> bool {
    [kind, major] == HANDSHAKE && (1..=RECORD_MAX).contains(&u16::from_be_bytes([high, low]))
}

/// When something passed last, in either direction.
struct Activity {
    began: Instant,
    at_ms: AtomicU64,
}

impl Activity {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note(&self) {
        self.at_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long it may still be silent.
    fn left(&self) -> Duration {
        let silent = self.now_ms().saturating_sub(self.at_ms.load(Ordering::Relaxed));
        SILENCE.saturating_sub(Duration::from_millis(silent))
    }
}

/// Passes bytes on in one direction, to its end.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, activity: &Activity) -> anyhow::Result<()> {
    let (mut piece, mut left) = (vec![0; PIECE], BYTES_MAX);
    loop {
        let wait = activity.left();
        if wait.is_zero() {
            bail!("both ends said nothing for {} s", SILENCE.as_secs());
        }
        let Ok(read) = tokio::time::timeout(wait, from.read(&mut piece)).await else { continue };
        let length = read?;
        if length == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        left = left.checked_sub(length as u64).context("it carried as many bytes as a connection may")?;
        activity.note();
        let written = to.write_all(piece.get(..length).unwrap_or_default());
        tokio::time::timeout(STALL, written).await.context("one end takes nothing")??;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn listener(server: &TcpListener, connections: usize) -> (SocketAddr, CancellationToken, Arc<AtomicBool>) {
        let ended = Arc::new(AtomicBool::new(false));
        let bound = Listener {
            socket: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            server: server.local_addr().unwrap().to_string(),
            proxy: None,
            places: Places::new(connections, PER_ADDRESS),
            ended: Arc::clone(&ended),
        };
        let (address, stop) = (bound.socket.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(bound.run(stop.clone()));
        (address, stop, ended)
    }

    /// The header of a ClientHello's record.
    const HELLO: &[u8] = &[22, 3, 1, 0, 200];

    #[test]
    fn only_the_header_of_a_handshake_begins_tls() {
        assert!(begins_tls([22, 3, 1, 0, 200]) && begins_tls([22, 3, 3, 64, 0]));
        for head in [*b"GET /", *b"CONNE", [22, 3, 1, 0, 0], [22, 3, 1, 64, 1], [23, 3, 3, 0, 9], [22, 2, 0, 0, 9]] {
            assert!(!begins_tls(head), "{head:?}");
        }
    }

    #[tokio::test]
    async fn tls_is_passed_on_as_it_is_and_nothing_else_reaches_the_server() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop, ended) = listener(&server, 8).await;
        // Not TLS: sent away, and the server never hears of it.
        let mut near = TcpStream::connect(address).await.unwrap();
        near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(matches!(near.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        let mut near = TcpStream::connect(address).await.unwrap();
        near.write_all(HELLO).await.unwrap();
        near.write_all(b"what only the two understand").await.unwrap();
        let (mut far, _) = server.accept().await.unwrap();
        let mut came = vec![0; HELLO.len() + 28];
        far.read_exact(&mut came).await.unwrap();
        assert_eq!(came, [HELLO, b"what only the two understand"].concat());
        far.write_all(b"an answer").await.unwrap();
        far.shutdown().await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"an answer");
        // One that is let in no more serves nobody, and one that stops cuts who is there.
        let mut held = TcpStream::connect(address).await.unwrap();
        held.write_all(HELLO).await.unwrap();
        server.accept().await.unwrap();
        ended.store(true, Ordering::Relaxed);
        let mut refused = TcpStream::connect(address).await.unwrap();
        assert!(matches!(refused.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        stop.cancel();
        assert!(matches!(held.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn connections_and_their_bytes_are_bounded() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, _stop, _) = listener(&server, 2).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        first.write_all(HELLO).await.unwrap();
        second.write_all(HELLO).await.unwrap();
        let (mut far, _) = server.accept().await.unwrap();
        let (other, _) = server.accept().await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        // Endless bytes: the connection is cut at the limit, and makes room.
        let counting = tokio::spawn(async move {
            let (mut piece, mut count) = (vec![0; 64 * 1_024], 0);
            while let Ok(length @ 1..) = far.read(&mut piece).await {
                count += length as u64;
            }
            count
        });
        drop(other);
        drop(second);
        let (mut endless, from) = (first, vec![7; 64 * 1_024]);
        while endless.write_all(&from).await.is_ok() {}
        let count = counting.await.unwrap();
        assert!(count <= BYTES_MAX + HELLO.len() as u64 && count > BYTES_MAX / 2, "{count}");
    }
}
