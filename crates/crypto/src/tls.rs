//! What TLS may use: the one rustls provider of the server, the command line and every outgoing call.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The provider. In a FIPS build it holds what the module is approved for and nothing else: AES-GCM, ECDHE over P-256 and P-384.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if cfg!(feature = "fips") {
        provider.cipher_suites.retain(rustls::SupportedCipherSuite::fips);
        provider.kx_groups = vec![aws_lc_rs::kx_group::SECP256R1, aws_lc_rs::kx_group::SECP384R1];
    }
    Arc::new(provider)
}

/// Makes [`provider`] the process's default, for libraries that ask for that one, and returns it.
pub fn install() -> Arc<CryptoProvider> {
    let ours = provider();
    // Where another thread was faster, its provider is the same.
    drop(CryptoProvider::install_default((*ours).clone()));
    CryptoProvider::get_default().cloned().unwrap_or(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_authenticated_encryption_with_an_ephemeral_key() {
        let provider = provider();
        assert!(!provider.cipher_suites.is_empty() && !provider.kx_groups.is_empty());
        for suite in &provider.cipher_suites {
            let name = format!("{:?}", suite.suite());
            let aead = name.contains("_GCM_") || (name.contains("CHACHA20_POLY1305") && !cfg!(feature = "fips"));
            let ephemeral = name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_");
            assert!(aead && ephemeral, "{name}");
        }
    }

    #[test]
    fn what_libraries_get_by_default_is_ours() {
        let (ours, installed) = (provider(), install());
        let names = |provider: &CryptoProvider| -> Vec<String> {
            provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect()
        };
        assert_eq!(names(&installed), names(&ours));
        assert_eq!(installed.kx_groups.len(), ours.kx_groups.len());
    }

    #[test]
    fn a_fips_build_offers_only_approved_curves_and_says_so() {
        let provider = provider();
        assert_eq!(provider.fips(), cfg!(feature = "fips"));
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        assert_eq!(config.fips(), cfg!(feature = "fips"));
        if cfg!(feature = "fips") {
            let groups: Vec<String> = provider.kx_groups.iter().map(|group| format!("{:?}", group.name())).collect();
            assert_eq!(groups, ["secp256r1", "secp384r1"]);
        }
    }
}
