//! Echo requests: keys are addresses.

use std::hash::{BuildHasher as _, RandomState};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Protocol, Socket, Type};

use super::engine::{Halt, Probe, Prober};
use super::packet::{ECHO_BYTES, behind_ipv4, echo_reply, echo_request};
use super::socket;
use crate::call::CallError;

/// Asks addresses of one family.
pub(super) struct Echo<'a> {
    socket: Socket,
    is_v6: bool,
    /// Whether packets arrive with their IPv4 header.
    has_header: bool,
    ident: u16,
    secret: RandomState,
    addresses: &'a [IpAddr],
    packets: Vec<(IpAddr, [u8; ECHO_BYTES])>,
}

/// What somebody has to permit.
pub(super) const PERMIT: &str = "ICMP echo is not permitted to this program: give it CAP_NET_RAW (in its unit: `AmbientCapabilities=CAP_NET_RAW`), or let the group that it runs as into `net.ipv4.ping_group_range`";

impl<'a> Echo<'a> {
    /// Opens a raw socket, or else the kind that is open to a range of groups.
    pub(super) fn open(is_v6: bool, addresses: &'a [IpAddr]) -> Result<Self, CallError> {
        let protocol = if is_v6 { Protocol::ICMPV6 } else { Protocol::ICMPV4 };
        let failed = |error: &std::io::Error| match error.kind() {
            ErrorKind::PermissionDenied => CallError::Denied(PERMIT.to_owned()),
            _ => CallError::Unreachable(format!("no ICMP socket: {error}")),
        };
        let (socket, is_raw) = match socket::open(is_v6, Type::RAW, protocol) {
            Ok(socket) => {
                let reply = if is_v6 { 129 } else { 0 };
                socket::keep_only(&socket, is_v6, 0, false, reply).map_err(|error| failed(&error))?;
                (socket, true)
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                (socket::open(is_v6, Type::DGRAM, protocol).map_err(|error| failed(&error))?, false)
            }
            Err(error) => return Err(failed(&error)),
        };
        let secret = RandomState::new();
        let ident = u16::try_from(secret.hash_one("ident") & 0xffff).unwrap_or(0);
        Ok(Self { socket, is_v6, has_header: is_raw && !is_v6, ident, secret, addresses, packets: Vec::new() })
    }
}

impl Prober for Echo<'_> {
    fn send(&mut self, batch: &[Probe]) -> (usize, Option<Halt>) {
        self.packets.clear();
        for probe in batch {
            let Some(address) = self.addresses.get(probe.key) else { continue };
            let key = u32::try_from(probe.key).unwrap_or(u32::MAX);
            let request = echo_request(self.is_v6, self.ident, key, self.secret.hash_one((address, key)));
            self.packets.push((*address, request));
        }
        socket::send(&self.socket, &self.packets)
    }

    fn receive(&mut self, answer: &mut dyn FnMut(usize, bool)) {
        let Self { socket, is_v6, has_header, secret, addresses, .. } = self;
        socket::receive(socket, &mut |from, packet| {
            let message = if *has_header { behind_ipv4(packet) } else { Some(packet) };
            let Some((key, shown)) = message.and_then(|message| echo_reply(*is_v6, message)) else { return };
            let Ok(at) = usize::try_from(key) else { return };
            if addresses.get(at) == Some(&from) && shown == secret.hash_one((&from, key)) {
                answer(at, true);
            }
        });
    }

    fn wait(&mut self, limit: Duration) {
        socket::wait(&self.socket, limit);
    }
}
