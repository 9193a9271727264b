//! The kernel's sockets: `sock_diag(7)` over netlink, `/proc/net` where that is not permitted.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with, sockopt};

use super::{failure, words};
use crate::call::{CallError, Socket};

const SOCKETS: usize = 500_000;
const PROC_BYTES: u64 = 128 * 1_024 * 1_024;
const REPLY_BYTES: usize = 256 * 1_024;
/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLM_F_DUMP_INTR`: the table changed while it was dumped.
const INTERRUPTED: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// (name, IPPROTO number)
const PROTOCOLS: [(&str, u8); 2] = [("tcp", 6), ("udp", 17)];
/// (AF number, whether IPv6)
const FAMILIES: [(u8, bool); 2] = [(2, false), (10, true)];

/// Names of include/net/tcp_states.h.
fn state(protocol: &str, number: u8) -> &'static str {
    match (protocol, number) {
        ("udp", 7) => "unconnected",
        (_, 1) => "established",
        (_, 2) => "syn_sent",
        (_, 3 | 12) => "syn_recv",
        (_, 4) => "fin_wait1",
        (_, 5) => "fin_wait2",
        (_, 6) => "time_wait",
        (_, 7) => "close",
        (_, 8) => "close_wait",
        (_, 9) => "last_ack",
        (_, 10) => "listen",
        (_, 11) => "closing",
        _ => "unknown",
    }
}

/// Every socket, sorted.
pub(super) fn all() -> Result<Vec<Socket>, CallError> {
    let mut out = Vec::new();
    for (protocol, number) in PROTOCOLS {
        for (family, v6) in FAMILIES {
            match diag(protocol, number, family) {
                Ok(sockets) => out.extend(sockets),
                // Not permitted, no udp_diag module, no IPv6: the files say the same.
                Err(_) => out.extend(from_proc(protocol, v6)?),
            }
        }
    }
    if out.len() > SOCKETS {
        return Err(CallError::TooLarge { max: SOCKETS });
    }
    sort(&mut out);
    Ok(out)
}

/// One dump, tried again when it was interrupted by a change.
fn diag(protocol: &'static str, number: u8, family: u8) -> Result<Vec<Socket>, Errno> {
    let fd = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(Duration::from_secs(5)))?;
    for attempt in 1..=3u32 {
        let mut request = Vec::with_capacity(72);
        request.extend(72u32.to_ne_bytes());
        request.extend(BY_FAMILY.to_ne_bytes());
        request.extend(DUMP.to_ne_bytes());
        request.extend(attempt.to_ne_bytes());
        request.extend([0; 4]);
        request.extend([family, number, 0, 0]);
        // Every state; then an empty socket id.
        request.extend(u32::MAX.to_ne_bytes());
        request.extend([0; 48]);
        sendto(&fd, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let (mut out, mut interrupted, mut done) = (Vec::new(), false, false);
        let mut buffer = vec![0u8; REPLY_BYTES];
        while !done {
            let (length, _) = recv(&fd, buffer.as_mut_slice(), RecvFlags::empty())?;
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                interrupted |= message.flags & INTERRUPTED != 0;
                match message.kind {
                    // A dump that failed (no udp_diag module, say) ends with a negative error number: not with an empty table.
                    NLMSG_DONE if u32_at(message.body, 0).is_some_and(|code| code.cast_signed() < 0) => {
                        return Err(Errno::OPNOTSUPP);
                    }
                    NLMSG_DONE => done = true,
                    NLMSG_ERROR => return Err(Errno::OPNOTSUPP),
                    BY_FAMILY => out.extend(entry(protocol, message.body)),
                    _ => {}
                }
            }
            if length == 0 || out.len() > SOCKETS {
                return Err(Errno::NOBUFS);
            }
        }
        if !interrupted {
            return Ok(out);
        }
    }
    Err(Errno::INTR)
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<[u8; 2]> {
    bytes.get(at..at + 2)?.try_into().ok()
}

/// The netlink messages of one datagram; what is cut is left out.
fn messages(mut rest: &[u8]) -> Vec<Message<'_>> {
    let mut out = Vec::new();
    while let (Some(length), Some(kind), Some(flags)) = (u32_at(rest, 0), u16_at(rest, 4), u16_at(rest, 6)) {
        let Ok(length) = usize::try_from(length) else { break };
        let Some(body) = rest.get(HEADER..length) else { break };
        out.push(Message { kind: u16::from_ne_bytes(kind), flags: u16::from_ne_bytes(flags), body });
        // Messages are aligned to four bytes.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}

/// `struct inet_diag_msg`.
fn entry(protocol: &'static str, body: &[u8]) -> Option<Socket> {
    let (family, number) = (*body.first()?, *body.get(1)?);
    let address = |at: usize| -> Option<IpAddr> {
        if family == 2 {
            let octets: [u8; 4] = body.get(at..at + 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        } else {
            let octets: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
    };
    let port = |at: usize| u16_at(body, at).map(u16::from_be_bytes);
    Some(Socket {
        protocol,
        local: SocketAddr::new(address(8)?, port(4)?),
        remote: SocketAddr::new(address(24)?, port(6)?),
        state: state(protocol, number),
        uid: u32_at(body, 64)?,
        inode: u32_at(body, 68)?.into(),
    })
}

fn from_proc(protocol: &'static str, v6: bool) -> Result<Vec<Socket>, CallError> {
    let path = format!("/proc/net/{protocol}{}", if v6 { "6" } else { "" });
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        // A kernel without IPv6 has no such sockets.
        Err(error) if v6 && error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Errno::from_io_error(&error)
                .map_or_else(|| CallError::Unreachable(words(&path)), |errno| failure(&path, errno)));
        }
    };
    let mut text = String::new();
    file.take(PROC_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| CallError::Malformed(words(&format!("{path}: {error}"))))?;
    Ok(from_text(protocol, &text))
}

/// The sockets in a file of `/proc/net`.
pub(crate) fn from_text(protocol: &'static str, text: &str) -> Vec<Socket> {
    text.lines().skip(1).take(SOCKETS).filter_map(|line| line_of(protocol, line)).collect()
}

/// In the order in which they are shown.
pub(crate) fn sort(sockets: &mut [Socket]) {
    sockets.sort_by(|a, b| (a.protocol, a.local, a.remote, a.inode).cmp(&(b.protocol, b.local, b.remote, b.inode)));
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`, addresses in hexadecimal words of the machine's byte order.
fn line_of(protocol: &'static str, line: &str) -> Option<Socket> {
    let row: Vec<&str> = line.split_whitespace().collect();
    let end = |text: &str| -> Option<SocketAddr> {
        let (address, port) = text.split_once(':')?;
        let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
        let address: IpAddr = match address.len() {
            8 => Ipv4Addr::from(word(0)?).into(),
            32 => {
                let octets: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
                Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()
            }
            _ => return None,
        };
        Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
    };
    Some(Socket {
        protocol,
        local: end(row.get(1)?)?,
        remote: end(row.get(2)?)?,
        state: state(protocol, u8::from_str_radix(row.get(3)?, 16).ok()?),
        uid: row.get(7)?.parse().ok()?,
        inode: row.get(9)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn proc_lines_are_read_in_the_machines_byte_order() {
        let line =
            "0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4242 1 0 100 0 0 10 0";
        let got = line_of("tcp", line).unwrap();
        assert_eq!(
            (got.local.to_string().as_str(), got.state, got.uid, got.inode),
            ("127.0.0.1:8080", "listen", 1_000, 4_242)
        );
        let line = "0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 7";
        assert_eq!(line_of("udp", line).unwrap().local.to_string(), "[::1]:22");
        assert_eq!(line_of("tcp", "rubbish"), None);
    }

    #[test]
    fn netlink_and_proc_show_the_same_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let find = |list: Vec<Socket>| list.into_iter().find(|s| s.local == address && s.state == "listen");
        let proc = find(from_proc("tcp", false).unwrap()).unwrap();
        assert_eq!(find(all().unwrap()), Some(proc.clone()));
        if let Ok(diag) = diag("tcp", 6, 2) {
            assert_eq!(find(diag), Some(proc));
        }
    }

    #[test]
    fn a_bound_udp_socket_is_shown_whether_or_not_the_kernel_has_udp_diag() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let found = all().unwrap().into_iter().find(|s| s.protocol == "udp" && s.local == address).unwrap();
        assert_eq!((found.state, found.remote.port()), ("unconnected", 0));
    }

    proptest! {
        #[test]
        fn no_input_makes_a_parser_panic(bytes: Vec<u8>, text in "(?s)[0-9A-F: x]{0,120}") {
            for message in messages(&bytes) {
                let _ = entry("tcp", message.body);
            }
            let _ = (entry("udp", &bytes), line_of("udp", &text));
        }
    }
}
