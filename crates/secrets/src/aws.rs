//! The stores `awssecretsmanager` and `awsssm`, and wrapping with AWS KMS.

mod login;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Clock, Secret};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use transport::Guard;
use transport::aws::credentials::SigningKeys;
use transport::aws::{endpoint, sign};
use transport::web::{WebClient, WebConfig};

use crate::error::{Result, SecretError};
use crate::stores::{Store, Stores, Surroundings, settings};
use login::Source;

/// Temporary keys are replaced this long before they end.
const RENEW_MS: i64 = 5 * 60 * 1_000;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Where calls go instead of AWS.
    endpoint: Option<String>,
    region: Option<String>,
    #[serde(alias = "accessKeyID", alias = "accessKeyId")]
    access_key_id: Option<String>,
    #[serde(alias = "secretAccessKey")]
    secret_access_key: Option<String>,
    #[serde(alias = "sessionToken")]
    session_token: Option<String>,
    /// A profile of the shared credentials file.
    profile: Option<String>,
    /// The shared credentials file.
    credentials_file: Option<PathBuf>,
    /// Let endpoints be this machine, also in plain HTTP.
    loopback: bool,
}

/// Signed calls to AWS with keys that are looked for where AWS's own programs look.
pub(crate) struct Aws {
    name: String,
    endpoint: Option<String>,
    region: String,
    source: Source,
    client: WebClient,
    clock: Arc<dyn Clock>,
    keys: Mutex<Option<Arc<SigningKeys>>>,
}

impl Aws {
    pub(crate) fn new(name: &str, given: Map<String, Value>, base: Stores, around: &Surroundings) -> Result<Self> {
        let it: Settings = settings(name, given)?;
        let environment = |variable: &str| (around.environment)(variable).filter(|text| !text.is_empty());
        let region = it.region.or_else(|| environment("AWS_REGION")).or_else(|| environment("AWS_DEFAULT_REGION"));
        let region = region.ok_or_else(|| SecretError::new(name, "has no region: set `region` or AWS_REGION"))?;
        if !region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return Err(SecretError::new(name, "`region` is a name such as `eu-west-1`"));
        }
        let source = match (it.access_key_id, it.secret_access_key) {
            (Some(id), Some(secret)) => Source::Keys { id, secret, token: it.session_token, base },
            (None, None) => {
                Source::find(name, it.profile, it.credentials_file, it.loopback, it.endpoint.clone(), &region, around)?
            }
            _ => {
                return Err(SecretError::new(
                    name,
                    "`access_key_id` and `secret_access_key` go together: set both or neither",
                ));
            }
        };
        let client = WebClient::new(WebConfig { guard: Guard::loopback(it.loopback), ..WebConfig::default() })
            .map_err(|error| SecretError::new(name, error.to_string()))?;
        let clock = Arc::clone(&around.clock);
        Ok(Self { name: name.to_owned(), endpoint: it.endpoint, region, source, client, clock, keys: Mutex::new(None) })
    }

    fn no(&self, problem: impl Into<String>) -> SecretError {
        SecretError::new(&self.name, problem)
    }

    /// Keys that are good now; `refused`: not these.
    async fn keys(&self, refused: Option<&Arc<SigningKeys>>) -> Result<Arc<SigningKeys>> {
        let mut held = self.keys.lock().await;
        let soon = self.clock.now().plus_millis(RENEW_MS);
        if let Some(keys) = held.as_ref()
            && refused.is_none_or(|refused| !Arc::ptr_eq(refused, keys))
            && keys.expires.is_none_or(|expires| expires > soon)
        {
            return Ok(Arc::clone(keys));
        }
        let keys = Arc::new(self.source.load(&self.name).await?);
        *held = Some(Arc::clone(&keys));
        Ok(keys)
    }

    async fn call(&self, service: &str, target: &str, body: &Value, what: &str) -> Result<Value> {
        let url = match &self.endpoint {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("https://{service}.{}.{}", self.region, endpoint::partition(&self.region).suffix),
        };
        let mut keys = self.keys(None).await?;
        for last in [false, true] {
            let call = sign::JsonCall { url: &url, region: &self.region, service, target, body: body.to_string() };
            let request =
                sign::json_request(call, &keys, self.clock.now()).map_err(|error| self.no(error.to_string()))?;
            let reply = self.client.send(request).await.map_err(|error| self.no(error.to_string()))?;
            if reply.status.is_success() {
                return serde_json::from_slice(&reply.body).map_err(|_| self.no("AWS answered with no JSON"));
            }
            let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let code =
                answer.get("__type").and_then(Value::as_str).unwrap_or_default().rsplit('#').next().unwrap_or_default();
            let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
            let expired =
                ["ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId"];
            if !last && expired.contains(&code.as_str()) {
                keys = self.keys(Some(&keys)).await?;
                continue;
            }
            return Err(self.no(match code.as_str() {
                "ResourceNotFoundException" | "ParameterNotFound" | "NotFoundException" => {
                    format!("{what}: there is no such thing in {}", self.region)
                }
                "AccessDeniedException" => format!("{what}: the role or user may not; give it the permission"),
                "" => format!("{what}: AWS answered with status {}", reply.status.as_u16()),
                code => format!("{what}: AWS answered `{code}`"),
            }));
        }
        Err(self.no(format!("{what}: AWS refuses the keys")))
    }

    /// Wraps with a KMS key; `context` is the encryption context.
    pub(crate) async fn encrypt(&self, key: &str, context: &str, plaintext: &Secret) -> Result<Vec<u8>> {
        let plain = Secret::new(STANDARD.encode(plaintext.expose()));
        let body = json!({"KeyId": key, "Plaintext": plain.expose_str(), "EncryptionContext": {"cairn": context}});
        let reply = self.call("kms", "TrentService.Encrypt", &body, &format!("wrapping with the key `{key}`")).await?;
        let text = reply
            .get("CiphertextBlob")
            .and_then(Value::as_str)
            .ok_or_else(|| self.no("KMS answered without a ciphertext"))?;
        Ok(text.as_bytes().to_vec())
    }

    /// The reverse. The key is named, so that a ciphertext of another key is refused and not opened with that one.
    pub(crate) async fn decrypt(&self, key: &str, context: &str, wrapped: &[u8]) -> Result<Secret> {
        let body = json!({"KeyId": key, "CiphertextBlob": String::from_utf8_lossy(wrapped), "EncryptionContext": {"cairn": context}});
        let reply =
            self.call("kms", "TrentService.Decrypt", &body, &format!("unwrapping with the key `{key}`")).await?;
        let text = reply
            .get("Plaintext")
            .and_then(Value::as_str)
            .ok_or_else(|| self.no("KMS answered without a plaintext"))?;
        STANDARD.decode(text).map(Secret::new).map_err(|_| self.no("KMS answered with no base64"))
    }
}

/// A store of one of the two kinds.
pub(crate) fn store(kind: &str, client: Arc<Aws>) -> Arc<dyn Store> {
    if kind == "awsssm" { Arc::new(Parameters(client)) } else { Arc::new(SecretsManager(client)) }
}

/// The whole value, or one text of the JSON object that it is: `id#key`.
fn part(aws: &Aws, value: Secret, key: Option<&str>) -> Result<Secret> {
    let Some(key) = key else { return Ok(value) };
    let object: Value = serde_json::from_slice(value.expose()).unwrap_or_default();
    match object.get(key).and_then(Value::as_str) {
        Some(text) => Ok(Secret::new(text)),
        None => Err(aws.no(format!("the secret is no JSON object with a text `{}`", key.escape_debug()))),
    }
}

fn split(id: &str) -> (&str, Option<&str>) {
    id.split_once('#').map_or((id, None), |(id, key)| (id, Some(key)))
}

struct SecretsManager(Arc<Aws>);

#[async_trait]
impl Store for SecretsManager {
    async fn read(&self, id: &str) -> Result<Secret> {
        let (id, key) = split(id);
        let what = format!("reading the secret `{}`", id.escape_debug());
        let reply =
            self.0.call("secretsmanager", "secretsmanager.GetSecretValue", &json!({"SecretId": id}), &what).await?;
        let text = |field: &str| reply.get(field).and_then(Value::as_str);
        // One of the two is there, whichever way the secret was stored.
        let value = match (text("SecretString"), text("SecretBinary")) {
            (Some(text), _) => Secret::new(text),
            (None, Some(binary)) => {
                STANDARD.decode(binary).map(Secret::new).map_err(|_| self.0.no(format!("{what}: it is no base64")))?
            }
            (None, None) => return Err(self.0.no(format!("{what}: it has no value"))),
        };
        part(&self.0, value, key)
    }
}

struct Parameters(Arc<Aws>);

#[async_trait]
impl Store for Parameters {
    async fn read(&self, id: &str) -> Result<Secret> {
        let (id, key) = split(id);
        let what = format!("reading the parameter `{}`", id.escape_debug());
        let body = json!({"Name": id, "WithDecryption": true});
        let reply = self.0.call("ssm", "AmazonSSM.GetParameter", &body, &what).await?;
        let value = reply
            .pointer("/Parameter/Value")
            .and_then(Value::as_str)
            .ok_or_else(|| self.0.no(format!("{what}: it has no value")))?;
        part(&self.0, Secret::new(value), key)
    }
}
