//! What a rule needs to have been read. A property that no call or file was answered for is missing just as one that does not exist, and a
//! rule about the absence of something bad would pass: so a rule about a node that lacks what it needs is an error.
//!
//! **Not here:** properties of neighbours; a rule that goes there sees only what was read of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::cel::Program;
use crate::schema::{Reading, Schema};

/// Property of a node: the names of properties that the collector knows it could not read; `*` when it does not know which.
const UNREAD: &str = "unread";

/// What one expression needs of the judged node, by node type.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    by_type: BTreeMap<String, Vec<(String, Reading)>>,
    /// Every property that it reads and does not test for.
    names: BTreeSet<String>,
    all: bool,
}

impl Needs {
    /// The needs of an expression of a rule; `tested` are the properties that the rule tests by `has(props.name)`.
    pub(crate) fn new(schema: &Schema, node_types: &[String], program: &Program, tested: &BTreeSet<String>) -> Self {
        let reads = program.reads();
        let names: BTreeSet<String> = reads.names.difference(tested).cloned().collect();
        let wanted = |name: &str| !tested.contains(name) && (reads.all || names.contains(name));
        let needs = |node_type: &String| {
            let needs = schema.reading(node_type).filter(|(name, _)| wanted(name));
            (node_type.clone(), needs.map(|(name, reading)| (name.to_owned(), reading.clone())).collect())
        };
        let by_type = node_types.iter().map(needs).collect();
        Self { by_type, names, all: reads.all }
    }

    /// The properties that the schema knows a sign of reading for.
    pub(crate) fn flagged(&self, node_type: &str) -> impl Iterator<Item = &str> {
        self.by_type.get(node_type).into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// Why a node cannot be judged, if something that it needs was not read.
    pub(crate) fn lacking(&self, node_type: &str, properties: &Json) -> Option<String> {
        for (name, reading) in self.by_type.get(node_type).into_iter().flatten() {
            let value = properties.get(name);
            let (read, how) = match reading {
                Reading::Present => (value.is_some(), String::new()),
                Reading::Not(word) => (value.is_some_and(|value| value != word.as_str()), String::new()),
                Reading::Section(section) => {
                    let state = properties.get("sections").and_then(|all| all.get(section)).and_then(Json::as_str);
                    let how = state.map(|state| format!(": its section is {state}")).unwrap_or_default();
                    (matches!(state, Some("complete" | "absent")), how)
                }
            };
            if !read {
                return Some(format!("`{name}` was not read{how}"));
            }
        }
        let unread = properties.get(UNREAD).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for name in unread {
            if self.names.contains(name) || self.all {
                return Some(format!("`{name}` was not read"));
            }
            if name == "*" && !self.names.is_empty() {
                return Some("the node was not read completely".to_owned());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cel::Scope;

    fn schema() -> Schema {
        let text = r#"{"types": {"t": {"a": null, "b": null, "c": null, "d": null, "sections": null, "unread": null}},
            "reading": {"t": {"a": "present", "b": {"not": "unknown"}, "c": {"section": "s"}}}}"#;
        Schema::parse(&[("x.json", text)]).unwrap()
    }

    fn needs(text: &str) -> Needs {
        let (schema, types) = (schema(), ["t".to_owned()]);
        let program = Program::compile(text, Scope { schema: Some(&schema), node_types: &types }).unwrap();
        Needs::new(&schema, &types, &program, &program.reads().tested)
    }

    #[test]
    fn every_way_to_a_property_counts_but_an_explicit_test() {
        for (text, expect) in [
            ("default(props.a, 0) == 0", &["a"][..]),
            ("props['a'] == 0 && node.props.b == 1", &["a", "b"]),
            ("default(props.a.x.y, []).exists(p, p == props.c)", &["a", "c"]),
            ("!has(props.a) || props.a == 0", &[]),
            ("!has(props.a.x)", &["a"]),
            ("props[node.name] == 0", &["a", "b", "c"]),
            ("size(props) == 0", &["a", "b", "c"]),
            ("[node].all(n, n.props.a == 0)", &["a", "b", "c"]),
            ("node.name == '' && size(node.neighbors('*', 'out', '*')) == 0 && props.d", &[]),
        ] {
            assert_eq!(needs(text).flagged("t").collect::<Vec<_>>(), expect, "{text}");
        }
    }

    #[test]
    fn each_sign_is_looked_at() {
        for (text, properties, expect) in [
            ("props.a == 0", json!({}), Some("`a` was not read")),
            ("props.a == 0", json!({ "a": null }), None),
            ("props.b == 0", json!({ "b": "unknown" }), Some("`b` was not read")),
            ("props.b == 0", json!({}), Some("`b` was not read")),
            ("props.b == 0", json!({ "b": "set" }), None),
            ("props.c == 0", json!({ "c": 1 }), Some("`c` was not read")),
            (
                "props.c == 0",
                json!({ "sections": { "s": "partial" } }),
                Some("`c` was not read: its section is partial"),
            ),
            ("props.c == 0", json!({ "sections": { "s": "absent" } }), None),
            ("props.d == 0", json!({}), None),
            ("props.d == 0", json!({ "unread": ["d"] }), Some("`d` was not read")),
            ("props.d == 0", json!({ "unread": ["e"] }), None),
            ("props.d == 0", json!({ "unread": ["*"] }), Some("the node was not read completely")),
            ("has(props.d)", json!({ "unread": ["d"] }), None),
            ("node.name == ''", json!({ "unread": ["*"] }), None),
        ] {
            assert_eq!(needs(text).lacking("t", &properties).as_deref(), expect, "{text} {properties}");
        }
    }
}
