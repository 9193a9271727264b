//! Calls against a service on this machine that keeps what it was sent.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> domain::Timestamp {
        domain::Timestamp::from_millis(1_700_000_000_000)
    }
}

impl Rng for Fixed {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0);
    }
}

/// A service that gives these answers, one per connection, and keeps what it was sent.
async fn service(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 8_192];
            let length = stream.read(&mut request).await.unwrap();
            kept.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (origin, seen)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn credential(json: serde_json::Value) -> Result<HttpCredential, CallError> {
    HttpCredential::from_secret_json(&Secret::new(json.to_string().into_bytes()))
}

fn client(credential: Option<HttpCredential>, recorder: &Arc<Recorder>) -> HttpClient {
    let config = HttpConfig { guard: Guard::loopback(true), backoff: Duration::ZERO, ..HttpConfig::default() };
    HttpClient::new(credential, config, Arc::clone(recorder), Arc::new(Fixed), Arc::new(Fixed)).unwrap()
}

fn get(origin: &str, path: &str) -> HttpCall {
    HttpCall {
        origin: origin.to_owned(),
        method: "GET".to_owned(),
        path: path.to_owned(),
        query: vec![("q".to_owned(), "a b&c".to_owned())],
        headers: Vec::new(),
        body: Vec::new(),
        authenticated: false,
    }
}

fn authenticated(origin: &str, path: &str) -> HttpCall {
    HttpCall { authenticated: true, ..get(origin, path) }
}

fn tag() -> CallTag {
    CallTag { scope: "x:y:z".parse().unwrap(), about: None, keep: true }
}

#[tokio::test]
async fn each_type_proves_itself_in_its_own_header_and_a_call_leaves_a_record_without_it() {
    let secret = "planted-1f0c3f6e0f5d";
    for (fields, expect) in [
        (serde_json::json!({"token": secret}), format!("authorization: Bearer {secret}")),
        (
            serde_json::json!({"username": "ann", "password": secret}),
            format!("authorization: Basic {}", STANDARD.encode(format!("ann:{secret}"))),
        ),
        (serde_json::json!({"header": "X-Api-Key", "value": secret}), format!("x-api-key: {secret}")),
    ] {
        let (origin, seen) = service(vec![answer("404 Not Found", "x-request-id: r1\r\n", "none")]).await;
        let mut fields = fields;
        fields["origin"] = serde_json::json!(origin);
        let recorder = Arc::new(Recorder::default());
        let client = client(Some(credential(fields).unwrap()), &recorder);
        assert!(!format!("{client:?}").contains(secret));
        let reply = client.call(authenticated(&origin, "/a/b"), &tag()).await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (404, &b"none"[..]));
        let sent = seen.lock().unwrap().remove(0);
        assert!(sent.starts_with("GET /a/b?q=a+b%26c HTTP/1.1\r\n") && sent.contains(&expect), "{sent}");
        let record = recorder.take(&tag().scope).remove(0);
        assert_eq!((record.request.system.as_str(), record.request.operation.as_str()), ("http", "GET /a/b"));
        assert_eq!(record.outcome.as_ref().unwrap().request_id.as_deref(), Some("r1"));
        assert_eq!(record.kept.as_deref(), Some(&b"none"[..]));
        assert!(!format!("{record:?}").contains(secret));
    }
}

#[tokio::test]
async fn attack_64_a_credential_goes_to_its_own_origin_only_and_follows_no_redirect() {
    let recorder = Arc::new(Recorder::default());
    let (theirs, seen) = service(vec![answer("200 OK", "", "")]).await;
    let (ours, ours_seen) = service(vec![answer("302 Found", &format!("location: {theirs}/stolen\r\n"), "")]).await;
    let stored = || credential(serde_json::json!({"origin": ours, "token": "planted-token-77"})).unwrap();
    let client = client(Some(stored()), &recorder);
    let error = client.call(authenticated(&theirs, "/"), &tag()).await.unwrap_err();
    assert!(matches!(&error, CallError::Credential(text) if text.contains(&ours)), "{error}");
    assert!(seen.lock().unwrap().is_empty());
    assert_eq!(client.call(authenticated(&ours, "/"), &tag()).await.unwrap().status, 302);
    assert_eq!((ours_seen.lock().unwrap().len(), seen.lock().unwrap().len()), (1, 0));
    // Refused calls leave a record too.
    assert_eq!(recorder.take(&tag().scope).len(), 2);
}

#[tokio::test]
async fn attack_59_a_reply_that_repeats_the_credential_is_withheld() {
    let secret = "planted-again-5a5a";
    let escaped = secret.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<Vec<_>>().concat();
    for echo in [
        answer("200 OK", "", &format!("you sent {secret}")),
        answer("200 OK", &format!("x: {secret}\r\n"), ""),
        answer("200 OK", &format!("{secret}: x\r\n"), ""),
        answer("200 OK", "", &format!("{{\"you sent\": \"{escaped}\"}}")),
        answer("302 Found", "location: /?token=planted%2Dagain%2d5a5a\r\n", ""),
    ] {
        let (origin, _) = service(vec![echo]).await;
        let recorder = Arc::new(Recorder::default());
        let stored = credential(serde_json::json!({"origin": origin, "token": secret})).unwrap();
        let error = client(Some(stored), &recorder).call(authenticated(&origin, "/"), &tag()).await.unwrap_err();
        assert!(error.to_string().contains("withheld") && !error.to_string().contains(secret), "{error}");
        assert!(recorder.take(&tag().scope).remove(0).kept.is_none());
    }
}

#[tokio::test]
async fn a_busy_service_is_asked_again_and_a_post_is_not() {
    let busy = || answer("503 Service Unavailable", "retry-after: 0\r\n", "");
    let (origin, seen) = service(vec![busy(), busy(), answer("200 OK", "", "up")]).await;
    let recorder = Arc::new(Recorder::default());
    let client = client(None, &recorder);
    assert_eq!(client.call(get(&origin, "/"), &tag()).await.unwrap().status, 200);
    assert_eq!((seen.lock().unwrap().len(), recorder.take(&tag().scope).remove(0).retries), (3, 2));
    let (origin, seen) = service(vec![busy(), answer("200 OK", "", "up")]).await;
    let post = HttpCall { method: "POST".to_owned(), body: b"{}".to_vec(), ..get(&origin, "/") };
    assert_eq!(client.call(post, &tag()).await.unwrap().status, 503);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_would_go_out_as_something_else_is_not_sent() {
    let recorder = Arc::new(Recorder::default());
    let client = client(None, &recorder);
    for path in [
        "",
        "a",
        "//evil",
        "/a/../b",
        "/a/./b",
        "/a/..;x/b",
        "/a%2fb",
        "/%2e%2e/b",
        "/a%2",
        "/a%zz",
        "/a%00",
        "/a%252f",
        "/a?b",
        "/a#b",
        "/a\\b",
        "/a b",
        "/a\u{e9}",
    ] {
        let error = client.call(get("http://127.0.0.1:9", path), &tag()).await.unwrap_err();
        assert!(matches!(error, CallError::Malformed(_)), "{path}: {error}");
    }
    for origin in ["http://127.0.0.1:9/", "HTTP://127.0.0.1:9", "http://u@127.0.0.1:9", "http://127.0.0.1:9@evil", ""] {
        let error = client.call(get(origin, "/"), &tag()).await.unwrap_err();
        assert!(matches!(error, CallError::Malformed(_)), "{origin}: {error}");
    }
    for header in ["Authorization", "host", "Cookie", "transfer-encoding", "a\nb"] {
        let call = HttpCall { headers: vec![(header.to_owned(), "x".to_owned())], ..get("http://127.0.0.1:9", "/") };
        assert!(matches!(client.call(call, &tag()).await, Err(CallError::Malformed(_))), "{header}");
    }
}

#[test]
fn a_stored_credential_that_cannot_work_says_why_and_quotes_nothing() {
    let origin = "https://a.example";
    for (json, expect) in [
        (serde_json::json!({"token": "planted"}), "origin"),
        (serde_json::json!({"origin": "https://a.example/path", "token": "planted"}), "host and port only"),
        (serde_json::json!({"origin": origin, "token": "plan ted"}), "blanks"),
        (serde_json::json!({"origin": origin, "token": "planted", "username": "a"}), "it needs"),
        (serde_json::json!({"origin": origin, "username": "a:b", "password": "planted"}), "no `:`"),
        (serde_json::json!({"origin": origin, "header": "host", "value": "planted"}), "`header`"),
        (serde_json::json!({"origin": origin, "token": "planted", "ca": "planted"}), "PEM"),
        (serde_json::json!({"origin": origin, "token": ["planted"]}), "wrong at line"),
    ] {
        let error = credential(json).unwrap_err().to_string();
        assert!(error.contains(expect) && !error.contains("plan"), "{error}");
    }
}
