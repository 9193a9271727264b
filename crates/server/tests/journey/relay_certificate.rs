//! Client certificates of relays: two tenants with two authorities on one listener.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use testkit::cable::Cable;

use crate::relay_world::{Relay, port};
use crate::world::{Engine, Ran, World, faketime, until};

/// An authority, and a certificate of it with its key, as files.
struct Authority {
    root: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

fn authority(world: &World, name: &str) -> Authority {
    let (key, own) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let made = params.clone().self_signed(&key).unwrap();
    let mut leaf = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&own, &Issuer::new(params, &key)).unwrap();
    Authority {
        root: world.private(&format!("{name}-ca.pem"), &made.pem()),
        certificate: world.private(&format!("{name}.pem"), &leaf.pem()),
        key: world.private(&format!("{name}.key"), &own.serialize_pem()),
    }
}

impl Authority {
    fn shown(&self) -> [(&'static str, &str); 2] {
        [("RELAY_CLIENT_CERT", self.certificate.to_str().unwrap()), ("RELAY_CLIENT_KEY", self.key.to_str().unwrap())]
    }
}

#[test]
fn a_tenant_requires_certificates_of_its_authority_and_those_of_another_tenants_are_none() {
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let server = world.start();
    world.first_login(&server);
    let (ours, theirs) = (authority(&world, "ours"), authority(&world, "theirs"));
    let cable = Cable::to(port(&server));
    let mut relay = Relay::start(&world, &server, &cable, &[]);

    // From now on one of ours is required: whoever is connected without is cut off and refused with what to do.
    let wrong = world.cairn(["relays", "policy", "--certificate-required", "true"]);
    assert!(wrong.code != 0 && wrong.err.contains("name an authority"), "{}", wrong.err);
    let key = ours.key.to_str().unwrap();
    let wrong = world.cairn(["relays", "policy", "--authorities", key]);
    assert!(wrong.code != 0 && wrong.err.contains("no certificate in PEM"), "{}", wrong.err);
    let file = ours.root.to_str().unwrap();
    world.cairn(["relays", "policy", "--authorities", file, "--certificate-required", "true"]).ok();
    relay.says("set RELAY_CLIENT_CERT and RELAY_CLIENT_KEY");
    relay.stop();

    // One of another authority is none, although the listener took it; neither is one that signs itself.
    let mut relay = Relay::begin(&world, &server, &cable, &theirs.shown());
    relay.says("is none that this tenant's authorities vouch for");
    assert!(!relay.said().contains("connected"), "{}", relay.said());
    relay.stop();

    // The other tenant, whose authority that is, on the same listener.
    world.cairn(["tenants", "create", "other", "--admin", "admin@localhost"]).ok();
    let elsewhere = |words: &[&str]| world.cairn(["--tenant", "other"].iter().chain(words));
    elsewhere(&["relays", "policy", "--authorities", theirs.root.to_str().unwrap(), "--certificate-required", "true"])
        .ok();
    let made = world.cairn_secretly(["--tenant", "other", "relays", "tokens", "create", "-o", "json"], "token");
    let token = world.private("other-token", made["token"].as_str().unwrap());
    let token = format!("file:{}", token.display());
    let folder = world.path("other-relay");
    let own = [("RELAY_TOKEN", token.as_str()), ("RELAY_DATA_DIR", folder.to_str().unwrap())];
    let mut other = Relay::begin(&world, &server, &cable, &[theirs.shown(), own].concat());
    other.says("connected");
    other.stop();
    let mut other = Relay::begin(&world, &server, &cable, &[ours.shown(), own].concat());
    other.says("is none that this tenant's authorities vouch for");
    other.stop();

    // With ours it is let in, and runs what it is asked to.
    let relay = Relay::start(&world, &server, &cable, &ours.shown());
    world.cairn(["jobs", "run", "--plugin", "host", "--relay", "rly-1", "--wait"]).ok();
    let records = world.cairn(["audit", "list", "--action", "relay_connect", "--all", "-o", "json"]).ok().json();
    let details: Vec<_> = records.as_array().unwrap().iter().map(|record| record["detail"].to_string()).collect();
    assert!(details.iter().any(|detail| detail.contains("certificate_vouched_for\":true")), "{details:?}");
    assert!(details.iter().any(|detail| detail.contains("RELAY_CLIENT_CERT")), "{details:?}");
    relay.stop();

    // Nobody else is asked for a certificate: a browser would ask its user for one.
    let asked = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", port(&server)), "-alpn", "h2"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(
        said.contains("No client certificate CA names sent") && !said.contains("Requested Signature Algorithms"),
        "{said}"
    );
    let asked = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", port(&server)), "-alpn", "cairn-relay.v1"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&asked.stdout).contains("Requested Signature Algorithms"));
    drop(fs::remove_dir_all(folder));
    server.stop();
}

/// The certificate that a server serves, by its fingerprint, and whether it is good by this clock.
fn served(server: &str, clock: &[(&str, &str)]) -> (String, bool) {
    let script = "openssl s_client -connect \"$0\" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 -checkend 0";
    let mut asked = Command::new("sh");
    asked.args(["-c", script, server.trim_start_matches("https://")]).envs(clock.iter().copied());
    let said = String::from_utf8(asked.output().unwrap().stdout).unwrap();
    (said.lines().next().unwrap().to_owned(), said.contains("will not expire"))
}

/// Server, relay and command line on a clock that goes on by months while they run.
#[test]
fn attack_53_certificates_are_renewed_by_whoever_serves_and_nobody_is_lost() {
    let now = faketime("+0d");
    let world = World::new(Engine::Sqlite).with("CAIRN_DISCOVERY_OWN_HOST", "false");
    let clock = world.private("clock", "+0d");
    let clock = [
        ("LD_PRELOAD", now.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        // Waits take as long as ever.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let mut command = world.command();
    command.envs(clock);
    let server = world.start_command(command);
    world.first_login(&server);
    let cable = Cable::to(port(&server));
    let mut relay = Relay::start(&world, &server, &cable, &clock);
    let cairn = |words: &[&str]| {
        let output = world.cairn_command(words).envs(clock).output().unwrap();
        Ran::of(&output, "journey-cairn")
    };
    let (trust, password) = (world.fingerprint(), world.path("password"));
    let (mut before, is_good) = served(&server.url, &clock);
    assert!(is_good);
    for (round, by) in ["+85d", "+170d"].into_iter().enumerate() {
        // Exchanged as one: who reads it sees either time.
        let next = world.private("clock.next", by);
        fs::rename(next, world.path("clock")).unwrap();
        let renewed = until("another certificate", || {
            let (now, is_good) = served(&server.url, &clock);
            (now != before && is_good).then_some(now)
        });
        before = renewed;
        // What was trusted once is trusted; the relay comes back over a new connection, and works.
        let login = ["login", &server.url, "--user", "admin@localhost", "--trust", &trust, "--password-file"];
        cairn(&[&login[..], &[password.to_str().unwrap()]].concat()).ok();
        cable.cut();
        relay.says_times("connected", round + 2);
        cairn(&["jobs", "run", "--plugin", "host", "--relay", "rly-1", "--wait"]).ok();
    }
    relay.stop();
    server.stop();
}
