//! The OpenAPI document: committed, complete, and the list that the other tests are made from.

use serde_json::Value;

/// An operation of the document.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) method: String,
    /// The path with its parameters in braces.
    pub(crate) path: String,
    pub(crate) query: Vec<String>,
    pub(crate) document: Value,
}

fn document() -> Value {
    serde_json::to_value(api::openapi()).unwrap()
}

/// Every operation, by name.
pub(crate) fn operations() -> Vec<Operation> {
    let document = document();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let query = parameters.iter().filter(|parameter| parameter["in"] == "query");
            found.push(Operation {
                id: operation["operationId"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{method} {path} has no operationId"))
                    .to_owned(),
                method: method.to_uppercase(),
                // A tile is no thing of its own: one that every log has stands for all.
                path: path.replace("{level}/{place}", "0/000.p/1"),
                query: query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect(),
                document: operation.clone(),
            });
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

/// The names in braces.
pub(crate) fn parameters(path: &str) -> Vec<&str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect()
}

#[test]
fn the_openapi_document_is_as_committed() {
    testkit::golden::check("../../openapi/v1.json", &format!("{:#}\n", document()));
}

#[test]
fn the_openapi_document_names_every_operation_once_and_tells_its_errors() {
    let operations = operations();
    assert!(operations.len() > 40, "{}", operations.len());
    for pair in operations.windows(2) {
        assert_ne!(pair[0].id, pair[1].id);
    }
    let document = document();
    assert!(document["components"]["schemas"]["Problem"]["properties"]["request_id"].is_object());
    for operation in operations {
        let responses = operation.document["responses"].as_object().unwrap();
        let reference = &responses["default"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(reference, "#/components/schemas/Problem", "{}", operation.id);
        // A sign-in is done, or needs its second step. What sends a browser on has a 303 instead, the relay channel a 101.
        let successes = if operation.id == "session_create" { 2 } else { 1 };
        let good =
            responses.keys().filter(|status| status.starts_with('2') || ["101", "303"].contains(&status.as_str()));
        assert_eq!(good.count(), successes, "{}", operation.id);
        let described = operation.document["parameters"].as_array().cloned().unwrap_or_default();
        let described: Vec<_> = described
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .map(|p| p["name"].as_str().unwrap())
            .filter(|name| !["level", "place"].contains(name))
            .collect();
        assert_eq!(described, parameters(&operation.path), "{}", operation.id);
    }
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][reference].is_object(), "the schema {reference} is missing");
    }
}
