//! The asset graph as it is drawn: findings are beside nodes for whoever may read them, and work that is asked for has bounds.

use access::Role;
use serde_json::{Value, json};

use crate::world::{each_engine, holder};

const TENANT: &str = "/api/v1/tenants/acme";

#[test]
fn whoever_may_not_read_findings_sees_none_beside_nodes_and_others_see_those_of_now() {
    each_engine(|world| async move {
        let node = world.node(world.a).await;
        world.finding(world.a).await;
        let group = "aws:eu-west-1";
        let view = json!({ "by": "account", "open": [{ "group": group, "limit": 1 }] });
        let past = json!({ "by": "account", "as_of": "2000-01-01T00:00:00Z" });
        let (may, may_not) = (holder(Role::SecurityAnalyst, 'a'), holder(Role::ReadOnly, 'a'));
        for (email, sees) in [(&may, true), (&may_not, false)] {
            let token = world.sign_in(email).await;
            let get =
                async |path: &str| world.call("GET", &format!("{TENANT}{path}"), Some(&token), None).await.is(200).json;
            let id = node.replace(':', "%3A");
            let drawn = world
                .call("POST", &format!("{TENANT}/graph/view"), Some(&token), Some(view.clone()))
                .await
                .is(200)
                .json;
            for answer in [
                get("/graph").await,
                get(&format!("/graph/members?group={group}")).await,
                get(&format!("/nodes/{id}/reach?direction=any")).await,
                get(&format!("/nodes/{id}/neighbors")).await,
                drawn.clone(),
            ] {
                let shows = answer.to_string().contains("\"critical\"");
                assert_eq!(shows, sees, "{email}: {answer}");
            }
            // The one node with a finding is drawn first for whoever knows of it.
            if sees {
                assert_eq!(drawn["elements"][0]["node"]["id"], node, "{drawn}");
            }
            let then = world.call("POST", &format!("{TENANT}/graph/view"), Some(&token), Some(past.clone())).await;
            assert!(!then.is(200).json.to_string().contains("\"critical\""));
        }
    });
}

#[test]
fn a_drawing_that_cannot_fit_and_a_walk_over_too_many_types_are_refused_and_say_how_much_is_let() {
    each_engine(|world| async move {
        let node = world.node(world.a).await.replace(':', "%3A");
        let token = world.sign_in(&holder(Role::ReadOnly, 'a')).await;
        let view = |elements: u32| json!({ "elements": elements, "open": [{ "group": "aws:eu-west-1" }] });
        let ask =
            async |body: Value| world.call("POST", &format!("{TENANT}/graph/view"), Some(&token), Some(body)).await;
        let refused = ask(view(1)).await.is(413).json;
        assert!(refused.to_string().contains("groups that are opened"), "{refused}");
        assert_eq!(ask(view(2)).await.is(200).json["elements"].as_array().map(Vec::len), Some(1));
        let types = vec!["contains"; 65].join(",");
        let path = format!("{TENANT}/nodes/{node}/reach?types={types}");
        let refused = world.call("GET", &path, Some(&token), None).await.is(413).json;
        assert!(refused.to_string().contains("64"), "{refused}");
    });
}
