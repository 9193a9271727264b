//! What a certificate says (RFC 5280). Whoever stands at a port wrote it: every text is cut and free of control characters.

use std::net::{Ipv4Addr, Ipv6Addr};

use domain::{Digest, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::printable;

/// Most alternative names that are kept.
const NAMES: usize = 100;
/// Longest text, in characters.
const TEXT: usize = 300;

/// A certificate's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of its DER.
    pub sha256: Digest,
    /// Its subject (RFC 4514, as x509-parser prints it).
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Whether subject and issuer are the same.
    pub is_self_signed: bool,
    /// DNS names, addresses, mail addresses and URIs, sorted, at most a hundred.
    pub names: Vec<String>,
    /// First moment of validity.
    pub not_before: Timestamp,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// `rsa`, `ec`, `ed25519`, `dsa`, or the algorithm's OID.
    pub key_type: String,
    /// Bits of the key, where they are known.
    pub key_bits: Option<u32>,
    /// Such as `sha256-rsa`, `ecdsa-sha384`, `ed25519`; else the OID.
    pub signature: String,
}

fn signature_name(oid: &str) -> &str {
    match oid {
        "1.2.840.113549.1.1.2" => "md2-rsa",
        "1.2.840.113549.1.1.4" => "md5-rsa",
        "1.2.840.113549.1.1.5" => "sha1-rsa",
        "1.2.840.113549.1.1.10" => "rsa-pss",
        "1.2.840.113549.1.1.11" => "sha256-rsa",
        "1.2.840.113549.1.1.12" => "sha384-rsa",
        "1.2.840.113549.1.1.13" => "sha512-rsa",
        "1.2.840.10045.4.1" => "ecdsa-sha1",
        "1.2.840.10045.4.3.2" => "ecdsa-sha256",
        "1.2.840.10045.4.3.3" => "ecdsa-sha384",
        "1.2.840.10045.4.3.4" => "ecdsa-sha512",
        "1.3.101.112" => "ed25519",
        other => other,
    }
}

fn oid_text(oid: &Oid<'_>) -> String {
    printable(&oid.to_id_string(), TEXT)
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        _ => None,
    }
}

/// At most 20 bytes (RFC 5280, section 4.1.2.2) as digits.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().take(20).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// The facts of a certificate in DER, if it is one.
pub(super) fn facts(der: &[u8]) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
                Some(printable(text, TEXT))
            }
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        }));
    }
    names.sort();
    names.dedup();
    names.truncate(NAMES);
    let key = certificate.public_key();
    let algorithm = oid_text(&key.algorithm.algorithm);
    let bits = |bits: usize| u32::try_from(bits).ok();
    let (key_type, key_bits) = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => ("rsa".to_owned(), bits(rsa.key_size())),
        Ok(PublicKey::EC(point)) => ("ec".to_owned(), bits(point.key_size())),
        Ok(PublicKey::DSA(_)) => ("dsa".to_owned(), None),
        _ if algorithm == "1.3.101.112" => ("ed25519".to_owned(), Some(256)),
        _ => (algorithm, None),
    };
    let moment = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1_000));
    let signature = oid_text(&certificate.signature_algorithm.algorithm);
    Some(Certificate {
        sha256: crypto::sha256(der),
        subject: printable(&certificate.subject().to_string(), TEXT),
        issuer: printable(&certificate.issuer().to_string(), TEXT),
        serial: hexadecimal(certificate.raw_serial()),
        is_self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        names,
        not_before: moment(certificate.validity().not_before.timestamp()),
        not_after: moment(certificate.validity().not_after.timestamp()),
        key_type,
        key_bits,
        signature: signature_name(&signature).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = super::facts(&bytes);
        }
    }
}
