//! Evidence that was signed before the key was replaced verifies in a bundle that the new key signs.

use std::fs;
use std::io::Cursor;
use std::process::Command;

use evidence::statement::Statement;
use evidence::{BundleWriter, sign_artifact_digest, verify_bundle};

use crate::sample::*;
use crypto::sha256;

/// A collection signed by key 2, a judgement of it signed by key 1, in a bundle of key 1.
fn write() -> Vec<u8> {
    let (own, earlier) = (key(1), key(2));
    let collected = signed(Statement::Collection(Box::new(collection('1', &[REPLY, CONFIG]))), &earlier);
    let mut writer = BundleWriter::new(Vec::new(), &own, head()).unwrap();
    let refused = writer.statement(&collected).unwrap_err().to_string();
    assert!(refused.contains("ev"), "a key that was not named is not accepted: {refused}");
    writer.earlier_key(earlier.public()).unwrap();
    writer.earlier_key(earlier.public()).unwrap();
    writer.statement(&collected).unwrap();
    writer.logged(&collected, &logged(&collected), &key(3).public()).unwrap();
    // One artifact was signed before and one after.
    for (bytes, key) in [(REPLY, &earlier), (CONFIG, &own)] {
        let digest = sha256(bytes);
        writer.artifact(&digest, &sign_artifact_digest(&digest, key), bytes).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_bundle_carries_every_key_that_its_evidence_was_signed_with() {
    let bundle = write();
    let report = verify(&bundle).unwrap();
    assert_eq!(report.key_fingerprint, key(1).public().fingerprint());
    assert_eq!(report.earlier_keys, [key(2).public().fingerprint()]);
    let root = tempfile::tempdir().unwrap();
    for (name, content) in unpack(&bundle) {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let fingerprint = key(1).public().fingerprint().to_hex();
    let output = Command::new("sh").arg(root.path().join("verify.sh")).arg(&fingerprint).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn attack_62_an_earlier_key_signs_no_manifest_and_has_the_name_of_its_fingerprint() {
    let files = unpack(&write());
    let name = format!("keys/{}.pem", key(2).public().fingerprint());
    // Who has only the earlier key cannot write a bundle, whatever else it holds.
    let mut forged = files.clone();
    resign(&mut forged, &key(2));
    assert_eq!(refusal(&pack(&forged)).0, "manifest.sig");
    // A key under another key's name, also where the manifest agrees.
    let mut renamed = files.clone();
    renamed.insert(name.clone(), key(3).public().to_pem().into_bytes());
    resign(&mut renamed, &key(1));
    assert_eq!(refusal(&pack(&renamed)).0, name);
    // Without the key its signatures are of nobody.
    let mut without = files;
    without.remove(&name);
    without.retain(|name, _| !name.ends_with(".tlog-proof"));
    resign(&mut without, &key(1));
    assert!(refusal(&pack(&without)).0.starts_with("ev/"));
    assert!(verify_bundle(Cursor::new(write()), Some(key(2).public().fingerprint())).is_err());
}
