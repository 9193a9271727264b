//! Which device this is, whatever address it answers at. Pure. See ADR 0034.
//!
//! The first of these that a device has and that is not junk: its engine id, its chassis' hardware address, its serial number, the address
//! at which it was asked. Junk identifies nothing: what a maker left in every box, what an administrator did not fill in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::device::hex;

/// Longest serial number that is one.
const SERIAL: usize = 64;

/// Serial numbers and names that makers and administrators leave in many boxes, without case, blanks and punctuation.
const JUNK: &[&str] = &[
    "",
    "0123456789",
    "12345678",
    "123456789",
    "1234567890",
    "abcdefgh",
    "chassis",
    "default",
    "defaultstring",
    "empty",
    "fixme",
    "invalid",
    "localhost",
    "localhostlocaldomain",
    "na",
    "nil",
    "none",
    "noserial",
    "noserialnumber",
    "notapplicable",
    "notavailable",
    "notpresent",
    "notset",
    "notspecified",
    "null",
    "oem",
    "router",
    "serial",
    "serialnumber",
    "snmp",
    "snmpd",
    "snmpv3",
    "switch",
    "systemserialnumber",
    "test",
    "tobefilled",
    "tobefilledbyoem",
    "unknown",
    "unset",
    "xxxxxxxxxx",
];

/// Whether a text tells nothing apart.
pub(super) fn is_junk(text: &str) -> bool {
    let folded: String = text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let first = folded.chars().next();
    folded.len() < 4 || folded.chars().all(|c| Some(c) == first) || JUNK.contains(&folded.as_str())
}

/// Whether six bytes are no one device's address: none, a group's, a sample in a data sheet, or a virtual router's.
pub(super) fn is_junk_mac(bytes: [u8; 6]) -> bool {
    let [first, second, third, fourth, ..] = bytes;
    let counting =
        bytes.windows(2).all(|pair| matches!(pair, [a, b] if b.wrapping_sub(*a) == 1 || b.wrapping_sub(*a) == 0x11));
    let rest_is_zero = bytes.iter().skip(1).all(|byte| *byte == 0);
    let virtual_router =
        [first, second, third, fourth] == [0, 0, 0x5e, 0] || [first, second, third] == [0, 0, 0x0c] && fourth == 7;
    bytes.iter().all(|byte| *byte == first) || first & 1 == 1 || counting || rest_is_zero || virtual_router
}

/// Whether an engine id (RFC 3411, SnmpEngineID) tells nothing apart.
fn is_junk_engine(id: &[u8]) -> bool {
    let Some((enterprise, rest)) = id.split_first_chunk::<4>() else { return true };
    if !(5..=32).contains(&id.len()) || enterprise.iter().all(|byte| *byte == 0) {
        return true;
    }
    if enterprise.first().is_some_and(|byte| byte & 0x80 == 0) {
        // Of a maker's own shape (12 bytes).
        return is_uniform(rest);
    }
    match rest.split_first() {
        Some((1, address)) => {
            <[u8; 4]>::try_from(address).map_or(true, |address| nobodys(Ipv4Addr::from(address).into()))
        }
        Some((2, address)) => {
            <[u8; 16]>::try_from(address).map_or(true, |address| nobodys(Ipv6Addr::from(address).into()))
        }
        Some((3, address)) => <[u8; 6]>::try_from(address).map_or(true, is_junk_mac),
        Some((4, text)) => is_junk(&String::from_utf8_lossy(text)),
        Some((_, rest)) => rest.len() < 4 || is_uniform(rest),
        None => true,
    }
}

fn is_uniform(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| bytes.iter().all(|byte| byte == first))
}

/// An address that every machine has, or that is not yet its own.
fn nobodys(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    }
}

/// What a device is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// A part of ids and scopes: letters, digits, `.`, `_` and `-`.
    pub(super) id: String,
    /// `engine_id`, `mac`, `serial` or `address`.
    pub(super) by: &'static str,
}

/// By its engine id or its chassis' hardware address, where they tell it apart.
pub(super) fn strong(engine: Option<&[u8]>, mac: Option<&[u8]>) -> Option<Identity> {
    let by_engine = engine
        .filter(|id| !is_junk_engine(id))
        .map(|id| Identity { id: format!("engine-{}", hex(id)), by: "engine_id" });
    by_engine.or_else(|| {
        let bytes = <[u8; 6]>::try_from(mac?).ok().filter(|bytes| !is_junk_mac(*bytes))?;
        Some(Identity { id: format!("mac-{}", hex(&bytes)), by: "mac" })
    })
}

/// By a serial number, of the maker with this enterprise number.
pub(super) fn by_serial(enterprise: u32, serial: &str) -> Option<Identity> {
    let serial = serial.trim();
    let plain = serial.len() <= SERIAL && serial.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (plain && !is_junk(serial)).then(|| Identity { id: format!("serial-{enterprise}-{serial}"), by: "serial" })
}

/// By the address at which it was asked.
pub(super) fn by_address(address: SocketAddr) -> Identity {
    let ip = address.ip().to_canonical().to_string().replace([':', '%'], "-");
    let port = if address.port() == transport::snmp::PORT { String::new() } else { format!("_{}", address.port()) };
    Identity { id: format!("ip-{ip}{port}"), by: "address" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_first_that_tells_a_device_apart_is_its_identity() {
        let engine = bytes("80001f8880b7c4d8431a6e5d6700000000");
        let mac = bytes("001b21a4c377");
        let id = |identity: Option<Identity>| identity.map(|identity| identity.id);
        let by_engine = Some("engine-80001f8880b7c4d8431a6e5d6700000000".to_owned());
        assert_eq!(id(strong(Some(&engine), Some(&mac))), by_engine);
        assert_eq!(id(strong(None, Some(&mac))).as_deref(), Some("mac-001b21a4c377"));
        assert_eq!(id(by_serial(9, " FOC1234X0AB ")).as_deref(), Some("serial-9-FOC1234X0AB"));
        assert_eq!(by_address("192.0.2.1:161".parse().unwrap()).id, "ip-192.0.2.1");
        assert_eq!(by_address("[2001:db8::7]:1161".parse().unwrap()).id, "ip-2001-db8--7_1161");
        assert_eq!(by_address("[::ffff:192.0.2.1]:161".parse().unwrap()).id, "ip-192.0.2.1");
    }

    #[test]
    fn what_is_in_many_boxes_identifies_none() {
        for (engine, why) in [
            ("80001f88017f000001", "the address of every machine itself"),
            ("80001f880100000000", "no address"),
            ("80001f8802fe800000000000000000000000000001", "a link-local address"),
            ("800000090300000000", "too short for a hardware address"),
            ("8000000903000000000000", "no hardware address"),
            ("8000000903ffffffffffff", "everybody's hardware address"),
            ("8000000903001122334455", "a sample"),
            ("80001f88046c6f63616c686f7374", "the text localhost"),
            ("80001f8804", "an empty text"),
            ("80001f88800000000000000000", "nothing behind the format"),
            ("0000000902000000000000ff", "no engine but zeros behind the maker"),
            ("000000000000000000000000", "nothing"),
            ("80001f", "too short"),
            ("", "nothing at all"),
        ] {
            let found = strong(Some(&bytes(engine)), None);
            if why.starts_with("no engine but") {
                assert!(found.is_some(), "a maker's own shape with something in it: {found:?}");
            } else {
                assert_eq!(found, None, "{why}");
            }
        }
        for mac in [
            "000000000000",
            "ffffffffffff",
            "01005e000001",
            "020000000000",
            "00005e000101",
            "00000c07ac01",
            "001122334455",
            "12345",
        ] {
            let mac = if mac.len() == 12 { bytes(mac) } else { vec![1; 5] };
            assert_eq!(strong(None, Some(&mac)), None, "{mac:x?}");
        }
        for serial in [
            "",
            "0",
            "............",
            "N/A",
            "None",
            "To be filled by O.E.M.",
            "0000000000",
            "xxxxxxxxxx",
            "a b",
            "x:y:12345",
            &"9a".repeat(40),
        ] {
            assert_eq!(by_serial(9, serial), None, "{serial}");
        }
    }

    #[test]
    fn no_identity_holds_a_colon_or_a_blank() {
        for identity in [
            strong(Some(&bytes("80001f8804203a3a4162636420")), None),
            by_serial(u32::MAX, "A-1.b_2"),
            Some(by_address("[fe80::1%3]:1".parse().unwrap())),
        ] {
            let id = identity.unwrap().id;
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{id}");
        }
    }
}
