//! Where keys for AWS come from: the settings, the environment, a profile of the shared file, a web identity (IRSA), a container's endpoint
//! (ECS, EKS Pod Identity), the instance's metadata (IMDSv2 only). The first that is there is used; what it says is final.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{Secret, Timestamp};
use http::{HeaderName, HeaderValue, Method, header};
use serde::Deserialize;
use transport::Guard;
use transport::aws::credentials::SigningKeys;
use transport::aws::{endpoint, sigv4};
use transport::web::{WebClient, WebConfig, WebReply, WebRequest};

use crate::error::{Result, SecretError};
use crate::stores::{Environment, Stores, Surroundings};

/// The addresses of AWS's own machine-local services, which nothing else in Cairn may call: instance metadata, ECS, EKS Pod Identity.
const INSTANCE: [&str; 2] = ["169.254.169.254:80", "[fd00:ec2::254]:80"];
const CONTAINER: [&str; 3] = ["169.254.170.2:80", "169.254.170.23:80", "[fd00:ec2::23]:80"];
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

pub(super) enum Source {
    Keys { id: String, secret: String, token: Option<String>, base: Stores },
    Environment(Environment),
    Profile { file: PathBuf, name: String },
    WebIdentity { token_file: PathBuf, role: String, session: String, url: String, client: WebClient },
    Container { url: String, token: Option<String>, token_file: Option<PathBuf>, client: WebClient },
    Instance { url: String, client: WebClient },
}

/// What containers and instances answer with.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

fn client(name: &str, local: &[&str], loopback: bool) -> Result<WebClient> {
    let local_services = local.iter().filter_map(|address| address.parse::<SocketAddr>().ok()).collect();
    let config = WebConfig {
        guard: Guard::loopback(loopback),
        local_services,
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        ..WebConfig::default()
    };
    WebClient::new(config).map_err(|error| SecretError::new(name, error.to_string()))
}

fn keys_of(name: &str, reply: &WebReply, whence: &str) -> Result<SigningKeys> {
    let no = |what: &str| SecretError::new(name, format!("{whence} {what}"));
    if !reply.status.is_success() {
        return Err(no(&format!("answered with status {}", reply.status.as_u16())));
    }
    let answer: Answer = serde_json::from_slice(&reply.body).map_err(|_| no("answered with no keys"))?;
    let expires = answer.expiration.map(|text| text.parse::<Timestamp>()).transpose();
    Ok(SigningKeys {
        access_key_id: answer.access_key_id,
        secret_access_key: Secret::new(answer.secret_access_key),
        session_token: answer.token.map(Secret::new),
        expires: expires.map_err(|_| no("answered with an `Expiration` that is no time"))?,
    })
}

impl Source {
    pub(super) fn find(
        name: &str,
        profile: Option<String>,
        credentials_file: Option<PathBuf>,
        loopback: bool,
        endpoint: Option<String>,
        region: &str,
        around: &Surroundings,
    ) -> Result<Self> {
        let environment = |variable: &str| (around.environment)(variable).filter(|text| !text.is_empty());
        let file = credentials_file
            .or_else(|| environment("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from))
            .or_else(|| environment("HOME").map(|home| Path::new(&home).join(".aws/credentials")));
        if let Some(profile) = profile {
            let file = file.ok_or_else(|| {
                SecretError::new(name, "`profile` needs a shared credentials file: set `credentials_file`")
            })?;
            return Ok(Self::Profile { file, name: profile });
        }
        if environment("AWS_ACCESS_KEY_ID").is_some() {
            return Ok(Self::Environment(around.environment.clone()));
        }
        if let (Some(token_file), Some(role)) =
            (environment("AWS_WEB_IDENTITY_TOKEN_FILE"), environment("AWS_ROLE_ARN"))
        {
            let url =
                endpoint.unwrap_or_else(|| format!("https://sts.{region}.{}", endpoint::partition(region).suffix));
            let session = environment("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "cairn".to_owned());
            let client = client(name, &[], loopback)?;
            return Ok(Self::WebIdentity { token_file: token_file.into(), role, session, url, client });
        }
        if let Some(file) = file.filter(|file| file.exists()) {
            let profile = environment("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
            return Ok(Self::Profile { file, name: profile });
        }
        let relative =
            environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("http://169.254.170.2{path}"));
        if let Some(url) = relative.or_else(|| environment("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            // This variable is set by the container's platform; its endpoint is on the machine itself.
            let client = client(name, &CONTAINER, true)?;
            let token = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
            let token_file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
            return Ok(Self::Container { url, token, token_file, client });
        }
        if environment("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Err(SecretError::new(
                name,
                "finds no keys for AWS: set `access_key_id` and `secret_access_key`, or give this machine a role",
            ));
        }
        let overridden = loopback.then(|| environment("AWS_EC2_METADATA_SERVICE_ENDPOINT")).flatten();
        let url = overridden.unwrap_or_else(|| "http://169.254.169.254".to_owned()).trim_end_matches('/').to_owned();
        Ok(Self::Instance { url, client: client(name, &INSTANCE, loopback)? })
    }

    pub(super) async fn load(&self, name: &str) -> Result<SigningKeys> {
        let no = |problem: String| SecretError::new(name, problem);
        match self {
            Self::Keys { id, secret, token, base } => {
                let id = base.resolve_text(id).await?;
                let token = match token {
                    Some(token) => Some(base.resolve_text(token).await?),
                    None => None,
                };
                Ok(SigningKeys {
                    access_key_id: id.expose_str().unwrap_or_default().to_owned(),
                    secret_access_key: base.resolve_text(secret).await?,
                    session_token: token,
                    expires: None,
                })
            }
            Self::Environment(environment) => {
                let secret = environment("AWS_SECRET_ACCESS_KEY")
                    .ok_or_else(|| no("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not".to_owned()))?;
                Ok(SigningKeys {
                    access_key_id: environment("AWS_ACCESS_KEY_ID").unwrap_or_default(),
                    secret_access_key: Secret::new(secret),
                    session_token: environment("AWS_SESSION_TOKEN").filter(|text| !text.is_empty()).map(Secret::new),
                    expires: None,
                })
            }
            Self::Profile { file, name: profile } => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| no(format!("`{}` cannot be read: {}", file.display(), error.kind())))?;
                profile_keys(&text, profile).ok_or_else(|| {
                    no(format!(
                        "the profile `{}` of `{}` holds no `aws_access_key_id` and `aws_secret_access_key`",
                        profile.escape_debug(),
                        file.display()
                    ))
                })
            }
            Self::WebIdentity { token_file, role, session, url, client } => {
                let token = std::fs::read_to_string(token_file)
                    .map_err(|error| no(format!("`{}` cannot be read: {}", token_file.display(), error.kind())))?;
                let form = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role),
                    ("RoleSessionName", session),
                    ("WebIdentityToken", token.trim()),
                ];
                let body: Vec<String> =
                    form.iter().map(|(key, value)| format!("{key}={}", sigv4::encode(value, b""))).collect();
                let request = WebRequest::new(Method::POST, &format!("{url}/"))
                    .map_err(|error| no(error.to_string()))?
                    .body("application/x-www-form-urlencoded", body.join("&"));
                let reply = client.send(request).await.map_err(|error| no(error.to_string()))?;
                if !reply.status.is_success() {
                    return Err(no(format!(
                        "STS refuses the web identity for `{role}` (status {}): check the role's trust policy",
                        reply.status.as_u16()
                    )));
                }
                SigningKeys::of_assume_role(&reply.body).map_err(|error| no(error.to_string()))
            }
            Self::Container { url, token, token_file, client } => {
                let mut request = WebRequest::new(Method::GET, url).map_err(|error| no(error.to_string()))?;
                let token = match token_file {
                    // Read anew every time: the platform replaces it.
                    Some(file) => Some(
                        std::fs::read_to_string(file)
                            .map_err(|error| no(format!("`{}` cannot be read: {}", file.display(), error.kind())))?,
                    ),
                    None => token.clone(),
                };
                if let Some(token) = token {
                    let value = HeaderValue::from_str(token.trim())
                        .map_err(|_| no("the container's token is not one".to_owned()))?;
                    request = request.secret_header(header::AUTHORIZATION, value);
                }
                let reply = client.send(request).await.map_err(|error| no(error.to_string()))?;
                keys_of(name, &reply, "the container's credential endpoint")
            }
            Self::Instance { url, client } => instance_keys(name, url, client).await,
        }
    }
}

/// IMDSv2: a session token first, which a forwarded request from outside cannot get.
async fn instance_keys(name: &str, url: &str, client: &WebClient) -> Result<SigningKeys> {
    const TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
    const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
    let no = |problem: String| SecretError::new(name, problem);
    let ask = async |method: Method, path: &str, header: HeaderName, value: HeaderValue| {
        let request = WebRequest::new(method, &format!("{url}{path}")).map_err(|error| no(error.to_string()))?;
        let reply = client.send(request.secret_header(header, value)).await.map_err(|error| {
            no(format!("finds no keys for AWS: set `access_key_id` and `secret_access_key`, or give this machine a role ({error})"))
        })?;
        if reply.status.is_success() {
            Ok(reply)
        } else {
            Err(no(format!("the instance's metadata service answered with status {}", reply.status.as_u16())))
        }
    };
    let token = ask(Method::PUT, "/latest/api/token", TTL, HeaderValue::from_static("21600")).await?;
    let token = HeaderValue::from_bytes(&token.body)
        .map_err(|_| no("the instance's metadata service gave no token".to_owned()))?;
    let roles = ask(Method::GET, ROLES, TOKEN, token.clone()).await?;
    let roles = String::from_utf8_lossy(&roles.body).into_owned();
    let role = roles.lines().next().unwrap_or_default().trim();
    if role.is_empty() || !role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte)) {
        return Err(no("this instance has no role".to_owned()));
    }
    let reply = ask(Method::GET, &format!("{ROLES}{role}"), TOKEN, token).await?;
    keys_of(name, &reply, "the instance's metadata service")
}

fn profile_keys(text: &str, profile: &str) -> Option<SigningKeys> {
    let mut inside = false;
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = section.trim() == profile;
        } else if inside && let Some((key, value)) = line.split_once('=') {
            match key.trim() {
                "aws_access_key_id" => id = Some(value.trim().to_owned()),
                "aws_secret_access_key" => secret = Some(Secret::new(value.trim())),
                "aws_session_token" => token = Some(Secret::new(value.trim())),
                _ => {}
            }
        }
    }
    Some(SigningKeys { access_key_id: id?, secret_access_key: secret?, session_token: token, expires: None })
}
