//! Connections to the API server: TLS with the cluster's own authority and no other, and the service account's token, which rotates.
//!
//! HTTP/1.1, and one request at a time on each connection; watches share connections ([`super::watches`]).

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::Refusal;
use super::unreached::Unreached;
use super::watches::{HTTP2, Lease, Sent, Watches};

/// Longest time to connect, with the handshake.
const CONNECT: Duration = Duration::from_secs(10);
const SILENT: &str = "it did not answer in time";
/// Longest time to the beginning of an answer. An API server itself gives up after a minute.
const ANSWER: Duration = Duration::from_secs(90);
/// Longest answer to a question of the proxy's own, in bytes.
const OWN_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Longest time of such a question.
const OWN: Duration = Duration::from_secs(20);
/// How long a connection is kept without a request: shorter than any API server keeps it.
const IDLE: Duration = Duration::from_mins(1);
/// Connections that are kept without a request.
const IDLE_MAX: usize = 64;
/// How old what was read of the token's file may be.
const TOKEN_AGE: Duration = Duration::from_secs(10);
/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1_024;

/// A file with the token of the proxy's service account.
pub struct TokenFile {
    path: PathBuf,
    read: Mutex<Option<(Instant, HeaderValue)>>,
}

impl TokenFile {
    /// The file; it is read when it is needed.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read: Mutex::default() }
    }

    /// The header `Authorization` with the token that the file holds now, or held a few seconds ago.
    fn credential(&self) -> Result<HeaderValue, Refusal> {
        let mut read = lock(&self.read);
        if let Some((at, credential)) = &*read
            && at.elapsed() < TOKEN_AGE
        {
            return Ok(credential.clone());
        }
        match self.load() {
            Ok(credential) => {
                *read = Some((Instant::now(), credential.clone()));
                Ok(credential)
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), error, "the service account's token cannot be read");
                // While the file is being replaced the one before does.
                let before = read.as_ref().map(|(_, credential)| credential.clone());
                before.ok_or_else(|| Refusal::Unavailable("the proxy has no credential for the cluster".to_owned()))
            }
        }
    }

    /// Reads it anew at the next use.
    fn forget_age(&self) {
        if let Some((at, _)) = &mut *lock(&self.read)
            && let Some(old) = Instant::now().checked_sub(TOKEN_AGE)
        {
            *at = old;
        }
    }

    fn load(&self) -> Result<HeaderValue, String> {
        let bytes = std::fs::read(&self.path).map_err(|error| error.to_string())?;
        let token = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?.trim();
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the file holds no token".to_owned());
        }
        let mut credential = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| error.to_string())?;
        credential.set_sensitive(true);
        Ok(credential)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an answer comes over.
pub(super) enum Carrier {
    /// A connection of its own, which may be used again once the answer was read.
    Own(Own),
    /// A place on a shared one.
    Shared(#[expect(dead_code, reason = "held as long as the answer goes on")] Lease),
}

/// A connection that carries one request at a time.
pub(super) struct Own {
    sender: SendRequest<Incoming>,
    vouched: Vouched,
}

/// That the cluster's authority of now vouched for whom a connection leads to: cancelled when the cluster gets another authority.
pub(super) type Vouched = CancellationToken;

/// How TLS is spoken.
#[derive(Clone)]
struct Connectors {
    one: TlsConnector,
    /// The same, and it offers HTTP/2.
    of_watches: TlsConnector,
    vouched: Vouched,
}

impl Connectors {
    fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        let mut of_watches = rustls::ClientConfig::clone(&tls);
        of_watches.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        let of_watches = TlsConnector::from(Arc::new(of_watches));
        Self { one: TlsConnector::from(tls), of_watches, vouched: Vouched::new() }
    }
}

/// One cluster's API server.
pub struct Cluster {
    host: String,
    port: u16,
    authority: HeaderValue,
    name: ServerName<'static>,
    tls: RwLock<Connectors>,
    token: TokenFile,
    idle: Mutex<Vec<(Instant, Own)>>,
    watches: Watches,
}

impl Cluster {
    /// An API server at `host:port`, or `[address]:port`. `tls` trusts the cluster's authority, and nobody else.
    pub fn new(address: &str, tls: Arc<rustls::ClientConfig>, token: TokenFile) -> Result<Self, String> {
        let wrong = || format!("`{}` is not the address of an API server: use `host:port`", address.escape_debug());
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        Ok(Self {
            name: ServerName::try_from(host.clone()).map_err(|_| wrong())?,
            authority: HeaderValue::from_str(address).map_err(|_| wrong())?,
            host,
            port,
            tls: RwLock::new(Connectors::new(tls)),
            token,
            idle: Mutex::default(),
            watches: Watches::default(),
        })
    }

    /// From now on the cluster has another authority. Nothing more is asked over a connection that the one before vouched for: those that wait for
    /// a request are closed, and so are those with watches, which whoever watches begins anew. An answer that goes on over a connection of its own (a
    /// log, an `exec`) goes on to its end.
    pub fn trust(&self, tls: Arc<rustls::ClientConfig>) {
        let new = Connectors::new(tls);
        let before = std::mem::replace(&mut *self.tls.write().unwrap_or_else(PoisonError::into_inner), new);
        before.vouched.cancel();
        lock(&self.idle).retain(|(_, own)| !own.vouched.is_cancelled());
    }

    fn connectors(&self) -> Connectors {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `Host` says.
    pub(super) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// What `Authorization` says.
    pub(super) fn credential(&self) -> Result<HeaderValue, Refusal> {
        self.token.credential()
    }

    async fn stream(&self, tls: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let _ = socket.set_nodelay(true);
        tls.connect(self.name.clone(), socket).await
    }

    async fn connect<B>(&self, connectors: &Connectors) -> Result<SendRequest<B>, Unreached>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = self.stream(&connectors.one).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(64 * 1_024);
        let handshake = builder.handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(Unreached::new)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the API server ended");
            }
        });
        Ok(sender)
    }

    /// Asks the API server something as the proxy itself, never for a user: what the answer's status and document are.
    pub async fn ask(
        &self,
        method: Method,
        target: &str,
        document: Option<(&'static str, &Value)>,
    ) -> Result<(StatusCode, Value), String> {
        let asked = async {
            let credential = self.credential().map_err(|refusal| refusal.to_string())?;
            let mut request = Request::builder().method(method).uri(target);
            request = request.header(header::HOST, self.authority.clone()).header(header::AUTHORIZATION, credential);
            request = request.header(header::ACCEPT, "application/json");
            let body = document.map(|(kind, document)| (kind, document.to_string()));
            if let Some((kind, _)) = &body {
                request = request.header(header::CONTENT_TYPE, *kind);
            }
            let body = body.map_or_else(Bytes::new, |(_, text)| text.into());
            let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
            let mut sender = self.connect(&self.connectors()).await.map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED {
                self.token.forget_age();
            }
            let body = Limited::new(response.into_body(), OWN_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
        };
        match tokio::time::timeout(OWN, asked).await {
            Ok(answered) => answered,
            Err(_) => Err("the API server did not answer in time".to_owned()),
        }
    }

    fn idle(&self) -> Option<Own> {
        let is_good = |own: &Own| !own.sender.is_closed() && !own.vouched.is_cancelled();
        let mut idle = lock(&self.idle);
        idle.retain(|(since, own)| since.elapsed() < IDLE && is_good(own));
        // One whose request before is still on its way would wait for somebody else's client.
        let at = idle.iter().rposition(|(_, own)| own.sender.is_ready())?;
        Some(idle.remove(at).1)
    }

    /// Takes a connection back whose answer was read to its end.
    pub(super) fn give_back(&self, carrier: Carrier) {
        let Carrier::Own(own) = carrier else { return };
        let mut idle = lock(&self.idle);
        // Asked under the lock: what comes before it is cancelled is found there by `trust`.
        if idle.len() < IDLE_MAX && !own.sender.is_closed() && !own.vouched.is_cancelled() {
            idle.push((Instant::now(), own));
        }
    }

    /// Sends a request and waits for the head of the answer. What carries it comes with it, to be given back. `is_shared`: it may go over a
    /// connection with others. `is_relayed`: the answer is of a program behind the API server, which may have users of its own.
    pub(super) async fn send(
        &self,
        request: Request<Incoming>,
        is_shared: bool,
        is_relayed: bool,
    ) -> Result<(Response<Incoming>, Carrier), Refusal> {
        let exchange = async {
            if !is_shared {
                return self.exchange(request).await;
            }
            match self.watches.send(request, self).await? {
                Sent::Answered(response, lease) => Ok((response, Carrier::Shared(lease))),
                Sent::Alone(request) => self.exchange(request).await,
            }
        };
        let answered = tokio::time::timeout(ANSWER, exchange).await;
        let (response, carrier) =
            answered.map_err(|_| Refusal::Timeout("the cluster's API server did not answer in time"))??;
        if response.status() == StatusCode::UNAUTHORIZED && !is_relayed {
            // The user was let in, so it is the service account that was not.
            tracing::error!("the API server refuses the service account's token");
            self.token.forget_age();
            return Err(Refusal::BadGateway(
                "the cluster's API server does not know the proxy: look at the service account of the relay".into(),
            ));
        }
        Ok((response, carrier))
    }

    async fn exchange(&self, mut request: Request<Incoming>) -> Result<(Response<Incoming>, Carrier), Refusal> {
        // One that was kept may have been closed meanwhile: what was not sent is sent anew.
        while let Some(mut own) = self.idle() {
            if own.sender.ready().await.is_err() {
                continue;
            }
            match own.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Carrier::Own(own))),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(&failed.into_error())),
                },
            }
        }
        let mut own = loop {
            let connectors = self.connectors();
            let connected = tokio::time::timeout(CONNECT, self.connect(&connectors)).await;
            let connected = connected.unwrap_or_else(|_| Err(Unreached::new(SILENT)));
            let sender = connected.map_err(|error| self.unreachable(&error))?;
            // It may have changed since it was judged who is there.
            if !connectors.vouched.is_cancelled() {
                break Own { sender, vouched: connectors.vouched };
            }
        };
        let response = own.sender.send_request(request).await.map_err(|error| broken(&error))?;
        Ok((response, Carrier::Own(own)))
    }

    /// A connection on which HTTP/2 is offered, and for how long it may be used.
    pub(super) async fn shared_stream(&self) -> Result<(TlsStream<TcpStream>, Vouched), Refusal> {
        let connectors = self.connectors();
        let stream = tokio::time::timeout(CONNECT, self.stream(&connectors.of_watches)).await;
        let stream = stream.map_err(|_| Unreached::new(SILENT)).and_then(|stream| stream.map_err(Unreached::from));
        Ok((stream.map_err(|error| self.unreachable(&error))?, connectors.vouched))
    }

    fn unreachable(&self, error: &Unreached) -> Refusal {
        tracing::error!(%error, host = self.host, port = self.port, "the API server cannot be reached");
        error.refusal()
    }
}

pub(super) fn broken(error: &hyper::Error) -> Refusal {
    tracing::warn!(%error, "the API server broke the connection");
    Refusal::BadGateway("the cluster's API server broke the connection".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_when_it_rotates_and_the_one_before_does_while_the_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let file = TokenFile::new(&path);
        assert!(file.credential().is_err(), "there is none yet");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(file.credential().unwrap(), "Bearer one");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(file.credential().unwrap(), "Bearer one", "not read at every request");
        file.forget_age();
        assert_eq!(file.credential().unwrap(), "Bearer two");
        assert!(file.credential().unwrap().is_sensitive());
        for wrong in ["", "a b", "a\r\nX-Evil: 1"] {
            std::fs::write(&path, wrong).unwrap();
            file.forget_age();
            assert_eq!(file.credential().unwrap(), "Bearer two", "{wrong:?}");
        }
        std::fs::remove_file(&path).unwrap();
        file.forget_age();
        assert_eq!(file.credential().unwrap(), "Bearer two");
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        crypto::tls::install();
        let tls = || {
            let config = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
            Arc::new(config.with_no_client_auth())
        };
        let cluster = |address: &str| Cluster::new(address, tls(), TokenFile::new("/nowhere"));
        for good in ["kubernetes.default.svc:443", "10.0.0.1:6443", "[fd00::1]:6443"] {
            assert!(cluster(good).is_ok(), "{good}");
        }
        for bad in ["", "kubernetes", "kubernetes:", "kubernetes:x", ":443", "a b:443", "https://kubernetes:443"] {
            assert!(cluster(bad).is_err(), "{bad}");
        }
    }
}
