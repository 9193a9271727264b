//! OpenID Connect, our side of it: discovery, keys, the code flow's token request, ID tokens, userinfo, and asking again later.
//!
//! **Not for** what a sign-in does here (`login`, `store::identity`), and not for connecting (`transport::WebClient`) or verifying (`crypto::jws`).
//!
//! Invariants: a document is believed only where its issuer is exactly the configured one; keys are fetched again for an unknown key's name, at
//! most once a minute; an ID token is for us alone, in time, of this sign-in (`nonce`); what userinfo says counts only for the token's subject.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::http::header::{ACCEPT, AUTHORIZATION};
use axum::http::{HeaderValue, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::jws::{self, JwsError, KeySet};
use crypto::jwt::Claims;
use domain::{Email, ProviderId, Secret, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use store::{Proved, ProviderRow};
use tokio::sync::{Mutex, OwnedMutexGuard};
use transport::{WebClient, WebReply, WebRequest};

/// How long a discovery document and a key set are good, in milliseconds.
const FRESH_MS: i64 = 3_600_000;
/// How soon keys may be fetched again for the sake of an unknown name, in milliseconds.
const KEYS_AGAIN_MS: i64 = 60_000;
/// Longest subject (OpenID Connect Core, section 2), in characters.
const SUBJECT_MAX: usize = 255;
/// Most groups of one user, and the longest name of one.
const GROUPS_MAX: usize = 2_000;
const GROUP_BYTES_MAX: usize = 256;
/// The scope that asks for a refresh token.
const OFFLINE: &str = "offline_access";
const FORM: &str = "application/x-www-form-urlencoded";

/// Why a provider's word is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OidcError {
    /// It cannot be asked, or does not answer as a provider does: it may later.
    #[error("{0}")]
    Unavailable(String),
    /// What came is not to be believed.
    #[error("{0}")]
    Refused(String),
    /// It says that what it gave us is good no more: the user is gone, disabled, or signed out there.
    #[error("the provider no longer stands by this user")]
    Gone,
}

fn refused(why: impl Into<String>) -> OidcError {
    OidcError::Refused(why.into())
}

fn unavailable(why: impl std::fmt::Display) -> OidcError {
    OidcError::Unavailable(why.to_string())
}

#[derive(Debug, Clone, Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
}

impl Discovery {
    /// The parameters that ask for what is wanted, and for a refresh token in the way that this provider knows: by the scope of OpenID Connect
    /// Core, section 11, or, where its list of scopes lacks that and it would refuse the sign-in, as Google wants it. Who does not know a
    /// parameter ignores it (RFC 6749, section 3.1).
    fn scope(&self, wanted: &str) -> Vec<(&'static str, String)> {
        let unknown = self.scopes_supported.as_ref().is_some_and(|known| !known.iter().any(|scope| scope == OFFLINE));
        let (offline, others): (Vec<_>, Vec<_>) = wanted.split(' ').partition(|scope| *scope == OFFLINE);
        if offline.is_empty() || !unknown {
            return vec![("scope", wanted.to_owned())];
        }
        vec![("scope", others.join(" ")), ("access_type", "offline".to_owned()), ("prompt", "consent".to_owned())]
    }
}

#[derive(Clone)]
struct Known {
    discovery: Arc<Discovery>,
    keys: Arc<KeySet>,
    at: Timestamp,
    keys_at: Timestamp,
}

type Slot = Arc<Mutex<Option<Known>>>;

/// What the token endpoint answers.
#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    token_type: String,
    id_token: Option<String>,
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct TokenError {
    error: String,
}

/// A sign-in that has begun: what only this browser and we know.
pub(crate) struct Flow<'a> {
    pub(crate) nonce: &'a str,
    pub(crate) verifier: &'a str,
    pub(crate) redirect_uri: &'a str,
}

/// What was learnt when an identity was asked about again.
pub(crate) struct Confirmed {
    pub(crate) groups: Option<BTreeSet<String>>,
    pub(crate) tokens: Option<Secret>,
}

/// Who is asked, with what, at what time.
pub(crate) struct Asked<'a> {
    pub(crate) provider: &'a ProviderRow,
    pub(crate) client_secret: &'a Secret,
    pub(crate) now: Timestamp,
}

/// The providers that were asked lately.
pub(crate) struct Oidc {
    web: WebClient,
    known: Mutex<HashMap<ProviderId, Slot>>,
}

/// `application/x-www-form-urlencoded`: letters, digits and four marks stay, everything else is escaped.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// The claims of an ID token that say who it is about and for whom it is.
fn check_claims(claims: &Value, asked: &Asked<'_>, nonce: Option<&str>) -> Result<String, OidcError> {
    let provider = asked.provider;
    let says = Claims::new(claims);
    if says.text("iss") != Some(provider.issuer.as_str()) {
        return Err(refused("the ID token is of another issuer"));
    }
    // For us and for nobody else: another audience could present the token to us as its own.
    let for_us = match claims.get("aud") {
        Some(Value::String(audience)) => *audience == provider.client_id,
        Some(Value::Array(audiences)) => matches!(audiences.as_slice(), [only] if *only == provider.client_id),
        _ => false,
    };
    if !for_us || claims.get("azp").is_some_and(|azp| *azp != provider.client_id) {
        return Err(refused("the ID token is for another client"));
    }
    if says.check_times(asked.now.as_seconds()).is_err() {
        return Err(refused("the ID token has expired or is not valid yet"));
    }
    if let Some(nonce) = nonce {
        let same = says.text("nonce").is_some_and(|said| crypto::constant_time_eq(said.as_bytes(), nonce.as_bytes()));
        if !same {
            return Err(refused("the ID token is of another sign-in (nonce)"));
        }
    }
    let subject = says.text("sub").unwrap_or_default();
    let sound =
        !subject.is_empty() && subject.len() <= SUBJECT_MAX && subject.bytes().all(|b| (0x20..0x7f).contains(&b));
    if sound { Ok(subject.to_owned()) } else { Err(refused("the ID token names no subject")) }
}

/// The groups that a document lists, if it lists any: texts under one name, or one text.
fn groups(document: &Value, claim: &str) -> Option<BTreeSet<String>> {
    let short = |text: &&str| !text.is_empty() && text.len() <= GROUP_BYTES_MAX;
    match document.get(claim)? {
        Value::String(one) => Some([one.as_str()].into_iter().filter(short).map(str::to_owned).collect()),
        Value::Array(all) => {
            Some(all.iter().filter_map(Value::as_str).filter(short).take(GROUPS_MAX).map(str::to_owned).collect())
        }
        _ => None,
    }
}

/// Whether the signed token says that the provider asked for more than one factor (`amr`, RFC 8176). A single method, strong as it may be, is one.
fn asked_for_two(claims: &Value) -> bool {
    claims.get("amr").and_then(Value::as_array).is_some_and(|methods| methods.iter().any(|method| method == "mfa"))
}

/// Where the browser is sent has to be a page of HTTPS, or of this machine where that is allowed.
fn is_page(url: &str, loopback: bool) -> bool {
    let local = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|begin| url.starts_with(begin));
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\`".contains(&byte));
    plain && (url.starts_with("https://") || (loopback && local))
}

fn read<T: serde::de::DeserializeOwned>(reply: &WebReply, what: &str) -> Result<T, OidcError> {
    serde_json::from_slice(&reply.body).map_err(|_| unavailable(format!("the provider's {what} is not as expected")))
}

impl Oidc {
    pub(crate) fn new(web: WebClient) -> Self {
        Self { web, known: Mutex::default() }
    }

    /// Whether a provider may be this machine.
    pub(crate) fn allows_loopback(&self) -> bool {
        self.web.allows_loopback()
    }

    async fn get(&self, url: &str) -> Result<WebReply, OidcError> {
        let request = WebRequest::new(Method::GET, url).map_err(unavailable)?;
        let request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
        let reply = self.web.send(request).await.map_err(unavailable)?;
        if reply.status == StatusCode::OK {
            Ok(reply)
        } else {
            Err(unavailable(format!("the provider answers {}", reply.status.as_u16())))
        }
    }

    async fn keys(&self, discovery: &Discovery) -> Result<Arc<KeySet>, OidcError> {
        let reply = self.get(&discovery.jwks_uri).await?;
        let keys = KeySet::parse(&reply.body).map_err(|_| unavailable("the provider's key set holds no usable key"))?;
        Ok(Arc::new(keys))
    }

    /// What is known of a provider. Whoever asks it holds its lock: many sign-ins at once ask once, and a slow provider delays its own only.
    async fn slot(&self, provider: ProviderId) -> OwnedMutexGuard<Option<Known>> {
        let slot = Arc::clone(self.known.lock().await.entry(provider).or_default());
        slot.lock_owned().await
    }

    /// The provider's document and keys, fresh enough.
    async fn known(&self, asked: &Asked<'_>) -> Result<Known, OidcError> {
        let (provider, now) = (asked.provider, asked.now);
        let mut slot = self.slot(provider.id).await;
        if let Some(known) = &*slot
            && now.as_millis().saturating_sub(known.at.as_millis()) < FRESH_MS
            && known.at <= now
        {
            return Ok(known.clone());
        }
        let url = format!("{}/.well-known/openid-configuration", provider.issuer.trim_end_matches('/'));
        let reply = self.get(&url).await?;
        let discovery: Discovery = read(&reply, "discovery document")?;
        if discovery.issuer != provider.issuer {
            return Err(refused("the discovery document is of another issuer"));
        }
        if !is_page(&discovery.authorization_endpoint, self.web.allows_loopback()) {
            return Err(refused("the provider's authorization endpoint is not https"));
        }
        if discovery.code_challenge_methods_supported.as_ref().is_some_and(|all| !all.iter().any(|one| one == "S256")) {
            return Err(refused("the provider does not know PKCE with S256"));
        }
        let keys = self.keys(&discovery).await?;
        let known = Known { discovery: Arc::new(discovery), keys, at: now, keys_at: now };
        *slot = Some(known.clone());
        Ok(known)
    }

    /// The keys anew, for the sake of a name that is not known; none where that was done less than a minute ago.
    async fn renew_keys(&self, asked: &Asked<'_>) -> Result<Option<Arc<KeySet>>, OidcError> {
        let mut slot = self.slot(asked.provider.id).await;
        let Some(known) = &mut *slot else { return Ok(None) };
        if asked.now.as_millis().saturating_sub(known.keys_at.as_millis()) < KEYS_AGAIN_MS {
            return Ok(None);
        }
        known.keys_at = asked.now;
        known.keys = self.keys(&known.discovery).await?;
        Ok(Some(Arc::clone(&known.keys)))
    }

    /// Where the browser is sent to sign in.
    pub(crate) async fn authorization_url(
        &self,
        asked: &Asked<'_>,
        state: &str,
        flow: &Flow<'_>,
    ) -> Result<String, OidcError> {
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let known = self.known(asked).await?;
        let endpoint = &known.discovery.authorization_endpoint;
        let challenge = URL_SAFE_NO_PAD.encode(crypto::sha256(flow.verifier.as_bytes()).0);
        let scope = known.discovery.scope(&asked.provider.scopes);
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", &asked.provider.client_id),
            ("redirect_uri", flow.redirect_uri),
            ("state", state),
            ("nonce", flow.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        pairs.extend(scope.iter().map(|(name, value)| (*name, value.as_str())));
        let query = form(&pairs);
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{joint}{query}"))
    }

    /// The answer that came with the browser is of this provider (RFC 9207).
    pub(crate) async fn check_issuer(&self, asked: &Asked<'_>, said: Option<&str>) -> Result<(), OidcError> {
        let must = self.known(asked).await?.discovery.authorization_response_iss_parameter_supported;
        match said {
            Some(issuer) if issuer == asked.provider.issuer => Ok(()),
            None if !must => Ok(()),
            _ => Err(refused("the answer is of another provider (iss)")),
        }
    }

    /// Asks the token endpoint, as ourselves.
    async fn tokens(&self, asked: &Asked<'_>, grant: &[(&str, &str)]) -> Result<Tokens, OidcError> {
        let known = self.known(asked).await?;
        let secret = asked.client_secret.expose_str().ok_or_else(|| unavailable("the client secret is not text"))?;
        let client = asked.provider.client_id.as_str();
        let methods = known.discovery.token_endpoint_auth_methods_supported.as_deref();
        let basic = methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        let mut pairs = grant.to_vec();
        if !basic {
            pairs.extend([("client_id", client), ("client_secret", secret)]);
        }
        let mut request = WebRequest::new(Method::POST, &known.discovery.token_endpoint).map_err(unavailable)?;
        if basic {
            let pair = STANDARD.encode(format!("{}:{}", encode(client), encode(secret)));
            let value = HeaderValue::from_str(&format!("Basic {pair}")).map_err(unavailable)?;
            request = request.secret_header(AUTHORIZATION, value);
        }
        request = request.header(ACCEPT, HeaderValue::from_static("application/json")).body(FORM, form(&pairs));
        let reply = self.web.send(request).await.map_err(unavailable)?;
        if reply.status == StatusCode::OK {
            let tokens: Tokens = read(&reply, "token answer")?;
            if !tokens.token_type.eq_ignore_ascii_case("bearer") {
                return Err(refused("the provider gives tokens of another type than Bearer"));
            }
            return Ok(tokens);
        }
        match serde_json::from_slice::<TokenError>(&reply.body) {
            Ok(TokenError { error }) if error == "invalid_grant" => Err(OidcError::Gone),
            _ => Err(unavailable(format!("the provider's token endpoint answers {}", reply.status.as_u16()))),
        }
    }

    /// Verifies an ID token, with keys fetched anew where it names one that is not known.
    async fn verify(&self, asked: &Asked<'_>, token: &str, nonce: Option<&str>) -> Result<(String, Value), OidcError> {
        let known = self.known(asked).await?;
        let claims = match jws::verify(token, &known.keys) {
            Err(JwsError::UnknownKey) => match self.renew_keys(asked).await? {
                Some(keys) => jws::verify(token, &keys),
                None => Err(JwsError::UnknownKey),
            },
            verified => verified,
        };
        let claims = claims.map_err(|error| refused(format!("ID token: {error}")))?;
        Ok((check_claims(&claims, asked, nonce)?, claims))
    }

    /// What userinfo says of this subject; none where the provider has no userinfo.
    async fn userinfo(&self, asked: &Asked<'_>, access_token: &str, subject: &str) -> Result<Option<Value>, OidcError> {
        let known = self.known(asked).await?;
        let Some(url) = &known.discovery.userinfo_endpoint else { return Ok(None) };
        let value =
            HeaderValue::from_str(&format!("Bearer {access_token}")).map_err(|_| refused("an odd access token"))?;
        let request = WebRequest::new(Method::GET, url).map_err(unavailable)?.secret_header(AUTHORIZATION, value);
        let reply = self.web.send(request).await.map_err(unavailable)?;
        match reply.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(OidcError::Gone),
            status => return Err(unavailable(format!("the provider's userinfo answers {}", status.as_u16()))),
        }
        let document: Value = read(&reply, "userinfo")?;
        if document.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(refused("userinfo is about another subject"));
        }
        Ok(Some(document))
    }

    /// Ends the code flow: redeems the code and returns whom the provider vouches for.
    pub(crate) async fn redeem(&self, asked: &Asked<'_>, code: &str, flow: &Flow<'_>) -> Result<Proved, OidcError> {
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", flow.redirect_uri),
            ("code_verifier", flow.verifier),
        ];
        let tokens = match self.tokens(asked, &grant).await {
            Err(OidcError::Gone) => Err(refused("the provider does not know the code, or it was used before")),
            other => other,
        }?;
        let id_token = tokens.id_token.as_deref().ok_or_else(|| refused("the provider gave no ID token"))?;
        let (subject, claims) = self.verify(asked, id_token, Some(flow.nonce)).await?;
        let claim = asked.provider.groups_claim.as_str();
        let wanted = (!claim.is_empty() && claims.get(claim).is_none()) || claims.get("email").is_none();
        let more = if wanted {
            match self.userinfo(asked, &tokens.access_token, &subject).await {
                Err(OidcError::Gone) => Err(refused("userinfo refuses the token that the provider just gave")),
                other => other,
            }?
        } else {
            None
        };
        let (email, email_verified) = address(&claims, more.as_ref(), asked.provider);
        let name = claims.get("name").or_else(|| more.as_ref()?.get("name")).and_then(Value::as_str);
        let groups = groups(&claims, claim).or_else(|| groups(more.as_ref()?, claim)).unwrap_or_default();
        Ok(Proved {
            email,
            email_verified,
            name: name.and_then(|name| name.parse().ok()),
            groups,
            second_factor: asked_for_two(&claims),
            tokens: Some(kept(tokens.refresh_token.as_deref(), &tokens.access_token)),
            subject,
        })
    }

    /// Asks whether the provider still stands by somebody, with what it gave at the sign-in.
    pub(crate) async fn ask_again(
        &self,
        asked: &Asked<'_>,
        subject: &str,
        tokens: &Secret,
    ) -> Result<Confirmed, OidcError> {
        let kept_before: Value =
            serde_json::from_slice(tokens.expose()).map_err(|_| unavailable("what was kept is not as expected"))?;
        let claim = asked.provider.groups_claim.as_str();
        let Some(refresh) = kept_before.get("refresh").and_then(Value::as_str) else {
            let access = kept_before.get("access").and_then(Value::as_str).unwrap_or_default();
            // It may just have run out: whoever is still welcome there signs in again.
            let ended = || refused("the provider gave no refresh token, and the access token has ended");
            let document = match self.userinfo(asked, access, subject).await {
                Ok(None) | Err(OidcError::Gone) => Err(ended()),
                Ok(Some(document)) => Ok(document),
                Err(other) => Err(other),
            }?;
            return Ok(Confirmed { groups: Some(groups(&document, claim).unwrap_or_default()), tokens: None });
        };
        let new = self.tokens(asked, &[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await?;
        let claims = match new.id_token.as_deref() {
            Some(token) => {
                let (said, claims) = self.verify(asked, token, None).await?;
                if said != subject {
                    return Err(refused("the renewed ID token is about another subject"));
                }
                Some(claims)
            }
            None => None,
        };
        let mut found = claims.as_ref().and_then(|claims| groups(claims, claim));
        let mut spoke = claims.is_some();
        if found.is_none() && !claim.is_empty() {
            match self.userinfo(asked, &new.access_token, subject).await {
                Ok(Some(document)) => (found, spoke) = (groups(&document, claim), true),
                Ok(None) => {}
                // It has just renewed the token: what it refuses here is the question, not the user.
                Err(OidcError::Gone) => {
                    return Err(unavailable("userinfo refuses the token that the provider just gave"));
                }
                Err(other) => return Err(other),
            }
        }
        // Who spoke and named no group said that there is none.
        let groups = if spoke { Some(found.unwrap_or_default()) } else { None };
        let refresh = new.refresh_token.as_deref().unwrap_or(refresh);
        Ok(Confirmed { groups, tokens: Some(kept(Some(refresh), &new.access_token)) })
    }
}

/// The address of whoever signs in, and whether it is theirs: as the provider says, or, where it says nothing of that, by its domain. Some say
/// none as `email`, and sign people in with one (Entra ID): that counts at these domains only.
fn address(claims: &Value, userinfo: Option<&Value>, provider: &ProviderRow) -> (Option<Email>, bool) {
    let trusted = |email: &Email| {
        let domain = email.as_str().rsplit_once('@').map(|(_, domain)| domain);
        provider.email_domains.split_whitespace().any(|known| Some(known) == domain)
    };
    // An address and whether it is verified are of one document: a half of each says nothing.
    let about = if claims.get("email").is_some() { Some(claims) } else { userinfo };
    let said = |name: &str| about.and_then(|document| document.get(name));
    if let Some(email) = said("email") {
        let email = email.as_str().and_then(|email| email.parse().ok());
        let verified = match said("email_verified") {
            Some(said) => *said == Value::Bool(true),
            None => email.as_ref().is_some_and(trusted),
        };
        return (email, verified);
    }
    let name = claims.get("preferred_username").and_then(Value::as_str);
    let email = name.and_then(|name| name.parse().ok()).filter(trusted);
    let verified = email.is_some();
    (email, verified)
}

/// What is kept to ask with later: the refresh token, or the access token where there is none.
fn kept(refresh: Option<&str>, access: &str) -> Secret {
    let document = match refresh {
        Some(refresh) => serde_json::json!({ "refresh": refresh }),
        None => serde_json::json!({ "access": access }),
    };
    Secret::new(document.to_string())
}
