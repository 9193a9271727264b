//! The AWS stores and KMS against moto; every source of keys against a double of its endpoint.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use secrets::{KeyProvider, ProviderSettings};
use serde_json::{Value, json};
use testkit::{Moto, TestClock, TestRng, logs};

use crate::double::{Double, around, declare, read};

/// A moto that AWS's own client has stored secrets in: what that stores is what must be read.
fn seeded() -> Moto {
    let moto = Moto::start();
    let (seeded, text) = Moto::python("seed_secrets.py", &[&moto.url]);
    assert!(seeded, "{text}");
    moto
}

fn settings(url: &str) -> Value {
    json!({"endpoint": url, "region": "eu-west-1", "access_key_id": "AKIDEXAMPLE", "secret_access_key": "env:AWS_TEST_SECRET", "loopback": true})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_parameters_and_kms_of_a_real_double_of_aws() {
    let moto = seeded();
    let around = around(&[("AWS_TEST_SECRET", &logs::plant("aws-secret-key"))], &Arc::new(TestClock::default()));
    let declared = json!([
        {"kind": "awssecretsmanager", "settings": settings(&moto.url)},
        {"kind": "awsssm", "name": "ssm", "config": settings(&moto.url)},
    ]);
    let stores = declare(declared, &around).unwrap();
    for (reference, expected) in [
        ("awssecretsmanager:prod/db#password", "p:1"),
        ("awssecretsmanager:prod/db", "{\"password\": \"p:1\"}"),
        ("awssecretsmanager:binary", "bytes"),
        ("ssm:/prod/db-password", "p2"),
        ("ssm:plain.name", "p3"),
    ] {
        assert_eq!(read(&stores, reference).await.unwrap(), expected, "{reference}");
    }
    for (reference, expected) in [
        ("awssecretsmanager:absent", "no such thing"),
        ("awssecretsmanager:prod/db#user", "no JSON object with a text `user`"),
        ("ssm:/absent", "no such thing"),
    ] {
        let error = read(&stores, reference).await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("p:1"), "{reference}: {error}");
    }
    let provider = ProviderSettings {
        provider: Some("awskms".to_owned()),
        store: Some("ssm".to_owned()),
        key: Some("alias/cairn".to_owned()),
        ..Default::default()
    };
    let provider = KeyProvider::of(&provider, &stores).unwrap().unwrap();
    let rng = TestRng::seeded(1);
    let master = crypto::aead::AeadKey::generate(&rng);
    let wrapped = provider.wrap(&master, &rng).await.unwrap();
    assert_eq!(provider.unwrap(&wrapped).await.unwrap().expose(), master.expose());
    let mut moved = wrapped.clone();
    moved.context.push('x');
    assert!(provider.unwrap(&moved).await.is_err(), "the encryption context is bound in");
    let mut changed = wrapped;
    changed.ciphertext = changed.ciphertext.replacen(|c: char| c.is_ascii_lowercase(), "A", 1);
    assert!(provider.unwrap(&changed).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_identity_becomes_temporary_keys_that_sign() {
    let moto = seeded();
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "web.identity.token\n").unwrap();
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cairn"),
        ("AWS_REGION", "eu-west-1"),
    ];
    let declared = json!([{"kind": "awsssm", "settings": {"endpoint": moto.url, "loopback": true}}]);
    let stores = declare(declared, &around(&variables, &Arc::new(TestClock::default()))).unwrap();
    assert_eq!(read(&stores, "awsssm:plain.name").await.unwrap(), "p3");
}

fn parameter() -> (u16, String) {
    (200, json!({"Parameter": {"Value": "v"}}).to_string())
}

#[tokio::test]
async fn an_instances_role_is_asked_by_session_token_and_asked_again_before_its_keys_end() {
    let (secret, token) = (logs::plant("imds-secret"), logs::plant("imds-token"));
    let answer = (secret.clone(), token.clone());
    let double = Double::start(move |asked| {
        let with_token = asked.header("x-aws-ec2-metadata-token") == "session";
        match (asked.method.as_str(), asked.path.as_str()) {
            ("PUT", "/latest/api/token") if asked.header("x-aws-ec2-metadata-token-ttl-seconds") == "21600" => {
                (200, "session".to_owned())
            }
            ("GET", "/latest/meta-data/iam/security-credentials/") if with_token => (200, "cairn-role".to_owned()),
            ("GET", "/latest/meta-data/iam/security-credentials/cairn-role") if with_token => {
                let keys = json!({"Code": "Success", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": answer.0, "Token": answer.1,
                    "Expiration": "2026-11-22T04:00:00Z"});
                (200, keys.to_string())
            }
            ("POST", "/") if asked.header("x-amz-security-token") == answer.1
                && asked.header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/") => parameter(),
            _ => (401, String::new()),
        }
    })
    .await;
    let clock = Arc::new(TestClock::at("2026-11-22T03:00:00Z".parse().unwrap()));
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", double.url.as_str()), ("AWS_REGION", "eu-west-1")];
    let declared = json!([{"kind": "awsssm", "settings": {"endpoint": double.url, "loopback": true}}]);
    let stores = declare(declared, &around(&variables, &clock)).unwrap();
    read(&stores, "awsssm:x").await.unwrap();
    assert_eq!(double.calls().len(), 4);
    clock.advance(Duration::from_mins(54));
    read(&stores, "awsssm:x").await.unwrap();
    assert_eq!(double.calls(), ["POST /"], "the keys are still good");
    clock.advance(Duration::from_mins(2));
    read(&stores, "awsssm:x").await.unwrap();
    assert_eq!(double.calls().len(), 4, "five minutes before they end they are replaced");
}

#[tokio::test]
async fn a_containers_endpoint_is_asked_with_its_token_and_a_refused_key_is_replaced_once() {
    let double = Double::start(|asked| match (asked.path.as_str(), asked.header("authorization")) {
        ("/v2/credentials", "Basic container") => (
            200,
            json!({"AccessKeyId": "ASIA1", "SecretAccessKey": "s", "Token": "t", "Expiration": "2036-11-22T04:00:00Z"})
                .to_string(),
        ),
        ("/v2/credentials", _) => (403, String::new()),
        _ => (400, json!({"__type": "com.amazon#ExpiredTokenException"}).to_string()),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "Basic container").unwrap();
    let url = format!("{}/v2/credentials", double.url);
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_REGION", "eu-west-1"),
    ];
    let declared = json!([{"kind": "awsssm", "settings": {"endpoint": double.url, "loopback": true}}]);
    let stores = declare(declared, &around(&variables, &Arc::new(TestClock::default()))).unwrap();
    let error = read(&stores, "awsssm:x").await.unwrap_err().to_string();
    assert!(error.contains("ExpiredTokenException"), "{error}");
    assert_eq!(double.calls(), ["GET /v2/credentials", "POST /", "GET /v2/credentials", "POST /"]);
}

#[tokio::test]
async fn keys_come_from_the_environment_or_a_profile_and_are_missed_in_words() {
    let double = Double::start(|asked| {
        let known = ["AKIAENV", "AKIAPROFILE", "AKIAOTHER"];
        let signed = asked.header("authorization");
        match known.iter().find(|id| signed.contains(&format!("Credential={id}/"))) {
            Some(id) => (200, json!({"Parameter": {"Value": id}}).to_string()),
            None => (400, "{}".to_owned()),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    let text = "[default]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = s\n[other]\naws_access_key_id=AKIAOTHER\naws_secret_access_key=s\n[half]\naws_access_key_id=x\n";
    fs::write(&file, text).unwrap();
    let clock = Arc::new(TestClock::default());
    let file = file.to_str().unwrap();
    let stores = |variables: &[(&str, &str)], profile: Option<&str>| {
        let mut settings = json!({"endpoint": double.url, "region": "eu-west-1", "loopback": true});
        if let Some(profile) = profile {
            settings["profile"] = json!(profile);
        }
        declare(json!([{"kind": "awsssm", "settings": settings}]), &around(variables, &clock))
    };
    let shared = ("AWS_SHARED_CREDENTIALS_FILE", file);
    let environment = [shared, ("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    assert_eq!(read(&stores(&environment, None).unwrap(), "awsssm:x").await.unwrap(), "AKIAENV");
    assert_eq!(read(&stores(&[shared], None).unwrap(), "awsssm:x").await.unwrap(), "AKIAPROFILE");
    assert_eq!(read(&stores(&environment, Some("other")).unwrap(), "awsssm:x").await.unwrap(), "AKIAOTHER");
    let error = read(&stores(&[shared], Some("half")).unwrap(), "awsssm:x").await.unwrap_err().to_string();
    assert!(error.contains("the profile `half`"), "{error}");
    let error = stores(&[("AWS_EC2_METADATA_DISABLED", "true")], None).unwrap_err().to_string();
    assert!(error.contains("finds no keys for AWS"), "{error}");
}
