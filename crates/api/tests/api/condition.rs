//! Two people change one thing: nobody saves over what they did not see (RFC 9110, 13.1).

use access::Role;
use axum::body::Body;
use domain::FleetKind;
use http::Request;
use serde_json::{Value, json};

use crate::authorization::{Ask, Standing, ask};
use crate::document::operations;
use crate::fleet::Machine;
use crate::things::HOST_KEY;
use crate::world::{Answer, PLATFORM, World, admin, each_engine, holder};

const T: &str = "/api/v1/tenants/acme";

/// A change under a condition.
async fn under(world: &World, token: &str, method: &str, path: &str, condition: (&str, &str), body: &Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header(condition.0, condition.1);
    world.send(request.body(Body::from(body.to_string())).unwrap()).await
}

fn host(address: &str) -> Value {
    json!({"address": address, "host_key": HOST_KEY, "roles": ["deploy"]})
}

#[test]
fn of_two_who_add_a_host_of_one_name_at_once_one_is_told_that_it_is_there() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let new = ("if-none-match", "*");
        for round in 0..10 {
            let path = format!("{T}/destinations/web{round}/ssh-host");
            let (mine, theirs) = (host("10.0.0.1"), host("10.0.0.2"));
            let last = world.audit(Some(world.a), -1).await.last().map_or(-1, |record| record.0);
            let (one, other) = tokio::join!(
                under(&world, &token, "PUT", &path, new, &mine),
                under(&world, &token, "PUT", &path, new, &theirs)
            );
            let (kept, refused) = if one.status == 200 { (one, other) } else { (other, one) };
            let kept = kept.is(200);
            let refused = refused.is(412).says(&format!("there is a destination `web{round}` already"));
            assert_eq!(refused.json["code"], "precondition_failed");
            let now = world.call("GET", &path, Some(&token), None).await.is(200);
            assert_eq!(now.json["address"], kept.json["address"]);
            let records = world.audit(Some(world.a), last).await;
            assert_eq!(records.iter().filter(|record| record.1 == "ssh_host_put").count(), 1, "{records:?}");
        }
        // By its id it is there too, and without a condition it is said anew, as before.
        let made = world.call("GET", &format!("{T}/destinations/web0/ssh-host"), Some(&token), None).await.is(200);
        let path = format!("{T}/destinations/{}/ssh-host", made.id());
        under(&world, &token, "PUT", &path, new, &host("10.0.0.3")).await.is(412).says("`web0` already");
        world.call("PUT", &path, Some(&token), Some(host("10.0.0.3"))).await.is(200);
    });
}

#[test]
fn a_condition_tells_nothing_to_who_may_not_read() {
    each_engine(|world| async move {
        let boss = world.sign_in(&admin()).await;
        let path = format!("{T}/destinations/web1/ssh-host");
        world.call("PUT", &path, Some(&boss), Some(host("10.0.0.1"))).await.is(200);
        let reader = world.sign_in(&holder(Role::ReadOnly, 'a')).await;
        let stranger = world.sign_in(&holder(Role::TenantAdmin, 'b')).await;
        for condition in [("if-none-match", "*"), ("if-match", "*"), ("if-match", "\"x\"")] {
            let nowhere = format!("{T}/destinations/nowhere/ssh-host");
            for (who, status) in [(&reader, 403), (&stranger, 404)] {
                let there = under(&world, who, "PUT", &path, condition, &host("10.0.0.1")).await.is(status);
                let none = under(&world, who, "PUT", &nowhere, condition, &host("10.0.0.1")).await.is(status);
                assert_eq!(there.masked(&[]), none.masked(&[]));
            }
        }
    });
}

/// An authority of clients' certificates, in PEM.
fn authority() -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

/// What is read, what changes it and how, and two changes of it.
struct Changed {
    read: String,
    change: (&'static str, String),
    bodies: [Value; 2],
}

async fn all(world: &World, boss: &str) -> Vec<Changed> {
    let policy = |name: &str, one: Value, other: Value| {
        let path = format!("{T}/{name}");
        Changed { read: path.clone(), change: ("PUT", path), bodies: [one, other] }
    };
    let labels = |text: &str| json!({ "labels": { "env": text } });
    let unit = |kind: &str, id: &str| {
        let read = format!("{T}/{kind}/{id}");
        Changed { change: ("PUT", format!("{read}/labels")), read, bodies: [labels("one"), labels("two")] }
    };
    let patch = |read: String, one: Value, other: Value| Changed {
        change: ("PATCH", read.clone()),
        read,
        bodies: [one, other],
    };
    let agent = Machine::enrolled(world, world.a, FleetKind::Agent).await.id;
    let relay = Machine::enrolled(world, world.a, FleetKind::Relay).await.id;
    let (destination, schedule) = (world.ssh_host_of(world.a).await, world.schedule(world.a).await);
    let provider = world.provider().await;
    let email = "given@example.org";
    let member = world.member_named(world.a, email).await;
    let group_role = world.group_role(world.a).await;
    let of = world.call("GET", &format!("{T}/group-roles/{group_role}"), Some(boss), None).await.is(200).json;
    // What is changed is named by what is sent.
    let given = |read: String, list: &str, names: Value| {
        let body = |role: &str| {
            let mut body = names.clone();
            body["role"] = json!(role);
            body
        };
        Changed { read, change: ("PUT", format!("{T}/{list}")), bodies: [body("auditor"), body("security-analyst")] }
    };
    let authority = authority();
    let relays = |required: bool| json!({"authorities": authority, "certificate_required": required});
    let host_set = format!("{T}/destinations/{}/host-set", world.host_set_of(world.a).await);
    let selects = |text: &str| json!({"selector": {"env": text}});
    let ssh_host = format!("{T}/destinations/{destination}/ssh-host");
    vec![
        policy("target-policy", json!({"special_networks": ["127.0.0.1"]}), json!({"special_networks": ["127.0.0.2"]})),
        policy("access-policy", json!({"request_s_max": 600}), json!({"request_s_max": 700})),
        policy(
            "recording-policy",
            json!({"kubernetes": "off", "ssh": "off", "input": false, "retention_days": 7}),
            json!({"kubernetes": "off", "ssh": "off", "input": false, "retention_days": 8}),
        ),
        policy("relay-policy", relays(false), relays(true)),
        unit("agents", &agent),
        unit("relays", &relay),
        Changed { read: ssh_host.clone(), change: ("PUT", ssh_host), bodies: [host("10.0.0.1"), host("10.0.0.2")] },
        Changed { read: host_set.clone(), change: ("PUT", host_set), bodies: [selects("one"), selects("two")] },
        patch(format!("{T}/destinations/{destination}"), labels("one"), labels("two")),
        patch(format!("{T}/schedules/{schedule}"), json!({"interval_s": 600}), json!({"interval_s": 700})),
        // One that is paused stands in no queue.
        patch(
            format!("{T}/schedules/{schedule}"),
            json!({"paused": true, "interval_s": 900}),
            json!({"interval_s": 800}),
        ),
        given(format!("{T}/members/{member}"), "members", json!({ "email": email })),
        given(
            format!("{T}/group-roles/{group_role}"),
            "group-roles",
            json!({"provider": of["provider"], "group": of["group"]}),
        ),
        patch(format!("/api/v1/providers/{provider}"), json!({"title": "One"}), json!({"title": "Two"})),
    ]
}

#[test]
fn of_two_changes_that_were_made_from_one_state_one_is_kept_and_the_other_is_told() {
    each_engine(|world| async move {
        let (boss, platform) = (world.sign_in(&admin()).await, world.sign_in(PLATFORM).await);
        for Changed { read, change: (method, path), bodies: [one, other] } in all(&world, &boss).await {
            let token = if read.starts_with(T) { &boss } else { &platform };
            let tag = async || world.call("GET", &read, Some(token), None).await.is(200).header("etag").to_owned();
            let change =
                async |tag: &str, body: &Value| under(&world, token, method, &path, ("if-match", tag), body).await;
            let first = tag().await;
            assert_eq!(first.len(), 34, "{read}: {first}");
            assert_eq!(tag().await, first, "reading changes nothing: {read}");

            change(&first, &one).await.is(200);
            let second = tag().await;
            assert_ne!(second, first, "{read}");
            let seen = async || {
                let mut now = world.call("GET", &read, Some(token), None).await.is(200).json;
                now.as_object_mut().unwrap().remove("last_seen_at");
                now
            };
            let before = seen().await;
            let stale = change(&first, &other).await.is(412).says("since you read it");
            assert_eq!(stale.json["code"], "precondition_failed", "{path}");
            change("W/\"x\", \"y\"", &other).await.is(412);
            for wrong in ["x", "", "\"x"] {
                change(wrong, &other).await.is(400).says("send `if-match` as");
            }
            assert_eq!(
                (seen().await, tag().await),
                (before, second.clone()),
                "what was refused changes nothing: {path}"
            );

            // At once, from one state.
            let (mine, theirs) = tokio::join!(change(&second, &other), change(&second, &other));
            let mut statuses = [mine.status, theirs.status];
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 412], "{path}: {} {}", mine.text, theirs.text);
            let third = tag().await;
            // The state is named and not how often it was changed: who goes back to it is back at its name.
            change(&format!("\"other\", {third}"), &one).await.is(200);
            assert_eq!(tag().await, second, "{path}");
            change("*", &other).await.is(200);
        }
    });
}

#[test]
fn what_is_gone_is_changed_under_no_condition() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let id = world.ssh_host_of(world.a).await;
        let name =
            world.call("GET", &format!("{T}/destinations/{id}"), Some(&token), None).await.is(200).json["name"].clone();
        let path = format!("{T}/destinations/{}/ssh-host", name.as_str().unwrap());
        let tag = world.call("GET", &path, Some(&token), None).await.is(200).header("etag").to_owned();
        world.call("DELETE", &format!("{T}/destinations/{id}"), Some(&token), None).await.is(204);
        under(&world, &token, "PUT", &path, ("if-match", &tag), &host("10.0.0.1")).await.is(412).says("took it away");
        under(&world, &token, "PUT", &path, ("if-match", "*"), &host("10.0.0.1")).await.is(412);
        // Another one of its name is another one, even where the same is said of it.
        under(&world, &token, "PUT", &path, ("if-none-match", "*"), &host("10.0.0.7:22")).await.is(200);
        under(&world, &token, "PUT", &path, ("if-match", &tag), &host("10.0.0.1"))
            .await
            .is(412)
            .says("since you read it");
    });
}

#[test]
fn who_invites_somebody_is_told_that_they_have_a_role_already() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let (members, new) = (format!("{T}/members"), ("if-none-match", "*"));
        let give = |email: &str, role: &str| json!({"email": email, "role": role});
        // Of two who invite one address at once, one is told what the other did.
        for round in 0..10 {
            let email = format!("ann{round}@example.org");
            let (auditor, reader) = (give(&email, "auditor"), give(&email, "read-only"));
            let (one, other) = tokio::join!(
                under(&world, &token, "PUT", &members, new, &auditor),
                under(&world, &token, "PUT", &members, new, &reader)
            );
            let (kept, refused) = if one.status == 200 { (one, other) } else { (other, one) };
            let role = kept.is(200).json["role"].as_str().unwrap().to_owned();
            let words = format!("`{email}` is invited already, with the role `{role}`: change that role instead");
            assert_eq!(refused.is(412).says(&words).json["code"], "precondition_failed");
        }
        let waiting = world.call("GET", &format!("{T}/invitations?limit=500"), Some(&token), None).await.is(200);
        let waiting = waiting.json["items"].as_array().unwrap().clone();
        assert_eq!(waiting.iter().filter(|one| one["email"].as_str().unwrap().starts_with("ann")).count(), 10);

        // A member keeps their role, in whatever letters they are named, and so does one who holds more than who asks.
        let reader = holder(Role::ReadOnly, 'a');
        let there = format!("`{reader}` is a member already, with the role `read-only`");
        under(&world, &token, "PUT", &members, new, &give(&reader.to_uppercase(), "auditor"))
            .await
            .is(412)
            .says(&there);
        let system = holder(Role::SystemAdmin, 'a');
        let there = "is a member already, with the role `system-admin`";
        under(&world, &token, "PUT", &members, new, &give(&system, "auditor")).await.is(412).says(there);
        let member = format!("{members}/{reader}");
        let read = world.call("GET", &member, Some(&token), None).await.is(200);
        assert_eq!(read.json["role"], "read-only");
        let by_id = format!("{members}/{}", read.json["user"].as_str().unwrap());
        assert_eq!(world.call("GET", &by_id, Some(&token), None).await.is(200).json, read.json);
        // Nobody gives what they do not hold, whatever is there.
        under(&world, &token, "PUT", &members, new, &give(&reader, "system-admin")).await.is(403);

        // Who is a member no more is not invited by who meant to change their role.
        let tag = read.header("etag").to_owned();
        world.call("DELETE", &by_id, Some(&token), None).await.is(204);
        let stale = ("if-match", tag.as_str());
        under(&world, &token, "PUT", &members, stale, &give(&reader, "auditor")).await.is(412).says("took it away");
        world.call("GET", &member, Some(&token), None).await.is(404);
        let waiting = world.call("GET", &format!("{T}/invitations?limit=500"), Some(&token), None).await.is(200);
        assert!(!waiting.text.contains(&reader), "{}", waiting.text);
        under(&world, &token, "PUT", &members, new, &give(&reader, "read-only")).await.is(200);
    });
}

#[test]
fn a_group_that_gives_a_role_is_given_another_one_by_who_says_so_only() {
    each_engine(|world| async move {
        let token = world.sign_in(&admin()).await;
        let (roles, new, provider) = (format!("{T}/group-roles"), ("if-none-match", "*"), world.provider().await);
        let give = |group: &str, role: &str| json!({"provider": provider, "group": group, "role": role});
        for round in 0..10 {
            let group = format!("Staff {round}");
            let (auditor, reader) = (give(&group, "auditor"), give(&group, "read-only"));
            let (one, other) = tokio::join!(
                under(&world, &token, "PUT", &roles, new, &auditor),
                under(&world, &token, "PUT", &roles, new, &reader)
            );
            let (kept, refused) = if one.status == 200 { (one, other) } else { (other, one) };
            let kept = kept.is(200);
            let role = kept.json["role"].as_str().unwrap();
            let words = format!("the group `{group}` of `{provider}` gives a role already, `{role}`");
            refused.is(412).says(&words);
            let now = world.call("GET", &format!("{roles}/{}", kept.id()), Some(&token), None).await.is(200);
            assert_eq!(now.json["role"], role);
        }
        // Groups are spelled as the provider does: another spelling is another group.
        under(&world, &token, "PUT", &roles, new, &give("staff 0", "auditor")).await.is(200);
        // One that was taken away and given anew is another one.
        let made = under(&world, &token, "PUT", &roles, new, &give("team", "auditor")).await.is(200);
        let one = format!("{roles}/{}", made.id());
        let tag = world.call("GET", &one, Some(&token), None).await.is(200).header("etag").to_owned();
        world.call("DELETE", &one, Some(&token), None).await.is(204);
        let stale = ("if-match", tag.as_str());
        under(&world, &token, "PUT", &roles, stale, &give("team", "auditor")).await.is(412).says("took it away");
        under(&world, &token, "PUT", &roles, new, &give("team", "auditor")).await.is(200);
        under(&world, &token, "PUT", &roles, stale, &give("team", "read-only")).await.is(412).says("since you read it");
    });
}

#[test]
fn no_change_is_made_by_a_request_whose_condition_nobody_reads() {
    each_engine(|world| async move {
        let standing = Standing::new(&world, world.a).await;
        let system = world.token(&holder(Role::SystemAdmin, 'a')).await;
        let platform = world.token(PLATFORM).await;
        let (mut read, mut refused) = (0, 0);
        for operation in operations() {
            let Ask { path, body } = ask(&world, &standing, &operation).await;
            let token = if path.starts_with("/api/v1/tenants/") { &system } else { &platform };
            let parameters = operation.document["parameters"].as_array().cloned().unwrap_or_default();
            let takes = parameters.iter().any(|one| one["in"] == "header" && one["name"] == "If-Match");
            let last = world.audit(Some(world.a), -1).await.last().map_or(-1, |record| record.0);
            for condition in [("if-match", "\"x\""), ("if-match", "*"), ("if-none-match", "*"), ("if-none-match", "")] {
                let send =
                    under(&world, token, &operation.method, &path, condition, body.as_ref().unwrap_or(&Value::Null));
                let unread = format!("this takes no `{}`", condition.0);
                if operation.method == "GET" {
                    if !operation.id.contains("follow") && !operation.id.ends_with("_events") && !condition.1.is_empty()
                    {
                        assert!(!send.await.text.contains("this takes no"), "{}", operation.id);
                    }
                } else if !takes {
                    let answer = send.await.is(400).says(&unread);
                    assert_eq!(answer.json["code"], "invalid", "{}", operation.id);
                    refused += 1;
                } else if condition == ("if-match", "\"x\"") {
                    // What says that it reads one does.
                    assert_eq!(send.await.is(412).json["code"], "precondition_failed", "{}", operation.id);
                    read += 1;
                }
            }
            if operation.method != "GET" {
                let left = world.audit(Some(world.a), last).await;
                let done = left.iter().filter(|(_, action, outcome)| *action == operation.id && outcome == "success");
                assert_eq!(done.count(), 0, "{}: {left:?}", operation.id);
            }
        }
        assert!(read >= 13 && refused > 250, "{read} {refused}");
    });
}
