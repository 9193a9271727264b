//! The way to a host through its relay without the server between, where the relay has one.

use std::time::Duration;

use domain::DestinationId;
use reqwest::StatusCode;
use wire::ssh_access::{SshWay, UPGRADE, way_path};

use crate::client::not_ours;
use crate::failure::{Failure, Result};
use crate::trust;

/// How long somebody who is not in the relay's network waits for it.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the relay may take: it asks the server in between.
const SWITCH: Duration = Duration::from_secs(20);
/// Longest reason that is shown, in characters.
const REASON_CHARS: usize = 300;
/// How much of an answer is read for it, in bytes, and for how long.
const REASON_BYTES: usize = 4 * 1_024;
const REASON: Duration = Duration::from_secs(3);

/// A connection that the relay switched; none where it is not reached there or has no room, and the token is not used: then there is the way through the
/// server.
pub(crate) async fn switch(way: &SshWay, destination: DestinationId, token: &str) -> Result<Option<reqwest::Upgraded>> {
    let broken = |error: &dyn std::fmt::Display| Failure::new(format!("cannot set up TLS to {}: {error}", way.address));
    trust::provider();
    let mut builder = reqwest::Client::builder()
        .https_only(true)
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")));
    if !way.authority.is_empty() {
        let authorities = reqwest::Certificate::from_pem_bundle(way.authority.as_bytes()).map_err(|_| not_ours())?;
        builder = builder.tls_certs_only(authorities);
    }
    let http = builder.build().map_err(|error| broken(&error))?;
    let asked = http
        .get(format!("https://{}{}", way.address, way_path(destination)))
        .bearer_auth(token)
        .header("connection", "Upgrade")
        .header("upgrade", UPGRADE)
        .send();
    let asked = tokio::time::timeout(SWITCH, asked).await;
    let asked = asked.map_err(|_| Failure::new(format!("{} does not answer in time", way.address)).transient())?;
    let response = match asked {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Ok(None),
        Err(error) => return Err(Failure::new(format!("{} broke the connection: {error}", way.address)).transient()),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let switched = response.upgrade().await;
        return switched.map(Some).map_err(|error| Failure::new(format!("{}: {error}", way.address)));
    }
    let status = response.status();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        // Full, maybe by strangers, or it does not reach the server by its own way now.
        return Ok(None);
    }
    let text = reason(response).await;
    let text: String = text.chars().filter(|it| !it.is_control()).take(REASON_CHARS).collect();
    Err(Failure::new(if text.is_empty() { format!("the host's relay answered {status}") } else { text }))
}

/// The beginning of what is said: whoever answers may go on for ever.
async fn reason(mut response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while let Ok(Some(more)) = response.chunk().await {
            bytes.extend_from_slice(more.get(..REASON_BYTES - bytes.len()).unwrap_or(&more));
            if bytes.len() >= REASON_BYTES {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(REASON, reading).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What comes of a relay that answers with this status.
    async fn answered(status: &'static str) -> Result<Option<reqwest::Upgraded>> {
        answered_with(format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nwhy"), false).await
    }

    /// The same with this answer, of which `goes_on` repeats the last byte until nobody listens.
    async fn answered_with(answer: String, goes_on: bool) -> Result<Option<reqwest::Upgraded>> {
        trust::provider();
        let (authority, certificate, key) = testkit::kube::certificates();
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(std::result::Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let relay = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(tls)).accept(socket).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            let more = [*answer.as_bytes().last().unwrap(); 1_024];
            while goes_on && stream.write_all(&more).await.is_ok() {}
            let _ = stream.shutdown().await;
        });
        let destination = format!("dst_{}", "0".repeat(26)).parse().unwrap();
        let switched = switch(&SshWay { address, authority }, destination, "token").await;
        relay.await.unwrap();
        switched
    }

    #[tokio::test]
    async fn a_relay_without_room_is_gone_around_and_one_that_refuses_is_not() {
        assert!(answered("503 Service Unavailable").await.unwrap().is_none());
        for refused in ["403 Forbidden", "409 Conflict", "502 Bad Gateway"] {
            let Err(failure) = answered(refused).await else { panic!("{refused}") };
            assert!(failure.message.contains("why"), "{refused}: {failure:?}");
        }
    }

    #[tokio::test]
    async fn a_relay_that_refuses_without_end_is_not_read_without_end() {
        let head = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nno";
        let refused = answered_with(head.to_owned(), true);
        let refused = tokio::time::timeout(Duration::from_mins(1), refused).await.expect("it ends");
        let Err(failure) = refused else { panic!("it is let in") };
        assert_eq!(failure.message, format!("n{}", "o".repeat(REASON_CHARS - 1)));
    }
}
