//! Which special addresses a tenant's jobs may reach: who says so, and what may be said.

use std::time::Duration;

use access::Role;
use serde_json::{Value, json};

use crate::world::{admin, each_engine, holder};

const POLICY: &str = "/api/v1/tenants/acme/target-policy";

fn naming(networks: &[&str]) -> Value {
    json!({ "special_networks": networks })
}

#[test]
fn attack_64_a_tenants_administrator_names_special_networks_with_a_fresh_proof_and_nobody_else_does() {
    each_engine(|world| async move {
        let boss = world.sign_in(&admin()).await;
        let none = world.call("GET", POLICY, Some(&boss), None).await.is(200);
        assert_eq!(none.json, json!({ "special_networks": [] }));
        let last = world.audit(Some(world.a), -1).await.last().unwrap().0;
        let asked = Some(naming(&["169.254.0.0/16", "127.0.0.1", "169.254.169.254", "127.0.0.1"]));
        let said = json!({ "special_networks": ["127.0.0.1/32", "169.254.0.0/16", "169.254.169.254/32"] });
        let put = world.call("PUT", POLICY, Some(&boss), asked.clone()).await.is(200);
        assert_eq!(put.json, said);
        assert_eq!(world.audit(Some(world.a), last).await[0].1, "target_policy_put");

        // Who runs jobs sees it and does not change it. The other tenant has one of its own.
        let analyst = world.sign_in(&holder(Role::SecurityAnalyst, 'a')).await;
        assert_eq!(world.call("GET", POLICY, Some(&analyst), None).await.is(200).json, said);
        world.call("PUT", POLICY, Some(&analyst), Some(naming(&[]))).await.is(403);
        let (_, key) = world.api_key(world.a, Role::TenantAdmin, json!({})).await;
        world.call("PUT", POLICY, Some(&key), Some(naming(&[]))).await.is(403);
        let other = world.sign_in(&holder(Role::TenantAdmin, 'b')).await;
        world.call("PUT", POLICY, Some(&other), Some(naming(&[]))).await.is(404);
        let theirs = world.call("GET", "/api/v1/tenants/globex/target-policy", Some(&other), None).await.is(200);
        assert_eq!(theirs.json, json!({ "special_networks": [] }));

        // What is said is the whole policy, and a proof that is too old says nothing.
        world.clock.advance(Duration::from_mins(15));
        let stale = world.call("PUT", POLICY, Some(&boss), Some(naming(&[]))).await.is(403);
        assert_eq!(stale.json["code"], "step_up_required");
        assert_eq!(world.call("GET", POLICY, Some(&boss), None).await.is(200).json, said);
        let boss = world.sign_in(&admin()).await;
        world.call("PUT", POLICY, Some(&boss), Some(naming(&[]))).await.is(200);
        assert_eq!(world.call("GET", POLICY, Some(&boss), None).await.is(200).json, none.json);
    });
}

#[test]
fn a_policy_that_names_what_is_not_special_or_never_a_target_is_refused_and_says_why() {
    each_engine(|world| async move {
        let boss = world.sign_in(&admin()).await;
        for (network, why) in [
            ("10.0.0.0/8", "targets anyhow"),
            ("0.0.0.0/0", "never a target"),
            ("224.0.0.1", "never a target"),
            ("fd00:ec2::/32", "the one address of a metadata service"),
            ("64:ff9b::7f00:1", "name the IPv4 address"),
            ("::ffff:127.0.0.1", "write an IPv4 address as one"),
            ("127.0.0.1/8", "the bits behind the prefix must be zero"),
            ("localhost", "use an address"),
        ] {
            world.call("PUT", POLICY, Some(&boss), Some(naming(&[network]))).await.is(400).says(why);
        }
        let many: Vec<String> = (0..65).map(|n| format!("127.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        world.call("PUT", POLICY, Some(&boss), Some(naming(&many))).await.is(400).says("at most 64");
        let kept = world.call("GET", POLICY, Some(&boss), None).await.is(200);
        assert_eq!(kept.json, json!({ "special_networks": [] }));
    });
}
