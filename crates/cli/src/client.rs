//! Requests to a server: one place that adds the session, follows pages, and turns answers that are no success into failures.
//!
//! Invariants:
//! - a session goes to the server that it is of, over a connection that [`crate::trust`] accepted, and follows no redirect;
//! - an answer has a limit, and a list of pages ends.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use wire::problem::Problem;

use crate::config::Trust;
use crate::doc::Doc;
use crate::factor::Proofs;
use crate::failure::{Failure, Result};
use crate::server::{Server, route};
use crate::trust::{self, Pin};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const SWITCH_TIMEOUT: Duration = Duration::from_secs(40);
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);
/// A large bundle is put together before its first byte comes.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(5);
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A query: what is `None` is left out.
pub(crate) type Query<'a> = &'a [(&'a str, Option<&'a str>)];

/// What has to be so for a change to be made (RFC 9110, 13.1).
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// There is no such thing yet.
    New,
    /// There is one, whatever it says.
    There,
    /// It is still what was read.
    Unchanged(Tag),
}

/// Names a state of what was read.
#[derive(Debug, Clone)]
pub(crate) struct Tag(String);

impl Condition {
    fn header(&self) -> (&'static str, &str) {
        match self {
            Self::New => ("if-none-match", "*"),
            Self::There => ("if-match", "*"),
            Self::Unchanged(Tag(tag)) => ("if-match", tag),
        }
    }
}

/// A server, perhaps signed in to.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    server: Server,
    token: Option<String>,
    pin: Option<Arc<Pin>>,
    /// What a fresh proof comes from, where one is asked for.
    proofs: Option<Proofs>,
    /// Under which condition a change is made.
    condition: Option<Condition>,
}

impl Client {
    pub(crate) fn new(server: Server, trust: Trust, token: Option<String>) -> Result<Self> {
        match trust {
            Trust::System => Self::build(server, None, token),
            Trust::Pinned(fingerprint) => Self::build(server, Some(Pin::new(Some(fingerprint))), token),
        }
    }

    /// A client that refuses every certificate and remembers which one it saw.
    pub(crate) fn stranger(server: Server) -> Result<Self> {
        Self::build(server, Some(Pin::new(None)), None)
    }

    fn build(server: Server, pin: Option<Arc<Pin>>, token: Option<String>) -> Result<Self> {
        let http = Self::http(&server, pin.as_ref(), false)?;
        Ok(Self { http, server, token, pin, proofs: None, condition: None })
    }

    /// `switches`: connections become something else than HTTP, which only version 1.1 lets them.
    fn http(server: &Server, pin: Option<&Arc<Pin>>, switches: bool) -> Result<reqwest::Client> {
        let broken = |e: &dyn std::fmt::Display| Failure::new(format!("cannot set up TLS: {e}"));
        trust::provider();
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")));
        if server.is_loopback() {
            builder = builder.no_proxy();
        }
        builder = if switches { builder.http1_only() } else { builder.read_timeout(SILENCE_TIMEOUT) };
        if let Some(pin) = pin {
            let mut config = pin.client_config().map_err(|e| broken(&e))?;
            if switches {
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
            }
            builder = builder.tls_backend_preconfigured(config);
        }
        builder.build().map_err(|e| broken(&root_cause(&e)))
    }

    /// A connection that the server switches to another protocol, with a token for it in place of the session's.
    pub(crate) async fn switch(&self, parts: &[&str], to: &'static str, token: &str) -> Result<reqwest::Upgraded> {
        let http = Self::http(&self.server, self.pin.as_ref(), true)?;
        let asked = http
            .get(self.server.url(&route(parts)?, &[]))
            .bearer_auth(token)
            .header("connection", "Upgrade")
            .header("upgrade", to)
            .send();
        let asked = tokio::time::timeout(SWITCH_TIMEOUT, asked).await;
        let asked = asked.map_err(|_| Failure::new(format!("{} does not answer in time", self.server)).transient())?;
        let response = asked.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return response.upgrade().await.map_err(|e| self.unreachable(&e));
        }
        let body = Answer(Stream { response, client: self.clone() }).bytes().await.unwrap_or_default();
        Err(self.refused(status, &body))
    }

    pub(crate) fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The same, which gives a fresh proof when one is asked for.
    pub(crate) fn with_proofs(self, proofs: Proofs) -> Self {
        Self { proofs: Some(proofs), ..self }
    }

    /// The same, whose changes are made under a condition.
    pub(crate) fn only_if(&self, condition: Option<Condition>) -> Self {
        Self { condition, ..self.clone() }
    }

    /// The session's token.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The certificate (DER) by which the pinned server was accepted: its authority's, or its own; none where the system's roots decide.
    pub(crate) fn accepted_authority(&self) -> Option<Vec<u8>> {
        self.pin.as_ref().and_then(|pin| pin.accepted())
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Whether an answer comes, whatever it is: the certificate was accepted.
    pub(crate) async fn is_trusted(&self) -> bool {
        self.http.get(self.server.url("/healthz", &[])).timeout(CONNECT_TIMEOUT).send().await.is_ok()
    }

    /// The certificate that a [`Client::stranger`] was shown.
    pub(crate) fn refused_certificate(&self) -> Option<domain::Digest> {
        self.pin.as_ref().and_then(|pin| pin.refused())
    }

    pub(crate) async fn get(&self, parts: &[&str], query: Query<'_>) -> Result<Doc> {
        read(self.send(Method::GET, parts, query, None::<&()>).await?).await
    }

    /// The same with what names its state, for who changes it; none where the server says none.
    pub(crate) async fn get_tagged(&self, parts: &[&str]) -> Result<(Doc, Option<Tag>)> {
        let answer = self.send(Method::GET, parts, &[], None::<&()>).await?;
        let tag = answer.0.response.headers().get("etag").and_then(|tag| tag.to_str().ok());
        // A proxy that compresses calls the tag weak, since the bytes are others. It names what was read all the same.
        let tag = tag.map(|tag| Tag(tag.strip_prefix("W/").unwrap_or(tag).to_owned()));
        Ok((read(answer).await?, tag))
    }

    pub(crate) async fn post<B: Serialize>(&self, parts: &[&str], body: Option<&B>) -> Result<Doc> {
        read(self.send(Method::POST, parts, &[], body).await?).await
    }

    pub(crate) async fn put<B: Serialize>(&self, parts: &[&str], body: &B) -> Result<Doc> {
        read(self.send(Method::PUT, parts, &[], Some(body)).await?).await
    }

    pub(crate) async fn patch<B: Serialize>(&self, parts: &[&str], body: &B) -> Result<Doc> {
        read(self.send(Method::PATCH, parts, &[], Some(body)).await?).await
    }

    /// A POST that is answered with nothing.
    pub(crate) async fn tell<B: Serialize>(&self, parts: &[&str], body: &B) -> Result {
        self.send(Method::POST, parts, &[], Some(body)).await.map(drop)
    }

    /// A POST that says all by its path, and is answered with nothing.
    pub(crate) async fn act(&self, parts: &[&str]) -> Result {
        self.send(Method::POST, parts, &[], None::<&()>).await.map(drop)
    }

    /// A PUT that says all by its path, and is answered with nothing.
    pub(crate) async fn set(&self, parts: &[&str]) -> Result {
        self.send(Method::PUT, parts, &[], None::<&()>).await.map(drop)
    }

    pub(crate) async fn delete(&self, parts: &[&str]) -> Result {
        self.send(Method::DELETE, parts, &[], None::<&()>).await.map(drop)
    }

    /// The first `limit` items of a list (all without one), and whether there are more.
    pub(crate) async fn list(
        &self,
        parts: &[&str],
        query: Query<'_>,
        limit: Option<usize>,
    ) -> Result<(Vec<Doc>, bool)> {
        let mut items: Vec<Doc> = Vec::new();
        let mut page: Option<String> = None;
        loop {
            let missing = limit.map_or(usize::MAX, |limit| limit - items.len());
            let size = missing.min(domain::Limits::LIST_ITEMS as usize).to_string();
            let mut query = query.to_vec();
            query.extend([("limit", Some(size.as_str())), ("page", page.as_deref())]);
            let Doc::Map(fields) = self.get(parts, &query).await? else { return Err(not_ours()) };
            let (mut found, mut next) = (None, None);
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("items", Doc::List(items)) => found = Some(items),
                    ("next_page", Doc::Text(token)) => next = Some(token),
                    _ => {}
                }
            }
            let found = found.ok_or_else(not_ours)?;
            let empty = found.is_empty();
            let surplus = found.len() > missing;
            items.extend(found.into_iter().take(missing));
            match next {
                None => return Ok((items, surplus)),
                Some(_) if limit.is_some_and(|limit| items.len() >= limit) => return Ok((items, true)),
                Some(next) if empty || page.as_ref() == Some(&next) => {
                    return Err(Failure::new(format!("the server's list does not end: page `{next}` leads nowhere")));
                }
                Some(next) => page = Some(next),
            }
        }
    }

    /// An answer that is read as it comes: an event stream, a file.
    pub(crate) async fn stream(&self, parts: &[&str], query: Query<'_>) -> Result<Stream> {
        let response = self.request(Method::GET, parts, query, None::<&()>, None).await?;
        Ok(Stream { response, client: self.clone() })
    }

    async fn send<B: Serialize>(
        &self,
        method: Method,
        parts: &[&str],
        query: Query<'_>,
        body: Option<&B>,
    ) -> Result<Answer> {
        let response = self.request(method, parts, query, body, Some(ANSWER_TIMEOUT)).await?;
        Ok(Answer(Stream { response, client: self.clone() }))
    }

    /// Sends a request; where it needs a fresh proof, gives that and sends it once more.
    async fn request<B: Serialize>(
        &self,
        method: Method,
        parts: &[&str],
        query: Query<'_>,
        body: Option<&B>,
        timeout: Option<Duration>,
    ) -> Result<Response> {
        match (self.request_once(method.clone(), parts, query, body, timeout).await, &self.proofs) {
            (Err(failure), Some(proofs)) if failure.needs_proof => {
                self.prove(proofs).await?;
                self.request_once(method, parts, query, body, timeout).await
            }
            (result, _) => result,
        }
    }

    /// Proves anew who is signed in.
    async fn prove(&self, proofs: &Proofs) -> Result {
        let me = self.request_once(Method::GET, &["me"], &[], None::<&()>, Some(ANSWER_TIMEOUT)).await?;
        let me = read(Answer(Stream { response: me, client: self.clone() })).await?;
        let proof = proofs.step_up(me.field("has_second_factor") == Some(&Doc::Bool(true)))?;
        let path = ["sessions", "current", "step-up"];
        self.request_once(Method::POST, &path, &[], Some(&proof), Some(ANSWER_TIMEOUT)).await.map(drop)
    }

    async fn request_once<B: Serialize>(
        &self,
        method: Method,
        parts: &[&str],
        query: Query<'_>,
        body: Option<&B>,
        timeout: Option<Duration>,
    ) -> Result<Response> {
        let query: Vec<(&str, &str)> =
            query.iter().filter_map(|(name, value)| value.map(|value| (*name, value))).collect();
        // A proof that is given in between is no part of the change.
        let is_change = matches!(method, Method::PUT | Method::PATCH);
        let mut request = self.http.request(method, self.server.url(&route(parts)?, &query));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            let body = serde_json::to_vec(body).map_err(|e| Failure::new(format!("cannot write the request: {e}")))?;
            request = request.header("content-type", "application/json").body(body);
        }
        if let Some((name, value)) = self.condition.as_ref().map(Condition::header)
            && is_change
        {
            request = request.header(name, value);
        }
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let answer = Answer(Stream { response, client: self.clone() });
        let body = answer.bytes().await.unwrap_or_default();
        Err(self.refused(status, &body))
    }

    /// Why no answer came.
    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let server = &self.server;
        if let Some((pin, shown)) = self.pin.as_ref().and_then(|pin| Some((pin, pin.refused()?))) {
            return pin.expected().map_or_else(
                || Failure::new(format!("{server} is not known yet: its fingerprint is {shown}")),
                |expected| {
                    Failure::new(format!(
                        "THE KEY OF {server} HAS CHANGED: trusted is {expected}, shown is {shown}; nothing was sent"
                    ))
                    .hint(format!(
                        "somebody may be between you and the server; where its administrator confirms the new fingerprint: \
                         cairn login {server} --trust {shown}"
                    ))
                },
            );
        }
        let cause = root_cause(error);
        if self.pin.is_some() && trust::is_certificate_error(error) {
            return Failure::new(format!("the certificate of {server} is not valid: {cause}; nothing was sent")).hint(
                "its authority is the trusted one: reach it by a name of the certificate, or add this one to the server's `server.names`",
            );
        }
        if trust::is_certificate_error(error) {
            return Failure::new(format!("the certificate of {server} is not valid: {cause}; nothing was sent")).hint(
                format!(
                    "where its administrator confirms its fingerprint: cairn login {server} --trust SHA256-FINGERPRINT"
                ),
            );
        }
        if error.is_timeout() {
            return Failure::new(format!("{server} does not answer in time")).transient();
        }
        let failure = Failure::new(format!("cannot reach {server}: {cause}")).transient();
        if error.is_connect() { failure.hint("check the address, and that the server runs") } else { failure }
    }

    /// Why the answer is no.
    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
            let failure = Failure::new(format!("{} answered {status} without saying why", self.server));
            return if status.is_server_error() { failure.transient() } else { failure };
        };
        let field = problem.field.map(|field| format!("{field}: ")).unwrap_or_default();
        let failure = Failure::new(format!("{field}{} (request {})", problem.message, problem.request_id));
        let needs_proof = problem.code == "step_up_required";
        let failure = Failure { needs_proof, status: Some(status.as_u16()), code: Some(problem.code), ..failure };
        match status {
            StatusCode::UNAUTHORIZED if self.token.is_some() => {
                Failure { unauthenticated: true, ..failure }.hint(format!("cairn login {}", self.server))
            }
            // Nobody is told which: it would tell which accounts there are.
            StatusCode::UNAUTHORIZED => failure.hint("the name or the password is wrong, or the account is disabled"),
            StatusCode::TOO_MANY_REQUESTS => failure.transient().hint("try again a little later"),
            status if status.is_server_error() => failure.transient(),
            _ => failure,
        }
    }
}

struct Answer(Stream);

impl Answer {
    async fn bytes(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.0.chunk().await? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure::new("the server's answer is larger than 256 MiB")
                    .hint("ask for less: --limit, or a filter"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

async fn read(answer: Answer) -> Result<Doc> {
    serde_json::from_slice(&answer.bytes().await?).map_err(|_| not_ours())
}

pub(crate) fn not_ours() -> Failure {
    Failure::new("the answer is not one of a Cairn server of this version")
        .hint("compare `cairn --version` with the server's")
}

/// An answer in pieces.
pub(crate) struct Stream {
    response: Response,
    client: Client,
}

impl Stream {
    /// The next piece; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]>>> {
        self.response.chunk().await.map_err(|e| self.client.unreachable(&e))
    }
}

/// The innermost reason, which is the one that says something.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
