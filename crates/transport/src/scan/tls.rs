//! What a TLS port shows: versions that it takes, and its certificate. Nothing is trusted, nothing is sent inside.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificate::{Certificate, facts};
use super::hello::{self, Heard};

/// How long one handshake may take, its connection included.
const WAIT: Duration = Duration::from_secs(4);

/// Longest certificate that is looked at: a thousand ports of one host may show one each.
const LEAF_BYTES: usize = 16 << 10;

/// What was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsShown {
    /// The version that a client of today gets: `1.3`, `1.2`; else the highest of `accepted`.
    pub negotiated: String,
    /// The versions that were seen to be taken: `1.0`, `1.1` asked for each, `1.2` or `1.3` as negotiated.
    pub accepted: BTreeSet<&'static str>,
    /// The leaf of its chain; none where it could not be read.
    pub certificate: Option<Certificate>,
    /// The leaf as it came, DER.
    pub leaf: Vec<u8>,
}

/// Keeps the leaf and agrees to everything: whoever stands there is looked at, not talked to.
#[derive(Debug, Default)]
struct Look {
    leaf: Mutex<Option<Vec<u8>>>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.leaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf.as_ref().to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// The handshake of a client of today: version, and leaf.
async fn modern(at: SocketAddr) -> Result<(Option<&'static str>, Option<Vec<u8>>), String> {
    let provider = crypto::tls::provider();
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let look = Arc::new(Look { leaf: Mutex::default(), schemes });
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Look>::clone(&look))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let stream = TcpStream::connect(at).await.map_err(|error| error.to_string())?;
    let shaken = TlsConnector::from(Arc::new(config)).connect(ServerName::from(at.ip()), stream).await;
    let version = shaken.ok().and_then(|stream| match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => Some("1.3"),
        Some(ProtocolVersion::TLSv1_2) => Some("1.2"),
        _ => None,
    });
    let leaf = look.leaf.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok((version, leaf))
}

/// Looks at a port. `Ok(None)`: it answered, and not with TLS. `Err`: it cannot be told.
pub(super) async fn look(at: SocketAddr) -> Result<Option<TlsShown>, String> {
    let no_answer = || format!("no TLS answer within {} s", WAIT.as_secs());
    let (version, mut leaf) = tokio::time::timeout(WAIT, modern(at)).await.map_err(|_| no_answer())??;
    let mut accepted: BTreeSet<&'static str> = version.into_iter().collect();
    let mut doubt = None;
    // A server that takes none of today's suites may still take yesterday's.
    let older: &[u8] = if version.is_some() { &[2, 1] } else { &[3, 2, 1] };
    for minor in older {
        match tokio::time::timeout(WAIT, hello::ask(at, *minor)).await {
            Ok(Ok(Heard::Taken { version, certificate })) => {
                accepted.insert(version);
                leaf = leaf.or(certificate);
            }
            Ok(Ok(Heard::NotTls)) if version.is_none() && accepted.is_empty() => return Ok(None),
            Ok(Ok(Heard::Refused | Heard::NotTls)) => {}
            Ok(Err(error)) => doubt = Some(error.to_string()),
            Err(_) => doubt = Some(no_answer()),
        }
    }
    if let Some(doubt) = doubt {
        return Err(doubt);
    }
    let Some(negotiated) = version.or(accepted.last().copied()) else { return Ok(None) };
    let leaf = leaf.filter(|leaf| leaf.len() <= LEAF_BYTES).unwrap_or_default();
    Ok(Some(TlsShown { negotiated: negotiated.to_owned(), accepted, certificate: facts(&leaf), leaf }))
}
