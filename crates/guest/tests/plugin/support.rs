//! A plugin's folder, a service to ask, and a sink that keeps what it is given.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::extract::{Path as UrlPath, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use domain::{Coverage, CredentialId, Digest, Page, Result, ScopeId, Secret};
use guest::{Folder, GuestPlugin, Surroundings};
use plugins::{Ending, Plugin as _, Sink};
use serde_json::{Map, Value, json};
use testkit::{TestClock, TestRng, python_plugin};
use transport::{AwsReach, Guard, HostReach, HttpClient, HttpConfig, HttpCredential, HttpReach, Reach, Recorder};

pub(crate) fn surroundings() -> Surroundings {
    Surroundings { launcher: env!("CARGO_BIN_EXE_plugin-launch").into(), runtimes: python_plugin::runtimes() }
}

/// A plugin's folder, installed in a folder of the test.
pub(crate) fn installed(source: &Path) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugin");
    python_plugin::install(source, &path);
    (dir, path)
}

pub(crate) fn settings(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// What a sink was given.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) pages: Vec<Page>,
    pub(crate) verdicts: BTreeMap<String, Coverage>,
    pub(crate) progress: Vec<String>,
    /// What it offers to begin from, by the plugin's own name of the scope.
    pub(crate) offers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) endings: BTreeMap<String, Ending>,
}

impl Kept {
    /// The verdict about a scope, by the plugin's own name of it.
    pub(crate) fn verdict(&self, own: &str) -> &Coverage {
        let found = self.verdicts.iter().find(|(scope, _)| scope.ends_with(&format!(":{own}")));
        found.unwrap_or_else(|| panic!("no verdict about {own} in {self:?}")).1
    }

    /// The properties of the first node.
    pub(crate) fn seen(&self) -> Value {
        Value::Object(self.pages[0].nodes[0].properties.clone())
    }
}

#[async_trait]
impl Sink for Kept {
    async fn page(&mut self, page: Page) -> Result<()> {
        self.pages.push(page);
        Ok(())
    }

    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        self.verdicts.insert(scope.to_string(), coverage);
        Ok(())
    }

    async fn checkpoints(&mut self, prefix: &str, _basis: Digest) -> Result<Vec<(ScopeId, Vec<u8>)>> {
        Ok(self.offers.iter().map(|(own, bytes)| (format!("{prefix}{own}").parse().unwrap(), bytes.clone())).collect())
    }

    async fn scope_ended(&mut self, scope: ScopeId, ending: Ending) -> Result<()> {
        self.verdicts.insert(scope.to_string(), ending.coverage.clone());
        self.endings.insert(scope.to_string(), ending);
        Ok(())
    }

    fn progress(&mut self, _done: u64, _total: u64, what: &str) {
        self.progress.push(what.to_owned());
    }
}

/// What a task reaches: HTTPS services, with or without a credential.
pub(crate) struct TestReach {
    http: HttpClient,
    credential: Option<CredentialId>,
    cancelled: AtomicBool,
}

impl TestReach {
    pub(crate) fn new(credential: Option<Value>) -> Self {
        let (clock, rng) = (Arc::new(TestClock::default()), Arc::new(TestRng::default()));
        let id = credential.as_ref().map(|_| CredentialId::generate(&*clock, &*rng));
        let credential = credential
            .map(|fields| HttpCredential::from_secret_json(&Secret::new(fields.to_string().into_bytes())).unwrap());
        let config = HttpConfig { guard: Guard::loopback(true), ..HttpConfig::default() };
        let http = HttpClient::new(credential, config, Arc::new(Recorder::default()), clock, rng).unwrap();
        Self { http, credential: id, cancelled: AtomicBool::new(false) }
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Reach for TestReach {
    fn aws(&self) -> Option<&dyn AwsReach> {
        None
    }

    fn host(&self) -> Option<&dyn HostReach> {
        None
    }

    fn http(&self) -> Option<&dyn HttpReach> {
        Some(&self.http)
    }

    fn credential(&self) -> Option<CredentialId> {
        self.credential
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Plans and runs a plugin once, as the runner does.
pub(crate) async fn run(path: &Path, config: Map<String, Value>, reach: &TestReach) -> (Result<()>, Kept) {
    run_since(path, config, reach, Vec::new()).await
}

/// The same as on a kernel whose Landlock knows no scopes: what then still holds, system calls hold.
pub(crate) async fn run_on_older_kernel(
    path: &Path,
    config: Map<String, Value>,
    reach: &TestReach,
) -> (Result<()>, Kept) {
    let launcher = env!("CARGO_BIN_EXE_plugin-launch-older").into();
    run_in(Surroundings { launcher, ..surroundings() }, path, config, reach, Vec::new()).await
}

/// The same with something to begin from.
pub(crate) async fn run_since(
    path: &Path,
    config: Map<String, Value>,
    reach: &TestReach,
    offers: Vec<(&'static str, Vec<u8>)>,
) -> (Result<()>, Kept) {
    run_in(surroundings(), path, config, reach, offers).await
}

async fn run_in(
    surroundings: Surroundings,
    path: &Path,
    config: Map<String, Value>,
    reach: &TestReach,
    offers: Vec<(&'static str, Vec<u8>)>,
) -> (Result<()>, Kept) {
    let plugin = GuestPlugin::new(Folder::read(path).unwrap(), surroundings);
    let mut kept = Kept { offers, ..Kept::default() };
    let task = match plugin.plan(&config, reach).await {
        Ok(mut tasks) => tasks.remove(0),
        Err(error) => return (Err(error), kept),
    };
    let ended = plugin.run(&task, reach, &mut kept).await;
    (ended, kept)
}

/// What a registry was asked: path and `authorization`.
pub(crate) type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A container registry: the two lists of the OCI distribution API, with their pages.
pub(crate) async fn registry(authorization: Option<String>) -> (String, Asked) {
    let asked = Asked::default();
    let all: BTreeMap<String, Vec<String>> = (0..130)
        .map(|at| (format!("team/app-{at:03}"), (0..at % 4).map(|tag| format!("v{tag}")).collect()))
        .chain([("tools".to_owned(), (0..150).map(|tag| format!("t{tag:03}")).collect())])
        .collect();
    let all = Arc::new(all);
    let page = |items: Vec<String>, query: &BTreeMap<String, String>| {
        let n = query.get("n").and_then(|n| n.parse().ok()).unwrap_or(100);
        let last = query.get("last").cloned().unwrap_or_default();
        items.into_iter().filter(|item| *item > last).take(n).collect::<Vec<String>>()
    };
    let kept = Arc::clone(&asked);
    let allowed = move |path: &str, headers: &HeaderMap| {
        let sent = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        kept.lock().unwrap().push((path.to_owned(), sent.clone().unwrap_or_default()));
        authorization.is_none() || sent == authorization
    };
    let names = Arc::clone(&all);
    let may = allowed.clone();
    let catalog = async move |headers: HeaderMap, Query(query): Query<BTreeMap<String, String>>| {
        if !may("/v2/_catalog", &headers) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        Ok(Json(json!({"repositories": page(names.keys().cloned().collect(), &query)})))
    };
    let tags = async move |UrlPath(rest): UrlPath<String>,
                           headers: HeaderMap,
                           Query(query): Query<BTreeMap<String, String>>| {
        if !allowed(&format!("/v2/{rest}"), &headers) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let name = rest.strip_suffix("/tags/list").ok_or(StatusCode::NOT_FOUND)?;
        let tags = all.get(name).ok_or(StatusCode::NOT_FOUND)?;
        Ok(Json(json!({"name": name, "tags": page(tags.clone(), &query)})))
    };
    let router = Router::new()
        .route("/v2/_catalog", get(catalog))
        .route("/v2/{*rest}", get(tags))
        .route("/allowed", get(async || "yes"))
        .route("/denied", get(async || StatusCode::FORBIDDEN));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}
