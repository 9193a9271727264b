//! The store `kubernetes`: Secrets of the cluster that the server runs in. Ids are `secret/key`.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::Secret;
use http::{HeaderValue, Method, StatusCode, header};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Map, Value};
use transport::Guard;
use transport::web::{WebClient, WebConfig, WebRequest};

use crate::error::{Result, SecretError};
use crate::stores::{Store, Surroundings, settings};

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Default: the pod's own, else `default`.
    namespace: Option<String>,
    /// `https://host:port`; default: from the pod's environment.
    address: Option<String>,
    /// Where the service account's token, certificate authority and namespace lie.
    account_dir: Option<PathBuf>,
    /// Let `address` be this machine, also in plain HTTP.
    loopback: bool,
}

pub(crate) struct Kubernetes {
    name: String,
    address: Option<String>,
    namespace: Option<String>,
    account: PathBuf,
    loopback: bool,
}

/// The certificates of a PEM file, to be trusted beside the public ones.
pub(crate) fn authorities(store: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let no =
        |why: String| SecretError::new(store, format!("the certificate authorities in `{}` {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| no(format!("cannot be read: {}", error.kind())))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| no("are not PEM".to_owned()))?;
    if found.is_empty() { Err(no("are none: the file holds no certificate".to_owned())) } else { Ok(found) }
}

/// A service account's token, read anew at every use, because the cluster replaces it.
pub(crate) fn account_token(store: &str, path: &Path) -> Result<Secret> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        SecretError::new(
            store,
            format!("the service account's token `{}` cannot be read: {}", path.display(), error.kind()),
        )
    })?;
    Ok(Secret::new(text.trim()))
}

pub(crate) fn bearer(store: &str, token: &Secret) -> Result<HeaderValue> {
    let value = Secret::new([b"Bearer ".as_slice(), token.expose()].concat());
    HeaderValue::from_bytes(value.expose())
        .map_err(|_| SecretError::new(store, "the token holds characters that no token has"))
}

fn is_dns(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(plain) && !text.contains("..")
}

impl Kubernetes {
    pub(crate) fn new(name: &str, given: Map<String, Value>, around: &Surroundings) -> Result<Self> {
        let Settings { namespace, address, account_dir, loopback } = settings(name, given)?;
        let environment = |variable: &str| (around.environment)(variable);
        let in_pod = || {
            let (host, port) = (environment("KUBERNETES_SERVICE_HOST")?, environment("KUBERNETES_SERVICE_PORT")?);
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            Some(format!("https://{host}:{port}"))
        };
        let account = account_dir.unwrap_or_else(|| PathBuf::from(ACCOUNT));
        Ok(Self { name: name.to_owned(), address: address.or_else(in_pod), namespace, account, loopback })
    }

    fn no(&self, problem: impl Into<String>) -> SecretError {
        SecretError::new(&self.name, problem)
    }

    fn namespace(&self) -> String {
        self.namespace.clone().unwrap_or_else(|| {
            std::fs::read_to_string(self.account.join("namespace"))
                .map_or_else(|_| "default".to_owned(), |text| text.trim().to_owned())
        })
    }
}

#[async_trait]
impl Store for Kubernetes {
    async fn read(&self, id: &str) -> Result<Secret> {
        let shown = id.escape_debug().to_string();
        let (secret, key) = id
            .split_once('/')
            .filter(|(secret, key)| is_dns(secret) && !key.is_empty() && !key.contains('/'))
            .ok_or_else(|| self.no(format!("`{shown}` is not `secret/key`")))?;
        let namespace = self.namespace();
        if !is_dns(&namespace) {
            return Err(self.no("its namespace is not the name of one"));
        }
        let address = self.address.as_deref().ok_or_else(|| {
            self.no("there is no cluster here: set `address`, or run the server in a pod (KUBERNETES_SERVICE_HOST is not set)")
        })?;
        let token = account_token(&self.name, &self.account.join("token"))?;
        let ca = self.account.join("ca.crt");
        let extra_roots = if ca.exists() || !self.loopback { authorities(&self.name, &ca)? } else { Vec::new() };
        let client =
            WebClient::new(WebConfig { guard: Guard::loopback(self.loopback), extra_roots, ..WebConfig::default() })
                .map_err(|error| self.no(error.to_string()))?;
        let url = format!("{}/api/v1/namespaces/{namespace}/secrets/{secret}", address.trim_end_matches('/'));
        let request = WebRequest::new(Method::GET, &url)
            .map_err(|error| self.no(error.to_string()))?
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
            .secret_header(header::AUTHORIZATION, bearer(&self.name, &token)?);
        let reply = client.send(request).await.map_err(|error| self.no(error.to_string()))?;
        match reply.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(self.no(format!("there is no Secret `{secret}` in the namespace `{namespace}`")));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.no(format!(
                    "the service account may not `get` the Secret `{secret}` in the namespace `{namespace}`: give it a Role that allows it"
                )));
            }
            other => return Err(self.no(format!("the cluster answered with status {}", other.as_u16()))),
        }
        #[derive(Deserialize)]
        struct Reply {
            #[serde(default)]
            data: std::collections::BTreeMap<String, String>,
        }
        let reply: Reply =
            serde_json::from_slice(&reply.body).map_err(|_| self.no("the cluster's answer is no Secret"))?;
        let value = reply
            .data
            .get(key)
            .ok_or_else(|| self.no(format!("the Secret `{secret}` has no key `{}`", key.escape_debug())))?;
        STANDARD.decode(value).map(Secret::new).map_err(|_| self.no(format!("the value of `{shown}` is not base64")))
    }
}
