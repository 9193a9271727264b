//! Bytes of probes and of their answers: ICMP (RFC 792), ICMPv6 (RFC 4443), TCP (RFC 9293). Pure.
//!
//! Every probe carries something that only who received it can know: a stranger's packets are no answers.

use std::net::IpAddr;

/// The Internet checksum (RFC 1071) of some pieces, each but the last of even length.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for piece in pieces {
        for pair in piece.chunks(2) {
            let (high, low) = (pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0));
            sum += u64::from(u16::from_be_bytes([high, low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn double(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// What follows an IPv4 header.
pub(super) fn behind_ipv4(packet: &[u8]) -> Option<&[u8]> {
    let words = usize::from(packet.first()? & 0x0f);
    packet.get(words.max(5) * 4..)
}

/// Bytes of an echo request.
pub(super) const ECHO_BYTES: usize = 20;

/// An echo request. `key` comes back in the answer, and `secret` proves that it is one.
pub(super) fn echo_request(is_v6: bool, ident: u16, key: u32, secret: u64) -> [u8; ECHO_BYTES] {
    let mut out = [0; ECHO_BYTES];
    let [kind, rest @ ..] = &mut out;
    *kind = if is_v6 { 128 } else { 8 };
    let sequence = u16::try_from(key & 0xffff).unwrap_or(0);
    let bytes =
        [&[0u8, 0, 0][..], &ident.to_be_bytes(), &sequence.to_be_bytes(), &key.to_be_bytes(), &secret.to_be_bytes()];
    for (to, from) in rest.iter_mut().zip(bytes.into_iter().flatten()) {
        *to = *from;
    }
    // The kernel does it for ICMPv6, whose checksum covers addresses.
    if !is_v6 {
        let sum = checksum(&[&out]).to_be_bytes();
        for (to, from) in out.iter_mut().skip(2).zip(sum) {
            *to = from;
        }
    }
    out
}

/// Key and secret of an echo reply. The identifier is not compared: the kernel sets its own on sockets without privilege.
pub(super) fn echo_reply(is_v6: bool, message: &[u8]) -> Option<(u32, u64)> {
    let kind = if is_v6 { 129 } else { 0 };
    if message.first() != Some(&kind) || message.get(1) != Some(&0) {
        return None;
    }
    Some((double(message, 8)?, u64::from_be_bytes(message.get(12..20)?.try_into().ok()?)))
}

/// Bytes of a SYN.
pub(super) const SYN_BYTES: usize = 24;

/// A SYN with a maximum segment size as its only option.
pub(super) fn syn(source: IpAddr, source_port: u16, target: IpAddr, port: u16, sequence: u32) -> [u8; SYN_BYTES] {
    let mut out = [0; SYN_BYTES];
    let fields = [
        &source_port.to_be_bytes()[..],
        &port.to_be_bytes(),
        &sequence.to_be_bytes(),
        &[0, 0, 0, 0],
        // Six words of header; SYN; window 1,024; no checksum yet; nothing urgent; MSS 1,460.
        &[0x60, 0x02, 0x04, 0x00, 0, 0, 0, 0, 2, 4, 0x05, 0xb4],
    ];
    for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
    let length = [0, 0, 0, 24, 0, 0, 0, 6];
    let sum = match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => checksum(&[&source.octets(), &target.octets(), &length, &out]),
        (IpAddr::V6(source), IpAddr::V6(target)) => checksum(&[&source.octets(), &target.octets(), &length, &out]),
        _ => 0,
    };
    for (to, from) in out.iter_mut().skip(16).zip(sum.to_be_bytes()) {
        *to = from;
    }
    out
}

/// An answer to a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TcpAnswer {
    /// The port that was asked.
    pub(super) port: u16,
    /// Where the answer went.
    pub(super) to: u16,
    /// What it acknowledges: one more than the probe's sequence.
    pub(super) acknowledged: u32,
    /// SYN and ACK; else RST and ACK.
    pub(super) is_open: bool,
}

/// The answer in a TCP segment, if it is one.
pub(super) fn tcp_answer(segment: &[u8]) -> Option<TcpAnswer> {
    let flags = *segment.get(13)?;
    let is_open = match flags & 0x17 {
        0x12 => true,
        0x14 => false,
        _ => return None,
    };
    Some(TcpAnswer { port: word(segment, 0)?, to: word(segment, 2)?, acknowledged: double(segment, 8)?, is_open })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_echo_request_is_as_rfc_792_says_and_comes_back_as_a_reply() {
        let mut request = echo_request(false, 0xbeef, 0x0001_0203, 0x1122_3344_5566_7788);
        assert_eq!((request[0], checksum(&[&request])), (8, 0), "a checksum over itself is zero");
        assert_eq!((word(&request, 4), word(&request, 6)), (Some(0xbeef), Some(0x0203)));
        request[0] = 0;
        assert_eq!(echo_reply(false, &request), Some((0x0001_0203, 0x1122_3344_5566_7788)));
        assert_eq!(echo_reply(true, &request), None);
    }

    #[test]
    fn a_syn_has_the_checksum_of_its_addresses() {
        for (source, target) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8::2")] {
            let (source, target): (IpAddr, IpAddr) = (source.parse().unwrap(), target.parse().unwrap());
            let segment = syn(source, 40_000, target, 443, 7);
            let mut pseudo = Vec::new();
            for address in [source, target] {
                match address {
                    IpAddr::V4(address) => pseudo.extend(address.octets()),
                    IpAddr::V6(address) => pseudo.extend(address.octets()),
                }
            }
            assert_eq!(checksum(&[&pseudo, &[0, 0, 0, 24, 0, 0, 0, 6], &segment]), 0);
            assert_eq!((word(&segment, 0), word(&segment, 2), double(&segment, 4)), (Some(40_000), Some(443), Some(7)));
            assert_eq!(tcp_answer(&segment), None, "a SYN alone is no answer");
        }
    }

    #[test]
    fn only_syn_ack_and_rst_ack_are_answers() {
        for (flags, expect) in [(0x12, Some(true)), (0x14, Some(false)), (0x52, Some(true)), (0x04, None), (0x10, None)]
        {
            let mut segment = [0; 20];
            segment[..12].copy_from_slice(&[0x01, 0xbb, 0x9c, 0x40, 0, 0, 0, 0, 0, 0, 0, 8]);
            segment[13] = flags;
            let got = tcp_answer(&segment);
            assert_eq!(got.map(|answer| answer.is_open), expect, "{flags:#x}");
            assert!(got.is_none_or(|answer| (answer.port, answer.to, answer.acknowledged) == (443, 40_000, 8)));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let behind = behind_ipv4(&bytes).unwrap_or_default();
            let _ = (echo_reply(false, behind), echo_reply(true, &bytes), tcp_answer(behind), tcp_answer(&bytes));
        }
    }
}
