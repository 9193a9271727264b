//! Sets of SSH hosts: who is in one at each moment, what a grant of one gives, and who can change that.

use std::collections::BTreeSet;
use std::time::Duration;

use access::Role;
use domain::FleetKind;
use serde_json::{Value, json};
use store::Standing;

use crate::access_data::{analyst, apply, begin, changes, plan};
use crate::fleet::Machine;
use crate::things::HOST_KEY;
use crate::world::{Answer, World, admin, each_engine, holder};

const T: &str = "/api/v1/tenants/acme";

async fn host(world: &World, name: &str, labels: Value) -> String {
    let body =
        json!({"address": format!("{name}.example"), "host_key": HOST_KEY, "roles": ["deploy"], "labels": labels});
    world.by(&admin(), "PUT", &format!("{T}/destinations/{name}/ssh-host"), Some(body)).await.is(200).id()
}

async fn label(world: &World, name: &str, labels: Value) -> Answer {
    world.by(&admin(), "PATCH", &format!("{T}/destinations/{name}"), Some(json!({ "labels": labels }))).await
}

async fn set(world: &World, name: &str, selector: Value) -> Answer {
    let path = format!("{T}/destinations/{name}/host-set");
    world.by(&admin(), "PUT", &path, Some(json!({ "selector": selector }))).await
}

async fn certificate(world: &World, name: &str) -> Answer {
    let path = format!("{T}/destinations/{name}/ssh-certificates");
    world.by(&analyst(), "POST", &path, Some(json!({"public_key": HOST_KEY}))).await
}

/// The names in a list.
async fn names(world: &World, by: &str, path: &str) -> Vec<String> {
    let list = world.by(by, "GET", &format!("{T}/{path}"), None).await.is(200);
    list.json["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

async fn records(world: &World, action: &str) -> Vec<Value> {
    let log = world.by(&holder(Role::Auditor, 'a'), "GET", &format!("{T}/audit?action={action}"), None).await.is(200);
    log.json["items"].as_array().unwrap().clone()
}

#[test]
fn a_grant_of_a_set_covers_the_hosts_that_have_its_labels_at_the_moment_and_nothing_else() {
    each_engine(|world| async move {
        host(&world, "web1", json!({"role": "web", "env": "prod"})).await;
        host(&world, "web2", json!({"role": "web", "env": "test"})).await;
        host(&world, "db1", json!({"role": "db", "env": "prod"})).await;
        world.destination_of(world.a, "prod").await;
        label(&world, "prod", json!({"role": "web", "env": "prod"})).await.is(200);
        let made = set(&world, "web", json!({"role": "web", "env": "prod"})).await.is(200);
        assert_eq!(
            (&made.json["hosts"], &made.json["roles"], &made.json["grants"]),
            (&json!(1), &json!(["deploy"]), &json!(0))
        );
        assert_eq!(
            names(&world, &admin(), "destinations/web/host-set/hosts").await,
            ["web1"],
            "no cluster is in a set"
        );

        // Who holds nothing is told nothing of it; who holds it reaches its hosts, and is told to name one.
        certificate(&world, "web").await.is(404);
        let grant = json!({"user": analyst(), "role": "deploy", "destination": "web"});
        let grant = world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant)).await.is(201);
        assert_eq!(
            (&grant.json["destination"], &grant.json["hosts"]),
            (&json!("web"), &json!({"env": "prod", "role": "web"}))
        );
        assert_eq!(names(&world, &analyst(), "reach").await, ["web1"]);
        certificate(&world, "web1").await.is(201);
        certificate(&world, "web2").await.is(404);
        certificate(&world, "web").await.is(409).says("name one of its hosts: web1");
        let token = format!("{T}/destinations/web/tokens");
        world.by(&analyst(), "POST", &token, Some(json!({}))).await.is(409).says("name one of its hosts: web1");
        let why = world.by(&admin(), "GET", &format!("{T}/members/{}/reach", analyst()), None).await.is(200);
        assert_eq!(why.json["items"][0]["why"][0]["set"], json!("web"), "{}", why.text);
        for named in ["web1", "web"] {
            let who = world.by(&admin(), "GET", &format!("{T}/destinations/{named}/reachers"), None).await.is(200);
            assert_eq!(
                (&who.json["items"][0]["email"], &who.json["items"][1]),
                (&json!(analyst()), &Value::Null),
                "{named}"
            );
        }

        // Labels are followed at once, in both directions; so is the selector.
        label(&world, "web1", json!({"role": "web"})).await.is(200);
        certificate(&world, "web1").await.is(404);
        certificate(&world, "web").await.is(409).says("no host is in it now");
        let joined = label(&world, "web2", json!({"role": "web", "env": "prod"})).await.is(200);
        assert_eq!(
            joined.json["by_labels"],
            json!({"sets": ["web"], "grants": 1}),
            "who labels is shown what that gives"
        );
        certificate(&world, "web2").await.is(201);
        set(&world, "web", json!({"role": "db"})).await.is(200);
        certificate(&world, "web2").await.is(404);
        certificate(&world, "db1").await.is(201);
        assert_eq!(names(&world, &analyst(), "reach").await, ["db1"]);

        // With the set goes what was granted of it, and what was asked for.
        let ask = json!({"destination": "web", "role": "deploy", "duration_s": 600, "reason": "a pod hangs"});
        world.by(&analyst(), "POST", &format!("{T}/access-requests"), Some(ask)).await.is(201);
        world.by(&admin(), "DELETE", &format!("{T}/destinations/web"), None).await.is(204);
        certificate(&world, "db1").await.is(404);
        let grants = world.by(&admin(), "GET", &format!("{T}/grants"), None).await.is(200);
        assert_eq!(grants.json["items"], json!([]));
        assert_eq!(records(&world, "destination_delete").await[0]["detail"]["grants"], json!(1));
    });
}

#[test]
fn attack_a_set_takes_no_name_and_holds_no_cluster_no_set_and_nothing_without_a_label() {
    each_engine(|world| async move {
        host(&world, "web1", json!({"role": "web"})).await;
        world.destination_of(world.a, "prod").await;
        set(&world, "web1", json!({"role": "web"})).await.is(409).says("of kind `ssh`");
        set(&world, "prod", json!({"role": "web"})).await.is(409).says("of kind `kubernetes`");
        set(&world, "web", json!({})).await.is(400).says("at least one label");
        set(&world, "web_1", json!({"role": "web"})).await.is(400);
        set(&world, "web", json!({"role": "web"})).await.is(200);
        let as_host = json!({"address": "10.0.0.7", "host_key": HOST_KEY, "roles": ["deploy"]});
        let path = format!("{T}/destinations/web/ssh-host");
        world.by(&admin(), "PUT", &path, Some(as_host)).await.is(409).says("of kind `set`");
        world.by(&admin(), "GET", &path, None).await.is(409).says("of kind `set`");
        // A set has no labels, so none is in one, and no relay is its own.
        label(&world, "web", json!({"role": "web"})).await.is(400).says("has no labels of its own");
        let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let to = json!({"relay": relay.id});
        world.by(&admin(), "PATCH", &format!("{T}/destinations/web"), Some(to)).await.is(400).says("is a set");
        // A relay that calls its cluster so is refused, and cannot make a set itself.
        for (name, kind, status) in [("web", "kubernetes", 409), ("webs", "set", 400)] {
            let body = json!({"name": name, "kind": kind, "authority": "", "version": "1"}).to_string();
            let request =
                relay.request(&world, "POST", &format!("/api/v1/relays/{}/destinations", relay.id), &body, |_| ());
            world.send(request).await.is(status);
        }
        // What is said of clusters is refused, and what is said of hosts counts.
        let mut grant = json!({"user": analyst(), "role": "deploy", "destination": "web", "namespace": "shop"});
        world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant.clone())).await.is(400).says("set of hosts");
        grant.as_object_mut().unwrap().remove("namespace");
        grant["force_command"] = json!("uptime");
        world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant.clone())).await.is(201);
        world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant)).await.is(409).says("granted already");
        certificate(&world, "web1").await.is(201);

        // Another tenant's hosts with these labels are not in it, and nobody there hears of it.
        let (theirs, path) = (holder(Role::TenantAdmin, 'b'), "/api/v1/tenants/globex/destinations/far/ssh-host");
        let body =
            json!({"address": "far.example", "host_key": HOST_KEY, "roles": ["deploy"], "labels": {"role": "web"}});
        let far = world.by(&theirs, "PUT", path, Some(body)).await.is(200);
        assert_eq!(far.json["by_labels"], json!({"sets": [], "grants": 0}));
        assert_eq!(names(&world, &admin(), "destinations/web/host-set/hosts").await, ["web1"]);
    });
}

#[test]
fn attack_who_changes_labels_needs_what_a_grant_needs_and_it_is_written_down_what_that_gave() {
    each_engine(|world| async move {
        host(&world, "web1", json!({"env": "test"})).await;
        set(&world, "web", json!({"role": "web"})).await.is(200);
        for subject in [json!({"user": analyst()}), json!({"user": admin()})] {
            let mut grant = subject;
            grant
                .as_object_mut()
                .unwrap()
                .extend(json!({"role": "deploy", "destination": "web"}).as_object().unwrap().clone());
            world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant)).await.is(201);
        }
        // Nobody below: not by the destination, not by the host, not by the set.
        let (labels, selector) = (json!({"labels": {"role": "web"}}), json!({"selector": {"env": "test"}}));
        let as_host =
            json!({"address": "a.example", "host_key": HOST_KEY, "roles": ["deploy"], "labels": {"role": "web"}});
        for role in [Role::SecurityAnalyst, Role::Auditor, Role::ReadOnly] {
            let by = holder(role, 'a');
            world.by(&by, "PATCH", &format!("{T}/destinations/web1"), Some(labels.clone())).await.is(403);
            world.by(&by, "PUT", &format!("{T}/destinations/web1/ssh-host"), Some(as_host.clone())).await.is(403);
            world.by(&by, "PUT", &format!("{T}/destinations/web/host-set"), Some(selector.clone())).await.is(403);
            world.by(&by, "GET", &format!("{T}/destinations/web/host-set"), None).await.is(403);
        }
        // A label that a relay or discovery reports is none of a destination.
        let machine = json!({"id": "host:berlin:host.machine:m1", "name": "web1", "tags": {"role": "web"},
            "properties": {"sshd": {"host_keys": [{"path": "x", "public_key": HOST_KEY}]}}});
        world.show_nodes(&[machine]).await;
        let relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let path = format!("{T}/relays/{}/labels", relay.id);
        world.by(&admin(), "PUT", &path, Some(labels.clone())).await.is(200);
        let through = json!({"address": "a.example", "host_key": HOST_KEY, "roles": ["deploy"], "relay": relay.id});
        world.by(&admin(), "PUT", &format!("{T}/destinations/web1/ssh-host"), Some(through)).await.is(200);
        assert_eq!(names(&world, &admin(), "destinations/web/host-set/hosts").await, Vec::<String>::new());
        certificate(&world, "web1").await.is(404);

        let told = label(&world, "web1", json!({"role": "web"})).await.is(200);
        assert_eq!(told.json["by_labels"], json!({"sets": ["web"], "grants": 2}));
        let detail = records(&world, "destination_update").await[0]["detail"].clone();
        assert_eq!(detail["by_labels"], json!({"sets": ["web"], "grants": 2}), "{detail}");
        assert_eq!(detail["before"]["by_labels"], json!({"sets": [], "grants": 0}), "{detail}");
        host(&world, "web1", json!({})).await;
        let detail = records(&world, "ssh_host_put").await[0]["detail"].clone();
        assert_eq!(
            (&detail["by_labels"]["grants"], &detail["before"]["by_labels"]["grants"]),
            (&json!(0), &json!(2)),
            "{detail}"
        );
    });
}

#[test]
fn open_connections_end_when_a_host_leaves_the_set_that_they_rest_on() {
    each_engine(|world| async move {
        for end in ["label", "host", "selector", "grant", "set", "file"] {
            let (name, set_name) = (format!("h{}", world.fresh()), format!("s{}", world.fresh()));
            let id = host(&world, &name, json!({"of": set_name})).await;
            set(&world, &set_name, json!({"of": set_name})).await.is(200);
            let grant = json!({"user": analyst(), "role": "deploy", "destination": set_name});
            let grant = world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant)).await.is(201).id();
            let path = format!("{T}/destinations/{name}/tokens");
            world.by(&analyst(), "POST", &path, Some(json!({}))).await.is(201);
            let session = records(&world, "destination_token_create").await[0]["detail"]["session"].clone();
            let standing = Standing {
                tenant: world.a,
                user: world.user_id(&analyst()),
                name: Some(analyst()),
                session: session.as_str().unwrap().parse().unwrap(),
                destination: id.parse().unwrap(),
                role: "deploy".parse().unwrap(),
                namespaces: None,
                act_as: Vec::new(),
                groups: Vec::new(),
                ssh: access::ssh::SshUse::default(),
            };
            let stands =
                async || world.store.standing_until(std::slice::from_ref(&standing)).await.unwrap()[0].is_some();
            assert!(stands().await, "{end}");
            let (mut news, tenants) = (world.store.access_changes(), BTreeSet::from([world.a]));
            news.next(&tenants).await;
            match end {
                "label" => drop(label(&world, &name, json!({"of": "another"})).await.is(200)),
                "host" => drop(host(&world, &name, json!({"of": "another"})).await),
                "selector" => drop(set(&world, &set_name, json!({"of": "another"})).await.is(200)),
                "grant" => drop(world.by(&admin(), "DELETE", &format!("{T}/grants/{grant}"), None).await.is(204)),
                "set" => {
                    drop(world.by(&admin(), "DELETE", &format!("{T}/destinations/{set_name}"), None).await.is(204));
                }
                _ => {
                    let file = json!({"file": {"version": 1, "name": "team", "sets": [{"name": set_name, "selector": {"of": "x"}}]}});
                    let done = apply(&world, file).await.is(200);
                    assert_eq!(changes(&done), [format!("update set {set_name}")]);
                }
            }
            let noticed = tokio::time::timeout(Duration::from_secs(2), news.next(&tenants)).await;
            assert_eq!(noticed.expect(end), tenants, "{end}");
            assert!(!stands().await, "{end}");
        }
    });
}

#[test]
fn a_set_is_a_node_that_contains_its_hosts_as_they_come_and_go() {
    each_engine(|world| async move {
        let web1 = host(&world, "web1", json!({"role": "web"})).await;
        let id = set(&world, "web", json!({"role": "web"})).await.is(200).id();
        let node = format!("cairn:global:cairn.host_set:{id}");
        let shown = world.by(&admin(), "GET", &format!("{T}/destinations/web"), None).await.is(200);
        assert_eq!((&shown.json["node"], &shown.json["kind"]), (&json!(node), &json!("set")));
        assert_eq!(shown.json["selector"], json!({"role": "web"}));
        let contains = |id: &str| format!("contains cairn:global:cairn.ssh_host:{id}");
        assert_eq!(world.edges_of(&node).await, [contains(&web1)]);
        world.later();
        let web2 = host(&world, "web2", json!({"role": "web"})).await;
        let mut both = [contains(&web1), contains(&web2)];
        both.sort();
        let mut edges = world.edges_of(&node).await;
        edges.sort();
        assert_eq!(edges, both);
        world.later();
        label(&world, "web1", json!({})).await.is(200);
        assert_eq!(world.edges_of(&node).await, [contains(&web2)]);
        world.later();
        world.by(&admin(), "DELETE", &format!("{T}/destinations/web2"), None).await.is(204);
        assert_eq!(world.edges_of(&node).await, Vec::<String>::new());
        world.later();
        label(&world, "web1", json!({"role": "web"})).await.is(200);
        assert_eq!(world.edges_of(&node).await, [contains(&web1)], "it comes back");
        let who = format!("{T}/destinations/{node}/reachers");
        world.by(&admin(), "GET", &who, None).await.is(200);
        world.later();
        world.by(&admin(), "DELETE", &format!("{T}/destinations/web"), None).await.is(204);
        assert!(world.asset(&node).await.is(200).json["closed_at"].is_string());
        assert_eq!(world.edges_of(&node).await, Vec::<String>::new());
    });
}

#[test]
fn requests_reviews_and_files_know_sets() {
    each_engine(|world| async move {
        host(&world, "web1", json!({"role": "web"})).await;
        let of = json!({"file": {"version": 1, "name": "team", "sets": [{"name": "web", "selector": {"role": "web"}}],
            "grants": [{"user": analyst(), "role": "deploy", "destination": "web"}]}});
        let made = apply(&world, of.clone()).await.is(200);
        assert_eq!(
            changes(&made),
            ["create set web".to_owned(), format!("create grant user {} as deploy at web", analyst())]
        );
        assert_eq!(changes(&plan(&world, &admin(), of).await.is(200)), Vec::<String>::new(), "it is as the file says");
        certificate(&world, "web1").await.is(201);
        let file = world.by(&admin(), "GET", &format!("{T}/access-file"), None).await.is(200);
        assert_eq!(file.json["sets"], json!([{"name": "web", "selector": {"role": "web"}}]));
        assert_eq!(file.json["grants"][0]["destination"], json!("web"));
        for (bad, says) in [
            (json!({"sets": [{"name": "web1", "selector": {"role": "web"}}]}), "of kind `ssh`"),
            (json!({"sets": [{"name": "x", "selector": {}}]}), "at least one label"),
            (json!({"sets": [{"name": "x", "selector": {"a": "b"}}, {"name": "x", "selector": {"a": "c"}}]}), "twice"),
            (json!({"destinations": [{"name": "web", "labels": {"a": "b"}}]}), "no labels of its own"),
            (
                json!({"grants": [{"user": analyst(), "role": "deploy", "destination": "web", "namespace": "x"}]}),
                "set of hosts",
            ),
        ] {
            let mut file = json!({"version": 1, "name": "team"});
            file.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
            let refused = plan(&world, &admin(), json!({ "file": file })).await;
            assert!(matches!(refused.status, 400 | 409), "{}", refused.text);
            refused.says(says);
        }

        // A review of a host has what its sets give, and one of a set what its hosts' own grants give too.
        let own = json!({"user": admin(), "role": "deploy", "destination": "web1"});
        world.by(&admin(), "POST", &format!("{T}/grants"), Some(own)).await.is(201);
        for (named, items) in [("web1", 2), ("web", 2)] {
            let review =
                begin(&world, json!({"reviewers": [holder(Role::Auditor, 'a')], "scope": {"destinations": [named]}}))
                    .await
                    .is(201);
            assert_eq!(review.json["items"], json!(items), "{}", review.text);
        }

        // What is asked for at a set and approved is a grant of it.
        let email = "asks@example.org";
        world.settled(world.a, email).await;
        let ask = json!({"destination": "web", "role": "deploy", "duration_s": 600, "reason": "a disk is full"});
        let asked = world.by(email, "POST", &format!("{T}/access-requests"), Some(ask)).await.is(201).id();
        world.by(&admin(), "POST", &format!("{T}/access-requests/{asked}/approve"), Some(json!({}))).await.is(200);
        assert_eq!(names(&world, email, "reach").await, ["web1"]);
    });
}
