//! Certificate and key of the direct way in, read again when the files change.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// When the two files were written.
type Stamp = (Option<SystemTime>, Option<SystemTime>);

/// What TLS is spoken with.
pub(crate) struct Certificate {
    /// `CLUSTER` or `SSH`, for what is said of the settings.
    of: &'static str,
    chain: PathBuf,
    key: PathBuf,
    read: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl Certificate {
    pub(crate) fn open(of: &'static str, chain: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        // The stamp first: what is written meanwhile is read again.
        let stamp = stamp(&chain, &key);
        let read = Mutex::new((stamp, load(of, &chain, &key)?));
        Ok(Self { of, chain, key, read })
    }

    /// The configuration of now. Files that do not fit together, because only one is replaced yet, change nothing.
    pub(crate) fn now(&self) -> Arc<ServerConfig> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.chain, &self.key);
        if stamp != read.0 {
            match load(self.of, &self.chain, &self.key) {
                Ok(config) => {
                    tracing::info!("a new certificate is served from now on");
                    *read = (stamp, config);
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the new certificate is not used yet"),
            }
        }
        Arc::clone(&read.1)
    }
}

fn stamp(certificate: &PathBuf, key: &PathBuf) -> Stamp {
    let of = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    (of(certificate), of(key))
}

fn load(of: &str, certificate: &PathBuf, key: &PathBuf) -> anyhow::Result<Arc<ServerConfig>> {
    let named = || format!("RELAY_{of}_CERT");
    let chain = CertificateDer::pem_file_iter(certificate).with_context(named)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().with_context(named)?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("RELAY_{of}_KEY"))?;
    let config = ServerConfig::builder_with_provider(crypto::tls::install());
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config =
        config.with_single_cert(chain, key).with_context(|| format!("RELAY_{of}_CERT and RELAY_{of}_KEY"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_certificate_is_used_once_both_files_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        assert!(Certificate::open("SSH", certificate.clone(), key.clone()).is_err());
        let write = |path: &PathBuf, text: &str, age_s: u64| {
            std::fs::write(path, text).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(2_000_000_000 - age_s);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
        };
        let (_, first, first_key) = testkit::kube::certificates();
        write(&certificate, &first, 100);
        write(&key, &first_key, 100);
        let served = Certificate::open("SSH", certificate.clone(), key.clone()).unwrap();
        let before = served.now();
        assert!(Arc::ptr_eq(&before, &served.now()), "what did not change is not read again");
        let (_, second, second_key) = testkit::kube::certificates();
        write(&certificate, &second, 50);
        assert!(Arc::ptr_eq(&before, &served.now()), "a certificate with another's key");
        write(&key, &second_key, 50);
        assert!(!Arc::ptr_eq(&before, &served.now()));
        std::fs::remove_file(&key).unwrap();
        let _ = served.now();
    }
}
