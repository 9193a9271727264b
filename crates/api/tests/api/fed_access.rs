//! Access by groups that an identity provider feeds, and how long what it gave is there.

use serde_json::{Value, json};
use store::Standing;

use crate::access_to_destinations::{grant, standing, stands, token};
use crate::idp::{Browser, Double, PUBLIC_URL};
use crate::scim::{map, patch, provisioning, scim, user};
use crate::world::{admin, each_engine, holder};

const T: &str = "/api/v1/tenants/acme";

#[test]
fn a_group_that_a_cluster_was_told_of_has_to_be_held_also_where_the_grant_does_not_come_by_it() {
    each_engine(|world| async move {
        let prod = world.destination_of(world.a, "prod").await;
        let ann = holder(access::Role::SecurityAnalyst, 'a');
        world.group_of(world.a, "devs").await;
        let place = format!("{T}/groups/devs/members/{ann}");
        world.by(&admin(), "PUT", &place, None).await.is(204);
        grant(&world, json!({"user": ann, "role": "view", "destination": "prod"})).await;
        let made = token(&world, &ann, "prod", json!({})).await.is(201);
        let untold = standing(&world, &prod, made.json["token"].as_str().unwrap()).await;
        let told = Standing { groups: vec!["devs".parse().unwrap()], ..untold.clone() };
        let other = Standing { groups: vec!["devs".parse().unwrap(), "ops".parse().unwrap()], ..untold.clone() };
        assert!(stands(&world, &told).await && stands(&world, &untold).await && !stands(&world, &other).await);
        world.by(&admin(), "DELETE", &place, None).await.is(204);
        assert!(!stands(&world, &told).await && stands(&world, &untold).await);
    });
}

/// Ways in which a provider takes a place in a group.
const ENDS: [&str; 5] = ["place", "group", "account", "name", "token"];

#[test]
fn attack_39_who_loses_a_place_in_a_group_at_the_provider_reaches_nothing_by_it() {
    each_engine(|world| async move {
        let double = Double::start(&world).await;
        let scim_token = provisioning(&world, "corp", &double.issuer).await;
        map(&world, "Staff", "read-only").await;
        let prod = world.destination_of(world.a, "prod").await;
        let fed = json!({"name": "ops", "provider": "corp", "provider_group": "Ops"});
        world.by(&admin(), "POST", &format!("{T}/groups"), Some(fed)).await.is(201);
        grant(&world, json!({"group": "ops", "role": "view", "destination": "prod"})).await;
        for end in ENDS {
            let (name, email) = (format!("ann-{end}"), format!("ann-{end}@corp.example"));
            // Its last group goes with the last way: until then only provisioned groups count.
            let provisioned = end != "token";
            let mut groups = Vec::new();
            let mut id = String::new();
            if provisioned {
                id = scim(&world, &scim_token, "POST", "Users", Some(user(&name, &email))).await.is(201).id();
                for group in ["Staff", "Ops"] {
                    let body = json!({"displayName": group, "members": [{"value": id}]});
                    groups.push(scim(&world, &scim_token, "POST", "Groups", Some(body)).await.is(201).id());
                }
            }
            let says = json!({"sub": format!("ext-{name}"), "email": email, "email_verified": true, "groups": ["Staff", "Ops"]});
            double.say(|to| to.claims = says);
            let mut browser = Browser::default();
            browser.sign_in(&world, "corp", &double).await.is(303);
            let path = format!("{T}/destinations/prod/tokens");
            let headers = [("content-type", "application/json"), ("origin", PUBLIC_URL)];
            let made = browser.ask(&world, "POST", &path, &headers, Some("{}")).await.is(201);
            let open = standing(&world, &prod, made.json["token"].as_str().unwrap()).await;
            assert!(stands(&world, &open).await, "{end}");
            match end {
                "place" => {
                    let remove = json!([{"op": "remove", "path": format!("members[value eq \"{id}\"]")}]);
                    patch(&world, &scim_token, &format!("Groups/{}", groups[1]), remove).await.is(200);
                }
                "group" => {
                    drop(scim(&world, &scim_token, "DELETE", &format!("Groups/{}", groups[1]), None).await.is(204));
                }
                "account" => {
                    let inactive: Value = json!([{"op": "replace", "value": {"active": false}}]);
                    patch(&world, &scim_token, &format!("Users/{id}"), inactive).await.is(200);
                }
                "name" => {
                    // To the cluster the one who is open there and the one whose grant it is are two.
                    let renamed = Some(user(&name, &format!("bob-{end}@corp.example")));
                    scim(&world, &scim_token, "PUT", &format!("Users/{id}"), renamed).await.is(200);
                    let unnamed = Standing { name: None, ..open.clone() };
                    assert!(stands(&world, &unnamed).await, "they lost nothing else");
                }
                _ => {
                    // A group that is provisioned: from now on no token's groups count.
                    let body = json!({"displayName": "Other", "members": []});
                    groups.push(scim(&world, &scim_token, "POST", "Groups", Some(body)).await.is(201).id());
                }
            }
            assert!(!stands(&world, &open).await, "{end}");
            // With the last group that was provisioned goes nothing that was taken: what an old token named counts no more. Also where both go at once.
            let gone = |group: String| {
                let (world, scim_token) = (&world, &scim_token);
                async move {
                    let answer = scim(world, scim_token, "DELETE", &format!("Groups/{group}"), None).await;
                    assert!(matches!(answer.status, 204 | 404), "{}", answer.text);
                }
            };
            futures::future::join_all(groups.into_iter().map(gone)).await;
            assert!(!stands(&world, &open).await, "{end}: the last group is gone");
            assert_eq!(
                browser.get(&world, &format!("{T}/reach")).await.status / 100,
                4,
                "{end}: nor is anybody a member by it"
            );
        }
    });
}

#[test]
fn a_token_that_no_verifier_would_take_is_not_issued() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        let ann = holder(access::Role::SecurityAnalyst, 'a');
        let mut issued = 0;
        // Longest names: each is 63 of them.
        for at in 0..90 {
            let namespace = format!("n{at:0>62}");
            grant(&world, json!({"user": ann, "role": "view", "destination": "prod", "namespace": namespace})).await;
            if at % 10 < 9 && at < 70 {
                continue;
            }
            let made = token(&world, &ann, "prod", json!({})).await;
            if made.status == 201 {
                assert!(made.json["token"].as_str().unwrap().len() <= crypto::jwt::TOKEN_BYTES_MAX);
                issued = at + 1;
            } else {
                made.is(409).says("do not fit into a token");
                break;
            }
        }
        assert!((60..90).contains(&issued), "{issued}");
    });
}
