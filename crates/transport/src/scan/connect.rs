//! The way without privilege: connections that are made by the kernel and dropped at once. Slower, and seen by the program that listens.
#![expect(clippy::cast_precision_loss, reason = "counts of probes are far below 2^52")]

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio::net::TcpStream;

use super::bitmap::Bitmap;
use super::engine::{Outcome, TRIES, is_settled};
use super::syn::Keys;

/// Connections that are being made at one time.
const AT_ONCE: usize = 256;
/// How long one may take.
const WAIT: Duration = Duration::from_millis(1_500);
/// Tries of one connection for which this machine has no room, each after a pause.
const CROWDED_TRIES: u32 = 100;
const CROWDED_PAUSE: Duration = Duration::from_millis(50);

enum Seen {
    Open,
    Closed,
    Silent,
    /// This machine could not ask.
    Unasked(ErrorKind),
}

async fn ask(at: SocketAddr) -> Seen {
    for _ in 0..CROWDED_TRIES {
        let error = match tokio::time::timeout(WAIT, TcpStream::connect(at)).await {
            Err(_) => return Seen::Silent,
            Ok(Ok(stream)) => {
                // A reset instead of a minute in TIME_WAIT, which would use up this machine's ports.
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                return Seen::Open;
            }
            Ok(Err(error)) => error,
        };
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => return Seen::Closed,
            ErrorKind::TimedOut | ErrorKind::HostUnreachable => return Seen::Silent,
            ErrorKind::NetworkUnreachable | ErrorKind::PermissionDenied | ErrorKind::InvalidInput => {
                return Seen::Unasked(error.kind());
            }
            // No port, descriptor or memory left.
            _ => tokio::time::sleep(CROWDED_PAUSE).await,
        }
    }
    Seen::Unasked(ErrorKind::ResourceBusy)
}

/// Decides every key, as `engine::run` does.
pub(super) async fn run(addresses: &[IpAddr], ports: &[u16], keys: Keys, packets_per_s: u32) -> Outcome {
    let (count, variants) = match keys {
        Keys::Addresses => (addresses.len(), ports.len()),
        Keys::Ports => (addresses.len() * ports.len(), 1),
    };
    let (mut answered, mut yes) = (Bitmap::new(count), Bitmap::new(count));
    let (mut tries, mut sent, mut first, mut unasked) = (0, 0u64, 0, None);
    while tries < TRIES && answered.ones() < count {
        tries += 1;
        unasked = None;
        for variant in 0..variants {
            // A copy of the bits, not a list: eight bytes per probe would be a limit of their own.
            let before = answered.clone();
            let left = (0..count).filter(move |key| !before.has(*key));
            let begun = Instant::now();
            let asking = futures::stream::iter(left.enumerate()).map(|(at, key)| {
                let (address, port) = match keys {
                    Keys::Addresses => (key, variant),
                    Keys::Ports => (key % addresses.len().max(1), key / addresses.len().max(1)),
                };
                let at_rate = begun + Duration::from_secs_f64(at as f64 / f64::from(packets_per_s.max(1)));
                let place = addresses.get(address).zip(ports.get(port));
                async move {
                    let Some((address, port)) = place else { return (key, Seen::Silent) };
                    tokio::time::sleep_until(at_rate.into()).await;
                    (key, ask(SocketAddr::new(*address, *port)).await)
                }
            });
            let mut asking = asking.buffer_unordered(AT_ONCE);
            while let Some((key, seen)) = asking.next().await {
                sent += 1;
                match seen {
                    Seen::Open => {
                        answered.set(key);
                        yes.set(key);
                    }
                    Seen::Closed => {
                        answered.set(key);
                        if keys == Keys::Addresses {
                            yes.set(key);
                        }
                    }
                    Seen::Silent => {}
                    Seen::Unasked(why) => unasked = Some((why, unasked.map_or(1u64, |(_, count)| count + 1))),
                }
            }
        }
        if tries == 1 {
            first = answered.ones();
        }
        // What could not be asked does not get better by asking again at once.
        if unasked.is_some() || is_settled(tries, answered.ones(), answered.ones() - first) {
            break;
        }
    }
    let doubt = match unasked {
        Some((why, count)) => Some(format!("{count} connections could not be tried: {why}")),
        None if tries == TRIES => Some(format!("{TRIES} tries were not enough")),
        None => None,
    };
    let doubt = doubt.filter(|_| answered.ones() < count);
    Outcome { answered, yes, tries, sent, doubt }
}
