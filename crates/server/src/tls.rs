//! TLS 1.2 and 1.3 (rustls over aws-lc-rs), with a certificate from files or one that signs itself, made on first start.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use domain::Digest;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::ServerSection;
use crate::datadir::{DataDir, read_private, write_private};

/// What a listener needs, and what people compare.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// SHA-256 of the leaf certificate (DER).
    pub(crate) fingerprint: Digest,
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let valid = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    valid.then_some(name)
}

fn make(section: &ServerSection, certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    names.extend(host_name());
    names.extend(section.names.iter().cloned());
    names.sort();
    names.dedup();
    let made = (|| {
        let mut params = rcgen::CertificateParams::new(names)?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "Cairn");
        params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        params.self_signed(&pair).map(|made| (made.pem(), pair.serialize_pem()))
    })();
    let (chain, secret) = made.context("cannot make a certificate: check `server.names`")?;
    // The key first: a certificate without its key would be kept and never work.
    write_private(key, secret.as_bytes())?;
    write_private(certificate, chain.as_bytes())
}

/// Reads the certificate, making one when none is configured and none is there yet.
pub(crate) fn load(section: &ServerSection, data: &DataDir) -> anyhow::Result<Tls> {
    let (certificate, key) = if let (Some(certificate), Some(key)) = (&section.certificate, &section.certificate_key) {
        (certificate.clone(), key.clone())
    } else {
        let (certificate, key) = (data.join("tls.crt"), data.join("tls.key"));
        if !certificate.exists() {
            make(section, &certificate, &key)?;
        }
        (certificate, key)
    };
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("`{}` is not a PEM certificate chain", certificate.display()))?;
    let Some(leaf) = chain.first() else { bail!("`{}` holds no certificate", certificate.display()) };
    let fingerprint = crypto::sha256(leaf);
    let secret = PrivateKeyDer::from_pem_slice(&read_private(&key)?)
        .with_context(|| format!("`{}` is not a PEM private key", key.display()))?;
    let provider = crypto::tls::provider();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("`{}` and `{}` do not belong together", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(config), fingerprint })
}
