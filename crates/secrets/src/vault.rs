//! The store `vault`: HashiCorp Vault or OpenBao, key/value engines of version 1 and 2. Ids are `path/of/secret#field`.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Clock, Secret, Timestamp};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use transport::Guard;
use transport::web::{WebClient, WebConfig, WebReply, WebRequest};

use crate::error::{Result, SecretError};
use crate::kubernetes::{account_token, authorities};
use crate::stores::{Store, Stores, Surroundings, settings};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// `https://host:port`.
    address: String,
    /// A token, or a reference to one.
    token: Option<String>,
    kubernetes: Option<KubernetesLogin>,
    approle: Option<AppRoleLogin>,
    namespace: Option<String>,
    #[serde(alias = "secretMount", default = "secret_mount")]
    secret_mount: String,
    #[serde(alias = "transitMount", default = "transit_mount")]
    transit_mount: String,
    /// Version of the key/value engine.
    #[serde(default = "kv_version")]
    kv_version: u8,
    /// PEM file of the authorities that sign its certificate.
    ca_file: Option<PathBuf>,
    /// Let `address` be this machine, also in plain HTTP.
    #[serde(default)]
    loopback: bool,
}

fn secret_mount() -> String {
    "secret".to_owned()
}

fn transit_mount() -> String {
    "transit".to_owned()
}

const fn kv_version() -> u8 {
    2
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KubernetesLogin {
    role: String,
    #[serde(default = "kubernetes_mount")]
    mount: String,
    #[serde(default = "kubernetes_token")]
    token_file: PathBuf,
}

fn kubernetes_mount() -> String {
    "kubernetes".to_owned()
}

fn kubernetes_token() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppRoleLogin {
    role_id: String,
    secret_id: String,
    #[serde(default = "approle_mount")]
    mount: String,
}

fn approle_mount() -> String {
    "approle".to_owned()
}

/// How a token is come by.
enum Login {
    Token(String),
    Kubernetes(KubernetesLogin),
    AppRole(AppRoleLogin),
}

/// A token at work.
#[derive(Clone)]
struct Session {
    token: Arc<Secret>,
    /// When to renew it, and when it ends; none for a token that does not end.
    times: Option<(Timestamp, Timestamp)>,
    renewable: bool,
}

pub(crate) struct Vault {
    name: String,
    address: String,
    login: Login,
    namespace: Option<String>,
    secret_mount: String,
    transit_mount: String,
    kv_version: u8,
    client: WebClient,
    base: Stores,
    clock: Arc<dyn Clock>,
    session: Mutex<Option<Session>>,
}

/// What Vault says of a token.
#[derive(Deserialize)]
struct Lease {
    #[serde(alias = "client_token")]
    id: Option<String>,
    #[serde(alias = "lease_duration", default)]
    ttl: i64,
    #[serde(default)]
    renewable: bool,
}

impl Vault {
    pub(crate) fn new(name: &str, given: Map<String, Value>, base: Stores, around: &Surroundings) -> Result<Self> {
        let it: Settings = settings(name, given)?;
        let no = |problem: &str| SecretError::new(name, problem);
        let login = match (it.token, it.kubernetes, it.approle) {
            (Some(token), None, None) => Login::Token(token),
            (None, Some(login), None) => Login::Kubernetes(login),
            (None, None, Some(login)) => Login::AppRole(login),
            _ => return Err(no("its settings need exactly one of `token`, `kubernetes` and `approle`")),
        };
        if !matches!(it.kv_version, 1 | 2) {
            return Err(no("`kv_version` is 1 or 2"));
        }
        let extra_roots = it.ca_file.map_or(Ok(Vec::new()), |path| authorities(name, &path))?;
        let client =
            WebClient::new(WebConfig { guard: Guard::loopback(it.loopback), extra_roots, ..WebConfig::default() })
                .map_err(|error| no(&error.to_string()))?;
        let mount = |text: String| text.trim_matches('/').to_owned();
        Ok(Self {
            name: name.to_owned(),
            address: it.address.trim_end_matches('/').to_owned(),
            login,
            namespace: it.namespace,
            secret_mount: mount(it.secret_mount),
            transit_mount: mount(it.transit_mount),
            kv_version: it.kv_version,
            client,
            base,
            clock: Arc::clone(&around.clock),
            session: Mutex::new(None),
        })
    }

    fn no(&self, problem: impl Into<String>) -> SecretError {
        SecretError::new(&self.name, problem)
    }

    async fn send(&self, method: Method, path: &str, token: Option<&Secret>, body: Option<Value>) -> Result<WebReply> {
        let url = format!("{}/v1/{}", self.address, transport::aws::sigv4::encode(path, b"/"));
        let mut request = WebRequest::new(method, &url)
            .map_err(|error| self.no(error.to_string()))?
            .header(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            let value =
                HeaderValue::from_str(namespace).map_err(|_| self.no("`namespace` holds characters that none has"))?;
            request = request.header(NAMESPACE, value);
        }
        if let Some(token) = token {
            let value = HeaderValue::from_bytes(token.expose())
                .map_err(|_| self.no("the token holds characters that no token has"))?;
            request = request.secret_header(TOKEN, value);
        }
        if let Some(body) = body {
            request = request.body("application/json", body.to_string());
        }
        self.client.send(request).await.map_err(|error| self.no(error.to_string()))
    }

    /// Why Vault did not do what it was asked for; its own words may quote the request and stay out.
    fn refused(&self, reply: &WebReply, what: &str) -> SecretError {
        self.no(match reply.status {
            StatusCode::FORBIDDEN => format!("may not {what}: check the token's policy and the namespace"),
            StatusCode::NOT_FOUND => {
                format!("cannot {what}: it is not there; check the path, the mount and `kv_version`")
            }
            StatusCode::SERVICE_UNAVAILABLE => format!("cannot {what}: it is sealed or in standby"),
            other => format!("cannot {what}: it answered with status {}", other.as_u16()),
        })
    }

    /// A session from what Vault says of a token.
    fn session(&self, lease: Lease, known: Option<Arc<Secret>>) -> Result<Session> {
        let token = match (lease.id, known) {
            (_, Some(token)) => token,
            (Some(id), None) => Arc::new(Secret::new(id)),
            (None, None) => return Err(self.no("signed in, but was given no token")),
        };
        let now = self.clock.now();
        let millis = lease.ttl.clamp(0, i64::from(u32::MAX)) * 1_000;
        let times = (millis > 0).then(|| (now.plus_millis(millis / 3 * 2), now.plus_millis(millis)));
        Ok(Session { token, times, renewable: lease.renewable })
    }

    fn lease(&self, reply: &WebReply, part: &str) -> Result<Lease> {
        let reply: Value = serde_json::from_slice(&reply.body).map_err(|_| self.no("answered with no JSON"))?;
        serde_json::from_value(reply.get(part).cloned().unwrap_or_default())
            .map_err(|_| self.no("answered with no lease"))
    }

    async fn log_in(&self) -> Result<Session> {
        let (path, body) = match &self.login {
            Login::Token(text) => {
                let token = Arc::new(self.base.resolve_text(text).await?);
                let reply = self.send(Method::GET, "auth/token/lookup-self", Some(&token), None).await?;
                if reply.status != StatusCode::OK {
                    return Err(self.refused(&reply, "use its token"));
                }
                return self.session(self.lease(&reply, "data")?, Some(token));
            }
            Login::Kubernetes(login) => {
                let token = account_token(&self.name, &login.token_file)?;
                let token = token.expose_str().unwrap_or_default();
                (format!("auth/{}/login", login.mount.trim_matches('/')), json!({"role": login.role, "jwt": token}))
            }
            Login::AppRole(login) => {
                let (role, secret) =
                    (self.base.resolve_text(&login.role_id).await?, self.base.resolve_text(&login.secret_id).await?);
                let body = json!({"role_id": role.expose_str(), "secret_id": secret.expose_str()});
                (format!("auth/{}/login", login.mount.trim_matches('/')), body)
            }
        };
        let reply = self.send(Method::POST, &path, None, Some(body)).await?;
        if reply.status != StatusCode::OK {
            return Err(self.no(format!(
                "refused the login at `{path}` (status {}): check the role and its credentials",
                reply.status.as_u16()
            )));
        }
        self.session(self.lease(&reply, "auth")?, None)
    }

    /// A token that is good now: kept, renewed before it ends, or come by anew.
    async fn token(&self, refused: Option<&Arc<Secret>>) -> Result<Arc<Secret>> {
        let mut held = self.session.lock().await;
        let now = self.clock.now();
        if let Some(session) = held.clone().filter(|held| refused.is_none_or(|token| !Arc::ptr_eq(token, &held.token)))
        {
            match session.times {
                None => return Ok(session.token),
                Some((renew, _)) if now < renew => return Ok(session.token),
                Some((_, end)) if session.renewable && now < end => {
                    let reply =
                        self.send(Method::POST, "auth/token/renew-self", Some(&session.token), Some(json!({}))).await?;
                    if reply.status == StatusCode::OK {
                        let renewed = self.session(self.lease(&reply, "auth")?, Some(session.token))?;
                        let token = Arc::clone(&renewed.token);
                        *held = Some(renewed);
                        return Ok(token);
                    }
                }
                Some(_) => {}
            }
        }
        let session = self.log_in().await?;
        let token = Arc::clone(&session.token);
        *held = Some(session);
        Ok(token)
    }

    /// One call with a token; a token that is refused is replaced once, because it may have been revoked or have run out.
    async fn call(&self, method: Method, path: &str, body: Option<Value>, what: &str) -> Result<Value> {
        let token = self.token(None).await?;
        let mut reply = self.send(method.clone(), path, Some(&token), body.clone()).await?;
        if reply.status == StatusCode::FORBIDDEN {
            let fresh = self.token(Some(&token)).await?;
            reply = self.send(method, path, Some(&fresh), body).await?;
        }
        if reply.status != StatusCode::OK {
            return Err(self.refused(&reply, what));
        }
        serde_json::from_slice(&reply.body).map_err(|_| self.no("answered with no JSON"))
    }

    async fn transit(&self, verb: &str, key: &str, body: Value, part: &str) -> Result<Secret> {
        let path = format!("{}/{verb}/{key}", self.transit_mount);
        let reply = self.call(Method::POST, &path, Some(body), &format!("{verb} with the transit key `{key}`")).await?;
        let text = reply
            .pointer(&format!("/data/{part}"))
            .and_then(Value::as_str)
            .ok_or_else(|| self.no(format!("answered `{verb}` without `{part}`")))?;
        Ok(Secret::new(text))
    }

    /// Wraps with a transit key; `context` is bound in as associated data.
    pub(crate) async fn encrypt(&self, key: &str, context: &str, plaintext: &Secret) -> Result<Vec<u8>> {
        let plain = Secret::new(STANDARD.encode(plaintext.expose()));
        let body = json!({"plaintext": plain.expose_str(), "associated_data": STANDARD.encode(context)});
        Ok(self.transit("encrypt", key, body, "ciphertext").await?.expose().to_vec())
    }

    /// The reverse.
    pub(crate) async fn decrypt(&self, key: &str, context: &str, wrapped: &[u8]) -> Result<Secret> {
        let wrapped = String::from_utf8_lossy(wrapped);
        let body = json!({"ciphertext": wrapped, "associated_data": STANDARD.encode(context)});
        let plain = self.transit("decrypt", key, body, "plaintext").await?;
        STANDARD.decode(plain.expose()).map(Secret::new).map_err(|_| self.no("answered `decrypt` with no base64"))
    }
}

#[async_trait]
impl Store for Vault {
    async fn read(&self, id: &str) -> Result<Secret> {
        let (path, field) = id.rsplit_once('#').unwrap_or((id, "data"));
        let path = path.trim_matches('/');
        if path.is_empty() || field.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(self.no(format!("`{}` is not `path/of/secret#field`", id.escape_debug())));
        }
        let what = format!("read `{}`", path.escape_debug());
        let (at, inside) = match self.kv_version {
            1 => (format!("{}/{path}", self.secret_mount), false),
            _ => (format!("{}/data/{path}", self.secret_mount), true),
        };
        let reply = self.call(Method::GET, &at, None, &what).await?;
        let data = reply.pointer(if inside { "/data/data" } else { "/data" });
        match data.and_then(|data| data.get(field)) {
            Some(Value::String(text)) => Ok(Secret::new(text.as_str())),
            Some(_) => Err(self.no(format!("the field `{}` of `{path}` is no text", field.escape_debug()))),
            None => Err(self.no(format!("`{path}` has no field `{}`: name one as `path#field`", field.escape_debug()))),
        }
    }

    async fn keep(&self) -> Result<Option<i64>> {
        if self.session.lock().await.is_none() {
            return Ok(None);
        }
        self.token(None).await?;
        let now = self.clock.now().as_millis();
        Ok(self.session.lock().await.as_ref().and_then(|held| held.times).map(|(renew, _)| renew.as_millis() - now))
    }
}
