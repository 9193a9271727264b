//! Generic HTTPS: one bounded exchange with a service, with a bearer token, a user's password or a header that a stored credential holds.
//!
//! **Not for** deciding what may be called: whoever asks has an allow-list of its own (a third-party plugin's is its manifest).
//!
//! Invariants:
//! - a credential goes to the one origin that it was stored for, whatever the job's settings say;
//! - a reply that repeats the credential is withheld;
//! - a path goes out as it was checked: nothing resolves, decodes or redirects it.

mod echo;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Clock, Rng, Secret};
use http::{HeaderName, HeaderValue, Method};
use reqwest::Url;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use self::echo::Echo;
use crate::aws::error::clean;
use crate::guard::Guard;
use crate::web::{WebClient, WebConfig, WebError, WebReply, WebRequest};
use crate::{CallError, CallRecord, CallTag, HttpCall, HttpReach, Recorder, Reply, RequestRecord, ResponseRecord};

/// Most tries of one call that changes nothing.
const TRIES: u32 = 3;
/// Longest wait before another try.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// What nobody but this module may say of a request.
const OWN_HEADERS: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How the service is told who asks.
#[derive(Debug)]
enum Proof {
    Bearer(Secret),
    Basic { username: String, password: Secret },
    Header { name: HeaderName, value: Secret },
}

/// A stored credential for one origin. `Debug` shows no secret.
#[derive(Debug)]
pub struct HttpCredential {
    origin: String,
    proof: Proof,
    authorities: Vec<CertificateDer<'static>>,
}

/// The stored form of all three types: which one it is, the fields say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    origin: String,
    token: Option<String>,
    username: Option<String>,
    password: Option<String>,
    header: Option<String>,
    value: Option<String>,
    ca: Option<String>,
}

/// `scheme://host[:port]` and nothing else, in the one spelling that URLs have.
pub fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && matches!(url.scheme(), "https" | "http")
        && url.has_host();
    plain.then(|| url.origin().ascii_serialization())
}

impl HttpCredential {
    /// Reads `{"origin", "token"}`, `{"origin", "username", "password"}` or `{"origin", "header", "value"}`, each with an optional `ca` (PEM).
    /// Errors name the field and never quote a value.
    pub fn from_secret_json(secret: &Secret) -> Result<Self, CallError> {
        let wrong = |what: &str| CallError::Credential(what.to_owned());
        let stored: Stored = serde_json::from_slice(secret.expose()).map_err(|error| {
            wrong(&format!(
                "the stored JSON needs the text `origin` and either `token`, or `username` and `password`, or `header` and `value`: wrong at \
                 line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
        let origin = origin(&stored.origin)
            .ok_or_else(|| wrong("`origin` is scheme, host and port only, such as `https://status.example.com`"))?;
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        let sendable = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        let proof = match (stored.token, stored.username, stored.password, stored.header, stored.value) {
            (Some(token), None, None, None, None) if visible(&token) => Proof::Bearer(Secret::new(token)),
            (Some(_), None, None, None, None) => return Err(wrong("`token` is empty or holds blanks: copy it again")),
            (None, Some(username), Some(password), None, None) => {
                if !sendable(&username) || username.contains(':') || !sendable(&password) {
                    return Err(wrong("`username` and `password` hold no control characters, and the first no `:`"));
                }
                Proof::Basic { username, password: Secret::new(password) }
            }
            (None, None, None, Some(name), Some(value)) => {
                let name = name.parse::<HeaderName>().ok().filter(|name| !is_reserved(name.as_str()));
                let name = name.ok_or_else(|| wrong("`header` is no header that a credential can be sent in"))?;
                if !value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') || value.is_empty() {
                    return Err(wrong("`value` is empty or holds characters that no header can hold"));
                }
                Proof::Header { name, value: Secret::new(value) }
            }
            _ => return Err(wrong("it needs `token`, or `username` and `password`, or `header` and `value`")),
        };
        let authorities = match &stored.ca {
            None => Vec::new(),
            Some(pem) => CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .ok()
                .filter(|found| !found.is_empty())
                .ok_or_else(|| wrong("`ca` holds no certificate in PEM"))?,
        };
        Ok(Self { origin, proof, authorities })
    }

    /// The header that proves who asks.
    fn header(&self) -> Result<(HeaderName, HeaderValue), CallError> {
        let text = |secret: &Secret| secret.expose_str().unwrap_or_default().to_owned();
        let (name, value) = match &self.proof {
            Proof::Bearer(token) => (http::header::AUTHORIZATION, format!("Bearer {}", text(token))),
            Proof::Basic { username, password } => {
                (http::header::AUTHORIZATION, format!("Basic {}", Self::pair(username, password)))
            }
            Proof::Header { name, value } => (name.clone(), text(value)),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| CallError::Credential("it holds characters that no header can hold".to_owned()))?;
        value.set_sensitive(true);
        Ok((name, value))
    }

    /// A user and password as they are sent.
    fn pair(username: &str, password: &Secret) -> String {
        STANDARD.encode(format!("{username}:{}", password.expose_str().unwrap_or_default()))
    }

    /// The secret as a reply may not hold it.
    fn echo(&self) -> Echo {
        match &self.proof {
            Proof::Bearer(secret) | Proof::Header { value: secret, .. } => Echo::new(secret.expose()),
            Proof::Basic { username, password } => {
                Echo::new(password.expose()).or_base64(&Self::pair(username, password))
            }
        }
    }
}

fn is_reserved(header: &str) -> bool {
    OWN_HEADERS.contains(&header)
}

/// How to call.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Which addresses the service may have.
    pub guard: Guard,
    /// Longest time for one try, from connecting to the reply's last byte.
    pub call_timeout: Duration,
    /// Longest reply, in bytes.
    pub reply_bytes_max: usize,
    /// The wait before the second try is up to this; it doubles with each try.
    pub backoff: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            call_timeout: Duration::from_secs(30),
            reply_bytes_max: 2 * 1_024 * 1_024,
            backoff: Duration::from_millis(250),
        }
    }
}

/// Calls with one credential, or with none.
pub struct HttpClient {
    credential: Option<HttpCredential>,
    web: WebClient,
    config: HttpConfig,
    recorder: Arc<Recorder>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("credential", &self.credential).finish_non_exhaustive()
    }
}

/// What is wrong with a path that is to go out as it is: absolute, of RFC 3986's characters, with nothing in it that a server could resolve
/// or decode into another path.
pub fn path_problem(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') || path.len() > 2_048 {
        return Some("a path begins with `/` and has at most 2,048 bytes");
    }
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (rest.next().unwrap_or_default(), rest.next().unwrap_or_default());
            let digits = [high, low];
            let code = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
            match code {
                None => return Some("a `%` in a path begins two hexadecimal digits"),
                // What is encoded here could mean another path behind it.
                Some(b'/' | b'\\' | b'.' | b'%' | 0..=31 | 127) => {
                    return Some("a path does not encode slashes, dots, `%` or control characters");
                }
                Some(_) => {}
            }
        } else if !(byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)) {
            return Some("a path holds only characters that RFC 3986 allows: encode the others");
        }
    }
    let segments = path.split('/').skip(1);
    let last = segments.clone().count();
    for (at, segment) in segments.enumerate() {
        // `..;x` is `..` to servers that cut path parameters off.
        if matches!(segment.split(';').next(), Some("." | "..")) {
            return Some("a path holds no dot segments");
        }
        if segment.is_empty() && at + 1 != last {
            return Some("a path holds no empty segments");
        }
    }
    None
}

fn failed(error: WebError) -> CallError {
    match error {
        WebError::TooLong { max, .. } => CallError::TooLarge { max },
        other => CallError::Unreachable(other.to_string()),
    }
}

impl HttpClient {
    /// A client for one credential, or for none.
    pub fn new(
        credential: Option<HttpCredential>,
        config: HttpConfig,
        recorder: Arc<Recorder>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, CallError> {
        let web = WebClient::new(WebConfig {
            guard: config.guard.clone(),
            timeout: config.call_timeout,
            reply_bytes_max: config.reply_bytes_max,
            extra_roots: credential.as_ref().map(|found| found.authorities.clone()).unwrap_or_default(),
            ..WebConfig::default()
        })
        .map_err(failed)?;
        Ok(Self { credential, web, config, recorder, clock, rng })
    }

    /// The request as it goes out, checked.
    fn request(&self, call: &HttpCall) -> Result<WebRequest, CallError> {
        let cannot = |why: &str| CallError::Malformed(format!("this call cannot be sent: {why}"));
        if let Some(why) = path_problem(&call.path) {
            return Err(cannot(why));
        }
        let origin = origin(&call.origin).filter(|origin| *origin == call.origin);
        let origin = origin.ok_or_else(|| cannot("its origin is not `https://host` with a port where it needs one"))?;
        let mut url = Url::parse(&format!("{origin}{}", call.path)).map_err(|_| cannot("its URL"))?;
        if url.path() != call.path || url.query().is_some() || url.origin().ascii_serialization() != origin {
            return Err(cannot("its path would go out as another one"));
        }
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| cannot("its method"))?;
        let mut request = WebRequest::new(method, url.as_str()).map_err(|error| cannot(&error.to_string()))?;
        for (name, value) in &call.headers {
            let name = name.parse::<HeaderName>().map_err(|_| cannot("the name of a header"))?;
            if is_reserved(name.as_str()) {
                return Err(cannot("it sets a header that is not its to set"));
            }
            request = request.header(name, HeaderValue::from_str(value).map_err(|_| cannot("a header's value"))?);
        }
        if call.authenticated {
            let credential = self.credential.as_ref();
            let credential =
                credential.ok_or_else(|| CallError::Credential("this task has none for HTTPS".to_owned()))?;
            if credential.origin != origin {
                return Err(CallError::Credential(format!(
                    "it is stored for {} and is sent nowhere else: ask there, or without a credential",
                    credential.origin
                )));
            }
            let (name, value) = credential.header()?;
            request = request.secret_header(name, value);
        }
        Ok(request.bytes(call.body.clone()))
    }

    fn wait(&self, tried: u32, reply: Option<&WebReply>) -> Duration {
        let after = reply
            .and_then(|reply| reply.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let mut bytes = [0u8; 4];
        self.rng.fill(&mut bytes);
        let most = self.config.backoff.saturating_mul(1 << tried.min(8));
        after.unwrap_or_else(|| most.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))).min(WAIT_MAX)
    }

    async fn tries(&self, request: WebRequest, again: bool, retries: &mut u32) -> Result<WebReply, CallError> {
        loop {
            let last = !again || *retries + 1 >= TRIES;
            let wait = match self.web.send(request.clone()).await {
                Ok(reply) if !last && matches!(reply.status.as_u16(), 429 | 502 | 503 | 504) => {
                    self.wait(*retries, Some(&reply))
                }
                Ok(reply) => return Ok(reply),
                Err(WebError::Timeout { .. }) => return Err(CallError::Timeout(self.config.call_timeout)),
                Err(WebError::Unreachable { .. }) if !last => self.wait(*retries, None),
                Err(error) => return Err(failed(error)),
            };
            *retries += 1;
            tokio::time::sleep(wait).await;
        }
    }

    async fn answered(&self, call: &HttpCall, retries: &mut u32) -> Result<WebReply, CallError> {
        let request = self.request(call)?;
        let reply = self.tries(request, matches!(call.method.as_str(), "GET" | "HEAD"), retries).await?;
        let repeats = self.credential.as_ref().map(HttpCredential::echo).is_some_and(|echo| {
            echo.is_in(&reply.body)
                || reply
                    .headers
                    .iter()
                    .any(|(name, value)| echo.is_in(value.as_bytes()) || echo.is_in(name.as_str().as_bytes()))
        });
        if repeats {
            return Err(CallError::Malformed("the reply repeats the credential and is withheld".to_owned()));
        }
        Ok(reply)
    }
}

#[async_trait]
impl HttpReach for HttpClient {
    async fn call(&self, call: HttpCall, tag: &CallTag) -> Result<Reply, CallError> {
        let (started, mut retries) = (self.clock.now(), 0);
        let result = self.answered(&call, &mut retries).await;
        let result = result.map_err(|error| match error {
            CallError::Unreachable(text) => CallError::Unreachable(clean(&text)),
            other => other,
        });
        let result = result.map(|answer| {
            let headers = answer.headers.iter();
            let headers = headers.map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            });
            let reply = Reply {
                status: answer.status.as_u16(),
                headers: headers.collect::<BTreeMap<_, _>>(),
                digest: crypto::sha256(&answer.body),
                body: answer.body,
            };
            (reply, answer.tls_leaf)
        });
        let query: Vec<String> = call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let params = [query.join("&").as_bytes(), b"\n", &call.body].concat();
        let outcome = result.as_ref().map_err(ToString::to_string).map(|(reply, tls_leaf)| ResponseRecord {
            status: reply.status,
            date: reply.headers.get("date").cloned(),
            request_id: ["x-request-id", "x-correlation-id"].iter().find_map(|name| reply.headers.get(*name).cloned()),
            digest: reply.digest,
            size: u64::try_from(reply.body.len()).unwrap_or(u64::MAX),
            tls_leaf: *tls_leaf,
        });
        self.recorder.push(CallRecord {
            scope: tag.scope.clone(),
            about: tag.about.clone(),
            request: RequestRecord {
                system: "http".to_owned(),
                endpoint: clean(&call.origin),
                operation: clean(&format!("{} {}", call.method, call.path)),
                params_digest: crypto::sha256(&params),
            },
            outcome,
            started,
            finished: self.clock.now(),
            retries,
            kept: result.as_ref().ok().filter(|_| tag.keep).map(|(reply, _)| reply.body.clone()),
        });
        result.map(|(reply, _)| reply)
    }
}

#[cfg(test)]
mod tests;
