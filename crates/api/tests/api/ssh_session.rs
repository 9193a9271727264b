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

/// Asks for a relay whether a connection may stay open.
async fn stands(world: &World, relay: &mut Machine, begun: &Value, destination: &str, ssh: &Value) -> bool {
    let standing = json!({"user": begun["user"], "session": begun["session"], "destination": destination, "role": "deploy", "ssh": ssh});
    let path = format!("/api/v1/relays/{}/access-check", relay.id);
    let body = json!({"standings": [standing]}).to_string();
    let request = relay.request(world, "POST", &path, &body, |_| ());
    !world.send(request).await.is(200).json["until"][0].is_null()
}

#[test]
fn attack_ssh_a_relay_takes_nobody_from_elsewhere_and_what_a_grant_lent_ends_with_it() {
    each_engine(|world| async move {
        let mut ours = relay(&world, world.a).await;
        let body = json!({"address": "web1.example:2222", "host_key": HOST_KEY, "roles": ["deploy"], "relay": ours.id,
            "extensions": ["permit-pty", "permit-agent-forwarding", "permit-port-forwarding"]});
        let made = world.by(&admin(), "PUT", &format!("{T}/destinations/web1/ssh-host"), Some(body.clone())).await;
        let id = made.is(200).json["id"].as_str().unwrap().to_owned();
        let give = async |more: Value| {
            let mut grant = json!({"user": analyst(), "role": "deploy", "destination": "web1"});
            grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant)).await.is(201).id()
        };
        let take = async |grant: &str| world.by(&admin(), "DELETE", &format!("{T}/grants/{grant}"), None).await.is(204);
        let from = async |ours: &mut Machine, address: Option<&str>| {
            let token = token(&world, "web1").await;
            let body =
                json!({"destination": id, "token": token, "from": address, "host_key": KEYS[0], "client_key": KEYS[1]});
            call(&world, ours, "", &body).await
        };
        let office =
            give(json!({"networks": ["192.0.2.0/24"], "extensions": ["permit-pty", "permit-agent-forwarding"]})).await;
        from(&mut ours, Some("203.0.113.9")).await.is(409).says("you come from 203.0.113.9");
        from(&mut ours, None).await.is(409).says("from other networks");
        let begun = from(&mut ours, Some("::ffff:192.0.2.7")).await.is(201).json;
        assert_eq!(begun["extensions"], json!(["permit-agent-forwarding", "permit-pty"]));
        let taken = json!({"from": "192.0.2.7", "extensions": ["permit-agent-forwarding", "permit-pty"]});
        assert!(stands(&world, &mut ours, &begun, &id, &taken).await);
        for other in [
            json!({"from": "203.0.113.9", "extensions": []}),
            json!({"extensions": []}),
            json!({"from": "192.0.2.7", "extensions": ["permit-port-forwarding"]}),
        ] {
            assert!(!stands(&world, &mut ours, &begun, &id, &other).await, "{other}");
        }
        // Another grant from everywhere: elsewhere there is what that one lends, and not the office's.
        let home = give(json!({"extensions": ["permit-pty"]})).await;
        let away = from(&mut ours, Some("203.0.113.9")).await.is(201).json;
        assert_eq!(away["extensions"], json!(["permit-pty"]));
        // With the office's grant its agent goes, also where it is open; what the other one lends stays.
        take(&office).await;
        assert!(!stands(&world, &mut ours, &begun, &id, &taken).await);
        assert!(
            stands(&world, &mut ours, &away, &id, &json!({"from": "203.0.113.9", "extensions": ["permit-pty"]})).await
        );
        take(&home).await;

        // A forced command is in the certificate that the host sees, and a shell is not what it was begun for.
        let forced = give(json!({"force_command": "/usr/bin/backup", "extensions": []})).await;
        let begun = from(&mut ours, Some("192.0.2.7")).await.is(201).json;
        assert_eq!((&begun["force_command"], &begun["extensions"]), (&json!("/usr/bin/backup"), &json!([])));
        assert!(
            stands(
                &world,
                &mut ours,
                &begun,
                &id,
                &json!({"from": "192.0.2.7", "extensions": [], "force_command": "/usr/bin/backup"})
            )
            .await
        );
        assert!(!stands(&world, &mut ours, &begun, &id, &json!({"from": "192.0.2.7", "extensions": []})).await);
        take(&forced).await;

        // What an administrator takes from the host ends, too.
        give(json!({})).await;
        let begun = from(&mut ours, Some("192.0.2.7")).await.is(201).json;
        let taken = json!({"from": "192.0.2.7", "extensions": begun["extensions"]});
        assert!(stands(&world, &mut ours, &begun, &id, &taken).await);
        let mut narrow = body;
        narrow["extensions"] = json!(["permit-pty"]);
        world.by(&admin(), "PUT", &format!("{T}/destinations/web1/ssh-host"), Some(narrow)).await.is(200);
        assert!(!stands(&world, &mut ours, &begun, &id, &taken).await);
        let records = records(&world, "ssh_session_begin").await;
        assert!(records.iter().any(|record| record["detail"]["force_command"] == "/usr/bin/backup"), "{records:?}");
    });
}

/// A host behind a relay that somebody reaches.
async fn reached(world: &World, ours: &Machine) -> String {
    let id = host(world, "web1", &ours.id).await.is(200).json["id"].as_str().unwrap().to_owned();
    let grant = json!({"user": analyst(), "role": "deploy", "destination": "web1"});
    world.by(&admin(), "POST", &format!("{T}/grants"), Some(grant)).await.is(201);
    id
}

#[test]
fn attack_ssh_a_token_that_is_shown_again_is_an_alarm() {
    each_engine(|world| async move {
        let mut ours = relay(&world, world.a).await;
        let id = reached(&world, &ours).await;
        let good = token(&world, "web1").await;
        let first = begin(&world, &mut ours, &id, &good).await.is(201).json;
        let body = json!({"destination": id, "token": good, "from": "203.0.113.9", "host_key": KEYS[0], "client_key": KEYS[1]});
        call(&world, &mut ours, "", &body).await.is(409).says("token of its own");
        let all = records(&world, "ssh_session_begin").await;
        let alarms: Vec<_> = all.iter().filter(|record| record["detail"]["alarm"] == true).collect();
        assert_eq!(alarms.len(), 1, "{all:?}");
        let (outcome, detail) = (&alarms[0]["outcome"], &alarms[0]["detail"]);
        assert_eq!((outcome, &detail["from"]), (&json!("deny"), &json!("203.0.113.9")));
        assert_eq!(detail["first"]["connection"], first["id"], "and which connection has it");
        assert!(!alarms[0].to_string().contains(&good), "the token itself is nowhere");
        // The first connection goes on: its own user has it, or whoever was faster, which the record tells.
        let taken = json!({"from": "192.0.2.7", "extensions": ["permit-pty"]});
        assert!(stands(&world, &mut ours, &first, &id, &taken).await);
    });
}

#[test]
fn what_is_forwarded_is_on_the_record_by_the_relay_that_holds_the_connection() {
    each_engine(|world| async move {
        let (mut ours, mut other) = (relay(&world, world.a).await, relay(&world, world.a).await);
        let id = reached(&world, &ours).await;
        let good = token(&world, "web1").await;
        let begun = begin(&world, &mut ours, &id, &good).await.is(201).json;
        let path = format!("/{}/forwards", begun["id"].as_str().unwrap());
        let what = json!({"at": "2026-01-01T00:01:00Z", "kind": "local", "place": "10.0.0.9:5432\u{7}"});
        call(&world, &mut other, &path, &what).await.is(404);
        call(&world, &mut ours, &path, &what).await.is(204);
        call(&world, &mut ours, &path, &json!({"at": "2026-01-01T00:01:00Z", "kind": "everything"}))
            .await
            .is(400)
            .says("remote-socket");
        let told = records(&world, "ssh_session_forward").await;
        let told: Vec<_> = told.iter().filter(|record| record["outcome"] == "success").collect();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (&told[0]["detail"]["kind"], &told[0]["detail"]["place"]),
            (&json!("local"), &json!("10.0.0.9:5432"))
        );
        assert!(told[0]["actor"].to_string().contains(&analyst()), "{}", told[0]);
    });
}

async fn where_it_listens_is_shown_with_the_end_of_its_certificate(world: &World, ours: &mut Machine) {
    use domain::Clock as _;

    let shown = async |ours: &Machine| {
        let one = world.by(&admin(), "GET", &format!("{T}/relays/{}", ours.id), None).await.is(200).json;
        let all = world.by(&admin(), "GET", &format!("{T}/relays"), None).await.is(200).json;
        let listed = all["items"].as_array().unwrap().iter().find(|it| it["id"] == json!(ours.id)).unwrap().clone();
        assert_eq!(listed["ssh_certificate_ends_at"], one["ssh_certificate_ends_at"]);
        (one["ssh_address"].clone(), one["ssh_certificate_ends_at"].clone())
    };
    let direct = async || {
        let path = format!("{T}/destinations/web1/tokens");
        world.by(&analyst(), "POST", &path, Some(json!({"role": "deploy"}))).await.is(201).json["direct"].clone()
    };
    assert_eq!(shown(ours).await, (Value::Null, Value::Null));
    let ends = json!(world.clock.now().plus_millis(1_000));
    let way = json!({"address": "gate.example:7422"});
    let body = json!({"connections": [], "listens": way, "certificate_ends_at": ends});
    for _ in 0..2 {
        call(world, ours, "/held", &body).await.is(200);
    }
    assert_eq!(shown(ours).await, (way["address"].clone(), ends.clone()));
    assert_eq!(records(world, "ssh_session_hold").await.len(), 1, "what did not change is no record");
    assert_eq!(direct().await["address"], way["address"]);
    // Once it has ended nobody is sent there, whether or not its relay has said so yet.
    world.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(direct().await, Value::Null);
    call(world, ours, "/held", &json!({"connections": [], "certificate_ends_at": ends})).await.is(200);
    assert_eq!(shown(ours).await, (Value::Null, ends));
    call(world, ours, "/held", &json!({"connections": []})).await.is(200);
    assert_eq!(shown(ours).await, (Value::Null, Value::Null));
}

#[test]
fn connections_of_a_relay_that_holds_them_no_more_or_was_lost_have_an_end() {
    each_engine(|world| async move {
        let (mut ours, mut other) = (relay(&world, world.a).await, relay(&world, world.a).await);
        let id = reached(&world, &ours).await;
        let open = async |world: &World, ours: &mut Machine| {
            let good = token(world, "web1").await;
            begin(world, ours, &id, &good).await.is(201).json["id"].as_str().unwrap().to_owned()
        };
        let ended = async |world: &World| records(world, "ssh_session_end").await;
        let hold = |connections: &[&str]| json!({ "connections": connections });
        where_it_listens_is_shown_with_the_end_of_its_certificate(&world, &mut ours).await;
        let (first, second) = (open(&world, &mut ours).await, open(&world, &mut ours).await);
        // One that just began may not be with its relay yet.
        let told = call(&world, &mut ours, "/held", &hold(&[])).await.is(200).json;
        // Which tokens are worth a question is told in return.
        assert!(told["issuer"].as_str().is_some_and(|issuer| !issuer.is_empty()), "{told}");
        assert_eq!(told["keys"], world.call("GET", "/.well-known/jwks.json", None, None).await.is(200).json);
        assert!(ended(&world).await.is_empty());
        // Its relay may wait for the answer to its beginning while another question of it, asked later, is heard.
        world.clock.advance(std::time::Duration::from_secs(31));
        call(&world, &mut ours, "/held", &hold(&[])).await.is(200);
        assert!(ended(&world).await.is_empty());
        world.clock.advance(std::time::Duration::from_secs(30));
        call(&world, &mut other, "/held", &hold(&[])).await.is(200);
        call(&world, &mut ours, "/held", &hold(&[&first, &second])).await.is(200);
        assert!(ended(&world).await.is_empty(), "neither what is held nor what another relay holds");
        call(&world, &mut ours, "/held", &hold(&[&second])).await.is(200);
        let over = ended(&world).await;
        assert_eq!((over.len(), &over[0]["detail"]["connection"]), (1, &json!(first)));
        assert_eq!((&over[0]["detail"]["lost"], &over[0]["detail"]["ended_at"]), (&json!(true), &Value::Null));
        // Its relay may tell of it later, as it was not lost: that is on the record too, once.
        let end = json!({"at": "2026-01-01T00:01:00Z", "reason": "the user left", "reached": true, "received_bytes": 7, "sent_bytes": 9});
        for _ in 0..2 {
            call(&world, &mut ours, &format!("/{first}/end"), &end).await.is(204);
            call(&world, &mut ours, "/held", &hold(&[&second])).await.is(200);
            let told = ended(&world).await;
            let told: Vec<_> =
                told.iter().map(|record| &record["detail"]).filter(|one| one["lost"].is_null()).collect();
            assert_eq!((ended(&world).await.len(), told.len()), (2, 1));
            assert_eq!((&told[0]["corrects"], &told[0]["reason"]), (&json!("lost"), &json!("the user left")));
        }

        // A relay that is silent may hold what is open until its tokens have ended, and a minute.
        world.clock.advance(std::time::Duration::from_mins(6));
        assert_eq!(world.store.ssh_sessions_lost().await.unwrap(), 0);
        world.clock.advance(std::time::Duration::from_secs(61));
        assert_eq!(world.store.ssh_sessions_lost().await.unwrap(), 1);
        assert_eq!(world.store.ssh_sessions_lost().await.unwrap(), 0);
        let over = ended(&world).await;
        assert!(over.iter().any(|record| record["detail"]["connection"] == json!(second)), "{over:?}");
        // One that is let in no more can tell nothing.
        let third = open(&world, &mut ours).await;
        world.by(&admin(), "DELETE", &format!("{T}/relays/{}", ours.id), None).await.is(204);
        world.clock.advance(std::time::Duration::from_secs(61));
        assert_eq!(world.store.ssh_sessions_lost().await.unwrap(), 1);
        assert!(ended(&world).await.iter().any(|record| record["detail"]["connection"] == json!(third)));
    });
}
