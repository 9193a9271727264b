//! Reviews of access at their edges: decided twice, taken meanwhile by somebody else, about oneself.

use access::Role;
use domain::Clock as _;
use serde_json::{Value, json};

use crate::access_data::{T, analyst, begin, items};
use crate::world::{Answer, World, admin, each_engine, holder};

async fn decide(world: &World, by: &str, id: &str, items: &[i64], decision: &str, reason: &str) -> Answer {
    let body = json!({"items": items, "decision": decision, "reason": reason});
    world.by(by, "POST", &format!("{T}/access-reviews/{id}/decide"), Some(body)).await
}

/// The items as they are shown.
async fn shown(world: &World, id: &str) -> Vec<Value> {
    let items = world.by(&admin(), "GET", &format!("{T}/access-reviews/{id}/items?limit=500"), None).await.is(200);
    items.json["items"].as_array().unwrap().clone()
}

/// The newest record of an action.
async fn record(world: &World, action: &str) -> Value {
    let path = format!("{T}/audit?action={action}");
    world.by(&holder(Role::Auditor, 'a'), "GET", &path, None).await.is(200).json["items"][0].clone()
}

async fn join(world: &World, group: &str, email: &str, method: &str) {
    world.by(&admin(), method, &format!("{T}/groups/{group}/members/{email}"), None).await.is(204);
}

#[test]
fn attack_who_revoked_something_why_and_when_stays_whoever_revokes_it_again() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        for number in 0..120 {
            world.granted(json!({"user": analyst(), "role": format!("r{number}"), "destination": "prod"})).await;
        }
        let reviewers = [admin(), holder(Role::ReadOnly, 'a')];
        let id = begin(&world, json!({"reviewers": reviewers})).await.is(201).id();
        let (first, all) = ((1..=119).collect::<Vec<i64>>(), (1..=120).collect::<Vec<i64>>());
        decide(&world, &reviewers[0], &id, &first, "revoke", "left the team").await.is(200);
        // The record names every one of them.
        assert_eq!(record(&world, "access_review_decide").await["detail"]["numbers"], json!(first));
        let before = shown(&world, &id).await;
        world.later();
        decide(&world, &reviewers[1], &id, &all, "revoke", "it was me").await.is(200);
        let after = shown(&world, &id).await;
        assert_eq!(before[..119], after[..119]);
        assert_eq!((&after[119]["reason"], &after[119]["outcome"]), (&json!("it was me"), &json!("revoked")));
        assert_eq!(record(&world, "access_review_decide").await["detail"]["numbers"], json!([120]));
    });
}

#[test]
fn deciding_needs_a_fresh_proof_for_its_outcome_is_signed() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.granted(json!({"user": analyst(), "role": "view", "destination": "prod"})).await;
        let id = begin(&world, json!({"reviewers": [admin()]})).await.is(201).id();
        let token = world.token(&admin()).await;
        world.clock.advance(std::time::Duration::from_mins(16));
        let path = format!("{T}/access-reviews/{id}/decide");
        let body = json!({"items": [1], "decision": "keep", "reason": "it is needed"});
        let stale = world.call("POST", &path, Some(&token), Some(body.clone())).await.is(403);
        assert_eq!(stale.json["code"], "step_up_required");
        assert_eq!(record(&world, "access_review_decide").await["outcome"], "deny");
        let proof = json!({"password": crate::world::planted().password});
        world.call("POST", "/api/v1/sessions/current/step-up", Some(&token), Some(proof)).await;
        world.call("POST", &path, Some(&token), Some(body)).await.is(200);
    });
}

#[test]
fn what_is_kept_and_was_taken_meanwhile_by_somebody_else_is_not_attested_as_kept() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "devs").await;
        for email in [analyst(), holder(Role::Auditor, 'a'), holder(Role::ReadOnly, 'a')] {
            join(&world, "devs", &email, "PUT").await;
        }
        world.granted(json!({"group": "devs", "role": "view", "destination": "prod"})).await;
        let id = begin(&world, json!({})).await.is(201).id();
        decide(&world, &admin(), &id, &[1, 2, 3, 4], "keep", "the team").await.is(200);
        join(&world, "devs", &analyst(), "DELETE").await;
        let path = format!("{T}/members/{}", world.user_id(&holder(Role::Auditor, 'a')));
        world.by(&admin(), "DELETE", &path, None).await.is(204);
        world.by(&admin(), "POST", &format!("{T}/access-reviews/{id}/close"), None).await.is(200);
        let mut outcomes: Vec<_> = items(&world, &admin(), &id).await.into_iter().map(|one| (one.1, one.2)).collect();
        outcomes.sort();
        let place = |role: Role| format!("user {} in group devs", holder(role, 'a'));
        assert_eq!(
            outcomes,
            [
                ("group devs as view at prod".to_owned(), "kept".to_owned()),
                (place(Role::Auditor), "gone".to_owned()),
                (place(Role::ReadOnly), "kept".to_owned()),
                (place(Role::SecurityAnalyst), "gone".to_owned()),
            ]
        );
    });
}

#[test]
fn a_grant_that_says_something_else_than_what_was_reviewed_is_not_attested_as_kept() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "devs").await;
        let (soon, later) =
            (world.clock.now().plus_millis(48 * 3_600_000), world.clock.now().plus_millis(96 * 3_600_000));
        let file = |ends: &[Value]| {
            let grants: Vec<Value> = ["view", "edit", "admin", "deploy"]
                .iter()
                .zip(ends)
                .map(|(role, ends_at)| {
                    json!({"group": "devs", "role": role, "destination": "prod", "reason": "the team", "expires_at": ends_at})
                })
                .collect();
            json!({"version": 1, "name": "team", "grants": grants})
        };
        let apply = async |ends: &[Value]| {
            let applied = world.applied(file(ends)).await;
            world.by(&admin(), "POST", &format!("{T}/access-file/apply"), Some(applied)).await.is(200);
        };
        apply(&[json!(soon), json!(soon), json!(soon), json!(soon)]).await;
        let id = begin(&world, json!({"undecided": "keep"})).await.is(201).id();
        let number = async |role: &str| {
            let all = items(&world, &admin(), &id).await;
            all.into_iter().find(|one| one.1 == format!("group devs as {role} at prod")).unwrap().0
        };
        let outcome = async |role: &str| {
            let all = items(&world, &admin(), &id).await;
            all.into_iter().find(|one| one.1 == format!("group devs as {role} at prod")).unwrap().2
        };
        let kept = [number("view").await, number("edit").await];
        // One is changed before it is kept, one after, one that nobody decides, and one comes back to what it was.
        apply(&[json!(later), json!(soon), json!(soon), json!(later)]).await;
        decide(&world, &admin(), &id, &kept, "keep", "the team").await.is(200);
        decide(&world, &admin(), &id, &[number("deploy").await], "keep", "the team").await.is(200);
        assert_eq!(
            (outcome("view").await, outcome("edit").await, outcome("deploy").await),
            ("changed".into(), "kept".into(), "changed".into())
        );
        apply(&[json!(later), Value::Null, Value::Null, json!(soon)]).await;
        world.by(&admin(), "POST", &format!("{T}/access-reviews/{id}/close"), None).await.is(200);
        for (role, expect) in [("view", "changed"), ("edit", "changed"), ("admin", "changed"), ("deploy", "kept")] {
            assert_eq!(outcome(role).await, expect, "{role}");
        }
    });
}

#[test]
fn who_may_break_glass_is_reviewed_whatever_else_is_granted_to_their_group() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "on-call").await;
        join(&world, "on-call", &analyst(), "PUT").await;
        let policy = json!({"request_s_max": 3_600, "break_glass": {"group": "on-call", "s_max": 900}});
        world.by(&admin(), "PUT", &format!("{T}/access-policy"), Some(policy)).await.is(200);
        let glass = format!("user {} in group on-call, may break glass everywhere for 900 s", analyst());
        // Nothing is granted to anybody, and what is reviewed is one role at one place.
        let id = begin(&world, json!({"scope": {"destinations": ["prod"], "roles": ["view"]}})).await.is(201).id();
        assert_eq!(items(&world, &admin(), &id).await, [(1, glass.clone(), "-".to_owned())]);
        decide(&world, &admin(), &id, &[1], "revoke", "on another team").await.is(200);
        let members = world.by(&admin(), "GET", &format!("{T}/groups/on-call"), None).await.is(200);
        assert_eq!(members.json["members"], json!([]));
        // Of others' access it is no part.
        join(&world, "on-call", &analyst(), "PUT").await;
        begin(&world, json!({"scope": {"users": [holder(Role::Auditor, 'a')]}})).await.is(400);
        let theirs = begin(&world, json!({"scope": {"users": [analyst()]}})).await.is(201).id();
        assert_eq!(items(&world, &admin(), &theirs).await.len(), 1);
    });
}

#[test]
fn an_item_says_to_each_who_sees_it_whether_they_may_decide_it() {
    each_engine(|world| async move {
        world.destination_of(world.a, "prod").await;
        world.group_of(world.a, "devs").await;
        let (first, second) = (holder(Role::ReadOnly, 'a'), analyst());
        join(&world, "devs", &first, "PUT").await;
        world.granted(json!({"group": "devs", "role": "view", "destination": "prod"})).await;
        world.granted(json!({"user": second, "role": "edit", "destination": "prod"})).await;
        let id = begin(&world, json!({"reviewers": [first, second]})).await.is(201).id();
        let path = format!("{T}/access-reviews/{id}/items");
        let mut seen = Vec::new();
        for by in [&first, &second, &admin()] {
            let items = world.by(by, "GET", &path, None).await.is(200).json["items"].as_array().unwrap().clone();
            for item in &items {
                // What it says is what deciding is answered with.
                let number = item["number"].as_i64().unwrap();
                if let Some(why) = item["undecidable"].as_str() {
                    decide(&world, by, &id, &[number], "keep", "it is needed").await.is(403).says(why);
                } else {
                    decide(&world, by, &id, &[number], "keep", "it is needed").await.is(200);
                }
            }
            seen.push(items.iter().filter(|item| item["undecidable"].is_null()).count());
            assert_eq!(items.len(), 3);
        }
        // The group's grant and the place in it are the first one's own, the other grant the second one's; who manages access was not asked.
        assert_eq!(seen, [1, 2, 0]);
    });
}
