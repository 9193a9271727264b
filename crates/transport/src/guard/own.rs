//! What the installation runs for itself: no tenant's jobs may call it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Services that are no targets, whatever a tenant's policy says: where a program itself listens, and what it needs elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    here: Vec<u16>,
    elsewhere: Vec<SocketAddr>,
    allowed: Vec<SocketAddr>,
}

fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// Whether an address is one of this machine, in the network that this process is in: only then can something be bound to it. Addresses come
/// and go, so that it is asked each time. What cannot be told counts as one.
fn is_here(address: IpAddr) -> bool {
    match UdpSocket::bind(SocketAddr::new(address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::AddrNotAvailable,
    }
}

impl Services {
    /// These ports at every address of this machine.
    pub fn here(ports: impl IntoIterator<Item = u16>) -> Self {
        Self { here: ports.into_iter().filter(|port| *port != 0).collect(), ..Self::default() }
    }

    /// Also these.
    #[must_use]
    pub fn elsewhere(mut self, sockets: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.elsewhere.extend(sockets.into_iter().map(canonical));
        self
    }

    /// But not these, which the installation lets be targets.
    #[must_use]
    pub fn but(mut self, allowed: &[SocketAddr]) -> Self {
        self.allowed.extend(allowed.iter().copied().map(canonical));
        self
    }

    /// Whether there is one of them.
    pub(super) fn are_at(&self, at: SocketAddr) -> bool {
        let at = canonical(at);
        !self.allowed.contains(&at)
            && (self.elsewhere.contains(&at) || (self.here.contains(&at.port()) && is_here(at.ip())))
    }
}
