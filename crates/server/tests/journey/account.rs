//! The same for a cloud account: moto, filled through boto3, behind the real client.

use serde_json::{Value, json};
use testkit::logs;
use testkit::moto::Moto;

use crate::world::{Engine, World};

fn count(world: &World, node_type: &str) -> usize {
    world.cairn(["nodes", "list", "--type", node_type, "--all", "-o", "json"]).ok().json().as_array().unwrap().len()
}

fn versions(world: &World) -> Vec<(Value, Value)> {
    let nodes = world.cairn(["nodes", "list", "--type", "aws.*", "--all", "-o", "json"]).ok().json();
    nodes.as_array().unwrap().iter().map(|node| (node["id"].clone(), node["valid_from"].clone())).collect()
}

#[test]
fn an_aws_account_is_collected_judged_and_proven() {
    let moto = Moto::start();
    moto.seed();
    let world = World::new(Engine::Sqlite)
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_DISCOVERY_LOOPBACK_TARGETS", "true");
    let server = world.start();
    world.first_login(&server);
    let secret =
        json!({"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": logs::plant("journey-aws-secret")})
            .to_string();
    let add = ["creds", "add", "--plugin", "aws", "--name", "prod", "--type", "aws-keys", "--secret-stdin"];
    world.cairn_with(add, &secret).ok();
    let endpoint = format!("endpoint_url={}", moto.url);
    let run = |regions: &str| {
        let job = ["jobs", "run", "--plugin", "aws", "--credential", "prod", "--wait", "-o", "json"];
        world.cairn(job.into_iter().chain(["--set", regions, "--set", &endpoint]))
    };
    run("regions=eu-west-1").ok();
    for node_type in
        ["aws.ec2.instance", "aws.s3.bucket", "aws.iam.user", "aws.iam.role", "aws.kms.key", "aws.cloudtrail.trail"]
    {
        assert!(count(&world, node_type) > 0, "no {node_type}");
    }
    let findings = world.cairn(["findings", "list", "--status", "open", "--all", "-o", "json"]).ok().json();
    let rules: Vec<&str> = findings.as_array().unwrap().iter().filter_map(|finding| finding["rule"].as_str()).collect();
    assert!(rules.len() > 10, "{rules:?}");

    // The same account once more: nothing new is written about any node.
    let before = versions(&world);
    run("regions=eu-west-1").ok();
    assert_eq!(versions(&world), before);

    let bundle = world.path("control.zip");
    world.cairn(["evidence", "export", "--control", "AC-6", "-o", bundle.to_str().unwrap()]).ok();
    world.cairn(["evidence", "verify", bundle.to_str().unwrap()]).ok();
    let used = world.cairn(["audit", "list", "--category", "credential", "-o", "json"]).ok().json();
    assert!(used.as_array().unwrap().iter().any(|record| record["action"] == "credential_use"), "{used}");

    // A region that is not there is told in words.
    let ran = run("regions=us-moon-1");
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("us-moon-1"), "{}", ran.err);
    server.stop();
}
