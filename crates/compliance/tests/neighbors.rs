//! Neighbors that were not read: a rule that needs them to decide is an error, never a pass and never a failure.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code outside of test functions")]

use compliance::{Ruleset, SnapshotBuilder, Verdict, builtin, judge, load};
use domain::Digest;
use serde_json::{Value, json};

const ACCOUNT: &str = "111122223333";

/// The condition of one rule about `node_type`, judged about one node of it, `this`.
fn judged(node_type: &str, condition: &str, fill: impl FnOnce(&mut SnapshotBuilder)) -> String {
    let pack = format!(
        "pack:\n  id: test\n  version: \"1\"\n  title: Test\nrules:\n- id: test-rule\n  title: Test\n  severity: low\n  node_type: {node_type}\n  \
         condition: |\n    {condition}\n  message: no\n  remediation: none\n  controls:\n    nist-800-53-r5: [SC-28]\n"
    );
    let packs = [("test.yaml", pack.as_str())];
    let ruleset: Ruleset = load(&builtin::catalog().unwrap(), &packs, |_| Digest([0; 32]))
        .unwrap_or_else(|errors| panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
    let mut builder = SnapshotBuilder::new();
    add(&mut builder, node_type, "this", json!({}));
    fill(&mut builder);
    let rule = ruleset.rule("test-rule").unwrap();
    let verdicts = judge(&ruleset, rule, &builder.build(), "2026-11-22T03:00:00Z".parse().unwrap());
    match verdicts.iter().map(|(_, verdict)| verdict).collect::<Vec<_>>().as_slice() {
        [Verdict::Pass] => "pass".to_owned(),
        [Verdict::Fail { .. }] => "fail".to_owned(),
        [Verdict::Error { message }] => format!("error: {message}"),
        other => panic!("one node is judged: {other:?}"),
    }
}

/// Accounts stand in no region, machines at a site, everything else in `eu-west-1`.
fn region(node_type: &str) -> &'static str {
    match node_type {
        "aws.account" => "global",
        "host.machine" => "local",
        _ => "eu-west-1",
    }
}

fn id(node_type: &str, name: &str) -> String {
    let provider = node_type.split('.').next().unwrap();
    format!("{provider}:{}:{node_type}:{name}", region(node_type))
}

fn add(builder: &mut SnapshotBuilder, node_type: &str, name: &str, mut props: Value) -> String {
    let id = id(node_type, name);
    if node_type.starts_with("aws.") {
        props.as_object_mut().unwrap().insert("account_id".to_owned(), json!(ACCOUNT));
    }
    builder.node(&id, node_type, name, region(node_type), "x", json!({}), props);
    id
}

fn scope(place: &str, name: &str) -> String {
    format!("aws:{ACCOUNT}:{place}:{name}")
}

const EXISTS: &str =
    r#"neighbors("contains", "out", "aws.cloudtrail.trail").exists(t, default(t.props.is_multi_region_trail, false))"#;
const ALL: &str =
    r#"neighbors("contains", "out", "aws.cloudtrail.trail").all(t, default(t.props.is_multi_region_trail, false))"#;
const NONE: &str = r#"size(neighbors("contains", "out", "aws.cloudtrail.trail")) == 0"#;
const CHAIN: &str = r#"neighbors("contains", "out", "aws.cloudtrail.trail").filter(t, default(t.props.is_multi_region_trail, false)).exists(t, t.name != "")"#;
const PEERS: &str = r#"nodes_of("aws.cloudtrail.trail").exists(t, default(t.props.is_multi_region_trail, false))"#;

fn trail(builder: &mut SnapshotBuilder, name: &str, good: bool) {
    let trail = add(builder, "aws.cloudtrail.trail", name, json!({ "is_multi_region_trail": good }));
    builder.edge(&id("aws.account", "this"), &trail, "contains", json!({}));
}

#[test]
fn a_list_that_was_not_read_to_its_end_decides_only_what_was_seen() {
    // What the trails are, whether their scope was read, and what each condition then says.
    let unread = "error: condition";
    type Case<'c> = (&'c [bool], &'c [(&'c str, bool)], [&'c str; 5]);
    let cases: [Case<'_>; 7] = [
        (&[true], &[("eu-west-1", true)], ["pass", "pass", "fail", "pass", "pass"]),
        (&[false], &[("eu-west-1", true)], ["fail", "fail", "fail", "fail", "fail"]),
        (&[], &[("eu-west-1", true)], ["fail", "pass", "pass", "fail", "fail"]),
        (&[true], &[("eu-west-1", true), ("us-east-1", false)], ["pass", unread, unread, "pass", "pass"]),
        (&[false], &[("eu-west-1", false)], [unread, "fail", unread, unread, unread]),
        (&[], &[("us-east-1", false)], [unread; 5]),
        (&[], &[], [unread; 5]),
    ];
    for (trails, scopes, expected) in cases {
        for (condition, expected) in [EXISTS, ALL, NONE, CHAIN, PEERS].into_iter().zip(expected) {
            let got = judged("aws.account", condition, |builder| {
                builder.scopes_known();
                for (place, read) in scopes {
                    builder.scope(&scope(place, "cloudtrail.trails"), *read);
                }
                trails.iter().enumerate().for_each(|(at, good)| trail(builder, &format!("t{at}"), *good));
            });
            assert!(got.starts_with(expected), "{trails:?} {scopes:?} {condition}: {got}");
        }
    }
}

#[test]
fn the_error_says_what_was_not_read_and_where() {
    let told = |scopes: &[(&str, bool)]| {
        judged("aws.account", NONE, |builder| {
            builder.scopes_known();
            for (place, read) in scopes {
                builder.scope(&scope(place, "cloudtrail.trails"), *read);
            }
        })
    };
    assert!(told(&[("us-east-1", false)]).ends_with("not every `aws.cloudtrail.trail` was read in `us-east-1`"));
    assert!(told(&[]).ends_with("no `aws.cloudtrail.trail` was looked for"));
}

#[test]
fn another_region_or_another_account_is_not_asked_for() {
    let condition = r#"neighbors("attached_to", "in", "aws.ec2.flow_log").exists(f, default(f.props.flow_log_status, "") == "ACTIVE")"#;
    let about = |scopes: &[(String, bool)]| {
        judged("aws.ec2.vpc", condition, |builder| {
            for (scope, read) in scopes {
                builder.scope(scope, *read);
            }
        })
    };
    let (here, there) = (scope("eu-west-1", "ec2.flow_logs"), scope("us-east-1", "ec2.flow_logs"));
    let foreign = "aws:999999999999:eu-west-1:ec2.flow_logs".to_owned();
    assert_eq!(about(&[(here.clone(), true), (there.clone(), false), (foreign.clone(), false)]), "fail");
    assert!(about(&[(here, false), (there.clone(), true)]).ends_with("was read in `eu-west-1`"));
    assert!(about(&[(there, true), (foreign, true)]).ends_with("no `aws.ec2.flow_log` was looked for"));
}

#[test]
fn a_neighbor_that_an_edge_names_and_nobody_read_is_not_absent() {
    let (this, there) = (id("aws.cloudtrail.trail", "this"), id("aws.s3.bucket", "elsewhere"));
    let all = r#"neighbors("logs_to", "out", "aws.s3.bucket").all(b, b.name == "near")"#;
    let logging = r#"neighbors("logs_to", "out", "aws.s3.bucket").exists(b, b.name == "near")"#;
    let any = r#"size(neighbors("*", "out", "*")) == 0"#;
    for condition in [any, all, logging] {
        let got = judged("aws.cloudtrail.trail", condition, |builder| {
            builder.scope(&scope("global", "s3.buckets"), true);
            builder.unread_node(&there, "aws.s3.bucket").edge(&this, &there, "logs_to", json!({}));
        });
        assert!(got.ends_with(&format!("the neighbor `{there}` was not read")), "{condition}: {got}");
    }
    // Seen after all, by another scope: it is a neighbor like any other.
    let got = judged("aws.cloudtrail.trail", logging, |builder| {
        builder.scope(&scope("global", "s3.buckets"), true).unread_node(&id("aws.s3.bucket", "near"), "aws.s3.bucket");
        let bucket = add(builder, "aws.s3.bucket", "near", json!({}));
        builder.edge(&this, &bucket, "logs_to", json!({}));
    });
    assert_eq!(got, "pass");
}

#[test]
fn a_machines_lists_are_asked_for_on_that_machine() {
    let condition = r#"neighbors("contains", "out", "host.firewall").exists(f, f.props.tool == "nft")"#;
    let about = |scopes: &[(&str, bool)]| {
        judged("host.machine", condition, |builder| {
            for (scope, read) in scopes {
                builder.scope(scope, *read);
            }
        })
    };
    assert_eq!(about(&[("host:this:firewall", true), ("host:other:firewall", false)]), "fail");
    assert!(about(&[("host:this:firewall", false), ("host:other:firewall", true)]).starts_with("error"));
    assert!(about(&[("host:other:firewall", true)]).starts_with("error"));
}
