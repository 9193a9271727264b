//! Whether the server is the one that it should be: TLS by the system's roots, or by one key that a person approved.
//!
//! **Not for** deciding what to trust: `session` asks, `config` remembers.
//!
//! A fingerprint is the SHA-256 of a public key (DER of its SubjectPublicKeyInfo) or of a whole certificate (DER). Pinned is usually the
//! key of the server's own authority, which outlives the certificates that it issues.
//!
//! Invariants:
//! - a pinned server is accepted by the pinned certificate or key itself, or by a certificate that verifies under the pinned authority: its
//!   chain, its term, its use and the name that was asked for;
//! - either way only after it proved by its signature of this handshake that it holds its certificate's key;
//! - there is no way to a connection without one of the two.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use domain::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Accepts what this fingerprint is of, and remembers which other one it saw.
#[derive(Debug)]
pub(crate) struct Pin {
    /// Without one, every certificate is refused, which is how the first look at a server is taken.
    expected: Option<Digest>,
    refused: OnceLock<Digest>,
    /// The certificate that the pin was found in, last.
    accepted: Mutex<Option<Vec<u8>>>,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    pub(crate) fn new(expected: Option<Digest>) -> Arc<Self> {
        Arc::new(Self { expected, refused: OnceLock::new(), accepted: Mutex::default(), provider: provider() })
    }

    pub(crate) fn expected(&self) -> Option<Digest> {
        self.expected
    }

    /// The fingerprint to compare of what was refused, if something was: of the authority's key where one is shown that the certificate
    /// verifies under, else of the certificate's own key.
    pub(crate) fn refused(&self) -> Option<Digest> {
        self.refused.get().copied()
    }

    /// The certificate (DER) that the pin was found in, once a connection was made.
    pub(crate) fn accepted(&self) -> Option<Vec<u8>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn accept(&self, certificate: &CertificateDer<'_>) -> ServerCertVerified {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate.to_vec());
        ServerCertVerified::assertion()
    }

    /// TLS with this pin in place of certificate authorities.
    pub(crate) fn client_config(self: &Arc<Self>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A resumed session would not show its certificate again.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let pinned = |shown: &CertificateDer<'_>| self.expected.is_some_and(|pin| is_of(pin, shown));
        if pinned(end_entity) {
            return Ok(self.accept(end_entity));
        }
        if let Some(authority) = intermediates.iter().find(|shown| pinned(shown)) {
            self.verify_chain(&leaf, intermediates, authority, now)?;
            verify_server_name(&leaf, server_name)?;
            return Ok(self.accept(authority));
        }
        let authority =
            intermediates.iter().rev().find(|shown| self.verify_chain(&leaf, intermediates, shown, now).is_ok());
        let key = authority.and_then(|shown| key_fingerprint(shown)).or_else(|| key_fingerprint(end_entity));
        // The first one is kept: it is the one that the error is about.
        let _ = self.refused.set(key.unwrap_or_else(|| crypto::sha256(end_entity)));
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Pin {
    fn verify_chain(
        &self,
        leaf: &ParsedCertificate<'_>,
        shown: &[CertificateDer<'_>],
        authority: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let algorithms = self.provider.signature_verification_algorithms;
        verify_server_cert_signed_by_trust_anchor(leaf, &roots, shown, now, algorithms.all)
    }
}

fn key_fingerprint(certificate: &CertificateDer<'_>) -> Option<Digest> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(crypto::sha256(&parsed.subject_public_key_info()))
}

fn is_of(pin: Digest, certificate: &CertificateDer<'_>) -> bool {
    crypto::sha256(certificate) == pin || key_fingerprint(certificate) == Some(pin)
}

/// The cryptographic library, also as the process's default, which `reqwest` asks for.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    crypto::tls::install()
}

/// A SHA-256 fingerprint as people write it: hex in either case, with or without colons and `SHA256:`.
pub(crate) fn parse_fingerprint(text: &str) -> Result<Digest, String> {
    let lower = text.trim().to_ascii_lowercase();
    let hex: String = lower.strip_prefix("sha256:").unwrap_or(&lower).chars().filter(|c| *c != ':').collect();
    hex.parse().map_err(|_| "a SHA-256 fingerprint is 64 hex digits".to_owned())
}

/// Whether the certificate, rather than the network, is why a request failed.
pub(crate) fn is_certificate_error(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(Error::InvalidCertificate(_))) {
            return true;
        }
        // An `io::Error` hides what it carries from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_people_write_them() {
        let digest = Digest([0xab; 32]);
        let hex = digest.to_hex();
        let colons = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).unwrap().to_uppercase())
            .collect::<Vec<_>>()
            .join(":");
        for text in [hex.clone(), hex.to_uppercase(), format!("sha256:{hex}"), format!("SHA256:{hex}"), colons] {
            assert_eq!(parse_fingerprint(&text), Ok(digest), "{text}");
        }
        assert!(parse_fingerprint(&hex[1..]).is_err());
        assert!(parse_fingerprint("").is_err());
    }

    #[test]
    fn only_a_certificate_error_is_one() {
        let wrong = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(is_certificate_error(&std::io::Error::other(wrong)));
        assert!(!is_certificate_error(&std::io::Error::other(Error::DecryptError)));
        assert!(!is_certificate_error(&std::io::Error::from(std::io::ErrorKind::ConnectionRefused)));
    }
}
