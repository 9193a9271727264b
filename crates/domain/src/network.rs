//! Networks from which something is allowed: an address and how many of its leading bits count (CIDR, RFC 4632).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// A network of either address family. The bits behind the prefix are zero, so that one network has one spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The address's bits from the left, and how many there are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The first `prefix` bits set.
fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl Network {
    /// The network of one address.
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: bits(address).1 }
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        self.address
    }

    /// How many bits of its addresses are not fixed.
    pub fn host_bits(&self) -> u8 {
        bits(self.address).1 - self.prefix
    }

    /// Whether the address lies inside. An IPv4 address that is written as IPv6 (`::ffff:a.b.c.d`) is that IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, own_bits) = bits(self.address);
        let (other, other_bits) = bits(address.to_canonical());
        own_bits == other_bits && (own ^ other) & mask(self.prefix) == 0
    }

    /// What lies in both: of two networks one contains the other, or they have nothing in common.
    pub fn within(&self, other: &Self) -> Option<Self> {
        let (wide, narrow) = if self.prefix <= other.prefix { (self, other) } else { (other, self) };
        wide.contains(narrow.address).then_some(*narrow)
    }

    /// Whether it is one address.
    pub fn is_one_address(&self) -> bool {
        self.prefix == bits(self.address).1
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| {
            Err(Error::invalid(
                "networks",
                format!("`{}` is not a network: {why}, such as `10.0.0.0/8` or `2001:db8::/32`", text.escape_debug()),
            ))
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else { return refuse("use an address and a prefix length") };
        if address != address.to_canonical() {
            return refuse("write an IPv4 address as one");
        }
        let (value, width) = bits(address);
        let prefix = match prefix {
            None => width,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
                return refuse("the prefix length is a number");
            }
            Some(digits) if digits.len() > 1 && digits.starts_with('0') => return refuse("leave out the leading zero"),
            Some(digits) => match digits.parse::<u8>() {
                Ok(prefix) if prefix <= width => prefix,
                _ => return refuse("the prefix is longer than the address"),
            },
        };
        if value & !mask(prefix) != 0 {
            return refuse("the bits behind the prefix must be zero");
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn inside(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_inside_by_its_leading_bits_and_its_family() {
        for (network, address, expect) in [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("192.0.2.6/31", "192.0.2.7", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "203.0.113.9", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2001:db8::1", "2001:db8::2", false),
        ] {
            assert_eq!(inside(network, address), expect, "{network} {address}");
        }
    }

    #[test]
    fn one_network_has_one_spelling() {
        assert_eq!("192.0.2.7".parse::<Network>().unwrap().to_string(), "192.0.2.7/32");
        for bad in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.1/8",
            "::1/127",
            "::/129",
            "::ffff:10.0.0.0/104",
            "10.0.0/8",
            "010.0.0.0/8",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "10.0.0.0/8/8",
            "localhost",
            "*",
            "fe80::1%eth0/64",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn membership_agrees_with_comparing_bit_by_bit(a: u32, b: u32, prefix in 0u8..=32) {
            let kept = if prefix == 0 { 0 } else { a >> (32 - prefix) << (32 - prefix) };
            let network: Network = format!("{}/{prefix}", Ipv4Addr::from_bits(kept)).parse().unwrap();
            let same = (0..prefix).all(|bit| (a >> (31 - bit)) & 1 == (b >> (31 - bit)) & 1);
            prop_assert_eq!(network.contains(Ipv4Addr::from_bits(b).into()), same);
            prop_assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
        }

        #[test]
        fn what_lies_in_both_is_what_each_contains(a: u32, b: u32, c: u32, p in 0u8..=32, q in 0u8..=32) {
            let of = |address: u32, prefix: u8| {
                let kept = if prefix == 0 { 0 } else { address >> (32 - prefix) << (32 - prefix) };
                format!("{}/{prefix}", Ipv4Addr::from_bits(kept)).parse::<Network>().unwrap()
            };
            // The second is near the first, so that they meet often.
            let (one, other) = (of(a, p), of(a ^ (b >> (p / 2)), q));
            for address in [a, b, c, a ^ (b >> (p / 2))] {
                let address = Ipv4Addr::from_bits(address).into();
                let both = one.within(&other).is_some_and(|both| both.contains(address));
                prop_assert_eq!(both, one.contains(address) && other.contains(address));
            }
            prop_assert_eq!(one.within(&other), other.within(&one));
            prop_assert_eq!(one.within(&"::/0".parse().unwrap()), None);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-f:./%]{0,45}|.{0,20}", address: u128) {
            if let Ok(network) = text.parse::<Network>() {
                network.contains(Ipv6Addr::from_bits(address).into());
            }
        }
    }
}
