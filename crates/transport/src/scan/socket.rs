//! Raw and datagram sockets for probes: opened, filtered, filled and emptied.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::addr::SocketAddrArg as _;
use rustix::net::{MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, recvfrom, sendmmsg, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::engine::Halt;

/// What is asked for as a receive buffer; the kernel gives less without privilege.
const BUFFER_BYTES: usize = 8 << 20;
/// Packets taken before somebody else has a turn.
const TAKE: usize = 4_096;

/// Opens a nonblocking socket with a large receive buffer.
pub(super) fn open(is_v6: bool, kind: Type, protocol: Protocol) -> std::io::Result<Socket> {
    let socket = Socket::new(if is_v6 { Domain::IPV6 } else { Domain::IPV4 }, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).is_err() {
        // Without CAP_NET_ADMIN: as much as anybody may have. Answers of one batch fit anyway.
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    }
    Ok(socket)
}

/// Lets only packets through whose byte (`is_wide`: two bytes) at `offset` of the transport header has a value (classic BPF). Raw IPv4 sockets
/// see the IP header before it, raw IPv6 sockets do not.
pub(super) fn keep_only(socket: &Socket, is_v6: bool, offset: u32, is_wide: bool, value: u32) -> std::io::Result<()> {
    let load = match (is_v6, is_wide) {
        (false, false) => 0x50,
        (false, true) => 0x48,
        (true, false) => 0x30,
        (true, true) => 0x28,
    };
    let rest = [
        SockFilter::new(load, 0, 0, offset),
        SockFilter::new(0x15, 0, 1, value),
        SockFilter::new(0x06, 0, 0, u32::from(u16::MAX)),
        SockFilter::new(0x06, 0, 0, 0),
    ];
    if is_v6 {
        return socket.attach_filter(&rest);
    }
    // The length of the IP header into the index register.
    let [a, b, c, d] = rest;
    socket.attach_filter(&[SockFilter::new(0xb1, 0, 0, 0), a, b, c, d])
}

/// Hands packets to the kernel in one call, and tells how many it took.
pub(super) fn send<const N: usize>(socket: &Socket, packets: &[(IpAddr, [u8; N])]) -> (usize, Option<Halt>) {
    let targets: Vec<SocketAddrAny> = packets.iter().map(|(target, _)| SocketAddr::new(*target, 0).as_any()).collect();
    let bytes: Vec<[IoSlice<'_>; 1]> = packets.iter().map(|(_, packet)| [IoSlice::new(packet)]).collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        packets.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut headers: Vec<MMsgHdr<'_>> = targets
        .iter()
        .zip(&bytes)
        .zip(&mut controls)
        .map(|((target, bytes), control)| MMsgHdr::new_with_addr(target, bytes, control))
        .collect();
    if headers.is_empty() {
        return (0, None);
    }
    match sendmmsg(socket, &mut headers, SendFlags::DONTWAIT) {
        Ok(taken) => (taken, None),
        Err(errno) => (0, Some(Halt::of(errno))),
    }
}

/// Takes packets that have arrived.
pub(super) fn receive(socket: &Socket, take: &mut dyn FnMut(IpAddr, &[u8])) {
    let mut buffer = [0u8; 512];
    for _ in 0..TAKE {
        // An error is the target's, by way of ICMP: it takes its place in the queue, and the next call goes on.
        match recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _, Some(from))) => {
                if let (Ok(from), Some(packet)) = (SocketAddr::try_from(from), buffer.get(..length)) {
                    take(from.ip().to_canonical(), packet);
                }
            }
            Err(rustix::io::Errno::AGAIN) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Waits until a packet is there, for so long at most.
pub(super) fn wait(socket: &Socket, limit: Duration) {
    let timeout =
        Timespec { tv_sec: i64::try_from(limit.as_secs()).unwrap_or(1), tv_nsec: i64::from(limit.subsec_nanos()) };
    // An interrupted wait is a short one.
    let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout));
}

/// The address that this machine sends from to a target, as its routes have it.
pub(super) fn source_for(target: IpAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = match target {
        IpAddr::V4(_) => ([0; 4], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    // Nothing is sent: it only asks for the route.
    socket.connect((target, 9))?;
    Ok(socket.local_addr()?.ip())
}
