//! One bounded HTTPS exchange with a service that the installation's configuration names: an identity provider, a secret store, a log
//! collector.
//!
//! **Not for** targets of discovery, whose calls are signed, paced and recorded: those have clients of their own beside this one.
//!
//! What is checked is what is connected to: names resolve here, and a name or an address that leads to a link-local address, a metadata
//! service or (unless the configuration allows it) this machine is refused. Redirects are not followed, proxies not used, cookies not kept.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::Digest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::Url;
use rustls_pki_types::CertificateDer;

use crate::guard::Guard;

/// What a client may do.
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// Which addresses the service may have. Where it is this machine and may be, it may also speak plain HTTP.
    pub guard: Guard,
    /// Services of the machine's own platform (instance metadata, a container's credential endpoint) that may be called although their
    /// addresses are refused otherwise, in plain HTTP: each by its exact address and port. No name leads to them.
    pub local_services: Vec<SocketAddr>,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time for the whole exchange.
    pub timeout: Duration,
    /// Longest reply, in bytes.
    pub reply_bytes_max: usize,
    /// Idle connections kept per host.
    pub idle_connections: usize,
    /// Certificate authorities to trust beside the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            local_services: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
            reply_bytes_max: 1 << 20,
            idle_connections: 2,
            extra_roots: Vec::new(),
        }
    }
}

/// Why there is no reply. No variant holds a header or a body, so none holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// The URL cannot be called.
    #[error("`{url}` {why}")]
    Url {
        /// Scheme, host and port.
        url: String,
        /// What to change.
        why: &'static str,
    },
    /// No connection, or it broke.
    #[error("`{host}` cannot be reached: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system said.
        why: String,
    },
    /// No complete reply in time.
    #[error("`{host}` did not answer in time")]
    Timeout {
        /// Host and port.
        host: String,
    },
    /// The reply is longer than allowed.
    #[error("the reply of `{host}` is longer than {max} bytes")]
    TooLong {
        /// Host and port.
        host: String,
        /// Most bytes.
        max: usize,
    },
}

/// A request.
#[derive(Clone)]
pub struct WebRequest {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Bytes,
}

impl std::fmt::Debug for WebRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the headers, the query or the body: those hold tokens.
        f.debug_struct("WebRequest")
            .field("method", &self.method)
            .field("host", &place(&self.url))
            .finish_non_exhaustive()
    }
}

impl WebRequest {
    /// A request without headers or body.
    pub fn new(method: Method, url: &str) -> Result<Self, WebError> {
        let url = Url::parse(url).map_err(|_| WebError::Url {
            url: url.chars().take(200).collect(),
            why: "is not a URL such as `https://host:port/path`",
        })?;
        Ok(Self { method, url, headers: HeaderMap::new(), body: Bytes::new() })
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// With a header that no log may show.
    #[must_use]
    pub fn secret_header(self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.header(name, value)
    }

    /// With a body and its media type.
    #[must_use]
    pub fn body(mut self, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        self.body = body.into();
        self
    }

    /// With a body whose media type is among the headers already.
    #[must_use]
    pub fn bytes(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// A whole reply, whatever its status.
#[derive(Debug, Clone)]
pub struct WebReply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most `reply_bytes_max` long.
    pub body: Bytes,
    /// SHA-256 of the server's TLS leaf certificate, where the connection had one.
    pub tls_leaf: Option<Digest>,
}

/// A client; cheap to clone.
#[derive(Debug, Clone)]
pub struct WebClient {
    http: reqwest::Client,
    config: Arc<WebConfig>,
    ports: Ports,
}

impl WebClient {
    /// A client that trusts the public authorities and `extra_roots`.
    pub fn new(config: WebConfig) -> Result<Self, WebError> {
        let ports = Ports::default();
        let http = connector(&config, &ports)
            .map_err(|why| WebError::Unreachable { host: "(no TLS client)".to_owned(), why })?;
        Ok(Self { http, config: Arc::new(config), ports })
    }

    /// Whether the service may be this machine.
    pub fn allows_loopback(&self) -> bool {
        self.config.guard.allows_loopback()
    }

    /// Sends it once and reads the whole reply.
    pub async fn send(&self, request: WebRequest) -> Result<WebReply, WebError> {
        check_url(&request.url, &self.config.guard, &self.config.local_services)?;
        asked(&self.ports, &request.url);
        let host = place(&request.url);
        let exchange = async {
            let WebRequest { method, url, headers, body } = request;
            let sent = self.http.request(method, url).headers(headers).body(body).send().await;
            let mut response = sent.map_err(|error| unreachable(&host, error))?;
            let tls_leaf = response.extensions().get::<reqwest::tls::TlsInfo>();
            let tls_leaf = tls_leaf.and_then(reqwest::tls::TlsInfo::peer_certificate).map(crypto::sha256);
            let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
            let max = self.config.reply_bytes_max;
            let mut body = BytesMut::new();
            while let Some(part) = response.chunk().await.map_err(|error| unreachable(&host, error))? {
                if body.len() + part.len() > max {
                    return Err(WebError::TooLong { host: host.clone(), max });
                }
                body.extend_from_slice(&part);
            }
            Ok(WebReply { status, headers, body: body.freeze(), tls_leaf })
        };
        match tokio::time::timeout(self.config.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(WebError::Timeout { host }),
        }
    }
}

/// Scheme, host and port: what an error may show of a URL.
fn place(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// HTTPS anywhere that is not forbidden; plain HTTP only to this machine where that is allowed; no user name.
fn check_url(url: &Url, guard: &Guard, local_services: &[SocketAddr]) -> Result<(), WebError> {
    let wrong = |why| Err(WebError::Url { url: place(url), why });
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_refused = guard.check_host(host, url.port_or_known_default().unwrap_or_default()).is_err();
    let address = host.parse::<IpAddr>().ok();
    let local = address.is_some_and(|ip| ip.is_loopback()) || host.eq_ignore_ascii_case("localhost");
    let is_local_service = address
        .zip(url.port_or_known_default())
        .is_some_and(|(ip, port)| url.scheme() == "http" && local_services.contains(&SocketAddr::new(ip, port)));
    if is_local_service && url.username().is_empty() && url.password().is_none() {
        return Ok(());
    }
    match url.scheme() {
        "https" => {}
        "http" if local && !is_refused => {}
        "http" => return wrong("uses plain http: use https"),
        _ => return wrong("is not https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("holds a user name: remove it");
    }
    if is_refused {
        return wrong(
            "points at this machine, at a service of the installation, at a link-local address or outside of the allowed networks, which is refused",
        );
    }
    Ok(())
}

fn unreachable(host: &str, error: reqwest::Error) -> WebError {
    if error.is_timeout() {
        return WebError::Timeout { host: host.to_owned() };
    }
    // The innermost cause says most, and `without_url` keeps a query's secrets out.
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    WebError::Unreachable { host: host.to_owned(), why: cause.to_string() }
}

/// Ports to which a client may be about to connect: whoever resolves a name is not told which.
pub(crate) type Ports = Arc<Mutex<BTreeSet<u16>>>;

/// Puts a URL's port to the others.
fn asked(ports: &Ports, url: &Url) {
    ports.lock().unwrap_or_else(PoisonError::into_inner).extend(url.port_or_known_default());
}

/// Resolves names, and lets no address through that the guard refuses at one of the ports.
struct Resolver(Guard, Ports);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let guard = self.0.clone();
        let ports = self.1.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let refused = |ip: IpAddr| {
                guard.check(ip).is_err() || ports.iter().any(|port| guard.check_at(SocketAddr::new(ip, *port)).is_err())
            };
            if found.iter().any(|address| refused(address.ip())) {
                return Err(format!("`{}` resolves to an address that is refused", name.as_str()).into());
            }
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// TLS that trusts the public authorities and these.
pub(crate) fn tls_client(extra_roots: &[CertificateDer<'static>]) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra_roots {
        roots.add(root.clone()).map_err(|error| error.to_string())?;
    }
    let tls = rustls::ClientConfig::builder_with_provider(crypto::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    Ok(tls.with_no_client_auth())
}

/// The one way to an HTTP client of this crate: rustls over aws-lc-rs, set here and not taken from the process; guarded names.
pub(crate) fn connector(config: &WebConfig, ports: &Ports) -> Result<reqwest::Client, String> {
    let mut tls = tls_client(&config.extra_roots)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .tls_info(true)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .dns_resolver(Resolver(config.guard.clone(), Arc::clone(ports)))
        .connect_timeout(config.connect_timeout)
        .pool_max_idle_per_host(config.idle_connections)
        .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn client(change: impl FnOnce(&mut WebConfig)) -> WebClient {
        let mut config =
            WebConfig { guard: Guard::loopback(true), timeout: Duration::from_secs(5), ..WebConfig::default() };
        change(&mut config);
        WebClient::new(config).unwrap()
    }

    /// Answers one request with these bytes, then keeps the connection open.
    async fn answering(reply: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/path?code=planted", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(reply).await.unwrap();
            let _ = stream.read(&mut request).await;
        });
        url
    }

    async fn get(client: &WebClient, url: &str) -> Result<WebReply, WebError> {
        client.send(WebRequest::new(Method::GET, url)?).await
    }

    #[tokio::test]
    async fn attack_64_a_name_that_leads_to_a_service_of_the_installation_is_refused_at_its_port_only() {
        use reqwest::dns::Resolve as _;
        let guard = Guard::loopback(true).keeping_from(crate::guard::Services::here([8443]));
        let ports = Ports::default();
        let resolver = Resolver(guard, Arc::clone(&ports));
        asked(&ports, &Url::parse("https://localhost/").unwrap());
        assert!(resolver.resolve("localhost".parse().unwrap()).await.is_ok());
        asked(&ports, &Url::parse("https://localhost:8443/").unwrap());
        let refused = resolver.resolve("localhost".parse().unwrap()).await.err().unwrap().to_string();
        assert!(refused.contains("an address that is refused"), "{refused}");
    }

    #[tokio::test]
    async fn a_reply_of_any_status_is_returned_and_a_redirect_not_followed() {
        let url =
            answering(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\nok").await;
        let reply = get(&client(|_| {}), &url).await.unwrap();
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (302, &b"ok"[..]));
    }

    #[tokio::test]
    async fn a_long_reply_and_a_silent_service_end_within_their_bounds() {
        let url = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789").await;
        let error = get(&client(|config| config.reply_bytes_max = 4), &url).await.unwrap_err();
        assert!(matches!(error, WebError::TooLong { max: 4, .. }), "{error}");
        let url = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789").await;
        let error = get(&client(|config| config.timeout = Duration::from_millis(200)), &url).await.unwrap_err();
        assert!(matches!(error, WebError::Timeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn no_error_shows_a_path_or_a_query() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/path?code=planted", listener.local_addr().unwrap());
        drop(listener);
        let error = get(&client(|_| {}), &url).await.unwrap_err().to_string();
        assert!(error.contains("cannot be reached") && !error.contains("planted"), "{error}");
        let request = WebRequest::new(Method::GET, &url).unwrap();
        let request = request.secret_header(http::header::AUTHORIZATION, HeaderValue::from_static("Bearer planted"));
        assert!(!format!("{request:?}").contains("planted"));
    }

    #[tokio::test]
    async fn attack_64_this_machine_and_metadata_services_are_refused_however_they_are_spelled() {
        let strict = client(|config| config.guard = Guard::default());
        for url in [
            "https://127.0.0.1/",
            "https://localhost/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://0x7f000001/",
            "https://2130706433/",
            "http://example.com/",
            "https://169.254.169.254/latest",
            "https://[fd00:ec2::254]/",
            "https://user:pass@example.com/",
            "ftp://example.com/",
        ] {
            let error = get(&strict, url).await.unwrap_err();
            assert!(matches!(error, WebError::Url { .. }), "{url}: {error}");
        }
        for url in ["https://169.254.169.254/", "https://[::ffff:a9fe:a9fe]/", "http://10.0.0.1/"] {
            let error = get(&client(|_| {}), url).await.unwrap_err();
            assert!(matches!(error, WebError::Url { .. }), "{url}: {error}");
        }
        // The exception for one service is for exactly that: not its neighbour, not another port, not a name, not a user.
        let config = WebConfig { local_services: vec!["169.254.170.2:80".parse().unwrap()], ..WebConfig::default() };
        let check = |url: &str| check_url(&Url::parse(url).unwrap(), &config.guard, &config.local_services);
        assert!(check("http://169.254.170.2/v2/credentials").is_ok());
        for url in [
            "http://169.254.170.2:8080/",
            "https://169.254.170.2/",
            "http://169.254.169.254/",
            "http://user@169.254.170.2/",
            "http://127.0.0.1/",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
        // A tenant's policy allows what it names here too, and the limits of a relay hold for what is written as an address.
        let named = |text: &str| Guard::default().allowing([text.parse().unwrap()]);
        for (guard, url, allowed) in [
            (named("127.0.0.1"), "http://127.0.0.1:9/", true),
            (named("127.0.0.1"), "http://localhost:9/", true),
            (named("127.0.0.2"), "https://127.0.0.1/", false),
            (named("169.254.169.254"), "https://169.254.169.254/", true),
            (named("169.254.0.0/16"), "https://169.254.169.254/", false),
            (named("169.254.169.254"), "http://169.254.169.254/", false),
            (Guard::default().within(&["10.0.0.0/8".parse().unwrap()]), "https://10.0.0.1/", true),
            (Guard::default().within(&["10.0.0.0/8".parse().unwrap()]), "https://192.0.2.1/", false),
        ] {
            assert_eq!(check_url(&Url::parse(url).unwrap(), &guard, &[]).is_ok(), allowed, "{url} {guard:?}");
        }
        let error = get(&strict, "https://localhost.:9/").await.unwrap_err().to_string();
        assert!(
            error.contains("points at this machine"),
            "a name that is this machine's wherever it is asked: {error}"
        );
    }
}
