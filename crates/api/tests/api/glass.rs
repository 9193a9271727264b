//! Broken glass: how it ends, and who hears what of whom they may not reach.

use access::Role;
use serde_json::{Value, json};
use store::Standing;

use crate::access_data::{T, analyst};
use crate::access_to_destinations::{standing, stands, token};
use crate::world::{World, admin, each_engine, holder};

async fn policy(world: &World, group: Option<&str>) {
    let glass = group.map(|group| json!({"group": group, "s_max": 36_000}));
    let policy = json!({"request_s_max": 3_600, "break_glass": glass});
    world.by(&admin(), "PUT", &format!("{T}/access-policy"), Some(policy)).await.is(200);
}

async fn take(world: &World, email: &str, destination: &str) -> crate::world::Answer {
    let body = json!({"destination": destination, "role": "edit", "duration_s": 36_000, "reason": "it is down"});
    world.by(email, "POST", &format!("{T}/break-glass"), Some(body)).await
}

/// Ways in which somebody may break glass no more.
const ENDS: [&str; 4] = ["place", "group", "policy", "other group"];

#[test]
fn broken_glass_ends_on_open_connections_with_the_right_to_break_it() {
    each_engine(|world| async move {
        let prod = world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "others").await;
        for end in ENDS {
            let (group, email) = (format!("g{}", world.fresh()), format!("u{}@example.org", world.fresh()));
            world.settled(world.a, &email).await;
            world.group_of(world.a, &group).await;
            let place = format!("{T}/groups/{group}/members/{email}");
            world.by(&admin(), "PUT", &place, None).await.is(204);
            policy(&world, Some(&group)).await;
            take(&world, &email, "prod").await.is(201);
            // A grant of another kind is nobody's glass.
            let kept = json!({"user": email, "role": "view", "destination": "prod"});
            world.by(&admin(), "POST", &format!("{T}/grants"), Some(kept)).await.is(201);
            let made = token(&world, &email, "prod", json!({"role": "edit"})).await.is(201);
            let open = standing(&world, &prod, made.json["token"].as_str().unwrap()).await;
            let other = Standing { role: "view".parse().unwrap(), ..open.clone() };
            assert!(stands(&world, &open).await && stands(&world, &other).await, "{end}");
            let (mut changes, tenants) = (world.store.access_changes(), std::collections::BTreeSet::from([world.a]));
            changes.next(&tenants).await;
            match end {
                "place" => drop(world.by(&admin(), "DELETE", &place, None).await.is(204)),
                "group" => drop(world.by(&admin(), "DELETE", &format!("{T}/groups/{group}"), None).await.is(204)),
                "policy" => policy(&world, None).await,
                _ => policy(&world, Some("others")).await,
            }
            let noticed = tokio::time::timeout(std::time::Duration::from_secs(2), changes.next(&tenants)).await;
            assert_eq!(noticed.expect(end), tenants);
            assert!(!stands(&world, &open).await && stands(&world, &other).await, "{end}");
            token(&world, &email, "prod", json!({"role": "edit"})).await.is(403);
            let who = world.by(&admin(), "GET", &format!("{T}/destinations/prod/reachers"), None).await.is(200);
            let roles: Vec<&Value> = who.json["items"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|one| one["email"] == email)
                .map(|one| &one["role"])
                .collect();
            assert_eq!(roles, [&json!("view")], "{end}");
        }
    });
}

#[test]
fn who_may_break_glass_is_told_beside_who_reaches_what() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "on-call").await;
        world.by(&admin(), "PUT", &format!("{T}/groups/on-call/members/{}", analyst()), None).await.is(204);
        let glass = async |path: &str| {
            let answer = world.by(&admin(), "GET", &format!("{T}/{path}"), None).await.is(200);
            assert_eq!(answer.json["items"], json!([]));
            answer.json["break_glass"].clone()
        };
        let (who, what) = ("destinations/prod/reachers", format!("members/{}/reach", analyst()));
        assert_eq!((glass(who).await, glass(&what).await), (Value::Null, Value::Null));
        policy(&world, Some("on-call")).await;
        let may = json!({"group": "on-call", "s_max": 36_000});
        assert_eq!((glass(who).await, glass(&what).await), (may.clone(), may));
        assert_eq!(glass(&format!("members/{}/reach", admin())).await, Value::Null, "only who may");
    });
}

#[test]
fn who_may_not_break_glass_learns_nothing_and_each_try_is_an_alarm() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "on-call").await;
        for group in [None, Some("on-call")] {
            policy(&world, group).await;
            let told = |answer: crate::world::Answer| {
                (answer.status, answer.json["code"].clone(), answer.json["message"].clone())
            };
            let there = told(take(&world, &analyst(), "prod").await);
            assert_eq!(there.0, 403);
            assert_eq!(
                told(take(&world, &analyst(), "nowhere").await),
                there,
                "one answer, whether it is there or not"
            );
        }
        take(&world, &analyst(), &"x".repeat(1_000_000)).await.is(400);
        let log =
            world.by(&holder(Role::Auditor, 'a'), "GET", &format!("{T}/audit?action=glass_break"), None).await.is(200);
        let tries: Vec<_> = log.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                assert_eq!((&one["outcome"], &one["detail"]["alarm"]), (&json!("deny"), &json!(true)));
                one["detail"]["destination"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(tries, ["nowhere", "prod", "nowhere", "prod"], "each is on the record, with what was named");
        // Who may is told what is wrong.
        world.by(&admin(), "PUT", &format!("{T}/groups/on-call/members/{}", analyst()), None).await.is(204);
        take(&world, &analyst(), "nowhere").await.is(404);
    });
}
