//! SYNs from a raw socket. The kernel, which knows of no such connection, resets whoever accepts.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::engine::{Halt, Probe, Prober};
use super::packet::{SYN_BYTES, behind_ipv4, syn, tcp_answer};
use super::socket;

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// An address, asked at each port in turn until one answers.
    Addresses,
    /// An address and a port: `port * addresses + address`.
    Ports,
}

/// Asks ports of addresses of one family.
pub(super) struct Syn<'a> {
    socket: Socket,
    /// Keeps the port that answers go to from being anybody else's; never listens.
    _reserved: Socket,
    is_v6: bool,
    source_port: u16,
    secret: RandomState,
    keys: Keys,
    addresses: &'a [IpAddr],
    ports: &'a [u16],
    /// Where an address stands.
    address_at: HashMap<IpAddr, usize>,
    /// Where a port stands.
    port_at: HashMap<u16, usize>,
    /// What each address is sent to from, once it is known.
    sources: Vec<Option<IpAddr>>,
    packets: Vec<(IpAddr, [u8; SYN_BYTES])>,
}

impl<'a> Syn<'a> {
    /// Opens the sockets; `PermissionDenied` without CAP_NET_RAW.
    pub(super) fn open(is_v6: bool, keys: Keys, addresses: &'a [IpAddr], ports: &'a [u16]) -> std::io::Result<Self> {
        let socket = socket::open(is_v6, Type::RAW, Protocol::TCP)?;
        let reserved = Socket::new(if is_v6 { Domain::IPV6 } else { Domain::IPV4 }, Type::STREAM, None)?;
        let any: SocketAddr = if is_v6 { ([0u16; 8], 0).into() } else { ([0; 4], 0).into() };
        if is_v6 {
            reserved.set_only_v6(true)?;
        }
        reserved.bind(&any.into())?;
        let source_port = reserved.local_addr()?.as_socket().map_or(0, |address| address.port());
        socket::keep_only(&socket, is_v6, 2, true, u32::from(source_port))?;
        Ok(Self {
            socket,
            _reserved: reserved,
            is_v6,
            source_port,
            secret: RandomState::new(),
            keys,
            addresses,
            ports,
            address_at: addresses.iter().enumerate().map(|(at, address)| (*address, at)).collect(),
            port_at: ports.iter().enumerate().map(|(at, port)| (*port, at)).collect(),
            sources: vec![None; addresses.len()],
            packets: Vec::new(),
        })
    }

    fn sequence(secret: &RandomState, address: IpAddr, port: u16) -> u32 {
        u32::try_from(secret.hash_one((address, port)) & u64::from(u32::MAX)).unwrap_or(0)
    }

    /// Where a probe goes, and from where.
    fn route(&mut self, probe: Probe) -> Result<Option<(IpAddr, IpAddr, u16)>, Errno> {
        let count = self.addresses.len().max(1);
        let (address, port) = match self.keys {
            Keys::Addresses => (probe.key, probe.variant),
            Keys::Ports => (probe.key % count, probe.key / count),
        };
        let (Some(target), Some(port)) = (self.addresses.get(address), self.ports.get(port)) else { return Ok(None) };
        let Some(known) = self.sources.get_mut(address) else { return Ok(None) };
        let source = match known {
            Some(source) => *source,
            None => *known.insert(
                socket::source_for(*target)
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NETUNREACH))?,
            ),
        };
        Ok(Some((source, *target, *port)))
    }
}

impl Prober for Syn<'_> {
    fn send(&mut self, batch: &[Probe]) -> (usize, Option<Halt>) {
        let (mut packets, mut halt) = (std::mem::take(&mut self.packets), None);
        packets.clear();
        for probe in batch {
            match self.route(*probe) {
                Ok(None) => {}
                Ok(Some((source, target, port))) => {
                    let sequence = Self::sequence(&self.secret, target, port);
                    packets.push((target, syn(source, self.source_port, target, port, sequence)));
                }
                Err(errno) => {
                    halt = Some(Halt::of(errno));
                    break;
                }
            }
        }
        let (taken, refused) = socket::send(&self.socket, &packets);
        // What cannot be routed is next only when all before it were taken.
        let halt = refused.or(halt.filter(|_| taken == packets.len()));
        self.packets = packets;
        (taken, halt)
    }

    fn receive(&mut self, answer: &mut dyn FnMut(usize, bool)) {
        let Self { socket, is_v6, source_port, secret, keys, addresses, address_at, port_at, .. } = self;
        socket::receive(socket, &mut |from, packet| {
            let segment = if *is_v6 { Some(packet) } else { behind_ipv4(packet) };
            let Some(got) = segment.and_then(tcp_answer).filter(|got| got.to == *source_port) else { return };
            let (Some(address), Some(port)) = (address_at.get(&from), port_at.get(&got.port)) else { return };
            if got.acknowledged != Self::sequence(secret, from, got.port).wrapping_add(1) {
                return;
            }
            match keys {
                Keys::Addresses => answer(*address, true),
                Keys::Ports => answer(port * addresses.len() + address, got.is_open),
            }
        });
    }

    fn wait(&mut self, limit: Duration) {
        socket::wait(&self.socket, limit);
    }
}
