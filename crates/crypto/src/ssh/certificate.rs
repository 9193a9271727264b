//! OpenSSH certificates (PROTOCOL.certkeys), signed with Ed25519: made here, judged by OpenSSH.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::Rng;

use super::{PublicKey, put};
use crate::{CryptoError, ed25519};

/// Longest id of a certificate, in bytes.
const KEY_ID_BYTES_MAX: usize = 1_024;
/// Most names, and most options, of a certificate.
const NAMES_MAX: usize = 256;

/// Whom a certificate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateKind {
    /// Somebody who signs in.
    User,
    /// A host that is signed in to.
    Host,
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct Certificate<'a> {
    /// Whom it is about.
    pub kind: CertificateKind,
    /// Their key.
    pub key: &'a PublicKey,
    /// What names it in logs.
    pub serial: u64,
    /// What tells people whose it is, in the log of whoever accepts it.
    pub key_id: &'a str,
    /// As whom or what it is good. At least one: without any, OpenSSH would take it for everybody.
    pub principals: &'a [String],
    /// From when on, in seconds since 1970.
    pub valid_after_s: u64,
    /// Until when, not included.
    pub valid_before_s: u64,
    /// What has to be kept, by name: `source-address`, …
    pub critical_options: &'a [(&'a str, String)],
    /// What is allowed, by name: `permit-pty`, …
    pub extensions: &'a [&'a str],
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

impl Certificate<'_> {
    /// Signs it; one line as in a `-cert.pub` file. Refuses what OpenSSH would read otherwise than it is meant: no names, no time, names that are out of
    /// order or not plain.
    pub fn sign(&self, authority: &ed25519::SigningKey, rng: &dyn Rng) -> Result<String, CryptoError> {
        let sorted = |names: &mut dyn Iterator<Item = &str>| {
            let names: Vec<&str> = names.collect();
            names.len() <= NAMES_MAX && names.iter().all(|name| is_plain(name)) && names.is_sorted_by(|a, b| a < b)
        };
        let names = self.principals.iter().all(|name| is_plain(name) && !name.contains([',', ' ']));
        let fits = (1..=NAMES_MAX).contains(&self.principals.len())
            && names
            && self.key_id.len() <= KEY_ID_BYTES_MAX
            && is_plain(self.key_id)
            && self.valid_after_s < self.valid_before_s
            && self.valid_before_s < u64::MAX
            && sorted(&mut self.critical_options.iter().map(|(name, _)| *name))
            && sorted(&mut self.extensions.iter().copied());
        // A certificate of a certificate's key does not exist, and options of hosts mean nothing.
        let is_host = self.kind == CertificateKind::Host;
        if !fits || (is_host && !(self.critical_options.is_empty() && self.extensions.is_empty())) {
            return Err(CryptoError::Key);
        }
        let kind = format!("{}-cert-v01@openssh.com", self.key.kind());
        let mut nonce = [0u8; 32];
        rng.fill(&mut nonce);
        let mut out = Vec::with_capacity(1_024);
        put(&mut out, kind.as_bytes());
        put(&mut out, &nonce);
        // The key's own fields, without the name of its kind.
        out.extend_from_slice(self.key.as_bytes().get(4 + self.key.kind().len()..).ok_or(CryptoError::Key)?);
        out.extend_from_slice(&self.serial.to_be_bytes());
        out.extend_from_slice(&(if is_host { 2u32 } else { 1 }).to_be_bytes());
        put(&mut out, self.key_id.as_bytes());
        let mut list = Vec::new();
        for name in self.principals {
            put(&mut list, name.as_bytes());
        }
        put(&mut out, &list);
        out.extend_from_slice(&self.valid_after_s.to_be_bytes());
        out.extend_from_slice(&self.valid_before_s.to_be_bytes());
        list.clear();
        for (name, value) in self.critical_options {
            put(&mut list, name.as_bytes());
            let mut field = Vec::new();
            put(&mut field, value.as_bytes());
            put(&mut list, &field);
        }
        put(&mut out, &list);
        list.clear();
        for name in self.extensions {
            put(&mut list, name.as_bytes());
            put(&mut list, b"");
        }
        put(&mut out, &list);
        put(&mut out, b"");
        put(&mut out, PublicKey::of_ed25519(&authority.public()).as_bytes());
        let mut signature = Vec::new();
        put(&mut signature, b"ssh-ed25519");
        put(&mut signature, &authority.sign(&out));
        put(&mut out, &signature);
        Ok(format!("{kind} {}", STANDARD.encode(out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::CountingRng;

    #[test]
    fn what_openssh_would_read_otherwise_is_not_signed() {
        let (authority, user) =
            (ed25519::SigningKey::generate().unwrap(), ed25519::SigningKey::generate().unwrap().public());
        let (key, one) = (PublicKey::of_ed25519(&user), ["a".to_owned()]);
        let good = Certificate {
            kind: CertificateKind::User,
            key: &key,
            serial: 1,
            key_id: "ann",
            principals: &one,
            valid_after_s: 1,
            valid_before_s: 2,
            critical_options: &[("source-address", "10.0.0.0/8".to_owned())],
            extensions: &["permit-port-forwarding", "permit-pty"],
        };
        let rng = CountingRng::default();
        assert!(good.sign(&authority, &rng).is_ok());
        let [comma, line, many] = ["a,root", "a\nroot", "a root"].map(|name| [name.to_owned()]);
        for bad in [
            Certificate { principals: &[], ..good.clone() },
            Certificate { principals: &comma, ..good.clone() },
            Certificate { principals: &line, ..good.clone() },
            Certificate { principals: &many, ..good.clone() },
            Certificate { key_id: "ann\nroot", ..good.clone() },
            Certificate { key_id: "", ..good.clone() },
            Certificate { valid_before_s: 1, ..good.clone() },
            Certificate { valid_before_s: u64::MAX, ..good.clone() },
            Certificate { extensions: &["permit-pty", "permit-port-forwarding"], ..good.clone() },
            Certificate { extensions: &["permit-pty", "permit-pty"], ..good.clone() },
            Certificate { kind: CertificateKind::Host, ..good.clone() },
        ] {
            assert_eq!(bad.sign(&authority, &rng), Err(CryptoError::Key), "{bad:?}");
        }
    }
}
