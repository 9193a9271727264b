//! Who is bound to which role, and what it lets them do.

use std::sync::Arc;

use http::{HeaderMap, Method, Response};
use serde_json::{Value, json};

use super::list::list;
use super::{Body, Shared, document, failure, lock, put};

/// Where bindings are.
pub(super) const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// The names of a binding's groups.
pub(super) fn subjects(binding: &Value) -> Vec<String> {
    let subjects = binding["subjects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let groups = subjects.iter().filter(|subject| subject["kind"] == "Group");
    groups.filter_map(|subject| subject["name"].as_str().map(str::to_owned)).collect()
}

/// The namespace of a path, empty where there is none.
pub(super) fn namespace(path: &str) -> &str {
    path.split_once("/namespaces/").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
}

/// Whether one of these groups is bound to a role, there or in the whole cluster.
pub(super) fn holds(shared: &Shared, groups: &[String], role: &str, namespace: &str) -> bool {
    let (whole, there) =
        (format!("{RBAC}/clusterrolebindings/"), format!("{RBAC}/namespaces/{namespace}/rolebindings/"));
    let all = lock(&shared.objects);
    let bound = all.iter().filter(|(path, _)| path.starts_with(&whole) || path.starts_with(&there));
    // A namespace's own Role of that name is another one.
    let mut bound =
        bound.filter(|(_, binding)| binding["roleRef"]["name"] == role && binding["roleRef"]["kind"] != "Role");
    bound.any(|(_, binding)| subjects(binding).iter().any(|group| groups.contains(group)))
}

/// What the roles of these groups allow in a namespace.
pub(super) fn may(shared: &Shared, groups: &[String], namespace: &str, reads: bool, is_secret: bool) -> bool {
    groups.iter().any(|group| group == "system:masters")
        || (!is_secret && holds(shared, groups, "edit", namespace))
        || (!is_secret && reads && holds(shared, groups, "view", namespace))
}

fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// The answer to `kubectl auth whoami`.
pub(super) fn whoami(headers: &HeaderMap) -> Response<Body> {
    let mut groups = texts(headers, "impersonate-group");
    // Whoever is impersonated is somebody, says a real one.
    groups.push("system:authenticated".to_owned());
    let user = json!({"username": texts(headers, "impersonate-user").concat(), "groups": groups});
    let (version, kind) = ("authentication.k8s.io/v1", "SelfSubjectReview");
    document(201, &json!({"apiVersion": version, "kind": kind, "metadata": {}, "status": {"userInfo": user}}))
}

/// The answer to `kubectl auth can-i`.
pub(super) fn review(shared: &Shared, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    let mut reviewed: Value = serde_json::from_slice(body).unwrap_or_default();
    let groups = texts(headers, "impersonate-group");
    let asked = &reviewed["spec"]["resourceAttributes"];
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let reads = ["get", "list", "watch"].contains(&text("verb").as_str());
    let allowed = may(shared, &groups, &text("namespace"), reads, text("resource") == "secrets");
    reviewed["status"] = json!({"allowed": allowed});
    document(201, &reviewed)
}

/// Bindings: listed all of a kind, made where there is no other and its namespace exists, replaced and removed where they are.
pub(super) fn bindings(
    shared: &Arc<Shared>,
    method: &Method,
    path: &str,
    body: &[u8],
    query: &[(String, String)],
) -> Response<Body> {
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    let there = |path: &str| lock(&shared.objects).contains_key(path);
    match *method {
        Method::GET => {
            let collection = path.rsplit('/').next().unwrap_or_default();
            let all = lock(&shared.objects);
            let items: Vec<&Value> = all
                .iter()
                .filter(|(at, _)| at.contains(&format!("/{collection}/")))
                .map(|(_, object)| object)
                .collect();
            list(&items, query)
        }
        Method::POST => {
            let at = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap_or_default());
            let namespace = namespace(path);
            if !namespace.is_empty() && !there(&format!("/api/v1/namespaces/{namespace}")) {
                return failure(404, "NotFound", "there is no such namespace");
            }
            if there(&at) {
                return failure(409, "AlreadyExists", "it exists already");
            }
            put(shared, &at, sent.clone());
            document(201, &sent)
        }
        Method::PUT if there(path) => {
            put(shared, path, sent.clone());
            document(200, &sent)
        }
        Method::DELETE if there(path) => {
            lock(&shared.objects).remove(path);
            document(200, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
        }
        _ => failure(404, "NotFound", "there is no such binding"),
    }
}
