//! How long somebody waits for findings among very many: the first page, each filter, groups, a text, what a change to many would be about.
//!
//! An estate is brought in by the real path, and its findings are opened, accepted and resolved by the real path too. Then each question of the
//! console is asked ten times, over the functions that the API calls. Prints one JSON line per result, on SQLite and on PostgreSQL.
//!
//! `CAIRN_BENCH_NODES` (default 250,000) is the number of nodes, of which a fifth has findings; `CAIRN_BENCH_FINDINGS` (default 100,000) how many
//! those are. `CAIRN_BENCH_ENGINES` (default `sqlite,postgres`) chooses.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints, it measures, and it ends where something fails"
)]

use std::time::{Duration, Instant};

use access::{OpCtx, ops};
use compliance::{Facts, FindingChange, Resolution};
use domain::{
    CollectionId, Coverage, Digest, FindingStatus, Limits, NodeId, NodeObservation, Page, Severity, TenantId,
};
use serde_json::json;
use store::{EvaluationRow, FindingFilter, FindingVerb, GroupBy, Read, Store, TypeRules};
use testkit::Postgres;

#[path = "bench/world.rs"]
mod world;

/// Each question is asked so often, and the median told.
const ROUNDS: usize = 10;
/// Nodes in one scope, as in one region's listing of one service.
const SCOPE_NODES: usize = 20_000;
const KINDS: [&str; 8] =
    ["instance", "volume", "security_group", "network_interface", "bucket", "function", "key", "role"];
/// Rules of each kind; the last of all judges every kind.
const RULES: usize = 12;

fn kind(n: usize) -> &'static str {
    KINDS[n % KINDS.len()]
}

fn id(n: usize) -> NodeId {
    NodeId::new("aws", "eu-central-1", &format!("aws.ec2.{}", kind(n)), &format!("r-{n:017x}")).unwrap()
}

fn rule(kind: &str, n: usize) -> String {
    if n + 1 == RULES { "aws-owner-tag".to_owned() } else { format!("aws-{}-requirement-{n}", kind.replace('_', "-")) }
}

fn page(first: usize, last: usize) -> Page {
    let node = |n: usize| {
        NodeObservation {
        id: id(n),
        name: format!("{}-{n}", ["web", "Billing", "data", "edge"][n / 8 % 4]),
        properties: serde_json::from_value(json!({
            "account_id": format!("{:012}", 100_000_000_000 + n / 1_000 % 40), "vpc_id": format!("vpc-{:05x}", n / 1_000 % 400),
            "instance_type": "m6i.large", "state": "running", "image_id": format!("ami-{:017x}", n % 97),
            "private_ip": format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255), "launched_at": "2026-01-01T00:00:00Z",
            "metadata_options": {"http_tokens": "optional", "http_put_response_hop_limit": 1, "instance_metadata_tags": "disabled"},
        }))
        .unwrap(),
        tags: [("env".to_owned(), "prod".to_owned()), ("team".to_owned(), format!("t{}", n % 31))].into(),
    }
    };
    Page {
        scope: format!("aws:123456789012:eu-central-1:ec2.instances-{}", first / SCOPE_NODES).parse().unwrap(),
        nodes: (first..last).map(node).collect(),
        edges: Vec::new(),
    }
}

/// Finding `n`: each fifth node has those of rules that judge its kind.
fn finding(n: usize, findings: usize, nodes: usize) -> (String, String, Facts) {
    let having = nodes / 5;
    let (node, nth) = (n % having * 5, n / having);
    let nth = if nth == 0 && n.is_multiple_of(11) { RULES - 1 } else { (n % having / 40 + nth * 3) % (RULES - 1) };
    let severity = Severity::ALL[n.wrapping_mul(7_919) % findings % Severity::ALL.len()];
    let facts = Facts {
        severity,
        risk_score: u8::try_from(n.wrapping_mul(104_729) % 101).unwrap(),
        message: format!(
            "{} r-{node:017x} answers metadata requests without a token and is open to 0.0.0.0/0",
            kind(node)
        ),
        values: json!({"http_tokens": "optional", "hop_limit": 1, "groups": ["sg-0a1b2c3d4e5f", "sg-1a2b3c4d5e6f"], "address": "10.0.0.1",
            "launched_at": "2026-01-01T00:00:00Z", "image": format!("ami-{:017x}", n % 97)}),
    };
    (rule(kind(node), nth), id(node).to_string(), facts)
}

async fn fill(store: &Store, tenant: TenantId, ctx: &OpCtx, nodes: usize) {
    let permit = ctx.authorize::<ops::GraphIngest>(tenant).unwrap();
    let mut ingest = store.ingest(permit, "aws".parse().unwrap()).await.unwrap();
    for scope in (0..nodes).step_by(SCOPE_NODES) {
        let end = (scope + SCOPE_NODES).min(nodes);
        for first in (scope..end).step_by(Limits::PAGE_OBSERVATIONS) {
            ingest.page(&page(first, (first + Limits::PAGE_OBSERVATIONS).min(end))).await.unwrap();
        }
        let scope = page(scope, scope).scope;
        let collection = CollectionId::generate(ctx.clock(), ctx.rng());
        ingest.finish(&scope, &Coverage::Complete, collection).await.unwrap();
    }
}

/// Applies changes as an evaluation does; how long that took.
async fn evaluate(store: &Store, tenant: TenantId, ctx: &OpCtx, changes: &[FindingChange]) -> Duration {
    let begun = Instant::now();
    let mut unit = store.write(ctx.authorize::<ops::EvaluationRun>(tenant).unwrap()).await.unwrap();
    unit.finding_current().await.unwrap();
    let counts = unit.findings_apply(changes).await.unwrap();
    let (at, ruleset) = (ctx.clock().now(), Digest([7; 32]));
    let evaluation = EvaluationRow { at, ruleset, rules: 0, nodes: 0, passed: 0, failed: 0, errors: 0 };
    unit.evaluation_finish(&evaluation, counts).await.unwrap();
    begun.elapsed()
}

/// Prints how many milliseconds something took, beside how many it may.
fn report(engine: &str, what: &str, took: Duration, goal_ms: Option<f64>) {
    let value = (took.as_secs_f64() * 1e5).round() / 100.0;
    let goal = goal_ms.unwrap_or(value);
    let line = json!({
        "bench": format!("findings {engine}: {what}"), "value": value, "unit": "ms", "compared_to": "what one may wait",
        "compared_value": goal, "ratio": (value / goal * 1_000.0).round() / 1_000.0, "goal": if goal_ms.is_some() { "<= 1" } else { "" },
    });
    println!("{line}");
}

struct Asking<'a> {
    engine: &'a str,
    store: &'a Store,
    ctx: &'a OpCtx,
    tenant: TenantId,
}

impl Asking<'_> {
    async fn read(&self) -> Read<ops::FindingList> {
        self.store.read(self.ctx.authorize::<ops::FindingList>(self.tenant).unwrap()).await.unwrap()
    }

    /// Asks so often; the median against what one may wait.
    async fn ask<T>(&self, what: &str, goal_ms: f64, mut one: impl AsyncFnMut(Read<ops::FindingList>) -> T) -> T {
        let (mut took, mut last) = (Vec::new(), None);
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            last = Some(one(self.read().await).await);
            took.push(begun.elapsed());
        }
        took.sort_unstable();
        report(self.engine, what, took[ROUNDS / 2], Some(goal_ms));
        last.unwrap()
    }

    async fn list(&self, what: &str, filter: FindingFilter) -> usize {
        let found = self.ask(what, LIST_MS, async |mut read| read.finding_list(&filter, None, 50).await.unwrap()).await;
        found.items.len()
    }
}

/// What one may wait for a page of a list.
const LIST_MS: f64 = 200.0;
/// What one may wait for something that counts all.
const COUNT_MS: f64 = 500.0;

async fn questions(asking: &Asking<'_>, findings: usize, nodes: usize) {
    let any = FindingFilter::default;
    let with_text = |text: &str| FindingFilter { text: Some(text.to_owned()), ..any() };
    let first = asking
        .ask("first page of 50", LIST_MS, async |mut read| read.finding_list(&any(), None, 50).await.unwrap())
        .await;
    let middle = store::FindingKey { risk: 50, id: first.items[0].id };
    asking
        .ask("a page in the middle", LIST_MS, async |mut read| {
            read.finding_list(&any(), Some(middle), 50).await.unwrap()
        })
        .await;
    asking.ask("counts of all", LIST_MS, async |mut read| read.finding_summary().await.unwrap()).await;

    for status in [FindingStatus::Open, FindingStatus::Accepted, FindingStatus::Resolved] {
        let filter = FindingFilter { status: Some(status), ..any() };
        assert_eq!(asking.list(&format!("status {status}"), filter).await, 50);
    }
    for severity in [Severity::Critical, Severity::Info] {
        let filter = FindingFilter { severity: Some(severity), ..any() };
        assert_eq!(asking.list(&format!("severity {severity}"), filter).await, 50);
    }
    let filter =
        FindingFilter { status: Some(FindingStatus::Accepted), severity: Some(Severity::Info), ..with_text("r-00") };
    asking.list("status, severity and text together", filter).await;
    let one_rule = FindingFilter { rule: Some(rule("bucket", 3)), ..any() };
    assert_eq!(asking.list("one rule", one_rule.clone()).await, 50);
    let rules = (0..6).flat_map(|n| KINDS.map(|kind| rule(kind, n))).collect();
    assert_eq!(
        asking.list("half of the rules, as of a framework", FindingFilter { rules: Some(rules), ..any() }).await,
        50
    );
    let filter = FindingFilter { rules: Some(vec!["no-such-rule".to_owned()]), ..any() };
    assert_eq!(asking.list("rules that nothing violates", filter).await, 0);
    assert!(asking.list("one node", FindingFilter { node: Some(id(0)), ..any() }).await > 0);
    let type_rules = TypeRules {
        only: (0..RULES - 1).map(|n| rule("bucket", n)).collect(),
        never: KINDS
            .iter()
            .filter(|kind| **kind != "bucket")
            .flat_map(|kind| (0..RULES - 1).map(|n| rule(kind, n)))
            .collect(),
    };
    let filter = FindingFilter { node_type: Some("aws.ec2.bucket".to_owned()), type_rules, ..any() };
    assert_eq!(asking.list("one type of node", filter).await, 50);

    let texts = [
        ("a text that every message holds", "METADATA".to_owned()),
        ("a text that a few names hold", "billing-40".to_owned()),
        ("a text that one node's id holds", format!("r-{:017x}", nodes / 10 * 5)),
        ("a text that rules' ids hold", "requirement-7".to_owned()),
        ("a text that nothing holds", "no such thing".to_owned()),
    ];
    for (what, text) in &texts {
        let found = asking.list(what, with_text(text)).await;
        assert_eq!(found > 0, *what != "a text that nothing holds", "{what}: {found}");
    }

    let groups = [
        ("no filter", any()),
        ("a text that few hold", with_text("billing-40")),
        ("a text that nothing holds", with_text("no such thing")),
    ];
    for (of, filter) in &groups {
        for (by, most, what) in [
            (GroupBy::Rule, 50, "rule"),
            (GroupBy::Rule, 500, "rule, all of them, as for frameworks"),
            (GroupBy::Node, 50, "node"),
        ] {
            asking
                .ask(&format!("groups by {what}; {of}"), COUNT_MS, async |mut read| {
                    read.finding_groups(by, filter, None, most).await.unwrap()
                })
                .await;
        }
    }
    let selections = [
        ("all", any()),
        ("one rule", one_rule),
        ("a text that every message holds", with_text("metadata")),
        ("a text that few hold", with_text("billing-40")),
    ];
    for (of, filter) in &selections {
        let seen = asking
            .ask(&format!("what a change to many is about; {of}"), COUNT_MS, async |mut read| {
                read.finding_selection(filter, FindingVerb::Resolve).await.unwrap()
            })
            .await;
        assert!(seen.count > 0 && usize::try_from(seen.count).unwrap() <= findings);
    }
}

async fn bench(engine: &str, findings: usize, nodes: usize) {
    let dir = tempfile::tempdir().unwrap();
    let database = (engine == "postgres").then(|| Postgres::shared().database());
    let (url, owner_url) = match &database {
        None => (format!("sqlite:{}", dir.path().join("cairn.db").display()), None),
        Some(database) => (database.app_url.clone(), Some(database.owner_url.clone())),
    };
    let (store, platform) = world::open(url, owner_url, dir.path()).await;
    let (tenant, ctx) = world::tenant(&store, &platform).await;
    let begun = Instant::now();
    fill(&store, tenant, &ctx, nodes).await;
    report(engine, &format!("{nodes} nodes taken in"), begun.elapsed(), None);

    let all: Vec<_> = (0..findings).map(|n| finding(n, findings, nodes)).collect();
    let opened: Vec<FindingChange> = all
        .iter()
        .map(|(rule, node, facts)| FindingChange::Open {
            rule_id: rule.clone(),
            node_id: node.clone(),
            facts: facts.clone(),
        })
        .collect();
    let took = evaluate(&store, tenant, &ctx, &opened).await;
    report(engine, &format!("{findings} findings opened by an evaluation"), took, None);
    let resolved: Vec<FindingChange> = all
        .iter()
        .step_by(3)
        .map(|(rule, node, _)| FindingChange::Resolve {
            rule_id: rule.clone(),
            node_id: node.clone(),
            resolution: Resolution::Fixed,
        })
        .collect();
    let took = evaluate(&store, tenant, &ctx, &resolved).await;
    report(engine, &format!("{} of them resolved by the next", resolved.len()), took, None);
    let updated: Vec<FindingChange> = all
        .iter()
        .skip(1)
        .step_by(3)
        .map(|(rule, node, facts)| FindingChange::Update {
            rule_id: rule.clone(),
            node_id: node.clone(),
            facts: Facts { message: format!("{}!", facts.message), ..facts.clone() },
        })
        .collect();
    let took = evaluate(&store, tenant, &ctx, &updated).await;
    report(engine, &format!("{} of them changed by the next", updated.len()), took, None);
    let took = evaluate(&store, tenant, &ctx, &[]).await;
    report(engine, "the next, which changes nothing", took, None);
    accept(&store, tenant, &ctx).await;
    // As the engine's own upkeep does when it has a moment.
    store.relax().await.unwrap();
    questions(&Asking { engine, store: &store, ctx: &ctx, tenant }, findings, nodes).await;
    store.close().await;
}

/// Accepts what one rule found.
async fn accept(store: &Store, tenant: TenantId, ctx: &OpCtx) {
    let filter = FindingFilter { rule: Some(rule("key", 5)), ..FindingFilter::default() };
    let mut read = store.read(ctx.authorize::<ops::FindingList>(tenant).unwrap()).await.unwrap();
    let selection = read.finding_selection(&filter, FindingVerb::Accept).await.unwrap();
    drop(read);
    let how = store::FindingChanging::Accept {
        reason: "measured".to_owned(),
        until: ctx.clock().now().plus_millis(86_400_000),
    };
    let unit = store.write(ctx.authorize::<ops::FindingChange>(tenant).unwrap()).await.unwrap();
    let selected = store::Selected::Matching { filter: &filter, seen: selection.seen.unwrap() };
    assert!(unit.finding_change(selected, &how).await.unwrap() > 100);
}

#[tokio::main]
async fn main() {
    let number = |name: &str, default: usize| std::env::var(name).map_or(default, |number| number.parse().unwrap());
    let nodes = number("CAIRN_BENCH_NODES", 250_000);
    let findings = number("CAIRN_BENCH_FINDINGS", 100_000);
    let engines = std::env::var("CAIRN_BENCH_ENGINES").unwrap_or_else(|_| "sqlite,postgres".to_owned());
    for engine in engines.split(',') {
        bench(engine, findings, nodes).await;
    }
}
