//! A strict ACME server: checks every signature, nonce, URL and account, proves a name by connecting to where it is told that the name
//! leads, and issues what the request asks for with an authority of its own.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{any, get};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::Clock as _;
use rcgen::{CertificateSigningRequestParams, CertifiedIssuer, KeyPair};
use rustls_pki_types::{CertificateSigningRequestDer, ServerName, alg_id};
use serde_json::{Value, json};
use testkit::TestClock;
use time::OffsetDateTime;

use crate::tls::probe::handshake;

/// What it does wrong on purpose.
#[derive(Debug, Default, Clone)]
pub(super) struct Faults {
    /// So many requests are told that their nonce is bad.
    pub(super) bad_nonces: usize,
    /// Issues for this name instead.
    pub(super) other_name: Option<String>,
    /// Offers only this kind of challenge.
    pub(super) challenge: Option<&'static str>,
    /// Accounts are made only with this binding: the key's id and the key (RFC 8555 section 7.3.4). No fault, but not every server's way.
    pub(super) external: Option<(&'static str, &'static [u8])>,
    /// Orders are refused, as by a limit of rate.
    pub(super) limited: bool,
}

#[derive(Default)]
struct Order {
    names: Vec<String>,
    proven: Vec<bool>,
    failed: Option<String>,
    chain: Option<String>,
    replaces: Option<String>,
}

#[derive(Default)]
struct Inner {
    nonces: HashSet<String>,
    made: u64,
    account: Option<Value>,
    accounts: usize,
    orders: Vec<Order>,
    faults: Faults,
    window: Option<(OffsetDateTime, OffsetDateTime)>,
    replaced: Vec<String>,
}

pub(super) struct Double {
    pub(super) url: String,
    target: Mutex<SocketAddr>,
    clock: Arc<TestClock>,
    authority: CertifiedIssuer<'static, KeyPair>,
    inner: Mutex<Inner>,
}

type Refused = (StatusCode, &'static str, String);

fn malformed(why: impl Into<String>) -> Refused {
    (StatusCode::BAD_REQUEST, "malformed", why.into())
}

impl Double {
    /// Starts it; names are looked for at `target`.
    pub(super) async fn start(target: SocketAddr, clock: Arc<TestClock>) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let double = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            target: Mutex::new(target),
            clock,
            authority: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            inner: Mutex::default(),
        });
        let router = Router::new()
            .route("/directory", get(directory))
            .route("/ari/{id}", get(ari))
            .route("/{what}", any(resource))
            .route("/{what}/{order}", any(resource))
            .route("/{what}/{order}/{name}", any(resource))
            .with_state(Arc::clone(&double));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        double
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(super) fn misbehave(&self, faults: Faults) {
        self.inner().faults = faults;
    }

    pub(super) fn aim(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }

    /// Suggests when to renew, from now on.
    pub(super) fn suggest(&self, window: (OffsetDateTime, OffsetDateTime)) {
        self.inner().window = Some(window);
    }

    /// Accounts made, orders placed, and which certificates were said to be replaced.
    pub(super) fn seen(&self) -> (usize, usize, Vec<String>) {
        let inner = self.inner();
        (inner.accounts, inner.orders.len(), inner.replaced.clone())
    }

    fn nonce(&self) -> String {
        let mut inner = self.inner();
        inner.made += 1;
        let nonce = format!("nonce{}", inner.made);
        inner.nonces.insert(nonce.clone());
        nonce
    }

    fn answer(&self, status: StatusCode, body: impl Into<Body>, location: Option<String>) -> Response {
        let mut answer = Response::builder().status(status).header("replay-nonce", self.nonce());
        if let Some(location) = location {
            answer = answer.header("location", location);
        }
        answer.header("content-type", "application/json").body(body.into()).unwrap()
    }

    /// The payload of a signed request and the thumbprint of its key, if every part of it is as RFC 8555 section 6 wants it.
    fn open(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<(Value, String), Refused> {
        if headers.get("content-type").is_none_or(|kind| kind != "application/jose+json") {
            return Err(malformed("the content type is not application/jose+json"));
        }
        let jws: Value = serde_json::from_slice(body).map_err(|e| malformed(e.to_string()))?;
        let part = |name: &str| jws[name].as_str().ok_or_else(|| malformed(format!("no {name}")));
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|e| malformed(e.to_string()));
        let (protected, payload) = (part("protected")?, part("payload")?);
        let signature = decode(part("signature")?)?;
        let header: Value = serde_json::from_slice(&decode(protected)?).map_err(|e| malformed(e.to_string()))?;
        if header["alg"] != "ES256" {
            return Err(malformed("the algorithm is not ES256"));
        }
        if header["url"] != format!("{}{path}", self.url) {
            return Err((StatusCode::UNAUTHORIZED, "unauthorized", "the url is not this one".to_owned()));
        }
        let mut inner = self.inner();
        let known = inner.nonces.remove(header["nonce"].as_str().unwrap_or_default());
        if !known || inner.faults.bad_nonces > 0 {
            inner.faults.bad_nonces = inner.faults.bad_nonces.saturating_sub(1);
            return Err((StatusCode::BAD_REQUEST, "badNonce", "the nonce is not one of ours".to_owned()));
        }
        let jwk = match (&header["jwk"], &header["kid"]) {
            (jwk @ Value::Object(_), Value::Null) if path == "/account" => jwk.clone(),
            (Value::Null, Value::String(kid)) if path != "/account" && *kid == format!("{}/account/1", self.url) => {
                inner.account.clone().ok_or((StatusCode::BAD_REQUEST, "accountDoesNotExist", String::new()))?
            }
            _ => return Err(malformed("the key is named the wrong way")),
        };
        let coordinate = |name: &str| decode(jwk[name].as_str().unwrap_or_default());
        let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
        verify(&point, format!("{protected}.{payload}").as_bytes(), &signature).ok_or((
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the signature is wrong".to_owned(),
        ))?;
        if path == "/account" {
            if let Some((id, key)) = inner.faults.external {
                let payload: Value = serde_json::from_slice(&decode(payload)?).unwrap();
                self.check_binding(&payload["externalAccountBinding"], id, key, &jwk).ok_or((
                    StatusCode::UNAUTHORIZED,
                    "externalAccountRequired",
                    "no valid binding".to_owned(),
                ))?;
            }
            inner.account = Some(jwk.clone());
            inner.accounts += 1;
        }
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        let thumbprint = URL_SAFE_NO_PAD.encode(crypto::sha256(canonical.as_bytes()).0);
        let payload = decode(payload)?;
        let payload = if payload.is_empty() { Value::Null } else { serde_json::from_slice(&payload).unwrap() };
        Ok((payload, thumbprint))
    }

    fn check_binding(&self, binding: &Value, id: &str, key: &[u8], jwk: &Value) -> Option<()> {
        let part = |name: &str| binding[name].as_str();
        let decode = |text: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
        let (protected, payload) = (part("protected")?, part("payload")?);
        let header = decode(protected)?;
        let expect = json!({"alg": "HS256", "kid": id, "url": format!("{}/account", self.url)});
        let mac = crypto::hmac_sha256(key, format!("{protected}.{payload}").as_bytes());
        let right = header == expect && decode(payload)? == *jwk && part("signature")? == URL_SAFE_NO_PAD.encode(mac);
        right.then_some(())
    }

    fn order_document(&self, at: usize) -> Value {
        let inner = self.inner();
        let order = &inner.orders[at];
        let status = match () {
            () if order.failed.is_some() => "invalid",
            () if order.chain.is_some() => "valid",
            () if order.proven.iter().all(|proven| *proven) => "ready",
            () => "pending",
        };
        let mut document = json!({
            "status": status,
            "identifiers": order.names.iter().map(|name| json!({"type": "dns", "value": name})).collect::<Vec<_>>(),
            "authorizations": (0..order.names.len()).map(|name| format!("{}/authz/{at}/{name}", self.url)).collect::<Vec<_>>(),
            "finalize": format!("{}/finalize/{at}", self.url),
        });
        if order.chain.is_some() {
            document["certificate"] = json!(format!("{}/cert/{at}", self.url));
        }
        if let Some(replaces) = &order.replaces {
            document["replaces"] = json!(replaces);
        }
        document
    }

    fn challenge_document(&self, at: usize, name: usize) -> Value {
        let inner = self.inner();
        let order = &inner.orders[at];
        let mut document = json!({
            "type": inner.faults.challenge.unwrap_or("tls-alpn-01"), "url": format!("{}/chall/{at}/{name}", self.url),
            "token": format!("token-{at}-{name}"),
            "status": if order.proven[name] { "valid" } else if order.failed.is_some() { "invalid" } else { "pending" },
        });
        if let Some(failed) = &order.failed {
            document["error"] = json!({"type": "urn:ietf:params:acme:error:tls", "detail": failed});
        }
        document
    }

    /// Connects to where the name leads, and looks (RFC 8737 section 3).
    async fn prove(&self, name: &str, key_authorization: &str) -> Result<(), String> {
        let target = *self.target.lock().unwrap();
        let server_name = ServerName::try_from(name.to_owned()).unwrap();
        let (chain, protocol) = handshake(target, server_name, &[b"acme-tls/1"]).await?;
        if protocol.as_deref() != Some(b"acme-tls/1") {
            return Err("the protocol was not taken".to_owned());
        }
        let names = crate::authority::names_of(&chain[0]).unwrap_or_default();
        if names.iter().ne([name]) {
            return Err(format!("the certificate is for {names:?}"));
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        let extension = parsed.extensions().iter().find(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let extension = extension.ok_or("the certificate has no acmeIdentifier")?;
        let digest = crypto::sha256(key_authorization.as_bytes()).0;
        if !extension.critical || extension.value != [&[4, 32], &digest[..]].concat() {
            return Err("the acmeIdentifier is not the key authorization's".to_owned());
        }
        Ok(())
    }

    fn issue(&self, csr: &[u8], names: &[String]) -> Result<String, Refused> {
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr));
        let mut csr = csr.map_err(|e| malformed(format!("the request: {e}")))?;
        let asked = rcgen::CertificateParams::new(names.to_vec()).unwrap().subject_alt_names;
        if csr.params.subject_alt_names != asked {
            return Err((StatusCode::FORBIDDEN, "badCSR", "the request is for other names".to_owned()));
        }
        if let Some(other) = &self.inner().faults.other_name {
            csr.params.subject_alt_names =
                rcgen::CertificateParams::new(vec![other.clone()]).unwrap().subject_alt_names;
        }
        let now = self.clock.now().as_seconds();
        csr.params.not_before = OffsetDateTime::from_unix_timestamp(now).unwrap();
        csr.params.not_after = OffsetDateTime::from_unix_timestamp(now + 90 * 86_400).unwrap();
        csr.params.use_authority_key_identifier_extension = true;
        let leaf = csr.signed_by(&self.authority).map_err(|e| malformed(e.to_string()))?;
        Ok(format!("{}{}", leaf.pem(), self.authority.pem()))
    }

    async fn handle(&self, parts: &[&str], path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refused> {
        let (payload, thumbprint) = self.open(path, headers, body)?;
        let number = |at: usize| parts.get(at).and_then(|text| text.parse::<usize>().ok()).unwrap();
        let (status, document, location) = match parts[0] {
            "account" => {
                if payload["termsOfServiceAgreed"] != true {
                    return Err((StatusCode::FORBIDDEN, "userActionRequired", "agree to the terms".to_owned()));
                }
                (StatusCode::CREATED, json!({"status": "valid"}), Some(format!("{}/account/1", self.url)))
            }
            "order" if parts.len() == 1 => {
                let at = {
                    let mut inner = self.inner();
                    if inner.faults.limited {
                        return Err((StatusCode::TOO_MANY_REQUESTS, "rateLimited", "too many certificates".to_owned()));
                    }
                    let identifiers = payload["identifiers"].as_array().unwrap();
                    let names: Vec<String> =
                        identifiers.iter().map(|identifier| identifier["value"].as_str().unwrap().to_owned()).collect();
                    let replaces = payload["replaces"].as_str().map(str::to_owned);
                    inner.replaced.extend(replaces.clone());
                    let proven = vec![false; names.len()];
                    inner.orders.push(Order { names, proven, replaces, ..Order::default() });
                    inner.orders.len() - 1
                };
                (StatusCode::CREATED, self.order_document(at), Some(format!("{}/order/{at}", self.url)))
            }
            "order" => (StatusCode::OK, self.order_document(number(1)), None),
            "authz" => {
                let (at, name) = (number(1), number(2));
                let challenge = self.challenge_document(at, name);
                let value = self.inner().orders[at].names[name].clone();
                let identifier = json!({"type": "dns", "value": value});
                let document =
                    json!({"status": challenge["status"], "identifier": identifier, "challenges": [challenge]});
                (StatusCode::OK, document, None)
            }
            "chall" => {
                let (at, name) = (number(1), number(2));
                let value = self.inner().orders[at].names[name].clone();
                let proven = self.prove(&value, &format!("token-{at}-{name}.{thumbprint}")).await;
                {
                    let mut inner = self.inner();
                    inner.orders[at].proven[name] = proven.is_ok();
                    inner.orders[at].failed = proven.err().or(inner.orders[at].failed.take());
                }
                let mut document = self.challenge_document(at, name);
                document.as_object_mut().unwrap().remove("error");
                (StatusCode::OK, document, None)
            }
            "finalize" => {
                let at = number(1);
                if self.order_document(at)["status"] != "ready" {
                    return Err((StatusCode::FORBIDDEN, "orderNotReady", String::new()));
                }
                let csr = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
                let names = self.inner().orders[at].names.clone();
                let chain = self.issue(&csr, &names)?;
                self.inner().orders[at].chain = Some(chain);
                (StatusCode::OK, self.order_document(at), None)
            }
            "cert" => {
                let chain = self.inner().orders[number(1)].chain.clone().unwrap();
                return Ok(self.answer(StatusCode::OK, chain, None));
            }
            _ => return Err((StatusCode::NOT_FOUND, "malformed", "no such resource".to_owned())),
        };
        Ok(self.answer(status, document.to_string(), location))
    }
}

async fn directory(State(double): State<Arc<Double>>) -> String {
    let url = &double.url;
    let mut directory = json!({
        "newNonce": format!("{url}/nonce"), "newAccount": format!("{url}/account"), "newOrder": format!("{url}/order"),
        "revokeCert": format!("{url}/revoke"), "keyChange": format!("{url}/change"),
    });
    if double.inner().window.is_some() {
        directory["renewalInfo"] = json!(format!("{url}/ari"));
    }
    directory.to_string()
}

async fn ari(State(double): State<Arc<Double>>, Path(id): Path<String>) -> Response {
    assert_eq!(id.split('.').count(), 2, "the authority's key and the serial: {id}");
    let (start, end) = double.inner().window.unwrap();
    let rfc3339 = |at: OffsetDateTime| at.format(&time::format_description::well_known::Rfc3339).unwrap();
    let body = json!({"suggestedWindow": {"start": rfc3339(start), "end": rfc3339(end)}}).to_string();
    Response::builder().header("retry-after", "21600").body(body.into()).unwrap()
}

async fn resource(
    State(double): State<Arc<Double>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    let path = uri.path();
    if path == "/nonce" {
        return double.answer(StatusCode::OK, "", None);
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let handled = match method {
        Method::POST => double.handle(&parts, path, &headers, &body).await,
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, "malformed", "POST-as-GET".to_owned())),
    };
    handled.unwrap_or_else(|(status, kind, detail)| {
        let problem =
            json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status.as_u16()});
        double.answer(status, problem.to_string(), None)
    })
}

/// ES256 (RFC 7518 section 3.4): the two numbers become the DER that the library wants.
fn verify(point: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    if signature.len() != 64 {
        return None;
    }
    let integer = |bytes: &[u8]| {
        let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign = digits.first().is_none_or(|byte| *byte >= 0x80).then_some(0);
        let digits: Vec<u8> = sign.into_iter().chain(digits).collect();
        [vec![2, u8::try_from(digits.len()).unwrap()], digits].concat()
    };
    let numbers = [integer(&signature[..32]), integer(&signature[32..])].concat();
    let der = [vec![0x30, u8::try_from(numbers.len()).unwrap()], numbers].concat();
    let algorithms = crypto::tls::provider().signature_verification_algorithms.all;
    let es256 = algorithms.iter().find(|algorithm| {
        algorithm.public_key_alg_id() == alg_id::ECDSA_P256 && algorithm.signature_alg_id() == alg_id::ECDSA_SHA256
    })?;
    es256.verify_signature(point, message, &der).ok()
}
