//! The store and the provider `vault` against a double that checks tokens, namespaces and bodies as Vault does.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrets::{KeyProvider, ProviderSettings};
use serde_json::{Value, json};
use testkit::{TestClock, TestRng, logs};

use crate::double::{Asked, Double, around, declare, read};

/// What a Vault holds: which tokens are good, and how long new ones are.
#[derive(Default)]
struct State {
    good: Vec<String>,
    issued: u32,
    ttl: i64,
    renewable: bool,
    refuse_renewal: bool,
    key: u8,
}

type Shared = Arc<Mutex<State>>;

fn issue(state: &mut State) -> (u16, String) {
    state.issued += 1;
    let token = format!("s.token-{}", state.issued);
    state.good.push(token.clone());
    let auth = json!({"client_token": token, "lease_duration": state.ttl, "renewable": state.renewable});
    (200, json!({"auth": auth}).to_string())
}

fn answer(state: &Shared, secret: &str, asked: &Asked) -> (u16, String) {
    let mut state = state.lock().unwrap();
    let refuse = |status: u16| (status, json!({"errors": ["permission denied"]}).to_string());
    if asked.header("x-vault-request") != "true" || asked.header("x-vault-namespace") != "team" {
        return refuse(400);
    }
    let body = asked.json();
    match asked.path.as_str() {
        "/v1/auth/kubernetes/login" if body == json!({"role": "cairn", "jwt": "pod-token"}) => {
            return issue(&mut state);
        }
        "/v1/auth/approle/login" if body == json!({"role_id": "r-1", "secret_id": "s-1"}) => return issue(&mut state),
        path if path.ends_with("/login") => return refuse(400),
        _ => {}
    }
    let token = asked.header("x-vault-token").to_owned();
    if !state.good.contains(&token) {
        return refuse(403);
    }
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/v1/auth/token/lookup-self") => {
            (200, json!({"data": {"id": token, "ttl": state.ttl, "renewable": state.renewable}}).to_string())
        }
        ("POST", "/v1/auth/token/renew-self") if !state.refuse_renewal => {
            let auth = json!({"client_token": token, "lease_duration": state.ttl, "renewable": state.renewable});
            (200, json!({"auth": auth}).to_string())
        }
        ("GET", "/v1/secret/data/db/prod%20one") => (
            200,
            json!({"data": {"data": {"password": secret, "data": "plain", "number": 7}, "metadata": {}}}).to_string(),
        ),
        ("GET", "/v1/old/db") => (200, json!({"data": {"password": secret}}).to_string()),
        // Sealed as transit does it: the key's version, and the associated data must come back the same.
        ("POST", "/v1/crypt/encrypt/cairn") => {
            let inside = json!([body["plaintext"], body["associated_data"], state.key]).to_string();
            (200, json!({"data": {"ciphertext": format!("vault:v1:{}", STANDARD.encode(inside))}}).to_string())
        }
        ("POST", "/v1/crypt/decrypt/cairn") => {
            let text = body["ciphertext"].as_str().unwrap_or_default().strip_prefix("vault:v1:").unwrap_or_default();
            let inside: Value = serde_json::from_slice(&STANDARD.decode(text).unwrap_or_default()).unwrap_or_default();
            if inside[1] != body["associated_data"] || inside[2] != json!(state.key) {
                return refuse(400);
            }
            (200, json!({"data": {"plaintext": inside[0]}}).to_string())
        }
        _ => refuse(404),
    }
}

async fn vault(state: State, secret: &str) -> (Double, Shared) {
    let state = Arc::new(Mutex::new(state));
    let (held, secret) = (Arc::clone(&state), secret.to_owned());
    (Double::start(move |asked| answer(&held, &secret, asked)).await, state)
}

fn settings(double: &Double, login: (&str, Value)) -> Value {
    let mut settings =
        json!({"address": double.url, "namespace": "team", "loopback": true, "transit_mount": "/crypt/"});
    settings[login.0] = login.1;
    settings
}

#[tokio::test]
async fn both_engines_are_read_by_path_and_field() {
    let (planted, token) = (logs::plant("vault-value"), logs::plant("vault-token"));
    let (double, _) = vault(State { good: vec![token.clone()], ..State::default() }, &planted).await;
    let around = around(&[("VAULT_TOKEN", &token)], &Arc::new(TestClock::default()));
    let mut old = settings(&double, ("token", json!("env:VAULT_TOKEN")));
    old["kv_version"] = json!(1);
    // As Infra spelled it.
    old["secretMount"] = json!("/old");
    let declared = json!([
        {"kind": "vault", "settings": settings(&double, ("token", json!("env:VAULT_TOKEN")))},
        {"kind": "vault", "name": "old", "settings": old},
    ]);
    let stores = declare(declared, &around).unwrap();
    assert_eq!(read(&stores, "vault:db/prod one#password").await.unwrap(), planted);
    assert_eq!(read(&stores, "vault:/db/prod one").await.unwrap(), "plain", "without a field it is `data`");
    assert_eq!(read(&stores, "old:db#password").await.unwrap(), planted);
    for (id, expected) in [
        ("vault:db/prod one#other", "has no field `other`"),
        ("vault:db/prod one#number", "is no text"),
        ("vault:absent#x", "it is not there"),
        ("vault:a/../b#x", "is not `path/of/secret#field`"),
        ("vault:#x", "is not `path/of/secret#field`"),
    ] {
        let error = read(&stores, id).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{id}: {error}");
        assert!(!error.contains(&planted) && !error.contains(&token), "{error}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_replaced_when_it_has_ended() {
    let (double, state) = vault(State { ttl: 60, renewable: true, ..State::default() }, "value").await;
    let clock = Arc::new(TestClock::default());
    let login = json!({"role_id": "env:ROLE", "secret_id": "env:SECRET"});
    let declared = json!([{"kind": "vault", "settings": settings(&double, ("approle", login))}]);
    let stores = declare(declared, &around(&[("ROLE", "r-1"), ("SECRET", "s-1")], &clock)).unwrap();
    let secret = "vault:db/prod one#password";
    let get = "GET /v1/secret/data/db/prod%20one";
    read(&stores, secret).await.unwrap();
    read(&stores, secret).await.unwrap();
    assert_eq!(double.calls(), ["POST /v1/auth/approle/login", get, get], "one login, then its token");
    clock.advance(Duration::from_secs(41));
    read(&stores, secret).await.unwrap();
    assert_eq!(double.calls(), ["POST /v1/auth/token/renew-self", get], "past two thirds of its life");
    clock.advance(Duration::from_secs(61));
    read(&stores, secret).await.unwrap();
    assert_eq!(double.calls(), ["POST /v1/auth/approle/login", get], "past its end");
    // Revoked from outside: one new login, and the call goes through.
    state.lock().unwrap().good.clear();
    read(&stores, secret).await.unwrap();
    assert_eq!(double.calls(), [get, "POST /v1/auth/approle/login", get]);
    // A renewal that is refused leads to a login too.
    state.lock().unwrap().refuse_renewal = true;
    clock.advance(Duration::from_secs(41));
    read(&stores, secret).await.unwrap();
    assert_eq!(double.calls(), ["POST /v1/auth/token/renew-self", "POST /v1/auth/approle/login", get]);
    // Nobody asks for a secret: the upkeep keeps the session alive, and says when to come again.
    state.lock().unwrap().refuse_renewal = false;
    clock.advance(Duration::from_secs(41));
    assert_eq!(stores.keep().await, 40_000);
    assert_eq!(double.calls(), ["POST /v1/auth/token/renew-self"]);
}

#[tokio::test]
async fn a_pod_logs_in_with_its_service_account() {
    let (double, _) = vault(State { ttl: 60, ..State::default() }, "value").await;
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    fs::write(&token_file, "pod-token\n").unwrap();
    let login = json!({"role": "cairn", "token_file": token_file});
    let declared = json!([{"kind": "vault", "settings": settings(&double, ("kubernetes", login))}]);
    let stores = declare(declared, &around(&[], &Arc::new(TestClock::default()))).unwrap();
    assert_eq!(read(&stores, "vault:db/prod one#password").await.unwrap(), "value");
    fs::write(&token_file, logs::plant("pod-token")).unwrap();
    let again = json!([{"kind": "vault", "settings": settings(&double, ("kubernetes", json!({"role": "cairn", "token_file": token_file})))}]);
    let stores = declare(again, &around(&[], &Arc::new(TestClock::default()))).unwrap();
    let error = read(&stores, "vault:db/prod one#password").await.unwrap_err().to_string();
    assert!(error.contains("refused the login") && logs::scan(&error).is_empty(), "{error}");
}

#[tokio::test]
async fn a_master_key_is_wrapped_and_unwrapped_by_transit_in_its_own_context_only() {
    let (double, state) = vault(State { good: vec!["t".to_owned()], key: 1, ..State::default() }, "value").await;
    let declared = json!([{"kind": "vault", "settings": settings(&double, ("token", json!("t")))}]);
    let stores = declare(declared, &around(&[], &Arc::new(TestClock::default()))).unwrap();
    let named = |key: &str| ProviderSettings {
        provider: Some("vault".to_owned()),
        key: Some(key.to_owned()),
        ..Default::default()
    };
    let provider = KeyProvider::of(&named("cairn"), &stores).unwrap().unwrap();
    let rng = TestRng::seeded(1);
    let master = crypto::aead::AeadKey::generate(&rng);
    let wrapped = provider.wrap(&master, &rng).await.unwrap();
    assert_eq!(provider.unwrap(&wrapped).await.unwrap().expose(), master.expose());
    assert!(!serde_json::to_string(&wrapped).unwrap().contains(&domain::Digest(*master.expose()).to_hex()));
    let mut moved = wrapped.clone();
    moved.context.push('x');
    assert!(provider.unwrap(&moved).await.is_err(), "another context");
    let error = KeyProvider::of(&named("other"), &stores).unwrap().unwrap().unwrap(&wrapped).await.unwrap_err();
    assert!(error.to_string().contains("rotate the master key before"), "{error}");
    state.lock().unwrap().key = 2;
    assert!(provider.unwrap(&wrapped).await.is_err(), "another transit key under the same name");
    assert!(KeyProvider::of(&named("a/b"), &stores).is_err());
}
