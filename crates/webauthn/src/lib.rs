//! Passkeys: the relying party's side of Web Authentication (W3C, Level 3), for keys that sign with ES256, RS256 or EdDSA.
//!
//! [`register`] checks what a browser returns for a new credential, [`authenticate`] what it returns for a known one. Both are pure: the
//! challenge, the relying party and the stored key are handed in, and what comes back is what to store.
//!
//! **Not for** keeping challenges (they are the caller's: single use, short-lived), for attestation (who made an authenticator is not
//! asked for: `none`, and `packed` signed by the credential itself), or for extensions, which are read over and not used.
//!
//! Invariants:
//! - every input is bounded before it is read, and read completely: nothing behind it, nothing twice, nothing of indefinite length;
//! - type, challenge, origin, relying party, the user's presence and the signature are checked in every case;
//! - a credential of a kind that could not be verified later is refused when it is registered.
#![warn(missing_docs)]

mod assertion;
pub mod authenticator_data;
mod cbor;
mod client_data;
mod cose;
mod registration;
#[cfg(test)]
mod vectors;

pub use assertion::{Assertion, Authenticated, authenticate};
pub use cose::PublicKey;
pub use registration::{Registered, register};

/// Longest `clientDataJSON`, in bytes.
pub const CLIENT_DATA_BYTES_MAX: usize = 8 * 1_024;
/// Longest attestation object or authenticator data, in bytes.
pub const AUTHENTICATOR_BYTES_MAX: usize = 16 * 1_024;
/// Longest credential id, in bytes (section 4, "Credential ID").
pub const CREDENTIAL_ID_BYTES_MAX: usize = 1_023;

/// For whom credentials are made, and where they are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    /// The domain, e.g. `cairn.example.org`.
    pub id: String,
    /// The one origin that is accepted, e.g. `https://cairn.example.org:8443`.
    pub origin: String,
}

impl RelyingParty {
    /// The relying party of an origin: its host name. None where the origin is not `https://` and a domain, as browsers refuse it there.
    pub fn of_origin(origin: &str) -> Option<Self> {
        let rest = origin.strip_prefix("https://")?;
        let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
        let is_label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let is_domain = host.len() <= 253
            && host.split('.').all(is_label)
            && host.rsplit('.').next().is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()));
        // A browser never writes the default port, and writes any other without leading zeros.
        let is_port =
            port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number != 443 && number.to_string() == port));
        (is_domain && is_port).then(|| Self { id: host.to_owned(), origin: origin.to_owned() })
    }
}

/// Whether the authenticator must have verified the user (a PIN, a fingerprint) and not only noticed somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserVerification {
    /// It proves possession and user: good as the only factor.
    Required,
    /// It proves possession: good as a second factor.
    Any,
}

/// Why a ceremony is refused. For the audit log; callers are told less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bytes are not what the standard says.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// It is of the other ceremony.
    #[error("of another ceremony")]
    Ceremony,
    /// It answers another challenge.
    #[error("of another challenge")]
    Challenge,
    /// It was made on another page, or inside one.
    #[error("of another origin")]
    Origin,
    /// It was made for another relying party.
    #[error("of another relying party")]
    RelyingParty,
    /// Nobody touched the authenticator.
    #[error("without the user's presence")]
    NotPresent,
    /// The authenticator did not verify the user where that is required.
    #[error("without the user's verification")]
    NotVerified,
    /// The key is of a kind that is not offered, or weak.
    #[error("with a key that is not usable")]
    Key,
    /// The attestation is of a kind that is not asked for.
    #[error("with an attestation that was not asked for")]
    Attestation,
    /// The signature is not of this key over this.
    #[error("with a wrong signature")]
    Signature,
    /// The counter did not go on: there may be a copy of the authenticator.
    #[error("with a signature counter that went back: the key may have been copied")]
    Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relying_party_has_an_origin_that_a_browser_could_send() {
        let of = |origin: &str| RelyingParty::of_origin(origin).map(|party| party.id);
        assert_eq!(of("https://cairn.example.org").as_deref(), Some("cairn.example.org"));
        assert_eq!(of("https://localhost:8443").as_deref(), Some("localhost"));
        for origin in [
            "http://cairn.example.org",
            "https://127.0.0.1:8443",
            "https://[::1]",
            "https://cairn.example.org/",
            "https://cairn.example.org:443",
            "https://cairn.example.org:08443",
            "https://Cairn.example.org",
            "https://cairn..example.org",
            "https://-a.example.org",
            "https://a@b",
            "https://",
            "cairn.example.org",
            "",
        ] {
            assert_eq!(of(origin), None, "{origin}");
        }
    }
}
