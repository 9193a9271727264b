//! Time of evaluating every shipped rule over 100,000 nodes on one core: `cargo run --release -p compliance --example bench_evaluate`.
//!
//! The nodes are made of the packs' own fixtures: of each type every property that a rule reads as a compliant node has it, further
//! properties of the schema as null up to 60, and on each seventh node the properties of a failing fixture. Every node is of a type that
//! some rule is about.
#![expect(clippy::print_stdout, reason = "an example talks to the terminal")]

use std::collections::BTreeMap;
use std::time::Instant;

use compliance::{Catalog, Reading, Ruleset, Snapshot, SnapshotBuilder, builtin, evaluate, load};
use domain::Digest;
use serde_json::{Map, Value, json};

const NODES: usize = 100_000;
const TARGET_S: f64 = 2.0;

/// Of each thousand nodes.
const MIX: [(&str, usize); 30] = [
    ("aws.ec2.instance", 100),
    ("aws.ec2.volume", 120),
    ("aws.ec2.security_group", 100),
    ("aws.ec2.snapshot", 100),
    ("aws.ec2.subnet", 30),
    ("aws.ec2.network_acl", 10),
    ("aws.ec2.vpc", 10),
    ("aws.s3.bucket", 60),
    ("aws.iam.user", 50),
    ("aws.iam.role", 60),
    ("aws.iam.access_key", 50),
    ("aws.iam.policy", 30),
    ("aws.iam.inline_policy", 20),
    ("aws.kms.key", 20),
    ("aws.lambda.function", 40),
    ("aws.rds.db_instance", 20),
    ("aws.secretsmanager.secret", 20),
    ("aws.sqs.queue", 10),
    ("aws.sns.topic", 10),
    ("aws.dynamodb.table", 10),
    ("aws.elbv2.listener", 10),
    ("host.machine", 10),
    ("host.user", 20),
    ("host.service", 30),
    ("host.listener", 15),
    ("host.mount", 14),
    ("snmp.chassis", 10),
    ("network.service", 15),
    ("network.certificate", 5),
    ("aws.account", 1),
];

type Fixtures = BTreeMap<String, BTreeMap<String, Vec<Value>>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let catalog = builtin::catalog()?;
    let ruleset = load(&catalog, &builtin::PACKS, |_| Digest([0; 32])).map_err(|errors| format!("{errors:?}"))?;
    let snapshot = world(&catalog, &ruleset)?;
    let now = "2026-11-22T03:00:00Z".parse()?;
    let mut times = Vec::new();
    let mut evaluation = None;
    for _ in 0..5 {
        let start = Instant::now();
        evaluation = Some(evaluate(&ruleset, &snapshot, now));
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let evaluation = evaluation.ok_or("no run")?;
    let sum = |count: fn(&compliance::RuleOutcome) -> u64| evaluation.rules.iter().map(count).sum::<u64>();
    let (nodes, rules) = (snapshot.len(), ruleset.rules().len());
    println!(
        "runs {} ms; passed {}, failed {}, errors {}, not applicable {}",
        times.iter().map(|time| format!("{:.0}", time * 1_000.0)).collect::<Vec<_>>().join(" "),
        sum(|rule| rule.passed),
        sum(|rule| rule.failed),
        sum(|rule| rule.errors),
        sum(|rule| rule.not_applicable),
    );
    let line = json!({
        "bench": format!("evaluate {rules} rules over {nodes} nodes, median of {}", times.len()), "value": thousandths(median), "unit": "s",
        "compared_to": "2 s", "compared_value": TARGET_S, "ratio": thousandths(median / TARGET_S), "goal": "<= 1",
    });
    println!("{line}");
    Ok(())
}

fn thousandths(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn world(catalog: &Catalog, ruleset: &Ruleset) -> Result<Snapshot, Box<dyn std::error::Error>> {
    let mut fixtures = Fixtures::new();
    for text in [
        include_str!("../../../packs/fixtures/cis-aws-foundations.yaml"),
        include_str!("../../../packs/fixtures/linux-host.yaml"),
        include_str!("../../../packs/fixtures/network-devices.yaml"),
        include_str!("../../../packs/fixtures/network.yaml"),
    ] {
        fixtures.extend(serde_saphyr::from_str::<Fixtures>(text)?);
    }
    let mut builder = SnapshotBuilder::new();
    // As in a real run: every list of neighbors asks whether its scopes were read.
    for node_type in catalog.schema.types().keys() {
        for scope in catalog.schema.scopes(node_type) {
            builder.scope(&format!("aws::us-east-1:{scope}"), true);
        }
    }
    let mut previous = BTreeMap::new();
    for (node_type, share) in MIX {
        let of = |which: &str| -> Vec<&Value> {
            let rules = ruleset.rules().iter().filter(|rule| rule.node_types.iter().any(|t| t == node_type));
            let cases = rules.filter_map(|rule| fixtures.get(&rule.id)?.get(which)).flatten();
            let fits = |case: &&Value| case.get("type").and_then(Value::as_str).is_none_or(|t| t == node_type);
            cases.filter(fits).filter_map(|case| case.get("props")).collect()
        };
        let mut good = Value::Null;
        of("pass").into_iter().rev().for_each(|props| merge(&mut good, props));
        if node_type == "host.machine" {
            let sections = catalog.schema.reading(node_type).filter_map(|(_, reading)| match reading {
                Reading::Section(section) => Some((section.clone(), json!("complete"))),
                _ => None,
            });
            merge(&mut good, &json!({ "sections": sections.collect::<Map<_, _>>() }));
        }
        let (bad, known) = (of("fail"), catalog.schema.types().get(node_type));
        for i in 0..NODES * share / 1_000 {
            let mut props = good.clone();
            for name in known.into_iter().flat_map(|known| known.keys()) {
                if let Value::Object(map) = &mut props
                    && map.len() < 60
                {
                    map.entry(name.clone()).or_insert(Value::Null);
                }
            }
            if i % 7 == 0
                && let Some(bad) = bad.get(i / 7 % bad.len().max(1))
            {
                merge(&mut props, bad);
            }
            let id = format!("aws:us-east-1:{node_type}:{node_type}-{i:06}");
            builder.node(&id, node_type, &format!("name-{i}"), "us-east-1", "aws", json!({ "team": i % 10 }), props);
            // Each node hangs on one of the type before, so that neighbours are looked up in real rows.
            if let Some((other, count)) = previous.get(&share) {
                builder.edge(&format!("aws:us-east-1:{other}:{other}-{:06}", i % count), &id, "contains", json!({}));
            }
            builder.edge("aws:us-east-1:aws.account:aws.account-000000", &id, "contains", json!({}));
        }
        previous.insert(share, (node_type, NODES * share / 1_000));
    }
    Ok(builder.build())
}

/// Lays `over` on top of `base`, object by object.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Object(Map::new())), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}
