//! The plugin `aws` against moto (a double of AWS), and against a small double that misbehaves.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: where the harness fails, the test fails"
)]

#[path = "aws/double.rs"]
mod double;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::{Coverage, CredentialId, Page, Result, ScopeId, Secret};
use plugins::{AwsPlugin, JobConfig, Plugin, Sink};
use serde_json::{Value, json};
use testkit::{Moto, TestClock, TestRng};
use transport::{AwsClient, AwsConfig, AwsCredentials, AwsReach, Guard, HostReach, Pacer, Reach, Recorder};

const SECRET_KEY: &str = "planted-signing-key-9999";
const SESSION_TOKEN: &str = "planted-session-token-9998";

struct TestReach {
    aws: AwsClient,
    cancelled: AtomicBool,
}

impl Reach for TestReach {
    fn aws(&self) -> Option<&dyn AwsReach> {
        Some(&self.aws)
    }
    fn host(&self) -> Option<&dyn HostReach> {
        None
    }
    fn credential(&self) -> Option<CredentialId> {
        None
    }
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

fn credentials() -> AwsCredentials {
    let json =
        json!({"access_key_id": "AKIDEXAMPLE0000000", "secret_access_key": SECRET_KEY, "session_token": SESSION_TOKEN});
    AwsCredentials::from_secret_json(&Secret::new(json.to_string())).unwrap()
}

fn reach(url: &str, credentials: AwsCredentials, change: impl FnOnce(&mut AwsConfig)) -> (TestReach, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    let mut config = AwsConfig {
        endpoint_url: Some(url.to_owned()),
        guard: Guard::loopback(true),
        backoff: Duration::from_millis(1),
        ..AwsConfig::default()
    };
    change(&mut config);
    let clock = Arc::new(TestClock::at("2026-11-22T03:00:00Z".parse().unwrap()));
    let pacer = Arc::new(Pacer::new(1_000.0, 1_000.0));
    let aws =
        AwsClient::new(credentials, config, pacer, Arc::clone(&recorder), clock, Arc::new(TestRng::seeded(7))).unwrap();
    (TestReach { aws, cancelled: AtomicBool::new(false) }, recorder)
}

#[derive(Default)]
struct Collected {
    pages: Vec<Page>,
    coverage: BTreeMap<String, Coverage>,
}

#[async_trait]
impl Sink for Collected {
    async fn page(&mut self, page: Page) -> Result<()> {
        assert!(!self.coverage.contains_key(page.scope.as_str()), "a page after the end of {}", page.scope);
        self.pages.push(page);
        Ok(())
    }
    async fn scope_done(&mut self, scope: ScopeId, coverage: Coverage) -> Result<()> {
        assert!(self.coverage.insert(scope.as_str().to_owned(), coverage).is_none());
        Ok(())
    }
    fn progress(&mut self, _: u64, _: u64, _: &str) {}
}

fn settings(value: Value) -> JobConfig {
    value.as_object().unwrap().clone()
}

async fn collect(reach: &TestReach, config: Value) -> Collected {
    let plugin = AwsPlugin::new().unwrap();
    let mut found = Collected::default();
    for task in plugin.plan(&settings(config), reach).await.unwrap() {
        plugin.run(&task, reach, &mut found).await.unwrap();
    }
    found
}

/// What moto cannot do; every other scope must be complete.
const NOT_IN_MOTO: &[&str] = &["accessanalyzer.analyzers", "ssm.managed_instances"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeded_account_is_found_completely_and_twice_alike() {
    let moto = Moto::start();
    let seed = moto.seed();
    let (reach, recorder) = reach(&moto.url, credentials(), |_| {});
    let config = json!({"regions": "eu-west-1", "endpoint_url": moto.url});
    let first = collect(&reach, config.clone()).await;

    for scope in NOT_IN_MOTO {
        let coverage = first.coverage.iter().find(|(name, _)| name.ends_with(scope)).map(|(_, coverage)| coverage);
        assert!(matches!(coverage, Some(Coverage::Failed { .. })), "{scope}: {coverage:?}");
    }
    let gaps: Vec<_> = first
        .coverage
        .iter()
        .filter(|(scope, coverage)| {
            **coverage != Coverage::Complete && !NOT_IN_MOTO.iter().any(|known| scope.ends_with(known))
        })
        .collect();
    assert!(gaps.is_empty(), "{gaps:#?}");

    let nodes: BTreeMap<&str, _> =
        first.pages.iter().flat_map(|page| &page.nodes).map(|node| (node.id.as_str(), node)).collect();
    let edges: BTreeSet<(&str, &str, &str)> = first
        .pages
        .iter()
        .flat_map(|page| &page.edges)
        .map(|edge| (edge.source.as_str(), edge.edge_type.as_str(), edge.target.as_str()))
        .collect();
    let mut missing = Vec::new();
    for (kind, ids) in seed["nodes"].as_object().unwrap() {
        missing.extend(
            ids.as_array()
                .unwrap()
                .iter()
                .filter(|id| !nodes.contains_key(id.as_str().unwrap()))
                .map(|id| format!("{kind}: {id}")),
        );
    }
    for edge in seed["edges"].as_array().unwrap() {
        let text = |i: usize| edge[i].as_str().unwrap();
        if !edges.contains(&(text(0), text(1), text(2))) {
            missing.push(edge.to_string());
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(seed["nodes"].as_object().unwrap().len() >= 60);
    let manifest = AwsPlugin::new().unwrap().manifest();
    let unseeded: Vec<_> =
        manifest.node_types.iter().filter(|kind| seed["nodes"].get(kind.as_str()).is_none()).collect();
    assert_eq!(unseeded, ["aws.accessanalyzer.analyzer", "aws.ssm.managed_instance"]);

    let property = |id: &str, path: &str| {
        nodes[id].properties.get(path).cloned().unwrap_or_else(|| panic!("{id} has no {path}: {:#?}", nodes[id]))
    };
    let hardened = "aws:global:aws.s3.bucket:hardened";
    assert_eq!(
        property(hardened, "encryption")["rules"][0]["apply_server_side_encryption_by_default"]["sse_algorithm"],
        "aws:kms"
    );
    assert_eq!(property(hardened, "public_access_block")["block_public_acls"], true);
    assert_eq!(property(hardened, "versioning")["status"], "Enabled");
    assert_eq!(property(hardened, "logging")["target_bucket"], "logs-bucket");
    assert_eq!(property(hardened, "location"), "eu-west-1");
    assert_eq!(nodes[hardened].tags["data"], "secret");
    let public = "aws:global:aws.s3.bucket:public";
    assert_eq!(property(public, "public_access_block"), Value::Null);
    assert_eq!(property(public, "policy")["statement"][0]["principal"], json!({"aws": ["*"]}));
    assert!(
        property(public, "acl")["grants"]
            .as_array()
            .unwrap()
            .iter()
            .any(|grant| grant["grantee"]["uri"].as_str().is_some_and(|uri| uri.ends_with("AllUsers")))
    );
    let of_type = |kind: &str| nodes.values().filter(|node| node.id.node_type() == kind).copied().collect::<Vec<_>>();
    let open = of_type("aws.ec2.security_group").into_iter().find(|node| node.name == "open").unwrap();
    assert!(
        open.properties["ip_permissions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule["from_port"] == 22 && rule["ip_ranges"][0]["cidr_ip"] == "0.0.0.0/0")
    );
    let instance = of_type("aws.ec2.instance")[0];
    assert_eq!(instance.name, "web-1");
    assert_eq!(instance.properties["state"]["name"], "running");
    let bob = "aws:global:aws.iam.user:arn:aws:iam::123456789012:user/bob";
    assert_eq!(property(bob, "mfa_devices"), json!([]));
    assert_eq!(property(bob, "access_keys")[0]["status"], "Active");
    assert_eq!(nodes[bob].tags["team"], "ops");
    let admin = "aws:global:aws.iam.policy:arn:aws:iam::123456789012:policy/everything";
    assert_eq!(property(admin, "document")["statement"][0]["action"], json!(["*"]));
    assert_eq!(property("aws:global:aws.iam.account_summary:123456789012", "users"), 2);
    assert_eq!(
        property("aws:global:aws.iam.password_policy:123456789012", "password_policy")["minimum_password_length"],
        8
    );
    assert_eq!(
        property("aws:global:aws.iam.credential_report_user:arn:aws:iam::123456789012:user/bob", "mfa_active"),
        false
    );
    assert!(of_type("aws.kms.key").iter().any(|key| key.properties["key_rotation_enabled"] == true));
    assert_eq!(
        property(
            "aws:eu-west-1:aws.rds.db_instance:arn:aws:rds:eu-west-1:123456789012:db:open-db",
            "publicly_accessible"
        ),
        true
    );
    let function = of_type("aws.lambda.function")[0];
    assert_eq!(function.properties["environment"]["variables"], json!(["API_TOKEN"]));
    let definition = of_type("aws.ecs.task_definition")[0];
    assert_eq!(definition.properties["container_definitions"][0]["environment"], json!(["DB_PASSWORD"]));
    let balancer = of_type("aws.elbv2.load_balancer")[0];
    assert_eq!(balancer.properties["attributes"]["deletion_protection_enabled"], false);
    assert_eq!(property("aws:global:aws.account:123456789012", "security_contact")["title"], "CISO");
    let routes: Vec<_> = first
        .pages
        .iter()
        .flat_map(|page| &page.edges)
        .filter(|edge| edge.edge_type.as_str() == "routes_to" && edge.discriminator == "0.0.0.0/0")
        .collect();
    assert!(
        routes.iter().any(|edge| edge.properties["target_type"] == "aws.ec2.internet_gateway"
            && edge.properties["blackhole"] == false)
    );
    let mains = first.pages.iter().flat_map(|page| &page.edges).filter(|edge| {
        edge.edge_type.as_str() == "associated_with" && edge.properties.get("main") == Some(&json!(true))
    });
    assert!(mains.count() >= 1);

    let mut records = Vec::new();
    for scope in first.coverage.keys() {
        records.extend(recorder.take(&scope.parse().unwrap()));
    }
    assert!(records.len() > 200, "{}", records.len());
    assert!(records.iter().any(|record| record.kept.is_some() && record.request.operation == "iam:ListUsers"));
    let mut shown = format!("{records:?}{reach:?}", reach = reach.aws);
    for kept in records.iter().filter_map(|record| record.kept.as_ref()) {
        shown.push_str(&String::from_utf8_lossy(kept));
    }
    shown.push_str(&serde_json::to_string(&first.pages).unwrap());
    let secrets = seed["secrets"].as_array().unwrap().iter().map(|secret| secret.as_str().unwrap());
    for secret in secrets.chain([SECRET_KEY, SESSION_TOKEN]) {
        if let Some(at) = shown.find(secret) {
            panic!("a secret is shown: {}", shown[at.saturating_sub(200)..at].escape_debug());
        }
    }

    let second = collect(&reach, config).await;
    assert_eq!(first.coverage, second.coverage);
    for (a, b) in first.pages.iter().zip(&second.pages) {
        assert_eq!(a, b);
    }
    assert_eq!(first.pages.len(), second.pages.len());

    let role = json!({"access_key_id": "AKIDEXAMPLE0000000", "secret_access_key": SECRET_KEY,
        "role_arn": "arn:aws:iam::123456789012:role/web", "external_id": "e-1"});
    let assumed = AwsCredentials::from_secret_json(&Secret::new(role.to_string())).unwrap();
    let (reach, recorder) = self::reach(&moto.url, assumed, |_| {});
    let found = collect(&reach, json!({"regions": ["eu-west-1"], "services": "sqs,sns"})).await;
    assert!(found.coverage.values().all(|coverage| *coverage == Coverage::Complete), "{:?}", found.coverage);
    let plan = recorder.take(&"aws:plan".parse().unwrap());
    let calls: Vec<&str> = plan.iter().map(|record| record.request.operation.as_str()).collect();
    assert_eq!(calls, ["sts:AssumeRole", "sts:GetCallerIdentity", "ec2:DescribeRegions"]);
}

/// ARNs that the tables build from a name, and the property that says the real one.
const BUILT: &[(&str, &str)] = &[
    ("aws.dynamodb.table", "table_arn"),
    ("aws.eks.cluster", "arn"),
    ("aws.elasticache.cluster", "arn"),
    ("aws.elasticache.replication_group", "arn"),
    ("aws.kinesis.stream", "stream_arn"),
    ("aws.logs.log_group", "arn"),
    ("aws.opensearch.domain", "arn"),
    ("aws.sqs.queue", "queue_arn"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_accounts_with_the_same_names_share_no_node_and_no_edge() {
    async fn account(moto: &Moto) -> Collected {
        let (reach, _) = reach(&moto.url, credentials(), |_| {});
        collect(&reach, json!({"regions": "eu-west-1", "endpoint_url": moto.url})).await
    }
    let seeded = ["111122223333", "444455556666"].map(|id| {
        std::thread::spawn(move || {
            let moto = Moto::start_as(id);
            assert_eq!(moto.seed()["account"], id);
            moto
        })
    });
    let [first, second] = seeded.map(|thread| thread.join().unwrap());
    // What really is one thing for all accounts: no two of them can have one bucket name, and AWS's own policies are theirs.
    fn ids(of: &Collected) -> BTreeSet<&str> {
        let nodes = of.pages.iter().flat_map(|page| &page.nodes);
        nodes
            .filter(|node| node.id.node_type() != "aws.s3.bucket" && !node.id.resource().contains(":iam::aws:policy/"))
            .map(|node| node.id.as_str())
            .collect()
    }
    fn names(of: &Collected) -> BTreeSet<(&str, &str)> {
        of.pages.iter().flat_map(|page| &page.nodes).map(|node| (node.id.node_type(), node.name.as_str())).collect()
    }
    let (one, two) = (account(&first).await, account(&second).await);
    let (one_ids, two_ids) = (ids(&one), ids(&two));
    assert!(names(&one).intersection(&names(&two)).count() >= 60, "the accounts have the same names");
    assert_eq!(one_ids.intersection(&two_ids).collect::<Vec<_>>(), Vec::<&&str>::new());
    for (account, own, other) in [(&one, &one_ids, &two_ids), (&two, &two_ids, &one_ids)] {
        for edge in account.pages.iter().flat_map(|page| &page.edges) {
            let ends = [edge.source.as_str(), edge.target.as_str()];
            assert!(!ends.iter().any(|end| other.contains(end)), "an edge into the other account: {ends:?}");
        }
        for (kind, arn) in BUILT {
            let mut nodes =
                account.pages.iter().flat_map(|page| &page.nodes).filter(|node| node.id.node_type() == *kind);
            let node = nodes.next().unwrap_or_else(|| panic!("no {kind}"));
            let real =
                node.properties.get(*arn).and_then(Value::as_str).unwrap_or_else(|| panic!("{kind} has no {arn}"));
            assert_eq!(node.id.resource(), real.trim_end_matches(":*"));
        }
        // By name, ARN or profile: what names another node names one that is there.
        for kind in [
            "log_group",
            "key_pair",
            "db_instance",
            "db_cluster",
            "subnet_group",
            "launch_configuration",
            "eks.cluster",
        ] {
            let ends = account.pages.iter().flat_map(|page| &page.edges).flat_map(|edge| [&edge.source, &edge.target]);
            let ends: BTreeSet<&str> =
                ends.filter(|end| end.node_type().ends_with(kind)).map(domain::NodeId::as_str).collect();
            assert!(!ends.is_empty(), "no edge of a {kind}");
            assert!(ends.is_subset(own), "an edge to no {kind}: {ends:?}");
        }
    }
}

#[tokio::test]
async fn wrong_settings_name_what_to_change() {
    let plugin = AwsPlugin::new().unwrap();
    for (config, expected) in [
        (json!({"region": "x"}), "regions"),
        (json!({"regions": "mars"}), "`mars` is not a region"),
        (json!({"regions": true}), "commas"),
        (json!({"services": "ec2,nope"}), "use some of"),
        (json!({"concurrency": 0}), "1 to 64"),
        (json!({"endpoint_url": "http://example.com"}), "use https"),
        (json!({"endpoint_url": "http://169.254.169.254"}), "another machine"),
        (json!({"home_region": "x"}), "us-east-1"),
    ] {
        let error = plugin.check(&settings(config)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    plugin.check(&settings(json!({"regions": "all", "concurrency": "8", "services": ["ec2"]}))).unwrap();
    let double = double::Double::start(|_| double::Answer::Default).await;
    let (reach, _) = reach(&double.url, credentials(), |_| {});
    let error = plugin.plan(&settings(json!({"regions": "eu-north-9"})), &reach).await.unwrap_err().to_string();
    assert_eq!(error, "region `eu-north-9` is not enabled in account 111122223333: use some of eu-west-1, us-east-1");
}

#[tokio::test]
async fn one_scope_in_trouble_harms_no_other() {
    use double::Answer;
    let double = double::Double::start(|call| match (call.service.as_str(), call.operation.as_str()) {
        ("sqs", _) => {
            Answer::Json(403, r#"{"__type":"AccessDeniedException","message":"planted-signing-key-9999 may not"}"#)
        }
        ("kinesis", _) => Answer::Json(400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#),
        ("dynamodb", _) => Answer::Endless,
        ("acm", _) => Answer::Hang,
        ("secretsmanager", _) => Answer::Json(200, "{\"SecretList\":[,"),
        ("sns", _) => Answer::Xml(200, "<ListTopicsResponse><ListTopicsResult><Topics><member>"),
        ("kms", _) => {
            Answer::Json(400, r#"{"__type":"ExpiredTokenException","message":"The security token is expired"}"#)
        }
        ("ecr", _) => Answer::Json(501, r#"{"message":"not implemented"}"#),
        ("ssm", "DescribeParameters") => Answer::Json(200, r#"{"Parameters":[{"Name":"/a"}],"NextToken":"same"}"#),
        _ => Answer::Default,
    })
    .await;
    let (reach, recorder) = reach(&double.url, credentials(), |config| {
        config.call_timeout = Duration::from_millis(700);
        config.reply_bytes_max = 4 * 1024 * 1024;
        config.tries = 3;
    });
    let services = "sqs,kinesis,dynamodb,acm,secretsmanager,sns,kms,ecr,ssm,logs,config,lambda,rds";
    let found = collect(&reach, json!({"regions": "eu-west-1", "services": services})).await;
    let of = |scope: &str| &found.coverage[&format!("aws:111122223333:eu-west-1:{scope}")];
    let reason = |scope: &str| of(scope).reason().unwrap_or_default().to_owned();
    assert!(matches!(of("sqs.queues"), Coverage::Denied { .. }));
    assert_eq!(reason("sqs.queues"), "denied: AccessDeniedException: [secret] may not");
    assert!(matches!(of("kinesis.streams"), Coverage::Throttled { .. }));
    assert_eq!(reason("dynamodb.tables"), "the reply is larger than 4194304 bytes");
    assert!(reason("acm.certificates").starts_with("no answer within"), "{}", reason("acm.certificates"));
    assert!(reason("secretsmanager.secrets").starts_with("malformed reply: ListSecrets: no JSON"));
    assert!(reason("sns.topics").starts_with("malformed reply: ListTopics: no XML"));
    assert!(reason("kms.keys").contains("store fresh keys"));
    assert!(matches!(of("ecr.repositories"), Coverage::Failed { .. }));
    assert!(
        matches!(of("ssm.parameters"), Coverage::Partial { .. })
            && reason("ssm.parameters").contains("same page twice")
    );
    for good in [
        "ssm.managed_instances",
        "logs.log_groups",
        "logs.metric_filters",
        "config.recorders",
        "lambda.functions",
        "rds.db_instances",
    ] {
        assert_eq!(of(good), &Coverage::Complete, "{good}");
    }
    let throttled = recorder.take(&"aws:111122223333:eu-west-1:kinesis.streams".parse().unwrap());
    assert_eq!((throttled.len(), throttled[0].retries), (1, 2));
    let denied = recorder.take(&"aws:111122223333:eu-west-1:sqs.queues".parse().unwrap());
    assert!(denied[0].outcome.is_err() && !format!("{denied:?}").contains(SECRET_KEY));
    let good = recorder.take(&"aws:111122223333:eu-west-1:rds.db_instances".parse().unwrap());
    let reply = good[0].outcome.as_ref().unwrap();
    assert_eq!(reply.request_id.as_deref(), Some("double-1"));
    assert_eq!(reply.digest, crypto::sha256(good[0].kept.as_ref().unwrap()));
}

#[tokio::test]
async fn a_service_that_fails_is_tried_less_often_than_one_that_asks_to_wait() {
    use double::Answer;
    let double = double::Double::start(|call| match call.service.as_str() {
        "sqs" => Answer::Json(500, "{}"),
        "kinesis" => Answer::Json(400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#),
        _ => Answer::Default,
    })
    .await;
    let (reach, recorder) = reach(&double.url, credentials(), |config| config.backoff = Duration::from_millis(1));
    let found = collect(&reach, json!({"regions": "eu-west-1", "services": "sqs,kinesis"})).await;
    for (scope, reason, retries) in
        [("sqs.queues", "HTTP 500", 2), ("kinesis.streams", "ThrottlingException: Rate exceeded", 4)]
    {
        let scope = format!("aws:111122223333:eu-west-1:{scope}");
        let said = found.coverage[&scope].reason().unwrap_or_default();
        assert!(said.contains(reason), "{said}");
        let calls = recorder.take(&scope.parse().unwrap());
        assert_eq!((calls.len(), calls[0].retries), (1, retries), "{scope}");
    }
}

#[tokio::test]
async fn what_was_not_read_of_a_resource_is_missing_and_listed() {
    use double::Answer;
    let double = double::Double::start(|call| match (call.service.as_str(), call.operation.as_str()) {
        ("kms", "ListKeys") => Answer::Json(
            200,
            r#"{"Keys":[{"KeyId":"k","KeyArn":"arn:aws:kms:eu-west-1:111122223333:key/k"}]}"#,
        ),
        ("kms", "GetKeyRotationStatus") => Answer::Json(200, r#"{"KeyRotationEnabled":true}"#),
        ("kms", "DescribeKey" | "GetKeyPolicy") => {
            Answer::Json(403, r#"{"__type":"AccessDeniedException","message":"no"}"#)
        }
        ("ecr", "DescribeRepositories") => Answer::Json(
            200,
            r#"{"repositories":[{"repositoryName":"r","repositoryArn":"arn:aws:ecr:eu-west-1:111122223333:repository/r"}]}"#,
        ),
        ("ecr", "GetRepositoryPolicy") => {
            Answer::Json(400, r#"{"__type":"RepositoryPolicyNotFoundException","message":"none"}"#)
        }
        ("ecr", "GetLifecyclePolicy") => Answer::Json(400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#),
        _ => Answer::Default,
    })
    .await;
    let (reach, _) = reach(&double.url, credentials(), |config| config.tries = 1);
    let found = collect(&reach, json!({"regions": "eu-west-1", "services": "kms,ecr"})).await;
    let of = |kind: &str| {
        let mut nodes = found.pages.iter().flat_map(|page| &page.nodes);
        nodes.find(|node| node.id.node_type() == kind).unwrap().properties.clone()
    };
    let key = of("aws.kms.key");
    assert_eq!(key["unread"], json!(["*", "policy"]));
    assert_eq!((key.get("policy"), &key["key_rotation_enabled"]), (None, &json!(true)));
    let repository = of("aws.ecr.repository");
    assert_eq!(repository["unread"], json!(["lifecycle_policy"]));
    assert_eq!((&repository["policy"], repository.get("lifecycle_policy")), (&Value::Null, None));
    assert_eq!(repository["account_id"], "111122223333");
}

#[tokio::test]
async fn a_refused_credential_stops_the_plan_and_says_so() {
    let double = double::Double::start(|_| {
        double::Answer::Xml(403, "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>The security token included in the request is invalid</Message></Error></ErrorResponse>")
    })
    .await;
    let (reach, _) = reach(&double.url, credentials(), |_| {});
    let error = AwsPlugin::new().unwrap().plan(&JobConfig::new(), &reach).await.unwrap_err();
    assert!(matches!(error, domain::Error::Invalid { field: Some("credential"), .. }), "{error:?}");
    assert!(error.to_string().contains("InvalidClientTokenId"));
}

#[tokio::test]
async fn a_cancelled_task_ends() {
    let double = double::Double::start(|_| double::Answer::Default).await;
    let (reach, _) = reach(&double.url, credentials(), |_| {});
    let plugin = AwsPlugin::new().unwrap();
    let task = plugin.plan(&settings(json!({"services": "iam"})), &reach).await.unwrap().remove(0);
    reach.cancelled.store(true, Ordering::SeqCst);
    let mut found = Collected::default();
    assert!(plugin.run(&task, &reach, &mut found).await.is_err());
    assert!(found.coverage.is_empty(), "a cancelled task proves nothing");
}

#[tokio::test]
async fn the_table_agrees_with_the_published_service_models() {
    let tables = concat!(env!("CARGO_MANIFEST_DIR"), "/src/aws/tables");
    let (agrees, text) = Moto::python("aws_model.py", &["check", tables]);
    assert!(agrees, "{text}");
}

async fn validated(reach: &TestReach, config: Value) -> (Vec<domain::Check>, Result<()>) {
    let checks = plugins::Checks::default();
    let ended = AwsPlugin::new().unwrap().validate(&settings(config), reach, &checks).await;
    (checks.all(), ended)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validation_says_which_calls_are_denied_and_reads_one_page_in_one_region() {
    use domain::CheckOutcome::{Denied, Good, NotTried};
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let double = double::Double::start(move |call| {
        seen.lock().unwrap().push(format!("{}:{}", call.service, call.operation));
        match call.operation.as_str() {
            "DescribeVpcs" => double::Answer::Xml(
                403,
                "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no\u{1b}[2J</Message></Error></Errors></Response>",
            ),
            _ => double::Answer::Default,
        }
    })
    .await;
    let (reach, _) = reach(&double.url, credentials(), |_| {});
    let config = json!({"services": "ec2", "endpoint_url": double.url});
    let (checks, ended) = validated(&reach, config).await;
    ended.unwrap();
    let of =
        |what: &str| checks.iter().find(|check| check.what == what).unwrap_or_else(|| panic!("{what}: {checks:?}"));
    assert_eq!((of("sts:GetCallerIdentity").outcome, of("ec2:DescribeInstances").outcome), (Good, Good));
    let denied: Vec<_> = checks.iter().filter(|check| check.outcome == Denied).collect();
    assert_eq!(denied.len(), 1, "{denied:?}");
    let reason = denied[0].reason.as_deref().unwrap();
    assert!(denied[0].what == "ec2:DescribeVpcs" && reason.contains("UnauthorizedOperation"), "{reason}");
    assert!(!reason.contains('\u{1b}'));
    assert_eq!(of("ec2:DescribeVpcAttribute").outcome, NotTried);
    let asked = asked.lock().unwrap();
    let twice = asked.iter().find(|one| asked.iter().filter(|other| other == one).count() > 1);
    assert_eq!(twice, None, "each call is made once");
    assert!(asked.iter().all(|call| call.starts_with("ec2:") || call.starts_with("sts:")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validation_with_a_key_that_nobody_knows_asks_once() {
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let double = double::Double::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        double::Answer::Xml(
            403,
            "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>unknown</Message></Error></ErrorResponse>",
        )
    })
    .await;
    let (reach, _) = reach(&double.url, credentials(), |_| {});
    let (checks, ended) = validated(&reach, json!({"endpoint_url": double.url})).await;
    ended.unwrap();
    let told: Vec<_> = checks.iter().map(|check| (check.what.as_str(), check.outcome)).collect();
    assert_eq!(told, [("sts:GetCallerIdentity", domain::CheckOutcome::Denied)]);
    assert!(checks[0].reason.as_deref().unwrap().contains("InvalidClientTokenId"), "{checks:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}
