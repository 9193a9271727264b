//! A small HTTP server that hands each request to the test, and the stores of a configuration.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use secrets::{Declaration, SecretError, Stores, Surroundings};
use serde_json::Value;
use testkit::TestClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A running double.
pub(crate) struct Double {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Double {
    /// Answers with what `answer` says: a status and a body.
    pub(crate) async fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    let asked = loop {
                        let mut part = [0; 4_096];
                        match stream.read(&mut part).await {
                            Ok(read) if read > 0 => bytes.extend_from_slice(&part[..read]),
                            _ => return,
                        }
                        if let Some(asked) = parse(&bytes) {
                            break asked;
                        }
                    };
                    let (status, body) = answer(&asked);
                    log.lock().unwrap().push(asked);
                    let reply = format!(
                        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = stream.write_all(reply.as_bytes()).await;
                });
            }
        });
        Self { url, asked }
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// `METHOD path` of what was asked since the last time.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }
}

fn parse(bytes: &[u8]) -> Option<Asked> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    (body.len() >= length).then(|| Asked {
        method: first.next().unwrap_or_default().to_owned(),
        path: first.next().unwrap_or_default().to_owned(),
        headers,
        body: body.to_owned(),
    })
}

/// What stores see: these variables and a clock that the test moves.
pub(crate) fn around(variables: &[(&str, &str)], clock: &Arc<TestClock>) -> Surroundings {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Surroundings { environment: Arc::new(move |name| variables.get(name).cloned()), clock: clock.clone() }
}

/// The stores of `[{kind, name?, settings}, …]`.
pub(crate) fn declare(declarations: Value, around: &Surroundings) -> Result<Stores, SecretError> {
    let declarations: Vec<Declaration> = serde_json::from_value(declarations).unwrap();
    Stores::declare(declarations, around)
}

/// A secret as text.
pub(crate) async fn read(stores: &Stores, reference: &str) -> Result<String, SecretError> {
    stores.resolve(reference).await.map(|secret| secret.expose_str().unwrap().to_owned())
}
