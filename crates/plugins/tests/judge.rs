//! What the shipped rules say about what the plugins really deliver: the seeded account of moto and the machine that the test runs on.
//!
//! The tables are what `crates/testkit/peers/seed_aws.py` makes, checked by hand: a rule whose properties are named or shaped otherwise
//! than the plugin delivers them shows here as a wrong name or as an error.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: where the harness fails, the test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use compliance::{Ruleset, Snapshot, SnapshotBuilder, Verdict, builtin, judge, load};
use domain::{Coverage, CredentialId, Page, Result, ScopeId, Secret, Timestamp};
use plugins::{AwsPlugin, HostPlugin, Plugin, Sink};
use serde_json::{Value, json};
use testkit::{Moto, TestClock, TestRng};
use transport::{AwsClient, AwsConfig, AwsCredentials, AwsReach, Guard, HostReach, LocalHost, Pacer, Reach, Recorder};

#[derive(Default)]
struct Reached {
    aws: Option<AwsClient>,
    host: Option<LocalHost>,
}

impl Reach for Reached {
    fn aws(&self) -> Option<&dyn AwsReach> {
        self.aws.as_ref().map(|aws| aws as &dyn AwsReach)
    }
    fn host(&self) -> Option<&dyn HostReach> {
        self.host.as_ref().map(|host| host as &dyn HostReach)
    }
    fn credential(&self) -> Option<CredentialId> {
        None
    }
    fn is_cancelled(&self) -> bool {
        false
    }
}

#[derive(Default)]
struct Pages(Vec<Page>);

#[async_trait]
impl Sink for Pages {
    async fn page(&mut self, page: Page) -> Result<()> {
        self.0.push(page);
        Ok(())
    }
    async fn scope_done(&mut self, _: ScopeId, _: Coverage) -> Result<()> {
        Ok(())
    }
    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

fn clock() -> Arc<TestClock> {
    Arc::new(TestClock::at("2026-11-22T03:00:00Z".parse().unwrap()))
}

async fn collect(plugin: &dyn Plugin, reach: &Reached, config: Value) -> Vec<Page> {
    let mut pages = Pages::default();
    for task in plugin.plan(config.as_object().unwrap(), reach).await.unwrap() {
        plugin.run(&task, reach, &mut pages).await.unwrap();
    }
    pages.0
}

async fn account(moto: &Moto) -> Vec<Page> {
    let keys = json!({"access_key_id": "AKIDEXAMPLE0000000", "secret_access_key": "signing-key"});
    let credentials = AwsCredentials::from_secret_json(&Secret::new(keys.to_string())).unwrap();
    let config = AwsConfig {
        endpoint_url: Some(moto.url.clone()),
        guard: Guard::loopback(true),
        backoff: Duration::from_millis(1),
        ..AwsConfig::default()
    };
    let (pacer, recorder) = (Arc::new(Pacer::new(1_000.0, 1_000.0)), Arc::new(Recorder::default()));
    let aws = AwsClient::new(credentials, config, pacer, recorder, clock(), Arc::new(TestRng::seeded(7))).unwrap();
    let reach = Reached { aws: Some(aws), ..Reached::default() };
    collect(&AwsPlugin::new().unwrap(), &reach, json!({"regions": "eu-west-1", "endpoint_url": moto.url})).await
}

fn snapshot(pages: &[Page]) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    for node in pages.iter().flat_map(|page| &page.nodes) {
        let (tags, properties) = (json!(node.tags), Value::Object(node.properties.clone()));
        let id = &node.id;
        builder.node(id.as_str(), id.node_type(), &node.name, id.region(), id.provider(), tags, properties);
    }
    for edge in pages.iter().flat_map(|page| &page.edges) {
        let properties = Value::Object(edge.properties.clone());
        builder.edge(edge.source.as_str(), edge.target.as_str(), edge.edge_type.as_str(), properties);
    }
    builder.build()
}

fn ruleset() -> Ruleset {
    load(&builtin::catalog().unwrap(), &builtin::PACKS, crypto::sha256).unwrap()
}

/// Rule -> `pass`, `fail`, `error` -> names of nodes; what a rule is not about is left out.
type Verdicts = BTreeMap<String, BTreeMap<&'static str, BTreeSet<String>>>;

fn verdicts(snapshot: &Snapshot, now: Timestamp) -> Verdicts {
    let ruleset = ruleset();
    let mut out = Verdicts::new();
    for rule in ruleset.rules() {
        for (index, verdict) in judge(&ruleset, rule, snapshot, now) {
            let node = snapshot.node(index).unwrap();
            let (word, text) = match verdict {
                Verdict::Pass => ("pass", node.name.to_string()),
                Verdict::Fail { .. } => ("fail", node.name.to_string()),
                Verdict::Error { message } => ("error", format!("{}: {message}", node.name)),
                Verdict::NotApplicable => continue,
            };
            out.entry(rule.id.clone()).or_default().entry(word).or_default().insert(text);
        }
    }
    out
}

/// Rule, names that pass, names that fail; [`stable`] makes the names. Every rule that judges a node of the account is here.
const ACCOUNT: &[(&str, &[&str], &[&str])] = &[
    ("aws-access-analyzer", &[], &["123456789012"]),
    ("aws-access-key-rotation", &["key of bob"], &[]),
    ("aws-access-key-unused", &["key of bob"], &[]),
    ("aws-account-security-contact", &["123456789012"], &[]),
    ("aws-alarm-bucket-policy-changes", &[], &["123456789012"]),
    ("aws-alarm-config-changes", &[], &["123456789012"]),
    ("aws-alarm-console-failures", &[], &["123456789012"]),
    ("aws-alarm-console-without-mfa", &[], &["123456789012"]),
    ("aws-alarm-denied-calls", &[], &["123456789012"]),
    ("aws-alarm-gateway-changes", &[], &["123456789012"]),
    ("aws-alarm-iam-changes", &[], &["123456789012"]),
    ("aws-alarm-key-deletion", &[], &["123456789012"]),
    ("aws-alarm-network-acl-changes", &[], &["123456789012"]),
    ("aws-alarm-organization-changes", &[], &["123456789012"]),
    ("aws-alarm-root-use", &["123456789012"], &[]),
    ("aws-alarm-route-changes", &[], &["123456789012"]),
    ("aws-alarm-security-group-changes", &[], &["123456789012"]),
    ("aws-alarm-trail-changes", &[], &["123456789012"]),
    ("aws-alarm-vpc-changes", &[], &["123456789012"]),
    ("aws-cloudshell-restricted", &["admins", "ann", "bob", "config", "ecs-tasks", "eks", "lambda", "web"], &[]),
    ("aws-cloudtrail-all-regions", &["123456789012"], &[]),
    ("aws-cloudtrail-bucket-logging", &[], &["strong", "weak"]),
    ("aws-cloudtrail-bucket-private", &["strong", "weak"], &[]),
    ("aws-cloudtrail-encrypted", &["strong"], &["weak"]),
    ("aws-cloudtrail-to-cloudwatch", &["strong"], &["weak"]),
    ("aws-cloudtrail-validation", &["strong"], &["weak"]),
    ("aws-config-recording", &["default"], &[]),
    ("aws-dynamodb-recovery", &[], &["orders"]),
    ("aws-ebs-default-encryption", &[], &["EC2 settings"]),
    ("aws-ebs-encrypted", &["volume with a key"], &["volume without a key"]),
    ("aws-ebs-snapshot-private", &["snapshot of moto"], &["snapshot"]),
    ("aws-ecr-scan", &[], &["app"]),
    ("aws-efs-encrypted", &[], &["file system"]),
    ("aws-eks-endpoint", &[], &["k"]),
    ("aws-guardduty", &["detector"], &[]),
    ("aws-imds-v2", &[], &["web-1"]),
    ("aws-inline-no-admin", &["group-inline", "inline"], &[]),
    ("aws-instance-role", &["web-1"], &[]),
    ("aws-kms-key-not-public", &["does not rotate", "rotates"], &[]),
    ("aws-kms-rotation", &["rotates"], &["does not rotate"]),
    ("aws-lambda-not-public", &[], &["job"]),
    ("aws-listener-tls", &[], &["HTTP:80"]),
    ("aws-nacl-admin-ports", &[], &["default ACL", "own ACL"]),
    ("aws-opensearch-https", &[], &["search"]),
    ("aws-password-length", &[], &["password policy"]),
    ("aws-password-reuse", &[], &["password policy"]),
    ("aws-policy-no-admin", &["narrow"], &["everything"]),
    ("aws-queue-topic-not-public", &["alarms", "dead", "from-stack", "work"], &[]),
    ("aws-rds-backups", &[], &["good-db", "open-db"]),
    ("aws-rds-deletion-protection", &[], &["good-db", "open-db"]),
    ("aws-rds-encrypted", &["good-db"], &["open-db"]),
    ("aws-rds-minor-upgrades", &["good-db", "open-db"], &[]),
    ("aws-rds-not-public", &["good-db"], &["open-db"]),
    ("aws-redshift-not-public", &[], &["dw"]),
    ("aws-role-trust", &["config", "ecs-tasks", "eks", "lambda", "web"], &[]),
    ("aws-root-mfa", &[], &["account summary"]),
    ("aws-root-no-access-keys", &["account summary"], &[]),
    ("aws-s3-access-logging", &["hardened"], &["in-virginia", "logs-bucket", "public"]),
    ("aws-s3-account-public-access-block", &[], &["account public access block"]),
    ("aws-s3-acl-private", &["hardened", "in-virginia", "logs-bucket"], &["public"]),
    ("aws-s3-encryption", &["hardened"], &["in-virginia", "logs-bucket", "public"]),
    ("aws-s3-https-only", &["hardened"], &["in-virginia", "logs-bucket", "public"]),
    ("aws-s3-mfa-delete", &[], &["hardened", "in-virginia", "logs-bucket", "public"]),
    ("aws-s3-not-public", &["hardened", "in-virginia", "logs-bucket"], &["public"]),
    ("aws-s3-public-access-block", &["hardened"], &["in-virginia", "logs-bucket", "public"]),
    ("aws-s3-reads-recorded", &[], &["123456789012"]),
    ("aws-s3-versioning", &["hardened"], &["in-virginia", "logs-bucket", "public"]),
    ("aws-s3-writes-recorded", &["123456789012"], &[]),
    ("aws-secret-rotation", &[], &["db"]),
    ("aws-security-hub", &["security hub"], &[]),
    ("aws-server-certificate-expired", &[], &["old"]),
    ("aws-sg-databases", &["closed", "default", "open"], &[]),
    ("aws-sg-default-closed", &[], &["default"]),
    ("aws-sg-rdp-ipv4", &["closed", "default"], &["open"]),
    ("aws-sg-rdp-ipv6", &["closed", "default"], &["open"]),
    ("aws-sg-ssh-ipv4", &["closed", "default"], &["open"]),
    ("aws-sg-ssh-ipv6", &["closed", "default"], &["open"]),
    (
        "aws-subnet-no-public-ip",
        &["10.0.0.0/24", "10.0.1.0/24"],
        &["172.31.0.0/20", "172.31.16.0/20", "172.31.32.0/20"],
    ),
    ("aws-support-role", &[], &["123456789012"]),
    ("aws-user-groups-only", &["ann"], &["bob"]),
    ("aws-user-mfa", &[], &["bob"]),
    ("aws-user-no-admin", &["ann", "bob"], &[]),
    ("aws-user-one-key", &["ann", "bob"], &[]),
    ("aws-user-password-unused", &["bob"], &[]),
    ("aws-vpc-flow-logs", &["10.0.0.0/16"], &["10.9.0.0/16", "172.31.0.0/16"]),
];

/// Names of the seeded account that moto draws by lot, as the table calls them.
fn stable(pages: &[Page], name: &str) -> String {
    let mut nodes = pages.iter().flat_map(|page| &page.nodes);
    let Some(node) = nodes.find(|node| node.name == name) else { return name.to_owned() };
    let of = |property: &str| node.properties.get(property).and_then(Value::as_str).unwrap_or_default();
    match node.id.node_type() {
        "aws.kms.key" => of("description").to_owned(),
        "aws.iam.access_key" => format!("key of {}", of("user_name")),
        "aws.guardduty.detector" => "detector".to_owned(),
        "aws.efs.file_system" => "file system".to_owned(),
        "aws.ec2.vpc" | "aws.ec2.subnet" => of("cidr_block").to_owned(),
        "aws.ec2.snapshot" => if of("description").is_empty() { "snapshot" } else { "snapshot of moto" }.to_owned(),
        "aws.ec2.volume" => format!("volume {} a key", if of("kms_key_id").is_empty() { "without" } else { "with" }),
        "aws.ec2.network_acl" => {
            if node.properties["is_default"] == true { "default ACL" } else { "own ACL" }.to_owned()
        }
        _ => name.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_tell_the_good_from_the_bad_resources_of_the_seeded_account() {
    let moto = Moto::start();
    moto.seed();
    let pages = account(&moto).await;
    let all = snapshot(&pages);
    let got = verdicts(&all, seeded_at(&pages));
    let names = |rule: &str, word: &str| -> BTreeSet<String> {
        let found = got.get(rule).and_then(|by| by.get(word)).into_iter().flatten();
        found.map(|name| stable(&pages, name)).collect()
    };
    let mut wrong = Vec::new();
    for (rule, pass, fail) in ACCOUNT {
        for (word, expect) in [("pass", pass), ("fail", fail), ("error", &[].as_slice())] {
            let expect: BTreeSet<String> = expect.iter().map(|name| (*name).to_owned()).collect();
            if names(rule, word) != expect {
                wrong.push(format!("{rule} {word}: {:?}, not {expect:?}", names(rule, word)));
            }
        }
    }
    wrong.extend(got.keys().filter(|rule| ACCOUNT.iter().all(|(known, ..)| known != rule)).cloned());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    // What faces the Internet weighs more: the listener hangs on a balancer that does.
    let evaluation = compliance::evaluate(&ruleset(), &all, seeded_at(&pages));
    let risk =
        |rule: &str| evaluation.failures.iter().find(|failure| failure.rule_id == rule).map(|failure| &failure.verdict);
    assert!(
        matches!(risk("aws-listener-tls"), Some(Verdict::Fail { risk_score: 63, .. })),
        "{:?}",
        risk("aws-listener-tls")
    );

    // Every node tells its account; the policy of AWS itself has none.
    let nodes = || pages.iter().flat_map(|page| &page.nodes);
    for node in nodes() {
        let account = node.properties.get("account_id").and_then(Value::as_str);
        let expect = (!node.id.resource().starts_with("arn:aws:iam::aws:")).then_some("123456789012");
        assert_eq!(account, expect, "{}", node.id);
    }
    // What moto refuses and may be refused is listed, and a rule about it would not pass.
    let setting = nodes().find(|node| node.id.node_type() == "aws.ec2.account_setting").unwrap();
    assert!(setting.properties["unread"].as_array().unwrap().contains(&json!("serial_console_access_enabled")));
}

/// The moment when the account was seeded: moto dates its resources by the wall clock.
fn seeded_at(pages: &[Page]) -> Timestamp {
    let mut nodes = pages.iter().flat_map(|page| &page.nodes);
    let key = nodes.find(|node| node.id.node_type() == "aws.iam.access_key").unwrap();
    key.properties["create_date"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_judge_this_machine_and_err_only_where_the_collector_was_refused() {
    let host = LocalHost::new(clock(), Arc::new(Recorder::default()), "test".into());
    let reach = Reached { host: Some(host), ..Reached::default() };
    let pages = collect(&HostPlugin, &reach, json!({"package_managers": "dpkg,rpm"})).await;
    let machine = pages.iter().flat_map(|page| &page.nodes).find(|node| node.id.node_type() == "host.machine").unwrap();
    let unread: Vec<&String> = machine.properties["sections"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, state)| **state != "complete" && **state != "absent")
        .map(|(section, _)| section)
        .collect();
    let got = verdicts(&snapshot(&pages), "2026-11-22T03:00:00Z".parse().unwrap());
    for (rule, by) in &got {
        for message in by.get("error").into_iter().flatten() {
            let known = unread.iter().any(|section| message.contains(&format!("`{section}` was not read: its section is")))
                // Sockets of processes of other users and containers.
                || message.ends_with("?: `executable_deleted` was not read")
                || message.ends_with("`password_state` was not read")
                // Homes of other users.
                || message.ends_with("`home_exists` was not read")
                || message.ends_with("`netrc_file` was not read");
            assert!(known, "{rule}: {message}");
        }
    }
    // Facts of the machine that the test can see for itself.
    let expect = |file: &str, value: &str| {
        if std::fs::read_to_string(file).is_ok_and(|text| text.trim() == value) { "pass" } else { "fail" }
    };
    for (rule, file, value) in [
        ("linux-sysctl-aslr", "/proc/sys/kernel/randomize_va_space", "2"),
        ("linux-sysctl-dmesg", "/proc/sys/kernel/dmesg_restrict", "1"),
        ("linux-sysctl-ip-forward", "/proc/sys/net/ipv4/ip_forward", "0"),
    ] {
        assert!(got[rule].contains_key(expect(file, value)), "{rule}: {:?}", got[rule]);
    }
    assert!(got.keys().filter(|rule| rule.starts_with("linux-")).count() >= 40);
}

#[test]
fn a_socket_of_the_kernel_has_no_program_to_judge_and_an_unseen_one_is_not_judged() {
    let mut builder = SnapshotBuilder::new();
    for (name, properties) in [
        ("kernel", json!({ "port": 2049, "kernel": true })),
        ("unseen", json!({ "port": 99 })),
        ("deleted", json!({ "port": 22, "executable_deleted": true })),
    ] {
        builder.node(
            &format!("host:local:host.listener:{name}"),
            "host.listener",
            name,
            "local",
            "host",
            json!({}),
            properties,
        );
    }
    let got = verdicts(&builder.build(), "2026-11-22T03:00:00Z".parse().unwrap());
    let expect = [("error", "unseen: `executable_deleted` was not read"), ("fail", "deleted")];
    let expect = expect.map(|(word, name)| (word, BTreeSet::from([name.to_owned()])));
    assert_eq!(got["linux-listener-executable"], BTreeMap::from(expect));
}
