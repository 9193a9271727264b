//! SNMP v1, v2c and v3: reading devices over UDP. See ADR 0034 for why this is our own.
//!
//! **Not for** knowing what an object means (the `snmp` plugin does), and not for setting anything: there is no SET here.
//!
//! Invariants:
//! - an answer counts only from the address that was asked, with the id of its question, and with v3 under the security that was asked with;
//! - no address is asked that the guard refuses;
//! - a device gets two requests at a time, and is left alone when it took its time or sent its bytes;
//! - a walk goes forward or ends: what comes twice or goes back ends it;
//! - nothing here recurses or allocates by what a length says, so that no bytes can do harm;
//! - a FIPS build refuses MD5 and DES when a credential is read.

mod ber;
mod client;
mod credentials;
mod message;
mod pace;
mod reach;
mod socket;
mod usm;
mod value;
mod walk;

pub use client::{SnmpClient, SnmpConfig};
pub use credentials::{SnmpCredentials, SnmpSecurity};
pub use reach::{SnmpReach, Walked};
pub use value::{Oid, SnmpValue, VarBind};

/// Reads any bytes as a datagram of each version.
pub(crate) fn read_any(bytes: &[u8]) {
    use message::Version;
    let _ = message::id(bytes);
    for version in [Version::V1, Version::V2c] {
        let _ = message::read_community(version, b"public", bytes);
    }
    if let Ok((message, _)) = message::read_v3(bytes) {
        let _ = message::read_scoped(message.data, true);
    }
    let _ = message::read_scoped(bytes, false);
}

/// Port of SNMP.
pub const PORT: u16 = 161;

#[cfg(test)]
mod tests;
