//! Eligible grants: that they give nothing, what is approved under one, how that ends, and what a tenant lets people ask for.

use std::time::Duration;

use access::Role;
use domain::{Clock as _, FleetKind};
use serde_json::{Value, json};
use store::Standing;

use crate::access_data::{T, analyst};
use crate::access_to_destinations::{proxy, standing, stands, token};
use crate::fleet::Machine;
use crate::things::HOST_KEY;
use crate::world::{Answer, World, admin, each_engine, holder};

async fn ask(world: &World, email: &str, destination: &str, more: Value) -> Answer {
    let mut body = json!({"destination": destination, "role": "edit", "duration_s": 3_600, "reason": "a pod hangs"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.by(email, "POST", &format!("{T}/access-requests"), Some(body)).await
}

async fn approve(world: &World, id: &str) -> Answer {
    world.by(&admin(), "POST", &format!("{T}/access-requests/{id}/approve"), Some(json!({}))).await
}

async fn policy(world: &World, requests: &str) {
    let policy = json!({"request_s_max": 7_200, "requests": requests});
    world.by(&admin(), "PUT", &format!("{T}/access-policy"), Some(policy)).await.is(200);
}

async fn items(world: &World, email: &str, path: &str) -> Vec<Value> {
    world.by(email, "GET", &format!("{T}/{path}"), None).await.is(200).json["items"].as_array().unwrap().clone()
}

async fn standing_of(world: &World, email: &str, id: &str, destination: &str) -> Standing {
    let made = token(world, email, destination, json!({"role": "edit"})).await.is(201);
    standing(world, id, made.json["token"].as_str().unwrap()).await
}

#[test]
fn attack_an_eligible_grant_gives_nothing_until_somebody_else_approves_what_is_asked_for() {
    each_engine(|world| async move {
        let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let body = json!({"name": "prod", "kind": "kubernetes", "authority": "", "version": "1.0.0"}).to_string();
        let path = format!("/api/v1/relays/{}/destinations", relay.id);
        let register = async |relay: &mut Machine| {
            let request = relay.request(&world, "POST", &path, &body, |_| ());
            world.send(request).await.is(200)
        };
        let prod = register(&mut relay).await.id();
        world
            .by(&admin(), "PATCH", &format!("{T}/destinations/prod"), Some(json!({"labels": {"env": "prod"}})))
            .await
            .is(200);
        for of in [json!({"destination": "prod"}), json!({"labels": {"env": "prod"}, "namespace": "shop"})] {
            let mut body = json!({"user": analyst(), "role": "edit", "approval": true, "as_users": ["deploy-bot"]});
            body.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
            world.granted(body).await;
        }
        // Not by a token, nor in any list of what is reached, nor bound in the cluster.
        token(&world, &analyst(), "prod", json!({})).await.is(404);
        token(&world, &analyst(), "prod", json!({"role": "edit"})).await.is(404);
        assert_eq!(items(&world, &analyst(), "reach").await, [] as [Value; 0]);
        assert_eq!(items(&world, &admin(), &format!("members/{}/reach", analyst())).await, [] as [Value; 0]);
        assert_eq!(items(&world, &admin(), "destinations/prod/reachers").await, [] as [Value; 0]);
        assert_eq!(register(&mut relay).await.json["granted"], json!([]));
        // It is told of where it is looked for.
        let marks = |all: &[Value]| all.iter().map(|one| one["approval"].clone()).collect::<Vec<_>>();
        for (email, path) in [
            (analyst(), "eligible".to_owned()),
            (admin(), "grants".to_owned()),
            (admin(), format!("members/{}/eligible", analyst())),
            (admin(), "destinations/prod/eligible".to_owned()),
        ] {
            assert_eq!(marks(&items(&world, &email, &path).await), [json!(true), json!(true)], "{path}");
        }
        assert_eq!(items(&world, &holder(Role::Auditor, 'a'), "eligible").await, [] as [Value; 0]);
        world.by(&analyst(), "GET", &format!("{T}/destinations/prod/eligible"), None).await.is(403);

        // Asked for in one namespace, it is approved for that one; with the names that the grant lends.
        let asked = ask(&world, &analyst(), "prod", json!({"namespace": "shop"})).await.is(201);
        assert!(asked.json["eligible"].is_string(), "{}", asked.text);
        token(&world, &analyst(), "prod", json!({})).await.is(404);
        world
            .by(&analyst(), "POST", &format!("{T}/access-requests/{}/approve", asked.id()), Some(json!({})))
            .await
            .is(403);
        approve(&world, &asked.id()).await.is(200);
        let open = standing_of(&world, &analyst(), &prod, "prod").await;
        assert_eq!(open.namespaces, Some(vec!["shop".parse().unwrap()]));
        assert_eq!(open.act_as.len(), 1);
        assert_eq!(register(&mut relay).await.json["granted"], json!([{"role": "edit", "namespace": "shop"}]));
        let made = items(&world, &admin(), "grants").await.into_iter().find(|one| one["origin"] == "request").unwrap();
        assert_eq!((&made["rests_on"], &made["namespace"]), (&asked.json["eligible"], &json!("shop")));
        assert!(made.get("approval").is_none());
        // It was used when it was approved: nobody takes it for unused.
        let base =
            items(&world, &admin(), "grants").await.into_iter().find(|one| one["id"] == made["rests_on"]).unwrap();
        assert!(base["last_used_at"].is_string(), "{base}");
        world.clock.advance(Duration::from_hours(1));
        world.tokens.lock().await.clear();
        assert!(!stands(&world, &open).await);
        token(&world, &analyst(), "prod", json!({})).await.is(404);
    });
}

/// Ways in which an eligible grant lets somebody ask no more.
const ENDS: [&str; 6] = ["grant", "place", "group", "labels", "member", "file"];

#[test]
fn what_was_approved_ends_on_open_connections_with_its_eligible_grant() {
    each_engine(|world| async move {
        let prod = world.destination_of(world.a, "prod").await;
        let labels = async |value: &str| {
            let body = json!({"labels": {"env": value}});
            world.by(&admin(), "PATCH", &format!("{T}/destinations/prod"), Some(body)).await.is(200);
        };
        for end in ENDS {
            labels("prod").await;
            let (group, email) = (format!("g{}", world.fresh()), format!("u{}@example.org", world.fresh()));
            let user = world.settled(world.a, &email).await;
            world.group_of(world.a, &group).await;
            let place = format!("{T}/groups/{group}/members/{email}");
            world.by(&admin(), "PUT", &place, None).await.is(204);
            let mut file = json!({"version": 1, "name": group, "grants": [
                {"group": group, "role": "edit", "labels": {"env": "prod"}, "approval": true, "reason": "on call"}]});
            let applied = world.applied(file.clone()).await;
            world.by(&admin(), "POST", &format!("{T}/access-file/apply"), Some(applied)).await.is(200);
            let asked = ask(&world, &email, "prod", json!({})).await.is(201);
            let base = asked.json["eligible"].as_str().unwrap().to_owned();
            approve(&world, &asked.id()).await.is(200);
            // What was granted by hand is another thing.
            world.granted(json!({"user": email, "role": "view", "destination": "prod"})).await;
            let open = standing_of(&world, &email, &prod, "prod").await;
            let other = Standing { role: "view".parse().unwrap(), ..open.clone() };
            assert!(stands(&world, &open).await && stands(&world, &other).await, "{end}");
            let (mut changes, tenants) = (world.store.access_changes(), std::collections::BTreeSet::from([world.a]));
            changes.next(&tenants).await;
            match end {
                "grant" => drop(world.by(&admin(), "DELETE", &format!("{T}/grants/{base}"), None).await.is(204)),
                "place" => drop(world.by(&admin(), "DELETE", &place, None).await.is(204)),
                "group" => drop(world.by(&admin(), "DELETE", &format!("{T}/groups/{group}"), None).await.is(204)),
                "labels" => labels("test").await,
                "member" => drop(world.by(&admin(), "DELETE", &format!("{T}/members/{user}"), None).await.is(204)),
                _ => {
                    // A file that ends it in a second.
                    file["grants"][0]["expires_at"] = json!(world.clock.now().plus_millis(1_000));
                    let applied = world.applied(file).await;
                    world.by(&admin(), "POST", &format!("{T}/access-file/apply"), Some(applied)).await.is(200);
                }
            }
            let noticed = tokio::time::timeout(Duration::from_secs(2), changes.next(&tenants)).await;
            assert_eq!(noticed.expect(end), tenants);
            if end == "file" {
                let until = world.store.standing_until(std::slice::from_ref(&open)).await.unwrap()[0];
                assert_eq!(until, Some(world.clock.now().plus_millis(1_000)), "its own end is an hour from now");
                world.clock.advance(Duration::from_secs(1));
            }
            if end == "grant" {
                let log = items(&world, &holder(Role::Auditor, 'a'), "audit?action=grant_delete").await;
                assert_eq!(log[0]["detail"]["approved_ended"], 1, "{log:?}");
            }
            assert!(!stands(&world, &open).await, "{end}");
            assert_eq!(stands(&world, &other).await, end != "member", "{end}");
            if end != "member" {
                token(&world, &email, "prod", json!({"role": "edit"})).await.is(403);
            }
            // What waits is not approved any more.
            world.later();
        }
    });
}

#[test]
fn where_a_tenant_says_so_only_what_an_eligible_grant_covers_is_asked_for() {
    each_engine(|world| async move {
        for name in ["prod", "test"] {
            world.destination_of(world.a, name).await;
        }
        world.granted(json!({"user": analyst(), "role": "edit", "destination": "prod", "namespace": "shop", "approval": true})).await;
        // Before: anything, and what no eligible grant covers is asked for under none.
        let free = ask(&world, &analyst(), "test", json!({})).await.is(201);
        assert!(free.json.get("eligible").is_none(), "{}", free.text);
        policy(&world, "eligible").await;
        let shown = world.by(&admin(), "GET", &format!("{T}/access-policy"), None).await.is(200);
        assert_eq!(shown.json, json!({"request_s_max": 7_200, "requests": "eligible"}));
        // What waited from before is not approved any more, since it rests on nothing.
        approve(&world, &free.id()).await.is(409).says("since this was asked");
        let told = |answer: &Answer| {
            answer.text.replace("nowhere", "test").replace(answer.json["request_id"].as_str().unwrap(), "")
        };
        for more in [json!({}), json!({"namespace": "pay"}), json!({"namespace": "shop", "role": "admin"})] {
            ask(&world, &analyst(), "prod", more).await.is(403).says("only for what an eligible grant of yours covers");
        }
        ask(&world, &admin(), "prod", json!({"namespace": "shop"})).await.is(403);
        let (there, nowhere) = (
            ask(&world, &analyst(), "test", json!({})).await.is(403),
            ask(&world, &analyst(), "nowhere", json!({})).await.is(403),
        );
        assert_eq!(told(&there), told(&nowhere), "one answer, whether it is there or not");
        let log = items(&world, &holder(Role::Auditor, 'a'), "audit?action=access_request_create&outcome=deny").await;
        assert_eq!(log.len(), 6, "each is on the record");
        assert_eq!(log[0]["detail"]["destination"], "nowhere");

        let asked = ask(&world, &analyst(), "prod", json!({"namespace": "shop", "duration_s": 7_201})).await;
        asked.is(400).says("7200 s");
        let asked = ask(&world, &analyst(), "prod", json!({"namespace": "shop"})).await.is(201);
        // Who is in no way any more whom it names is not approved.
        world
            .by(&admin(), "DELETE", &format!("{T}/grants/{}", asked.json["eligible"].as_str().unwrap()), None)
            .await
            .is(204);
        approve(&world, &asked.id()).await.is(409).says("ask no more");
        token(&world, &analyst(), "prod", json!({})).await.is(404);
        // Another one that says the same is another one.
        world.granted(json!({"user": analyst(), "role": "edit", "destination": "prod", "namespace": "shop", "approval": true})).await;
        approve(&world, &asked.id()).await.is(409);
        policy(&world, "any").await;
        let shown = world.by(&admin(), "GET", &format!("{T}/access-policy"), None).await.is(200);
        assert_eq!(shown.json, json!({"request_s_max": 7_200}));
        ask(&world, &analyst(), "test", json!({})).await.is(201);
    });
}

#[test]
fn what_is_approved_keeps_every_limit_of_its_eligible_grant() {
    each_engine(|world| async move {
        let host = json!({"address": "web1.example:2222", "host_key": HOST_KEY, "roles": ["edit"],
            "extensions": ["permit-pty", "permit-port-forwarding"]});
        world.by(&admin(), "PUT", &format!("{T}/destinations/web1/ssh-host"), Some(host)).await.is(200);
        let soon = world.clock.now().plus_millis(1_800_000);
        let base = world
            .granted(json!({"user": analyst(), "role": "edit", "destination": "web1", "approval": true, "expires_at": soon,
                "hours": "mon-sun 00:00-24:00", "networks": ["10.0.0.0/8"], "extensions": ["permit-pty"], "force_command": "uptime"}))
            .await;
        let certificate = async || {
            let body = json!({"public_key": HOST_KEY});
            world.by(&analyst(), "POST", &format!("{T}/destinations/web1/ssh-certificates"), Some(body)).await
        };
        certificate().await.is(404);
        // A host has no namespaces.
        let asked = ask(&world, &analyst(), "web1", json!({"namespace": "shop"})).await.is(201);
        assert!(asked.json.get("eligible").is_none());
        let asked = ask(&world, &analyst(), "web1", json!({})).await.is(201);
        assert_eq!(asked.json["eligible"], json!(base));
        certificate().await.is(404);
        approve(&world, &asked.id()).await.is(200);
        certificate().await.is(201);
        let made = items(&world, &admin(), "grants").await.into_iter().find(|one| one["origin"] == "request").unwrap();
        let all = items(&world, &admin(), "grants").await;
        let base = all.iter().find(|one| one["id"] == json!(base)).unwrap();
        for limit in ["hours", "networks", "extensions", "force_command", "destination", "role", "expires_at"] {
            assert!(base[limit] == made[limit] && !made[limit].is_null(), "{limit}: {base} {made}");
        }
        let log = items(&world, &holder(Role::Auditor, 'a'), "audit?action=ssh_certificate_create").await;
        let said = &log[0]["detail"];
        assert_eq!(
            (&said["extensions"], &said["force_command"], &said["source_networks"]),
            (&json!(["permit-pty"]), &json!("uptime"), &json!(["10.0.0.0/8"]))
        );
        world.clock.advance(Duration::from_mins(30));
        world.tokens.lock().await.clear();
        certificate().await.is(404);
    });
}

#[test]
fn a_namespaces_own_role_is_granted_in_a_namespace_of_a_cluster_and_nowhere_else() {
    each_engine(|world| async move {
        let mut relay = Machine::enrolled(&world, world.a, FleetKind::Relay).await;
        let body = json!({"name": "prod", "kind": "kubernetes", "authority": "", "version": "1.0.0", "roles": ["view", "role:deployer"],
            "namespaces": ["shop"]});
        let path = format!("/api/v1/relays/{}/destinations", relay.id);
        let register = async |relay: &mut Machine| {
            let request = relay.request(&world, "POST", &path, &body.to_string(), |_| ());
            world.send(request).await.is(200)
        };
        let prod = register(&mut relay).await.id();
        let shown = world.by(&admin(), "GET", &format!("{T}/destinations/prod"), None).await.is(200);
        assert_eq!(shown.json["roles"], json!(["role:deployer", "view"]));
        let host = json!({"address": "web1.example:2222", "host_key": HOST_KEY, "roles": ["deploy"], "labels": {"env": "prod"}});
        world.by(&admin(), "PUT", &format!("{T}/destinations/web1/ssh-host"), Some(host)).await.is(200);
        let create = async |more: Value| {
            let mut body = json!({"user": analyst(), "role": "role:deployer"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let file = json!({"version": 1, "name": "own", "grants": [body]});
            let plan = json!({"file": file});
            let planned = world.by(&admin(), "POST", &format!("{T}/access-file/plan"), Some(plan)).await;
            let made = world.by(&admin(), "POST", &format!("{T}/grants"), Some(body)).await;
            assert_eq!(planned.status == 200, made.status == 201, "a file is no way around: {}", planned.text);
            made
        };
        create(json!({"destination": "prod"})).await.is(400).says("say in which");
        create(json!({"labels": {"env": "prod"}})).await.is(400).says("say in which");
        create(json!({"destination": "web1"})).await.is(400).says("is a host");
        create(json!({"destination": "web1", "namespace": "shop"})).await.is(400).says("is a host");
        for bad in ["role:", "role:system:node", "role:-x"] {
            let body = json!({"user": analyst(), "role": bad, "destination": "prod", "namespace": "shop"});
            world.by(&admin(), "POST", &format!("{T}/grants"), Some(body)).await.is(400);
        }
        ask(&world, &analyst(), "prod", json!({"role": "role:deployer"})).await.is(400).says("say in which");
        assert_eq!(register(&mut relay).await.json["granted"], json!([]));
        create(json!({"destination": "prod", "namespace": "shop"})).await.is(201);
        // By labels it may cover a host, where it gives nothing.
        create(json!({"labels": {"env": "prod"}, "namespace": "shop"})).await.is(201);
        assert_eq!(items(&world, &admin(), "destinations/web1/reachers").await, [] as [Value; 0]);
        assert_eq!(register(&mut relay).await.json["granted"], json!([{"role": "role:deployer", "namespace": "shop"}]));
        let made = token(&world, &analyst(), "prod", json!({})).await.is(201);
        let said = proxy(&world, &prod).await.admit(made.json["token"].as_str().unwrap(), world.clock.now()).unwrap();
        assert_eq!((said.role.as_str(), said.namespaces), ("role:deployer", Some(vec!["shop".parse().unwrap()])));
    });
}

#[test]
fn an_eligible_grant_goes_into_a_file_and_back_and_is_reviewed() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        let file = json!({"version": 1, "name": "team", "grants": [
            {"user": analyst(), "role": "edit", "destination": "prod", "approval": true, "reason": "on call"}]});
        let plan = async |file: &Value, prune: bool| {
            let body = json!({"file": file, "prune": prune});
            world.by(&admin(), "POST", &format!("{T}/access-file/plan"), Some(body)).await.is(200)
        };
        let apply = async |file: &Value, prune: bool| {
            let digest = plan(file, prune).await.json["digest"].clone();
            let body = json!({"file": file, "prune": prune, "digest": digest});
            world.by(&admin(), "POST", &format!("{T}/access-file/apply"), Some(body)).await.is(200)
        };
        let first = apply(&file, false).await;
        assert_eq!(first.json["changes"][0]["name"], json!(format!("user {} as edit at prod --approval", analyst())));
        assert_eq!(plan(&file, true).await.json["changes"], json!([]));
        let export = world.by(&admin(), "GET", &format!("{T}/access-file?name=team"), None).await.is(200);
        assert_eq!(export.json["grants"][0]["approval"], true);
        assert_eq!(plan(&export.json, true).await.json["changes"], json!([]), "what is written is what is there");

        // One that gives at once stands beside it, and is another one.
        let id = items(&world, &admin(), "grants").await[0]["id"].clone();
        let mut at_once = file.clone();
        at_once["grants"][0].as_object_mut().unwrap().remove("approval");
        let actions = |answer: &Answer| {
            let changes = answer.json["changes"].as_array().unwrap().clone();
            changes.iter().map(|one| one["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(actions(&plan(&at_once, true).await), ["create", "delete"]);
        assert_eq!(items(&world, &analyst(), "reach").await.len(), 0);

        // It is reviewed as what it is; taking it takes what was approved under it.
        let asked = ask(&world, &analyst(), "prod", json!({})).await.is(201);
        approve(&world, &asked.id()).await.is(200);
        token(&world, &analyst(), "prod", json!({})).await.is(201);
        let review = json!({"name": "All", "reviewers": [admin()], "undecided": "keep", "ends_at": world.clock.now().plus_millis(3_600_000)});
        let review = world.by(&admin(), "POST", &format!("{T}/access-reviews"), Some(review)).await.is(201).id();
        let path = format!("access-reviews/{review}/items");
        let all = items(&world, &admin(), &path).await;
        let about = format!("user {} as edit at prod, only when somebody approves it each time", analyst());
        let item = all.iter().find(|one| one["about"] == json!(about)).unwrap();
        let body = json!({"items": [item["number"]], "decision": "revoke", "reason": "not on call"});
        world.by(&admin(), "POST", &format!("{T}/access-reviews/{review}/decide"), Some(body)).await.is(200);
        world.by(&admin(), "GET", &format!("{T}/grants/{}", id.as_str().unwrap()), None).await.is(404);
        token(&world, &analyst(), "prod", json!({})).await.is(404);
        assert_eq!(items(&world, &admin(), "grants").await, [] as [Value; 0]);
    });
}
