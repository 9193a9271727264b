//! Lists, in pages as a client asks for them.

use http::Response;
use serde_json::{Value, json};

use super::{Body, document};

/// These items from where `continue` says, as far as `limit` does.
pub(super) fn list(items: &[&Value], query: &[(String, String)]) -> Response<Body> {
    let number = |name: &str| query.iter().find(|(known, _)| known == name)?.1.parse::<usize>().ok();
    let from = number("continue").unwrap_or_default().min(items.len());
    let limit = number("limit").filter(|limit| *limit > 0).unwrap_or(items.len());
    let to = items.len().min(from.saturating_add(limit));
    let mut metadata = json!({"resourceVersion": "2"});
    if to < items.len() {
        metadata["continue"] = json!(to.to_string());
    }
    document(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": &items[from..to]}))
}
