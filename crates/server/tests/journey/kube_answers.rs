//! What a real API server answers and no double does: it comes through as it is.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use testkit::logs;

use crate::kube_apiserver::{Real, config_map};
use crate::world::Engine;

/// A request and what came of it.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Everything but what is another one each time, and the headers that Cairn's server puts on all that it answers.
    fn lasting(&self) -> (u16, Vec<(String, String)>, Value) {
        const EACH_TIME: [&str; 4] = ["date", "audit-id", "transfer-encoding", "content-length"];
        const SERVERS: [&str; 8] = [
            "content-security-policy",
            "cross-origin-opener-policy",
            "cross-origin-resource-policy",
            "referrer-policy",
            "strict-transport-security",
            "x-content-type-options",
            "x-frame-options",
            "x-request-id",
        ];
        let is_lasting = |name: &str| !EACH_TIME.contains(&name) && !SERVERS.contains(&name);
        let headers = self.headers.iter().filter(|(name, _)| is_lasting(name.as_str()));
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let mut headers: Vec<_> = headers.collect();
        headers.sort();
        let mut body = serde_json::from_slice(&self.body).unwrap_or_else(|_| json!(self.body));
        if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
            // The whole store's version, which anybody's change raises.
            metadata.remove("resourceVersion");
            metadata.remove("continue");
        }
        (self.status, headers, body)
    }
}

/// Requests by hand, to the API server or through Cairn.
pub(crate) struct Caller {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    base: String,
    headers: HeaderMap,
}

impl Caller {
    fn new(authority: &[u8], base: String, headers: &[(&str, &str)]) -> Self {
        crypto::tls::install();
        let authority = reqwest::Certificate::from_pem(authority).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).http1_only().build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { client, runtime, base, headers: headers_of(headers) }
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> reqwest::RequestBuilder {
        let mut all = self.headers.clone();
        for (name, value) in &headers_of(headers) {
            all.append(name, value.clone());
        }
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.base)).headers(all);
        if body.is_empty() { request } else { request.body(body.to_owned()) }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.runtime.block_on(async {
            let answer = self.request(method, path, headers, body).send().await.unwrap();
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Answer { status, headers, body: answer.bytes().await.unwrap().to_vec() }
        })
    }

    /// The lines of a watch up to the first that is this.
    fn watch(&self, path: &str, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.runtime.block_on(async {
            let mut answer = self.request("GET", path, &[], "").send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let (mut kept, mut events) = (Vec::new(), Vec::new());
            while let Some(bytes) = answer.chunk().await.unwrap() {
                kept.extend_from_slice(&bytes);
                while let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = kept.drain(..=end).collect();
                    events.push(serde_json::from_slice(&line).unwrap());
                    if is(events.last().unwrap()) {
                        return events;
                    }
                }
            }
            panic!("the watch ended: {events:?}")
        })
    }
}

fn headers_of(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

/// The same person twice: through Cairn, and as Cairn lets the API server know them.
pub(crate) fn both(real: &Real) -> (Caller, Caller) {
    let world = &real.world;
    let shown = world.cairn(["destinations", "show", "prod", "-o", "json"]).ok().json();
    let base =
        format!("{}/api/v1/tenants/default/destinations/{}/proxy", real.server.url, shown["id"].as_str().unwrap());
    let credential = world.cairn_command(["tokens", "add", "prod", "--role", "edit"]).output().unwrap();
    let credential: Value = serde_json::from_slice(&credential.stdout).unwrap();
    let token = credential["status"]["token"].as_str().unwrap();
    logs::plant_as("destination token", token);
    let authority = std::fs::read(world.data().join("ca.crt")).unwrap();
    let through = Caller::new(&authority, base, &[("authorization", &format!("Bearer {token}"))]);
    let direct = [
        ("authorization", &*format!("Bearer {}", real.account)),
        ("impersonate-user", "cairn:admin@localhost"),
        ("impersonate-group", "cairn-role:edit@1"),
    ];
    let direct = Caller::new(real.api.authority.as_bytes(), format!("https://{}", real.api.address()), &direct);
    (through, direct)
}

#[test]
fn what_a_real_api_server_answers_passes_unchanged() {
    let Some(real) = Real::start(Engine::Sqlite) else { return };
    real.grant("edit", "prod.a", &["--namespace", "a"]);
    real.run(&["get", "configmaps"]);
    let (through, direct) = both(&real);
    let maps = "/api/v1/namespaces/a/configmaps";
    for at in 0..30 {
        let object = config_map(&format!("m-{at}"), &"x".repeat(8_000)).to_string();
        let made = through.ask("POST", maps, &[("content-type", "application/json")], &object);
        assert_eq!(made.status, 201);
    }
    // A pod that may not be evicted yet: 429, and when to come again.
    let (labels, account) = (json!({"app": "web"}), json!({"name": "default", "namespace": "a"}));
    let metadata = json!({"name": "web", "namespace": "a", "labels": labels});
    let pod = json!({"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]});
    let budget = json!({"minAvailable": 1, "selector": {"matchLabels": labels}});
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": budget}),
    ] {
        real.api.apply(&object.to_string());
    }
    let running = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    real.api.admin(&["patch", "pod", "web", "-n", "a", "--subresource=status", "-p", running]);
    let evict = "/api/v1/namespaces/a/pods/web/eviction";
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "web", "namespace": "a"}});
    let eviction = eviction.to_string();
    // Events, which the API server keeps nowhere but in its store.
    let events = "/api/v1/namespaces/a/events";
    for at in 0..3 {
        let (metadata, about) = (json!({"name": format!("e-{at}")}), json!({"namespace": "a"}));
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": about});
        let made = through.ask("POST", events, &[("content-type", "application/json")], &event.to_string());
        assert_eq!(made.status, 201);
    }
    let version = |answer: &Answer| answer.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mark = |answer: &Answer| answer.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let first = direct.ask("GET", &format!("{events}?limit=1"), &[], "");
    let (old, gone) = (version(&first), mark(&first));
    for at in 0..3 {
        real.apply(&[], "later.json", &config_map("later", &at.to_string()));
    }
    let first = direct.ask("GET", &format!("{maps}?limit=10"), &[], "");
    let (now, mark) = (version(&first), mark(&first));
    let page = format!("{maps}?limit=10&continue={mark}");
    let all = format!("{maps}?resourceVersion={now}&resourceVersionMatch=Exact");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let one = format!("{maps}/m-1");
    let (json, apply) = (("content-type", "application/json"), ("content-type", "application/apply-patch+yaml"));
    let bad = config_map("No!", "1").to_string();
    let strict = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"s"},"date":{}}"#;
    let compare = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let (ours, theirs) = (through.ask(method, path, headers, body), direct.ask(method, path, headers, body));
        assert_eq!(ours.lasting(), theirs.lasting(), "{method} {path} {headers:?}");
        ours
    };
    let answer = compare("GET", "/apis", &[("accept", aggregated)], "");
    assert_eq!(answer.json()["kind"], "APIGroupDiscoveryList");
    let etag = answer.header("etag");
    for (status, method, path, headers, body) in [
        (200, "GET", "/api", &[("accept", aggregated)][..], ""),
        (304, "GET", "/apis", &[("accept", aggregated), ("if-none-match", etag)], ""),
        (200, "GET", "/apis/apps/v1", &[], ""),
        (200, "GET", "/openapi/v3", &[], ""),
        (200, "GET", "/openapi/v3/apis/apps/v1", &[], ""),
        (200, "GET", "/version", &[], ""),
        (200, "GET", &one, &[], ""),
        (200, "GET", &one, &[("accept", table)], ""),
        (200, "GET", &one, &[("accept", "application/yaml")], ""),
        (200, "GET", &one, &[("accept", "application/vnd.kubernetes.protobuf")], ""),
        (200, "GET", &all, &[("accept-encoding", "gzip")], ""),
        (200, "GET", &page, &[], ""),
        (200, "GET", "/api/v1/namespaces/a/endpoints", &[], ""),
        (404, "GET", "/api/v1/namespaces/a/configmaps/none", &[], ""),
        (404, "GET", "/apis/none/v1", &[], ""),
        (403, "GET", "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles", &[], ""),
        (405, "POST", &one, &[json], "{}"),
        (406, "GET", &one, &[("accept", "text/html")], ""),
        (415, "PATCH", &one, &[("content-type", "text/plain")], "{}"),
        (400, "POST", maps, &[json], "{"),
        (400, "POST", &format!("{maps}?fieldValidation=Strict"), &[json], strict),
        (422, "POST", maps, &[json], &bad),
        (409, "PATCH", &format!("{one}?fieldManager=other"), &[apply], &config_map("m-1", "y").to_string()),
        (429, "POST", evict, &[json], &eviction),
    ] {
        let answer = compare(method, path, headers, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
        if path == all {
            assert_eq!(answer.header("content-encoding"), "gzip");
        }
        if path.ends_with("/endpoints") {
            assert!(answer.header("warning").contains("deprecated"), "{:?}", answer.headers);
        }
        if status == 429 {
            assert!(!answer.header("retry-after").is_empty(), "{:?}", answer.headers);
        }
        assert!(
            !answer.header("x-kubernetes-pf-flowschema-uid").is_empty()
                || status == 304
                || path.starts_with("/openapi"),
            "{path}: {:?}",
            answer.headers
        );
    }
    // What the store has forgotten: 410, also in the middle of a list, and within a watch.
    real.api.forget_before(&now);
    for query in [format!("resourceVersion={old}&resourceVersionMatch=Exact"), format!("limit=1&continue={gone}")] {
        let answer = compare("GET", &format!("{events}?{query}"), &[], "");
        assert_eq!((answer.status, &answer.json()["reason"]), (410, &"Expired".into()), "{query}");
    }
    let forgotten = through.watch(&format!("{events}?watch=1&resourceVersion={old}"), |event| event["type"] == "ERROR");
    assert_eq!(forgotten[0]["object"]["code"], 410, "{forgotten:?}");

    // A watch begins with everything, says when that was all, and goes on.
    let watch =
        format!("{maps}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let is_all = |event: &Value| event.pointer("/object/metadata/annotations/k8s.io~1initial-events-end").is_some();
    let (ours, theirs) = (through.watch(&watch, is_all), direct.watch(&watch, is_all));
    assert_eq!((ours.len(), ours.last().unwrap()["type"].as_str()), (theirs.len(), Some("BOOKMARK")));
    assert_eq!(ours[..ours.len() - 1], theirs[..theirs.len() - 1]);
    let from = version(&direct.ask("GET", &format!("{maps}?limit=1"), &[], ""));
    real.apply(&[], "later.json", &config_map("later", "at last"));
    let changed = through
        .watch(&format!("{maps}?watch=1&resourceVersion={from}"), |event| event["object"]["data"]["k"] == "at last");
    assert_eq!(changed.last().unwrap()["type"], "MODIFIED");
}
