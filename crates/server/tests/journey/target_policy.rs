//! A tenant's target policy, from the command line to a packet: in a network namespace whose far side has link-local addresses and a metadata
//! service. Needs root, as CI is.

use serde_json::Value;
use testkit::Lab;

use crate::world::{Engine, World};

const HOST: &str = "169.254.10.1";
const METADATA: &str = "169.254.169.254";

/// Scans one address in a tenant: how the job ended, and the reasons.
fn scan(world: &World, tenant: &str, target: &str) -> (String, String) {
    let (targets, words) = (format!("targets={target}"), ["--set", "ports=80", "--wait", "-o", "json"]);
    let job = ["--tenant", tenant, "jobs", "run", "--plugin", "network-scan", "--set", &targets];
    let job = world.cairn(job.iter().chain(&words)).json();
    let reasons = job["coverage"].as_array().unwrap().iter().filter_map(|scope| scope["reason"].as_str());
    (job["status"].as_str().unwrap().to_owned(), reasons.collect::<Vec<_>>().join("\n"))
}

fn refused(world: &World, tenant: &str, target: &str, why: &str) {
    let (status, reasons) = scan(world, tenant, target);
    assert!(status == "failed" && reasons.contains(why), "{tenant} {target}: {status} {reasons}");
}

fn reached(world: &World, target: &str) {
    let (status, reasons) = scan(world, "default", target);
    assert_eq!(status, "completed", "{target}: {reasons}");
}

#[test]
fn attack_64_a_special_address_is_a_target_only_where_tenant_and_installation_name_it() {
    let lab = Lab::new();
    lab.hosts(&format!("ip route add local {HOST} dev lo; ip route add local {METADATA} dev lo"));
    lab.here(|| {
        let server_allows = |networks: &str| ("CAIRN_DISCOVERY_SPECIAL_TARGETS".to_owned(), networks.to_owned());
        let (name, both) = server_allows(&format!("169.254.0.0/16,{METADATA}"));
        let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false").with(&name, &both);
        let server = world.start();
        world.first_login(&server);
        world.cairn(["tenants", "create", "other", "--admin", "admin@localhost"]).ok();
        let policy = |words: &[&str]| world.cairn(["tenants", "target-policy"].iter().chain(words));

        refused(
            &world,
            "default",
            HOST,
            "a link-local address, which may not be a target here: the tenant's target policy does not name it",
        );
        let wrong = policy(&["--allow", "10.0.0.0/8"]);
        assert!(wrong.code != 0 && wrong.err.contains("targets anyhow"), "{}", wrong.err);
        policy(&["--allow", "169.254.0.0/16"]).ok();
        reached(&world, HOST);
        refused(&world, "other", HOST, "the tenant's target policy does not name it");
        // A metadata service is not allowed by the way.
        refused(&world, "default", METADATA, "does not name exactly this address");
        policy(&["--allow", METADATA]).ok();
        reached(&world, METADATA);

        let shown: Value = policy(&["-o", "json"]).ok().json();
        assert_eq!(shown["special_networks"], serde_json::json!(["169.254.0.0/16", "169.254.169.254/32"]));
        let records = world.cairn(["audit", "list", "--all", "-o", "json"]).ok().json();
        let put = |record: &&Value| record["action"] == "target_policy_put" && record["outcome"] == "success";
        assert_eq!(records.as_array().unwrap().iter().filter(put).count(), 2);
        policy(&["--refuse", "169.254.0.0/16"]).ok();
        refused(&world, "default", HOST, "the tenant's target policy does not name it");
        server.stop();

        // The machine is the installation's: what it does not name, no tenant allows.
        let world = world.with(&name, "169.254.0.0/16");
        let server = world.start();
        world.login(&server);
        refused(&world, "default", METADATA, "the server's `discovery.special_targets` does not");
        server.stop();
        let world = world.with(&name, "10.0.0.0/8");
        let said = world.start_refused();
        assert!(
            said.contains("discovery.special_targets: `10.0.0.0/8` holds addresses that are not special"),
            "{said}"
        );
    });
}
