//! What SNMP talks about: object identifiers and values (RFC 2578, section 2; RFC 3416).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Most parts of an object identifier (RFC 2578, 3.5).
pub(super) const SUBIDS_MAX: usize = 128;

/// An object identifier, at most 128 parts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Oid(Vec<u32>);

impl Oid {
    /// Of these parts; those after the 128th are left out.
    pub fn new(mut parts: Vec<u32>) -> Self {
        parts.truncate(SUBIDS_MAX);
        Self(parts)
    }

    /// Its parts.
    pub fn parts(&self) -> &[u32] {
        &self.0
    }

    /// With more parts at its end.
    pub fn with(&self, more: &[u32]) -> Self {
        Self::new([&self.0, more].concat())
    }

    /// What is left of it behind `root`, if it lies below `root`.
    pub fn below<'a>(&'a self, root: &Self) -> Option<&'a [u32]> {
        self.0.strip_prefix(root.0.as_slice()).filter(|rest| !rest.is_empty())
    }
}

impl FromStr for Oid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Option<Vec<u32>> =
            text.strip_prefix('.').unwrap_or(text).split('.').map(|part| part.parse().ok()).collect();
        let valid = |parts: &Vec<u32>| {
            (2..=SUBIDS_MAX).contains(&parts.len()) && matches!(parts.as_slice(), [0 | 1, 0..40, ..] | [2, ..])
        };
        parts.filter(valid).map(Self).ok_or("an object identifier is numbers with dots, such as 1.3.6.1.2.1.1")
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            write!(f, "{}{part}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value. Bytes are the device's own, whatever they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnmpValue {
    /// INTEGER.
    Integer(i32),
    /// OCTET STRING.
    Octets(Vec<u8>),
    /// NULL.
    Null,
    /// OBJECT IDENTIFIER.
    Oid(Oid),
    /// IpAddress.
    IpAddress([u8; 4]),
    /// Counter32.
    Counter32(u32),
    /// Gauge32, Unsigned32.
    Gauge32(u32),
    /// TimeTicks, hundredths of a second.
    TimeTicks(u32),
    /// Opaque.
    Opaque(Vec<u8>),
    /// Counter64.
    Counter64(u64),
    /// There is no such object.
    NoSuchObject,
    /// The object has no such instance.
    NoSuchInstance,
    /// Nothing comes after.
    EndOfMibView,
}

impl SnmpValue {
    /// Whether it is a value and not one of the three ways to say that there is none.
    pub fn is_some(&self) -> bool {
        !matches!(self, Self::NoSuchObject | Self::NoSuchInstance | Self::EndOfMibView)
    }

    /// A number of any type.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(i64::from(*number)),
            Self::Counter32(number) | Self::Gauge32(number) | Self::TimeTicks(number) => Some(i64::from(*number)),
            Self::Counter64(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// An OCTET STRING's bytes.
    pub fn octets(&self) -> Option<&[u8]> {
        match self {
            Self::Octets(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// As in a record of a call: type and value, bytes as hexadecimal digits.
impl fmt::Display for SnmpValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, name: &str, bytes: &[u8]| {
            write!(f, "{name} ")?;
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        match self {
            Self::Integer(number) => write!(f, "INTEGER {number}"),
            Self::Octets(bytes) => hex(f, "OCTETS", bytes),
            Self::Null => f.write_str("NULL"),
            Self::Oid(oid) => write!(f, "OID {oid}"),
            Self::IpAddress(bytes) => write!(f, "IpAddress {}", Ipv4Addr::from(*bytes)),
            Self::Counter32(number) => write!(f, "Counter32 {number}"),
            Self::Gauge32(number) => write!(f, "Gauge32 {number}"),
            Self::TimeTicks(number) => write!(f, "TimeTicks {number}"),
            Self::Opaque(bytes) => hex(f, "Opaque", bytes),
            Self::Counter64(number) => write!(f, "Counter64 {number}"),
            Self::NoSuchObject => f.write_str("noSuchObject"),
            Self::NoSuchInstance => f.write_str("noSuchInstance"),
            Self::EndOfMibView => f.write_str("endOfMibView"),
        }
    }
}

/// One object and its value.
pub type VarBind = (Oid, SnmpValue);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_identifiers_are_read_and_shown() {
        let oid: Oid = ".1.3.6.1.2.1.1".parse().unwrap();
        assert_eq!(oid.to_string(), "1.3.6.1.2.1.1");
        let child = oid.with(&[5, 0]);
        assert_eq!(child.below(&oid), Some(&[5, 0][..]));
        assert_eq!(oid.below(&oid), None);
        assert_eq!(oid.below(&child), None);
        for bad in ["", "1", "3.1", "1.40", "1.x", "1.3.", "1..3", "1.3.4294967296", "1.3.-1"] {
            assert!(bad.parse::<Oid>().is_err(), "{bad}");
        }
        assert!(format!("1.3{}", ".1".repeat(127)).parse::<Oid>().is_err());
    }
}
