//! Files of access at their edges: what is over, what another part of the file still names, what waits, what is said twice.

use std::time::Duration;

use domain::Clock as _;
use serde_json::{Value, json};

use crate::access_data::{T, analyst, apply, changes, plan};
use crate::things::HOST_KEY;
use crate::world::{World, admin, each_engine};

fn file(more: Value) -> Value {
    let mut file = json!({"version": 1, "name": "team"});
    file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"file": file, "prune": true})
}

async fn token(world: &World, role: &str) -> u16 {
    let path = format!("{T}/destinations/prod/tokens");
    world.by(&analyst(), "POST", &path, Some(json!({"role": role}))).await.status
}

#[test]
fn a_grant_that_is_over_in_a_file_is_ended_where_it_still_gives_access() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        let mut grant = json!({"user": analyst(), "role": "view", "destination": "prod"});
        apply(&world, file(json!({"grants": [grant]}))).await.is(200);
        assert_eq!(token(&world, "view").await, 201);
        grant["expires_at"] = json!(world.clock.now().plus_millis(-1));
        let ended = apply(&world, file(json!({"grants": [grant]}))).await.is(200);
        assert_eq!(changes(&ended), [format!("update grant user {} as view at prod", analyst())]);
        assert_eq!(token(&world, "view").await, 404);
        // What is not there is nothing.
        let again = apply(&world, file(json!({"grants": [grant]}))).await.is(200);
        assert_eq!(changes(&again), Vec::<String>::new());
        assert!(again.json["waiting"][0].as_str().unwrap().ends_with("is over, and gives nothing"), "{}", again.text);
    });
}

#[test]
fn a_group_that_grants_of_the_file_still_name_is_not_pruned() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        let grants = json!([
            {"group": "devs", "role": "view", "destination": "prod"},
            {"user": analyst(), "role": "edit", "destination": "prod", "as_users": ["bot"], "as_groups": ["lent"]},
        ]);
        let groups = json!([{"name": "devs", "members": [analyst()]}, {"name": "lent"}, {"name": "gone"}]);
        apply(&world, file(json!({"groups": groups}))).await.is(200);
        apply(&world, file(json!({"groups": groups, "grants": grants}))).await.is(200);
        let pruned = apply(&world, file(json!({"grants": grants}))).await.is(200);
        assert_eq!(changes(&pruned), ["delete group gone"]);
        assert_eq!(pruned.json["waiting"].as_array().unwrap().len(), 2, "{}", pruned.text);
        assert_eq!((token(&world, "view").await, token(&world, "edit").await), (201, 201));
    });
}

#[test]
fn whoever_did_not_take_up_an_invitation_in_time_is_invited_again() {
    each_engine(|world| async move {
        let invites = file(json!({"members": [{"email": "new@example.org", "role": "read-only"}]}));
        assert_eq!(changes(&apply(&world, invites.clone()).await.is(200)), ["invite member new@example.org"]);
        assert_eq!(changes(&plan(&world, &admin(), invites.clone()).await.is(200)), Vec::<String>::new());
        world.clock.advance(Duration::from_hours(14 * 24));
        world.tokens.lock().await.clear();
        assert_eq!(changes(&apply(&world, invites).await.is(200)), ["invite member new@example.org"]);
    });
}

/// A host as a file says it.
fn host(name: &str, more: Value) -> Value {
    let mut host =
        json!({"name": name, "address": "web1.example:2222", "host_key": HOST_KEY, "roles": ["root", "deploy"]});
    host.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    host
}

async fn there(world: &World) -> Vec<String> {
    let mut all = Vec::new();
    for what in ["destinations", "groups", "grants"] {
        let answer = world.by(&admin(), "GET", &format!("{T}/{what}"), None).await.is(200);
        all.extend(answer.json["items"].as_array().unwrap().iter().map(|one| format!("{what} {}", one["id"])));
    }
    all
}

#[test]
fn hosts_of_a_file_come_with_what_is_granted_there_or_not_at_all() {
    each_engine(|world| async move {
        let grants = json!([{"group": "devs", "role": "deploy", "destination": "web1", "networks": ["10.0.0.0/8"]}]);
        let whole = json!({
            "hosts": [host("web1", json!({"source_networks": ["10.0.0.0/8"]})), host("web2", json!({"extensions": []}))],
            "groups": [{"name": "devs", "members": [analyst()]}], "grants": grants,
            "destinations": [{"name": "web2", "labels": {"env": "prod"}}],
        });
        // What the plan takes and the making refuses, behind all the rest: nothing of the rest is there.
        let mut half = whole.clone();
        half["grants"].as_array_mut().unwrap().push(json!({
            "group": "devs", "role": "root", "destination": "web2", "as_users": ["nobody@example.org"],
        }));
        let before = there(&world).await;
        let refused = apply(&world, file(half)).await;
        refused.is(400).says("there is no member `nobody@example.org`");
        assert_eq!(there(&world).await, before);
        let log = world.by(&admin(), "GET", &format!("{T}/audit?action=ssh_host_put"), None).await.is(200);
        assert_eq!(log.json["items"], json!([]), "{}", log.text);

        let made = apply(&world, file(whole.clone())).await.is(200);
        let user = analyst();
        assert_eq!(
            changes(&made),
            [
                "create group devs".to_owned(),
                format!("create group-member {user} in the group devs"),
                "create host web1".to_owned(),
                "create host web2".to_owned(),
                "update destination web2".to_owned(),
                "create grant group devs as deploy at web1 --network 10.0.0.0/8".to_owned(),
            ]
        );
        let web2 = world.by(&admin(), "GET", &format!("{T}/destinations/web2/ssh-host"), None).await.is(200).json;
        assert_eq!((&web2["labels"], &web2["extensions"]), (&json!({"env": "prod"}), &json!([])), "{web2}");
        let log = world.by(&admin(), "GET", &format!("{T}/audit?action=ssh_host_put"), None).await.is(200);
        assert_eq!(log.json["items"].as_array().unwrap().len(), 2, "each host is on the record: {}", log.text);
        let path = format!("{T}/destinations/web1/ssh-certificates");
        let certificate = json!({"public_key": HOST_KEY});
        world.by(&analyst(), "POST", &path, Some(certificate)).await.is(201);

        // The same again is no difference; neither is what is there, written as a file; and no file takes a host.
        assert_eq!(changes(&plan(&world, &admin(), file(whole.clone())).await.is(200)), Vec::<String>::new());
        let written = world.by(&admin(), "GET", &format!("{T}/access-file?name=team"), None).await.is(200).json;
        assert_eq!(written["hosts"].as_array().unwrap().len(), 2, "{written}");
        assert_eq!(changes(&plan(&world, &admin(), json!({"file": written})).await.is(200)), Vec::<String>::new());
        let none = plan(&world, &admin(), file(json!({}))).await.is(200);
        assert!(changes(&none).iter().all(|change| !change.contains(" host ")), "{}", none.text);

        // What is there stays as it is, and is told of.
        let other = host("web1", json!({"address": "moved.example", "roles": ["deploy"]}));
        let stays =
            apply(&world, file(json!({"hosts": [other], "groups": whole["groups"], "grants": grants}))).await.is(200);
        let waits = stays.json["waiting"].to_string();
        assert!(
            changes(&stays).is_empty() && waits.contains("another address, other roles, other networks"),
            "{}",
            stays.text
        );
        let web1 = world.by(&admin(), "GET", &format!("{T}/destinations/web1/ssh-host"), None).await.is(200).json;
        assert_eq!(web1["address"], "web1.example:2222");
    });
}

#[test]
fn a_host_of_a_file_is_refused_for_what_one_by_hand_is_refused_for() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        let before = there(&world).await;
        for (bad, status, says) in [
            (host("web1", json!({"host_key": "ssh-ed25519 AAAA"})), 400, "hosts[1].host_key: "),
            (host("web1", json!({"roles": []})), 400, "hosts[1].roles: "),
            (host("web1", json!({"address": "a b"})), 400, "hosts[1]"),
            (host("Web1", json!({})), 400, "hosts[1]"),
            (host("web0", json!({})), 400, "hosts[1]: `web0` is there twice"),
            (host("web1", json!({"relay": "nowhere"})), 400, "hosts[1]: there is no relay `nowhere`"),
            (host("web1", json!({"labels": {}})), 400, "labels"),
            // A grant to the host would be one to the cluster.
            (host("prod", json!({})), 409, "hosts[1]: the destination `prod` is there and is of kind `kubernetes`"),
        ] {
            let body = file(json!({"hosts": [host("web0", json!({})), bad]}));
            plan(&world, &admin(), body).await.is(status).says(says);
        }
        assert_eq!(there(&world).await, before);

        // Somebody else's host of that name comes in between: what was shown is not what would be made.
        let body = file(json!({"hosts": [host("web0", json!({}))]}));
        let shown = plan(&world, &admin(), body.clone()).await.is(200);
        let by_hand = json!({"address": "other.example", "host_key": HOST_KEY, "roles": ["deploy"]});
        world.by(&admin(), "PUT", &format!("{T}/destinations/web0/ssh-host"), Some(by_hand)).await.is(200);
        let mut body = body;
        body["digest"] = shown.json["digest"].clone();
        let path = format!("{T}/access-file/apply");
        world.by(&admin(), "POST", &path, Some(body)).await.is(409).says("look at the difference again");
        let web0 = world.by(&admin(), "GET", &format!("{T}/destinations/web0/ssh-host"), None).await.is(200).json;
        assert_eq!(web0["address"], "other.example:22");
        // Who may not manage access may not look what a file would make either.
        plan(&world, &analyst(), file(json!({"hosts": [host("web9", json!({}))]}))).await.is(403);
    });
}
