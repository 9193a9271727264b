//! An API server double: TLS with an authority of its own, a service account that may impersonate, a few resources, and everything that `kubectl`
//! does with a pod. It writes down each request exactly as it came.
//!
//! It runs what `exec` asks for as a process of this machine, so that `kubectl cp` moves real files with a real `tar`.
//!
//! Who may do what, as a real one decides it for whom it hears: `system:masters` and the service account itself everything, who is bound to `edit`
//! everything but secrets, who is bound to `view` to read what is no secret. Both are bound to `cairn-role:ROLE` in the whole cluster until a test
//! says otherwise ([`KubeApi::unbind`]). Discovery is for everybody with a token.

#![allow(clippy::cast_possible_truncation, reason = "frames of the tests are short")]

mod certificate;
mod list;
mod rbac;
mod spdy;
mod websocket;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{broadcast, mpsc};

use self::certificate::acceptor;
pub use self::certificate::{Authority, certificates};
use self::list::list;
use self::rbac::{RBAC, bindings, may, namespace, review, subjects, whoami};

/// One request, as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Every header, in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The status that it was answered with.
    pub status: u16,
    /// Which connection it came over, counted from 1.
    pub connection: usize,
    /// Whether HTTP/2 was spoken there.
    pub is_http2: bool,
}

impl Seen {
    /// The values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    tokens: Mutex<Vec<String>>,
    objects: Mutex<BTreeMap<String, Value>>,
    refused: Mutex<Option<String>>,
    changes: broadcast::Sender<(String, Value)>,
    /// Answers that are open: watches, logs, upgraded connections.
    open: Arc<()>,
}

/// A running double. It ends when this is dropped.
pub struct KubeApi {
    /// Its port on 127.0.0.1; its certificate is for `localhost` and that address.
    pub port: u16,
    /// Its authority, PEM.
    pub authority: String,
    /// The same, to make other certificates with.
    pub issuer: Authority,
    shared: Arc<Shared>,
    protocols: Vec<Vec<u8>>,
    accepts: Arc<Mutex<tokio_rustls::TlsAcceptor>>,
    _runtime: tokio::runtime::Runtime,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KubeApi {
    /// Starts one with the namespaces `a` and `b`, a pod `web` and a secret `key` in each.
    pub fn start(token: &str) -> Self {
        Self::speaking(token, &["h2", "http/1.1"])
    }

    /// One that speaks these protocols.
    pub fn speaking(token: &str, protocols: &[&str]) -> Self {
        let issuer = Authority::generate();
        let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let (certificate, key) = issuer.issue(&["localhost", "127.0.0.1"]);
        let accepts = Arc::new(Mutex::new(acceptor(&certificate, &key, &protocols)));
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            tokens: Mutex::new(vec![token.to_owned()]),
            objects: Mutex::default(),
            refused: Mutex::default(),
            changes: broadcast::channel(256).0,
            open: Arc::default(),
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let (serving, accepting) = (Arc::clone(&shared), Arc::clone(&accepts));
        runtime.spawn(async move {
            let mut connection = 0;
            while let Ok((socket, _)) = listener.accept().await {
                connection += 1;
                let (acceptor, shared) = (lock(&accepting).clone(), Arc::clone(&serving));
                tokio::spawn(async move {
                    let _ = socket.set_nodelay(true);
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service =
                        hyper::service::service_fn(move |request| answer(Arc::clone(&shared), connection, request));
                    let stream = TokioIo::new(stream);
                    if is_http2 {
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = builder.serve_connection(stream, service).await;
                    } else {
                        let builder = hyper::server::conn::http1::Builder::new();
                        let _ = builder.serve_connection(stream, service).with_upgrades().await;
                    }
                });
            }
        });
        let authority = issuer.pem();
        let api = Self { port, authority, issuer, shared, protocols, accepts, _runtime: runtime };
        for role in ["view", "edit"] {
            let role_ref = json!({"kind": "ClusterRole", "name": role});
            let subjects = json!([{"kind": "Group", "name": format!("cairn-role:{role}")}]);
            api.put(
                &format!("{RBAC}/clusterrolebindings/by-hand:{role}"),
                json!({"kind": "ClusterRoleBinding", "roleRef": role_ref, "subjects": subjects}),
            );
        }
        for namespace in ["a", "b"] {
            api.put(&format!("/api/v1/namespaces/{namespace}"), json!({"kind": "Namespace"}));
            let status = json!({"phase": "Running", "containerStatuses": [{"name": "c", "ready": true, "state": {"running": {}}}]});
            let pod = json!({"kind": "Pod", "spec": {"containers": [{"name": "c", "image": "i", "stdin": true}]}, "status": status});
            api.put(&format!("/api/v1/namespaces/{namespace}/pods/web"), pod);
            api.put(
                &format!("/api/v1/namespaces/{namespace}/secrets/key"),
                json!({"kind": "Secret", "data": {"k": "cGxhbnRlZA=="}}),
            );
        }
        api
    }

    /// Its address, `localhost:PORT`.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Shows this certificate from now on, with this key.
    pub fn set_certificate(&self, (certificate, key): (String, String)) {
        *lock(&self.accepts) = acceptor(&certificate, &key, &self.protocols);
    }

    /// Puts an object at its path; who watches is told.
    pub fn put(&self, path: &str, object: Value) {
        put(&self.shared, path, object);
    }

    /// Which tokens it takes from now on.
    pub fn set_tokens(&self, tokens: &[&str]) {
        *lock(&self.shared.tokens) = tokens.iter().map(|token| (*token).to_owned()).collect();
    }

    /// The path that nobody may see from now on, if there is one.
    pub fn set_refused(&self, path: Option<&str>) {
        *lock(&self.shared.refused) = path.map(str::to_owned);
    }

    /// Takes away what is bound in the whole cluster from the beginning.
    pub fn unbind(&self) {
        lock(&self.shared.objects).retain(|path, _| !path.contains("/clusterrolebindings/"));
    }

    /// The paths of all bindings, with their groups.
    pub fn bindings(&self) -> BTreeMap<String, Vec<String>> {
        let all = lock(&self.shared.objects);
        let bindings = all.iter().filter(|(path, _)| path.contains("rolebindings/"));
        bindings.map(|(path, binding)| (path[RBAC.len() + 1..].to_owned(), subjects(binding))).collect()
    }

    /// Everything that came, in order.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many answers go on at this moment: watches, followed logs, upgraded connections.
    pub fn open(&self) -> usize {
        Arc::strong_count(&self.shared.open) - 1
    }
}

fn put(shared: &Shared, path: &str, mut object: Value) {
    let parts: Vec<&str> = path.split('/').collect();
    if !path.starts_with(RBAC) {
        object["apiVersion"] = json!("v1");
    }
    object["metadata"]["name"] = json!(parts[parts.len() - 1]);
    object["metadata"]["resourceVersion"] = json!("2");
    if parts.len() > 5 && !namespace(path).is_empty() {
        object["metadata"]["namespace"] = json!(namespace(path));
    }
    let known = lock(&shared.objects).insert(path.to_owned(), object.clone()).is_some();
    let event = json!({"type": if known { "MODIFIED" } else { "ADDED" }, "object": object});
    let _ = shared.changes.send((path.to_owned(), event));
}

/// A body that is whole, or goes on.
enum Body {
    Whole(Option<Bytes>),
    Going { receiver: mpsc::Receiver<Bytes>, _open: Arc<()> },
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Going { receiver, .. } => {
                receiver.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }
}

fn document(status: u16, document: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Some(document.to_string().into())));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    let (kind, status) = ("Status", "Failure");
    document(
        code,
        &json!({"kind": kind, "apiVersion": "v1", "metadata": {}, "status": status, "message": message, "reason": reason, "code": code}),
    )
}

async fn answer(
    shared: Arc<Shared>,
    connection: usize,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let headers = request.headers().iter();
    let headers = headers
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let mut seen = Seen {
        method: request.method().to_string(),
        target: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers,
        body: Vec::new(),
        status: 0,
        connection,
        is_http2: request.version() == http::Version::HTTP_2,
    };
    let is_upgrade = request.headers().contains_key(header::UPGRADE);
    if !is_upgrade && let Ok(body) = request.body_mut().collect().await {
        seen.body = body.to_bytes().to_vec();
    }
    let response = route(&shared, request, &seen.body);
    seen.status = response.status().as_u16();
    lock(&shared.seen).push(seen);
    Ok(response)
}

/// The answer to who may not, or nothing.
fn refuse(shared: &Shared, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let texts = |name: &str| {
        headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect::<Vec<_>>()
    };
    let bearers = texts("authorization");
    let token = bearers.first().and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    if !lock(&shared.tokens).contains(&token) {
        return Some(failure(401, "Unauthorized", "Unauthorized"));
    }
    if lock(&shared.refused).as_deref() == Some(path) {
        return Some(failure(403, "Forbidden", "nobody may see this"));
    }
    let (users, groups) = (texts("impersonate-user"), texts("impersonate-group"));
    let Some(user) = users.first() else {
        let orphan = !groups.is_empty() || headers.keys().any(|name| name.as_str().starts_with("impersonate-"));
        return orphan.then(|| failure(500, "InternalError", "requested groups without impersonating a user"));
    };
    let is_discovery = !path.contains("/namespaces")
        && path.split('/').count() < 5
        && !path.ends_with("/pods")
        && !path.ends_with("/secrets");
    let reads = matches!(*method, Method::GET | Method::HEAD)
        && !["/exec", "/attach", "/portforward"].iter().any(|end| path.ends_with(end));
    let may = is_discovery
        || path.ends_with("reviews")
        || may(shared, &groups, namespace(path), reads, path.contains("/secrets"));
    (!may).then(|| failure(403, "Forbidden", &format!("User \"{user}\" cannot do this: RBAC of the cluster")))
}

fn query(target: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let (mut out, mut bytes) = (Vec::new(), text.bytes());
        while let Some(byte) = bytes.next() {
            out.push(match byte {
                b'%' => {
                    let mut digit =
                        || char::from(bytes.next().expect("two digits")).to_digit(16).expect("a digit") as u8;
                    digit() * 16 + digit()
                }
                b'+' => b' ',
                byte => byte,
            });
        }
        String::from_utf8(out).expect("UTF-8")
    };
    let pairs = target.split_once('?').map_or("", |(_, query)| query).split('&');
    pairs.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decode(name), decode(value))).collect()
}

fn route(shared: &Arc<Shared>, request: Request<Incoming>, body: &[u8]) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if let Some(refused) = refuse(shared, &method, &path, request.headers()) {
        return refused;
    }
    let query = query(&request.uri().to_string());
    let is = |name: &str| query.iter().any(|(known, value)| known == name && (value == "true" || value == "1"));
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["version"] => document(200, &json!({"major": "1", "minor": "32", "gitVersion": "v1.32.0"})),
        ["api"] => document(200, &json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => document(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
        ["api", "v1"] => document(200, &resources()),
        ["api", "v1", "namespaces", _, "pods", _, "log"] => log(shared, is("follow")),
        ["api", "v1", "namespaces", _, "pods", _, what @ ("exec" | "attach" | "portforward")] => {
            upgrade(shared, request, what, query)
        }
        ["api", "v1", .., "echo"] => document(200, &json!({"bytes": body.len()})),
        ["api", "v1", ..] => objects(shared, &method, &path, body, &query),
        ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"] => review(shared, request.headers(), body),
        ["apis", "authentication.k8s.io", "v1", "selfsubjectreviews"] => whoami(request.headers()),
        ["apis", "rbac.authorization.k8s.io", "v1", ..] => bindings(shared, &method, &path, body, &query),
        _ => failure(404, "NotFound", "there is no such resource"),
    }
}

fn resources() -> Value {
    let verbs = json!(["create", "delete", "get", "list", "patch", "update", "watch"]);
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs});
    json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
        resource("namespaces", "Namespace", false), resource("pods", "Pod", true), resource("configmaps", "ConfigMap", true),
        resource("secrets", "Secret", true),
    ]})
}

fn objects(
    shared: &Arc<Shared>,
    method: &Method,
    path: &str,
    body: &[u8],
    query: &[(String, String)],
) -> Response<Body> {
    let watch = query.iter().any(|(name, value)| name == "watch" && (value == "true" || value == "1"));
    let missing = || failure(404, "NotFound", &format!("`{path}` is not found"));
    let known = lock(&shared.objects).get(path).cloned();
    let of = |path: &str| document(200, &lock(&shared.objects)[path]);
    let sent = || serde_json::from_slice::<Value>(body).unwrap_or_default();
    match (method, known) {
        (&Method::GET, Some(object)) => document(200, &object),
        (&Method::GET, None) if watch => {
            let (sender, receiver) = mpsc::channel(16);
            let (mut changes, prefix) = (shared.changes.subscribe(), format!("{path}/"));
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        () = sender.closed() => return,
                        change = changes.recv() => {
                            let Ok((at, event)) = change else { return };
                            if at.starts_with(&prefix) && sender.send(format!("{event}\n").into()).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
            going(shared, receiver)
        }
        // A name, and no collection.
        (&Method::GET, None) if matches!(path.split('/').count(), 5 | 7..) => missing(),
        (&Method::GET, None) => {
            let (collection, all) = (path.rsplit('/').next().unwrap_or_default(), lock(&shared.objects));
            let items: Vec<&Value> = all
                .iter()
                .filter(|(at, _)| match path.strip_prefix("/api/v1/").filter(|rest| !rest.contains('/')) {
                    Some("namespaces") => at.matches('/').count() == 4,
                    Some(_) => at.contains(&format!("/{collection}/")),
                    None => at.starts_with(&format!("{path}/")),
                })
                .map(|(_, object)| object)
                .collect();
            list(&items, query)
        }
        (&Method::POST, _) => {
            let object = sent();
            let at = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
            put(shared, &at, object);
            let mut response = of(&at);
            *response.status_mut() = StatusCode::CREATED;
            response
        }
        (&Method::PUT | &Method::PATCH, Some(mut object)) => {
            merge(&mut object, sent());
            put(shared, path, object);
            of(path)
        }
        (&Method::DELETE, Some(object)) => {
            lock(&shared.objects).remove(path);
            let _ = shared.changes.send((path.to_owned(), json!({"type": "DELETED", "object": object})));
            document(200, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
        }
        _ => missing(),
    }
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

fn going(shared: &Shared, receiver: mpsc::Receiver<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Going { receiver, _open: Arc::clone(&shared.open) });
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// Two lines, and with `follow` a line for each change of an object.
fn log(shared: &Arc<Shared>, follow: bool) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(16);
    let mut changes = shared.changes.subscribe();
    tokio::spawn(async move {
        let _ = sender.send("line 1\nline 2\n".into()).await;
        if !follow {
            return;
        }
        loop {
            tokio::select! {
                () = sender.closed() => return,
                change = changes.recv() => {
                    let Ok((at, _)) = change else { return };
                    let _ = sender.send(format!("changed {at}\n").into()).await;
                }
            }
        }
    });
    going(shared, receiver)
}

/// Where output of an `exec` goes: 1 standard output, 2 standard error, 3 how it ended.
#[derive(Clone)]
enum Output {
    WebSocket(websocket::Writer<Write>),
    Spdy(spdy::Writer<Write>, Arc<HashMap<u8, u32>>),
}

type Write = tokio::io::WriteHalf<TokioIo<hyper::upgrade::Upgraded>>;

impl Output {
    async fn data(&self, channel: u8, bytes: &[u8]) {
        match self {
            Self::WebSocket(writer) => writer.data(channel, bytes).await,
            Self::Spdy(writer, streams) => {
                if let Some(stream) = streams.get(&channel) {
                    writer.data(*stream, bytes, false).await;
                }
            }
        }
    }

    async fn end(&self, status: &Value) {
        self.data(3, status.to_string().as_bytes()).await;
        match self {
            Self::WebSocket(writer) => writer.close().await,
            Self::Spdy(writer, streams) => {
                for stream in streams.values() {
                    writer.data(*stream, &[], true).await;
                }
                writer.close().await;
            }
        }
    }
}

fn upgrade(
    shared: &Arc<Shared>,
    mut request: Request<Incoming>,
    what: &str,
    query: Vec<(String, String)>,
) -> Response<Body> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let protocol = header("upgrade").to_ascii_lowercase();
    let mut response =
        Response::builder().status(101).header("connection", "Upgrade").header("upgrade", header("upgrade"));
    let is_websocket = protocol == "websocket";
    let is_tunnel = is_websocket && what == "portforward" && header("sec-websocket-protocol") == websocket::TUNNEL;
    if is_websocket && what != "portforward" && header("sec-websocket-protocol").contains("v5.channel.k8s.io") {
        response = response
            .header("sec-websocket-accept", websocket::accept(&header("sec-websocket-key")))
            .header("sec-websocket-protocol", "v5.channel.k8s.io");
    } else if is_tunnel {
        response = response
            .header("sec-websocket-accept", websocket::accept(&header("sec-websocket-key")))
            .header("sec-websocket-protocol", websocket::TUNNEL);
    } else if protocol == "spdy/3.1" {
        response = response.header(
            "x-stream-protocol-version",
            if what == "portforward" { "portforward.k8s.io" } else { "v4.channel.k8s.io" },
        );
    } else {
        return failure(400, "BadRequest", "unable to upgrade: use SPDY/3.1, or websocket with v5.channel.k8s.io");
    }
    let (upgrading, what, open) = (hyper::upgrade::on(&mut request), what.to_owned(), Arc::clone(&shared.open));
    tokio::spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        let run = async {
            if is_tunnel {
                let (near, far) = tokio::io::duplex(64 * 1_024);
                let (from, to) = tokio::io::split(far);
                let (outside, writer) = (writer, spdy::Writer::new(to));
                let (sender, opened) = mpsc::channel(64);
                let reading = spdy::read(from, writer.clone(), sender);
                let outer = websocket::carry(reader, websocket::Writer::new(outside), near);
                with(with(outer, reading), spdy::forward(writer, opened)).await;
            } else if is_websocket {
                let writer = websocket::Writer::new(writer);
                let (stdin, data) = mpsc::channel(64);
                let reading = websocket::read(reader, writer.clone(), stdin);
                let has_stdin = query.iter().any(|(name, value)| name == "stdin" && value == "true");
                with(reading, exec(&what, &query, Output::WebSocket(writer), has_stdin.then_some(data))).await;
            } else {
                let writer = spdy::Writer::new(writer);
                let (sender, opened) = mpsc::channel(64);
                let reading = spdy::read(reader, writer.clone(), sender);
                if what == "portforward" {
                    with(reading, spdy::forward(writer, opened)).await;
                } else {
                    with(reading, spdy_exec(&what, &query, writer, opened)).await;
                }
            }
        };
        run.await;
        drop(open);
    });
    response.body(Body::Whole(None)).expect("a response")
}

/// Works until either is over.
async fn with(reading: impl Future<Output = ()>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = reading => {}
        () = work => {}
    }
}

/// Collects the streams of an `exec`: one for errors, and one for each that the query asks for.
async fn spdy_exec(
    what: &str,
    query: &[(String, String)],
    writer: spdy::Writer<Write>,
    mut opened: mpsc::Receiver<spdy::Opened>,
) {
    let asked = ["stdin", "stdout", "stderr"]
        .iter()
        .filter(|name| query.iter().any(|(known, value)| known == *name && value == "true"));
    let (wanted, mut streams, mut stdin) = (1 + asked.count(), HashMap::new(), None);
    while streams.len() < wanted {
        let Some(stream) = opened.recv().await else { return };
        let channel = match stream.headers.get("streamtype").map(String::as_str) {
            Some("stdin") => 0,
            Some("stdout") => 1,
            Some("stderr") => 2,
            Some("error") => 3,
            _ => continue,
        };
        streams.insert(channel, stream.id);
        if channel == 0 {
            stdin = Some(stream.data);
        }
    }
    exec(what, query, Output::Spdy(writer, Arc::new(streams)), stdin).await;
}

/// Runs the command, or attached, gives back what comes.
async fn exec(what: &str, query: &[(String, String)], output: Output, stdin: Option<mpsc::Receiver<Vec<u8>>>) {
    let success = json!({"metadata": {}, "status": "Success"});
    if what == "attach" {
        output.data(1, b"attached\n").await;
        if let Some(mut stdin) = stdin {
            while let Some(bytes) = stdin.recv().await {
                output.data(1, &bytes).await;
            }
        }
        return output.end(&success).await;
    }
    let words: Vec<&str> =
        query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.as_str()).collect();
    let child = tokio::process::Command::new(words[0])
        .args(&words[1..])
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = child else {
        return output.end(&json!({"metadata": {}, "status": "Failure", "message": "no such command"})).await;
    };
    if let (Some(mut pipe), Some(mut stdin)) = (child.stdin.take(), stdin) {
        tokio::spawn(async move {
            while let Some(bytes) = stdin.recv().await {
                if pipe.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
    }
    let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    tokio::join!(pump(out, 1, &output), pump(err, 2, &output));
    let status = child.wait().await.expect("its status");
    let code = status.code().unwrap_or(137);
    if code == 0 {
        return output.end(&success).await;
    }
    let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
    let message = format!("command terminated with exit code {code}");
    output.end(&json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": message, "details": {"causes": causes}})).await;
}

async fn pump(mut from: impl tokio::io::AsyncRead + Unpin, channel: u8, output: &Output) {
    let mut bytes = vec![0; 16 * 1_024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        output.data(channel, &bytes[..length]).await;
    }
}
