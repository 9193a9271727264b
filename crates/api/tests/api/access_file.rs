//! Files of access at their edges: what is over, what another part of the file still names, what waits, what is said twice.

use std::time::Duration;

use domain::Clock as _;
use serde_json::{Value, json};

use crate::access_data::{T, analyst, apply, changes, plan};
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
