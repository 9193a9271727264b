//! Requests to the server: enrolling, renewing, and whatever an agent or a relay asks with a proof.

use std::sync::Arc;
use std::time::Duration;

use domain::{Clock, FleetId, FleetKind, Rng, Secret, Timestamp};
use http::{HeaderMap, HeaderValue, Method, header};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use wire::fleet::{Enroll, Enrolled, Jwk, Renew, Renewed};
use wire::problem::Problem;

use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::identity::{Identity, Signed, Signer};
use crate::tls::Tls;

/// The header in which a refusal for the time tells the server's time, in RFC 3339.
pub const SERVER_TIME: &str = "cairn-time";
const PROOF: &str = "dpop";
const JSON: &str = "application/json";
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_mins(1);
/// How long a connection is kept that nobody uses: shorter than the server keeps it (`server.headers_s`), so that no request meets its end.
const IDLE: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1_024 * 1_024;
/// How often one request is sent, each time with a proof of its own: after the clock was adjusted, or when a later proof came in first.
const TRIES: u32 = 3;

/// An answer of success.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// A way to one server. Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`).
#[derive(Debug, Clone)]
pub struct Connection {
    http: reqwest::Client,
    server: Url,
    /// As it is dialed: through a relay, the relay's port.
    dialed: Url,
    /// The server, and through whom, for people.
    shown: String,
}

/// Resolves the server's name to a relay's addresses: who is connected to changes, and whom TLS has to prove does not.
struct ByRelay {
    host: String,
}

impl Resolve for ByRelay {
    fn resolve(&self, _server: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// Who enrolls.
#[derive(Debug, Clone, Copy)]
pub struct Enrolling<'a> {
    /// What it is.
    pub kind: FleetKind,
    /// Its name.
    pub name: &'a str,
    /// Its program's version.
    pub version: &'a str,
}

impl Connection {
    /// To the server at `https://host` or `https://host:port`. `program`: what calls, such as `cairn-agent/1.2.3`.
    pub fn new(server: &str, tls: &Tls, program: &str) -> Result<Self> {
        Self::through(server, None, tls, program)
    }

    /// The same through a relay's listener, `host:port`: TLS is with the server, whose name and certificate stay what they are, and the relay
    /// passes it on. No proxy is used.
    pub fn through(server: &str, relay: Option<&str>, tls: &Tls, program: &str) -> Result<Self> {
        let wrong = || Error::Setting(format!("`{server}` is not the address of a server: use `https://host:port`"));
        let url = Url::parse(server).map_err(|_| wrong())?;
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "https" || !plain || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong());
        }
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .user_agent(program)
            // Few requests at a time: HTTP/2 would only cost the server what it holds for each of its connections.
            .http1_only()
            .pool_idle_timeout(IDLE)
            .tls_backend_preconfigured(tls.client_config(&[b"http/1.1"])?);
        let (mut dialed, mut shown) = (url.clone(), url.to_string());
        if let Some(relay) = relay {
            let wrong =
                || Error::Setting(format!("`{relay}` is not the address of a relay's listener: use `host:port`"));
            let (host, port) = relay.rsplit_once(':').ok_or_else(wrong)?;
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let port = port.parse::<u16>().ok().filter(|port| *port > 0 && !host.is_empty()).ok_or_else(wrong)?;
            if url.domain().is_none() {
                return Err(Error::Setting(format!(
                    "`{server}` is an address: through a relay the server needs its name, which its certificate proves"
                )));
            }
            dialed.set_port(Some(port)).map_err(|()| wrong())?;
            shown = format!("{url} (through the relay at `{relay}`)");
            builder = builder.dns_resolver(Arc::new(ByRelay { host: host.to_owned() })).no_proxy();
        }
        if matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| Error::Setting(format!("no client can be made: {error}")))?;
        Ok(Self { http, server: url, dialed, shown })
    }

    /// The server's address.
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// Exchanges an enrollment token for an identity, which the folder keeps. A folder that holds one already keeps it.
    pub async fn enroll(
        &self,
        folder: Folder,
        token: &Secret,
        who: Enrolling<'_>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Identity> {
        if Identity::is_in(&folder)? {
            return Err(Error::folder(format!(
                "`{}` holds an identity already: remove the folder to enroll anew",
                folder.path().display()
            )));
        }
        let token = token.expose_str().map(str::trim).unwrap_or_default();
        let signer = Signer::open(folder, false, clock, rng)?;
        let jwk = crypto::possession::to_jwk(&signer.public());
        let public_key: Jwk = serde_json::from_value(jwk).map_err(|_| self.nonsense())?;
        let enroll = Enroll {
            token: token.to_owned(),
            kind: who.kind.to_string(),
            name: who.name.to_owned(),
            public_key,
            version: who.version.to_owned(),
        };
        let body = serde_json::to_vec(&enroll).map_err(|_| self.nonsense())?;
        let target = "/api/v1/enroll";
        let by = By::Enrolling { signer: &signer, token };
        let answer = self.send(&Method::POST, target, (JSON, &body), by).await?;
        let enrolled: Enrolled = serde_json::from_slice(&answer.body).map_err(|_| self.nonsense())?;
        Identity::begin(signer, enrolled)
    }

    fn nonsense(&self) -> Error {
        Error::Nonsense { server: self.shown.clone() }
    }

    /// Sends a request, and once more where the refusal says what to do better.
    async fn send(&self, method: &Method, target: &str, body: (&'static str, &[u8]), by: By<'_>) -> Result<Answer> {
        let mut left = TRIES;
        loop {
            left -= 1;
            let (headers, _under_way) = by.sign(method, target, body.1).await?;
            let (error, time) = match self.send_once(method, target, body, headers).await? {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
            match (&error, time) {
                (Error::Refused { status: 401, code, .. }, Some(time)) if left > 0 && code == "clock_skew" => {
                    by.adjust(time);
                }
                (Error::Refused { status: 401, code, .. }, _) if left > 0 && code == "proof_replayed" => {}
                _ => return Err(error),
            }
        }
    }

    /// The answer, or a refusal with the server's time where it tells it.
    async fn send_once(
        &self,
        method: &Method,
        target: &str,
        (media, body): (&'static str, &[u8]),
        headers: HeaderMap,
    ) -> Result<Result<Answer, (Error, Option<Timestamp>)>> {
        let url = self.dialed.join(target).map_err(|_| Error::Setting(format!("`{target}` is no path")))?;
        let mut request = self.http.request(method.clone(), url).headers(headers);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, media).body(body.to_vec());
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, head) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.nonsense());
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(Ok(Answer { status: status.as_u16(), body }));
        }
        let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok());
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else { return Err(self.nonsense()) };
        let field = problem.field.map(|field| format!("{field}: ")).unwrap_or_default();
        let error = Error::Refused {
            status: status.as_u16(),
            code: problem.code,
            message: format!("{field}{}", problem.message),
            request: problem.request_id,
            wait_s: text("retry-after").and_then(|seconds| seconds.parse().ok()),
        };
        Ok(Err((error, text(SERVER_TIME).and_then(|time| time.parse().ok()))))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let server = self.shown.clone();
        let mut innermost: &(dyn std::error::Error + 'static) = error;
        let mut untrusted = false;
        loop {
            untrusted |= matches!(innermost.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)));
            // An `io::Error` hides what it carries from `source`.
            let inner = innermost.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            match inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| innermost.source()) {
                Some(next) => innermost = next,
                None => break,
            }
        }
        let cause = innermost.to_string();
        if untrusted { Error::Untrusted { server, cause } } else { Error::Unreachable { server, cause } }
    }
}

/// Who asks.
#[derive(Clone, Copy)]
enum By<'a> {
    Enrolling { signer: &'a Signer, token: &'a str },
    Enrolled(&'a Identity),
}

impl By<'_> {
    /// The headers of one try, and what is kept until it is answered.
    async fn sign(self, method: &Method, target: &str, body: &[u8]) -> Result<(HeaderMap, Option<Signed>)> {
        let mut headers = HeaderMap::new();
        match self {
            Self::Enrolling { signer, token } => {
                let proof = signer.proof(method.as_str(), target, body, token, None)?;
                headers.insert(PROOF, secret(&proof)?);
                Ok((headers, None))
            }
            Self::Enrolled(identity) => {
                let signed = identity.sign(method.as_str(), target, body).await?;
                headers.insert(header::AUTHORIZATION, secret(&signed.authorization)?);
                headers.insert(PROOF, secret(&signed.proof)?);
                Ok((headers, Some(signed)))
            }
        }
    }

    fn adjust(self, time: Timestamp) {
        match self {
            Self::Enrolling { signer, .. } => signer.adjust(time),
            Self::Enrolled(identity) => identity.adjust(time),
        }
    }
}

/// A header's value that is not shown.
fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::folder("the credential is broken: enroll anew"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Requests of an enrolled agent or relay.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Connection,
    identity: Arc<Identity>,
}

impl Client {
    /// As this identity, by this way.
    pub fn new(connection: Connection, identity: Arc<Identity>) -> Self {
        Self { connection, identity }
    }

    /// Who asks.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The way to the server.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends a request with a proof: `target` is the path with its query, `body` JSON or nothing.
    pub async fn call(&self, method: Method, target: &str, body: &[u8]) -> Result<Answer> {
        self.call_as(method, target, JSON, body).await
    }

    /// The same with a body of another media type.
    pub async fn call_as(&self, method: Method, target: &str, media: &'static str, body: &[u8]) -> Result<Answer> {
        self.connection.send(&method, target, (media, body), By::Enrolled(&self.identity)).await
    }

    /// The path of this agent or relay: `/api/v1/agents/{id}` or `/api/v1/relays/{id}`.
    pub fn path(&self) -> String {
        match self.identity.id() {
            FleetId::Agent(id) => format!("/api/v1/agents/{id}"),
            FleetId::Relay(id) => format!("/api/v1/relays/{id}"),
        }
    }

    /// Fetches the next credential. The one so far is good until the new one is used, so that nothing is lost where the answer is. On a full disk
    /// the server is not asked at all.
    pub async fn renew(&self, version: &str) -> Result<()> {
        self.identity.has_room()?;
        let broken = || Error::Nonsense { server: self.connection.server.to_string() };
        let body = serde_json::to_vec(&Renew { version: version.to_owned() }).map_err(|_| broken())?;
        let answer = self.call(Method::POST, &format!("{}/renew", self.path()), &body).await?;
        let renewed: Renewed = serde_json::from_slice(&answer.body).map_err(|_| broken())?;
        self.identity.renewed(renewed)
    }

    /// Renews where it is time; whether it was.
    pub async fn renew_if_due(&self, version: &str) -> Result<bool> {
        let due = self.identity.is_due();
        if due {
            self.renew(version).await?;
        }
        Ok(due)
    }
}
