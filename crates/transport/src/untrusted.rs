//! The readers of what targets send, for any bytes: what `fuzzing` calls. Nothing else does.

/// A datagram of an SNMP agent, of every version.
pub fn snmp(bytes: &[u8]) {
    crate::snmp::read_any(bytes);
}

/// What a scanned host answers: packets, TLS handshakes, certificates.
pub fn scan(bytes: &[u8]) {
    crate::scan::read_any(bytes);
}
