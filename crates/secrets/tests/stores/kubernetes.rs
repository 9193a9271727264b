//! The store `kubernetes` against a double of the API server.

use std::fs;
use std::sync::Arc;

use serde_json::json;
use testkit::{TestClock, logs};

use crate::double::{Double, around, declare, read};

#[tokio::test]
async fn a_secret_is_read_with_the_pods_own_token_which_is_read_anew_every_time() {
    let planted = logs::plant("kubernetes-secret");
    let encoded = base64(&planted);
    let cluster = Double::start(move |asked| match (asked.path.as_str(), asked.header("authorization")) {
        ("/api/v1/namespaces/team/secrets/db", "Bearer first" | "Bearer second") => {
            (200, json!({"kind": "Secret", "data": {"password": encoded, "broken": "!"}}).to_string())
        }
        (_, "Bearer first" | "Bearer second") => (404, "{}".to_owned()),
        _ => (401, "{}".to_owned()),
    })
    .await;
    let account = tempfile::tempdir().unwrap();
    fs::write(account.path().join("namespace"), "team\n").unwrap();
    fs::write(account.path().join("token"), "first\n").unwrap();
    let settings = json!({"address": cluster.url, "account_dir": account.path(), "loopback": true});
    let around = around(&[], &Arc::new(TestClock::default()));
    let stores = declare(json!([{"kind": "kubernetes", "settings": settings}]), &around).unwrap();
    assert_eq!(read(&stores, "kubernetes:db/password").await.unwrap(), planted);
    fs::write(account.path().join("token"), "second").unwrap();
    assert_eq!(read(&stores, "kubernetes:db/password").await.unwrap(), planted);
    let tokens: Vec<_> = cluster.asked().iter().map(|asked| asked.header("authorization").to_owned()).collect();
    assert_eq!(tokens, ["Bearer first", "Bearer second"]);
    for (id, expected) in [
        ("db", "`secret/key`"),
        ("../x/y", "`secret/key`"),
        ("DB/x", "`secret/key`"),
        ("db/other", "no key `other`"),
        ("db/broken", "not base64"),
        ("absent/x", "no Secret `absent` in the namespace `team`"),
    ] {
        let error = read(&stores, &format!("kubernetes:{id}")).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{id}: {error}");
    }
    fs::write(account.path().join("token"), "revoked").unwrap();
    let error = read(&stores, "kubernetes:db/password").await.unwrap_err().to_string();
    assert!(error.contains("give it a Role") && !error.contains("revoked"), "{error}");
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
