//! Identity providers of a world; a hand-made OpenID provider that lies as a test tells it to, and a browser that follows redirects and keeps cookies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access::{Role, ops};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use crypto::ed25519::SigningKey;
use domain::{Clock as _, Digest, Secret, TenantId};
use http::{Method, Request};
use serde_json::{Value, json};
use store::NewProvider;
use transport::{Guard, WebClient, WebConfig, WebRequest};

use crate::world::{Answer, World, plant_once, planted};

/// Where browsers reach the server.
pub(crate) const PUBLIC_URL: &str = "https://cairn.test";

/// What the provider says next.
pub(crate) struct Says {
    /// Changes of the ID token's claims; null removes one.
    pub(crate) claims: Value,
    /// Changes of its header.
    pub(crate) header: Value,
    /// Signs with a key that it does not publish.
    pub(crate) other_key: bool,
    /// Puts this instead of the signature.
    pub(crate) signature: Option<String>,
    /// What discovery says beside the usual.
    pub(crate) discovery: Value,
    /// Userinfo; none answers 401.
    pub(crate) userinfo: Option<Value>,
    /// Whether it gives a refresh token.
    pub(crate) refresh: bool,
    /// What the token endpoint answers instead.
    pub(crate) token_error: Option<(u16, Value)>,
    /// The name of its key.
    pub(crate) kid: String,
}

impl Default for Says {
    fn default() -> Self {
        Self {
            claims: json!({}),
            header: json!({}),
            other_key: false,
            signature: None,
            discovery: json!({}),
            userinfo: None,
            refresh: true,
            token_error: None,
            kid: "k1".to_owned(),
        }
    }
}

struct Inner {
    issuer: String,
    key: SigningKey,
    says: Mutex<Says>,
    /// What the authorization request brought, by code.
    codes: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    now: Box<dyn Fn() -> i64 + Send + Sync>,
    key_fetches: Mutex<u32>,
}

/// A provider at a free port, ended with the test's runtime.
pub(crate) struct Double {
    pub(crate) issuer: String,
    inner: Arc<Inner>,
}

fn b64(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn merged(mut base: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            base.as_object_mut().unwrap().remove(name);
        } else {
            base[name] = value.clone();
        }
    }
    base
}

async fn discovery(State(inner): State<Arc<Inner>>) -> axum::Json<Value> {
    let at = |path: &str| format!("{}/{path}", inner.issuer);
    let usual = json!({
        "issuer": inner.issuer,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "jwks_uri": at("jwks"),
        "userinfo_endpoint": at("userinfo"),
        "code_challenge_methods_supported": ["S256"],
    });
    axum::Json(merged(usual, &inner.says.lock().unwrap().discovery))
}

async fn jwks(State(inner): State<Arc<Inner>>) -> axum::Json<Value> {
    *inner.key_fetches.lock().unwrap() += 1;
    let x = URL_SAFE_NO_PAD.encode(inner.key.public().as_bytes());
    let kid = inner.says.lock().unwrap().kid.clone();
    axum::Json(json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": x}]}))
}

async fn userinfo(State(inner): State<Arc<Inner>>) -> Response {
    match &inner.says.lock().unwrap().userinfo {
        Some(document) => axum::Json(document.clone()).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn token(State(inner): State<Arc<Inner>>, headers: HeaderMap, form: String) -> Response {
    let form = query(&format!("?{form}"));
    let says = inner.says.lock().unwrap();
    let refuse = |error: &str| (StatusCode::BAD_REQUEST, axum::Json(json!({ "error": error }))).into_response();
    if let Some((status, body)) = &says.token_error {
        return (StatusCode::from_u16(*status).unwrap(), axum::Json(body.clone())).into_response();
    }
    let expected = format!("Basic {}", STANDARD.encode(format!("cairn:{}", planted().client)));
    if headers.get("authorization").is_none_or(|value| value != expected.as_str()) {
        return refuse("invalid_client");
    }
    let mut nonce = None;
    if form["grant_type"] == "authorization_code" {
        // A code is good once.
        let Some(asked) = inner.codes.lock().unwrap().remove(&form["code"]) else { return refuse("invalid_grant") };
        let challenge = URL_SAFE_NO_PAD.encode(crypto::sha256(form["code_verifier"].as_bytes()).0);
        if asked["code_challenge"] != challenge || asked["redirect_uri"] != form["redirect_uri"] {
            return refuse("invalid_grant");
        }
        nonce = Some(asked["nonce"].clone());
    }
    let now = (inner.now)();
    let usual = json!({
        "iss": inner.issuer, "aud": "cairn", "sub": "ann", "iat": now, "exp": now + 300, "nonce": nonce,
        "email": "ann@corp.example", "email_verified": true, "name": "Ann", "groups": ["staff"],
    });
    let header = merged(json!({"alg": "EdDSA", "kid": says.kid}), &says.header);
    let signed = format!("{}.{}", b64(&header), b64(&merged(usual, &says.claims)));
    let other = SigningKey::generate().unwrap();
    let key = if says.other_key { &other } else { &inner.key };
    let signature = says.signature.clone().unwrap_or_else(|| URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())));
    let mut answer = json!({"access_token": "access-of-the-double", "token_type": "Bearer", "id_token": format!("{signed}.{signature}")});
    if says.refresh {
        answer["refresh_token"] = json!("refresh-of-the-double");
    }
    axum::Json(answer).into_response()
}

impl Double {
    /// Starts one whose clock is the world's.
    pub(crate) async fn start(world: &World) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let clock = world.clock.clone();
        let inner = Arc::new(Inner {
            issuer: issuer.clone(),
            key: SigningKey::generate().unwrap(),
            says: Mutex::default(),
            codes: Mutex::default(),
            now: Box::new(move || clock.now().as_seconds()),
            key_fetches: Mutex::new(0),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/userinfo", get(userinfo))
            .route("/token", post(token))
            .with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { issuer, inner }
    }

    /// Tells it what to say from now on.
    pub(crate) fn say(&self, change: impl FnOnce(&mut Says)) {
        let mut says = Says::default();
        change(&mut says);
        *self.inner.says.lock().unwrap() = says;
    }

    /// How often its keys were fetched.
    pub(crate) fn key_fetches(&self) -> u32 {
        *self.inner.key_fetches.lock().unwrap()
    }

    /// What its sign-in page does when the user says yes: a code for this request.
    pub(crate) fn code(&self, asked: &BTreeMap<String, String>) -> String {
        let code = format!("code-{}", self.inner.codes.lock().unwrap().len() + self.key_fetches() as usize * 1_000);
        self.inner.codes.lock().unwrap().insert(code.clone(), asked.clone());
        code
    }
}

/// A client for providers on this machine.
pub(crate) fn client() -> WebClient {
    let config = WebConfig { guard: Guard::loopback(true), timeout: Duration::from_secs(10), ..WebConfig::default() };
    WebClient::new(config).unwrap()
}

/// Headers for the log: a cookie is a secret that is shown once.
pub(crate) fn without_cookies(headers: &HeaderMap) -> String {
    let mut shown = format!("{headers:?}");
    for cookie in headers.get_all("set-cookie") {
        let value = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap().1;
        if !value.is_empty() {
            plant_once("cookie", value);
            shown = shown.replace(value, "***");
        }
    }
    // Random values come from a test's seed: what is public in this URL is a secret of another test, made at the same place of the stream.
    let location = headers.get("location").map(|location| location.to_str().unwrap()).unwrap_or_default();
    for pair in location.split(['?', '&']) {
        if let Some((name, value)) = pair.split_once('=')
            && ["state", "nonce", "code_challenge"].contains(&name)
        {
            shown = shown.replace(value, "***");
        }
    }
    shown
}

impl World {
    /// An identity provider that nobody can reach.
    pub(crate) async fn provider(&self) -> String {
        let n = self.fresh();
        self.provider_at(&format!("idp{n}"), &format!("https://127.0.0.1:1/{n}")).await
    }

    /// An identity provider with this name and issuer.
    pub(crate) async fn provider_at(&self, name: &str, issuer: &str) -> String {
        let new = NewProvider {
            name: name.parse().unwrap(),
            title: "Provider".parse().unwrap(),
            issuer: issuer.to_owned(),
            client_id: "cairn".to_owned(),
            client_secret: Secret::new(planted().client.clone()),
            scopes: "openid email profile groups offline_access".to_owned(),
            groups_claim: "groups".to_owned(),
            email_domains: String::new(),
        };
        let made = self.store.provider_create(self.platform_permit(), &new).await.unwrap();
        let permit = self.platform_permit::<ops::ScimTokenCreate>();
        let digest = Digest(crypto::sha256(made.name.as_bytes()).0);
        self.store.write_platform(permit).await.unwrap().scim_token_create(&made.name, digest).await.unwrap();
        made.name
    }

    /// A role that a provider's group gives.
    pub(crate) async fn group_role(&self, tenant: TenantId) -> String {
        let provider = self.provider().await;
        let unit = self.store.write(self.permit::<ops::GroupRolePut>(tenant)).await.unwrap();
        unit.group_role_put(&provider, "admins", Role::ReadOnly).await.unwrap().id.to_string()
    }
}

pub(crate) fn decode(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair = [bytes.next().unwrap(), bytes.next().unwrap()];
            out.push(u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}

/// The parameters of a URL.
pub(crate) fn query(url: &str) -> BTreeMap<String, String> {
    let pairs = url.split_once('?').map(|(_, query)| query).unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), decode(value))).collect()
}

/// A browser: one cookie jar per host that it talks to.
#[derive(Default)]
pub(crate) struct Browser {
    jars: BTreeMap<String, BTreeMap<String, String>>,
}

impl Browser {
    fn cookies(&self, host: &str) -> String {
        let jar = self.jars.get(host).cloned().unwrap_or_default();
        jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn keep(&mut self, host: &str, headers: &HeaderMap) {
        let jar = self.jars.entry(host.to_owned()).or_default();
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() || cookie.to_lowercase().contains("max-age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The cookie that our server set.
    pub(crate) fn cookie(&self, name: &str) -> Option<&String> {
        self.jars.get("cairn.test")?.get(name)
    }

    /// Sets a cookie of our server's, as somebody who can would.
    pub(crate) fn plant(&mut self, name: &str, value: &str) {
        self.jars.entry("cairn.test".to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }

    /// Opens a page of our server.
    pub(crate) async fn get(&mut self, world: &World, path: &str) -> Answer {
        self.ask(world, "GET", path, &[], None).await
    }

    /// Sends a request with our server's cookies.
    pub(crate) async fn ask(
        &mut self,
        world: &World,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "cairn.test");
        let cookies = self.cookies("cairn.test");
        if !cookies.is_empty() {
            request = request.header("cookie", cookies);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or_else(axum::body::Body::empty, |body| axum::body::Body::from(body.to_owned()));
        let answer = world.send(request.body(body).unwrap()).await;
        self.keep("cairn.test", &answer.headers);
        answer
    }

    /// Begins a sign-in and returns what the provider was asked.
    pub(crate) async fn begin(&mut self, world: &World, provider: &str) -> BTreeMap<String, String> {
        let answer = self.get(world, &format!("/api/v1/login/{provider}?next=/findings")).await.is(303);
        query(answer.header("location"))
    }

    /// Comes back from the provider with this answer.
    pub(crate) async fn back(&mut self, world: &World, provider: &str, answer: &[(&str, &str)]) -> Answer {
        let pairs: Vec<String> = answer.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.get(world, &format!("/api/v1/login/{provider}/callback?{}", pairs.join("&"))).await
    }

    /// A whole sign-in at the double.
    pub(crate) async fn sign_in(&mut self, world: &World, provider: &str, double: &Double) -> Answer {
        let asked = self.begin(world, provider).await;
        let code = double.code(&asked);
        self.back(world, provider, &[("code", &code), ("state", &asked["state"])]).await
    }

    /// A whole sign-in at a real provider: follows every redirect, there and back.
    pub(crate) async fn sign_in_at(&mut self, world: &World, provider: &str, login_hint: &str) -> Answer {
        let answer = self.get(world, &format!("/api/v1/login/{provider}?next=/findings")).await.is(303);
        let mut url = format!("{}&login_hint={login_hint}", answer.header("location"));
        let client = client();
        for _ in 0..10 {
            if let Some(path) = url.strip_prefix(PUBLIC_URL) {
                let path = path.to_owned();
                return self.get(world, &path).await;
            }
            let (scheme, rest) = url.split_once("://").unwrap();
            let host = rest.split(['/', '?']).next().unwrap().to_owned();
            let origin = format!("{scheme}://{host}");
            let request = WebRequest::new(Method::GET, &url)
                .unwrap()
                .header(http::header::COOKIE, self.cookies(&host).parse().unwrap());
            let reply = client.send(request).await.unwrap();
            self.keep(&host, &reply.headers);
            let to = reply.headers.get("location").map(|to| to.to_str().unwrap().to_owned());
            let to = to.unwrap_or_else(|| panic!("{url}: {} {:?}", reply.status, reply.body));
            url = if to.starts_with('/') { format!("{origin}{to}") } else { to };
        }
        panic!("too many redirects");
    }
}
