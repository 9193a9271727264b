//! The shipped packs: valid, at least a hundred rules, each with fixtures, each quiet about missing properties.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code outside of test functions")]

use std::collections::{BTreeMap, BTreeSet};

use compliance::{Reading, Snapshot, SnapshotBuilder, Verdict, builtin, schema_doc};
use serde_json::{Value, json};

use world::{FIXTURES, add, complete, id, ruleset, verdict, world};

#[path = "packs/patches.rs"]
mod patches;
#[path = "packs/world.rs"]
mod world;

#[test]
fn every_rule_has_a_passing_and_a_failing_fixture() {
    let ruleset = ruleset();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (pack, text) in FIXTURES {
        let fixtures: BTreeMap<String, BTreeMap<String, Vec<Value>>> = serde_saphyr::from_str(text).unwrap();
        for (rule_id, cases) in fixtures {
            let Some(rule) = ruleset.rule(&rule_id) else {
                wrong.push(format!("{rule_id}: a fixture without a rule"));
                continue;
            };
            assert_eq!(rule.pack, pack, "{rule_id} is in the fixtures of another pack");
            for (expect, cases) in &cases {
                for case in cases {
                    let (snapshot, this) = world(case, &rule.node_types[0]);
                    let got = verdict(&ruleset, rule, &snapshot, &this);
                    let fits = match (expect.as_str(), &got) {
                        ("pass", Verdict::Pass) | ("error", Verdict::Error { .. }) => true,
                        ("fail", Verdict::Fail { message, values, .. }) => {
                            !message.is_empty()
                                && values.as_object().is_some_and(|values| values.len() == rule.value_names().count())
                        }
                        _ => false,
                    };
                    if !fits {
                        wrong.push(format!("{rule_id}: expected {expect}, got {got:?} for {case}"));
                    }
                }
            }
            for needed in ["pass", "fail"] {
                if cases.get(needed).is_none_or(Vec::is_empty) {
                    wrong.push(format!("{rule_id}: no {needed} fixture"));
                }
            }
            seen.insert(rule_id);
        }
    }
    wrong.extend(
        ruleset.rules().iter().filter(|rule| !seen.contains(&rule.id)).map(|rule| format!("{}: no fixture", rule.id)),
    );
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_node_without_any_property_is_an_error_only_where_one_was_not_read() {
    let ruleset = ruleset();
    let mut wrong = Vec::new();
    for rule in ruleset.rules() {
        for node_type in &rule.node_types {
            let (snapshot, this) = world(&json!({}), node_type);
            if let Verdict::Error { message } = verdict(&ruleset, rule, &snapshot, &this)
                && !rule.needs(node_type).iter().any(|name| message == format!("`{name}` was not read"))
            {
                wrong.push(format!("{}: {message}", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_node_whose_properties_are_all_null_is_never_an_error() {
    let (ruleset, catalog) = (ruleset(), builtin::catalog().unwrap());
    let mut wrong = Vec::new();
    for rule in ruleset.rules() {
        for node_type in &rule.node_types {
            let names = catalog.schema.types()[node_type].keys();
            let props: serde_json::Map<String, Value> = names.map(|name| (name.clone(), Value::Null)).collect();
            let (snapshot, this) = world(&json!({ "props": props }), node_type);
            if let Verdict::Error { message } = verdict(&ruleset, rule, &snapshot, &this) {
                wrong.push(format!("{}: {message}", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A passing fixture as it would be if a property had not been read.
fn without(case: &Value, name: &str, reading: &Reading) -> Value {
    let mut case = case.clone();
    let props = case["props"].as_object_mut().unwrap();
    match reading {
        Reading::Not(word) => _ = props.insert(name.to_owned(), json!(word)),
        Reading::Present => _ = props.remove(name),
        Reading::Section(section) => {
            props.remove(name);
            props.insert("sections".to_owned(), complete());
            props["sections"][section] = json!("denied");
        }
    }
    case
}

#[test]
fn no_rule_passes_on_what_was_not_read() {
    let (ruleset, catalog) = (ruleset(), builtin::catalog().unwrap());
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (_, text) in FIXTURES {
        let fixtures: BTreeMap<String, BTreeMap<String, Vec<Value>>> = serde_saphyr::from_str(text).unwrap();
        for (rule_id, cases) in fixtures {
            let rule = ruleset.rule(&rule_id).unwrap();
            for case in &cases["pass"] {
                let node_type = case.get("type").and_then(Value::as_str).unwrap_or(&rule.node_types[0]);
                for (name, reading) in catalog.schema.reading(node_type) {
                    if !rule.needs(node_type).contains(name) {
                        continue;
                    }
                    tried += 1;
                    let (snapshot, this) = world(&without(case, name, reading), node_type);
                    match verdict(&ruleset, rule, &snapshot, &this) {
                        Verdict::Error { message } if message.starts_with(&format!("`{name}` was not read")) => {}
                        other => wrong.push(format!("{rule_id} without `{name}`: {other:?}")),
                    }
                    let mut listed = case.clone();
                    listed["props"]["unread"] = json!([name]);
                    let (snapshot, this) = world(&listed, node_type);
                    if !matches!(verdict(&ruleset, rule, &snapshot, &this), Verdict::Error { .. }) {
                        wrong.push(format!("{rule_id} passes where `{name}` is listed as unread"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(tried > 80, "{tried}");
}

/// The passing fixture in account 1 and, in account 2, a copy of all but the nodes that the rule looks for by `nodes_of`.
fn two_accounts(case: &Value, looked_for: &str) -> (Snapshot, [String; 2]) {
    let mut builder = SnapshotBuilder::new();
    for account in ["1", "2"] {
        let name = |short: &str| format!("{short}-{account}");
        let mut types = BTreeMap::from([("this", "aws.account")]);
        let mut owned = |short: &str, node_type: &str, node: &Value| {
            let mut node = node.clone();
            node["props"]["account_id"] = json!(account);
            add(&mut builder, &name(short), node_type, &node);
        };
        owned("this", "aws.account", case);
        for (short, node) in case["nodes"].as_object().unwrap() {
            let node_type = node["type"].as_str().unwrap();
            if account == "1" || node_type != looked_for {
                owned(short, node_type, node);
            }
            types.insert(short, node_type);
        }
        for edge in case["edges"].as_array().unwrap() {
            let end = |at: usize| id(&name(edge[at].as_str().unwrap()), types[edge[at].as_str().unwrap()]);
            builder.edge(&end(0), &end(2), edge[1].as_str().unwrap(), json!({}));
        }
    }
    (builder.build(), ["1", "2"].map(|account| id(&format!("this-{account}"), "aws.account")))
}

#[test]
fn alarms_and_analyzers_count_for_their_own_account_only() {
    let ruleset = ruleset();
    let fixtures: BTreeMap<String, BTreeMap<String, Vec<Value>>> = serde_saphyr::from_str(FIXTURES[0].1).unwrap();
    let mut tried = 0;
    for rule in ruleset.rules() {
        let Some((_, rest)) = rule.condition_text.split_once("nodes_of(\"") else { continue };
        let (snapshot, [first, second]) = two_accounts(&fixtures[&rule.id]["pass"][0], rest.split('"').next().unwrap());
        assert_eq!(verdict(&ruleset, rule, &snapshot, &first), Verdict::Pass, "{}", rule.id);
        let other = verdict(&ruleset, rule, &snapshot, &second);
        assert!(matches!(other, Verdict::Fail { .. }), "{}: {other:?}", rule.id);
        tried += 1;
    }
    assert!(tried >= 16, "{tried}");
}

#[test]
fn the_schema_flags_exactly_what_calls_of_their_own_add() {
    let dir = format!("{}/../plugins/src/aws/tables", env!("CARGO_MANIFEST_DIR"));
    let mut expect: BTreeSet<(String, String)> = BTreeSet::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.ends_with("xml.yaml") {
            continue;
        }
        let services: Vec<Value> = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for entry in services.iter().filter_map(|service| service.get("entries")?.as_array()).flatten() {
            for sub in entry.get("sub").and_then(Value::as_array).into_iter().flatten() {
                let into = sub["into"].as_str().unwrap();
                let children = entry.get("children").and_then(Value::as_array).into_iter().flatten();
                let of = |node: &Value| (node["type"].as_str().unwrap().to_owned(), into.to_owned());
                match sub.get("each") {
                    _ if matches!(into, "." | "tags") => {}
                    None => _ = expect.insert(of(entry)),
                    Some(each) => expect.extend(children.filter(|child| child["items"] == *each).map(of)),
                }
            }
        }
    }
    let schema = builtin::catalog().unwrap().schema;
    let aws = schema.types().keys().filter(|node_type| node_type.starts_with("aws."));
    let have: BTreeSet<(String, String)> = aws
        .flat_map(|node_type| schema.reading(node_type).map(|(name, _)| (node_type.clone(), name.to_owned())))
        .collect();
    assert_eq!(have, expect);
    assert!(have.len() > 50, "{}", have.len());
}

#[test]
fn the_packs_hold_a_hundred_rules_and_each_is_mapped_to_nist() {
    let ruleset = ruleset();
    assert!(ruleset.rules().len() >= 100, "{}", ruleset.rules().len());
    let in_pack = |pack: &str| ruleset.rules().iter().filter(|rule| rule.pack == pack).count();
    assert!(in_pack("cis-aws-foundations") >= 60 && in_pack("linux-host") >= 45 && in_pack("network") >= 20);
    for rule in ruleset.rules() {
        assert!(rule.controls.get("nist-800-53-r5").is_some_and(|ids| !ids.is_empty()), "{}", rule.id);
        assert!(!rule.remediation.is_empty() && !rule.rationale.is_empty(), "{}", rule.id);
    }
}

#[test]
fn the_schema_files_are_what_the_property_lists_say() {
    let doc = |name: &str| {
        std::fs::read_to_string(format!("{}/../../docs/schema/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let expect = [
        ("schema/aws.json", schema_doc::aws(&doc("aws-properties.md"), &doc("aws-types.md"))),
        ("schema/host.json", schema_doc::host(&doc("host.md"))),
        ("schema/snmp.json", schema_doc::snmp(&doc("snmp.md"))),
        ("schema/network.json", schema_doc::network_scan(&doc("network-scan.md"))),
    ];
    for (path, expect) in expect {
        let (_, text) = builtin::SCHEMAS.iter().find(|(name, _)| *name == path).unwrap();
        let have: Value = serde_json::from_str(text).unwrap();
        assert!(have == expect, "packs/{path} is old: run `cargo run -p compliance --example schema`");
    }
}

#[test]
fn the_framework_table_holds_every_active_control_and_the_three_baselines() {
    let catalog = builtin::catalog().unwrap();
    let nist = catalog.frameworks.find("nist-800-53-r5").unwrap();
    let in_baseline =
        |name: &str| nist.controls.iter().filter(|control| control.baselines.iter().any(|b| b == name)).count();
    assert_eq!(nist.controls.len(), 1_007);
    assert_eq!((in_baseline("low"), in_baseline("moderate"), in_baseline("high")), (149, 287, 370));
    let control = catalog.frameworks.control("nist-800-53-r5", "AC-2(1)").unwrap();
    assert_eq!((control.title.as_str(), control.family.as_str()), ("Automated System Account Management", "AC"));
}
