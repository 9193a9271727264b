//! Certificates of clients: a listener asks for one and takes any, and whoever knows by whom it has to be judges it later.
//!
//! **Not for** who a client is: a certificate here is something that it holds besides its own key and credential. There are no revocation lists: what is
//! revoked is the client's credential.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

use crate::tls;

/// Most authorities of one list.
const AUTHORITIES_MAX: usize = 16;

/// Asks for a certificate and takes any or none, but only with a signature by its key.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

/// A verifier for a listener whose callers are judged later, by [`Authorities`].
pub fn ask() -> Arc<dyn ClientCertVerifier> {
    Arc::new(Anybody(tls::provider().signature_verification_algorithms))
}

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// SHA-256 of the only certificate of a PEM text; none where there is another number of them: which one is meant is not ours to guess.
pub fn only_certificate_sha256(pem: &str) -> Option<domain::Digest> {
    let mut all = CertificateDer::pem_slice_iter(pem.as_bytes());
    let only = all.next()?.ok()?;
    all.next().is_none().then(|| crate::sha256(&only))
}

/// Who may vouch for clients.
#[derive(Debug)]
pub struct Authorities(Arc<dyn ClientCertVerifier>);

impl Authorities {
    /// The certificates of a PEM text, or what is wrong with it.
    pub fn of_pem(text: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.map_err(|error| format!("this is no certificate in PEM: {error}"))?;
            roots.add(certificate).map_err(|error| format!("a certificate cannot be an authority: {error}"))?;
            if roots.len() > AUTHORITIES_MAX {
                return Err(format!("more than {AUTHORITIES_MAX} authorities"));
            }
        }
        if roots.is_empty() {
            return Err("there is no certificate in PEM".to_owned());
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build();
        verifier.map(Self).map_err(|error| error.to_string())
    }

    /// Whether they vouch for a chain (DER, the client's own first) at a time in seconds since 1970, or why not.
    pub fn verify(&self, chain: &[Vec<u8>], now_s: u64) -> Result<(), String> {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let (own, rest) = chain.split_first().ok_or_else(|| "there is none".to_owned())?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_s));
        match self.0.verify_client_cert(own, rest, now) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}
