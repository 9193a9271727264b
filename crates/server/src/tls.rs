//! The posture of TLS: 1.2 and 1.3, only suites with forward secrecy and authenticated encryption (rustls has no others, no
//! renegotiation and no compression), no early data. Client certificates are
//! asked of relays only.

#[cfg(test)]
pub(crate) mod probe;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::ClientHello;

use crate::certificate::Certificates;

/// The protocol of an ACME server that looks whether a name is ours (RFC 8737).
pub(crate) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// What the listener needs: one configuration for everybody, and one that asks for a certificate.
#[derive(Clone)]
pub(crate) struct Configs {
    everybody: Arc<ServerConfig>,
    /// For relays that have a certificate to show. Whether it is one of the right authority is judged with the request, by the relay's tenant.
    relays: Arc<ServerConfig>,
}

impl Configs {
    /// The one for who says hello like this.
    pub(crate) fn of(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let first = hello.alpn().and_then(|mut offered| offered.next());
        Arc::clone(if first == Some(wire::relay::TLS_PROTOCOL) { &self.relays } else { &self.everybody })
    }
}

/// Makes both. `challenges`: whether an ACME server may look.
pub(crate) fn server_configs(certificates: Arc<Certificates>, challenges: bool) -> anyhow::Result<Configs> {
    let builder = || {
        ServerConfig::builder_with_provider(crypto::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
    };
    let resolver = Arc::clone(&certificates);
    let mut relays =
        builder()?.with_client_cert_verifier(crypto::client_certificate::ask()).with_cert_resolver(resolver);
    relays.alpn_protocols = vec![wire::relay::TLS_PROTOCOL.to_vec()];
    // Each connection shows its certificate and proves its key anew.
    relays.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    relays.send_tls13_tickets = 0;
    let mut config = builder()?.with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if challenges {
        config.alpn_protocols.push(ACME_PROTOCOL.to_vec());
    }
    Ok(Configs { everybody: Arc::new(config), relays: Arc::new(relays) })
}
