//! A small real HTTPS server on loopback: hand-written answers, real TLS, and a certificate that can be exchanged.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, PublicKeyData as _};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) token: Option<String>,
    pub(crate) body: String,
}

impl Request {
    /// `GET /api/v1/me`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An answer.
pub(crate) enum Reply {
    Json(u16, serde_json::Value),
    /// Pieces that are flushed one by one; then the connection ends cleanly, or breaks.
    Pieces {
        kind: &'static str,
        pieces: Vec<Vec<u8>>,
        breaks: bool,
    },
    /// A stream in which nothing comes, until the client goes.
    Silence,
}

impl Reply {
    pub(crate) fn problem(status: u16, code: &str, message: &str) -> Self {
        let problem = wire::problem::Problem {
            request_id: "req_7".into(),
            code: code.into(),
            message: message.into(),
            field: None,
        };
        Self::Json(status, serde_json::to_value(problem).unwrap())
    }
}

/// A chain of certificates and a key; not necessarily the first one's.
#[derive(Clone)]
pub(crate) struct Identity {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
    /// The public key (SPKI) of the chain's last certificate.
    pinned: Vec<u8>,
}

/// An authority that issues certificates to servers.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn fingerprint(&self) -> String {
        crypto::sha256(&self.0.key().subject_public_key_info()).to_hex()
    }

    /// A certificate for `name` until then, shown with the authority's.
    pub(crate) fn issue(&self, name: &str, until: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Identity {
            chain: vec![leaf.der().to_vec(), self.0.der().to_vec()],
            key: key.serialize_der(),
            pinned: self.0.key().subject_public_key_info(),
        }
    }
}

impl Identity {
    pub(crate) fn self_signed() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let pinned = made.signing_key.subject_public_key_info();
        Self { chain: vec![made.cert.der().to_vec()], key: made.signing_key.serialize_der(), pinned }
    }

    /// A certificate for `name` by a new authority, which is not shown, and the authority's certificate (PEM).
    pub(crate) fn issued(name: &str) -> (Self, String) {
        let authority = Authority::new();
        let mut identity = authority.issue(name, 2_100);
        identity.chain.truncate(1);
        (identity, authority.pem())
    }

    /// What somebody in between has: the certificates that all can see, and a key of their own.
    pub(crate) fn stolen_certificate(&self) -> Self {
        Self { key: Self::self_signed().key, ..self.clone() }
    }

    /// The same with another one's authority shown beside its own.
    pub(crate) fn beside_authority_of(mut self, other: &Self) -> Self {
        self.chain.extend(other.chain.last().cloned());
        self
    }

    /// Of the public key of the last certificate: the authority's where one is shown.
    pub(crate) fn fingerprint(&self) -> String {
        crypto::sha256(&self.pinned).to_hex()
    }

    /// Of the first certificate as a whole.
    pub(crate) fn certificate_fingerprint(&self) -> String {
        crypto::sha256(&self.chain[0]).to_hex()
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(self.chain.iter().cloned().map(Into::into).collect(), key))
    }
}

#[derive(Clone)]
struct Presented(Arc<Mutex<Arc<CertifiedKey>>>);

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Presented")
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

type Handler = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

/// The server. Its threads end with the test process.
pub(crate) struct Double {
    address: SocketAddr,
    presented: Presented,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Double {
    pub(crate) fn start(identity: &Identity, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(identity, rustls::DEFAULT_VERSIONS, handler)
    }

    pub(crate) fn start_with(
        identity: &Identity,
        versions: &[&'static SupportedProtocolVersion],
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let presented = Presented(Arc::new(Mutex::new(identity.certified())));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(presented.clone()));
        let (config, handler): (_, Arc<Handler>) = (Arc::new(config), Arc::new(Box::new(handler)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let double = Self { address, presented, seen: Arc::clone(&seen) };
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let (config, handler, seen) = (Arc::clone(&config), Arc::clone(&handler), Arc::clone(&seen));
                std::thread::spawn(move || serve(tcp, config, &handler, &seen));
            }
        });
        double
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn present(&self, identity: &Identity) {
        *self.presented.0.lock().unwrap() = identity.certified();
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Request::line).collect()
    }
}

/// One request per connection. A connection that fails is the client's to tell of.
fn serve(tcp: TcpStream, config: Arc<ServerConfig>, handler: &Handler, seen: &Mutex<Vec<Request>>) {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
    let Some(request) = read(&mut stream) else { return };
    seen.lock().unwrap().push(request.clone());
    let breaks = match handler(&request) {
        Reply::Json(status, body) => {
            let body = if status == 204 { String::new() } else { body.to_string() };
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
            false
        }
        Reply::Pieces { kind, pieces, breaks } => {
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            );
            for piece in pieces {
                let _ = write!(stream, "{:x}\r\n", piece.len())
                    .and_then(|()| stream.write_all(&piece))
                    .and_then(|()| stream.write_all(b"\r\n"));
                let _ = stream.flush();
            }
            if !breaks {
                let _ = stream.write_all(b"0\r\n\r\n");
            }
            breaks
        }
        Reply::Silence => {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n");
            let _ = stream.flush();
            let _ = stream.read(&mut [0]);
            true
        }
    };
    if !breaks {
        stream.conn.send_close_notify();
    }
    let _ = stream.flush();
}

fn read(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut token) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Request { method, path: path.to_owned(), query: query.to_owned(), token, body: String::from_utf8(body).ok()? })
}
