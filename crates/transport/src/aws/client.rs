//! The client: one per credential, shared by everything that uses it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use domain::{Clock, Digest, Limits, Rng, Timestamp};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};

use super::credentials::{AwsCredentials, SigningKeys};
use super::error::{self, AwsError};
use super::{Pacer, endpoint, sigv4};
use crate::guard::Guard;
use crate::web::{self, WebConfig};
use crate::{AwsCall, AwsReach, CallError, CallRecord, CallTag, Recorder, Reply, RequestRecord, ResponseRecord};

/// How to call. The defaults are right for AWS itself.
#[derive(Debug, Clone)]
pub struct AwsConfig {
    /// Where every call goes instead of AWS (a test double, an interface endpoint, a gateway).
    pub endpoint_url: Option<String>,
    /// Which addresses may be connected to.
    pub guard: Guard,
    /// Most calls at once.
    pub concurrency: usize,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time for one try, from connecting to the reply's last byte.
    pub call_timeout: Duration,
    /// Longest reply, in bytes.
    pub reply_bytes_max: usize,
    /// Most tries of one call that is throttled or cannot be sent. One that a service answers with its own failure is tried at most three
    /// times, as by AWS's own clients in their standard mode (AWS SDKs and Tools Reference Guide, Retry behavior).
    pub tries: u32,
    /// The wait before the second try is up to this; it doubles with each try.
    pub backoff: Duration,
    /// Certificate authorities to trust beside the public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

impl Default for AwsConfig {
    fn default() -> Self {
        Self {
            endpoint_url: None,
            guard: Guard::default(),
            concurrency: 16,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            reply_bytes_max: Limits::REPLY_BYTES,
            tries: 5,
            backoff: Duration::from_millis(250),
            extra_roots: Vec::new(),
        }
    }
}

impl AwsConfig {
    /// The defaults changed by a job's settings `endpoint_url` and `concurrency`; `guard` is not the job's decision.
    pub fn from_settings(settings: &Map<String, Value>, guard: Guard) -> Result<Self, CallError> {
        let mut config = Self { guard, ..Self::default() };
        if let Some(url) = settings.get("endpoint_url").and_then(Value::as_str) {
            endpoint::check_override(url, &config.guard)?;
            config.endpoint_url = Some(url.to_owned());
        }
        if let Some(count) = settings.get("concurrency").and_then(Value::as_u64) {
            config.concurrency = usize::try_from(count).unwrap_or(usize::MAX).clamp(1, 64);
        }
        Ok(config)
    }
}

/// Most tries of a call that the service answers with a failure of its own.
const FAILED_TRIES: u32 = 3;
/// Longest wait before another try.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// An assumed role's keys are renewed this long before they end.
const RENEW_MS: i64 = 5 * 60 * 1_000;

/// Signed calls with one credential.
pub struct AwsClient {
    credentials: AwsCredentials,
    assumed: Mutex<Option<Arc<SigningKeys>>>,
    config: AwsConfig,
    endpoint: Option<reqwest::Url>,
    http: reqwest::Client,
    pacer: Arc<Pacer>,
    slots: Semaphore,
    recorder: Arc<Recorder>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl std::fmt::Debug for AwsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsClient")
            .field("credentials", &self.credentials)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Why one try failed.
enum Failure {
    /// AWS answered with an error.
    Answer(AwsError, Option<Duration>),
    /// The connection failed: another try may not.
    Connection(CallError),
    /// Another try would fail too.
    Final(CallError),
}

/// A reply and what its record says.
struct Answer {
    reply: Reply,
    tls_leaf: Option<Digest>,
}

impl AwsClient {
    /// A client for one credential. Certificates are checked against the public authorities and [`AwsConfig::extra_roots`]; the cryptography
    /// is aws-lc-rs, set here and not taken from the process.
    pub fn new(
        credentials: AwsCredentials,
        config: AwsConfig,
        pacer: Arc<Pacer>,
        recorder: Arc<Recorder>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, CallError> {
        // A name is asked about where it is resolved, and the connection once it is there.
        let endpoint =
            config.endpoint_url.as_deref().map(|url| endpoint::check_override(url, &config.guard)).transpose()?;
        let port = endpoint.as_ref().and_then(reqwest::Url::port_or_known_default);
        let ports = web::Ports::new(std::sync::Mutex::new([443].into_iter().chain(port).collect()));
        let web = WebConfig {
            guard: config.guard.clone(),
            connect_timeout: config.connect_timeout,
            idle_connections: config.concurrency,
            extra_roots: config.extra_roots.clone(),
            ..WebConfig::default()
        };
        let http =
            web::connector(&web, &ports).map_err(|error| CallError::Unreachable(format!("no TLS client: {error}")))?;
        let slots = Semaphore::new(config.concurrency.max(1));
        Ok(Self { credentials, assumed: Mutex::new(None), config, endpoint, http, pacer, slots, recorder, clock, rng })
    }

    /// Keys that are good for the next minutes. One caller at a time asks STS; the others wait for its answer.
    async fn keys(&self, region: &str, tag: &CallTag) -> Result<Arc<SigningKeys>, CallError> {
        match &self.credentials {
            AwsCredentials::Keys { access_key_id, secret_access_key, session_token } => {
                Ok(SigningKeys::of_keys(access_key_id, secret_access_key, session_token.as_ref()))
            }
            AwsCredentials::AssumeRole { base, role_arn, external_id, session_name } => {
                let AwsCredentials::Keys { access_key_id, secret_access_key, session_token } = base.as_ref() else {
                    return Err(CallError::Credential("a role is assumed with keys, not with another role".to_owned()));
                };
                let mut assumed = self.assumed.lock().await;
                let now = self.clock.now();
                if let Some(keys) = assumed.as_ref()
                    && keys.expires.is_none_or(|end| end.millis_since(now) > RENEW_MS)
                {
                    return Ok(Arc::clone(keys));
                }
                let mut form = vec![
                    ("Action", "AssumeRole"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role_arn.as_str()),
                    ("RoleSessionName", session_name.as_str()),
                ];
                form.extend(external_id.as_deref().map(|id| ("ExternalId", id)));
                let body: Vec<String> = form.iter().map(|(k, v)| format!("{k}={}", sigv4::encode(v, b""))).collect();
                let call = AwsCall {
                    service: "sts".to_owned(),
                    endpoint_prefix: None,
                    region: region.to_owned(),
                    global_endpoint: true,
                    operation: "AssumeRole".to_owned(),
                    method: "POST".to_owned(),
                    path: "/".to_owned(),
                    query: Vec::new(),
                    headers: vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())],
                    body: body.join("&").into_bytes(),
                };
                let base = SigningKeys::of_keys(access_key_id, secret_access_key, session_token.as_ref());
                // Its reply holds keys: never kept.
                let tag = CallTag { keep: false, about: Some(role_arn.clone()), ..tag.clone() };
                let reply = self.recorded(&call, &tag, Some(base)).await.map_err(|error| match error {
                    CallError::Denied(why) => CallError::Credential(format!("the role cannot be assumed: {why}")),
                    other => other,
                })?;
                let keys = Arc::new(SigningKeys::of_assume_role(&reply.body)?);
                *assumed = Some(Arc::clone(&keys));
                Ok(keys)
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What a target or a library says, with every secret cut out.
    fn redact(&self, text: &str, keys: Option<&SigningKeys>) -> String {
        let mut text = text.to_owned();
        let temporary = keys
            .into_iter()
            .flat_map(|keys| {
                [keys.secret_access_key.expose_str(), keys.session_token.as_ref().and_then(|t| t.expose_str())]
            })
            .flatten();
        for secret in self.credentials.secrets().into_iter().chain(temporary).filter(|secret| secret.len() >= 4) {
            text = text.replace(secret, "[secret]");
        }
        error::clean(&text)
    }

    fn redacted(&self, failure: CallError, keys: Option<&SigningKeys>) -> CallError {
        let clean = |text: &str| self.redact(text, keys);
        match failure {
            CallError::Denied(text) => CallError::Denied(clean(&text)),
            CallError::NotFound(text) => CallError::NotFound(clean(&text)),
            CallError::Throttled(text) => CallError::Throttled(clean(&text)),
            CallError::Malformed(text) => CallError::Malformed(clean(&text)),
            CallError::Unreachable(text) => CallError::Unreachable(clean(&text)),
            CallError::Credential(text) => CallError::Credential(clean(&text)),
            CallError::Api { status, code, message } => {
                CallError::Api { status, code: clean(&code), message: clean(&message) }
            }
            other @ (CallError::Timeout(_)
            | CallError::TooLarge { .. }
            | CallError::TooMany { .. }
            | CallError::Limit(_)
            | CallError::Cancelled) => other,
        }
    }

    /// Up to `fraction_max` of full jitter (0 to the maximum).
    fn jitter(&self, most: Duration) -> Duration {
        let mut bytes = [0u8; 4];
        self.rng.fill(&mut bytes);
        most.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
    }

    /// Where a call goes: origin, `host` header and signing region.
    fn target(&self, call: &AwsCall) -> (String, String, String) {
        let (host, region) = endpoint::host(call);
        match &self.endpoint {
            None => (format!("https://{host}"), host, region),
            Some(url) => {
                let name = url.host_str().unwrap_or_default();
                let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
                (format!("{}://{host}", url.scheme()), host, region)
            }
        }
    }

    /// Signs and sends once, and reads the whole reply.
    async fn attempt(&self, call: &AwsCall, keys: &SigningKeys) -> Result<Answer, Failure> {
        let (origin, host, region) = self.target(call);
        let time = self.now();
        let body_digest = crypto::sha256(&call.body);
        let mut headers: Vec<(String, String)> =
            call.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        headers.push(("host".to_owned(), host));
        headers.push(("x-amz-date".to_owned(), sigv4::amz_date(time)));
        headers.push(("x-amz-content-sha256".to_owned(), body_digest.to_hex()));
        if let Some(token) = keys.session_token.as_ref().and_then(|token| token.expose_str()) {
            headers.push(("x-amz-security-token".to_owned(), token.to_owned()));
        }
        let authorization = sigv4::authorization(
            &sigv4::Request {
                method: &call.method,
                path: &call.path,
                encode_path: call.service != "s3",
                query: &call.query,
                headers: &headers,
                body_digest,
            },
            &sigv4::Scope {
                access_key_id: &keys.access_key_id,
                secret_access_key: keys.secret_access_key.expose(),
                region: &region,
                service: &call.service,
                time,
            },
        );
        let malformed = |what: &str| Failure::Final(CallError::Malformed(format!("this call cannot be sent: {what}")));
        let query = sigv4::canonical_query(&call.query);
        let url =
            if query.is_empty() { format!("{origin}{}", call.path) } else { format!("{origin}{}?{query}", call.path) };
        let method = reqwest::Method::from_bytes(call.method.as_bytes()).map_err(|_| malformed("its method"))?;
        let mut request = self.http.request(method, url).header("authorization", authorization);
        for (name, value) in headers.iter().filter(|(name, _)| name != "host") {
            request = request.header(name, value);
        }
        let send = async {
            let response = request.body(call.body.clone()).send().await.map_err(|error| connection(&error))?;
            self.read(response).await
        };
        tokio::time::timeout(self.config.call_timeout, send)
            .await
            .unwrap_or(Err(Failure::Final(CallError::Timeout(self.config.call_timeout))))
    }

    /// Reads a reply up to the limit.
    async fn read(&self, mut response: reqwest::Response) -> Result<Answer, Failure> {
        if response.remote_addr().is_some_and(|address| self.config.guard.check_at(address).is_err()) {
            return Err(Failure::Final(CallError::Unreachable(
                "the connection went to an address that is refused".to_owned(),
            )));
        }
        let max = self.config.reply_bytes_max;
        let status = response.status().as_u16();
        let tls_leaf = response
            .extensions()
            .get::<reqwest::tls::TlsInfo>()
            .and_then(|info| info.peer_certificate())
            .map(crypto::sha256);
        let headers: BTreeMap<String, String> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        if response.content_length().is_some_and(|length| length > u64::try_from(max).unwrap_or(u64::MAX)) {
            return Err(Failure::Final(CallError::TooLarge { max }));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| connection(&error))? {
            if body.len().saturating_add(chunk.len()) > max {
                return Err(Failure::Final(CallError::TooLarge { max }));
            }
            body.extend_from_slice(&chunk);
        }
        let body: Bytes = body.freeze();
        if status < 300 {
            let digest = crypto::sha256(&body);
            return Ok(Answer { reply: Reply { status, headers, body, digest }, tls_leaf });
        }
        let after = headers.get("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        Err(Failure::Answer(error::read(status, &headers, &body), after))
    }

    /// Tries until there is an answer, and counts the tries beyond the first.
    async fn tries(
        &self,
        call: &mut AwsCall,
        tag: &CallTag,
        fixed: Option<&Arc<SigningKeys>>,
        retries: &mut u32,
    ) -> Result<Answer, CallError> {
        let (mut moved, mut renewed) = (false, false);
        loop {
            let keys = match fixed {
                Some(keys) => Arc::clone(keys),
                None => Box::pin(self.keys(&call.region, tag)).await?,
            };
            let pace = format!("{}\n{}\n{}", self.credentials.account_key(), call.service, call.region);
            self.pacer.turn(&pace).await;
            let failure = {
                let _slot = self.slots.acquire().await.map_err(|_| CallError::Cancelled)?;
                match self.attempt(call, &keys).await {
                    Ok(answer) => {
                        self.pacer.answered(&pace);
                        return Ok(answer);
                    }
                    Err(failure) => failure,
                }
            };
            let tried = *retries + 1;
            let last = tried >= self.config.tries;
            let most = self.config.backoff.saturating_mul(1 << (*retries).min(16)).min(WAIT_MAX);
            let wait = match failure {
                Failure::Final(error) => return Err(self.redacted(error, Some(&keys))),
                Failure::Connection(error) if last => return Err(self.redacted(error, Some(&keys))),
                Failure::Connection(_) => self.jitter(most),
                Failure::Answer(error, after) => {
                    if error.is_throttling() {
                        self.pacer.throttled(&pace);
                        if last {
                            return Err(self.redacted(
                                CallError::Throttled(format!("{}: {}", error.code, error.message)),
                                Some(&keys),
                            ));
                        }
                        after.map_or_else(
                            || self.jitter(most),
                            |after| after.min(WAIT_MAX) + self.jitter(self.config.backoff),
                        )
                    } else if error.is_transient() && tried < self.config.tries.min(FAILED_TRIES) {
                        after.map_or_else(|| self.jitter(most), |after| after.min(WAIT_MAX))
                    } else if let Some(region) = error.other_region(&call.region)
                        && call.service == "s3"
                        && !moved
                    {
                        moved = true;
                        call.region = region;
                        Duration::ZERO
                    } else if error.is_expired_token()
                        && fixed.is_none()
                        && !renewed
                        && matches!(self.credentials, AwsCredentials::AssumeRole { .. })
                    {
                        renewed = true;
                        *self.assumed.lock().await = None;
                        Duration::ZERO
                    } else {
                        return Err(self.redacted(error.into_call_error(), Some(&keys)));
                    }
                }
            };
            *retries += 1;
            tokio::time::sleep(wait).await;
        }
    }

    /// Makes the call and leaves its record, whatever comes of it.
    async fn recorded(
        &self,
        call: &AwsCall,
        tag: &CallTag,
        fixed: Option<Arc<SigningKeys>>,
    ) -> Result<Reply, CallError> {
        let mut call = call.clone();
        let started = self.now();
        let mut retries = 0;
        let params = [sigv4::canonical_query(&call.query).as_bytes(), b"\n", &call.body].concat();
        let result = self.tries(&mut call, tag, fixed.as_ref(), &mut retries).await;
        let outcome = result.as_ref().map_err(ToString::to_string).map(|answer| ResponseRecord {
            status: answer.reply.status,
            date: answer.reply.headers.get("date").cloned(),
            request_id: ["x-amzn-requestid", "x-amz-request-id"]
                .iter()
                .find_map(|name| answer.reply.headers.get(*name).cloned()),
            digest: answer.reply.digest,
            size: u64::try_from(answer.reply.body.len()).unwrap_or(u64::MAX),
            tls_leaf: answer.tls_leaf,
        });
        let kept = result.as_ref().ok().filter(|_| tag.keep).map(|answer| answer.reply.body.clone());
        self.recorder.push(CallRecord {
            scope: tag.scope.clone(),
            about: tag.about.clone(),
            request: RequestRecord {
                system: "aws".to_owned(),
                endpoint: self.target(&call).0,
                operation: format!("{}:{}", call.service, call.operation),
                params_digest: crypto::sha256(&params),
            },
            outcome,
            started,
            finished: self.now(),
            retries,
            kept,
        });
        result.map(|answer| answer.reply)
    }
}

/// What a failed connection means, without the URL's query.
fn connection(error: &reqwest::Error) -> Failure {
    let mut words = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        words.push(inner.to_string());
        cause = inner.source();
    }
    let text = words.pop().unwrap_or_else(|| "the connection failed".to_owned());
    if error.is_builder() {
        return Failure::Final(CallError::Malformed(format!("this call cannot be sent: {text}")));
    }
    Failure::Connection(CallError::Unreachable(text))
}

#[async_trait]
impl AwsReach for AwsClient {
    async fn call(&self, call: AwsCall, tag: &CallTag) -> Result<Reply, CallError> {
        self.recorded(&call, tag, None).await
    }
}
