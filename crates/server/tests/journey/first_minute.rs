//! What the README's first page promises.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::world::{Engine, World, until};

fn the_first_minute(engine: Engine) {
    let world = World::new(engine);
    let server = world.start();
    world.first_login(&server);
    let job = world.job_ended();
    assert_eq!(job["plugin"], "host");
    assert!(["completed", "partial"].contains(&job["status"].as_str().unwrap()), "{job}");
    let packages = world.cairn(["nodes", "list", "--type", "host.package", "--all", "-o", "json"]).ok().json();
    let packages = packages.as_array().unwrap();
    assert!(packages.len() > 100, "{}", packages.len());
    assert!(
        packages.iter().any(|node| node["name"].as_str().unwrap().starts_with("libc6")),
        "no C library among the packages"
    );

    let findings = until("findings", || {
        let found = world.cairn(["findings", "list", "--status", "open", "-o", "json"]).ok().json();
        (!found.as_array().unwrap().is_empty()).then_some(found)
    });
    let finding = &findings[0];
    for field in ["title", "remediation", "message", "severity"] {
        assert!(!finding[field].as_str().unwrap().is_empty(), "{field} is empty: {finding}");
    }
    assert!(
        finding["controls"]
            .as_array()
            .unwrap()
            .iter()
            .any(|control| control.as_str().unwrap().starts_with("nist-800-53-r5:"))
    );

    let bundle = world.path("bundle.zip");
    let id = finding["id"].as_str().unwrap();
    world.cairn(["evidence", "export", id, "-o", bundle.to_str().unwrap()]).ok();
    let fingerprint =
        world.cairn(["evidence", "key", "-o", "json"]).ok().json()["fingerprint"].as_str().unwrap().to_owned();
    assert!(server.stop().contains("stopped"));

    // No server from here on: the bundle stands alone.
    world.cairn(["evidence", "verify", bundle.to_str().unwrap(), "--key-fingerprint", &fingerprint]).ok();
    let unpacked = world.path("unpacked");
    assert!(Command::new("unzip").args(["-q", "-d"]).arg(&unpacked).arg(&bundle).status().unwrap().success());
    let verified = Command::new("sh").arg("verify.sh").arg(&fingerprint).current_dir(&unpacked).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let signed = Command::new("openssl")
        .args([
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            "keys/evidence.pem",
            "-rawin",
            "-in",
            "manifest.pae",
            "-sigfile",
            "manifest.sig",
        ])
        .current_dir(&unpacked)
        .output()
        .unwrap();
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let mut bytes = fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&bundle, &bytes).unwrap();
    let refused = world.cairn(["evidence", "verify", bundle.to_str().unwrap()]);
    assert_eq!(refused.code, 3, "{}{}", refused.out, refused.err);

    // A second start keeps everything.
    let again = world.start();
    world.login(&again);
    let kept = world.cairn(["nodes", "list", "--type", "host.package", "--all", "-o", "json"]).ok().json();
    let ids = |nodes: &[serde_json::Value]| nodes.iter().map(|node| node["id"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(ids(kept.as_array().unwrap()), ids(packages));
    again.stop();
}

#[test]
fn the_first_minute_on_sqlite() {
    the_first_minute(Engine::Sqlite);
}

#[test]
fn the_first_minute_on_postgresql() {
    the_first_minute(Engine::postgres());
}

#[test]
fn an_evaluation_that_changes_nothing_signs_nothing() {
    let world = World::new(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    world.job_ended();
    let statements = || {
        let list = ["evidence", "list", "--kind", "assessment", "--all", "-o", "json"];
        world.cairn(list).ok().json().as_array().unwrap().len()
    };
    let controls = || {
        let rows =
            world.cairn(["controls", "list", "--framework", "nist-800-53-r5", "--all", "-o", "json"]).ok().json();
        let pick = |row: &serde_json::Value| (row["evidence"].to_string(), row["evaluated_at"].to_string());
        let judged = rows.as_array().unwrap().iter().filter(|row| row["evidence"].is_string());
        judged.map(pick).collect::<Vec<_>>()
    };
    // Once after the job: everything it rests on is there now.
    world.cairn(["controls", "evaluate"]).ok();
    let (signed, before) = (statements(), controls());
    assert!(signed > 10 && !before.is_empty(), "{signed}");
    world.cairn(["controls", "evaluate"]).ok();
    let after = controls();
    assert_eq!(statements(), signed);
    for ((evidence, at), (evidence_after, at_after)) in before.iter().zip(&after) {
        assert_eq!(evidence, evidence_after);
        assert!(at_after > at, "the time of the evaluation is kept: {at} {at_after}");
    }
    // A control's bundle still holds its judgement.
    let bundle = world.path("control.zip");
    world.cairn(["evidence", "export", "--control", "AC-6", "-o", bundle.to_str().unwrap()]).ok();
    world.cairn(["evidence", "verify", bundle.to_str().unwrap()]).ok();
    server.stop();
}

#[test]
fn a_server_killed_in_the_middle_of_a_job_finishes_it_after_its_next_start() {
    let world = World::new(Engine::Sqlite);
    let server = world.start();
    world.first_login(&server);
    until("the task's start", || {
        let jobs = world.cairn(["jobs", "list", "-o", "json"]).ok().json();
        (jobs[0]["status"] != "queued").then_some(())
    });
    server.kill();
    let again = world.start();
    world.login(&again);
    let job = world.job_ended();
    assert!(["completed", "partial"].contains(&job["status"].as_str().unwrap()), "{job}");
    let jobs = world.cairn(["jobs", "list", "-o", "json"]).ok().json();
    assert_eq!(jobs.as_array().unwrap().len(), 1, "the first host's job is made once");
    again.stop();
}
