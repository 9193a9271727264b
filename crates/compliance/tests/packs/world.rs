//! The world of a fixture: the node that a rule judges, and what stands around it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use compliance::{Reading, Ruleset, Snapshot, SnapshotBuilder, Verdict, builtin, judge, load};
use domain::{Digest, Timestamp};
use serde_json::{Value, json};

pub(crate) const FIXTURES: [(&str, &str); 4] = [
    ("cis-aws-foundations", include_str!("../../../../packs/fixtures/cis-aws-foundations.yaml")),
    ("linux-host", include_str!("../../../../packs/fixtures/linux-host.yaml")),
    ("network-devices", include_str!("../../../../packs/fixtures/network-devices.yaml")),
    ("network", include_str!("../../../../packs/fixtures/network.yaml")),
];

pub(crate) fn ruleset() -> Ruleset {
    match load(&builtin::catalog().unwrap(), &builtin::PACKS, |_| Digest([0; 32])) {
        Ok(ruleset) => ruleset,
        Err(errors) => panic!("\n{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

pub(crate) fn now() -> Timestamp {
    "2026-11-22T03:00:00Z".parse().unwrap()
}

pub(crate) fn id(name: &str, node_type: &str) -> String {
    format!("test:r:{node_type}:{name}")
}

/// Every section of a machine, read to its end.
pub(crate) fn complete() -> Value {
    static COMPLETE: LazyLock<Value> = LazyLock::new(|| {
        let schema = builtin::catalog().unwrap().schema;
        let sections = schema.reading("host.machine").filter_map(|(_, reading)| match reading {
            Reading::Section(section) => Some((section.clone(), json!("complete"))),
            _ => None,
        });
        Value::Object(sections.collect())
    });
    COMPLETE.clone()
}

pub(crate) fn add(builder: &mut SnapshotBuilder, name: &str, node_type: &str, node: &Value) -> String {
    let id = id(name, node_type);
    let tags = node.get("tags").cloned().unwrap_or_default();
    let mut props = node.get("props").cloned().unwrap_or_else(|| json!({}));
    // A machine whose fixture says nothing of it was read completely.
    if node_type == "host.machine" && props.get("sections").is_none_or(Value::is_null) {
        props["sections"] = complete();
    }
    builder.node(&id, node_type, name, "r", "test", tags, props);
    id
}

/// The snapshot of a fixture and the id of the node that it is about.
pub(crate) fn world(case: &Value, default_type: &str) -> (Snapshot, String) {
    let mut builder = SnapshotBuilder::new();
    let node_type = case.get("type").and_then(Value::as_str).unwrap_or(default_type);
    let this = add(&mut builder, "this", node_type, case);
    let mut ids = BTreeMap::from([("this".to_owned(), this.clone())]);
    for (name, node) in case.get("nodes").and_then(Value::as_object).into_iter().flatten() {
        ids.insert(name.clone(), add(&mut builder, name, node["type"].as_str().unwrap(), node));
    }
    for edge in case.get("edges").and_then(Value::as_array).into_iter().flatten() {
        let part = |at: usize| edge[at].as_str().unwrap();
        builder.edge(&ids[part(0)], &ids[part(2)], part(1), json!({}));
    }
    (builder.build(), this)
}

pub(crate) fn verdict(ruleset: &Ruleset, rule: &compliance::Rule, snapshot: &Snapshot, node: &str) -> Verdict {
    let index = snapshot.find(node).unwrap();
    let all = judge(ruleset, rule, snapshot, now());
    all.into_iter().find(|(at, _)| *at == index).unwrap_or_else(|| panic!("{}: no verdict about {node}", rule.id)).1
}
