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
