//! SSH certificates: who gets one, what it says, how long it is good, and which key signs it. OpenSSH's `ssh-keygen` reads them.

use std::process::Command;
use std::time::Duration;

use access::{Role, ops};
use domain::Clock as _;
use serde_json::{Value, json};

use crate::things::HOST_KEY;
use crate::world::{Answer, World, admin, each_engine, holder};

const T: &str = "/api/v1/tenants/acme";

fn analyst() -> String {
    holder(Role::SecurityAnalyst, 'a')
}

async fn host(world: &World, name: &str, more: Value) -> Answer {
    let mut body = json!({"address": "web1.example:2222", "host_key": HOST_KEY, "roles": ["deploy", "root"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.by(&admin(), "PUT", &format!("{T}/destinations/{name}/ssh-host"), Some(body)).await
}

async fn grant(world: &World, role: &str, more: Value) -> String {
    let mut body = json!({"user": analyst(), "role": role, "destination": "web1"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.by(&admin(), "POST", &format!("{T}/grants"), Some(body)).await.is(201).id()
}

async fn ask(world: &World, email: &str, body: Value) -> Answer {
    let mut whole = json!({"public_key": HOST_KEY});
    whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    world.by(email, "POST", &format!("{T}/destinations/web1/ssh-certificates"), Some(whole)).await
}

/// What OpenSSH reads in a certificate.
fn read(certificate: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cert.pub");
    std::fs::write(&file, certificate).unwrap();
    let output = Command::new("ssh-keygen").env("TZ", "UTC").arg("-Lf").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fingerprint(key: &str) -> String {
    key.parse::<crypto::ssh::PublicKey>().unwrap().fingerprint()
}

#[test]
fn attack_ssh_nobody_gets_a_certificate_without_a_grant_or_for_more_than_it_gives() {
    each_engine(|world| async move {
        let made = host(&world, "web1", json!({"source_networks": ["10.0.0.0/8", "2001:db8::/32"]})).await.is(200);
        let id = made.id();
        // No role in the tenant gives anything, and who does not reach a host learns nothing of it.
        for email in [analyst(), admin(), holder(Role::SystemAdmin, 'a')] {
            let none = ask(&world, &email, json!({})).await.is(404);
            let path = format!("{T}/destinations/nowhere/ssh-certificates");
            let nowhere = world.by(&email, "POST", &path, Some(json!({"public_key": HOST_KEY}))).await.is(404);
            assert_eq!(none.masked(&["web1"]), nowhere.masked(&["nowhere"]));
        }
        let key = world.api_key(world.a, Role::TenantAdmin, json!({})).await.1;
        let path = format!("{T}/destinations/web1/ssh-certificates");
        world.call("POST", &path, Some(&key), Some(json!({"public_key": HOST_KEY}))).await.is(403);

        grant(&world, "deploy", json!({})).await;
        let made = ask(&world, &analyst(), json!({})).await.is(201);
        let text = read(made.json["certificate"].as_str().unwrap());
        let user = world.user_id(&analyst());
        let names: Vec<_> = text.split_once("Principals:").unwrap().1.lines().skip(1).map(str::trim).take(3).collect();
        assert_eq!(names[..2], [format!("cairn/{id}/deploy"), format!("cairn/{id}/deploy/{user}")], "{text}");
        assert!(names[2].starts_with("Critical Options"), "these and no others: {text}");
        assert!(
            text.contains("user certificate")
                && text.contains(&format!("Public key: ED25519-CERT {}", fingerprint(HOST_KEY)))
        );
        assert!(text.contains("source-address 10.0.0.0/8,2001:db8::/32"), "{text}");
        let extensions: Vec<_> = text.split_once("Extensions:").unwrap().1.split_whitespace().collect();
        assert_eq!(extensions, ["permit-pty"]);
        let ends = made.json["expires_at"].as_str().unwrap();
        let left = ends.parse::<domain::Timestamp>().unwrap().millis_since(world.clock.now());
        assert!((290_000..=300_000).contains(&left) && text.contains(&format!(" to {}", &ends[..19])), "{left} {text}");
        let id = made.json["id"].as_str().unwrap();
        for part in [analyst(), format!("user={user}"), "destination=web1".to_owned(), format!("certificate={id}")] {
            assert!(text.contains(&part), "{part}: {text}");
        }
        let authority = world.call("GET", "/.well-known/cairn-ssh-ca.pub", None, None).await.is(200).text;
        assert!(text.contains(&format!("Signing CA: ED25519 {}", fingerprint(authority.trim()))), "{text} {authority}");
        let last = world.audit(Some(world.a), -1).await.pop().unwrap();
        assert_eq!((last.1.as_str(), last.2.as_str()), ("ssh_certificate_create", "success"));

        // As nobody else, by no other words, with no weak key.
        ask(&world, &analyst(), json!({"role": "root"})).await.is(403).says("`deploy`");
        for (bad, says) in [
            (json!({"role": "deploy,root"}), "role"),
            (json!({"role": "deploy/usr_1"}), "role"),
            (json!({"principals": ["root"]}), "principals"),
            (json!({"public_key": "ssh-ed25519 AAAA"}), "public key"),
            (json!({"public_key": format!("{HOST_KEY}\n{HOST_KEY}")}), "public key"),
        ] {
            ask(&world, &analyst(), bad).await.is(400).says(says);
        }
        grant(&world, "root", json!({})).await;
        ask(&world, &analyst(), json!({})).await.is(400).says("name one of them");
        let text =
            read(ask(&world, &analyst(), json!({"role": "root"})).await.is(201).json["certificate"].as_str().unwrap());
        assert!(text.contains("/root\n") && !text.contains("/deploy"), "{text}");

        // A cluster is no host, and a host says what certificates allow.
        world.destination_of(world.a, "prod").await;
        host(&world, "prod", json!({})).await.is(409).says("kubernetes");
        for (bad, says) in [
            (json!({"extensions": ["permit-everything"]}), "permit-everything"),
            (json!({"source_networks": ["everywhere"]}), "everywhere"),
            (json!({"address": "-oProxyCommand=id"}), "HOST"),
            (json!({"roles": []}), "roles"),
            (json!({"host_key": "ssh-rsa AAAA"}), "public key"),
        ] {
            host(&world, "web1", bad).await.is(400).says(says);
        }
        host(&world, "web1", json!({"extensions": ["permit-pty", "permit-port-forwarding"]})).await.is(200);
        let text =
            read(ask(&world, &analyst(), json!({"role": "root"})).await.is(201).json["certificate"].as_str().unwrap());
        assert!(text.contains("permit-port-forwarding") && text.contains("Critical Options: (none)"), "{text}");

        // The registered key is signed for the host's own name.
        let path = format!("{T}/destinations/web1/ssh-host/certificates");
        let signed = world.by(&admin(), "POST", &path, None).await.is(201);
        let text = read(signed.json["certificate"].as_str().unwrap());
        let name = signed.json["principal"].as_str().unwrap();
        assert!(
            text.contains("host certificate") && text.contains(name) && text.contains("Extensions: (none)"),
            "{text}"
        );
    });
}

#[test]
fn a_host_that_users_reach_themselves_is_marked_and_each_certificate_for_it_is_an_alarm_where_recording_is_wanted() {
    each_engine(|world| async move {
        let made = host(&world, "web1", json!({})).await.is(200);
        assert_eq!((&made.json["way"], &made.json["relay"]), (&json!("direct"), &Value::Null));
        let relay = crate::fleet::Machine::enrolled(&world, world.a, domain::FleetKind::Relay).await;
        let behind = host(&world, "web2", json!({"relay": relay.id})).await.is(200);
        assert_eq!(behind.json["way"], json!("relay"));
        world.destination_of(world.a, "prod").await;
        let all = world.by(&admin(), "GET", &format!("{T}/destinations"), None).await.is(200);
        let mut ways: Vec<_> = all.json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["name"].as_str().unwrap(), it["way"].as_str()))
            .collect();
        ways.sort_unstable();
        assert_eq!(ways, [("prod", None), ("web1", Some("direct")), ("web2", Some("relay"))]);
        // Who changes something else of it does not change that.
        assert_eq!(host(&world, "web2", json!({"roles": ["deploy"]})).await.is(200).json["way"], json!("relay"));

        grant(&world, "deploy", json!({})).await;
        grant(&world, "deploy", json!({"destination": "web2"})).await;
        let policy = async |ssh: &str| {
            let body = json!({"kubernetes": "off", "ssh": ssh, "input": false, "retention_days": 7});
            world.by(&admin(), "PUT", &format!("{T}/recording-policy"), Some(body)).await.is(200);
        };
        let told = async |name: &str| {
            let path = format!("{T}/destinations/{name}/ssh-certificates");
            world.by(&analyst(), "POST", &path, Some(json!({"public_key": HOST_KEY}))).await.is(201);
            let path = format!("{T}/audit?action=ssh_certificate_create");
            let log = world.by(&holder(Role::Auditor, 'a'), "GET", &path, None).await.is(200);
            let detail = log.json["items"][0]["detail"].clone();
            (detail["recorded"].clone(), detail["alarm"].clone())
        };
        assert_eq!(told("web1").await, (json!(false), json!(true)), "best-effort is the default");
        assert_eq!(told("web2").await, (Value::Null, Value::Null), "its relay says what it records");
        policy("off").await;
        assert_eq!(told("web1").await, (json!(false), Value::Null));
        policy("required").await;
        ask(&world, &analyst(), json!({})).await.is(409).says("nothing records one that goes straight to `web1`");
        assert_eq!(told("web2").await, (Value::Null, Value::Null));
    });
}

#[test]
fn a_certificate_ends_with_its_grant_its_hours_and_its_session() {
    each_engine(|world| async move {
        host(&world, "web1", json!({})).await.is(200);
        let soon = world.clock.now().plus_millis(90_000);
        let id = grant(&world, "deploy", json!({"expires_at": soon})).await;
        let made = ask(&world, &analyst(), json!({})).await.is(201);
        assert_eq!(made.json["expires_at"], json!(soon));
        let second = soon.to_string();
        assert!(read(made.json["certificate"].as_str().unwrap()).contains(&format!(" to {}", &second[..19])));
        world.clock.advance(Duration::from_secs(90));
        ask(&world, &analyst(), json!({})).await.is(404);
        world.by(&admin(), "DELETE", &format!("{T}/grants/{id}"), None).await.is(204);
        grant(&world, "deploy", json!({"hours": "thu 00:00-00:03"})).await;
        let closes = ask(&world, &analyst(), json!({})).await.is(201).json["expires_at"].clone();
        assert_eq!(closes, json!("2026-01-01T00:03:00.000Z"));
        world.clock.advance(Duration::from_secs(90));
        ask(&world, &analyst(), json!({})).await.is(404);
        // Deleting the destination deletes what gives access to it.
        world.by(&admin(), "DELETE", &format!("{T}/destinations/web1"), None).await.is(204);
        ask(&world, &analyst(), json!({})).await.is(404);
        host(&world, "web1", json!({})).await.is(200);
        ask(&world, &analyst(), json!({})).await.is(404);
    });
}

#[test]
fn a_new_authority_is_published_a_week_before_it_signs_and_a_withdrawn_one_is_no_more() {
    each_engine(|world| async move {
        host(&world, "web1", json!({})).await.is(200);
        grant(&world, "deploy", json!({})).await;
        let published = async || {
            let text = world.call("GET", "/.well-known/cairn-ssh-ca.pub", None, None).await.is(200).text;
            text.lines().map(fingerprint).collect::<Vec<_>>()
        };
        let signs = async || {
            let made = ask(&world, &analyst(), json!({})).await.is(201);
            let text = read(made.json["certificate"].as_str().unwrap());
            let of = text.split_once("Signing CA: ED25519 ").unwrap().1;
            of.split_whitespace().next().unwrap().to_owned()
        };
        let rotate = async |withdraw| {
            let permit = world.platform_permit::<ops::SigningKeyRotate>();
            world
                .store
                .write_platform(permit)
                .await
                .unwrap()
                .ssh_ca_rotate(withdraw)
                .await
                .map(|key| crypto::ssh::PublicKey::of_ed25519(&key).fingerprint())
        };
        let first = published().await;
        assert_eq!(first, [signs().await]);
        let second = rotate(false).await.unwrap();
        assert_eq!(published().await, [first[0].clone(), second.clone()]);
        assert_eq!(signs().await, first[0], "hosts do not know the new one yet");
        assert!(rotate(false).await.is_err(), "one at a time");
        assert!(!world.store.ssh_ca_is_due().await.unwrap());
        world.clock.advance(Duration::from_hours(7 * 24));
        world.tokens.lock().await.clear();
        assert_eq!(signs().await, second);
        assert!(world.store.ssh_ca_is_due().await.unwrap());
        let permit = world.platform_permit::<ops::SigningKeyRotate>();
        world.store.write_platform(permit).await.unwrap().ssh_ca_tend().await.unwrap();
        assert!(!world.store.ssh_ca_is_due().await.unwrap());
        assert_eq!(published().await.len(), 2, "hosts' certificates of the first one are still about");
        assert_eq!(signs().await, second);
        let third = rotate(true).await.unwrap();
        assert_eq!((published().await, signs().await), (vec![third.clone()], third));
    });
}

#[test]
fn attack_ssh_a_grant_lends_from_its_networks_what_it_says_and_nothing_elsewhere() {
    each_engine(|world| async move {
        let all = ["permit-pty", "permit-port-forwarding", "permit-agent-forwarding"];
        host(&world, "web1", json!({"extensions": all})).await.is(200);
        let lends = async |role: &str| {
            let made = ask(&world, &analyst(), json!({"role": role})).await.is(201);
            let text = read(made.json["certificate"].as_str().unwrap());
            let extensions = text.split_once("Extensions:").unwrap().1.split_whitespace().map(str::to_owned);
            (text.clone(), extensions.collect::<Vec<_>>())
        };
        // As it was: a grant that says nothing lends all that the host allows.
        let plain = grant(&world, "deploy", json!({})).await;
        assert_eq!(lends("deploy").await.1.len(), 3);
        world.by(&admin(), "DELETE", &format!("{T}/grants/{plain}"), None).await.is(204);

        let office = json!({"networks": ["10.0.0.0/8", "2001:db8::/32"], "extensions": ["permit-agent-forwarding", "permit-pty", "permit-X11-forwarding"]});
        grant(&world, "deploy", office).await;
        let (text, extensions) = lends("deploy").await;
        assert!(text.contains("source-address 10.0.0.0/8,2001:db8::/32"), "{text}");
        assert_eq!(extensions, ["permit-agent-forwarding", "permit-pty"], "no more than the host allows");
        // A grant from everywhere gives a certificate that is good everywhere, without what the office lends.
        let home = grant(&world, "deploy", json!({"extensions": ["permit-pty"]})).await;
        let (text, extensions) = lends("deploy").await;
        assert!(text.contains("Critical Options: (none)") && extensions == ["permit-pty"], "{text}");
        let path = format!("{T}/members/{}/reach", analyst());
        let what = world.by(&admin(), "GET", &path, None).await.is(200);
        assert!(what.text.contains("2001:db8::/32"), "who asks why is told: {}", what.text);
        // The host's networks count for every grant: where both have nothing in common, nobody comes.
        world.by(&admin(), "DELETE", &format!("{T}/grants/{home}"), None).await.is(204);
        host(&world, "web1", json!({"source_networks": ["10.1.0.0/16", "192.168.0.0/16"]})).await.is(200);
        let (text, extensions) = lends("deploy").await;
        assert!(text.contains("source-address 10.1.0.0/16\n") && extensions == ["permit-pty"], "{text}");
        host(&world, "web1", json!({"source_networks": ["192.168.0.0/16"]})).await.is(200);
        ask(&world, &analyst(), json!({})).await.is(403).says("from other networks");
        host(&world, "web1", json!({"extensions": all})).await.is(200);

        // A command is forced, and nothing lends more than is said: not even a terminal.
        grant(&world, "root", json!({"force_command": "/usr/bin/backup --now", "extensions": []})).await;
        let (text, extensions) = lends("root").await;
        assert!(text.contains("force-command /usr/bin/backup --now") && extensions == ["(none)"], "{text}");

        // The same grant twice is one; with other networks it is another one.
        let again = json!({"user": analyst(), "role": "root", "destination": "web1", "force_command": "/usr/bin/backup --now", "extensions": []});
        world.by(&admin(), "POST", &format!("{T}/grants"), Some(again)).await.is(409);
        let id = grant(&world, "root", json!({"networks": ["10.0.0.7/32"]})).await;
        let shown = world.by(&admin(), "GET", &format!("{T}/grants/{id}"), None).await.is(200);
        assert_eq!((&shown.json["networks"], &shown.json["extensions"]), (&json!(["10.0.0.7/32"]), &Value::Null));
    });
}

#[test]
fn what_is_said_of_hosts_is_refused_where_nothing_would_keep_it() {
    each_engine(|world| async move {
        host(&world, "web1", json!({})).await.is(200);
        world.destination_of(world.a, "prod").await;
        for (more, says) in [
            (json!({"destination": "prod", "networks": ["10.0.0.0/8"]}), "`prod` is a cluster"),
            (json!({"destination": "prod", "force_command": "id"}), "`prod` is a cluster"),
            (json!({"destination": "web1", "namespace": "shop", "extensions": []}), "make two grants"),
            (json!({"destination": "web1", "as_users": ["deploy-bot"], "networks": ["10.0.0.0/8"]}), "make two grants"),
            (json!({"destination": "web1", "networks": ["10.0.0.1/8"]}), "bits behind the prefix"),
            (json!({"destination": "web1", "networks": ["office"]}), "is not a network"),
            (json!({"destination": "web1", "extensions": ["permit-everything"]}), "permit-everything"),
            (json!({"destination": "web1", "force_command": "a\nb"}), "one line"),
            (json!({"destination": "web1", "force_command": ""}), "one line"),
        ] {
            let mut body = json!({"user": analyst(), "role": "view"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.by(&admin(), "POST", &format!("{T}/grants"), Some(body)).await.is(400).says(says);
            let file = json!({"file": {"version": 1, "name": "it", "grants": [more.as_object().unwrap().clone().into_iter().chain([
                ("user".to_owned(), json!(analyst())), ("role".to_owned(), json!("view"))]).collect::<serde_json::Map<_, _>>()]}});
            world.by(&admin(), "POST", &format!("{T}/access-file/plan"), Some(file)).await.is(400).says(says);
        }
        // By labels it may cover both: at the cluster it gives nothing, not even in the roles that the relay binds there.
        for name in ["prod", "web1"] {
            let labels = json!({"labels": {"env": "prod"}});
            world.by(&admin(), "PATCH", &format!("{T}/destinations/{name}"), Some(labels)).await.is(200);
        }
        let body = json!({"user": analyst(), "role": "deploy", "labels": {"env": "prod"}, "networks": ["10.0.0.0/8"]});
        world.by(&admin(), "POST", &format!("{T}/grants"), Some(body)).await.is(201);
        ask(&world, &analyst(), json!({})).await.is(201);
        let path = format!("{T}/destinations/prod/tokens");
        world.by(&analyst(), "POST", &path, Some(json!({"role": "deploy"}))).await.is(404);

        // What is there comes back as a file, and the file makes no difference.
        let file = world.by(&admin(), "GET", &format!("{T}/access-file"), None).await.is(200).json;
        assert_eq!(file["grants"][0]["networks"], json!(["10.0.0.0/8"]), "{file}");
        let plan = json!({"file": file});
        let plan = world.by(&admin(), "POST", &format!("{T}/access-file/plan"), Some(plan)).await.is(200).json;
        let actions: Vec<_> = plan["changes"].as_array().unwrap().iter().map(|it| it["action"].clone()).collect();
        assert!(actions.iter().all(|action| action == "adopt"), "{plan}");
        assert!(plan.to_string().contains("--network 10.0.0.0/8"), "{plan}");
    });
}
