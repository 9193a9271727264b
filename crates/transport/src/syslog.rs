//! Syslog over TLS (RFC 5425): messages with their length before them, to a collector that the installation's configuration names.
//!
//! Syslog has no acknowledgment. A batch counts as delivered when all of it was written, the session was closed in order, and the
//! collector closed it too: then its system has taken every byte. Whatever goes wrong before is sent again by the caller.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::guard::Guard;
use crate::web::{WebError, tls_client};

/// Longest time for one batch.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A collector; cheap to clone.
#[derive(Clone)]
pub struct SyslogClient {
    host: String,
    port: u16,
    name: ServerName<'static>,
    connector: TlsConnector,
    loopback: bool,
}

impl std::fmt::Debug for SyslogClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyslogClient").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl SyslogClient {
    /// A client for `tls://host[:port]` (6514 where none is named). `loopback`: whether the collector may be this machine. It trusts the
    /// public authorities and `extra_roots`.
    pub fn new(url: &str, loopback: bool, extra_roots: &[CertificateDer<'static>]) -> Result<Self, WebError> {
        let wrong = |why| WebError::Url { url: url.chars().take(200).collect(), why };
        let parsed = reqwest::Url::parse(url).map_err(|_| wrong("is not `tls://HOST:PORT`"))?;
        let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let plain = matches!(parsed.path(), "" | "/") && parsed.query().is_none() && parsed.username().is_empty();
        if parsed.scheme() != "tls" || host.is_empty() || !plain {
            return Err(wrong("is not `tls://HOST:PORT`"));
        }
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong("names no host"))?;
        let config = tls_client(extra_roots).map_err(|why| WebError::Unreachable { host: host.clone(), why })?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { host, port: parsed.port().unwrap_or(6_514), name, connector, loopback })
    }

    /// Delivers a batch of messages.
    pub async fn send(&self, messages: &[String]) -> Result<(), WebError> {
        let host = format!("{}:{}", self.host, self.port);
        match tokio::time::timeout(TIMEOUT, self.exchange(messages)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(WebError::Unreachable { host, why: error.to_string() }),
            Err(_) => Err(WebError::Timeout { host }),
        }
    }

    async fn exchange(&self, messages: &[String]) -> std::io::Result<()> {
        let guard = Guard::loopback(self.loopback);
        let stream = guard.connect(&self.host, self.port, TIMEOUT).await;
        let stream = stream.map_err(|error| std::io::Error::other(error.to_string()))?;
        let mut stream = self.connector.connect(self.name.clone(), stream).await?;
        let mut batch = Vec::new();
        for message in messages {
            batch.extend_from_slice(format!("{} ", message.len()).as_bytes());
            batch.extend_from_slice(message.as_bytes());
        }
        stream.write_all(&batch).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        // A collector has nothing to say; it ends the session when it has read to our end.
        let mut rest = [0u8; 512];
        loop {
            match stream.read(&mut rest).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // Closed without the alert that TLS wants, but closed: the system has acknowledged what we sent before.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// What a collector does with a session.
    #[derive(Clone, Copy)]
    enum Collector {
        /// Reads to our end, and closes.
        Takes,
        /// Reads to our end, and says something that is no TLS of this session.
        Breaks,
        /// Lets nobody in without a certificate; with TLS 1.3 that is told after our first bytes have left.
        Refuses,
    }

    /// What became of a batch at such a collector, and what it had read.
    async fn delivered(collector: Collector) -> (Result<(), WebError>, Vec<u8>) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let made = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.der().clone()).unwrap();
        let builder = rustls::ServerConfig::builder_with_provider(crypto::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto::tls::provider());
        let builder = match collector {
            Collector::Refuses => builder.with_client_cert_verifier(verifier.build().unwrap()),
            Collector::Takes | Collector::Breaks => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(vec![made.der().clone()], secret).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tls://{}", listener.local_addr().unwrap());
        let reading = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return bytes };
            stream.read_to_end(&mut bytes).await.unwrap();
            if matches!(collector, Collector::Breaks) {
                let (tcp, _) = stream.get_mut();
                tcp.write_all(&[0x17, 3, 3, 0, 32]).await.unwrap();
                tcp.write_all(&[0xa5; 32]).await.unwrap();
            }
            bytes
        });
        let client = SyslogClient::new(&url, true, &[made.der().clone()]).unwrap();
        let sent = client.send(&["<110>1 one".to_owned(), "<110>1 three".to_owned()]).await;
        (sent, reading.await.unwrap())
    }

    #[tokio::test]
    async fn a_batch_counts_as_delivered_when_the_collector_read_it_and_closed_in_order() {
        let (sent, read) = delivered(Collector::Takes).await;
        assert_eq!((sent.unwrap(), read.as_slice()), ((), b"10 <110>1 one12 <110>1 three".as_slice()));
        let (sent, read) = delivered(Collector::Refuses).await;
        assert!(sent.is_err() && read.is_empty(), "{sent:?}");
    }

    #[tokio::test]
    async fn a_collector_that_breaks_the_session_off_is_a_failed_delivery_and_no_end_of_the_forwarding() {
        let (sent, read) = delivered(Collector::Breaks).await;
        assert!(sent.is_err() && !read.is_empty(), "{sent:?}");
    }
}
