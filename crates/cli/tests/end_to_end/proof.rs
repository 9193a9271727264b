//! Bundles: exported whole or not at all, verified without a server.

use evidence::statement::Program;
use evidence::{BundleHead, BundleWriter, Summary};
use serde_json::json;

use crate::double::Reply;
use crate::world::{self, World, id};

fn bundle() -> (Vec<u8>, String) {
    let key = crypto::ed25519::SigningKey::generate().unwrap();
    let head = BundleHead {
        tenant: id("ten").parse().unwrap(),
        created: "2026-11-22T03:00:00Z".parse().unwrap(),
        program: Program { name: "cairn-server".into(), version: "0.1.0".into() },
        summary: Summary::Finding(json!({"title": "a"})),
    };
    let fingerprint = key.public().fingerprint().to_hex();
    (BundleWriter::new(Vec::new(), &key, head).unwrap().finish().unwrap(), fingerprint)
}

#[test]
fn a_bundle_verifies_offline_and_a_changed_byte_is_exit_code_3() {
    let world = World::new(|_| None);
    let (bytes, fingerprint) = bundle();
    let path = world.path("b.zip");
    std::fs::write(&path, &bytes).unwrap();
    let offline = |args: &[&str]| {
        world::run(std::path::Path::new("/nonexistent"), &[&["evidence", "verify", &path], args].concat(), "", &[])
    };

    let run = offline(&[]).expect(0).says("verified").says("warning: who signed is not checked");
    assert!(run.out.contains(&fingerprint), "{run:#?}");
    let run = offline(&["--key-fingerprint", &fingerprint, "-o", "json"]).expect(0);
    assert_eq!((&run.json()["key_fingerprint"], &run.json()["key_trusted"]), (&json!(fingerprint), &json!(true)));
    assert!(!run.err.contains("warning"));
    offline(&["--key-fingerprint", &"0".repeat(64)]).expect(3).says("keys/evidence.pem");

    let at = bytes.windows(9).position(|window| window == b"README.tx").unwrap() + 400;
    let mut changed = bytes.clone();
    changed[at] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    let run = offline(&[]).expect(3).says("does not verify: `");
    assert_eq!(run.out, "");
    std::fs::write(&path, "not a zip").unwrap();
    offline(&[]).expect(3);
    std::fs::remove_file(&path).unwrap();
    offline(&[]).expect(1).says("cannot read");
    assert!(world.server.seen().is_empty());
}

fn serving(breaks: bool) -> World {
    World::signed_in(move |request| {
        (request.line() == "GET /api/v1/tenants/acme/evidence-bundle").then(|| Reply::Pieces {
            kind: "application/zip",
            pieces: vec![b"PK".to_vec(), vec![0, 255, 10]],
            breaks,
        })
    })
}

#[test]
fn an_export_replaces_nothing_unless_forced() {
    let world = serving(false);
    let path = world.file("b.zip", "mine");
    let before = world.requests().len();
    world.run(&["evidence", "export", "fnd_1", "-o", &path]).expect(1).says("exists already").says("--force");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(world.requests().len(), before, "the server did not work for nothing");
    world.run(&["evidence", "export", "fnd_1", "--output", &path, "--force"]).expect(0);
    assert_eq!(std::fs::read(&path).unwrap(), b"PK\x00\xff\n");

    let new = world.path("new.zip");
    world.run(&["evidence", "export", "--control", "AC-6", "-o", &new]).expect(0).says("cairn evidence verify");
    world.run(&["evidence", "export", "--framework", "f", "--control", "C", "-o", &new, "--force"]).expect(0);
    world.run(&["evidence", "export", "--framework", "f", "-o", &new, "--force", "-q"]).expect(0);
    let queries: Vec<String> = world
        .server
        .seen()
        .into_iter()
        .filter(|request| !request.query.is_empty())
        .map(|request| request.query)
        .collect();
    assert_eq!(
        queries,
        ["finding=fnd_1", "framework=nist-800-53-r5&control=AC-6", "framework=f&control=C", "framework=f"]
    );
}

#[test]
fn a_broken_or_refused_export_leaves_no_file() {
    let world = serving(true);
    let path = world.path("b.zip");
    world.run(&["evidence", "export", "fnd_1", "-o", &path]).expect(1);
    let world_without = World::signed_in(|_| None);
    world_without
        .run(&["evidence", "export", "fnd_1", "-o", &world_without.path("b.zip")])
        .expect(1)
        .says("no such thing");
    for world in [&world, &world_without] {
        let left: Vec<_> =
            std::fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("zip")), "{left:?}");
    }
    let path = world.path("no-such-folder/b.zip");
    world.run(&["evidence", "export", "fnd_1", "-o", &path]).expect(1).says("cannot write");
}
