//! Two people change one thing: nobody saves over what they did not see (RFC 9110, 13.1).

use access::Role;
use axum::body::Body;
use domain::FleetKind;
use http::Request;
use serde_json::{Value, json};

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

async fn all(world: &World) -> Vec<Changed> {
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
    let authority = authority();
    let relays = |required: bool| json!({"authorities": authority, "certificate_required": required});
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
        patch(format!("{T}/destinations/{destination}"), labels("one"), labels("two")),
        patch(format!("{T}/schedules/{schedule}"), json!({"interval_s": 600}), json!({"interval_s": 700})),
        // One that is paused stands in no queue.
        patch(
            format!("{T}/schedules/{schedule}"),
            json!({"paused": true, "interval_s": 900}),
            json!({"interval_s": 800}),
        ),
        patch(format!("/api/v1/providers/{provider}"), json!({"title": "One"}), json!({"title": "Two"})),
    ]
}

#[test]
fn of_two_changes_that_were_made_from_one_state_one_is_kept_and_the_other_is_told() {
    each_engine(|world| async move {
        let (boss, platform) = (world.sign_in(&admin()).await, world.sign_in(PLATFORM).await);
        for Changed { read, change: (method, path), bodies: [one, other] } in all(&world).await {
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
