//! Certificates of the double, and of whatever else a test speaks TLS with.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// An authority of one test.
pub struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    /// A new one.
    pub fn generate() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "test cluster");
        Self(rcgen::CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names and its key, both PEM; good for as long as rcgen's are.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        self.sign(rcgen::CertificateParams::new(owned(names)).expect("names"))
    }

    /// The same, good from one second since 1970 until another.
    pub fn issue_for(&self, names: &[&str], from_s: i64, until_s: i64) -> (String, String) {
        let mut params = rcgen::CertificateParams::new(owned(names)).expect("names");
        let at = |seconds: i64| {
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(seconds).expect("after 1970"))
        };
        (params.not_before, params.not_after) = (at(from_s), at(until_s));
        self.sign(params)
    }

    fn sign(&self, params: rcgen::CertificateParams) -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A certificate for this machine and the authority that vouches for it: the authority's PEM, the certificate's, its key's.
pub fn certificates() -> (String, String, String) {
    let authority = Authority::generate();
    let (certificate, key) = authority.issue(&["localhost", "127.0.0.1"]);
    (authority.pem(), certificate, key)
}

/// What speaks TLS with this certificate and its key.
pub(super) fn acceptor(certificate: &str, key: &str, protocols: &[Vec<u8>]) -> tokio_rustls::TlsAcceptor {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().expect("a certificate in PEM");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key in PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration");
    tls.alpn_protocols = protocols.to_vec();
    Arc::new(tls).into()
}
