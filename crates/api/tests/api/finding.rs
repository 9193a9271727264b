//! Findings in groups, by what their rules stand in, with what can be run against them, and many changed at once.

use access::Role;
use domain::Severity;
use serde_json::{Value, json};

use crate::world::{NODE, World, each_engine, holder};

const TENANT: &str = "/api/v1/tenants/acme";
const OTHER: &str = "aws:eu-west-1:aws.s3.bucket:b2";

/// Three findings: one rule on two nodes, and a rule that is in another control of one of its frameworks.
async fn filled(world: &World) -> [String; 3] {
    world.node(world.a).await;
    [
        world.finding_of(world.a, "aws-root-no-access-keys", NODE, Severity::High).await,
        world.finding_of(world.a, "aws-root-no-access-keys", OTHER, Severity::High).await,
        world.finding_of(world.a, "aws-s3-https-only", NODE, Severity::Medium).await,
    ]
}

fn keys(answer: &Value) -> Vec<(String, u64)> {
    let one = |item: &Value| (item["key"].as_str().unwrap().to_owned(), item["open"].as_u64().unwrap());
    answer["items"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn findings_are_grouped_by_rule_node_framework_and_control_and_each_key_lists_its_findings() {
    each_engine(|world| async move {
        filled(&world).await;
        let token = world.sign_in(&holder(Role::Auditor, 'a')).await;
        let get =
            async |path: &str| world.call("GET", &format!("{TENANT}/{path}"), Some(&token), None).await.is(200).json;
        let groups = get("finding-groups").await;
        assert_eq!(keys(&groups), [("aws-root-no-access-keys".to_owned(), 2), ("aws-s3-https-only".to_owned(), 1)]);
        assert_eq!(groups["items"][0]["label"], "The root user has no access keys");
        assert_eq!(groups["items"][0]["counts"], json!([{"status": "open", "severity": "high", "count": 2}]));
        let nodes = get("finding-groups?by=node").await;
        assert_eq!(keys(&nodes), [(NODE.to_owned(), 2), (OTHER.to_owned(), 1)]);
        assert_eq!(nodes["items"][0]["type"], "aws.s3.bucket");
        let frameworks = get("finding-groups?by=framework").await;
        let both = [("cis-aws-foundations".to_owned(), 3), ("nist-800-53-r5".to_owned(), 3)];
        assert_eq!(keys(&frameworks), both);
        let controls = get("finding-groups?by=control&framework=cis-aws-foundations").await;
        assert_eq!(
            keys(&controls),
            [("cis-aws-foundations:1.4".to_owned(), 2), ("cis-aws-foundations:2.1.1".to_owned(), 1)]
        );
        for (by, groups) in [("rule", &groups), ("node", &nodes), ("framework", &frameworks), ("control", &controls)] {
            for (key, open) in keys(groups) {
                let query = match key.split_once(':').filter(|_| by == "control") {
                    Some((framework, control)) => format!("framework={framework}&control={control}"),
                    None => format!("{by}={key}"),
                };
                let listed = get(&format!("findings?{query}")).await;
                assert_eq!(listed["items"].as_array().unwrap().len() as u64, open, "{query}");
            }
        }
        assert_eq!(get("findings?framework=no-such").await["items"], json!([]));
        assert_eq!(get("findings?framework=nist-800-53-r5&control=SC-8&severity=high").await["items"], json!([]));
    });
}

#[test]
fn pages_of_groups_show_each_group_once() {
    each_engine(|world| async move {
        filled(&world).await;
        let token = world.sign_in(&holder(Role::Auditor, 'a')).await;
        for by in ["rule", "node", "framework", "control"] {
            let list = format!("{TENANT}/finding-groups?by={by}");
            let whole = world.call("GET", &list, Some(&token), None).await.is(200).json;
            let (mut paged, mut page) = (Vec::new(), String::new());
            loop {
                let one = world.call("GET", &format!("{list}&limit=1{page}"), Some(&token), None).await.is(200).json;
                paged.extend(one["items"].as_array().unwrap().clone());
                let Some(next) = one["next_page"].as_str() else { break };
                page = format!("&page={}", next.replace('+', "%2B"));
            }
            assert_eq!(json!(paged), whole["items"], "{by}");
        }
    });
}

#[test]
fn a_finding_shows_what_to_run_with_the_values_of_its_node_quoted_until_it_is_resolved() {
    each_engine(|world| async move {
        world.node(world.a).await;
        let token = world.sign_in(&holder(Role::SecurityAnalyst, 'a')).await;
        let get = async |id: &str| {
            world.call("GET", &format!("{TENANT}/findings/{id}"), Some(&token), None).await.is(200).json
        };
        let database = world.finding_of(world.a, "aws-rds-deletion-protection", NODE, Severity::High).await;
        let shown = get(&database).await;
        let expected = "aws rds modify-db-instance --region eu-west-1 --db-instance-identifier 'db'\\''; reboot #' --deletion-protection";
        assert_eq!(shown["patches"][0]["text"], expected);
        assert_eq!(shown["patches"][0]["form"], "shell");
        let bucket = get(&world.finding_of(world.a, "aws-s3-versioning", NODE, Severity::High).await).await;
        assert_eq!(bucket["patches"].as_array().unwrap().len(), 2);
        assert!(bucket["patches"][1]["text"].as_str().unwrap().contains("  bucket = \"b1\"\n"), "{bucket}");
        // A value that was not recorded makes none, and says so.
        let key = get(&world.finding_of(world.a, "aws-access-key-unused", NODE, Severity::High).await).await;
        assert_eq!(key["patches"][0]["text"], Value::Null);
        assert_eq!(key["patches"][0]["missing"], "`values.user` was not read");
        for rule in ["aws-root-mfa", "rule-of-nobody"] {
            assert_eq!(get(&world.finding_of(world.a, rule, NODE, Severity::High).await).await["patches"], Value::Null);
        }
        let listed = world.call("GET", &format!("{TENANT}/findings"), Some(&token), None).await.is(200).json;
        assert!(listed["items"].as_array().unwrap().iter().all(|item| item["patches"].is_null()), "{listed}");
        world.call("POST", &format!("{TENANT}/findings/{database}/resolve"), Some(&token), None).await.is(200);
        assert_eq!(get(&database).await["patches"], Value::Null);
    });
}

#[test]
fn many_findings_are_changed_by_name_or_as_they_were_seen() {
    each_engine(|world| async move {
        let ids = filled(&world).await;
        let token = world.sign_in(&holder(Role::SecurityAnalyst, 'a')).await;
        let change = async |body: Value| {
            world.call("POST", &format!("{TENANT}/finding-changes"), Some(&token), Some(body)).await
        };
        let select = async |query: &str| {
            world.call("GET", &format!("{TENANT}/finding-selection?{query}"), Some(&token), None).await.is(200).json
        };
        for (body, says) in [
            (json!({"change": "accept", "findings": ids}), "date and time"),
            (json!({"change": "accept", "findings": ids, "until": "2026-06-01T00:00:00Z"}), "say why"),
            (json!({"change": "resolve", "findings": ids, "reason": "x"}), "leave it out"),
            (json!({"change": "delete", "findings": ids}), "reopen"),
            (json!({"change": "resolve"}), "finding-selection"),
            (json!({"change": "resolve", "filter": {}}), "finding-selection"),
            (json!({"change": "resolve", "findings": ids, "seen": "00"}), "finding-selection"),
            (json!({"change": "resolve", "filter": {"status": "any"}, "seen": "0".repeat(64)}), "accepted"),
            (json!({"change": "resolve", "filter": {}, "seen": "zz"}), "finding-selection"),
            (json!({"change": "resolve", "filter": {"colour": "red"}, "seen": "00"}), "colour"),
            (json!({"change": "resolve", "findings": []}), "1 to 1000"),
            (json!({"change": "resolve", "findings": vec![ids[0].clone(); 1_001]}), "at most 1000"),
        ] {
            change(body).await.is(400).says(says);
        }
        let accept =
            json!({"change": "accept", "findings": ids[..2], "reason": "known", "until": "2026-06-01T00:00:00Z"});
        assert_eq!(change(accept.clone()).await.is(200).json, json!({"changed": 2}));
        change(accept).await.is(409).says("nothing was changed");
        let of = "framework=nist-800-53-r5&control=AC-6";
        let seen = select(&format!("{of}&change=reopen")).await;
        assert_eq!(
            (seen["count"].as_u64(), seen["left"].as_u64(), seen["most"].as_u64()),
            (Some(2), Some(0), Some(10_000))
        );
        assert_eq!(seen["counts"], json!([{"status": "accepted", "severity": "high", "count": 2}]));
        let filter = json!({"framework": "nist-800-53-r5", "control": "AC-6"});
        let reopen = json!({"change": "reopen", "filter": filter, "seen": seen["seen"]});
        assert_eq!(change(reopen.clone()).await.is(200).json, json!({"changed": 2}));
        change(reopen).await.is(409).says("look again");
        let left = select("status=resolved&change=accept").await;
        assert_eq!((left["count"].as_u64(), left["left"].as_u64()), (Some(0), Some(0)));
        // Whoever may only read sees what it would be about, and is refused.
        let auditor = world.sign_in(&holder(Role::Auditor, 'a')).await;
        let path = format!("{TENANT}/finding-changes");
        let body = json!({"change": "resolve", "findings": ids});
        world.call("POST", &path, Some(&auditor), Some(body)).await.is(403).says("findings:write");
    });
}

#[test]
fn a_control_shows_its_rules_and_what_is_not_judged_has_no_numbers() {
    each_engine(|world| async move {
        let id = world.control(world.a).await;
        let token = world.sign_in(&holder(Role::Auditor, 'a')).await;
        let shown = world.call("GET", &format!("{TENANT}/controls/{id}"), Some(&token), None).await.is(200).json;
        assert_eq!((shown["result"].as_str(), shown["failed"].as_u64()), (Some("fail"), Some(2)));
        assert_eq!(shown["judgement"], Value::Null);
        let rules = shown["rules"].as_array().unwrap();
        assert!(rules.iter().any(|rule| rule["rule"] == "aws-root-no-access-keys"), "{shown}");
        assert!(rules.iter().all(|rule| rule["failed"].is_null() && rule["title"] != ""), "{shown}");
        for none in ["nist-800-53-r5:AC-7", "nist-800-53-r5", "AC-6", ":", "no:AC-6"] {
            world.call("GET", &format!("{TENANT}/controls/{none}"), Some(&token), None).await.is(404);
        }
        let read_only = world.sign_in(&holder(Role::ReadOnly, 'a')).await;
        world
            .call("GET", &format!("{TENANT}/controls/{id}"), Some(&read_only), None)
            .await
            .is(403)
            .says("findings:read");
    });
}
