//! Whom a connection trusts: the system's roots, or the authorities that were named, and nobody else. Nothing turns the check off.

use std::path::Path;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::error::{Error, Result};

/// Who may vouch for the server.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Whom the system trusts.
    System,
    /// These authorities, and no other.
    Authorities(Vec<CertificateDer<'static>>),
}

impl Trust {
    /// The authorities of a PEM file.
    pub fn of_file(path: &Path) -> Result<Self> {
        certificates(path).map(Self::Authorities)
    }
}

/// A certificate of the client's own, for servers that ask for one.
#[derive(Debug)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for ClientCertificate {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl ClientCertificate {
    /// The certificate with its chain, and its key, of two PEM files; the key's is one that nobody else can read.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Self> {
        let chain = certificates(certificate)?;
        let text = crate::read_key(key)?;
        let key = PrivateKeyDer::from_pem_slice(text.expose())
            .map_err(|error| Error::Setting(format!("`{}` holds no private key in PEM: {error}", key.display())))?;
        Ok(Self { chain, key })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let refuse = |cause: &dyn std::fmt::Display| {
        Error::Setting(format!("`{}` holds no certificates in PEM: {cause}", path.display()))
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| refuse(&error))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| refuse(&error))?;
    if found.is_empty() { Err(refuse(&"there is none")) } else { Ok(found) }
}

/// How a connection is made sure of.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Who may vouch for the server.
    pub trust: Trust,
    /// The client's own certificate, where the server asks for one.
    pub certificate: Option<ClientCertificate>,
}

impl Tls {
    /// With this trust, and no certificate of the client's own.
    pub fn new(trust: Trust) -> Self {
        Self { trust, certificate: None }
    }

    /// The configuration, which speaks these protocols (ALPN), the first one first.
    pub fn client_config(&self, protocols: &[&[u8]]) -> Result<ClientConfig> {
        let broken = |error: rustls::Error| Error::Setting(format!("TLS cannot be set up: {error}"));
        let builder = ClientConfig::builder_with_provider(crypto::tls::install());
        let builder = builder.with_safe_default_protocol_versions().map_err(broken)?;
        let builder = match &self.trust {
            Trust::System => builder.with_platform_verifier().map_err(broken)?,
            Trust::Authorities(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in authorities {
                    roots.add(authority.clone()).map_err(broken)?;
                }
                builder.with_root_certificates(roots)
            }
        };
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).map_err(broken)?,
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}
