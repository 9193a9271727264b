//! Connections to SSH hosts through relays: what a relay gets, for whom, and how often.

use access::Role;
use domain::{FleetKind, TenantId};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::fleet::Machine;
use crate::things::HOST_KEY;
use crate::world::{World, admin, each_engine, holder};

const T: &str = "/api/v1/tenants/acme";
/// Keys of a relay for one connection.
const KEYS: [&str; 2] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
];

fn analyst() -> String {
    holder(Role::SecurityAnalyst, 'a')
}

async fn host(world: &World, name: &str, relay: &str) -> Answer {
    let body =
        json!({"address": "web1.example:2222", "host_key": HOST_KEY, "roles": ["deploy", "root"], "relay": relay});
    world.by(&admin(), "PUT", &format!("{T}/destinations/{name}/ssh-host"), Some(body)).await
}

async fn relay(world: &World, tenant: TenantId) -> Machine {
    Machine::enrolled(world, tenant, FleetKind::Relay).await
}

async fn token(world: &World, name: &str) -> String {
    let path = format!("{T}/destinations/{name}/tokens");
    let made = world.by(&analyst(), "POST", &path, Some(json!({"role": "deploy"}))).await.is(201);
    made.json["token"].as_str().unwrap().to_owned()
}

async fn call(world: &World, relay: &mut Machine, path: &str, body: &Value) -> Answer {
    let path = format!("/api/v1/relays/{}/ssh-sessions{path}", relay.id);
    let request = relay.request(world, "POST", &path, &body.to_string(), |_| ());
    world.send(request).await
}

async fn begin(world: &World, relay: &mut Machine, destination: &str, token: &str) -> Answer {
    let body = json!({"destination": destination, "token": token, "from": "192.0.2.7", "host_key": KEYS[0], "client_key": KEYS[1]});
    call(world, relay, "", &body).await
}

async fn records(world: &World, action: &str) -> Vec<Value> {
    let log = world.by(&holder(Role::Auditor, 'a'), "GET", &format!("{T}/audit?action={action}"), None).await.is(200);
    log.json["items"].as_array().unwrap().clone()
}

#[test]
fn attack_ssh_a_relay_gets_a_certificate_for_a_user_who_is_there_once_and_never_by_itself() {
    each_engine(|world| async move {
        let (mut ours, mut other) = (relay(&world, world.a).await, relay(&world, world.a).await);
        let made = host(&world, "web1", &ours.id).await.is(200);
        let id = made.json["id"].as_str().unwrap().to_owned();
        assert_eq!(made.json["relay"], json!(ours.id));
        let grant = json!({"user": analyst(), "role": "deploy", "destination": "web1"});
        let grant = world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant)).await.is(201).id();

        // A user's own certificate opens the relay, and not the host.
        let path = format!("{T}/destinations/web1/ssh-certificates");
        let own = world.by(&analyst(), "POST", &path, Some(json!({"public_key": HOST_KEY}))).await.is(201);
        let names = own.json["principals"].as_array().unwrap();
        assert!(names.len() == 1 && names[0].as_str().unwrap().starts_with(&format!("cairn-relay/{id}/deploy/usr_")));
        assert_eq!(own.json["host_alias"], json!(format!("{id}.relay")));

        // Without a user's proof, with a forged one, with one of somewhere else: nothing.
        let good = token(&world, "web1").await;
        let mut forged = good.clone();
        let last = forged.pop().unwrap();
        forged.push(if last == 'A' { 'B' } else { 'A' });
        for bad in ["", "x", &forged, &good[..good.rfind('.').unwrap()]] {
            begin(&world, &mut ours, &id, bad).await.is(403);
        }
        host(&world, "web2", &ours.id).await.is(200);
        let elsewhere = json!({"user": analyst(), "role": "deploy", "destination": "web2"});
        world.by(&admin(), "POST", &format!("{T}/grants"), Some(elsewhere)).await.is(201);
        let foreign = token(&world, "web2").await;
        begin(&world, &mut ours, &id, &foreign).await.is(403);
        // Another relay, of this tenant or of another one, gets nothing for it.
        begin(&world, &mut other, &id, &good).await.is(404);
        let mut theirs = relay(&world, world.b).await;
        begin(&world, &mut theirs, &id, &good).await.is(404);
        assert!(records(&world, "ssh_session_begin").await.iter().all(|record| record["outcome"] == "deny"));

        let begun = begin(&world, &mut ours, &id, &good).await.is(201);
        assert_eq!(begun.json["account"], "deploy");
        assert_eq!(begun.json["principal"], names[0], "the token and the certificate are one session's");
        assert!(begun.json["client_certificate"].as_str().unwrap().starts_with("ssh-ed25519-cert-v01@openssh.com "));
        // A token is good for one connection.
        begin(&world, &mut ours, &id, &good).await.is(409).says("token of its own");
        let done: Vec<_> =
            records(&world, "ssh_session_begin").await.into_iter().filter(|it| it["outcome"] == "success").collect();
        assert_eq!(done.len(), 1);
        assert!(done[0]["actor"].to_string().contains(&analyst()), "the record is the user's: {}", done[0]);

        // Its end is told by its relay, and written down once.
        let connection = begun.json["id"].as_str().unwrap();
        let end = json!({"at": "2026-01-01T00:01:00Z", "reason": "the user left", "reached": true, "received_bytes": 7, "sent_bytes": 9});
        let path = format!("/{connection}/end");
        call(&world, &mut other, &path, &end).await.is(404);
        for _ in 0..2 {
            call(&world, &mut ours, &path, &end).await.is(204);
        }
        let ended = records(&world, "ssh_session_end").await;
        assert_eq!(ended.len(), 1);
        assert_eq!(
            (&ended[0]["detail"]["sent_bytes"], &ended[0]["detail"]["reason"]),
            (&json!(9), &json!("the user left"))
        );

        // What a token rests on is looked at again.
        let late = token(&world, "web1").await;
        world.by(&admin(), "DELETE", &format!("{T}/grants/{grant}"), None).await.is(204);
        begin(&world, &mut ours, &id, &late).await.is(404);
        // A host that is reached without a relay gives no relay anything.
        let free = token(&world, "web2").await;
        let web2 = host(&world, "web2", "").await.is(200).json["id"].as_str().unwrap().to_owned();
        begin(&world, &mut ours, &web2, &free).await.is(404);
        host(&world, "web2", "nowhere").await.is(400).says("there is no relay `nowhere`");
    });
}

#[test]
fn attack_ssh_no_relay_makes_itself_the_way_to_a_host() {
    each_engine(|world| async move {
        let mut ours = relay(&world, world.a).await;
        host(&world, "web1", &ours.id).await.is(200);
        let path = format!("/api/v1/relays/{}/destinations", ours.id);
        for name in ["web1", "web9"] {
            let body = json!({"name": name, "kind": "ssh", "authority": "", "roles": ["root"], "version": "1.0.0"});
            let request = ours.request(&world, "POST", &path, &body.to_string(), |_| ());
            world.send(request).await.is(400).says("by an administrator");
        }
    });
}

#[test]
fn attack_ssh_where_sessions_have_to_be_recorded_nobody_goes_past_what_records() {
    each_engine(|world| async move {
        let ours = relay(&world, world.a).await;
        for (name, through) in [("web1", ours.id.as_str()), ("web2", "")] {
            host(&world, name, through).await.is(200);
            let grant = json!({"user": analyst(), "role": "deploy", "destination": name});
            world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant)).await.is(201);
        }
        let ask = async |name: &str| {
            let path = format!("{T}/destinations/{name}/ssh-certificates");
            world.by(&analyst(), "POST", &path, Some(json!({"public_key": HOST_KEY}))).await
        };
        ask("web2").await.is(201);
        let required = json!({"kubernetes": "off", "ssh": "required", "input": false, "retention_days": 400});
        world.by(&admin(), "PUT", &format!("{T}/recording-policy"), Some(required)).await.is(200);
        ask("web2").await.is(409).says("have to be recorded");
        ask("web1").await.is(201);
    });
}
