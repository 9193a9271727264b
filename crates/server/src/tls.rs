//! The posture of TLS: 1.2 and 1.3, only suites with forward secrecy and authenticated encryption (rustls has no others, no
//! renegotiation and no compression), no client certificates, no early data.

#[cfg(test)]
pub(crate) mod probe;

use std::sync::Arc;

use rustls::ServerConfig;

use crate::certificate::Certificates;

/// The protocol of an ACME server that looks whether a name is ours (RFC 8737).
pub(crate) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// What the listener needs. `challenges`: whether an ACME server may look.
pub(crate) fn server_config(certificates: Arc<Certificates>, challenges: bool) -> anyhow::Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(crypto::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if challenges {
        config.alpn_protocols.push(ACME_PROTOCOL.to_vec());
    }
    Ok(Arc::new(config))
}
