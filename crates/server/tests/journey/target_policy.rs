//! A tenant's target policy, from the command line to a packet: in a network namespace whose far side has link-local addresses and a metadata
//! service. Needs root, as CI is.

use serde_json::{Value, json};
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

/// A credential with which jobs go to any address and port.
fn with_ssh(world: &World) {
    let file = world.private("ssh.json", &json!({"username": "nobody", "password": "of-no-host-77"}).to_string());
    let file = file.to_str().unwrap();
    world
        .cairn([
            "creds",
            "add",
            "--plugin",
            "ssh-linux",
            "--name",
            "lab",
            "--type",
            "ssh-password",
            "--from-file",
            file,
        ])
        .ok();
}

/// What a job says of a target that it is to connect to.
fn told(world: &World, target: &str) -> String {
    let targets = format!("targets={target}");
    let mut job = vec!["jobs", "run", "--plugin", "ssh-linux", "--credential", "lab", "--wait", "-o", "json"];
    job.extend(["--set", &targets, "--set", "host_keys=first-use", "--set", "collectors=machine"]);
    let ran = world.cairn(job);
    format!("{}{}", ran.out, ran.err)
}

const SERVICE: &str = "is an address at which a service of this installation itself listens";

#[test]
fn attack_64_where_the_server_itself_listens_is_no_target_at_any_of_its_addresses() {
    let lab = Lab::new();
    lab.here(|| {
        let world = World::new(Engine::Sqlite)
            .with("CAIRN_DISCOVERY_OWN_HOST", "false")
            .with("CAIRN_SERVER_METRICS_LISTEN", "10.99.0.1:9464");
        let server = world.start();
        world.first_login(&server);
        with_ssh(&world);
        let api = server.url.rsplit_once(':').unwrap().1.trim_end_matches('/').to_owned();
        for own in ["10.99.0.1:9464".to_owned(), "[fd99::1]:9464".to_owned(), format!("10.99.0.1:{api}")] {
            let said = told(&world, &own);
            assert!(said.contains(SERVICE), "{own}: {said}");
        }
        // The machine itself may be a target, and so may a neighbour with the same port.
        for ordinary in ["10.99.0.1:22", "10.99.0.2:9464"] {
            let said = told(&world, ordinary);
            assert!(!said.contains(SERVICE) && said.to_lowercase().contains("refused"), "{ordinary}: {said}");
        }
        server.stop();

        let world = world.with("CAIRN_DISCOVERY_OWN_TARGETS", "10.99.0.1:9464");
        let server = world.start();
        world.login(&server);
        let said = told(&world, "10.99.0.1:9464");
        assert!(!said.contains(SERVICE), "the installation lets it be one: {said}");
        assert!(told(&world, "[fd99::1]:9464").contains(SERVICE));
        server.stop();
    });
}

#[test]
fn attack_64_the_database_is_no_target_also_where_its_machine_is_one() {
    let engine = Engine::postgres();
    let Engine::Postgres(database) = &engine else { panic!("PostgreSQL") };
    let place = database.app_url.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let port = place.rsplit_once(':').unwrap().1.to_owned();
    let world = World::new(engine)
        .with("CAIRN_DISCOVERY_OWN_HOST", "false")
        .with("CAIRN_DISCOVERY_SPECIAL_TARGETS", "127.0.0.0/8");
    let server = world.start();
    world.first_login(&server);
    with_ssh(&world);
    world.cairn(["tenants", "target-policy", "--allow", "127.0.0.0/8"]).ok();
    for target in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("127.0.0.9:{port}")] {
        let said = told(&world, &target);
        assert!(said.contains(SERVICE), "{target}: {said}");
    }
    let said = told(&world, "127.0.0.1:1");
    assert!(!said.contains(SERVICE) && said.to_lowercase().contains("refused"), "{said}");
    server.stop();
}
